//! Whose is a lender? The claim that says so, and what is checked before and after it.
//!
//! Only what was restored and matches its record becomes a [`Claim`], and only one that is committed a [`Pipeline`].

use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::lender::{LenderParts, LenderSettings};
use super::main_loop::Pipeline;
use super::partitions::{PartitionsChanged, are_spread_anew};
use super::plan::{Holdings, Left};
use super::start_error::StartError;
use crate::backoff::Backoff;
use crate::clock;
use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode, chain};
use crate::failpoint;
use crate::index::{Explained, Index, Removals};
use crate::policy::{self, AfterSink, DENIED_WAIT, Denials};
use crate::progress::{Progress, Record, RecordKey, Timestamp, TopicEnds};
use crate::shutdown::Shutdown;
use crate::sink::{Committed, CursorRecords, DeadLetterDigests, Records, Sink, SinkError, Transactions};

/// The code of tombstones that somebody else wrote.
const REMOVED_BY_OTHERS: ErrorCode = ErrorCode::S12;

/// A lender whose index was restored and matches its record, and whose claim is not committed yet.
pub(crate) struct Claim<S = Transactions> {
    lender: LenderParts<S>,
    record: Record,
    holdings: Holdings,
}

impl<S: Sink> Claim<S> {
    /// What `record` ([`claim_of`]) claims, held to what its topics hold. All of that was read after `sink` was fenced off from
    /// others; nothing is written so far.
    ///
    /// # Errors
    /// When the index is not what the record says.
    pub(crate) fn new(
        sink: S,
        record: Record,
        (index, removals): (Index, Removals),
        dead_letters: DeadLetterDigests,
        settings: LenderSettings<'_>,
    ) -> Result<Self, StartError> {
        let topic = &sink.topics().accounts;
        compare(settings.lender, &topic.name, &record, index.proof(), &removals)?;
        let holdings = Holdings::new(index, dead_letters, topic.delete_retention);
        let lender = LenderParts::new(sink, settings);
        Ok(Self {
            lender,
            record,
            holdings,
        })
    }

    /// Commits the claim. An uncertain outcome is read back; one that did not land is tried again, as long as nobody else wrote.
    ///
    /// # Errors
    /// When it cannot be committed, or another instance took the lender over, or who ran it took it back.
    pub(crate) fn commit(mut self, denials: &Denials) -> Result<Pipeline<S>, Unclaimed> {
        const TRIES: u32 = 3;
        let LenderParts {
            sink,
            decider,
            monitor,
            shutdown,
            ..
        } = &mut self.lender;
        let (record, public_id) = (&self.record, &decider.public_id);
        let mut tries = 0;
        let mut backoff = Backoff::default();
        // Whether what was denied is asked for again, after a wait.
        let mut is_asked_again = |error: &SinkError| {
            let after = policy::after_sink(error);
            let is_denied = matches!(after, AfterSink::AskAgain(_)) && denials.after(after) == AfterSink::Reopen;
            if is_denied {
                let wait = backoff.next(None).min(DENIED_WAIT);
                let (lender, code, advice) = (&monitor.lender, error.code(), error.advice());
                tracing::warn!(lender, %code, advice, "claiming: {}", chain(error));
                shutdown.block(wait);
            }
            is_denied && !shutdown.is_requested()
        };
        loop {
            let Err(error) = sink.commit(&Records::default(), record, public_id) else {
                break;
            };
            let after = policy::after_sink(&error);
            if !is_asked_again(&error) {
                tries += 1;
                if !matches!(after, AfterSink::Reopen | AfterSink::LookForClaim) || tries == TRIES {
                    sink.abandon();
                    return Err(StartError::from(error).into());
                }
            }
            let mut found = match after {
                // Whoever has claimed it is not fenced in turn.
                AfterSink::LookForClaim => look_for_another(sink, record, shutdown),
                _ => Found::Unchanged,
            };
            if found == Found::Unchanged {
                let committed = loop {
                    match sink.reopen() {
                        Ok(committed) => break committed.record(),
                        Err(error) if is_asked_again(&error) => {}
                        Err(error) => return Err(StartError::from(error).into()),
                    }
                };
                found = Found::of(record, committed.as_ref());
            }
            match found {
                Found::Ours => break,
                Found::Unchanged => {}
                Found::WrittenOn => return Err(Unclaimed::TakenBack(self.holdings.left_behind().into())),
                Found::AnothersClaim => return Err(StartError::TakenOver.into()),
            }
        }
        failpoint::reach("after_claim");
        self.say_left_out();
        Ok(Pipeline::new(self.lender, self.record, self.holdings))
    }

