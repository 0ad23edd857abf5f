#!/usr/bin/env bash
# librdkafka 2.16.0: a commit whose answer is cut off is asked for once more, and reported as a plain success.
#
# Expected   That a commit was asked for twice shows somewhere: in an error, in the error callback, or in a log line at WARNING, as a
#            lost connection does where more than one request was under way.
# Instead    The coordinator's connection closes after it got EndTxn and before it answers. EndTxn is the only request under way then,
#            so the closing is logged at INFO (and not at all, if the same was logged within 30 s), and no callback hears of it. After
#            retry.backoff.ms, less or more by a fifth, EndTxn is sent again, and commit_transaction returns without an error.
#            The time is the one trace: a commit that was asked for once may be fast, a repeated one is never below four fifths of
#            retry.backoff.ms.
# Matters    librdkafka does not speak KIP-890, so an EndTxn names a producer and its epoch, not the transaction. One of two that
#            comes late can decide the transaction after it (KAFKA-17754). Who wants to rule that out must know that there were two.
# Project    Its producers have retry.backoff.ms = 1 s, and a commit of 800 ms or more is read back before anything follows it
#            (src/sink/transaction.rs).
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.2.2
client=2.16.0

python "confluent-kafka==$client"
port=$("$python" -c 'import socket; print(socket.create_server(("127.0.0.1", 0)).getsockname()[1])')
cluster "$kafka" 1 "advertised.listeners=PLAINTEXT://127.0.0.1:$port"
broker=$bootstrap
echo "Apache Kafka $kafka, confluent-kafka $client"

cat >"$folder/commit.py" <<'PYTHON'
"""A proxy that closes the connection of the first EndTxn in place of its answer, and a producer behind it that commits twice."""
import socket, struct, sys, threading, time
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

END_TXN = 26
port, broker = int(sys.argv[1]), sys.argv[2].rsplit(":", 1)
asked, to_close = [0], threading.Event()


def frames(source):
    while True:
        head = source.recv(4, socket.MSG_WAITALL)
        if len(head) < 4:
            return
        yield head + source.recv(struct.unpack(">i", head)[0], socket.MSG_WAITALL)


def relay(source, target, other, waiting, is_request):
    try:
        for frame in frames(source):
            if is_request:
                key, _, correlation = struct.unpack(">hhi", frame[4:12])
                if key == END_TXN:
                    asked[0] += 1
                    waiting.add(correlation)
            elif struct.unpack(">i", frame[4:8])[0] in waiting and to_close.is_set():
                to_close.clear()
                break
            target.sendall(frame)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def serve():
    listener = socket.create_server(("127.0.0.1", port))
    while True:
        client, _ = listener.accept()
        server = socket.create_connection((broker[0], int(broker[1])))
        waiting = set()
        for arguments in ((client, server, None, waiting, True), (server, client, None, waiting, False)):
            threading.Thread(target=relay, args=arguments, daemon=True).start()


threading.Thread(target=serve, daemon=True).start()
time.sleep(0.5)
bootstrap = f"127.0.0.1:{port}"
admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
admin.create_topics([NewTopic("rows", 1)])["rows"].result()
heard = []
producer = Producer(
    {
        "bootstrap.servers": bootstrap,
        "transactional.id": "source",
        "retry.backoff.ms": 500,
        "retry.backoff.max.ms": 500,
        "error_cb": lambda error: heard.append(str(error)),
        "log_level": 5,
    }
)
producer.init_transactions(30)


def commit(what):
    before = asked[0]
    producer.begin_transaction()
    producer.produce("rows", what)
    assert producer.flush(30) == 0
    began = time.monotonic()
    producer.commit_transaction(30)
    took = (time.monotonic() - began) * 1000
    producer.poll(1)
    print(f"{what}: EndTxn sent {asked[0] - before} times, committed without an error, error callback called {len(heard)} times")
    print(f"{what}: took {took:.0f} ms", file=sys.stderr)
    return took


assert commit("first, to know everybody") < 5000
assert commit("as usual") < 400
to_close.set()
assert commit("its connection is closed") >= 400
PYTHON

start 1
"$python" "$folder/commit.py" "$port" "$broker" 2>"$folder/times" | tee "$folder/seen" || { cat "$folder/times" >&2; changed "a commit took another time, or failed"; }
grep took "$folder/times"
logged=$(grep -c -e '|FAIL|' -e '[Dd]isconnect' "$folder/times" || true)
echo "log lines at NOTICE and above: $logged"
expected="as usual: EndTxn sent 1 times, committed without an error, error callback called 0 times
its connection is closed: EndTxn sent 2 times, committed without an error, error callback called 0 times"
[ "$(tail -2 "$folder/seen")" = "$expected" ] || changed "it was not asked for twice, or somebody was told"
[ "$logged" = 0 ] || changed "the closed connection is logged at NOTICE or above"
echo SEEN
