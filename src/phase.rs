//! When within an interval is it a lender's turn? What all lenders of a process do again and again is spread over the interval, so
//! that a common start, or a common wait for upstream or Kafka, does not leave them in step.
//!
//! The moments follow from the place of the lender in the configuration: neighbours are equally far apart, whatever their names, and
//! a lender that stopped comes back into its own place.

use std::time::Duration;

use tokio::time::Instant;

/// A lender's moments, one in each interval.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Phase {
    /// The same for all that are to be kept apart.
    origin: Instant,
    /// How far into an interval, as a share of it.
    share: f64,
}

impl Phase {
    /// That of the lender in `place` of `count`, all of which count from `origin`.
    pub(crate) fn of(origin: Instant, place: usize, count: usize) -> Self {
        let share = place as f64 / count.max(1) as f64;
        Self { origin, share }
    }

    /// Of one that is kept apart from nobody.
    pub(crate) fn alone() -> Self {
        Self::of(Instant::now(), 0, 1)
    }

    /// When to do again what was done at `since`: at the next moment of the lender, which is never later than an interval on. Where
    /// that is less than a quarter of the interval away, half an interval later.
    pub(crate) fn next(&self, since: Instant, interval: Duration) -> Instant {
        let elapsed = since.saturating_duration_since(self.origin).as_nanos();
        let whole = interval.as_nanos().max(1);
        let moment = interval.mul_f64(self.share).as_nanos();
        let left = whole - (elapsed + whole - moment % whole) % whole;
        let left = if left < whole / 4 { left + whole / 2 } else { left };
        since + Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX)).min(interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(5);

    fn fifty() -> impl Iterator<Item = Phase> {
        let origin = Instant::now();
        (0..50).map(move |place| Phase::of(origin, place, 50))
    }

    /// How many of `moments` are in each fiftieth of an interval, counted from `begin`.
    fn spread(moments: impl Iterator<Item = Instant>, begin: Instant) -> Vec<usize> {
        let mut counts = vec![0; 50];
        for moment in moments {
            let into = (moment - begin).as_nanos() % INTERVAL.as_nanos();
            counts[usize::try_from(into * 50 / INTERVAL.as_nanos()).expect("small")] += 1;
        }
        counts
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_common_start_fifty_lenders_are_each_in_a_fiftieth_of_the_interval_of_their_own() {
        let phases: Vec<Phase> = fifty().collect();
        // Whenever they start, or had to wait for something together.
        for waited in [0, 1, 3_333, 86_400_001] {
            tokio::time::advance(Duration::from_millis(waited)).await;
            let begin = Instant::now();
            let second = phases.iter().map(|phase| phase.next(begin, INTERVAL));
            let third = phases
                .iter()
                .map(|phase| phase.next(phase.next(begin, INTERVAL), INTERVAL));
            let counts = spread(third, phases[0].origin);
            assert!(counts.iter().all(|count| *count == 1), "{waited}: {counts:?}");
            // The very next ones are already apart: at most two in a fiftieth.
            let counts = spread(second, phases[0].origin);
            assert!(counts.iter().all(|count| *count <= 2), "{waited}: {counts:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_done_later_than_the_interval_or_sooner_than_a_quarter_of_it() {
        for phase in fifty() {
            let mut at = Instant::now();
            for step in 0..200 {
                let next = phase.next(at, INTERVAL);
                let wait = next - at;
                assert!(wait <= INTERVAL && wait >= INTERVAL / 4, "{phase:?}, {step}: {wait:?}");
                // Woken a little late, or held up.
                at = next + Duration::from_millis(step * 37 % 6_000);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_a_little_late_keeps_its_moments_and_one_alone_has_the_whole_interval() {
        for phase in fifty().chain([Phase::alone()]) {
            let mut at = phase.next(phase.next(Instant::now(), INTERVAL), INTERVAL);
            for _ in 0..100 {
                let next = phase.next(at + Duration::from_millis(3), INTERVAL);
                assert_eq!(next - at, INTERVAL, "{phase:?}");
                at = next;
            }
        }
        let alone = Phase::alone();
        assert_eq!(alone.next(Instant::now(), INTERVAL), Instant::now() + INTERVAL);
        assert_eq!(alone.next(Instant::now(), Duration::ZERO), Instant::now());
    }
}
