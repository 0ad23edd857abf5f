//! How does an account become bytes? Field by field in the order of `avro/account.avsc`; tests hold that to apache-avro's writer.

use super::binary::Binary;
use super::definition::ACCOUNT;
use super::frame::Frame;
use crate::account::Account;

/// Writes accounts as framed Avro.
pub(crate) struct Encoder {
    frame: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(frame: Frame) -> Self {
        Self {
            frame: frame.bytes(&ACCOUNT),
        }
    }

    /// Appends `account` to `bytes`.
    pub(crate) fn encode(&self, account: &Account<'_>, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.frame);
        bytes.put_text(&account.public_id);
        bytes.put_text(account.lender_public_id);
        bytes.put_optional_text(account.account_reference_id.as_deref());
        bytes.put_optional_text(account.customer_reference_id.as_deref());
        bytes.put_optional_text(account.reference_id.as_deref());
        bytes.put_optional_long(account.total_amount);
        bytes.put_optional_long(account.balance_amount);
        bytes.put_optional_long(account.actual_balance_amount);
        bytes.put_optional_long(account.paid_amount);
        bytes.put_optional_long(account.balance_principal_amount);
        bytes.put_optional_long(account.balance_interest);
        bytes.put_optional_long(account.balance_fee);
        bytes.put_optional_long(account.minimum_due_amount);
        bytes.put_optional_text(account.currency.as_deref());
        bytes.put_optional_text(account.submitted_date.as_deref());
        bytes.put_optional_long(account.submitted_date_parsed);
        bytes.put_optional_text(account.due_date.as_deref());
        bytes.put_optional_long(account.due_date_parsed);
        bytes.put_optional_long(account.delinquent_days_on_submission);
        bytes.put_optional_text(account.loan_type.as_deref());
        bytes.put_optional_long(account.loan_type_unmapped_code);
        bytes.put_optional_text(account.status.as_deref());
        bytes.put_optional_long(account.status_unmapped_code);
        bytes.put_optional_text(account.merchant_name.as_deref());
        bytes.put_optional_text(account.lender_display_name.as_deref());
        bytes.put_optional_long(account.created_at);
        bytes.put_long(account.updated_at);
        bytes.put_optional_text(account.extra.as_deref());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use apache_avro::Schema;
    use apache_avro::types::Value;
    use apache_avro::writer::datum::GenericDatumWriter;
    use proptest::prelude::*;

    use super::*;
    use crate::cases::cases;

    /// The judge of what is written here.
    pub(in crate::avro) fn writer(schema: &Schema) -> GenericDatumWriter<'_> {
        let writer = GenericDatumWriter::builder(schema).human_readable(false).build();
        writer.expect("the schema refers to no other")
    }

    fn any_text() -> impl Strategy<Value = Option<String>> {
        prop::option::of(prop_oneof![
            ".{0,12}",
            (60usize..70).prop_map(|length| "ä".repeat(length)),
            (8_185usize..8_200).prop_map(|length| "0".repeat(length))
        ])
    }

    /// Also beside where a long takes a byte more.
    fn any_long() -> impl Strategy<Value = Option<i64>> {
        let edge = (0u32..64, -1i64..2, any::<bool>()).prop_map(|(bit, beside, is_negative)| {
            let edge = (1i64 << bit).wrapping_add(beside);
            if is_negative { edge.wrapping_neg() } else { edge }
        });
        prop::option::of(prop_oneof![edge, any::<i64>(), -200i64..200])
    }

    pub(in crate::avro) fn any_account() -> impl Strategy<Value = Account<'static>> {
        let texts = prop::array::uniform12(any_text());
        let longs = prop::array::uniform12(any_long());
        (texts, longs, any::<Option<i32>>(), any::<Option<i32>>()).prop_map(|(texts, longs, submitted, due)| {
            let mut texts = texts.into_iter();
            let mut text = || texts.next().expect("twelve").map(Into::into);
            let mut longs = longs.into_iter();
            let mut long = || longs.next().expect("twelve");
            Account {
                public_id: text().unwrap_or_default(),
                lender_public_id: "5f0c0000-0000-4000-8000-000000000001",
                account_reference_id: text(),
                customer_reference_id: text(),
                reference_id: text(),
                total_amount: long(),
                balance_amount: long(),
                actual_balance_amount: long(),
                paid_amount: long(),
                balance_principal_amount: long(),
                balance_interest: long(),
                balance_fee: long(),
                minimum_due_amount: long(),
                currency: text(),
                submitted_date: text(),
                submitted_date_parsed: submitted,
                due_date: text(),
                due_date_parsed: due,
                delinquent_days_on_submission: long(),
                loan_type: text(),
                loan_type_unmapped_code: long(),
                status: text(),
                status_unmapped_code: long(),
                merchant_name: text(),
                lender_display_name: text(),
                created_at: due.map(|day| i64::from(day) << 20),
                updated_at: long().unwrap_or_default(),
                extra: text().map(std::borrow::Cow::into_owned),
            }
        })
    }

    proptest! {
        #![proptest_config(cases(2_000))]

        #[test]
        fn any_account_becomes_the_bytes_of_apache_avro(account in any_account()) {
            let (mut bytes, mut expected) = (vec![7], vec![7, 0, 0, 0, 1, 2]);
            Encoder::new(Frame::Confluent { schema_id: 258 }).encode(&account, &mut bytes);
            writer(ACCOUNT.schema()).write_ser(&mut expected, &account).expect("encodable");
            prop_assert_eq!(bytes, expected);
        }
    }

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
        Encoder::new(Frame::Confluent { schema_id: 258 }).encode(&account, &mut bytes);
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
        Encoder::new(Frame::SingleObject).encode(&account, &mut bytes);
        assert_eq!(bytes[..2], [0xC3, 0x01]);
        assert_eq!(bytes[2..10], FINGERPRINT);
        assert_eq!(decode(&bytes[10..])[0].1, Value::String("a".into()));
    }
}
