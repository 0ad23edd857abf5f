//! Why did a call to Kafka not do what it was asked for? What librdkafka, the brokers and the settings can answer; nothing of
//! what stands in records.

use std::fmt;
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::config::SecretError;

/// What to do where an ACL is named that is missing.
pub const GRANT: &str = "grant it to this user: docs/operations/kafka.md has the kafka-acls.sh lines, under \"ACLs\"";

/// Why a call to Kafka did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{doing}{last_reported}")]
    Call {
        doing: &'static str,
        last_reported: LastReported,
        source: KafkaError,
    },
    #[error("{doing} topic {topic}{last_reported}")]
    Read {
        doing: &'static str,
        topic: String,
        last_reported: LastReported,
        source: KafkaError,
    },
    #[error("a record for {topic} was not delivered{last_reported}")]
    Delivery {
        topic: String,
        last_reported: LastReported,
        source: KafkaError,
    },
    #[error("{doing}: {acl} is not granted")]
    Denied {
        doing: &'static str,
        acl: Acl,
        source: KafkaError,
    },
    #[error("authentication failed{last_reported}")]
    Authentication { last_reported: LastReported },
    #[error("{doing} took longer than {}{last_reported}", humantime::format_duration(*.limit))]
    TimedOut {
        doing: &'static str,
        limit: Duration,
        last_reported: LastReported,
    },
    #[error(
        "{topic} partition {partition} cannot be read to its end, offset {end}: nothing came for {} after \
         {position}{last_reported}",
        humantime::format_duration(*.waited)
    )]
    EndNotReached {
        topic: String,
        partition: i32,
        end: i64,
        position: i64,
        waited: Duration,
        last_reported: LastReported,
    },
    #[error("{topic} does not exist, or may not be described")]
    NoTopic { topic: String },
    #[error("interrupted by the shutdown")]
    Interrupted,
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("reading the secret of kafka.properties.\"{key}\"")]
    Secret { key: String, source: SecretError },
    /// Without the value, which rdkafka's own error shows.
    #[error("setting up a Kafka client: kafka.properties.\"{key}\" is refused: {why}")]
    Property { key: String, why: String },
    #[error("setting up a Kafka client")]
    Client(#[source] KafkaError),
}

/// Kafka's code of an error, in whatever form it came.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What librdkafka last reported of its connections: the calls themselves often say no more than "timed out".
#[derive(Debug, Clone, Default)]
pub struct LastReported(pub Option<String>);

impl fmt::Display for LastReported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(reason) => write!(f, " (last reported: {reason})"),
            None => Ok(()),
        }
    }
}

/// What the broker's authorizer is to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acl {
    Topic {
        operation: AclOperation,
        topic: String,
    },
    /// WRITE on the transactional ids that begin so.
    TransactionalIds {
        prefix: String,
    },
}

/// Of a topic, in Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AclOperation {
    Read,
    Write,
    Create,
    Describe,
    DescribeConfigs,
}

impl Acl {
    pub fn of_topic(operation: AclOperation, topic: &str) -> Self {
        let topic = topic.to_owned();
        Self::Topic { operation, topic }
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic {
                operation: AclOperation::Describe,
                topic,
            } => write!(f, "DESCRIBE on topic {topic}, which READ and WRITE imply,"),
            Self::Topic { operation, topic } => write!(f, "{operation} on topic {topic}"),
            Self::TransactionalIds { prefix } => write!(f, "WRITE on the transactional ids that begin with {prefix}"),
        }
    }
}

impl fmt::Display for AclOperation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Create => "CREATE",
            Self::Describe => "DESCRIBE",
            Self::DescribeConfigs => "DESCRIBE_CONFIGS",
        })
    }
}

/// Whether this is how a broker says that the user lacks an ACL on a topic.
pub(crate) fn is_denied(error: &KafkaError) -> bool {
    code(error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// What a consumer reports and gets over by itself.
pub(crate) fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::Resolve
                // Nothing is asked of the group; a cluster may refuse even to look for its coordinator.
                | RDKafkaErrorCode::GroupAuthorizationFailed
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

/// Whether the same request may be answered otherwise in a moment.
pub(crate) fn may_pass(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::UnknownTopicOrPartition
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
            | RDKafkaErrorCode::NotController
            | RDKafkaErrorCode::BrokerNotAvailable
            | RDKafkaErrorCode::NetworkException
            | RDKafkaErrorCode::RequestTimedOut
            | RDKafkaErrorCode::ThrottlingQuotaExceeded
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::TimedOutQueue
            | RDKafkaErrorCode::MessageTimedOut
            | RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
    )
}
