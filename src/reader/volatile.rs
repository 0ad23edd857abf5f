//! Does the content of rows differ each time they are read? One alarm then, which names the members. Pure.
//!
//! What comes again under an equal `updated_at` (the newest rows at each poll, the latest ones at each sweep) is the same
//! account, so its content should be. Of a few accounts, the same ones whatever the page, hashes of the members are kept, and
//! held against those of the next reading. Where more than one row in twenty differs, content is *volatile*: it is written again
//! at each reading. That is over when a window is better and no such one was seen for a while: labels that were resolved anew
//! differ once.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use twox_hash::XxHash3_64;

use super::drift::is_past;
use crate::account::Digest;
use crate::progress::Timestamp;

/// Accounts of which hashes are kept. Those whose ids have the lowest hashes, so that the next reading meets the same ones.
const MAX_ROWS: usize = 100;

/// Members of one row of which a hash is kept. D02 has 24.
const MAX_MEMBERS: usize = 64;

/// Names that are known; an upstream that invents them must not fill the memory.
const MAX_NAMES: usize = 200;

/// What of a name is kept, in characters.
const MAX_NAME: usize = 100;

/// The most members that an alarm names.
const MAX_NAMED: usize = 8;

/// Fewer rows tell nothing.
const LEAST_ROWS: u64 = 20;

/// From how much of a window on it is an alarm, per cent; this much is none.
const TOLERABLE: u64 = 5;

/// Volatile content that was not seen for so long may be over. More than a few sweeps.
const QUIET: Duration = Duration::from_secs(600);

/// What was not seen again for so long does not come again.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// The first pause between two lines; it doubles with each line.
const FIRST_PAUSE: Duration = Duration::from_secs(600);
const LONGEST_PAUSE: Duration = Duration::from_secs(6 * 3600);

/// A row's members by name, each with a hash of its value.
pub(super) type MemberHashes = Vec<(String, u64)>;

/// What is worth a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VolatileNotice {
    Differs {
        /// Of `window` rows that were read again, so many differ.
        row_count: u64,
        window: u64,
        /// The members in which they do, the most frequent first; none where upstream has too many names.
        members: Vec<Box<str>>,
        since: Timestamp,
        /// All since then.
        total: u64,
    },
    Over {
        members: Vec<Box<str>>,
        since: Timestamp,
        total: u64,
    },
}

/// What of one lender's content is volatile.
#[derive(Debug, Default)]
pub(super) struct Volatile {
    /// By a hash of the id.
    kept: BTreeMap<u64, Kept>,
    /// By name, its place in `names`.
    places: HashMap<Box<str>, u16>,
    names: Vec<Box<str>>,
    readings: Readings,
    alarm: Option<Alarm>,
}

/// An account as it was last read.
#[derive(Debug)]
struct Kept {
    updated_at: i64,
    digest: Digest,
    /// Names by their places.
    members: Vec<(u16, u64)>,
    seen_at: Timestamp,
}

/// Rows that were read again and are not yet judged.
#[derive(Debug, Default)]
struct Readings {
    row_count: u64,
    differing_count: u64,
    /// In how many rows a member differs, by its place.
    members: BTreeMap<u16, u64>,
}

#[derive(Debug)]
struct Alarm {
    members: Vec<u16>,
    since: Timestamp,
    total: u64,
    seen_at: Timestamp,
    said_at: Timestamp,
    pause: Duration,
}

impl Volatile {
    /// Takes a row of a page that may come again. `members` is asked for few of them.
    pub(super) fn note(
        &mut self,
        public_id: &[u8],
        updated_at: i64,
        digest: Digest,
        now: Timestamp,
        members: impl FnOnce() -> MemberHashes,
    ) {
        let key = XxHash3_64::oneshot(public_id);
        if let Some(kept) = self.kept.get_mut(&key) {
            if updated_at < kept.updated_at {
                // A page that was asked for earlier.
                return;
            }
            kept.seen_at = now;
            if updated_at == kept.updated_at {
                self.readings.row_count += 1;
                if digest == kept.digest {
                    return;
                }
            }
        } else if self.kept.len() >= MAX_ROWS && self.kept.last_key_value().is_some_and(|(last, _)| key > *last) {
            return;
        }
        let new = Kept {
            updated_at,
            digest,
            members: self.placed(members()),
            seen_at: now,
        };
        if let Some(old) = self.kept.get(&key).filter(|old| old.updated_at == updated_at) {
            self.readings.differing_count += 1;
            for place in differing(&old.members, &new.members) {
                *self.readings.members.entry(place).or_default() += 1;
            }
        }
        self.kept.insert(key, new);
        if self.kept.len() > MAX_ROWS {
            self.kept.pop_last();
        }
    }

