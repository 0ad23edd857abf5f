//! How does a reader end by itself?

use super::ask::Reconciled;
use crate::avro::EncodeError;
use crate::exit::Exit;
use crate::policy::{self, AfterRequest};
use crate::upstream::UpstreamError;

/// Why a reader ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ReaderExit {
    /// Everything is read, as it was asked for.
    #[error("caught up")]
    CaughtUp,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the reading is stuck: {0}")]
    Stuck(String),
    #[error(transparent)]
    NotReconciled(Reconciled),
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The dead letters to be replayed.
    #[error("reading the dead letters: {0}")]
    Letters(String),
}

impl ReaderExit {
    pub fn exit(&self) -> Exit {
        match self {
            Self::CaughtUp => Exit::Done,
            Self::Upstream(_) | Self::Stuck(_) => Exit::Refused,
            Self::NotReconciled(_) | Self::Encode(_) | Self::Letters(_) => Exit::Failed,
        }
    }

    /// What to do about it, for the person who reads the log.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::CaughtUp => "nothing",
            Self::Upstream(error) => policy::request_advice(error),
            Self::NotReconciled(reconciled) => reconciled.advice().unwrap_or("nothing"),
            Self::Stuck(_) => "nothing was skipped; ask the vendor's support with the request id, then run it again",
            Self::Letters(_) => {
                "check that the brokers are up, then run it again: what is written is not written twice"
            }
            Self::Encode(_) => "this is a defect of the source: report it with this line",
        }
    }

    /// Whether the lender may run again once its credentials are mended.
    pub fn is_failed(&self) -> bool {
        matches!(self, Self::Upstream(error) if policy::after_request(error) == AfterRequest::Fail)
    }
}
