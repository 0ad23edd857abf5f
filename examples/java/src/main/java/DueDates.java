import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.time.LocalDate;
import java.util.List;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.errors.WakeupException;
import org.apache.kafka.common.header.Header;

/** Prints each due date that moves, by headers alone decided, until SIGTERM or Ctrl-C. */
public final class DueDates {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    String group = System.getenv().getOrDefault("GROUP", "due-dates-java");
    Thread main = Thread.currentThread();
    try (var consumer = D02.consumer(group); var decoder = D02.decoder()) {
      Runtime.getRuntime().addShutdownHook(new Thread(() -> end(consumer, main)));
      consumer.subscribe(List.of(D02.topic("changes")));
      while (true) {
        var records = consumer.poll(Duration.ofSeconds(1));
        for (ConsumerRecord<String, byte[]> record : records) {
          if (dueDateMoved(record)) {
            react(record, decoder.deserialize(record.topic(), record.headers(), record.value()));
          }
        }
        // First the effect, then the offsets: after a crash in between, the effect comes once more.
        consumer.commitSync();
      }
    } catch (WakeupException ended) {
      // As asked.
    }
  }

  private static boolean dueDateMoved(ConsumerRecord<String, byte[]> record) throws IOException {
    String changed = text(record, "d02.changed");
    if (changed == null) {
      return false;
    }
    // 0.1 wrote a JSON array.
    String[] names = changed.startsWith("[") ? JSON.readValue(changed, String[].class) : changed.split(",");
    return List.of(names).contains("due_date");
  }

  /** Text as upstream stored it, or null. */
  private static String text(ConsumerRecord<String, byte[]> record, String header) {
    Header found = record.headers().lastHeader(header);
    return found == null || found.value() == null ? null : new String(found.value(), StandardCharsets.UTF_8);
  }

  private static void react(ConsumerRecord<String, byte[]> record, GenericRecord change) throws IOException {
    GenericRecord after = (GenericRecord) change.get("after");
    Integer dueOn = (Integer) after.get("due_date_parsed");
    System.out.println(JSON.createObjectNode()
        .put("public_id", record.key())
        .put("was", text(record, "d02.previous_due_date"))
        .put("is_now", text(record, "d02.due_date"))
        .put("due_on", dueOn == null ? null : LocalDate.ofEpochDay(dueOn).toString())
        .put("balance_minor", (Long) after.get("balance_amount")));
  }

  private static void end(KafkaConsumer<?, ?> consumer, Thread main) {
    consumer.wakeup();
    try {
      main.join();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