    /// Rows from before `since` do not come again.
    pub(super) fn forget_before(&mut self, since: Timestamp) {
        self.kept.retain(|_, kept| kept.updated_at >= since.0);
    }

    /// Judges what was taken, if it is enough; gives what is worth a line now.
    pub(super) fn judge(&mut self, now: Timestamp) -> Option<VolatileNotice> {
        self.kept.retain(|_, kept| !is_past(kept.seen_at, FORGOTTEN, now));
        let is_long_ago = |alarm: &Alarm| is_past(alarm.seen_at, FORGOTTEN, now);
        if self.readings.row_count < LEAST_ROWS {
            return self
                .alarm
                .take_if(|alarm| is_long_ago(alarm))
                .map(|alarm| self.over(alarm));
        }
        let window = std::mem::take(&mut self.readings);
        if window.differing_count * 100 > window.row_count * TOLERABLE {
            return self.differs(&window, now);
        }
        let over = self.alarm.take_if(|alarm| is_past(alarm.seen_at, QUIET, now));
        over.map(|alarm| self.over(alarm))
    }

    /// How many members are volatile now; one at least where there is an alarm.
    pub(super) fn member_count(&self) -> usize {
        self.alarm.as_ref().map_or(0, |alarm| alarm.members.len().max(1))
    }

    fn differs(&mut self, window: &Readings, now: Timestamp) -> Option<VolatileNotice> {
        let is_new = self.alarm.is_none();
        let alarm = self.alarm.get_or_insert_with(|| Alarm {
            members: Vec::new(),
            since: now,
            total: 0,
            seen_at: now,
            said_at: now,
            pause: FIRST_PAUSE,
        });
        alarm.total += window.differing_count;
        alarm.seen_at = now;
        let known_count = alarm.members.len();
        for place in window.volatile() {
            if alarm.members.len() < MAX_NAMED && !alarm.members.contains(&place) {
                alarm.members.push(place);
            }
        }
        let is_due = is_past(alarm.said_at, alarm.pause, now);
        if !is_new && !is_due && alarm.members.len() == known_count {
            return None;
        }
        alarm.said_at = now;
        if is_due {
            alarm.pause = (alarm.pause * 2).min(LONGEST_PAUSE);
        }
        Some(VolatileNotice::Differs {
            row_count: window.differing_count,
            window: window.row_count,
            members: named(&self.names, &alarm.members),
            since: alarm.since,
            total: alarm.total,
        })
    }

    fn over(&self, alarm: Alarm) -> VolatileNotice {
        VolatileNotice::Over {
            members: named(&self.names, &alarm.members),
            since: alarm.since,
            total: alarm.total,
        }
    }

    /// The members by the places of their names, sorted. Those that find no room are left out.
    fn placed(&mut self, members: MemberHashes) -> Vec<(u16, u64)> {
        let mut placed = Vec::with_capacity(members.len().min(MAX_MEMBERS));
        for (name, hash) in members.into_iter().take(MAX_MEMBERS) {
            let name = match name.char_indices().nth(MAX_NAME) {
                Some((end, _)) => &name[..end],
                None => &name,
            };
            let place = self.places.get(name).copied().or_else(|| {
                let place = u16::try_from(self.names.len())
                    .ok()
                    .filter(|_| self.names.len() < MAX_NAMES)?;
                self.names.push(name.into());
                self.places.insert(name.into(), place);
                Some(place)
            });
            placed.extend(place.map(|place| (place, hash)));
        }
        placed.sort_unstable();
        placed
    }
}

impl Readings {
    /// The members that make it an alarm, the most frequent first. Where none does by itself, the most frequent one.
    fn volatile(&self) -> Vec<u16> {
        let mut members: Vec<_> = self.members.iter().map(|(place, count)| (*place, *count)).collect();
        members.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let is_volatile = |count: u64| count * 100 > self.row_count * TOLERABLE;
        let volatile_count = members.iter().filter(|(_, count)| is_volatile(*count)).count();
        members.truncate(volatile_count.max(1));
        members.into_iter().map(|(place, _)| place).collect()
    }
}

