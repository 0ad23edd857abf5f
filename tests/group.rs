//! Do several processes share the lenders out, so that each runs once, whatever comes and goes? Real processes in one Kafka group.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use d02_source::simulator::StoredRow;
use d02_source::testbed::{Broker, BrokerOptions};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use serde_json::Value;

use crate::http::Observed;
use crate::soak;
use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::kafka_proxy::KafkaProxy;
use crate::support::registry;
use crate::support::shown::shown;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::World;

const LENDERS: usize = 12;

const QUICK: [(&str, &str); 3] = [
    ("D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITIONS", "12"),
    ("D02__GROUP__SESSION_TIMEOUT", "6s"),
    ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s"),
];

/// [`QUICK`] and more.
fn quick<'e>(more: &[(&'e str, &'e str)]) -> Vec<(&'e str, &'e str)> {
    QUICK.iter().chain(more).copied().collect()
}

/// Whoever has a partition runs a lender.
fn world() -> World {
    World::new(&[200; LENDERS]).spread().in_turn()
}

fn member(world: &World) -> Source {
    world.command(&["run"], &QUICK)
}

/// Who runs each lender now, by the cursor records: what a release left is nobody's.
fn owners(records: &[Record]) -> BTreeMap<String, Option<String>> {
    judge::one_writer(records);
    let mut owners = BTreeMap::new();
    for record in records {
        let instance = record.json()["instance"].as_str().map(str::to_owned);
        owners.insert(record.key().to_owned(), instance);
    }
    owners
}

fn rows(world: &World) -> Vec<StoredRow> {
    let lenders = 0..world.simulator.handle().lender_count();
    lenders.flat_map(|lender| world.simulator.rows(lender)).collect()
}

/// Waits until so many processes run all lenders, each at least one.
fn wait_for_owners(world: &World, count: usize) -> BTreeMap<String, Option<String>> {
    wait_for("every lender is run", || {
        let owners = owners(&world.cursors());
        let instances: BTreeSet<_> = owners.values().flatten().collect();
        let are_all = owners.len() == world.simulator.handle().lender_count() && owners.values().all(Option::is_some);
        (are_all && instances.len() == count).then_some(owners.clone())
    })
}

#[track_caller]
fn judged(world: &World) {
    let records = world.judged_accounts();
    judge::once_and_in_order(&records);
    judge::complete(&records, &rows(world));
    judge::one_writer(&world.cursors());
}

/// These end in order, and every promise holds.
#[track_caller]
fn end<const COUNT: usize>(world: &World, sources: [&mut Source; COUNT]) {
    for source in sources {
        source.signal("TERM");
        source.expect_exit(0);
    }
    judged(world);
}

/// The first one ends in order, the other runs all, and what changes then arrives. Gives who runs what.
#[track_caller]
fn leaves_all(world: &World, first: &mut Source) -> BTreeMap<String, Option<String>> {
    first.signal("TERM");
    first.expect_exit(0);
    let owners = wait_for_owners(world, 1);
    touch(world, 2);
    wait_until_written(world);
    owners
}

/// As [`leaves_all`], and then the other ends, too.
#[track_caller]
fn leaves_all_to(world: &World, first: &mut Source, other: &mut Source) -> BTreeMap<String, Option<String>> {
    let owners = leaves_all(world, first);
    end(world, [other]);
    owners
}

/// Waits until what changed by now is in `accounts`.
fn wait_until_written(world: &World) {
    let rows = rows(world);
    let expected: BTreeMap<&str, i64> = rows.iter().map(|row| (row.id.as_str(), row.updated_at_ms)).collect();
    wait_for("what changed", || {
        world.follow_accounts(|records| {
            let latest = judge::latest(records);
            let is_there = |(id, at): (&&str, &i64)| latest.get(id).is_some_and(|record| record.updated_at() >= *at);
            expected.iter().all(is_there).then_some(())
        })
    });
}

fn touch(world: &World, seed: u64) {
    for lender in 0..world.simulator.handle().lender_count() {
        world.simulator.touch(lender, 5, seed);
    }
}

