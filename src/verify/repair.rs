//! Which command mends what is wrong? Only those that this version has, and only where they help. Pure.

use crate::progress::{Progress, Timestamp};

/// What the cursor topic says of the lender.
#[derive(Debug, Clone)]
pub(crate) enum Cursor {
    /// No source has read it yet.
    None,
    /// The next run reads from the beginning.
    Reset,
    Record {
        progress: Progress,
        /// An instance holds it, and committed lately.
        lives: bool,
    },
}

impl Cursor {
    pub(crate) fn lives(&self) -> bool {
        matches!(self, Self::Record { lives: true, .. })
    }

    /// Whether a source that goes on from here reads a row of this time yet.
    pub(crate) fn is_ahead(&self, updated_at: i64) -> bool {
        let at = Timestamp(updated_at);
        match self {
            Self::None | Self::Reset => true,
            Self::Record { progress, .. } => {
                progress.settled.is_none_or(|settled| settled <= at)
                    || progress
                        .ranges
                        .iter()
                        .any(|range| range.position().is_none_or(|position| position <= at) && at < range.stop)
            }
        }
    }
}

/// The way on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Repair {
    /// In their order.
    pub commands: Vec<String>,
    pub notes: Vec<&'static str>,
}

/// What was found, as far as the way on depends on it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    /// Whether a source that reads everything again would write something.
    pub reading: bool,
    /// Whether all of that still lies ahead of the source.
    pub is_all_ahead: bool,
    /// Whether something is wrong that no reading mends.
    pub reconciling: bool,
    /// Whether the topic holds any account of the lender.
    pub holds_any: bool,
}

impl Repair {
    pub(crate) fn of(lender: &str, cursor: &Cursor, need: Need) -> Self {
        let mut repair = Self::default();
        if need.reading {
            let run = || "d02-source run".to_owned();
            let reset = || format!("d02-source cursor reset {lender}");
            match cursor {
                Cursor::Record { lives: true, .. } if need.is_all_ahead => {
                    repair
                        .notes
                        .push("the source that runs has not read so far yet: let it go on, then verify again");
                }
                Cursor::Record { lives: false, .. } | Cursor::Reset if need.is_all_ahead => {
                    repair.commands = vec![run()]
                }
                Cursor::None if !need.holds_any => repair.commands = vec![run()],
                Cursor::Record { .. } | Cursor::Reset | Cursor::None => {
                    repair.commands = vec![reset(), run()];
                    repair
                        .notes
                        .push("the run after a reset reads everything again and writes only what is missing, stale or different");
                    if cursor.lives() {
                        repair
                            .notes
                            .push("a source runs: stop it before the reset, or give `cursor reset` --force");
                    }
                }
            }
        }
        if need.reconciling {
            // It writes what is missing, stale or different as well.
            repair.commands = vec![format!("d02-source reconcile --lender {lender}")];
            repair.notes =
                vec!["it reads everything again, writes what differs and deletes what upstream does not show"];
            if cursor.lives() {
                repair.notes.push(
                    "a source runs: stop it before that, or set upstream.reconcile_interval, and it does it by itself",
                );
            }
        }
        repair
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Range;

    fn record(settled: i64, ranges: &[(i64, i64)], lives: bool) -> Cursor {
        let range = |(since, stop): &(i64, i64)| Range::fresh(Timestamp(*since), Timestamp(*stop));
        Cursor::Record {
            progress: Progress {
                settled: Some(Timestamp(settled)),
                reconciled: None,
                ranges: ranges.iter().map(range).collect(),
                ..Progress::default()
            },
            lives,
        }
    }

    #[test]
    fn what_a_source_has_not_read_yet_lies_ahead_of_it() {
        let cursor = record(100, &[(10, 20), (50, 60)], false);
        let ahead: Vec<i64> = (0..120).filter(|at| cursor.is_ahead(*at)).collect();
        let expected: Vec<i64> = (10..20).chain(50..60).chain(100..120).collect();
        assert_eq!(ahead, expected);
        assert!(Cursor::None.is_ahead(0) && Cursor::Reset.is_ahead(0));
    }

    #[test]
    fn a_reset_is_advised_only_where_going_on_does_not_help() {
        let (rests, lives) = (record(100, &[], false), record(100, &[], true));
        let commands = |cursor: &Cursor, is_all_ahead, holds_any| {
            let need = Need {
                reading: true,
                is_all_ahead,
                reconciling: false,
                holds_any,
            };
            Repair::of("acme", cursor, need).commands
        };
        let (reset, run) = ("d02-source cursor reset acme", "d02-source run");
        assert_eq!(commands(&rests, true, true), [run]);
        assert_eq!(commands(&rests, false, true), [reset, run]);
        assert_eq!(commands(&lives, true, true), [] as [&str; 0]);
        assert_eq!(commands(&lives, false, true), [reset, run]);
        assert_eq!(commands(&Cursor::Reset, true, true), [run]);
        assert_eq!(commands(&Cursor::None, true, false), [run]);
        // `run` refuses accounts without a cursor.
        assert_eq!(commands(&Cursor::None, true, true), [reset, run]);
    }

    #[test]
    fn what_only_a_reconciliation_mends_is_mended_by_that_alone() {
        let need = Need {
            reading: true,
            reconciling: true,
            ..Need::default()
        };
        for (cursor, notes) in [(record(100, &[], false), 1), (record(100, &[], true), 2)] {
            let repair = Repair::of("acme", &cursor, need);
            assert_eq!(repair.commands, ["d02-source reconcile --lender acme"]);
            assert_eq!(repair.notes.len(), notes);
        }
        assert_eq!(Repair::of("acme", &Cursor::None, Need::default()), Repair::default());
    }
}
