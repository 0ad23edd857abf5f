//! Which range is read by whom? The snapshot, shared out over a few walks so that each of them has something to read.
//!
//! A walk that has nothing to read waits; the next walk that comes to the end of a page then gives away the later half of
//! the largest part it can: its own, or one that nobody reads yet. Nobody but the walk that reads a range may shorten it,
//! for only that walk knows how far it has come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::room::RecordRoom;
use crate::progress::{Range, Split, Timestamp};

/// Nothing is split below this, in milliseconds: requests for less cost more than they bring.
const SMALLEST: i64 = 1_000;

#[derive(Debug)]
pub(super) struct Shares {
    state: Mutex<Shared>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Shared {
    /// More may come: a walk that finds nothing waits.
    is_open: bool,
    /// Nobody reads these yet.
    pending: Vec<Range>,
    running: Vec<RangePart>,
    /// Walks that wait for something to read.
    idle_count: usize,
    /// Of the record in which they stand; those of a reconciliation stand in none.
    room: Option<Arc<RecordRoom>>,
}

/// What is left of a range that is being read.
#[derive(Debug, Clone, Copy)]
struct RangePart {
    stop: Timestamp,
    /// Unknown before the first page of a range that begins with the oldest row.
    position: Option<Timestamp>,
    /// Its last request brought no page: nobody should wait for it to split.
    is_paused: bool,
}

impl RangePart {
    fn size(&self) -> i64 {
        self.position.map_or(0, |position| self.stop.0 - position.0)
    }
}

/// The middle of `[position, stop)`, if both halves are large enough.
fn middle(position: Timestamp, stop: Timestamp) -> Option<Timestamp> {
    let half = (stop.0 - position.0) / 2;
    (half >= SMALLEST).then(|| Timestamp(position.0 + half))
}

impl Shares {
    pub(super) fn new(ranges: Vec<Range>) -> Self {
        let state = Shared {
            pending: ranges,
            ..Shared::default()
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    /// None yet; they are added.
    pub(super) fn open(room: Arc<RecordRoom>) -> Self {
        let shares = Self::new(Vec::new());
        let mut state = shares.state();
        (state.is_open, state.room) = (true, Some(room));
        drop(state);
        shares
    }

    pub(super) fn add(&self, ranges: impl IntoIterator<Item = Range>) {
        self.state().pending.extend(ranges);
        self.changed.notify_waiters();
    }

    /// Whether nothing is left.
    pub(super) fn are_read(&self) -> bool {
        let state = self.state();
        state.pending.is_empty() && state.running.is_empty()
    }

    /// Returns once nothing is left.
    pub(super) async fn all_read(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.are_read() {
                return;
            }
            changed.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, Shared> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next range to read, once there is one; `None` when everything is read.
    pub(super) async fn next(&self) -> Option<Range> {
        loop {
            // Before looking, so that what changes in between is not missed.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                if let Some(range) = state.take_largest() {
                    return Some(range);
                }
                if state.running.is_empty() && !state.is_open {
                    return None;
                }
                state.idle_count += 1;
            }
            changed.await;
            self.state().idle_count -= 1;
        }
    }

    /// Notes how far the range that ends at `stop` is read, and gives away what idle walks can take.
    ///
    /// Each split is told before anybody can take the range that it makes: its pages come behind it. Gives the `stop` of
    /// the range from now on.
    pub(super) fn split(&self, stop: Timestamp, position: Option<Timestamp>, mut tell: impl FnMut(Split)) -> Timestamp {
        let mut state = self.state();
        let splits = state.split(stop, position);
        splits.iter().for_each(|split| tell(*split));
        drop(state);
        if !splits.is_empty() {
            self.changed.notify_waiters();
        }
        splits
            .iter()
            .fold(stop, |stop, split| if split.stop == stop { split.at } else { stop })
    }

    /// The range that ends at `stop` does not get on at the moment.
    pub(super) fn paused(&self, stop: Timestamp) {
        self.state().of(stop).is_paused = true;
    }

    /// The range that ends at `stop` is read.
    pub(super) fn ended(&self, stop: Timestamp) {
        self.state().running.retain(|part| part.stop != stop);
        self.changed.notify_waiters();
    }
}

impl Shared {
    /// Whether one more range can be.
    fn has_room(&self) -> bool {
        let count = self.pending.len() + self.running.len();
        self.room.as_ref().is_none_or(|room| room.takes_more_than(count))
    }

    fn of(&mut self, stop: Timestamp) -> &mut RangePart {
        let part = self.running.iter_mut().find(|part| part.stop == stop);
        part.expect("a range that is read is among the running ones")
    }

    fn take_largest(&mut self) -> Option<Range> {
        let size = |range: &Range| range.position().map_or(i64::MAX, |position| range.stop.0 - position.0);
        let (place, _) = self.pending.iter().enumerate().max_by_key(|(_, range)| size(range))?;
        let range = self.pending.swap_remove(place);
        self.running.push(RangePart {
            stop: range.stop,
            position: range.position(),
            is_paused: false,
        });
        Some(range)
    }

