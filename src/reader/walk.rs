//! How is one walk read? Page after page to its end; what goes wrong on the way is tried again, or begun afresh.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::ahead::{Ahead, in_background};
use super::bounds::TimeBounds;
use super::context::{Until, WalkContext};
use super::count::RowCount;
use super::exit::{ReaderError, ReaderExit};
use super::incoming::Item;
use super::judge::{Judge, PageFault};
use super::ladder::{Ladder, Rung, Trouble};
use super::page::{Page, PageTail};
use super::shares::Shares;
use super::stuck::{STUCK, STUCK_ADVICE, Stuck};
use super::walked::Walked;
use super::witness::PageUse;
use crate::account::shortened;
use crate::backoff::Backoff;
use crate::clock::Tick;
use crate::exit::{Diagnosis, chain};
use crate::failpoint::{self, Rule};
use crate::policy::{self, AfterRequest};
use crate::progress::{Backlog, Progress, Range, Timestamp, Walk};
use crate::upstream::PageRequest;

/// Rows of one time that are told from one another; 16 MB a walk at most. Of a larger group, a page that comes twice late in
/// it is not noticed.
const MAX_GROUP: usize = 1 << 20;

/// With so many ranges left, a live walk adds none: they stand in one record.
const MAX_RANGES: usize = 16;

/// Pages of an early sweep: what a bulk update changed is left to the sweep that has to read it anyway.
const MAX_EARLY_PAGES: u32 = 20;

/// One walk over D02: a range, a live one, or a sweep.
pub(super) struct OneWalk<'w> {
    walk: Walk,
    /// Where it began.
    from: Option<Timestamp>,
    page_use: PageUse<'w>,
    bounds: TimeBounds,
    cursor: Option<String>,
    highest: Option<Timestamp>,
    /// `updated_at` of the last row under this cursor.
    last: Option<i64>,
    /// The rows with this time, by their hashes; `None` under a cursor of an earlier process, which did not tell.
    group: Option<Arc<HashSet<u64>>>,
    /// Upstream's clock at the walk's first answer, also when it goes on as a fresh walk.
    clock: Option<Timestamp>,
    /// How far it has come: the highest time, and how many rows of it.
    reach: (Option<Timestamp>, usize),
    empty_count: u32,
    ladder: Ladder,
    /// Rows of its first page, where that is to end before the last one that was read: the next place is behind it.
    first_limit: Option<u16>,
    /// When what is asked for now failed last.
    failed_at: Tick,
    /// Pages that are left to it; `None`: as many as there are.
    pages_left: Option<u32>,
    /// A live walk that is further behind gives up.
    backlog: Option<BacklogLimit>,
    /// Of a range that it began.
    count: Option<RowCount>,
    /// Counts the walk among the stuck ones.
    stuck: Option<Stuck>,
    /// Of the last row under this cursor, where it is known.
    last_id: Option<Box<str>>,
    /// The last account that was read, for people.
    last_account: Option<Box<str>>,
    backoff: Backoff,
}

/// When a live walk becomes ranges.
#[derive(Debug, Clone, Copy)]
struct BacklogLimit {
    behind: Duration,
    settles: bool,
}

/// What parts of the past are read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RangeKind {
    Snapshot,
    Reconcile,
}

impl<'w> OneWalk<'w> {
    pub(super) fn range(range: &Range, kind: RangeKind) -> Self {
        Self {
            walk: match kind {
                RangeKind::Snapshot => Walk::Range(range.stop),
                RangeKind::Reconcile => Walk::Reconcile(range.stop),
            },
            bounds: TimeBounds::new(range.since, range.until, Some(range.stop)),
            cursor: range.cursor.clone(),
            highest: range.highest,
            last: range.cursor.as_ref().and(range.highest).map(|highest| highest.0),
            last_id: range.last_id.clone(),
            group: range.cursor.is_none().then(Arc::default),
            count: (range.cursor.is_none() && kind == RangeKind::Snapshot).then(|| RowCount::new(range.since)),
            ..Self::new(Walk::Live, None)
        }
    }

    /// From the mark `read` on, or from the place in the group of that time. `range_count`: so many have room in the record.
    pub(super) fn live(progress: &Progress, behind: Duration, range_count: usize) -> Self {
        /// What a backlog adds at most.
        const ADDED: usize = 2;
        let count = progress.ranges.len();
        let has_room = count < MAX_RANGES && count + ADDED <= range_count;
        let backlog = has_room.then(|| BacklogLimit {
            behind,
            settles: !progress.has_ranges_beyond_settled(),
        });
        let walk = Self {
            backlog,
            ..Self::new(Walk::Live, progress.read)
        };
        match progress.place.clone() {
            Some(place) => Self {
                bounds: TimeBounds::new(place.since, None, None),
                cursor: Some(place.cursor),
                first_limit: Some(place.row_count.saturating_sub(1)).filter(|limit| *limit > 0),
                highest: progress.read,
                last: progress.read.map(|read| read.0),
                last_id: Some(place.last_id),
                group: None,
                ..walk
            },
            None => walk,
        }
    }

