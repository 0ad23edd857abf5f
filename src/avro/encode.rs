//! How does an [`Account`] become bytes, and what do they say? By apache-avro's typed writer, behind one of two frames;
//! `decode` is the way back.
//!
//! ```text
//! confluent      00 │ schema id, 4 bytes big-endian          │ Avro binary
//! single-object  C3 01 │ CRC-64-AVRO, 8 bytes little-endian  │ Avro binary
//! ```
//!
//! The files under `avro/` are the one truth; tests hold the types to them.

mod change;
mod decode;
mod layout;

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::rabin::Rabin;
use apache_avro::writer::datum::GenericDatumWriter;

use crate::account::Account;

pub use change::{ChangeEncoder, ChangeHead, after};
pub use decode::{DecodeError, Decoded, Decoder, Framed, hexadecimal, unframe};
pub use layout::Layout;

/// The values of `accounts`.
pub static ACCOUNT: Definition =
    Definition::new("cleargrid.d02.Account", include_str!("../../avro/account.avsc"), || {
        Parsed::of(ACCOUNT.text)
    });

/// The values of `changes`.
pub static CHANGE: Definition = Definition::new(
    "cleargrid.d02.AccountChange",
    include_str!("../../avro/account_change.avsc"),
    || Parsed::of(CHANGE.text),
);

/// A schema of this version, as it stands in a file under `avro/`.
pub struct Definition {
    /// The full name of the record, for subjects and single-object readers.
    pub name: &'static str,
    pub text: &'static str,
    parsed: LazyLock<Parsed>,
}

struct Parsed {
    schema: Schema,
    /// By its Parsing Canonical Form. apache-avro leaves `{"type":"int"}` of a logical type where Avro's specification, and
    /// so every Java reader, has `"int"`.
    canonical: Schema,
}

