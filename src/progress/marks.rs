//! What is read, what is left? The marks of one lender and its ranges, and how a page advances them.

use std::time::Duration;

use super::range::{Place, Range, Split};
use super::timestamp::Timestamp;
use super::walk::{Backlog, Step, Walk};
use crate::failpoint::{self, Rule};

/// `settled` goes back only where a clock was put right, not for what makes any clock of an answer early: `Date` is cut to
/// the second, and the request took its time, which `upstream.request_timeout` bounds (a minute).
const CLOCK_TOLERANCE: Duration = Duration::from_secs(120);

/// Ranges and marks; none of them before the first snapshot began.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Progress {
    /// T0: what is older is snapshot, what is younger is live.
    pub first_snapshot_at: Option<Timestamp>,
    /// The `since` of the next live walk.
    pub read: Option<Timestamp>,
    /// Where that walk goes on instead, inside the group of rows at `read`.
    pub place: Option<Place>,
    /// Below this nothing is expected any more.
    pub settled: Option<Timestamp>,
    /// When everything was last read once more and put right.
    pub reconciled: Option<Timestamp>,
    /// Rows that were older when the snapshot began are not read. `None` where there was no such bound, or none was noted.
    pub start_from: Option<Timestamp>,
    pub ranges: Vec<Range>,
}

impl Progress {
    /// Begins the first snapshot at `t0`, upstream's clock; it leaves out what is older than `start_from`.
    pub(crate) fn begin(t0: Timestamp, late_window: Duration, start_from: Option<Timestamp>) -> Self {
        let start_from = start_from.map(|start_from| start_from.min(t0));
        Self {
            first_snapshot_at: Some(t0),
            read: Some(t0),
            place: None,
            settled: Some(t0.before(late_window)),
            reconciled: None,
            start_from,
            ranges: vec![Range {
                since: start_from,
                until: Some(t0),
                stop: t0,
                cursor: None,
                highest: None,
                last_id: None,
            }],
        }
    }

    /// Moves on by one verified page.
    ///
    /// `read` never passes the clock of the walk's first answer: a row dated ahead of it is read again by the next walk,
    /// and nothing that appears below such a row is missed. `settled` never passes what a sweep itself read, nor what may
    /// still have become visible after its first answer (Complete); it goes back where a live walk's clock does.
    pub(crate) fn advance(&mut self, step: &Step, late_window: Duration) {
        match step.walk {
            Walk::Range(stop) => {
                let place = self.ranges.iter().position(|range| range.stop == stop);
                let place = place.expect("a range is there until its last page");
                if step.is_last {
                    self.ranges.remove(place);
                    return;
                }
                let range = &mut self.ranges[place];
                range.since = step.since;
                range.until = step.until;
                range.cursor.clone_from(&step.next_cursor);
                range.highest = step.highest.or(range.highest);
                range.last_id.clone_from(&step.last_id);
            }
            Walk::Live => {
                if let Some(backlog) = step.backlog {
                    self.give_up_live_walk(step, backlog, late_window);
                } else if step.is_last {
                    let highest = step.highest.map(|highest| highest.min(step.clock));
                    self.read = self.read.max(highest);
                    self.place.clone_from(&step.place);
                }
                if step.is_last {
                    self.settled = Self::justified(self.settled, step.answer_clock, late_window);
                }
            }
            // `settled` may have gone back since it began.
            Walk::Sweep if step.is_last && step.from <= self.settled => {
                let expected_from = step.clock.before(late_window);
                let read = step.until.map(|until| until.min(expected_from));
                self.settled = self
                    .settled
                    .max(read.map(|read| step.left.map_or(read, |left| left.min(read))));
            }
            Walk::EarlySweep if step.is_last && failpoint::is_broken(Rule::EarlySweepMovesNoMark) => {
                self.settled = self.settled.max(step.until);
            }
            Walk::Sweep | Walk::EarlySweep | Walk::Reconcile(_) | Walk::Replay => {}
        }
    }

