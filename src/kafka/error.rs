//! Why did a call to Kafka not do what it was asked for? What librdkafka, the brokers and the settings can answer; nothing of
//! what stands in records.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::reported::{LastReported, Refusal};
use crate::config::SecretError;
use crate::exit::{Diagnosis, ErrorCode, INTERRUPTED};

/// The code of whoever names an ACL that is missing.
pub(crate) const NOT_GRANTED: ErrorCode = ErrorCode::K09;

/// What to do where an ACL is named that is missing.
pub(crate) const GRANT: &str =
    "grant it to this user: docs/operations/kafka.md has the kafka-acls.sh lines, under \"ACLs\"";

/// The code of what the brokers refuse, now and later.
pub(crate) const REFUSED: ErrorCode = ErrorCode::K10;

/// The code of a call that failed.
const FAILED: ErrorCode = ErrorCode::K03;

/// The code of brokers that do not answer in time.
pub(crate) const NO_ANSWER: ErrorCode = ErrorCode::K04;

/// What to do about brokers that do not answer anybody.
pub(crate) const UNREACHABLE: &str =
    "check that the brokers are up, kafka.bootstrap_servers, and the security settings in kafka.properties";

/// The code of a topic that is not there, or hidden.
pub(crate) const NO_TOPIC: ErrorCode = ErrorCode::T09;

/// What to do about it.
pub(crate) const NO_TOPIC_ADVICE: &str = "check kafka.topics and kafka.bootstrap_servers; `d02-source setup` creates the topics; one that \
                                   may not be described looks missing too";

/// Why a call to Kafka did not do what it was asked for.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
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
    /// Of several records the reports say that they are invalid (librdkafka 2.12.1,
    /// findings/librdkafka-calls-several-records-of-a-wrong-time-invalid). The error of the transaction tells, and names the topic.
    #[error(
        "a record is refused for its time: it is {} by this machine's clock, and by the broker's that lies outside of what \
         message.timestamp.before.max.ms and message.timestamp.after.max.ms of the topic allow",
        here.to_rfc3339_opts(SecondsFormat::Secs, true)
    )]
    WrongTime { here: DateTime<Utc>, source: KafkaError },
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
    #[error(
        "{topic} partition {partition} ends at offset {end}, though it was read up to {position}: it was created anew, or lost records"
    )]
    WentBack {
        topic: String,
        partition: i32,
        position: i64,
        end: i64,
    },
    #[error("{topic} does not exist, or may not be described")]
    NoTopic { topic: String },
    #[error("interrupted by the shutdown")]
    Interrupted,
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Why there is no client.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("reading the secret of kafka.properties.\"{key}\"")]
    Secret { key: String, source: SecretError },
    /// Without the value, which rdkafka's own error shows.
    #[error("setting up a Kafka client: kafka.properties.\"{key}\" is refused: {why}")]
    Property { key: String, why: String },
    #[error("setting up a Kafka client")]
    Client(#[source] KafkaError),
}

/// What the error of a call means for whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallFault {
    /// Another producer has the transactional id, or the broker ended our transaction.
    Fenced,
    /// Not authorized, or an unknown topic: a broker or an authorizer that has just started says so of everything.
    Denied,
    /// Now and later.
    Refused,
    TooLarge,
    /// It was not delivered in time. It may pass, or less of it may.
    TooSlow,
    /// It may pass; what became of the call is not known.
    Uncertain,
}

impl CallFault {
    pub(crate) fn of(error: &KafkaError) -> Self {
        match code(error) {
            Some(
                RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::ProducerFenced,
            ) => Self::Fenced,
            Some(
                RDKafkaErrorCode::TransactionalIdAuthorizationFailed
                | RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::ClusterAuthorizationFailed
                | RDKafkaErrorCode::UnknownTopic,
            ) => Self::Denied,
            Some(RDKafkaErrorCode::InvalidTransactionTimeout | RDKafkaErrorCode::UnsupportedForMessageFormat) => {
                Self::Refused
            }
            // Sizes are checked before sending: the topic's limit was lowered since.
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Self::TooLarge,
            Some(RDKafkaErrorCode::MessageTimedOut) => Self::TooSlow,
            _ => Self::Uncertain,
        }
    }
}

