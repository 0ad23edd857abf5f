//! What of a value's content is remembered? Read by position out of Avro that any version of the account's schema wrote.
//!
//! A restart reads the tracked fields of every account. apache-avro's reader makes a value of each field first and takes
//! several times as long (`benches/hot_path.rs`); a test holds what is read here to what it reads.

use std::borrow::Cow;

use apache_avro::Schema;
use twox_hash::XxHash3_64;

use super::decode::DecodeError;
use super::definition::ACCOUNT;
use crate::account::{self, AMOUNT_COUNT, Changed, Content, Tracked};
use crate::varint;

/// Fields that are neither tracked nor derived nor part of a version's name, in the order in which they are hashed.
const REST: [&str; 10] = [
    "account_reference_id",
    "customer_reference_id",
    "reference_id",
    "submitted_date",
    "loan_type",
    "loan_type_unmapped_code",
    "merchant_name",
    "lender_display_name",
    "created_at",
    "extra",
];

/// How values of one writer's schema are laid out.
#[derive(Debug)]
pub(crate) struct Layout {
    fields: Vec<(Destination, Shape)>,
}

/// Where a field's value goes.
#[derive(Debug, Clone, Copy)]
enum Destination {
    Amount(usize),
    Currency,
    DueDate,
    Status,
    StatusCode,
    DelinquentDays,
    /// By its place in [`REST`].
    Rest(usize),
    /// Derived, part of the version's name, or of a schema that is newer than this program.
    Nowhere,
}

impl Destination {
    fn of(name: &str) -> Self {
        let place = |names: &[&str]| names.iter().position(|other| *other == name);
        match name {
            "currency" => Self::Currency,
            "due_date" => Self::DueDate,
            "status" => Self::Status,
            "status_unmapped_code" => Self::StatusCode,
            "delinquent_days_on_submission" => Self::DelinquentDays,
            _ => match (place(&Changed::NAMES[..AMOUNT_COUNT]), place(&REST)) {
                (Some(place), _) => Self::Amount(place),
                (None, Some(place)) => Self::Rest(place),
                (None, None) => Self::Nowhere,
            },
        }
    }
}

/// How many bytes a value takes, as far as that is not told by what stands before it.
#[derive(Debug)]
enum Shape {
    Fixed(usize),
    /// An int, a long, the place in an enum.
    Number,
    /// A string or bytes.
    Text,
    /// Null or a number, in this order, as most fields are.
    OptionalNumber,
    /// Null or a text.
    OptionalText,
    Union(Vec<Shape>),
}

/// A value, where it is one that a field of ours can hold.
enum Read<'v> {
    Number(i64),
    Text(&'v [u8]),
    Other,
}

impl<'v> Read<'v> {
    fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(_) | Self::Other => None,
        }
    }

    fn text(&self) -> Option<&'v str> {
        match self {
            Self::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Self::Number(_) | Self::Other => None,
        }
    }
}

impl Layout {
    /// The layout of what this program writes.
    pub(crate) fn current() -> Self {
        Self::of(ACCOUNT.schema()).expect("the schema file is a record of simple fields")
    }

    /// # Errors
    /// When `schema` is no Avro schema, or no version of the account's.
    pub(crate) fn new(schema: &str) -> Result<Self, DecodeError> {
        Self::of(&Schema::parse_str(schema).map_err(DecodeError::Schema)?)
    }

