//! What goes into the next transaction? What comes from the reader, gathered into batches.

use tokio::time::Instant;

use super::batch::{Batch, BatchItem};
use super::lender::LenderParts;
use super::stop::StopReason;
use crate::config;
use crate::progress::Walk;
use crate::reader::{Ask, Incoming, Item, ReaderExit};
use crate::shutdown::Shutdown;
use crate::watchdog::work_limit;

pub(super) struct Inbox {
    incoming: Incoming,
    /// Of the snapshot and of sweeps; what is live does not wait for it.
    gathered: Batch,
    /// When what is gathered has waited for long enough.
    until: Option<Instant>,
    /// Came while a batch was gathered; follows it.
    ended: Option<ReaderExit>,
    ask: Option<Ask>,
}

pub(super) enum Next {
    Batch(Batch),
    Ask(Ask),
    Stop(StopReason),
}

impl Inbox {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            gathered: Batch::default(),
            until: None,
            ended: None,
            ask: None,
        }
    }

    /// The next batch: as large as `max_rows` while there is more; a live walk that ended by itself and at once; empty when
    /// a heartbeat is due, that long after `committed_at`.
    pub(super) async fn next<S>(&mut self, lender: &mut LenderParts<S>, committed_at: Instant) -> Next {
        let pulse = &lender.monitor.pulse;
        let heartbeat_at = committed_at + lender.settings.heartbeat_interval;
        let wait = heartbeat_at.saturating_duration_since(Instant::now()) + lender.settings.max_delay;
        pulse.enter("waiting for pages", wait);
        let next = self.gather(&lender.settings, heartbeat_at, &mut lender.shutdown).await;
        pulse.enter("deciding and remembering", work_limit());
        next
    }

    async fn gather(&mut self, settings: &config::Transaction, heartbeat_at: Instant, shutdown: &mut Shutdown) -> Next {
        let mut live = Batch::default();
        loop {
            if let Some(ended) = self.ended.take() {
                if self.gathered.items.is_empty() && live.items.is_empty() {
                    return Next::Stop(StopReason::of_reader(&ended));
                }
                self.ended = Some(ended);
                return Next::Batch(self.all(live));
            }
            // What is live and here already may be about an account in question.
            if let Some(ask) = self.ask.take_if(|_| !self.incoming.is_live_waiting()) {
                if self.gathered.items.is_empty() && live.items.is_empty() {
                    return Next::Ask(ask);
                }
                self.ask = Some(ask);
                return Next::Batch(self.all(live));
            }
            let row_count = self.gathered.row_count + live.row_count;
            // Before what comes next: it could come without end.
            if row_count >= settings.max_rows || self.until.is_some_and(|until| until <= Instant::now()) {
                return Next::Batch(self.all(live));
            }
            let item = tokio::select! {
                // An end comes first: what is gathered is read again.
                biased;
                () = shutdown.requested() => return Next::Stop(StopReason::as_asked()),
                item = self.incoming.next() => item,
                () = tokio::time::sleep_until(self.until.unwrap_or(heartbeat_at)) => return Next::Batch(self.all(live)),
            };
            self.until.get_or_insert_with(|| Instant::now() + settings.max_delay);
            match item {
                Some(Item::Begin(progress)) => {
                    live.items.push(BatchItem::Begin(progress));
                    return Next::Batch(self.all(live));
                }
                Some(Item::Split(split)) => self.gathered.items.push(BatchItem::Split(split)),
                Some(Item::Page(page)) if page.step.walk == Walk::Live => {
                    let is_end = page.step.is_last;
                    live.push(page);
                    if is_end && !self.incoming.is_live_waiting() {
                        self.until = self.until.filter(|_| !self.gathered.items.is_empty());
                        return Next::Batch(live);
                    }
                }
                Some(Item::Page(page)) => self.gathered.push(page),
                Some(Item::Ask(ask)) => self.ask = Some(ask),
                Some(Item::End(ended)) => self.ended = Some(ended),
                None => return Next::Stop(StopReason::lost_reader()),
            }
        }
    }

    /// `live`, and everything that is gathered behind it.
    fn all(&mut self, mut live: Batch) -> Batch {
        let gathered = std::mem::take(&mut self.gathered);
        self.until = None;
        live.items.extend(gathered.items);
        live.row_count += gathered.row_count;
        live
    }
}
