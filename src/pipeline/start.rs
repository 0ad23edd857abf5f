//! How does a lender start? Claimed, restored and checked against its record, or refused with the way on.
//!
//! The order is that of docs/delivery.md, "Starting": fence what came before, read the cursor records to their true end, claim,
//! restore the index, compare. Lenders that start together share the reading.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use super::changes::ChangeRecorder;
use super::claim::{Claim, SharedFailure, StartError, claim_of, key_of, refuse_live_elsewhere};
use super::contents::Contents;
use super::frames::Frames;
use super::lender::LenderSettings;
use super::main_loop::Pipeline;
use super::republish::Republish;
use crate::avro::{ACCOUNT, Frame, WriterSchema};
use crate::backoff::{AfterTry, Patience};
use crate::config;
use crate::exit::{Diagnosis, chain};
use crate::failpoint;
use crate::kafka::{self, Cluster};
use crate::metrics::LenderMetrics;
use crate::policy::{self, AfterSink, DENIED_WAIT, Denials};
use crate::progress::Timestamp;
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::sink::{
    ContentOf, CursorRecords, SinkError, Topics, Transactions, Watchers, nothing_restored, restore_accounts,
    restore_dead_letters,
};
use crate::watchdog::Pulse;

/// A lender that logged in and is to be started.
pub(crate) struct Candidate {
    /// Its key in the configuration.
    pub lender: String,
    pub public_id: String,
    pub topics: Topics,
    pub frames: Frames,
    pub metrics: LenderMetrics,
    /// Of the loop that it becomes.
    pub pulse: Pulse,
    pub shutdown: Shutdown,
}

/// Everything that the lenders of one process share.
pub(crate) struct Starter {
    pub cluster: Cluster,
    pub config: config::Config,
    pub instance: String,
    pub registry: Option<Arc<Registry>>,
    /// For what is asked of the registry.
    pub runtime: Handle,
    pub shutdown: Shutdown,
    /// What a person asks to have written once more.
    pub republish: Option<Republish>,
    /// Of each call.
    pub denials: Denials,
}

type Claimed = (Candidate, Result<Claim, StartError>);

impl Starter {
    /// Starts lenders together; blocks. One that is refused does not hold back the others.
    pub(crate) fn start(&self, candidates: Vec<Candidate>) -> Vec<(String, Result<Pipeline, StartError>)> {
        let fenced = self.fence(candidates);
        let records = self.each_topic(
            fenced.iter().map(|(candidate, _)| candidate),
            |topics| &topics.cursor.name,
            |topic, _| CursorRecords::read(&self.cluster, topic, &self.shutdown)?.whole(),
        );
        let mut claimed: Vec<Claimed> = Vec::new();
        for (candidate, transactions) in fenced {
            let result = match (transactions, &records[&candidate.topics.cursor.name]) {
                (Err(error), _) => Err(error.into()),
                (Ok(_), Err(shared)) => Err(shared.clone().into()),
                // The reading of the cursor topic goes on for a while when the process is to end.
                (Ok(_), Ok(_)) if self.shutdown.is_requested() => {
                    Err(SinkError::Kafka(kafka::Error::Interrupted).into())
                }
                (Ok(transactions), Ok(records)) => self.claim(&candidate, transactions, records),
            };
            claimed.push((candidate, result));
        }
        failpoint::reach("after_claim");
        self.restore(claimed)
    }

