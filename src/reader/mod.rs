//! What of upstream is news to the pipeline? Walks over D02 that become verified, encoded pages, each walk in its order.
//!
//! ```text
//! snapshot ── range ─┐                                   beside one another, from T0 on:
//!          ── range ─┤ each: request ─► verify ─► encode ─► hand over
//!          ── range ─┤
//! live     ── walk, pause, walk, pause …
//! sweep    ── pause, walk between the marks, pause …
//! ```
//!
//! The next request goes out as soon as the answer's `nextCursor` is known, while its rows are still being encoded. What
//! is handed over waits in channels that are bounded in bytes, and no live walk or sweep begins before the one before it is
//! committed: so a slow Kafka slows the reading down, and one that is away stops it. What is live is taken first.
//!
//! - `walk`: one walk, and what goes wrong on it
//! - `judge`: one answer, verified and encoded
//! - `drift`: a field that upstream changed for all rows (pure)
//! - `reconcile`: everything once more, to find what is gone
//! - `replay`: the rows of dead letters instead of upstream's
//! - `shares`: which range is read by whom (pure)

mod drift;
mod judge;
mod reconcile;
mod replay;
mod shares;
mod walk;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::account::{Digest, Rejected, Rules};
use crate::avro::{EncodeError, Encoder};
use crate::clock;
use crate::clock::Tick;
use crate::config;
use crate::exit::{Exit, chain};
use crate::failpoint::{self, Rule};
use crate::policy::{self, AfterRequest};
use crate::progress::{Progress, Range, Split, Step, Timestamp};
use crate::upstream::{Client, PageRequest, UpstreamError};
use judge::{Noted, RowEncoder};
pub use reconcile::{Ask, Reconciled};
pub use replay::{Closed, Letters, Replay, ReplaySetting};
use shares::Shares;
use walk::{OneWalk, Walked};

/// Encoded pages of a lender's snapshot and sweeps that are read but not yet committed, in bytes.
const MAX_BUFFERED: u32 = 64 << 20;

/// The same of its live walks, which do not wait for the others.
const MAX_BUFFERED_LIVE: u32 = 16 << 20;

/// The rows of more ranges are not counted: it costs upstream a query each.
const MAX_COUNTED: usize = 64;

/// Longer tokens fit neither a URL nor the cursor record.
const MAX_CURSOR: usize = 4096;

/// What the reader hands to the pipeline, in order.
#[derive(Debug)]
pub enum Item {
    /// The first snapshot begins: T0 by upstream's clock.
    Begin(Progress),
    Page(Page),
    /// One of the ranges becomes two. Stands behind the last page that was read under the old bound.
    Split(Split),
    Ask(Ask),
    /// The reader has ended; nothing follows.
    End(Ended),
}

/// A verified page whose rows are encoded.
pub struct Page {
    pub step: Step,
    pub entries: Vec<Entry>,
    /// Keys, values and dead rows, one after another.
    bytes: Vec<u8>,
    pub requested: Tick,
    pub received: Tick,
    pub request_id: Option<String>,
    /// Fields that upstream changed for all rows: they had an alarm of their own.
    pub drifting: Vec<&'static str>,
    tail: Tail,
    /// Held until the page is committed.
    _room: Option<OwnedSemaphorePermit>,
    /// With the last page of a walk: dropped once it is committed.
    _done: Option<oneshot::Sender<Infallible>>,
}

/// What comes from a reader.
#[derive(Debug)]
pub struct Incoming {
    live: mpsc::UnboundedReceiver<Item>,
    rest: mpsc::UnboundedReceiver<Item>,
}

impl Incoming {
    /// With the two ways to it, for what is live and for the rest; each holds so many bytes.
    fn new([live, rest]: [u32; 2]) -> (Self, [Outlet; 2]) {
        let (live, live_items) = Outlet::new(live);
        let (rest, rest_items) = Outlet::new(rest);
        let incoming = Self {
            live: live_items,
            rest: rest_items,
        };
        (incoming, [live, rest])
    }

    /// The next item; `None` when the reader is gone. Cancel-safe.
    pub async fn next(&mut self) -> Option<Item> {
        tokio::select! {
            // What is live is what people wait for: it does not stand behind a snapshot.
            biased;
            Some(item) = self.live.recv() => Some(item),
            Some(item) = self.rest.recv() => Some(item),
            else => None,
        }
    }

    /// Whether something live waits.
    pub fn is_live_waiting(&self) -> bool {
        !self.live.is_empty()
    }
}

