//! How do records get into Kafka? A batch with its progress, or nothing.
//!
//! - `interface`: what the loop needs of all this
//! - `error`: why it was not given
//! - `ground`: whether the topics are still those that were written to
//! - `record`: what stands in the topics, headers and sizes
//! - `transaction`: one transaction (Atomic)
//! - `producer`: what a failed call to it means, and whether its id may be used
//! - `recovery`: what is committed, read back
//! - `cursors`: the same of a cursor topic, for all lenders of a process; `turns`: who reads for whom
//! - `versions`: the same by version, to be compared with upstream
//! - `topics`: the topics, what is wanted against what is found; `topic_error`: why they cannot be used
//! - `admin`: the topics at the brokers, looked at and created
//! - `ready`: those of all lenders, looked at again and again
//! - `hidden`: whether consumers still read what is written
//! - `tail`: the records of a topic, for people

mod admin;
mod cursors;
mod error;
mod ground;
mod hidden;
mod interface;
mod producer;
mod ready;
mod record;
mod recovery;
mod tail;
mod topic_error;
mod topics;
mod transaction;
mod turns;
mod versions;

pub(crate) use admin::{Brokers, InspectedTopic, TopicState, inspect_topics};
pub(crate) use cursors::{CursorReaders, KeptClients};
pub(crate) use error::SinkError;
pub(crate) use ground::TRAIL_ADVICE;
pub(crate) use interface::{Committed, Sink};
pub(crate) use producer::try_transactional_id;
pub(crate) use ready::{ready_topics, watch_topics};
pub(crate) use record::{
    AccountRecord, ChangeRecord, DeadLetterRecord, Moved, Records, TopicRecord, account_size, change_size, header,
    partitions_text,
};
pub(crate) use recovery::{CursorRecords, DeadLetterDigests, RestoredAccounts, RestoredDeadLetters, StoredCursor};
pub(crate) use tail::{TailError, TopicTail};
pub(crate) use topic_error::TopicError;
pub(crate) use topics::{Role, Topic, Topics, UsableTopic};
pub(crate) use transaction::{Transactions, Watchers};
pub(crate) use versions::{DeadLetters, read_dead_letters, read_versions};
