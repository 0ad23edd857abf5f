//! What do people and metrics hear of what is committed?

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::batch::{Batch, BatchItem};
use super::plan::{MAX_LINES, Plan};
use crate::account::shortened;
use crate::exit::ErrorCode;
use crate::index::Index;
use crate::metrics::LenderMetrics;
use crate::progress::{Progress, Record, Timestamp, Walk};
use crate::sink::Records;
use crate::watchdog::Pulse;

/// Between two lines about a clock that went back: two of upstream's may answer in turn.
const PUT_BACK_PAUSE: Duration = Duration::from_secs(600);

/// The code of a row that cannot be an account.
const DEAD_LETTER: ErrorCode = ErrorCode::L03;

/// Who hears what becomes of a lender.
#[derive(Clone)]
pub(super) struct Monitor {
    /// Its key in the configuration, for the log.
    pub lender: String,
    pub metrics: LenderMetrics,
    /// For whoever watches that the loop turns.
    pub pulse: Pulse,
    /// When it was last said that a clock went back.
    put_back_at: Arc<Mutex<Option<Instant>>>,
    /// What is committed, for who reads.
    progress: watch::Sender<Progress>,
}

impl Monitor {
    pub(super) fn new(lender: &str, metrics: LenderMetrics, pulse: Pulse) -> Self {
        Self {
            lender: lender.to_owned(),
            metrics,
            pulse,
            put_back_at: Arc::default(),
            progress: watch::Sender::default(),
        }
    }

    /// What is committed, from now on.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// A transaction is committed.
    pub(super) fn committed(&self, plan: &Plan<'_>, record: &Record, took: Duration) {
        self.metrics.transactions_total.inc();
        self.metrics.transaction_seconds.observe(took.as_secs_f64());
        self.metrics.transaction_records.observe(plan.records.count() as f64);
        let Records {
            accounts,
            changes,
            dead_letters,
            ..
        } = &plan.records;
        tracing::debug!(
            lender = self.lender,
            sequence = record.sequence,
            accounts = accounts.len(),
            changes = changes.len(),
            dead_letters = dead_letters.len(),
            ?took,
            "committed"
        );
    }

    /// What a committed plan says of the rows.
    pub(super) fn tell(&self, plan: &Plan<'_>) {
        let (metrics, tally) = (&self.metrics, &plan.tally);
        metrics.records_total.inc_by(plan.records.accounts.len() as u64);
        metrics.deleted_accounts_total.inc_by(tally.deleted);
        metrics.put_back_total.inc_by(tally.put_back);
        metrics.republished_accounts_total.inc_by(tally.republished);
        metrics.changes_total.inc_by(plan.records.changes.len() as u64);
        metrics.dead_letters_total.inc_by(plan.dead_letters.len() as u64);
        metrics.repeated_rows_total.inc_by(tally.repeated);
        metrics.stale_rows_total.inc_by(tally.stale);
        metrics.undecided_rows_total.inc_by(tally.undecided);
        metrics.regressed_rows_total.inc_by(tally.regressed);
        metrics.ignored_rows_total.inc_by(tally.ignored);
        metrics.still_dead_letters_total.inc_by(tally.still_dead);
        metrics.snapshot_rows_read_total.inc_by(tally.snapshot_rows);
        metrics.note_latencies(&plan.live);
        self.log_regressed(plan);
        self.log_dead_letters(plan);
    }

    /// `settled` goes back only where a clock does.
    fn log_put_back(&self, before: Option<Timestamp>, progress: &Progress) {
        let (Some(settled), Some(read)) = (progress.settled, progress.read) else {
            return;
        };
        let mut said_at = self.put_back_at.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = said_at.is_none_or(|at| at.elapsed() > PUT_BACK_PAUSE);
        if before.is_some_and(|before| settled < before) && is_news {
            *said_at = Some(Instant::now());
            tracing::warn!(
                lender = self.lender,
                "the clock of the answers went back: what is dated from {settled} to {read} is swept again"
            );
        }
    }

    fn log_regressed(&self, plan: &Plan<'_>) {
        let lender = &self.lender;
        for public_id in &plan.regressed_ids {
            let public_id = &*shortened(public_id);
            tracing::warn!(lender, public_id, "updated_at went back upstream; what is held stays");
        }
        if plan.tally.regressed > MAX_LINES as u64 {
            let more = plan.tally.regressed - MAX_LINES as u64;
            tracing::warn!(
                lender,
                "{more} more accounts whose updated_at went back in the same transaction"
            );
        }
    }

    fn log_dead_letters(&self, plan: &Plan<'_>) {
        let (lender, letters) = (&self.lender, &plan.records.dead_letters);
        let more = letters.len().saturating_sub(plan.named.len() + plan.tally.drifted);
        for letter in plan.named.iter().filter_map(|place| letters.get(*place)) {
            let (public_id, request_id) = (letter.public_id.map(shortened), letter.request_id);
            tracing::warn!(
                lender,
                public_id = public_id.as_deref(),
                request_id,
                code = %DEAD_LETTER,
                "dead letter: {}",
                letter.reason
            );
        }
        if more > 0 {
            tracing::warn!(lender, code = %DEAD_LETTER, "{more} more dead letters in the same transaction");
        }
    }

    /// Notes what of a committed batch is progress; a heartbeat is none.
    pub(super) fn note_progress(&self, batch: &Batch) {
        for item in &batch.items {
            let BatchItem::Page(page) = item else { continue };
            let step = &page.step;
            if step.walk == Walk::Live && step.is_last {
                self.metrics.times.note_live_walk(step.clock);
            }
            // A walk that gets nowhere reads the same rows again and again.
            if step.is_further {
                self.metrics.times.note_progress();
            }
        }
    }

    /// Tells the metrics what is held and what is left, and who reads what is committed.
    pub(super) fn show(&self, index: &Index, progress: &Progress) {
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.accounts.set(count(index.len()));
        self.metrics.index_bytes.set(count(index.size()));
        self.metrics.ranges.set(count(progress.ranges.len()));
        let Progress { read, settled, .. } = *progress;
        self.metrics.times.note_marks(read, settled);
        self.progress.send_if_modified(|committed| {
            let is_new = committed != progress;
            if is_new {
                self.log_put_back(committed.settled, progress);
                committed.clone_from(progress);
            }
            is_new
        });
    }
}
