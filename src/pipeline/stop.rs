//! How did a lender end?

use crate::exit::{DEFECT, Diagnosis, Exit, Failure, ProcessError};
use crate::reader::ReaderExit;

/// How a lender ended.
#[derive(Debug)]
pub(crate) struct StopReason {
    /// Why, if it did not end as it was asked to.
    pub failure: Option<Failure>,
    /// Upstream refuses it: it may run again once that is mended.
    pub is_failed: bool,
}

impl StopReason {
    pub(crate) fn as_asked() -> Self {
        Self {
            failure: None,
            is_failed: false,
        }
    }

    pub(crate) fn lost_reader() -> Self {
        let what = "its reader ended without a word";
        ProcessError::Defect { what }.into()
    }

    /// Whether it is a defect of this program, which another try meets again.
    pub(crate) fn is_defect(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.code() == DEFECT)
    }

    pub(crate) fn exit(&self) -> Exit {
        self.failure.as_ref().map_or(Exit::Done, Failure::exit)
    }

    /// What follows from how its reader ended.
    pub(crate) fn of_reader(ended: &ReaderExit) -> Self {
        match ended {
            ReaderExit::CaughtUp => Self::as_asked(),
            ReaderExit::Failed(error) => Self {
                failure: Some(Failure::of(error)),
                is_failed: error.is_failed(),
            },
        }
    }
}

impl From<Failure> for StopReason {
    fn from(failure: Failure) -> Self {
        Self {
            failure: Some(failure),
            is_failed: false,
        }
    }
}

impl<E: Diagnosis> From<E> for StopReason {
    fn from(error: E) -> Self {
        Failure::from(error).into()
    }
}
