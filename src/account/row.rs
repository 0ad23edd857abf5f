//! What does a row say? Its members one by one, each into its field, or kept as text and named.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::by_name::{ByName, MEMBERS, Order, is_content, place};
use super::date::{day, instant};
use super::digest::{Digest, value_hashes};
use super::fields::Account;
use super::member::{Members, shortened, text};
use super::number::whole_number;
use super::rejected::{Reason, Rejected};
use super::rules::Rules;
use super::scan::Raw;

/// A row that is an account.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub account: Account<'a>,
    /// Of the content: what is written of the row, as upstream sent it, without `updated_at`.
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

/// What is kept between rows: memory that is used again, and the order of their members.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    digest_input: Vec<u8>,
    order: Order,
}

/// Reads one row's JSON text.
///
/// # Errors
/// [`Rejected`] where docs/records.md, "What does not fit", says dead letter.
pub(crate) fn read_row<'a>(
    json: &'a RawValue,
    lender_public_id: &'a str,
    rules: &Rules,
    scratch: &mut Scratch,
) -> Result<Row<'a>, Box<Rejected>> {
    let Some(members) = ByName::of(json, &mut scratch.order) else {
        return Err(Box::new(Rejected {
            reason: Reason::NotAnObject,
            public_id: None,
            updated_at: None,
        }));
    };
    let mut fields = Fields::of(&members.known, rules);
    // By name, which is the order in which what does not fit is told.
    let mut account = Account {
        lender_public_id,
        account_reference_id: fields.text(const { place("account_reference_id") }),
        actual_balance_amount: fields.amount(const { place("actual_balance_amount") }),
        balance_amount: fields.amount(const { place("balance_amount") }),
        balance_fee: fields.amount(const { place("balance_fee") }),
        balance_interest: fields.amount(const { place("balance_interest") }),
        balance_principal_amount: fields.amount(const { place("balance_principal_amount") }),
        created_at: fields.instant(const { place("created_at") }),
        currency: fields.text(const { place("currency") }),
        customer_reference_id: fields.text(const { place("customer_reference_id") }),
        delinquent_days_on_submission: fields.number(const { place("delinquent_days_on_submission") }),
        ..Account::default()
    };
    (account.due_date, account.due_date_parsed) = fields.day(const { place("due_date") });
    account.lender_display_name = fields.text(const { place("lender_display_name") });
    (account.loan_type, account.loan_type_unmapped_code) = fields.label(const { place("loan_type") });
    account.merchant_name = fields.text(const { place("merchant_name") });
    account.minimum_due_amount = fields.amount(const { place("minimum_due_amount") });
    account.paid_amount = fields.amount(const { place("paid_amount") });
    account.reference_id = fields.text(const { place("reference_id") });
    (account.status, account.status_unmapped_code) = fields.label(const { place("status") });
    (account.submitted_date, account.submitted_date_parsed) = fields.day(const { place("submitted_date") });
    account.total_amount = fields.amount(const { place("total_amount") });
    for (name, raw) in &members.unknown {
        fields.pass(name.clone(), raw.json);
    }
    let public_id = members.known[const { place("public_id") }].and_then(text);
    let public_id = public_id.filter(|id| !id.is_empty());
    let updated_at = members.known[const { place("updated_at") }].and_then(text);
    let updated_at = updated_at.and_then(|at| instant(&at));
    let duplicate = members.duplicate.as_deref().map(|name| shortened(name).into_owned());
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
    let digest = Digest::of_content(&members, rules, &mut scratch.digest_input);
    Ok(Row {
        account,
        digest,
        invalid: fields.invalid,
        unreal_date_count: fields.unreal_date_count,
        tolerated_count: fields.tolerated_count,
        unknown: members.unknown.into_iter().map(|(name, _)| name).collect(),
    })
}

/// What tells one dead letter from another: the row as received, without members that are no content.
pub(crate) fn dead_letter_digest(json: &RawValue, received: &[u8], rules: &Rules) -> Digest {
    match Members::of(json) {
        Some(mut members) if !members.iter().all(|(name, _)| is_content(name, rules)) => {
            members.retain(|(name, _)| is_content(name, rules));
            Digest::of_dead_letter(&members)
        }
        _ => Digest::of_bytes(received),
    }
}

/// The members of which an account's digest is made, by name, each with a hash of its value: what tells in which members two
/// readings of a row differ. Of a row that is no account, none.
pub(crate) fn content_members(json: &RawValue, rules: &Rules) -> Vec<(String, u64)> {
    let row = read_row(json, "", rules, &mut Scratch::default());
    let (Ok(_), Some(members)) = (row, ByName::of(json, &mut Order::default())) else {
        return Vec::new();
    };
    value_hashes(&members, rules)
}

/// Reads fields by their places in [`MEMBERS`], and collects what does not fit.
struct Fields<'a, 'r> {
    known: &'r [Option<Raw<'a>>; MEMBERS.len()],
    rules: &'r Rules,
    extra: Vec<(Cow<'a, str>, &'a str)>,
    invalid: Vec<&'static str>,
    unreal_date_count: u32,
    tolerated_count: u32,
    reason: Option<Reason>,
}

impl<'a, 'r> Fields<'a, 'r> {
    fn of(known: &'r [Option<Raw<'a>>; MEMBERS.len()], rules: &'r Rules) -> Self {
        Self {
            known,
            rules,
            extra: Vec::new(),
            invalid: Vec::new(),
            unreal_date_count: 0,
            tolerated_count: 0,
            reason: None,
        }
    }

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

    /// A member that is there, and not null.
    fn present(&self, place: usize) -> Option<Raw<'a>> {
        self.known[place].filter(|raw| !raw.is_null())
    }

    /// `value` where there is a member; one that has none does not fit.
    fn fitting<T>(&mut self, place: usize, value: impl FnOnce(Raw<'a>) -> Option<T>) -> Option<T> {
        let raw = self.present(place)?;
        let value = value(raw);
        if value.is_none() {
            self.does_not_fit(MEMBERS[place], raw.json);
        }
        value
    }

    fn text(&mut self, place: usize) -> Option<Cow<'a, str>> {
        self.fitting(place, text)
    }

    fn number(&mut self, place: usize) -> Option<i64> {
        self.fitting(place, |raw| whole_number(raw.json))
    }

    fn instant(&mut self, place: usize) -> Option<i64> {
        self.fitting(place, |raw| text(raw).and_then(|at| instant(&at)))
    }

    fn day(&mut self, place: usize) -> (Option<Cow<'a, str>>, Option<i32>) {
        let stored = self.text(place);
        let parsed = stored.as_deref().and_then(day);
        self.unreal_date_count += u32::from(stored.is_some() && parsed.is_none());
        (stored, parsed)
    }

    fn label(&mut self, place: usize) -> (Option<Cow<'a, str>>, Option<i64>) {
        match self.present(place).and_then(|raw| whole_number(raw.json)) {
            Some(code) => (Some(Cow::Owned(code.to_string())), Some(code)),
            None => (self.text(place), None),
        }
    }

    /// An amount that is not exact rejects the whole row: a wrong balance is worse than an old one.
    fn amount(&mut self, place: usize) -> Option<i64> {
        let raw = self.present(place)?.json;
        let exact = whole_number(raw);
        if exact.is_some() {
            return exact;
        }
        let near = self.rules.amount_tolerance.nearest(raw);
        match near {
            Some(_) => self.tolerated_count += 1,
            None => {
                let field = MEMBERS[place];
                self.reason.get_or_insert(Reason::InexactAmount { field });
            }
        }
        near
    }
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
