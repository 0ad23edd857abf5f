//! Does every loop of this process still turn? A loop says what it does and how long that may take; a thread of its own looks
//! whether it is still at it long after, and ends the process, so that its supervisor starts it anew.
//!
//! ```text
//! entered ──────────── limit ──── late: /livez says so ──── hung: named in the log, exit 1
//!           as it should
//! ```
//!
//! A broker or an upstream that is away is no hang: every wait for one has a limit and is followed by another step. Time is
//! counted by the looks of the thread: if the whole process stood still, so did the thread, and nobody is late for it.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::exit::ErrorCode;
use crate::failpoint;
use crate::log;

/// The code of a loop that does not turn.
const HANGS: ErrorCode = ErrorCode::P04;

/// Beyond its limit, a step is a hang: librdkafka honours its time-outs to the second, and a machine that is so busy that half a
/// minute goes by does not serve anybody.
static GRACE: LazyLock<Duration> =
    LazyLock::new(|| failpoint::shortened("D02_TEST_WATCHDOG_GRACE", Duration::from_secs(30)));

/// For a step that waits for nobody. The largest batch takes seconds.
static WORK_LIMIT: LazyLock<Duration> =
    LazyLock::new(|| failpoint::shortened("D02_TEST_WORK_LIMIT", Duration::from_secs(60)));

/// Of the grace, after so much a step is late.
const LATE_SHARE: u32 = 3;

/// The exit code of what failed while running: started anew, it may well go on.
const FAILED: i32 = 1;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long a step may take that waits for nobody.
pub(crate) fn work_limit() -> Duration {
    *WORK_LIMIT
}

/// What a loop is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Doing {
    what: &'static str,
    limit: Duration,
}

/// A loop's own account of what it does; clones are of the same loop. One that nobody made by [`Watchdog::watch`] is watched by
/// nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pulse(Arc<Mutex<Beat>>);

#[derive(Debug, Default)]
struct Beat {
    doing: Option<Doing>,
    /// Raised by every step.
    turn: u64,
}

impl Pulse {
    /// From now on the loop does `what`, which takes no longer than `limit`.
    pub(crate) fn enter(&self, what: &'static str, limit: Duration) {
        self.set(Some(Doing { what, limit }));
    }

    /// Within a step, `what` until the guard is dropped; then the step goes on, with all of its time.
    pub(crate) fn during(&self, what: &'static str, limit: Duration) -> During<'_> {
        let before = self.set(Some(Doing { what, limit }));
        During { pulse: self, before }
    }

    fn set(&self, doing: Option<Doing>) -> Option<Doing> {
        let mut beat = lock(&self.0);
        beat.turn += 1;
        std::mem::replace(&mut beat.doing, doing)
    }
}

/// A step within another one.
#[must_use]
pub(crate) struct During<'a> {
    pulse: &'a Pulse,
    before: Option<Doing>,
}

impl Drop for During<'_> {
    fn drop(&mut self) {
        self.pulse.set(self.before);
    }
}

/// How long a loop has been seen in the same step.
#[derive(Debug, Default, PartialEq, Eq)]
struct StepAge {
    turn: u64,
    age: Duration,
}

impl StepAge {
    /// How far the loop is beyond the limit of its step, `passed` after the last look.
    fn look(&mut self, turn: u64, doing: Option<Doing>, passed: Duration) -> Option<Duration> {
        if self.turn == turn {
            self.age += passed;
        } else {
            (self.turn, self.age) = (turn, Duration::ZERO);
        }
        self.age.checked_sub(doing?.limit)
    }
}

/// What follows from being beyond a limit.
#[derive(Debug, PartialEq, Eq)]
enum Lateness {
    Turns,
    Late,
    Hung,
}

impl Lateness {
    fn of(overdue: Option<Duration>, grace: Duration) -> Self {
        match overdue {
            Some(overdue) if overdue >= grace => Self::Hung,
            Some(overdue) if overdue >= grace / LATE_SHARE => Self::Late,
            Some(_) | None => Self::Turns,
        }
    }
}

struct WatchedLoop {
    name: String,
    beat: Weak<Mutex<Beat>>,
    step: StepAge,
}

