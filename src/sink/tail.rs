//! What stands in a topic? Its last records, all of them, or those to come, for a person to look at.
//!
//! Only committed records are seen, and nothing is left behind: no group, no committed offset. Unlike `recovery`, which
//! rests promises on the true end and waits for it, this ends where a `read_committed` consumer can see no further, the
//! last stable offset, and says what is hidden behind it. There an end-of-partition event is the end, also where
//! compaction or control records left nothing that could move a position.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::record::TopicRecord;
use crate::exit::{Diagnosis, ErrorCode, Exit};
use crate::kafka::{
    self, AclOperation, Aside, Cluster, ClusterError, Context, Isolation, LastReported, NO_ANSWER, NO_TOPIC,
    NO_TOPIC_ADVICE, UNREACHABLE, is_passing, read_error, watermarks,
};
use crate::shutdown::Shutdown;

/// How long the brokers may not answer while somebody sits in front of it.
const LIMIT: Duration = Duration::from_secs(15);

/// One request for metadata or watermarks. Short, because a shutdown waits for the thread it blocks.
const STEP: Duration = Duration::from_secs(3);

/// How long the last stable offset may take to reach the end: a commit's markers are everywhere within 40 ms, and a live
/// source's transaction ends within a second.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

/// One poll; a shutdown is noticed this often.
const POLL: Duration = Duration::from_millis(100);

/// A part of a partition that an open transaction hides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HiddenOffsets {
    pub topic: String,
    pub partition: i32,
    /// The last stable offset: from here on nothing is seen.
    pub from: i64,
    pub end: i64,
}

/// Why a topic cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TailError {
    #[error(transparent)]
    Kafka(kafka::Error),
    #[error(
        "no answer from {servers} within {}{last_reported}",
        humantime::format_duration(LIMIT)
    )]
    Unreachable {
        servers: String,
        last_reported: LastReported,
        source: Box<KafkaError>,
    },
    #[error("there is no topic {topic}")]
    NoTopic { topic: String },
    #[error(
        "nothing more of topic {topic} partition {partition} came within {}; its end is offset {end}{last_reported}",
        humantime::format_duration(LIMIT)
    )]
    Stalled {
        topic: String,
        partition: i32,
        end: i64,
        last_reported: LastReported,
    },
}

impl From<kafka::Error> for TailError {
    /// A topic that is gone is one that is not there.
    fn from(error: kafka::Error) -> Self {
        use RDKafkaErrorCode::{UnknownTopic, UnknownTopicOrPartition};
        match error {
            kafka::Error::Read { topic, source, .. }
                if matches!(
                    source.rdkafka_error_code(),
                    Some(UnknownTopic | UnknownTopicOrPartition)
                ) =>
            {
                Self::NoTopic { topic }
            }
            error => Self::Kafka(error),
        }
    }
}

impl From<ClusterError> for TailError {
    fn from(error: ClusterError) -> Self {
        Self::Kafka(error.into())
    }
}

impl Diagnosis for TailError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Kafka(error) => error.code(),
            Self::Unreachable { last_reported, .. } | Self::Stalled { last_reported, .. } => {
                last_reported.code_or(NO_ANSWER)
            }
            Self::NoTopic { .. } => NO_TOPIC,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Kafka(error) => error.advice(),
            Self::Unreachable { last_reported, .. } => last_reported.advice_or(UNREACHABLE),
            Self::Stalled { last_reported, .. } => {
                last_reported.advice_or("check that the brokers are up, then try again")
            }
            Self::NoTopic { .. } => NO_TOPIC_ADVICE,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            // Whoever only reads may try again, whatever a broker said.
            Self::Kafka(kafka::Error::Call { .. } | kafka::Error::Read { .. } | kafka::Error::Delivery { .. }) => {
                Exit::Failed
            }
            Self::Kafka(_) | Self::Unreachable { .. } | Self::Stalled { .. } | Self::NoTopic { .. } => {
                self.code().exit()
            }
        }
    }
}

