//! Why was a batch not committed, or can what is committed not be said?

use std::sync::Arc;
use std::time::Duration;

use crate::exit::{Diagnosis, ErrorCode};
use crate::kafka::{self, ClusterError};
use crate::progress::{EndsBefore, RecordError};
use crate::registry::RegistryError;

/// Why a batch was not committed, or what is committed cannot be said.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SinkError {
    #[error(transparent)]
    Kafka(#[from] kafka::Error),
    /// The commit succeeded, but a repeated EndTxn may still be under way: docs/delivery.md, "Reopen".
    #[error("the commit succeeded after {} ms, {what}", .took.as_millis())]
    Doubtful { took: Duration, what: &'static str },
    #[error("{topic} partition {partition} is empty but once held records up to offset {high}")]
    Emptied { topic: String, partition: i32, high: i64 },
    #[error("the cursor record at {topic} partition {partition} offset {offset} cannot be used")]
    CursorRecord {
        topic: String,
        partition: i32,
        offset: i64,
        source: RecordError,
    },
    #[error("the record at {topic} partition {partition} offset {offset} was not written by d02-source: {what}")]
    ForeignRecord {
        topic: String,
        partition: i32,
        offset: i64,
        what: &'static str,
    },
    #[error(
        "{topic} holds an account of lender {lender} that is also held under lender {other} (partition {partition}, \
         offset {offset})"
    )]
    TwoLenders {
        topic: String,
        partition: i32,
        offset: i64,
        lender: String,
        other: String,
    },
    #[error("{}", .ends.text(.topic))]
    Recreated { topic: String, ends: EndsBefore },
    #[error("{topic} holds no record of this lender any more, and it held one")]
    CursorGone { topic: String },
    #[error("the schema of an account's record cannot be had")]
    Schema(#[source] Arc<RegistryError>),
}

impl Diagnosis for SinkError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Kafka(error) => error.code(),
            Self::Doubtful { .. } => ErrorCode::K13,
            Self::Emptied { .. } => ErrorCode::S01,
            Self::CursorRecord { .. } => ErrorCode::S02,
            Self::ForeignRecord { .. } => ErrorCode::S03,
            Self::TwoLenders { .. } => ErrorCode::S04,
            Self::Recreated { .. } | Self::CursorGone { .. } => ErrorCode::S19,
            Self::Schema(error) => error.code(),
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Kafka(error) => error.advice(),
            Self::Doubtful { .. } => "nothing, if it is rare; if it comes again and again, the brokers are slow",
            Self::Emptied { .. } => {
                "if the records were meant to go, `d02-source cursor reset` says so, and the next start reads from the \
                 beginning; else restore the topic"
            }
            Self::CursorRecord { .. } => "run the version that wrote it, or `d02-source cursor reset`",
            Self::ForeignRecord { .. } => "give d02-source a topic of its own: kafka.topics.accounts",
            Self::Recreated { .. } | Self::CursorGone { .. } => {
                "restore the topics together, or run `d02-source cursor reset`: harmless, the next run reads everything and \
                 writes only what is missing"
            }
            Self::TwoLenders { .. } => "put {lender} in kafka.topics.accounts: two lenders share keys",
            Self::Schema(error) => error.advice(),
        }
    }
}

impl From<ClusterError> for SinkError {
    fn from(error: ClusterError) -> Self {
        Self::Kafka(error.into())
    }
}
