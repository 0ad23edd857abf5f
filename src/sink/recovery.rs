//! What is committed? The cursor records, the index and the dead letters, read back from their topics.
//!
//! Everything rests on reading to the *true* end. Why [`read_to_end`] does:
//!
//! - The end is each partition's high watermark as a `read_uncommitted` client sees it, asked for after
//!   `init_transactions`: a `read_committed` one is told the last stable offset, which another lender's open
//!   transaction holds below our own committed record (Complete, Once).
//! - Reading is `read_committed`, so nothing aborted is taken for state (Atomic).
//! - It ends when the consumer's position, which counts control records, reaches that offset. No end-of-partition event
//!   and no empty poll ends it: both occur at the last stable offset.
//! - Where compaction emptied the last batches there is nothing left that could move the position. Then, and only while
//!   the last stable offset is at or past the end, the rest is fetched anew: an end-of-partition event that follows
//!   this new fetch says that the rest holds no record.
//! - It fails when the time is up. No cursor is never concluded from not having found one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{self, Cluster, Context, Isolation};
use super::{SinkError, transaction_timeout};
use crate::account::Digest;
use crate::index::Index;
use crate::progress::{Record, RecordError, RecordKey};
use crate::shutdown::Shutdown;

/// Beyond the longest time that somebody's open transaction can hide records.
const GRACE: Duration = Duration::from_secs(30);

/// One question to the cluster.
const QUERY_LIMIT: Duration = Duration::from_secs(15);

/// Topic and partition.
type Place = (String, i32);

/// Low and high watermark of partitions.
type Watermarks = BTreeMap<Place, (i64, i64)>;

struct Part {
    end: i64,
    position: i64,
    /// Fetched anew, to see whether the rest is empty.
    is_confirming: bool,
}

/// Reads whole topics up to the end they had when this was called.
fn read_to_end(
    cluster: &Cluster,
    topics: &[String],
    shutdown: &Shutdown,
    mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), SinkError>,
) -> Result<Watermarks, SinkError> {
    /// Long enough to be quiet when nothing comes, short enough for a shutdown.
    const POLL: Duration = Duration::from_millis(100);
    /// Long after a first fetch has answered.
    const QUIET: Duration = Duration::from_secs(3);
    let (begun, limit) = (Instant::now(), transaction_timeout() + GRACE);
    let reader = cluster.reader(Isolation::ReadCommitted)?;
    let bounds = watermarks(cluster, topics)?;
    let mut parts: BTreeMap<Place, Part> = bounds
        .iter()
        .filter(|(_, (low, high))| low < high)
        .map(|(place, (low, high))| {
            (
                place.clone(),
                Part {
                    end: *high,
                    position: *low,
                    is_confirming: false,
                },
            )
        })
        .collect();
    assign(&reader, &parts)?;
    let mut quiet_since = Instant::now();
    while !parts.is_empty() {
        match reader.poll(POLL) {
            Some(Ok(message)) => {
                quiet_since = Instant::now();
                let place = (message.topic().to_owned(), message.partition());
                if let Some(part) = parts.get_mut(&place) {
                    if message.offset() < part.end {
                        take(&message)?;
                    }
                    part.position = message.offset() + 1;
                    if part.position >= part.end {
                        parts.remove(&place);
                    }
                }
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                let before = parts.len();
                parts.retain(|(_, number), part| !(part.is_confirming && *number == partition));
                if parts.len() < before {
                    assign(&reader, &parts)?;
                }
            }
            Some(Err(error)) if !is_passing(&error) => {
                let reason = reader.context().reason();
                return Err(SinkError::Kafka {
                    doing: "reading a topic",
                    reason,
                    source: error,
                });
            }
            Some(Err(_)) | None => {}
        }
        if shutdown.is_requested() {
            return Err(SinkError::Interrupted);
        }
        let positions = reader
            .position()
            .map_err(|source| kafka(&reader, "asking for the position", source))?;
        for element in positions.elements() {
            let place = (element.topic().to_owned(), element.partition());
            if let (Some(part), Offset::Offset(position)) = (parts.get_mut(&place), element.offset()) {
                part.position = part.position.max(position);
                if part.position >= part.end {
                    parts.remove(&place);
                }
            }
        }
        if quiet_since.elapsed() > QUIET {
            confirm(&reader, &mut parts)?;
            quiet_since = Instant::now();
        }
        if begun.elapsed() > limit
            && let Some(((topic, partition), part)) = parts.pop_first()
        {
            let (end, position, reason) = (part.end, part.position, reader.context().reason());
            return Err(SinkError::EndNotReached {
                topic,
                partition,
                end,
                position,
                waited: limit,
                reason,
            });
        }
    }
    tracing::debug!(?topics, took = ?begun.elapsed(), "read to the end");
    Ok(bounds)
}

