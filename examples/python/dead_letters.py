"""Prints the rows that cannot be accounts, and why."""

import json

import d02

for message in d02.read_to_end(d02.topic("dead-letters")):
    headers = d02.headers(message)
    print(json.dumps({
        "public_id": message.key() and message.key().decode(),
        "lender": headers["d02.lender"],
        # Absent where the row as a whole is the trouble.
        "field": headers.get("d02.field"),
        "reason": headers["__connect.errors.exception.message"],
        # Of the answer that held the row, if it had one: what the vendor's support asks for.
        "request_id": headers.get("d02.request_id"),
        # The value is the row, byte for byte. One that is too large for the topic is left out, and its size said instead.
        "bytes": int(headers.get("d02.size", len(message.value()))),
    }))
