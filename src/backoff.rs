//! How long to wait before the next try? Exponentially longer, with jitter, never shorter than upstream asks for.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The longest wait of our own; an upstream that is away is asked once a minute.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// The longest `Retry-After` that is honoured: a typing error upstream must not stop a lender for a year.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The waits between the tries of one request.
#[derive(Debug)]
pub struct Backoff {
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
    /// The next wait: between the delay and twice the delay, which grows from 200 ms to half a minute.
    pub fn next(&mut self, retry_after: Option<Duration>) -> Duration {
        self.try_count = self.try_count.saturating_add(1);
        let delay = self.delays.next().unwrap_or(MAX_DELAY).min(MAX_DELAY);
        delay.max(retry_after.unwrap_or_default().min(MAX_RETRY_AFTER))
    }

    /// Tries so far that failed.
    pub fn try_count(&self) -> u32 {
        self.try_count
    }

    /// Whether this failure is worth a line in the log: the first, second, fourth, eighth …, then one in sixteen.
    pub fn is_worth_a_line(&self) -> bool {
        self.try_count.is_power_of_two() && self.try_count <= 16 || self.try_count.is_multiple_of(16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn upstream_can_ask_for_longer_within_an_hour() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.next(Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(backoff.next(Some(Duration::from_secs(1 << 30))), MAX_RETRY_AFTER);
    }
}
