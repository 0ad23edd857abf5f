//! The loop: take the next pages, already encoded; keep what is news; commit records and progress together; remember.
//!
//! One OS thread a lender owns index, progress and producer. A row is decided when the commit before it is known.

mod inbox;
mod limit;
mod reconcile;
mod trail;

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::account::{Digest, Reason, shortened};
use crate::backoff::Backoff;
use crate::clock::Tick;
use crate::config;
use crate::failpoint::{self, Rule};
use crate::index::{Candidate, Index, News, Verdict};
use crate::metrics::LenderMetrics;
use crate::policy::{self, AfterSink, Exit};
use crate::progress::{Progress, Record, Timestamp, Walk};
use crate::reader::{Ended, Entry, Incoming, Page};
use crate::shutdown::Shutdown;
use crate::sink::{
    AccountRecord, Committed, DeadLetterDigests, DeadLetterRecord, Records, Sink, SinkError, Topic, Transactions,
    account_size, change_size,
};
use crate::watchdog::{Pulse, work_limit};
use inbox::{Batch, Inbox, Move, Next};
pub use limit::DeadLetterLimit;
use limit::{Allowance, BadRow, Refused};
pub use reconcile::Reconciling;
use trail::Place;
pub use trail::Trail;

/// One lender, claimed and restored.
pub struct Pipeline<S = Transactions> {
    /// The lender's key in the configuration, for the log.
    pub lender: String,
    pub public_id: String,
    pub transactions: S,
    /// As committed.
    pub record: Record,
    pub index: Index,
    /// What is written to `changes`, unless that is turned off.
    pub trail: Option<Trail>,
    pub dead_letters: DeadLetterDigests,
    /// How many more of them there may be.
    pub limit: DeadLetterLimit,
    pub settings: config::Transaction,
    pub metrics: LenderMetrics,
    /// For whoever watches that it turns.
    pub pulse: Pulse,
    pub shutdown: Shutdown,
    pub own_time_outs: Vec<Instant>,
    /// Whether what is committed is known. While it is not, nothing may be written, a release neither: it could stand
    /// over another owner's record, or over rows that landed.
    pub is_certain: bool,
    /// When the last transaction was; the next heartbeat is counted from it.
    pub committed_at: Instant,
    /// When the partition counts were last looked at.
    pub checked_at: Instant,
    /// How long after its `updated_at` a row may still become visible.
    pub late_window: Duration,
    /// Older rows of accounts that are not held are ignored.
    pub start_from: Option<Timestamp>,
    /// The lowest `updated_at` of a row that is left for the next sweep, as far as it is committed.
    pub left: Option<Timestamp>,
    /// While everything is read once more.
    pub reconciling: Option<Reconciling>,
    /// What is committed, for those who read.
    pub committed: watch::Sender<Progress>,
}

/// What a pipeline is made of.
pub struct Setting<'a, S> {
    /// The lender's key in the configuration.
    pub lender: &'a str,
    pub public_id: &'a str,
    pub transactions: S,
    pub record: Record,
    pub trail: Option<Trail>,
    pub errors: &'a config::Errors,
    pub settings: &'a config::Transaction,
    pub late_window: Duration,
    pub start_from: Option<Timestamp>,
    pub metrics: LenderMetrics,
    pub pulse: Pulse,
    pub shutdown: Shutdown,
}

/// Lines of one kind that a transaction may add to the log: an upstream that turns to rubbish must not fill it.
const MAX_LINES: usize = 10;

/// How a lender ended.
#[derive(Debug)]
pub struct Stopped {
    pub exit: Exit,
    /// Why, if it did not end as it was asked to.
    pub why: Option<String>,
    /// Its credentials were refused: it may run again once they are mended.
    pub is_failed: bool,
}

impl Stopped {
    fn because(exit: Exit, why: impl Into<String>) -> Self {
        Self {
            exit,
            why: Some(why.into()),
            is_failed: false,
        }
    }

    fn as_asked() -> Self {
        Self {
            exit: Exit::Done,
            why: None,
            is_failed: false,
        }
    }
}

/// What reading the cursor back says of an attempted commit.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Landed,
    NotLanded,
}