/// The rows of a page that have its last `updated_at`: XXH3-64 of each as received. A page that comes twice within one
/// `updated_at` shows by nothing else.
struct Tail {
    row_hashes: Vec<u64>,
    /// The page before ended with this `updated_at`, too.
    is_continued: bool,
}

/// A part of a page's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

pub enum Entry {
    Account(EncodedRow),
    DeadLetter(DeadRow),
}

pub struct EncodedRow {
    pub public_id: Span,
    pub value: Span,
    pub updated_at: i64,
    pub created_at: Option<i64>,
    pub digest: Digest,
    /// The header `d02.invalid`.
    pub invalid: Option<Box<str>>,
    /// The row as received, kept only where the record may be too large for its topic.
    pub json: Option<Span>,
}

pub struct DeadRow {
    pub json: Span,
    pub rejected: Box<Rejected>,
    pub digest: Digest,
}

/// Without the rows: their contents belong in no log.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, request_id) = (&self.step, &self.request_id);
        f.debug_struct("Page")
            .field("step", step)
            .field("row_count", &self.entries.len())
            .field("request_id", request_id)
            .finish_non_exhaustive()
    }
}

impl Page {
    pub fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).expect("only text is read as text")
    }

    pub fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// The `public_id` of its last account.
    fn last_id(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Account(row) => Some(self.text(row.public_id)),
            Entry::DeadLetter(_) => None,
        })
    }
}

/// Why a reader ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Everything is read, as it was asked for.
    #[error("caught up")]
    CaughtUp,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the reading is stuck: {0}")]
    Stuck(String),
    #[error(transparent)]
    NotReconciled(Reconciled),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The dead letters to be replayed.
    #[error("reading the dead letters: {0}")]
    Letters(String),
}

impl Ended {
    pub fn exit(&self) -> Exit {
        match self {
            Self::CaughtUp => Exit::Done,
            Self::Upstream(_) | Self::Stuck(_) => Exit::Refused,
            Self::NotReconciled(_) | Self::Encode(_) | Self::Letters(_) => Exit::Failed,
        }
    }

    /// What to do about it, for the person who reads the log.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::CaughtUp => "nothing",
            Self::Upstream(error) => policy::request_advice(error),
            Self::NotReconciled(reconciled) => reconciled.advice().unwrap_or("nothing"),
            Self::Stuck(_) => "nothing was skipped; ask the vendor's support with the request id, then run it again",
            Self::Letters(_) => {
                "check that the brokers are up, then run it again: what is written is not written twice"
            }
            Self::Encode(_) => "this is a defect of the source: report it with this line",
        }
    }

    /// Whether the lender may run again once its credentials are mended.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Upstream(error) if policy::after_request(error) == AfterRequest::Fail)
    }
}

/// Why a page does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    #[error("`meta` says {found} for `{bound}`, asked was {asked}")]
    Bound {
        bound: &'static str,
        asked: String,
        found: String,
    },
    #[error("row {row} is older than the one before it")]
    Order { row: usize },
    #[error("row {row} lies outside of what was asked for")]
    Outside { row: usize },
    #[error("`nextCursor` is the cursor that was sent")]
    SameCursor,
    #[error("every row of it was in a page before")]
    Repeated,
    #[error("the third empty page in a row says that there is more")]
    Empty,
    #[error("it has more rows than a page can have")]
    TooManyRows,
    #[error("`nextCursor` has {length} bytes, {MAX_CURSOR} are plenty")]
    LongCursor { length: usize },
}

/// What every walk of a lender needs.
pub struct Reader {
    client: Arc<Client>,
    encoder: Arc<RowEncoder>,
    /// Its key in the configuration, for the log.
    name: Box<str>,
    upstream: config::Upstream,
    until: Until,
    live: Outlet,
    rest: Outlet,
    /// As committed.
    committed: watch::Receiver<Progress>,
    /// Upstream's clock, as last seen: milliseconds since the epoch.
    clock: AtomicI64,
    /// When the last live walk and the last sweep began that are committed.
    polled_at: watch::Sender<Tick>,
    swept_at: watch::Sender<Tick>,
    /// Ends the pause before the next sweep.
    sweep_soon: Notify,
}

/// How long it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// For ever.
    Asked,
    CaughtUp,
    /// Until everything was read once more and what is gone deleted.
    Reconciled,
}

/// What parts of the past are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Reconcile,
}