impl Parsed {
    fn of(text: &str) -> Self {
        let schema = Schema::parse_str(text).expect("a unit test parses the schema files");
        let simple = ["int", "long"].iter().fold(schema.canonical_form(), |form, primitive| {
            form.replace(&format!(r#"{{"type":"{primitive}"}}"#), &format!(r#""{primitive}""#))
        });
        let canonical = Schema::parse_str(&simple).expect("a canonical form is a schema");
        Self { schema, canonical }
    }
}

impl Definition {
    const fn new(name: &'static str, text: &'static str, parse: fn() -> Parsed) -> Self {
        Self {
            name,
            text,
            parsed: LazyLock::new(parse),
        }
    }

    fn schema(&self) -> &Schema {
        &self.parsed.schema
    }

    /// Avro's Parsing Canonical Form, over which fingerprints are made.
    pub fn canonical_form(&self) -> String {
        self.parsed.canonical.canonical_form()
    }

    /// The CRC-64-AVRO (Rabin) fingerprint, its bytes as they stand in a single object: little-endian.
    pub fn fingerprint(&self) -> [u8; 8] {
        let bytes = self.parsed.canonical.fingerprint::<Rabin>().bytes;
        bytes.try_into().expect("a CRC-64 has eight bytes")
    }
}

/// Whether values of both schemas are the same bytes: their canonical forms are.
pub fn is_laid_out_as(schema: &str, other: &str) -> bool {
    let [schema, other] = [schema, other].map(Schema::parse_str);
    matches!((schema, other), (Ok(schema), Ok(other)) if schema.canonical_form() == other.canonical_form())
}

/// What stands before the Avro binary of every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// Confluent wire format with the id that the registry gave.
    Confluent { schema_id: u32 },
    /// Avro single-object encoding; needs no registry.
    SingleObject,
}

#[derive(Debug, thiserror::Error)]
#[error("encoding an account as Avro")]
pub struct EncodeError(#[from] apache_avro::Error);

/// Writes accounts as framed Avro.
pub struct Encoder {
    writer: GenericDatumWriter<'static>,
    frame: Vec<u8>,
}

impl Frame {
    /// Its bytes before a value of `schema`.
    fn bytes(self, schema: &Definition) -> Vec<u8> {
        match self {
            Self::Confluent { schema_id } => [&[0][..], &schema_id.to_be_bytes()].concat(),
            Self::SingleObject => [&[0xC3, 0x01][..], &schema.fingerprint()].concat(),
        }
    }
}

impl Encoder {
    pub fn new(frame: Frame) -> Self {
        Self {
            writer: writer(ACCOUNT.schema()),
            frame: frame.bytes(&ACCOUNT),
        }
    }

    /// Appends `account` to `bytes`.
    ///
    /// # Errors
    /// When the account does not fit the schema, which the type rules out; `bytes` is then as before.
    pub fn encode(&self, account: &Account<'_>, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = bytes.len();
        bytes.extend_from_slice(&self.frame);
        match self.writer.write_ser(bytes, account) {
            Ok(_) => Ok(()),
            Err(error) => {
                bytes.truncate(start);
                Err(EncodeError(error))
            }
        }
    }
}

fn writer(schema: &'static Schema) -> GenericDatumWriter<'static> {
    let writer = GenericDatumWriter::builder(schema).human_readable(false).build();
    writer.expect("the schema refers to no other")
}

#[cfg(test)]
mod tests {
    use super::*;
    use apache_avro::types::Value;

    fn decode(bytes: &[u8]) -> Vec<(String, Value)> {
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(ACCOUNT.schema())
            .build()
            .expect("a reader");
        match reader.read_value(&mut &bytes[..]).expect("decodable") {
            Value::Record(fields) => fields,
            other => panic!("not a record: {other:?}"),
        }
    }

    #[test]
    fn every_field_of_the_schema_has_a_doc_and_a_default_but_three() {
        let schema: serde_json::Value = serde_json::from_str(ACCOUNT.text).expect("JSON");
        assert_eq!(
            format!(
                "{}.{}",
                schema["namespace"].as_str().unwrap(),
                schema["name"].as_str().unwrap()
            ),
            ACCOUNT.name
        );
        for field in schema["fields"].as_array().expect("fields") {
            let name = field["name"].as_str().expect("a name");
            assert!(
                field["doc"].as_str().is_some_and(|doc| doc.len() > 20),
                "{name} has no doc"
            );
            let required = ["public_id", "lender_public_id", "updated_at"].contains(&name);
            assert_eq!(field.get("default").is_none(), required, "{name}");
            assert_eq!(field["type"].is_array(), !required, "{name}");
        }
    }

    #[test]
    fn the_struct_has_the_fields_of_the_schema_in_its_order() {
        let schema: serde_json::Value = serde_json::from_str(ACCOUNT.text).expect("JSON");
        let in_schema: Vec<_> = schema["fields"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| f["name"].clone())
            .collect();
        let account = serde_json::to_string(&Account::default()).expect("JSON");
        let positions: Vec<_> = in_schema
            .iter()
            .map(|name| {
                account
                    .find(&format!("{name}:"))
                    .unwrap_or_else(|| panic!("{name} is not in the struct"))
            })
            .collect();
        assert!(positions.is_sorted(), "another order: {in_schema:?} {account}");
        assert_eq!(in_schema.len(), account.matches("\":").count());
    }

    #[test]
    fn confluent_frame_and_values_are_read_back() {
        let account = Account {
            public_id: "abc".into(),
            lender_public_id: "lender",
            balance_amount: Some(i64::MIN),
            due_date: Some("22/02/2026".into()),
            due_date_parsed: Some(20506),
            created_at: Some(-1),
            updated_at: 1_780_000_000_123,
            extra: Some("{}".into()),
            ..Account::default()
        };
        let mut bytes = vec![7];
        Encoder::new(Frame::Confluent { schema_id: 258 })
            .encode(&account, &mut bytes)
            .expect("encodable");
        assert_eq!(bytes[..6], [7, 0, 0, 0, 1, 2]);
        let fields: std::collections::HashMap<_, _> = decode(&bytes[6..]).into_iter().collect();
        let set = |value| Value::Union(1, Box::new(value));
        assert_eq!(fields["public_id"], Value::String("abc".into()));
        assert_eq!(fields["balance_amount"], set(Value::Long(i64::MIN)));
        assert_eq!(fields["due_date_parsed"], set(Value::Date(20506)));
        assert_eq!(fields["created_at"], set(Value::TimestampMillis(-1)));
        assert_eq!(fields["updated_at"], Value::TimestampMillis(1_780_000_000_123));
        assert_eq!(fields["paid_amount"], Value::Union(0, Box::new(Value::Null)));
    }

    #[test]
    fn single_object_frame_has_the_fingerprint_that_javas_avro_gives_the_schema() {
        // By `SchemaNormalization.parsingFingerprint` of org.apache.avro:avro:1.12.0, over avro/account.avsc.
        const FINGERPRINT: [u8; 8] = [0x3d, 0x02, 0xf9, 0xd3, 0x3c, 0x83, 0xf0, 0x0b];
        assert_eq!(ACCOUNT.canonical_form().len(), 1451);
        let account = Account {
            public_id: "a".into(),
            lender_public_id: "l",
            ..Account::default()
        };
        let mut bytes = Vec::new();
        Encoder::new(Frame::SingleObject)
            .encode(&account, &mut bytes)
            .expect("encodable");
        assert_eq!(bytes[..2], [0xC3, 0x01]);
        assert_eq!(bytes[2..10], FINGERPRINT);
        assert_eq!(decode(&bytes[10..])[0].1, Value::String("a".into()));
    }
}
