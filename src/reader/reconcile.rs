//! What does upstream not show any more? Everything read once more, and what that does not find looked for in every other
//! way before it is called gone.
//!
//! ```text
//! nobody is seen ─► all of it ─► who is unseen? ─► all of it again ─► a live walk ─► a sweep ─► delete who is unseen
//!                                     none ─────────────────────────────────────────────────────────┘
//! ```
//!
//! The index notes who was seen, so the pipeline answers (`pipeline::reconcile`). What is missing or different is written on
//! the way, as from any page.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::ask::{Ask, NotReconciled};
use super::exit::ReaderExit;
use super::incoming::Item;
use super::reading::Reader;
use super::shares::Shares;
use super::walk::RangeKind;
use crate::clock::Tick;
use crate::exit::Diagnosis;
use crate::failpoint::{self, Rule};
use crate::progress::{Range, Timestamp};

/// So much of what lies beyond the clock is read, too, in milliseconds: the clock is early by a second and more, and a row that
/// went back to that time is put right here alone.
const BEYOND_CLOCK: i64 = 5_000;

impl Reader {
    /// Reconciles again and again, an interval after the last time.
    pub(super) async fn reconcile_at_times(self: &Arc<Self>, interval: Duration) -> Result<(), ReaderExit> {
        let interval = failpoint::shortened("D02_TEST_RECONCILE_INTERVAL", interval);
        loop {
            let last = self.committed.borrow().reconciled.unwrap_or(self.context.clock());
            let since = Duration::from_millis(u64::try_from(self.context.clock().0 - last.0).unwrap_or(0));
            tokio::time::sleep(interval.saturating_sub(since)).await;
            if let Err(error) = self.reconcile().await? {
                let (code, advice) = (error.code(), error.advice());
                tracing::error!(lender = &*self.context.name, %code, advice, "{error}");
                tokio::time::sleep(interval).await;
            }
        }
    }

    /// Reads everything once more; returns once what is gone is deleted, or why it is not.
    pub(super) async fn reconcile(self: &Arc<Self>) -> Result<Result<usize, NotReconciled>, ReaderExit> {
        const PASSES: u32 = 2;
        let (since, at) = (self.context.client.tick(), self.context.clock());
        tracing::info!(
            lender = &*self.context.name,
            "reconciling: everything is read once more"
        );
        self.ask(|done| Ask::Begin { since, done }).await;
        for _ in 0..PASSES {
            let stop = Timestamp(self.context.clock().0 + BEYOND_CLOCK);
            let all = Range {
                since: None,
                until: Some(stop),
                stop,
                cursor: None,
                highest: None,
                last_id: None,
            };
            let shares = Arc::new(Shares::new(vec![all]));
            self.read_ranges(&shares, RangeKind::Reconcile).await?;
            // A backlog that came meanwhile may hold whom it did not show.
            self.shares.all_read().await;
            if self.ask(|answer| Ask::Count { answer }).await == 0 || failpoint::is_broken(Rule::TwoPasses) {
                return Ok(self.delete(at).await);
            }
        }
        // Somebody may have moved past both, or shown up late.
        self.walk_and_sweep().await;
        self.shares.all_read().await;
        Ok(self.delete(at).await)
    }

    /// Waits for a live walk that begins from now on, and for a sweep that begins after it, to be committed.
    pub(super) async fn walk_and_sweep(&self) {
        self.wait_for_walk(&self.polled_at).await;
        self.sweep_soon.notify_one();
        self.wait_for_walk(&self.swept_at).await;
    }

    async fn delete(&self, at: Timestamp) -> Result<usize, NotReconciled> {
        let (client, max_share) = (
            Arc::clone(&self.context.client),
            self.context.upstream.reconcile_max_deletes,
        );
        let reconciled = self.ask(|answer| Ask::Delete {
            at,
            max_share,
            client,
            answer,
        });
        let reconciled = reconciled.await;
        self.context.client.metrics().reconciles_total.inc();
        reconciled
    }

    async fn wait_for_walk(&self, ended: &watch::Sender<Tick>) {
        let now = self.context.client.tick();
        // The sender is in `self`.
        let _ = ended.subscribe().wait_for(|begun| *begun > now).await;
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> T {
        let (answer, answered) = oneshot::channel();
        self.context.rest.send(Item::Ask(ask(answer)));
        match answered.await {
            Ok(answer) => answer,
            // The lender has ended, and so will this reading be.
            Err(_) => std::future::pending().await,
        }
    }
}
