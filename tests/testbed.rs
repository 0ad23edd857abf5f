//! Does the testbed behave like the real thing, and does nothing of it outlive its parent?

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use d02_source::testbed::{Broker, BrokerOptions, Registry, RegistryOptions};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

use crate::support::kafka_proxy::KafkaProxy;
use crate::support::{PATIENCE, wait_for};

/// Set in the process that a test starts to be killed.
const PARENT_VARIABLE: &str = "D02_TEST_PARENT";
const TOPIC: &str = "accounts";

#[test]
fn transaction_is_read_back_and_survives_a_restart() {
    let mut broker = start_broker(BrokerOptions::default());
    create_topic(&broker, 1);
    let producer = transactional_producer(&broker.bootstrap_servers(), &[]);
    transaction(&producer, "committed").expect("the transaction should commit");
    producer.begin_transaction().expect("a next one can begin");
    send(&producer, "open");
    producer.flush(PATIENCE).expect("the record is written");

    expect_committed(&broker, &["committed"]);

    broker.stop(1).expect("the broker should stop");
    assert!(TcpStream::connect(broker.bootstrap_servers()).is_err());
    broker.restart(1).expect("the broker should start again");
    expect_committed(&broker, &["committed"]);
}

#[test]
fn commit_whose_answers_are_lost_times_out_though_the_records_are_there() {
    let proxy = KafkaProxy::bind();
    let broker = start_broker(BrokerOptions {
        proxied_port: Some(proxy.port()),
        ..BrokerOptions::default()
    });
    proxy.forward_to(broker.proxied_listener_address());
    create_topic(&broker, 1);
    // With the default of a minute librdkafka would wait so long for the lost answer, also after the proxy gives answers again.
    let asks_again_after = ("socket.timeout.ms", "3000");
    let producer = transactional_producer(&proxy.bootstrap_servers(), &[asks_again_after]);
    transaction(&producer, "answered").expect("the proxy should let a transaction through");
    assert_eq!(proxy.end_txn_requests(), 1);
    assert_eq!(proxy.swallowed_end_txn_responses(), 0);

    proxy.swallow_end_txn_responses(true);
    producer.begin_transaction().expect("a next one can begin");
    send(&producer, "unanswered");
    let commit = producer.commit_transaction(Duration::from_secs(10));

    let Err(KafkaError::Transaction(error)) = commit else {
        panic!("the commit should not succeed: {commit:?}");
    };
    assert_eq!(error.code(), RDKafkaErrorCode::OperationTimedOut);
    assert!(proxy.swallowed_end_txn_responses() >= 2, "librdkafka asks again");
    expect_committed(&broker, &["answered", "unanswered"]);

    proxy.swallow_end_txn_responses(false);
    producer
        .commit_transaction(PATIENCE)
        .expect("the same commit, resumed, should succeed");
    expect_committed(&broker, &["answered", "unanswered"]);
}

#[test]
fn cut_proxy_takes_the_broker_away_until_it_is_restored() {
    let proxy = KafkaProxy::bind();
    let broker = start_broker(BrokerOptions {
        proxied_port: Some(proxy.port()),
        ..BrokerOptions::default()
    });
    proxy.forward_to(broker.proxied_listener_address());
    create_topic(&broker, 1);
    let producer = transactional_producer(&proxy.bootstrap_servers(), &[]);

    proxy.cut(true);
    producer.begin_transaction().expect("beginning asks no broker");
    send(&producer, "late");
    assert!(producer.flush(Duration::from_secs(1)).is_err());
    assert!(committed_values(&broker).is_empty());

    proxy.cut(false);
    proxy.delay_end_txn_requests(Duration::from_millis(300));
    producer.flush(PATIENCE).expect("the broker is back");
    let started = Instant::now();
    producer
        .commit_transaction(PATIENCE)
        .expect("the transaction should commit");
    assert!(started.elapsed() >= Duration::from_millis(300));
    expect_committed(&broker, &["late"]);
}

#[test]
fn three_nodes_survive_the_loss_of_one() {
    let mut broker = start_broker(BrokerOptions {
        nodes: 3,
        ..BrokerOptions::default()
    });
    create_topic(&broker, 3);
    let producer = transactional_producer(&broker.bootstrap_servers(), &[]);
    transaction(&producer, "three").expect("the transaction should commit");

    broker.kill(2).expect("the node should die");
    transaction(&producer, "two").expect("the transaction should commit on two nodes");
    expect_committed(&broker, &["three", "two"]);

    broker.restart(2).expect("the node should come back");
    broker.kill(1).expect("the node should die");
    transaction(&producer, "two again").expect("the transaction should commit on two nodes");
    expect_committed(&broker, &["three", "two", "two again"]);
}

