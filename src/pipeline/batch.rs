//! What goes into one transaction, before it is decided?

use crate::progress::{Progress, Split, Timestamp};
use crate::reader::Page;

/// What goes into one transaction, in the reader's order; nothing: a heartbeat.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub items: Vec<BatchItem>,
    pub row_count: usize,
}

impl Batch {
    pub(super) fn of(item: BatchItem) -> Self {
        Self {
            items: vec![item],
            row_count: 0,
        }
    }

    pub(super) fn push(&mut self, page: Page) {
        self.row_count += page.entries.len();
        self.items.push(BatchItem::Page(page));
    }
}

/// What items the progress.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are pages")]
pub(super) enum BatchItem {
    Begin(Progress),
    Page(Page),
    Split(Split),
    /// These accounts are gone.
    Delete(Vec<String>),
    /// Everything was read once more, by upstream's clock.
    Reconciled(Timestamp),
}
