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

use super::{Ended, Item, Kind, Reader};
use crate::clock::Tick;
use crate::failpoint::{self, Rule};
use crate::progress::{Range, Timestamp};
use crate::upstream::Client;

/// What a reader asks the pipeline, behind everything that it handed over before.
pub enum Ask {
    /// From now on, accounts count as seen by what is requested after `since`.
    Begin { since: Tick, done: oneshot::Sender<()> },
    /// How many accounts are unseen?
    Count { answer: oneshot::Sender<usize> },
    /// Delete those, unless they are more than this share of all. `at`: upstream's clock when it began.
    Delete {
        at: Timestamp,
        max_share: f64,
        client: Arc<Client>,
        answer: oneshot::Sender<Reconciled>,
    },
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin { .. } => "Begin",
            Self::Count { .. } => "Count",
            Self::Delete { .. } => "Delete",
        })
    }
}

/// What became of the accounts that upstream does not show.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Reconciled {
    #[error("{count} accounts that upstream does not show any more were deleted")]
    Deleted { count: usize },
    #[error(
        "nothing was deleted: upstream does not show {unseen} of {held} accounts, which is more than the share {max_share} that \
         may go"
    )]
    TooMany { unseen: usize, held: usize, max_share: f64 },
    #[error(
        "nothing was deleted: {rows} rows say no public_id that can be read, so they may be some of the {unseen} accounts that \
         upstream does not show"
    )]
    Unnamed { rows: u64, unseen: usize },
}

impl Reconciled {
    /// Whether more than the share `max_share` of those held would be deleted.
    pub fn is_too_many(unseen: usize, held: usize, max_share: f64) -> bool {
        unseen as f64 > max_share * held as f64
    }

    /// What to do about it; `None` where all is well.
    pub fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Deleted { .. } => None,
            Self::TooMany { .. } => Some(
                "see with `d02-source verify` which they are; if upstream is right, run `d02-source reconcile --max-deletes` \
                 with a larger share",
            ),
            Self::Unnamed { .. } => {
                Some("see them with `d02-source tail --topic dead-letters`, and ask the vendor to mend them")
            }
        }
    }
}

impl Reader {
    /// Reconciles again and again, an interval after the last time.
    pub(super) async fn reconcile_at_times(self: &Arc<Self>, interval: Duration) -> Result<(), Ended> {
        let interval = failpoint::shortened("D02_TEST_RECONCILE_INTERVAL", interval);
        loop {
            let last = self.committed.borrow().reconciled.unwrap_or(self.clock());
            let since = Duration::from_millis(u64::try_from(self.clock().0 - last.0).unwrap_or(0));
            tokio::time::sleep(interval.saturating_sub(since)).await;
            let reconciled = self.reconcile().await?;
            if let Some(advice) = reconciled.advice() {
                tracing::error!(lender = &*self.name, advice, "{reconciled}");
                tokio::time::sleep(interval).await;
            }
        }
    }

    /// Reads everything once more; returns once what is gone is deleted, or why it is not.
    pub(super) async fn reconcile(self: &Arc<Self>) -> Result<Reconciled, Ended> {
        const PASSES: u32 = 2;
        let (since, at) = (self.client.tick(), self.clock());
        tracing::info!(lender = &*self.name, "reconciling: everything is read once more");
        self.ask(|done| Ask::Begin { since, done }).await;
        for _ in 0..PASSES {
            let stop = self.clock();
            let all = Range {
                since: None,
                until: Some(stop),
                stop,
                cursor: None,
                highest: None,
            };
            self.read_ranges(vec![all], Kind::Reconcile).await?;
            if self.ask(|answer| Ask::Count { answer }).await == 0 || failpoint::is_broken(Rule::TwoPasses) {
                return Ok(self.delete(at).await);
            }
        }
        // Somebody may have moved past both, or shown up late.
        self.walk_and_sweep().await;
        Ok(self.delete(at).await)
    }

    /// Waits for a live walk that begins from now on, and for a sweep that begins after it, to be committed.
    pub(super) async fn walk_and_sweep(&self) {
        self.wait_for_walk(&self.polled_at).await;
        self.sweep_soon.notify_one();
        self.wait_for_walk(&self.swept_at).await;
    }

    async fn delete(&self, at: Timestamp) -> Reconciled {
        let (client, max_share) = (Arc::clone(&self.client), self.upstream.reconcile_max_deletes);
        let reconciled = self.ask(|answer| Ask::Delete {
            at,
            max_share,
            client,
            answer,
        });
        let reconciled = reconciled.await;
        self.client.metrics().reconciles_total.inc();
        reconciled
    }

    async fn wait_for_walk(&self, ended: &watch::Sender<Tick>) {
        let now = self.client.tick();
        // The sender is in `self`.
        let _ = ended.subscribe().wait_for(|begun| *begun > now).await;
    }

    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> T {
        let (answer, answered) = oneshot::channel();
        self.rest.send(Item::Ask(ask(answer)));
        match answered.await {
            Ok(answer) => answer,
            // The lender has ended, and so will this reading be.
            Err(_) => std::future::pending().await,
        }
    }
}
