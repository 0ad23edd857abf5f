//! What time is it at the vendor, and how does the vendor write and read it?
//!
//! One clock serves everything: `updated_at` of live changes, token expiry and the `Date` header. A test can skew it, and
//! the header apart from the rest, as where a gateway writes it.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chrono::{DateTime, SecondsFormat, Utc};
use tokio::time::Instant;

/// The simulator's clock: the machine's when it was made, and what passed since (in tokio's time, which a test can own),
/// plus a skew.
#[derive(Debug)]
pub(super) struct Clock {
    started_at_ms: i64,
    started: Instant,
    skew_ms: AtomicI64,
    date_skew_ms: AtomicI64,
}

impl Default for Clock {
    #[allow(clippy::disallowed_methods, reason = "an upstream has a clock of its own")]
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            started_at_ms: millis(since_epoch),
            started: Instant::now(),
            skew_ms: AtomicI64::new(0),
            date_skew_ms: AtomicI64::new(0),
        }
    }
}

impl Clock {
    /// Milliseconds since the Unix epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.started_at_ms + millis(self.started.elapsed()) + self.skew_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_skew_ms(&self, skew_ms: i64) {
        self.skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    /// What `Date` says.
    pub(super) fn date_ms(&self) -> i64 {
        self.now_ms() + self.date_skew_ms.load(Ordering::Relaxed)
    }

    pub(super) fn set_date_skew_ms(&self, skew_ms: i64) {
        self.date_skew_ms.store(skew_ms, Ordering::Relaxed);
    }
}

/// A duration in whole milliseconds; the longest one stands for everything longer.
pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// `2026-05-29T07:20:55.000Z`, as the vendor writes timestamps.
pub(super) fn iso(at_ms: i64) -> String {
    utc(at_ms).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// `Fri, 29 May 2026 07:20:55 GMT`, for `Date` and `Retry-After`.
pub(super) fn http_date(at_ms: i64) -> String {
    utc(at_ms).format("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// Milliseconds of an RFC 3339 text, finer digits cut; `None` if it is none.
pub(super) fn read_instant(text: &str) -> Option<i64> {
    DateTime::parse_from_rfc3339(text)
        .ok()
        .map(|instant| instant.timestamp_millis())
}

/// `22/02/2026`, as the vendor stores days.
pub(super) fn day(at_ms: i64) -> String {
    utc(at_ms).format("%d/%m/%Y").to_string()
}

fn utc(at_ms: i64) -> DateTime<Utc> {
    // Only a skew of more than 200,000 years leaves chrono's range.
    DateTime::from_timestamp_millis(at_ms).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_cut_to_milliseconds_and_written_back() {
        let at_ms = read_instant("2026-05-29T11:20:55.123999+04:00").expect("an instant");
        assert_eq!(iso(at_ms), "2026-05-29T07:20:55.123Z");
        assert_eq!(http_date(at_ms), "Fri, 29 May 2026 07:20:55 GMT");
        assert_eq!(day(at_ms), "29/05/2026");
        assert_eq!(read_instant("yesterday"), None);
    }

    #[test]
    fn a_skew_moves_the_clock() {
        let clock = Clock::default();
        let before = clock.now_ms();
        clock.set_skew_ms(3_600_000);
        assert!(clock.now_ms() - before >= 3_600_000);
        clock.set_date_skew_ms(-7_200_000);
        assert!(clock.now_ms() - before >= 3_600_000);
        assert!(clock.date_ms() < before);
    }
}