/// Fetches the rest of a partition anew, if all of it is stable: is there anything in it?
///
/// One partition at a time, because an end-of-partition event does not name its topic.
fn confirm(reader: &BaseConsumer<Context>, parts: &mut BTreeMap<Place, Part>) -> Result<(), SinkError> {
    for part in parts.values_mut() {
        part.is_confirming = false;
    }
    for (place, part) in parts.iter_mut() {
        let watermarks = reader.fetch_watermarks(&place.0, place.1, QUERY_LIMIT);
        if watermarks.is_ok_and(|(_, stable)| stable >= part.end) {
            part.is_confirming = true;
            return assign(reader, [(place, &*part)]);
        }
    }
    assign(reader, &*parts)
}

/// Explicit offsets: a logical one is looked up first, which takes half a second on a new connection.
fn assign<'a>(
    reader: &BaseConsumer<Context>,
    parts: impl IntoIterator<Item = (&'a Place, &'a Part)>,
) -> Result<(), SinkError> {
    let mut list = TopicPartitionList::new();
    for ((topic, partition), part) in parts {
        list.add_partition_offset(topic, *partition, Offset::Offset(part.position))
            .map_err(|source| kafka(reader, "assigning a partition", source))?;
    }
    reader
        .assign(&list)
        .map_err(|source| kafka(reader, "assigning the partitions", source))
}

/// Low and high watermark of every partition, the latter not held back by open transactions.
fn watermarks(cluster: &Cluster, topics: &[String]) -> Result<Watermarks, SinkError> {
    let reader = cluster.reader(Isolation::ReadUncommitted)?;
    let mut bounds = BTreeMap::new();
    for topic in topics {
        let count = cluster::partition_count(reader.client(), topic, QUERY_LIMIT)
            .map_err(|source| kafka(&reader, "asking for the partitions", source))?
            .ok_or_else(|| SinkError::NoTopic { topic: topic.clone() })?;
        for partition in 0..i32::try_from(count).unwrap_or(i32::MAX) {
            let found = reader.fetch_watermarks(topic, partition, QUERY_LIMIT);
            let found = found.map_err(|source| kafka(&reader, "asking for the watermarks", source))?;
            bounds.insert((topic.clone(), partition), found);
        }
    }
    Ok(bounds)
}

fn kafka(reader: &BaseConsumer<Context>, doing: &'static str, source: KafkaError) -> SinkError {
    SinkError::Kafka {
        doing,
        reason: reader.context().reason(),
        source,
    }
}

/// What a consumer reports and gets over by itself.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::Resolve
                // Nothing is asked of the group; a cluster may refuse even to look for its coordinator.
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

/// The last record of one key in one partition.
#[derive(Debug)]
pub struct Stored {
    /// `None`: a tombstone, the cursor was reset.
    pub record: Result<Option<Record>, RecordError>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch, by the writer's clock.
    pub written_at: i64,
}

/// The cursor topic at one moment.
#[derive(Debug, Default)]
pub struct CursorRecords {
    topic: String,
    stored: HashMap<RecordKey, BTreeMap<i32, Stored>>,
}

/// Reads the cursor topic.
///
/// # Errors
/// When it cannot be read to its end, or is empty though it once was not.
pub fn cursor_records(cluster: &Cluster, topic: &str, shutdown: &Shutdown) -> Result<CursorRecords, SinkError> {
    let mut stored: HashMap<RecordKey, BTreeMap<i32, Stored>> = HashMap::new();
    let bounds = read_to_end(cluster, &[topic.to_owned()], shutdown, |message| {
        let Some(key) = message.key().and_then(RecordKey::from_json) else {
            return Ok(());
        };
        let record = message.payload().map(Record::from_json).transpose();
        let (partition, offset) = (message.partition(), message.offset());
        let written_at = message.timestamp().to_millis().unwrap_or(0);
        stored.entry(key).or_default().insert(
            partition,
            Stored {
                record,
                partition,
                offset,
                written_at,
            },
        );
        Ok(())
    })?;
    if let Some(((topic, partition), (_, high))) = bounds.into_iter().find(|(_, (low, high))| low == high && *high > 0)
    {
        return Err(SinkError::Emptied { topic, partition, high });
    }
    Ok(CursorRecords {
        topic: topic.to_owned(),
        stored,
    })
}

