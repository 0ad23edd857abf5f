//! Does an answer count? It is held to what was asked, and its rows become bytes.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::encoded::Encoded;
use super::page::{Entry, MAX_CURSOR, Page, PageTail, Unverified};
use super::row_encoder::RowEncoder;
use crate::account::Digest;
use crate::failpoint::{self, Rule};
use crate::progress::{Place, Step, Timestamp, Walk};
use crate::upstream::{Answer, PageBody, PageRequest, RequestId, UpstreamError};

/// A row that is dated further ahead of the latest that its answer can show is counted and warned about.
pub(crate) const AHEAD_TOLERANCE: i64 = 1_000;

/// How much further ahead a row is dated than the last one that was warned about, so that it is worth another line: a clock
/// that is a little behind must not fill the log.
const AHEAD_PAUSE: i64 = 600_000;

/// Whether a row is dated ahead of its answer, which can show nothing later than `latest`.
fn is_ahead(updated_at: i64, latest: Timestamp) -> bool {
    updated_at > latest.0 + AHEAD_TOLERANCE
}

/// Everything that judging one answer needs, on a thread where that may take its time.
pub(super) struct Judge {
    pub encoder: Arc<RowEncoder>,
    pub walk: Walk,
    /// Where the walk began.
    pub from: Option<Timestamp>,
    pub asked: PageRequest,
    /// Where the walk ends; what it asked for may end before.
    pub end: Option<Timestamp>,
    pub last: Option<i64>,
    /// Of the last row.
    pub last_id: Option<Box<str>>,
    pub highest: Option<Timestamp>,
    /// The rows so far that have the `updated_at` of the last one; `None`: they are not known.
    pub group: Option<Arc<HashSet<u64>>>,
    pub clock: Option<Timestamp>,
    pub empty_count: u32,
    /// Whether rows that are no UTF-8 become dead letters; else the page does not count.
    pub takes_damaged: bool,
}

impl Judge {
    /// Verifies and encodes; tells the next cursor as soon as it is known.
    pub(super) fn page(self, answer: &Answer, next: oneshot::Sender<Option<String>>) -> Result<Page, PageFault> {
        let body = answer.page_with_damage().map_err(PageFault::Upstream)?;
        if let Err(damage) = answer.whole() {
            let damaged = || body.rows.iter().filter_map(|row| answer.damage_of(row));
            if !self.takes_damaged && !self.encoder.knows_damage(damaged()) {
                return Err(PageFault::Upstream(damage));
            }
            self.encoder.note_damage(damaged());
        }
        let unverified = |why| Err(PageFault::Unverified(why, answer.request_id.clone()));
        if let Err(why) = self.verify_envelope(&body) {
            return unverified(why);
        }
        let hash = |row: &&RawValue| Digest::of_bytes(row.get().as_bytes()).0;
        let was_before = |group: &Arc<HashSet<u64>>| body.rows.iter().all(|row| group.contains(&hash(row)));
        if !body.rows.is_empty() && self.group.as_ref().is_some_and(was_before) {
            return unverified(Unverified::Repeated);
        }
        // Where the pages before are not known, a later time proves that this is another one; within one time, that it does not
        // hold the last row of the page before.
        let mut is_another = self.group.is_some() || self.last.is_none() || body.rows.is_empty();
        // A walk that was given up meanwhile is no longer interested.
        let _ = next.send(body.next_cursor.clone());
        let mut encoded = Encoded::default();
        // How many rows lie before the end; what follows them is verified like the rest, and left to the next range.
        let mut before_end = None;
        let (mut last, mut highest) = (self.last, None);
        // The first row with the last time.
        let mut tail_from = 0;
        let mut is_continued = true;
        let latest = answer.latest;
        // Whether any row is later than what was read, as far as that can be told. One dated ahead is read time and again.
        let mut is_later = false;
        for (row, json) in body.rows.iter().enumerate() {
            let updated_at = match answer.damage_of(json) {
                Some(received) => encoded.take_damaged(json, received, &self.encoder),
                None => encoded.take(json, &self.encoder),
            };
            let Some(updated_at) = updated_at else {
                is_later = true;
                continue;
            };
            is_later |= self.asked.since.is_none_or(|since| updated_at > since.0) && !is_ahead(updated_at, latest);
            if last.is_some_and(|last| updated_at < last) {
                return unverified(Unverified::Order { row });
            }
            // Upstream's order within one time is that of `_id`: an account that is no later was in a page before.
            if !is_another && last == Some(updated_at) && !failpoint::is_broken(Rule::PageGoesOn) {
                match (self.last_id.as_deref(), encoded.last_id()) {
                    (Some(before), Some(id)) if id > before => is_another = true,
                    (Some(_), None) => {}
                    (None, _) | (Some(_), Some(_)) => return Err(PageFault::PerhapsRepeated),
                }
            } else {
                is_another = true;
            }
            let (since, until) = (self.asked.since, self.asked.until);
            if since.is_some_and(|since| updated_at < since.0) || until.is_some_and(|until| updated_at >= until.0) {
                return unverified(Unverified::Outside { row });
            }
            if last != Some(updated_at) {
                (last, tail_from, is_continued) = (Some(updated_at), row, false);
            }
            if self.end.is_none_or(|end| updated_at < end.0) {
                highest = Some(Timestamp(updated_at));
            } else {
                before_end = before_end.or(Some(encoded.entries.len() - 1));
            }
        }
        if !is_another {
            return Err(PageFault::PerhapsRepeated);
        }
        if let Some(before_end) = before_end {
            encoded.entries.truncate(before_end);
        }
        let is_over = body.next_cursor.is_none();
        let is_last = before_end.is_some() || is_over && self.is_all();
        let (since, until) = if is_over && !is_last {
            (self.asked.until, self.end)
        } else {
            (self.asked.since, self.asked.until)
        };
        let clock = self.clock.unwrap_or(answer.clock);
        let highest_of_walk = highest.max(self.highest);
        let place = (is_last && self.walk == Walk::Live)
            .then(|| self.place(highest_of_walk, clock, body.rows.len()))
            .flatten();
        let last_id = match body.rows.is_empty() {
            true => self.last_id.clone(),
            false => encoded.last_id().map(Box::from),
        };
        let step = Step {
            walk: self.walk,
            from: self.from,
            since,
            until,
            left: None,
            place,
            backlog: None,
            is_further: true,
            is_last,
            next_cursor: body.next_cursor,
            last_id,
            highest: highest_of_walk,
            clock,
            answer_clock: answer.clock,
        };
        self.count(&encoded, highest, latest);
        let is_again = match self.walk {
            Walk::Live => !is_later,
            Walk::Sweep | Walk::EarlySweep => true,
            Walk::Range(_) | Walk::Reconcile(_) | Walk::Replay => false,
        };
        if matches!(self.walk, Walk::Live | Walk::Sweep | Walk::EarlySweep) {
            self.encoder.compare(
                &encoded,
                &body.rows,
                self.asked.since.filter(|_| self.walk == Walk::Sweep),
            );
        }
        let drifting = self.encoder.drifting(&encoded.unfit, body.rows.len(), is_again);
        let Encoded { entries, bytes, .. } = encoded;
        let (requested, received, request_id) = (answer.requested, answer.received, answer.request_id.0.clone());
        Ok(Page {
            step,
            entries,
            bytes,
            requested,
            received,
            request_id,
            drifting,
            tail: PageTail {
                row_hashes: body.rows[tail_from..].iter().map(hash).collect(),
                is_continued,
            },
            taken: None,
            _done: None,
        })
    }

