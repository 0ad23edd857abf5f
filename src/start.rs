//! How does a lender start? Claimed, restored and checked against its record, or refused with the way on.
//!
//! The order is delivery.md's "Starting": fence what came before, read the cursor records to their true end, claim,
//! restore the index, compare. Lenders that start together share the reading.

mod contents;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::TimeDelta;
use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::avro::Frame;
use crate::backoff::Backoff;
use crate::clock;
use crate::config;
use crate::failpoint;
use crate::metrics::LenderMetrics;
use crate::pipeline::{Pipeline, Setting, Trail};
use crate::policy::{self, AfterSink, Exit};
use crate::progress::{Progress, Record, RecordKey, Timestamp};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::sink::{
    Cluster, Committed, ContentOf, CursorRecords, Records, Sink, SinkError, Topics, Transactions, Watched,
    restore_accounts, restore_dead_letters,
};
use crate::watchdog::Pulse;
use contents::Contents;

/// A lender that logged in and is to be started.
pub struct Candidate {
    /// Its key in the configuration.
    pub lender: String,
    pub public_id: String,
    pub topics: Topics,
    pub frames: Frames,
    pub metrics: LenderMetrics,
    /// Of the loop that it becomes.
    pub pulse: Pulse,
}

/// What stands before the values of a lender's topics.
#[derive(Debug, Clone, Copy)]
pub struct Frames {
    pub account: Frame,
    /// `None`: nothing is written to `changes`.
    pub change: Option<Frame>,
}

/// Why a lender does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("its cursor record is of {found}, upstream.base_url is {wanted}: another source's progress")]
    OtherSource { found: String, wanted: String },
    #[error("{0}")]
    Partitions(String),
    #[error(
        "{connector} reads this lender too: its cursor record is {} old and not released",
        humantime::format_duration(*.age)
    )]
    LiveElsewhere { connector: String, age: Duration },
    #[error("{topic} holds {found} accounts of this lender, but there is no cursor record")]
    NoRecord { topic: String, found: u64 },
    #[error(
        "{topic} does not hold what was committed: {found} accounts with checksum {found_checksum:016x}, the cursor \
         record says {wanted} with {wanted_checksum:016x}"
    )]
    OtherAccounts {
        topic: String,
        found: u64,
        found_checksum: u64,
        wanted: u64,
        wanted_checksum: u64,
    },
    #[error("another instance took the lender over while it started")]
    TakenOver,
    #[error(transparent)]
    Shared(#[from] Shared),
}

/// What keeps all lenders from starting that share a topic.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct Shared {
    text: String,
    exit: Exit,
    advice: &'static str,
}

impl Shared {
    fn of(error: &SinkError) -> Self {
        Self {
            text: policy::chain(error),
            exit: exit(error),
            advice: policy::sink_advice(error),
        }
    }
}

fn exit(error: &SinkError) -> Exit {
    match policy::after_sink(error) {
        AfterSink::Reopen => Exit::Failed,
        AfterSink::LookForClaim => Exit::TakenOver,
        AfterSink::Stop(exit) => exit,
    }
}

impl StartError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Sink(error) => exit(error),
            Self::Shared(shared) => shared.exit,
            Self::TakenOver => Exit::TakenOver,
            Self::OtherSource { .. }
            | Self::Partitions(_)
            | Self::LiveElsewhere { .. }
            | Self::NoRecord { .. }
            | Self::OtherAccounts { .. } => Exit::Usage,
        }
    }

    /// The way on.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Sink(error) => policy::sink_advice(error),
            Self::Shared(shared) => shared.advice,
            Self::OtherSource { .. } => {
                "correct upstream.base_url, or give this source a `name` and topics of its own; `d02-source cursor \
                 reset` if the record is to be forgotten"
            }
            Self::Partitions(_) => {
                "recreate the topic with the old count, or write to a new one: kafka.topics.accounts and `cursor reset`"
            }
            Self::LiveElsewhere { .. } => "stop it, or give this source the same `name`, which takes over in order",
            Self::NoRecord { .. } | Self::OtherAccounts { .. } => {
                "restore the topics together, or run `d02-source cursor reset`: harmless, the next run reads everything \
                 and writes only what is missing"
            }
            Self::TakenOver => "nothing, if that was meant; else stop one of the two",
        }
    }
}

