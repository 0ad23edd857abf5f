//! Has upstream changed a field for all rows? One clear alarm then, not a line a row. Pure.
//!
//! Rows are looked at in windows of a page, or of as many small pages as have enough rows. A field that nearly none of a
//! window's rows has in a form that fits *drifts*, until a window is better and a minute has passed since the last such one: while
//! upstream's servers are replaced one by one, both kinds of pages come.

use std::time::Duration;

use crate::account::JsonType;
use crate::progress::Timestamp;

/// Fewer rows tell nothing.
const LEAST_ROWS: u64 = 20;

/// How much of a window is nearly all, per cent.
const NEARLY_ALL: u64 = 90;

/// A drift that was not seen for so long may be over; also the first pause between two lines about one.
const QUIET: Duration = Duration::from_secs(60);

/// The pause doubles with each line up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// A field that did not fit in some rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unfit {
    pub field: &'static str,
    /// Whether these rows are dead letters; else it is null in their accounts.
    pub is_dead: bool,
    pub row_count: u64,
    /// What came, in one of them.
    pub found: JsonType,
}

/// What is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DriftNotice {
    Drifts {
        /// Of `window` rows.
        unfit: Unfit,
        window: u64,
        since: Timestamp,
        /// All since then.
        row_count: u64,
    },
    Over {
        field: &'static str,
        since: Timestamp,
        row_count: u64,
    },
}

/// The fields of one lender that drift.
#[derive(Debug, Default)]
pub(super) struct Drift {
    window: Window,
    drifting: Vec<Drifting>,
}

/// Rows that are not yet judged.
#[derive(Debug, Default)]
struct Window {
    row_count: u64,
    unfit: Vec<Unfit>,
}

#[derive(Debug)]
struct Drifting {
    field: &'static str,
    since: Timestamp,
    row_count: u64,
    seen_at: Timestamp,
    said_at: Timestamp,
    pause: Duration,
}

impl Drift {
    /// Takes what did not fit in a page of `row_count` rows; gives what is worth a line now. `is_again`: they were read before,
    /// or nearly all of them. Each poll reads the newest row again and each sweep the latest, so a few would come to many: they
    /// begin no drift, but go on with one or end it.
    pub(super) fn note(&mut self, unfit: &[Unfit], row_count: u64, is_again: bool, now: Timestamp) -> Vec<DriftNotice> {
        if is_again && row_count < LEAST_ROWS {
            for one in &mut self.drifting {
                if unfit.iter().any(|unfit| unfit.field == one.field) {
                    one.seen_at = now;
                }
            }
            // Nothing can be said of no row.
            return if row_count == 0 { Vec::new() } else { self.over(now) };
        }
        self.window.add(unfit, row_count);
        if self.window.row_count < LEAST_ROWS {
            return Vec::new();
        }
        let window = std::mem::take(&mut self.window);
        let mut said = Vec::new();
        for unfit in window.unfit {
            if unfit.row_count * 100 >= window.row_count * NEARLY_ALL {
                said.extend(self.drifts(unfit, window.row_count, now));
            }
        }
        said.extend(self.over(now));
        said
    }

    /// Those that were not seen for so long.
    fn over(&mut self, now: Timestamp) -> Vec<DriftNotice> {
        let is_over = |one: &mut Drifting| is_past(one.seen_at, QUIET, now);
        let over = self.drifting.extract_if(.., is_over);
        over.map(|one| DriftNotice::Over {
            field: one.field,
            since: one.since,
            row_count: one.row_count,
        })
        .collect()
    }

    fn drifts(&mut self, unfit: Unfit, window: u64, now: Timestamp) -> Option<DriftNotice> {
        let known = self.drifting.iter_mut().find(|one| one.field == unfit.field);
        let (since, row_count) = match known {
            Some(one) => {
                one.row_count += unfit.row_count;
                one.seen_at = now;
                if !is_past(one.said_at, one.pause, now) {
                    return None;
                }
                one.said_at = now;
                one.pause = (one.pause * 2).min(LONGEST_PAUSE);
                (one.since, one.row_count)
            }
            None => {
                self.drifting.push(Drifting {
                    field: unfit.field,
                    since: now,
                    row_count: unfit.row_count,
                    seen_at: now,
                    said_at: now,
                    pause: QUIET,
                });
                (now, unfit.row_count)
            }
        };
        Some(DriftNotice::Drifts {
            unfit,
            window,
            since,
            row_count,
        })
    }

    /// The fields that drift now.
    pub(super) fn fields(&self) -> Vec<&'static str> {
        self.drifting.iter().map(|one| one.field).collect()
    }
}

/// Whether so much time or more has passed.
pub(super) fn is_past(then: Timestamp, pause: Duration, now: Timestamp) -> bool {
    i128::from(now.0) - i128::from(then.0) >= i128::try_from(pause.as_millis()).unwrap_or(i128::MAX)
}

