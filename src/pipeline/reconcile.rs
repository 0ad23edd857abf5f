//! Whom has upstream shown since everything is read once more, and what becomes of the others?
//!
//! - Complete: an account is seen by any row of its own, also one that cannot be an account, of a page that was requested
//!   after the beginning. A row that does not say whose it is may be anybody's, so then nobody is deleted.
//! - In order, Once: a deletion is a transaction like any other; a page that was requested before it does not bring the
//!   account back (`Index::judge`).

use std::sync::Arc;

use tokio::sync::oneshot;

use super::batch::{Batch, BatchItem};
use crate::clock::Tick;
use crate::index::{Index, Key};
use crate::progress::{Timestamp, Walk};
use crate::reader::{Ask, Entry, Newest, NotReconciled, Page};
use crate::upstream::Client;

/// Whom upstream has shown, while everything is read once more.
#[derive(Debug, Default)]
pub(super) struct Reconciliation(Option<Shown>);

#[derive(Debug)]
struct Shown {
    since: Tick,
    /// Rows that do not say whose they are.
    unnamed: u64,
}

/// What is to be committed of a reconciliation, and who waits for it.
pub(super) struct Deletion {
    /// A transaction each item.
    pub batches: Batch,
    /// For the order of requests and answers.
    pub client: Arc<Client>,
    /// How many, or why none.
    pub outcome: Result<usize, NotReconciled>,
    pub answer: oneshot::Sender<Result<usize, NotReconciled>>,
}

impl Reconciliation {
    /// Answers what a reader asks; gives what is to be committed before the last answer. `max_rows`: of a transaction.
    pub(super) fn answer(&mut self, ask: Ask, index: &mut Index, max_rows: usize) -> Option<Deletion> {
        match ask {
            Ask::Begin { since, done } => {
                index.forget_seen();
                self.0 = Some(Shown { since, unnamed: 0 });
                // Who asked may have been given up.
                let _ = done.send(());
                None
            }
            Ask::Newest { until, most, answer } => {
                let _ = answer.send(Newest {
                    held: index.len(),
                    accounts: index.newest(until.0, most),
                });
                None
            }
            Ask::Count { answer } => {
                let _ = answer.send(index.unseen().count());
                None
            }
            Ask::Delete {
                at,
                max_share,
                client,
                answer,
            } => {
                let unnamed = self.0.take().map_or(0, |shown| shown.unnamed);
                let (outcome, batches) = end(index, unnamed, max_share, max_rows, at);
                Some(Deletion {
                    batches,
                    client,
                    outcome,
                    answer,
                })
            }
        }
    }

    /// Notes whom a committed batch has shown.
    pub(super) fn see(&mut self, batch: &Batch, index: &mut Index) {
        let Some(shown) = &mut self.0 else { return };
        for item in &batch.items {
            let BatchItem::Page(page) = item else { continue };
            if page.requested <= shown.since {
                continue;
            }
            for entry in &page.entries {
                match public_id(page, entry) {
                    Some(public_id) => index.see(public_id),
                    None => shown.unnamed += u64::from(matches!(page.step.walk, Walk::Reconcile(_))),
                }
            }
        }
    }
}

impl Deletion {
    /// Everything of it is committed.
    pub(super) fn done(self, lender: &str) {
        match &self.outcome {
            Ok(count) => tracing::info!(
                lender,
                "reconciled: {count} accounts that upstream does not show any more were deleted"
            ),
            Err(error) => tracing::info!(lender, "reconciled: {error}"),
        }
        let _ = self.answer.send(self.outcome);
    }
}

/// What is to become of those that are unseen: a deletion of all of them, in batches of `max_rows` with the time `at` behind
/// them, or why there is none.
fn end(
    index: &Index,
    unnamed: u64,
    max_share: f64,
    max_rows: usize,
    at: Timestamp,
) -> (Result<usize, NotReconciled>, Batch) {
    let (unseen, held) = (index.unseen().count(), index.len());
    if unseen > 0 && unnamed > 0 {
        let refused = NotReconciled::Unnamed { rows: unnamed, unseen };
        return (Err(refused), Batch::default());
    }
    if NotReconciled::is_too_many(unseen, held, max_share) {
        let refused = NotReconciled::TooMany {
            unseen,
            held,
            max_share,
        };
        return (Err(refused), Batch::default());
    }
    // No more than may go: a list of all would take gigabytes where upstream shows nothing.
    let gone: Vec<String> = index.unseen().map(|key: Key| key.to_string()).collect();
    let mut batches = Batch::default();
    for gone in gone.chunks(max_rows) {
        batches.push(BatchItem::Delete(gone.to_vec()));
    }
    batches.push(BatchItem::Reconciled(at));
    (Ok(unseen), batches)
}

/// Whose row it is, if that can be read.
fn public_id<'p>(page: &'p Page, entry: &'p Entry) -> Option<&'p str> {
    match entry {
        Entry::Account(row) => Some(page.text(row.public_id)),
        Entry::DeadLetter(dead) => dead.rejected.public_id.as_deref(),
    }
}
