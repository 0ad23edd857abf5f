//! When may the next request go out? A token bucket over all requests of a lender.
//!
//! Own code, because tokio's fair mutex already is the queue. `leaky-bucket` lets one waiter refill the bucket for all
//! others, so one that is held but not polled stops them; `governor` queues nobody and has a clock of its own, which a
//! paused one does not stop.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// The right to send one request now. Not to be kept: the limit is one of sending.
#[must_use]
pub(super) struct Turn(());

/// At most so many requests a second, after a pause one second's worth at once (at least one).
#[derive(Debug)]
pub(super) struct Rate {
    /// Between two requests under load.
    interval: Duration,
    /// How far the bucket can be ahead: the intervals of a full one, but for the token that is taken.
    lead: Duration,
    /// When the next token is there, once the bucket is empty. Locked by the first in the queue for as long as it waits:
    /// the lock goes to whoever asked first, and a waiter that is dropped has taken nothing.
    next_at: Mutex<Option<Instant>>,
}

impl Rate {
    pub(super) fn new(per_second: f64) -> Self {
        let interval = Duration::from_secs_f64(1.0 / per_second);
        let burst = per_second.floor().max(1.0);
        Self {
            interval,
            lead: interval.mul_f64(burst - 1.0),
            next_at: Mutex::new(None),
        }
    }

    /// Waits for a turn, behind all who wait already.
    pub(super) async fn turn(&self) -> Turn {
        let mut next_at = self.next_at.lock().await;
        // The clock may be younger than the lead: the bucket is full then.
        let full_at = Instant::now().checked_sub(self.lead);
        let at = next_at.max(full_at).unwrap_or_else(Instant::now);
        sleep_until(at).await;
        *next_at = Some(at + self.interval);
        Turn::free()
    }
}

impl Turn {
    /// Where there is no limit.
    pub(super) fn free() -> Self {
        Self(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::task::JoinSet;
    use tokio::time::{advance, timeout};

    use super::*;

    /// When each of `count` turns came, in milliseconds from now on.
    async fn turns(rate: &Rate, count: usize) -> Vec<u128> {
        let begun = Instant::now();
        let mut at = Vec::new();
        for _ in 0..count {
            let _: Turn = rate.turn().await;
            at.push(begun.elapsed().as_millis());
        }
        at
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_of_requests_goes_at_once_and_the_rest_at_the_rate() {
        let rate = Rate::new(4.0);
        assert_eq!(turns(&rate, 7).await, [0, 0, 0, 0, 250, 500, 750]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_of_any_length_saves_no_more_than_one_second() {
        let rate = Rate::new(4.0);
        let _: Vec<_> = turns(&rate, 4).await;
        advance(Duration::from_secs(3600)).await;
        assert_eq!(turns(&rate, 6).await, [0, 0, 0, 0, 250, 500]);
        advance(Duration::from_millis(500)).await;
        assert_eq!(turns(&rate, 3).await, [0, 0, 250], "half a second saves two");
    }

    #[tokio::test(start_paused = true)]
    async fn less_than_one_a_second_is_a_request_now_and_then() {
        let rate = Rate::new(0.1);
        assert_eq!(turns(&rate, 3).await, [0, 10_000, 20_000]);
        let rate = Rate::new(1.6);
        assert_eq!(turns(&rate, 3).await, [0, 625, 1250], "a burst is of whole requests");
    }

    #[tokio::test(start_paused = true)]
    async fn many_requests_within_one_tick_of_the_timer_keep_the_rate() {
        let rate = Rate::new(5_000.0);
        let last = turns(&rate, 10_000).await.pop().expect("turns");
        assert!(
            (990..=1_010).contains(&last),
            "5,000 at once, 5,000 in a second: {last} ms"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_asked_first_is_served_first() {
        let rate = Arc::new(Rate::new(1.0));
        let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
        let mut waiting = JoinSet::new();
        for number in 0..20 {
            let (rate, sender) = (Arc::clone(&rate), sender.clone());
            waiting.spawn(async move {
                let _: Turn = rate.turn().await;
                sender.send(number).expect("the test listens");
            });
            // It stands in the queue before the next one comes.
            tokio::task::yield_now().await;
        }
        waiting.join_all().await;
        let order: Vec<_> = std::iter::from_fn(|| served.try_recv().ok()).collect();
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_given_up_while_it_waits_takes_no_turn() {
        let rate = Rate::new(1.0);
        let begun = Instant::now();
        let _: Turn = rate.turn().await;
        for _ in 0..5 {
            let given_up = timeout(Duration::from_millis(100), rate.turn()).await;
            assert!(given_up.is_err());
        }
        // One that stands second goes too.
        let (first, second) = tokio::join!(rate.turn(), timeout(Duration::from_millis(100), rate.turn()));
        let _: Turn = first;
        assert!(second.is_err());
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        let _: Turn = rate.turn().await;
        assert_eq!(begun.elapsed(), Duration::from_secs(2));
    }
}
