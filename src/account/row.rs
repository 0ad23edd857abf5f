//! What does a row say? Its members one by one, each into its field, or kept as text and named.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::date::{day, instant};
use super::digest::{Digest, value_hashes};
use super::fields::Account;
use super::member::{MemberList, Members, shortened, text};
use super::number::whole_number;
use super::rejected::{Reason, Rejected};
use super::rules::Rules;

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

/// A row's members as they stand in its JSON; kept between rows so that its memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    digest_input: Vec<u8>,
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
    keep_content(&mut members, &unknown, rules);
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

/// Takes out what is no content: unknown members that are not written, and those that the operator names.
///
/// A known field counts with whatever came, also where that fits nothing and is not kept: that it did not fit is written.
fn keep_content(members: &mut MemberList<'_>, unknown: &[Cow<'_, str>], rules: &Rules) {
    let are_all_written = unknown.iter().all(|name| rules.extra.passes(name));
    if are_all_written && rules.content_ignore.is_empty() {
        return;
    }
    members.retain(|(name, _)| is_content(name, rules));
}

fn is_content(name: &str, rules: &Rules) -> bool {
    let is_written = rules.extra.passes(name) || MEMBERS.contains(&name);
    is_written && !rules.content_ignore.contains(name)
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

/// The members of which an account's digest is made, sorted by name, each with a hash of its value: what tells in which
/// members two readings of a row differ. Of a row that is no account, none.
pub(crate) fn content_members<'a>(json: &'a RawValue, rules: &Rules) -> Vec<(Cow<'a, str>, u64)> {
    let row = read_row(json, "", rules, &mut Scratch::default());
    let (Ok(row), Some(mut members)) = (row, Members::of(json)) else {
        return Vec::new();
    };
    members.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    keep_content(&mut members, &row.unknown, rules);
    value_hashes(members)
}

/// Those of D02, which an account has a field for.
pub(super) const MEMBERS: [&str; 22] = [
    "public_id",
    "account_reference_id",
    "customer_reference_id",
    "reference_id",
    "total_amount",
    "balance_amount",
    "actual_balance_amount",
    "paid_amount",
    "balance_principal_amount",
    "balance_interest",
    "balance_fee",
    "minimum_due_amount",
    "currency",
    "submitted_date",
    "due_date",
    "delinquent_days_on_submission",
    "loan_type",
    "status",
    "merchant_name",
    "lender_display_name",
    "created_at",
    "updated_at",
];

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
