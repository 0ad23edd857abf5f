import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.util.List;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Materialized;

/** Prints each due date that moved, with the account's balance as it is now. */
public final class DueDates {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    String changes = Application.topic("changes");
    String accounts = Application.topic("accounts");
    try (var decoder = Application.decoder()) {
      StreamsBuilder builder = new StreamsBuilder();
      builder.<String, byte[]>stream(changes)
          .mapValues(value -> Application.decode(decoder, changes, value))
          .filter((publicId, change) -> dueDateMoved(change))
          // An inner join would pass over moves of accounts that are gone meanwhile.
          .leftJoin(
              builder.<String, byte[]>globalTable(accounts, Materialized.as("accounts")),
              (publicId, change) -> publicId,
              (publicId, change, account) ->
                  alert(publicId, change, account == null ? null : Application.decode(decoder, accounts, account)))
          .foreach((publicId, alert) -> System.out.println(alert));
      try (var application = new Application("d02-due-dates", builder)) {
        application.catchUp(changes);
      }
    }
  }

  private static boolean dueDateMoved(GenericRecord change) {
    return ((List<?>) change.get("changed")).stream().anyMatch(field -> field.toString().equals("due_date"));
  }

  private static ObjectNode alert(String publicId, GenericRecord change, GenericRecord account) {
    ObjectNode alert = JSON.createObjectNode()
        .put("public_id", publicId)
        .put("was", text((GenericRecord) change.get("before"), "due_date"))
        .put("is_now", text((GenericRecord) change.get("after"), "due_date"));
    return alert
        .put("currency", text(account, "currency"))
        .put("balance_minor", account == null ? null : (Long) account.get("balance_amount"));
  }

  /** Avro's text is no String. Null where there is no such version, too. */
  private static String text(GenericRecord version, String field) {
    Object value = version == null ? null : version.get(field);
    return value == null ? null : value.toString();
  }
}
