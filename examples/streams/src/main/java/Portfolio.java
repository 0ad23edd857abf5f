import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;

/** Prints the portfolio as it stands: accounts and balance by currency, from a state store that is kept up to date. */
public final class Portfolio {
  private static final String STORE = "portfolio";
  private static final ObjectMapper JSON = new ObjectMapper();

  /** The sum of many longs may be none. */
  private record Total(long accounts, BigInteger balance) {
    static final Serde<Total> SERDE = Serdes.serdeFrom((topic, total) -> total.bytes(), (topic, bytes) -> of(bytes));

    private byte[] bytes() {
      byte[] sum = balance.toByteArray();
      return ByteBuffer.allocate(Long.BYTES + sum.length).putLong(accounts).put(sum).array();
    }

    private static Total of(byte[] bytes) {
      return new Total(ByteBuffer.wrap(bytes).getLong(), new BigInteger(bytes, Long.BYTES, bytes.length - Long.BYTES));
    }

    Total plus(long one) {
      return new Total(accounts + 1, balance.add(BigInteger.valueOf(one)));
    }

    /** Null, which deletes the row, when the last account is gone. */
    Total minus(long one) {
      return accounts == 1 ? null : new Total(accounts - 1, balance.subtract(BigInteger.valueOf(one)));
    }
  }

  public static void main(String[] arguments) throws Exception {
    String topic = Application.topic("accounts");
    try (var decoder = Application.decoder()) {
      StreamsBuilder builder = new StreamsBuilder();
      // A tombstone deletes its account from the table.
      builder.<String, byte[]>table(topic, Materialized.as("accounts"))
          .groupBy((publicId, value) -> {
            GenericRecord account = Application.decode(decoder, topic, value);
            Long balance = (Long) account.get("balance_amount");
            // Null is not known, which is not 0; a report to people should say how many there are.
            return KeyValue.pair(json(account.get("currency")), balance == null ? 0 : balance);
          }, Grouped.with(Serdes.String(), Serdes.Long()))
          // An account that changes, or goes, is taken from where it was.
          .aggregate(
              () -> new Total(0, BigInteger.ZERO),
              (currency, balance, total) -> total.plus(balance),
              (currency, balance, total) -> total.minus(balance),
              Materialized.<String, Total, KeyValueStore<Bytes, byte[]>>as(STORE)
                  .withKeySerde(Serdes.String())
                  .withValueSerde(Total.SERDE));
      try (var application = new Application("d02-portfolio", builder)) {
        var streams = application.catchUp(topic);
        var type = QueryableStoreTypes.<String, Total>keyValueStore();
        var store = streams.store(StoreQueryParameters.fromNameAndType(STORE, type));
        try (var totals = store.all()) {
          while (totals.hasNext()) {
            print(totals.next());
          }
        }
      }
    }
  }

  /** A key that is null would be left out by `groupBy`: the text `null` is a key as any. */
  private static String json(Object text) {
    try {
      return JSON.writeValueAsString(text == null ? null : text.toString());
    } catch (JsonProcessingException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  private static void print(KeyValue<String, Total> row) throws JsonProcessingException {
    ObjectNode line = JSON.createObjectNode();
    line.set("currency", JSON.readTree(row.key));
    System.out.println(line.put("accounts", row.value.accounts()).put("balance_minor", row.value.balance()));
  }
}
