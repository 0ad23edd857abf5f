#!/usr/bin/env bash
# rskafka 0.6.0: no partition that holds the marker of any transaction can be read, also where all of them were committed.
#
# Expected   Its README leaves transactions out, as a producer's matter. To a consumer their markers are control batches in any
#            partition that a transactional producer wrote to, which a client skips (Kafka's protocol guide, "Record Batch", and the
#            documentation of its message format, "Control Records": their key is a version and a type). The crate has a type for them.
# Instead    It takes the first two bytes of the control batch's record for that version, where the record's own length and attributes
#            stand. PartitionClient::fetch_records answers with an error, and gives none of the records before or behind the
#            marker either, as they are in the same answer.
# Matters    Every topic of a source that is exactly once has markers. It fails at the first of them, not at the first aborted
#            record: a consumer that works in a test without transactions reads nothing in production.
# Project    docs/consumers.md, "Clients that were tried": not for these topics; in Rust, rdkafka.
#
# Two minutes, most of which is compiling.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1
rskafka=0.6.0

python "confluent-kafka==$client"
rust "rskafka = { version = \"=$rskafka\", default-features = false }" 'tokio = { version = "1", features = ["rt-multi-thread", "macros", "time"] }' <<'RUST'
use std::time::Duration;

use rskafka::client::ClientBuilder;
use rskafka::client::partition::UnknownTopicHandling;

#[tokio::main]
async fn main() {
    let [_, bootstrap, topic] = std::env::args().collect::<Vec<_>>().try_into().expect("two arguments");
    let reading = async {
        let client = ClientBuilder::new(vec![bootstrap]).build().await.expect("a client");
        let partition = client.partition_client(topic, 0, UnknownTopicHandling::Error).await.expect("a partition");
        match partition.fetch_records(0, 1..1_000_000, 1_000).await {
            Ok((records, _)) => println!("{} records", records.len()),
            Err(error) => println!("error: {error}"),
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), reading).await.is_err() {
        println!("nothing within 60 s");
    }
}
RUST
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka, rskafka $rskafka, confluent-kafka $client"

cat >"$folder/write.py" <<'PYTHON'
"""Three records outside of a transaction; three in one that is committed."""
import sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
for future in admin.create_topics([NewTopic("plain", 1, 1), NewTopic("committed", 1, 1)]).values():
    future.result()
plain = Producer({"bootstrap.servers": bootstrap})
for number in range(3):
    plain.produce("plain", str(number))
assert plain.flush(30) == 0
transactional = Producer({"bootstrap.servers": bootstrap, "transactional.id": "source", "log_level": 0})
transactional.init_transactions(30)
transactional.begin_transaction()
for number in range(3):
    transactional.produce("committed", str(number))
transactional.commit_transaction(30)
PYTHON

"$python" "$folder/write.py" "$bootstrap"
plain=$("$rust" "$bootstrap" plain)
committed=$("$rust" "$bootstrap" committed)
echo "without a transaction: $plain"
echo "committed in one:      $committed"
[ "$plain" = "3 records" ] || { echo "not tried: it does not read plain records" >&2; exit 2; }
[[ $committed == error:*control\ batch* ]] || changed "rskafka answers something else"
echo SEEN