impl Window {
    fn add(&mut self, unfit: &[Unfit], row_count: u64) {
        self.row_count += row_count;
        for new in unfit {
            match self.unfit.iter_mut().find(|one| one.field == new.field) {
                Some(one) => one.row_count += new.row_count,
                None => self.unfit.push(*new),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit(field: &'static str, row_count: u64) -> Unfit {
        Unfit {
            field,
            is_dead: true,
            row_count,
            found: JsonType::String,
        }
    }

    /// A lender's pages, one after another, by the second.
    #[derive(Default)]
    struct Told {
        drift: Drift,
        lines: Vec<(i64, DriftNotice)>,
    }

    impl Told {
        fn page(&mut self, second: i64, row_count: u64, unfit: &[Unfit]) {
            let said = self.drift.note(unfit, row_count, false, Timestamp(second * 1_000));
            self.lines.extend(said.into_iter().map(|said| (second, said)));
        }

        fn seconds(&self) -> Vec<i64> {
            self.lines.iter().map(|(second, _)| *second).collect()
        }
    }

    #[test]
    fn a_field_that_fits_in_hardly_any_row_is_one_line_and_then_one_at_growing_intervals() {
        let mut told = Told::default();
        for second in 0..20_000 {
            told.page(second, 1_000, &[unfit("balance_amount", 990)]);
        }
        assert_eq!(
            told.seconds(),
            [0, 60, 180, 420, 900, 1_860, 3_780, 7_380, 10_980, 14_580, 18_180]
        );
        assert_eq!(
            told.lines[1].1,
            DriftNotice::Drifts {
                unfit: unfit("balance_amount", 990),
                window: 1_000,
                since: Timestamp(0),
                row_count: 61 * 990
            }
        );
        assert_eq!(told.drift.fields(), ["balance_amount"]);
    }

    #[test]
    fn single_rows_and_pages_that_are_good_in_part_are_no_drift() {
        let mut told = Told::default();
        for second in 0..100 {
            told.page(second, 1_000, &[unfit("balance_amount", 899), unfit("status", 1)]);
            told.page(second, 19, &[]);
            told.page(second, 1, &[unfit("balance_amount", 1)]);
        }
        assert_eq!(told.lines, []);
    }

    #[test]
    fn small_pages_are_judged_together() {
        let mut told = Told::default();
        (0..19).for_each(|second| told.page(second, 1, &[unfit("status", 1)]));
        assert_eq!(told.lines, []);
        told.page(30, 1, &[unfit("status", 1)]);
        assert_eq!(told.seconds(), [30]);
        // Empty polls end nothing.
        (31..1_000).for_each(|second| told.page(second, 0, &[]));
        assert_eq!(told.drift.fields(), ["status"]);
    }

    #[test]
    fn a_few_rows_that_are_read_time_and_again_are_no_drift() {
        let mut drift = Drift::default();
        for second in 0..1_000 {
            let said = drift.note(&[unfit("status", 19)], 19, true, Timestamp(second * 1_000));
            assert_eq!(said, []);
        }
        // Rows enough for themselves.
        let said = drift.note(&[unfit("status", 20)], 20, true, Timestamp(0));
        assert_eq!(said.len(), 1);
        // A drift goes on as long as any of them is as it was, and ends when all are good.
        let mut page = |second: i64, unfit: &[Unfit], row_count| {
            drift.note(unfit, row_count, true, Timestamp(second * 1_000)).len()
        };
        assert_eq!(page(100, &[unfit("status", 1)], 2), 0);
        assert_eq!((page(159, &[], 2), page(170, &[], 0), page(171, &[], 2)), (0, 0, 1));
        assert!(drift.fields().is_empty());
    }

    #[test]
    fn it_is_over_once_pages_are_good_again_for_a_while_and_not_while_both_kinds_come() {
        let mut told = Told::default();
        for second in 0..50 {
            told.page(second, 100, &[unfit("status", 100)]);
            told.page(second, 100, &[]);
        }
        assert_eq!(told.seconds(), [0]);
        (50..200).for_each(|second| told.page(second, 100, &[unfit("status", 3)]));
        let over = DriftNotice::Over {
            field: "status",
            since: Timestamp(0),
            row_count: 5_000,
        };
        assert_eq!(told.lines[1..], [(109, over)]);
        assert!(told.drift.fields().is_empty());
        told.page(300, 100, &[unfit("status", 100)]);
        assert_eq!(told.seconds(), [0, 109, 300], "it may begin again");
    }

    #[test]
    fn fields_drift_each_for_itself() {
        let mut told = Told::default();
        told.page(0, 100, &[unfit("status", 100)]);
        told.page(1, 100, &[unfit("status", 100), unfit("loan_type", 95)]);
        told.page(70, 100, &[unfit("loan_type", 95)]);
        assert_eq!(told.drift.fields(), ["loan_type"]);
        assert_eq!(told.seconds(), [0, 1, 70, 70]);
    }
}
