//! Where can a test stop this process? At named points, by `D02_FAILPOINT=name[:pass[:milliseconds]]`; in release builds
//! there are none.
//!
//! A point that is reached says so on standard error and waits: for ever, so that the test can kill the process right
//! there, or for the given time.
//!
//! The model test can break a rule besides, to show that a promise catches it: [`is_broken`].

/// A rule that the model test breaks on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A fresh walk begins at the highest row handed over, not behind it.
    BoundaryInclusive,
    /// A batch that did not land is committed again with its rows, not its marks alone.
    RowsWithTheirMarks,
    /// What of a batch did not get through in time is tried later.
    LeftIsPutBack,
    /// What a page held before the version in the index was received does not replace it.
    StaleIsLeft,
    /// A sweep begins at the committed `settled`.
    SweepFromSettled,
    /// Sweeps hold the rows at `read`, too.
    SweepHoldsRead,
    /// A range that gave a part of itself away is known by its new `stop`.
    SplitMovesStop,
    /// A version's predecessor may be one that the same batch writes.
    BeforeIsOfTheBatch,
    /// An early sweep moves no mark.
    EarlySweepMovesNoMark,
    /// A live walk that becomes ranges settles what was due by its own first answer.
    BacklogSettlesByItsWalk,
    /// The range of a backlog begins where its walk was given up.
    BacklogKeepsItsPlace,
    /// A page that goes on within one time does not hold the row before it.
    PageGoesOn,
    /// What one reading of everything does not show is looked for again before it is called gone.
    TwoPasses,
    /// The clock of an answer is the earlier of upstream's and ours.
    EarlierClock,
    /// What was restored before a lender was fenced is read on behind it; a rule of the model test's own start.
    #[cfg(test)]
    ReadOnWhenFenced,
    /// What a released lender held is read on from where it was taken out; of the model test's own members.
    #[cfg(test)]
    TakenBackWhereItWas,
}

#[cfg(test)]
thread_local! {
    /// The model test runs on one thread.
    pub static BROKEN: std::cell::Cell<Option<Rule>> = const { std::cell::Cell::new(None) };
}

/// Whether the model test, and nothing else, has this rule broken.
#[cfg(test)]
pub(crate) fn is_broken(rule: Rule) -> bool {
    BROKEN.get() == Some(rule)
}

#[cfg(not(test))]
pub(crate) fn is_broken(_rule: Rule) -> bool {
    false
}

/// Waits here if a test asked for it.
#[cfg(debug_assertions)]
pub(crate) fn reach(name: &str) {
    use std::io::Write as _;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use crate::log::{self, StandardError};

    static ASKED: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("D02_FAILPOINT").ok());
    static PASSES: AtomicU64 = AtomicU64::new(0);
    let Some(asked) = ASKED.as_deref() else { return };
    let mut parts = asked.split(':');
    if parts.next() != Some(name) {
        return;
    }
    let pass = parts.next().and_then(|pass| pass.parse().ok()).unwrap_or(1);
    if PASSES.fetch_add(1, Ordering::SeqCst) + 1 != pass {
        return;
    }
    let pause = parts
        .next()
        .and_then(|pause| pause.parse().ok())
        .map_or(Duration::MAX, Duration::from_millis);
    // It takes everything; what was logged before stands before it.
    let _ = writeln!(StandardError, "failpoint {name} reached");
    log::flush();
    std::thread::sleep(pause);
}

#[cfg(not(debug_assertions))]
pub(crate) fn reach(_name: &str) {}

/// A number that a test may make smaller by the variable `name`.
pub(crate) fn fewer(name: &str, usual: usize) -> usize {
    let asked = cfg!(debug_assertions).then(|| std::env::var(name).ok()?.parse().ok());
    asked.flatten().map_or(usual, |asked: usize| asked.min(usual))
}

/// A duration that a test may shorten by the variable `name`, in milliseconds.
#[cfg(debug_assertions)]
pub(crate) fn shortened(name: &str, usual: std::time::Duration) -> std::time::Duration {
    let asked = std::env::var(name).ok().and_then(|text| text.parse().ok());
    asked.map_or(usual, std::time::Duration::from_millis)
}

#[cfg(not(debug_assertions))]
pub(crate) fn shortened(_name: &str, usual: std::time::Duration) -> std::time::Duration {
    usual
}