    /// What was due to be visible.
    pub(super) fn sweep(since: Option<Timestamp>, until: Timestamp) -> Self {
        Self {
            bounds: TimeBounds::new(since, Some(until), Some(until)),
            ..Self::new(Walk::Sweep, since)
        }
    }

    /// What may be visible by now, as far as that takes few pages.
    pub(super) fn early_sweep(since: Option<Timestamp>, until: Timestamp) -> Self {
        Self {
            walk: Walk::EarlySweep,
            pages_left: Some(MAX_EARLY_PAGES),
            ..Self::sweep(since, until)
        }
    }

    /// One that hands nothing over.
    pub(super) fn apart(since: Option<Timestamp>, page_use: PageUse<'w>) -> Self {
        Self {
            ladder: match page_use {
                PageUse::FirstRow => Ladder::row_by_row(),
                PageUse::HandOver | PageUse::Heard(_) => Ladder::default(),
            },
            page_use,
            ..Self::new(Walk::Reconcile(Timestamp(i64::MAX)), since)
        }
    }

    fn new(walk: Walk, since: Option<Timestamp>) -> Self {
        Self {
            walk,
            page_use: PageUse::HandOver,
            from: since,
            bounds: TimeBounds::new(since, None, None),
            cursor: None,
            highest: None,
            last: None,
            group: Some(Arc::default()),
            clock: None,
            reach: (None, 0),
            empty_count: 0,
            ladder: Ladder::default(),
            first_limit: None,
            failed_at: Tick::MAX,
            pages_left: None,
            backlog: None,
            count: None,
            stuck: None,
            last_id: None,
            last_account: None,
            backoff: Backoff::default(),
        }
    }

    /// Reads to the end of the walk and hands over every page.
    ///
    /// # Errors
    /// When the lender cannot go on.
    pub(super) async fn run(mut self, context: &WalkContext, shares: Option<&Shares>) -> Result<Walked, ReaderExit> {
        let mut ahead: Option<Ahead> = None;
        loop {
            context.unpaused(&mut ahead).await;
            let request = self.request(context);
            let under_way = match ahead.take().filter(|ahead| ahead.request == request) {
                Some(ahead) => ahead,
                None => Ahead::start(&context.client, &context.outlet(self.walk).room, request),
            };
            match self.page(context, under_way, &mut ahead).await {
                Ok(mut page) => {
                    self.advance(context, &mut page);
                    let (is_last, backlog) = (page.step.is_last, page.step.backlog);
                    let (done, committed) = oneshot::channel();
                    page._done = is_last.then_some(done);
                    if self.page_use.take(context, self.walk, page).await || is_last {
                        if let (Some(shares), Some(stop)) = (shares, self.walk.stop()) {
                            shares.ended(stop);
                            if let Some(count) = &self.count {
                                count.hold_against_total(context, stop).await;
                            }
                        }
                        return Ok(Walked {
                            highest: self.highest,
                            backlog,
                            committed,
                        });
                    }
                    if let Some(shares) = shares {
                        self.share(context, shares);
                    }
                }
                Err(fault) => {
                    ahead = None;
                    if let (Some(shares), Some(stop)) = (shares, self.walk.stop()) {
                        shares.paused(stop);
                    }
                    self.recover(context, fault).await?;
                }
            }
        }
    }

    /// Gives a part of its range away, if another walk has nothing to read. What was judged so far lies before it.
    fn share(&mut self, context: &WalkContext, shares: &Shares) {
        let Some(stop) = self.walk.stop() else { return };
        let position = self.highest.max(self.bounds.since);
        let stop = shares.split(stop, position, |split| {
            if let Walk::Range(_) = self.walk {
                context.rest.send(Item::Split(split));
            }
        });
        self.bounds.end = Some(stop);
        match self.walk {
            Walk::Range(_) if failpoint::is_broken(Rule::SplitMovesStop) => {}
            Walk::Range(_) => self.walk = Walk::Range(stop),
            Walk::Reconcile(_) => self.walk = Walk::Reconcile(stop),
            Walk::Live | Walk::Sweep | Walk::EarlySweep | Walk::Replay => {}
        }
    }

