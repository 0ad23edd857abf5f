#!/usr/bin/env bash
# librdkafka 2.16.0: a partition that was paused stays paused when it is taken away and assigned anew.
#
# Expected   Kafka's documentation of the consumer (Javadoc of KafkaConsumer.pause): a rebalance does not preserve what is paused. Java's
#            client begins anew with every partition that comes back to it, by a rebalance or by assign.
# Instead    librdkafka keeps the mark with the partition, not with the assignment. After unassign, or an empty assign, and assign at
#            offset 0, nothing is fetched and nothing said: poll gives no record, no error and no end of the partition, for ever.
#            Only resume helps, after the partition is assigned again.
# Matters    A consumer pauses what it has read to the end, or what its sink cannot take, and is assigned the same partition later: by a
#            second pass, by a rebalance that gives it back. It then waits for ever, at a lag that only a restart mends.
# Project    `tail` reads stretches of a topic one after the other with one client. It resumes what it assigns (src/sink/tail.rs), and a
#            test reads behind 300 aborted records.
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

needs java
python "confluent-kafka==$client"
cluster "$kafka" 1
start 1
echo "Apache Kafka $kafka and its Java client, confluent-kafka $client"

cat >"$folder/read.py" <<'PYTHON'
"""Three passes over a topic of five records, by three new assignments; what is read to the end is paused, or is not."""
import sys, time
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("five", 1, 1)])["five"].result()
producer = Producer({"bootstrap.servers": bootstrap})
for number in range(5):
    producer.produce("five", str(number), partition=0)
assert producer.flush(30) == 0
partition = TopicPartition("five", 0, 0)


def passes(pauses, resumes):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "passes", "enable.partition.eof": True})
    for _ in range(3):
        consumer.assign([partition])
        if resumes:
            consumer.resume([partition])
        count, deadline = 0, time.monotonic() + 5
        while time.monotonic() < deadline:
            message = consumer.poll(0.1)
            if message is None:
                continue
            if message.error():
                assert message.error().code() == KafkaError._PARTITION_EOF
                break
            count += 1
        if pauses:
            consumer.pause([partition])
        consumer.unassign()
        yield count
    consumer.close()


print("librdkafka, not paused:", *passes(False, False))
print("librdkafka, paused:", *passes(True, False))
print("librdkafka, paused, then resumed:", *passes(True, True))
PYTHON

cat >"$folder/Read.java" <<'JAVA'
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** The same, paused. */
public class Read {
    public static void main(String[] arguments) {
        var partition = List.of(new TopicPartition("five", 0));
        StringBuilder counts = new StringBuilder();
        var settings = Map.<String, Object>of("bootstrap.servers", arguments[0]);
        try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            for (int pass = 0; pass < 3; pass++) {
                consumer.assign(partition);
                consumer.seekToBeginning(partition);
                int count = 0;
                long deadline = System.nanoTime() + 5_000_000_000L;
                while (count < 5 && System.nanoTime() < deadline) {
                    count += consumer.poll(Duration.ofMillis(100)).count();
                }
                consumer.pause(partition);
                consumer.unsubscribe();
                counts.append(' ').append(count);
            }
        }
        System.out.println("Java, paused:" + counts);
    }
}
JAVA

librdkafka=$("$python" "$folder/read.py" "$bootstrap")
java=$(java -Xmx256m -cp "$folder/kafka/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error "$folder/Read.java" "$bootstrap")
echo "records in three passes:"
echo "$librdkafka"
echo "$java"
[ "$java" = "Java, paused: 5 5 5" ] || changed "Java's client keeps it paused, too"
[ "$librdkafka" = "librdkafka, not paused: 5 5 5
librdkafka, paused: 5 0 0
librdkafka, paused, then resumed: 5 5 5" ] || changed "a new assignment is read, or resuming does not help"
echo SEEN
