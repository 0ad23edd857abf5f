//! What of upstream is news to the pipeline? Walks over D02 that become verified, encoded pages, in order.
//!
//! ```text
//! snapshot range ─► done ─► live walk ─► pause ─► live walk ─► …
//!                 each: request ─► verify ─► encode ─► hand over
//! ```
//!
//! The next request goes out as soon as the answer's `nextCursor` is known, while its rows are still being encoded. What
//! is handed over waits in a channel that is bounded in bytes, so a slow Kafka stops the reading.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle, JoinSet, spawn_blocking};

use crate::account::{self, Digest, Rejected, Scratch};
use crate::avro::{EncodeError, Encoder};
use crate::clock;
use crate::config;
use crate::index::Tick;
use crate::policy::{self, AfterRequest, Exit};
use crate::progress::{Progress, Step, Timestamp, Walk};
use crate::upstream::{Answer, Backoff, Client, PageBody, PageRequest, UpstreamError};

/// Encoded pages of a lender that are read but not yet committed, in bytes.
const MAX_BUFFERED: u32 = 64 << 20;

/// The same request is repeated this often before its walk begins afresh.
const TRIES_BEFORE_FRESH_WALK: u32 = 3;

/// After as many fresh walks without a page the walk is stuck: it goes on trying, but says so.
const FRESH_WALKS_BEFORE_STUCK: u32 = 3;

/// Good pages after which a halved page size doubles again.
const PAGES_BEFORE_LARGER: u32 = 20;

/// Longer tokens fit neither a URL nor the cursor record.
const MAX_CURSOR: usize = 4096;

/// A row that is dated further ahead of its own answer is counted and warned about.
const AHEAD_TOLERANCE: i64 = 1_000;

/// What the reader hands to the pipeline, in order.
#[derive(Debug)]
pub enum Item {
    /// The first snapshot begins: T0 by upstream's clock.
    Begin(Progress),
    Page(Page),
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
    /// XXH3-64 of each row as received: a page that comes twice within one `updated_at` shows by nothing else.
    row_hashes: Arc<[u64]>,
    /// Held until the page is committed.
    _room: Option<OwnedSemaphorePermit>,
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
}

/// Why a reader ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the reading is stuck: {0}")]
    Stuck(String),
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl Ended {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Upstream(_) | Self::Stuck(_) => Exit::Refused,
            Self::Encode(_) => Exit::Failed,
        }
    }

    /// What to do about it, for the person who reads the log.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Upstream(error) => policy::request_advice(error),
            Self::Stuck(_) => "nothing was skipped; ask the vendor's support with the request id, then run it again",
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
    #[error("every row of it was in the page before")]
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
    encoder: Arc<Encoder>,
    /// Its key in the configuration, for the log.
    name: Arc<str>,
    /// Its public id.
    lender: Arc<str>,
    upstream: config::Upstream,
    is_until_caught_up: bool,
    /// A larger record may not fit its topic, so its row is kept. A quarter: key and value both hold the id.
    large_value: usize,
    /// Unknown members that were named in the log.
    unknown: Arc<Mutex<HashSet<String>>>,
    pages: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
}

impl Reader {
    /// `max_message`: what the accounts topic takes, in bytes.
    pub fn new(
        client: Client,
        encoder: Encoder,
        name: &str,
        lender: &str,
        upstream: &config::Upstream,
        is_until_caught_up: bool,
        max_message: usize,
    ) -> (Self, mpsc::UnboundedReceiver<Item>) {
        let (pages, received) = mpsc::unbounded_channel();
        let reader = Self {
            client: Arc::new(client),
            encoder: Arc::new(encoder),
            name: name.into(),
            lender: lender.into(),
            upstream: upstream.clone(),
            is_until_caught_up,
            large_value: max_message / 4,
            unknown: Arc::default(),
            pages,
            room: Arc::new(Semaphore::new(MAX_BUFFERED as usize)),
        };
        (reader, received)
    }

    /// Reads on from `progress`, for ever. Ends when the lender cannot go on, and says why as the last item.
    pub async fn run(self, progress: Progress, clock: Option<Timestamp>) {
        if let Err(ended) = self.read(progress, clock).await {
            // Nobody listens any more only when the lender has ended already.
            let _ = self.pages.send(Item::End(ended));
        }
    }

