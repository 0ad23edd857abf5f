import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.utils.Utils;

/** Prints what happened to one account, oldest first: Trail PUBLIC_ID */
public final class Trail {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) {
    String publicId = arguments[0];
    String topic = D02.topic("changes");
    try (var consumer = D02.consumer(null); var decoder = D02.decoder()) {
      // The source partitions as Java producers do, so this is where the account's records are: no need to read the rest.
      int hash = Utils.toPositive(Utils.murmur2(publicId.getBytes(StandardCharsets.UTF_8)));
      int partition = hash % consumer.partitionsFor(topic).size();
      D02.readToEnd(consumer, List.of(new TopicPartition(topic, partition)), record -> {
        if (record.key().equals(publicId)) {
          System.out.println(line(decoder.deserialize(topic, record.headers(), record.value())));
        }
      });
    }
  }

  private static ObjectNode line(GenericRecord change) {
    GenericRecord before = (GenericRecord) change.get("before");
    GenericRecord after = (GenericRecord) change.get("after");
    ObjectNode line = JSON.createObjectNode();
    line.put("updated_at", (Long) change.get("updated_at"));
    line.put("op", change.get("op").toString());
    ArrayNode changed = line.putArray("changed");
    ((List<?>) change.get("changed")).forEach(field -> changed.add(field.toString()));
    for (String field : List.of("balance_amount", "due_date", "status")) {
      line.putArray(field).addPOJO(value(before, field)).addPOJO(value(after, field));
    }
    return line;
  }

  /** Avro's text is no String but prints as one. */
  private static Object value(GenericRecord version, String field) {
    Object value = version == null ? null : version.get(field);
    return value instanceof CharSequence ? value.toString() : value;
  }
}
