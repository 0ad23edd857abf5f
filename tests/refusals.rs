//! Does a state that would lose or double accounts stop the source, with the way on, and does an uncertain commit not?

use std::time::{Duration, Instant};

use d02_source::testbed::{Broker, BrokerOptions};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseRecord, Producer};

use crate::support::kafka;
use crate::support::kafka_proxy::KafkaProxy;
use crate::support::shown::shown;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{PATIENCE, RUNTIME, judge, nothing_happens_for, wait_for};

fn refused(world: &World, args: &[&str], text: &str) {
    let mut source = world.command(args, &[]);
    source.expect_exit(2);
    assert!(source.log().contains(text), "no `{text}` in\n{}", source.log());
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
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
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
    let stopped = log
        .lines()
        .filter(|line| line.contains("stopped: ") && line.contains("holds an account of lender"));
    assert_eq!(stopped.count(), 2, "{log}");
    assert!(log.contains("put {lender} in kafka.topics.accounts"), "{log}");
}

#[test]
fn topics_of_their_own_keep_lenders_apart_and_a_foreign_record_in_one_stops_only_its_lender() {
    let world = World::new(&[50, 50]);
    let own = format!("kafka.topics.accounts={}.{{lender}}.own", world.name);
    let accounts = |lender: &str| kafka::committed(&world.servers, &world.topic(&format!("{lender}.own")));
    let shared = world.simulator.rows(0)[0].clone();
    world
        .simulator
        .upsert_json(1, shared.updated_at_ms, &shared.id, &shared.json);
    let run = ["--set", &own, "run", "--until-caught-up"];
    world.command(&run, &[]).expect_exit(0);
    assert_eq!((accounts("lender-1").len(), accounts("lender-2").len()), (50, 51));
    // The same key in both topics is nobody's second copy.
    world.command(&run, &[]).expect_exit(0);
    world.simulator.touch(1, 10, 3);
    let topic = world.topic("lender-1.own");
    kafka::write(&world.servers, &topic, 0, "stranger", Some("anything"));
    let mut source = world.command(&run, &[]);
    source.expect_exit(2);
    let log = source.log();
    assert_eq!(log.matches("was not written by d02-source").count(), 1, "{log}");
    let records = accounts("lender-2");
    judge::everything(&records, &world.simulator.rows(1));
    assert_eq!(records.len(), 61);
}

#[test]
fn a_key_that_a_lender_wrote_last_that_does_not_start_keeps_the_one_from_starting_that_holds_it() {
    let world = World::new(&[50, 50]);
    world.catch_up();
    let twice = world.simulator.rows(1)[0].clone();
    world
        .simulator
        .upsert_json(0, twice.updated_at_ms, &twice.id, &twice.json);
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    world.catch_up();
    // lender-1 cannot log in, so lender-2 starts alone.
    let mut source = world.command(&["run"], &[("D02__LENDERS__LENDER_1__PASSWORD", "wrong")]);
    source.wait_for_line("that is also held under lender");
    source.expect_exit(2);
}

#[test]
fn a_reset_leaves_no_partition_of_the_cursor_topic_behind() {
    let world = World::new(&[100]);
    let partitions = [("D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITIONS", "3")];
    world.command(&["setup"], &partitions).expect_exit(0);
    let topic = world.topic("cursor");
    // What a topic looks like that lost its records: one partition that had ours, one that had another's.
    world.command(&["run", "--until-caught-up"], &partitions).expect_exit(0);
    let ours = world.cursors().pop().expect("a cursor record");
    let other = (ours.partition + 1) % 3;
    kafka::write(&world.servers, &topic, other, ours.key(), Some(&ours.text()));
    kafka::empty(&world.servers, &topic, &[ours.partition]);
    refused(&world, &["run"], "is empty but once held records");
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    let tombstones: Vec<_> = world
        .cursors()
        .into_iter()
        .filter(|record| record.value.is_none())
        .collect();
    let mut found: Vec<_> = tombstones.iter().map(|record| record.partition).collect();
    found.sort_unstable();
    let mut expected = [ours.partition, other];
    expected.sort_unstable();
    assert_eq!(found, expected);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    assert_eq!(world.accounts().len(), 100);
}

