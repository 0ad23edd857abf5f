//! What is read, what is left? The ranges and marks of one lender, how a page advances them, and the cursor record that
//! keeps them in Kafka.
//!
//! ```text
//!              range            range        T0        read            now
//! oldest ├────────────────┼────────────────┤├──────────┤┄┄┄ live ┄┄┄┄┄┄┤
//!                                      ├─┄ settled: below it nothing is expected any more
//! ```

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::account::instant;

/// A moment of upstream's clock in milliseconds since the epoch, written as upstream writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    pub fn before(self, duration: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)),
        )
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at.timestamp_millis())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_millis(self.0) {
            Some(at) => f.write_str(&at.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        instant(&text)
            .map(Self)
            .ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no RFC 3339 time")))
    }
}

/// A part of the past still being read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// As sent: the bounds that `cursor` belongs to.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The range ends at its first row at or after this.
    pub stop: Timestamp,
    /// Upstream's token for the next page; none before the first.
    pub cursor: Option<String>,
    /// The highest `updated_at` committed.
    pub highest: Option<Timestamp>,
}

/// Which reading a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Walk {
    /// The range with this `stop`: ranges do not overlap, so no two have the same.
    Range(Timestamp),
    Live,
    /// What may have become visible late, between the marks.
    Sweep,
    /// A part of everything, read once more to be put right: that with this `stop`. Moves no mark.
    Reconcile(Timestamp),
    /// Dead letters, tried once more. Moves no mark.
    Replay,
}

impl Walk {
    /// Where it ends, if it is one of parts that are shared out.
    pub fn stop(self) -> Option<Timestamp> {
        match self {
            Self::Range(stop) | Self::Reconcile(stop) => Some(stop),
            Self::Live | Self::Sweep | Self::Replay => None,
        }
    }
}

/// How far a page takes its walk.
#[derive(Debug, Clone)]
pub struct Step {
    pub walk: Walk,
    /// As sent with the page.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub next_cursor: Option<String>,
    /// The highest `updated_at` of the walk so far.
    pub highest: Option<Timestamp>,
    /// Upstream's clock when the walk's first answer was computed.
    pub clock: Timestamp,
    /// With the last page of a sweep: the lowest `updated_at` of a row that is left for the next one.
    pub left: Option<Timestamp>,
    pub is_last: bool,
}

/// A range becomes two: it ends at `at`, and a fresh walk reads `[at, stop)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The range's `stop` so far.
    pub stop: Timestamp,
    pub at: Timestamp,
}

/// Ranges and marks; none of them before the first snapshot began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// T0: what is older is snapshot, what is younger is live.
    pub first_snapshot_at: Option<Timestamp>,
    /// The `since` of the next live walk.
    pub read: Option<Timestamp>,
    /// Below this nothing is expected any more.
    pub settled: Option<Timestamp>,
    /// When everything was last read once more and put right.
    pub reconciled: Option<Timestamp>,
    pub ranges: Vec<Range>,
}

impl Progress {
    /// Begins the first snapshot at `t0`, upstream's clock; it leaves out what is older than `start_from`.
    pub fn begin(t0: Timestamp, late_window: Duration, start_from: Option<Timestamp>) -> Self {
        let start_from = start_from.map(|start_from| start_from.min(t0));
        Self {
            first_snapshot_at: Some(t0),
            read: Some(t0),
            settled: Some(t0.before(late_window)),
            reconciled: None,
            ranges: vec![Range {
                since: start_from,
                until: Some(t0),
                stop: t0,
                cursor: None,
                highest: None,
            }],
        }
    }

    /// Moves on by one verified page.
    ///
    /// `read` never passes the clock of the walk's first answer: a row dated ahead of it is read again by the next walk,
    /// and nothing that appears below such a row is missed. `settled` never passes what a sweep itself read, nor what may
    /// still have become visible after its first answer (Complete).
    pub fn advance(&mut self, step: &Step, late_window: Duration) {
        match step.walk {
            Walk::Range(stop) => {
                let place = self.ranges.iter().position(|range| range.stop == stop);
                let place = place.expect("a range is there until its last page");
                if step.is_last {
                    self.ranges.remove(place);
                    return;
                }
                let range = &mut self.ranges[place];
                range.since = step.since;
                range.until = step.until;
                range.cursor.clone_from(&step.next_cursor);
                range.highest = step.highest.or(range.highest);
            }
            Walk::Live if step.is_last => {
                let highest = step.highest.map(|highest| highest.min(step.clock));
                self.read = self.read.max(highest);
            }
            Walk::Sweep if step.is_last => {
                let expected_from = step.clock.before(late_window);
                let read = step.until.map(|until| until.min(expected_from));
                self.settled = self
                    .settled
                    .max(read.map(|read| step.left.map_or(read, |left| left.min(read))));
            }
            Walk::Live | Walk::Sweep | Walk::Reconcile(_) | Walk::Replay => {}
        }
    }

