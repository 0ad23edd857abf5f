//! The same records in transactions of the same size, by librdkafka and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::{BorrowedHeaders, Message, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};

use super::follower;
use super::process::own_cpu;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(crate) struct Ceiling {
    pub wall: Duration,
    pub cpu: Duration,
}

struct Record {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: OwnedHeaders,
}

/// Counts delivery reports, so that nothing has to poll for them.
#[derive(Clone, Default)]
struct Deliveries(Arc<(AtomicU64, Mutex<()>, Condvar)>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {
        if self.0.0.fetch_sub(1, Ordering::SeqCst) == 1 {
            let _guard = self.0.1.lock().expect("no panic holds it");
            self.0.2.notify_all();
        }
    }
}

/// Writes the records of `topics` once more, to topics of the same form, in transactions of so many records of each.
pub(crate) fn produce(servers: &str, topics: &[String], rows_a_transaction: usize) -> Ceiling {
    let copies: Vec<(String, Vec<Record>)> = topics
        .iter()
        .map(|topic| {
            let target = format!("{topic}.ceiling");
            create(servers, &target);
            (target, read(servers, topic))
        })
        .collect();
    let transaction_count = copies[0].1.len().div_ceil(rows_a_transaction);
    let deliveries = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("transactional.id", &copies[0].0)
        .set("compression.type", "lz4")
        .set("queue.buffering.max.messages", "250000")
        .set("partitioner", "murmur2_random")
        .create_with_context(deliveries.clone())
        .expect("a producer");
    producer.init_transactions(PATIENCE).expect("a transactional producer");
    let (begun, cpu_before) = (Instant::now(), own_cpu());
    for transaction in 0..transaction_count {
        producer.begin_transaction().expect("begun");
        let parts = copies.iter().flat_map(|(target, records)| {
            let part = records.chunks(rows_a_transaction).nth(transaction);
            part.unwrap_or_default().iter().map(move |record| (target, record))
        });
        for (target, record) in parts {
            deliveries.0.0.fetch_add(1, Ordering::SeqCst);
            let mut next = BaseRecord::to(target)
                .key(&record.key)
                .payload(&record.value)
                .headers(record.headers.clone());
            while let Err((error, back)) = producer.send(next) {
                assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull));
                next = back;
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        let mut guard = deliveries.0.1.lock().expect("no panic holds it");
        while deliveries.0.0.load(Ordering::SeqCst) > 0 {
            let (back, waited) = deliveries.0.2.wait_timeout(guard, PATIENCE).expect("no panic holds it");
            assert!(!waited.timed_out(), "the records are not delivered");
            guard = back;
        }
        drop(guard);
        // As the source does: what was heard and is not freed would cost a commit 100 ms.
        while producer.in_flight_count() > 0 {
            std::thread::sleep(Duration::from_micros(50));
        }
        producer.commit_transaction(PATIENCE).expect("committed");
    }
    Ceiling {
        wall: begun.elapsed(),
        cpu: own_cpu() - cpu_before,
    }
}

/// Six partitions, as the source's own.
pub(crate) fn create(servers: &str, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .expect("an admin client");
    let new = NewTopic::new(topic, 6, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let created = runtime.block_on(admin.create_topics([&new], &AdminOptions::new()));
    assert!(created.expect("an answer")[0].is_ok());
}

fn read(servers: &str, topic: &str) -> Vec<Record> {
    let mut records = Vec::new();
    follower::read(servers, topic, |message| {
        records.push(Record {
            key: message.key().unwrap_or_default().to_vec(),
            value: message.payload().unwrap_or_default().to_vec(),
            headers: message.headers().map(BorrowedHeaders::detach).unwrap_or_default(),
        });
    });
    records
}