/// The offsets of one partition when it was opened.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    low: i64,
    /// The last stable offset.
    stable: i64,
    high: i64,
}

/// Topics opened for reading, up to the ends that they had then.
pub(crate) struct TopicTail {
    cluster: Cluster,
    reader: Aside<BaseConsumer<Context>>,
    topics: BTreeMap<String, BTreeMap<i32, Bounds>>,
    key: Option<Vec<u8>>,
    shutdown: Shutdown,
}

impl TopicTail {
    /// Looks the topics up; with a `key`, only its records count. Blocks.
    ///
    /// # Errors
    /// When the brokers do not answer, or a topic is not there or may not be read.
    pub(crate) fn open(
        cluster: Cluster,
        topics: &[String],
        key: Option<Vec<u8>>,
        shutdown: Shutdown,
    ) -> Result<Self, TailError> {
        let reader = cluster.reader(Isolation::ReadCommitted)?;
        let uncommitted = cluster.reader(Isolation::ReadUncommitted)?;
        let mut tail = Self {
            cluster,
            reader,
            topics: BTreeMap::new(),
            key,
            shutdown,
        };
        for topic in topics {
            let mut parts = BTreeMap::new();
            for partition in tail.partitions(topic)? {
                // The true end first: what was committed before this call is then below the stable end, once it settles.
                let (_, high) = watermarks(&uncommitted, topic, partition, LIMIT)?;
                let (low, stable) = watermarks(&tail.reader, topic, partition, LIMIT)?;
                parts.insert(partition, Bounds { low, stable, high });
            }
            tail.topics.insert(topic.clone(), parts);
        }
        tail.settle()?;
        Ok(tail)
    }

    /// What cannot be seen because somebody's transaction is open.
    pub(crate) fn hidden(&self) -> Vec<HiddenOffsets> {
        let mut hidden = Vec::new();
        for (topic, parts) in &self.topics {
            for (partition, bounds) in parts {
                if bounds.stable < bounds.high {
                    hidden.push(HiddenOffsets {
                        topic: topic.clone(),
                        partition: *partition,
                        from: bounds.stable,
                        end: bounds.high,
                    });
                }
            }
        }
        hidden
    }

