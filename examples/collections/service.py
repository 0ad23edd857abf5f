"""Keeps a work list of due dates that moved, and the accounts, in PostgreSQL. Runs until SIGTERM or Ctrl-C; service.py --to-end
until everything is read that was committed.

Exactly once: what the records do and how far they were read is committed in one transaction of the database, and a start goes on
where the database says. Kafka's offsets of groups are not used.
"""

import os
import signal
import sys
from pathlib import Path

import d02
import psycopg
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition


def keep_account(database, message, decode):
    # Compared with None: a message counts as false where its value is empty or null, as a tombstone's is.
    if message.value() is None:
        database.execute("DELETE FROM collections.account WHERE public_id = %s", (message.key().decode(),))
        return
    database.execute(
        "INSERT INTO collections.account VALUES (%(public_id)s, %(currency)s, %(balance_amount)s, %(updated_at)s)"
        " ON CONFLICT (public_id) DO UPDATE SET currency = excluded.currency, balance_amount = excluded.balance_amount,"
        " updated_at = excluded.updated_at",
        decode(message),
    )


def add_task(database, message, decode):
    if "due_date" not in d02.listed(d02.headers(message).get("d02.changed")):
        return
    change = decode(message)
    # Null where it is too large to be repeated.
    before, after = change["before"] or {}, change["after"]
    # No ON CONFLICT: nothing comes twice, and where it does, that is to be seen.
    database.execute(
        "INSERT INTO collections.task VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
        (change["public_id"], change["updated_at"], message.offset(), before.get("due_date"), after["due_date"],
         after["due_date_parsed"], after["balance_amount"], after["currency"]),
    )


def places(database, consumer, topics):
    """By topic and partition, the offset to go on at."""
    for topic in topics:
        for partition in d02.partitions_of(consumer, topic):
            database.execute("INSERT INTO collections.place VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
                             (topic, partition, OFFSET_BEGINNING))
    rows = database.execute("SELECT topic, partition, next_offset FROM collections.place WHERE topic = ANY (%s)", (topics,))
    return {(topic, partition): offset for topic, partition, offset in rows}


def move(database, place, before, after):
    moved = database.execute(
        "UPDATE collections.place SET next_offset = %s WHERE topic = %s AND partition = %s AND next_offset = %s",
        (after, *place, before),
    )
    # Another process that does the same, or one that was thought dead: then all of this transaction is rolled back.
    if moved.rowcount != 1:
        raise RuntimeError(f"somebody else has gone on from {place} at {before}")


def serve(database, consumer, to_end):
    handlers = {d02.topic("accounts"): keep_account, d02.topic("changes"): add_task}
    decode = d02.decoder()
    offsets = places(database, consumer, list(handlers))
    consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
    unread = set(offsets)
    while running and (unread or not to_end):
        records, ahead = [], {}
        for message in consumer.consume(100, timeout=1):
            place = message.topic(), message.partition()
            if message.error() is None:
                records.append(message)
                ahead[place] = message.offset() + 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unread.discard(place)
            else:
                raise KafkaException(message.error())
        if not records:
            continue
        with database.transaction():
            for record in records:
                handlers[record.topic()](database, record, decode)
            for place, offset in ahead.items():
                move(database, place, offsets[place], offset)
        offsets |= ahead
        print(len(records), "records, up to", ahead, flush=True)


def stop(*_):
    global running
    running = False


running = True
signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
consumer = Consumer(d02.SETTINGS | {
    "group.id": "unused",
    "enable.partition.eof": True,
    # Where Kafka does not have a place any more, records were missed. Somebody has to know.
    "auto.offset.reset": "error",
})
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as database:
    database.execute((Path(__file__).parent / "tables.sql").read_text())
    serve(database, consumer, to_end="--to-end" in sys.argv)
consumer.close()
