//! How does a reader end by itself?

use std::time::Duration;

use super::ask::NotReconciled;
use super::stuck::{STUCK, STUCK_ADVICE};
use crate::exit::{Diagnosis, ErrorCode, Exit};
use crate::policy::{self, AfterRequest};
use crate::sink::SinkError;
use crate::upstream::UpstreamError;

/// How a reader ended by itself.
#[derive(Debug)]
pub(crate) enum ReaderExit {
    /// Everything is read, as it was asked for.
    CaughtUp,
    Failed(ReaderError),
}

/// Why a reader cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReaderError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the reading is stuck: {0}")]
    Stuck(String),
    #[error("upstream brought no page that counts for {}: {text}", humantime::format_duration(*.patience))]
    OutOfPatience { patience: Duration, text: String },
    #[error(transparent)]
    NotReconciled(#[from] NotReconciled),
    /// The dead letters to be replayed.
    #[error("reading the dead letters")]
    Letters(#[source] SinkError),
}

impl<E: Into<ReaderError>> From<E> for ReaderExit {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl ReaderError {
    /// Whether the lender may run again, once its credentials are mended or upstream lets it in.
    pub(crate) fn is_failed(&self) -> bool {
        matches!(self, Self::Upstream(error) if policy::after_request(error) == AfterRequest::Fail)
    }
}

impl Diagnosis for ReaderError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Upstream(error) => error.code(),
            Self::Stuck(_) => STUCK,
            Self::OutOfPatience { .. } => ErrorCode::U27,
            Self::NotReconciled(error) => error.code(),
            Self::Letters(error) => error.code(),
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Upstream(error) => error.advice(),
            Self::Stuck(_) => STUCK_ADVICE,
            Self::OutOfPatience { .. } => {
                "what is read is committed, and the next run goes on from there; --patience waits longer"
            }
            Self::NotReconciled(error) => error.advice(),
            Self::Letters(_) => {
                "check that the brokers are up, then run it again: what is written is not written twice"
            }
        }
    }

    fn exit(&self) -> Exit {
        match self {
            // What was tried so far stays; the rest is tried by running it again.
            Self::Letters(_) => Exit::Failed,
            Self::Upstream(_) | Self::Stuck(_) | Self::OutOfPatience { .. } | Self::NotReconciled(_) => {
                self.code().exit()
            }
        }
    }
}