/// What the claim of `instance` says: the record as it is, with the next epoch.
///
/// # Errors
/// When the record is of another source, or keys were spread over other partitions.
pub fn claim_of(
    committed: Committed,
    instance: &str,
    base_url: String,
    partitions: String,
) -> Result<Record, StartError> {
    // After a reset, what `accounts` holds is adopted; without any record it must hold nothing.
    let accounts = matches!(committed, Committed::Nothing).then_some((0, 0));
    let record = match committed {
        Committed::Record(record) if record.base_url != base_url => {
            return Err(StartError::OtherSource {
                found: record.base_url,
                wanted: base_url,
            });
        }
        Committed::Record(record) if are_spread_anew(&record.partitions, &partitions) => {
            let why = partitions_changed(&record.partitions, &partitions);
            return Err(StartError::Partitions(why));
        }
        Committed::Record(record) => *record,
        Committed::Nothing | Committed::Reset => Record {
            instance: None,
            epoch: 0,
            sequence: 0,
            base_url,
            progress: Progress::default(),
            accounts,
            partitions: partitions.clone(),
        },
    };
    Ok(Record {
        instance: Some(instance.to_owned()),
        epoch: record.epoch + 1,
        sequence: record.sequence + 1,
        // `changes` may have been turned on or off.
        partitions,
        ..record
    })
}

/// Whether a topic that is in both has another number of partitions.
pub fn are_spread_anew(recorded: &str, found: &str) -> bool {
    let counts = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(topic, count)| (topic.to_owned(), count.to_owned()))
            .collect()
    };
    let found = counts(found);
    let differs = |(topic, count): (&String, &String)| found.get(topic).is_some_and(|found| found != count);
    counts(recorded).iter().any(differs)
}

/// What a changed partition count means, in one sentence.
pub fn partitions_changed(recorded: &str, found: &str) -> String {
    format!("the partitions were {recorded} and are {found}: keys would move and lose their order")
}

/// A live record of the same source under another `name` is a second writer that nothing fences.
///
/// # Errors
/// When there is one.
pub fn refuse_live_elsewhere(
    key: &RecordKey,
    base_url: &str,
    heartbeat_interval: Duration,
    records: &CursorRecords,
) -> Result<(), StartError> {
    for other in records.keys() {
        if other.lender_public_id != key.lender_public_id || other == key {
            continue;
        }
        let Ok(Some((stored, Some(record)))) = records.current(other) else {
            continue;
        };
        let age = living_age(stored.written_at, record, heartbeat_interval);
        if let Some(age) = age.filter(|_| record.base_url == base_url) {
            return Err(StartError::LiveElsewhere {
                connector: other.connector.clone(),
                age,
            });
        }
    }
    Ok(())
}

/// Everything that the lenders of one process share.
pub struct Starter {
    pub cluster: Cluster,
    pub config: config::Config,
    pub instance: String,
    pub registry: Option<Arc<Registry>>,
    /// For what is asked of the registry.
    pub runtime: Handle,
    pub shutdown: Shutdown,
}

type Started = (Candidate, Result<Pipeline, StartError>);

impl Starter {
    /// The name under which a lender's record stands: `<name>-<lender>`.
    pub fn key(config: &config::Config, lender: &str, public_id: &str) -> RecordKey {
        let connector = format!("{}-{lender}", config.name);
        RecordKey {
            connector,
            lender_public_id: public_id.to_owned(),
        }
    }

    /// Starts lenders together; blocks. One that is refused does not hold back the others.
    pub fn start(&self, candidates: Vec<Candidate>) -> Vec<(String, Result<Pipeline, StartError>)> {
        let fenced = self.fence(candidates);
        let records = self.each_topic(
            fenced.iter().map(|(candidate, _)| candidate),
            |topics| &topics.cursor.name,
            |topic, _| CursorRecords::read(&self.cluster, topic, &self.shutdown)?.whole(),
        );
        let mut claimed: Vec<Started> = Vec::new();
        for (candidate, transactions) in fenced {
            let result = match (transactions, &records[&candidate.topics.cursor.name]) {
                (Err(error), _) => Err(error.into()),
                (Ok(_), Err(shared)) => Err(shared.clone().into()),
                // The reading of the cursor topic goes on for a while when the process is to end.
                (Ok(_), Ok(_)) if self.shutdown.is_requested() => Err(SinkError::Interrupted.into()),
                (Ok(transactions), Ok(records)) => self.claim(&candidate, transactions, records),
            };
            claimed.push((candidate, result));
        }
        failpoint::reach("after_claim");
        self.restore(&mut claimed);
        claimed
            .into_iter()
            .map(|(candidate, result)| (candidate.lender, result))
            .collect()
    }