    /// Has everything from `to` on read again up to `read`: one range, in place of those that end after `to`. What they have
    /// left is part of it (Complete). `false`, and nothing is changed, where `to` is not before `read`.
    pub fn rewind(&mut self, to: Timestamp) -> bool {
        let Some(read) = self.read.filter(|read| to < *read) else {
            return false;
        };
        let replaced = self.ranges.iter().filter(|range| range.stop > to);
        let since = replaced.map(Range::position).fold(Some(to), Option::min);
        self.ranges.retain(|range| range.stop <= to);
        self.ranges.push(Range {
            since,
            until: Some(read),
            stop: read,
            cursor: None,
            highest: None,
        });
        true
    }

    /// Makes two ranges of one. It keeps its bounds and its cursor and ends at its first row at or after `at`, so nothing
    /// below `at` is left out; the new one reads everything from `at` on, so nothing above is (Complete).
    pub fn split(&mut self, split: Split) {
        let range = self.ranges.iter_mut().find(|range| range.stop == split.stop);
        let range = range.expect("a range is there until its last page");
        debug_assert!(
            range.highest.or(range.since).is_none_or(|position| position < split.at) && split.at < split.stop
        );
        range.stop = split.at;
        self.ranges.push(Range::fresh(split.at, split.stop));
        self.ranges.sort_by_key(|range| range.stop);
    }
}

impl Range {
    /// A walk over `[since, stop)` that has not begun.
    pub fn fresh(since: Timestamp, stop: Timestamp) -> Self {
        Self {
            since: Some(since),
            until: Some(stop),
            stop,
            cursor: None,
            highest: None,
        }
    }

    /// Where it stands: everything before is read. `None` where it reads from the oldest row on and has none yet.
    pub fn position(&self) -> Option<Timestamp> {
        self.highest.max(self.since)
    }
}

/// The version of the record that this program writes and reads.
pub const RECORD_VERSION: u32 = 1;

/// The value of a lender's record in the cursor topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The process that owns the lender; none once it was released.
    pub instance: Option<String>,
    /// Raised by every claim.
    pub epoch: u64,
    /// Raised by every commit.
    pub sequence: u64,
    pub base_url: String,
    pub progress: Progress,
    /// Count and checksum of the lender's accounts; none where they were not known yet (the first claim after a reset).
    pub accounts: Option<(u64, u64)>,
    /// The partition counts that keys were spread over, such as `accounts=6`.
    pub partitions: String,
}

