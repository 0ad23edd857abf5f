//! How is a Kafka cluster talked to? Its clients, what they report, and what they read; nothing of what the records mean.
//!
//! - `cluster`: librdkafka's clients and the settings that the promises rest on
//! - `context`: what a client reports beside its calls
//! - `oauth`: the tokens that show brokers who this is, where they ask for one
//! - `reported`: what librdkafka reports of its connections, and who refuses this client by that
//! - `error`: why a call did not do what it was asked for, an ACL that is missing among them
//! - `read`: a topic, to its true end
//! - `group`, `rebalances`: which partitions the group protocol gives to this process
//! - `members`: who is in a group
//! - `polled`: a producer whose reports are heard
//! - `watermarks`, `ends`: where topics begin and end, and who has just asked
//! - `aside`: a client whose end nobody waits for
//! - `write`: one record, outside of any transaction
//! - `headers`: those of a record
//! - `probe`: what the brokers allow, tried without a trace
//! - `blocking`: the threads for all of this

mod aside;
mod blocking;
mod cluster;
mod context;
mod ends;
mod error;
mod group;
mod headers;
mod members;
mod oauth;
mod polled;
mod probe;
mod read;
mod rebalances;
mod reported;
mod watermarks;
mod write;

pub(crate) use aside::Aside;
pub(crate) use blocking::{blocking, uninterrupted};
pub(crate) use cluster::Isolation;
pub(crate) use cluster::{Cluster, EARLIEST_RETRY, delivery_timeout, transaction_timeout};
pub(crate) use context::{Context, WrittenTo, authorize};
pub(crate) use ends::FoundEnds;
pub(crate) use error::{
    Acl, AclOperation, CallFault, ClusterError, Error, GRANT, NO_ANSWER, NO_TOPIC, NO_TOPIC_ADVICE, NOT_GRANTED,
    REFUSED, UNREACHABLE,
};
pub(crate) use error::{code, is_denied, is_passing, may_pass};
pub(crate) use group::{Membership, partition_of};
pub(crate) use headers::{NotText, header_texts, headers};
pub(crate) use members::{Member, group_members};
pub(crate) use polled::PolledProducer;
pub(crate) use probe::{denied_reads, denied_writes, may_join};
pub(crate) use read::{End, Offsets, Reading, TopicReader, read_to_end};
pub(crate) use rebalances::{GivenUp, GroupEvent, TopicPartition};
pub(crate) use reported::{LastReported, Refusal};
pub(crate) use watermarks::{Watermarks, all_ends, partition_count, read_error, topic_ends, watermarks};
pub(crate) use write::write;
