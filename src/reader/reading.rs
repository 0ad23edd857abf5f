//! How are snapshot, live walks and sweeps read beside one another?

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub(crate) use super::context::Until;
use super::context::{Trials, WalkContext};
use super::count::{MAX_COUNTED, count_snapshot};
use super::exit::ReaderExit;
use super::incoming::{Incoming, Item};
use super::room::RecordRoom;
use super::row_encoder::{Noted, RowEncoder, large_value};
use super::shares::Shares;
use super::walk::{OneWalk, RangeKind};
use crate::account::Rules;
use crate::avro::Encoder;
use crate::backoff::Patience;
use crate::clock::Tick;
use crate::config;
use crate::failpoint::{self, Rule};
use crate::in_flight::InFlight;
use crate::progress::{Backlog, Progress, Range, Timestamp};
use crate::targets::Target;
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
    /// What is left of the snapshot and of backlogs.
    pub(super) shares: Arc<Shares>,
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
    /// With an upstream that does not answer.
    pub patience: Patience,
    /// What the topics of rows take, in bytes.
    pub max_message: usize,
    /// What the cursor topic takes, in bytes.
    pub max_record: usize,
    /// Of that, what says how far the topics were written.
    pub ends_length: usize,
    pub target: watch::Receiver<Target>,
    pub in_flight: &'a InFlight,
    pub committed: watch::Receiver<Progress>,
}

