#!/usr/bin/env bash
# librdkafka 2.16.0 (confluent-kafka 2.16.1): a consumer that is connected already waits up to a second when it is assigned a topic.
#
# Expected   CONFIGURATION.md, topic.metadata.refresh.fast.interval.ms (100 ms): of a topic without a known leader, metadata is asked
#            for at once, and then in this interval. The broker answers within a millisecond or two.
# Instead    Partitions whose leader is not known when they are assigned start no request. They wait for a look at all topics that
#            comes every whole second of the consumer's life: assigned 2.3 s after its making, it has its first record at 3.0 s;
#            after 2.6 s, also at 3.0 s. The setting changes nothing. A consumer that is assigned in the first moments is
#            served by the request that a new connection makes anyway, so a quick test does not see the wait.
#            Asking for the topic's metadata first (list_topics) takes a few milliseconds, and then there is no wait.
# Matters    A source that reads its state back at a start looks at offsets first, so its consumers are connected when they are
#            assigned: half a second a topic, on average, in which nothing happens.
# Project    It asks for the partitions just before `assign` (src/kafka/read.rs, `read_to_end`), with librdkafka 2.12.1, which does
#            the same.
#
# A minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

python "confluent-kafka==$client"
cluster "$kafka" 1
start 1

cat >"$folder/measure.py" <<'PYTHON'
import statistics, sys, time
import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, rounds, partitions = sys.argv[1], 9, 3
print(f"Apache Kafka {sys.argv[2]}, confluent-kafka {confluent_kafka.version()}, librdkafka {confluent_kafka.libversion()[0]}")
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("accounts", partitions, 1)])["accounts"].result()
producer = Producer({"bootstrap.servers": bootstrap})
for partition in range(partitions):
    producer.produce("accounts", "row", partition=partition)
assert producer.flush(30) == 0


def first_record(idle, asks=False, settings={}):
    """Milliseconds from `assign`, the question before it included, to the first record."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reader", "enable.auto.commit": False, **settings})
    until = time.monotonic() + idle
    while (left := until - time.monotonic()) > 0:
        consumer.poll(left)
    began = time.monotonic()
    if asks:
        consumer.list_topics("accounts", timeout=30)
    consumer.assign([TopicPartition("accounts", partition, 0) for partition in range(partitions)])
    message = consumer.poll(30)
    took = (time.monotonic() - began) * 1000
    assert message is not None and not message.error()
    consumer.close()
    return took


def measure(name, *arguments, **settings):
    took = sorted(first_record(*arguments, **settings) for _ in range(rounds))
    print(f"{name:62} median {statistics.median(took):4.0f} ms, of {' '.join(f'{each:.0f}' for each in took)}", flush=True)
    return statistics.median(took)


measure("assigned at once", 0)
waits = measure("assigned after 2.3 s", 2.3)
measure("assigned after 2.6 s", 2.6)
measure("after 2.3 s, topic.metadata.refresh.fast.interval.ms=10", 2.3, settings={"topic.metadata.refresh.fast.interval.ms": 10})
asks = measure("after 2.3 s, asked for the topic's metadata first", 2.3, asks=True)
# Medians, and far from what is seen (700 and 3 ms), so that a busy machine does not decide.
sys.exit(0 if waits > 400 and waits > 4 * asks else 3)
PYTHON

seen_by "a consumer that did not ask first has its first record as soon, or nearly" \
  "$python" "$folder/measure.py" "$bootstrap" "$kafka"
