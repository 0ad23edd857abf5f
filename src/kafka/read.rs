//! Where does a topic end, and what stands in it up to there?
//!
//! Whoever rests a promise on a topic rests it on reading to the *true* end. Why [`read_to_end`] does:
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
//! - It fails when nothing moves any more for a while. No record is never concluded from not having found one.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::aside::Aside;
use super::cluster::{Cluster, Isolation, transaction_timeout};
use super::context::{Context, authorize};
use super::ends::{FoundEnds, KnownEnds};
use super::error::{AclOperation, Error, is_passing};
use super::watermarks::{
    ASKING_FOR_PARTITIONS, Watermarks, ends_of, highs, partition_count, read_error, topic_watermarks, watermarks,
};
use crate::shutdown::Shutdown;

/// Beyond the longest time that somebody's open transaction can hide records.
const GRACE: Duration = Duration::from_secs(30);

/// One question to the cluster.
const QUERY_LIMIT: Duration = Duration::from_secs(15);

struct PartitionRead {
    end: i64,
    position: i64,
    /// Fetched anew, to see whether the rest is empty.
    is_confirming: bool,
}

/// How far a topic was read: the offset that is read next, by partition.
pub(crate) type Offsets = BTreeMap<i32, i64>;

/// Up to where a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End<'a> {
    /// The true end.
    True,
    /// What no open transaction hides: nobody is waited for, and something may be missing.
    Stable,
    /// Where these partitions were found to end; others are not read.
    At(&'a Offsets),
}

/// How a topic is read.
pub(crate) struct Reading<'a> {
    pub end: End<'a>,
    pub shutdown: &'a Shutdown,
    /// How long it goes on once the process was asked to end.
    pub grace: Duration,
    /// Called again and again, while nothing comes for a while: an open transaction may hide the rest.
    pub hidden: &'a mut dyn FnMut(),
}

/// Reads a topic up to the true end it had when this was called, each partition from its offset in `from` on, else whole.
///
/// `grace`: how long it goes on once the process was asked to end.
pub(crate) fn read_to_end<E: From<Error>>(
    cluster: &Cluster,
    topic: &str,
    from: &Offsets,
    shutdown: &Shutdown,
    grace: Duration,
    take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
) -> Result<Watermarks, E> {
    let how = Reading {
        end: End::True,
        shutdown,
        grace,
        hidden: &mut || {},
    };
    TopicReader::new(cluster)?.read(topic, &mut from.clone(), how, take)
}

/// Reads topics, one after another.
pub(crate) struct TopicReader {
    reader: Aside<BaseConsumer<Context>>,
    /// To ask for the true end.
    asker: Aside<BaseConsumer<Context>>,
    /// Who else wants to know that.
    known: Arc<KnownEnds>,
}

impl TopicReader {
    pub(crate) fn new(cluster: &Cluster) -> Result<Self, Error> {
        tracing::debug!("connecting two clients to read with");
        Ok(Self {
            reader: cluster.reader(Isolation::ReadCommitted)?,
            asker: cluster.reader(Isolation::ReadUncommitted)?,
            known: Arc::clone(cluster.known_ends()),
        })
    }

    /// It may be used for longer than a token is good.
    fn authorize(&self) {
        authorize(self.reader.client());
        authorize(self.asker.client());
    }

