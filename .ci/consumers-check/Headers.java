import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;

/** What Connect's default header converter makes of every header of some topics: a line for each name and kind, with how often. */
public class Headers {
  /** Text and plain values: all that a sink can take without knowing more. */
  private static final Set<Schema.Type> PLAIN = Set.of(
      Schema.Type.STRING, Schema.Type.BOOLEAN, Schema.Type.INT8, Schema.Type.INT16, Schema.Type.INT32, Schema.Type.INT64,
      Schema.Type.FLOAT32, Schema.Type.FLOAT64, Schema.Type.BYTES);

  private static final Map<String, Integer> COUNTS = new TreeMap<>();
  private static final SimpleHeaderConverter CONVERTER = new SimpleHeaderConverter();

  public static void main(String[] arguments) {
    CONVERTER.configure(Map.of());
    var settings = Map.<String, Object>of("bootstrap.servers", arguments[0], "isolation.level", "read_committed");
    try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      for (String topic : List.of(arguments).subList(1, arguments.length)) {
        var partitions = consumer.partitionsFor(topic).stream().map(found -> new TopicPartition(topic, found.partition())).toList();
        consumer.assign(partitions);
        consumer.seekToBeginning(partitions);
        Map<TopicPartition, Long> left = new HashMap<>(consumer.endOffsets(partitions));
        while (!left.isEmpty()) {
          consumer.poll(Duration.ofMillis(500)).forEach(record -> record.headers().forEach(header -> count(topic, header)));
          left.entrySet().removeIf(end -> consumer.position(end.getKey()) >= end.getValue());
        }
      }
    }
    COUNTS.forEach((kind, count) -> System.out.println(kind + " " + count));
  }

  private static void count(String topic, Header header) {
    COUNTS.merge(header.key() + " " + kind(CONVERTER.toConnectHeader(topic, header.key(), header.value())), 1, Integer::sum);
  }

  private static String kind(SchemaAndValue made) {
    return made.schema() != null && PLAIN.contains(made.schema().type()) ? "plain" : "OTHER:" + made;
  }
}
