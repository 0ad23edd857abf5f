//! How does a change become bytes? Up to `after` field by field in the order of `avro/account_change.avsc`; `after` is the account as it
//! is written to `accounts`, because a record in a record is its bytes and nothing else. Tests hold the whole to apache-avro's writer.

use super::binary::{Binary, NULL, PRESENT};
use super::definition::CHANGE;
use super::frame::Frame;
use crate::account::{Changed, Tracked};

/// A change without `after`: the fields of `avro/account_change.avsc`, in its order.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ChangeHead<'a> {
    pub public_id: &'a str,
    pub lender_public_id: &'a str,
    /// A letter, as in the header `__op`.
    pub op: &'a str,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    /// Milliseconds since the epoch.
    pub previous_updated_at: Option<i64>,
    pub changed: Changed,
    pub before: Option<&'a Tracked<'a>>,
}

/// Writes changes as framed Avro.
pub(crate) struct ChangeEncoder {
    frame: Vec<u8>,
}

impl ChangeEncoder {
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            frame: frame.bytes(&CHANGE),
        }
    }

    /// Appends the frame and everything before `after` to `bytes`; [`after`] follows.
    pub(crate) fn encode(&self, head: &ChangeHead<'_>, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.frame);
        bytes.put_text(head.public_id);
        bytes.put_text(head.lender_public_id);
        bytes.put_text(head.op);
        bytes.put_long(head.updated_at);
        bytes.put_optional_long(head.previous_updated_at);
        put_names(head.changed, bytes);
        match head.before {
            None => bytes.push(NULL),
            Some(tracked) => {
                bytes.push(PRESENT);
                put_tracked(tracked, bytes);
            }
        }
    }
}

/// An array in one block, which 0 ends.
fn put_names(changed: Changed, bytes: &mut Vec<u8>) {
    if !changed.is_empty() {
        bytes.put_long(changed.names().count() as i64);
        changed.names().for_each(|name| bytes.put_text(name));
    }
    bytes.put_long(0);
}

fn put_tracked(tracked: &Tracked<'_>, bytes: &mut Vec<u8>) {
    tracked
        .amounts()
        .into_iter()
        .for_each(|amount| bytes.put_optional_long(amount));
    bytes.put_optional_text(tracked.currency.as_deref());
    bytes.put_optional_text(tracked.due_date.as_deref());
    bytes.put_optional_long(tracked.due_date_parsed);
    bytes.put_optional_text(tracked.status.as_deref());
    bytes.put_optional_long(tracked.status_unmapped_code);
    bytes.put_optional_long(tracked.delinquent_days_on_submission);
}

/// What stands before the account in `after`, a union of null and an account; alone where there is none.
pub(crate) const fn after(is_there: bool) -> u8 {
    if is_there { PRESENT } else { NULL }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::ser::SerializeSeq;
    use serde::{Serialize, Serializer};

    use super::*;
    use crate::account::{Account, contents};
    use crate::avro::encode::tests::{any_account, writer};
    use crate::avro::{ACCOUNT, Encoder};
    use crate::cases::cases;

    fn file(text: &str) -> serde_json::Value {
        serde_json::from_str(text).expect("JSON")
    }

    impl Serialize for Changed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut names = serializer.serialize_seq(Some(self.names().count()))?;
            self.names().try_for_each(|name| names.serialize_element(name))?;
            names.end()
        }
    }

    #[derive(Serialize)]
    struct Change<'a> {
        public_id: &'a str,
        lender_public_id: &'a str,
        op: &'a str,
        updated_at: i64,
        previous_updated_at: Option<i64>,
        changed: Changed,
        before: Option<&'a Tracked<'a>>,
        after: Option<&'a Account<'a>>,
    }

    proptest! {
        #![proptest_config(cases(2_000))]

        #[test]
        fn any_change_becomes_the_bytes_of_apache_avro(
            account in any_account(),
            contents in (contents(), contents()),
            (has_before, is_there) in any::<(bool, bool)>(),
            op in "[rcud]",
            previous_updated_at in any::<Option<i64>>(),
            is_empty in prop::bool::weighted(0.1),
        ) {
            let frame = Frame::Confluent { schema_id: 9 };
            let (before, changed) = (&contents.0.tracked, Changed::between(&contents.0, &contents.1));
            let before = has_before.then_some(before);
            let changed = if is_empty { Changed::default() } else { changed };
            let head = ChangeHead {
                public_id: &account.public_id,
                lender_public_id: account.lender_public_id,
                op: &op,
                updated_at: account.updated_at,
                previous_updated_at,
                changed,
                before,
            };
            let mut parts = Vec::new();
            ChangeEncoder::new(frame).encode(&head, &mut parts);
            parts.push(after(is_there));
            if is_there {
                let mut value = Vec::new();
                Encoder::new(frame).encode(&account, &mut value);
                parts.extend_from_slice(&value[5..]);
            }
            let whole = Change {
                public_id: &account.public_id,
                lender_public_id: account.lender_public_id,
                op: &op,
                updated_at: account.updated_at,
                previous_updated_at,
                changed,
                before,
                after: is_there.then_some(&account),
            };
            let mut expected = vec![0, 0, 0, 0, 9];
            writer(CHANGE.schema()).write_ser(&mut expected, &whole).expect("encodable");
            prop_assert_eq!(parts, expected);
        }
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
