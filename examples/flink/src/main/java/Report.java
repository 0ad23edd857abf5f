import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.apache.flink.configuration.CoreOptions;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.table.api.TableResult;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;

/** Executes a file of SQL in a Flink of its own, and prints what its last statement gives: a line of JSON for each row. */
public final class Report {
  private static final ObjectMapper JSON = new ObjectMapper();

  public static void main(String[] arguments) throws Exception {
    String script = Files.readString(Path.of(arguments[0]));
    for (var variable : System.getenv().entrySet()) {
      script = script.replace("${" + variable.getKey() + "}", variable.getValue());
    }
    // Batch mode takes no table that upserts. A stream over bounded tables ends as well.
    TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
    // The default is a task for each core, at each step.
    flink.getConfig().set(CoreOptions.DEFAULT_PARALLELISM, 1);
    TableResult result = null;
    for (String statement : script.split(";")) {
      if (!statement.isBlank()) {
        result = flink.executeSql(statement);
      }
    }
    System.err.println("reads on to the end that the topic has now; behind a transaction that is open, that is when it ends");
    try {
      print(result);
    } catch (Exception error) {
      error.printStackTrace();
      // Of a dozen causes the last one says why: "Connection refused", but not where.
      System.err.println("error: " + arguments[0] + ", with " + System.getenv("BOOTSTRAP_SERVERS") + " and the registry "
          + System.getenv("SCHEMA_REGISTRY_URL") + ": " + root(error));
      // What Flink has started would go on.
      System.exit(1);
    }
  }

  private static Throwable root(Throwable error) {
    return error.getCause() == null ? error : root(error.getCause());
  }

  private static void print(TableResult result) throws Exception {
    List<String> columns = result.getResolvedSchema().getColumnNames();
    for (Row row : rows(result)) {
      Map<String, Object> line = new LinkedHashMap<>();
      columns.forEach(column -> line.put(column, row.getField(column)));
      System.out.println(JSON.writeValueAsString(line));
    }
  }

  /** The rows that are left in the end: a stream corrects a row by taking it back first. */
  private static List<Row> rows(TableResult result) throws Exception {
    List<Row> rows = new ArrayList<>();
    try (var changes = result.collect()) {
      while (changes.hasNext()) {
        Row row = changes.next();
        RowKind kind = row.getKind();
        row.setKind(RowKind.INSERT);
        if (kind == RowKind.INSERT || kind == RowKind.UPDATE_AFTER) {
          rows.add(row);
        } else {
          rows.remove(row);
        }
      }
    }
    return rows;
  }
}
