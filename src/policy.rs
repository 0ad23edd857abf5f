//! What follows an error? One exhaustive match an error type, no `_` arm. What a person should do about it, and with which code
//! the process ends, stands beside the error ([`Diagnosis`]).

use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::time::Instant;

use crate::exit::{Diagnosis, Exit};
use crate::failpoint;
use crate::kafka::{self, CallFault, ClusterError};
use crate::sink::{SinkError, TopicError};
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
    /// *Unknown topic* and *not authorized*: a stop, unless it is over within [`Denials`]' patience.
    AskAgain(Exit),
    Stop(Exit),
}

/// How long a broker or an authorizer that has just started may say *unknown topic* or *not authorized* of what is there.
static DENIAL_PATIENCE: LazyLock<Duration> =
    LazyLock::new(|| failpoint::shortened("D02_TEST_DENIAL_PATIENCE", Duration::from_secs(60)));

/// The longest wait before what was denied is asked for again.
pub(crate) const DENIED_WAIT: Duration = Duration::from_secs(5);

/// For how long has the same been denied?
#[derive(Debug)]
pub(crate) struct Denials {
    patience: Duration,
    /// Since then nothing else came.
    first: Mutex<Option<Instant>>,
}

impl Denials {
    /// A process that nobody waits for asks again.
    pub(crate) fn asked_again() -> Self {
        Self {
            patience: *DENIAL_PATIENCE,
            first: Mutex::default(),
        }
    }

    /// A person would rather know at once.
    pub(crate) fn said_at_once() -> Self {
        Self {
            patience: Duration::ZERO,
            first: Mutex::default(),
        }
    }

    /// For another call.
    pub(crate) fn anew(&self) -> Self {
        let Self { patience, .. } = *self;
        let first = Mutex::default();
        Self { patience, first }
    }

    /// What is done by now: what is to be asked again is a reopening, or a stop once that has gone on for too long.
    pub(crate) fn after(&self, after: AfterSink) -> AfterSink {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        let AfterSink::AskAgain(exit) = after else {
            *first = None;
            return after;
        };
        if first.get_or_insert_with(Instant::now).elapsed() < self.patience {
            AfterSink::Reopen
        } else {
            AfterSink::Stop(exit)
        }
    }
}

/// What a start does after the topics could not be used; it has waited for brokers that do not answer.
pub(crate) fn after_topics(error: &TopicError) -> AfterSink {
    match error {
        TopicError::Missing { .. } | TopicError::Denied { .. } | TopicError::NoSettings { .. } => {
            AfterSink::AskAgain(error.exit())
        }
        TopicError::Kafka { source, .. }
            if kafka::code(source) == Some(RDKafkaErrorCode::ClusterAuthorizationFailed) =>
        {
            AfterSink::AskAgain(error.exit())
        }
        TopicError::Kafka { .. }
        | TopicError::Cluster(_)
        | TopicError::CleanupSetting { .. }
        | TopicError::SmallSetting { .. }
        | TopicError::Unreachable { .. }
        | TopicError::CleanupPolicy { .. }
        | TopicError::NotReady { .. }
        | TopicError::NoSetting { .. }
        | TopicError::TooSmall { .. } => AfterSink::Stop(error.exit()),
    }
}

pub(crate) fn after_sink(error: &SinkError) -> AfterSink {
    match error {
        SinkError::Kafka(
            kafka::Error::Call { source, .. }
            | kafka::Error::Read { source, .. }
            | kafka::Error::Delivery { source, .. },
        ) => after_call(source, error),
        SinkError::Kafka(
            kafka::Error::WrongTime { .. }
            | kafka::Error::TimedOut { .. }
            | kafka::Error::Authentication { .. }
            | kafka::Error::EndNotReached { .. },
        )
        | SinkError::Doubtful { .. }
        | SinkError::Schema(_) => AfterSink::Reopen,
        SinkError::Emptied { .. }
        | SinkError::CursorRecord { .. }
        | SinkError::ForeignRecord { .. }
        | SinkError::TwoLenders { .. }
        | SinkError::Recreated { .. }
        | SinkError::CursorGone { .. }
        | SinkError::Kafka(kafka::Error::Cluster(_) | kafka::Error::WentBack { .. }) => AfterSink::Stop(error.exit()),
        SinkError::Kafka(kafka::Error::NoTopic { .. } | kafka::Error::Denied { .. }) => {
            AfterSink::AskAgain(error.exit())
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
            | kafka::Error::WrongTime { .. }
            | kafka::Error::Authentication { .. }
            | kafka::Error::EndNotReached { .. }
            | kafka::Error::WentBack { .. }
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
        | SinkError::Recreated { .. }
        | SinkError::CursorGone { .. }
        | SinkError::Schema(_) => false,
    }
}

fn after_call(error: &KafkaError, all: &SinkError) -> AfterSink {
    match CallFault::of(error) {
        CallFault::Fenced => AfterSink::LookForClaim,
        CallFault::Denied => AfterSink::AskAgain(all.exit()),
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
            AfterSink::AskAgain(Exit::Usage)
        );
        assert_eq!(after(RDKafkaErrorCode::UnknownTopic), AfterSink::AskAgain(Exit::Usage));
        assert_eq!(
            after(RDKafkaErrorCode::InvalidTransactionTimeout),
            AfterSink::Stop(Exit::Usage)
        );
        assert_eq!(after(RDKafkaErrorCode::MessageTimedOut), AfterSink::Reopen);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_denied_is_asked_again_for_a_minute_from_the_first_time_and_never_for_a_person() {
        let denied = AfterSink::AskAgain(Exit::Usage);
        let (patient, person) = (Denials::asked_again(), Denials::said_at_once());
        assert_eq!(person.after(denied), AfterSink::Stop(Exit::Usage));
        assert_eq!(patient.after(denied), AfterSink::Reopen);
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(patient.after(denied), AfterSink::Reopen);
        // What is something else breaks it off.
        assert_eq!(patient.after(AfterSink::LookForClaim), AfterSink::LookForClaim);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(patient.after(denied), AfterSink::Reopen);
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(patient.after(denied), AfterSink::Stop(Exit::Usage));
        assert_eq!(patient.anew().after(denied), AfterSink::Reopen);
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
