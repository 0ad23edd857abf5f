//! How does a change become bytes? Up to `after` by apache-avro's typed writer; `after` is the account as it is written to
//! `accounts`, because a record in a record is its bytes and nothing else. A test holds the whole to the typed writer.

use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::writer::datum::GenericDatumWriter;
use serde::Serialize;

use super::definition::CHANGE;
use super::encode::{EncodeError, writer};
use super::frame::Frame;
use crate::account::{Changed, Tracked};

/// A change without `after`: the fields of `avro/account_change.avsc`, in its order.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct ChangeHead<'a> {
    pub public_id: &'a str,
    pub lender_public_id: &'a str,
    /// A letter, as in the header `__op`.
    pub op: &'static str,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    /// Milliseconds since the epoch.
    pub previous_updated_at: Option<i64>,
    pub changed: Changed,
    pub before: Option<&'a Tracked<'a>>,
}

/// [`CHANGE`] without its last field, `after`.
static HEAD: LazyLock<Schema> = LazyLock::new(|| {
    let mut schema: serde_json::Value = serde_json::from_str(CHANGE.text).expect("a unit test parses the schema files");
    let fields = schema["fields"].as_array_mut().expect("a record has fields");
    fields.pop();
    Schema::parse(&schema).expect("a record without its last field is a record")
});

/// Writes changes as framed Avro.
pub(crate) struct ChangeEncoder {
    writer: GenericDatumWriter<'static>,
    frame: Vec<u8>,
}

impl ChangeEncoder {
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            writer: writer(&HEAD),
            frame: frame.bytes(&CHANGE),
        }
    }

    /// Appends the frame and everything before `after` to `bytes`; [`after`] follows.
    ///
    /// # Errors
    /// When it does not fit the schema, which the type rules out; `bytes` is then as before.
    pub(crate) fn encode(&self, head: &ChangeHead<'_>, bytes: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = bytes.len();
        bytes.extend_from_slice(&self.frame);
        self.writer.write_ser(bytes, head).map(drop).map_err(|error| {
            bytes.truncate(start);
            EncodeError::from(error)
        })
    }
}

/// What stands before the account in `after`, a union of null and an account; alone where there is none.
pub(crate) const fn after(is_there: bool) -> u8 {
    // The branch's place, as Avro writes a long.
    if is_there { 2 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, Content};
    use crate::avro::{ACCOUNT, Encoder};

    fn file(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    #[derive(Serialize)]
    struct Change<'a> {
        public_id: &'a str,
        lender_public_id: &'a str,
        op: &'static str,
        updated_at: i64,
        previous_updated_at: Option<i64>,
        changed: Changed,
        before: Option<Tracked<'a>>,
        after: Option<Account<'a>>,
    }

    #[test]
    fn the_parts_are_what_the_typed_writer_makes_of_the_whole() {
        let account = Account {
            public_id: "a-1".into(),
            lender_public_id: "l-1",
            balance_amount: Some(i64::MAX),
            currency: Some("KWD".into()),
            due_date: Some("22/02/2026".into()),
            due_date_parsed: Some(20_506),
            updated_at: 1_780_000_000_123,
            ..Account::default()
        };
        let tracked = Tracked {
            balance_amount: Some(-1),
            status: Some("5".into()),
            status_unmapped_code: Some(5),
            due_date_parsed: Some(1),
            ..Tracked::default()
        };
        let (from, to) = (tracked.clone(), Tracked::default());
        let changed = Changed::between(&Content { tracked: from, rest: 1 }, &Content { tracked: to, rest: 2 });
        let frame = Frame::Confluent { schema_id: 9 };
        let mut value = Vec::new();
        Encoder::new(frame).encode(&account, &mut value).expect("encodable");
        for (before, is_there) in [(None, true), (Some(tracked), false), (before_of_all(), true)] {
            let head = ChangeHead {
                public_id: "a-1",
                lender_public_id: "l-1",
                op: "u",
                updated_at: 1_780_000_000_123,
                previous_updated_at: before.as_ref().map(|_| -1),
                changed,
                before: before.as_ref(),
            };
            let mut parts = Vec::new();
            ChangeEncoder::new(frame).encode(&head, &mut parts).expect("encodable");
            parts.push(after(is_there));
            if is_there {
                parts.extend_from_slice(&value[5..]);
            }
            let whole = Change {
                public_id: "a-1",
                lender_public_id: "l-1",
                op: "u",
                updated_at: 1_780_000_000_123,
                previous_updated_at: before.as_ref().map(|_| -1),
                changed,
                before: before.clone(),
                after: is_there.then(|| account.clone()),
            };
            let mut expected = vec![0, 0, 0, 0, 9];
            writer(CHANGE.schema())
                .write_ser(&mut expected, &whole)
                .expect("encodable");
            assert_eq!(parts, expected);
        }
    }

    fn before_of_all() -> Option<Tracked<'static>> {
        Some(Tracked {
            total_amount: Some(1),
            balance_amount: Some(2),
            actual_balance_amount: Some(3),
            paid_amount: Some(4),
            balance_principal_amount: Some(5),
            balance_interest: Some(6),
            balance_fee: Some(7),
            minimum_due_amount: Some(8),
            currency: Some("AED".into()),
            due_date: Some("x".into()),
            due_date_parsed: None,
            status: Some("y".into()),
            status_unmapped_code: None,
            delinquent_days_on_submission: Some(9),
        })
    }

    #[test]
    fn after_is_the_account_of_the_other_file_field_by_field() {
        let (change, mut account) = (file(CHANGE.text), file(ACCOUNT.text));
        let fields = change["fields"].as_array().expect("fields");
        let last = fields.last().expect("a field");
        assert_eq!(last["name"], "after");
        assert_eq!(last["type"][1], account.take());
        assert_eq!(
            format!(
                "{}.{}",
                change["namespace"].as_str().unwrap(),
                change["name"].as_str().unwrap()
            ),
            CHANGE.name
        );
    }

    #[test]
    fn tracked_fields_are_documented_and_typed_as_in_the_account() {
        let (change, account) = (file(CHANGE.text), file(ACCOUNT.text));
        let fields = change["fields"].as_array().expect("fields");
        let before = fields.iter().find(|field| field["name"] == "before").expect("before");
        let tracked = before["type"][1]["fields"].as_array().expect("fields");
        assert_eq!(tracked.len(), 14);
        let of_account = account["fields"].as_array().expect("fields");
        assert!(tracked.iter().all(|field| of_account.contains(field)));
    }
}
