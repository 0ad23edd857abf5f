//! What do a value's bytes say? The frame told apart, and the Avro behind it as natural JSON.
//!
//! | Avro | JSON |
//! |---|---|
//! | record, map, array | object (a record's fields in their order), array |
//! | union | the value that it holds |
//! | date, timestamp | `"2026-02-22"`, RFC 3339; the number where no calendar has it |
//! | bytes, fixed, decimal, duration | `"0x…"`, the bytes in hexadecimal |

use std::fmt::Write as _;
use std::io::{self, Read};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use chrono::{DateTime, SecondsFormat, Utc};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

use super::definition::{ACCOUNT, CHANGE};

/// A value without its frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framed<'a> {
    Confluent { schema_id: u32, datum: &'a [u8] },
    SingleObject { fingerprint: [u8; 8], datum: &'a [u8] },
}

/// Why a value cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it is empty")]
    Empty,
    #[error("it begins with {}, neither Confluent's wire format nor an Avro single object", hexadecimal(.start))]
    NoFrame { start: Vec<u8> },
    #[error("it is an Avro single object of a schema that this program does not know, fingerprint {}", hexadecimal(.fingerprint))]
    UnknownFingerprint { fingerprint: [u8; 8] },
    #[error("its schema cannot be used")]
    Schema(#[source] apache_avro::Error),
    #[error("its bytes do not fit its schema")]
    Datum(#[source] apache_avro::Error),
    #[error("it ends before its schema does")]
    CutOff,
    #[error("its schema leaves {size} of its bytes unread")]
    LeftOver { size: usize },
    #[error("its schema is not {}", ACCOUNT.name)]
    NotOurs,
    #[error("the field `{field}` of its schema is no simple one")]
    NotSimple { field: String },
}

/// Tells the two frames apart.
///
/// # Errors
/// When `value` begins with neither.
pub(crate) fn unframe(value: &[u8]) -> Result<Framed<'_>, DecodeError> {
    if let Some((frame, datum)) = value.split_first_chunk::<5>()
        && let [0, id @ ..] = frame
    {
        let schema_id = u32::from_be_bytes(*id);
        return Ok(Framed::Confluent { schema_id, datum });
    }
    if let Some((frame, datum)) = value.split_first_chunk::<10>()
        && let [0xC3, 0x01, fingerprint @ ..] = *frame
    {
        return Ok(Framed::SingleObject { fingerprint, datum });
    }
    if value.is_empty() {
        return Err(DecodeError::Empty);
    }
    let start = value.iter().take(10).copied().collect();
    Err(DecodeError::NoFrame { start })
}

/// Reads values that one schema wrote.
#[derive(Debug)]
pub(crate) struct Decoder {
    schema: Schema,
}

impl Decoder {
    /// # Errors
    /// When `schema` is no Avro schema, or refers to others.
    pub(crate) fn new(schema: &str) -> Result<Self, DecodeError> {
        let schema = Schema::parse_str(schema).map_err(DecodeError::Schema)?;
        Ok(Self { schema })
    }

    /// For the single objects of `fingerprint`.
    ///
    /// # Errors
    /// When it is that of no schema of this version.
    pub(crate) fn of_fingerprint(wanted: [u8; 8]) -> Result<Self, DecodeError> {
        let known = [&ACCOUNT, &CHANGE]
            .into_iter()
            .find(|schema| schema.fingerprint() == wanted);
        let schema = known.ok_or(DecodeError::UnknownFingerprint { fingerprint: wanted })?;
        Ok(Self {
            schema: schema.schema().clone(),
        })
    }

    /// # Errors
    /// When `datum` is not exactly one value of the schema.
    pub(crate) fn decode(&self, datum: &[u8]) -> Result<Decoded, DecodeError> {
        let reader = GenericDatumReader::builder(&self.schema)
            .build()
            .map_err(DecodeError::Schema)?;
        let mut bytes = Bytes {
            left: datum,
            is_cut_off: false,
        };
        let value = reader.read_value(&mut bytes);
        match (value, bytes) {
            // Before its outcome: apache-avro takes a union that is not there for null.
            (_, Bytes { is_cut_off: true, .. }) => Err(DecodeError::CutOff),
            (Err(error), _) => Err(DecodeError::Datum(error)),
            (Ok(value), Bytes { left: [], .. }) => Ok(Decoded(value)),
            (Ok(_), Bytes { left, .. }) => Err(DecodeError::LeftOver { size: left.len() }),
        }
    }
}

/// Remembers that more was asked for than there is.
struct Bytes<'a> {
    left: &'a [u8],
    is_cut_off: bool,
}