    fn split(&mut self, mut stop: Timestamp, position: Option<Timestamp>) -> Vec<Split> {
        let part = self.of(stop);
        (part.position, part.is_paused) = (position, false);
        let mut splits = Vec::new();
        let Some(position) = position else { return splits };
        while self.pending.len() < self.idle_count && self.has_room() {
            let others = self.running.iter().filter(|part| part.stop != stop && !part.is_paused);
            let largest_other = others.map(RangePart::size).max().unwrap_or(0);
            // A range that was begun before is split by who reads it, for only its cursor knows where it stands.
            let fresh = self
                .pending
                .iter()
                .enumerate()
                .filter(|(_, range)| range.cursor.is_none());
            let fresh = fresh.filter_map(|(place, range)| Some((place, range.position()?, range.stop)));
            let largest = fresh.max_by_key(|(_, position, stop)| stop.0 - position.0);
            let own = stop.0 - position.0;
            match largest {
                Some((place, from, until)) if until.0 - from.0 > own => {
                    let Some(at) = middle(from, until).filter(|_| until.0 - from.0 >= largest_other) else {
                        break;
                    };
                    splits.push(Split { stop: until, at });
                    let pending = &mut self.pending[place];
                    (pending.stop, pending.until) = (at, Some(at));
                    self.pending.push(Range::fresh(at, until));
                }
                _ => {
                    // The others have come further since they told: waiting for exactly the largest, each of several that are alike
                    // would leave the splitting to the next one.
                    let is_large = own >= largest_other / 2;
                    let Some(at) = middle(position, stop).filter(|_| is_large) else {
                        break;
                    };
                    splits.push(Split { stop, at });
                    self.pending.push(Range::fresh(at, stop));
                    self.of(stop).stop = at;
                    stop = at;
                }
            }
        }
        splits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn at(hours: i64) -> Timestamp {
        Timestamp(hours * HOUR)
    }

    /// One range that is read, and so many walks that wait.
    fn shared(idle_count: usize) -> Shares {
        let shares = Shares::new(vec![Range {
            since: None,
            until: Some(at(64)),
            stop: at(64),
            cursor: None,
            highest: None,
            last_id: None,
        }]);
        let mut state = shares.state();
        state.take_largest().expect("the range");
        state.idle_count = idle_count;
        drop(state);
        shares
    }

    /// The splits that a page brings, in hours.
    fn split(shares: &Shares, stop: i64, position: Option<Timestamp>) -> Vec<(i64, i64)> {
        let mut splits = Vec::new();
        shares.split(at(stop), position, |split| {
            splits.push((split.stop.0 / HOUR, split.at.0 / HOUR))
        });
        splits
    }

    #[test]
    fn the_first_page_shares_the_rest_out_by_halves() {
        let shares = shared(3);
        assert_eq!(split(&shares, 64, None), [], "the beginning is not known yet");
        assert_eq!(split(&shares, 64, Some(at(0))), [(64, 32), (32, 16), (64, 48)]);
        let mut stops: Vec<_> = shares
            .state()
            .pending
            .iter()
            .map(|range| (range.since, range.stop))
            .collect();
        stops.sort_unstable();
        assert_eq!(
            stops,
            [(Some(at(16)), at(32)), (Some(at(32)), at(48)), (Some(at(48)), at(64))]
        );
        assert_eq!(split(&shares, 16, Some(at(1))), [], "everybody has something to read");
    }

    #[test]
    fn a_small_range_leaves_the_splitting_to_a_larger_one_unless_that_gets_nowhere() {
        let shares = shared(1);
        split(&shares, 64, Some(at(0)));
        let large = shares.state().take_largest().expect("the later half");
        assert_eq!((large.since, large.stop), (Some(at(32)), at(64)));
        // The walk that took it is no longer idle; another one is.
        assert_eq!(split(&shares, 32, Some(at(20))), []);
        shares.paused(at(64));
        assert_eq!(split(&shares, 32, Some(at(20))).len(), 1);
    }

    #[test]
    fn nothing_is_split_that_the_record_has_no_room_for() {
        let shares = shared(7);
        let room = Arc::new(RecordRoom::new("acme", 14_000, 0));
        shares.state().room = Some(Arc::clone(&room));
        room.note(&"x".repeat(4_096));
        assert_eq!(split(&shares, 64, Some(at(0))).len(), 0, "one range has room");
        shares.state().room = Some(Arc::new(RecordRoom::new("acme", 4_200, 0)));
        assert_eq!(split(&shares, 64, Some(at(0))).len(), 3, "four have, without cursors");
        shares.state().room = None;
        assert_eq!(split(&shares, 16, Some(at(1))).len(), 4);
    }

    #[test]
    fn nothing_is_split_below_a_second() {
        let shares = shared(1);
        let near = Timestamp(at(64).0 - 2 * SMALLEST + 1);
        assert_eq!(split(&shares, 64, Some(near)), []);
        let far = Timestamp(near.0 - 1);
        assert_eq!(split(&shares, 64, Some(far)).len(), 1);
    }

    #[tokio::test]
    async fn a_walk_waits_for_a_share_and_ends_when_nothing_is_left() {
        let shares = std::sync::Arc::new(shared(0));
        let waiting = std::sync::Arc::clone(&shares);
        let waiting = tokio::spawn(async move { (waiting.next().await, waiting.next().await) });
        while shares.state().idle_count == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(split(&shares, 64, Some(at(0))).len(), 1);
        while shares.state().running.len() < 2 || shares.state().idle_count == 0 {
            tokio::task::yield_now().await;
        }
        shares.ended(at(32));
        shares.ended(at(64));
        let (first, second) = waiting.await.expect("no panic");
        assert_eq!((first.map(|range| range.stop), second), (Some(at(64)), None));
    }
}