#[test]
fn broker_that_cannot_start_says_why_at_once() {
    let started = Instant::now();
    let error = Broker::start(BrokerOptions {
        properties: vec![("num.network.threads".to_owned(), "none".to_owned())],
        ..BrokerOptions::default()
    })
    .err()
    .expect("the property is no number");
    assert!(error.to_string().contains("num.network.threads"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(60));
}

#[test]
fn registry_answers_and_is_empty_after_a_restart() {
    let mut registry = Registry::start(RegistryOptions::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(http(&registry, "GET", "/subjects", ""), "[]");
    let schema = r#"{"schema":"\"string\""}"#;
    let answer = http(&registry, "POST", "/subjects/accounts-value/versions", schema);
    assert!(answer.starts_with(r#"{"id":"#), "{answer}");
    assert_eq!(http(&registry, "GET", "/subjects", ""), r#"["accounts-value"]"#);

    registry.restart().expect("the registry should start again");
    assert_eq!(http(&registry, "GET", "/subjects", ""), "[]");
}

#[test]
fn everything_ends_with_a_killed_parent() {
    if std::env::var_os(PARENT_VARIABLE).is_some() {
        return parent_that_is_killed();
    }
    let mut parent = Command::new(std::env::current_exe().expect("the test has a path"))
        .args([
            "--exact",
            "testbed::everything_ends_with_a_killed_parent",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(PARENT_VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("the test should start itself");
    let output = parent.stdout.take().expect("the output is piped");
    let directories: Vec<String> = BufReader::new(output)
        .lines()
        .map(|line| line.expect("the output is text"))
        .filter_map(|line| Some(line.split_once("directory: ")?.1.to_owned()))
        .take(2)
        .collect();
    assert_eq!(directories.len(), 2);
    for directory in &directories {
        // The supervisor, its watcher, java.
        assert_eq!(processes_that_mention(directory), 3);
    }

    parent.kill().expect("the parent should die");
    parent.wait().expect("the parent should be gone");

    let deadline = Instant::now() + Duration::from_secs(5);
    while directories.iter().any(|d| processes_that_mention(d) > 0) {
        assert!(Instant::now() < deadline, "something outlived its parent");
        std::thread::sleep(Duration::from_millis(20));
    }
    // The next testbed takes the data away.
    drop(start_broker(BrokerOptions::default()));
    assert!(directories.iter().all(|d| !Path::new(d).exists()));
}

/// What the test above starts and kills: broker and registry, started in a thread that ends.
fn parent_that_is_killed() {
    let (broker, registry) = std::thread::spawn(|| {
        let registry = Registry::start(RegistryOptions::default()).unwrap_or_else(|error| panic!("{error}"));
        (start_broker(BrokerOptions::default()), registry)
    })
    .join()
    .expect("both should start");
    println!("\ndirectory: {}", broker.directory().display());
    println!("directory: {}", registry.directory().display());
    std::thread::sleep(Duration::from_secs(60));
}

fn processes_that_mention(text: &str) -> usize {
    let output = Command::new("ps")
        .args(["-A", "-ww", "-o", "args="])
        .output()
        .expect("ps should run: install procps");
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(text))
        .count()
}

fn start_broker(options: BrokerOptions) -> Broker {
    Broker::start(options).unwrap_or_else(|error| panic!("{error}"))
}

fn create_topic(broker: &Broker, replicas: i32) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .create()
        .expect("the configuration is valid");
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(replicas));
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime can be built")
        .block_on(admin.create_topics([&topic], &options))
        .expect("the broker should answer")
        .remove(0)
        .expect("the topic should be created");
}

fn transactional_producer(bootstrap_servers: &str, settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", bootstrap_servers)
        .set("transactional.id", "testbed");
    for (name, value) in settings {
        config.set(*name, *value);
    }
    let producer: BaseProducer = config.create().expect("the configuration is valid");
    producer
        .init_transactions(PATIENCE)
        .expect("the broker should give a producer id");
    producer
}

fn transaction(producer: &BaseProducer, value: &str) -> Result<(), KafkaError> {
    producer.begin_transaction()?;
    send(producer, value);
    producer.commit_transaction(PATIENCE)
}

fn send(producer: &BaseProducer, value: &str) {
    producer
        .send(BaseRecord::to(TOPIC).key("key").payload(value))
        .expect("the queue has room");
}

/// A commit is answered before the marker is written behind which its records can be read.
#[track_caller]
fn expect_committed(broker: &Broker, expected: &[&str]) {
    let found = wait_for("as many records", || {
        let found = committed_values(broker);
        (found.len() >= expected.len()).then_some(found)
    });
    assert_eq!(found, expected);
}

/// What a `read_committed` consumer sees of the topic's one partition, from its start to its last stable offset.
fn committed_values(broker: &Broker) -> Vec<String> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap_servers())
        .set("group.id", "testbed")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("the configuration is valid");
    let mut partition = TopicPartitionList::new();
    partition
        .add_partition_offset(TOPIC, 0, Offset::Beginning)
        .expect("an offset can be set");
    consumer.assign(&partition).expect("the partition can be assigned");
    let mut values = Vec::new();
    loop {
        match consumer.poll(PATIENCE).expect("the broker should answer") {
            Ok(message) => {
                let value = message.payload().expect("every record has a value");
                values.push(String::from_utf8_lossy(value).into_owned());
            }
            Err(KafkaError::PartitionEOF(_)) => return values,
            // A node that is away.
            Err(KafkaError::MessageConsumption(
                RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
            )) => {}
            Err(error) => panic!("the topic should be readable: {error}"),
        }
    }
}

/// The body of the registry's answer.
fn http(registry: &Registry, method: &str, path: &str, body: &str) -> String {
    let url = registry.url();
    let (address, base) = url
        .trim_start_matches("http://")
        .split_once('/')
        .expect("the address has a path");
    let mut connection = TcpStream::connect(address).expect("the registry should accept");
    connection
        .set_read_timeout(Some(PATIENCE))
        .expect("a time-out can be set");
    write!(
        connection,
        "{method} /{base}{path} HTTP/1.0\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("the registry should take the request");
    let mut answer = String::new();
    connection
        .read_to_string(&mut answer)
        .expect("the registry should answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a head and a body");
    assert!(head.contains(" 200 "), "{answer}");
    body.to_owned()
}
