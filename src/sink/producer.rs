//! What does an error of a producer mean, and may its transactional id be used? What ended one says more than its calls say afterwards.

use std::time::Duration;

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::Producer;

use crate::kafka::{self, Acl, Cluster, LastReported, PolledProducer, code};
use crate::metrics::LenderMetrics;

/// The coordinator may be electing, or still completing what an earlier instance left.
pub(super) const INIT_LIMIT: Duration = Duration::from_secs(15);

/// Claims the producer's transactional id, in twice the `limit` at most. `topic`: one that it may ask for.
///
/// librdkafka looks for a broker that is connected at once, and then every 500 ms; a new producer has none. So it connects first: to who
/// tells it of the brokers, which it leaves, and then to one of those.
pub(super) fn claim_id(producer: &PolledProducer, topic: &str, limit: Duration) -> KafkaResult<()> {
    /// A broker that is there answers sooner.
    const CONNECT: Duration = Duration::from_secs(2);
    producer.wake();
    for _ in 0..2 {
        // What went wrong is said by what follows.
        let _ = producer.client().fetch_metadata(Some(topic), limit.min(CONNECT));
    }
    producer.init_transactions(limit)
}

pub(super) fn kafka_error(
    cluster: &Cluster,
    producer: &PolledProducer,
    doing: &'static str,
    source: KafkaError,
) -> kafka::Error {
    // What it reported of its connections says more.
    producer.hear();
    fatal_error(cluster, producer, doing)
        .unwrap_or_else(|| error_of(cluster, doing, producer.context().last_reported(), source))
}

/// What ended the producer, if anything did: later calls and purged records name only its consequences.
pub(super) fn fatal_error(cluster: &Cluster, producer: &PolledProducer, doing: &'static str) -> Option<kafka::Error> {
    let (code, reason) = producer.client().fatal_error()?;
    let source = KafkaError::MessageProduction(code);
    Some(error_of(cluster, doing, LastReported::of(reason), source))
}

fn error_of(cluster: &Cluster, doing: &'static str, last_reported: LastReported, source: KafkaError) -> kafka::Error {
    match denied_id(cluster, doing, source) {
        Ok(denied) => denied,
        Err(source) => kafka::Error::Call {
            doing,
            last_reported,
            source,
        },
    }
}

/// That its transactional id may not be used, where `source` says so; else `source`. A call may hear it, or a record's report.
pub(super) fn denied_id(cluster: &Cluster, doing: &'static str, source: KafkaError) -> KafkaResult<kafka::Error> {
    if code(&source) != Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) {
        return Err(source);
    }
    let prefix = cluster.transactional_prefix();
    let acl = Acl::TransactionalIds { prefix };
    Ok(kafka::Error::Denied { doing, acl, source })
}

/// Whether `transactional_id` may be used, tried by claiming it: fences an earlier producer of this very id alone, and writes
/// nothing. Blocks.
///
/// # Errors
/// When the coordinator cannot be reached in time, or refuses.
pub(crate) fn try_transactional_id(cluster: &Cluster, transactional_id: &str) -> Result<(), kafka::Error> {
    /// No record is ever handed to this producer.
    const SIZE: usize = 1_000_000;
    let producer = cluster.producer(transactional_id, SIZE, SIZE, LenderMetrics::default())?;
    producer
        .init_transactions(INIT_LIMIT)
        .map_err(|source| kafka_error(cluster, &producer, "claiming the transactional id", source))
}
