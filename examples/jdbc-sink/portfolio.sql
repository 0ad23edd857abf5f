SELECT json_build_object('currency', currency, 'accounts', count(*), 'balance_minor', coalesce(sum(balance_amount), 0))
FROM d02_accounts
GROUP BY currency;