/// One of the two ways to the pipeline.
struct Outlet {
    items: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    size: u32,
}

impl Outlet {
    fn new(size: u32) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (items, received) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(size as usize));
        (Self { items, room, size }, received)
    }

    /// Waits for room, then hands a page over.
    async fn hand_over(&self, mut page: Page) {
        let size = u32::try_from(page.size()).unwrap_or(u32::MAX).clamp(1, self.size);
        page._room = self.room.clone().acquire_many_owned(size).await.ok();
        self.send(Item::Page(page));
    }

    fn send(&self, item: Item) {
        // Nobody listens any more only when the lender has ended already.
        let _ = self.items.send(item);
    }
}

/// What a reader is made of.
pub struct Setting<'a> {
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

/// Which value may not fit a topic that takes `max_message`: a quarter of it, as the key and the value hold the id, that of
/// `changes` twice.
fn large_value(max_message: usize) -> usize {
    max_message / 4
}

impl Reader {
    pub fn new(setting: Setting<'_>) -> (Self, Incoming) {
        let (incoming, [live, rest]) = Incoming::new([MAX_BUFFERED_LIVE, MAX_BUFFERED]);
        let metrics = setting.client.metrics().clone();
        let reader = Self {
            client: setting.client,
            encoder: Arc::new(RowEncoder {
                rules: setting.rules,
                encoder: setting.encoder,
                name: setting.name.into(),
                lender: setting.lender.into(),
                large_value: large_value(setting.max_message),
                metrics,
                noted: Noted::default(),
            }),
            name: setting.name.into(),
            upstream: setting.upstream.clone(),
            until: setting.until,
            live,
            rest,
            committed: setting.committed,
            clock: AtomicI64::new(0),
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
    pub async fn run(self, clock: Option<Timestamp>, start_from: Option<Timestamp>) {
        let reader = Arc::new(self);
        if let Err(ended) = reader.read(clock, start_from).await {
            // Behind everything: what is live is taken first.
            reader.rest.send(Item::End(ended));
        }
    }

    async fn read(self: &Arc<Self>, clock: Option<Timestamp>, start_from: Option<Timestamp>) -> Result<(), Ended> {
        self.note_clock(clock.unwrap_or_else(|| Timestamp::from(clock::now())));
        let mut progress = self.committed.borrow().clone();
        if progress.first_snapshot_at.is_none() {
            let t0 = clock.unwrap_or_else(|| {
                tracing::warn!(
                    lender = &*self.name,
                    "upstream's answers carry no Date: this machine's clock is used"
                );
                Timestamp::from(clock::now())
            });
            progress = Progress::begin(t0, self.upstream.late_window, start_from);
            // First of all, and so is what is sent this way.
            self.live.send(Item::Begin(progress.clone()));
        }
        // Given up with the reading.
        let mut counting = JoinSet::new();
        if (1..=MAX_COUNTED).contains(&progress.ranges.len()) {
            counting.spawn(count_snapshot(Arc::clone(&self.client), progress.clone()));
        }
        let polled = watch::Sender::new(progress.read);
        match self.until {
            Until::CaughtUp => self.catch_up(progress, &polled).await,
            Until::Reconciled => {
                let first = async {
                    self.read_ranges(progress.ranges, Kind::Snapshot).await?;
                    let reconciled = self.reconcile().await?;
                    // What came meanwhile, too.
                    self.walk_and_sweep().await;
                    match reconciled {
                        Reconciled::Deleted { .. } => Err(Ended::CaughtUp),
                        refused => Err(Ended::NotReconciled(refused)),
                    }
                };
                self.beside(first, &polled).await
            }
            Until::Asked => {
                let first = async {
                    self.read_ranges(progress.ranges, Kind::Snapshot).await?;
                    match self.upstream.reconcile_interval {
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
        reading: impl Future<Output = Result<(), Ended>>,
        polled: &watch::Sender<Option<Timestamp>>,
    ) -> Result<(), Ended> {
        tokio::try_join!(reading, self.poll(polled), self.sweep(polled.subscribe())).map(|_| ())
    }

    fn clock(&self) -> Timestamp {
        Timestamp(self.clock.load(Ordering::Relaxed))
    }

    fn note_clock(&self, clock: Timestamp) {
        self.clock.fetch_max(clock.0, Ordering::Relaxed);
    }

    /// Reads everything that is left of the snapshot, live walks beside it, then what came meanwhile and what came late.
    async fn catch_up(
        self: &Arc<Self>,
        begun: Progress,
        polled: &watch::Sender<Option<Timestamp>>,
    ) -> Result<(), Ended> {
        tokio::select! {
            // Whichever ends first; by chance in neither's favour, so that a seed of the model test replays.
            biased;
            read = self.read_ranges(begun.ranges, Kind::Snapshot) => read?,
            // It never ends by itself. A walk that is given up half-way has moved no mark.
            ended = self.poll(polled) => return ended,
        }
        self.live_walk(polled).await?;
        // Nothing may be committed yet, if there was little to read.
        let settled = self.committed.borrow().settled.max(begun.settled);
        let read = *polled.borrow();
        self.sweep_once(settled, read).await?;
        Err(Ended::CaughtUp)
    }

    /// Reads the ranges side by side, to the end of each.
    async fn read_ranges(self: &Arc<Self>, ranges: Vec<Range>, kind: Kind) -> Result<(), Ended> {
        let shares = Arc::new(Shares::new(ranges));
        let mut walks: JoinSet<Result<(), Ended>> = JoinSet::new();
        for _ in 0..self.upstream.snapshot_parallelism {
            let (reader, shares) = (Arc::clone(self), Arc::clone(&shares));
            walks.spawn(async move {
                while let Some(range) = shares.next().await {
                    OneWalk::range(&range, kind).run(&reader, Some(&shares)).await?;
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
    async fn poll(&self, polled: &watch::Sender<Option<Timestamp>>) -> Result<(), Ended> {
        /// Of the interval, at least so much is a pause: an upstream that is slow is not asked without one.
        const LEAST_PAUSE: u32 = 4;
        let interval = self.upstream.poll_interval;
        loop {
            let (begun, begun_at) = (Instant::now(), self.client.tick());
            self.live_walk(polled).await?.committed().await;
            self.polled_at.send_replace(begun_at);
            let left = interval.saturating_sub(begun.elapsed());
            tokio::time::sleep(left.max(interval / LEAST_PAUSE)).await;
        }
    }

    async fn live_walk(&self, polled: &watch::Sender<Option<Timestamp>>) -> Result<Walked, Ended> {
        let read = *polled.borrow();
        let walked = OneWalk::live(read).run(self, None).await?;
        polled.send_replace(read.max(walked.highest));
        Ok(walked)
    }

    /// Sweeps, one after another, the first one behind the first live walk.
    async fn sweep(&self, mut polled: watch::Receiver<Option<Timestamp>>) -> Result<(), Ended> {
        // The sender lives as long as the reading.
        let _ = polled.changed().await;
        loop {
            let (settled, read) = {
                let committed = self.committed.borrow();
                (committed.settled, committed.read)
            };
            let begun_at = self.client.tick();
            if let Some(walked) = self.sweep_once(settled, read).await? {
                walked.committed().await;
            }
            self.swept_at.send_replace(begun_at);
            // Whoever reconciles waits for a sweep that begins now.
            tokio::select! {
                biased;
                () = self.sweep_soon.notified() => {}
                () = tokio::time::sleep(self.upstream.late_sweep_interval) => {}
            }
        }
    }

    /// `None`: there is nothing between the marks.
    async fn sweep_once(&self, settled: Option<Timestamp>, read: Option<Timestamp>) -> Result<Option<Walked>, Ended> {
        let settled = if failpoint::is_broken(Rule::SweepFromSettled) {
            read.map(|read| read.before(self.upstream.late_window))
        } else {
            settled
        };
        let Some(until) = read.filter(|read| Some(*read) > settled) else {
            return Ok(None);
        };
        let walked = OneWalk::sweep(settled, until).run(self, None).await?;
        self.client.metrics().sweeps_total.inc();
        Ok(Some(walked))
    }
}

/// Asks how many rows the snapshot has left, for the people who watch it; tried once.
async fn count_snapshot(client: Arc<Client>, progress: Progress) {
    let metrics = client.metrics();
    let mut count = metrics.snapshot_rows_read_total.get();
    for range in &progress.ranges {
        let request = PageRequest {
            since: range.position(),
            until: Some(range.stop),
            cursor: None,
            limit: 1,
            include_total: true,
        };
        let answer = client.page(&request).await;
        match answer.and_then(|answer| Ok(answer.page()?.total)) {
            Ok(Some(left)) => count += left,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!("counting the rows of the snapshot: {}", chain(&error));
                return;
            }
        }
    }
    metrics.snapshot_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
}