    /// Makes every producer and fences its predecessors, in parallel.
    fn fence(&self, candidates: Vec<Candidate>) -> Vec<(Candidate, Result<Transactions, SinkError>)> {
        std::thread::scope(|scope| {
            let fence = |candidate: &Candidate| {
                let key = key_of(&self.config, &candidate.lender, &candidate.public_id);
                let id = format!("{}.{}", self.config.name, candidate.public_id);
                let (cluster, topics) = (self.cluster.clone(), candidate.topics.clone());
                let watched = Watchers {
                    metrics: candidate.metrics.clone(),
                    pulse: candidate.pulse.clone(),
                };
                let mut transactions =
                    Transactions::new(cluster, id, topics, key, candidate.shutdown.clone(), watched)?;
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
    ) -> HashMap<String, Result<T, SharedFailure>> {
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
                outcomes.push((topic, outcome.map_err(SharedFailure::of)));
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
    fn patiently<T>(&self, call: impl FnMut() -> Result<T, SinkError>) -> Result<T, SinkError> {
        const PATIENCE: Duration = Duration::from_secs(120);
        let denials = self.denials.anew();
        let after = |error: &SinkError| match denials.after(policy::after_sink(error)) {
            // It has waited long enough by itself.
            _ if matches!(error, SinkError::Kafka(kafka::Error::EndNotReached { .. })) => AfterTry::GiveUp,
            AfterSink::Reopen => AfterTry::Retry { at_least: None },
            AfterSink::LookForClaim | AfterSink::AskAgain(_) | AfterSink::Stop(_) => AfterTry::GiveUp,
        };
        let say = |error: &SinkError, _| {
            tracing::warn!(code = %error.code(), advice = error.advice(), "starting: {}", chain(error));
        };
        Patience::For(PATIENCE).retry_blocking(DENIED_WAIT, &self.shutdown, call, after, say)
    }

    /// Commits the record just read with this instance's id and the next epoch.
    fn claim(
        &self,
        candidate: &Candidate,
        transactions: Transactions,
        records: &CursorRecords,
    ) -> Result<Claim, StartError> {
        let key = transactions.key().clone();
        let base_url = self.config.upstream.base_url.to_string();
        refuse_live_elsewhere(&key, &base_url, self.config.transaction.heartbeat_interval, records)?;
        let partitions = self.patiently(|| transactions.partitions())?;
        let record = claim_of(records.committed(&key)?, &self.instance, base_url, partitions)?;
        let start_from = self.config.lenders[&candidate.lender].start_from;
        let settings = LenderSettings {
            lender: &candidate.lender,
            public_id: &candidate.public_id,
            changes: candidate
                .frames
                .change
                .map(|frame| ChangeRecorder::new(frame, self.config.changes.initial)),
            errors: &self.config.errors,
            transaction: &self.config.transaction,
            late_window: self.config.upstream.late_window,
            start_from: start_from.map(Timestamp::from),
            schema: WriterSchema::of(candidate.frames.account, &ACCOUNT),
            republish: self.republish.clone(),
            metrics: candidate.metrics.clone(),
            pulse: candidate.pulse.clone(),
            shutdown: candidate.shutdown.clone(),
        };
        Claim::commit(transactions, record, settings, &self.denials.anew())
    }

    /// Restores the indexes and compares them with the records; what differs is released and refused.
    fn restore(&self, claimed: Vec<Claimed>) -> Vec<(String, Result<Pipeline, StartError>)> {
        let begun = Instant::now();
        let counts: HashMap<String, usize> = going(&claimed)
            .map(|(candidate, claim)| (candidate.public_id.clone(), claim.account_count()))
            .collect();
        let account_count = |lender: &str| counts.get(lender).copied().unwrap_or(0);
        let own = going(&claimed).filter_map(|(candidate, _)| match candidate.frames.account {
            Frame::Confluent { schema_id } => Some(schema_id),
            Frame::SingleObject => None,
        });
        let contents = self.config.kafka.topics.changes.is_some().then(|| {
            let (registry, runtime) = (self.registry.clone(), self.runtime.clone());
            Contents::new(registry, runtime, self.shutdown.clone(), own)
        });
        let content: ContentOf<'_> = &|value| contents.as_ref().map_or(Ok(None), |contents| contents.of(value));
        let retentions = going(&claimed).map(|(candidate, _)| candidate.topics.accounts.delete_retention);
        let retention = retentions.max().unwrap_or_default();
        let mut accounts = self.each_topic(
            going(&claimed).map(|(candidate, _)| candidate),
            |topics| &topics.accounts.name,
            |topic, lenders| {
                let expected = |lender: &String| (lender.clone(), account_count(lender));
                let nothing = nothing_restored(lenders.iter().map(expected), retention);
                restore_accounts(&self.cluster, topic, nothing, content, &self.shutdown)
            },
        );
        let mut dead_letters = self.each_topic(
            going(&claimed).map(|(candidate, _)| candidate),
            |topics| &topics.dead_letters.name,
            |topic, lenders| restore_dead_letters(&self.cluster, topic, lenders, &self.shutdown),
        );
        let mut restored = |candidate: &Candidate, claim: Claim| {
            let topics = &candidate.topics;
            let accounts = accounts.get_mut(&topics.accounts.name).expect("read for every lender");
            let dead_letters = dead_letters
                .get_mut(&topics.dead_letters.name)
                .expect("read for every lender");
            let (restored, digests) = match (accounts, dead_letters) {
                (Ok(restored), Ok(digests)) => (restored, digests),
                (Err(shared), _) | (_, Err(shared)) => {
                    claim.release();
                    return Err(shared.clone().into());
                }
            };
            let (index, removals) = restored.lender(&candidate.public_id);
            let digests = digests.remove(&candidate.public_id).unwrap_or_default();
            let (account_count, epoch) = (index.len(), claim.epoch());
            let pipeline = claim.restore((index, removals), digests)?;
            let (lender, took) = (&candidate.lender, begun.elapsed());
            tracing::info!(lender, account_count, ?took, epoch, "claimed and restored");
            Ok(pipeline)
        };
        claimed
            .into_iter()
            .map(|(candidate, claim)| {
                let pipeline = claim.and_then(|claim| restored(&candidate, claim));
                (candidate.lender, pipeline)
            })
            .collect()
    }
}

/// Those that are not refused so far.
fn going(claimed: &[Claimed]) -> impl Iterator<Item = (&Candidate, &Claim)> {
    let claim = claimed.iter();
    claim.filter_map(|(candidate, claim)| claim.as_ref().ok().map(|claim| (candidate, claim)))
}
