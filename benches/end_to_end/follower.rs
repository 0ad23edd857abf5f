//! How old is a change when a consumer gets it?

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::process::Source;

const PATIENCE: Duration = Duration::from_secs(60);

/// For how long changes are looked at, once they come.
const MEASURED: Duration = Duration::from_secs(20);

/// The age of every change that arrives, in milliseconds by this machine's clock, which is upstream's too.
pub(crate) fn delays(servers: &str, source: &Source) -> Vec<i64> {
    let running = source.run();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "freshness")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer");
    let topic = source.topic("accounts");
    let begun = Instant::now();
    let is_there = || {
        let metadata = consumer.fetch_metadata(Some(&topic), PATIENCE).expect("metadata");
        metadata.topics()[0].partitions().len() == 6
    };
    while !is_there() {
        assert!(begun.elapsed() < PATIENCE, "there is no {topic}");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut list = TopicPartitionList::new();
    for partition in 0..6 {
        list.add_partition_offset(&topic, partition, Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let began_at = now();
    let (mut delays, mut first) = (Vec::new(), None);
    // By the second in which it changed, for whoever wonders where the highest ones come from.
    let mut highest = BTreeMap::new();
    while first.is_none_or(|first: Instant| first.elapsed() < MEASURED) {
        assert!(first.is_some() || begun.elapsed() < PATIENCE, "no change comes");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let (message, at) = (message.expect("a record"), now());
        // What changed before anybody looked waited for the start, and a broker that has just started is slow at first.
        if let Some(changed_at) = changed_at(&message).filter(|changed_at| *changed_at > began_at + 5_000) {
            first.get_or_insert_with(Instant::now);
            delays.push(at - changed_at);
            let highest = highest.entry((changed_at - began_at) / 1_000).or_insert(0);
            *highest = (at - changed_at).max(*highest);
        }
    }
    drop(running);
    eprintln!("the highest of each second, in ms: {highest:?}");
    delays
}

/// Everything that is committed in a topic, in the order of each partition.
pub(crate) fn read(servers: &str, topic: &str, take: impl FnMut(&BorrowedMessage<'_>)) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reading")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    to_the_end(&consumer, topic, take);
}

/// The same by a consumer that is told of the ends of partitions.
pub(crate) fn to_the_end<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    mut take: impl FnMut(&BorrowedMessage<'_>),
) {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("metadata");
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        list.add_partition_offset(topic, partition.id(), Offset::Beginning)
            .expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let mut ended = 0;
    while ended < list.count() {
        match consumer.poll(PATIENCE).expect("something comes") {
            Ok(message) => take(&message),
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("reading {topic}: {error}"),
        }
    }
}

/// When a record's account changed, by upstream's clock, in milliseconds since the epoch.
pub(crate) fn changed_at(message: &BorrowedMessage<'_>) -> Option<i64> {
    let mut headers = message.headers()?.iter();
    let header = headers.find(|header| header.key == "__source_ts_ms")?;
    std::str::from_utf8(header.value?).ok()?.parse().ok()
}

fn now() -> i64 {
    #[expect(clippy::disallowed_methods, reason = "the very clock that the changes are dated by")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}