fn named(names: &[Box<str>], places: &[u16]) -> Vec<Box<str>> {
    places.iter().map(|place| names[usize::from(*place)].clone()).collect()
}

/// The places of the members that are not the same on both sides, which are sorted.
fn differing(one: &[(u16, u64)], other: &[(u16, u64)]) -> Vec<u16> {
    let only = |one: &[(u16, u64)], other: &[(u16, u64)]| -> Vec<u16> {
        let only = one.iter().filter(|member| other.binary_search(member).is_err());
        only.map(|(place, _)| *place).collect()
    };
    let mut places = only(one, other);
    places.extend(only(other, one));
    places.sort_unstable();
    places.dedup();
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lender's rows as they are read time and again, by the second.
    #[derive(Default)]
    struct Told {
        volatile: Volatile,
        lines: Vec<(i64, VolatileNotice)>,
    }

    /// Row `number` with these members.
    struct Row<'a>(u64, &'a [(&'static str, u64)]);

    impl Told {
        fn page(&mut self, second: i64, rows: &[Row<'_>]) {
            let now = Timestamp(second * 1_000);
            for Row(number, members) in rows {
                let content = members.iter().fold(0, |hash, (name, value)| {
                    XxHash3_64::oneshot_with_seed(hash, &[name.as_bytes(), &value.to_le_bytes()].concat())
                });
                let members = || {
                    members
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), *value))
                        .collect()
                };
                let (id, updated_at) = (number.to_le_bytes(), i64::try_from(*number).expect("few"));
                self.volatile.note(&id, updated_at, Digest(content), now, members);
            }
            let said = self.volatile.judge(now);
            self.lines.extend(said.map(|said| (second, said)));
        }

        /// A sweep over so many rows; in the first `differing` of them `member` has the value of this second.
        fn sweep(&mut self, second: i64, rows: u64, differing: u64, member: &'static str) {
            for number in 0..rows {
                let value = if number < differing { second.unsigned_abs() } else { 0 };
                let members = [("status", 1), (member, value)];
                let now = Timestamp(second * 1_000);
                let hash = Digest(value);
                let members = || {
                    members
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), *value))
                        .collect()
                };
                self.volatile.note(&number.to_le_bytes(), 7, hash, now, members);
            }
            let said = self.volatile.judge(Timestamp(second * 1_000));
            self.lines.extend(said.map(|said| (second, said)));
        }

        fn seconds(&self) -> Vec<i64> {
            self.lines.iter().map(|(second, _)| *second).collect()
        }
    }

    #[test]
    fn what_differs_at_each_reading_is_one_line_that_names_it_and_then_one_at_growing_intervals() {
        let mut told = Told::default();
        for second in (0..20_000).step_by(60) {
            told.sweep(second, 80, 80, "exported_at");
        }
        assert_eq!(told.seconds(), [60, 660, 1_860, 4_260, 9_060, 18_660]);
        let expected = VolatileNotice::Differs {
            row_count: 80,
            window: 80,
            members: vec!["exported_at".into()],
            since: Timestamp(60_000),
            total: 80 * 11,
        };
        assert_eq!(told.lines[1].1, expected);
        assert_eq!(told.volatile.member_count(), 1);
    }

    #[test]
    fn up_to_one_row_in_twenty_is_no_alarm() {
        for (differing, is_alarm) in [(0, false), (1, false), (4, false), (5, true), (80, true)] {
            let mut told = Told::default();
            (0..10).for_each(|minute| told.sweep(minute * 60, 80, differing, "exported_at"));
            assert_eq!(told.lines.len(), usize::from(is_alarm), "{differing} of 80");
        }
    }

    #[test]
    fn labels_that_are_resolved_anew_once_leave_no_alarm_on() {
        let mut told = Told::default();
        told.sweep(0, 80, 0, "merchant_name");
        told.sweep(60, 80, 80, "merchant_name");
        // From then on it stays as it then was.
        let again: Vec<(&str, u64)> = vec![("status", 1), ("merchant_name", 60)];
        for minute in 2..30 {
            for number in 0..80u64 {
                let members = || again.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
                let now = Timestamp(minute * 60_000);
                told.volatile.note(&number.to_le_bytes(), 7, Digest(60), now, members);
            }
            let said = told.volatile.judge(Timestamp(minute * 60_000));
            told.lines.extend(said.map(|said| (minute * 60, said)));
        }
        assert_eq!(told.seconds(), [60, 660]);
        let over = VolatileNotice::Over {
            members: vec!["merchant_name".into()],
            since: Timestamp(60_000),
            total: 80,
        };
        assert_eq!((&told.lines[1].1, told.volatile.member_count()), (&over, 0));
    }

    #[test]
    fn an_alarm_ends_by_itself_where_nothing_comes_again() {
        let mut told = Told::default();
        (0..2).for_each(|minute| told.sweep(minute * 60, 80, 80, "exported_at"));
        (2..61).for_each(|minute| told.page(minute * 60, &[]));
        assert_eq!(told.volatile.member_count(), 1);
        told.page(61 * 60, &[]);
        assert_eq!((told.seconds(), told.volatile.member_count()), (vec![60, 3_660], 0));
        assert!(told.volatile.kept.is_empty());
    }

    #[test]
    fn the_newest_row_alone_is_judged_by_many_polls() {
        let mut told = Told::default();
        for poll in 0..=20 {
            assert!(told.lines.is_empty(), "{poll}");
            told.page(poll * 5, &[Row(1, &[("exported_at", poll.unsigned_abs())])]);
        }
        assert_eq!(told.seconds(), [100]);
    }

    #[test]
    fn a_row_that_changed_under_another_time_is_no_reading_of_the_same() {
        let mut volatile = Volatile::default();
        for minute in 0..100 {
            let members = || vec![("status".to_owned(), minute)];
            let updated_at = i64::try_from(minute).expect("few");
            for id in 0..50u64 {
                let digest = Digest(minute);
                volatile.note(&id.to_le_bytes(), updated_at, digest, Timestamp(0), members);
                // What was asked for before comes behind it.
                volatile.note(&id.to_le_bytes(), updated_at - 1, Digest(0), Timestamp(0), Vec::new);
            }
            assert_eq!(volatile.judge(Timestamp(0)), None);
        }
    }

    #[test]
    fn members_that_come_and_go_are_named_and_a_new_one_is_a_line() {
        let mut told = Told::default();
        for minute in 0..10u64 {
            let now = i64::try_from(minute * 60).expect("few");
            let with = [("b", 1), ("a", minute)];
            let members: &[_] = if minute < 5 {
                &with[..1]
            } else if minute % 2 == 0 {
                &with
            } else {
                &with[1..]
            };
            let rows: Vec<_> = (0..40).map(|number| Row(number, members)).collect();
            told.page(now, &rows);
        }
        // At minute 5 `b` goes and `a` comes.
        assert_eq!(told.seconds(), [300]);
        let VolatileNotice::Differs { members, .. } = &told.lines[0].1 else {
            panic!("{:?}", told.lines)
        };
        assert_eq!(members.iter().map(|name| &**name).collect::<Vec<_>>(), ["b", "a"]);
        // Another one, while the alarm is on.
        for minute in 10..12u64 {
            let with = [("b", 1), ("a", 9), ("c", minute)];
            let rows: Vec<_> = (0..40).map(|number| Row(number, &with)).collect();
            told.page(i64::try_from(minute * 60).expect("few"), &rows);
        }
        assert_eq!((told.seconds(), told.volatile.member_count()), (vec![300, 600], 3));
    }

    #[test]
    fn whatever_upstream_sends_little_is_kept_and_few_are_named() {
        let mut volatile = Volatile::default();
        let mut said = Vec::new();
        for reading in 0..5u64 {
            for number in 0..5_000u64 {
                let name = |member: u64| format!("{number}-{member}-{}", "é".repeat(150));
                let members = || (0..200).map(|member| (name(member), reading)).collect();
                volatile.note(&number.to_le_bytes(), 7, Digest(reading), Timestamp(0), members);
            }
            said.extend(volatile.judge(Timestamp(0)));
        }
        assert_eq!((volatile.kept.len(), volatile.names.len()), (MAX_ROWS, MAX_NAMES));
        assert!(volatile.kept.values().all(|kept| kept.members.len() <= MAX_MEMBERS));
        assert!(volatile.names.iter().all(|name| name.chars().count() <= MAX_NAME));
        let VolatileNotice::Differs { members, window, .. } = &said[0] else {
            panic!("{said:?}")
        };
        assert!(members.len() <= MAX_NAMED);
        assert_eq!(*window, MAX_ROWS as u64, "the same rows were met again");
        volatile.forget_before(Timestamp(8));
        assert!(volatile.kept.is_empty());
    }
}
