//! How is one walk read? Page after page to its end; what goes wrong on the way is tried again, or begun afresh.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};

use super::judge::Judge;
use super::shares::Shares;
use super::{Ended, Item, Page, Reader, Unverified};
use crate::failpoint::{self, Rule};
use crate::policy::{self, AfterRequest};
use crate::progress::{Range, Timestamp, Walk};
use crate::upstream::{Answer, Backoff, Client, PageRequest, RequestId, UpstreamError};

/// The same request is repeated this often before its walk begins afresh.
const TRIES_BEFORE_FRESH_WALK: u32 = 3;

/// After as many fresh walks without a page the walk is stuck: it goes on trying, but says so.
const FRESH_WALKS_BEFORE_STUCK: u32 = 3;

/// Good pages after which a halved page size doubles again.
const PAGES_BEFORE_LARGER: u32 = 20;

/// One walk over D02: a range, a live one, or a sweep.
pub(super) struct OneWalk {
    walk: Walk,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    stop: Option<Timestamp>,
    cursor: Option<String>,
    highest: Option<Timestamp>,
    /// `updated_at` of the last row under this cursor.
    last: Option<i64>,
    /// The page before, row by row; `None` under a cursor of an earlier process, which did not tell.
    row_hashes: Option<Arc<[u64]>>,
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

/// Does work that takes a while on a thread where it may. A runtime of one thread does it in its order: what the model
/// test does must follow from its seed.
fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => tokio::spawn(async { work() }),
        _ => spawn_blocking(work),
    }
}

/// Why a try brought no page.
pub(super) enum Fault {
    Upstream(UpstreamError),
    Unverified(Unverified, RequestId),
    /// The first page under a cursor of an earlier process may be the one before it: only that process could tell.
    PerhapsRepeated,
}

impl OneWalk {
    pub fn range(range: &Range) -> Self {
        Self {
            walk: Walk::Range(range.stop),
            since: range.since,
            until: range.until,
            stop: Some(range.stop),
            cursor: range.cursor.clone(),
            highest: range.highest,
            last: range.cursor.as_ref().and(range.highest).map(|highest| highest.0),
            row_hashes: range.cursor.is_none().then(Arc::default),
            ..Self::live(None)
        }
    }

    pub fn sweep(since: Option<Timestamp>, until: Timestamp) -> Self {
        Self {
            walk: Walk::Sweep,
            until: Some(until),
            ..Self::live(since)
        }
    }

    pub fn live(since: Option<Timestamp>) -> Self {
        Self {
            walk: Walk::Live,
            since,
            until: None,
            stop: None,
            cursor: None,
            highest: None,
            last: None,
            row_hashes: Some(Arc::default()),
            clock: None,
            empty_count: 0,
            limit: None,
            good_count: 0,
            fresh_count: 0,
            backoff: Backoff::default(),
            doubtful_count: 0,
        }
    }

    /// Reads to the end of the walk and hands over every page; gives the highest `updated_at`, but no more than the walk's
    /// clock: from there on the next walk has to read.
    ///
    /// # Errors
    /// When the lender cannot go on.
    pub async fn run(mut self, reader: &Reader, shares: Option<&Shares>) -> Result<Option<Timestamp>, Ended> {
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
                    let (is_last, clock) = (page.step.is_last, page.step.clock);
                    reader.hand_over(page).await;
                    if is_last {
                        if let (Some(shares), Walk::Range(stop)) = (shares, self.walk) {
                            shares.ended(stop);
                        }
                        return Ok(self.highest.map(|highest| highest.min(clock)));
                    }
                    if let Some(shares) = shares {
                        self.share(reader, shares);
                    }
                }
                Err(fault) => {
                    ahead = None;
                    if let (Some(shares), Walk::Range(stop)) = (shares, self.walk) {
                        shares.paused(stop);
                    }
                    self.recover(reader, fault).await?;
                }
            }
        }
    }

    /// Gives a part of its range away, if another walk has nothing to read. What was judged so far lies before it.
    fn share(&mut self, reader: &Reader, shares: &Shares) {
        let Walk::Range(stop) = self.walk else { return };
        let position = self.highest.max(self.since);
        let stop = shares.split(stop, position, |split| reader.send(Item::Split(split)));
        self.stop = Some(stop);
        if !failpoint::is_broken(Rule::SplitMovesStop) {
            self.walk = Walk::Range(stop);
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
            row_hashes: self.row_hashes.clone(),
            clock: self.clock,
            empty_count: self.empty_count,
            large_value: reader.large_value,
            unknown: Arc::clone(&reader.unknown),
            metrics: reader.client.metrics().clone(),
        };
        let judged = in_background(move || judge.page(&answer, next));
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
        // An empty page does not hide the one before it.
        if !page.row_hashes.is_empty() {
            self.row_hashes = Some(Arc::clone(&page.row_hashes));
        }
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
            // Nothing is wrong: no wait, no line.
            Fault::PerhapsRepeated => {
                metrics.fresh_walks_total.inc();
                self.begin_afresh();
                return Ok(());
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
        if failpoint::is_broken(Rule::BoundaryInclusive) {
            self.since = self.highest.map(|highest| Timestamp(highest.0 + 1)).or(self.since);
        }
        self.until = self.stop.or(self.until);
        self.cursor = None;
        self.last = None;
        self.row_hashes = Some(Arc::default());
        self.empty_count = 0;
    }
}
