//! What follows an error, and what should a person do about it? One exhaustive match an error type, no `_` arm.

use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::exit::{Exit, Failure};
use crate::kafka::{self, ClusterError, GRANT, code};
use crate::sink::SinkError;
use crate::upstream::UpstreamError;

/// What the reader does after a request that brought no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRequest {
    /// Wait, at least as long as upstream asks for, and ask again.
    Retry { retry_after: Option<Duration> },
    /// As `Retry`, with half the page size.
    Smaller,
    /// As `Retry`; if it happens again and again with a cursor only, the cursor is dead.
    PerhapsDeadCursor,
    /// The lender has failed until its credentials change.
    Fail,
    /// The lender stops.
    Stop(Exit),
}

pub fn after_request(error: &UpstreamError) -> AfterRequest {
    match error {
        UpstreamError::Network { .. } | UpstreamError::NoEnvelope { .. } => AfterRequest::Retry { retry_after: None },
        UpstreamError::Status {
            status, retry_after, ..
        } => match status {
            404 => AfterRequest::Stop(Exit::Refused),
            500 => AfterRequest::PerhapsDeadCursor,
            504 => AfterRequest::Smaller,
            _ => AfterRequest::Retry {
                retry_after: *retry_after,
            },
        },
        UpstreamError::TooLarge { .. } => AfterRequest::Smaller,
        UpstreamError::Credentials { .. } | UpstreamError::Secret { .. } => AfterRequest::Fail,
        UpstreamError::Forbidden { .. } | UpstreamError::OtherLender { .. } => AfterRequest::Stop(Exit::Refused),
    }
}

/// What to do about a request's error, for the person who reads the log.
pub fn request_advice(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::Network { .. } => "check upstream.base_url, proxy, DNS and upstream.ca_file; it is tried again",
        UpstreamError::NoEnvelope { .. } => "something between here and upstream answers for it; it is tried again",
        UpstreamError::Status { status: 404, .. } => "upstream does not serve D02 to this lender: ask the vendor",
        UpstreamError::Status { .. } => "it is tried again; if it lasts, ask the vendor's support with the request id",
        UpstreamError::TooLarge { .. } => {
            "it is tried again with fewer rows; a single large row needs a larger upstream.max_body"
        }
        UpstreamError::Credentials { .. } => {
            "check email and password of the lender, and with the vendor that it is active"
        }
        UpstreamError::Secret { .. } => "mount the secret where password_file points, readable for this process",
        UpstreamError::Forbidden { .. } => "check lenders.*.subdomain and public_id: they belong to different lenders",
        UpstreamError::OtherLender { .. } => "correct lenders.*.public_id, or the subdomain whose login this is",
    }
}

/// What the pipeline does after a call to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterSink {
    /// The one way back for everything uncertain: a new producer, then read what is committed.
    Reopen,
    /// Another producer has our transactional id, or our own transaction ran out of time: look for a claim first.
    LookForClaim,
    Stop(Exit),
}

pub fn after_sink(error: &SinkError) -> AfterSink {
    match error {
        SinkError::Kafka(
            kafka::Error::Call { source, .. }
            | kafka::Error::Read { source, .. }
            | kafka::Error::Delivery { source, .. },
        ) => after_kafka(source),
        SinkError::Kafka(
            kafka::Error::TimedOut { .. } | kafka::Error::Authentication { .. } | kafka::Error::EndNotReached { .. },
        )
        | SinkError::Doubtful { .. } => AfterSink::Reopen,
        SinkError::Emptied { .. }
        | SinkError::CursorRecord { .. }
        | SinkError::ForeignRecord { .. }
        | SinkError::TwoLenders { .. }
        | SinkError::Kafka(kafka::Error::NoTopic { .. } | kafka::Error::Denied { .. } | kafka::Error::Cluster(_)) => {
            AfterSink::Stop(Exit::Usage)
        }
        SinkError::Kafka(kafka::Error::Interrupted) => AfterSink::Stop(Exit::Done),
    }
}

/// What the pipeline does after a new producer could not be made: a secret's file that is being replaced may be gone for a
/// moment, which a start does not wait for.
pub fn after_reopening(error: &SinkError) -> AfterSink {
    match error {
        SinkError::Kafka(kafka::Error::Cluster(ClusterError::Secret { .. })) => AfterSink::Reopen,
        error => after_sink(error),
    }
}

