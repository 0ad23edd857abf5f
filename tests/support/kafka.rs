//! What is in a topic, as an independent consumer sees it?

use std::collections::BTreeMap;
use std::time::Instant;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::bindings::rd_kafka_msg_partitioner_murmur2;
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{PATIENCE, RUNTIME, wait_for};

/// Where a record of this key stands, by librdkafka's own partitioner of that name.
#[allow(unsafe_code)]
pub(crate) fn partition_of(key: &str, partition_count: usize) -> i32 {
    let count = i32::try_from(partition_count).expect("few");
    let (topic, nothing) = (std::ptr::null(), std::ptr::null_mut());
    // SAFETY: the key is as long as said and is only read; of the other pointers it looks at none.
    unsafe { rd_kafka_msg_partitioner_murmur2(topic, key.as_ptr().cast(), key.len(), count, nothing, nothing) }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: BTreeMap<String, String>,
    /// By the writer's clock, in milliseconds since the epoch.
    pub timestamp_ms: i64,
}

impl Record {
    pub(crate) fn key(&self) -> &str {
        self.key.as_deref().expect("a key")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name} in {:?}", self.headers))
    }

    pub(crate) fn updated_at(&self) -> i64 {
        self.header("__source_ts_ms").parse().expect("a number")
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.value.clone().expect("a value")).expect("text")
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().expect("a value")).expect("JSON")
    }
}

/// Every committed record, partition by partition.
pub(crate) fn committed(servers: &str, topic: &str) -> Vec<Record> {
    read(servers, topic, "read_committed")
}

/// Aborted records too.
pub(crate) fn uncommitted(servers: &str, topic: &str) -> Vec<Record> {
    read(servers, topic, "read_uncommitted")
}

fn consumer(servers: &str, isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "judge")
        .set("enable.auto.commit", "false")
        .set("isolation.level", isolation)
        .set("fetch.wait.max.ms", "10")
        // A broker that was away is tried again soon.
        .set("reconnect.backoff.max.ms", "200")
        .create()
        .expect("a consumer")
}

pub(crate) fn partitions(servers: &str, topic: &str) -> Vec<i32> {
    partitions_by(&consumer(servers, "read_uncommitted"), topic)
}

fn partitions_by(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    metadata.topics()[0]
        .partitions()
        .iter()
        .map(|partition| partition.id())
        .collect()
}

/// The watermarks of each partition; what is written moves them, markers of transactions too.
pub(crate) fn ends(servers: &str, topic: &str) -> Vec<(i32, i64, i64)> {
    ends_by(&consumer(servers, "read_uncommitted"), topic)
}

fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    wait_for("watermarks", || {
        match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Ok(watermarks) => Some(watermarks),
            // A topic that has just been made.
            Err(KafkaError::MetadataFetch(
                RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownPartition
                | RDKafkaErrorCode::OffsetNotAvailable
                // A broker that was killed.
                | RDKafkaErrorCode::DestroyBroker
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut,
            )) => None,
            Err(error) => panic!("watermarks of {topic}: {error}"),
        }
    })
}

fn ends_by(consumer: &BaseConsumer, topic: &str) -> Vec<(i32, i64, i64)> {
    let ends = |partition| {
        let (low, high) = watermarks(consumer, topic, partition);
        (partition, low, high)
    };
    partitions_by(consumer, topic).into_iter().map(ends).collect()
}

/// Who sees the ends of topics, with those of open transactions and without.
pub(crate) struct Ends {
    committed: BaseConsumer,
    all: BaseConsumer,
}

impl Ends {
    pub(crate) fn new(servers: &str) -> Self {
        Self {
            committed: consumer(servers, "read_committed"),
            all: consumer(servers, "read_uncommitted"),
        }
    }

    /// Partitions of whose end a reader of committed records sees less than another one: a transaction is open there.
    pub(crate) fn hidden(&self, topic: &str) -> Vec<i32> {
        let is_hidden = |(partition, _, high): &(i32, i64, i64)| {
            let (_, stable) = watermarks(&self.committed, topic, *partition);
            stable < *high
        };
        let ends = ends_by(&self.all, topic).into_iter();
        ends.filter(is_hidden).map(|(partition, ..)| partition).collect()
    }
}

fn read(servers: &str, topic: &str, isolation: &str) -> Vec<Record> {
    read_between(servers, topic, isolation, &ends(servers, topic))
}

/// What has come into a topic, for a test that looks again and again: each look reads what is new. Judges read everything anew.
pub(crate) struct Follower {
    topic: String,
    servers: String,
    consumer: BaseConsumer,
    ends: Vec<(i32, i64, i64)>,
    records: Vec<Record>,
}

