# What the findings share: a folder that goes, exit codes, packages, brokers. It is no finding; each NAME.sh sources it.
#
# Exit codes: 0, it is still so; 1, it is not so any more, by `changed`; 2, it could not be tried.

set -Eeuo pipefail
trap 'echo "not tried: line $LINENO failed" >&2; exit 2' ERR

folder=$(mktemp -d)
started=()
clean() {
  if [ ${#started[@]} -gt 0 ]; then
    kill -9 "${started[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
  fi
  rm -rf "$folder"
}
trap clean EXIT
trap 'exit 2' INT TERM

changed() {
  echo "CHANGED: $*"
  exit 1
}

# seen_by WHAT-CHANGED COMMAND…: the end of a finding that a program judges: by 0 it is still so, by 3 it is not.
seen_by() {
  local what=$1 result=0
  shift
  "$@" || result=$?
  case $result in
  0) echo SEEN ;;
  3) changed "$what" ;;
  *) exit 2 ;;
  esac
}

needs() {
  for command in "$@"; do
    command -v "$command" >/dev/null || { echo "not tried: $command is missing" >&2; exit 2; }
  done
}

# python PACKAGE==VERSION…: an environment of its own, as $python.
python() {
  needs python3
  python3 -m venv "$folder/python"
  "$folder/python/bin/pip" install --quiet --disable-pip-version-check "$@"
  python=$folder/python/bin/python
}

# transactions: what Python programs in $folder import from `transactions`, and `read_committed`; after `python` with confluent-kafka.
transactions() {
  cat >"$folder/transactions.py" <<'PYTHON'
import time
from confluent_kafka import IsolationLevel, TopicPartition
from confluent_kafka.admin import OffsetSpec


def ended(admin, topic, end_transaction):
    """Ends a transaction by commit_transaction or abort_transaction, which is answered before its marker stands in partition 0."""
    def end():
        at = TopicPartition(topic, 0)
        return admin.list_offsets({at: OffsetSpec.latest()}, isolation_level=IsolationLevel.READ_UNCOMMITTED)[at].result().offset

    before = end()
    end_transaction(30)
    while end() == before:
        time.sleep(0.05)
PYTHON
  cat >"$folder/read_committed.py" <<'PYTHON'
import sys
from confluent_kafka import Consumer, TopicPartition

bootstrap, topic, last = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "librdkafka", "isolation.level": "read_committed"})
consumer.assign([TopicPartition(topic, 0, 0)])
given = []
while not given or given[-1] != last:
    message = consumer.poll(30)
    assert message is not None and not message.error()
    given.append(message.value().decode())
consumer.close()
print(", ".join(given))
PYTHON
}

# read_committed TOPIC LAST: the values that librdkafka gives of partition 0 under that level, up to LAST.
read_committed() {
  "$python" "$folder/read_committed.py" "$bootstrap" "$@"
}

# rust DEPENDENCY… <MAIN: a program of these lines of Cargo.toml, optimised, as $rust.
rust() {
  needs cargo
  mkdir -p "$folder/rust/src"
  printf '%s\n' '[package]' 'name = "finding"' 'version = "0.0.0"' 'edition = "2024"' '' '[dependencies]' "$@" >"$folder/rust/Cargo.toml"
  cat >"$folder/rust/src/main.rs"
  cargo build --quiet --release --manifest-path "$folder/rust/Cargo.toml"
  rust=$folder/rust/target/release/finding
}

# jars NAME GROUP:ARTIFACT:VERSION…: with what they depend on, in $folder/NAME.
jars() {
  needs java mvn
  local name=$1 dependency
  shift
  mkdir "$folder/$name"
  {
    echo '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
    echo '<groupId>finding</groupId><artifactId>finding</artifactId><version>1</version><packaging>pom</packaging><dependencies>'
    for dependency in "$@"; do
      IFS=: read -r group artifact version <<<"$dependency"
      echo "<dependency><groupId>$group</groupId><artifactId>$artifact</artifactId><version>$version</version></dependency>"
    done
    echo '</dependencies></project>'
  } >"$folder/$name/pom.xml"
  mvn --quiet --batch-mode --file "$folder/$name/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
    -DoutputDirectory="$folder/$name" 2>&1 | sed 's/\x1b\[0m//g'
}

# cluster VERSION COUNT [PROPERTY=VALUE…]: brokers 1 to COUNT, the first of them also the controller; $bootstrap is the first.
cluster() {
  local version=$1 count=$2 node ports
  shift 2
  needs python3
  jars kafka "org.apache.kafka:kafka_2.13:$version" "org.apache.kafka:kafka-tools:$version" org.slf4j:slf4j-simple:1.7.36
  read -ra ports < <(python3 -c '
import socket, sys
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(int(sys.argv[1]) + 1)]
print(*(each.getsockname()[1] for each in sockets))' "$count")
  bootstrap=127.0.0.1:${ports[1]}
  for ((node = 1; node <= count; node++)); do
    {
      echo "node.id=$node"
      echo "controller.quorum.voters=1@127.0.0.1:${ports[0]}"
      echo controller.listener.names=CONTROLLER
      echo "advertised.listeners=PLAINTEXT://127.0.0.1:${ports[node]}"
      if [ "$node" -eq 1 ]; then
        echo process.roles=broker,controller
        echo "listeners=PLAINTEXT://127.0.0.1:${ports[node]},CONTROLLER://127.0.0.1:${ports[0]}"
      else
        echo process.roles=broker
        echo "listeners=PLAINTEXT://127.0.0.1:${ports[node]}"
      fi
      echo "log.dirs=$folder/log-$node"
      for topic in offsets.topic transaction.state.log share.coordinator.state.topic; do
        echo "$topic.replication.factor=1"
        echo "$topic.num.partitions=4"
      done
      echo transaction.state.log.min.isr=1
      echo share.coordinator.state.topic.min.isr=1
      echo group.initial.rebalance.delay.ms=0
      echo auto.create.topics.enable=false
      [ $# -eq 0 ] || printf '%s\n' "$@"
    } >"$folder/node-$node.properties"
    kafka kafka.tools.StorageTool format --cluster-id AAAAAAAAAAAAAAAAAAAAAQ --config "$folder/node-$node.properties" >/dev/null
  done
}

# kafka CLASS ARGUMENT…: one of Kafka's own tools.
kafka() {
  java -Xmx256m -cp "$folder/kafka/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$@"
}

# start NODE; its process is then ${pids[NODE]}, its log $folder/node-NODE.log.
declare -A pids
start() {
  local log=$folder/node-$1.log tenths
  : >"$log"
  java -Xmx512m -cp "$folder/kafka/*" kafka.Kafka "$folder/node-$1.properties" >"$log" 2>&1 &
  pids[$1]=$!
  started+=("$!")
  for ((tenths = 0; tenths < 900; tenths++)); do
    grep -q 'Kafka Server started' "$log" && return
    kill -0 "${pids[$1]}" 2>/dev/null || break
    sleep 0.1
  done
  echo "not tried: broker $1 did not start" >&2
  tail -5 "$log" >&2
  exit 2
}
