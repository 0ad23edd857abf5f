//! What does the loop need of Kafka for one lender?

use std::time::Duration;

use super::error::SinkError;
use super::record::Records;
use super::topics::Topics;
use crate::progress::{Record, TopicEnds};

/// What the loop needs of Kafka for one lender. The second implementation is the model test's memory.
pub(crate) trait Sink {
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

    /// Holds the topics to what was written to them, as they were within `max_age`; at first to what the cursor record says.
    /// Gives the partition counts in the form of that record; `None`: not known, which was said.
    ///
    /// # Errors
    /// When a topic is another one, or the cluster does not answer.
    fn hold_ground(&self, recorded: &TopicEnds, max_age: Duration) -> Result<Option<String>, SinkError>;

    /// Ends what is open, if that can be done, when nothing is written any more: it would hide later records for a minute.
    fn abandon(&self);
}

/// What the cursor topic says of a lender.
#[derive(Debug, Clone)]
pub(crate) enum Committed {
    Nothing,
    /// A tombstone: the next start reads from the beginning.
    Reset,
    Record(Box<Record>),
}

impl Committed {
    pub(crate) fn record(self) -> Option<Record> {
        match self {
            Self::Record(record) => Some(*record),
            Self::Nothing | Self::Reset => None,
        }
    }
}