#[test]
fn members_share_the_lenders_out_and_what_one_leaves_the_others_take() {
    let world = world();
    let mut first = member(&world);
    let alone = wait_for_owners(&world, 1);
    let mut second = member(&world);
    let both = wait_for_owners(&world, 2);
    let moved = both.iter().filter(|(key, owner)| alone[*key] != **owner).count();
    assert!(
        (1..LENDERS).contains(&moved),
        "{moved} of {LENDERS} lenders moved: {both:?}"
    );
    touch(&world, 1);
    wait_until_written(&world);
    // A planned hand-over.
    leaves_all(&world, &mut first);
    let mut third = member(&world);
    wait_for_owners(&world, 2);
    second.signal("TERM");
    second.expect_exit(0);
    third.signal("TERM");
    third.expect_exit(0);
    assert!(
        owners(&world.cursors()).values().all(Option::is_none),
        "released at the end"
    );
    judged(&world);
    let log = second.log();
    assert!(!log.contains("another instance took"), "each moved in order: {log}");
    [first, second, third].iter().for_each(were_right);
}

/// What was held of a lender that was taken was what its topics hold.
fn were_right(source: &Source) {
    let log = source.log();
    assert!(!log.contains("is read anew") && !log.contains("standing by:"), "{log}");
}

/// What a member holds of each lender that it does not run, by its `/readyz`.
fn held_by(member: &Observed) -> BTreeMap<String, u64> {
    let report: Value = serde_json::from_str(&member.get("/readyz").1).expect("JSON");
    let lenders = report["lenders"].as_object().expect("lenders");
    let held = |(lender, of): (&String, &Value)| Some((lender.clone(), of["standby"]["accounts"].as_u64()?));
    lenders.iter().filter_map(held).collect()
}

/// When the last record of one owner and the first of the next were written, of each lender that moved to `to`.
fn hand_overs(records: &[Record], to: &str) -> Vec<Duration> {
    let mut last: BTreeMap<&str, &Record> = BTreeMap::new();
    let mut took = Vec::new();
    for record in records {
        let before = last.insert(record.key(), record);
        let is_claim = |before: &&Record| {
            before.json()["epoch"] != record.json()["epoch"] && record.json()["instance"].as_str() == Some(to)
        };
        if let Some(before) = before.filter(is_claim) {
            let between = record.timestamp_ms - before.timestamp_ms;
            took.push(Duration::from_millis(u64::try_from(between).unwrap_or_default()));
        }
    }
    took
}

#[test]
fn a_standby_holds_what_others_run_reads_on_and_gives_it_back() {
    let world = world();
    let mut first = Observed::start(&world, &["run"], &QUICK);
    wait_for_owners(&world, 1);
    let mut second = Observed::start(&world, &["run"], &QUICK);
    let both = wait_for_owners(&world, 2);
    let runs = |instance: &Option<String>| both.values().filter(|owner| *owner == instance).count();
    let counts: BTreeSet<usize> = both.values().map(runs).collect();
    let all_held = |member: &Observed, count: usize| {
        let held = held_by(member);
        (held.len() == count && held.values().all(|accounts| *accounts == 200)).then_some(())
    };
    // Each holds what the other one runs, and nothing of what it runs itself: the first one took that back.
    wait_for("both are warm", || {
        let held: BTreeSet<usize> = [&first, &second].map(|member| held_by(member).len()).into();
        let is_whole = |member| all_held(member, held_by(member).len()).is_some();
        (held == counts && is_whole(&first) && is_whole(&second)).then_some(())
    });
    for lender in 0..LENDERS {
        world.simulator.insert(lender, 3);
    }
    wait_until_written(&world);
    wait_for("they read on", || {
        let held: Vec<u64> = [&first, &second]
            .into_iter()
            .flat_map(|member| held_by(member).into_values())
            .collect();
        (held.len() == LENDERS && held.iter().all(|accounts| *accounts == 203)).then_some(())
    });
    first.source.signal("TERM");
    first.source.expect_exit(0);
    let owners = wait_for_owners(&world, 1);
    assert_eq!(held_by(&second), BTreeMap::new(), "it runs them all");
    let to = owners.values().flatten().next().expect("an owner").clone();
    println!("handed over after {:?}", hand_overs(&world.cursors(), &to));
    touch(&world, 1);
    wait_until_written(&world);
    end(&world, [&mut second.source]);
    [&first, &second]
        .into_iter()
        .for_each(|member| were_right(&member.source));
}

