"""Keeps a table of due dates that moved. Decides by headers alone, and decodes only what it keeps. Runs until SIGTERM or Ctrl-C."""

import os
import signal
import sqlite3

from confluent_kafka import Consumer, KafkaException

import d02

table = sqlite3.connect(os.environ.get("DATABASE", "due-dates.sqlite"))
# A record's place is its name: one that is delivered again meets its own row.
table.execute(
    "CREATE TABLE IF NOT EXISTS moved (topic, place_partition, place_offset, public_id, was, is_now, due_on,"
    " balance_minor, currency, PRIMARY KEY (topic, place_partition, place_offset))"
)
decode = d02.decoder()


def due_date_moved(headers):
    return "due_date" in d02.listed(headers.get("d02.changed"))


def keep(message, headers):
    after = decode(message)["after"]
    # None where `due_date`, which is text as upstream stored it, is no real day.
    due_on = after["due_date_parsed"] and after["due_date_parsed"].isoformat()
    table.execute(
        "INSERT OR IGNORE INTO moved VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (message.topic(), message.partition(), message.offset(), after["public_id"],
         # Absent where that due date was, or is, null.
         headers.get("d02.previous_due_date"), headers.get("d02.due_date"),
         due_on, after["balance_amount"], after["currency"]),
    )


running = True


def stop(*_):
    global running
    running = False


signal.signal(signal.SIGINT, stop)
signal.signal(signal.SIGTERM, stop)
consumer = Consumer(d02.SETTINGS | {
    "group.id": os.environ.get("GROUP", "due-dates"),
    # So long the partitions of one that died wait for another; the default is 45 s.
    "session.timeout.ms": 6000,
})
consumer.subscribe([d02.topic("changes")])
try:
    while running:
        messages = consumer.consume(500, timeout=0.5)
        for message in messages:
            if message.error():
                raise KafkaException(message.error())
            headers = d02.headers(message)
            if due_date_moved(headers):
                keep(message, headers)
        if messages:
            # First the effect, then the offsets: a crash in between repeats the effect, which changes nothing.
            table.commit()
            consumer.commit(asynchronous=False)
finally:
    consumer.close()
