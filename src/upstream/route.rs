//! What of a lender's way to upstream outlasts a login? How fast it may be used, how long upstream wants to be left alone, and
//! how far the clocks at its ends differ.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::{Instant, sleep};

use super::rate::{Rate, Turn};
use crate::clock::Ticks;
use crate::clock::{self, NOTABLE_SKEW};
use crate::config;
use crate::exit::ErrorCode;
use crate::metrics::LenderMetrics;
use crate::phase::Phase;

/// An answer that took longer says little about the clock: half of that is how wrong it can be.
const MAX_DURATION: Duration = Duration::from_secs(5);

/// A skew that was warned about is news again when it has moved by more, in seconds.
const MOVED: f64 = 60.0;

/// Between two warnings. A clock that jumps about must not fill the log.
const PAUSE: Duration = Duration::from_secs(600);

/// The code of clocks that differ by so much that it is warned about.
const CLOCKS_DIFFER: ErrorCode = ErrorCode::U16;

/// The longest time that upstream is left alone: a typing error there must not stop a lender for a year.
const MAX_HOLD: Duration = Duration::from_secs(3600);

/// After as many requests in a row without an answer, the next one uses a new connection.
const SILENT_BEFORE_RECONNECT: u32 = 3;
/// The code of clocks that differ by more than the late window.
pub(crate) const TOO_FAR_APART: ErrorCode = ErrorCode::U25;

/// One lender's way to upstream, from one login to the next.
pub(crate) struct Route {
    /// Its key in the configuration, for the log.
    lender: String,
    /// They outlast a log-in, as what is held of the lender does.
    pub(super) ticks: Ticks,
    phase: Phase,
    rate: Option<Rate>,
    /// Nothing is sent before.
    held_until: Mutex<Option<Instant>>,
    /// Requests in a row that brought no answer.
    silent_count: AtomicU32,
    late_window: Duration,
    warned: Mutex<Warned>,
    /// Whether the clocks were last apart by more than the window.
    apart: Mutex<Apart>,
}

/// The last skew that was warned about, in seconds, and when.
#[derive(Debug, Default)]
struct Warned(Option<(f64, Instant)>);

impl Route {
    pub(crate) fn new(lender: &str, upstream: &config::Upstream, phase: Phase) -> Self {
        Self {
            lender: lender.to_owned(),
            ticks: Ticks::default(),
            phase,
            rate: upstream.max_requests_per_second.map(Rate::new),
            held_until: Mutex::default(),
            silent_count: AtomicU32::new(0),
            late_window: upstream.late_window,
            warned: Mutex::default(),
            apart: Mutex::default(),
        }
    }

    /// Waits until the next request may go out.
    pub(super) async fn turn(&self) -> Turn {
        loop {
            while let Some(wait) = self.held_for() {
                sleep(wait).await;
            }
            let turn = match &self.rate {
                Some(rate) => rate.turn().await,
                None => Turn::free(),
            };
            // A hold may have begun while this one waited: its turn is lost, so that not all who wait go out at once afterwards.
            if self.held_for().is_none() {
                return turn;
            }
        }
    }

    /// How long nothing may be sent.
    pub(crate) fn held_for(&self) -> Option<Duration> {
        let held_until = *self.held();
        held_until
            .and_then(|until| until.checked_duration_since(Instant::now()))
            .filter(|wait| !wait.is_zero())
    }

    /// From now on nothing of this lender is sent for `wait`, at most an hour, and for up to a tenth more: others that were
    /// told the same do not come at the same moment. A hold that lasts longer stays. Tells how long, if none was there before.
    pub(super) fn hold(&self, wait: Duration) -> Option<Duration> {
        let is_held = self.held_for().is_some();
        let wait = wait.min(MAX_HOLD).mul_f64(1.0 + fastrand::f64() / 10.0);
        let mut held_until = self.held();
        *held_until = held_until.max(Some(Instant::now() + wait));
        (!is_held).then_some(wait)
    }

    fn held(&self) -> MutexGuard<'_, Option<Instant>> {
        self.held_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When it is the lender's turn to do what it does again and again.
    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    pub(super) fn lender(&self) -> &str {
        &self.lender
    }

    pub(super) fn answered(&self) {
        self.silent_count.store(0, Ordering::Relaxed);
    }

    /// A request brought no answer; `true` if the next one is to use a new connection.
    pub(super) fn stayed_silent(&self) -> bool {
        let count = self.silent_count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        count.is_multiple_of(SILENT_BEFORE_RECONNECT)
    }

