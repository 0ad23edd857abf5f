//! Which of the four topics is it?

use clap::ValueEnum;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    Accounts,
    Changes,
    DeadLetters,
    Cursor,
}
