//! What becomes of a source whose topics, settings or registry change while it runs?

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Fault};
use d02_source::testbed::{Registry, RegistryOptions};
use rdkafka::producer::{BaseRecord, Producer};
use reqwest::StatusCode;

use crate::http::Observed;
use crate::support::kafka;
use crate::support::shown::shown;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{PATIENCE, RUNTIME, judge, wait_for};

const HEARTBEAT: [&str; 2] = ["transaction.heartbeat_interval=2s", "upstream.late_window=1s"];

/// Catches up and goes on.
fn running(world: &World, accounts: usize) -> Source {
    let source = world.command_with(&HEARTBEAT, &["run"]);
    wait_for("the snapshot", || (world.accounts_so_far() == accounts).then_some(()));
    source
}

const COMPACT: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// The topic is created anew under a source that has nothing to write but heartbeats.
#[track_caller]
fn stops_for_another(kind: &str) -> World {
    let world = World::new(&[3_000]);
    let mut source = running(&world, 3_000);
    kafka::recreate(&world.servers, &world.topic(kind), &COMPACT);
    let began = Instant::now();
    source.expect_exit(2);
    assert!(began.elapsed() < Duration::from_secs(30), "{}", source.log());
    for said in [
        world.topic(kind).as_str(),
        "was deleted and created anew",
        "cursor reset",
        "S19",
    ] {
        assert!(source.log().contains(said), "no {said} in {}", source.log());
    }
    world
}