#[test]
fn a_schema_that_cannot_be_asked_for_now_keeps_a_standby_waiting_and_nothing_else() {
    let world = world();
    let mut first = member(&world);
    wait_for_owners(&world, 1);
    let account: Value = serde_json::from_str(include_str!("../avro/account.avsc")).expect("a schema");
    let mut later = account.clone();
    later["doc"] = Value::from("as a later version says it");
    let id = registry::register(&format!("{}-later", world.topic("accounts")), &later.to_string());
    let door = registry::Door::refusing(&format!("GET /schemas/ids/{id}"), 503);
    let url = door.url();
    let mut second = Observed::start(&world, &["run"], &quick(&[("D02__SCHEMA_REGISTRY__URL", &url)]));
    wait_for_owners(&world, 2);
    // What somebody else would write, once more.
    let written = world.accounts();
    let with_another_schema = |record: &Record| {
        let value = record.value.as_deref().expect("a value");
        [&[0], &id.to_be_bytes()[..], &value[5..]].concat()
    };
    let others: Vec<Record> = written
        .iter()
        .map(|record| Record {
            value: Some(with_another_schema(record)),
            ..record.clone()
        })
        .collect();
    kafka::write_records(&world.servers, &world.topic("accounts"), &others);
    second
        .source
        .wait_for_line("standing by: the schema of an account's record cannot be had");
    touch(&world, 1);
    wait_until_written(&world);
    assert!(second.source.is_running(), "{}", second.source.log());
    assert!(
        !held_by(&second).is_empty(),
        "what was held is held: {}",
        second.source.log()
    );
    door.admit();
    leaves_all(&world, &mut first);
    second.source.signal("TERM");
    second.source.expect_exit(0);
    let mut records = world.accounts();
    records.retain(|record| !others.iter().any(|other| other.value == record.value));
    judge::once_and_in_order(&records);
    judge::complete(&records, &rows(&world));
    let log = second.source.log();
    assert!(!log.contains("cannot be read"), "{log}");
}

#[test]
fn without_a_warm_standby_what_is_taken_is_read_first() {
    let world = world();
    let cold = quick(&[("D02__GROUP__STANDBY", "cold")]);
    let mut first = world.command(&["run"], &cold);
    wait_for_owners(&world, 1);
    let mut second = Observed::start(&world, &["run"], &cold);
    wait_for_owners(&world, 2);
    assert_eq!(held_by(&second), BTreeMap::new());
    touch(&world, 1);
    leaves_all_to(&world, &mut first, &mut second.source);
}

#[test]
fn what_a_killed_member_ran_is_taken_after_its_session() {
    let world = world();
    let mut first = member(&world);
    wait_for_owners(&world, 1);
    let mut second = member(&world);
    let before = wait_for_owners(&world, 2);
    touch(&world, 1);
    first.kill();
    let killed = Instant::now();
    touch(&world, 2);
    let survivor = wait_for("the other takes all", || {
        let owners = owners(&world.cursors());
        let instances: BTreeSet<_> = owners.values().flatten().cloned().collect();
        (instances.len() == 1).then(|| instances.into_iter().next().expect("one"))
    });
    println!("taken over after {:?}", killed.elapsed());
    assert!(before.values().flatten().any(|owner| *owner == survivor));
    wait_until_written(&world);
    end(&world, [&mut second]);
}

#[test]
fn a_member_that_stood_still_for_longer_than_its_session_writes_nothing_more_and_stands_by() {
    let world = world();
    let mut first = member(&world);
    wait_for_owners(&world, 1);
    let mut second = member(&world);
    wait_for_owners(&world, 2);
    touch(&world, 1);
    first.signal("STOP");
    wait_for("the other takes all", || {
        let owners = owners(&world.cursors());
        let instances: BTreeSet<_> = owners.values().flatten().collect();
        (instances.len() == 1).then_some(())
    });
    touch(&world, 2);
    first.signal("CONT");
    // It is a member again, and gets its share.
    wait_for_owners(&world, 2);
    touch(&world, 3);
    wait_until_written(&world);
    assert!(first.is_running() && second.is_running());
    end(&world, [&mut first, &mut second]);
}

