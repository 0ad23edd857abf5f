//! What is committed? The cursor records, the index and the dead letters, read back from their topics, one topic at a time,
//! each to its true end (`kafka::read`): no cursor is never concluded from not having found one.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Message};

use super::error::SinkError;
use super::interface::Committed;
use super::record::{AccountRecordHeader, DeadLetterHeader};
use crate::account::{Content, Digest};
use crate::clock;
use crate::index::{Index, Removals, Restored};
use crate::kafka::{self, Cluster, End, Offsets, Reading, TopicReader, uninterrupted};
use crate::progress::{Record, RecordError, RecordKey, TargetState};
use crate::shutdown::Shutdown;

/// How long a read of the cursor topic goes on once the process was asked to end: it may be what tells whether the
/// lender can be released.
pub(super) const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);

/// The last record of one key in one partition.
#[derive(Debug)]
pub(crate) struct StoredCursor {
    /// `None`: a tombstone, the cursor was reset.
    pub record: Result<Option<Record>, RecordError>,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch, by the writer's clock.
    pub written_at: i64,
}

/// The cursor topic at one moment: a record a key and partition.
#[derive(Debug, Clone, Default)]
pub(crate) struct CursorRecords {
    topic: String,
    offsets: Offsets,
    stored: HashMap<RecordKey, BTreeMap<i32, Arc<StoredCursor>>>,
    /// By connector and partition, what is wanted of it and when that was written; `None`: what this version does not know.
    targets: HashMap<String, BTreeMap<i32, (i64, Option<TargetState>)>>,
    /// Partitions that are empty but once held records, with their end.
    emptied: Vec<(i32, i64)>,
}

impl CursorRecords {
    /// Nothing read so far.
    pub(crate) fn of(topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            ..Self::default()
        }
    }

    /// Reads the cursor topic; [`CursorRecords::whole`] says whether it can be relied on.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub(crate) fn read(cluster: &Cluster, topic: &str, shutdown: &Shutdown) -> Result<Self, SinkError> {
        let mut records = Self::of(topic);
        records.read_on(&TopicReader::new(cluster)?, End::True, shutdown, &mut || {})?;
        Ok(records)
    }

    /// Reads what has come since; `hidden` is called while nothing comes for a while.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub(crate) fn read_on(
        &mut self,
        reader: &TopicReader,
        end: End<'_>,
        shutdown: &Shutdown,
        hidden: &mut dyn FnMut(),
    ) -> Result<(), SinkError> {
        let (stored, targets) = (&mut self.stored, &mut self.targets);
        let how = Reading {
            end,
            shutdown,
            grace: SHUTDOWN_GRACE,
            hidden,
        };
        let bounds = reader.read(&self.topic, &mut self.offsets, how, |message| {
            let written_at = message.timestamp().to_millis().unwrap_or(0);
            let Some(key) = message.key().and_then(RecordKey::from_json) else {
                if let Some(connector) = message.key().and_then(TargetState::connector) {
                    let state = message.payload().and_then(TargetState::from_json);
                    targets
                        .entry(connector)
                        .or_default()
                        .insert(message.partition(), (written_at, state));
                }
                return Ok::<_, kafka::Error>(());
            };
            let record = message.payload().map(Record::from_json).transpose();
            let partition = message.partition();
            let cursor = StoredCursor {
                record,
                partition,
                offset: message.offset(),
                written_at,
            };
            stored.entry(key).or_default().insert(partition, Arc::new(cursor));
            Ok(())
        })?;
        let is_emptied = |(low, high): &(i64, i64)| low == high && *high > 0;
        let emptied = bounds.into_iter().filter(|(_, bounds)| is_emptied(bounds));
        self.emptied = emptied.map(|(partition, (_, high))| (partition, high)).collect();
        Ok(())
    }

    /// As [`CursorRecords::read`], for a command: nothing asks it to end but the end of the process.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn find(cluster: &Cluster, topic: &str) -> Result<Self, SinkError> {
        let (cluster, topic) = (cluster.clone(), topic.to_owned());
        uninterrupted(move |shutdown| Self::read(&cluster, &topic, &shutdown)).await
    }

    /// # Errors
    /// When a partition is empty though it once was not: a record of any lender may have stood there.
    pub(crate) fn whole(self) -> Result<Self, SinkError> {
        self.check_whole()?;
        Ok(self)
    }

    /// # Errors
    /// As for [`CursorRecords::whole`].
    pub(crate) fn check_whole(&self) -> Result<(), SinkError> {
        match self.emptied.first() {
            None => Ok(()),
            Some(&(partition, high)) => Err(SinkError::Emptied {
                topic: self.topic.clone(),
                partition,
                high,
            }),
        }
    }

    /// The lender's current record; where several partitions hold one, the highest epoch and sequence.
    ///
    /// # Errors
    /// When it is of another version, or unreadable.
    pub(crate) fn current(&self, key: &RecordKey) -> Result<Option<(&StoredCursor, Option<&Record>)>, SinkError> {
        let mut current: Option<(&StoredCursor, Option<&Record>)> = None;
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

    /// What [`CursorRecords::current`] says, by itself.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn committed(&self, key: &RecordKey) -> Result<Committed, SinkError> {
        Ok(match self.current(key)? {
            None => Committed::Nothing,
            Some((_, None)) => Committed::Reset,
            Some((_, Some(record))) => Committed::Record(Box::new(record.clone())),
        })
    }

    /// Where a tombstone makes the next start begin anew: every partition that holds this key, and every one that was
    /// emptied; the first, where there is neither.
    pub(crate) fn partitions_to_reset(&self, key: &RecordKey) -> Vec<i32> {
        let holding = self.stored.get(key).into_iter().flat_map(BTreeMap::keys).copied();
        let emptied = self.emptied.iter().map(|(partition, _)| *partition);
        let partitions: BTreeSet<i32> = holding.chain(emptied).collect();
        if partitions.is_empty() {
            vec![0]
        } else {
            partitions.into_iter().collect()
        }
    }

    /// What is wanted of a connector; where several partitions say it, the one that was written last.
    pub(crate) fn target(&self, connector: &str) -> TargetState {
        let said = self.targets.get(connector).into_iter().flat_map(BTreeMap::values);
        let last = said.max_by_key(|(written_at, _)| *written_at);
        last.and_then(|(_, state)| *state).unwrap_or_default()
    }

    /// How far the topic was read.
    pub(crate) fn offsets(&self) -> &Offsets {
        &self.offsets
    }

    /// Every key with its current record, readable or not.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &RecordKey> {
        self.stored.keys()
    }
}