impl Follower {
    pub(crate) fn new(servers: &str, topic: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            servers: servers.to_owned(),
            consumer: consumer(servers, "read_uncommitted"),
            ends: Vec::new(),
            records: Vec::new(),
        }
    }

    /// Every committed record. What was below the ends of a look was read by it: it waits for what is open there.
    pub(crate) fn committed(&mut self) -> &[Record] {
        let ends = ends_by(&self.consumer, &self.topic);
        if ends != self.ends {
            let begin = |(partition, low, high): &(i32, i64, i64)| {
                let last = self.ends.iter().find(|(known, ..)| known == partition);
                let begin = last.map_or(*low, |(.., end)| *end);
                assert!(begin >= *low && begin <= *high, "{} is another topic now", self.topic);
                (*partition, begin, *high)
            };
            let new: Vec<_> = ends.iter().map(begin).collect();
            self.records
                .extend(read_between(&self.servers, &self.topic, "read_committed", &new));
            self.ends = ends;
        }
        &self.records
    }
}

/// From the first to below the second offset of each partition. These are asked for without isolation: an open transaction hides
/// nothing of what is committed after it.
fn read_between(servers: &str, topic: &str, isolation: &str, places: &[(i32, i64, i64)]) -> Vec<Record> {
    let consumer = consumer(servers, isolation);
    // By itself a consumer that is assigned a partition without knowing its leader asks again only after half a second.
    partitions_by(&consumer, topic);
    let mut list = TopicPartitionList::new();
    let mut ends = BTreeMap::new();
    for (partition, begin, end) in places.iter().filter(|(_, begin, end)| begin < end) {
        list.add_partition_offset(topic, *partition, Offset::Offset(*begin))
            .expect("a partition");
        ends.insert(*partition, *end);
    }
    let mut left = ends.clone();
    consumer.assign(&list).expect("assigned");
    let mut records = Vec::new();
    let begun = Instant::now();
    while !left.is_empty() {
        assert!(
            begun.elapsed() < PATIENCE,
            "{topic} cannot be read to its end: {left:?}"
        );
        match consumer.poll(std::time::Duration::from_millis(50)) {
            Some(Ok(message)) => {
                // A batch may hold what has come since.
                if message.offset() < ends[&message.partition()] {
                    records.push(record(&message));
                }
                continue;
            }
            // A broker of several may be down: the others have everything.
            Some(Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown | RDKafkaErrorCode::Resolve,
            )))
            | None => {}
            Some(Err(error)) => panic!("reading {topic}: {error}"),
        }
        for place in consumer.position().expect("positions").elements() {
            if let Offset::Offset(position) = place.offset() {
                left.retain(|partition, end| *partition != place.partition() || position < *end);
            }
        }
    }
    records
}

fn record(message: &impl Message) -> Record {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|Header { key, value }| (key.to_owned(), text(value.unwrap_or_default())))
            .collect()
    });
    Record {
        timestamp_ms: message.timestamp().to_millis().unwrap_or_default(),
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(text),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// A producer of the test's own.
pub(crate) fn producer(servers: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().expect("a producer")
}

/// Writes one record, outside of any transaction.
pub(crate) fn write(servers: &str, topic: &str, partition: i32, key: &str, value: Option<&str>) {
    let producer = producer(servers, &[]);
    let mut record = BaseRecord::<str, str>::to(topic)
        .key(key)
        .partition(partition)
        .headers(OwnedHeaders::new());
    record.payload = value;
    producer.send(record).expect("sent");
    producer.flush(PATIENCE).expect("written");
}

/// Writes key, value and headers of each record, into its partition.
pub(crate) fn write_records(servers: &str, topic: &str, records: &[Record]) {
    let producer = producer(servers, &[]);
    for record in records {
        let headers = record
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| {
                headers.insert(Header {
                    key,
                    value: Some(value),
                })
            });
        let mut written = BaseRecord::<str, [u8]>::to(topic)
            .key(record.key())
            .partition(record.partition)
            .headers(headers);
        written.payload = record.value.as_deref();
        producer.send(written).expect("sent");
    }
    producer.flush(PATIENCE).expect("written");
}

pub(crate) fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .expect("an admin client")
}

/// Sets a topic's own settings, and takes those away that are not named.
fn set_all(admin: &AdminClient<DefaultClientContext>, topic: &str, settings: &[(&str, &str)]) {
    assert!(try_set_all(admin, topic, settings), "altered");
}