#[test]
fn a_member_that_is_cut_off_from_kafka_writes_nothing_more_and_gets_its_share_again() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = world().on(&broker.bootstrap_servers());
    let mut cut = world.through(&proxy, &["run"], &QUICK);
    wait_for_owners(&world, 1);
    let mut other = member(&world);
    wait_for_owners(&world, 2);
    touch(&world, 1);
    // It still reads upstream.
    proxy.cut(true);
    wait_for_owners(&world, 1);
    touch(&world, 2);
    wait_until_written(&world);
    proxy.cut(false);
    wait_for_owners(&world, 2);
    touch(&world, 3);
    wait_until_written(&world);
    end(&world, [&mut cut, &mut other]);
}

#[test]
fn a_lender_whose_start_fails_is_tried_again_by_a_member_that_lives_for_the_others() {
    let (broker, proxy) = KafkaProxy::before_a_broker();
    let world = World::new(&[300]).on(&broker.bootstrap_servers());
    // The group goes on holding it for a member.
    let environment = quick(&[
        ("D02_FAILPOINT", "after_restore:1:3000"),
        ("D02_TEST_PATIENCE", "2000"),
        ("D02__GROUP__SESSION_TIMEOUT", "120s"),
    ]);
    let mut member = world.through(&proxy, &["run"], &environment);
    member.wait_for_line("failpoint after_restore reached");
    proxy.cut(true);
    member.wait_for_line("stopped, and is tried again");
    proxy.cut(false);
    wait_for("the accounts", || (world.accounts_so_far() == 300).then_some(()));
    member.signal("TERM");
    member.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_process_that_is_alone_and_a_member_do_not_fight_over_a_lender() {
    let world = World::new(&[300]);
    let owner = || owners(&world.cursors()).into_values().next().flatten();
    // One of an earlier version, or alone by its configuration. A commit may take seconds here, and who is silent for three heartbeats
    // is taken for dead.
    let patient = [("D02__TRANSACTION__HEARTBEAT_INTERVAL", "5s")];
    let single = quick(&[patient[0], ("D02__GROUP__MODE", "single")]);
    let mut alone = world.command(&["run"], &single);
    let running = wait_for("it runs", owner);
    let mut member = world.command(&["run"], &quick(&patient));
    member.wait_for_line("another process runs it, which the group knows nothing of");
    assert_eq!(owner(), Some(running), "it is left alone");
    alone.signal("TERM");
    alone.expect_exit(0);
    let taken = wait_for("the member runs it", owner);
    // The other way round it takes over, as it always did.
    let mut alone = world.command(&["run"], &single);
    member.wait_for_line("this one stands by");
    wait_for("it is another's", || owner().filter(|owner| *owner != taken));
    alone.signal("TERM");
    alone.expect_exit(0);
    wait_for("the member runs it again", || owner().filter(|owner| *owner == taken));
    wait_for("the accounts", || (world.accounts_so_far() == 300).then_some(()));
    member.signal("TERM");
    member.expect_exit(0);
    let records = world.judged_accounts();
    judge::everything(&records, &world.simulator.rows(0));
    judge::one_writer(&world.cursors());
}

#[test]
fn members_by_the_next_generation_of_the_protocol_share_the_lenders_out() {
    let settings = [("D02__GROUP__PROTOCOL", "consumer")];
    let world = world();
    let environment = quick(&settings);
    let mut first = world.command(&["run"], &environment);
    wait_for_owners(&world, 1);
    let mut second = world.command(&["run"], &environment);
    wait_for_owners(&world, 2);
    let checked = shown(&world, &["check"], &environment).expect(0);
    let seen = "tried without joining; nobody is in it now";
    assert!(checked.out.contains(seen), "librdkafka shows them: {}", checked.out);
    touch(&world, 1);
    wait_until_written(&world);
    leaves_all_to(&world, &mut first, &mut second);
}

#[test]
fn of_a_cursor_topic_with_one_partition_one_member_runs_all_and_the_other_stands_by() {
    let world = world();
    let environment = quick(&[("D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITIONS", "1")]);
    let mut first = world.command(&["run"], &environment);
    wait_for_owners(&world, 1);
    let mut second = Observed::start(&world, &["run"], &environment);
    wait_for("it holds them all", || {
        (held_by(&second).len() == LENDERS).then_some(())
    });
    // Though the group gives it nothing.
    second.wait_until_ready();
    let before = wait_for_owners(&world, 1);
    touch(&world, 1);
    let after = leaves_all_to(&world, &mut first, &mut second.source);
    assert!(before.iter().all(|(key, owner)| after[key] != *owner));
}

#[test]
fn a_static_member_that_is_started_again_within_its_session_moves_nothing() {
    let world = world();
    let of = |name: &'static str| {
        let environment = quick(&[
            ("D02__GROUP__SESSION_TIMEOUT", "60s"),
            ("D02__GROUP__INSTANCE_ID", name),
        ]);
        world.command(&["run"], &environment)
    };
    let mut first = of("pod-0");
    wait_for_owners(&world, 1);
    let mut second = of("pod-1");
    let before = wait_for_owners(&world, 2);
    // As an upgrade does.
    second.signal("TERM");
    second.expect_exit(0);
    touch(&world, 1);
    let mut second = of("pod-1");
    let after = wait_for_owners(&world, 2);
    let stayed = before.iter().filter(|(key, owner)| after[*key] == **owner).count();
    let of_the_first = before
        .values()
        .filter(|owner| after.values().any(|now| now == *owner))
        .count();
    assert_eq!(stayed, of_the_first, "{before:?} {after:?}");
    assert!((1..LENDERS).contains(&stayed), "{before:?} {after:?}");
    touch(&world, 2);
    wait_until_written(&world);
    // The same name twice: the one that was there ends.
    let mut twin = of("pod-1");
    second.expect_exit(2);
    assert!(second.log().contains("with this group.instance_id"), "{}", second.log());
    wait_for_owners(&world, 2);
    end(&world, [&mut first, &mut twin]);
}