/// The digests of the dead letters in their topic, the newest up to a bound.
#[derive(Debug, Default)]
pub(crate) struct DeadLetterDigests {
    known: HashSet<Digest>,
    order: std::collections::VecDeque<Digest>,
}

impl DeadLetterDigests {
    /// 16 MB at most; beyond it the oldest is forgotten and could appear a second time.
    const LIMIT: usize = 500_000;

    pub(crate) fn contains(&self, digest: &Digest) -> bool {
        self.known.contains(digest)
    }

    pub(crate) fn insert(&mut self, digest: Digest) {
        if self.known.insert(digest) {
            self.order.push_back(digest);
            if self.order.len() > Self::LIMIT {
                self.order.pop_front().map(|oldest| self.known.remove(&oldest));
            }
        }
    }
}

/// Gives what of a value of `accounts` is to be remembered, if anything is.
pub(crate) type ContentReader<'c> =
    Box<dyn for<'v> FnMut(&'v [u8]) -> Result<Option<Content<'v>>, SinkError> + Send + 'c>;

/// What one topic of dead letters holds of the lenders that start.
#[derive(Debug)]
pub(crate) struct RestoredDeadLetters {
    topic: String,
    pub offsets: Offsets,
    /// By public id.
    digests: HashMap<String, DeadLetterDigests>,
}

impl RestoredDeadLetters {
    /// Nothing read so far. `lenders`: public ids.
    pub(crate) fn of(topic: &str, lenders: &[String]) -> Self {
        let nothing = |lender: &String| (lender.clone(), DeadLetterDigests::default());
        Self {
            topic: topic.to_owned(),
            offsets: Offsets::new(),
            digests: lenders.iter().map(nothing).collect(),
        }
    }

