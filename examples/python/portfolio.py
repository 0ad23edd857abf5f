"""Prints the portfolio as it stands: accounts and balance by currency, loan type and status."""

import json
from collections import Counter
from decimal import Decimal

import d02

# Digits after the point, where ISO 4217 does not say 2. Take a library's list; this is the part that lenders here meet.
DIGITS = {"BHD": 3, "IQD": 3, "JOD": 3, "KWD": 3, "LYD": 3, "OMR": 3, "TND": 3, "JPY": 0, "KRW": 0}

decode = d02.decoder()
accounts = {}
for message in d02.read_to_end(d02.topic("accounts")):
    if message.value() is None:
        # A tombstone: the account is gone.
        accounts.pop(message.key(), None)
        continue
    account = decode(message)
    # Compaction runs now and then, so several versions of an account may be there: the last one holds.
    group = (account["currency"], account["loan_type"], account["status"])
    accounts[message.key()] = (group, account["balance_amount"])

count, balance = Counter(), Counter()
for group, amount in accounts.values():
    count[group] += 1
    # Null is not known, which is not 0; a report to people should say how many there are.
    balance[group] += amount or 0
for group in sorted(count, key=str):
    currency, loan_type, status = group
    # Without a currency nobody knows what its minor units are.
    units = currency and str(Decimal(balance[group]).scaleb(-DIGITS.get(currency, 2)))
    print(json.dumps({
        "currency": currency, "loan_type": loan_type, "status": status,
        "accounts": count[group], "balance_minor": balance[group], "balance": units,
    }))
