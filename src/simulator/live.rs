//! What happens to a lender's rows by itself?

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tokio::task::yield_now;
use tokio::time::{Instant, interval, timeout_at};

use super::shared::Shared;

const LIVE_INTERVAL: Duration = Duration::from_millis(10);
/// Rows of a live change under one lock: a walk waits no longer than a few pages would take.
const MOST_AT_ONCE: usize = 200;

/// Changes, adds and deletes a lender's rows at its rates. What a busy machine did not do in time is made up for.
pub(super) async fn change(shared: Arc<Shared>, index: usize, mut rng: Rng) {
    let rates = shared.lenders[index].rates;
    let (mut changes, mut inserts, mut deletes, mut lates, mut aheads) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let mut ticks = interval(LIVE_INTERVAL);
    let mut last = Instant::now();
    loop {
        let now = ticks.tick().await;
        let passed = now.duration_since(last).as_secs_f64();
        last = now;
        changes += rates.change * passed;
        while let Some(count) = next_batch(&mut changes) {
            shared.touch(index, count, &mut rng);
            yield_now().await;
        }
        inserts += rates.insert * passed;
        while let Some(count) = next_batch(&mut inserts) {
            shared.insert(index, count);
            yield_now().await;
        }
        deletes += rates.delete * passed;
        while let Some(count) = next_batch(&mut deletes) {
            shared.delete(index, count, &mut rng);
            yield_now().await;
        }
        lates += rates.late * passed;
        while let Some(count) = next_batch(&mut lates) {
            shared.change_late(index, count, rates.late_by, &mut rng);
            yield_now().await;
        }
        aheads += rates.ahead * passed;
        while let Some(count) = next_batch(&mut aheads) {
            shared.change_ahead(index, count, rates.ahead_by, &mut rng);
            yield_now().await;
        }
    }
}

/// Makes a lender's late changes visible when their time has come.
pub(super) async fn reveal(shared: Arc<Shared>, index: usize) {
    let late_came = &shared.lenders[index].late_came;
    loop {
        match shared.reveal(index, Instant::now(), MOST_AT_ONCE) {
            // Over when the next one is due, or when one has come that may be due before it.
            Some(next) => timeout_at(next, late_came.notified()).await.unwrap_or_default(),
            None => late_came.notified().await,
        }
        yield_now().await;
    }
}

/// Takes whole rows off what is due, no more than may be done under one lock.
fn next_batch(due: &mut f64) -> Option<usize> {
    let count = due.trunc().min(MOST_AT_ONCE as f64);
    *due -= count;
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0 and `MOST_AT_ONCE`"
    )]
    let count = count as usize;
    (count > 0).then_some(count)
}