    /// Takes note of how upstream's clock differs from ours, by the `Date` of an answer that has just come.
    pub(super) fn compare_clocks(
        &self,
        date: DateTime<Utc>,
        sent_at: DateTime<Utc>,
        took: Duration,
        metrics: &LenderMetrics,
    ) {
        let here = clock::now();
        self.compare_to_window(date, sent_at, here, metrics);
        if took > MAX_DURATION {
            return;
        }
        let seconds = skew(date, here, took);
        metrics.upstream_clock_skew_seconds.set(seconds);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_news(seconds, Instant::now()) {
            let lender = &*self.lender;
            tracing::warn!(
                lender,
                code = %CLOCKS_DIFFER,
                advice = "let NTP set the clock of this machine, or tell the vendor if it is theirs that is wrong",
                "{}: ages shown here are wrong by that; what is read is not, its bounds come from the earlier of the two",
                shown(seconds)
            );
        }
    }
}

impl Route {
    /// Says when the clocks come apart by more than the late window, and when that is over.
    fn compare_to_window(
        &self,
        date: DateTime<Utc>,
        sent_at: DateTime<Utc>,
        here: DateTime<Utc>,
        metrics: &LenderMetrics,
    ) {
        let apart = {
            let mut apart = self.apart.lock().unwrap_or_else(PoisonError::into_inner);
            let before = *apart;
            *apart = before.after(difference(date, sent_at, here), self.late_window);
            // Each time: who stood by in between has forgotten it.
            metrics.clocks_apart.set(i64::from(apart.0));
            (before != *apart).then_some(*apart)
        };
        let Some(apart) = apart else { return };
        let (lender, late_window) = (&*self.lender, humantime::format_duration(self.late_window));
        if apart.0 {
            tracing::error!(
                lender,
                code = %TOO_FAR_APART,
                advice = "let NTP set the clock of this machine, or tell the vendor if it is theirs that is wrong",
                "upstream's Date is {}, more than upstream.late_window ({late_window}): not ready; reading goes on by the earlier of \
                 both clocks, so nothing is lost",
                compared((date - here).as_seconds_f64())
            );
        } else {
            tracing::info!(
                lender,
                "upstream's Date and this machine's clock are together again, by upstream.late_window ({late_window})"
            );
        }
    }
}

/// How far the clocks are apart at least: `Date`, cut to the second, was written between request and answer.
fn difference(date: DateTime<Utc>, sent_at: DateTime<Utc>, here: DateTime<Utc>) -> Duration {
    let (ahead, behind) = (date - here, sent_at - date - TimeDelta::seconds(1));
    ahead.max(behind).to_std().unwrap_or_default()
}

/// Whether the clocks are apart by more than the late window.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Apart(bool);

impl Apart {
    /// It is over only at half of the window, so that clocks near to it do not fill the log.
    fn after(self, difference: Duration, late_window: Duration) -> Self {
        Self(difference > if self.0 { late_window / 2 } else { late_window })
    }
}

/// Upstream's clock minus ours, in seconds. `Date` is cut to the second, and was written somewhere between request and
/// answer: the middle of both is wrong by half a second and half the request at most.
fn skew(date: DateTime<Utc>, here: DateTime<Utc>, took: Duration) -> f64 {
    (date - here).as_seconds_f64() + 0.5 + took.as_secs_f64() / 2.0
}

fn shown(seconds: f64) -> String {
    format!("upstream's clock is {}", compared(seconds))
}

fn compared(seconds: f64) -> String {
    let side = if seconds > 0.0 { "ahead of" } else { "behind" };
    format!("{:.0} s {side} this machine's", seconds.abs())
}