impl Diagnosis for Error {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Call {
                source, last_reported, ..
            }
            | Self::Read {
                source, last_reported, ..
            }
            | Self::Delivery {
                source, last_reported, ..
            } => match CallFault::of(source) {
                CallFault::Fenced => ErrorCode::K12,
                CallFault::Denied | CallFault::Refused => REFUSED,
                CallFault::TooLarge => ErrorCode::K11,
                CallFault::TooSlow => last_reported.slow_code_or(FAILED),
                CallFault::Uncertain => last_reported.code_or(FAILED),
            },
            Self::WrongTime { .. } => ErrorCode::K21,
            Self::TimedOut { last_reported, .. } => last_reported.slow_code_or(NO_ANSWER),
            Self::Authentication { last_reported } => refusal_of(last_reported).code(),
            Self::EndNotReached { .. } => ErrorCode::K14,
            Self::WentBack { .. } => ErrorCode::K17,
            Self::Denied { .. } => NOT_GRANTED,
            Self::NoTopic { .. } => NO_TOPIC,
            Self::Interrupted => INTERRUPTED,
            Self::Cluster(error) => error.code(),
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Call {
                source, last_reported, ..
            }
            | Self::Read {
                source, last_reported, ..
            }
            | Self::Delivery {
                source, last_reported, ..
            } => match CallFault::of(source) {
                CallFault::Fenced => "another instance may have taken over; if none did, a transaction took too long",
                CallFault::Denied | CallFault::Refused => {
                    "the brokers refuse it, now and later: `d02-source check` looks at all that they are asked for"
                }
                CallFault::TooLarge => {
                    "max.message.bytes of a topic was lowered while this ran: start again, the new limit then counts"
                }
                CallFault::TooSlow => last_reported.slow_advice(),
                CallFault::Uncertain => last_reported.advice_or("check that the brokers are up and kafka.* fits them"),
            },
            Self::WrongTime { .. } => {
                "compare `date -u` here and on the brokers, and let NTP set the clock that is wrong; where both are right, raise that \
                 setting of the topic"
            }
            Self::TimedOut { last_reported, .. } => last_reported.slow_advice(),
            Self::Authentication { last_reported } => refusal_of(last_reported).advice(),
            Self::EndNotReached { .. } => {
                "look for an open transaction on that partition: kafka-transactions.sh find-hanging"
            }
            Self::WentBack { .. } => "start again: then it is read anew, and compared with what was committed",
            Self::Denied { .. } => GRANT,
            Self::NoTopic { .. } => NO_TOPIC_ADVICE,
            Self::Interrupted => "nothing",
            Self::Cluster(error) => error.advice(),
        }
    }
}

/// Who refused an authentication, which librdkafka's last report need not say.
fn refusal_of(last_reported: &LastReported) -> Refusal {
    last_reported.refusal().unwrap_or(Refusal::Credentials)
}

impl Diagnosis for ClusterError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Property { .. } | Self::Client(_) => ErrorCode::K01,
            Self::Secret { .. } => ErrorCode::K02,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Property { .. } | Self::Client(_) => "correct kafka.properties",
            Self::Secret { .. } => "mount the secret where kafka.properties says, readable for this process",
        }
    }
}

/// Kafka's code of an error, in whatever form it came.
pub(crate) fn code(error: &KafkaError) -> Option<RDKafkaErrorCode> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// What the broker's authorizer is to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acl {
    Topic {
        operation: AclOperation,
        topic: String,
    },
    /// WRITE on the transactional ids that begin so.
    TransactionalIds {
        prefix: String,
    },
    /// READ on a group.
    Group {
        group: String,
    },
}

/// Of a topic, in Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AclOperation {
    Read,
    Write,
    Create,
    Describe,
    DescribeConfigs,
}

impl Acl {
    pub(crate) fn of_topic(operation: AclOperation, topic: &str) -> Self {
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
            Self::Group { group } => write!(f, "READ on the group {group}"),
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
                | RDKafkaErrorCode::DestroyBroker
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
            // What librdkafka (2.12.1) says of a request to a broker that the cluster does not name any more.
            | RDKafkaErrorCode::DestroyBroker
    )
}
