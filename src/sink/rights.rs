//! May this user do what `run` does? Tried without leaving a trace, and named where it may not.
//!
//! - WRITE: a produce request with `acks=2`, which no broker has taken since 0.9. It looks at the rights first and refuses the
//!   request then (`INVALID_REQUIRED_ACKS`), before anything is appended. Whatever takes it all the same has a tombstone more,
//!   of a key that nobody has.
//! - READ: a fetch at the end of a partition.

use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::Offset;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

use super::cluster::{self, Cluster, Context, Isolation};
use super::recovery::is_passing;
use super::{SinkError, code};

/// What to do where a right is named that is missing.
pub const GRANT: &str = "grant it to this user: docs/operations/kafka.md has the kafka-acls.sh lines, under \"ACLs\"";

/// One answer of a broker.
const LIMIT: Duration = Duration::from_secs(10);

/// What the broker's authorizer is to allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Right {
    Topic {
        operation: Operation,
        topic: String,
    },
    /// WRITE on the transactional ids that begin so.
    TransactionalIds {
        prefix: String,
    },
}

/// Of a topic, in Kafka's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Create,
    Describe,
    DescribeConfigs,
}

impl Right {
    pub fn of_topic(operation: Operation, topic: &str) -> Self {
        let topic = topic.to_owned();
        Self::Topic { operation, topic }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Topic {
                operation: Operation::Describe,
                topic,
            } => write!(f, "DESCRIBE on topic {topic}, which READ and WRITE imply,"),
            Self::Topic { operation, topic } => write!(f, "{operation} on topic {topic}"),
            Self::TransactionalIds { prefix } => write!(f, "WRITE on the transactional ids that begin with {prefix}"),
        }
    }
}

impl fmt::Display for Operation {
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

/// Whether this is how a broker says that the user lacks a right to a topic.
pub(super) fn is_denied(error: &KafkaError) -> bool {
    code(error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed)
}

/// Those of `topics` that may not be written to. Blocks.
///
/// # Errors
/// When a broker gives another answer, or none.
pub fn denied_writes(cluster: &Cluster, topics: &[String]) -> Result<Vec<String>, SinkError> {
    let producer = cluster.refused_producer()?;
    let mut denied = Vec::new();
    for topic in topics {
        if !may_write(&producer, topic)? {
            denied.push(topic.clone());
        }
    }
    Ok(denied)
}

fn may_write(producer: &ThreadedProducer<Context>, topic: &str) -> Result<bool, SinkError> {
    const DOING: &str = "trying to write";
    let context = producer.context();
    let failed = |source| SinkError::Kafka {
        doing: DOING,
        reason: context.reason(),
        source,
    };
    context.sending();
    if let Err((source, _)) = producer.send(BaseRecord::<str, [u8]>::to(topic).key("rights")) {
        context.not_sent();
        return Err(failed(source));
    }
    match context.wait_for_deliveries(LIMIT) {
        Err((_, error)) if code(&error) == Some(RDKafkaErrorCode::InvalidRequiredAcks) => Ok(true),
        Err((_, error)) if is_denied(&error) => Ok(false),
        Err((_, source)) => Err(failed(source)),
        Ok(true) => Ok(true),
        Ok(false) => Err(SinkError::TimedOut {
            doing: DOING,
            limit: LIMIT,
            reason: context.reason(),
        }),
    }
}

/// Those of `topics` that may not be read. Blocks.
///
/// # Errors
/// As [`denied_writes`].
pub fn denied_reads(cluster: &Cluster, topics: &[String]) -> Result<Vec<String>, SinkError> {
    let reader = cluster.reader(Isolation::ReadCommitted)?;
    let mut denied = Vec::new();
    for topic in topics {
        if !may_read(&reader, topic)? {
            denied.push(topic.clone());
        }
    }
    Ok(denied)
}

fn may_read(reader: &BaseConsumer<Context>, topic: &str) -> Result<bool, SinkError> {
    const DOING: &str = "trying to read";
    const PARTITION: i32 = 0;
    const POLL: Duration = Duration::from_millis(100);
    let failed = |source| SinkError::Kafka {
        doing: DOING,
        reason: reader.context().reason(),
        source,
    };
    // So that the partition's leader is known.
    cluster::partition_count(reader.client(), topic, LIMIT).map_err(failed)?;
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
    Err(SinkError::TimedOut {
        doing: DOING,
        limit: LIMIT,
        reason: reader.context().reason(),
    })
}
