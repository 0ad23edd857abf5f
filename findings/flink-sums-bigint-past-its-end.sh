#!/usr/bin/env bash
# Flink SQL 2.2.0: SUM of BIGINT that does not fit a BIGINT is another number, without an error.
#
# Expected   The SQL standard: a numeric value out of range is an exception (22003). Flink's documentation, "System (Built-in) Functions":
#            SUM is the sum over all input rows. Flink's own CAST of a number that does not fit does fail.
# Instead    The sum wraps around: 9223372036854775807 + 2 is -9223372036854775807. The job ends well; no error, no warning, no null.
#            SUM over DECIMAL is right.
# Matters    Change data has amounts as longs of minor units. A total over many accounts, or of a currency without minor units, that grows
#            past 9.2 * 10^18 turns negative in a report that nobody has reason to doubt.
# Project    examples/flink sums DECIMAL, and its README says why. So do the examples for Streams (addExact), Go (big.Int), Node (BigInt)
#            and ClickHouse (Int128), whose sum of Int64 wraps, too.
#
# A minute, most of it to fetch Flink.
. "$(dirname "$0")/support.bash"

flink=2.2.0

needs java
jars flink "org.apache.flink:flink-table-api-java-bridge:$flink" "org.apache.flink:flink-clients:$flink" \
  "org.apache.flink:flink-table-planner-loader:$flink" "org.apache.flink:flink-table-runtime:$flink" org.slf4j:slf4j-nop:1.7.36
echo "Flink $flink"

cat >"$folder/Sum.java" <<'JAVA'
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;

/** The last row of each query, or its error. */
public class Sum {
    public static void main(String[] queries) throws Exception {
        TableEnvironment flink = TableEnvironment.create(EnvironmentSettings.inBatchMode());
        for (String query : queries) {
            try (var rows = flink.executeSql(query).collect()) {
                Row last = null;
                while (rows.hasNext()) {
                    last = rows.next();
                }
                System.out.println(query + " -> " + last.getField(0));
            } catch (Exception exception) {
                System.out.println(query + " -> an error");
            }
        }
    }
}
JAVA

rows="(VALUES (CAST(9223372036854775807 AS BIGINT)), (CAST(2 AS BIGINT))) AS t(x)"
found=$(java -Xmx1g -cp "$folder/flink/*" "$folder/Sum.java" "SELECT SUM(x) FROM $rows" "SELECT SUM(CAST(x AS DECIMAL(19, 0))) FROM $rows" \
  "SELECT CAST('9223372036854775809' AS BIGINT)")
echo "$found"
[[ $found = *"SUM(x) FROM $rows -> -9223372036854775807"* ]] || changed "the sum of BIGINT is another one, or an error"
[[ $found = *"DECIMAL(19, 0))) FROM $rows -> 9223372036854775809"* ]] || changed "the sum of DECIMAL is wrong"
[[ $found = *"AS BIGINT) -> an error" ]] || changed "a number that does not fit is cast without an error"
echo SEEN