    /// Hands over everything, topic by topic, each partition in its order.
    ///
    /// # Errors
    /// When reading fails, or is interrupted, or `take` fails.
    pub(crate) fn read_all<E: From<TailError>>(
        &self,
        mut take: impl FnMut(TopicRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        for (topic, parts) in &self.topics {
            let whole = parts
                .iter()
                .map(|(partition, bounds)| (*partition, (bounds.low, bounds.stable)));
            self.read(topic, whole.collect(), |message| take(TopicRecord::of(message)))?;
        }
        Ok(())
    }

    /// The last `count` records of all topics and partitions together, by their timestamps.
    ///
    /// # Errors
    /// When reading fails, or is interrupted.
    pub(crate) fn last(&self, count: usize) -> Result<Vec<TopicRecord>, TailError> {
        let mut found = Vec::new();
        for (topic, parts) in &self.topics {
            found.extend(self.last_of(topic, parts, count)?);
        }
        found.sort_by(|one, other| {
            let order = |record: &TopicRecord| (record.timestamp, record.partition, record.offset);
            order(one).cmp(&order(other)).then_with(|| one.topic.cmp(&other.topic))
        });
        found.drain(..found.len().saturating_sub(count));
        Ok(found)
    }

    /// The last `count` records of each partition.
    ///
    /// Offsets are not records: compaction leaves holes, and transactions take offsets for their markers. So what is too
    /// few is followed by a ten times longer stretch before it, down to the beginning; no offset is read twice.
    fn last_of(
        &self,
        topic: &str,
        parts: &BTreeMap<i32, Bounds>,
        count: usize,
    ) -> Result<impl Iterator<Item = TopicRecord> + use<>, TailError> {
        /// A transaction of one record takes two offsets; twice that is one round in most cases.
        const OFFSETS_PER_RECORD: i64 = 4;
        let mut kept: BTreeMap<i32, VecDeque<TopicRecord>> = BTreeMap::new();
        let mut stretch = match &self.key {
            // Where a key's records are is not known, and it may have just one.
            Some(_) => i64::MAX,
            None => i64::try_from(count)
                .unwrap_or(i64::MAX)
                .saturating_mul(OFFSETS_PER_RECORD),
        };
        let mut begins: BTreeMap<i32, i64> = parts
            .iter()
            .map(|(partition, bounds)| (*partition, bounds.stable))
            .collect();
        loop {
            let mut stretches = BTreeMap::new();
            for (partition, begin) in &mut begins {
                let low = parts[partition].low;
                let is_full = kept.get(partition).is_some_and(|kept| kept.len() >= count);
                if !is_full && low < *begin && count > 0 {
                    let from = begin.saturating_sub(stretch).max(low);
                    stretches.insert(*partition, (from, *begin));
                    *begin = from;
                }
            }
            if stretches.is_empty() {
                return Ok(kept.into_values().flatten());
            }
            let mut older: BTreeMap<i32, VecDeque<TopicRecord>> = BTreeMap::new();
            self.read(topic, stretches, |message| {
                let partition = message.partition();
                let room = count - kept.get(&partition).map_or(0, VecDeque::len);
                let older = older.entry(partition).or_default();
                if older.len() == room {
                    older.pop_front();
                }
                older.push_back(TopicRecord::of(message));
                Ok::<_, TailError>(())
            })?;
            for (partition, mut older) in older {
                let kept = kept.entry(partition).or_default();
                older.append(kept);
                *kept = older;
            }
            stretch = stretch.saturating_mul(10);
        }
    }

    /// Hands over what comes after the ends, until a shutdown is asked for. Brokers may come and go.
    ///
    /// # Errors
    /// When reading fails for good (a topic that was deleted, a right that was taken away), or `take` fails.
    pub(crate) fn follow<E: From<TailError>>(
        &self,
        mut take: impl FnMut(TopicRecord) -> Result<(), E>,
    ) -> Result<(), E> {
        let reader = self.cluster.follower().map_err(TailError::from)?;
        let mut list = TopicPartitionList::new();
        for (topic, parts) in &self.topics {
            for (partition, bounds) in parts {
                list.add_partition_offset(topic, *partition, Offset::Offset(bounds.stable))
                    .map_err(|source| failed(&reader, "following", topic, source))?;
            }
        }
        let topics = || self.topics.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        reader
            .assign(&list)
            .map_err(|source| failed(&reader, "following", &topics(), source))?;
        while !self.shutdown.is_requested() {
            match reader.poll(POLL) {
                Some(Ok(message)) if self.is_wanted(&message) => take(TopicRecord::of(&message))?,
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) if !is_passing(&error) => {
                    return Err(failed(&reader, "following", &topics(), error).into());
                }
                Some(_) | None => {}
            }
        }
        Ok(())
    }

