//! What stands in the cursor topic? A lender's progress and claim as JSON, and the key it stands under.

use serde::{Deserialize, Serialize};

use super::ends::TopicEnds;
use super::marks::Progress;
use super::range::{Place, Range};
use super::timestamp::Timestamp;

/// The version of the record that this program writes and reads.
const RECORD_VERSION: u32 = 1;

/// The value of a lender's record in the cursor topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
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
    /// How far its topics were written, before this record.
    pub ends: TopicEnds,
    /// The Kafka group whose member owns the lender; none where it is run alone.
    pub group: Option<String>,
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
    /// Where the snapshot began later than with the oldest row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_from: Option<Timestamp>,
    ranges: String,
    /// What follows is in no record before there was any; who does not know it reads on without.
    ///
    /// JSON: the `last_id` of each range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    range_last_ids: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place_since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place_cursor: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place_last_id: Option<String>,
    account_count: Option<u64>,
    account_checksum: Option<String>,
    partitions: String,
    /// JSON; in no record before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_ends: Option<String>,
    /// In no record before there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    group: Option<String>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum RecordError {
    #[error("it is not a JSON object of the known form")]
    Form(#[source] std::sync::Arc<serde_json::Error>),
    #[error("its version is {found}, this program knows {RECORD_VERSION}")]
    Version { found: u64 },
    #[error("its `{field}` is unreadable")]
    Field { field: &'static str },
}

impl Record {
    /// Whether the same claim stands behind both; a release keeps the epoch but has no owner.
    pub(crate) fn has_owner_of(&self, other: &Self) -> bool {
        (self.epoch, &self.instance) == (other.epoch, &other.instance)
    }

    pub(crate) fn to_json(&self) -> String {
        let ranges = serde_json::to_string(&self.progress.ranges).expect("ranges are always JSON");
        let last_ids: Vec<_> = self.progress.ranges.iter().map(|range| &range.last_id).collect();
        let range_last_ids = last_ids.iter().any(|id| id.is_some());
        let place = self.progress.place.clone();
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
            start_from: self.progress.start_from,
            ranges,
            range_last_ids: range_last_ids.then(|| serde_json::to_string(&last_ids).expect("texts are always JSON")),
            place_since: place.as_ref().and_then(|place| place.since),
            place_last_id: place.as_ref().map(|place| place.last_id.to_string()),
            place_cursor: place.map(|place| place.cursor),
            account_count: self.accounts.map(|(count, _)| count),
            account_checksum: self.accounts.map(|(_, checksum)| format!("{checksum:016x}")),
            partitions: self.partitions.clone(),
            topic_ends: (self.ends != TopicEnds::default())
                .then(|| serde_json::to_string(&self.ends).expect("numbers are always JSON")),
            group: self.group.clone(),
        };
        serde_json::to_string(&flat).expect("a flat record is always JSON")
    }

    /// The same in no more than `limit` bytes, as far as that can be, and how many cursors are left out for it, the longest first:
    /// a range without its cursor is read on from its highest row, and live without its place from `read` (Complete).
    pub(crate) fn into_json_within(mut self, limit: usize) -> (String, usize) {
        let (mut json, mut left_out) = (self.to_json(), 0);
        while json.len() > limit {
            let Progress { ranges, place, .. } = &mut self.progress;
            let length = |range: &&mut Range| range.cursor.as_ref().map_or(0, String::len);
            match ranges
                .iter_mut()
                .filter(|range| range.cursor.is_some())
                .max_by_key(length)
            {
                Some(range) => range.forget_cursor(),
                None if place.is_some() => *place = None,
                None => break,
            }
            (json, left_out) = (self.to_json(), left_out + 1);
        }
        (json, left_out)
    }

    /// # Errors
    /// When it is of another version, or unreadable.
    pub(crate) fn from_json(json: &[u8]) -> Result<Self, RecordError> {
        // The version first: another version's record may have any form.
        let any: serde_json::Value = serde_json::from_slice(json).map_err(|error| RecordError::Form(error.into()))?;
        match any.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version == u64::from(RECORD_VERSION) => {}
            Some(found) => return Err(RecordError::Version { found }),
            None => return Err(RecordError::Field { field: "version" }),
        }
        let flat: Flat = serde_json::from_value(any).map_err(|error| RecordError::Form(error.into()))?;
        let unreadable = |field| move |_: serde_json::Error| RecordError::Field { field };
        let mut ranges: Vec<Range> = serde_json::from_str(&flat.ranges).map_err(unreadable("ranges"))?;
        if let Some(last_ids) = &flat.range_last_ids {
            let last_ids: Vec<Option<Box<str>>> =
                serde_json::from_str(last_ids).map_err(unreadable("range_last_ids"))?;
            for (range, last_id) in ranges.iter_mut().zip(last_ids) {
                range.last_id = last_id;
            }
        }
        let ends = flat
            .topic_ends
            .as_deref()
            .map_or(Ok(TopicEnds::default()), serde_json::from_str);
        let ends = ends.map_err(unreadable("topic_ends"))?;
        let place = flat
            .place_cursor
            .zip(flat.place_last_id)
            .map(|(cursor, last_id)| Place {
                since: flat.place_since,
                cursor,
                last_id: last_id.into(),
                row_count: 0,
            });
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
                place,
                settled: flat.settled,
                reconciled: flat.reconciled,
                start_from: flat.start_from,
                ranges,
            },
            accounts,
            partitions: flat.partitions,
            ends,
            group: flat.group,
        })
    }
}