    async fn read(&self, mut progress: Progress, clock: Option<Timestamp>) -> Result<(), Ended> {
        if progress.first_snapshot_at.is_none() {
            let t0 = clock.unwrap_or_else(|| {
                tracing::warn!(
                    lender = &*self.name,
                    "upstream's answers carry no Date: this machine's clock is used"
                );
                Timestamp(clock::now().timestamp_millis())
            });
            progress = Progress::begin(t0, self.upstream.late_window);
            let _ = self.pages.send(Item::Begin(progress.clone()));
        }
        // Given up with the reading.
        let mut counting = JoinSet::new();
        if !progress.ranges.is_empty() {
            counting.spawn(count_snapshot(Arc::clone(&self.client), progress.clone()));
        }
        while let Some(range) = progress.ranges.first() {
            let walk = OneWalk {
                walk: Walk::Range(0),
                since: range.since,
                until: range.until,
                stop: Some(range.stop),
                cursor: range.cursor.clone(),
                highest: range.highest,
                ..OneWalk::live(None)
            };
            walk.run(self, &mut progress).await?;
        }
        loop {
            OneWalk::live(progress.read).run(self, &mut progress).await?;
            tokio::time::sleep(self.upstream.poll_interval).await;
        }
    }

    /// Waits for room, then hands a page over.
    async fn hand_over(&self, mut page: Page) {
        let size = u32::try_from(page.size()).unwrap_or(u32::MAX).clamp(1, MAX_BUFFERED);
        page._room = self.room.clone().acquire_many_owned(size).await.ok();
        let _ = self.pages.send(Item::Page(page));
    }
}

/// Asks how many rows the snapshot has left, for the people who watch it; tried once.
async fn count_snapshot(client: Arc<Client>, progress: Progress) {
    let metrics = client.metrics();
    let mut count = metrics.snapshot_rows_read_total.get();
    for range in &progress.ranges {
        let request = PageRequest {
            since: range.highest.or(range.since),
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
                tracing::debug!("counting the rows of the snapshot: {}", policy::chain(&error));
                return;
            }
        }
    }
    metrics.snapshot_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// One walk over D02: a range or a live one.
struct OneWalk {
    walk: Walk,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    stop: Option<Timestamp>,
    cursor: Option<String>,
    highest: Option<Timestamp>,
    /// `updated_at` of the last row under this cursor.
    last: Option<i64>,
    /// The page before, row by row.
    row_hashes: Arc<[u64]>,
    /// Upstream's clock at the walk's first answer, also when it goes on as a fresh walk.
    clock: Option<Timestamp>,
    empty_count: u32,
    limit: Option<u16>,
    good_count: u32,
    fresh_count: u32,
    backoff: Backoff,
    /// Tries of the present request that ended in a way that a fresh walk may mend.
    doubtful_count: u32,
}

/// A request under way; dropped, it is given up.
struct Ahead {
    request: PageRequest,
    answer: JoinHandle<Result<Answer, UpstreamError>>,
    abort: AbortHandle,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Ahead {
    fn start(client: &Arc<Client>, request: PageRequest) -> Self {
        let (client, asked) = (Arc::clone(client), request.clone());
        let answer = tokio::spawn(async move { client.page(&asked).await });
        let abort = answer.abort_handle();
        Self { request, answer, abort }
    }
}

/// Why a try brought no page.
enum Fault {
    Upstream(UpstreamError),
    Unverified(Unverified, crate::upstream::RequestId),
}

impl OneWalk {
    fn live(since: Option<Timestamp>) -> Self {
        Self {
            walk: Walk::Live,
            since,
            until: None,
            stop: None,
            cursor: None,
            highest: None,
            last: None,
            row_hashes: Arc::default(),
            clock: None,
            empty_count: 0,
            limit: None,
            good_count: 0,
            fresh_count: 0,
            backoff: Backoff::default(),
            doubtful_count: 0,
        }
    }

    /// Reads to the end of the walk and advances `progress` by every page that is handed over.
    async fn run(mut self, reader: &Reader, progress: &mut Progress) -> Result<(), Ended> {
        let mut ahead: Option<Ahead> = None;
        loop {
            let request = self.request(reader);
            let under_way = match ahead.take().filter(|ahead| ahead.request == request) {
                Some(ahead) => ahead,
                None => Ahead::start(&reader.client, request),
            };
            match self.page(reader, under_way, &mut ahead).await? {
                Ok(page) => {
                    self.advance(reader, &page);
                    let is_last = page.step.is_last;
                    progress.advance(&page.step);
                    reader.hand_over(page).await;
                    if is_last {
                        return Ok(());
                    }
                }
                Err(fault) => {
                    ahead = None;
                    self.recover(reader, fault).await?;
                }
            }
        }
    }

