//! What does every walk of a lender need?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use super::incoming::Outlet;
use super::judge::RowEncoder;
use crate::clock::Tick;
use crate::config;
use crate::progress::Timestamp;
use crate::upstream::{Client, PageRequest};

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
    /// When a page came last, of any walk.
    pub passed_at: AtomicU64,
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
