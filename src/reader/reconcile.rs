//! What does upstream not show any more? Everything read once more, and what that does not find looked for in every other
//! way before it is called gone.
//!
//! ```text
//! nobody is seen ─► all of it ─► who is unseen? ─► all of it again ─► a live walk ─► a sweep ─► delete who is unseen
//!                                     none ─────────────────────────────────────────────────────────┘
//! ```
//!
//! The index notes who was seen, so the pipeline answers (`pipeline::reconcile`). What is missing or different is written on
//! the way, as from any page: so whether upstream is as new as what is held is asked before the first page, and once more before
//! anything is deleted (`witness`).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::ask::{Ask, Newest, NotReconciled};
use super::context::Until;
use super::exit::ReaderExit;
use super::incoming::Item;
use super::reading::Reader;
use super::shares::Shares;
use super::walk::{OneWalk, RangeKind};
use super::witness::{MAX_WITNESSES, Older, PageUse, Witnesses};
use crate::clock::{self, Tick};
use crate::exit::Diagnosis;
use crate::failpoint::{self, Rule};
use crate::progress::{Range, Timestamp};

/// So much of what lies beyond all that is known is read, too, in milliseconds: the clock is early by a second and more, and a
/// row that went back to that time is put right here alone.
const BEYOND: i64 = 5_000;

/// The last millisecond that upstream's notation can write, 9999-12-31T23:59:59.999Z.
const LAST: i64 = 253_402_300_799_999;

impl Reader {
    /// Reconciles again and again, an interval after the last time.
    pub(super) async fn reconcile_at_times(self: &Arc<Self>, interval: Duration) -> Result<(), ReaderExit> {
        let interval = failpoint::shortened("D02_TEST_RECONCILE_INTERVAL", interval);
        loop {
            let last = {
                let committed = self.committed.borrow();
                // Not from the start of a process: one that is started every day would never come to it.
                committed.reconciled.or(committed.first_snapshot_at)
            };
            let last = last.unwrap_or(self.context.clock());
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
        let as_new_as = match self.as_new_as().await? {
            Ok(as_new_as) => as_new_as,
            Err(older) => return Ok(Err(older)),
        };
        tracing::info!(
            lender = &*self.context.name,
            "reconciling: everything is read once more"
        );
        self.ask(|done| Ask::Begin { since, done }).await;
        for _ in 0..PASSES {
            self.read_everything().await?;
            // A backlog that came meanwhile may hold whom it did not show.
            self.shares.all_read().await;
            if self.ask(|answer| Ask::Count { answer }).await == 0 || failpoint::is_broken(Rule::TwoPasses) {
                return self.delete(at, as_new_as).await;
            }
        }
        // Somebody may have moved past both, or shown up late.
        self.walk_and_sweep().await;
        self.shares.all_read().await;
        self.delete(at, as_new_as).await
    }

    /// Reads all that upstream shows, once.
    pub(super) async fn read_everything(self: &Arc<Self>) -> Result<(), ReaderExit> {
        // Whom this does not reach, it does not see: what is held may lie far beyond the clock, which is the earlier of two.
        // Beyond what is held, and beyond `read`, the live walk that follows shows everything.
        let Newest { accounts, .. } = self.newest(Timestamp(i64::MAX), 1).await;
        let held = accounts.first().map(|(_, updated_at)| Timestamp(*updated_at));
        let read = self.committed.borrow().read;
        let known = Some(self.context.clock()).max(held).max(read).expect("the clock");
        let stop = Timestamp(known.0.saturating_add(BEYOND).min(LAST));
        let all = Range {
            since: None,
            until: Some(stop),
            stop,
            cursor: None,
            highest: None,
            last_id: None,
        };
        let shares = Arc::new(Shares::new(vec![all]));
        self.read_ranges(&shares, RangeKind::Reconcile).await
    }

    /// Up to when upstream is as new as what is held, if anything is held that could say so. Nothing is handed over for that.
    pub(super) async fn as_new_as(&self) -> Result<Result<Option<Timestamp>, NotReconciled>, ReaderExit> {
        if self.context.until == (Until::Reconciled { is_backup: true }) {
            return Ok(Ok(None));
        }
        // What is dated ahead may go back with the clock that dated it. An old copy may have an old clock.
        let now = Timestamp(clock::now().timestamp_millis());
        let until = self.context.clock().max(now);
        let Newest { held, accounts } = self.newest(until, 1).await;
        let Some(newest) = accounts.first().map(|(_, updated_at)| Timestamp(*updated_at)) else {
            return Ok(Ok(None));
        };
        if self.shows_any_from(newest).await? {
            return Ok(Ok(Some(newest)));
        }
        // The newest accounts are gone, or upstream shows an old copy: that shows others as they were before.
        tracing::info!(
            lender = &*self.context.name,
            "upstream shows nothing as new as what is held, of {newest}: it is read once without writing, to see whether that is gone"
        );
        let may_go = NotReconciled::may_go(held, self.context.upstream.reconcile_max_deletes);
        let most = may_go.saturating_add(1).min(MAX_WITNESSES);
        let Newest { accounts, .. } = self.newest(until, most).await;
        let witnesses = Witnesses::new(accounts, self.context.upstream.late_window);
        OneWalk::apart(None, PageUse::Heard(&witnesses))
            .run(&self.context, None)
            .await?;
        let verdict = witnesses.verdict(may_go);
        Ok(verdict.map_err(|Older| NotReconciled::Older { newest }))
    }

    /// Whether upstream shows anything that is no more than the late window older than `newest`.
    async fn shows_any_from(&self, newest: Timestamp) -> Result<bool, ReaderExit> {
        let from = newest.before(self.context.upstream.late_window);
        let walk = OneWalk::apart(Some(from), PageUse::FirstRow);
        Ok(walk.run(&self.context, None).await?.highest.is_some())
    }

    /// Waits for a live walk that begins from now on, and for a sweep that begins after it, to be committed.
    pub(super) async fn walk_and_sweep(&self) {
        self.wait_for_walk(&self.polled_at).await;
        self.sweep_soon.notify_one();
        self.wait_for_walk(&self.swept_at).await;
    }

    /// `as_new_as`: upstream was that when it began.
    async fn delete(
        &self,
        at: Timestamp,
        as_new_as: Option<Timestamp>,
    ) -> Result<Result<usize, NotReconciled>, ReaderExit> {
        if let Some(newest) = as_new_as
            && !self.shows_any_from(newest).await?
        {
            let from = newest.before(self.context.upstream.late_window);
            return Ok(Err(NotReconciled::BecameOlder { from }));
        }
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
        Ok(reconciled)
    }

    async fn wait_for_walk(&self, ended: &watch::Sender<Tick>) {
        let now = self.context.client.tick();
        // The sender is in `self`.
        let _ = ended.subscribe().wait_for(|begun| *begun > now).await;
    }

    async fn newest(&self, until: Timestamp, most: usize) -> Newest {
        self.ask(|answer| Ask::Newest { until, most, answer }).await
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