    pub(super) fn epoch(&self) -> u64 {
        self.record.epoch
    }

    pub(super) fn account_count(&self) -> usize {
        self.holdings.index.len()
    }

    /// Says what the snapshot left out that would be read today: `start_from` counts when it begins, and nobody reads what lies
    /// before it by itself.
    fn say_left_out(&self) {
        let wanted = self.lender.decider.start_from.unwrap_or(Timestamp(0));
        let Some(begun_from) = self.record.progress.start_from.filter(|from| wanted < *from) else {
            return;
        };
        let lender = &self.lender.monitor.lender;
        tracing::warn!(
            lender,
            "what is older than {begun_from} was left out by start_from when the snapshot began, and is not read because that is \
             earlier now: `d02-source cursor set {lender} --to {wanted}` has the rest read"
        );
    }
}

/// Why a claim was not committed.
#[derive(Debug)]
pub(crate) enum Unclaimed {
    Failed(StartError),
    /// Who ran the lender fenced it in turn and wrote on, as it may while it sees no claim of another. What was held is whole up to
    /// where it was read.
    TakenBack(Box<Left>),
}

impl From<StartError> for Unclaimed {
    fn from(error: StartError) -> Self {
        Self::Failed(error)
    }
}

/// For whoever does not try again.
impl From<Unclaimed> for StartError {
    fn from(unclaimed: Unclaimed) -> Self {
        match unclaimed {
            Unclaimed::Failed(error) => error,
            Unclaimed::TakenBack(_) => Self::TakenOver,
        }
    }
}

/// What stands where a claim was to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Ours,
    /// What the claim was made of: what is restored is what was committed with that record, and with no other.
    Unchanged,
    /// A later record of the claim that it was made of.
    WrittenOn,
    AnothersClaim,
}

impl Found {
    fn of(claim: &Record, found: Option<&Record>) -> Self {
        let (epoch, sequence) = found.map_or((0, 0), |found| (found.epoch, found.sequence));
        match found {
            Some(found) if found.has_owner_of(claim) => Self::Ours,
            _ if claim.epoch != epoch + 1 => Self::AnothersClaim,
            _ if claim.sequence == sequence + 1 => Self::Unchanged,
            _ => Self::WrittenOn,
        }
    }
}

/// A start was fenced, by another one that claims at once, or by whoever ran the lender and saw no claim in time.
fn look_for_another<S: Sink>(sink: &S, claim: &Record, shutdown: &Shutdown) -> Found {
    const PATIENCE: Duration = Duration::from_secs(1);
    const STEP: Duration = Duration::from_millis(200);
    let begun = Instant::now();
    loop {
        // Reopening says what is wrong, where it lasts.
        let found = sink
            .committed()
            .map_or(Found::Unchanged, |found| Found::of(claim, found.record().as_ref()));
        if found != Found::Unchanged || begun.elapsed() >= PATIENCE || shutdown.is_requested() {
            return found;
        }
        shutdown.block(STEP);
    }
}

/// Holds what `topic` holds to the record.
fn compare(
    lender: &str,
    topic: &str,
    record: &Record,
    held: (u64, u64),
    removals: &Removals,
) -> Result<(), StartError> {
    let Some(committed) = record.accounts else {
        return Ok(());
    };
    let explained = removals.explain(held, committed);
    let topic = topic.to_owned();
    match explained {
        Explained::Missing(0) => Ok(()),
        Explained::Missing(count) => {
            tracing::warn!(
                lender,
                code = %REMOVED_BY_OTHERS,
                "{count} accounts were removed from {topic} by tombstones that this source did not write; that is honoured"
            );
            Ok(())
        }
        Explained::No if record.progress == Progress::default() => Err(StartError::NoRecord { topic, found: held.0 }),
        Explained::No => Err(StartError::OtherAccounts { topic, held, committed }),
        Explained::Nameless(nameless) => Err(StartError::Nameless {
            topic,
            held: held.0,
            committed: committed.0,
            nameless,
        }),
    }
}

/// Who claims.
#[derive(Debug, Clone)]
pub(crate) struct Claimant {
    /// The process: no two share it.
    pub instance: String,
    /// The Kafka group that it is a member of.
    pub group: Option<String>,
}