    /// Makes a range of what a live walk has left: [its page, `stop`) under its cursor; live goes on at `stop` (Complete).
    ///
    /// - A walk that met its own clock may have passed rows that were written since: its range begins at the clock.
    /// - What sweeps would have to read becomes a range, too, where that overlaps no other one. Everything below is read after
    ///   the walk's first answer then, so what was due by that is settled, but for what the walk left undecided.
    fn give_up_live_walk(&mut self, step: &Step, backlog: Backlog, late_window: Duration) {
        let Backlog { stop, settles } = backlog;
        let read = self.read.unwrap_or(stop);
        if settles {
            let behind_read = Timestamp(read.0 + 1);
            let swept = self.settled.filter(|settled| *settled < behind_read);
            self.ranges
                .extend(swept.map(|settled| Range::fresh(settled, behind_read)));
            let due = if failpoint::is_broken(Rule::BacklogSettlesByItsWalk) {
                stop
            } else {
                step.clock.before(late_window)
            };
            let settled = step.left.map_or(due, |left| left.min(due));
            self.settled = self.settled.max(Some(settled));
        }
        let rest = if step.highest >= Some(step.clock) {
            Range::fresh(step.clock.max(read), stop)
        } else if failpoint::is_broken(Rule::BacklogKeepsItsPlace) {
            Range::fresh(Timestamp(step.highest.map_or(0, |highest| highest.0 + 1)), stop)
        } else {
            Range {
                since: step.since,
                until: step.until,
                stop,
                cursor: step.next_cursor.clone(),
                highest: step.highest,
                last_id: step.last_id.clone(),
            }
        };
        self.ranges.push(rest);
        (self.read, self.place) = (Some(stop), None);
    }

    /// Where a range ends beyond `settled`, sweeps have its work to do once more.
    pub(crate) fn has_ranges_beyond_settled(&self) -> bool {
        self.ranges.iter().any(|range| Some(range.stop) > self.settled)
    }

    /// `settled` as far as the clock of a later walk bears it out. One that lies further back says that the clock before was
    /// ahead, and was put right: rows between both may be where nobody looks any more, so they are swept again (Complete).
    pub(crate) fn justified(settled: Option<Timestamp>, clock: Timestamp, late_window: Duration) -> Option<Timestamp> {
        let expected_from = clock.before(late_window);
        settled.map(|settled| {
            let is_early = expected_from < settled.before(CLOCK_TOLERANCE);
            if is_early { expected_from } else { settled }
        })
    }

    /// Has everything from `to` on read again up to `read`: one range, in place of those that end after `to`. What they have
    /// left is part of it (Complete). `false`, and nothing is changed, where `to` is not before `read`.
    pub(crate) fn rewind(&mut self, to: Timestamp) -> bool {
        let Some(read) = self.read.filter(|read| to < *read) else {
            return false;
        };
        let replaced = || self.ranges.iter().filter(|range| range.stop > to);
        let since = replaced().map(Range::position).fold(Some(to), Option::min);
        // A backlog may hold the rows at `read`, too.
        let stop = replaced().map(|range| range.stop).fold(read, Timestamp::max);
        self.ranges.retain(|range| range.stop <= to);
        // The rows at `read` in front of it are read again, too.
        self.place = None;
        self.ranges.push(Range {
            since,
            until: Some(stop),
            stop,
            cursor: None,
            highest: None,
            last_id: None,
        });
        true
    }

