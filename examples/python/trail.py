"""Prints what happened to one account, oldest first: trail.py PUBLIC_ID"""

import json
import sys

import d02

key = sys.argv[1].encode()
decode = d02.decoder()
# Records of one key stand in one partition, in order. The others are not decoded.
for message in d02.read_to_end(d02.topic("changes")):
    if message.key() != key:
        continue
    change = decode(message)
    before, after = change["before"] or {}, change["after"] or {}
    print(json.dumps({
        "updated_at": int(change["updated_at"].timestamp() * 1000),
        "op": change["op"],
        "changed": change["changed"],
        "balance_amount": [before.get("balance_amount"), after.get("balance_amount")],
        "due_date": [before.get("due_date"), after.get("due_date")],
        "status": [before.get("status"), after.get("status")],
    }))