    fn of(schema: &Schema) -> Result<Self, DecodeError> {
        let Schema::Record(record) = schema else {
            return Err(DecodeError::NotOurs);
        };
        if record.name.fullname(None) != ACCOUNT.name {
            return Err(DecodeError::NotOurs);
        }
        let fields = record.fields.iter().map(|field| match shape(&field.schema) {
            Some(shape) => Ok((Destination::of(&field.name), shape)),
            None => Err(DecodeError::NotSimple {
                field: field.name.clone(),
            }),
        });
        Ok(Self {
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// Reads one value.
    ///
    /// # Errors
    /// When `datum` ends before its schema does, or does not fit it.
    pub(crate) fn read<'v>(&self, datum: &'v [u8]) -> Result<Content<'v>, DecodeError> {
        let mut tracked = Tracked::default();
        let mut amounts = [None; AMOUNT_COUNT];
        let mut rest: [&[u8]; REST.len()] = [&[]; REST.len()];
        let mut left = datum;
        for (target, shape) in &self.fields {
            let start = left;
            let read = take(shape, &mut left)?;
            match *target {
                Destination::Amount(place) => amounts[place] = read.number(),
                Destination::Currency => tracked.currency = read.text().map(Cow::Borrowed),
                Destination::DueDate => tracked.due_date = read.text().map(Cow::Borrowed),
                Destination::Status => tracked.status = read.text().map(Cow::Borrowed),
                Destination::StatusCode => tracked.status_unmapped_code = read.number(),
                Destination::DelinquentDays => tracked.delinquent_days_on_submission = read.number(),
                Destination::Rest(place) => rest[place] = &start[..start.len() - left.len()],
                Destination::Nowhere => {}
            }
        }
        tracked.set_amounts(amounts);
        tracked.due_date_parsed = tracked.due_date.as_deref().and_then(account::day);
        let rest = hash(&rest);
        Ok(Content { tracked, rest })
    }
}

/// In one piece, without an allocation for any account of a usual size.
fn hash(rest: &[&[u8]; REST.len()]) -> u64 {
    let size: usize = rest.iter().map(|bytes| bytes.len() + 1).sum();
    let (mut buffer, mut long) = ([0; 1024], Vec::new());
    let input = match buffer.get_mut(..size) {
        Some(input) => input,
        None => {
            long.resize(size, 0);
            &mut long[..]
        }
    };
    let mut used = 0;
    for (place, bytes) in (0..).zip(rest) {
        // A field that an older schema does not have is as good as null.
        if !matches!(bytes, [] | [0]) {
            input[used] = place;
            input[used + 1..][..bytes.len()].copy_from_slice(bytes);
            used += 1 + bytes.len();
        }
    }
    XxHash3_64::oneshot(&input[..used])
}

/// `None`: a record, an array or a map, which no version of the schema has.
fn shape(schema: &Schema) -> Option<Shape> {
    Some(match schema {
        Schema::Null => Shape::Fixed(0),
        Schema::Boolean => Shape::Fixed(1),
        Schema::Float => Shape::Fixed(4),
        Schema::Double => Shape::Fixed(8),
        Schema::Fixed(fixed) => Shape::Fixed(fixed.size),
        Schema::Int
        | Schema::Long
        | Schema::Date
        | Schema::TimeMillis
        | Schema::TimeMicros
        | Schema::TimestampMillis
        | Schema::TimestampMicros
        | Schema::TimestampNanos
        | Schema::LocalTimestampMillis
        | Schema::LocalTimestampMicros
        | Schema::LocalTimestampNanos
        | Schema::Enum(_) => Shape::Number,
        Schema::Bytes | Schema::String | Schema::BigDecimal => Shape::Text,
        Schema::Union(union) => {
            let shapes: Vec<_> = union.variants().iter().map(shape).collect::<Option<_>>()?;
            match shapes[..] {
                [Shape::Fixed(0), Shape::Number] => Shape::OptionalNumber,
                [Shape::Fixed(0), Shape::Text] => Shape::OptionalText,
                _ => Shape::Union(shapes),
            }
        }
        Schema::Array(_)
        | Schema::Map(_)
        | Schema::Record(_)
        | Schema::Decimal(_)
        | Schema::Uuid(_)
        | Schema::Duration(_)
        | Schema::Ref { .. } => return None,
    })
}

fn take<'v>(shape: &Shape, left: &mut &'v [u8]) -> Result<Read<'v>, DecodeError> {
    match shape {
        Shape::Fixed(size) => take_bytes(*size, left).map(|_| Read::Other),
        Shape::Number => take_number(left).map(Read::Number),
        Shape::Text => take_text(left),
        Shape::OptionalNumber if take_is_there(left)? => take_number(left).map(Read::Number),
        Shape::OptionalText if take_is_there(left)? => take_text(left),
        Shape::OptionalNumber | Shape::OptionalText => Ok(Read::Other),
        Shape::Union(shapes) => {
            let place = usize::try_from(take_number(left)?).ok();
            let Some(shape) = place.and_then(|place| shapes.get(place)) else {
                return Err(DecodeError::CutOff);
            };
            take(shape, left)
        }
    }
}

/// Which of two a union is, of which the first is null.
fn take_is_there(left: &mut &[u8]) -> Result<bool, DecodeError> {
    match take_number(left)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::CutOff),
    }
}

