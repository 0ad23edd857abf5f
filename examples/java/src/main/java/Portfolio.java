import com.fasterxml.jackson.databind.ObjectMapper;
import java.math.BigDecimal;
import java.util.Currency;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import org.apache.avro.generic.GenericRecord;

/** Prints the portfolio as it stands: accounts and balance by currency, loan type and status. */
public final class Portfolio {
  private static final ObjectMapper JSON = new ObjectMapper();

  private record Group(String currency, String loanType, String status) {}

  private record Part(Group group, long balance) {}

  private record Total(long accounts, long balance) {}

  public static void main(String[] arguments) {
    String topic = D02.topic("accounts");
    Map<String, Part> accounts = new HashMap<>();
    try (var consumer = D02.consumer(null); var decoder = D02.decoder()) {
      D02.readToEnd(consumer, D02.partitions(consumer, topic), record -> {
        if (record.value() == null) {
          // A tombstone: the account is gone.
          accounts.remove(record.key());
        } else {
          // Compaction runs now and then, so several versions of an account may be there: the last one holds.
          accounts.put(record.key(), part(decoder.deserialize(topic, record.headers(), record.value())));
        }
      });
    }
    Map<String, Group> groups = new TreeMap<>();
    Map<Group, Total> totals = new HashMap<>();
    for (Part part : accounts.values()) {
      groups.put(part.group().toString(), part.group());
      totals.merge(part.group(), new Total(1, part.balance()), (sum, one) ->
          new Total(sum.accounts() + one.accounts(), Math.addExact(sum.balance(), one.balance())));
    }
    groups.values().forEach(group -> print(group, totals.get(group)));
  }

  private static Part part(GenericRecord account) {
    Group group = new Group(text(account, "currency"), text(account, "loan_type"), text(account, "status"));
    Long balance = (Long) account.get("balance_amount");
    // Null is not known, which is not 0; a report to people should say how many there are.
    return new Part(group, balance == null ? 0 : balance);
  }

  private static String text(GenericRecord account, String field) {
    Object value = account.get(field);
    return value == null ? null : value.toString();
  }

  private static void print(Group group, Total total) {
    // Without a currency nobody knows what its minor units are.
    String units = group.currency() == null
        ? null
        : BigDecimal.valueOf(total.balance(), Currency.getInstance(group.currency()).getDefaultFractionDigits())
            .toPlainString();
    System.out.println(JSON.createObjectNode()
        .put("currency", group.currency())
        .put("loan_type", group.loanType())
        .put("status", group.status())
        .put("accounts", total.accounts())
        .put("balance_minor", total.balance())
        .put("balance", units));
  }
}
