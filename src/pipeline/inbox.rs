//! What goes into the next transaction? What comes from the reader, gathered into batches.

use tokio::time::Instant;

use crate::config;
use crate::progress::{Progress, Split, Walk};
use crate::reader::{Ended, Incoming, Item, Page};
use crate::shutdown::Shutdown;

/// What goes into one transaction, in the reader's order; nothing: a heartbeat.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub moves: Vec<Move>,
    row_count: usize,
}

/// What moves the progress.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all of them are pages")]
pub(super) enum Move {
    Begin(Progress),
    Page(Page),
    Split(Split),
}

pub(super) struct Inbox {
    incoming: Incoming,
    /// Came while a batch was gathered; follows it.
    ended: Option<Ended>,
}

pub(super) enum Next {
    Batch(Batch),
    Ended(Ended),
    Shutdown,
    /// The reader is gone without a last word.
    Lost,
}

impl Inbox {
    pub fn new(incoming: Incoming) -> Self {
        Self { incoming, ended: None }
    }

    /// The next batch: as large as `max_rows` while there is more, small and at once when live; empty when a heartbeat
    /// is due.
    pub async fn next(
        &mut self,
        settings: &config::Transaction,
        heartbeat_at: Instant,
        shutdown: &mut Shutdown,
    ) -> Next {
        if let Some(ended) = self.ended.take() {
            return Next::Ended(ended);
        }
        let mut batch = Batch::default();
        let mut until = heartbeat_at;
        loop {
            let item = tokio::select! {
                // An end comes first: what is gathered is read again.
                biased;
                () = shutdown.requested() => return Next::Shutdown,
                item = self.incoming.next() => item,
                () = tokio::time::sleep_until(until) => return Next::Batch(batch),
            };
            if batch.moves.is_empty() {
                until = Instant::now() + settings.max_delay;
            }
            match item {
                Some(Item::Begin(progress)) => {
                    batch.moves.push(Move::Begin(progress));
                    return Next::Batch(batch);
                }
                Some(Item::Split(split)) => batch.moves.push(Move::Split(split)),
                Some(Item::Page(page)) => {
                    batch.row_count += page.entries.len();
                    let is_live_end = page.step.walk == Walk::Live && page.step.is_last;
                    batch.moves.push(Move::Page(page));
                    if batch.row_count >= settings.max_rows || (is_live_end && !self.incoming.is_live_waiting()) {
                        return Next::Batch(batch);
                    }
                }
                Some(Item::End(ended)) if batch.moves.is_empty() => return Next::Ended(ended),
                Some(Item::End(ended)) => {
                    self.ended = Some(ended);
                    return Next::Batch(batch);
                }
                None => return Next::Lost,
            }
        }
    }
}
