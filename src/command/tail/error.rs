//! Why is not everything printed that was asked for?

use crate::exit::{Diagnosis, ErrorCode, Exit};
use crate::registry::RegistryError;

/// Why not everything is printed that was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrintError {
    #[error("--changed chooses among the records of `changes` only")]
    ChangedElsewhere,
    #[error("`changes` is turned off: kafka.topics.changes is \"\"")]
    ChangesOff,
    #[error("--format csv is the accounts as they are: it goes with --topic accounts, --key and --lender alone")]
    NoPortfolio,
    #[error("{count} of {all} records cannot be decoded; their lines say why")]
    Undecodable { count: u64, all: u64 },
    #[error("{count} of {all} accounts are left out, because their records cannot be decoded; the log says why")]
    LeftOut { count: u64, all: u64 },
    #[error(
        "{count} of {all} accounts are left out: they were written again, and compacted away, while the topic was read"
    )]
    CompactedAway { count: u64, all: u64 },
    #[error(transparent)]
    Schema(RegistryError),
}

impl Diagnosis for PrintError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::ChangedElsewhere => ErrorCode::C18,
            Self::ChangesOff => ErrorCode::C17,
            Self::NoPortfolio => ErrorCode::C21,
            Self::Undecodable { .. } | Self::LeftOut { .. } => ErrorCode::S18,
            Self::CompactedAway { .. } => ErrorCode::S24,
            Self::Schema(error) => error.code(),
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::ChangedElsewhere => "add --topic changes",
            Self::ChangesOff => "set it to the topic's name",
            Self::NoPortfolio => "leave the other options out, or take --format json",
            Self::Undecodable { .. } | Self::LeftOut { .. } => "find out who wrote them",
            Self::CompactedAway { .. } => "run it again",
            Self::Schema(error) => error.advice(),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            // Whoever only reads may try again.
            Self::Schema(_) => Exit::Failed,
            Self::ChangedElsewhere
            | Self::ChangesOff
            | Self::NoPortfolio
            | Self::Undecodable { .. }
            | Self::LeftOut { .. }
            | Self::CompactedAway { .. } => self.code().exit(),
        }
    }
}
