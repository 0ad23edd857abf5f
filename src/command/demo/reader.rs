//! What does a consumer see that knows nothing of the source but its topics?
//!
//! This shares no code with the sink, and not its names of headers: a mistake there must not hide itself here.

use std::collections::HashSet;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

use super::error::DemoError;

/// For one question to the broker.
const LIMIT: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy)]
pub(super) enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// A record, as far as the promises speak of it.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub key: String,
    pub value: Vec<u8>,
    pub updated_at: Option<i64>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        let header = |name: &str| {
            let headers = message.headers()?;
            headers
                .iter()
                .find(|header| header.key == name)
                .map(|header| text(header.value))
        };
        Self {
            key: text(message.key()),
            value: message.payload().unwrap_or_default().to_vec(),
            updated_at: header("__source_ts_ms").and_then(|at| at.parse().ok()),
        }
    }
}

/// The end of a partition is nothing to log.
#[derive(Clone, Copy)]
struct Quiet;

impl ClientContext for Quiet {
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Quiet {}

fn kafka(doing: &'static str) -> impl FnOnce(KafkaError) -> DemoError {
    move |source| DemoError::Kafka { doing, source }
}

fn consumer(servers: &str, isolation: Isolation) -> Result<BaseConsumer<Quiet>, DemoError> {
    let isolation = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "demo")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .create_with_context(Quiet)
        .map_err(kafka("making a consumer"))
}

fn partitions(consumer: &BaseConsumer<Quiet>, topic: &str) -> Result<Vec<i32>, DemoError> {
    let metadata = consumer
        .fetch_metadata(Some(topic), LIMIT)
        .map_err(kafka("asking for the partitions"))?;
    let found = metadata.topics().iter().flat_map(|topic| topic.partitions());
    Ok(found.map(|partition| partition.id()).collect())
}

fn assigned(servers: &str, topic: &str, isolation: Isolation) -> Result<(BaseConsumer<Quiet>, usize), DemoError> {
    let consumer = consumer(servers, isolation)?;
    let mut list = TopicPartitionList::new();
    let partitions = partitions(&consumer, topic)?;
    for partition in &partitions {
        list.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(kafka("assigning a partition"))?;
    }
    consumer.assign(&list).map_err(kafka("assigning the partitions"))?;
    Ok((consumer, partitions.len()))
}

/// Looks for open transactions on a topic.
pub(super) struct Watch {
    topic: String,
    partitions: Vec<i32>,
    committed: BaseConsumer<Quiet>,
    uncommitted: BaseConsumer<Quiet>,
}

impl Watch {
    pub(super) fn new(servers: &str, topic: &str) -> Result<Self, DemoError> {
        let committed = consumer(servers, Isolation::ReadCommitted)?;
        Ok(Self {
            topic: topic.to_owned(),
            partitions: partitions(&committed, topic)?,
            committed,
            uncommitted: consumer(servers, Isolation::ReadUncommitted)?,
        })
    }

    /// On how many partitions an open transaction holds back what `read_committed` consumers see.
    pub(super) fn open_count(&self) -> Result<usize, DemoError> {
        let end = |consumer: &BaseConsumer<Quiet>, partition| {
            let watermarks = consumer.fetch_watermarks(&self.topic, partition, LIMIT);
            watermarks
                .map(|(_, end)| end)
                .map_err(kafka("asking for the watermarks"))
        };
        let mut count = 0;
        for partition in &self.partitions {
            // In this order: what is committed in between makes no open transaction.
            let high = end(&self.uncommitted, *partition)?;
            count += usize::from(end(&self.committed, *partition)? < high);
        }
        Ok(count)
    }
}

/// All records up to the end.
pub(super) fn all(servers: &str, topic: &str, isolation: Isolation) -> Result<Vec<Record>, DemoError> {
    let mut records = Vec::new();
    each(servers, topic, isolation, |message| records.push(Record::of(message)))?;
    Ok(records)
}

/// How many records there are up to the end.
pub(super) fn count(servers: &str, topic: &str, isolation: Isolation) -> Result<usize, DemoError> {
    let mut count = 0;
    each(servers, topic, isolation, |_| count += 1)?;
    Ok(count)
}

fn each(
    servers: &str,
    topic: &str,
    isolation: Isolation,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) -> Result<(), DemoError> {
    let (consumer, partition_count) = assigned(servers, topic, isolation)?;
    let mut ended = HashSet::new();
    while ended.len() < partition_count {
        match consumer.poll(LIMIT) {
            Some(Ok(message)) => take(&message),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => return Err(kafka("reading a topic to its end")(error)),
            None => {
                return Err(DemoError::TookTooLong {
                    what: "the end of a topic",
                });
            }
        }
    }
    Ok(())
}

/// Reads a topic as it grows.
pub(super) struct Follower {
    servers: String,
    topic: String,
    consumer: Option<BaseConsumer<Quiet>>,
}

impl Follower {
    pub(super) fn new(servers: String, topic: String) -> Self {
        Self {
            servers,
            topic,
            consumer: None,
        }
    }

    /// The next record, or nothing for the moment.
    pub(super) fn next(&mut self) -> Result<Option<Record>, DemoError> {
        const POLL: Duration = Duration::from_millis(50);
        let consumer = match &self.consumer {
            Some(consumer) => consumer,
            None => {
                let (consumer, partition_count) = assigned(&self.servers, &self.topic, Isolation::ReadCommitted)?;
                if partition_count == 0 {
                    // The source has not created it yet.
                    std::thread::sleep(POLL);
                    return Ok(None);
                }
                self.consumer.insert(consumer)
            }
        };
        match consumer.poll(POLL) {
            Some(Ok(message)) => Ok(Some(Record::of(&message))),
            Some(Err(KafkaError::PartitionEOF(_))) | None => Ok(None),
            Some(Err(error)) => Err(kafka("following a topic")(error)),
        }
    }
}

/// An account as a person reads it.
#[derive(Debug, Default)]
pub(super) struct Account {
    id: String,
    fields: serde_json::Value,
}

impl Account {
    pub(super) fn of(id: &str, fields: serde_json::Value) -> Self {
        Self {
            id: id.to_owned(),
            fields,
        }
    }

    /// Whether every member of `row` that is no null stands here with the same value.
    pub(super) fn has_all_of(&self, row: &serde_json::Value) -> bool {
        let members = row.as_object().into_iter().flatten();
        members
            .filter(|(_, value)| !value.is_null())
            .all(|(name, value)| self.fields[name] == *value)
    }

    fn field(&self, name: &str) -> String {
        match &self.fields[name] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "–".to_owned(),
            other => other.to_string(),
        }
    }

    /// What is different, in a line.
    pub(super) fn changes_since(&self, before: Option<&Self>, took: Duration) -> String {
        const SHOWN: [(&str, &str); 5] = [
            ("balance_amount", "balance"),
            ("paid_amount", "paid"),
            ("due_date", "due"),
            ("status", "status"),
            ("delinquent_days_on_submission", "days past due"),
        ];
        let mut changes = Vec::new();
        for (name, word) in SHOWN {
            let after = self.field(name);
            match before.map(|before| before.field(name)) {
                Some(before) if before != after => changes.push(format!("{word} {before} → {after}")),
                _ => {}
            }
        }
        let currency = self.field("currency");
        format!(
            "{}  {} (minor units of {currency}), {} ms after the change",
            self.id,
            changes.join(", "),
            took.as_millis()
        )
    }
}
