//! What will one transaction write, and what is true once it is committed?

use std::time::Duration;

use tokio::time::Instant;

use super::limit::{Allowance, DeadLetterStop};
use crate::account::Digest;
use crate::clock::Tick;
use crate::index::{Index, PendingVersions};
use crate::progress::{Progress, Record, Timestamp};
use crate::sink::{DeadLetterDigests, Records};

/// Lines of one kind that a transaction may add to the log: an upstream that turns to rubbish must not fill it.
pub(super) const MAX_LINES: usize = 10;

/// What is held of one lender: the image of what is committed.
pub(super) struct Holdings {
    pub index: Index,
    pub dead_letters: DeadLetterDigests,
    /// The lowest `updated_at` of a row that is left for the next sweep.
    pub left: Option<Timestamp>,
    /// How long deletions are remembered, and since when those that came then are.
    kept: Duration,
    turned_at: Instant,
}

/// What was held of a lender when it was released.
#[derive(Debug)]
pub(crate) struct Left {
    pub index: Index,
    pub dead_letters: DeadLetterDigests,
}

/// What one transaction will write, and what is true once it is committed.
pub(super) struct Plan<'a> {
    pub records: Records<'a>,
    pub progress: Progress,
    /// Count and checksum of the accounts.
    pub accounts: (u64, u64),
    pub news: PendingVersions<'a>,
    pub dead_letters: Vec<Digest>,
    /// Places of the first few dead letters, which the log names; the fields of the others have an alarm of their own.
    pub named: Vec<usize>,
    /// How many more may be dead letters.
    pub allowance: Allowance,
    /// The row that may not be one: its page and what follows are not part of this.
    pub refused: Option<DeadLetterStop>,
    /// The first few are named in the log.
    pub regressed_ids: Vec<&'a str>,
    /// The `updated_at` of account records that a live walk or a sweep brought.
    pub live: Vec<i64>,
    /// The lowest `updated_at` of a row that is left for the next sweep.
    pub left: Option<Timestamp>,
    pub tally: Tally,
}

/// What became of the rows of a batch, beside its records.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tally {
    pub repeated: u64,
    pub stale: u64,
    pub undecided: u64,
    pub regressed: u64,
    /// Older than `start_from`, of accounts that are not held.
    pub ignored: u64,
    /// Dead letters that could be read, but are too large for their topics.
    pub still_dead: u64,
    /// Dead letters by a field that upstream changed for all rows.
    pub drifted: usize,
    pub snapshot_rows: u64,
    pub deleted: u64,
    /// Accounts written once more as they are held.
    pub republished: u64,
    /// Records of accounts whose `updated_at` went back.
    pub put_back: u64,
}

impl Plan<'_> {
    /// One that writes nothing yet.
    pub(super) fn new(holdings: &Holdings, progress: &Progress, allowance: Allowance) -> Self {
        Self {
            records: Records::default(),
            progress: progress.clone(),
            accounts: (0, 0),
            news: PendingVersions::default(),
            dead_letters: Vec::new(),
            named: Vec::new(),
            allowance,
            refused: None,
            regressed_ids: Vec::new(),
            live: Vec::new(),
            left: holdings.left,
            tally: Tally::default(),
        }
    }

    /// As if a rule were broken that the model test looks for: the marks without their rows.
    pub(super) fn lose_rows(&mut self, index: &Index) {
        (self.records, self.news) = (Records::default(), PendingVersions::default());
        self.accounts = index.with(&self.news);
    }

    /// Whether committing it would change more than the sequence of `committed`.
    pub(super) fn changes(&self, committed: &Record) -> bool {
        !self.records.accounts.is_empty()
            || !self.records.dead_letters.is_empty()
            || self.progress != committed.progress
            || Some(self.accounts) != committed.accounts
    }

    /// The cursor record that is committed with it, `committed` being the one before.
    pub(super) fn record(&self, committed: &Record) -> Record {
        Record {
            sequence: committed.sequence + 1,
            progress: self.progress.clone(),
            accounts: Some(self.accounts),
            ..committed.clone()
        }
    }
}

impl Holdings {
    /// `retention`: how long the topic of accounts keeps a tombstone; so long a deletion is remembered at least.
    pub(super) fn new(index: Index, dead_letters: DeadLetterDigests, retention: Duration) -> Self {
        /// A page that was asked for before a deletion comes long before that.
        const LEAST: Duration = Duration::from_secs(3600);
        Self {
            index,
            dead_letters,
            left: None,
            kept: retention.max(LEAST),
            turned_at: Instant::now(),
        }
    }

    /// Of a lender that is released.
    pub(super) fn left_behind(self) -> Left {
        Left {
            index: self.index,
            dead_letters: self.dead_letters,
        }
    }

    /// Makes a committed plan part of what is held. `now`: what is requested later shows what comes after a deletion.
    pub(super) fn remember(&mut self, plan: Plan<'_>, now: Tick) {
        self.index.remember(plan.news, now);
        plan.dead_letters
            .into_iter()
            .for_each(|digest| self.dead_letters.insert(digest));
        self.left = plan.left;
        if self.turned_at.elapsed() >= self.kept {
            self.index.turn_tombstones();
            self.turned_at = Instant::now();
        }
    }
}
