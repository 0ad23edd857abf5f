//! May this user do what `run` does? Tried without leaving a trace, and named where it may not.
//!
//! - WRITE: a produce request with `acks=2`, which no broker has taken since 0.9. It looks at the ACLs first and refuses the
//!   request then (`INVALID_REQUIRED_ACKS`), before anything is appended. Whatever takes it all the same has a tombstone more,
//!   of a key that nobody has.
//! - READ: a fetch at the end of a partition.
//! - READ on a group: a commit of an offset for a partition that there is not. A broker looks at the ACLs first, then refuses it.

use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};

use super::cluster::{Cluster, Isolation};
use super::context::Context;
use super::error::{Error, code, is_denied, is_passing};
use super::polled::PolledProducer;
use super::watermarks::partition_count;

/// One answer of a broker.
const LIMIT: Duration = Duration::from_secs(10);

/// Those of `topics` that may not be written to. Blocks.
///
/// # Errors
/// When a broker gives another answer, or none.
pub(crate) fn denied_writes(cluster: &Cluster, topics: &[String]) -> Result<Vec<String>, Error> {
    let producer = cluster.refused_producer()?;
    let mut denied = Vec::new();
    for topic in topics {
        if !may_write(&producer, topic)? {
            denied.push(topic.clone());
        }
    }
    Ok(denied)
}

fn may_write(producer: &PolledProducer, topic: &str) -> Result<bool, Error> {
    const DOING: &str = "trying to write";
    let context = producer.context();
    let failed = |source| Error::Call {
        doing: DOING,
        last_reported: context.last_reported(),
        source,
    };
    context.sending();
    producer.wake();
    if let Err((source, _)) = producer.send(BaseRecord::<str, [u8]>::to(topic).key("rights")) {
        context.not_sent();
        return Err(failed(source));
    }
    match context.wait_for_deliveries(LIMIT) {
        Err((_, error)) if code(&error) == Some(RDKafkaErrorCode::InvalidRequiredAcks) => Ok(true),
        Err((_, error)) if is_denied(&error) => Ok(false),
        Err((_, source)) => Err(failed(source)),
        Ok(true) => Ok(true),
        Ok(false) => Err(Error::TimedOut {
            doing: DOING,
            limit: LIMIT,
            last_reported: context.last_reported(),
        }),
    }
}

/// Whether this user may be a member of `group`; `topic`: one that may be read. Blocks. Nobody joins, so nothing is shared out anew.
///
/// # Errors
/// As [`denied_writes`].
pub(crate) fn may_join(cluster: &Cluster, group: &str, topic: &str) -> Result<bool, Error> {
    const DOING: &str = "trying to commit to the group";
    const POLL: Duration = Duration::from_millis(500);
    let bystander = cluster.bystander(group)?;
    let failed = |source| Error::Call {
        doing: DOING,
        last_reported: bystander.context().last_reported(),
        source,
    };
    let is_refused = |error: &KafkaError| code(error) == Some(RDKafkaErrorCode::GroupAuthorizationFailed);
    // Asked for first: whoever may not even look for the coordinator hears of it by a poll alone, while any call waits.
    let begun = Instant::now();
    loop {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, 0);
        match bystander.committed_offsets(list, POLL) {
            Ok(_) => break,
            Err(error) if is_refused(&error) => return Ok(false),
            Err(error) if begun.elapsed() > LIMIT => return Err(failed(error)),
            Err(_) => {}
        }
        while let Some(said) = bystander.poll(Duration::ZERO) {
            if said.is_err_and(|error| is_refused(&error)) {
                return Ok(false);
            }
        }
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, i32::MAX, Offset::Offset(0))
        .map_err(failed)?;
    match bystander.commit(&list, CommitMode::Sync) {
        Err(error) if is_refused(&error) => Ok(false),
        Err(error) if code(&error) == Some(RDKafkaErrorCode::UnknownTopicOrPartition) => Ok(true),
        // The group was looked at first: of others' members, and of a topic that may not be read, a broker says so after that.
        Err(error) if code(&error) == Some(RDKafkaErrorCode::UnknownMemberId) || is_denied(&error) => Ok(true),
        Err(error) => Err(failed(error)),
        Ok(()) => Ok(true),
    }
}

/// Those of `topics` that may not be read. Blocks.
///
/// # Errors
/// As [`denied_writes`].
pub(crate) fn denied_reads(cluster: &Cluster, topics: &[String]) -> Result<Vec<String>, Error> {
    let reader = cluster.reader(Isolation::ReadCommitted)?;
    let mut denied = Vec::new();
    for topic in topics {
        if !may_read(&reader, topic)? {
            denied.push(topic.clone());
        }
    }
    Ok(denied)
}

fn may_read(reader: &BaseConsumer<Context>, topic: &str) -> Result<bool, Error> {
    const DOING: &str = "trying to read";
    const PARTITION: i32 = 0;
    const POLL: Duration = Duration::from_millis(100);
    let failed = |source| Error::Call {
        doing: DOING,
        last_reported: reader.context().last_reported(),
        source,
    };
    // So that the partition's leader is known.
    partition_count(reader.client(), topic, LIMIT).map_err(failed)?;
    let (_, end) = reader.fetch_watermarks(topic, PARTITION, LIMIT).map_err(failed)?;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, PARTITION, Offset::Offset(end))
        .map_err(failed)?;
    reader.assign(&list).map_err(failed)?;
    let begun = Instant::now();
    while begun.elapsed() < LIMIT {
        match reader.poll(POLL) {
            Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return Ok(true),
            Some(Err(error)) if is_denied(&error) => return Ok(false),
            Some(Err(error)) if !is_passing(&error) => return Err(failed(error)),
            Some(Err(_)) | None => {}
        }
    }
    Err(Error::TimedOut {
        doing: DOING,
        limit: LIMIT,
        last_reported: reader.context().last_reported(),
    })
}