#[test]
fn a_topic_that_takes_too_small_records_is_refused_and_never_created() {
    let world = World::new(&[10]);
    let topic = world.topic("dead");
    let small = ("D02__KAFKA__TOPIC_SETTINGS__DEAD_LETTERS__MAX_MESSAGE_BYTES", "2000");
    let mut source = world.command(&["setup"], &[small]);
    source.expect_exit(2);
    let expected = r#"kafka.topic_settings.dead_letters."max.message.bytes" is 2000, it must be at least 65536"#;
    assert!(source.log().contains(expected), "{}", source.log());
    assert!(kafka::partitions(&world.servers, &topic).is_empty());
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("max.message.bytes", "2000");
    RUNTIME
        .block_on(async {
            kafka::admin(&world.servers)
                .create_topics([&new], &AdminOptions::new())
                .await
        })
        .expect("an answer");
    refused(
        &world,
        &["run"],
        &format!("topic {topic}: max.message.bytes is 2000, it must be at least 65536"),
    );
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
    kafka::add_partitions(&world.servers, &topic, 8);
    source.expect_exit(2);
    assert!(
        source
            .log()
            .contains("the partitions were accounts=6,changes=6 and are accounts=8,changes=6"),
        "{}",
        source.log()
    );
    refused(
        &world,
        &["run"],
        "the partitions were accounts=6,changes=6 and are accounts=8,changes=6",
    );
}

#[test]
fn topics_that_appear_some_seconds_after_a_start_are_waited_for_and_those_that_do_not_are_named() {
    let world = World::new(&[50]);
    let uncreated = ("D02__KAFKA__CREATE_TOPICS", "false");
    let mut impatient = world.command(&["run"], &[uncreated, ("D02_TEST_DENIAL_PATIENCE", "2000")]);
    impatient.expect_exit(2);
    assert!(
        impatient.log().contains("error: missing topics: "),
        "{}",
        impatient.log()
    );
    let mut source = world.command(&["run"], &[uncreated]);
    source.wait_for_line("starting: missing topics: ");
    nothing_happens_for(Duration::from_secs(5));
    assert!(source.is_running(), "{}", source.log());
    world.command(&["setup"], &[]).expect_exit(0);
    source.wait_for_line("claimed and restored");
    wait_for("the accounts", || (world.accounts_so_far() == 50).then_some(()));
    source.signal("TERM");
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_topic_that_is_not_compacted_is_refused_by_name_and_setting() {
    let world = World::new(&[10]);
    let topic = world.topic("accounts");
    let new = NewTopic::new(&topic, 6, TopicReplication::Fixed(1)).set("cleanup.policy", "delete");
    RUNTIME
        .block_on(async {
            kafka::admin(&world.servers)
                .create_topics([&new], &AdminOptions::new())
                .await
        })
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
    let records = world.judged_accounts();
    assert_eq!(records.len(), 2_050);
    judge::everything(&records, &world.simulator.rows(0));
}

#[test]
fn a_commit_whose_answer_is_lost_has_landed_and_is_not_written_again() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[4_000]).on(&broker.bootstrap_servers());
    let mut source = world.through(&proxy, &["run"], &[("D02__TRANSACTION__MAX_ROWS", "1000")]);
    wait_for("the snapshot", || (world.accounts_so_far() == 4_000).then_some(()));
    // Two pages of one live walk: the first batch does not move the progress.
    proxy.swallow_end_txn_responses(true);
    let changed = world.simulator.touch(0, 1_500, 5).len();
    wait_for("a swallowed answer", || {
        (proxy.swallowed_end_txn_responses() > 0).then_some(())
    });
    source.wait_for_line("outcome=Landed");
    proxy.swallow_end_txn_responses(false);
    wait_for("the changes", || {
        (world.accounts_so_far() == 4_000 + changed).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

/// librdkafka repeats the request and reports nothing.
#[test]
fn a_commit_whose_connection_is_closed_before_its_answer_is_read_back() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[500]).on(&broker.bootstrap_servers());
    let mut source = world.through(&proxy, &["run"], &[]);
    wait_for("the snapshot", || (world.accounts_so_far() == 500).then_some(()));
    for changed in 1..=3 {
        // A new producer has no error of the one before it.
        let asked = proxy.end_txn_requests();
        proxy.close_at_next_end_txn_response();
        world.simulator.touch(0, 100, 5);
        wait_for("a closed connection", || (!proxy.is_to_close()).then_some(()));
        wait_for("the batch read back", || {
            (source.log().matches("outcome=Landed").count() == changed).then_some(())
        });
        assert!(proxy.end_txn_requests() > asked);
    }
    source.signal("TERM");
    source.expect_exit(0);
    let records = world.judged_accounts();
    assert_eq!(records.len(), 800);
    judge::everything(&records, &world.simulator.rows(0));
}