    fn request(&self, reader: &Reader) -> PageRequest {
        let limit = self.limit.unwrap_or(reader.upstream.page_size);
        PageRequest {
            since: self.since,
            until: self.until,
            cursor: self.cursor.clone(),
            limit,
            include_total: false,
        }
    }

    /// Waits for the answer under way, sends the next request, and verifies and encodes the answer meanwhile.
    async fn page(
        &self,
        reader: &Reader,
        mut under_way: Ahead,
        ahead: &mut Option<Ahead>,
    ) -> Result<Result<Page, Fault>, Ended> {
        let answer = match (&mut under_way.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Ok(Err(Fault::Upstream(error))),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let request = under_way.request.clone();
        let (next, next_known) = oneshot::channel();
        let judge = Judge {
            encoder: Arc::clone(&reader.encoder),
            name: Arc::clone(&reader.name),
            lender: Arc::clone(&reader.lender),
            walk: self.walk,
            asked: request.clone(),
            stop: self.stop,
            last: self.last,
            highest: self.highest,
            row_hashes: Arc::clone(&self.row_hashes),
            clock: self.clock,
            empty_count: self.empty_count,
            large_value: reader.large_value,
            unknown: Arc::clone(&reader.unknown),
            metrics: reader.client.metrics().clone(),
        };
        let judged = spawn_blocking(move || judge.page(&answer, next));
        if let Ok(Some(cursor)) = next_known.await {
            *ahead = Some(Ahead::start(
                &reader.client,
                PageRequest {
                    cursor: Some(cursor),
                    ..request
                },
            ));
        }
        match judged.await {
            Ok(result) => result,
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn advance(&mut self, reader: &Reader, page: &Page) {
        self.clock = Some(page.step.clock);
        self.cursor.clone_from(&page.step.next_cursor);
        self.empty_count = if page.entries.is_empty() {
            self.empty_count + 1
        } else {
            0
        };
        self.last = page.step.highest.map_or(self.last, |highest| Some(highest.0));
        self.row_hashes = Arc::clone(&page.row_hashes);
        // A fresh walk reads the rows of its first `updated_at` again: only what is new says that it got any further.
        if page.step.highest > self.highest {
            self.fresh_count = 0;
            self.backoff = Backoff::default();
        }
        self.highest = page.step.highest;
        self.doubtful_count = 0;
        self.good_count += 1;
        if self.good_count.is_multiple_of(PAGES_BEFORE_LARGER) {
            self.limit = self
                .limit
                .map(|limit| limit.saturating_mul(2))
                .filter(|limit| *limit < reader.upstream.page_size);
        }
    }

    /// Decides by policy what follows a fault, says so, and waits.
    async fn recover(&mut self, reader: &Reader, fault: Fault) -> Result<(), Ended> {
        let metrics = reader.client.metrics();
        // Without its cursor the request is another one; and an upstream that answers, if wrongly, needs no rest.
        let may_hurry = matches!(fault, Fault::Unverified(..)) || self.cursor.is_some();
        let (text, advice, retry_after) = match fault {
            Fault::Upstream(error) => {
                let mut asked_for = None;
                match policy::after_request(&error) {
                    AfterRequest::Retry { retry_after } => asked_for = retry_after,
                    AfterRequest::PerhapsDeadCursor => self.doubtful_count += 1,
                    AfterRequest::Smaller => {
                        let limit = self.limit.unwrap_or(reader.upstream.page_size);
                        self.doubtful_count += u32::from(limit == 1);
                        (self.limit, self.good_count) = (Some((limit / 2).max(1)), 0);
                    }
                    AfterRequest::Fail | AfterRequest::Stop(_) => return Err(error.into()),
                }
                (policy::chain(&error), policy::request_advice(&error), asked_for)
            }
            Fault::Unverified(unverified, request_id) => {
                self.doubtful_count += 1;
                metrics.unverified_pages_total.inc();
                let advice = "the page is discarded and asked for again; tell the vendor's support if it lasts";
                (format!("{unverified}{request_id}"), advice, None)
            }
        };
        metrics.retries_total.inc();
        let wait = self.backoff.next(retry_after);
        if self.backoff.is_worth_a_line() {
            let (lender, try_count) = (&*reader.name, self.backoff.try_count());
            tracing::warn!(lender, try_count, wait = ?wait, advice, "{text}");
        }
        if self.doubtful_count >= TRIES_BEFORE_FRESH_WALK {
            self.doubtful_count = 0;
            let (lender, position) = (&*reader.name, self.highest.map(|at| at.to_string()).unwrap_or_default());
            if self.fresh_count > 0 && self.fresh_count.is_multiple_of(FRESH_WALKS_BEFORE_STUCK) {
                tracing::error!(lender, position, "stuck: {text}; nothing is skipped, it is tried on");
                if reader.is_until_caught_up {
                    return Err(Ended::Stuck(text));
                }
            }
            self.fresh_count += 1;
            metrics.fresh_walks_total.inc();
            if may_hurry && self.fresh_count < FRESH_WALKS_BEFORE_STUCK {
                self.backoff = Backoff::default();
            }
            self.begin_afresh();
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Leaves a cursor that does not help any more: on from the highest row, whose equals come again and are recognised.
    fn begin_afresh(&mut self) {
        self.since = self.highest.or(self.since);
        self.until = self.stop.or(self.until);
        self.cursor = None;
        self.last = None;
        self.row_hashes = Arc::default();
        self.empty_count = 0;
    }
}

/// Everything that judging one answer needs, on a thread where that may take its time.
struct Judge {
    encoder: Arc<Encoder>,
    name: Arc<str>,
    lender: Arc<str>,
    walk: Walk,
    asked: PageRequest,
    stop: Option<Timestamp>,
    last: Option<i64>,
    highest: Option<Timestamp>,
    /// Of the page before.
    row_hashes: Arc<[u64]>,
    clock: Option<Timestamp>,
    empty_count: u32,
    large_value: usize,
    unknown: Arc<Mutex<HashSet<String>>>,
    metrics: crate::metrics::LenderMetrics,
}

impl Judge {
    /// Verifies and encodes; tells the next cursor as soon as it is known.
    fn page(self, answer: &Answer, next: oneshot::Sender<Option<String>>) -> Result<Result<Page, Fault>, Ended> {
        let body = match answer.page() {
            Ok(body) => body,
            Err(error) => return Ok(Err(Fault::Upstream(error))),
        };
        let unverified = |why| Ok(Err(Fault::Unverified(why, answer.request_id.clone())));
        if let Err(why) = self.verify_envelope(&body) {
            return unverified(why);
        }
        let row_hashes: Arc<[u64]> = body
            .rows
            .iter()
            .map(|row| Digest::of_bytes(row.get().as_bytes()).0)
            .collect();
        if !row_hashes.is_empty() && row_hashes.iter().all(|hash| self.row_hashes.contains(hash)) {
            return unverified(Unverified::Repeated);
        }
        // A walk that was given up meanwhile is no longer interested.
        let _ = next.send(body.next_cursor.clone());
        let mut encoded = Encoded::default();
        let mut is_past_stop = false;
        let mut last = self.last;
        for (row, json) in body.rows.iter().enumerate() {
            let updated_at = encoded.take(json, &self)?;
            let Some(updated_at) = updated_at else { continue };
            if last.is_some_and(|last| updated_at < last) {
                return unverified(Unverified::Order { row });
            }
            let (since, until) = (self.asked.since, self.asked.until);
            if since.is_some_and(|since| updated_at < since.0) || until.is_some_and(|until| updated_at >= until.0) {
                return unverified(Unverified::Outside { row });
            }
            if self.stop.is_some_and(|stop| updated_at >= stop.0) {
                encoded.entries.pop();
                is_past_stop = true;
                break;
            }
            last = Some(updated_at);
        }
        let here = clock::now().timestamp_millis();
        let step = Step {
            walk: self.walk,
            since: self.asked.since,
            until: self.asked.until,
            is_last: is_past_stop || body.next_cursor.is_none(),
            next_cursor: body.next_cursor,
            highest: last.map(Timestamp).max(self.highest),
            clock: self.clock.or(answer.clock).unwrap_or(Timestamp(here)),
        };
        let date = answer.date.unwrap_or(Timestamp(here));
        self.count(&encoded, last, date);
        let Encoded { entries, bytes, .. } = encoded;
        let (requested, received, request_id) = (answer.requested, answer.received, answer.request_id.0.clone());
        Ok(Ok(Page {
            step,
            entries,
            bytes,
            requested,
            received,
            request_id,
            row_hashes,
            _room: None,
        }))
    }

    fn verify_envelope(&self, body: &PageBody<'_>) -> Result<(), Unverified> {
        let shown = |at: Option<Timestamp>| at.map_or_else(|| "null".to_owned(), |at| at.to_string());
        for (bound, asked, found) in [
            ("since", self.asked.since, body.since),
            ("until", self.asked.until, body.until),
        ] {
            if asked != found {
                return Err(Unverified::Bound {
                    bound,
                    asked: shown(asked),
                    found: shown(found),
                });
            }
        }
        if body.are_too_many {
            return Err(Unverified::TooManyRows);
        }
        let Some(next_cursor) = &body.next_cursor else {
            return Ok(());
        };
        if self.asked.cursor.as_ref() == Some(next_cursor) {
            return Err(Unverified::SameCursor);
        }
        if next_cursor.len() > MAX_CURSOR {
            let length = next_cursor.len();
            return Err(Unverified::LongCursor { length });
        }
        if body.rows.is_empty() && self.empty_count >= 2 {
            return Err(Unverified::Empty);
        }
        Ok(())
    }

    /// Names a member that D02 is not known to have, the first time it is seen.
    fn say_once(&self, member: &str) {
        /// A vendor adds a few in years; an upstream that invents names must not fill the memory or the log.
        const MAX_NAMES: usize = 200;
        let mut names = self.unknown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if names.len() < MAX_NAMES && !names.contains(member) {
            names.insert(member.to_owned());
            let (lender, member) = (&*self.name, member.chars().take(100).collect::<String>());
            tracing::warn!(lender, member, "an unknown member: it is in `extra` of the accounts");
        }
    }

    fn count(&self, encoded: &Encoded, last: Option<i64>, date: Timestamp) {
        let metrics = &self.metrics;
        metrics.pages_total.inc();
        metrics.rows_total.inc_by(encoded.entries.len() as u64);
        metrics.invalid_fields_total.inc_by(encoded.invalid_count);
        metrics.unreal_dates_total.inc_by(encoded.unreal_date_count);
        metrics.unknown_fields_total.inc_by(encoded.unknown_count);
        let limit = date.0 + AHEAD_TOLERANCE;
        if let Some(last) = last.filter(|last| *last > limit) {
            let is_ahead = |entry: &&Entry| matches!(entry, Entry::Account(row) if row.updated_at > limit);
            metrics
                .ahead_rows_total
                .inc_by(encoded.entries.iter().filter(is_ahead).count() as u64);
            let (lender, at) = (&*self.name, Timestamp(last));
            tracing::warn!(lender, updated_at = %at, upstream_clock = %date, "rows are dated ahead of upstream's clock");
        }
    }
}

/// The rows of a page as they become bytes.
#[derive(Default)]
struct Encoded {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
    scratch: Scratch,
    invalid_count: u64,
    unreal_date_count: u64,
    unknown_count: u64,
}

impl Encoded {
    /// Takes one row; gives its `updated_at`, if it has a usable one.
    fn take(&mut self, json: &RawValue, judge: &Judge) -> Result<Option<i64>, EncodeError> {
        match account::read_row(json, &judge.lender, &mut self.scratch) {
            Ok(row) => {
                let public_id = self.put(row.account.public_id.as_bytes());
                let start = self.bytes.len();
                judge.encoder.encode(&row.account, &mut self.bytes)?;
                let value = self.span_from(start);
                let is_large = self.bytes.len() - start > judge.large_value;
                let json = is_large.then(|| self.put(json.get().as_bytes()));
                self.invalid_count += row.invalid.len() as u64;
                self.unreal_date_count += u64::from(row.unreal_date_count);
                self.unknown_count += row.unknown.len() as u64;
                row.unknown.iter().for_each(|name| judge.say_once(name));
                let invalid = (!row.invalid.is_empty()).then(|| {
                    serde_json::to_string(&row.invalid)
                        .expect("names are always JSON")
                        .into_boxed_str()
                });
                let (updated_at, created_at) = (row.account.updated_at, row.account.created_at);
                let digest = row.digest;
                let row = EncodedRow {
                    public_id,
                    value,
                    updated_at,
                    created_at,
                    digest,
                    invalid,
                    json,
                };
                self.entries.push(Entry::Account(row));
                Ok(Some(updated_at))
            }
            Err(rejected) => {
                let digest = Digest::of_bytes(json.get().as_bytes());
                let json = self.put(json.get().as_bytes());
                let updated_at = rejected.updated_at;
                self.entries.push(Entry::DeadLetter(DeadRow { json, rejected, digest }));
                Ok(updated_at)
            }
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.span_from(start)
    }

    /// `upstream.max_body` is at most 1 GiB, and a page's bytes are fewer than four times its body's.
    fn span_from(&self, start: usize) -> Span {
        let place = |place: usize| u32::try_from(place).expect("a page is far smaller than 4 GiB");
        Span {
            start: place(start),
            end: place(self.bytes.len()),
        }
    }
}
