//! What time is it? The only place that asks the machine, so that everything else can be told.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};

/// This machine's time. Of a reading it is a bound only where upstream's answers carry no `Date`, or a later one.
#[allow(clippy::disallowed_methods, reason = "the one place for it")]
pub fn now() -> DateTime<Utc> {
    #[cfg(test)]
    if let Some((begin, begun)) = MODEL.get() {
        return begin + begun.elapsed();
    }
    Utc::now()
}

#[cfg(test)]
thread_local! {
    /// The model test runs on one thread, in a time of its own: what its clock said, and when.
    pub(crate) static MODEL: std::cell::Cell<Option<(DateTime<Utc>, tokio::time::Instant)>> =
        const { std::cell::Cell::new(None) };
}

/// Two clocks that differ by more, in seconds, are not explained by a network or by rounding.
pub const NOTABLE_SKEW: f64 = 30.0;

/// A moment in the order of one process's requests and answers; later ones are larger. 0: before this start.
pub type Tick = u64;

/// Orders the requests and answers of one lender: each tick is larger than all before it.
#[derive(Debug, Default)]
pub struct Ticks(AtomicU64);

impl Ticks {
    pub fn next(&self) -> Tick {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}
