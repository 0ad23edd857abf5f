//! Why does a lender not start, and what is to be done about it?

use std::time::Duration;

use super::ownership::{TAKEN_OVER, TAKEN_OVER_ADVICE};
use super::partitions::PartitionsChanged;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure};
use crate::policy::{self, AfterSink};
use crate::sink::SinkError;

/// Why a lender does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("its cursor record is of {found}, upstream.base_url is {wanted}: another source's progress")]
    OtherSource { found: String, wanted: String },
    #[error(transparent)]
    Partitions(#[from] PartitionsChanged),
    #[error(
        "{connector} reads this lender too: its cursor record is {} old and not released",
        humantime::format_duration(*.age)
    )]
    LiveElsewhere { connector: String, age: Duration },
    #[error("{topic} holds {found} accounts of this lender, but there is no cursor record")]
    NoRecord { topic: String, found: u64 },
    #[error(
        "{topic} does not hold what was committed: {} accounts with checksum {:016x}, the cursor record says {} with {:016x}",
        .held.0, .held.1, .committed.0, .committed.1
    )]
    OtherAccounts {
        topic: String,
        held: (u64, u64),
        committed: (u64, u64),
    },
    #[error(
        "{topic} does not hold what was committed: {held} accounts, the cursor record says {committed}; {nameless} tombstones there \
         that this source did not write name no lender (header d02.lender), and what they removed is not known"
    )]
    Nameless {
        topic: String,
        held: u64,
        committed: u64,
        nameless: u64,
    },
    #[error("another instance took the lender over while it started")]
    TakenOver,
    /// Nothing was fenced for it; whoever starts it waits.
    #[error("another process runs it: its cursor record is {} old and not released", humantime::format_duration(*.age))]
    LivesOutside { age: Duration },
    #[error(transparent)]
    Shared(#[from] SharedFailure),
}

/// What keeps all lenders from starting that share a topic.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", .0.text())]
pub(crate) struct SharedFailure(Failure);

impl SharedFailure {
    pub(crate) fn of(error: SinkError) -> Self {
        Self(StartError::from(error).into())
    }

    pub(super) fn failure(&self) -> &Failure {
        &self.0
    }
}

impl StartError {
    /// Whether it may come of what was read long before: the topics seem not to hold what was committed, or cannot be read on.
    pub(super) fn may_be_of_what_was_held(&self) -> bool {
        match self {
            Self::NoRecord { .. } | Self::OtherAccounts { .. } | Self::Nameless { .. } => true,
            Self::Shared(_) => self.exit() != Exit::Done,
            _ => false,
        }
    }
}

impl Diagnosis for StartError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Sink(error) => error.code(),
            Self::Shared(SharedFailure(failure)) => failure.code(),
            Self::OtherSource { .. } => ErrorCode::S05,
            Self::Partitions(error) => error.code(),
            Self::LiveElsewhere { .. } => ErrorCode::S07,
            Self::NoRecord { .. } => ErrorCode::S08,
            Self::OtherAccounts { .. } => ErrorCode::S09,
            Self::Nameless { .. } => ErrorCode::S23,
            Self::TakenOver | Self::LivesOutside { .. } => TAKEN_OVER,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Sink(error) => error.advice(),
            Self::Shared(SharedFailure(failure)) => failure.advice(),
            Self::OtherSource { .. } => {
                "correct upstream.base_url, or give this source a `name` and topics of its own; `d02-source cursor \
                 reset` if the record is to be forgotten"
            }
            Self::Partitions(error) => error.advice(),
            Self::LiveElsewhere { .. } => "stop it, or give this source the same `name`, which takes over in order",
            Self::NoRecord { .. } | Self::OtherAccounts { .. } => {
                "restore the topics together, or run `d02-source cursor reset`: harmless, the next run reads everything \
                 and writes only what is missing"
            }
            Self::Nameless { .. } => {
                "if they removed accounts of this lender, write them once more with its public id in the header d02.lender; else \
                 restore the topics together, or run `d02-source cursor reset`: harmless, the next run reads everything and writes \
                 only what is missing"
            }
            Self::TakenOver | Self::LivesOutside { .. } => TAKEN_OVER_ADVICE,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            // Whoever fences a start has taken the lender over.
            Self::Sink(error) if policy::after_sink(error) == AfterSink::LookForClaim => TAKEN_OVER.exit(),
            Self::Shared(SharedFailure(failure)) => failure.exit(),
            Self::Sink(_)
            | Self::OtherSource { .. }
            | Self::Partitions(_)
            | Self::LiveElsewhere { .. }
            | Self::NoRecord { .. }
            | Self::OtherAccounts { .. }
            | Self::Nameless { .. }
            | Self::TakenOver
            | Self::LivesOutside { .. } => self.code().exit(),
        }
    }
}