/// What one transaction will write, and what is true once it is committed.
struct Decided<'a> {
    records: Records<'a>,
    record: Record,
    news: News<'a>,
    dead_letters: Vec<Digest>,
    /// Places of the first few dead letters, which the log names; the fields of the others have an alarm of their own.
    named: Vec<usize>,
    /// Dead letters by such a field.
    drifted: usize,
    /// How many more may be buried.
    allowance: Allowance,
    /// The row that may not be: its page and what follows are not part of this.
    refused: Option<Refused>,
    repeated: u64,
    stale: u64,
    undecided: u64,
    /// The first few are named in the log.
    regressed_ids: Vec<&'a str>,
    regressed: u64,
    /// Older than `start_from`, of accounts that are not held.
    ignored: u64,
    /// Dead letters that could be read, but are too large for their topics.
    still_dead: u64,
    snapshot_row_count: u64,
    deleted: u64,
    /// Records of accounts whose `updated_at` went back.
    put_back: u64,
    /// The `updated_at` of account records that a live walk or a sweep brought.
    live: Vec<i64>,
    /// The lowest `updated_at` of a row that is left for the next sweep.
    left: Option<Timestamp>,
}

impl Decided<'_> {
    /// Whether committing it would change more than the sequence of `committed`.
    fn changes(&self, committed: &Record) -> bool {
        !self.records.accounts.is_empty()
            || !self.records.dead_letters.is_empty()
            || self.record.progress != committed.progress
            || self.record.accounts != committed.accounts
    }
}

impl<S: Sink> Pipeline<S> {
    /// One that holds nothing yet.
    pub fn new(setting: Setting<'_, S>) -> Self {
        let committed = watch::Sender::new(setting.record.progress.clone());
        Self {
            lender: setting.lender.to_owned(),
            public_id: setting.public_id.to_owned(),
            transactions: setting.transactions,
            record: setting.record,
            index: Index::default(),
            trail: setting.trail,
            dead_letters: DeadLetterDigests::default(),
            limit: DeadLetterLimit::new(setting.errors),
            settings: setting.settings.clone(),
            metrics: setting.metrics,
            pulse: setting.pulse,
            shutdown: setting.shutdown,
            own_time_outs: Vec::new(),
            is_certain: true,
            committed_at: Instant::now(),
            checked_at: Instant::now(),
            late_window: setting.late_window,
            start_from: setting.start_from,
            left: None,
            reconciling: None,
            committed,
        }
    }

    /// Runs the lender until it is asked to end, cannot go on, or has caught up, and releases it.
    ///
    /// Awaits what is read, but blocks while it commits: for a thread of its own.
    pub async fn run(mut self, incoming: Incoming) -> Stopped {
        let mut inbox = Inbox::new(incoming);
        let stopped = match self.read_on(&mut inbox).await {
            Ok(stopped) | Err(stopped) => stopped,
        };
        self.pulse.enter("ending", work_limit());
        if stopped.exit != Exit::TakenOver && self.is_certain {
            self.release();
        }
        stopped
    }

    async fn read_on(&mut self, inbox: &mut Inbox) -> Result<Stopped, Stopped> {
        loop {
            let heartbeat_at = self.committed_at + self.settings.heartbeat_interval;
            let wait = heartbeat_at.saturating_duration_since(Instant::now());
            self.pulse.enter("waiting for pages", wait + self.settings.max_delay);
            let next = inbox.next(&self.settings, heartbeat_at, &mut self.shutdown).await;
            self.pulse.enter("deciding and remembering", work_limit());
            let batch = match next {
                Next::Batch(batch) => batch,
                Next::Ask(ask) => {
                    self.answer(ask).await?;
                    continue;
                }
                Next::Ended(ended) => return Ok(self.ended(&ended)),
                Next::Shutdown => return Ok(Stopped::as_asked()),
                Next::Lost => {
                    return Err(Stopped::because(
                        Exit::Failed,
                        "its reader ended without a word, which is a defect",
                    ));
                }
            };
            self.check_partitions()?;
            let mut decided = self.commit(&batch).await?;
            let refused = decided.refused.take();
            self.remember(decided, 0);
            self.note_progress(&batch);
            self.see(&batch);
            if let Some(refused) = refused {
                let why = format!("{refused} → {}", refused.advice());
                return Err(Stopped::because(refused.exit(), why));
            }
        }
    }

