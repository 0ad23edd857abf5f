//! Whom has upstream shown since everything is read once more, and what becomes of the others?
//!
//! - Complete: an account is seen by any row of its own, also one that cannot be an account, of a page that was requested
//!   after the beginning. A row that does not say whose it is may be anybody's, so then nobody is deleted.
//! - In order, Once: a deletion is a transaction like any other; a page that was requested before it does not bring the
//!   account back (`Index::judge`).

use super::inbox::{Batch, BatchItem};
use crate::clock::Tick;
use crate::index::{Index, Key};
use crate::progress::{Timestamp, Walk};
use crate::reader::{Entry, Page, Reconciled};

/// While everything is read once more.
pub(super) struct Reconciling {
    since: Tick,
    /// Rows that do not say whose they are.
    unnamed: u64,
}

impl Reconciling {
    /// From now on accounts count as seen by what is requested after `since`.
    pub fn begin(since: Tick, index: &mut Index) -> Self {
        index.forget_seen();
        Self { since, unnamed: 0 }
    }

    /// Notes whom a committed batch has shown.
    pub fn see(&mut self, batch: &Batch, index: &mut Index) {
        for item in &batch.items {
            let BatchItem::Page(page) = item else { continue };
            if page.requested <= self.since {
                continue;
            }
            for entry in &page.entries {
                match public_id(page, entry) {
                    Some(public_id) => index.see(public_id),
                    None => self.unnamed += u64::from(matches!(page.step.walk, Walk::Reconcile(_))),
                }
            }
        }
    }

    /// What is to become of those that are unseen: a deletion of all of them, in batches of `max_rows` with the time `at`
    /// behind them, or why there is none.
    pub fn end(self, index: &Index, max_share: f64, max_rows: usize, at: Timestamp) -> (Reconciled, Vec<BatchItem>) {
        let gone: Vec<String> = index.unseen().map(|key: Key| key.to_string()).collect();
        let (unseen, held) = (gone.len(), index.len());
        if unseen > 0 && self.unnamed > 0 {
            let rows = self.unnamed;
            return (Reconciled::Unnamed { rows, unseen }, Vec::new());
        }
        if Reconciled::is_too_many(unseen, held, max_share) {
            let refused = Reconciled::TooMany {
                unseen,
                held,
                max_share,
            };
            return (refused, Vec::new());
        }
        let deletions = gone.chunks(max_rows).map(|gone| BatchItem::Delete(gone.to_vec()));
        let items = deletions.chain([BatchItem::Reconciled(at)]).collect();
        (Reconciled::Deleted { count: unseen }, items)
    }
}

/// Whose row it is, if that can be read.
fn public_id<'p>(page: &'p Page, entry: &'p Entry) -> Option<&'p str> {
    match entry {
        Entry::Account(row) => Some(page.text(row.public_id)),
        Entry::DeadLetter(dead) => dead.rejected.public_id.as_deref(),
    }
}
