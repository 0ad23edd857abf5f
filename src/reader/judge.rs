//! Does an answer count? It is held to what was asked, and its rows become bytes.

use std::collections::HashSet;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::value::RawValue;
use tokio::sync::oneshot;

use super::drift::{Drift, DriftNotice, Unfit};
use super::exit::ReaderExit;
use super::page::{DeadRow, EncodedRow, Entry, MAX_CURSOR, Page, PageTail, Span, Unverified};
use super::volatile::Volatile;
use crate::account::{self, Digest, JsonType, Rules, Scratch};
use crate::avro::{EncodeError, Encoder};
use crate::clock;
use crate::exit::ErrorCode;
use crate::failpoint::{self, Rule};
use crate::metrics::LenderMetrics;
use crate::progress::{Place, Step, Timestamp, Walk};
use crate::upstream::{Answer, PageBody, PageRequest, RequestId, UpstreamError};

/// A row that is dated further ahead of the latest that its answer can show is counted and warned about.
pub(crate) const AHEAD_TOLERANCE: i64 = 1_000;

/// How much further ahead a row is dated than the last one that was warned about, so that it is worth another line: a clock
/// that is a little behind must not fill the log.
const AHEAD_PAUSE: i64 = 600_000;

/// The code of a field that upstream changed for all rows.
const DRIFTS: ErrorCode = ErrorCode::U15;

/// Whether a row is dated ahead of its answer, which can show nothing later than `latest`.
fn is_ahead(updated_at: i64, latest: Timestamp) -> bool {
    updated_at > latest.0 + AHEAD_TOLERANCE
}

/// How a lender's rows become the bytes of accounts.
pub(super) struct RowEncoder {
    pub rules: Rules,
    pub encoder: Encoder,
    /// The lender's key in the configuration, for the log.
    pub name: Box<str>,
    /// Its public id.
    pub lender: Box<str>,
    /// A larger record may not fit its topic, so its row is kept.
    pub large_value: usize,
    pub metrics: LenderMetrics,
    pub noted: Noted,
}

/// What of a lender's rows the log was told: once, not for every row.
#[derive(Default)]
pub(super) struct Noted {
    /// Unknown members.
    members: Mutex<HashSet<String>>,
    drift: Mutex<Drift>,
    pub(super) volatile: Mutex<Volatile>,
    /// The latest time ahead that was warned about: every walk reads such a row again.
    ahead: AtomicI64,
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
}

/// Which value may not fit a topic that takes `max_message`: a quarter of it, as the key and the value hold the id, that of
/// `changes` twice.
pub(super) fn large_value(max_message: usize) -> usize {
    max_message / 4
}