impl Reader {
    pub(crate) fn new(settings: ReaderSettings<'_>) -> (Self, Incoming) {
        let (incoming, [live, rest]) = Incoming::new(settings.in_flight.rooms());
        let metrics = settings.client.metrics().clone();
        let room = Arc::new(RecordRoom::new(
            settings.name,
            settings.max_record,
            settings.ends_length,
        ));
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
            target: settings.target,
            trials: Trials::new(settings.patience),
            live,
            rest,
            room: Arc::clone(&room),
            clock: AtomicI64::new(0),
            passed_at: AtomicU64::new(0),
        };
        let reader = Self {
            context,
            committed: settings.committed,
            polled_at: watch::Sender::new(0),
            swept_at: watch::Sender::new(0),
            sweep_soon: Notify::new(),
            shares: Arc::new(Shares::open(room)),
        };
        (reader, incoming)
    }

    /// Reads on from what is committed, for ever or until caught up. Ends when the lender cannot go on, and says why as the
    /// last item.
    ///
    /// `clock`: that of the login, T0 where the snapshot begins.
    pub(crate) async fn run(self, clock: Timestamp, start_from: Option<Timestamp>) {
        let reader = Arc::new(self);
        if let Err(ended) = reader.read(clock, start_from).await {
            // Behind everything: what is live is taken first.
            reader.context.rest.send(Item::End(ended));
        }
    }

    async fn read(self: &Arc<Self>, clock: Timestamp, start_from: Option<Timestamp>) -> Result<(), ReaderExit> {
        self.context.note_clock(clock);
        let mut progress = self.committed.borrow().clone();
        if progress.first_snapshot_at.is_none() {
            progress = Progress::begin(clock, self.context.upstream.late_window, start_from);
            // First of all, and so is what is sent this way.
            self.context.live.send(Item::Begin(progress.clone()));
        }
        // Given up with the reading.
        let mut counting = JoinSet::new();
        if (1..=MAX_COUNTED).contains(&progress.ranges.len()) {
            counting.spawn(count_snapshot(Arc::clone(&self.context.client), progress.clone()));
        }
        self.shares.add(progress.ranges.clone());
        let reading = async {
            match self.context.until {
                Until::CaughtUp => return self.catch_up(&progress).await,
                Until::Reconciled { .. } => {
                    self.shares.all_read().await;
                    let reconciled = self.reconcile().await?;
                    // What came meanwhile, too.
                    self.walk_and_sweep().await;
                    self.shares.all_read().await;
                    reconciled?;
                    return Err(ReaderExit::CaughtUp);
                }
                Until::Republished => {
                    self.shares.all_read().await;
                    // An old copy shows accounts as they were, and some that are deleted by now.
                    self.as_new_as().await??;
                    self.read_everything().await?;
                    // The last ranges of a backlog, too, and what was read is committed.
                    self.walk_and_sweep().await;
                    self.shares.all_read().await;
                    return Err(ReaderExit::CaughtUp);
                }
                Until::Asked => {
                    self.shares.all_read().await;
                    if let Some(interval) = self.context.upstream.reconcile_interval {
                        self.reconcile_at_times(interval).await?;
                    }
                }
            }
            Ok(())
        };
        let beside = async {
            if self.context.until == Until::CaughtUp {
                return Ok(());
            }
            tokio::try_join!(self.poll(&progress), self.sweep()).map(|_| ())
        };
        // Until one of them cannot go on.
        tokio::try_join!(reading, beside, self.read_ranges(&self.shares, RangeKind::Snapshot)).map(|_| ())
    }

    /// Reads everything that is left, live walks beside it, then what came meanwhile and what came late.
    async fn catch_up(&self, begun: &Progress) -> Result<(), ReaderExit> {
        loop {
            let began_behind_all = self.shares.are_read();
            self.live_walk(begun).await?;
            if began_behind_all && self.shares.are_read() {
                break;
            }
            tokio::select! {
                // By chance in neither's favour, so that a seed of the model test replays.
                biased;
                () = self.shares.all_read() => {}
                () = tokio::time::sleep(self.context.upstream.poll_interval) => {}
            }
        }
        self.whole_sweep().await?;
        Err(ReaderExit::CaughtUp)
    }

    /// Reads the ranges side by side, to the end of each, and those that come.
    pub(super) async fn read_ranges(self: &Arc<Self>, shares: &Arc<Shares>, kind: RangeKind) -> Result<(), ReaderExit> {
        let mut walks: JoinSet<Result<(), ReaderExit>> = JoinSet::new();
        for _ in 0..self.context.upstream.snapshot_parallelism {
            let (reader, shares) = (Arc::clone(self), Arc::clone(shares));
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

    /// Live walks, one after another: the first at once, the others at the lender's own moments.
    async fn poll(&self, begun: &Progress) -> Result<(), ReaderExit> {
        /// Of the interval, at least so much is a pause: an upstream that is slow is not asked without one.
        const LEAST_PAUSE: u32 = 4;
        let interval = self.context.upstream.poll_interval;
        loop {
            let (started, begun_at) = (Instant::now(), self.context.client.tick());
            self.live_walk(begun).await?;
            self.polled_at.send_replace(begun_at);
            let next = self.context.client.phase().next(started, interval);
            tokio::time::sleep_until(next.max(Instant::now() + interval / LEAST_PAUSE)).await;
        }
    }

    /// One live walk, until it is committed. What it leaves as ranges is shared out.
    async fn live_walk(&self, begun: &Progress) -> Result<(), ReaderExit> {
        let (progress, behind) = (self.progress(begun), self.context.upstream.backlog);
        let walked = OneWalk::live(&progress, behind, self.context.room.range_count())
            .run(&self.context, None)
            .await?;
        let backlog = walked.backlog;
        walked.committed().await;
        if let Some(Backlog { stop, settles }) = backlog {
            let committed = self.committed.borrow().clone();
            let behind_read = progress.read.map(|read| Timestamp(read.0 + 1));
            // No other range ends there: they lie behind all.
            let is_new = |range: &Range| range.stop == stop || settles && Some(range.stop) == behind_read;
            self.shares.add(committed.ranges.into_iter().filter(is_new));
            self.context.client.metrics().backlogs_total.inc();
            let behind = humantime::format_duration(behind);
            tracing::info!(
                lender = &*self.context.name,
                "live is more than {behind} behind: what is left up to {stop} is read in ranges"
            );
        }
        Ok(())
    }

    /// As committed; `begun` as long as nothing is.
    fn progress(&self, begun: &Progress) -> Progress {
        let committed = self.committed.borrow();
        if committed.first_snapshot_at.is_some() {
            committed.clone()
        } else {
            begun.clone()
        }
    }

    /// Sweeps, one after another: what was due to be visible is read once more, and
    /// settled; what may be visible by now is read beside it, to be found sooner.
    async fn sweep(&self) -> Result<(), ReaderExit> {
        // The sender lives as long as the pipeline.
        let mut committed = self.committed.clone();
        let _ = committed
            .wait_for(|progress| progress.first_snapshot_at.is_some())
            .await;
        let (window, interval) = (
            self.context.upstream.late_window,
            self.context.upstream.late_sweep_interval,
        );
        let mut is_whole = false;
        // Up to here the early sweeps have come.
        let mut early_until = None;
        loop {
            let begun_at = self.context.client.tick();
            let (settled, end) = self.unsettled();
            let due = end.min(Some(self.context.clock().before(window)));
            let until = if is_whole { end } else { due };
            self.sweep_once(OneWalk::sweep, settled, until).await?;
            let from = early_until.max(settled).max(until);
            let visible = end.min(Some(self.context.clock().before(interval)));
            self.sweep_once(OneWalk::early_sweep, from, visible).await?;
            early_until = from.max(visible);
            self.swept_at.send_replace(begun_at);
            // Whoever reconciles waits for a sweep of everything that begins now.
            is_whole = tokio::select! {
                biased;
                () = self.sweep_soon.notified() => true,
                () = tokio::time::sleep(interval) => false,
            };
        }
    }

    /// Reads everything that is not settled once more.
    async fn whole_sweep(&self) -> Result<(), ReaderExit> {
        let (settled, end) = self.unsettled();
        self.sweep_once(OneWalk::sweep, settled, end).await
    }

    /// From `settled` to where live has come: with the rows at `read`, whose group goes on behind the place.
    fn unsettled(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        let committed = self.committed.borrow();
        let behind_read = |read: Timestamp| {
            if failpoint::is_broken(Rule::SweepHoldsRead) {
                read
            } else {
                Timestamp(read.0 + 1)
            }
        };
        (committed.settled, committed.read.map(behind_read))
    }

    /// Reads [`from`, `until`), if there is anything, until it is committed.
    async fn sweep_once(
        &self,
        walk: fn(Option<Timestamp>, Timestamp) -> OneWalk<'static>,
        from: Option<Timestamp>,
        until: Option<Timestamp>,
    ) -> Result<(), ReaderExit> {
        let from = if failpoint::is_broken(Rule::SweepFromSettled) {
            until
                .map(|until| until.before(self.context.upstream.late_window / 2))
                .max(from)
        } else {
            from
        };
        let Some(until) = until.filter(|until| Some(*until) > from) else {
            return Ok(());
        };
        walk(from, until).run(&self.context, None).await?.committed().await;
        self.context.client.metrics().sweeps_total.inc();
        Ok(())
    }
}