#[test]
fn accounts_that_are_created_anew_stop_the_lender_within_a_heartbeat_and_a_reset_brings_all_back() {
    let world = stops_for_another("accounts");
    let found = shown(&world, &["check"], &[]).expect(2);
    let line = format!("✗ kafka, topic {}", world.topic("accounts"));
    assert!(found.out.contains(&line), "{}", found.out);
    // As a start that did not see it happen.
    let mut again = world.run();
    again.expect_exit(2);
    assert!(
        again.log().contains("does not hold what was committed"),
        "{}",
        again.log()
    );
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    world.catch_up();
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn a_cursor_topic_that_is_created_anew_stops_the_lender_within_a_heartbeat() {
    let world = stops_for_another("cursor");
    assert_eq!(world.accounts().len(), 3_000);
}

/// What is written before the next look shows it as well.
#[test]
fn accounts_that_are_created_anew_beneath_changes_stop_the_lender_at_the_next_commit() {
    let world = World::new(&[3_000]);
    let mut source = world.command_with(&["transaction.heartbeat_interval=1h"], &["run"]);
    wait_for("the snapshot", || (world.accounts_so_far() == 3_000).then_some(()));
    kafka::recreate(&world.servers, &world.topic("accounts"), &COMPACT);
    world.simulator.touch(0, 500, 1);
    source.expect_exit(2);
    assert!(
        source.log().contains("was deleted and created anew"),
        "{}",
        source.log()
    );
}

#[test]
fn a_topic_that_is_not_compacted_any_more_makes_its_lender_not_ready_until_that_is_mended() {
    for kind in ["accounts", "cursor"] {
        let world = World::new(&[200]);
        let mut observed = Observed::start(&world, &["run"], &[("D02_TEST_LOOK_INTERVAL", "500")]);
        wait_for("the snapshot", || (world.accounts_so_far() == 200).then_some(()));
        observed.wait_until_ready();
        let topic = world.topic(kind);
        for value in ["delete", "compact,delete"] {
            kafka::alter(&world.servers, &topic, "cleanup.policy", value);
            wait_for("it is not ready", || {
                let (status, why) = observed.get("/readyz");
                (status == StatusCode::SERVICE_UNAVAILABLE && why.contains("not exactly compacted")).then_some(())
            });
            wait_for("it is counted", || {
                let (_, metrics) = observed.get("/metrics");
                metrics
                    .contains("d02_uncompacted_topics{lender=\"lender-1\"} 1")
                    .then_some(())
            });
            kafka::alter(&world.servers, &topic, "cleanup.policy", "compact");
            observed.wait_until_ready();
        }
        // Writing goes on all the while.
        let changed = world.simulator.touch(0, 20, 3).len();
        wait_for("what changes", || {
            (world.accounts_so_far() == 200 + changed).then_some(())
        });
        let log = observed.source.log();
        for said in [
            "kafka-configs.sh",
            "--add-config cleanup.policy=compact",
            "T02",
            topic.as_str(),
            "is exactly compacted again",
        ] {
            assert!(log.contains(said), "no {said}: {log}");
        }
        observed.source.signal("TERM");
        observed.source.expect_exit(0);
    }
}

#[test]
fn a_transaction_that_does_not_end_is_said_with_the_command_that_ends_it_and_so_is_its_end() {
    let world = World::new(&[200]);
    let environment = [
        ("D02_TEST_LOOK_INTERVAL", "500"),
        ("D02_TEST_TRANSACTION_TIMEOUT", "4000"),
    ];
    let mut observed = Observed::start(&world, &["run"], &environment);
    wait_for("the snapshot", || (world.accounts_so_far() == 200).then_some(()));
    observed.wait_until_ready();
    let metric = |observed: &Observed, name: &str, value: usize| {
        let line = format!("d02_{name}{{lender=\"lender-1\"}} {value}\n");
        wait_for(&line, || observed.get("/metrics").1.contains(&line).then_some(()));
    };
    metric(&observed, "hidden_partitions", 0);
    let topic = world.topic("accounts");
    let (partition, _, offset) = kafka::ends(&world.servers, &topic)[0];
    let id = format!("{}-stranger", world.name);
    let settings = [("transactional.id", id.as_str()), ("transaction.timeout.ms", "600000")];
    let stranger = kafka::producer(&world.servers, &settings);
    stranger.init_transactions(PATIENCE).expect("an id");
    stranger.begin_transaction().expect("begun");
    let record = BaseRecord::to(&topic)
        .partition(partition)
        .key("stranger")
        .payload("never");
    stranger.send(record).expect("sent");
    stranger.flush(PATIENCE).expect("written");
    observed.source.wait_for_line("a transaction does not end");
    metric(&observed, "hidden_partitions", 1);
    // Writing goes on all the while.
    let changed = world.simulator.touch(0, 50, 3).len();
    metric(&observed, "records_total", 200 + changed);
    assert_eq!(observed.get("/readyz").0, StatusCode::OK);
    stranger.abort_transaction(PATIENCE).expect("aborted");
    observed
        .source
        .wait_for_line("the transaction has ended: consumers read on");
    metric(&observed, "hidden_partitions", 0);
    let log = observed.source.log();
    let command = format!("abort --topic {topic} --partition {partition} --start-offset {offset}");
    for said in ["K22", "writing goes on", "describe-producers", &command] {
        assert!(log.contains(said), "no {said}: {log}");
    }
    assert_eq!(log.matches("K22").count(), 1, "{log}");
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[track_caller]
fn says_of_another(kind: &str, make: impl Fn(&World)) {
    let world = World::new(&[3_000]);
    make(&world);
    let mut source = running(&world, 3_000);
    make(&world);
    wait_for("something in it", || {
        let ends = kafka::ends(&world.servers, &world.topic(kind));
        ends.iter().any(|(_, _, high)| *high > 0).then_some(())
    });
    kafka::recreate(&world.servers, &world.topic(kind), &[]);
    source.wait_for_line("S20");
    let found = shown(&world, &["check"], &[]).expect(0);
    let line = format!("! kafka, topic {}", world.topic(kind));
    assert!(found.out.contains(&line), "{}", found.out);
    make(&world);
    world.simulator.touch(0, 100, 7);
    let rows = world.simulator.rows(0);
    wait_for("what changes afterwards", || {
        let latest = |records: &[kafka::Record]| records.iter().map(kafka::Record::updated_at).max();
        (world.follow_accounts(latest) == rows.iter().map(|row| row.updated_at_ms).max()).then_some(())
    });
    assert_eq!(source.log().matches("S20").count(), 1, "{}", source.log());
    source.signal("TERM");
    source.expect_exit(0);
    let log = world.catch_up();
    assert!(log.contains("S20"), "a start says it, too: {log}");
    judge::everything(&world.accounts(), &rows);
}

#[test]
fn changes_that_are_created_anew_are_said_shown_by_check_and_cost_nothing_else() {
    says_of_another("changes", |world| {
        world.simulator.touch(0, 100, 3);
    });
}

#[test]
fn a_registry_that_comes_back_empty_is_noticed_and_the_new_id_is_written_under() {
    let mut registry = Registry::start(RegistryOptions::default()).expect("a registry");
    let world = World::new(&[300]);
    let url = registry.url();
    let environment = [
        ("D02_TEST_LOOK_INTERVAL", "500"),
        ("D02__SCHEMA_REGISTRY__URL", url.as_str()),
    ];
    let mut source = world.command(&["run"], &environment);
    wait_for("the snapshot", || (world.accounts_so_far() == 300).then_some(()));
    let id_of = |record: &kafka::Record| record.value.as_ref().map(|value| value[1..5].to_vec());
    let before = world.follow_accounts(|records| records.iter().map(id_of).collect::<BTreeSet<_>>());
    assert_eq!(before.len(), 1);
    // Somebody else's schemas get the ids before it looks.
    source.signal("STOP");
    registry.restart().expect("an empty registry");
    give_ids_to_others(&url);
    source.signal("CONT");
    source.wait_for_line("nothing is written until it is registered again");
    wait_for("another start", || {
        (source.log().matches("claimed and restored").count() == 2).then_some(())
    });
    let changed = world.simulator.touch(0, 50, 9).len();
    wait_for("what changes", || {
        (world.accounts_so_far() == 300 + changed).then_some(())
    });
    let after = world.follow_accounts(|records| records[..].iter().map(id_of).collect::<BTreeSet<_>>());
    assert_eq!(after.len(), 2, "what changed is written under another id");
    let found = shown(&world, &["check"], &[("D02__SCHEMA_REGISTRY__URL", url.as_str())]);
    assert!(found.out.contains("is known"), "{}", found.out);
    source.signal("TERM");
    source.expect_exit(0);
    // Their values were written under two ids, one of which is somebody else's now.
    let records = world.accounts();
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
}

#[test]
fn ids_that_others_got_are_an_error_of_check() {
    let world = World::new(&[30]);
    let registry = lost_schemas(&world);
    let url = registry.url();
    let environment = [("D02__SCHEMA_REGISTRY__URL", url.as_str())];
    let found = shown(&world, &["check"], &environment).expect(2);
    assert!(found.out.contains("of the schema registry is Other"), "{}", found.out);
    assert!(found.out.contains("not cleargrid.d02.Account"), "{}", found.out);
}

/// A registry that lost its schemas, which somebody else's have now, and a world whose accounts are under the old ones.
fn lost_schemas(world: &World) -> Registry {
    let mut registry = Registry::start(RegistryOptions::default()).expect("a registry");
    let url = registry.url();
    let environment = [("D02__SCHEMA_REGISTRY__URL", url.as_str())];
    world
        .command(&["run", "--until-caught-up"], &environment)
        .expect_exit(0);
    registry.restart().expect("an empty registry");
    give_ids_to_others(&url);
    registry
}

fn id_of(record: &kafka::Record) -> u32 {
    let value = record.value.as_ref().expect("a value");
    u32::from_be_bytes(value[1..5].try_into().expect("four bytes"))
}

fn is_republished(record: &kafka::Record) -> bool {
    record.headers.get("d02.republished").is_some_and(|text| text == "true")
}

#[test]
fn republish_writes_once_more_what_nobody_can_read_and_nothing_twice_whatever_kills_it() {
    let world = World::new(&[6_000]);
    let registry = lost_schemas(&world);
    let url = registry.url();
    let set = |args: &[&str], failpoint: &str| {
        let environment = [
            ("D02__SCHEMA_REGISTRY__URL", url.as_str()),
            ("D02_FAILPOINT", failpoint),
            // A killed one lives for three of these.
            ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "100ms"),
            ("D02_TEST_TRANSACTION_TIMEOUT", "2000"),
        ];
        world.command(args, &environment)
    };
    let changes = world.changes().len();
    let found = shown(
        &world,
        &["republish", "--dry-run"],
        &[("D02__SCHEMA_REGISTRY__URL", url.as_str())],
    )
    .expect(0);
    assert!(
        found
            .out
            .contains("lender-1: 6000 of 6000 accounts would be written once more"),
        "{}",
        found.out
    );
    for point in ["accounts_sent", "before_commit", "after_commit", "before_remember"] {
        let mut source = set(&["republish"], &format!("{point}:1"));
        source.wait_for_line(&format!("failpoint {point} reached"));
        source.kill();
    }
    let mut source = set(&["republish"], "");
    source.expect_exit(0);
    assert!(source.log().contains("accounts stand under schema"), "{}", source.log());
    let records = world.accounts();
    let (again, first): (Vec<_>, Vec<_>) = records.iter().partition(|record| is_republished(record));
    assert_eq!((first.len(), again.len()), (6_000, 6_000), "each once more, and once");
    let today = id_of(again[0]);
    assert!(
        again
            .iter()
            .all(|record| id_of(record) == today && record.header("__op") == "r")
    );
    assert!(first.iter().all(|record| id_of(record) != today));
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
    assert_eq!(world.changes().len(), changes, "nothing of it is a change");
    // Everything is done: nothing more is written, by nobody.
    set(&["republish"], "").expect_exit(0);
    set(&["run", "--until-caught-up"], "").expect_exit(0);
    assert_eq!(world.accounts().len(), records.len());
    let found = shown(&world, &["check"], &[("D02__SCHEMA_REGISTRY__URL", url.as_str())]);
    assert!(found.out.contains("is known"), "{}", found.out);
}

#[test]
fn republish_takes_the_ids_that_are_named_and_leaves_what_upstream_does_not_show_as_it_is_held() {
    let world = World::new(&[500]);
    let registry = lost_schemas(&world);
    let url = registry.url();
    let environment = [("D02__SCHEMA_REGISTRY__URL", url.as_str())];
    let old = world.follow_accounts(|records| id_of(&records[0]));
    // Changed, so it is written under today's schema by the next run, and gone.
    world.simulator.touch(0, 30, 5);
    world.simulator.delete(0, 10, 6);
    let named = |id: u32| {
        let id = id.to_string();
        let mut source = world.command(&["republish", "--schema-id", &id], &environment);
        (source.exit_code(), source.log())
    };
    assert_eq!(named(old + 1_000).0, 0, "nothing stands under it");
    assert!(world.accounts().iter().all(|record| !is_republished(record)));
    let (exit, log) = named(old);
    assert_eq!(exit, 1, "{log}");
    let records = world.accounts();
    let again = records.iter().filter(|record| is_republished(record)).count();
    let gone = judge::latest(&records)
        .values()
        .filter(|record| id_of(record) == old)
        .count();
    assert_eq!(gone, 10, "those that upstream does not show any more");
    assert!((460..=490).contains(&again), "{again}");
    world.command(&["reconcile"], &environment).expect_exit(0);
    assert!(
        judge::latest(&world.accounts())
            .values()
            .all(|record| id_of(record) != old)
    );
}

#[test]
fn republish_believes_no_upstream_that_is_older_than_what_is_held() {
    let world = World::new(&[200]);
    world.simulator.keep_copy(0);
    world.simulator.touch(0, 50, 5);
    let registry = lost_schemas(&world);
    let url = registry.url();
    let set: Vec<&str> = vec!["--set", "upstream.late_window=1s"];
    let later = Fault::export(Effect::OldCopy).rate(1.0);
    world.simulator.push_fault(later);
    let before = world.accounts().len();
    std::thread::sleep(Duration::from_secs(2));
    let args: Vec<&str> = set.into_iter().chain(["republish"]).collect();
    let mut refused = world.command(&args, &[("D02__SCHEMA_REGISTRY__URL", url.as_str())]);
    refused.expect_exit(1);
    assert!(refused.log().contains("U26"), "{}", refused.log());
    assert_eq!(world.accounts().len(), before);
}

#[test]
fn republish_takes_no_lender_from_a_running_source() {
    let world = World::new(&[50]);
    let mut source = running(&world, 50);
    let mut refused = world.command(&["republish"], &[]);
    refused.expect_exit(2);
    assert!(refused.log().contains("lives"), "{}", refused.log());
    source.signal("TERM");
    source.expect_exit(0);
}

/// Somebody else's schemas get the ids that an empty registry gives first.
fn give_ids_to_others(url: &str) {
    for number in 0..5 {
        let schema = format!(r#"{{"schema":"{{\"type\":\"record\",\"name\":\"Other{number}\",\"fields\":[]}}"}}"#);
        post(&format!("{url}/subjects/other-{number}/versions"), &schema);
    }
}

#[track_caller]
fn post(url: &str, body: &str) {
    let request = reqwest::Client::new()
        .post(url)
        .header("content-type", "application/json");
    let answer = RUNTIME
        .block_on(request.body(body.to_owned()).send())
        .expect("an answer");
    assert!(answer.status().is_success(), "{answer:?}");
}
