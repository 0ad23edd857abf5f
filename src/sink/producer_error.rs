//! What does an error of a producer mean? What ended it says more than what its calls say afterwards.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use crate::kafka::{self, Acl, Cluster, Context, LastReported, code};

pub(super) fn kafka_error(
    cluster: &Cluster,
    producer: &ThreadedProducer<Context>,
    doing: &'static str,
    source: KafkaError,
) -> kafka::Error {
    fatal_error(cluster, producer, doing)
        .unwrap_or_else(|| error_of(cluster, doing, producer.context().last_reported(), source))
}

/// What ended the producer, if anything did: later calls and purged records name only its consequences.
pub(super) fn fatal_error(
    cluster: &Cluster,
    producer: &ThreadedProducer<Context>,
    doing: &'static str,
) -> Option<kafka::Error> {
    let (code, reason) = producer.client().fatal_error()?;
    let source = KafkaError::MessageProduction(code);
    Some(error_of(cluster, doing, LastReported::of(reason), source))
}

fn error_of(cluster: &Cluster, doing: &'static str, last_reported: LastReported, source: KafkaError) -> kafka::Error {
    if code(&source) == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) {
        let prefix = cluster.transactional_prefix();
        let acl = Acl::TransactionalIds { prefix };
        return kafka::Error::Denied { doing, acl, source };
    }
    kafka::Error::Call {
        doing,
        last_reported,
        source,
    }
}