/// Watches the loops of the process.
#[derive(Default)]
pub(crate) struct Watchdog {
    watched: Mutex<Vec<WatchedLoop>>,
    late: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

impl Watchdog {
    /// Looks from now on, until the guard is dropped.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn start(self: &Arc<Self>) -> io::Result<Watching> {
        let watchdog = Arc::clone(self);
        std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watchdog.run())?;
        Ok(Watching(Arc::clone(self)))
    }

    /// The pulse of one more loop, watched for as long as it lives.
    pub(crate) fn watch(&self, name: String) -> Pulse {
        let pulse = Pulse::default();
        lock(&self.watched).push(WatchedLoop {
            name,
            beat: Arc::downgrade(&pulse.0),
            step: StepAge::default(),
        });
        pulse
    }

    /// The loops that are late, and what they are at.
    pub(crate) fn late(&self) -> Vec<String> {
        lock(&self.late).clone()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "`main` may be what hangs: nobody else can be relied on to end the process"
    )]
    fn run(&self) {
        let interval = INTERVAL.min(*GRACE / 4);
        let mut looked_at = Instant::now();
        loop {
            std::thread::sleep(interval);
            let passed = std::mem::replace(&mut looked_at, Instant::now()).elapsed();
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            // Whoever was stopped for a while must not blame the others for it.
            let hung = self.look(passed.min(2 * interval), *GRACE);
            if hung.is_empty() {
                continue;
            }
            for what in hung {
                tracing::error!(code = %HANGS, "{what}; this process ends with code 1, to be started anew");
            }
            log::flush();
            std::process::exit(FAILED);
        }
    }

    /// The loops that hang.
    fn look(&self, passed: Duration, grace: Duration) -> Vec<String> {
        let (mut late, mut hung) = (Vec::new(), Vec::new());
        lock(&self.watched).retain_mut(|watched| {
            let Some(beat) = watched.beat.upgrade() else {
                return false;
            };
            let (turn, doing) = {
                let beat = lock(&beat);
                (beat.turn, beat.doing)
            };
            let overdue = watched.step.look(turn, doing, passed);
            let what = || {
                let (doing, overdue) = (doing.expect("only a step is late"), overdue.unwrap_or_default());
                let limit = humantime::format_duration(doing.limit);
                let (name, what, overdue) = (&watched.name, doing.what, overdue.as_secs());
                format!("{name} does not turn: {what}, for {overdue} s longer than the {limit} that it may take")
            };
            match Lateness::of(overdue, grace) {
                Lateness::Turns => {}
                Lateness::Late => late.push(what()),
                Lateness::Hung => hung.push(what()),
            }
            true
        });
        *lock(&self.late) = late.into_iter().chain(hung.iter().cloned()).collect();
        hung
    }
}

/// While it lives, a watchdog looks.
#[must_use]
pub(crate) struct Watching(Arc<Watchdog>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

/// Turns for as long as the runtime that it is spawned on does.
pub(crate) async fn turn(pulse: Pulse) {
    loop {
        failpoint::reach("in_the_runtime");
        pulse.enter("waiting for a timer", INTERVAL);
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A panic elsewhere leaves texts and numbers, which are whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_step_is_late_a_third_of_the_grace_after_its_limit_and_hung_at_its_end() {
        for (overdue, expected) in [
            (None, Lateness::Turns),
            (Some(seconds(9)), Lateness::Turns),
            (Some(seconds(10)), Lateness::Late),
            (Some(seconds(29)), Lateness::Late),
            (Some(seconds(30)), Lateness::Hung),
        ] {
            assert_eq!(Lateness::of(overdue, GRACE), expected, "{overdue:?}");
        }
    }

    #[test]
    fn only_the_same_step_grows_old_and_only_beyond_its_limit() {
        let doing = Some(Doing {
            what: "committing",
            limit: seconds(2),
        });
        let mut seen = StepAge::default();
        // Turn, what it does, how long it is overdue; a look every second.
        for (turn, doing, expected) in [
            (1, doing, None),
            (1, doing, None),
            (1, doing, Some(seconds(0))),
            (1, doing, Some(seconds(1))),
            (2, doing, None),
            (2, doing, None),
            (2, doing, Some(seconds(0))),
            // Between steps nobody is overdue.
            (3, None, None),
            (3, None, None),
            (3, None, None),
            (3, None, None),
        ] {
            assert_eq!(seen.look(turn, doing, seconds(1)), expected, "turn {turn}");
        }
    }

    #[test]
    fn a_loop_that_hangs_is_named_with_what_it_is_at_and_one_that_turns_is_not() {
        let watchdog = Watchdog::default();
        let (hanging, turning) = (watchdog.watch("one".to_owned()), watchdog.watch("two".to_owned()));
        hanging.enter("deciding", seconds(60));
        let call = hanging.during("committing a transaction", seconds(2));
        for second in 0..=32 {
            turning.enter("waiting", seconds(1));
            let hung = watchdog.look(seconds(1), GRACE);
            assert_eq!(hung.is_empty(), second < 32, "{hung:?} after {second} s");
            assert_eq!(watchdog.late().is_empty(), second < 12, "after {second} s");
        }
        assert_eq!(
            watchdog.late(),
            ["one does not turn: committing a transaction, for 30 s longer than the 2s that it may take"]
        );
        drop(call);
        assert_eq!(watchdog.look(seconds(1), GRACE), Vec::<String>::new());
        // The step around it has all of its time again.
        for _ in 0..60 {
            turning.enter("waiting", seconds(1));
            watchdog.look(seconds(1), GRACE);
            assert_eq!(watchdog.late(), Vec::<String>::new());
        }
        drop((hanging, turning));
        assert_eq!(watchdog.look(seconds(1_000), GRACE), Vec::<String>::new());
    }
}