/// Whose record it is: the key in the cursor topic, in the form of Kafka Connect's source offsets.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RecordKey {
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
    pub(crate) fn to_json(&self) -> String {
        let partition = Partition {
            dataset: "D02".to_owned(),
            lender: self.lender_public_id.clone(),
        };
        serde_json::to_string(&(&self.connector, partition)).expect("a key is always JSON")
    }

    /// `None` for a key that is not of this dataset or form: another connector's offset.
    pub(crate) fn from_json(json: &[u8]) -> Option<Self> {
        let (connector, partition): (String, Partition) = serde_json::from_slice(json).ok()?;
        (partition.dataset == "D02").then_some(Self {
            connector,
            lender_public_id: partition.lender,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

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
            ends: TopicEnds::default(),
            group: None,
        };
        let golden = include_str!("../../tests/golden/cursor-record-v1.json").trim_end();
        assert_eq!(record.to_json(), golden);
        assert_eq!(Record::from_json(golden.as_bytes()).expect("readable"), record);
    }

    #[test]
    fn a_record_that_is_too_large_leaves_the_longest_cursors_out_and_none_of_the_time_that_is_left() {
        let at = |time| Some(Timestamp(time));
        let range = |stop, cursor: usize| Range {
            since: at(stop - 90),
            until: at(stop + 500),
            stop: Timestamp(stop),
            cursor: Some("c".repeat(cursor)),
            highest: at(stop - 50),
            last_id: Some("id".into()),
        };
        let mut progress = Progress::begin(Timestamp(1_000), Duration::from_secs(600), None);
        progress.ranges = vec![range(100, 50), range(200, 4_000), range(300, 3_000)];
        progress.place = Some(Place {
            since: at(1_000),
            cursor: "p".repeat(2_000),
            last_id: "id".into(),
            row_count: 0,
        });
        let record = Record {
            instance: Some("i".into()),
            epoch: 1,
            sequence: 1,
            base_url: "https://x".into(),
            progress,
            accounts: None,
            partitions: "accounts=6".into(),
            ends: TopicEnds::default(),
            group: None,
        };
        for (limit, left_out, cursors, has_place) in [
            (20_000, 0, [true, true, true], true),
            (8_000, 1, [true, false, true], true),
            (5_000, 2, [true, false, false], true),
            (2_500, 4, [false, false, false], false),
            (100, 4, [false, false, false], false),
        ] {
            let (json, count) = record.clone().into_json_within(limit);
            assert!(json.len() <= limit.max(1_500), "{limit}: {}", json.len());
            let read = Record::from_json(json.as_bytes()).expect("readable").progress;
            let found: Vec<_> = read.ranges.iter().map(|range| range.cursor.is_some()).collect();
            assert_eq!(
                (count, &*found, read.place.is_some()),
                (left_out, &cursors[..], has_place)
            );
            for (range, before) in read.ranges.iter().zip(&record.progress.ranges) {
                let left = |range: &Range| (range.position(), range.stop);
                assert_eq!(left(range), left(before), "{limit}");
                let is_fresh = range.since == before.position() && range.until == Some(range.stop);
                assert_eq!(is_fresh, range.cursor.is_none(), "{limit}: what is asked for");
            }
        }
    }

    #[test]
    fn what_the_snapshot_left_out_stands_in_the_record_beside_what_an_older_program_reads() {
        let from = Some(Timestamp(1_780_000_000_000));
        let record = Record {
            instance: None,
            epoch: 1,
            sequence: 1,
            base_url: "https://x".into(),
            progress: Progress::begin(Timestamp(1_780_000_000_123), Duration::from_secs(600), from),
            accounts: None,
            partitions: "accounts=6".into(),
            ends: TopicEnds::default(),
            group: None,
        };
        let json = record.to_json();
        assert!(
            json.contains(r#""start_from":"2026-05-28T20:26:40.000Z","ranges""#),
            "{json}"
        );
        assert_eq!(Record::from_json(json.as_bytes()).expect("readable"), record);
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