/// As `set_all`; whether it was done, as a cluster that changes may not do it at once.
pub(crate) fn try_set_all(admin: &AdminClient<DefaultClientContext>, topic: &str, settings: &[(&str, &str)]) -> bool {
    let resource = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let resource = settings
        .iter()
        .fold(resource, |resource, (name, value)| resource.set(name, value));
    let answer = RUNTIME.block_on(async { admin.alter_configs([&resource], &AdminOptions::new()).await });
    answer.is_ok_and(|results| results.iter().all(Result::is_ok))
}

/// Has every partition of every topic so many replicas in sync?
pub(crate) fn is_in_sync(servers: &str, replicas: usize) -> bool {
    let metadata = consumer(servers, "read_uncommitted").fetch_metadata(None, PATIENCE);
    let Ok(metadata) = metadata else { return false };
    let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
    partitions.all(|partition| partition.isr().len() == replicas)
}

/// Takes every record out of partitions, as retention does; a compacted topic does not let it happen otherwise.
pub(crate) fn empty(servers: &str, topic: &str, partitions: &[i32]) {
    let admin = admin(servers);
    set_all(&admin, topic, &[("cleanup.policy", "delete")]);
    let mut list = TopicPartitionList::new();
    for partition in partitions {
        list.add_partition_offset(topic, *partition, Offset::End)
            .expect("a partition");
    }
    wait_for("the records are gone", || {
        RUNTIME
            .block_on(async { admin.delete_records(&list, &AdminOptions::new()).await })
            .ok()
            // While the broker does not know of the policy yet, each partition refuses for itself.
            .filter(|places| places.elements().iter().all(|place| place.error().is_ok()))
    });
    set_all(&admin, topic, &[("cleanup.policy", "compact")]);
}

/// Has a topic compacted, until a key has no more than its latest record in `partition`.
pub(crate) fn compact(servers: &str, topic: &str, partition: i32, key: &str) {
    let settings = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "100"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    set_all(&admin(servers), topic, &settings);
    let of_key = |records: &[Record]| {
        records
            .iter()
            .filter(|record| record.key.as_deref() == Some(key))
            .count()
    };
    wait_for("compaction", || {
        // The cleaner leaves the newest segment alone, and one grows old by what is written after it.
        write(servers, topic, partition, "filler", None);
        (of_key(&committed(servers, topic)) <= 1).then_some(())
    });
}

pub(crate) fn add_partitions(servers: &str, topic: &str, count: usize) {
    let added = NewPartitions::new(topic, count);
    let answer = async { admin(servers).create_partitions([&added], &AdminOptions::new()).await };
    RUNTIME.block_on(answer).expect("an answer");
}

/// Deletes a topic and creates it anew, with as many partitions and these settings.
pub(crate) fn recreate(servers: &str, topic: &str, settings: &[(&str, &str)]) {
    let (admin, options) = (admin(servers), AdminOptions::new());
    let count = partitions(servers, topic).len() as i32;
    let deleted = RUNTIME.block_on(admin.delete_topics(&[topic], &options));
    assert!(deleted.expect("an answer")[0].is_ok());
    let new = NewTopic::new(topic, count, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    // A broker that is busy may know of it for a moment.
    wait_for("the new topic", || {
        let created = RUNTIME.block_on(admin.create_topics([&new], &options));
        created.expect("an answer")[0].is_ok().then_some(())
    });
}

/// Deletes the topics whose names begin so, as far as the broker lets it.
pub(crate) fn delete_all(servers: &str, prefix: &str) {
    let topics = try_topics(servers).unwrap_or_default();
    let names: Vec<&str> = topics
        .iter()
        .map(String::as_str)
        .filter(|name| name.starts_with(prefix))
        .collect();
    if names.is_empty() {
        return;
    }
    // Whether it comes off is of no interest: topics that stay cost time alone.
    let _ = RUNTIME.block_on(admin(servers).delete_topics(&names, &AdminOptions::new()));
}

/// Changes one setting of a topic.
pub(crate) fn alter(servers: &str, topic: &str, name: &str, value: &str) {
    let altered = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let answer = async { admin(servers).alter_configs([&altered], &AdminOptions::new()).await };
    assert!(RUNTIME.block_on(answer).expect("an answer")[0].is_ok());
}

/// The names of all topics.
pub(crate) fn topics(servers: &str) -> Vec<String> {
    try_topics(servers).expect("metadata")
}

fn try_topics(servers: &str) -> KafkaResult<Vec<String>> {
    let metadata = consumer(servers, "read_uncommitted").fetch_metadata(None, PATIENCE)?;
    Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
}