fn after_kafka(error: &KafkaError) -> AfterSink {
    match code(error) {
        Some(RDKafkaErrorCode::Fenced | RDKafkaErrorCode::InvalidProducerEpoch | RDKafkaErrorCode::ProducerFenced) => {
            AfterSink::LookForClaim
        }
        Some(
            RDKafkaErrorCode::TransactionalIdAuthorizationFailed
            | RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::InvalidTransactionTimeout
            | RDKafkaErrorCode::UnsupportedForMessageFormat
            | RDKafkaErrorCode::UnknownTopic,
        ) => AfterSink::Stop(Exit::Usage),
        // Sizes are checked before sending: the topic's limit was lowered since, which a start asks for again.
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => AfterSink::Stop(Exit::Failed),
        _ => AfterSink::Reopen,
    }
}

/// What to do about an error of Kafka's.
pub fn sink_advice(error: &SinkError) -> &'static str {
    match error {
        SinkError::Kafka(
            kafka::Error::Call { source, .. }
            | kafka::Error::Read { source, .. }
            | kafka::Error::Delivery { source, .. },
        ) => match after_kafka(source) {
            AfterSink::LookForClaim => "another instance may have taken over; if none did, a transaction took too long",
            AfterSink::Stop(Exit::Failed) => {
                "max.message.bytes of a topic was lowered while this ran: start again, the new limit then counts"
            }
            AfterSink::Stop(_) => {
                "the brokers refuse it, now and later: `d02-source check` looks at all that they are asked for"
            }
            AfterSink::Reopen => "check that the brokers are up and kafka.* fits them; it is tried again",
        },
        SinkError::Kafka(kafka::Error::Denied { .. }) => GRANT,
        SinkError::Kafka(kafka::Error::Authentication { .. }) => {
            "correct user and password in kafka.properties, or have the brokers' owner change theirs; files of secrets are read \
             again, and it is tried again"
        }
        SinkError::Kafka(kafka::Error::TimedOut { .. }) | SinkError::Doubtful { .. } => {
            "the brokers are slow or away; it is tried again"
        }
        SinkError::Kafka(kafka::Error::EndNotReached { .. }) => {
            "look for an open transaction on that partition: kafka-transactions.sh find-hanging"
        }
        SinkError::Emptied { .. } => {
            "if the records were meant to go, `d02-source cursor reset` says so, and the next start reads from the \
             beginning; else restore the topic"
        }
        SinkError::CursorRecord { .. } => "run the version that wrote it, or `d02-source cursor reset`",
        SinkError::ForeignRecord { .. } => "give d02-source a topic of its own: kafka.topics.accounts",
        SinkError::TwoLenders { .. } => "put {lender} in kafka.topics.accounts: two lenders share keys",
        SinkError::Kafka(kafka::Error::NoTopic { .. }) => "run `d02-source setup`, or grant DESCRIBE on it",
        SinkError::Kafka(kafka::Error::Interrupted) => "nothing",
        SinkError::Kafka(kafka::Error::Cluster(ClusterError::Secret { .. })) => {
            "mount the secret where kafka.properties says, readable for this process"
        }
        SinkError::Kafka(kafka::Error::Cluster(_)) => "correct kafka.properties",
    }
}

impl From<SinkError> for Failure {
    fn from(error: SinkError) -> Self {
        let exit = match after_sink(&error) {
            AfterSink::Stop(exit) => exit,
            AfterSink::Reopen | AfterSink::LookForClaim => Exit::Failed,
        };
        Self::of(exit, &error, sink_advice(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fencing_is_told_from_missing_acls_and_from_all_that_is_uncertain() {
        let after = |code| after_kafka(&KafkaError::MessageProduction(code));
        assert_eq!(after(RDKafkaErrorCode::InvalidProducerEpoch), AfterSink::LookForClaim);
        assert_eq!(
            after(RDKafkaErrorCode::TopicAuthorizationFailed),
            AfterSink::Stop(Exit::Usage)
        );
        assert_eq!(after(RDKafkaErrorCode::MessageTimedOut), AfterSink::Reopen);
    }

    #[test]
    fn a_secret_that_is_gone_ends_a_start_and_not_a_pipeline_that_reopens() {
        let secret = crate::config::SecretSource::File("/nowhere/secret".into());
        let error = SinkError::from(ClusterError::Secret {
            key: "sasl.password".to_owned(),
            source: secret.read().expect_err("no such file"),
        });
        assert_eq!(after_sink(&error), AfterSink::Stop(Exit::Usage));
        assert_eq!(after_reopening(&error), AfterSink::Reopen);
    }
}
