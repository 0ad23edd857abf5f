//! How do a lender's rows become accounts, and what is said of them? What every page needs, and what the log was told once.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::AtomicI64;

use super::drift::{Drift, DriftNotice, Unfit};
use super::volatile::Volatile;
use crate::account::{Digest, Rules};
use crate::avro::Encoder;
use crate::clock;
use crate::exit::ErrorCode;
use crate::metrics::LenderMetrics;
use crate::progress::Timestamp;

/// The code of a field that upstream changed for all rows.
const DRIFTS: ErrorCode = ErrorCode::U15;

/// How a lender's rows become the bytes of accounts.
pub(super) struct RowEncoder {
    pub rules: Rules,
    pub encoder: Encoder,
    /// The lender's key in the configuration, for the log.
    pub name: Box<str>,
    /// Its public id.
    pub lender: Box<str>,
    /// A larger record may not fit its topic, so its row is kept.
    pub large_value: usize,
    pub metrics: LenderMetrics,
    pub noted: Noted,
}

/// What of a lender's rows the log was told: once, not for every row.
#[derive(Default)]
pub(super) struct Noted {
    /// Unknown members.
    members: Mutex<HashSet<String>>,
    drift: Mutex<Drift>,
    pub(super) volatile: Mutex<Volatile>,
    /// Hashes of rows that are no UTF-8 and were taken as such: every walk reads them again.
    damaged: Mutex<HashSet<u64>>,
    /// The latest time ahead that was warned about: every walk reads such a row again.
    pub(super) ahead: AtomicI64,
}

/// Which value may not fit a topic that takes `max_message`: a quarter of it, as the key and the value hold the id, that of
/// `changes` twice.
pub(super) fn large_value(max_message: usize) -> usize {
    max_message / 4
}

impl RowEncoder {
    /// Whether all of these rows, as received, were taken before; there has to be any.
    pub(super) fn knows_damage<'a>(&self, mut rows: impl Iterator<Item = &'a [u8]>) -> bool {
        let known = self.noted.damaged.lock();
        let known = known.unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_known = |row: &[u8]| known.contains(&Digest::of_bytes(row).0);
        rows.next().is_some_and(is_known) && rows.all(is_known)
    }

    pub(super) fn note_damage<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) {
        /// Of more, each reading asks three times.
        const MAX_ROWS: usize = 1_000;
        for row in rows {
            let known = self.noted.damaged.lock();
            let mut known = known.unwrap_or_else(std::sync::PoisonError::into_inner);
            if known.len() < MAX_ROWS {
                known.insert(Digest::of_bytes(row).0);
            }
        }
    }

    /// Names a member that D02 is not known to have, the first time it is seen.
    pub(super) fn say_once(&self, member: &str) {
        /// A vendor adds a few in years; an upstream that invents names must not fill the memory or the log.
        const MAX_NAMES: usize = 200;
        let names = self.noted.members.lock();
        let mut names = names.unwrap_or_else(std::sync::PoisonError::into_inner);
        if names.len() < MAX_NAMES && !names.contains(member) {
            names.insert(member.to_owned());
            let passes = self.rules.extra.passes(member);
            let (lender, member) = (&*self.name, member.chars().take(100).collect::<String>());
            if passes {
                tracing::warn!(lender, member, "an unknown member: it is in `extra` of the accounts");
            } else {
                tracing::warn!(
                    lender,
                    member,
                    "an unknown member: avro.extra leaves it out of the accounts"
                );
            }
        }
    }

    /// Looks whether upstream changed a field for all rows; gives those for which it did.
    pub(super) fn drifting(&self, unfit: &[Unfit], row_count: usize, is_again: bool) -> Vec<&'static str> {
        let now = Timestamp::from(clock::now());
        let mut drift = self
            .noted
            .drift
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for said in drift.note(unfit, row_count as u64, is_again, now) {
            self.say(&said);
        }
        let fields = drift.fields();
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        self.metrics.drifting_fields.set(count);
        fields
    }

    fn say(&self, said: &DriftNotice) {
        let lender = &*self.name;
        match *said {
            DriftNotice::Drifts {
                unfit,
                window,
                since,
                row_count,
            } => {
                let Unfit {
                    field,
                    found,
                    row_count: last,
                    ..
                } = unfit;
                let (what, advice) = if unfit.is_dead {
                    let advice = "ask the vendor what changed; the last good records of these accounts stay";
                    ("which are dead letters", advice)
                } else {
                    let advice = "ask the vendor what changed; errors.bad_field = \"dead-letter\" keeps such rows out";
                    ("in whose accounts it is null", advice)
                };
                tracing::error!(
                    lender,
                    field,
                    code = %DRIFTS,
                    advice,
                    "upstream changed `{field}`: it is {found} in {last} of the last {window} rows and does not fit; since \
                     {since} in {row_count} rows, {what}"
                );
            }
            DriftNotice::Over {
                field,
                since,
                row_count,
            } => {
                tracing::warn!(
                    lender,
                    field,
                    "`{field}` fits again; it did not in {row_count} rows since {since}"
                );
            }
        }
    }
}
