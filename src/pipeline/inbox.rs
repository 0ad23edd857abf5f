//! What goes into the next transaction? What comes from the reader, gathered into batches.

use tokio::time::Instant;

use super::batch::{Batch, BatchItem};
use super::lender::LenderParts;
use super::stop::StopReason;
use crate::failpoint::{self, Rule};
use crate::progress::Walk;
use crate::reader::{Ask, Incoming, Item, ReaderExit};
use crate::shutdown::Shutdown;
use crate::watchdog::work_limit;

pub(super) struct Inbox {
    incoming: Incoming,
    live: Batch,
    /// Of the snapshot and of sweeps; what is live does not wait for it.
    gathered: Batch,
    /// When what is here has waited for long enough.
    until: Option<Instant>,
    /// Whether what is live has passed what is gathered and due; it does so once.
    has_passed: bool,
    /// Came while a batch was gathered; follows it.
    ended: Option<ReaderExit>,
    ask: Option<Ask>,
}

pub(super) enum Next {
    Batch(Batch),
    Ask(Ask),
    Stop(StopReason),
}

/// How long a batch is gathered.
#[derive(Clone, Copy)]
struct BatchBounds {
    max_rows: usize,
    max_delay: std::time::Duration,
    heartbeat_at: Instant,
}

impl Inbox {
    pub(super) fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            live: Batch::default(),
            gathered: Batch::default(),
            until: None,
            has_passed: false,
            ended: None,
            ask: None,
        }
    }

    /// The next batch: as large as it may be while there is more; a live walk that ended by itself and at once; empty when
    /// a heartbeat is due after what was committed at `committed_at`.
    pub(super) async fn next<S>(&mut self, lender: &mut LenderParts<S>, committed_at: Instant) -> Next {
        let pulse = &lender.monitor.pulse;
        let bounds = BatchBounds {
            max_rows: lender.batch_size.row_count(),
            max_delay: lender.settings.max_delay,
            heartbeat_at: lender.heartbeat_at(committed_at),
        };
        let wait = bounds.heartbeat_at.saturating_duration_since(Instant::now()) + bounds.max_delay;
        pulse.enter("waiting for pages", wait);
        let next = self.gather(bounds, &mut lender.shutdown).await;
        pulse.enter("deciding and remembering", work_limit());
        next
    }

    /// Takes back what was too much for one transaction: it comes before everything that follows it.
    pub(super) fn put_back(&mut self, left: Batch) {
        if left.items.is_empty() || failpoint::is_broken(Rule::LeftIsPutBack) {
            return;
        }
        let [live, rest] = left.parted();
        self.live.put_back(live);
        self.gathered.put_back(rest);
        // It has waited already.
        self.until = Some(Instant::now());
    }

    fn is_empty(&self) -> bool {
        self.live.items.is_empty() && self.gathered.items.is_empty()
    }

    async fn gather(&mut self, bounds: BatchBounds, shutdown: &mut Shutdown) -> Next {
        let (max_rows, waiting) = (bounds.max_rows, self.incoming.waiting());
        loop {
            if let Some(ended) = self.ended.take() {
                if self.is_empty() {
                    return Next::Stop(StopReason::of_reader(&ended));
                }
                self.ended = Some(ended);
                return Next::Batch(self.all(max_rows));
            }
            // What is live and here already may be about an account in question.
            if let Some(ask) = self.ask.take_if(|_| !self.incoming.is_live_waiting()) {
                if self.is_empty() {
                    return Next::Ask(ask);
                }
                self.ask = Some(ask);
                return Next::Batch(self.all(max_rows));
            }
            let row_count = self.gathered.row_count + self.live.row_count;
            let is_due = row_count >= max_rows || self.until.is_some_and(|until| until <= Instant::now());
            let may_pass = !self.has_passed && self.live.row_count < max_rows && self.incoming.is_live_waiting();
            // Before what comes next: it could come without end.
            if is_due && !may_pass {
                return Next::Batch(self.all(max_rows));
            }
            let item = tokio::select! {
                // An end comes first: what is gathered is read again.
                biased;
                () = shutdown.requested() => return Next::Stop(StopReason::as_asked()),
                item = self.incoming.next() => item,
                // What is here has the room that the reader waits for.
                () = waiting.any(), if !self.is_empty() => return Next::Batch(self.all(max_rows)),
                () = tokio::time::sleep_until(self.until.unwrap_or(bounds.heartbeat_at)) => {
                    return Next::Batch(self.all(max_rows));
                }
            };
            self.until.get_or_insert_with(|| Instant::now() + bounds.max_delay);
            match item {
                Some(Item::Begin(progress)) => {
                    self.live.push(BatchItem::Begin(progress));
                    return Next::Batch(self.all(max_rows));
                }
                Some(Item::Split(split)) => self.gathered.push(BatchItem::Split(split)),
                Some(Item::Page(page)) if page.step.walk == Walk::Live => {
                    let is_end = page.step.is_last;
                    self.live.push(BatchItem::Page(page));
                    if is_end && !self.incoming.is_live_waiting() {
                        self.until = self.until.filter(|_| !self.gathered.items.is_empty());
                        self.has_passed = is_due;
                        return Next::Batch(std::mem::take(&mut self.live));
                    }
                }
                Some(Item::Page(page)) => {
                    // Whoever sweeps waits until that is committed.
                    let is_awaited = page.step.walk == Walk::Sweep && page.step.is_last;
                    self.gathered.push(BatchItem::Page(page));
                    if is_awaited && !self.incoming.is_anything_waiting() {
                        return Next::Batch(self.all(max_rows));
                    }
                }
                Some(Item::Ask(ask)) => self.ask = Some(ask),
                Some(Item::End(ended)) => self.ended = Some(ended),
                None => return Next::Stop(StopReason::lost_reader()),
            }
        }
    }

    /// What is live, and what is gathered behind it, until there are `max_rows`.
    fn all(&mut self, max_rows: usize) -> Batch {
        let mut batch = Batch::default();
        (self.until, self.has_passed) = (None, false);
        while let Some(item) = self.live.pop().or_else(|| self.gathered.pop()) {
            batch.push(item);
            if batch.row_count >= max_rows && !self.is_empty() {
                self.until = Some(Instant::now());
                break;
            }
        }
        batch
    }
}
