"""Prints how far each lender is read."""

import json

import d02

latest = {}
for message in d02.read_to_end(d02.topic("cursor")):
    if message.value() is None:
        # A tombstone: the cursor was reset, and the next start reads from the beginning.
        latest.pop(message.key(), None)
    else:
        latest[message.key()] = (json.loads(message.value()), message.timestamp()[1])

for key, (progress, written_at) in sorted(latest.items()):
    connector, partition = json.loads(key)
    print(json.dumps({
        "connector": connector,
        "lender": partition["lender"],
        # Null: released, nobody reads this lender now.
        "instance": progress["instance"],
        # Nothing older is expected any more.
        "settled": progress["settled"],
        # The next poll begins here.
        "read": progress["read"],
        # Parts of the past that are still to be read.
        "ranges": len(json.loads(progress["ranges"])),
        "accounts": progress["account_count"],
        # A heartbeat is a record too: where this is older than a few of them, the source is away.
        "written_at": written_at,
    }))