impl Judge {
    /// Verifies and encodes; tells the next cursor as soon as it is known.
    pub(super) fn page(self, answer: &Answer, next: oneshot::Sender<Option<String>>) -> Result<Page, NoPage> {
        let body = match answer.page() {
            Ok(body) => body,
            Err(error) => return Err(PageFault::Upstream(error).into()),
        };
        let unverified = |why| Err(PageFault::Unverified(why, answer.request_id.clone()).into());
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
            let updated_at = encoded.take(json, &self.encoder)?;
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
                    (None, _) | (Some(_), Some(_)) => return Err(PageFault::PerhapsRepeated.into()),
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
            return Err(PageFault::PerhapsRepeated.into());
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
            .then(|| self.place(highest_of_walk, clock))
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
        };
        self.count(&encoded, highest, latest);
        let is_again = match self.walk {
            Walk::Live => !is_later,
            Walk::Sweep | Walk::EarlySweep => true,
            Walk::Range(_) | Walk::Reconcile(_) | Walk::Replay => false,
        };
        if matches!(self.walk, Walk::Live | Walk::Sweep) {
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
            _room: None,
            _done: None,
        })
    }

    /// Where the next live walk goes on: at the cursor of this last page, if that stands in the group of the highest
    /// `updated_at`. One that begins at that time would read the group from its first row, and otherwise no more than this page.
    /// At the walk's own clock the group may still grow in front of the cursor.
    fn place(&self, highest: Option<Timestamp>, clock: Timestamp) -> Option<Place> {
        let highest = highest.filter(|highest| *highest < clock)?;
        if self.last != Some(highest.0) {
            return None;
        }
        Some(Place {
            since: self.asked.since,
            cursor: self.asked.cursor.clone()?,
            last_id: self.last_id.clone()?,
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

impl RowEncoder {
    /// Names a member that D02 is not known to have, the first time it is seen.
    fn say_once(&self, member: &str) {
        /// A vendor adds a few in years; an upstream that invents names must not fill the memory or the log.
        const MAX_NAMES: usize = 200;
        let names = self.noted.members.lock();
        let mut names = names.unwrap_or_else(std::sync::PoisonError::into_inner);
        if names.len() < MAX_NAMES && !names.contains(member) {
            names.insert(member.to_owned());
            let passes = self.rules.extra.passes(member);
            let (lender, member) = (&*self.name, member.chars().take(100).collect::<String>());
            if passes {
                tracing::warn!(lender, member, "an unknown member: it is in `extra` of the accounts");
            } else {
                tracing::warn!(
                    lender,
                    member,
                    "an unknown member: avro.extra leaves it out of the accounts"
                );
            }
        }
    }

    /// Looks whether upstream changed a field for all rows; gives those for which it did.
    fn drifting(&self, unfit: &[Unfit], row_count: usize, is_again: bool) -> Vec<&'static str> {
        let now = Timestamp::from(clock::now());
        let mut drift = self
            .noted
            .drift
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        for said in drift.note(unfit, row_count as u64, is_again, now) {
            self.say(&said);
        }
        let fields = drift.fields();
        let count = i64::try_from(fields.len()).unwrap_or(i64::MAX);
        self.metrics.drifting_fields.set(count);
        fields
    }

    fn say(&self, said: &DriftNotice) {
        let lender = &*self.name;
        match *said {
            DriftNotice::Drifts {
                unfit,
                window,
                since,
                row_count,
            } => {
                let Unfit {
                    field,
                    found,
                    row_count: last,
                    ..
                } = unfit;
                let (what, advice) = if unfit.is_dead {
                    let advice = "ask the vendor what changed; the last good records of these accounts stay";
                    ("which are dead letters", advice)
                } else {
                    let advice = "ask the vendor what changed; errors.bad_field = \"dead-letter\" keeps such rows out";
                    ("in whose accounts it is null", advice)
                };
                tracing::error!(
                    lender,
                    field,
                    code = %DRIFTS,
                    advice,
                    "upstream changed `{field}`: it is {found} in {last} of the last {window} rows and does not fit; since \
                     {since} in {row_count} rows, {what}"
                );
            }
            DriftNotice::Over {
                field,
                since,
                row_count,
            } => {
                tracing::warn!(
                    lender,
                    field,
                    "`{field}` fits again; it did not in {row_count} rows since {since}"
                );
            }
        }
    }
}

/// The rows of a page as they become bytes.
#[derive(Default)]
pub(super) struct Encoded {
    pub entries: Vec<Entry>,
    pub bytes: Vec<u8>,
    scratch: Scratch,
    invalid_count: u64,
    unreal_date_count: u64,
    unknown_count: u64,
    tolerated_count: u64,
    /// Fields that did not fit, each once.
    unfit: Vec<Unfit>,
}

impl Encoded {
    /// Takes one row; gives its `updated_at`, if it has a usable one.
    pub(super) fn take(&mut self, json: &RawValue, how: &RowEncoder) -> Result<Option<i64>, EncodeError> {
        match account::read_row(json, &how.lender, &how.rules, &mut self.scratch) {
            Ok(row) => {
                let public_id = self.put(row.account.public_id.as_bytes());
                let start = self.bytes.len();
                how.encoder.encode(&row.account, &mut self.bytes)?;
                let value = self.span_from(start);
                let is_large = self.bytes.len() - start > how.large_value;
                row.invalid.iter().for_each(|field| self.note(field, false, json));
                let json = is_large.then(|| self.put(json.get().as_bytes()));
                self.tolerated_count += u64::from(row.tolerated_count);
                self.invalid_count += row.invalid.len() as u64;
                self.unreal_date_count += u64::from(row.unreal_date_count);
                self.unknown_count += row.unknown.len() as u64;
                row.unknown.iter().for_each(|name| how.say_once(name));
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
                if let Some(field) = rejected.reason.unfit_field() {
                    self.note(field, true, json);
                }
                let json = self.put(json.get().as_bytes());
                let updated_at = rejected.updated_at;
                self.entries.push(Entry::DeadLetter(DeadRow { json, rejected, digest }));
                Ok(updated_at)
            }
        }
    }

    /// The `public_id` of the last row, where it has one and a time: of no more bytes than any `_id`, as it stands in the cursor
    /// record.
    fn last_id(&self) -> Option<&str> {
        const LONGEST: usize = 128;
        let id = match self.entries.last()? {
            Entry::Account(row) => {
                let Span { start, end } = row.public_id;
                std::str::from_utf8(&self.bytes[start as usize..end as usize]).ok()
            }
            Entry::DeadLetter(dead) => dead.rejected.updated_at.and(dead.rejected.public_id.as_deref()),
        };
        id.filter(|id| id.len() <= LONGEST)
    }

    /// A field that does not fit; only the first of a page is looked at.
    fn note(&mut self, field: &'static str, is_dead: bool, json: &RawValue) {
        match self.unfit.iter_mut().find(|unfit| unfit.field == field) {
            Some(unfit) => unfit.row_count += 1,
            None => self.unfit.push(Unfit {
                field,
                is_dead,
                row_count: 1,
                found: JsonType::of(json, field),
            }),
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

/// Why a try brought no page.
pub(super) enum PageFault {
    Upstream(UpstreamError),
    Unverified(Unverified, RequestId),
    /// The first page under a cursor of an earlier process may be the one before it: only that process could tell.
    PerhapsRepeated,
}

/// What there is instead of a page.
pub(super) enum NoPage {
    /// It is asked for again.
    Fault(PageFault),
    /// The reader ends.
    Exit(ReaderExit),
}

impl From<PageFault> for NoPage {
    fn from(fault: PageFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<EncodeError> for NoPage {
    fn from(error: EncodeError) -> Self {
        Self::Exit(error.into())
    }
}
