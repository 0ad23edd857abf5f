//! How does the process end, and how is an error said? For every layer that knows how its errors end it.

use std::error::Error;
use std::fmt::Write as _;

/// The process's exit codes (docs/interface.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    Done,
    Failed,
    /// Wrong usage or configuration, or a state that a restart will not mend.
    Usage,
    TakenOver,
    Refused,
}

impl Exit {
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::TakenOver => 3,
            Self::Refused => 4,
        }
    }

    /// The code of a process whose lenders ended so: the first of 2, 4, 3, 1 that occurred, else 0.
    pub fn of_all(exits: &[Self]) -> Self {
        let order = [Self::Usage, Self::Refused, Self::TakenOver, Self::Failed];
        order
            .into_iter()
            .find(|exit| exits.contains(exit))
            .unwrap_or(Self::Done)
    }
}

/// An error and everything that caused it, on one line; a cause that only repeats what stands there is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            write!(text, ": {cause_text}").expect("a String takes everything");
        }
        source = cause.source();
    }
    text
}

/// A command that did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// `error` with its causes, and what to do about it.
    pub fn of(exit: Exit, error: &dyn Error, advice: &str) -> Self {
        Self {
            exit,
            message: format!("{}\n  → {advice}", chain(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_exit_of_several_lenders_is_the_process_exit() {
        let all = [Exit::Done, Exit::Failed, Exit::TakenOver, Exit::Refused, Exit::Usage];
        let worst: Vec<_> = (1..=all.len())
            .map(|count| Exit::of_all(&all[..count]).code())
            .collect();
        assert_eq!(worst, [0, 1, 3, 4, 2]);
    }
}