    /// Makes every producer and fences its predecessors, in parallel.
    fn fence(&self, candidates: Vec<Candidate>) -> Vec<(Candidate, Result<Transactions, SinkError>)> {
        std::thread::scope(|scope| {
            let fence = |candidate: &Candidate| {
                let key = Self::key(&self.config, &candidate.lender, &candidate.public_id);
                let id = format!("{}.{}", self.config.name, candidate.public_id);
                let (cluster, topics) = (self.cluster.clone(), candidate.topics.clone());
                let watched = Watched {
                    metrics: candidate.metrics.clone(),
                    pulse: candidate.pulse.clone(),
                };
                let mut transactions = Transactions::new(cluster, id, topics, key, self.shutdown.clone(), watched)?;
                self.patiently(|| {
                    let result = transactions.init();
                    if result.is_err() {
                        transactions.replace_producer()?;
                    }
                    result
                })?;
                Ok(transactions)
            };
            let threads: Vec<_> = candidates
                .into_iter()
                .map(|c| {
                    scope.spawn(move || {
                        let t = fence(&c);
                        (c, t)
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("fencing does not panic"))
                .collect()
        })
    }

    /// Reads each topic of `candidates` once, for all the lenders that share it, a few side by side. Each has an outcome of
    /// its own: one lender's topic does not keep the others from starting.
    fn each_topic<'c, T: Send>(
        &self,
        candidates: impl Iterator<Item = &'c Candidate>,
        name: fn(&Topics) -> &String,
        read: impl Fn(&str, &[String]) -> Result<T, SinkError> + Sync,
    ) -> HashMap<String, Result<T, Shared>> {
        const READERS: usize = 4;
        let mut lenders: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for candidate in candidates {
            let topic = name(&candidate.topics).clone();
            lenders.entry(topic).or_default().push(candidate.public_id.clone());
        }
        let reader_count = READERS.min(lenders.len());
        let left = Mutex::new(lenders.into_iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let read_on = || {
            let mut outcomes = Vec::new();
            while let Some((topic, lenders)) = next() {
                let outcome = self.patiently(|| read(&topic, &lenders));
                outcomes.push((topic, outcome.map_err(|error| Shared::of(&error))));
            }
            outcomes
        };
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..reader_count).map(|_| scope.spawn(read_on)).collect();
            let outcomes = readers.into_iter().map(|reader| reader.join());
            outcomes
                .flat_map(|outcomes| outcomes.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)))
                .collect()
        })
    }

    /// Tries what may pass again for a while: a start is often the start of the brokers too.
    fn patiently<T>(&self, mut call: impl FnMut() -> Result<T, SinkError>) -> Result<T, SinkError> {
        const PATIENCE: Duration = Duration::from_secs(120);
        let (begun, mut backoff) = (Instant::now(), Backoff::default());
        loop {
            let error = match call() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let is_passing = policy::after_sink(&error) == AfterSink::Reopen;
            let is_late = matches!(error, SinkError::EndNotReached { .. }) || begun.elapsed() > PATIENCE;
            if !is_passing || is_late || self.shutdown.is_requested() {
                return Err(error);
            }
            let wait = backoff.next(None);
            if backoff.is_worth_a_line() {
                tracing::warn!(
                    advice = policy::sink_advice(&error),
                    "starting: {}",
                    policy::chain(&error)
                );
            }
            self.shutdown.block(wait.min(Duration::from_secs(5)));
        }
    }

    /// Commits the record just read with this instance's id and the next epoch.
    fn claim(
        &self,
        candidate: &Candidate,
        transactions: Transactions,
        records: &CursorRecords,
    ) -> Result<Pipeline, StartError> {
        let key = transactions.key().clone();
        let base_url = self.config.upstream.base_url.to_string();
        refuse_live_elsewhere(&key, &base_url, self.config.transaction.heartbeat_interval, records)?;
        let partitions = transactions.partitions()?;
        let record = claim_of(records.committed(&key)?, &self.instance, base_url, partitions)?;
        let start_from = self.config.lenders[&candidate.lender].start_from;
        let mut pipeline = Pipeline::new(Setting {
            lender: &candidate.lender,
            public_id: &candidate.public_id,
            transactions,
            record: record.clone(),
            trail: candidate
                .frames
                .change
                .map(|frame| Trail::new(frame, self.config.changes.initial)),
            errors: &self.config.errors,
            settings: &self.config.transaction,
            late_window: self.config.upstream.late_window,
            start_from: start_from.map(Timestamp::from),
            metrics: candidate.metrics.clone(),
            pulse: candidate.pulse.clone(),
            shutdown: self.shutdown.clone(),
        });
        pipeline.claim(&record)?;
        Ok(pipeline)
    }

    /// Restores the indexes and compares them with the records; what differs is released and refused.
    fn restore(&self, claimed: &mut [Started]) {
        let begun = Instant::now();
        let going = || {
            claimed
                .iter()
                .filter(|(_, result)| result.is_ok())
                .map(|(candidate, _)| candidate)
        };
        let account_count = |lender: &str| {
            let mut pipelines = claimed.iter().filter_map(|(_, result)| result.as_ref().ok());
            let record = pipelines
                .find(|pipeline| pipeline.public_id == lender)
                .map(|pipeline| &pipeline.record);
            let count = record.and_then(|record| record.accounts).map_or(0, |(count, _)| count);
            usize::try_from(count).unwrap_or(usize::MAX)
        };
        let own = going().filter_map(|candidate| match candidate.frames.account {
            Frame::Confluent { schema_id } => Some(schema_id),
            Frame::SingleObject => None,
        });
        let contents = self.config.kafka.topics.changes.is_some().then(|| {
            let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
            Contents::new(registry, runtime, self.shutdown.clone(), own)
        });
        let content: ContentOf<'_> = &|value| contents.as_ref().map_or(Ok(None), |contents| contents.of(value));
        let mut accounts = self.each_topic(
            going(),
            |topics| &topics.accounts.name,
            |topic, lenders| restore_accounts(&self.cluster, topic, lenders, account_count, content, &self.shutdown),
        );
        let mut dead_letters = self.each_topic(
            going(),
            |topics| &topics.dead_letters.name,
            |topic, lenders| restore_dead_letters(&self.cluster, topic, lenders, &self.shutdown),
        );
        for (candidate, result) in claimed.iter_mut() {
            let Ok(pipeline) = result else { continue };
            let topics = &candidate.topics;
            let accounts = accounts.get_mut(&topics.accounts.name).expect("read for every lender");
            let dead_letters = dead_letters
                .get_mut(&topics.dead_letters.name)
                .expect("read for every lender");
            let refused = match (accounts, dead_letters) {
                (Ok(indexes), Ok(digests)) => {
                    pipeline.index = indexes.remove(&candidate.public_id).unwrap_or_default();
                    pipeline.dead_letters = digests.remove(&candidate.public_id).unwrap_or_default();
                    pipeline.compare().err()
                }
                (Err(shared), _) | (_, Err(shared)) => Some(shared.clone().into()),
            };
            if let Some(error) = refused {
                pipeline.release();
                *result = Err(error);
                continue;
            }
            let (lender, account_count, took) = (&pipeline.lender, pipeline.index.len(), begun.elapsed());
            pipeline.show_state();
            tracing::info!(
                lender,
                account_count,
                ?took,
                epoch = pipeline.record.epoch,
                "claimed and restored"
            );
        }
    }
}

