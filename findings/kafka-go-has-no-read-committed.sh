#!/usr/bin/env bash
# segmentio/kafka-go 0.4.51: with IsolationLevel ReadCommitted a Reader gives records of aborted transactions, and their markers.
#
# Expected   The package's documentation, type ReaderConfig, IsolationLevel: with ReadCommitted only records that are not
#            transactional, and committed ones, are visible. In the protocol a fetch under that level ends at the last stable offset, and
#            what lies before it and was aborted is left out by the client, by the list of aborted transactions and the markers
#            (FetchResponse, AbortedTransactions; control batches are never given to the application).
# Instead    The level is sent to the broker, so an open transaction is not seen. The list is not looked at: what was aborted is
#            given as any other record. The markers of transactions are given as well, as messages with a key of four bytes,
#            also where every transaction was committed. No error, no warning. librdkafka reads the same partition right.
# Matters    After a crash, a time-out or a takeover of a source that writes in transactions, its topics hold aborted records. Who reads
#            them with this client under the level that is to leave them out has rows that nobody committed, and an account more for each
#            marker, whose key is no id.
# Project    docs/consumers.md, "Clients that were tried": not for these topics; examples/go uses franz-go.
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1
kafka_go=0.4.51

needs go
python "confluent-kafka==$client"
transactions
mkdir "$folder/go"
cat >"$folder/go/main.go" <<'GO'
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/segmentio/kafka-go"
)

func main() {
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{os.Args[1]}, Topic: os.Args[2], Partition: 0, IsolationLevel: kafka.ReadCommitted, MaxWait: time.Second,
	})
	context, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		message, err := reader.ReadMessage(context)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(2)
		}
		if len(message.Key) == 4 {
			fmt.Println("a marker")
			continue
		}
		fmt.Println(string(message.Value))
		if string(message.Value) == "last" {
			return
		}
	}
}
GO
export GOMODCACHE=$folder/go/modules GOFLAGS=-modcacherw GOTOOLCHAIN=local
(cd "$folder/go" && go mod init finding && go get "github.com/segmentio/kafka-go@v$kafka_go" && go build -o read .) >"$folder/go.log" 2>&1 ||
  { cat "$folder/go.log" >&2; exit 2; }
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka, segmentio/kafka-go $kafka_go with $(go version | cut -d' ' -f3), confluent-kafka $client"

cat >"$folder/write.py" <<'PYTHON'
"""A committed transaction, an aborted one, and a last one that is committed."""
import sys
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic
from transactions import ended

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("accounts", 1, 1)])["accounts"].result()


producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": "source", "log_level": 0})
producer.init_transactions(30)
for value, is_committed in (("first", True), ("aborted", False), ("last", True)):
    producer.begin_transaction()
    producer.produce("accounts", value, "account")
    assert producer.flush(30) == 0
    ended(admin, "accounts", producer.commit_transaction if is_committed else producer.abort_transaction)
PYTHON

"$python" "$folder/write.py" "$bootstrap"
right=$(read_committed accounts last)
given=$("$folder/go/read" "$bootstrap" accounts | paste -sd, | sed 's/,/, /g')
echo "librdkafka gives $right"
echo "kafka-go gives   $given"
[ "$right" = "first, last" ] || { echo "not tried: librdkafka reads otherwise" >&2; exit 2; }
[ "$given" = "first, a marker, aborted, a marker, last" ] || changed "kafka-go gives something else"
echo SEEN