    /// Reads what has come since.
    ///
    /// # Errors
    /// When it cannot be read to its end.
    pub(crate) fn read_on(&mut self, reader: &TopicReader, how: Reading<'_>) -> Result<(), SinkError> {
        let digests = &mut self.digests;
        reader.read(&self.topic, &mut self.offsets, how, |message| {
            if let Some(DeadLetterHeader { lender, digest }) = DeadLetterHeader::parse(message)
                && let Some(digests) = digests.get_mut(lender)
            {
                digests.insert(digest);
            }
            Ok::<_, kafka::Error>(())
        })?;
        Ok(())
    }

    /// Takes a lender out; what is read afterwards is not its.
    pub(crate) fn lender(&mut self, public_id: &str) -> DeadLetterDigests {
        self.digests.remove(public_id).unwrap_or_default()
    }

    /// Takes over what was read apart, of other lenders.
    pub(crate) fn merge(&mut self, other: Self) {
        if self.is_empty() {
            *self = other;
            return;
        }
        self.digests.extend(other.digests);
        go_back(&mut self.offsets, &other.offsets);
    }

    /// Takes back what one lender holds: all that stands before `from`, where it was taken out.
    pub(crate) fn take_back(&mut self, public_id: String, digests: DeadLetterDigests, from: &Offsets) {
        go_back(&mut self.offsets, from);
        self.digests.insert(public_id, digests);
    }

    /// Whether anything is held of a lender.
    pub(crate) fn holds(&self, public_id: &str) -> bool {
        self.digests.contains_key(public_id)
    }

    /// Whether nothing is held of anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.digests.is_empty()
    }
}

/// What one topic of accounts holds of the lenders that start.
#[derive(Debug)]
pub(crate) struct RestoredAccounts {
    topic: String,
    pub offsets: Offsets,
    restored: Restored,
    /// How long a tombstone is to be remembered, in milliseconds.
    retention: i64,
}

impl RestoredAccounts {
    /// Nothing read so far. `lenders`: public ids, and how many accounts are expected of each. A tombstone older than `retention` is
    /// nothing to remember.
    pub(crate) fn of(topic: &str, lenders: impl IntoIterator<Item = (String, usize)>, retention: Duration) -> Self {
        let retention = i64::try_from(retention.as_millis()).unwrap_or(i64::MAX);
        Self {
            topic: topic.to_owned(),
            offsets: Offsets::new(),
            restored: Restored::new(lenders, remembered_from(retention)),
            retention,
        }
    }

    /// Reads what has come since; `contents` makes a reader for each thread.
    ///
    /// # Errors
    /// When it cannot be read to its end, or holds what the source did not write.
    pub(crate) fn read_on<'c>(
        &mut self,
        reader: &TopicReader,
        contents: &dyn Fn() -> ContentReader<'c>,
        how: Reading<'_>,
    ) -> Result<(), SinkError> {
        /// Parsing takes most of the time, and is done side by side; what is inserted, one after another.
        const MOST_TAKERS: usize = 4;
        let taker_count = available_parallelism().map_or(1, NonZero::get).min(MOST_TAKERS);
        let lenders: HashSet<String> = self.restored.lenders().cloned().collect();
        let restored = Mutex::new(&mut self.restored);
        let taker = |_| {
            let (lenders, restored, mut content) = (&lenders, &restored, contents());
            move |messages: &[BorrowedMessage<'_>]| take_accounts(restored, lenders, &mut content, messages)
        };
        let takers = (0..taker_count).map(taker).collect();
        reader.read_side_by_side(&self.topic, &mut self.offsets, how, takers)?;
        if self.restored.has_grown() {
            self.settle();
        }
        Ok(())
    }

    /// Forgets tombstones that nobody has to remember any more.
    pub(crate) fn settle(&mut self) {
        self.restored.settle(remembered_from(self.retention));
    }

    /// Takes over what was read apart, of other lenders. Gives whether no account is held by two of them; else nothing of this may
    /// be used any more.
    #[must_use]
    pub(crate) fn merge(&mut self, other: Self) -> bool {
        if self.is_empty() {
            // It was read from the beginning, and to a later end.
            *self = other;
            return true;
        }
        go_back(&mut self.offsets, &other.offsets);
        self.restored.merge(other.restored)
    }

    /// Takes back what one lender holds: all that stands before `from`, where it was taken out. Gives what
    /// [`RestoredAccounts::merge`] gives.
    #[must_use]
    pub(crate) fn take_back(&mut self, public_id: String, index: Index, from: &Offsets) -> bool {
        go_back(&mut self.offsets, from);
        self.restored.take_back(public_id, index)
    }

    /// How many accounts are held of a lender; `None`: nothing is kept of it.
    pub(crate) fn account_count(&self, public_id: &str) -> Option<usize> {
        self.restored.account_count(public_id)
    }

    /// Whether nothing is held of anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.restored.is_empty()
    }

    /// What a topic holds of one lender by now.
    ///
    /// # Errors
    /// As [`RestoredAccounts::read_on`].
    pub(crate) fn whole(
        cluster: &Cluster,
        topic: &str,
        public_id: String,
        retention: Duration,
        shutdown: &Shutdown,
    ) -> Result<Index, SinkError> {
        let mut accounts = Self::of(topic, [(public_id.clone(), 0)], retention);
        let how = Reading {
            end: End::True,
            shutdown,
            grace: Duration::ZERO,
            hidden: &mut || {},
        };
        accounts.read_on(&TopicReader::new(cluster)?, &|| Box::new(|_| Ok(None)), how)?;
        let (index, _) = accounts.lender(&public_id);
        Ok(index)
    }

    /// Takes a lender out, with the tombstones of others that removed accounts of it; what is read afterwards is not its.
    pub(crate) fn lender(&mut self, public_id: &str) -> (Index, Removals) {
        self.restored.lender(public_id)
    }
}

