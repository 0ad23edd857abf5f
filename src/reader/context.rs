//! What does every walk of a lender need?

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::incoming::Outlet;
use super::room::RecordRoom;
use super::row_encoder::RowEncoder;
use crate::backoff::Patience;
use crate::clock::Tick;
use crate::config;
use crate::progress::{TargetState, Timestamp, Walk};
use crate::targets::Target;
use crate::upstream::{Client, PageRequest};

/// What every walk of a lender needs.
pub(super) struct WalkContext {
    pub client: Arc<Client>,
    pub encoder: Arc<RowEncoder>,
    /// The lender's key in the configuration, for the log.
    pub name: Box<str>,
    pub upstream: config::Upstream,
    pub until: Until,
    /// What is wanted of the lender.
    pub target: watch::Receiver<Target>,
    pub trials: Trials,
    pub live: Outlet,
    pub rest: Outlet,
    /// For ranges in the cursor record.
    pub room: Arc<RecordRoom>,
    /// Upstream's clock, as last seen: milliseconds since the epoch.
    pub clock: AtomicI64,
    /// When a page came last, of any walk.
    pub passed_at: AtomicU64,
}

/// The patience with an upstream of which no walk gets a page that counts.
pub(super) struct Trials {
    patience: Patience,
    failing_since: Mutex<Option<Instant>>,
}

impl Trials {
    pub(super) fn new(patience: Patience) -> Self {
        Self {
            patience,
            failing_since: Mutex::default(),
        }
    }

    /// A page counts.
    pub(super) fn passed(&self) {
        *self.failing_since() = None;
    }

    /// A try failed; gives the patience if it is over before another one, after `wait`.
    pub(super) fn failed(&self, wait: Duration) -> Option<Duration> {
        let since = *self.failing_since().get_or_insert_with(Instant::now);
        match self.patience {
            Patience::For(patience) if since.elapsed() + wait > patience => Some(patience),
            Patience::For(_) | Patience::Once | Patience::Endless => None,
        }
    }

    fn failing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failing_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// For ever.
    Asked,
    CaughtUp,
    /// Until everything was read once more and what is gone deleted; `is_backup`: also where upstream is older than what is
    /// held.
    Reconciled {
        is_backup: bool,
    },
    /// Until everything was read once more, so that what is held can be written again.
    Republished,
}

impl Until {
    /// Whether it is a person's errand, which is over soon, and takes no lender from a running source.
    pub(crate) fn is_errand(self) -> bool {
        matches!(self, Self::Reconciled { .. } | Self::Republished)
    }
}

impl WalkContext {
    /// Returns once it is not paused; gives up what is under way where it is.
    pub(super) async fn unpaused<T>(&self, under_way: &mut Option<T>) {
        if self.target.borrow().state == TargetState::Paused {
            *under_way = None;
        }
        let mut target = self.target.clone();
        // Where nobody can change it any more, it is no longer of interest.
        let _ = target.wait_for(|target| target.state != TargetState::Paused).await;
    }

    /// The way of a walk's pages.
    pub(super) fn outlet(&self, walk: Walk) -> &Outlet {
        match walk {
            Walk::Live => &self.live,
            Walk::Range(_) | Walk::Sweep | Walk::EarlySweep | Walk::Reconcile(_) | Walk::Replay => &self.rest,
        }
    }

    pub(super) fn clock(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    pub(super) fn note_clock(&self, clock: Timestamp) {
        self.clock.fetch_max(clock.0, Ordering::Relaxed);
    }

    pub(super) fn note_pass(&self) {
        self.passed_at.fetch_max(self.client.tick(), Ordering::Relaxed);
    }

    /// Whether any walk had a page since.
    pub(super) fn has_passed_since(&self, tick: Tick) -> bool {
        self.passed_at.load(Ordering::Relaxed) > tick
    }

    /// Asks for nothing, to see whether upstream answers anybody.
    pub(super) async fn probe(&self) {
        let nothing = PageRequest {
            since: Some(self.clock()),
            until: None,
            cursor: None,
            limit: 1,
            include_total: false,
        };
        if let Ok(answer) = self.client.page(&nothing).await
            && answer.page().is_ok()
        {
            self.note_pass();
        }
    }
}
