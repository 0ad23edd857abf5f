#!/usr/bin/env bash
# KafkaJS 2.2.4: a read_committed consumer is given records of an aborted transaction, if another one ended before it.
#
# Expected   Its documentation, "Consuming Messages", Options: unless readUncommitted is set, a consumer returns no message of a
#            transaction that was not committed. In the protocol a fetch answers with the aborted transactions (FetchResponse,
#            AbortedTransactions: ProducerId, FirstOffset) in no promised order, and the client leaves their records out.
# Instead    It takes the list to be sorted by FirstOffset, and steps to its next entry only when that offset is reached. Brokers list
#            transactions as they ended. So of two that were open side by side on a partition, of which the later one was aborted
#            first, the earlier one's records are handed out up to where the later one began. No error, no warning. librdkafka
#            reads the same partition right.
# Matters    Two lenders (or tasks) write to one topic, and a broker or a network fails both: two aborted transactions side by side,
#            in any order. A consumer takes rows for state that nobody committed, and they are gone after compaction.
# Project    Each lender is written by a transactional id of its own, to partitions that they share, so this can be met. The table of
#            clients in docs/consumers.md says so, and what helps: a client on librdkafka, or a topic for each lender.
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1
kafkajs=2.2.4

needs node npm
python "confluent-kafka==$client"
transactions
npm install --silent --no-audit --no-fund --prefix "$folder/node" "kafkajs@$kafkajs"
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka, KafkaJS $kafkajs with Node.js $(node --version), confluent-kafka $client"

cat >"$folder/write.py" <<'PYTHON'
"""Two transactions side by side, both aborted, and a committed record; in one topic the first to begin ends first, in the other last."""
import sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from transactions import ended

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})

for topic in ("first-ends-first", "first-ends-last"):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result()
    first, second, last = (
        Producer({"bootstrap.servers": bootstrap, "transactional.id": f"{topic}-{name}", "log_level": 0})
        for name in ("first", "second", "last")
    )
    for producer, values in ((first, ("first 1", "first 2")), (second, ("second 1",))):
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            producer.produce(topic, value)
        assert producer.flush(30) == 0
    for producer in (first, second) if topic == "first-ends-first" else (second, first):
        ended(admin, topic, producer.abort_transaction)
    last.init_transactions(30)
    last.begin_transaction()
    last.produce(topic, "committed")
    last.commit_transaction(30)
PYTHON

cat >"$folder/node/read.js" <<'JS'
const { Kafka, logLevel } = require("kafkajs");

const [bootstrap, topic] = process.argv.slice(2);
const consumer = new Kafka({ brokers: [bootstrap], logLevel: logLevel.NOTHING }).consumer({ groupId: topic });

async function read() {
  const given = [];
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  const timer = setTimeout(() => { console.error("no committed record within 60 s"); process.exit(2); }, 60000);
  await new Promise((resolve, reject) => {
    consumer.run({
      eachMessage: async ({ message }) => {
        given.push(message.value.toString());
        if (given.at(-1) === "committed") resolve();
      },
    }).catch(reject);
  });
  clearTimeout(timer);
  await consumer.disconnect();
  console.log(given.join(", "));
}

read().catch((error) => { console.error(error); process.exit(2); });
JS

"$python" "$folder/write.py" "$bootstrap"
for topic in first-ends-first first-ends-last; do
  kafkajs_given=$(KAFKAJS_NO_PARTITIONER_WARNING=1 node "$folder/node/read.js" "$bootstrap" "$topic")
  librdkafka_given=$(read_committed "$topic" committed)
  echo "$topic: KafkaJS is given: $kafkajs_given; librdkafka: $librdkafka_given"
  [ "$librdkafka_given" = committed ] || changed "librdkafka is given aborted records too"
  case $topic in
  first-ends-first) [ "$kafkajs_given" = committed ] || changed "KafkaJS is given aborted records in either order" ;;
  *) [ "$kafkajs_given" = "first 1, first 2, committed" ] || changed "KafkaJS is not given the records of the first transaction" ;;
  esac
done
echo SEEN
