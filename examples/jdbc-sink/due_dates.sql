SELECT json_build_object('public_id', public_id, 'was', before_due_date, 'is_now', after_due_date)
FROM d02_changes
WHERE op = 'u' AND 'due_date' = ANY (changed)
ORDER BY updated_at;