    /// Where the next live walk goes on: at the cursor of this last page, if that stands in the group of the highest
    /// `updated_at`. One that begins at that time would read the group from its first row, and otherwise no more than this page.
    /// At the walk's own clock the group may still grow in front of the cursor.
    fn place(&self, highest: Option<Timestamp>, clock: Timestamp, row_count: usize) -> Option<Place> {
        let highest = highest.filter(|highest| *highest < clock)?;
        if self.last != Some(highest.0) {
            return None;
        }
        Some(Place {
            since: self.asked.since,
            cursor: self.asked.cursor.clone()?,
            last_id: self.last_id.clone()?,
            row_count: u16::try_from(row_count).ok()?,
        })
    }

    /// Whether what was asked for reaches to the walk's end.
    fn is_all(&self) -> bool {
        match (self.asked.until, self.end) {
            (Some(until), Some(end)) => until >= end,
            (until, None) => until.is_none(),
            (None, Some(_)) => true,
        }
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

    fn count(&self, encoded: &Encoded, highest: Option<Timestamp>, latest: Timestamp) {
        let RowEncoder {
            metrics, name, noted, ..
        } = &*self.encoder;
        metrics.pages_total.inc();
        metrics.rows_total.inc_by(encoded.entries.len() as u64);
        if matches!(self.walk, Walk::Sweep | Walk::EarlySweep) {
            metrics.sweep_rows_total.inc_by(encoded.entries.len() as u64);
        }
        metrics.invalid_fields_total.inc_by(encoded.invalid_count);
        metrics.unreal_dates_total.inc_by(encoded.unreal_date_count);
        metrics.unknown_fields_total.inc_by(encoded.unknown_count);
        metrics.tolerated_amounts_total.inc_by(encoded.tolerated_count);
        if let Some(highest) = highest.filter(|highest| is_ahead(highest.0, latest)) {
            let are_ahead = |entry: &&Entry| matches!(entry, Entry::Account(row) if is_ahead(row.updated_at, latest));
            metrics
                .ahead_rows_total
                .inc_by(encoded.entries.iter().filter(are_ahead).count() as u64);
            let lender = &**name;
            let is_news = |last: i64| (highest.0 > last.saturating_add(AHEAD_PAUSE)).then_some(highest.0);
            if noted
                .ahead
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_news)
                .is_ok()
            {
                tracing::warn!(lender, updated_at = %highest, clock = %latest, "rows are dated ahead of the clock of their answer");
            }
        }
    }
}

/// Why a try brought no page: it is asked for again.
pub(super) enum PageFault {
    Upstream(UpstreamError),
    Unverified(Unverified, RequestId),
    /// The first page under a cursor of an earlier process may be the one before it: only that process could tell.
    PerhapsRepeated,
}
