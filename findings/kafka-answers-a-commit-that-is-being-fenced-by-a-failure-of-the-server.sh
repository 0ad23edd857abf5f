#!/usr/bin/env bash
# Apache Kafka 4.4.0: a commit that arrives while its producer is being fenced is answered with UNKNOWN_SERVER_ERROR.
#
# Expected   PRODUCER_FENCED, INVALID_PRODUCER_EPOCH or, to be tried again, CONCURRENT_TRANSACTIONS: what EndTxn is documented to answer
#            where another producer takes its transactional.id over (KIP-360, KIP-890, the clients' documentation of fencing).
# Instead    InitProducerId of the second producer prepares an epoch fence of the open transaction. An EndTxn of the first that comes
#            before that is in the log makes the coordinator throw an IllegalStateException (transition to ONGOING while
#            PREPARE_EPOCH_FENCE is pending; the broker's log has it), and the client is told -1, UNKNOWN_SERVER_ERROR. librdkafka calls
#            that "Unknown broker error", not fatal: nothing says that there is a second producer. The transaction is rolled back.
# Matters    Whoever takes "fenced" alone for a sign that it has been replaced, and opens a new producer after all other errors, fences
#            its successor in turn. It happens at the very moment of a takeover, and more often the busier both are.
# Project    A start that is fenced between its fence and its claim looks for the claim of another, and, where there is none, fences anew
#            (docs/delivery.md, Starting, 7). tests/starting.rs has a predecessor go on at that point.
#
# A minute and a half. The second producer's InitProducerId is sent by hand, so that its moment is known to a fraction of a millisecond.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

needs java
python "confluent-kafka==$client"
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka, confluent-kafka $client"

cat >"$folder/race.py" <<'PYTHON'
"""Commits of a producer, each beside the InitProducerId of a second one for the same transactional.id."""
import collections, logging, random, socket, struct, sys, threading, time
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
quiet = logging.getLogger("quiet")
quiet.disabled = True
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("raced", 1, 1)])["raced"].result()

host, port = bootstrap.split(":")
second = socket.create_connection((host, int(port)))
second.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def init_producer_id(name, after):
    """Version 1 of the request: header, transactional id, time-out in milliseconds."""
    request = struct.pack(">hhi", 22, 1, 1) + string("second") + string(name) + struct.pack(">i", 60_000)
    until = time.perf_counter() + after
    while time.perf_counter() < until:
        pass
    second.sendall(struct.pack(">i", len(request)) + request)


def answer():
    def exactly(count):
        data = b""
        while len(data) < count:
            data += second.recv(count - len(data))
        return data

    exactly(struct.unpack(">i", exactly(4))[0])


outcomes, committed = collections.Counter(), set()
deadline = time.monotonic() + 60
number = 0
while time.monotonic() < deadline and outcomes["UNKNOWN"] < 10:
    number += 1
    name = f"raced-{number}"
    first = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 0}, logger=quiet)
    first.init_transactions(30)
    first.begin_transaction()
    first.produce("raced", name)
    first.flush(30)
    beside = threading.Thread(target=init_producer_id, args=(name, random.uniform(0, 0.002)))
    beside.start()
    try:
        first.commit_transaction(30)
        committed.add(name)
        outcomes["committed"] += 1
    except KafkaException as error:
        outcomes[error.args[0].name()] += 1
        if error.args[0].name() == "UNKNOWN":
            assert not error.args[0].fatal()
            print(error.args[0].str(), "| fatal:", error.args[0].fatal()) if outcomes["UNKNOWN"] == 1 else None
    beside.join()
    answer()
print(f"{number} commits beside a second producer's start:", dict(outcomes))

# What is open is rolled back for the second producer before it is given an epoch; here nobody asks again, so the end is waited for.
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "reads", "auto.offset.reset": "earliest", "enable.partition.eof": True})
consumer.subscribe(["raced"])
read, deadline = set(), time.monotonic() + 30
while time.monotonic() < deadline:
    message = consumer.poll(1.0)
    if message is None:
        continue
    if message.error():
        if message.error().code() == KafkaError._PARTITION_EOF:
            break
        raise KafkaException(message.error())
    read.add(message.value().decode())
consumer.close()
print(f"read_committed: {len(read)} records, of {len(committed)} transactions whose commit went well")
# None of those whose commit was answered by an error was committed.
sys.exit(0 if outcomes["UNKNOWN"] and read <= committed else 3)
PYTHON

raced() {
  local result=0
  "$python" "$folder/race.py" "$bootstrap" || result=$?
  grep -o 'IllegalStateException: Preparing transaction state transition.*' "$folder/node-1.log" | sort | uniq -c || true
  return $result
}
seen_by "a commit that is being fenced is told so, or was committed" raced