#[test]
fn what_only_one_member_is_configured_with_is_run_by_it_and_both_say_so() {
    let world = world();
    let environment = quick(&[("D02_TEST_MEMBERS_INTERVAL", "500"), ("D02_TEST_ADOPTION", "2000")]);
    let mut whole = world.command(&["run"], &environment);
    wait_for_owners(&world, 1);
    let config = world.config_of(1, "one-lender.toml");
    let mut part = Source::spawn(&["--config", &config, "run"], &environment);
    for source in [&mut whole, &mut part] {
        source.wait_for_line("are configured otherwise than this process");
    }
    // Of eleven lenders one at least is in a partition that moved.
    whole.wait_for_line("nobody ran it, and its partition is another member's");
    touch(&world, 1);
    wait_until_written(&world);
    wait_for("every lender is run", || {
        let owners = owners(&world.cursors());
        (owners.len() == LENDERS && owners.values().all(Option::is_some)).then_some(())
    });
    part.signal("TERM");
    part.expect_exit(0);
    whole.wait_for_line("are configured alike");
    wait_for_owners(&world, 1);
    touch(&world, 2);
    wait_until_written(&world);
    end(&world, [&mut whole]);
}

/// A consumer of other software in the group of `world`, which polls until this is dropped.
fn stranger(world: &World) -> impl Drop {
    struct Stranger(Arc<AtomicBool>, Option<JoinHandle<()>>);
    impl Drop for Stranger {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
            self.1.take().expect("once").join().expect("it ends");
        }
    }
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.servers)
        .set("group.id", &world.name)
        .set("client.id", "billing")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .create()
        .expect("a consumer");
    consumer.subscribe(&[&world.topic("cursor")]).expect("subscribed");
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&is_over);
    let polling = std::thread::spawn(move || {
        while !ends.load(Ordering::SeqCst) {
            let _ = consumer.poll(Duration::from_millis(50));
        }
    });
    Stranger(is_over, Some(polling))
}