impl Read for Bytes<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.left.read(buffer)?;
        self.is_cut_off |= size < buffer.len();
        Ok(size)
    }
}

/// A value, to be written as natural JSON.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Decoded(Value);

impl Serialize for Decoded {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Natural(&self.0).serialize(serializer)
    }
}

struct Natural<'a>(&'a Value);

impl Serialize for Natural<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Boolean(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i32(*value),
            Value::Long(value) => serializer.serialize_i64(*value),
            // JSON has no number for these, and serde_json would say null.
            Value::Float(value) if !value.is_finite() => serializer.collect_str(value),
            Value::Double(value) if !value.is_finite() => serializer.collect_str(value),
            Value::Float(value) => serializer.serialize_f32(*value),
            Value::Double(value) => serializer.serialize_f64(*value),
            Value::String(text) | Value::Enum(_, text) => serializer.serialize_str(text),
            Value::Union(_, value) => Natural(value).serialize(serializer),
            Value::Array(values) => {
                let mut array = serializer.serialize_seq(Some(values.len()))?;
                values
                    .iter()
                    .try_for_each(|value| array.serialize_element(&Natural(value)))?;
                array.end()
            }
            Value::Map(values) => {
                let mut values: Vec<_> = values.iter().collect();
                values.sort_by_key(|(name, _)| *name);
                let mut object = serializer.serialize_map(Some(values.len()))?;
                values
                    .into_iter()
                    .try_for_each(|(name, value)| object.serialize_entry(name, &Natural(value)))?;
                object.end()
            }
            Value::Record(fields) => {
                let mut object = serializer.serialize_map(Some(fields.len()))?;
                fields
                    .iter()
                    .try_for_each(|(name, value)| object.serialize_entry(name, &Natural(value)))?;
                object.end()
            }
            Value::Date(days) => {
                let day = DateTime::from_timestamp(i64::from(*days) * 86_400, 0);
                or_number(
                    serializer,
                    day.map(|day| day.date_naive().to_string()),
                    i64::from(*days),
                )
            }
            Value::TimeMillis(millis) => {
                let time = DateTime::from_timestamp_millis(i64::from(*millis));
                or_number(serializer, time.map(|time| time.time().to_string()), i64::from(*millis))
            }
            Value::TimeMicros(micros) => {
                let time = DateTime::from_timestamp_micros(*micros);
                or_number(serializer, time.map(|time| time.time().to_string()), *micros)
            }
            Value::TimestampMillis(millis) => {
                let at = DateTime::from_timestamp_millis(*millis);
                or_number(serializer, at.map(|at| utc(at, SecondsFormat::Millis)), *millis)
            }
            Value::TimestampMicros(micros) => {
                let at = DateTime::from_timestamp_micros(*micros);
                or_number(serializer, at.map(|at| utc(at, SecondsFormat::Micros)), *micros)
            }
            Value::TimestampNanos(nanos) => {
                serializer.serialize_str(&utc(DateTime::from_timestamp_nanos(*nanos), SecondsFormat::Nanos))
            }
            Value::LocalTimestampMillis(millis) => {
                let at = DateTime::from_timestamp_millis(*millis);
                or_number(serializer, at.map(|at| local(at, SecondsFormat::Millis)), *millis)
            }
            Value::LocalTimestampMicros(micros) => {
                let at = DateTime::from_timestamp_micros(*micros);
                or_number(serializer, at.map(|at| local(at, SecondsFormat::Micros)), *micros)
            }
            Value::LocalTimestampNanos(nanos) => {
                serializer.serialize_str(&local(DateTime::from_timestamp_nanos(*nanos), SecondsFormat::Nanos))
            }
            Value::Uuid(id) => serializer.collect_str(id),
            Value::BigDecimal(number) => serializer.collect_str(number),
            Value::Bytes(bytes) | Value::Fixed(_, bytes) => serializer.serialize_str(&hexadecimal(bytes)),
            // The scale stands in the schema alone.
            Value::Decimal(number) => {
                let bytes = Vec::try_from(number).map_err(serde::ser::Error::custom)?;
                serializer.serialize_str(&hexadecimal(&bytes))
            }
            Value::Duration(duration) => serializer.serialize_str(&hexadecimal(&<[u8; 12]>::from(*duration))),
        }
    }
}

