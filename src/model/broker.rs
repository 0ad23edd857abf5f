//! Kafka, as far as the promises need it: one log of transactions, one producer at a time, and every promise checked at
//! each commit as a `read_committed` consumer would.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Promise, Violation};
use crate::account::{Changed, Digest, Op};
use crate::avro::{CHANGE, Decoder, Framed, Layout, WriterSchema, unframe};
use crate::index::{Restored, Version};
use crate::kafka::{self, LastReported};
use crate::progress::{Progress, Record, Timestamp, TopicEnds};
use crate::simulator::Handle;
use crate::sink::{ChangeRecord, Committed, DeadLetterDigests, Records, Sink, SinkError, Topic, Topics};

/// What becomes of a commit, and of the process that asked for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lands,
    /// It lands, and nobody hears of it.
    AnswerLost,
    Lost,
    CrashBefore,
    CrashAfter,
}

/// Where crashes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Crashes {
    Never,
    /// One commit in so many meets a fate other than landing.
    OneIn(u32),
    /// At this commit, counted from 0: before it lands, or after.
    At {
        commit: u64,
        is_after: bool,
    },
}

/// The latest record of a key.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub version: Version,
    pub value: Vec<u8>,
}

struct State {
    crashes: Crashes,
    rng: Rng,
    /// Who may commit: the last one who asked.
    producer: u64,
    record: Option<Record>,
    accounts: BTreeMap<String, Held>,
    /// Every record of an account, or its tombstone.
    log: Vec<(String, Option<Held>)>,
    /// The last change of each account.
    changes: HashMap<String, Change>,
    change_count: u64,
    dead_letters: Vec<Digest>,
    /// Every version ever written.
    written: HashMap<String, HashSet<(i64, Vec<u8>)>>,
    commit_count: u64,
    crash_count: u64,
    fence_count: u64,
    warm_count: u64,
    violation: Option<Violation>,
    is_away: bool,
    /// Records that get through in time, of a transaction.
    most: usize,
    /// Transactions that did not.
    slow_count: u64,
    /// What upstream shows when something is deleted.
    upstream: Option<Handle>,
}

/// Clones are the same broker.
#[derive(Clone)]
pub(super) struct Broker(Arc<Mutex<State>>);