#[test]
fn a_group_that_other_software_uses_is_refused_with_its_name_and_one_that_joins_later_is_said() {
    let world = World::new(&[100]);
    let environment = quick(&[("D02_TEST_MEMBERS_INTERVAL", "500")]);
    let mut source = world.command(&["run"], &environment);
    wait_for("the accounts", || (world.accounts_so_far() == 100).then_some(()));
    let other = stranger(&world);
    source.wait_for_line(r#"its members have the client ids "billing" at"#);
    assert!(source.is_running());
    source.signal("TERM");
    source.expect_exit(0);
    let mut refused = world.command(&["run"], &environment);
    refused.expect_exit(2);
    let log = refused.log();
    assert!(
        log.contains(r#"is used by something else: its members have the client ids "billing" at"#),
        "{log}"
    );
    let checked = shown(&world, &["check"], &environment).expect(2);
    assert!(checked.out.contains(r#""billing" at"#), "{}", checked.out);
    drop(other);
    wait_for("the other one has left", || {
        (shown(&world, &["check"], &environment).code == Some(0)).then_some(())
    });
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    let checked = shown(&world, &["check"], &environment).expect(0);
    assert!(checked.out.contains("; 1 process is in it now"), "{}", checked.out);
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn a_broker_that_is_killed_while_the_lenders_are_shared_out_anew_costs_nothing() {
    let mut cluster = Broker::start(BrokerOptions {
        nodes: 3,
        ..BrokerOptions::default()
    })
    .expect("a cluster");
    let world = world().on(&cluster.bootstrap_servers());
    let mut first = member(&world);
    wait_for_owners(&world, 1);
    touch(&world, 1);
    let mut second = member(&world);
    first.wait_for_line("revoked by the group");
    cluster.kill(2).expect("killed");
    touch(&world, 2);
    wait_for_owners(&world, 2);
    wait_until_written(&world);
    end(&world, [&mut first, &mut second]);
}

/// Of twelve lenders here and for 40 s; `just soak-group` has it go on for longer, and with two hundred.
#[test]
fn members_that_come_and_go_without_end_lose_and_double_nothing() {
    let lenders = std::env::var("D02_TEST_SOAK_LENDERS").map_or(LENDERS, |count| count.parse().expect("a number"));
    let world = World::new(&vec![200; lenders]).in_turn();
    // No more transactions a second than a broker beside all this can take.
    let heartbeat = format!("{}s", lenders.div_ceil(20));
    let environment = quick(&[
        ("D02__TRANSACTION__HEARTBEAT_INTERVAL", &heartbeat),
        ("D02__KAFKA__TOPIC_SETTINGS__CURSOR__PARTITIONS", "24"),
    ]);
    let member = || world.command(&["run"], &environment);
    let mut rng = fastrand::Rng::with_seed(16);
    let mut members: Vec<Source> = (0..3).map(|_| member()).collect();
    let begun = Instant::now();
    let (mut seed, mut kills, mut ends, mut stops) = (0, 0, 0, 0);
    while begun.elapsed() < soak::lasting(Duration::from_secs(40)) {
        seed += 1;
        touch(&world, seed);
        std::thread::sleep(Duration::from_millis(rng.u64(1_000..3_000)));
        let index = rng.usize(..members.len());
        match rng.u8(..3) {
            0 => {
                members[index].kill();
                kills += 1;
            }
            1 => {
                members[index].signal("TERM");
                members[index].expect_exit(0);
                ends += 1;
            }
            _ => {
                stops += 1;
                members[index].signal("STOP");
                std::thread::sleep(Duration::from_millis(rng.u64(500..8_000)));
                members[index].signal("CONT");
                continue;
            }
        }
        members[index] = member();
    }
    touch(&world, seed + 1);
    wait_until_written(&world);
    for source in &mut members {
        assert!(source.is_running(), "{}", source.log());
        source.signal("TERM");
        source.expect_exit(0);
    }
    judged(&world);
    let cursors = world.cursors();
    let claims: BTreeSet<_> = cursors
        .iter()
        .map(|record| (record.key(), record.json()["epoch"].as_u64()))
        .collect();
    let claims = claims.len();
    println!("{lenders} lenders: {kills} kills, {ends} ends in order, {stops} stops, {claims} claims");
}
