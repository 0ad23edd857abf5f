//! How do pages reach the pipeline? Two ways, each bounded in bytes; what is live does not stand behind the rest.

use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};

use super::ask::Ask;
use super::exit::ReaderExit;
use super::page::Page;
use crate::progress::{Progress, Split};

/// Encoded pages of a lender's snapshot and sweeps that are read but not yet committed, in bytes.
pub(super) const MAX_BUFFERED: u32 = 64 << 20;

/// The same of its live walks, which do not wait for the others.
pub(super) const MAX_BUFFERED_LIVE: u32 = 16 << 20;

/// What the reader hands to the pipeline, in order.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are pages")]
pub(crate) enum Item {
    /// The first snapshot begins: T0 by upstream's clock.
    Begin(Progress),
    Page(Page),
    /// One of the ranges becomes two. Stands behind the last page that was read under the old bound.
    Split(Split),
    Ask(Ask),
    /// The reader has ended; nothing follows.
    End(ReaderExit),
}

/// What comes from a reader.
#[derive(Debug)]
pub(crate) struct Incoming {
    live: mpsc::UnboundedReceiver<Item>,
    rest: mpsc::UnboundedReceiver<Item>,
}

impl Incoming {
    /// With the two ways to it, for what is live and for the rest; each holds so many bytes.
    pub(super) fn new([live, rest]: [u32; 2]) -> (Self, [Outlet; 2]) {
        let (live, live_items) = Outlet::new(live);
        let (rest, rest_items) = Outlet::new(rest);
        let incoming = Self {
            live: live_items,
            rest: rest_items,
        };
        (incoming, [live, rest])
    }

    /// The next item; `None` when the reader is gone. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Item> {
        tokio::select! {
            // What is live is what people wait for: it does not stand behind a snapshot.
            biased;
            Some(item) = self.live.recv() => Some(item),
            Some(item) = self.rest.recv() => Some(item),
            else => None,
        }
    }

    /// Whether something live waits.
    pub(crate) fn is_live_waiting(&self) -> bool {
        !self.live.is_empty()
    }
}

/// One of the two ways to the pipeline.
pub(super) struct Outlet {
    pub items: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    size: u32,
}

impl Outlet {
    pub(super) fn new(size: u32) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (items, received) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(size as usize));
        (Self { items, room, size }, received)
    }

    /// Waits for room, then hands a page over.
    pub(super) async fn hand_over(&self, mut page: Page) {
        let size = u32::try_from(page.size()).unwrap_or(u32::MAX).clamp(1, self.size);
        page._room = self.room.clone().acquire_many_owned(size).await.ok();
        self.send(Item::Page(page));
    }

    pub(super) fn send(&self, item: Item) {
        // Nobody listens any more only when the lender has ended already.
        let _ = self.items.send(item);
    }
}
