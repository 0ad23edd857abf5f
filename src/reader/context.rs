//! What does every walk of a lender need?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use super::incoming::Outlet;
use super::judge::RowEncoder;
use crate::config;
use crate::progress::Timestamp;
use crate::upstream::Client;

/// What every walk of a lender needs.
pub(super) struct WalkContext {
    pub client: Arc<Client>,
    pub encoder: Arc<RowEncoder>,
    /// The lender's key in the configuration, for the log.
    pub name: Box<str>,
    pub upstream: config::Upstream,
    pub until: Until,
    pub live: Outlet,
    pub rest: Outlet,
    /// Upstream's clock, as last seen: milliseconds since the epoch.
    pub clock: AtomicI64,
}

/// How long it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// For ever.
    Asked,
    CaughtUp,
    /// Until everything was read once more and what is gone deleted.
    Reconciled,
}

impl WalkContext {
    pub(super) fn clock(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    pub(super) fn note_clock(&self, clock: Timestamp) {
        self.clock.fetch_max(clock.0, Ordering::Relaxed);
    }
}
