//! What is one D02 row worth? A typed [`Account`], or a [`Rejected`] row and why.
//!
//! ```text
//! row's JSON ─► members (names and raw values) ─┬─► Account   (docs/records.md, strictly)
//!                                               ├─► digest    (the content as upstream sent it)
//!                                               └─► invalid   (fields whose value did not fit)
//! ```
//!
//! Nothing here rounds, guesses or defaults: a value fits its field exactly, or it is kept as text and named.

mod digest;
mod number;
mod tracked;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use chrono::{DateTime, NaiveDate};
use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use digest::Digest;
pub use number::AmountTolerance;
use number::whole_number;
#[cfg(test)]
pub use tracked::tests::contents;
pub use tracked::{AMOUNT_COUNT, Changed, Content, Tracked};

/// A borrower account: the fields of `avro/account.avsc`, in its order. Amounts are minor units of `currency`.
#[derive(Debug, Default, Clone, PartialEq, Serialize)]
pub struct Account<'a> {
    pub public_id: Cow<'a, str>,
    pub lender_public_id: &'a str,
    pub account_reference_id: Option<Cow<'a, str>>,
    pub customer_reference_id: Option<Cow<'a, str>>,
    pub reference_id: Option<Cow<'a, str>>,
    pub total_amount: Option<i64>,
    pub balance_amount: Option<i64>,
    pub actual_balance_amount: Option<i64>,
    pub paid_amount: Option<i64>,
    pub balance_principal_amount: Option<i64>,
    pub balance_interest: Option<i64>,
    pub balance_fee: Option<i64>,
    pub minimum_due_amount: Option<i64>,
    pub currency: Option<Cow<'a, str>>,
    pub submitted_date: Option<Cow<'a, str>>,
    /// Days since 1970-01-01.
    pub submitted_date_parsed: Option<i32>,
    pub due_date: Option<Cow<'a, str>>,
    /// Days since 1970-01-01.
    pub due_date_parsed: Option<i32>,
    pub delinquent_days_on_submission: Option<i64>,
    pub loan_type: Option<Cow<'a, str>>,
    pub loan_type_unmapped_code: Option<i64>,
    pub status: Option<Cow<'a, str>>,
    pub status_unmapped_code: Option<i64>,
    pub merchant_name: Option<Cow<'a, str>>,
    pub lender_display_name: Option<Cow<'a, str>>,
    /// Milliseconds since the epoch.
    pub created_at: Option<i64>,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub extra: Option<String>,
}

/// What the operator may decide about rows; by default what stands in docs/records.md.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Rules {
    pub amount_tolerance: AmountTolerance,
    /// Whether a value that does not fit makes its row a dead letter, also where it is no amount.
    pub rejects_bad_fields: bool,
    pub extra: Extra,
}

/// Which members pass into `extra`: unknown ones, and those whose value did not fit.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum Extra {
    #[default]
    All,
    None,
    Only(BTreeSet<String>),
}

impl Extra {
    pub fn passes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Only(names) => names.contains(name),
        }
    }
}

/// A row that is an account.
#[derive(Debug)]
pub struct Row<'a> {
    pub account: Account<'a>,
    /// The content as upstream sent it, without `updated_at`.
    pub digest: Digest,
    /// D02 fields whose value did not fit: null in the account, kept in `extra` as far as the rules let it pass.
    pub invalid: Vec<&'static str>,
    /// Members that D02 is not known to have.
    pub unknown: Vec<Cow<'a, str>>,
    /// Dates that are no real day; their text is kept.
    pub unreal_date_count: u32,
    /// Amounts that are a whole number only within the tolerance.
    pub tolerated_count: u32,
}

