#!/usr/bin/env bash
# librdkafka 2.16.0 (confluent-kafka 2.16.1): of several records that a broker refuses for their time, none is told why.
#
# Expected   A broker refuses a record whose time is too far ahead with INVALID_TIMESTAMP, and says so for the batch. The delivery
#            report of each record has that error, as it has where the batch holds one record.
# Instead    The reports of a batch of two and more have INVALID_RECORD, "Broker failed to validate record": what a broker says of a
#            record without a key in a compacted topic. Only the error of the transaction, if there is one, still has the true code.
# Matters    A machine whose clock is an hour ahead is refused by every broker from Kafka 4.0 on, whose default of
#            message.timestamp.after.max.ms is an hour. With a batch or two under way, whoever is woken looks for what is wrong with
#            the records, and not at the clock.
# Project    It takes the code from the transaction, and names the time and the settings (K21; src/sink/transaction.rs).
#
# A minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

python "confluent-kafka==$client"
cluster "$kafka" 1
start 1

cat >"$folder/refused.py" <<'PYTHON'
import sys, time
import confluent_kafka
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
print(f"Apache Kafka {sys.argv[2]}, confluent-kafka {confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}")
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("accounts", 1, 1)])["accounts"].result()
ahead = int(time.time() * 1000) + 2 * 3_600_000


def refused(count, **settings):
    """What the delivery reports of so many records say, dated two hours ahead, and what the transaction says, if there is one."""
    reports = set()
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 200, "log_level": 0, "error_cb": lambda _: None, **settings})
    if settings:
        producer.init_transactions(30)
        producer.begin_transaction()
    for number in range(count):
        heard = lambda error, _: reports.add(error.name() if error else "delivered")
        producer.produce("accounts", "row", key=str(number), timestamp=ahead, on_delivery=heard)
    producer.flush(30)
    of_transaction = None
    if settings:
        try:
            producer.commit_transaction(30)
        except KafkaException as exception:
            of_transaction = exception.args[0].name()
        producer.abort_transaction(30)
    print(f"{count} records, {'in a transaction' if settings else 'without one':17} reports {sorted(reports)}, transaction {of_transaction}")
    return sorted(reports), of_transaction


seen = (
    refused(1) == (["INVALID_TIMESTAMP"], None)
    and refused(3) == (["INVALID_RECORD"], None)
    and refused(1, **{"transactional.id": "one"}) == (["INVALID_TIMESTAMP"], "INVALID_TIMESTAMP")
    and refused(3, **{"transactional.id": "several"}) == (["INVALID_RECORD"], "INVALID_TIMESTAMP")
)
sys.exit(0 if seen else 3)
PYTHON

seen_by "the reports of one record and of several say the same, or another thing" \
  "$python" "$folder/refused.py" "$bootstrap" "$kafka"
