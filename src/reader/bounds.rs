//! Which part of the time does a walk ask for? All that is left, or less where upstream does not manage it at once. Pure.

use crate::progress::Timestamp;

/// A query that takes upstream too long asks for so much less of the time, down to a second, in milliseconds.
const NARROWER: i64 = 4;
const NARROWEST: i64 = 1_000;

/// Nothing is older: where to look for the middle of a range that begins with the oldest row, in milliseconds.
const OLDEST: i64 = 10 * 365 * 86_400_000;

#[derive(Debug)]
pub(super) struct TimeBounds {
    /// As asked for.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// Where the walk ends: a range at its `stop`, a sweep at its mark; a live one reads up to now.
    pub end: Option<Timestamp>,
    /// How much of the time is asked for at once, in milliseconds, where upstream does not manage all of it.
    span: Option<i64>,
}

impl TimeBounds {
    pub(super) fn new(since: Option<Timestamp>, until: Option<Timestamp>, end: Option<Timestamp>) -> Self {
        Self {
            since,
            until,
            end,
            span: None,
        }
    }

    /// Whether less of the time can be asked for.
    pub(super) fn can_narrow(&self) -> bool {
        self.span.is_none_or(|span| span > NARROWEST)
    }

    /// Asks for less of the time.
    pub(super) fn narrow(&mut self, clock: Timestamp) {
        let (from, to) = self.left(clock);
        let span = self.span.unwrap_or(to - from) / NARROWER;
        self.span = Some(span.max(NARROWEST));
        self.ask_for_span(clock);
    }

    /// Asks from `since` on.
    pub(super) fn begin_at(&mut self, since: Option<Timestamp>, clock: Timestamp) {
        self.since = since;
        self.ask_for_span(clock);
    }

    /// The part that was asked for is read: on behind it, with twice the time.
    pub(super) fn go_on_behind(&mut self, clock: Timestamp) {
        self.span = self.span.map(|span| span.saturating_mul(2));
        self.ask_for_span(clock);
    }

    /// From where to where there is something to read, in milliseconds.
    fn left(&self, clock: Timestamp) -> (i64, i64) {
        let to = self.end.unwrap_or(clock);
        (self.since.map_or(to.0 - OLDEST, |since| since.0), to.0)
    }

    /// Asks for the span, or for all that is left, if that is less.
    fn ask_for_span(&mut self, clock: Timestamp) {
        let (from, to) = self.left(clock);
        self.span = self.span.filter(|span| *span < to - from);
        self.until = self.span.map(|span| Timestamp(from + span)).or(self.end);
    }
}
