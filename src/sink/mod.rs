//! How do records get into Kafka? A batch with its progress, or nothing.
//!
//! - `cluster`: librdkafka's clients and the settings that the promises rest on
//! - `oauth`: the tokens that show brokers who this is, where they ask for one
//! - `transaction`: one transaction (Atomic)
//! - `recovery`: what is committed, read back
//! - `versions`: the same by version, to be compared with upstream
//! - `topics`: the topics, checked and created
//! - `ready`: those of all lenders
//! - `rights`: what the brokers allow
//! - `tail`: the records of a topic, for people

mod cluster;
mod oauth;
mod ready;
mod recovery;
mod rights;
mod tail;
mod topics;
mod transaction;
mod versions;

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::progress::Record;
use crate::shutdown::{self, Shutdown};

pub use cluster::{Cluster, ClusterError, transaction_timeout};
pub use oauth::NO_TOKEN;
pub use ready::ready_topics;
pub use recovery::{
    ContentOf, CursorRecords, DeadLetterDigests, Offsets, Stored, restore_accounts, restore_dead_letters,
};
pub use rights::{GRANT, Operation, Right, denied_reads, denied_writes};
pub use tail::{Hidden, Tail, TailError, TopicRecord};
pub use topics::{Brokers, Checked, Difference, Inspected, Role, State, TopicError, ensure_topics, inspect_topics};
pub use transaction::{
    AccountRecord, ChangeRecord, DeadLetterRecord, Moved, Records, Topic, Topics, Transactions, Watched, account_size,
    change_size, partitions_text, try_transactional_id,
};
pub use versions::{DeadLetters, read_dead_letters, read_versions};

/// What the loop needs of Kafka for one lender. The second implementation is the model test's memory.
pub trait Sink {
    fn topics(&self) -> &Topics;

    /// Commits `records` and the `progress` that they are, or nothing (Atomic).
    ///
    /// # Errors
    /// Whenever the outcome is not known to be good: then [`Sink::reopen`].
    fn commit(&self, records: &Records<'_>, progress: &Record, lender: &str) -> Result<(), SinkError>;

    /// The way back from everything uncertain: a new producer, then what is committed.
    ///
    /// # Errors
    /// When the coordinator cannot be reached in time, or the cursor topic not be read to its end.
    fn reopen(&mut self) -> Result<Committed, SinkError>;

    /// What is committed, without a claim to it.
    ///
    /// # Errors
    /// When the cursor topic cannot be read to its end, or lost records.
    fn committed(&self) -> Result<Committed, SinkError>;

    /// Partition counts as they are now, in the form of the cursor record.
    ///
    /// # Errors
    /// When the cluster does not answer.
    fn partitions(&self) -> Result<String, SinkError>;

    /// Ends what is open, if that can be done, when nothing is written any more: it would hide later records for a minute.
    fn abandon(&self);
}

/// What the cursor topic says of a lender.
#[derive(Debug, Clone)]
pub enum Committed {
    Nothing,
    /// A tombstone: the next start reads from the beginning.
    Reset,
    Record(Box<Record>),
}

impl Committed {
    pub fn record(self) -> Option<Record> {
        match self {
            Self::Record(record) => Some(*record),
            Self::Nothing | Self::Reset => None,
        }
    }
}

/// Why a call to Kafka did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    #[error("{doing}{reason}")]
    Kafka {
        doing: &'static str,
        reason: Reason,
        source: KafkaError,
    },
    #[error("a record for {topic} was not delivered{reason}")]
    Delivery {
        topic: String,
        reason: Reason,
        source: KafkaError,
    },
    #[error("{doing}: {right} is not granted")]
    Denied {
        doing: &'static str,
        right: Right,
        source: KafkaError,
    },
    #[error("the brokers do not let this user in{reason}")]
    NotLetIn { reason: Reason },
    #[error("{doing} took longer than {}{reason}", humantime::format_duration(*.limit))]
    TimedOut {
        doing: &'static str,
        limit: Duration,
        reason: Reason,
    },
    /// The commit succeeded, but a repeated EndTxn may still be under way: docs/delivery.md, "Reopen".
    #[error("the commit succeeded after {} ms, {what}", .took.as_millis())]
    Doubtful { took: Duration, what: &'static str },
    #[error(
        "{topic} partition {partition} cannot be read to its end, offset {end}: nothing came for {} after {position}{reason}",
        humantime::format_duration(*.waited)
    )]
    EndNotReached {
        topic: String,
        partition: i32,
        end: i64,
        position: i64,
        waited: Duration,
        reason: Reason,
    },
    #[error("{topic} partition {partition} is empty but once held records up to offset {high}")]
    Emptied { topic: String, partition: i32, high: i64 },
    #[error("the cursor record at {topic} partition {partition} offset {offset} cannot be used")]
    CursorRecord {
        topic: String,
        partition: i32,
        offset: i64,
        source: crate::progress::RecordError,
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
    #[error("{topic} does not exist, or may not be described")]
    NoTopic { topic: String },
    #[error("interrupted by the shutdown")]
    Interrupted,
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Talks to Kafka, which blocks, on a thread that is meant for it.
pub async fn in_background<T: Send + 'static>(talk: impl FnOnce() -> T + Send + 'static) -> T {
    let talked = tokio::task::spawn_blocking(talk).await;
    talked.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// As [`in_background`], for who is asked to end by nobody but the end of the process.
pub async fn uninterrupted<T: Send + 'static>(talk: impl FnOnce(Shutdown) -> T + Send + 'static) -> T {
    let (_sender, shutdown) = shutdown::channel();
    in_background(move || talk(shutdown)).await
}

/// Kafka's code of an error, in whatever form it came.
pub fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What librdkafka last reported of its connections: the calls themselves often say no more than "timed out".
#[derive(Debug, Clone, Default)]
pub struct Reason(pub Option<String>);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(reason) => write!(f, " (last reported: {reason})"),
            None => Ok(()),
        }
    }
}