impl Broker {
    pub(super) fn new(rng: Rng, crashes: Crashes) -> Self {
        Self(Arc::new(Mutex::new(State {
            crashes,
            rng,
            producer: 0,
            record: None,
            accounts: BTreeMap::new(),
            log: Vec::new(),
            changes: HashMap::new(),
            change_count: 0,
            dead_letters: Vec::new(),
            written: HashMap::new(),
            commit_count: 0,
            crash_count: 0,
            fence_count: 0,
            warm_count: 0,
            violation: None,
            is_away: false,
            most: usize::MAX,
            slow_count: 0,
            upstream: None,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    /// From now on so many records of a transaction get through in time.
    pub(super) fn take(&self, most: usize) {
        self.state().most = most;
    }

    /// From now on every commit lands, but for the one that is to crash.
    pub(super) fn calm(&self) {
        let mut state = self.state();
        if let Crashes::OneIn(_) = state.crashes {
            state.crashes = Crashes::Never;
        }
        state.most = usize::MAX;
    }

    /// While it is away, every call fails.
    pub(super) fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    /// From now on deletions are judged by what upstream shows.
    pub(super) fn watch(&self, upstream: Handle) {
        self.state().upstream = Some(upstream);
    }

    /// The mark `read`, as committed.
    pub(super) fn read(&self) -> Option<Timestamp> {
        self.state().record.as_ref()?.progress.read
    }

    pub(super) fn keys(&self) -> Vec<String> {
        self.state().accounts.keys().cloned().collect()
    }

    /// Forgets a violation that a test meant.
    pub(super) fn forgive(&self) {
        self.state().violation = None;
    }

    pub(super) fn violate(&self, promise: Promise, what: String) {
        let violation = Violation { promise, what };
        self.state().violation.get_or_insert(violation);
    }

    pub(super) fn violation(&self) -> Option<Violation> {
        self.state().violation.clone()
    }

    pub(super) fn commit_count(&self) -> u64 {
        self.state().commit_count
    }

    pub(super) fn change_count(&self) -> u64 {
        self.state().change_count
    }

    pub(super) fn crash_count(&self) -> u64 {
        self.state().crash_count
    }

    pub(super) fn slow_count(&self) -> u64 {
        self.state().slow_count
    }

    /// A process started with what it held.
    pub(super) fn note_warm(&self) {
        self.state().warm_count += 1;
    }

    pub(super) fn warm_count(&self) -> u64 {
        self.state().warm_count
    }

    pub(super) fn fence_count(&self) -> u64 {
        self.state().fence_count
    }

    /// As committed.
    pub(super) fn progress(&self) -> Progress {
        self.state()
            .record
            .as_ref()
            .map(|record| record.progress.clone())
            .unwrap_or_default()
    }

    pub(super) fn latest(&self, key: &str) -> Option<Held> {
        self.state().accounts.get(key).cloned()
    }

    pub(super) fn has_dead_letter(&self, digest: Digest) -> bool {
        self.state().dead_letters.contains(&digest)
    }

    /// What a start restores: the records of accounts from `from` on. Gives where that ended.
    pub(super) fn restore(&self, restored: &mut Restored, lender: &str, from: usize) -> usize {
        let state = self.state();
        let layout = Layout::current();
        for (key, held) in &state.log[from..] {
            match held {
                Some(held) => {
                    // Without its frame.
                    let content = layout.read(&held.value[5..]).expect("it was written by the source");
                    let taken = restored.take(lender, key, &held.version, Some(&content));
                    taken.expect("one lender");
                }
                None => restored.take_tombstone(key, i64::MAX, Some(lender), true),
            }
        }
        state.log.len()
    }

    pub(super) fn dead_letters(&self) -> DeadLetterDigests {
        let mut dead_letters = DeadLetterDigests::default();
        let state = self.state();
        let digests = state.dead_letters.iter();
        digests.for_each(|digest| dead_letters.insert(*digest));
        dead_letters
    }

    /// A new process's producer, which fences all before it.
    pub(super) fn producer(&self, topics: Topics) -> Producer {
        let broker = self.clone();
        let number = broker.state().init();
        Producer {
            broker,
            topics,
            number,
            is_dead: Arc::default(),
        }
    }
}

impl State {
    fn init(&mut self) -> u64 {
        self.producer += 1;
        self.producer
    }

    fn fate(&mut self) -> Fate {
        match self.crashes {
            Crashes::Never => Fate::Lands,
            Crashes::OneIn(many) => {
                let fates = [Fate::AnswerLost, Fate::Lost, Fate::CrashBefore, Fate::CrashAfter];
                if self.rng.u32(..many) == 0 {
                    fates[self.rng.usize(..fates.len())]
                } else {
                    Fate::Lands
                }
            }
            Crashes::At { commit, is_after } if commit == self.commit_count => {
                self.crashes = Crashes::Never;
                if is_after { Fate::CrashAfter } else { Fate::CrashBefore }
            }
            Crashes::At { .. } => Fate::Lands,
        }
    }

    fn violate(&mut self, promise: Promise, what: String) {
        self.violation.get_or_insert(Violation { promise, what });
    }

    fn append(&mut self, records: &Records<'_>, record: &Record) {
        let record = Record::from_json(record.to_json().as_bytes()).expect("what was written can be read");
        self.append_changes(records);
        for account in &records.accounts {
            let (key, version) = (account.public_id, (account.updated_at, account.value.to_vec()));
            if account.op == Op::Deleted {
                // No id comes back here.
                let is_shown = |upstream: &Handle| upstream.rows(0).iter().any(|row| row.id == key);
                if self.upstream.as_ref().is_some_and(is_shown) {
                    self.violate(Promise::Gone, format!("{key} is deleted, and upstream shows it"));
                }
                if self.accounts.remove(key).is_none() {
                    self.violate(Promise::Once, format!("{key} is deleted, and there is no such account"));
                }
                self.written.remove(key);
                self.log.push((key.to_owned(), None));
                continue;
            }
            let before = self.accounts.get(key).map(|held| held.version.updated_at);
            let goes_back = before.is_some_and(|before| before > account.updated_at);
            if goes_back != account.is_regressed {
                let (at, is_told) = (account.updated_at, account.is_regressed);
                let what = format!("{key} goes from {before:?} to {at}, which it tells: {is_told}");
                self.violate(Promise::InOrder, what);
            }
            let written = self.written.entry(key.to_owned()).or_default();
            if account.is_regressed {
                written.clear();
            }
            if !written.insert(version) {
                self.violate(
                    Promise::Once,
                    format!("{key} at {} is written twice", account.updated_at),
                );
            }
            let held = Held {
                version: Version {
                    updated_at: account.updated_at,
                    digest: account.digest,
                    is_regressed: account.is_regressed,
                    schema: WriterSchema::of_value(account.value),
                },
                value: account.value.to_vec(),
            };
            self.log.push((key.to_owned(), Some(held.clone())));
            self.accounts.insert(key.to_owned(), held);
        }
        for letter in &records.dead_letters {
            if self.dead_letters.contains(&letter.digest) {
                self.violate(
                    Promise::Once,
                    format!("a dead letter is written twice: {}", letter.reason),
                );
            }
            self.dead_letters.push(letter.digest);
        }
        if let Some(before) = &self.record {
            let is_later = (before.epoch, before.sequence) < (record.epoch, record.sequence);
            let is_others =
                before.instance.is_some() && record.instance.is_some() && before.instance != record.instance;
            if !is_later || is_others && before.epoch == record.epoch {
                let of = |record: &Record| (record.instance.clone(), record.epoch, record.sequence);
                let what = format!("{:?} follows {:?}", of(&record), of(before));
                self.violate(Promise::OneWriter, what);
            }
        }
        let found = (self.accounts.len() as u64, self.checksum());
        if record.accounts.is_some_and(|wanted| wanted != found) {
            let what = format!("the record says {:?}, the topic has {found:?}", record.accounts);
            self.violate(Promise::Atomic, what);
        }
        self.record = Some(record);
    }

    /// The trail: each version whose content is another one has one change, which says what was, what differs and what is.
    /// Called before the accounts are taken.
    fn append_changes(&mut self, records: &Records<'_>) {
        let mut changes = records.changes.iter().peekable();
        let mut latest: HashMap<&str, (i64, Digest)> = HashMap::new();
        for account in &records.accounts {
            let key = account.public_id;
            let held = self
                .accounts
                .get(key)
                .map(|held| (held.version.updated_at, held.version.digest));
            let before = latest.insert(key, (account.updated_at, account.digest)).or(held);
            let is_deletion = account.op == Op::Deleted;
            if !is_deletion && before.is_some_and(|(_, digest)| digest == account.digest) {
                continue;
            }
            let is_it = |change: &&ChangeRecord<'_>| {
                change.account.public_id == key && change.account.updated_at == account.updated_at
            };
            let Some(record) = changes.next_if(is_it) else {
                self.violate(Promise::Trail, format!("{key} at {} has no change", account.updated_at));
                continue;
            };
            let mut value = Vec::new();
            records.change_value(record, &mut value);
            self.change_count += 1;
            let change = Change::of(&value);
            let last = self.changes.get(key);
            let is_next = change.follows(before.map(|(updated_at, _)| updated_at), last, record.changed);
            if let Err(what) = is_next {
                self.violate(Promise::Trail, format!("{key} at {}: {what}", account.updated_at));
            }
            if is_deletion {
                self.changes.remove(key);
            } else {
                self.changes.insert(key.to_owned(), change);
            }
        }
        if let Some(change) = changes.next() {
            let account = &change.account;
            let what = format!(
                "{} at {} has one change too many",
                account.public_id, account.updated_at
            );
            self.violate(Promise::Trail, what);
        }
    }

    /// Computed anew, and not by the index.
    fn checksum(&self) -> u64 {
        let hash = |key: &str, held: &Held| {
            let bytes = [key.as_bytes(), &held.version.updated_at.to_le_bytes()].concat();
            twox_hash::XxHash3_64::oneshot(&bytes)
        };
        self.accounts.iter().fold(0, |sum, (key, held)| sum ^ hash(key, held))
    }
}

/// A record of `changes` as a consumer sees it.
struct Change(serde_json::Value);

impl Change {
    fn of(value: &[u8]) -> Self {
        static DECODER: LazyLock<Decoder> = LazyLock::new(|| Decoder::new(CHANGE.text).expect("a schema"));
        let Ok(Framed::Confluent { datum, .. }) = unframe(value) else {
            panic!("a change is framed");
        };
        let decoded = DECODER.decode(datum).expect("a change can be decoded");
        Self(serde_json::to_value(decoded).expect("JSON"))
    }

    /// Whether it is what follows `last`, and says so.
    fn follows(&self, previous_updated_at: Option<i64>, last: Option<&Self>, changed: Changed) -> Result<(), String> {
        let Self(this) = self;
        let names: Vec<&str> = changed.names().collect();
        let told = serde_json::json!(names);
        if this["changed"] != told {
            return Err(format!("the header says {told}, the value {}", this["changed"]));
        }
        let previous = previous_updated_at.map(|at| Timestamp(at).to_string());
        if this["previous_updated_at"].as_str() != previous.as_deref() {
            let found = &this["previous_updated_at"];
            return Err(format!("it follows {found}, and {previous:?} was held"));
        }
        let Some(Self(last)) = last else {
            let is_first = this["before"].is_null() && names.is_empty();
            return is_first
                .then_some(())
                .ok_or_else(|| "the first of an account has a before".to_owned());
        };
        let (before, after) = (&this["before"], &this["after"]);
        let fields = before.as_object().ok_or("there is no before")?;
        if after.is_null() != (this["op"] == "d") {
            return Err("after does not fit the op".to_owned());
        }
        for (field, value) in fields {
            if last["after"][field] != *value {
                return Err(format!("before.{field} is not what was"));
            }
            let of_field = match &**field {
                "due_date_parsed" => "due_date",
                "status_unmapped_code" => "status",
                field => field,
            };
            if after.is_null() {
                continue;
            }
            if !names.contains(&of_field) && after[field] != *value {
                return Err(format!("{field} differs and is not named"));
            }
        }
        Ok(())
    }
}

/// The producer of one process.
pub(super) struct Producer {
    broker: Broker,
    topics: Topics,
    number: u64,
    is_dead: Arc<AtomicBool>,
}

impl Producer {
    /// Set once the process has crashed: whatever it still does changes nothing.
    pub(super) fn is_dead(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_dead)
    }

    fn alive(&self) -> Result<(), SinkError> {
        if self.is_dead.load(Ordering::SeqCst) {
            return Err(SinkError::Kafka(kafka::Error::Interrupted));
        }
        if self.broker.state().is_away {
            return Err(failed(RDKafkaErrorCode::AllBrokersDown));
        }
        Ok(())
    }

    fn crash(&self, state: &mut State) -> SinkError {
        state.crash_count += 1;
        self.is_dead.store(true, Ordering::SeqCst);
        SinkError::Kafka(kafka::Error::Interrupted)
    }
}

fn failed(code: RDKafkaErrorCode) -> SinkError {
    SinkError::Kafka(kafka::Error::Call {
        doing: "committing a transaction",
        last_reported: LastReported::default(),
        source: KafkaError::MessageProduction(code),
    })
}

impl Sink for Producer {
    fn topics(&self) -> &Topics {
        &self.topics
    }

    fn commit(&self, records: &Records<'_>, progress: &Record, _lender: &str) -> Result<(), SinkError> {
        self.alive()?;
        let mut state = self.broker.state();
        if state.producer != self.number {
            state.fence_count += 1;
            return Err(failed(RDKafkaErrorCode::Fenced));
        }
        if records.count() > state.most {
            state.slow_count += 1;
            return Err(SinkError::Kafka(kafka::Error::Delivery {
                topic: self.topics.accounts.name.clone(),
                last_reported: LastReported::default(),
                source: KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut),
            }));
        }
        let fate = state.fate();
        state.commit_count += 1;
        if matches!(fate, Fate::Lands | Fate::AnswerLost | Fate::CrashAfter) {
            state.append(records, progress);
        }
        match fate {
            Fate::Lands => Ok(()),
            Fate::AnswerLost | Fate::Lost => Err(failed(RDKafkaErrorCode::OperationTimedOut)),
            Fate::CrashBefore | Fate::CrashAfter => Err(self.crash(&mut state)),
        }
    }

    fn reopen(&mut self) -> Result<Committed, SinkError> {
        self.alive()?;
        self.number = self.broker.state().init();
        self.committed()
    }

    fn committed(&self) -> Result<Committed, SinkError> {
        self.alive()?;
        let record = self.broker.state().record.clone();
        Ok(record.map_or(Committed::Nothing, |record| Committed::Record(Box::new(record))))
    }

    fn hold_ground(&self, _recorded: &TopicEnds, _max_age: Duration) -> Result<Option<String>, SinkError> {
        Ok(Some("accounts=6,changes=6".to_owned()))
    }

    /// Nothing is open between two calls.
    fn abandon(&self) {}
}

pub(super) fn topics() -> Topics {
    let topic = |name: &str| Topic {
        name: name.to_owned(),
        partition_count: 6,
        max_message: 1 << 20,
        delete_retention: Duration::from_secs(86_400),
    };
    Topics {
        accounts: topic("accounts"),
        cursor: topic("cursor"),
        changes: Some(topic("changes")),
        dead_letters: topic("dead-letters"),
    }
}
