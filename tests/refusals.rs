//! Does a state that would lose or double accounts stop the source, with the way on, and does an uncertain commit not?

use std::time::{Duration, Instant};

use d02_source::testbed::{Broker, BrokerOptions};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseRecord, Producer};

use crate::support::kafka;
use crate::support::kafka_proxy::KafkaProxy;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{PATIENCE, RUNTIME, judge, wait_for};

fn refused(world: &World, args: &[&str], text: &str) {
    let mut source = world.command(args, &[]);
    source.expect_exit(2);
    assert!(source.log().contains(text), "no `{text}` in\n{}", source.log());
}

fn admin(servers: &str) -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", servers)
        .create()
        .expect("an admin client")
}

#[test]
fn a_topic_that_is_not_what_was_committed_is_refused_and_a_reset_is_the_harmless_way_on() {
    let world = World::new(&[2_000]);
    world.catch_up();
    let other_accounts = format!("kafka.topics.accounts={}.empty", world.name);
    refused(
        &world,
        &["--set", &other_accounts, "run"],
        "does not hold what was committed: 0 accounts",
    );
    let other_cursor = format!("kafka.topics.cursor={}.lost", world.name);
    for _ in 0..2 {
        // Also the second time, when there is the record of the refused start.
        refused(
            &world,
            &["--set", &other_cursor, "run"],
            "holds 2000 accounts of this lender, but there is no cursor",
        );
    }
    let localhost = world.simulator.base_url().replace("127.0.0.1", "localhost");
    refused(
        &world,
        &["--set", &format!("upstream.base_url={localhost}"), "run"],
        "another source's progress",
    );
    // Refused starts changed nothing.
    world.catch_up();
    world
        .command(&["--set", &other_cursor, "cursor", "reset", "lender-1"], &[])
        .expect_exit(0);
    world
        .command(&["--set", &other_cursor, "run", "--until-caught-up"], &[])
        .expect_exit(0);
    assert_eq!(world.accounts().len(), 2_000);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn an_account_under_two_lenders_keeps_both_from_starting_and_says_where() {
    let world = World::new(&[50, 50]);
    world.catch_up();
    let twice = world.simulator.rows(0)[0].clone();
    let json = twice.json.clone();
    world.simulator.upsert_json(1, twice.updated_at_ms, &twice.id, &json);
    // The second lender's source is told to begin again, and writes what the first one holds already.
    world.command(&["cursor", "reset", "lender-2"], &[]).expect_exit(0);
    world.catch_up();
    let mut source = world.command(&["run"], &[]);
    source.expect_exit(2);
    let log = source.log();
    assert_eq!(log.matches("holds an account of lender").count(), 2, "{log}");
    assert!(log.contains("put {lender} in kafka.topics.accounts"), "{log}");
}

#[test]
fn a_record_of_an_unknown_version_is_refused() {
    let world = World::new(&[10]);
    world.catch_up();
    let record = world.cursors().pop().expect("a cursor record");
    kafka::write(
        &world.servers,
        &world.topic("cursor"),
        0,
        record.key(),
        Some(r#"{"version":2}"#),
    );
    refused(&world, &["run"], "its version is 2, this program knows 1");
}

#[test]
fn added_partitions_are_noticed_while_running_and_refused_at_a_start() {
    let world = World::new(&[10]);
    let mut source = world.command(&["run"], &[("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s")]);
    source.wait_for_line("claimed and restored");
    let topic = world.topic("accounts");
    let added = NewPartitions::new(&topic, 8);
    RUNTIME
        .block_on(async {
            admin(&world.servers)
                .create_partitions([&added], &AdminOptions::new())
                .await
        })
        .expect("an answer");
    source.expect_exit(2);
    assert!(
        source
            .log()
            .contains("the partitions were accounts=6 and are accounts=8"),
        "{}",
        source.log()
    );
    refused(&world, &["run"], "the partitions were accounts=6 and are accounts=8");
}

#[test]
fn a_topic_that_is_not_compacted_is_refused_by_name_and_setting() {
    let world = World::new(&[10]);
    let topic = world.topic("accounts");
    let new = NewTopic::new(&topic, 6, TopicReplication::Fixed(1)).set("cleanup.policy", "delete");
    RUNTIME
        .block_on(async { admin(&world.servers).create_topics([&new], &AdminOptions::new()).await })
        .expect("an answer");
    refused(&world, &["run"], &topic);
    let mut source = world.command(&["run"], &[]);
    source.expect_exit(2);
    for word in ["cleanup.policy", "delete", "compact", "kafka-configs.sh"] {
        assert!(source.log().contains(word), "no {word} in {}", source.log());
    }
}

#[test]
fn another_lenders_open_transaction_on_the_cursor_partition_is_waited_for() {
    let world = World::new(&[2_000]);
    world.catch_up();
    world.simulator.touch(0, 50, 1);
    let topic = world.topic("cursor");
    let other = kafka::producer(&world.servers, &[("transactional.id", &world.name)]);
    other.init_transactions(PATIENCE).expect("a transactional producer");
    other.begin_transaction().expect("begun");
    other
        .send(
            BaseRecord::<str, str>::to(&topic)
                .key("other")
                .payload("open")
                .partition(0),
        )
        .expect("sent");
    other.flush(PATIENCE).expect("written");
    // Its own record is committed above the open one, where a `read_committed` end would hide it.
    let mut source = world.command(&["run", "--until-caught-up"], &[]);
    source.wait_for_line("starting");
    let until = Instant::now() + Duration::from_secs(6);
    wait_for("six seconds", || (Instant::now() > until).then_some(()));
    assert!(
        source.is_running() && !source.log().contains("claimed"),
        "{}",
        source.log()
    );
    other.abort_transaction(PATIENCE).expect("aborted");
    source.expect_exit(0);
    let records = world.accounts();
    assert_eq!(records.len(), 2_050);
    judge::everything(&records, &world.simulator.rows(0));
}

fn proxied() -> (Broker, KafkaProxy) {
    let proxy = KafkaProxy::bind();
    let options = BrokerOptions {
        proxied_port: Some(proxy.port()),
        ..BrokerOptions::default()
    };
    let broker = Broker::start(options).expect("a broker");
    proxy.forward_to(broker.proxied_listener_address());
    (broker, proxy)
}

/// The source reaches the broker through the proxy only; the judge goes around it.
fn through(proxy: &KafkaProxy, world: &World, args: &[&str], environment: &[(&str, &str)]) -> Source {
    let servers = proxy.bootstrap_servers();
    let environment: Vec<_> = environment
        .iter()
        .copied()
        .chain([("D02__KAFKA__BOOTSTRAP_SERVERS", servers.as_str())])
        .collect();
    world.command(args, &environment)
}

#[test]
fn a_commit_whose_answer_is_lost_has_landed_and_is_not_written_again() {
    let (broker, proxy) = proxied();
    let world = World::new(&[4_000]).on(&broker.bootstrap_servers());
    let mut source = through(&proxy, &world, &["run"], &[("D02__TRANSACTION__MAX_ROWS", "1000")]);
    let accounts = || {
        if source_is_ready(&world) {
            world.accounts().len()
        } else {
            0
        }
    };
    wait_for("the snapshot", || (accounts() == 4_000).then_some(()));
    // Two pages of one live walk: the first batch does not move the progress.
    proxy.swallow_end_txn_responses(true);
    let changed = world.simulator.touch(0, 1_500, 5).len();
    wait_for("a swallowed answer", || {
        (proxy.swallowed_end_txn_responses() > 0).then_some(())
    });
    source.wait_for_line("outcome=Landed");
    proxy.swallow_end_txn_responses(false);
    wait_for("the changes", || {
        (world.accounts().len() == 4_000 + changed).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

/// The topic is there once anything was read.
fn source_is_ready(world: &World) -> bool {
    world.simulator.counts().row_count > 0
}

#[test]
fn a_broker_that_is_away_for_a_minute_costs_bounded_memory_and_nothing_else() {
    let (broker, proxy) = proxied();
    let world = World::new(&[150_000]).on(&broker.bootstrap_servers());
    let mut source = through(&proxy, &world, &["run", "--until-caught-up"], &[]);
    wait_for("some accounts", || {
        (world.simulator.counts().row_count > 20_000).then_some(())
    });
    proxy.cut(true);
    let began = Instant::now();
    let mut most = 0;
    wait_for("a minute", || {
        most = most.max(source.resident_bytes());
        (began.elapsed() > Duration::from_secs(60)).then_some(())
    });
    assert!(source.is_running(), "{}", source.log());
    assert!(most < 400 << 20, "{most} bytes");
    proxy.cut(false);
    source.expect_exit(0);
    assert!(source.log().contains("degraded, reopening"), "{}", source.log());
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn one_of_three_brokers_killed_under_load_loses_and_doubles_nothing() {
    let mut cluster = Broker::start(BrokerOptions {
        nodes: 3,
        ..BrokerOptions::default()
    })
    .expect("a cluster");
    let world = World::new(&[60_000]).on(&cluster.bootstrap_servers());
    world.simulator.set_latency(Duration::from_millis(50));
    let mut source = world.command(&["run", "--until-caught-up"], &[("D02__TRANSACTION__MAX_ROWS", "1000")]);
    wait_for("some accounts", || {
        (world.simulator.counts().row_count > 10_000).then_some(())
    });
    source.wait_for_line("claimed and restored");
    cluster.kill(2).expect("killed");
    world.simulator.set_latency(Duration::ZERO);
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}