/// Flat and primitive, as Kafka Connect's offsets have to be.
#[derive(Serialize, Deserialize)]
struct Flat {
    version: u32,
    instance: Option<String>,
    epoch: u64,
    sequence: u64,
    base_url: String,
    first_snapshot_at: Option<Timestamp>,
    read: Option<Timestamp>,
    settled: Option<Timestamp>,
    /// In no record before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reconciled: Option<Timestamp>,
    ranges: String,
    account_count: Option<u64>,
    account_checksum: Option<String>,
    partitions: String,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum RecordError {
    #[error("it is not a JSON object of the known form")]
    Form(#[source] std::sync::Arc<serde_json::Error>),
    #[error("its version is {found}, this program knows {RECORD_VERSION}")]
    Version { found: u64 },
    #[error("its `{field}` is unreadable")]
    Field { field: &'static str },
}

impl Record {
    /// Whether the same claim stands behind both; a release keeps the epoch but has no owner.
    pub fn has_owner_of(&self, other: &Self) -> bool {
        (self.epoch, &self.instance) == (other.epoch, &other.instance)
    }

    pub fn to_json(&self) -> String {
        let ranges = serde_json::to_string(&self.progress.ranges).expect("ranges are always JSON");
        let flat = Flat {
            version: RECORD_VERSION,
            instance: self.instance.clone(),
            epoch: self.epoch,
            sequence: self.sequence,
            base_url: self.base_url.clone(),
            first_snapshot_at: self.progress.first_snapshot_at,
            read: self.progress.read,
            settled: self.progress.settled,
            reconciled: self.progress.reconciled,
            ranges,
            account_count: self.accounts.map(|(count, _)| count),
            account_checksum: self.accounts.map(|(_, checksum)| format!("{checksum:016x}")),
            partitions: self.partitions.clone(),
        };
        serde_json::to_string(&flat).expect("a flat record is always JSON")
    }

    /// # Errors
    /// When it is of another version, or unreadable.
    pub fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        // The version first: another version's record may have any form.
        let any: serde_json::Value = serde_json::from_slice(json).map_err(|error| RecordError::Form(error.into()))?;
        match any.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(RECORD_VERSION) => {}
            Some(found) => return Err(RecordError::Version { found }),
            None => return Err(RecordError::Field { field: "version" }),
        }
        let flat: Flat = serde_json::from_value(any).map_err(|error| RecordError::Form(error.into()))?;
        let ranges = serde_json::from_str(&flat.ranges).map_err(|_| RecordError::Field { field: "ranges" })?;
        let accounts = match (flat.account_count, flat.account_checksum) {
            (None, None) => None,
            (Some(count), Some(hex)) if hex.len() == 16 => {
                let checksum = u64::from_str_radix(&hex, 16);
                Some((
                    count,
                    checksum.map_err(|_| RecordError::Field {
                        field: "account_checksum",
                    })?,
                ))
            }
            _ => {
                return Err(RecordError::Field {
                    field: "account_checksum",
                });
            }
        };
        Ok(Self {
            instance: flat.instance,
            epoch: flat.epoch,
            sequence: flat.sequence,
            base_url: flat.base_url,
            progress: Progress {
                first_snapshot_at: flat.first_snapshot_at,
                read: flat.read,
                settled: flat.settled,
                reconciled: flat.reconciled,
                ranges,
            },
            accounts,
            partitions: flat.partitions,
        })
    }
}

/// Whose record it is: the key in the cursor topic, in the form of Kafka Connect's source offsets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordKey {
    /// `<name>-<lender>`: the connector's name for Connect's tools.
    pub connector: String,
    pub lender_public_id: String,
}

#[derive(Serialize, Deserialize)]
struct Partition {
    dataset: String,
    lender: String,
}

impl RecordKey {
    pub fn to_json(&self) -> String {
        let partition = Partition {
            dataset: "D02".to_owned(),
            lender: self.lender_public_id.clone(),
        };
        serde_json::to_string(&(&self.connector, partition)).expect("a key is always JSON")
    }

