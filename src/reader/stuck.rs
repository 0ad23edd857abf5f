//! What is a walk that gets nowhere? Counted, and named.

use prometheus_client::metrics::gauge::Gauge;

use crate::exit::ErrorCode;

/// The code of a place that cannot be read.
pub(super) const STUCK: ErrorCode = ErrorCode::U14;

/// What to do about it.
pub(super) const STUCK_ADVICE: &str = "nothing is skipped; give the vendor's support the position and the request id";

/// Counts a walk that gets nowhere for as long as it lives.
pub(super) struct Stuck(Gauge);

impl Stuck {
    pub(super) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.0.dec();
    }
}
