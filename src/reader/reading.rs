//! How are snapshot, live walks and sweeps read beside one another?

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use super::context::Until;
use super::context::WalkContext;
use super::count::{MAX_COUNTED, count_snapshot};
use super::exit::ReaderExit;
use super::incoming::{Incoming, Item, MAX_BUFFERED, MAX_BUFFERED_LIVE};
use super::judge::{Noted, RowEncoder, large_value};
use super::shares::Shares;
use super::walk::{OneWalk, RangeKind, Walked};
use crate::account::Rules;
use crate::avro::Encoder;
use crate::clock::{self, Tick};
use crate::config;
use crate::failpoint::{self, Rule};
use crate::progress::{Progress, Range, Timestamp};
use crate::upstream::Client;

/// Reads one lender's rows.
pub(crate) struct Reader {
    pub(super) context: WalkContext,
    /// As committed.
    pub(super) committed: watch::Receiver<Progress>,
    /// When the last live walk and the last sweep began that are committed.
    pub(super) polled_at: watch::Sender<Tick>,
    pub(super) swept_at: watch::Sender<Tick>,
    /// Ends the pause before the next sweep.
    pub(super) sweep_soon: Notify,
}

/// What a reader is made of.
pub(crate) struct ReaderSettings<'a> {
    pub client: Arc<Client>,
    pub encoder: Encoder,
    pub rules: Rules,
    /// The lender's key in the configuration.
    pub name: &'a str,
    /// Its public id.
    pub lender: &'a str,
    pub upstream: &'a config::Upstream,
    pub until: Until,
    /// What the topics of rows take, in bytes.
    pub max_message: usize,
    pub committed: watch::Receiver<Progress>,
}

impl Reader {
    pub(crate) fn new(settings: ReaderSettings<'_>) -> (Self, Incoming) {
        let (incoming, [live, rest]) = Incoming::new([MAX_BUFFERED_LIVE, MAX_BUFFERED]);
        let metrics = settings.client.metrics().clone();
        let context = WalkContext {
            client: settings.client,
            encoder: Arc::new(RowEncoder {
                rules: settings.rules,
                encoder: settings.encoder,
                name: settings.name.into(),
                lender: settings.lender.into(),
                large_value: large_value(settings.max_message),
                metrics,
                noted: Noted::default(),
            }),
            name: settings.name.into(),
            upstream: settings.upstream.clone(),
            until: settings.until,
            live,
            rest,
            clock: AtomicI64::new(0),
        };
        let reader = Self {
            context,
            committed: settings.committed,
            polled_at: watch::Sender::new(0),
            swept_at: watch::Sender::new(0),
            sweep_soon: Notify::new(),
        };
        (reader, incoming)
    }

    /// Reads on from what is committed, for ever or until caught up. Ends when the lender cannot go on, and says why as the
    /// last item.
    ///
    /// `clock`: upstream's, where T0 is to be taken from it.
    pub(crate) async fn run(self, clock: Option<Timestamp>, start_from: Option<Timestamp>) {
        let reader = Arc::new(self);
        if let Err(ended) = reader.read(clock, start_from).await {
            // Behind everything: what is live is taken first.
            reader.context.rest.send(Item::End(ended));
        }
    }

    async fn read(self: &Arc<Self>, clock: Option<Timestamp>, start_from: Option<Timestamp>) -> Result<(), ReaderExit> {
        self.context
            .note_clock(clock.unwrap_or_else(|| Timestamp::from(clock::now())));
        let mut progress = self.committed.borrow().clone();
        if progress.first_snapshot_at.is_none() {
            let t0 = clock.unwrap_or_else(|| {
                tracing::warn!(
                    lender = &*self.context.name,
                    "upstream's answers carry no Date: this machine's clock is used"
                );
                Timestamp::from(clock::now())
            });
            progress = Progress::begin(t0, self.context.upstream.late_window, start_from);
            // First of all, and so is what is sent this way.
            self.context.live.send(Item::Begin(progress.clone()));
        }
        // Given up with the reading.
        let mut counting = JoinSet::new();
        if (1..=MAX_COUNTED).contains(&progress.ranges.len()) {
            counting.spawn(count_snapshot(Arc::clone(&self.context.client), progress.clone()));
        }
        let polled = watch::Sender::new(progress.read);
        match self.context.until {
            Until::CaughtUp => self.catch_up(progress, &polled).await,
            Until::Reconciled => {
                let first = async {
                    self.read_ranges(progress.ranges, RangeKind::Snapshot).await?;
                    let reconciled = self.reconcile().await?;
                    // What came meanwhile, too.
                    self.walk_and_sweep().await;
                    reconciled?;
                    Err(ReaderExit::CaughtUp)
                };
                self.beside(first, &polled).await
            }
            Until::Asked => {
                let first = async {
                    self.read_ranges(progress.ranges, RangeKind::Snapshot).await?;
                    match self.context.upstream.reconcile_interval {
                        Some(interval) => self.reconcile_at_times(interval).await,
                        None => Ok(()),
                    }
                };
                self.beside(first, &polled).await
            }
        }
    }

