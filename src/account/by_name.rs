//! Which member is which field's? A row's members, those of D02 each in its place, the others by name.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::member::Members;
use super::rules::Rules;
use super::scan::{self, Raw};

/// The members of D02, which an account has a field for, by name.
pub(super) const MEMBERS: [&str; 22] = [
    "account_reference_id",
    "actual_balance_amount",
    "balance_amount",
    "balance_fee",
    "balance_interest",
    "balance_principal_amount",
    "created_at",
    "currency",
    "customer_reference_id",
    "delinquent_days_on_submission",
    "due_date",
    "lender_display_name",
    "loan_type",
    "merchant_name",
    "minimum_due_amount",
    "paid_amount",
    "public_id",
    "reference_id",
    "status",
    "submitted_date",
    "total_amount",
    "updated_at",
];

/// Where a member of D02 stands in [`MEMBERS`]; asked for at compile time.
pub(super) const fn place(name: &str) -> usize {
    let mut place = 0;
    while place < MEMBERS.len() {
        if is_same(MEMBERS[place].as_bytes(), name.as_bytes()) {
            return place;
        }
        place += 1;
    }
    panic!("no member of D02")
}

const fn is_same(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Which member of D02 stood at which position of the last row: those of the next one mostly stand there, too.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order([Option<u8>; MEMBERS.len()]);

impl Default for Order {
    fn default() -> Self {
        Self([None; MEMBERS.len()])
    }
}

impl Order {
    /// The place in [`MEMBERS`] of what stood there.
    fn place(&self, position: usize) -> Option<usize> {
        self.0.get(position).copied().flatten().map(usize::from)
    }

    fn learn(&mut self, position: usize, place: Option<usize>) {
        if let Some(known) = self.0.get_mut(position) {
            *known = place.map(|place| place as u8);
        }
    }
}

/// A row's members, their values as they stand in its JSON.
#[derive(Default)]
pub(super) struct ByName<'a> {
    /// In the places of [`MEMBERS`]; the last one, where there are several.
    pub known: [Option<Raw<'a>>; MEMBERS.len()],
    /// The others, by name.
    pub unknown: Vec<(Cow<'a, str>, Raw<'a>)>,
    /// The first name, by name, that is there more than once.
    pub duplicate: Option<Cow<'a, str>>,
}

impl<'a> ByName<'a> {
    /// `None`: it is no object.
    pub(super) fn of(json: &'a RawValue, order: &mut Order) -> Option<Self> {
        let (mut found, mut position, before) = (Self::default(), 0, *order);
        let expected = |position| before.place(position).map_or("", |place| MEMBERS[place]);
        let is_plain = scan::members_in_order(json.get(), expected, |name, is_expected, value| {
            let mut place = before.place(position);
            if !is_expected {
                place = MEMBERS.binary_search(&name).ok();
                order.learn(position, place);
            }
            found.put(place, Cow::Borrowed(name), value);
            position += 1;
        });
        if !is_plain {
            found = Self::default();
            for (name, value) in Members::of(json)? {
                found.put(MEMBERS.binary_search(&&*name).ok(), name, value);
            }
        }
        found.unknown.sort_by(|one, other| one.0.cmp(&other.0));
        let twice = found.unknown.windows(2).find(|pair| pair[0].0 == pair[1].0);
        if let Some([(name, _), _]) = twice
            && found.duplicate.as_ref().is_none_or(|first| name < first)
        {
            found.duplicate = Some(name.clone());
        }
        Some(found)
    }

    fn put(&mut self, place: Option<usize>, name: Cow<'a, str>, value: Raw<'a>) {
        let Some(place) = place else {
            self.unknown.push((name, value));
            return;
        };
        if self.known[place].replace(value).is_some() {
            let name = MEMBERS[place];
            if self.duplicate.as_deref().is_none_or(|first| name < first) {
                self.duplicate = Some(Cow::Borrowed(name));
            }
        }
    }

    /// Tells `each` what is content of them, by name: not unknown ones that are not written, and none that the operator names.
    ///
    /// A known field counts with whatever came, also where that fits nothing and is not kept: that it did not fit is written.
    pub(super) fn content(&self, rules: &Rules, mut each: impl FnMut(&str, Raw<'a>)) {
        let mut each = |name: &str, raw| {
            if rules.content_ignore.is_empty() || !rules.content_ignore.contains(name) {
                each(name, raw);
            }
        };
        let unknown = self.unknown.iter().filter(|(name, _)| rules.extra.passes(name));
        let mut unknown = unknown.peekable();
        for (name, raw) in MEMBERS.into_iter().zip(self.known) {
            let Some(raw) = raw else { continue };
            while let Some((other, raw)) = unknown.next_if(|(other, _)| **other < *name) {
                each(other, *raw);
            }
            each(name, raw);
        }
        unknown.for_each(|(name, raw)| each(name, *raw));
    }
}

/// Whether a member is content.
pub(super) fn is_content(name: &str, rules: &Rules) -> bool {
    let is_written = rules.extra.passes(name) || MEMBERS.contains(&name);
    is_written && !rules.content_ignore.contains(name)
}