fn remembered_from(retention: i64) -> i64 {
    clock::now().timestamp_millis().saturating_sub(retention)
}

/// Has what stands from `others` on read again, where that is before `offsets`: a record that is taken twice, in order, is taken once.
fn go_back(offsets: &mut Offsets, others: &Offsets) {
    for (partition, offset) in offsets {
        *offset = (*offset).min(others.get(partition).copied().unwrap_or(0));
    }
}

/// A record of `accounts`, read.
struct ParsedAccount<'m> {
    public_id: &'m str,
    header: AccountRecordHeader<'m>,
    content: Option<Content<'m>>,
}

/// Takes records in their order. `lenders`: those of which something is kept.
fn take_accounts(
    restored: &Mutex<&mut Restored>,
    lenders: &HashSet<String>,
    content: &mut ContentReader<'_>,
    messages: &[BorrowedMessage<'_>],
) -> Result<(), SinkError> {
    let parsed = messages.iter().map(|message| {
        let (public_id, header) = AccountRecordHeader::parse(message)?;
        let content = match &header {
            AccountRecordHeader::Account { lender, .. } if lenders.contains(*lender) => {
                content(message.payload().unwrap_or_default())?
            }
            AccountRecordHeader::Account { .. } | AccountRecordHeader::Tombstone { .. } => None,
        };
        Ok(ParsedAccount {
            public_id,
            header,
            content,
        })
    });
    let parsed = parsed.collect::<Result<Vec<_>, SinkError>>()?;
    let mut restored = restored.lock().unwrap_or_else(PoisonError::into_inner);
    messages
        .iter()
        .zip(&parsed)
        .try_for_each(|(message, parsed)| take_account(&mut restored, message, parsed))
}

fn take_account(
    restored: &mut Restored,
    message: &BorrowedMessage<'_>,
    parsed: &ParsedAccount<'_>,
) -> Result<(), SinkError> {
    let public_id = parsed.public_id;
    let (lender, version) = match &parsed.header {
        AccountRecordHeader::Account { lender, version } => (lender, version),
        AccountRecordHeader::Tombstone { lender, is_ours } => {
            // One without a time is as old as it can be.
            let at = message.timestamp().to_millis().unwrap_or(0);
            restored.take_tombstone(public_id, at, *lender, *is_ours);
            return Ok(());
        }
    };
    let taken = restored.take(lender, public_id, version, parsed.content.as_ref());
    taken.map_err(|other| SinkError::TwoLenders {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        lender: (*lender).to_owned(),
        other,
    })
}
