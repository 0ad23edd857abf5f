import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.net.URL;
import java.time.Duration;
import java.time.Instant;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** Waits until a sink has committed the offsets of all that is committed in a topic now: CaughtUp GROUP TOPIC STATUS-OF-THE-SINK */
public final class CaughtUp {
  private static final Duration PATIENCE = Duration.ofSeconds(180);
  private static final String SERVERS = System.getenv("BOOTSTRAP_SERVERS");

  public static void main(String[] arguments) throws Exception {
    String group = arguments[0];
    Map<TopicPartition, Long> left = ends(arguments[1]);
    try (Admin admin = Admin.create(Map.of("bootstrap.servers", SERVERS))) {
      Map<TopicPartition, OffsetAndMetadata> before = Map.of();
      Instant moved = Instant.now();
      while (true) {
        var committed = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        left.entrySet().removeIf(end -> offset(committed.get(end.getKey())) >= end.getValue());
        if (left.isEmpty()) {
          return;
        }
        String failure = failure(new URL(arguments[2]));
        if (failure != null) {
          System.err.println("error: a task of the sink has failed, with " + SERVERS + " and the registry "
              + System.getenv("APICURIO_V2_URL") + ": " + failure);
          System.exit(1);
        }
        if (!committed.equals(before)) {
          before = committed;
          moved = Instant.now();
        } else if (moved.plus(PATIENCE).isBefore(Instant.now())) {
          System.err.println("error: group " + group + " has stood still for " + PATIENCE.toSeconds() + " s, before " + left);
          System.exit(1);
        }
        Thread.sleep(200);
      }
    }
  }

  /** What a task has failed of. Null where none has, and while the worker starts, which does not answer yet. */
  private static String failure(URL status) {
    try {
      for (JsonNode task : new ObjectMapper().readTree(status).path("tasks")) {
        if (task.path("state").asText().equals("FAILED")) {
          List<String> causes = task.path("trace").asText().lines().filter(line -> line.startsWith("Caused by: ")).toList();
          return causes.isEmpty() ? task.path("trace").asText() : causes.get(causes.size() - 1);
        }
      }
      return null;
    } catch (IOException starting) {
      return null;
    }
  }

  private static long offset(OffsetAndMetadata committed) {
    return committed == null ? 0 : committed.offset();
  }

  /** For each partition the offset behind its last record: a sink commits that, not the place behind the markers that follow. */
  private static Map<TopicPartition, Long> ends(String topic) {
    Map<String, Object> settings = Map.of(
        ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, SERVERS,
        ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed");
    Map<TopicPartition, Long> ends = new HashMap<>();
    try (var consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
      List<TopicPartition> partitions = consumer.partitionsFor(topic).stream()
          .map(found -> new TopicPartition(topic, found.partition()))
          .toList();
      consumer.assign(partitions);
      consumer.seekToBeginning(partitions);
      // With read_committed this is the last stable offset, behind the markers.
      Map<TopicPartition, Long> left = new HashMap<>(consumer.endOffsets(partitions));
      Instant limit = Instant.now().plus(PATIENCE);
      while (!left.isEmpty()) {
        if (Instant.now().isAfter(limit)) {
          throw new IllegalStateException("waited " + PATIENCE.toSeconds() + " s in vain for records up to " + left);
        }
        consumer.poll(Duration.ofMillis(500))
            .forEach(record -> ends.put(new TopicPartition(topic, record.partition()), record.offset() + 1));
        left.entrySet().removeIf(end -> consumer.position(end.getKey()) >= end.getValue());
      }
    }
    return ends;
  }
}
