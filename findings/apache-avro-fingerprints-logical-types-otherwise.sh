#!/usr/bin/env bash
# apache-avro 0.22.0 (Rust): a single object whose schema has a logical type cannot be read by Java's Avro.
#
# Expected   Avro specification 1.12, "Parsing Canonical Form for Schemas": STRIP takes away every attribute but type, name, fields,
#            symbols, items, values and size, so logicalType too; PRIMITIVES then turns {"type":"int"} into "int". "Single-object
#            encoding" names a schema by the CRC-64-AVRO fingerprint of that form, so that any reader finds it.
# Instead    The crate strips logicalType and leaves {"type":"int"} where it stood: another form, another fingerprint. Without a
#            logical type it does turn {"type":"int"} into "int". Python's avro 1.12.2 makes the same mistake and so agrees with
#            the crate; fastavro 1.13.1 agrees with Java. So do not trust a comparison of two.
# Matters    Accounts have dates and timestamps, as most change data has. Whoever writes single objects in Rust and reads them in
#            Java has an error at each value, "Cannot resolve schema for fingerprint"; whoever compares schemas by fingerprint
#            takes one and the same for two.
# Project    src/avro/definition.rs makes the form anew from the crate's (`Parsed::of`), and a unit test holds the fingerprint of
#            avro/account.avsc to the one that Java gives it.
#
# A minute or two, most of it to compile the crate.
. "$(dirname "$0")/support.bash"

crate=0.22.0
java=1.12.2
avro=1.12.2
fastavro=1.13.1

needs cargo
python "avro==$avro" "fastavro==$fastavro"
jars java "org.apache.avro:avro:$java" org.slf4j:slf4j-nop:2.0.13
echo "apache-avro $crate (Rust), org.apache.avro:avro $java (Java), avro $avro and fastavro $fastavro (Python)"

plain='{"type":"record","name":"Account","fields":[{"name":"due_date","type":{"type":"int"}}]}'
logical='{"type":"record","name":"Account","fields":[{"name":"due_date","type":{"type":"int","logicalType":"date"}}]}'

rust "apache-avro = { version = \"=$crate\", default-features = false }" <<'RUST'
use apache_avro::types::Value;
use apache_avro::{GenericSingleObjectWriter, Schema};

/// The canonical form, and one value as a single object, in hexadecimal.
fn main() {
    let text = std::env::args().nth(1).expect("a schema");
    let schema = Schema::parse_str(&text).expect("valid");
    let mut bytes = Vec::new();
    let due_date = if text.contains("logicalType") { Value::Date(20506) } else { Value::Int(20506) };
    let account = Value::Record(vec![("due_date".to_owned(), due_date)]);
    let mut writer = GenericSingleObjectWriter::new_with_capacity(&schema, 64).expect("a writer");
    writer.write_value(account, &mut bytes).expect("encodable");
    println!("{}", schema.canonical_form());
    println!("{}", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
}
RUST

cat >"$folder/Read.java" <<'JAVA'
import java.util.HexFormat;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.generic.GenericData;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.avro.message.MissingSchemaException;

/** The canonical form, its fingerprint as a single object has it, and what becomes of a single object. */
public class Read {
    public static void main(String[] arguments) throws Exception {
        Schema schema = new Schema.Parser().parse(arguments[0]);
        System.out.println(SchemaNormalization.toParsingForm(schema));
        System.out.println(HexFormat.of().formatHex(SchemaNormalization.parsingFingerprint("CRC-64-AVRO", schema)));
        try {
            byte[] bytes = HexFormat.of().parseHex(arguments[1]);
            System.out.println("reads " + new BinaryMessageDecoder<>(new GenericData(), schema).decode(bytes));
        } catch (MissingSchemaException exception) {
            System.out.println("fails: " + exception.getMessage());
        }
    }
}
JAVA

cat >"$folder/forms.py" <<'PYTHON'
import json, sys
import avro.schema, fastavro.schema

print(avro.schema.parse(sys.argv[1]).canonical_form)
print(fastavro.schema.to_parsing_canonical_form(json.loads(sys.argv[1])))
PYTHON

for schema in "$plain" "$logical"; do
  { read -r rust_form; read -r object; } < <("$rust" "$schema")
  { read -r java_form; read -r java_fingerprint; read -r result; } < <(
    java -Xmx256m -cp "$folder/java/*" "$folder/Read.java" "$schema" "$object"
  )
  { read -r avro_form; read -r fastavro_form; } < <("$python" "$folder/forms.py" "$schema")
  echo "schema      $schema"
  echo "Java        $java_form, fingerprint $java_fingerprint"
  echo "fastavro    $fastavro_form"
  echo "Rust        $rust_form, fingerprint ${object:4:16}"
  echo "avro        $avro_form"
  echo "Java reads Rust's single object: $result"
  case $schema in
  "$plain") [[ $rust_form = "$java_form" && $result = reads* ]] || changed "they differ without a logical type too" ;;
  *) [[ $rust_form != "$java_form" && $result = fails* ]] || changed "the crate's form of a logical type is Java's" ;;
  esac
done
[ "$fastavro_form" = "$java_form" ] || changed "fastavro does not agree with Java"
[ "$avro_form" = "$rust_form" ] || changed "Python's avro does not agree with the crate"
echo SEEN
