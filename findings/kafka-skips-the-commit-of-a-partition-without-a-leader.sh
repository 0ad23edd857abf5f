#!/usr/bin/env bash
# Apache Kafka 4.4.0 (KRaft): a partition that has no leader while a transaction commits is left out of the commit, for ever.
#
# Expected   KIP-98, "Data Flow", 5.1 to 5.3: once PREPARE_COMMIT stands in the coordinator's log, a marker is written to each
#            partition of the transaction, and only then COMPLETE_COMMIT. So it is all or nothing, and a partition whose broker is
#            away gets its marker when the broker is back. Kafka 4.0.0 and 4.2.2 do so, in this very script.
# Instead    The coordinator takes a partition without a leader for one that was deleted ("Couldn't find leader endpoint … likely
#            deleted already and hence can be skipped", at INFO), writes COMPLETE_COMMIT at once, and the producer is told that
#            the commit succeeded. The partition comes back with an open transaction that nobody will end: the time-out of a
#            transaction is the coordinator's business, and for the coordinator this one is over.
#            An orderly stop of the partition's only replica is enough, as below. So is the kill of a lone broker after
#            PREPARE_COMMIT, if it looks for the leaders in the moment of its next start in which its own partitions have none
#            (seen in some of about forty kills, so not tried here).
#            4.3.1 does as 4.4.0.
# Matters    A source that commits records and progress in one transaction believes that both are there, and one is not. All
#            that is written to the partition later, by whomever, is hidden from read_committed consumers, a reader that waits
#            for its end waits in vain, and compaction stops there. Replication 3 makes it rare, not impossible: what counts
#            is that no replica may lead.
# Project    It reads its topics to the end within a bound, and fails by name instead of taking what it got for all
#            (src/kafka/read.rs). docs/operations/runbooks.md, "A transaction that hangs", says how to find and end it, and what then.
#
# A minute and a half.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

python "confluent-kafka==$client"
cluster "$kafka" 2
echo "Apache Kafka $kafka, confluent-kafka $client"

cat >"$folder/begin.py" <<'PYTHON'
"""A first transactional id, so that the coordinator's own topic is made while there is broker 1 alone."""
import sys
from confluent_kafka import Producer

Producer({"bootstrap.servers": sys.argv[1], "transactional.id": "first", "log_level": 0}).init_transactions(60)
PYTHON

cat >"$folder/commit.py" <<'PYTHON'
"""One transaction with a record in both partitions, committed while partition 0 has no leader."""
import os, signal, sys, time
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap, broker = sys.argv[1], int(sys.argv[2])
admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
admin.create_topics([NewTopic("accounts", 2, replica_assignment=[[2], [1]])])["accounts"].result()
producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "source", "transaction.timeout.ms": 10000, "log_level": 0})
producer.init_transactions(30)
producer.begin_transaction()
failed = []
for partition in (0, 1):
    report = lambda error, _: error and failed.append(error)
    producer.produce("accounts", f"row {partition}", partition=partition, callback=report)
assert producer.flush(30) == 0 and not failed, failed
os.kill(broker, signal.SIGTERM)
deadline = time.monotonic() + 8
while admin.list_topics("accounts").topics["accounts"].partitions[0].leader != -1:
    assert time.monotonic() < deadline, "partition 0 still has a leader"
    time.sleep(0.05)
began = time.monotonic()
producer.commit_transaction(30)
took = (time.monotonic() - began) * 1000
print(f"both records are acknowledged; partition 0 has no leader; the commit succeeded after {took:.0f} ms", flush=True)
os._exit(0)
PYTHON

cat >"$folder/look.py" <<'PYTHON'
"""Writes one more record to each partition, outside any transaction; then what each kind of consumer is given."""
import sys
from confluent_kafka import Consumer, Producer, TopicPartition

bootstrap = sys.argv[1]
producer = Producer({"bootstrap.servers": bootstrap, "log_level": 0})
for partition in (0, 1):
    producer.produce("accounts", "later", partition=partition)
assert producer.flush(30) == 0
for partition in (0, 1):
    for level in ("read_uncommitted", "read_committed"):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "look", "isolation.level": level, "enable.partition.eof": True})
        consumer.assign([TopicPartition("accounts", partition, 0)])
        given = []
        while (message := consumer.poll(30)) is not None and not message.error():
            given.append(message.value().decode())
        assert message is not None, "no end of the partition within 30 s"
        consumer.close()
        print(f"partition {partition}, {level}: {', '.join(given) or 'nothing'}")
PYTHON

start 1
"$python" "$folder/begin.py" "$bootstrap"
start 2
"$python" "$folder/commit.py" "$bootstrap" "${pids[2]}"
wait "${pids[2]}" || true
echo "log of broker 1: $(grep -o "Couldn't find leader endpoint.*" "$folder/node-1.log" || echo "nothing of a leader endpoint")"
start 2
# Longer than the transaction's time-out, and than the 10 s after which a coordinator looks for those that ran out of it.
sleep 25
described=$(kafka org.apache.kafka.tools.TransactionsCommand --bootstrap-server "$bootstrap" describe --transactional-id source)
state=$(awk 'NR == 2 { print $5 }' <<<"$described")
echo "25 s after broker 2 is back, the coordinator says: $state"
"$python" "$folder/look.py" "$bootstrap" | tee "$folder/given"

expected="partition 0, read_uncommitted: row 0, later
partition 0, read_committed: nothing
partition 1, read_uncommitted: row 1, later
partition 1, read_committed: row 1, later"
[ "$(cat "$folder/given")" = "$expected" ] || changed "the transaction is not committed in one of its partitions and open in the other"
[ "$state" = CompleteCommit ] || changed "the coordinator does not take the transaction for complete: $state"
echo SEEN