fn utc(at: DateTime<Utc>, digits: SecondsFormat) -> String {
    at.to_rfc3339_opts(digits, true)
}

fn local(at: DateTime<Utc>, digits: SecondsFormat) -> String {
    utc(at, digits).trim_end_matches('Z').to_owned()
}

fn or_number<S: Serializer>(serializer: S, text: Option<String>, number: i64) -> Result<S::Ok, S::Error> {
    match text {
        Some(text) => serializer.serialize_str(&text),
        None => serializer.serialize_i64(number),
    }
}

/// `0x` and two digits a byte.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold("0x".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::avro::{Encoder, Frame};

    fn encoded(account: &Account<'_>, frame: Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::new(frame).encode(account, &mut bytes);
        bytes
    }

    fn account() -> Account<'static> {
        Account {
            public_id: "a-1".into(),
            lender_public_id: "l-1",
            balance_amount: Some(i64::MAX),
            currency: Some("KWD".into()),
            due_date: Some("22/02/2026".into()),
            due_date_parsed: Some(20_506),
            merchant_name: Some("\u{1b}[2J".into()),
            created_at: Some(-1),
            updated_at: 1_780_000_000_123,
            ..Account::default()
        }
    }

    #[test]
    fn what_the_encoder_wrote_is_read_back_behind_either_frame() {
        let confluent = encoded(&account(), Frame::Confluent { schema_id: 258 });
        let Framed::Confluent { schema_id: 258, datum } = unframe(&confluent).expect("framed") else {
            panic!("another frame");
        };
        let decoded = Decoder::new(ACCOUNT.text).and_then(|decoder| decoder.decode(datum));
        let decoded = decoded.expect("decodable");

        let single_object = encoded(&account(), Frame::SingleObject);
        let Framed::SingleObject { fingerprint, datum } = unframe(&single_object).expect("framed") else {
            panic!("another frame");
        };
        let again = Decoder::of_fingerprint(fingerprint).and_then(|decoder| decoder.decode(datum));
        assert_eq!(again.expect("decodable"), decoded);

        let json = serde_json::to_string(&decoded).expect("JSON");
        assert!(
            json.starts_with(r#"{"public_id":"a-1","lender_public_id":"l-1","account_reference_id":null,"#),
            "the fields stand in the schema's order: {json}"
        );
        for part in [
            r#""balance_amount":9223372036854775807,"#,
            r#""due_date":"22/02/2026","due_date_parsed":"2026-02-22","#,
            r#""merchant_name":"\u001b[2J","#,
            r#""created_at":"1969-12-31T23:59:59.999Z","updated_at":"2026-05-28T20:26:40.123Z","#,
        ] {
            assert!(json.contains(part), "{part} is not in {json}");
        }
    }

    #[test]
    fn a_change_is_a_single_object_by_the_fingerprint_of_its_schema() {
        let fingerprint = [0xfa, 0xfd, 0x84, 0x2f, 0x8d, 0x75, 0x91, 0x72];
        let decoder = Decoder::of_fingerprint(fingerprint).expect("a schema");
        // Deleted: no time before, nothing that changed, no version before, none after.
        let decoded = decoder.decode(b"\x02a\x02l\x02d\x01\0\0\0\0").expect("decodable");
        assert_eq!(
            serde_json::to_string(&decoded).expect("JSON"),
            r#"{"public_id":"a","lender_public_id":"l","op":"d","updated_at":"1969-12-31T23:59:59.999Z","previous_updated_at":null,"changed":[],"before":null,"after":null}"#
        );
    }

    #[test]
    fn every_kind_of_value_is_natural_json() {
        let json = |value| serde_json::to_string(&Decoded(value)).expect("JSON");
        for (value, expected) in [
            (Value::Union(1, Box::new(Value::Boolean(true))), "true"),
            (Value::Int(-1), "-1"),
            (Value::Double(0.5), "0.5"),
            (Value::Double(f64::NAN), r#""NaN""#),
            (Value::Float(f32::INFINITY), r#""inf""#),
            (Value::Enum(0, "RED".into()), r#""RED""#),
            (Value::Bytes(vec![0, 255]), r#""0x00ff""#),
            (Value::Fixed(1, vec![7]), r#""0x07""#),
            (Value::Array(vec![Value::Null, Value::Long(2)]), "[null,2]"),
            (
                Value::Map([("b".to_owned(), Value::Null), ("a".to_owned(), Value::Null)].into()),
                r#"{"a":null,"b":null}"#,
            ),
            (Value::Date(0), r#""1970-01-01""#),
            (Value::Date(i32::MAX), "2147483647"),
            (Value::TimeMillis(3_600_001), r#""01:00:00.001""#),
            (Value::TimestampMillis(i64::MAX), "9223372036854775807"),
            (Value::TimestampMicros(1), r#""1970-01-01T00:00:00.000001Z""#),
            (Value::LocalTimestampMillis(1), r#""1970-01-01T00:00:00.001""#),
            (Value::Decimal(vec![1, 0].into()), r#""0x0100""#),
        ] {
            assert_eq!(json(value), expected);
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let refused = |value: &[u8]| unframe(value).expect_err("refused").to_string();
        assert_eq!(refused(b""), "it is empty");
        assert_eq!(
            refused(b"{}"),
            "it begins with 0x7b7d, neither Confluent's wire format nor an Avro single object"
        );
        // A frame that is cut off is none.
        assert!(refused(&[0, 0, 0]).starts_with("it begins with 0x000000,"));
        assert!(refused(&[0xC3, 1, 2]).starts_with("it begins with 0xc30102,"));
        let foreign = Decoder::of_fingerprint([1; 8]).expect_err("refused").to_string();
        assert!(foreign.ends_with("fingerprint 0x0101010101010101"), "{foreign}");
        let referring = r#"{"type":"record","name":"R","fields":[{"name":"other","type":"Unknown"}]}"#;
        for schema in ["rubbish", referring] {
            let error = Decoder::new(schema).expect_err("refused");
            assert!(matches!(error, DecodeError::Schema(_)), "{error}");
        }
    }

    #[test]
    fn a_datum_that_is_cut_off_or_too_long_is_refused() {
        let mut bytes = encoded(&account(), Frame::SingleObject);
        let decoder = Decoder::new(ACCOUNT.text).expect("a schema");
        for end in 10..bytes.len() {
            let error = decoder.decode(&bytes[10..end]).expect_err("cut off");
            assert!(matches!(error, DecodeError::CutOff), "{error}");
        }
        // The third field's union has no branch 3.
        let error = decoder.decode(&[0, 0, 6]).expect_err("no such branch");
        assert!(matches!(error, DecodeError::Datum(_)), "{error}");
        bytes.push(0);
        let error = decoder.decode(&bytes[10..]).expect_err("too long");
        assert_eq!(error.to_string(), "its schema leaves 1 of its bytes unread");
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let decoder = Decoder::new(ACCOUNT.text).expect("a schema");
            let _ = decoder.decode(&bytes);
            let _ = unframe(&bytes);
        }
    }
}