impl CursorRecords {
    /// The lender's current record; where several partitions hold one, the highest epoch and sequence.
    ///
    /// # Errors
    /// When it is of another version, or unreadable.
    pub fn current(&self, key: &RecordKey) -> Result<Option<(&Stored, Option<&Record>)>, SinkError> {
        let mut current: Option<(&Stored, Option<&Record>)> = None;
        for stored in self.stored.get(key).into_iter().flat_map(BTreeMap::values) {
            let record = match &stored.record {
                Ok(record) => record.as_ref(),
                Err(error) => {
                    let (topic, source) = (self.topic.clone(), error.clone());
                    let (partition, offset) = (stored.partition, stored.offset);
                    return Err(SinkError::CursorRecord {
                        topic,
                        partition,
                        offset,
                        source,
                    });
                }
            };
            let rank = |record: Option<&Record>| record.map(|record| (record.epoch, record.sequence));
            if current.is_none_or(|(_, best)| rank(record) > rank(best)) {
                current = Some((stored, record));
            }
        }
        Ok(current)
    }

    /// The partitions that hold anything under this key.
    pub fn partitions_of(&self, key: &RecordKey) -> Vec<i32> {
        self.stored
            .get(key)
            .map(|parts| parts.keys().copied().collect())
            .unwrap_or_default()
    }

    /// Every key with its current record, readable or not.
    pub fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.stored.keys()
    }
}

/// What the topics hold for the lenders that start together.
#[derive(Debug, Default)]
pub struct Restored {
    pub indexes: HashMap<String, Index>,
    pub dead_letters: HashMap<String, DeadLetterDigests>,
}

/// The digests of the dead letters in their topic, the newest up to a bound.
#[derive(Debug, Default)]
pub struct DeadLetterDigests {
    known: HashSet<Digest>,
    order: std::collections::VecDeque<Digest>,
}

impl DeadLetterDigests {
    /// 16 MB at most; beyond it the oldest is forgotten and could appear a second time.
    const LIMIT: usize = 500_000;

    pub fn contains(&self, digest: &Digest) -> bool {
        self.known.contains(digest)
    }

    pub fn insert(&mut self, digest: Digest) {
        if self.known.insert(digest) {
            self.order.push_back(digest);
            if self.order.len() > Self::LIMIT {
                self.order.pop_front().map(|oldest| self.known.remove(&oldest));
            }
        }
    }
}

/// Restores index and dead letters of `lenders` (public ids), one pass over the given topics.
///
/// # Errors
/// When a topic cannot be read to its end, or holds what the source did not write.
pub fn restore(
    cluster: &Cluster,
    accounts: &[String],
    dead_letters: &[String],
    lenders: &[String],
    shutdown: &Shutdown,
) -> Result<Restored, SinkError> {
    let mut restored = Restored::default();
    for lender in lenders {
        restored.indexes.insert(lender.clone(), Index::default());
        restored
            .dead_letters
            .insert(lender.clone(), DeadLetterDigests::default());
    }
    read_to_end(cluster, accounts, shutdown, |message| restored.take_account(message))?;
    read_to_end(cluster, dead_letters, shutdown, |message| {
        let digest = header(message, "d02.digest").and_then(Digest::parse);
        let lender = header(message, "d02.lender").and_then(|lender| restored.dead_letters.get_mut(lender));
        if let (Some(lender), Some(digest)) = (lender, digest) {
            lender.insert(digest);
        }
        Ok(())
    })?;
    Ok(restored)
}

impl Restored {
    fn take_account(&mut self, message: &BorrowedMessage<'_>) -> Result<(), SinkError> {
        let (topic, partition, offset) = (message.topic().to_owned(), message.partition(), message.offset());
        let foreign = |what| SinkError::ForeignRecord {
            topic: topic.clone(),
            partition,
            offset,
            what,
        };
        let public_id = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let public_id = public_id.ok_or_else(|| foreign("its key is no text"))?;
        if message.payload().is_none() {
            // A tombstone counts whatever its headers: anybody may write one.
            self.indexes
                .values_mut()
                .for_each(|index| index.restore_tombstone(public_id));
            return Ok(());
        }
        let lender = header(message, "d02.lender").ok_or_else(|| foreign("it has no header d02.lender"))?;
        let updated_at = header(message, "__source_ts_ms").and_then(|text| text.parse().ok());
        let updated_at = updated_at.ok_or_else(|| foreign("it has no usable header __source_ts_ms"))?;
        let digest = header(message, "d02.digest").and_then(Digest::parse);
        let digest = digest.ok_or_else(|| foreign("it has no header d02.digest of a known algorithm"))?;
        if let Some((other, _)) = self
            .indexes
            .iter()
            .find(|(other, index)| *other != lender && index.contains(public_id))
        {
            let (lender, other) = (lender.to_owned(), other.clone());
            return Err(SinkError::TwoLenders {
                topic,
                partition,
                offset,
                lender,
                other,
            });
        }
        if let Some(index) = self.indexes.get_mut(lender) {
            index.restore(public_id, updated_at, digest);
        }
        Ok(())
    }
}

fn header<'m>(message: &'m BorrowedMessage<'_>, name: &str) -> Option<&'m str> {
    let headers = message.headers()?;
    let found = (0..headers.count())
        .map(|place| headers.get(place))
        .find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}