/// Why a row cannot be an account. The texts name the field, never the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the row is not a JSON object")]
    NotAnObject,
    #[error("the member `{field}` appears more than once")]
    DuplicateMember { field: String },
    #[error("`public_id` is absent, empty or not a string")]
    NoPublicId,
    #[error("`updated_at` is absent or not an RFC 3339 time with at most 9 fractional digits")]
    NoUpdatedAt,
    #[error("`{field}` is not an exact 64-bit whole number of minor units")]
    InexactAmount { field: &'static str },
    #[error("the value of `{field}` does not fit its type")]
    BadField { field: &'static str },
    #[error("the record takes {size} bytes, the topic `{topic}` at most {limit} (max.message.bytes)")]
    TooLarge { size: usize, limit: usize, topic: String },
}

impl Reason {
    /// The name that stands in `__connect.errors.exception.class.name`.
    pub fn class_name(&self) -> &'static str {
        match self {
            Self::NotAnObject => "cleargrid.d02.NotAnObject",
            Self::DuplicateMember { .. } => "cleargrid.d02.DuplicateMember",
            Self::NoPublicId => "cleargrid.d02.NoPublicId",
            Self::NoUpdatedAt => "cleargrid.d02.NoUpdatedAt",
            Self::InexactAmount { .. } => "cleargrid.d02.InexactAmount",
            Self::BadField { .. } => "cleargrid.d02.BadField",
            Self::TooLarge { .. } => "cleargrid.d02.TooLarge",
        }
    }

    /// The D02 field at fault, if it is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::DuplicateMember { field } => Some(field),
            other => other.unfit_field(),
        }
    }

    /// The D02 field whose value did not fit, if that is why.
    pub fn unfit_field(&self) -> Option<&'static str> {
        match self {
            Self::NoPublicId => Some("public_id"),
            Self::NoUpdatedAt => Some("updated_at"),
            Self::InexactAmount { field } | Self::BadField { field } => Some(field),
            Self::NotAnObject | Self::DuplicateMember { .. } | Self::TooLarge { .. } => None,
        }
    }
}

/// A row that cannot be an account, with what of it could still be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    pub reason: Reason,
    pub public_id: Option<String>,
    /// Milliseconds since the epoch.
    pub updated_at: Option<i64>,
}

