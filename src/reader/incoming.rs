//! How do pages reach the pipeline? Two ways, each with room for so many bytes; what is live does not stand behind the rest.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::ask::Ask;
use super::exit::ReaderExit;
use super::page::Page;
use crate::in_flight::{Room, Waiting};
use crate::progress::{Progress, Split};

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
    waiting: Arc<Waiting>,
}

impl Incoming {
    /// With the two ways to it, for what is live and for the rest.
    pub(super) fn new([live, rest]: [Arc<Room>; 2]) -> (Self, [Outlet; 2]) {
        let waiting = live.waiting();
        let (live, live_items) = Outlet::new(live);
        let (rest, rest_items) = Outlet::new(rest);
        let incoming = Self {
            live: live_items,
            rest: rest_items,
            waiting,
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

    /// Whether the reader waits for room: what came is to be committed, for nothing more comes before.
    pub(crate) fn waiting(&self) -> Arc<Waiting> {
        Arc::clone(&self.waiting)
    }

    /// Whether anything waits.
    pub(crate) fn is_anything_waiting(&self) -> bool {
        self.is_live_waiting() || !self.rest.is_empty()
    }

    /// Whether something live waits.
    pub(crate) fn is_live_waiting(&self) -> bool {
        !self.live.is_empty()
    }
}

/// One of the two ways to the pipeline.
pub(super) struct Outlet {
    pub items: mpsc::UnboundedSender<Item>,
    pub room: Arc<Room>,
}

impl Outlet {
    pub(super) fn new(room: Arc<Room>) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (items, received) = mpsc::unbounded_channel();
        (Self { items, room }, received)
    }

    /// Waits for room, where the page has none from its answer, then hands it over.
    pub(super) async fn hand_over(&self, mut page: Page) {
        if page.taken.is_none() {
            page.taken = Some(self.room.take(page.size()).await);
        }
        self.send(Item::Page(page));
    }

    pub(super) fn send(&self, item: Item) {
        // Nobody listens any more only when the lender has ended already.
        let _ = self.items.send(item);
    }
}