    /// Makes two ranges of one. It keeps its bounds and its cursor and ends at its first row at or after `at`, so nothing
    /// below `at` is left out; the new one reads everything from `at` on, so nothing above is (Complete).
    pub(crate) fn split(&mut self, split: Split) {
        let range = self.ranges.iter_mut().find(|range| range.stop == split.stop);
        let range = range.expect("a range is there until its last page");
        debug_assert!(
            range.highest.or(range.since).is_none_or(|position| position < split.at) && split.at < split.stop
        );
        range.stop = split.at;
        self.ranges.push(Range::fresh(split.at, split.stop));
        self.ranges.sort_by_key(|range| range.stop);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::record::Record;
    use super::*;

    const WINDOW: Duration = Duration::from_millis(100);

    fn begin(t0: i64) -> Progress {
        Progress::begin(Timestamp(t0), WINDOW, None)
    }

    fn step(walk: Walk, highest: i64, clock: i64, is_last: bool) -> Step {
        let next_cursor = (!is_last).then(|| "next".to_owned());
        let (highest, clock) = (Some(Timestamp(highest)), Timestamp(clock));
        Step {
            walk,
            from: None,
            since: None,
            until: Some(Timestamp(500)),
            next_cursor,
            last_id: None,
            highest,
            clock,
            answer_clock: clock,
            left: None,
            place: None,
            backlog: None,
            is_further: true,
            is_last,
        }
    }

    #[test]
    fn a_range_moves_by_its_pages_and_goes_with_its_last() {
        let mut progress = begin(500);
        let walk = Walk::Range(Timestamp(500));
        assert_eq!(progress.settled, Some(Timestamp(400)));
        progress.advance(&step(walk, 30, 900, false), WINDOW);
        assert_eq!(progress.ranges[0].cursor.as_deref(), Some("next"));
        assert_eq!(progress.ranges[0].highest, Some(Timestamp(30)));
        progress.advance(&step(walk, 40, 900, true), WINDOW);
        assert!(progress.ranges.is_empty());
        assert_eq!(progress.read, Some(Timestamp(500)));
    }

    #[test]
    fn a_snapshot_begins_at_start_from_and_never_after_its_end() {
        let since = |start_from| {
            let progress = Progress::begin(Timestamp(500), WINDOW, Some(Timestamp(start_from)));
            progress.ranges[0].since
        };
        assert_eq!((since(30), since(900)), (Some(Timestamp(30)), Some(Timestamp(500))));
    }

    #[test]
    fn a_rewind_keeps_what_is_left_and_never_goes_forward() {
        let mut progress = begin(500);
        let untouched = progress.clone();
        assert!(!progress.rewind(Timestamp(500)) && !Progress::default().rewind(Timestamp(1)));
        assert_eq!(progress, untouched);
        progress.split(Split {
            stop: Timestamp(500),
            at: Timestamp(200),
        });
        progress.advance(&step(Walk::Range(Timestamp(200)), 150, 900, false), WINDOW);
        progress.advance(&step(Walk::Live, 700, 900, true), WINDOW);
        // Behind the first range, before the second: that one is left as it was, with what came since.
        assert!(progress.rewind(Timestamp(300)));
        let spans: Vec<_> = progress
            .ranges
            .iter()
            .map(|range| (range.position(), range.stop.0))
            .collect();
        assert_eq!(spans, [(Some(Timestamp(150)), 200), (Some(Timestamp(200)), 700)]);
        // Within the first.
        assert!(progress.rewind(Timestamp(160)));
        assert_eq!(progress.ranges, [Range::fresh(Timestamp(150), Timestamp(700))]);
        assert_eq!(
            (progress.read, progress.settled),
            (Some(Timestamp(700)), Some(Timestamp(400)))
        );
        progress.place = Some(Place {
            since: None,
            cursor: "inside the group at `read`".to_owned(),
            last_id: "a".into(),
            row_count: 1,
        });
        assert!(progress.rewind(Timestamp(0)));
        assert_eq!(progress.place, None);
        assert_eq!(progress.ranges, [Range::fresh(Timestamp(0), Timestamp(700))]);
    }

    #[test]
    fn read_never_passes_the_clock_of_the_walk_and_never_goes_back() {
        let mut progress = begin(500);
        for (highest, clock, is_last, expected) in [
            (700, 900, false, 500),
            (700, 900, true, 700),
            (999, 900, true, 900),
            (600, 950, true, 900),
        ] {
            progress.advance(&step(Walk::Live, highest, clock, is_last), WINDOW);
            assert_eq!(
                progress.read,
                Some(Timestamp(expected)),
                "highest {highest}, clock {clock}"
            );
        }
        let empty = Step {
            highest: None,
            ..step(Walk::Live, 0, 990, true)
        };
        progress.advance(&empty, WINDOW);
        assert_eq!(progress.read, Some(Timestamp(900)));
    }

    #[test]
    fn settled_passes_neither_the_sweeps_end_nor_its_clock_nor_what_it_left_and_never_goes_back() {
        let mut progress = begin(500);
        for (until, clock, left, is_last, expected) in [
            (450, 900, None, false, 400),
            (450, 900, None, true, 450),
            (800, 900, Some(460), true, 460),
            (950, 900, None, true, 800),
            (950, 900, Some(850), true, 800),
            (700, 900, None, true, 800),
        ] {
            let step = Step {
                until: Some(Timestamp(until)),
                left: left.map(Timestamp),
                ..step(Walk::Sweep, 0, clock, is_last)
            };
            progress.advance(&step, WINDOW);
            assert_eq!(progress.settled, Some(Timestamp(expected)), "{step:?}");
        }
        assert_eq!(progress.read, Some(Timestamp(500)));
    }

    #[test]
    fn settled_goes_back_where_the_clock_was_put_right_and_not_for_a_slow_answer() {
        let (hour, minute) = (3_600_000, 60_000);
        let mut progress = begin(hour);
        progress.advance(&step(Walk::Live, 0, hour - minute, true), WINDOW);
        assert_eq!(progress.settled, Some(Timestamp(hour - 100)));
        progress.advance(&step(Walk::Live, 0, hour - minute - 1, false), WINDOW);
        assert_eq!(progress.settled, Some(Timestamp(hour - 100)), "it is not over");
        progress.advance(&step(Walk::Live, 0, 5_000, true), WINDOW);
        assert_eq!(progress.settled, Some(Timestamp(4_900)));
        assert_eq!(progress.read, Some(Timestamp(hour)), "a sweep reads up to there");
        let sweep = Step {
            until: Some(Timestamp(hour)),
            ..step(Walk::Sweep, 0, 9_000, true)
        };
        progress.advance(&sweep, WINDOW);
        assert_eq!(progress.settled, Some(Timestamp(8_900)));
    }

    /// What can happen to the ranges: one is split at a share of what is left of it, or moves on by such a share, or ends.
    #[derive(Debug, Clone)]
    enum Event {
        Split(prop::sample::Index, f64),
        Page(prop::sample::Index, f64),
        Last(prop::sample::Index),
        Rewind(f64),
    }

    fn event() -> impl Strategy<Value = Event> {
        let (range, share) = (any::<prop::sample::Index>(), 0.0..1.0);
        prop_oneof![
            (range, share.clone()).prop_map(|(range, share)| Event::Split(range, share)),
            (any::<prop::sample::Index>(), share).prop_map(|(range, share)| Event::Page(range, share)),
            any::<prop::sample::Index>().prop_map(Event::Last),
            (0.0..1.0).prop_map(Event::Rewind),
        ]
    }

    proptest! {
        #[test]
        fn splitting_advancing_and_reading_back_never_lose_or_overlap_a_part_of_time(
            events in prop::collection::vec(event(), 0..60)
        ) {
            const T0: i64 = 1_000_000;
            let mut progress = Progress::begin(Timestamp(T0), WINDOW, Some(Timestamp(0)));
            // What was read, as spans of time.
            let mut read: Vec<(i64, i64)> = Vec::new();
            for event in events {
                if let Event::Rewind(share) = event {
                    let to = (T0 as f64 * share) as i64;
                    prop_assert!(progress.rewind(Timestamp(to)));
                    // Read as it may be, from there on nothing is.
                    for (_, end) in &mut read {
                        *end = (*end).min(to);
                    }
                    read.retain(|(from, end)| from <= end);
                    let left = progress.ranges.last().expect("one");
                    prop_assert!(left.position().expect("it begins somewhere").0 <= to && left.stop.0 == T0);
                    continue;
                }
                if progress.ranges.is_empty() {
                    break;
                }
                let (Event::Split(range, _) | Event::Page(range, _) | Event::Last(range)) = &event else {
                    unreachable!("a rewind is handled above");
                };
                let range = progress.ranges[range.index(progress.ranges.len())].clone();
                let position = range.position().expect("it begins somewhere").0;
                let part = |share: f64| position + ((range.stop.0 - position) as f64 * share) as i64;
                match event {
                    Event::Split(_, share) => {
                        let at = part(share);
                        if position < at && at < range.stop.0 {
                            progress.split(Split { stop: range.stop, at: Timestamp(at) });
                        }
                    }
                    Event::Page(_, share) => {
                        let highest = part(share).min(range.stop.0 - 1);
                        read.push((position, highest));
                        let step = Step { since: range.since, until: range.until, ..step(Walk::Range(range.stop), highest, T0, false) };
                        progress.advance(&step, WINDOW);
                    }
                    Event::Last(_) | Event::Rewind(_) => {
                        read.push((position, range.stop.0));
                        progress.advance(&step(Walk::Range(range.stop), range.stop.0 - 1, T0, true), WINDOW);
                    }
                }
                let record = Record {
                    instance: None, epoch: 1, sequence: 1, base_url: String::new(), progress: progress.clone(),
                    accounts: None, partitions: String::new(), ends: Default::default(), group: None,
                };
                progress = Record::from_json(record.to_json().as_bytes()).expect("readable").progress;
                // What is read and what is left, one after another, are all of the time, none of it left twice.
                let mut left: Vec<_> = progress.ranges.iter()
                    .map(|range| (range.position().expect("it begins somewhere").0, range.stop.0))
                    .collect();
                left.sort_unstable();
                prop_assert!(left.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{:?}", left);
                let mut all: Vec<_> = read.iter().chain(&left).copied().collect();
                all.sort_unstable();
                let mut end = 0;
                for (from, to) in all {
                    prop_assert!(from <= end, "a gap from {end} to {from}");
                    end = end.max(to);
                }
                prop_assert_eq!(end, T0);
            }
        }
    }
}
