//! Why can the topics not be used, and what is to be done about it?

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::exit::{Diagnosis, ErrorCode};
use crate::kafka::{Acl, ClusterError, GRANT, LastReported, NO_ANSWER, NOT_GRANTED, UNREACHABLE, code, may_pass};

/// A dead letter without its row, or a cursor record with all its ranges, takes no more.
pub(super) const MIN_MAX_MESSAGE: usize = 64 << 10;

/// Why the topics cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{key}.\"cleanup.policy\" is {found}, but it can only be compact")]
    CleanupSetting { key: &'static str, found: String },
    #[error("{key}.\"max.message.bytes\" is {found}, it must be at least {MIN_MAX_MESSAGE}")]
    SmallSetting { key: &'static str, found: usize },
    #[error("no answer from {servers} within {}{last_reported}", humantime::format_duration(*.limit))]
    Unreachable {
        servers: String,
        limit: Duration,
        last_reported: LastReported,
        source: Box<KafkaError>,
    },
    #[error("missing topics: {}: `d02-source setup` creates them", .topics.join(", "))]
    Missing { topics: Vec<String> },
    #[error("topic {topic}: cleanup.policy is {found}, it must be exactly compact")]
    CleanupPolicy {
        topic: String,
        found: String,
        advice: String,
    },
    #[error("{doing} topic {topic}{last_reported}")]
    Kafka {
        doing: &'static str,
        topic: String,
        last_reported: LastReported,
        source: Box<KafkaError>,
    },
    #[error("{doing} topic {topic}: {acl} is not granted")]
    Denied {
        doing: &'static str,
        topic: String,
        acl: Acl,
        source: Box<KafkaError>,
    },
    #[error(
        "topic {topic} was created, but not all of its partitions have a leader after {}",
        humantime::format_duration(*.limit)
    )]
    NotReady { topic: String, limit: Duration },
    #[error(
        "topic {topic}: the brokers show none of its settings, as where DESCRIBE_CONFIGS on topic {topic} is not granted"
    )]
    NoSettings { topic: String },
    #[error("topic {topic}: the broker does not say what {setting} is")]
    NoSetting { topic: String, setting: &'static str },
    #[error("topic {topic}: max.message.bytes is {found}, it must be at least {MIN_MAX_MESSAGE}")]
    TooSmall { topic: String, found: usize },
}

impl TopicError {
    /// The code of topics that are missing.
    pub(crate) const MISSING: ErrorCode = ErrorCode::T01;
}

impl Diagnosis for TopicError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Cluster(error) => error.code(),
            Self::CleanupSetting { .. } | Self::SmallSetting { .. } => ErrorCode::T04,
            Self::Unreachable { last_reported, .. } => last_reported.code_or(NO_ANSWER),
            Self::Missing { .. } => Self::MISSING,
            Self::CleanupPolicy { .. } => ErrorCode::T02,
            Self::TooSmall { .. } => ErrorCode::T03,
            Self::Denied { .. } => NOT_GRANTED,
            Self::NoSettings { .. } => ErrorCode::T05,
            Self::NoSetting { .. } => ErrorCode::T06,
            Self::Kafka {
                source, last_reported, ..
            } => match code(source) {
                Some(code) if !may_pass(code) => ErrorCode::T07,
                _ => last_reported.code_or(NO_ANSWER),
            },
            Self::NotReady { .. } => ErrorCode::T08,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Cluster(error) => error.advice(),
            Self::SmallSetting { .. } => "raise it, or leave it out",
            Self::CleanupSetting { .. } => "leave it out: the latest record of every key has to stay",
            Self::Unreachable { last_reported, .. } => last_reported.advice_or(UNREACHABLE),
            Self::Missing { .. } => {
                "run it, or set kafka.create_topics = true; a topic that may not be described looks missing too"
            }
            Self::CleanupPolicy { advice, .. } => advice,
            Self::Denied { .. } | Self::NoSettings { .. } => GRANT,
            Self::Kafka {
                source, last_reported, ..
            } => match code(source) {
                Some(RDKafkaErrorCode::InvalidReplicationFactor) => {
                    "set kafka.topic_settings.*.replication_factor to no more than there are brokers"
                }
                Some(RDKafkaErrorCode::InvalidTopic) => "correct the name in kafka.topics",
                Some(
                    RDKafkaErrorCode::InvalidPartitions
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::PolicyViolation,
                ) => "correct kafka.topic_settings to what this cluster allows, or have the topic created by its owner",
                _ => last_reported.advice_or("check that the brokers are up, then start again"),
            },
            Self::NotReady { .. } => "check that the brokers are up, then start again",
            Self::NoSetting { .. } => "check that the brokers are Kafka 2.4 or newer",
            Self::TooSmall { .. } => "raise it with kafka-configs.sh, or take out the override of this topic",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn missing_topics_are_named_with_the_command_that_creates_them() {
        let error = TopicError::Missing {
            topics: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "missing topics: a, b: `d02-source setup` creates them"
        );
    }

    #[test]
    fn a_refusal_ends_the_process_for_good_and_a_broker_that_is_away_does_not() {
        let error = |code| TopicError::Kafka {
            doing: "creating",
            topic: "a".to_owned(),
            last_reported: LastReported::default(),
            source: Box::new(KafkaError::AdminOp(code)),
        };
        assert_eq!(error(RDKafkaErrorCode::TopicAuthorizationFailed).exit(), Exit::Usage);
        assert_eq!(error(RDKafkaErrorCode::InvalidReplicationFactor).exit(), Exit::Usage);
        assert_eq!(error(RDKafkaErrorCode::OperationTimedOut).exit(), Exit::Failed);
        assert_eq!(
            error(RDKafkaErrorCode::OperationTimedOut).to_string(),
            "creating topic a"
        );
    }
}
