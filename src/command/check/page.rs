//! What is odd in one page of D02? Counted, by the names of fields: no value of a row is kept or said. Pure.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::value::RawValue;

use crate::account::{Reason, Rules, Scratch, content_members, read_row, shortened};
use crate::progress::Timestamp;

/// More names are not listed: upstream may have made each row's own.
const MOST_NAMES: usize = 20;

/// How often something is so, by the name of the field.
pub(super) type Counts = BTreeMap<String, u64>;

/// What a page's rows are like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub row_count: u64,
    /// Rows that are older than the one before them.
    pub disorder_count: u64,
    /// Rows outside of what was asked for.
    pub outside_count: u64,
    /// Rows that share their `updated_at` with another one of the page.
    pub tied_count: u64,
    /// The most rows with one `updated_at`.
    pub largest_tie: u64,
    /// Rows that cannot be accounts because of an amount, by field.
    pub inexact_amounts: Counts,
    /// Rows that cannot be accounts for another reason, by the reason.
    pub rejected: Counts,
    /// Amounts that are taken for the whole number beside them.
    pub tolerated_count: u64,
    /// Dates that are no day in DD/MM/YYYY.
    pub unreal_dates: Counts,
    /// Labels that came as a number.
    pub unmapped_codes: Counts,
    /// Values that do not fit; null in the account.
    pub invalid: Counts,
    /// Members that D02 is not known to have.
    pub unknown: Counts,
}

impl Look {
    /// Looks at `rows`, which were asked for from `since` up to, without, `until`.
    pub(super) fn at(
        rows: &[&RawValue],
        since: Timestamp,
        until: Timestamp,
        lender_public_id: &str,
        rules: &Rules,
    ) -> Self {
        let mut look = Self::default();
        let mut scratch = Scratch::default();
        let mut at_one_time: HashMap<i64, u64> = HashMap::new();
        let mut last = None;
        for json in rows {
            look.row_count += 1;
            let updated_at = match read_row(json, lender_public_id, rules, &mut scratch) {
                Ok(row) => {
                    let account = &row.account;
                    for (field, text, parsed) in [
                        ("submitted_date", &account.submitted_date, account.submitted_date_parsed),
                        ("due_date", &account.due_date, account.due_date_parsed),
                    ] {
                        if text.is_some() && parsed.is_none() {
                            note(&mut look.unreal_dates, field);
                        }
                    }
                    for (field, code) in [
                        ("loan_type", account.loan_type_unmapped_code),
                        ("status", account.status_unmapped_code),
                    ] {
                        if code.is_some() {
                            note(&mut look.unmapped_codes, field);
                        }
                    }
                    row.invalid.iter().for_each(|field| note(&mut look.invalid, field));
                    row.unknown.iter().for_each(|name| note(&mut look.unknown, name));
                    look.tolerated_count += u64::from(row.tolerated_count);
                    Some(account.updated_at)
                }
                Err(rejected) => {
                    match &rejected.reason {
                        Reason::InexactAmount { field } => note(&mut look.inexact_amounts, field),
                        reason => note(&mut look.rejected, &reason.to_string()),
                    }
                    rejected.updated_at
                }
            };
            let Some(updated_at) = updated_at else { continue };
            *at_one_time.entry(updated_at).or_default() += 1;
            look.disorder_count += u64::from(last.is_some_and(|last| updated_at < last));
            look.outside_count += u64::from(updated_at < since.0 || updated_at >= until.0);
            last = Some(updated_at);
        }
        look.tied_count = at_one_time.values().filter(|count| **count > 1).sum();
        look.largest_tie = at_one_time.values().copied().max().unwrap_or(0);
        look
    }

    /// Rows that would be dead letters.
    pub(super) fn dead_count(&self) -> u64 {
        self.inexact_amounts.values().chain(self.rejected.values()).sum()
    }
}

/// What two readings of the same rows say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Again {
    /// Accounts that stand in both with the same `updated_at`.
    pub row_count: u64,
    /// Those of another content.
    pub differing_count: u64,
    /// In which members.
    pub members: Counts,
}

impl Again {
    pub(super) fn of(first: &[&RawValue], second: &[&RawValue], rules: &Rules) -> Self {
        let mut again = Self::default();
        let first = contents(first, rules);
        for (version, members) in contents(second, rules) {
            let Some(before) = first.get(&version) else { continue };
            again.row_count += 1;
            // A member that is there on one side only differs as well.
            let (before, now): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), members.iter().collect());
            let names: BTreeSet<&str> = before
                .symmetric_difference(&now)
                .map(|(name, _)| name.as_ref())
                .collect();
            again.differing_count += u64::from(!names.is_empty());
            names.into_iter().for_each(|name| note(&mut again.members, name));
        }
        again
    }
}

/// The members of the accounts' content, by `public_id` and `updated_at`.
type Contents<'a> = HashMap<(Cow<'a, str>, i64), Vec<(String, u64)>>;

fn contents<'a>(rows: &[&'a RawValue], rules: &Rules) -> Contents<'a> {
    let mut scratch = Scratch::default();
    let mut content = |json: &&'a RawValue| {
        let row = read_row(json, "", rules, &mut scratch).ok()?;
        Some((
            (row.account.public_id, row.account.updated_at),
            content_members(json, rules),
        ))
    };
    rows.iter().filter_map(&mut content).collect()
}

