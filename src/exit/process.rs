//! What may go wrong with the process itself?

use std::io;

use super::code::ErrorCode;
use super::diagnosis::Diagnosis;

/// What has no other way to go wrong.
pub const DEFECT: ErrorCode = ErrorCode::P07;

/// It was asked to end.
pub const INTERRUPTED: ErrorCode = ErrorCode::P08;

/// Why the process itself does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// A thread, the runtime, signals.
    #[error("{doing}")]
    System { doing: &'static str, source: io::Error },
    #[error("writing to standard output")]
    Output(#[source] io::Error),
    #[error("{what}, which is a defect")]
    Defect { what: &'static str },
}

impl Diagnosis for ProcessError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::System { .. } => ErrorCode::P03,
            Self::Output(_) => ErrorCode::P09,
            Self::Defect { .. } => DEFECT,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::System { .. } => "look at this machine's limits: threads, open files, memory",
            Self::Output(_) => "see where standard output goes: a full disk, or a program that has ended",
            Self::Defect { .. } => "start it again, and report this line: nothing is lost by it",
        }
    }
}