    /// Reads stretches of one topic, each from its first offset up to, without, its second.
    fn read<E: From<TailError>>(
        &self,
        topic: &str,
        mut stretches: BTreeMap<i32, (i64, i64)>,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let error = |source| failed(&self.reader, "reading", topic, source);
        stretches.retain(|_, (from, to)| from < to);
        let mut list = TopicPartitionList::new();
        for (partition, (from, _)) in &stretches {
            list.add_partition_offset(topic, *partition, Offset::Offset(*from))
                .map_err(error)?;
        }
        self.reader.assign(&list).map_err(error)?;
        // What an earlier reading paused is still paused, though it was taken from this client meanwhile (librdkafka 2.16.0).
        self.reader.resume(&list).map_err(error)?;
        let mut moved = Instant::now();
        while let Some((first, (_, end))) = stretches.first_key_value() {
            if self.shutdown.is_requested() {
                return Err(TailError::Kafka(kafka::Error::Interrupted).into());
            }
            if moved.elapsed() > LIMIT {
                let stalled = TailError::Stalled {
                    topic: topic.to_owned(),
                    partition: *first,
                    end: *end,
                    last_reported: self.reader.context().last_reported(),
                };
                return Err(stalled.into());
            }
            let ended = match self.reader.poll(POLL) {
                Some(Ok(message)) => {
                    moved = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some((_, to)) = stretches.get(&partition) else {
                        continue;
                    };
                    if offset < *to && self.is_wanted(&message) {
                        take(&message)?;
                        // Whoever takes may take its time: a pager.
                        moved = Instant::now();
                    }
                    (offset + 1 >= *to).then_some(partition)
                }
                // Of this topic, for no other is assigned, and at or past the last stable offset.
                Some(Err(KafkaError::PartitionEOF(partition))) => Some(partition),
                Some(Err(source)) if !is_passing(&source) => return Err(error(source).into()),
                Some(Err(_)) | None => None,
            };
            if let Some(partition) = ended
                && stretches.remove(&partition).is_some()
            {
                moved = Instant::now();
                let mut list = TopicPartitionList::new();
                list.add_partition(topic, partition);
                self.reader.pause(&list).map_err(error)?;
            }
        }
        Ok(self.reader.assign(&TopicPartitionList::new()).map_err(error)?)
    }

    fn is_wanted(&self, message: &BorrowedMessage<'_>) -> bool {
        self.key.as_deref().is_none_or(|key| message.key() == Some(key))
    }

    /// The partitions of a topic. Waits a little for brokers that do not answer.
    fn partitions(&self, topic: &str) -> Result<Vec<i32>, TailError> {
        let begun = Instant::now();
        loop {
            let error = match self.reader.fetch_metadata(Some(topic), STEP) {
                Ok(metadata) => {
                    let found = metadata.topics().iter().find(|found| found.name() == topic);
                    let partitions = found.map_or(&[][..], |found| found.partitions());
                    match found.and_then(|found| found.error()).map(RDKafkaErrorCode::from) {
                        None if !partitions.is_empty() => {
                            return Ok(partitions.iter().map(|partition| partition.id()).collect());
                        }
                        // A topic that is just being created.
                        Some(code @ RDKafkaErrorCode::LeaderNotAvailable) => KafkaError::MetadataFetch(code),
                        None | Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
                            return Err(TailError::NoTopic {
                                topic: topic.to_owned(),
                            });
                        }
                        Some(code) => {
                            let error = KafkaError::MetadataFetch(code);
                            return Err(failed(&self.reader, "asking for", topic, error));
                        }
                    }
                }
                Err(error) => error,
            };
            if self.shutdown.is_requested() {
                return Err(TailError::Kafka(kafka::Error::Interrupted));
            }
            // Delivers what was reported meanwhile.
            while self.reader.poll(Duration::ZERO).is_some() {}
            if begun.elapsed() > LIMIT {
                return Err(TailError::Unreachable {
                    servers: self.cluster.servers().to_owned(),
                    last_reported: self.reader.context().last_reported(),
                    source: Box::new(error),
                });
            }
        }
    }

    /// Waits a little for the stable ends to reach the true ones: then everything is seen that was there before.
    fn settle(&mut self) -> Result<(), TailError> {
        const PAUSE: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        loop {
            let mut is_settled = true;
            for (topic, parts) in &mut self.topics {
                for (partition, bounds) in parts.iter_mut().filter(|(_, bounds)| bounds.stable < bounds.high) {
                    let (_, stable) = watermarks(&self.reader, topic, *partition, LIMIT)?;
                    bounds.stable = bounds.stable.max(stable);
                    is_settled &= bounds.stable >= bounds.high;
                }
            }
            if self.shutdown.is_requested() {
                return Err(TailError::Kafka(kafka::Error::Interrupted));
            }
            if is_settled || begun.elapsed() > SETTLE_LIMIT {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn failed(reader: &BaseConsumer<Context>, doing: &'static str, topic: &str, source: KafkaError) -> TailError {
    read_error(reader, doing, AclOperation::Read, topic, source).into()
}
