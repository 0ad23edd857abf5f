//! How does an account become bytes?

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;

use super::definition::ACCOUNT;
use super::frame::Frame;
use crate::account::Account;
use crate::exit::{DEFECT, Diagnosis, ErrorCode};

#[derive(Debug, thiserror::Error)]
#[error("encoding an account as Avro")]
pub(crate) struct EncodeError(#[from] apache_avro::Error);

impl Diagnosis for EncodeError {
    fn code(&self) -> ErrorCode {
        DEFECT
    }

    fn advice(&self) -> &str {
        "this is a defect of the source: report it with this line"
    }
}

/// Writes accounts as framed Avro.
pub(crate) struct Encoder {
    writer: GenericDatumWriter<'static>,
    frame: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            writer: writer(ACCOUNT.schema()),
            frame: frame.bytes(&ACCOUNT),
        }
    }

    /// Appends `account` to `bytes`.
    ///
    /// # Errors
    /// When the account does not fit the schema, which the type rules out; `bytes` is then as before.
    pub(crate) fn encode(&self, account: &Account<'_>, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
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

pub(super) fn writer(schema: &'static Schema) -> GenericDatumWriter<'static> {
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
