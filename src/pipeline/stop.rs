//! How did a lender end?

use crate::exit::{Exit, chain};
use crate::reader::ReaderExit;

/// How a lender ended.
#[derive(Debug)]
pub struct StopReason {
    pub exit: Exit,
    /// Why, if it did not end as it was asked to.
    pub why: Option<String>,
    /// Its credentials were refused: it may run again once they are mended.
    pub is_failed: bool,
}

impl StopReason {
    pub fn because(exit: Exit, why: impl Into<String>) -> Self {
        Self {
            exit,
            why: Some(why.into()),
            is_failed: false,
        }
    }

    pub fn as_asked() -> Self {
        Self {
            exit: Exit::Done,
            why: None,
            is_failed: false,
        }
    }

    pub fn taken_over() -> Self {
        Self::because(
            Exit::TakenOver,
            "another instance took the lender over; this one writes nothing more",
        )
    }

    pub fn lost_reader() -> Self {
        Self::because(Exit::Failed, "its reader ended without a word, which is a defect")
    }

    /// What follows from how its reader ended.
    pub fn of_reader(ended: &ReaderExit) -> Self {
        if matches!(ended, ReaderExit::CaughtUp) {
            return Self::as_asked();
        }
        Self {
            exit: ended.exit(),
            why: Some(format!("{} → {}", chain(ended), ended.advice())),
            is_failed: ended.is_failed(),
        }
    }
}