impl Claimant {
    /// Of no group.
    pub(crate) fn alone(instance: String) -> Self {
        let group = None;
        Self { instance, group }
    }
}

/// What the claim of a process says: the record as it is, with the next epoch.
///
/// # Errors
/// When the record is of another source, or keys were spread over other partitions.
pub(crate) fn claim_of(
    committed: Committed,
    claimant: &Claimant,
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
            return Err(PartitionsChanged::new(&record.partitions, &partitions).into());
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
            ends: TopicEnds::default(),
            group: None,
        },
    };
    Ok(Record {
        instance: Some(claimant.instance.clone()),
        group: claimant.group.clone(),
        epoch: record.epoch + 1,
        sequence: record.sequence + 1,
        // `changes` may have been turned on or off.
        partitions,
        ..record
    })
}

/// A live record of the same source under another `name` is a second writer that nothing fences.
///
/// # Errors
/// When there is one.
pub(crate) fn refuse_live_elsewhere(
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

/// How long ago a living instance last wrote its record; `None` where none lives.
pub(crate) fn living_age(written_at: i64, record: &Record, heartbeat_interval: Duration) -> Option<Duration> {
    let age = age_of(written_at);
    record
        .instance
        .as_ref()
        .filter(|_| age < 3 * heartbeat_interval)
        .map(|_| age)
}

/// An instance has a lender that is to be touched.
#[derive(Debug, thiserror::Error)]
#[error("{connector}: instance {instance} lives, its last commit is {} old", humantime::format_duration(*.age))]
pub(crate) struct LivingInstance {
    connector: String,
    instance: String,
    age: Duration,
    advice: &'static str,
}

impl Diagnosis for LivingInstance {
    fn code(&self) -> ErrorCode {
        ErrorCode::S11
    }

    fn advice(&self) -> &str {
        self.advice
    }
}

/// Refuses to touch a lender that an instance has. `advice`: the way on.
///
/// # Errors
/// When one lives.
pub(crate) fn refuse_living(
    config: &Config,
    records: &CursorRecords,
    key: &RecordKey,
    advice: &'static str,
) -> Result<(), LivingInstance> {
    // An unreadable record is no reason against forgetting it.
    let Ok(Some((stored, Some(record)))) = records.current(key) else {
        return Ok(());
    };
    let Some(age) = living_age(stored.written_at, record, config.transaction.heartbeat_interval) else {
        return Ok(());
    };
    Err(LivingInstance {
        connector: key.connector.clone(),
        instance: record.instance.clone().unwrap_or_default(),
        age,
        advice,
    })
}

/// Among whom somebody is looked for who runs a lender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Among {
    /// Who is no member of the group. A member is known to have given a lender up, or to be silent for longer than its session, where
    /// the group gives it to another one.
    Outsiders,
    All,
}

/// How long ago somebody else who runs a lender gave a sign of life; `None` where nobody does. `is_hidden` says whether an open
/// transaction hides the end of a partition of the cursor topic: who is silent may be in the middle of a long one.
///
/// # Errors
/// When the record cannot be read, or it cannot be said.
pub(super) fn others_age(
    config: &Config,
    among: Among,
    records: &CursorRecords,
    key: &RecordKey,
    is_hidden: impl FnOnce(i32) -> Result<bool, SinkError>,
) -> Result<Option<Duration>, SinkError> {
    let Some((stored, Some(record))) = records.current(key)? else {
        return Ok(None);
    };
    let is_member = record.group.as_deref() == Some(config.group_id());
    if record.instance.is_none() || is_member && among == Among::Outsiders {
        return Ok(None);
    }
    let age = age_of(stored.written_at);
    let lives = age < 3 * config.transaction.heartbeat_interval || is_hidden(stored.partition)?;
    Ok(lives.then_some(age))
}

fn age_of(written_at: i64) -> Duration {
    let age = clock::now().timestamp_millis() - written_at;
    TimeDelta::milliseconds(age).to_std().unwrap_or_default()
}

/// The name under which a lender's record stands: `<name>-<lender>`.
pub(crate) fn key_of(config: &Config, lender: &str, public_id: &str) -> RecordKey {
    let connector = format!("{}-{lender}", config.name);
    RecordKey {
        connector,
        lender_public_id: public_id.to_owned(),
    }
}
