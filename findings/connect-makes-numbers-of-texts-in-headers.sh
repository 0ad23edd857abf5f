#!/usr/bin/env bash
# Kafka Connect 4.4.0: the default header converter reads a number at the beginning of a text and drops the rest of it.
#
# Expected   KIP-145 and the API documentation of SimpleHeaderConverter: a header value is written as text, and read as the number,
#            boolean, array or map that the text represents. So a text that represents none of them stays the text it is, and what one
#            worker reads another one writes as it was.
# Instead    A text is cut into tokens at `:`, `,` and the like, and the first one decides: `12:30:00` becomes the int8 12, `1,2` the
#            int8 1. What follows is gone, and no error or warning says so. A hexadecimal id whose only letter is an e becomes a float32
#            with seven digits of it. The text `null` is a NullPointerException, which ends the task. In 4.3.1 as well.
# Matters    Sources write ids, times and lists as text headers, and a sink with the default converter has another value, of a type that
#            differs from record to record; a mirror that converts headers writes it on.
# Project    Lists in headers begin with a name, text of upstream that would be `null` or JSON is left out of them
#            (docs/records.md, "Texts of headers"), and docs/consumers.md tells sinks to set header.converter to StringConverter.
#
# Seconds.
. "$(dirname "$0")/support.bash"

connect=4.4.0

needs java
jars connect "org.apache.kafka:connect-api:$connect" org.slf4j:slf4j-nop:1.7.36
echo "org.apache.kafka:connect-api $connect"

cat >"$folder/Convert.java" <<'JAVA'
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.connect.data.SchemaAndValue;
import org.apache.kafka.connect.storage.HeaderConverter;
import org.apache.kafka.connect.storage.SimpleHeaderConverter;
import org.apache.kafka.connect.storage.StringConverter;

/** What a text in a header becomes, and what is written of that again. */
public class Convert {
    public static void main(String[] texts) {
        for (String text : texts) {
            System.out.println(text + " | " + converted(new SimpleHeaderConverter(), text) + " | " + converted(new StringConverter(), text));
        }
    }

    private static String converted(HeaderConverter converter, String text) {
        converter.configure(Map.of("converter.type", "header"));
        try {
            SchemaAndValue made = converter.toConnectHeader("topic", "header", text.getBytes(StandardCharsets.UTF_8));
            byte[] again = converter.fromConnectHeader("topic", "header", made.schema(), made.value());
            return made.schema().type() + " " + new String(again, StandardCharsets.UTF_8);
        } catch (RuntimeException exception) {
            return exception.getClass().getSimpleName();
        }
    }
}
JAVA

expected='22/02/2026 | STRING 22/02/2026 | STRING 22/02/2026
12:30:00 | INT8 12 | STRING 12:30:00
1,2 | INT8 1 | STRING 1,2
612345678901234567890e12 | FLOAT32 6.123457E32 | STRING 612345678901234567890e12
null | NullPointerException | STRING null'
mapfile -t texts < <(cut -d' ' -f1 <<<"$expected")
found=$(java -Xmx256m -cp "$folder/connect/*" "$folder/Convert.java" "${texts[@]}")
echo "text | SimpleHeaderConverter | StringConverter"
echo "$found"
[ "$found" = "$expected" ] || changed "some of these texts become something else"
echo SEEN
