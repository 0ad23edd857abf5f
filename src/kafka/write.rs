//! One record, outside of any transaction.

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};

use super::cluster::Cluster;
use super::error::Error;

/// Writes one record, and waits until all replicas have it. Blocks.
///
/// # Errors
/// When they do not within some seconds, or refuse it.
pub(crate) fn write(cluster: &Cluster, topic: &str, key: &str, value: &str) -> Result<(), Error> {
    const DOING: &str = "writing a record";
    const LIMIT: Duration = Duration::from_secs(5);
    /// The report says more than that it did not come.
    const GRACE: Duration = Duration::from_secs(1);
    let producer = cluster.writer(LIMIT)?;
    let context = producer.context();
    let failed = |source| Error::Call {
        doing: DOING,
        last_reported: context.last_reported(),
        source,
    };
    context.sending();
    producer.wake();
    if let Err((source, _)) = producer.send(BaseRecord::<str, str>::to(topic).key(key).payload(value)) {
        context.not_sent();
        return Err(failed(source));
    }
    match context.wait_for_deliveries(LIMIT + GRACE) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Error::TimedOut {
            doing: DOING,
            limit: LIMIT,
            last_reported: context.last_reported(),
        }),
        Err((_, source)) => Err(failed(source)),
    }
}