fn take_text<'v>(left: &mut &'v [u8]) -> Result<Read<'v>, DecodeError> {
    let size = usize::try_from(take_number(left)?).map_err(|_| DecodeError::CutOff)?;
    take_bytes(size, left).map(Read::Text)
}

fn take_bytes<'v>(size: usize, left: &mut &'v [u8]) -> Result<&'v [u8], DecodeError> {
    let Some((taken, rest)) = left.split_at_checked(size) else {
        return Err(DecodeError::CutOff);
    };
    *left = rest;
    Ok(taken)
}

fn take_number(left: &mut &[u8]) -> Result<i64, DecodeError> {
    // No error is made, and dropped, where there is a number.
    let Some(number) = varint::take(left) else {
        return Err(DecodeError::CutOff);
    };
    Ok(varint::unzigzag(number))
}

#[cfg(test)]
mod tests {
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use proptest::prelude::*;

    use super::*;
    use crate::account::Account;
    use crate::avro::{Encoder, Frame, Framed, unframe};

    fn datum(account: &Account<'_>) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoder::new(Frame::SingleObject).encode(account, &mut bytes);
        match unframe(&bytes).expect("framed") {
            Framed::SingleObject { datum, .. } | Framed::Confluent { datum, .. } => datum.to_vec(),
        }
    }

    fn content(layout: &Layout, datum: &[u8]) -> String {
        // As text, because it borrows from the datum.
        format!("{:?}", layout.read(datum).expect("readable"))
    }

    /// The tracked fields by apache-avro's own reader, which knows nothing of this one.
    fn by_the_library(datum: &[u8]) -> serde_json::Value {
        let reader = GenericDatumReader::builder(ACCOUNT.schema()).build().expect("a reader");
        let Value::Record(fields) = reader.read_value(&mut &datum[..]).expect("decodable") else {
            panic!("not a record");
        };
        let plain = |value: &Value| match value {
            Value::Union(_, value) => match &**value {
                Value::Null => serde_json::Value::Null,
                Value::Long(number) => (*number).into(),
                Value::Date(number) => (*number).into(),
                Value::String(text) => text.clone().into(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        };
        let derived = ["due_date_parsed", "status_unmapped_code"];
        let is_tracked = |name: &str| Changed::NAMES.contains(&name) || derived.contains(&name);
        let fields = fields.iter().filter(|(name, _)| is_tracked(name));
        fields.map(|(name, value)| (name.clone(), plain(value))).collect()
    }

    fn text() -> impl Strategy<Value = Option<Cow<'static, str>>> {
        prop::option::of(".{0,20}".prop_map(Cow::Owned))
    }

    fn accounts() -> impl Strategy<Value = Account<'static>> {
        let texts = (text(), text(), text(), text(), text());
        let amounts = prop::array::uniform8(any::<Option<i64>>());
        let codes = (any::<Option<i64>>(), any::<Option<i64>>(), any::<Option<i64>>());
        let days = prop::option::of(-1_000i32..60_000);
        (texts, amounts, codes, days).prop_map(
            |((currency, status, loan_type, merchant_name, extra), amounts, codes, days)| {
                let due_date = days.map(|days| {
                    let day = chrono::NaiveDate::default() + chrono::TimeDelta::days(days.into());
                    Cow::Owned(day.format("%d/%m/%Y").to_string())
                });
                Account {
                    public_id: "a".into(),
                    lender_public_id: "l",
                    total_amount: amounts[0],
                    balance_amount: amounts[1],
                    actual_balance_amount: amounts[2],
                    paid_amount: amounts[3],
                    balance_principal_amount: amounts[4],
                    balance_interest: amounts[5],
                    balance_fee: amounts[6],
                    minimum_due_amount: amounts[7],
                    currency,
                    due_date,
                    due_date_parsed: days,
                    delinquent_days_on_submission: codes.0,
                    loan_type,
                    loan_type_unmapped_code: codes.1,
                    status,
                    status_unmapped_code: codes.2,
                    merchant_name,
                    extra: extra.map(Cow::into_owned),
                    ..Account::default()
                }
            },
        )
    }

