import io.apicurio.registry.serde.avro.AvroKafkaDeserializer;
import java.time.Duration;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.UUID;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.consumer.Consumer;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsException;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;

/** One run of a topology: from the beginning of its topics until it has caught up, and nothing is left of it afterwards. */
final class Application implements AutoCloseable {
  private static final Duration PATIENCE = Duration.ofMinutes(5);

  /** A service keeps its id, and goes on where it was. A report begins anew each time. */
  private final String id;

  private final KafkaStreams streams;
  /** What it has stopped of, if it has. */
  private volatile Throwable failure;

  private final Admin admin;
  private final Consumer<byte[], byte[]> consumer;

  Application(String name, StreamsBuilder builder) {
    id = name + "-" + UUID.randomUUID();
    String servers = System.getenv("BOOTSTRAP_SERVERS");
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, id);
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, servers);
    // Brings read_committed with it. The default, at_least_once, also counts what was rolled back.
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    // A table needs no changelog of its own: it is restored from `accounts`.
    settings.put(StreamsConfig.TOPOLOGY_OPTIMIZATION_CONFIG, StreamsConfig.OPTIMIZE);
    settings.put(StreamsConfig.STATE_DIR_CONFIG, System.getProperty("state.dir"));
    settings.put(StreamsConfig.DEFAULT_KEY_SERDE_CLASS_CONFIG, Serdes.StringSerde.class);
    // Values stay bytes, in the stores too, until somebody asks for them.
    settings.put(StreamsConfig.DEFAULT_VALUE_SERDE_CLASS_CONFIG, Serdes.ByteArraySerde.class);
    streams = new KafkaStreams(builder.build(settings), settings);
    streams.setUncaughtExceptionHandler(thrown -> {
      failure = thrown;
      return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
    });
    admin = Admin.create(Map.of(AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, servers));
    consumer = new KafkaConsumer<>(
        Map.of(ConsumerConfig.BOOTSTRAP_SERVERS_CONFIG, servers, ConsumerConfig.ISOLATION_LEVEL_CONFIG, "read_committed"),
        new ByteArrayDeserializer(),
        new ByteArrayDeserializer());
  }

  static String topic(String name) {
    return System.getenv().getOrDefault("TOPIC_PREFIX", "cleargrid.d02.") + name;
  }

  /** Confluent's wire format by Apicurio's deserialiser, whose defaults fit it: a 0, and a content id of four bytes. */
  static AvroKafkaDeserializer<GenericRecord> decoder() {
    AvroKafkaDeserializer<GenericRecord> decoder = new AvroKafkaDeserializer<>();
    // Apicurio's own API, not the Confluent-compatible one.
    decoder.configure(Map.of("apicurio.registry.url", System.getenv("APICURIO_URL")), false);
    return decoder;
  }

  static GenericRecord decode(AvroKafkaDeserializer<GenericRecord> decoder, String topic, byte[] value) {
    try {
      return decoder.deserialize(topic, value);
    } catch (RuntimeException error) {
      // "Connection refused" says neither where nor what for.
      String registry = System.getenv("APICURIO_URL");
      throw new IllegalStateException("cannot decode a value of " + topic + " by the schemas of " + registry + ": " + root(error), error);
    }
  }

  private static Throwable root(Throwable error) {
    return error.getCause() == null ? error : root(error.getCause());
  }

  /** Streams wraps what a topology throws, and repeats the whole stack in its message. */
  private static Throwable unwrapped(Throwable error) {
    return error instanceof StreamsException && error.getCause() != null ? unwrapped(error.getCause()) : error;
  }

  /** Processes what is committed in a topic now, and through the topic in which a `groupBy` repartitions it, if there is one. */
  KafkaStreams catchUp(String topic) throws Exception {
    Map<TopicPartition, Long> ends = ends(topic);
    streams.start();
    waitFor(ends);
    for (String internal : internalTopics()) {
      if (internal.endsWith("-repartition")) {
        waitFor(ends(internal));
      }
    }
    return streams;
  }

  /** Where what is committed ends now, in each partition that has any: where all was rolled back is nothing to process. */
  private Map<TopicPartition, Long> ends(String topic) {
    List<TopicPartition> partitions =
        consumer.partitionsFor(topic).stream().map(found -> new TopicPartition(topic, found.partition())).toList();
    consumer.assign(partitions);
    consumer.seekToBeginning(partitions);
    // With read_committed this is the last stable offset.
    Map<TopicPartition, Long> ends = new HashMap<>(consumer.endOffsets(partitions));
    Set<TopicPartition> unknown = new HashSet<>(partitions);
    while (!unknown.isEmpty()) {
      Set<TopicPartition> filled = consumer.poll(Duration.ofMillis(100)).partitions();
      consumer.pause(filled);
      unknown.removeAll(filled);
      unknown.removeIf(partition -> consumer.position(partition) >= ends.get(partition) && ends.remove(partition) != null);
    }
    return ends;
  }

  /** What Streams commits counts the markers of transactions, as the ends do, so they meet. */
  private void waitFor(Map<TopicPartition, Long> ends) throws Exception {
    long deadline = System.nanoTime() + PATIENCE.toNanos();
    Map<TopicPartition, Long> left = new HashMap<>(ends);
    while (true) {
      Map<TopicPartition, OffsetAndMetadata> committed =
          admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get();
      left.entrySet().removeIf(end -> {
        OffsetAndMetadata offset = committed.get(end.getKey());
        return offset != null && offset.offset() >= end.getValue();
      });
      // Before it runs, which it does for an empty topic too, its stores cannot be queried.
      if (left.isEmpty() && streams.state() == KafkaStreams.State.RUNNING) {
        return;
      }
      if (streams.state().hasStartedOrFinishedShuttingDown()) {
        throw new IllegalStateException("Streams has stopped of " + unwrapped(failure) + ", before it was at " + left);
      }
      if (System.nanoTime() > deadline) {
        throw new IllegalStateException("waited " + PATIENCE + " in vain: Streams is at " + committed + ", not at " + left);
      }
      Thread.sleep(100);
    }
  }

  private List<String> internalTopics() throws Exception {
    return admin.listTopics().names().get().stream().filter(name -> name.startsWith(id)).toList();
  }

  @Override
  public void close() throws Exception {
    // A member that stays, as is the default, would keep the group from being deleted.
    streams.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
    streams.cleanUp();
    consumer.close();
    admin.deleteTopics(internalTopics()).all().get();
    admin.deleteConsumerGroups(List.of(id)).all().get();
    admin.close();
  }
}