fn note(counts: &mut Counts, name: &str) {
    let name = shortened(name);
    match counts.get_mut(name.as_ref()) {
        Some(count) => *count += 1,
        None => drop(counts.insert(name.into_owned(), 1)),
    }
}

/// `due_date 3, status 1`: the most frequent first.
pub(super) fn listed(counts: &Counts) -> String {
    let mut sorted: Vec<(&String, &u64)> = counts.iter().collect();
    sorted.sort_by(|one, other| other.1.cmp(one.1).then_with(|| one.0.cmp(other.0)));
    let mut listed: Vec<String> = sorted
        .iter()
        .take(MOST_NAMES)
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    if sorted.len() > MOST_NAMES {
        listed.push(format!("and {} more", sorted.len() - MOST_NAMES));
    }
    listed.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::instant;

    fn look(rows: &[&str]) -> Look {
        let rows: Vec<Box<RawValue>> = rows
            .iter()
            .map(|row| RawValue::from_string((*row).to_owned()).expect("JSON"))
            .collect();
        let rows: Vec<&RawValue> = rows.iter().map(AsRef::as_ref).collect();
        let until = instant("2026-05-30T00:00:00Z").expect("a time");
        Look::at(&rows, Timestamp(0), Timestamp(until), "lender", &Rules::default())
    }

    fn counts(counts: &[(&str, u64)]) -> Counts {
        counts
            .iter()
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }

    #[test]
    fn what_is_odd_is_counted_by_field() {
        let found = look(&[
            r#"{"public_id":"a","updated_at":"2026-05-29T07:20:55.000Z","due_date":"31/02/2026","status":7}"#,
            r#"{"public_id":"b","updated_at":"2026-05-29T07:20:55.000Z","due_date":"","new_one":"secret"}"#,
            r#"{"public_id":"c","updated_at":"2026-05-29T07:20:56.000Z","total_amount":1.5}"#,
            r#"{"public_id":"d","updated_at":"2026-05-29T07:20:54.000Z","status":true}"#,
            r#"{"updated_at":"2026-05-30T00:00:00.000Z"}"#,
            "7",
        ]);
        let expected = Look {
            row_count: 6,
            disorder_count: 1,
            outside_count: 1,
            tied_count: 2,
            largest_tie: 2,
            inexact_amounts: counts(&[("total_amount", 1)]),
            rejected: counts(&[
                ("the row is not a JSON object", 1),
                ("`public_id` is absent, empty or not a string", 1),
            ]),
            tolerated_count: 0,
            unreal_dates: counts(&[("due_date", 2)]),
            unmapped_codes: counts(&[("status", 1)]),
            invalid: counts(&[("status", 1)]),
            unknown: counts(&[("new_one", 1)]),
        };
        assert_eq!(found, expected);
        assert_eq!(found.dead_count(), 3);
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn two_readings_of_the_same_rows_differ_in_members_that_are_named() {
        fn rows(rows: &[&str]) -> Vec<Box<RawValue>> {
            let row = |(number, members): (usize, &&str)| {
                let at = "2026-05-29T07:20:55.000Z";
                let json = format!(r#"{{"public_id":"{number}","updated_at":"{at}"{members}}}"#);
                RawValue::from_string(json).expect("JSON")
            };
            rows.iter().enumerate().map(row).collect()
        }
        let first = rows(&[r#","a":1,"status":"A""#, r#","a":1.0"#, r#","paid_amount":0.5"#, "", ""]);
        let mut second = rows(&[r#","a":2,"b":0"#, r#","a":1,"b":null"#, r#","paid_amount":0.25"#, ""]);
        // Changed meanwhile.
        second.push(
            RawValue::from_string(r#"{"public_id":"4","updated_at":"2026-05-30T00:00:00Z"}"#.into()).expect("JSON"),
        );
        let as_ref = |rows: &'static [Box<RawValue>]| rows.iter().map(AsRef::as_ref).collect::<Vec<_>>();
        let (first, second) = (as_ref(first.leak()), as_ref(second.leak()));
        let again = |rules: &Rules| Again::of(&first, &second, rules);
        let expected = Again {
            row_count: 3,
            differing_count: 1,
            members: counts(&[("a", 1), ("b", 1), ("status", 1)]),
        };
        assert_eq!(again(&Rules::default()), expected);
        let rules = Rules {
            content_ignore: ["a", "b", "status"].map(str::to_owned).into(),
            ..Rules::default()
        };
        assert_eq!((again(&rules).row_count, again(&rules).differing_count), (3, 0));
    }

    #[test]
    fn the_most_frequent_is_named_first_and_names_have_an_end() {
        let mut found = counts(&[("b", 2), ("a", 2), ("c", 5)]);
        assert_eq!(listed(&found), "c 5, a 2, b 2");
        for number in 0..30 {
            note(&mut found, &format!("x{number}"));
        }
        assert!(listed(&found).ends_with(", and 13 more"), "{}", listed(&found));
    }
}