/// As if this machine's clock were behind the broker's: its records are seconds old when they come.
#[test]
fn records_that_are_refused_for_their_time_are_written_once_the_clocks_are_together_again() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[300]).on(&broker.bootstrap_servers());
    let mut source = world.through(&proxy, &["run"], &[]);
    wait_for("the snapshot", || (world.accounts_so_far() == 300).then_some(()));
    let settings = [
        ("cleanup.policy", "compact"),
        ("message.timestamp.before.max.ms", "2000"),
    ];
    assert!(kafka::try_set_all(
        &kafka::admin(&world.servers),
        &world.topic("accounts"),
        &settings
    ));
    // Of one record the report says why, of several the transaction does.
    for (count, seed, expected) in [(1, 1, 301), (100, 2, 401)] {
        proxy.delay_produce_requests(Duration::from_secs(3));
        let before = source.log().matches("K21").count();
        assert_eq!(world.simulator.touch(0, count, seed).len(), count);
        wait_for("the refusal", || {
            (source.log().matches("K21").count() > before).then_some(())
        });
        proxy.delay_produce_requests(Duration::ZERO);
        wait_for("the changes", || (world.accounts_so_far() == expected).then_some(()));
    }
    let log = source.log();
    let topic = world.topic("accounts");
    for said in [
        "a record is refused for its time: it is 20",
        "by this machine's clock",
        "message.timestamp.after.max.ms",
        "date -u",
        topic.as_str(),
    ] {
        assert!(log.contains(said), "no {said} in {log}");
    }
    source.signal("TERM");
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

/// A source whose commit is doubtful, stopped just before it reads back what landed.
fn doubtful(world: &World, proxy: &KafkaProxy) -> Source {
    let source = world.through(proxy, &["run"], &[("D02_FAILPOINT", "before_reopen:1:2000")]);
    wait_for("the snapshot", || (world.accounts_so_far() == 500).then_some(()));
    proxy.swallow_end_txn_responses(true);
    world.simulator.touch(0, 100, 5);
    source
}

#[test]
fn a_shutdown_while_the_outcome_of_a_commit_is_unknown_reads_it_back_and_releases_the_lender() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[500]).on(&broker.bootstrap_servers());
    let mut source = doubtful(&world, &proxy);
    source.wait_for_line("failpoint before_reopen reached");
    source.signal("TERM");
    proxy.swallow_end_txn_responses(false);
    source.expect_exit(0);
    assert!(source.log().contains("outcome=Landed"), "{}", source.log());
    assert_eq!(
        world.cursors().pop().expect("a cursor record").json()["instance"],
        serde_json::Value::Null
    );
    assert_eq!(world.accounts().len(), 600);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_shutdown_that_cannot_read_back_what_landed_writes_nothing_a_release_neither() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[500]).on(&broker.bootstrap_servers());
    let mut source = doubtful(&world, &proxy);
    source.wait_for_line("failpoint before_reopen reached");
    let began = Instant::now();
    source.signal("TERM");
    proxy.cut(true);
    source.expect_exit(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{}", source.log());
    assert_ne!(
        world.cursors().pop().expect("a cursor record").json()["instance"],
        serde_json::Value::Null
    );
    world.catch_up();
    assert_eq!(world.accounts().len(), 600);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_broker_that_is_away_for_a_minute_costs_bounded_memory_and_nothing_else() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[150_000]).on(&broker.bootstrap_servers());
    let mut source = world.through(&proxy, &["run", "--until-caught-up"], &[]);
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
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn one_of_three_brokers_killed_under_load_loses_and_doubles_nothing() {
    let mut cluster = Broker::start(BrokerOptions {
        nodes: 3,
        ..BrokerOptions::default()
    })
    .expect("a cluster");
    let world = World::new(&[60_000]).on(&cluster.bootstrap_servers());
    let replicated = |lines: &[&str]| {
        let found = shown(&world, &["check"], &[]).expect(0);
        for line in [
            "✓ kafka, brokers: 3 brokers, by PLAINTEXT",
            "✓ kafka, replication factor: 3 or more",
        ] {
            assert!(found.out.contains(line), "no `{line}`: {}", found.out);
        }
        lines
            .iter()
            .for_each(|line| assert!(found.out.contains(line), "no `{line}`: {}", found.out));
    };
    replicated(&["missing; `run` creates it with 6 partitions"]);
    world.simulator.set_latency(Duration::from_millis(50));
    let mut source = world.command(&["run", "--until-caught-up"], &[("D02__TRANSACTION__MAX_ROWS", "1000")]);
    wait_for("some accounts", || {
        assert!(source.is_running(), "{}", source.log());
        (world.simulator.counts().row_count > 10_000).then_some(())
    });
    source.wait_for_line("claimed and restored");
    // It must not be over when the broker is killed.
    world.simulator.set_latency(Duration::from_secs(1));
    replicated(&[
        "6 partitions, settings as wanted",
        "an instance lives that is no member of the group; another `run` would stand by",
    ]);
    cluster.kill(2).expect("killed");
    world.simulator.set_latency(Duration::ZERO);
    source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}