    /// `None` for a key that is not of this dataset or form: another connector's offset.
    pub fn from_json(json: &[u8]) -> Option<Self> {
        let (connector, partition): (String, Partition) = serde_json::from_slice(json).ok()?;
        (partition.dataset == "D02").then_some(Self {
            connector,
            lender_public_id: partition.lender,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    fn begin(t0: i64) -> Progress {
        Progress::begin(Timestamp(t0), WINDOW, None)
    }

    fn step(walk: Walk, highest: i64, clock: i64, is_last: bool) -> Step {
        let next_cursor = (!is_last).then(|| "next".to_owned());
        let (highest, clock) = (Some(Timestamp(highest)), Timestamp(clock));
        Step {
            walk,
            since: None,
            until: Some(Timestamp(500)),
            next_cursor,
            highest,
            clock,
            left: None,
            is_last,
        }
    }

    #[test]
    fn a_range_moves_by_its_pages_and_goes_with_its_last() {
        let mut progress = begin(500);
        let walk = Walk::Range(Timestamp(500));
        assert_eq!(progress.settled, Some(Timestamp(400)));
        progress.advance(&step(walk, 30, 900, false), WINDOW);
        assert_eq!(progress.ranges[0].cursor.as_deref(), Some("next"));
        assert_eq!(progress.ranges[0].highest, Some(Timestamp(30)));
        progress.advance(&step(walk, 40, 900, true), WINDOW);
        assert!(progress.ranges.is_empty());
        assert_eq!(progress.read, Some(Timestamp(500)));
    }

    #[test]
    fn a_snapshot_begins_at_start_from_and_never_after_its_end() {
        let since = |start_from| {
            let progress = Progress::begin(Timestamp(500), WINDOW, Some(Timestamp(start_from)));
            progress.ranges[0].since
        };
        assert_eq!((since(30), since(900)), (Some(Timestamp(30)), Some(Timestamp(500))));
    }

    #[test]
    fn a_rewind_keeps_what_is_left_and_never_goes_forward() {
        let mut progress = begin(500);
        let untouched = progress.clone();
        assert!(!progress.rewind(Timestamp(500)) && !Progress::default().rewind(Timestamp(1)));
        assert_eq!(progress, untouched);
        progress.split(Split {
            stop: Timestamp(500),
            at: Timestamp(200),
        });
        progress.advance(&step(Walk::Range(Timestamp(200)), 150, 900, false), WINDOW);
        progress.advance(&step(Walk::Live, 700, 900, true), WINDOW);
        // Behind the first range, before the second: that one is left as it was, with what came since.
        assert!(progress.rewind(Timestamp(300)));
        let spans: Vec<_> = progress
            .ranges
            .iter()
            .map(|range| (range.position(), range.stop.0))
            .collect();
        assert_eq!(spans, [(Some(Timestamp(150)), 200), (Some(Timestamp(200)), 700)]);
        // Within the first.
        assert!(progress.rewind(Timestamp(160)));
        assert_eq!(progress.ranges, [Range::fresh(Timestamp(150), Timestamp(700))]);
        assert_eq!(
            (progress.read, progress.settled),
            (Some(Timestamp(700)), Some(Timestamp(400)))
        );
        assert!(progress.rewind(Timestamp(0)));
        assert_eq!(progress.ranges, [Range::fresh(Timestamp(0), Timestamp(700))]);
    }

    #[test]
    fn read_never_passes_the_clock_of_the_walk_and_never_goes_back() {
        let mut progress = begin(500);
        for (highest, clock, is_last, expected) in [
            (700, 900, false, 500),
            (700, 900, true, 700),
            (999, 900, true, 900),
            (600, 950, true, 900),
        ] {
            progress.advance(&step(Walk::Live, highest, clock, is_last), WINDOW);
            assert_eq!(
                progress.read,
                Some(Timestamp(expected)),
                "highest {highest}, clock {clock}"
            );
        }
        let empty = Step {
            highest: None,
            ..step(Walk::Live, 0, 990, true)
        };
        progress.advance(&empty, WINDOW);
        assert_eq!(progress.read, Some(Timestamp(900)));
    }

    #[test]
    fn settled_passes_neither_the_sweeps_end_nor_its_clock_nor_what_it_left_and_never_goes_back() {
        let mut progress = begin(500);
        for (until, clock, left, is_last, expected) in [
            (450, 900, None, false, 400),
            (450, 900, None, true, 450),
            (800, 900, Some(460), true, 460),
            (950, 900, None, true, 800),
            (950, 900, Some(850), true, 800),
            (700, 900, None, true, 800),
        ] {
            let step = Step {
                until: Some(Timestamp(until)),
                left: left.map(Timestamp),
                ..step(Walk::Sweep, 0, clock, is_last)
            };
            progress.advance(&step, WINDOW);
            assert_eq!(progress.settled, Some(Timestamp(expected)), "{step:?}");
        }
        assert_eq!(progress.read, Some(Timestamp(500)));
    }

    /// What can happen to the ranges: one is split at a share of what is left of it, or moves on by such a share, or ends.
    #[derive(Debug, Clone)]
    enum Event {
        Split(prop::sample::Index, f64),
        Page(prop::sample::Index, f64),
        Last(prop::sample::Index),
        Rewind(f64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let (range, share) = (any::<prop::sample::Index>(), 0.0..1.0);
        prop_oneof![
            (range, share.clone()).prop_map(|(range, share)| Event::Split(range, share)),
            (any::<prop::sample::Index>(), share).prop_map(|(range, share)| Event::Page(range, share)),
            any::<prop::sample::Index>().prop_map(Event::Last),
            (0.0..1.0).prop_map(Event::Rewind),
        ]
    }

    proptest! {
        #[test]
        fn splitting_advancing_and_reading_back_never_lose_or_overlap_a_part_of_time(
            events in prop::collection::vec(event(), 0..60)
        ) {
            const T0: i64 = 1_000_000;
            let mut progress = Progress::begin(Timestamp(T0), WINDOW, Some(Timestamp(0)));
            // What was read, as spans of time.
            let mut read: Vec<(i64, i64)> = Vec::new();
            for event in events {
                if let Event::Rewind(share) = event {
                    let to = (T0 as f64 * share) as i64;
                    prop_assert!(progress.rewind(Timestamp(to)));
                    // Read as it may be, from there on nothing is.
                    for (_, end) in &mut read {
                        *end = (*end).min(to);
                    }
                    read.retain(|(from, end)| from <= end);
                    let left = progress.ranges.last().expect("one");
                    prop_assert!(left.position().expect("it begins somewhere").0 <= to && left.stop.0 == T0);
                    continue;
                }
                if progress.ranges.is_empty() {
                    break;
                }
                let (Event::Split(range, _) | Event::Page(range, _) | Event::Last(range)) = &event else {
                    unreachable!("a rewind is handled above");
                };
                let range = progress.ranges[range.index(progress.ranges.len())].clone();
                let position = range.position().expect("it begins somewhere").0;
                let part = |share: f64| position + ((range.stop.0 - position) as f64 * share) as i64;
                match event {
                    Event::Split(_, share) => {
                        let at = part(share);
                        if position < at && at < range.stop.0 {
                            progress.split(Split { stop: range.stop, at: Timestamp(at) });
                        }
                    }
                    Event::Page(_, share) => {
                        let highest = part(share).min(range.stop.0 - 1);
                        read.push((position, highest));
                        let step = Step { since: range.since, until: range.until, ..step(Walk::Range(range.stop), highest, T0, false) };
                        progress.advance(&step, WINDOW);
                    }
                    Event::Last(_) | Event::Rewind(_) => {
                        read.push((position, range.stop.0));
                        progress.advance(&step(Walk::Range(range.stop), range.stop.0 - 1, T0, true), WINDOW);
                    }
                }
                let record = Record {
                    instance: None, epoch: 1, sequence: 1, base_url: String::new(), progress: progress.clone(),
                    accounts: None, partitions: String::new(),
                };
                progress = Record::from_json(record.to_json().as_bytes()).expect("readable").progress;
                // What is read and what is left, one after another, are all of the time, none of it left twice.
                let mut left: Vec<_> = progress.ranges.iter()
                    .map(|range| (range.position().expect("it begins somewhere").0, range.stop.0))
                    .collect();
                left.sort_unstable();
                prop_assert!(left.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", left);
                let mut all: Vec<_> = read.iter().chain(&left).copied().collect();
                all.sort_unstable();
                let mut end = 0;
                for (from, to) in all {
                    prop_assert!(from <= end, "a gap from {end} to {from}");
                    end = end.max(to);
                }
                prop_assert_eq!(end, T0);
            }
        }
    }

    #[test]
    fn version_1_of_the_record_is_this_text() {
        let mut progress = Progress::begin(Timestamp(1_780_000_000_123), Duration::from_secs(600), None);
        progress.ranges[0].cursor = Some("b\"".into());
        let record = Record {
            instance: Some("i".into()),
            epoch: 3,
            sequence: 7,
            base_url: "https://x".into(),
            progress,
            accounts: Some((2, 255)),
            partitions: "accounts=6".into(),
        };
        let golden = include_str!("../tests/golden/cursor-record-v1.json").trim_end();
        assert_eq!(record.to_json(), golden);
        assert_eq!(Record::from_json(golden.as_bytes()).expect("readable"), record);
    }

    #[test]
    fn another_version_and_rubbish_are_told_apart() {
        let error = |json: &str| Record::from_json(json.as_bytes()).expect_err("refused").to_string();
        assert_eq!(
            error(r#"{"version":2,"anything":{}}"#),
            "its version is 2, this program knows 1"
        );
        assert_eq!(error(r#"{"position":14}"#), "its `version` is unreadable");
        assert_eq!(error("rubbish"), "it is not a JSON object of the known form");
        assert_eq!(error(r#"{"version":1}"#), "it is not a JSON object of the known form");
    }

    #[test]
    fn the_key_has_the_form_of_connects_offsets() {
        let key = RecordKey {
            connector: "d02-source-acme".into(),
            lender_public_id: "5f0c".into(),
        };
        assert_eq!(
            key.to_json(),
            r#"["d02-source-acme",{"dataset":"D02","lender":"5f0c"}]"#
        );
        assert_eq!(RecordKey::from_json(key.to_json().as_bytes()), Some(key));
        assert_eq!(RecordKey::from_json(br#"["fs",{"filename":"in.txt"}]"#), None);
    }
}
