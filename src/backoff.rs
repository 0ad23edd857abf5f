//! How long to wait before the next try, and how often to say so? Exponentially longer, with jitter, never shorter than it is
//! asked for; said at the first, second, fourth … time.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

use crate::failpoint;
use crate::shutdown::Shutdown;

/// The longest wait of our own; an upstream that is away is asked once a minute.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Waits before another look at what seldom changes, such as settings: ten minutes, or up to a tenth less.
pub(crate) async fn pause_between_looks() {
    pause("D02_TEST_LOOK_INTERVAL", Duration::from_secs(600)).await;
}

/// Waits for `longest`, or up to a tenth less; a test may shorten that by the variable `name`.
pub(crate) async fn pause(name: &str, longest: Duration) {
    let longest = failpoint::shortened(name, longest);
    tokio::time::sleep(longest.mul_f64(0.9 + 0.1 * fastrand::f64())).await;
}

/// The waits between the tries of one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    delays: ExponentialBackoff,
    try_count: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(MAX_DELAY / 2)
            .without_max_times()
            .with_jitter();
        Self {
            delays: builder.build(),
            try_count: 0,
        }
    }
}

impl Backoff {
    /// The next wait: between the delay and twice the delay, which grows from 200 ms to half a minute; no less than `at_least`.
    pub(crate) fn next(&mut self, at_least: Option<Duration>) -> Duration {
        self.try_count = self.try_count.saturating_add(1);
        let delay = self.delays.next().unwrap_or(MAX_DELAY).min(MAX_DELAY);
        delay.max(at_least.unwrap_or_default())
    }

    /// Tries so far that failed.
    pub(crate) fn try_count(&self) -> u32 {
        self.try_count
    }

    /// Whether this failure is worth a line in the log: the first, second, fourth, eighth …, then one in sixteen.
    pub(crate) fn is_worth_a_line(&self) -> bool {
        self.try_count.is_power_of_two() && self.try_count <= 16 || self.try_count.is_multiple_of(16)
    }
}

/// How long a call is tried that may yet succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    Once,
    For(Duration),
    Endless,
}

/// The usual patience of a command that has to come to an end.
pub(crate) const BATCH_PATIENCE: &str = "10m";

/// What follows a try that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterTry {
    /// Another one, after `at_least` if that was asked for.
    Retry {
        at_least: Option<Duration>,
    },
    GiveUp,
}

impl Patience {
    /// Calls until it succeeds, `after` gives up, or the patience is over; `say` hears of every failure that is worth a line,
    /// and how long it is waited now.
    ///
    /// # Errors
    /// The last one.
    pub(crate) async fn retry<T, E, F: Future<Output = Result<T, E>>>(
        self,
        mut call: impl FnMut() -> F,
        after: impl Fn(&E) -> AfterTry,
        say: impl Fn(&E, Duration),
    ) -> Result<T, E> {
        let mut tries = Tries::new(self);
        loop {
            match call().await {
                Ok(value) => return Ok(value),
                Err(error) => match tries.wait(&error, &after, &say) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
            }
        }
    }

    /// The same on a thread, which a shutdown wakes: then the last error is given, too. No wait is longer than `longest`.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn retry_blocking<T, E>(
        self,
        longest: Duration,
        shutdown: &Shutdown,
        mut call: impl FnMut() -> Result<T, E>,
        after: impl Fn(&E) -> AfterTry,
        say: impl Fn(&E, Duration),
    ) -> Result<T, E> {
        let mut tries = Tries::new(self);
        loop {
            let error = match call() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if shutdown.is_requested() {
                return Err(error);
            }
            match tries.wait(&error, &after, &say) {
                Some(wait) => shutdown.block(wait.min(longest)),
                None => return Err(error),
            }
        }
    }
}

/// The tries of one call so far.
struct Tries {
    patience: Patience,
    begun: Instant,
    backoff: Backoff,
}

impl Tries {
    fn new(patience: Patience) -> Self {
        Self {
            patience,
            begun: Instant::now(),
            backoff: Backoff::default(),
        }
    }

    /// How long to wait before the next one; `None`: there is none.
    fn wait<E>(&mut self, error: &E, after: &impl Fn(&E) -> AfterTry, say: &impl Fn(&E, Duration)) -> Option<Duration> {
        let AfterTry::Retry { at_least } = after(error) else {
            return None;
        };
        let wait = self.backoff.next(at_least);
        let is_over = match self.patience {
            Patience::Once => true,
            Patience::For(patience) => self.begun.elapsed() + wait > patience,
            Patience::Endless => false,
        };
        if is_over {
            return None;
        }
        if self.backoff.is_worth_a_line() {
            say(error, wait);
        }
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::shutdown;

    const RETRY: AfterTry = AfterTry::Retry { at_least: None };

    #[tokio::test(start_paused = true)]
    async fn a_call_is_tried_until_it_succeeds_and_said_at_the_first_second_and_fourth_time() {
        let (tries, said) = (Cell::new(0), Cell::new(0));
        let call = || {
            tries.set(tries.get() + 1);
            let result = if tries.get() < 6 { Err("not yet") } else { Ok("done") };
            std::future::ready(result)
        };
        let done = Patience::Endless.retry(call, |_| RETRY, |_, _| said.set(said.get() + 1));
        assert_eq!((done.await, tries.get(), said.get()), (Ok("done"), 6, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_is_not_tried_again_and_neither_is_what_has_no_patience_left() {
        let tries = Cell::new(0);
        let call = || {
            tries.set(tries.get() + 1);
            std::future::ready(Err::<(), _>("no"))
        };
        let refused = Patience::Endless.retry(call, |_| AfterTry::GiveUp, |_, _| {});
        assert_eq!((refused.await, tries.replace(0)), (Err("no"), 1));
        let once = Patience::Once.retry(call, |_| RETRY, |_, _| panic!("nothing is tried again"));
        assert_eq!((once.await, tries.replace(0)), (Err("no"), 1));
        let at_least = Some(Duration::from_secs(90));
        let late = |_: &&str| AfterTry::Retry { at_least };
        let short = Patience::For(Duration::from_secs(60)).retry(call, late, |_, _| {});
        assert_eq!((short.await, tries.get()), (Err("no"), 1));
    }

    #[test]
    fn a_shutdown_ends_the_tries_of_a_thread() {
        let (sender, shutdown) = shutdown::channel();
        let mut tries = 0;
        let call = || {
            tries += 1;
            if tries == 2 {
                sender.request();
            }
            Err::<(), _>("no")
        };
        let ended = Patience::Endless.retry_blocking(Duration::from_millis(1), &shutdown, call, |_| RETRY, |_, _| {});
        assert_eq!((ended, tries), (Err("no"), 2));
    }

    #[test]
    fn waits_grow_to_a_minute_and_not_beyond() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = (0..40).map(|_| backoff.next(None)).collect();
        assert!(
            delays[0] >= Duration::from_millis(200) && delays[0] <= Duration::from_millis(400),
            "{delays:?}"
        );
        assert!(
            delays[39] >= MAX_DELAY / 2 && delays.iter().all(|delay| *delay <= MAX_DELAY),
            "{delays:?}"
        );
    }

    #[test]
    fn a_longer_wait_can_be_asked_for() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
    }
}