    /// Reads what is live and what is late beside `reading`, until one of them cannot go on.
    async fn beside(
        &self,
        reading: impl Future<Output = Result<(), ReaderExit>>,
        polled: &watch::Sender<Option<Timestamp>>,
    ) -> Result<(), ReaderExit> {
        tokio::try_join!(reading, self.poll(polled), self.sweep(polled.subscribe())).map(|_| ())
    }

    /// Reads everything that is left of the snapshot, live walks beside it, then what came meanwhile and what came late.
    async fn catch_up(
        self: &Arc<Self>,
        begun: Progress,
        polled: &watch::Sender<Option<Timestamp>>,
    ) -> Result<(), ReaderExit> {
        tokio::select! {
            // Whichever ends first; by chance in neither's favour, so that a seed of the model test replays.
            biased;
            read = self.read_ranges(begun.ranges, RangeKind::Snapshot) => read?,
            // It never ends by itself. A walk that is given up half-way has moved no mark.
            ended = self.poll(polled) => return ended,
        }
        self.live_walk(polled).await?;
        // Nothing may be committed yet, if there was little to read.
        let settled = self.committed.borrow().settled.max(begun.settled);
        let read = *polled.borrow();
        self.sweep_once(settled, read).await?;
        Err(ReaderExit::CaughtUp)
    }

    /// Reads the ranges side by side, to the end of each.
    pub(super) async fn read_ranges(self: &Arc<Self>, ranges: Vec<Range>, kind: RangeKind) -> Result<(), ReaderExit> {
        let shares = Arc::new(Shares::new(ranges));
        let mut walks: JoinSet<Result<(), ReaderExit>> = JoinSet::new();
        for _ in 0..self.context.upstream.snapshot_parallelism {
            let (reader, shares) = (Arc::clone(self), Arc::clone(&shares));
            walks.spawn(async move {
                while let Some(range) = shares.next().await {
                    OneWalk::range(&range, kind).run(&reader.context, Some(&shares)).await?;
                }
                Ok(())
            });
        }
        while let Some(ended) = walks.join_next().await {
            match ended {
                Ok(ended) => ended?,
                Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
            }
        }
        Ok(())
    }

    /// Live walks, one after another; `polled` is the mark `read` as it will be once they are committed.
    async fn poll(&self, polled: &watch::Sender<Option<Timestamp>>) -> Result<(), ReaderExit> {
        /// Of the interval, at least so much is a pause: an upstream that is slow is not asked without one.
        const LEAST_PAUSE: u32 = 4;
        let interval = self.context.upstream.poll_interval;
        loop {
            let (begun, begun_at) = (Instant::now(), self.context.client.tick());
            self.live_walk(polled).await?.committed().await;
            self.polled_at.send_replace(begun_at);
            let left = interval.saturating_sub(begun.elapsed());
            tokio::time::sleep(left.max(interval / LEAST_PAUSE)).await;
        }
    }

    async fn live_walk(&self, polled: &watch::Sender<Option<Timestamp>>) -> Result<Walked, ReaderExit> {
        let read = *polled.borrow();
        let walked = OneWalk::live(read).run(&self.context, None).await?;
        polled.send_replace(read.max(walked.highest));
        Ok(walked)
    }

    /// Sweeps, one after another, the first one behind the first live walk.
    async fn sweep(&self, mut polled: watch::Receiver<Option<Timestamp>>) -> Result<(), ReaderExit> {
        // The sender lives as long as the reading.
        let _ = polled.changed().await;
        loop {
            let (settled, read) = {
                let committed = self.committed.borrow();
                (committed.settled, committed.read)
            };
            let begun_at = self.context.client.tick();
            if let Some(walked) = self.sweep_once(settled, read).await? {
                walked.committed().await;
            }
            self.swept_at.send_replace(begun_at);
            // Whoever reconciles waits for a sweep that begins now.
            tokio::select! {
                biased;
                () = self.sweep_soon.notified() => {}
                () = tokio::time::sleep(self.context.upstream.late_sweep_interval) => {}
            }
        }
    }

    /// `None`: there is nothing between the marks.
    async fn sweep_once(
        &self,
        settled: Option<Timestamp>,
        read: Option<Timestamp>,
    ) -> Result<Option<Walked>, ReaderExit> {
        let settled = if failpoint::is_broken(Rule::SweepFromSettled) {
            read.map(|read| read.before(self.context.upstream.late_window))
        } else {
            settled
        };
        let Some(until) = read.filter(|read| Some(*read) > settled) else {
            return Ok(None);
        };
        let walked = OneWalk::sweep(settled, until).run(&self.context, None).await?;
        self.context.client.metrics().sweeps_total.inc();
        Ok(Some(walked))
    }
}
