//! How is a Kafka cluster talked to? Its clients, what they report, and what they read; nothing of what the records mean.
//!
//! - `cluster`: librdkafka's clients and the settings that the promises rest on
//! - `context`: what a client reports beside its calls
//! - `oauth`: the tokens that show brokers who this is, where they ask for one
//! - `error`: why a call did not do what it was asked for, an ACL that is missing among them
//! - `read`: a topic, to its true end
//! - `headers`: those of a record
//! - `probe`: what the brokers allow, tried without a trace
//! - `blocking`: the threads for all of this

mod blocking;
mod cluster;
mod context;
mod error;
mod headers;
mod oauth;
mod probe;
mod read;

pub use blocking::{blocking, uninterrupted};
pub(crate) use cluster::Isolation;
pub use cluster::{Cluster, transaction_timeout};
pub(crate) use context::{Context, authorize};
pub use error::{Acl, AclOperation, ClusterError, Error, GRANT, LastReported};
pub(crate) use error::{code, is_denied, is_passing, may_pass};
pub(crate) use headers::{NotText, header, headers};
pub use oauth::NO_TOKEN;
pub use probe::{denied_reads, denied_writes};
pub use read::Offsets;
pub(crate) use read::{Watermarks, partition_count, read_error, read_to_end, watermarks};