    proptest! {
        #[test]
        fn the_tracked_fields_are_those_that_the_library_reads(account in accounts()) {
            let datum = datum(&account);
            let content = Layout::current().read(&datum).expect("readable");
            let tracked = serde_json::to_value(&content.tracked).expect("JSON");
            prop_assert_eq!(tracked, by_the_library(&datum));
        }

        #[test]
        fn the_rest_differs_exactly_if_a_field_of_it_does(one in accounts(), other in accounts()) {
            let layout = Layout::current();
            let rest = |account: &Account<'_>| layout.read(&datum(account)).expect("readable").rest;
            let fields = |account: &Account<'static>| {
                let Account { loan_type, loan_type_unmapped_code, merchant_name, extra, .. } = account.clone();
                (loan_type, loan_type_unmapped_code, merchant_name, extra)
            };
            prop_assert_eq!(rest(&one) == rest(&other), fields(&one) == fields(&other));
            let with_tracked_of_other = Account {
                total_amount: other.total_amount,
                currency: other.currency.clone(),
                due_date: other.due_date.clone(),
                updated_at: 9,
                public_id: "b".into(),
                ..one.clone()
            };
            prop_assert_eq!(rest(&one), rest(&with_tracked_of_other));
        }

        #[test]
        fn what_is_cut_off_is_refused_and_no_bytes_make_it_panic(account in accounts(), bytes: Vec<u8>) {
            let (layout, datum) = (Layout::current(), datum(&account));
            for end in 0..datum.len() {
                prop_assert!(layout.read(&datum[..end]).is_err());
            }
            let _ = layout.read(&bytes);
        }
    }

    #[test]
    fn a_version_with_other_fields_in_another_order_has_the_same_content() {
        let account = Account {
            public_id: "a".into(),
            lender_public_id: "l",
            balance_amount: Some(-5),
            status: Some("IN_COLLECTION".into()),
            merchant_name: Some("m".into()),
            due_date: Some("22/02/2026".into()),
            due_date_parsed: Some(20_506),
            ..Account::default()
        };
        let expected = content(&Layout::current(), &datum(&account));
        let mut schema: serde_json::Value = serde_json::from_str(ACCOUNT.text).expect("JSON");
        let fields = schema["fields"].as_array_mut().expect("fields");
        fields.retain(|field| field["name"] != "customer_reference_id");
        fields.reverse();
        let nothing_yet = serde_json::json!({"name": "score", "type": ["null", "double", "boolean"], "default": null});
        fields.insert(3, nothing_yet);
        let fields = fields.clone();
        let mut other = Vec::new();
        for field in &fields {
            let put_text = |text: &str, other: &mut Vec<u8>| {
                varint::put(varint::zigzag(text.len() as i64), other);
                other.extend_from_slice(text.as_bytes());
            };
            match field["name"].as_str().expect("a name") {
                "public_id" => put_text("a", &mut other),
                "lender_public_id" => put_text("l", &mut other),
                "updated_at" => other.push(0),
                "score" => other.extend([2, 1, 2, 3, 4, 5, 6, 7, 8]),
                "balance_amount" => other.extend([2, 9]),
                "due_date_parsed" => other.extend([2, 0]),
                name @ ("status" | "merchant_name" | "due_date") => {
                    other.push(2);
                    let texts = [
                        ("status", "IN_COLLECTION"),
                        ("merchant_name", "m"),
                        ("due_date", "22/02/2026"),
                    ];
                    let text = texts.iter().find(|(other, _)| *other == name).expect("one of them").1;
                    put_text(text, &mut other);
                }
                _ => other.push(0),
            }
        }
        let layout = Layout::new(&schema.to_string()).expect("a layout");
        assert_eq!(content(&layout, &other), expected);
    }

    #[test]
    fn a_schema_that_is_no_version_of_ours_is_refused_by_its_field() {
        let error = |schema: &str| Layout::new(schema).expect_err("refused").to_string();
        assert_eq!(error(r#""string""#), "its schema is not cleargrid.d02.Account");
        let other = r#"{"type":"record","name":"Account","fields":[{"name":"public_id","type":"string"}]}"#;
        assert_eq!(error(other), "its schema is not cleargrid.d02.Account");
        let nested = r#"{"type":"record","name":"cleargrid.d02.Account","fields":[{"name":"tags","type":{"type":"array","items":"string"}}]}"#;
        assert_eq!(error(nested), "the field `tags` of its schema is no simple one");
    }
}