    /// Commits what of a batch is news, with its progress; returns once it is known to have landed.
    ///
    /// What changes nothing is left to the next heartbeat: an idle poll would commit what stands there already.
    async fn commit<'a>(&mut self, batch: &'a Batch) -> Result<Decided<'a>, Stopped> {
        let mut decided = self.decide(batch);
        let is_heartbeat = self.committed_at.elapsed() >= self.settings.heartbeat_interval;
        if !is_heartbeat && !decided.changes(&self.record) {
            decided.record = self.record.clone();
            return Ok(decided);
        }
        let begun = Instant::now();
        let mut backoff = Backoff::default();
        loop {
            match self
                .transactions
                .commit(&decided.records, &decided.record, &self.public_id)
            {
                Ok(()) => break,
                Err(error) => match self.reopen(&error, &decided.record, &mut backoff).await? {
                    Outcome::Landed => break,
                    // The next start reads it again.
                    Outcome::NotLanded if self.shutdown.is_requested() => return Err(Stopped::as_asked()),
                    Outcome::NotLanded if failpoint::is_broken(Rule::RowsWithTheirMarks) => {
                        (decided.records, decided.news) = (Records::default(), News::default());
                        decided.record.accounts = Some(self.index.with(&decided.news));
                    }
                    Outcome::NotLanded => decided = self.decide(batch),
                },
            }
        }
        self.committed_at = Instant::now();
        self.metrics.transactions_total.inc();
        let took = begun.elapsed();
        self.metrics.transaction_seconds.observe(took.as_secs_f64());
        self.metrics.transaction_records.observe(decided.records.count() as f64);
        let Records {
            accounts,
            changes,
            dead_letters,
            ..
        } = &decided.records;
        tracing::debug!(
            lender = self.lender,
            sequence = decided.record.sequence,
            accounts = accounts.len(),
            changes = changes.len(),
            dead_letters = dead_letters.len(),
            ?took,
            "committed"
        );
        Ok(decided)
    }

    /// Judges every row against what is held, later ones against earlier ones; ends before the page of a row that may not be
    /// buried.
    fn decide<'a>(&self, batch: &'a Batch) -> Decided<'a> {
        let allowance = self.limit.allowance(Instant::now());
        let (decided, count) = self.decide_moves(&batch.moves, allowance);
        match decided.refused {
            None => decided,
            // That page was decided in part: once more without it. A lender comes here once in its life.
            refused => {
                let (before, _) = self.decide_moves(&batch.moves[..count], allowance);
                Decided { refused, ..before }
            }
        }
    }

    /// Also gives how many of the moves are decided as a whole.
    fn decide_moves<'a>(&self, moves: &'a [Move], allowance: Allowance) -> (Decided<'a>, usize) {
        let record = Record {
            sequence: self.record.sequence + 1,
            ..self.record.clone()
        };
        let mut decided = Decided {
            records: Records::default(),
            record,
            news: News::default(),
            dead_letters: Vec::new(),
            named: Vec::new(),
            drifted: 0,
            allowance,
            refused: None,
            repeated: 0,
            stale: 0,
            undecided: 0,
            regressed_ids: Vec::new(),
            regressed: 0,
            ignored: 0,
            still_dead: 0,
            snapshot_row_count: 0,
            deleted: 0,
            put_back: 0,
            live: Vec::new(),
            left: self.left,
        };
        let mut count = 0;
        for step in moves {
            match step {
                Move::Begin(progress) => decided.record.progress = progress.clone(),
                Move::Split(split) => decided.record.progress.split(*split),
                Move::Delete(gone) => self.decide_deletions(gone, &mut decided),
                Move::Reconciled(at) => decided.record.progress.reconciled = Some(*at),
                Move::Page(page) => self.decide_page(page, &mut decided),
            }
            if decided.refused.is_some() {
                break;
            }
            count += 1;
        }
        decided.record.accounts = Some(self.index.with(&decided.news));
        (decided, count)
    }

    fn decide_page<'a>(&self, page: &'a Page, decided: &mut Decided<'a>) {
        let first_snapshot_at = decided.record.progress.first_snapshot_at.map_or(i64::MAX, |at| at.0);
        for entry in &page.entries {
            self.decide_entry(page, entry, first_snapshot_at, decided);
        }
        let mut step = page.step.clone();
        match step.walk {
            Walk::Range(_) => decided.snapshot_row_count += page.entries.len() as u64,
            // Whatever was left since the last sweep ended: this one may have passed it before.
            Walk::Sweep if step.is_last => step.left = decided.left.take(),
            Walk::Live | Walk::Sweep | Walk::Reconcile(_) | Walk::Replay => {}
        }
        decided.record.progress.advance(&step, self.late_window);
    }

    fn decide_entry<'a>(&self, page: &'a Page, entry: &'a Entry, first_snapshot_at: i64, decided: &mut Decided<'a>) {
        let row = match entry {
            Entry::Account(row) => row,
            Entry::DeadLetter(dead) => {
                let (reason, public_id) = (dead.rejected.reason.clone(), dead.rejected.public_id.as_deref());
                return self.bury(page, page.bytes(dead.json), dead.digest, reason, public_id, decided);
            }
        };
        let public_id = page.text(row.public_id);
        let mut account = AccountRecord {
            public_id,
            value: page.bytes(row.value),
            op: crate::account::Op::Read,
            updated_at: row.updated_at,
            digest: row.digest,
            invalid: row.invalid.as_deref(),
            is_regressed: false,
        };
        let topics = self.transactions.topics();
        let bury_too_large = |topic: &Topic, size: usize, decided: &mut Decided<'a>| {
            let json = row.json.map(|json| page.bytes(json)).unwrap_or_default();
            let reason = Reason::TooLarge {
                size,
                limit: topic.max_message,
                topic: topic.name.clone(),
            };
            self.bury(page, json, Digest::of_bytes(json), reason, Some(public_id), decided);
        };
        let size = account_size(&account, &self.public_id);
        if size > topics.accounts.max_message {
            return bury_too_large(&topics.accounts, size, decided);
        }
        let is_old = self.start_from.is_some_and(|start_from| row.updated_at < start_from.0);
        if is_old && !self.index.holds(&decided.news, public_id) {
            decided.ignored += 1;
            return;
        }
        let candidate = Candidate {
            public_id,
            updated_at: row.updated_at,
            created_at: row.created_at,
            digest: row.digest,
            requested: page.requested,
            received: page.received,
            is_reconciled: matches!(page.step.walk, Walk::Reconcile(_)),
        };
        let judged = self.index.judge(&decided.news, &candidate, first_snapshot_at);
        match judged.verdict {
            Verdict::Write(op) => {
                account.op = op;
                let mut content = None;
                account.is_regressed = judged.is_regressed;
                if let Some((trail, mut place)) = self.trail_into(&mut decided.records.heads) {
                    let after = trail.content(account.value);
                    let before = judged.held.and_then(|_| self.index.content(&decided.news, public_id));
                    if let Some(change) = trail.change(account, &after, judged.held, before.as_ref(), &mut place) {
                        let size = change_size(&change, &self.public_id);
                        if let Some(topic) = topics.changes.as_ref().filter(|topic| size > topic.max_message) {
                            // Rather neither than an account that changed without a trace.
                            decided.records.heads.truncate(change.head.start);
                            return bury_too_large(topic, size, decided);
                        }
                        decided.records.changes.push(change);
                    }
                    content = Some(after);
                }
                decided.put_back += u64::from(judged.is_regressed);
                self.index.note(&mut decided.news, &candidate, judged, content);
                decided.records.accounts.push(account);
                if matches!(page.step.walk, Walk::Live | Walk::Sweep) {
                    decided.live.push(row.updated_at);
                }
            }
            Verdict::Repeated => decided.repeated += 1,
            Verdict::Stale => decided.stale += 1,
            Verdict::Undecided => {
                decided.undecided += 1;
                if page.step.walk == Walk::Replay {
                    // No reading on shows a row again that was buried long ago.
                    return;
                }
                let at = Timestamp(row.updated_at);
                decided.left = Some(decided.left.map_or(at, |left| left.min(at)));
            }
            Verdict::Regressed => {
                decided.regressed += 1;
                if decided.regressed_ids.len() < MAX_LINES {
                    decided.regressed_ids.push(public_id);
                }
            }
        }
    }

    /// What makes records of `changes`, and where they go; `None` where that is turned off.
    fn trail_into<'r>(&'r self, heads: &'r mut Vec<u8>) -> Option<(&'r Trail, Place<'r>)> {
        let topic = self.transactions.topics().changes.as_ref()?;
        let place = Place {
            lender: &self.public_id,
            max_message: topic.max_message,
            heads,
        };
        Some((self.trail.as_ref()?, place))
    }

    /// A row appears once while it is in the dead-letter topic.
    fn bury<'a>(
        &self,
        page: &'a Page,
        json: &'a [u8],
        digest: Digest,
        reason: Reason,
        public_id: Option<&'a str>,
        decided: &mut Decided<'a>,
    ) {
        if page.step.walk == Walk::Replay {
            // It is one, whether its digest is remembered or not.
            decided.still_dead += 1;
            return;
        }
        if self.dead_letters.contains(&digest) || decided.dead_letters.contains(&digest) {
            decided.repeated += 1;
            return;
        }
        let request_id = page.request_id.as_deref();
        if !decided.allowance.take() {
            let refusal = || {
                decided.allowance.refusal(BadRow {
                    reason,
                    public_id: public_id.map(|id| shortened(id).into_owned()),
                    request_id: request_id.map(str::to_owned),
                })
            };
            decided.refused.get_or_insert_with(refusal);
            return;
        }
        if reason.unfit_field().is_some_and(|field| page.drifting.contains(&field)) {
            decided.drifted += 1;
        } else if decided.named.len() < MAX_LINES {
            decided.named.push(decided.dead_letters.len());
        }
        decided.dead_letters.push(digest);
        decided.records.dead_letters.push(DeadLetterRecord {
            public_id,
            json,
            reason,
            digest,
            request_id,
        });
    }

    /// Makes a committed batch part of what is held. `now`: what is requested later shows what comes after a deletion.
    fn remember(&mut self, decided: Decided<'_>, now: Tick) {
        failpoint::reach("before_remember");
        let metrics = &self.metrics;
        metrics.records_total.inc_by(decided.records.accounts.len() as u64);
        metrics.deleted_accounts_total.inc_by(decided.deleted);
        metrics.put_back_total.inc_by(decided.put_back);
        metrics.changes_total.inc_by(decided.records.changes.len() as u64);
        metrics.dead_letters_total.inc_by(decided.dead_letters.len() as u64);
        metrics.repeated_rows_total.inc_by(decided.repeated);
        metrics.stale_rows_total.inc_by(decided.stale);
        metrics.undecided_rows_total.inc_by(decided.undecided);
        metrics.regressed_rows_total.inc_by(decided.regressed);
        metrics.ignored_rows_total.inc_by(decided.ignored);
        metrics.still_dead_letters_total.inc_by(decided.still_dead);
        metrics.snapshot_rows_read_total.inc_by(decided.snapshot_row_count);
        metrics.note_latencies(&decided.live);
        let lender = &self.lender;
        for public_id in &decided.regressed_ids {
            let public_id = &*shortened(public_id);
            tracing::warn!(lender, public_id, "updated_at went back upstream; what is held stays");
        }
        if decided.regressed > MAX_LINES as u64 {
            let more = decided.regressed - MAX_LINES as u64;
            tracing::warn!(
                lender,
                "{more} more accounts whose updated_at went back in the same transaction"
            );
        }
        let letters = &decided.records.dead_letters;
        let more = letters.len().saturating_sub(decided.named.len() + decided.drifted);
        for letter in decided.named.iter().filter_map(|place| letters.get(*place)) {
            let (public_id, request_id) = (letter.public_id.map(shortened), letter.request_id);
            tracing::warn!(
                lender,
                public_id = public_id.as_deref(),
                request_id,
                "dead letter: {}",
                letter.reason
            );
        }
        if more > 0 {
            tracing::warn!(lender, "{more} more dead letters in the same transaction");
        }
        self.limit.note(letters.len() as u64, Instant::now());
        self.index.remember(decided.news, now);
        decided
            .dead_letters
            .into_iter()
            .for_each(|digest| self.dead_letters.insert(digest));
        self.left = decided.left;
        self.record = decided.record;
        self.show_state();
    }

    /// Notes what of a committed batch is progress; a heartbeat is none.
    fn note_progress(&self, batch: &Batch) {
        for step in &batch.moves {
            let Move::Page(page) = step else { continue };
            match page.step.walk {
                Walk::Live if page.step.is_last => self.metrics.note_live_walk(page.step.clock),
                Walk::Sweep if page.step.is_last => {}
                Walk::Range(_) => {}
                Walk::Live | Walk::Sweep | Walk::Reconcile(_) | Walk::Replay => continue,
            }
            self.metrics.note_progress();
        }
    }

    /// Tells the metrics what is held and what is left, and those who read what is committed.
    pub fn show_state(&self) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.accounts.set(count(self.index.len()));
        self.metrics.index_bytes.set(count(self.index.size()));
        self.metrics.ranges.set(count(self.record.progress.ranges.len()));
        let Progress { read, settled, .. } = self.record.progress;
        self.metrics.note_marks(read, settled);
        self.committed.send_if_modified(|committed| {
            let is_new = *committed != self.record.progress;
            if is_new {
                committed.clone_from(&self.record.progress);
            }
            is_new
        });
    }

    /// The one way back for everything uncertain: a new producer, then what the cursor record says.
    ///
    /// - Once: the batch is decided again only if the record read back is ours and older than the attempt; one that
    ///   reached the attempted sequence *is* the attempt, because only this thread raises it.
    /// - Atomic: the record and the batch are one transaction, so the one answers for the other.
    /// - One writer: a record that is not ours ends this lender; `init` has fenced nobody who could not reopen in turn.
    /// - Complete: the reading ends at the true end (`sink::recovery`), so an attempt that landed is seen.
    ///
    /// `backoff`: of this batch. What fails again and again after reopening well waits longer and longer, too.
    async fn reopen(
        &mut self,
        error: &SinkError,
        attempted: &Record,
        backoff: &mut Backoff,
    ) -> Result<Outcome, Stopped> {
        self.is_certain = false;
        let mut is_repeated = backoff.try_count() > 0;
        let mut after = policy::after_sink(error);
        let mut why = policy::chain(error);
        let mut advice = policy::sink_advice(error);
        loop {
            if let AfterSink::Stop(exit) = after {
                self.transactions.abandon();
                return Err(Stopped::because(exit, format!("{why} → {advice}")));
            }
            let wait = backoff.next(None);
            if backoff.is_worth_a_line() {
                tracing::warn!(lender = self.lender, advice, "degraded, reopening: {why}");
            }
            if std::mem::take(&mut is_repeated) {
                self.wait_for_kafka(wait).await;
            }
            if after == AfterSink::LookForClaim {
                self.look_for_claim().await?;
            }
            self.metrics.reopens_total.inc();
            match self.try_reopen(attempted) {
                Ok(Some(outcome)) => {
                    self.is_certain = true;
                    tracing::info!(lender = self.lender, ?outcome, "reopened");
                    return Ok(outcome);
                }
                Ok(None) => return Err(taken_over()),
                Err(error) => {
                    (after, why) = (policy::after_reopening(&error), policy::chain(&error));
                    advice = policy::sink_advice(&error);
                    if self.shutdown.is_requested() {
                        // What is committed is not known now; the next start asks.
                        return Err(Stopped::because(Exit::Done, why));
                    }
                    self.wait_for_kafka(wait).await;
                }
            }
        }
    }

    async fn wait_for_kafka(&mut self, wait: Duration) {
        self.pulse.enter("waiting for Kafka", wait);
        self.shutdown.sleep(wait).await;
    }

    /// `None`: the lender is another's.
    fn try_reopen(&mut self, attempted: &Record) -> Result<Option<Outcome>, SinkError> {
        let current = self.transactions.reopen()?.record();
        let is_ours = |record: &Record| record.has_owner_of(&self.record) || record.has_owner_of(attempted);
        Ok(current.filter(is_ours).map(|record| {
            if record.sequence >= attempted.sequence {
                Outcome::Landed
            } else {
                Outcome::NotLanded
            }
        }))
    }

    /// We were fenced: by another instance, whose claim then appears, or by the broker, because our transaction ran out
    /// of time.
    async fn look_for_claim(&mut self) -> Result<(), Stopped> {
        const PATIENCE: Duration = Duration::from_secs(15);
        const STEP: Duration = Duration::from_millis(500);
        const TIME_OUTS: usize = 3;
        const TIME_OUT_WINDOW: Duration = Duration::from_secs(600);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !self.shutdown.is_requested() {
            match self.transactions.committed() {
                // A reset is somebody else's doing as well.
                Ok(Committed::Reset) => return Err(taken_over()),
                Ok(Committed::Record(record)) if !record.has_owner_of(&self.record) => return Err(taken_over()),
                Ok(Committed::Record(_) | Committed::Nothing) | Err(_) => {}
            }
            self.pulse.enter("looking for another instance's claim", PATIENCE);
            self.shutdown.sleep(STEP).await;
        }
        if self.shutdown.is_requested() {
            // Whether somebody took over is not known; a producer made now would fence them.
            let why = "ending, and whether another instance took over is not known";
            return Err(Stopped::because(Exit::Done, why));
        }
        self.own_time_outs.retain(|at| at.elapsed() < TIME_OUT_WINDOW);
        self.own_time_outs.push(Instant::now());
        if self.own_time_outs.len() > TIME_OUTS {
            let why = "transactions ran out of time again and again, and no other instance took over";
            return Err(Stopped::because(Exit::Failed, why));
        }
        tracing::warn!(
            lender = self.lender,
            "no other instance took over: our own transaction ran out of time"
        );
        Ok(())
    }

    /// Once a heartbeat: more partitions would spread keys anew and break their order.
    fn check_partitions(&mut self) -> Result<(), Stopped> {
        if self.checked_at.elapsed() < self.settings.heartbeat_interval {
            return Ok(());
        }
        self.checked_at = Instant::now();
        match self.transactions.partitions() {
            Ok(found) if found == self.record.partitions => Ok(()),
            Ok(found) => {
                let why = crate::start::partitions_changed(&self.record.partitions, &found);
                Err(Stopped::because(Exit::Usage, why))
            }
            Err(error) => {
                tracing::warn!(lender = self.lender, "{}", policy::chain(&error));
                Ok(())
            }
        }
    }

    /// Commits a last cursor record that says the lender is free; tried once, because a producer made anew would fence
    /// whoever took over meanwhile.
    pub fn release(&mut self) {
        let record = Record {
            instance: None,
            sequence: self.record.sequence + 1,
            ..self.record.clone()
        };
        let result = self.transactions.commit(&Records::default(), &record, &self.public_id);
        match result {
            Ok(()) => tracing::debug!(lender = self.lender, "released"),
            Err(error) => {
                self.transactions.abandon();
                let lender = &self.lender;
                tracing::warn!(
                    lender,
                    "not released, it counts as alive for a while: {}",
                    policy::chain(&error)
                );
            }
        }
    }

    fn ended(&self, ended: &Ended) -> Stopped {
        if matches!(ended, Ended::CaughtUp) {
            return Stopped::as_asked();
        }
        Stopped {
            exit: ended.exit(),
            why: Some(format!("{} → {}", policy::chain(ended), ended.advice())),
            is_failed: ended.is_failed(),
        }
    }
}

fn taken_over() -> Stopped {
    Stopped::because(
        Exit::TakenOver,
        "another instance took the lender over; this one writes nothing more",
    )
}