/// What stands in a member, as far as a log may say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonType {
    Absent,
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl JsonType {
    /// The type of a row's member; of the last one, where it is there more than once.
    pub fn of(json: &RawValue, field: &str) -> Self {
        let members = Members::of(json).unwrap_or_default();
        let member = members.iter().rev().find(|(name, _)| name == field);
        match member.map(|(_, raw)| raw.get().as_bytes()[0]) {
            None => Self::Absent,
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(_) => Self::Number,
        }
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// A row's members as they stand in its JSON; kept between rows so that its memory is used again.
#[derive(Debug, Default)]
pub struct Scratch {
    digest_input: Vec<u8>,
}

/// Reads one row's JSON text.
///
/// # Errors
/// [`Rejected`] where docs/records.md, "What does not fit", says dead letter.
pub fn read_row<'a>(
    json: &'a RawValue,
    lender_public_id: &'a str,
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<Row<'a>, Box<Rejected>> {
    let Some(mut members) = Members::of(json) else {
        return Err(Box::new(Rejected {
            reason: Reason::NotAnObject,
            public_id: None,
            updated_at: None,
        }));
    };
    members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let duplicate = members
        .windows(2)
        .find(|pair| pair[0].0 == pair[1].0)
        .map(|pair| shortened(&pair[0].0).into_owned());

    let mut fields = Fields {
        rules,
        extra: Vec::new(),
        invalid: Vec::new(),
        unreal_date_count: 0,
        tolerated_count: 0,
        reason: None,
    };
    let mut account = Account {
        lender_public_id,
        ..Account::default()
    };
    let mut unknown = Vec::new();
    let (mut public_id, mut updated_at) = (None, None);
    for (name, raw) in &members {
        let raw: &'a str = raw.get();
        match name.as_ref() {
            "public_id" => public_id = text(raw).filter(|id| !id.is_empty()),
            "updated_at" => updated_at = text(raw).and_then(|at| instant(&at)),
            "account_reference_id" => account.account_reference_id = fields.text("account_reference_id", raw),
            "customer_reference_id" => account.customer_reference_id = fields.text("customer_reference_id", raw),
            "reference_id" => account.reference_id = fields.text("reference_id", raw),
            "total_amount" => account.total_amount = fields.amount("total_amount", raw),
            "balance_amount" => account.balance_amount = fields.amount("balance_amount", raw),
            "actual_balance_amount" => account.actual_balance_amount = fields.amount("actual_balance_amount", raw),
            "paid_amount" => account.paid_amount = fields.amount("paid_amount", raw),
            "balance_principal_amount" => {
                account.balance_principal_amount = fields.amount("balance_principal_amount", raw);
            }
            "balance_interest" => account.balance_interest = fields.amount("balance_interest", raw),
            "balance_fee" => account.balance_fee = fields.amount("balance_fee", raw),
            "minimum_due_amount" => account.minimum_due_amount = fields.amount("minimum_due_amount", raw),
            "currency" => account.currency = fields.text("currency", raw),
            "submitted_date" => {
                (account.submitted_date, account.submitted_date_parsed) = fields.day("submitted_date", raw);
            }
            "due_date" => (account.due_date, account.due_date_parsed) = fields.day("due_date", raw),
            "delinquent_days_on_submission" => {
                account.delinquent_days_on_submission = fields.number("delinquent_days_on_submission", raw);
            }
            "loan_type" => (account.loan_type, account.loan_type_unmapped_code) = fields.label("loan_type", raw),
            "status" => (account.status, account.status_unmapped_code) = fields.label("status", raw),
            "merchant_name" => account.merchant_name = fields.text("merchant_name", raw),
            "lender_display_name" => account.lender_display_name = fields.text("lender_display_name", raw),
            "created_at" => account.created_at = fields.instant("created_at", raw),
            _ => {
                unknown.push(name.clone());
                fields.pass(name.clone(), raw);
            }
        }
    }
    let reason = match (duplicate, &public_id, updated_at, fields.reason) {
        (Some(field), ..) => Some(Reason::DuplicateMember { field }),
        (None, None, ..) => Some(Reason::NoPublicId),
        (None, Some(_), None, _) => Some(Reason::NoUpdatedAt),
        (None, Some(_), Some(_), reason) => reason,
    };
    if let Some(reason) = reason {
        return Err(Box::new(Rejected {
            reason,
            public_id: public_id.map(Cow::into_owned),
            updated_at,
        }));
    }
    account.public_id = public_id.expect("checked above");
    account.updated_at = updated_at.expect("checked above");
    account.extra = extra(&fields.extra);
    let digest = Digest::of_members(&members, &mut scratch.digest_input);
    Ok(Row {
        account,
        digest,
        invalid: fields.invalid,
        unknown,
        unreal_date_count: fields.unreal_date_count,
        tolerated_count: fields.tolerated_count,
    })
}

/// A name or id of upstream's as it may stand in a line or a header: the first 200 characters of it.
pub fn shortened(text: &str) -> Cow<'_, str> {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// Collects what does not fit while a row's fields are read.
struct Fields<'a, 'r> {
    rules: &'r Rules,
    extra: Vec<(Cow<'a, str>, &'a str)>,
    invalid: Vec<&'static str>,
    unreal_date_count: u32,
    tolerated_count: u32,
    reason: Option<Reason>,
}

impl<'a> Fields<'a, '_> {
    /// Keeps a member that has no field, or does not fit its own.
    fn pass(&mut self, name: Cow<'a, str>, raw: &'a str) {
        if self.rules.extra.passes(&name) {
            self.extra.push((name, raw));
        }
    }

    fn does_not_fit(&mut self, name: &'static str, raw: &'a str) {
        if self.rules.rejects_bad_fields {
            self.reason.get_or_insert(Reason::BadField { field: name });
        }
        self.pass(Cow::Borrowed(name), raw);
        self.invalid.push(name);
    }

    /// `value` where the member is not null; a member that has none does not fit.
    fn fitting<T>(&mut self, name: &'static str, raw: &'a str, value: impl FnOnce() -> Option<T>) -> Option<T> {
        if raw == "null" {
            return None;
        }
        let value = value();
        if value.is_none() {
            self.does_not_fit(name, raw);
        }
        value
    }

    fn text(&mut self, name: &'static str, raw: &'a str) -> Option<Cow<'a, str>> {
        self.fitting(name, raw, || text(raw))
    }

    fn number(&mut self, name: &'static str, raw: &'a str) -> Option<i64> {
        self.fitting(name, raw, || whole_number(raw))
    }

    fn instant(&mut self, name: &'static str, raw: &'a str) -> Option<i64> {
        self.fitting(name, raw, || text(raw).and_then(|at| instant(&at)))
    }

    fn day(&mut self, name: &'static str, raw: &'a str) -> (Option<Cow<'a, str>>, Option<i32>) {
        let stored = self.text(name, raw);
        let parsed = stored.as_deref().and_then(day);
        self.unreal_date_count += u32::from(stored.is_some() && parsed.is_none());
        (stored, parsed)
    }

    fn label(&mut self, name: &'static str, raw: &'a str) -> (Option<Cow<'a, str>>, Option<i64>) {
        match whole_number(raw) {
            Some(code) => (Some(Cow::Owned(code.to_string())), Some(code)),
            None => (self.text(name, raw), None),
        }
    }

    /// An amount that is not exact rejects the whole row: a wrong balance is worse than an old one.
    fn amount(&mut self, name: &'static str, raw: &'a str) -> Option<i64> {
        if raw == "null" {
            return None;
        }
        let exact = whole_number(raw);
        if exact.is_some() {
            return exact;
        }
        let near = self.rules.amount_tolerance.nearest(raw);
        match near {
            Some(_) => self.tolerated_count += 1,
            None => {
                self.reason.get_or_insert(Reason::InexactAmount { field: name });
            }
        }
        near
    }
}

