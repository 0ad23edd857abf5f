//! When was what last heard of a lender? What a scrape turns into ages.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::progress::Timestamp;

/// Of one lender; nothing, as long as it does not run here.
#[derive(Debug, Default)]
pub(crate) struct LastTimes {
    /// Milliseconds since the epoch; 0 while not known.
    live_clock: AtomicI64,
    read: AtomicI64,
    settled: AtomicI64,
    progressed_at: Mutex<Option<Instant>>,
    /// Of a lender that stands by.
    followed_at: Mutex<Option<Instant>>,
}

impl LastTimes {
    /// A live walk was committed; `clock`: upstream's at its first answer.
    pub(crate) fn note_live_walk(&self, clock: Timestamp) {
        self.live_clock.fetch_max(clock.0, Ordering::Relaxed);
    }

    /// The marks that are committed, where there are any.
    pub(crate) fn note_marks(&self, read: Option<Timestamp>, settled: Option<Timestamp>) {
        for (time, mark) in [(&self.read, read), (&self.settled, settled)] {
            if let Some(mark) = mark {
                time.store(mark.0, Ordering::Relaxed);
            }
        }
    }

    /// A page that got further is committed.
    pub(crate) fn note_progress(&self) {
        *self.progressed_at() = Some(Instant::now());
    }

    /// How long ago that was; `None` before the first time.
    pub(crate) fn progress_age(&self) -> Option<Duration> {
        (*self.progressed_at()).map(|at| at.elapsed())
    }

    /// What is held of it was read on to where its topics end, or nothing is held any more.
    pub(crate) fn note_followed(&self, is_held: bool) {
        *self.followed_at() = is_held.then(Instant::now);
    }

    /// How long ago that was; `None` where nothing is held.
    pub(crate) fn follow_age(&self) -> Option<Duration> {
        (*self.followed_at()).map(|at| at.elapsed())
    }

    pub(super) fn forget(&self) {
        for time in [&self.live_clock, &self.read, &self.settled] {
            time.store(0, Ordering::Relaxed);
        }
        *self.progressed_at() = None;
    }

    /// The clock of the last live walk, and the marks `read` and `settled`, in milliseconds since the epoch, as far as they are known.
    pub(super) fn known(&self) -> [Option<i64>; 3] {
        let known = |time: &AtomicI64| Some(time.load(Ordering::Relaxed)).filter(|time| *time != 0);
        [known(&self.live_clock), known(&self.read), known(&self.settled)]
    }

    fn followed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.followed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progressed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.progressed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
