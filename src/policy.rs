//! What follows an error? One exhaustive match an error type, no `_` arm. What a person should do about it, and with which code
//! the process ends, stands beside the error ([`Diagnosis`]).

use rdkafka::error::KafkaError;

use crate::exit::{Diagnosis, Exit};
use crate::kafka::{self, CallFault, ClusterError};
use crate::sink::SinkError;
use crate::upstream::UpstreamError;

/// What the reader does after a request that brought no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterRequest {
    /// Nobody answered, or not upstream itself: the network, a time-out, a gateway's page, 408, 429, 5xx but 500 and 504.
    Silence,
    /// Perhaps the cursor is dead; without one, upstream refuses the request: 500, and every 4xx that has no meaning of its own.
    Doubt,
    /// 413, and an answer above `upstream.max_body`.
    TooLarge,
    /// 504.
    TooSlow,
    /// A 200 that cannot be read: no JSON, JSON of another form, no UTF-8.
    Unreadable,
    /// The lender has failed: it is tried again when its credentials change or after a while.
    Fail,
    /// The lender stops.
    Stop(Exit),
}

pub(crate) fn after_request(error: &UpstreamError) -> AfterRequest {
    match error {
        UpstreamError::Network { .. } | UpstreamError::Redirect { .. } => AfterRequest::Silence,
        UpstreamError::Status {
            status: 403 | 404,
            is_upstreams,
            ..
        } => {
            if *is_upstreams {
                AfterRequest::Fail
            } else {
                AfterRequest::Silence
            }
        }
        UpstreamError::Status { status, .. } => after_status(*status),
        UpstreamError::ErrorIn200 { status, .. } => status.map_or(AfterRequest::Silence, after_status),
        UpstreamError::TooLarge { .. } => AfterRequest::TooLarge,
        UpstreamError::NoEnvelope { .. } | UpstreamError::NotUtf8 { .. } => AfterRequest::Unreadable,
        UpstreamError::Credentials { .. } | UpstreamError::Secret { .. } | UpstreamError::Forbidden { .. } => {
            AfterRequest::Fail
        }
        UpstreamError::OtherLender { .. } => AfterRequest::Stop(error.exit()),
    }
}

fn after_status(status: u16) -> AfterRequest {
    match status {
        413 => AfterRequest::TooLarge,
        504 => AfterRequest::TooSlow,
        408 | 429 => AfterRequest::Silence,
        400..=500 => AfterRequest::Doubt,
        _ => AfterRequest::Silence,
    }
}

/// What the pipeline does after a call to Kafka.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterSink {
    /// The one way back for everything uncertain: a new producer, then read what is committed.
    Reopen,
    /// Another producer has our transactional id, or our own transaction ran out of time: look for a claim first.
    LookForClaim,
    Stop(Exit),
}

pub(crate) fn after_sink(error: &SinkError) -> AfterSink {
    match error {
        SinkError::Kafka(
            kafka::Error::Call { source, .. }
            | kafka::Error::Read { source, .. }
            | kafka::Error::Delivery { source, .. },
        ) => after_call(source, error),
        SinkError::Kafka(
            kafka::Error::TimedOut { .. } | kafka::Error::Authentication { .. } | kafka::Error::EndNotReached { .. },
        )
        | SinkError::Doubtful { .. } => AfterSink::Reopen,
        SinkError::Emptied { .. }
        | SinkError::CursorRecord { .. }
        | SinkError::ForeignRecord { .. }
        | SinkError::TwoLenders { .. }
        | SinkError::Recreated { .. }
        | SinkError::Kafka(kafka::Error::NoTopic { .. } | kafka::Error::Denied { .. } | kafka::Error::Cluster(_)) => {
            AfterSink::Stop(error.exit())
        }
        SinkError::Kafka(kafka::Error::Interrupted) => AfterSink::Stop(error.exit()),
    }
}

/// What the pipeline does after a new producer could not be made: a secret's file that is being replaced may be gone for a
/// moment, which a start does not wait for.
pub(crate) fn after_reopening(error: &SinkError) -> AfterSink {
    match error {
        SinkError::Kafka(kafka::Error::Cluster(ClusterError::Secret { .. })) => AfterSink::Reopen,
        error => after_sink(error),
    }
}

/// Whether less might have got through in time.
pub(crate) fn is_too_slow(error: &SinkError) -> bool {
    match error {
        SinkError::Kafka(kafka::Error::Delivery { source, .. }) => CallFault::of(source) == CallFault::TooSlow,
        SinkError::Kafka(kafka::Error::TimedOut { .. }) => true,
        SinkError::Kafka(
            kafka::Error::Call { .. }
            | kafka::Error::Read { .. }
            | kafka::Error::Authentication { .. }
            | kafka::Error::EndNotReached { .. }
            | kafka::Error::NoTopic { .. }
            | kafka::Error::Denied { .. }
            | kafka::Error::Cluster(_)
            | kafka::Error::Interrupted,
        )
        | SinkError::Doubtful { .. }
        | SinkError::Emptied { .. }
        | SinkError::CursorRecord { .. }
        | SinkError::ForeignRecord { .. }
        | SinkError::TwoLenders { .. }
        | SinkError::Recreated { .. } => false,
    }
}

fn after_call(error: &KafkaError, all: &SinkError) -> AfterSink {
    match CallFault::of(error) {
        CallFault::Fenced => AfterSink::LookForClaim,
        CallFault::Refused | CallFault::TooLarge => AfterSink::Stop(all.exit()),
        CallFault::TooSlow | CallFault::Uncertain => AfterSink::Reopen,
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::error::RDKafkaErrorCode;

    use super::*;
    use crate::kafka::LastReported;

    #[test]
    fn fencing_is_told_from_missing_acls_and_from_all_that_is_uncertain() {
        let after = |code| {
            after_sink(&SinkError::Kafka(kafka::Error::Call {
                doing: "trying",
                last_reported: LastReported::default(),
                source: KafkaError::MessageProduction(code),
            }))
        };
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