/// How long ago a living instance last wrote its record; `None` where none lives.
pub fn living_age(written_at: i64, record: &Record, heartbeat_interval: Duration) -> Option<Duration> {
    let age = clock::now().timestamp_millis() - written_at;
    let age = TimeDelta::milliseconds(age).to_std().unwrap_or_default();
    record
        .instance
        .as_ref()
        .filter(|_| age < 3 * heartbeat_interval)
        .map(|_| age)
}

impl<S: Sink> Pipeline<S> {
    /// Commits the claim. An uncertain outcome is read back; one that did not land is tried again.
    pub fn claim(&mut self, record: &Record) -> Result<(), StartError> {
        const TRIES: u32 = 3;
        let mut tries = 0;
        loop {
            tries += 1;
            let error = match self.transactions.commit(&Records::default(), record, &self.public_id) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if policy::after_sink(&error) != AfterSink::Reopen || tries == TRIES {
                self.transactions.abandon();
                return Err(error.into());
            }
            match self.transactions.reopen()?.record() {
                Some(found) if found.has_owner_of(record) => return Ok(()),
                Some(found) if found.epoch >= record.epoch => return Err(StartError::TakenOver),
                Some(_) | None => {}
            }
        }
    }

    /// Holds the restored index to the record.
    pub fn compare(&self) -> Result<(), StartError> {
        let topic = self.transactions.topics().accounts.name.clone();
        let (found, found_checksum) = (self.index.len() as u64, self.index.checksum());
        let honoured = self
            .record
            .accounts
            .map(|wanted| self.index.is_what_was_committed(wanted));
        match self.record.accounts {
            None => Ok(()),
            Some(_) if honoured == Some(Some(0)) => Ok(()),
            Some(_) if let Some(Some(count)) = honoured => {
                tracing::warn!(
                    lender = self.lender,
                    "{count} accounts were removed from {topic} by tombstones that this source did not write; that is honoured"
                );
                Ok(())
            }
            Some(_) if self.record.progress == Progress::default() => Err(StartError::NoRecord { topic, found }),
            Some((wanted, wanted_checksum)) => Err(StartError::OtherAccounts {
                topic,
                found,
                found_checksum,
                wanted,
                wanted_checksum,
            }),
        }
    }
}