impl Warned {
    /// Whether this skew is worth a warning, which then counts as given.
    fn is_news(&mut self, seconds: f64, now: Instant) -> bool {
        let has_moved = match self.0 {
            None => true,
            Some((_, at)) if now - at < PAUSE => return false,
            Some((before, _)) => (seconds - before).abs() > MOVED,
        };
        let is_notable = seconds.abs() > NOTABLE_SKEW;
        if !is_notable {
            self.0 = None;
        } else if has_moved {
            self.0 = Some((seconds, now));
        }
        is_notable && has_moved
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;

    use super::*;

    fn route(set: &str) -> Route {
        let layers = config::Layers {
            set: vec![format!("upstream.{set}")],
            ..config::Layers::default()
        };
        let upstream = config::load(layers).expect("a configuration").config.upstream;
        Route::new("acme", &upstream, Phase::alone())
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_lets_nothing_pass_and_only_a_longer_one_moves_its_end() {
        let route = route("page_size=500");
        let begun = Instant::now();
        assert!(route.hold(Duration::from_secs(50)).is_some());
        assert!(route.hold(Duration::from_secs(100)).is_none(), "said once");
        assert!(route.hold(Duration::from_secs(5)).is_none());
        let _: Turn = route.turn().await;
        let passed = begun.elapsed().as_secs();
        assert!((100..=110).contains(&passed), "{passed} s");
        let begun = Instant::now();
        let _: Turn = route.turn().await;
        assert!(begun.elapsed().is_zero() && route.held_for().is_none());
        assert!(route.hold(Duration::from_secs(1 << 40)).is_some());
        let _: Turn = route.turn().await;
        let passed = begun.elapsed().as_secs();
        assert!((3_600..=3_960).contains(&passed), "{passed} s: no year");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_a_turn_when_a_hold_begins_waits_for_its_end_too_and_then_keeps_the_rate() {
        let route = Arc::new(route("max_requests_per_second=1"));
        let begun = Instant::now();
        let _: Turn = route.turn().await;
        let mut waiting = JoinSet::new();
        for _ in 0..3 {
            let route = Arc::clone(&route);
            waiting.spawn(async move {
                let _: Turn = route.turn().await;
                Instant::now()
            });
        }
        tokio::task::yield_now().await;
        route.hold(Duration::from_secs(100));
        // One that is given up takes nothing along.
        assert!(
            tokio::time::timeout(Duration::from_secs(50), route.turn())
                .await
                .is_err()
        );
        let mut at: Vec<u64> = waiting
            .join_all()
            .await
            .iter()
            .map(|at| (*at - begun).as_secs())
            .collect();
        at.sort_unstable();
        assert!(at[0] >= 100 && at[2] > at[1] && at[1] > at[0], "{at:?}");
    }

    #[test]
    fn the_third_silence_in_a_row_wants_a_new_connection() {
        let route = route("page_size=500");
        let mut wanted: Vec<bool> = (0..2).map(|_| route.stayed_silent()).collect();
        route.answered();
        wanted.extend((0..4).map(|_| route.stayed_silent()));
        assert_eq!(wanted, [false, false, false, false, true, false]);
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().expect("a time")
    }

    #[test]
    fn the_skew_is_the_difference_in_the_middle_of_second_and_request() {
        let date = at("2026-11-24T10:00:00Z");
        let cases = [
            ("2026-11-24T10:00:00.500Z", 0, 0.0),
            ("2026-11-24T10:00:01.500Z", 2_000, 0.0),
            ("2026-11-24T09:00:00.500Z", 0, 3_600.0),
            ("2026-11-24T10:01:00.500Z", 0, -60.0),
        ];
        for (here, took, expected) in cases {
            let found = skew(date, at(here), Duration::from_millis(took));
            assert!((found - expected).abs() < 1e-6, "{here}: {found}");
        }
        assert_eq!(shown(3_599.7), "upstream's clock is 3600 s ahead of this machine's");
        assert_eq!(shown(-60.0), "upstream's clock is 60 s behind this machine's");
    }

    #[test]
    fn a_skew_is_warned_about_once_and_again_when_it_has_moved() {
        let begun = Instant::now();
        let mut warned = Warned::default();
        // Minute, skew, whether it is news.
        for (minute, seconds, expected) in [
            (0, 29.0, false),
            (0, -31.0, true),
            (1, -31.0, false),
            (2, 500.0, false),
            (11, -90.0, false),
            (12, -92.0, true),
            (13, 0.0, false),
            (14, -92.0, false),
            (23, 3.0, false),
            (24, -92.0, true),
            (40, 92.0, true),
        ] {
            let now = begun + Duration::from_secs(minute * 60);
            assert_eq!(warned.is_news(seconds, now), expected, "{seconds} s after {minute} min");
        }
    }

    #[test]
    fn the_clocks_are_apart_beyond_the_window_and_together_again_below_half_of_it() {
        let window = Duration::from_secs(600);
        let mut apart = Apart::default();
        for (seconds, expected) in [
            (0, false),
            (600, false),
            (601, true),
            (400, true),
            (300, false),
            (599, false),
        ] {
            apart = apart.after(Duration::from_secs(seconds), window);
            assert_eq!(apart.0, expected, "{seconds} s");
        }
    }

    #[test]
    fn a_difference_that_the_request_and_the_cut_second_can_explain_is_none() {
        let sent_at = at("2026-11-24T10:00:00.900Z");
        let here = at("2026-11-24T10:00:09.900Z");
        for (date, expected) in [
            ("2026-11-24T10:00:00Z", 0),
            ("2026-11-24T10:00:09Z", 0),
            ("2026-11-24T09:59:58Z", 1_900),
            ("2026-11-24T10:00:11Z", 1_100),
        ] {
            let found = difference(at(date), sent_at, here);
            assert_eq!(found, Duration::from_millis(expected), "{date}");
        }
    }

    #[test]
    fn a_slow_answer_says_nothing_about_the_clock() {
        let metrics = LenderMetrics::default();
        let upstream = config::load(config::Layers::default())
            .expect("the defaults")
            .config
            .upstream;
        let route = Route::new("acme", &upstream, Phase::alone());
        let date = at("2001-01-01T00:00:00Z");
        let now = clock::now();
        route.compare_clocks(date, now, MAX_DURATION + Duration::from_millis(1), &metrics);
        assert_eq!(metrics.upstream_clock_skew_seconds.get(), 0.0);
        route.compare_clocks(date, now, MAX_DURATION, &metrics);
        assert!(metrics.upstream_clock_skew_seconds.get() < -700_000_000.0);
    }
}