/// The decoded string of a JSON string token; borrowed where nothing is escaped.
fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        // Half a surrogate pair is no text.
        serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Milliseconds since the epoch of an RFC 3339 time with 0–9 fractional digits; finer digits are cut.
pub fn instant(text: &str) -> Option<i64> {
    // chrono also takes a space for the `T`, more than nine digits, and a minus that is not ASCII's.
    let separator = *text.as_bytes().get(10)?;
    let fraction = text.get(19..)?.strip_prefix('.');
    let digit_count = fraction.map_or(0, |digits| digits.bytes().take_while(u8::is_ascii_digit).count());
    if !separator.eq_ignore_ascii_case(&b't') || digit_count > 9 || !text.is_ascii() {
        return None;
    }
    DateTime::parse_from_rfc3339(text).ok().map(|at| at.timestamp_millis())
}

/// Days since 1970-01-01 of a day written DD/MM/YYYY, if it is a real one.
pub fn day(text: &str) -> Option<i32> {
    let bytes: &[u8; 10] = text.as_bytes().try_into().ok()?;
    let number = |digits: &[u8]| {
        digits.iter().try_fold(0u32, |sum, digit| {
            digit.is_ascii_digit().then(|| sum * 10 + u32::from(digit - b'0'))
        })
    };
    if bytes[2] != b'/' || bytes[5] != b'/' {
        return None;
    }
    let year = i32::try_from(number(&bytes[6..])?).ok().filter(|year| *year > 0)?;
    let date = NaiveDate::from_ymd_opt(year, number(&bytes[3..5])?, number(&bytes[..2])?)?;
    i32::try_from(date.signed_duration_since(NaiveDate::default()).num_days()).ok()
}

/// One JSON object of the members, sorted by name, their values as received.
fn extra(members: &[(Cow<'_, str>, &str)]) -> Option<String> {
    if members.is_empty() {
        return None;
    }
    let mut members: Vec<_> = members.iter().collect();
    members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    let mut object = String::from("{");
    for (position, (name, raw)) in members.into_iter().enumerate() {
        if position > 0 {
            object.push(',');
        }
        object.push_str(&serde_json::to_string(name).expect("a string is always JSON"));
        object.push(':');
        object.push_str(raw);
    }
    object.push('}');
    Some(object)
}

type MemberList<'a> = Vec<(Cow<'a, str>, &'a RawValue)>;

/// Reads an object's members one by one, doubles included, names borrowed where nothing is escaped.
struct Members;

impl Members {
    fn of(json: &RawValue) -> Option<MemberList<'_>> {
        Self::parse(json.get())
    }

    fn parse(json: &str) -> Option<MemberList<'_>> {
        serde_json::Deserializer::from_str(json).deserialize_map(Self).ok()
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = MemberList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        /// D02 has 26 fields; a few more cost no second allocation.
        const USUAL_MEMBER_COUNT: usize = 32;
        let mut members = Vec::with_capacity(USUAL_MEMBER_COUNT);
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, map.next_value::<&'de RawValue>()?));
        }
        Ok(members)
    }
}

/// A member's name; `Cow`'s own `Deserialize` always allocates.
struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}

/// What happened to an account, in Debezium's letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Read by the first snapshot.
    Read,
    Created,
    Updated,
    /// Upstream does not show it any more.
    Deleted,
}

impl Op {
    /// The text of the header `__op`.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Read => "r",
            Self::Created => "c",
            Self::Updated => "u",
            Self::Deleted => "d",
        }
    }
}

#[cfg(test)]
mod tests;
