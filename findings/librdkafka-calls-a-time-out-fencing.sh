#!/usr/bin/env bash
# librdkafka 2.16.0 (confluent-kafka 2.16.1): a producer that is alone and too slow is told that a newer instance has fenced it.
#
# Expected   INTRODUCTION.md, "Old producer fencing": a producer that another one of its transactional.id replaces finds out by the fatal
#            error RD_KAFKA_RESP_ERR__FENCED, "This instance has been fenced by a newer instance". So who gets it was replaced, and
#            has to stop. (KIP-588 gave time-outs an answer of their own; the table of KIPs there does say "Not supported". That
#            the one is then called the other is said nowhere.)
# Instead    A transaction that the coordinator rolled back, because transaction.timeout.ms was over, ends in the very same: code,
#            fatal, text. Nothing in the error tells the two apart. Java's client of the same version as the broker does: it throws
#            InvalidTxnStateException for the one and ProducerFencedException for the other.
# Matters    "Stop, another has taken over" and "start again, nobody will do it for you" are opposite answers. A source that believes
#            the text stops for good after a pause of the machine; one that always starts again fights its successor.
# Project    When it is told so, it looks for 15 s whether the cursor topic has another instance's claim. If there is none, it was a
#            time-out of its own, and it goes on with a new producer (docs/delivery.md, "Reopen").
#
# Half a minute.
. "$(dirname "$0")/support.bash"

kafka=4.4.0
client=2.16.1

python "confluent-kafka==$client"
# The coordinator looks for transactions that ran out of time each half a second, and not each ten.
cluster "$kafka" 1 transaction.abort.timed.out.transaction.cleanup.interval.ms=500
start 1
echo "Apache Kafka and its Java client $kafka, confluent-kafka $client"

cat >"$folder/commit.py" <<'PYTHON'
"""A commit after the time-out, by a producer that is alone; then one by a producer that was replaced."""
import sys, time
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

bootstrap = sys.argv[1]
admin = AdminClient({"bootstrap.servers": bootstrap})
admin.create_topics([NewTopic("accounts", 1, 1)])["accounts"].result()


def producer(name, timeout):
    made = Producer({
        "bootstrap.servers": bootstrap, "transactional.id": name, "transaction.timeout.ms": timeout,
        "log_level": 0, "error_cb": lambda _: None,
    })
    made.init_transactions(30)
    return made


for name, timeout in (("alone", 1000), ("replaced", 60000)):
    first = producer(name, timeout)
    first.begin_transaction()
    first.produce("accounts", "row")
    assert first.flush(30) == 0
    if name == "alone":
        time.sleep(4)
    else:
        second = producer(name, timeout)
    try:
        first.commit_transaction(30)
        print("succeeds")
    except KafkaException as exception:
        error = exception.args[0]
        print(f"{error.name()}, {'fatal' if error.fatal() else 'not fatal'}: {error.str()}")
PYTHON

cat >"$folder/Commit.java" <<'JAVA'
import java.util.Properties;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.serialization.StringSerializer;

/** The same by Java's client. */
public class Commit {
    static KafkaProducer<String, String> producer(String bootstrap, String name, String timeout) {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", bootstrap);
        properties.put("transactional.id", "java-" + name);
        properties.put("transaction.timeout.ms", timeout);
        KafkaProducer<String, String> made = new KafkaProducer<>(properties, new StringSerializer(), new StringSerializer());
        made.initTransactions();
        return made;
    }

    public static void main(String[] arguments) throws Exception {
        for (String name : new String[] {"alone", "replaced"}) {
            String timeout = name.equals("alone") ? "1000" : "60000";
            try (var first = producer(arguments[0], name, timeout)) {
                first.beginTransaction();
                first.send(new ProducerRecord<>("accounts", "row")).get();
                if (name.equals("alone")) {
                    Thread.sleep(4000);
                } else {
                    producer(arguments[0], name, timeout).close();
                }
                try {
                    first.commitTransaction();
                    System.out.println("succeeds");
                } catch (KafkaException exception) {
                    System.out.println(exception.getClass().getSimpleName());
                }
            }
        }
    }
}
JAVA

{ read -r alone; read -r replaced; } < <("$python" "$folder/commit.py" "$bootstrap")
{ read -r java_alone; read -r java_replaced; } < <(kafka "$folder/Commit.java" "$bootstrap" 2>/dev/null)
echo "librdkafka, alone and too slow:  $alone"
echo "librdkafka, replaced:            $replaced"
echo "Java's client, alone:            $java_alone"
echo "Java's client, replaced:         $java_replaced"
[[ $replaced = _FENCED,\ fatal:* ]] || changed "a producer that was replaced is not told so"
[ "$alone" = "$replaced" ] || changed "a time-out of its own has another error than being replaced"
[ "$java_alone" != "$java_replaced" ] && [ "$java_alone" != succeeds ] || changed "Java's client does not tell them apart"
echo SEEN
