import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.function.Consumer;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.StringDeserializer;

/** What the examples share: settings, decoding, and reading a topic from its beginning to its end. */
final class D02 {
  private D02() {}

  static String topic(String name) {
    return System.getenv().getOrDefault("TOPIC_PREFIX", "cleargrid.d02.") + name;
  }

  /** Values stay bytes until somebody asks for them. */
  static KafkaConsumer<String, byte[]> consumer(String group) {
    Properties settings = new Properties();
    settings.put(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, System.getenv("BOOTSTRAP_SERVERS"));
    // The default is read_uncommitted: it also shows what was rolled back.
    settings.put(ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    settings.put(ConsumerConfig.ENABLE_AUTO_COMMIT_CONFIG, false);
    settings.put(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG, "earliest");
    if (group != null) {
      settings.put(ConsumerConfig.GROUP_ID_CONFIG, group);
    }
    return new KafkaConsumer<>(settings, new StringDeserializer(), new ByteArrayDeserializer());
  }

  /** Confluent's wire format by Apicurio's deserialiser, whose defaults fit it: a 0, and a content id of four bytes. */
  static AvroKafkaDeserializer<GenericRecord> decoder() {
    AvroKafkaDeserializer<GenericRecord> decoder = new AvroKafkaDeserializer<>();
    // Apicurio's own API, not the Confluent-compatible one.
    decoder.configure(Map.of("apicurio.registry.url", System.getenv("APICURIO_URL")), false);
    return decoder;
  }

  /** All records of some partitions up to what is committed now, each partition's in order. */
  static void readToEnd(
      KafkaConsumer<String, byte[]> consumer,
      Collection<TopicPartition> partitions,
      Consumer<ConsumerRecord<String, byte[]>> see) {
    consumer.assign(partitions);
    consumer.seekToBeginning(partitions);
    // With read_committed this is the last stable offset. The position counts the markers of transactions too.
    Map<TopicPartition, Long> left = new HashMap<>(consumer.endOffsets(partitions));
    while (!left.isEmpty()) {
      consumer.poll(Duration.ofMillis(500)).forEach(see);
      left.entrySet().removeIf(end -> consumer.position(end.getKey()) >= end.getValue());
    }
  }

  static List<TopicPartition> partitions(KafkaConsumer<?, ?> consumer, String topic) {
    List<TopicPartition> partitions = new ArrayList<>();
    consumer.partitionsFor(topic).forEach(found -> partitions.add(new TopicPartition(topic, found.partition())));
    return partitions;
  }
}