    fn request(&self, context: &WalkContext) -> PageRequest {
        PageRequest {
            since: self.bounds.since,
            until: self.bounds.until,
            cursor: self.cursor.clone(),
            limit: self
                .first_limit
                .unwrap_or(self.ladder.limit(context.upstream.page_size)),
            include_total: false,
        }
    }

    /// Waits for the answer under way, sends the next request, and verifies and encodes the answer meanwhile.
    async fn page(
        &self,
        context: &WalkContext,
        mut under_way: Ahead,
        ahead: &mut Option<Ahead>,
    ) -> Result<Page, PageFault> {
        let (answer, mut taken) = match (&mut under_way.answer).await {
            Ok(Ok(arrived)) => arrived,
            Ok(Err(error)) => return Err(PageFault::Upstream(error)),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        };
        let request = under_way.request.clone();
        let (next, next_known) = oneshot::channel();
        let judge = Judge {
            encoder: Arc::clone(&context.encoder),
            walk: self.walk,
            from: self.from,
            asked: request.clone(),
            end: self.bounds.end,
            last: self.last,
            last_id: self.last_id.clone(),
            highest: self.highest,
            group: self.group.clone(),
            clock: self.clock,
            empty_count: self.empty_count,
            takes_damaged: self.ladder.takes_damaged(),
        };
        let room = Arc::clone(&context.outlet(self.walk).room);
        let judged = in_background(move || {
            let mut page = judge.page(&answer, next)?;
            // Both of them were there at the end.
            room.note_answer(answer.size() + page.size());
            drop(answer);
            page.bytes.shrink_to_fit();
            taken.settle(page.size());
            page.taken = Some(taken);
            Ok(page)
        });
        if let Ok(Some(cursor)) = next_known.await {
            *ahead = Some(Ahead::start(
                &context.client,
                &context.outlet(self.walk).room,
                PageRequest {
                    cursor: Some(cursor),
                    limit: self.ladder.limit(context.upstream.page_size),
                    ..request
                },
            ));
        }
        match judged.await {
            Ok(result) => {
                if let Ok(page) = &result {
                    context.note_clock(page.step.clock);
                    context.note_pass();
                    context.trials.passed();
                }
                result
            }
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }

    fn advance(&mut self, context: &WalkContext, page: &mut Page) {
        self.clock = Some(page.step.clock);
        self.count.iter_mut().for_each(|count| count.add(context, page));
        page.step
            .next_cursor
            .iter()
            .for_each(|cursor| context.room.note(cursor));
        (self.bounds.since, self.bounds.until) = (page.step.since, page.step.until);
        self.cursor.clone_from(&page.step.next_cursor);
        self.first_limit = None;
        self.empty_count = if page.entries.is_empty() {
            self.empty_count + 1
        } else {
            0
        };
        self.last = page.step.highest.map_or(self.last, |highest| Some(highest.0));
        self.extend_group(&page.tail);
        // A fresh walk reads the rows of its first `updated_at` again: only what lies beyond says that it got any further.
        let is_over = page.step.next_cursor.is_none();
        let reach = (page.step.highest, self.group.as_ref().map_or(0, |group| group.len()));
        page.step.is_further = reach > self.reach || is_over;
        if page.step.is_further {
            self.reach = reach;
            self.stuck = None;
            self.backoff = Backoff::default();
        }
        self.ladder.pass(page.step.is_further, context.upstream.page_size);
        self.failed_at = Tick::MAX;
        self.highest = page.step.highest;
        self.last_id.clone_from(&page.step.last_id);
        self.last_account = page.last_id().map(Box::from).or(self.last_account.take());
        if page.step.is_last {
            return;
        }
        if is_over {
            self.forget_page();
            self.bounds.go_on_behind(context.clock());
        }
        self.pages_left = self.pages_left.map(|left| left.saturating_sub(1));
        page.step.backlog = self.backlog(page.step.answer_clock);
        page.step.is_last = page.step.backlog.is_some() || self.pages_left == Some(0);
    }

    /// Whether it is so far behind that what it has left is better read in ranges.
    fn backlog(&self, stop: Timestamp) -> Option<Backlog> {
        let BacklogLimit { behind, settles } = self.backlog?;
        let is_behind = self.highest.is_some_and(|highest| highest < stop.before(behind));
        is_behind.then_some(Backlog { stop, settles })
    }

    /// An empty page leaves the group as it is.
    fn extend_group(&mut self, tail: &PageTail) {
        let group = Arc::make_mut(self.group.get_or_insert_default());
        if !tail.is_continued {
            group.clear();
        }
        let room = MAX_GROUP.saturating_sub(group.len());
        group.extend(tail.row_hashes.iter().take(room));
    }

    /// Says what is wrong, waits, and does what the ladder says.
    async fn recover(&mut self, context: &WalkContext, fault: PageFault) -> Result<(), ReaderExit> {
        let metrics = context.client.metrics();
        // Without its cursor the request is another one; and an upstream that answers, if wrongly, needs no rest.
        let may_hurry = matches!(fault, PageFault::Unverified(..)) || self.cursor.is_some();
        let (text, (code, advice), trouble) = match fault {
            PageFault::Upstream(error) => {
                let trouble = match policy::after_request(&error) {
                    AfterRequest::Silence => Trouble::Silence,
                    AfterRequest::Doubt => Trouble::Doubt,
                    AfterRequest::TooLarge => Trouble::TooLarge,
                    AfterRequest::TooSlow => Trouble::TooSlow,
                    AfterRequest::Unreadable => Trouble::Unreadable,
                    AfterRequest::Fail | AfterRequest::Stop(_) => return Err(error.into()),
                };
                (chain(&error), (error.code(), error.advice().to_owned()), trouble)
            }
            // Nothing is wrong: no wait, no line.
            PageFault::PerhapsRepeated => {
                metrics.fresh_walks_total.inc();
                self.begin_afresh(context);
                return Ok(());
            }
            PageFault::Unverified(unverified, request_id) => {
                metrics.unverified_pages_total.inc();
                let said = (unverified.code(), unverified.advice().to_owned());
                (format!("{unverified}{request_id}"), said, Trouble::Doubt)
            }
        };
        let others_pass = context.has_passed_since(self.failed_at);
        self.failed_at = context.client.tick();
        let (can_narrow, page_size) = (self.bounds.can_narrow(), context.upstream.page_size);
        let rung = self.ladder.fail(trouble, others_pass, can_narrow, page_size);
        metrics.retries_total.inc();
        let wait = self.backoff.next(context.client.held_for());
        if let Some(patience) = context.trials.failed(wait) {
            return Err(ReaderError::OutOfPatience { patience, text }.into());
        }
        if self.backoff.is_worth_a_line() {
            let (lender, try_count) = (&*context.name, self.backoff.try_count());
            tracing::warn!(lender, try_count, wait = ?wait, %code, advice, "{text}");
        }
        match rung {
            Rung::Again | Rung::Smaller => {}
            Rung::Probe => context.probe().await,
            Rung::Narrower => {
                metrics.fresh_walks_total.inc();
                self.begin_afresh(context);
                self.bounds.narrow(context.clock());
            }
            Rung::Fresh | Rung::RowByRow | Rung::Stuck => {
                metrics.fresh_walks_total.inc();
                self.begin_afresh(context);
                if rung == Rung::Stuck {
                    self.report_stuck(context, &text)?;
                } else if rung == Rung::Fresh && may_hurry {
                    self.backoff = Backoff::default();
                }
            }
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Leaves a cursor that does not help any more: on from the highest row, whose equals come again and are recognised.
    fn begin_afresh(&mut self, context: &WalkContext) {
        let mut since = self.highest.max(self.bounds.since);
        if failpoint::is_broken(Rule::BoundaryInclusive) {
            since = self.highest.map(|highest| Timestamp(highest.0 + 1)).or(since);
        }
        self.forget_page();
        self.bounds.begin_at(since, context.clock());
    }

    /// The walk begins anew: what was known of the page before says nothing about its first one.
    fn forget_page(&mut self) {
        (self.cursor, self.first_limit) = (None, None);
        (self.last, self.last_id) = (None, None);
        self.group = Some(Arc::default());
        self.empty_count = 0;
    }

    /// Says that the walk gets nowhere, and where.
    fn report_stuck(&mut self, context: &WalkContext, text: &str) -> Result<(), ReaderExit> {
        let gauge = &context.client.metrics().stuck_walks;
        self.stuck.get_or_insert_with(|| Stuck::new(gauge));
        let position = self.highest.or(self.bounds.since).map(|at| at.to_string());
        let position = position.unwrap_or_else(|| "the oldest row".to_owned());
        let (lender, behind) = (&*context.name, self.last_account.as_deref().map(shortened));
        if context.until != Until::Asked {
            let behind = behind.map(|id| format!(", behind account {id}")).unwrap_or_default();
            return Err(ReaderError::Stuck(format!("at {position}{behind}: {text}")).into());
        }
        if self.backoff.is_worth_a_line() {
            tracing::error!(
                lender,
                position,
                behind = behind.as_deref(),
                code = %STUCK,
                advice = STUCK_ADVICE,
                "stuck, tried on: {text}"
            );
        }
        Ok(())
    }
}
