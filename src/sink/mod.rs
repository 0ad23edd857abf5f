//! How do records get into Kafka? A batch with its progress, or nothing.
//!
//! - `transaction`: one transaction (Atomic)
//! - `record`: what stands in the topics, headers and sizes
//! - `recovery`: what is committed, read back
//! - `versions`: the same by version, to be compared with upstream
//! - `topics`: the topics, checked and created
//! - `ready`: those of all lenders
//! - `tail`: the records of a topic, for people

mod ready;
mod record;
mod recovery;
mod tail;
mod topics;
mod transaction;
mod versions;

use std::time::Duration;

use crate::kafka::{self, ClusterError};
use crate::progress::{Record, RecordError};

pub use ready::ready_topics;
pub use record::{
    AccountRecord, ChangeRecord, DeadLetterRecord, Moved, Records, account_size, change_size, header, partitions_text,
};
pub use recovery::{ContentOf, CursorRecords, DeadLetterDigests, Stored, restore_accounts, restore_dead_letters};
pub use tail::{Hidden, Tail, TailError, TopicRecord};
pub use topics::{
    Brokers, Checked, Difference, Inspected, Role, State, Topic, TopicError, Topics, ensure_topics, inspect_topics,
};
pub use transaction::{Transactions, Watched, try_transactional_id};
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

/// Why a batch was not committed, or what is committed cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
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
}

impl From<ClusterError> for SinkError {
    fn from(error: ClusterError) -> Self {
        Self::Kafka(error.into())
    }
}