    /// Reads a topic up to the end it had when this was called, each partition from its offset in `offsets` on, else whole, and
    /// moves `offsets` by what was taken.
    pub(crate) fn read<E: From<Error>>(
        &self,
        topic: &str,
        offsets: &mut Offsets,
        how: Reading<'_>,
        mut take: impl FnMut(&BorrowedMessage<'_>) -> Result<(), E>,
    ) -> Result<Watermarks, E> {
        self.read_each(topic, offsets, how, |message| take(&message))
    }

    /// As [`TopicReader::read`], with each of `takers` on a thread of its own: what has come is taken while the next comes. All messages
    /// of a key go to one of them, in order. After an error `offsets` is what it was: what was taken is taken once more.
    pub(crate) fn read_side_by_side<E, T>(
        &self,
        topic: &str,
        offsets: &mut Offsets,
        how: Reading<'_>,
        takers: Vec<T>,
    ) -> Result<Watermarks, E>
    where
        E: From<Error> + Send,
        T: FnMut(&[BorrowedMessage<'_>]) -> Result<(), E> + Send,
    {
        let mut read_to = offsets.clone();
        let (read, taken) = thread::scope(|scope| {
            let start = |mut take: T| {
                let (sender, chunks) = sync_channel(CHUNKS);
                let take_all = move || chunks.into_iter().try_for_each(|chunk: Vec<_>| take(&chunk));
                (Chunk::new(sender), scope.spawn(take_all))
            };
            let (mut chunks, taking): (Vec<_>, Vec<_>) = takers.into_iter().map(start).unzip();
            let read = self.read_each(topic, &mut read_to, how, |message| {
                // Ids that follow one another differ enough in that.
                let sum: usize = message.key().unwrap_or_default().iter().copied().map(usize::from).sum();
                let place = sum % chunks.len();
                chunks[place].put(message).map_err(E::from)
            });
            let sent = chunks.iter_mut().try_for_each(Chunk::send);
            drop(chunks);
            let taken = taking.into_iter().map(|taker| taker.join());
            let taken = taken.map(|taken| taken.unwrap_or_else(|panicked| resume_unwind(panicked)));
            let taken = taken.collect::<Vec<_>>().into_iter().collect::<Result<(), E>>();
            (read.and_then(|bounds| sent.map(|()| bounds).map_err(E::from)), taken)
        });
        // Who does not take on is why nothing was read on.
        taken?;
        let bounds = read?;
        *offsets = read_to;
        Ok(bounds)
    }

    fn read_each<'r, E: From<Error>>(
        &'r self,
        topic: &str,
        offsets: &mut Offsets,
        how: Reading<'_>,
        mut take: impl FnMut(BorrowedMessage<'r>) -> Result<(), E>,
    ) -> Result<Watermarks, E> {
        let (begun, mut record_count) = (Instant::now(), 0_u64);
        self.authorize();
        let bounds = match how.end {
            End::True => {
                let bounds = topic_watermarks(&self.asker, topic, QUERY_LIMIT)?;
                let (asked_at, ends) = (begun, highs(&bounds));
                self.known.note(topic, FoundEnds { asked_at, ends });
                bounds
            }
            End::Stable => topic_watermarks(&self.reader, topic, QUERY_LIMIT)?,
            End::At(ends) => {
                let from = |(partition, end): (&i32, &i64)| {
                    let offset = offsets.get(partition).copied().unwrap_or(0);
                    (*partition, (offset, *end))
                };
                ends.iter().map(from).collect()
            }
        };
        let read = self.read_between(topic, &bounds, offsets, how, |message| {
            record_count += 1;
            take(message)
        });
        // What is assigned is fetched.
        let _ = self.reader.unassign();
        read?;
        for (partition, (_, high)) in &bounds {
            let offset = offsets.entry(*partition).or_default();
            *offset = (*offset).max(*high);
        }
        tracing::debug!(topic, record_count, took = ?begun.elapsed(), "read to the end");
        Ok(bounds)
    }

    /// Up to where no open transaction hides anything, of those partitions that lie in `followed` topics at these offsets.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn stable_ends(&self, followed: &[(&str, &Offsets)]) -> Result<BTreeMap<String, Offsets>, Error> {
        self.authorize();
        let places = followed
            .iter()
            .flat_map(|(topic, offsets)| offsets.keys().map(|partition| (*topic, *partition)));
        let mut ends: BTreeMap<String, Offsets> = BTreeMap::new();
        for ((topic, partition), end) in ends_of(&self.reader, places)? {
            ends.entry(topic).or_default().insert(partition, end);
        }
        Ok(ends)
    }

    /// Whether an open transaction hides the end of a partition.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn hides_end(&self, topic: &str, partition: i32) -> Result<bool, Error> {
        // In this order: what is committed between the two does not seem hidden.
        let (_, end) = watermarks(&self.asker, topic, partition, QUERY_LIMIT)?;
        let (_, stable) = watermarks(&self.reader, topic, partition, QUERY_LIMIT)?;
        Ok(stable < end)
    }

    fn read_between<'r, E: From<Error>>(
        &'r self,
        topic: &str,
        bounds: &Watermarks,
        offsets: &mut Offsets,
        how: Reading<'_>,
        mut take: impl FnMut(BorrowedMessage<'r>) -> Result<(), E>,
    ) -> Result<(), E> {
        /// Between two looks at the position, once nothing comes: the marker behind a last record moves it, and is no event.
        const FIRST_POLL: Duration = Duration::from_millis(1);
        /// Long enough to be quiet when nothing comes for longer, short enough for a shutdown.
        const POLL: Duration = Duration::from_millis(100);
        /// Long after a first fetch has answered.
        const QUIET: Duration = Duration::from_secs(3);
        /// Longer than a transaction takes.
        const HIDDEN: Duration = Duration::from_secs(2);
        let (reader, limit) = (&self.reader, transaction_timeout() + GRACE);
        if how.end == End::True
            && let Some((partition, position, end)) = went_back(offsets, bounds)
        {
            let topic = topic.to_owned();
            let error = Error::WentBack {
                topic,
                partition,
                position,
                end,
            };
            return Err(error.into());
        }
        let mut parts: BTreeMap<i32, PartitionRead> = BTreeMap::new();
        for (partition, (low, high)) in bounds {
            let position = offsets.get(partition).map_or(*low, |from| *low.max(from));
            if position < *high {
                let part = PartitionRead {
                    end: *high,
                    position,
                    is_confirming: false,
                };
                parts.insert(*partition, part);
            }
        }
        if parts.is_empty() {
            return Ok(());
        }
        // Partitions whose leader is not known when they are assigned wait for librdkafka's next look at them, up to a second.
        partition_count(reader.client(), topic, QUERY_LIMIT)
            .map_err(|source| read_error(reader, ASKING_FOR_PARTITIONS, AclOperation::Describe, topic, source))?;
        assign(reader, topic, &parts)?;
        let (mut quiet_since, mut progressed_at, mut asked_at) = (Instant::now(), Instant::now(), None);
        let (mut said_hidden_at, mut has_come) = (None::<Instant>, false);
        // What librdkafka calls the topic for as long as it is assigned: its name is read once.
        let mut handle = None;
        let mut wait = FIRST_POLL;
        while !parts.is_empty() {
            if how.shutdown.is_requested() && asked_at.get_or_insert_with(Instant::now).elapsed() >= how.grace {
                return Err(Error::Interrupted.into());
            }
            match reader.poll(wait) {
                Some(Ok(message)) if handle != Some(message.topic_ptr()) && message.topic() != topic => continue,
                Some(Ok(message)) => {
                    handle = Some(message.topic_ptr());
                    let (partition, next) = (message.partition(), message.offset() + 1);
                    if let Some(part) = parts.get_mut(&partition) {
                        if next <= part.end {
                            take(message)?;
                            offsets.insert(partition, next);
                        }
                        part.position = next;
                        if next >= part.end {
                            parts.remove(&partition);
                        }
                    }
                    // Looked at the clock for once nothing comes: whoever takes may take its time.
                    has_come = true;
                    wait = FIRST_POLL;
                    continue;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    if parts.get(&partition).is_some_and(|part| part.is_confirming) {
                        parts.remove(&partition);
                    }
                }
                Some(Err(error)) if !is_passing(&error) => {
                    return Err(read_error(reader, "reading", AclOperation::Read, topic, error).into());
                }
                Some(Err(_)) | None => {}
            }
            wait = POLL.min(wait * 2);
            if std::mem::take(&mut has_come) {
                quiet_since = Instant::now();
                progressed_at = quiet_since;
            }
            let positions = reader.position().map_err(|source| {
                read_error(
                    reader,
                    "asking for the position in",
                    AclOperation::Describe,
                    topic,
                    source,
                )
            })?;
            for element in positions.elements() {
                if element.topic() != topic {
                    continue;
                }
                if let (Some(part), Offset::Offset(position)) = (parts.get_mut(&element.partition()), element.offset())
                {
                    if position > part.position {
                        part.position = position;
                        progressed_at = Instant::now();
                    }
                    if part.position >= part.end {
                        parts.remove(&element.partition());
                    }
                }
            }
            if progressed_at.elapsed() > HIDDEN && said_hidden_at.is_none_or(|at| at.elapsed() > HIDDEN) {
                let said_at = Instant::now();
                (how.hidden)();
                // Whoever ends what hides it may take its time.
                progressed_at += said_at.elapsed();
                said_hidden_at = Some(Instant::now());
            }
            if quiet_since.elapsed() > QUIET {
                confirm(reader, topic, &mut parts)?;
                quiet_since = Instant::now();
            }
            // A long topic takes its time; one that does not move is hidden by an open transaction or not served.
            if progressed_at.elapsed() > limit
                && let Some((partition, part)) = parts.pop_first()
            {
                let error = Error::EndNotReached {
                    topic: topic.to_owned(),
                    partition,
                    end: part.end,
                    position: part.position,
                    waited: limit,
                    last_reported: reader.context().last_reported(),
                };
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Chunks that wait for each taker.
const CHUNKS: usize = 8;

/// What was read for a taker, and it has not got yet.
struct Chunk<'r> {
    messages: Vec<BorrowedMessage<'r>>,
    /// Of their values.
    size: usize,
    sender: SyncSender<Vec<BorrowedMessage<'r>>>,
}

impl<'r> Chunk<'r> {
    /// Enough that handing them over costs nothing beside taking them.
    const MOST: usize = 512;
    const LARGEST: usize = 1 << 18;

    fn new(sender: SyncSender<Vec<BorrowedMessage<'r>>>) -> Self {
        let messages = Vec::with_capacity(Self::MOST);
        Self {
            messages,
            size: 0,
            sender,
        }
    }

    /// # Errors
    /// When nothing is taken any more.
    fn put(&mut self, message: BorrowedMessage<'r>) -> Result<(), Error> {
        self.size += message.payload().map_or(0, <[u8]>::len);
        self.messages.push(message);
        match self.messages.len() == Self::MOST || self.size > Self::LARGEST {
            true => self.send(),
            false => Ok(()),
        }
    }

    /// # Errors
    /// When nothing is taken any more.
    fn send(&mut self) -> Result<(), Error> {
        self.size = 0;
        let messages = std::mem::replace(&mut self.messages, Vec::with_capacity(Self::MOST));
        self.sender.send(messages).map_err(|_| Error::Interrupted)
    }
}

/// The first partition that ends before what was read of it, or is gone: up to where it was read, and where it ends.
fn went_back(offsets: &Offsets, bounds: &Watermarks) -> Option<(i32, i64, i64)> {
    offsets.iter().find_map(|(partition, position)| {
        let end = bounds.get(partition).map_or(0, |(_, high)| *high);
        (*position > end).then_some((*partition, *position, end))
    })
}

/// Fetches the rest of the partitions anew; of those whose rest is all stable, an end-of-partition event then says that
/// there is nothing in it.
fn confirm(reader: &BaseConsumer<Context>, topic: &str, parts: &mut BTreeMap<i32, PartitionRead>) -> Result<(), Error> {
    for (partition, part) in parts.iter_mut() {
        let watermarks = reader.fetch_watermarks(topic, *partition, QUERY_LIMIT);
        part.is_confirming = watermarks.is_ok_and(|(_, stable)| stable >= part.end);
    }
    assign(reader, topic, parts)
}

/// Explicit offsets: a logical one is looked up first, which takes half a second on a new connection.
fn assign(reader: &BaseConsumer<Context>, topic: &str, parts: &BTreeMap<i32, PartitionRead>) -> Result<(), Error> {
    let mut list = TopicPartitionList::new();
    for (partition, part) in parts {
        list.add_partition_offset(topic, *partition, Offset::Offset(part.position))
            .map_err(|source| {
                read_error(
                    reader,
                    "assigning a partition of",
                    AclOperation::Describe,
                    topic,
                    source,
                )
            })?;
    }
    reader.assign(&list).map_err(|source| {
        read_error(
            reader,
            "assigning the partitions of",
            AclOperation::Describe,
            topic,
            source,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_shorter_than_it_was_read_or_gone_makes_the_topic_another_one() {
        let read = Offsets::from([(0, 10), (1, 0), (2, 7)]);
        let found = |ends: &[(i32, i64)]| {
            let bounds = ends.iter().map(|(partition, end)| (*partition, (0, *end))).collect();
            went_back(&read, &bounds)
        };
        assert_eq!(found(&[(0, 10), (1, 0), (2, 7)]), None);
        assert_eq!(found(&[(0, 99), (1, 5), (2, 8), (3, 4)]), None, "one was added");
        assert_eq!(found(&[(0, 9), (1, 0), (2, 7)]), Some((0, 10, 9)));
        assert_eq!(found(&[(0, 99), (1, 99)]), Some((2, 7, 0)), "one is gone");
        assert_eq!(found(&[(0, 99), (2, 99)]), None, "nothing was read of it");
    }
}
