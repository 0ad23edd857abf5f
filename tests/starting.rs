//! What is a start's proof worth, and whom does it disturb? Tombstones of others, lenders beside those that start, takeovers of
//! many lenders.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Endpoint, Fault};
use rdkafka::producer::{BaseRecord, Producer};

use crate::support::kafka::{self, Record};
use crate::support::world::World;
use crate::support::{PATIENCE, judge, wait_for};

/// A null record for the key of `record`, with these headers.
fn tombstone(record: &Record, headers: &[(&str, &str)]) -> Record {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Record {
        value: None,
        headers: headers.collect(),
        ..record.clone()
    }
}

/// The records of a lender in `accounts`.
fn accounts_of(world: &World, lender: usize) -> Vec<Record> {
    let public_id = world.lender(lender).public_id;
    let mut records = world.accounts();
    records.retain(|record| record.headers.get("d02.lender") == Some(&public_id));
    records
}

/// Removes accounts by somebody else's null records.
fn remove(world: &World, records: &[Record], headers: &[(&str, &str)]) {
    let tombstones: Vec<Record> = records.iter().map(|record| tombstone(record, headers)).collect();
    kafka::write_records(&world.servers, &world.topic("accounts"), &tombstones);
}

#[test]
fn null_records_for_one_lenders_keys_do_not_excuse_what_another_one_lost() {
    let world = World::new(&[120, 120]);
    world.catch_up();
    remove(&world, &accounts_of(&world, 1), &[]);
    let lost = accounts_of(&world, 0)[0].partition;
    kafka::empty(&world.servers, &world.topic("accounts"), &[lost]);
    let cursors = world.cursors();
    // Together, and where nothing is held of the other one.
    for password in [None, Some(("D02__LENDERS__LENDER_2__PASSWORD", "wrong"))] {
        let mut source = world.command(&["run"], password.as_slice());
        source.wait_for_line("does not hold what was committed");
        source.expect_exit(2);
        let log = source.log();
        assert!(log.contains("cursor reset"), "{log}");
        assert!(!log.contains("that is honoured"), "{log}");
    }
    assert_eq!(world.cursors(), cursors, "a refusal writes nothing");
    for lender in ["lender-1", "lender-2"] {
        world.command(&["cursor", "reset", lender], &[]).expect_exit(0);
    }
    world.catch_up();
    let rows: Vec<_> = (0..2).flat_map(|lender| world.simulator.rows(lender)).collect();
    judge::complete(&world.accounts(), &rows);
}

#[test]
fn a_lender_removed_by_null_records_leaves_the_others_as_they_are() {
    let world = World::new(&[60, 60]);
    world.catch_up();
    let removed = accounts_of(&world, 1);
    // Its own reset, and the documented null records.
    world.command(&["cursor", "reset", "lender-2"], &[]).expect_exit(0);
    let public_id = world.lender(1).public_id;
    remove(&world, &removed, &[("d02.lender", &public_id)]);
    let mut source = world.command(&["run"], &[("D02__LENDERS__LENDER_2__PASSWORD", "wrong")]);
    source.wait_for_line("claimed and restored");
    assert!(!source.log().contains("were removed"), "{}", source.log());
    source.signal("TERM");
    assert_eq!(accounts_of(&world, 0).len(), 60);
}

#[test]
fn accounts_removed_by_hand_are_honoured_and_excuse_no_account_that_is_lost_later() {
    let world = World::new(&[120, 100]);
    world.catch_up();
    let (first, second) = (accounts_of(&world, 0), accounts_of(&world, 1));
    let lost = first[0].partition;
    let elsewhere: Vec<Record> = first
        .into_iter()
        .filter(|record| record.partition != lost)
        .take(50)
        .collect();
    remove(&world, &elsewhere, &[]);
    remove(&world, &second[7..8], &[("d02.lender", &world.lender(1).public_id)]);
    let log = world.catch_up();
    assert_eq!(log.matches("S12").count(), 2, "{log}");
    assert!(log.contains("50 accounts were removed"), "{log}");
    assert!(log.contains("1 accounts were removed"), "{log}");
    let log = world.catch_up();
    assert!(!log.contains("were removed"), "{log}");
    kafka::empty(&world.servers, &world.topic("accounts"), &[lost]);
    let mut source = world.command(&["run"], &[]);
    source.expect_exit(2);
    assert!(
        source.log().contains("does not hold what was committed"),
        "{}",
        source.log()
    );
}

/// A world of one lender, of which compaction removed what a null record with these headers removed.
fn compacted(headers: impl FnOnce(&World) -> Vec<(&'static str, String)>) -> (World, Record) {
    let world = World::new(&[40]);
    world.catch_up();
    let record = world.accounts()[9].clone();
    let headers = headers(&world);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    remove(&world, std::slice::from_ref(&record), &headers);
    kafka::compact(&world.servers, &world.topic("accounts"), record.partition, record.key());
    (world, record)
}

#[test]
fn a_null_record_that_names_its_lender_is_honoured_after_compaction() {
    let (world, _) = compacted(|world| vec![("d02.lender", world.lender(0).public_id)]);
    let log = world.catch_up();
    assert!(log.contains("S12") && log.contains("1 accounts were removed"), "{log}");
}

#[test]
fn a_null_record_of_nobody_is_refused_after_compaction_and_counts_once_it_names_its_lender() {
    let (world, record) = compacted(|_| Vec::new());
    let refused = || {
        let mut source = world.command(&["run"], &[]);
        source.expect_exit(2);
        let log = source.log();
        assert!(log.contains("S23") && log.contains("d02.lender"), "{log}");
        assert!(log.contains("cursor reset"), "{log}");
    };
    refused();
    // Another lender's is none of this one's.
    remove(&world, std::slice::from_ref(&record), &[("d02.lender", "another")]);
    let mut source = world.command(&["run"], &[]);
    source.expect_exit(2);
    remove(
        &world,
        std::slice::from_ref(&record),
        &[("d02.lender", &world.lender(0).public_id)],
    );
    let log = world.catch_up();
    assert!(log.contains("1 accounts were removed"), "{log}");
}

#[test]
fn a_reset_is_the_way_on_after_a_null_record_of_nobody() {
    let (world, _) = compacted(|_| Vec::new());
    world.command(&["run"], &[]).expect_exit(2);
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    world.catch_up();
    judge::complete(&world.accounts(), &world.simulator.rows(0));
}

/// Sign of life, so often that what lost its lender finds out soon.
const BEAT: (&str, &str) = ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s");

fn judge_all(world: &World, lender_count: usize) {
    let rows: Vec<_> = (0..lender_count)
        .flat_map(|lender| world.simulator.rows(lender))
        .collect();
    judge::everything(&world.judged_accounts(), &rows);
}

#[test]
fn killed_at_any_point_of_taking_over_nothing_is_lost_or_doubled() {
    let world = World::new(&[200, 200, 200]).single();
    let mut first = world.command(&["run"], &[BEAT]);
    wait_for("the snapshots", || (world.accounts_so_far() == 600).then_some(()));
    for (seed, failpoint) in ["after_restore:1", "after_fence:2", "after_claim:2"]
        .into_iter()
        .enumerate()
    {
        let mut second = world.command(&["run"], &[BEAT, ("D02_FAILPOINT", failpoint)]);
        let name = failpoint.split(':').next().expect("a name");
        second.wait_for_line(&format!("failpoint {name} reached"));
        (0..3).for_each(|lender| {
            world.simulator.touch(lender, 20, seed as u64);
        });
        second.kill();
        if name == "after_restore" {
            assert!(first.is_running(), "nobody was fenced: {}", first.log());
        }
    }
    world.catch_up();
    first.expect_exit(3);
    judge_all(&world, 3);
}

#[test]
fn a_restore_of_any_length_leaves_the_lender_to_its_owner_and_what_is_claimed_shows_life() {
    // An instance counts as alive for three of these: so long that a slow machine does not miss them all.
    let beat = ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "4s");
    const SILENCE: Duration = Duration::from_secs(14);
    let world = World::new(&[50]).single();
    let mut first = world.command(&["run"], &[beat]);
    wait_for("the snapshot", || (world.accounts_so_far() == 50).then_some(()));
    let lives = || {
        let mut reset = world.command(&["cursor", "reset", "lender-1"], &[beat]);
        reset.expect_exit(2);
        assert!(reset.log().contains("lives, its last commit is"), "{}", reset.log());
    };
    // Longer than an instance counts as alive without a sign.
    let mut second = world.command(&["run"], &[beat, ("D02_FAILPOINT", "after_restore:1:20000")]);
    second.wait_for_line("failpoint after_restore reached");
    let restored = Instant::now();
    wait_for("a while", || (restored.elapsed() > SILENCE).then_some(()));
    lives();
    assert!(first.is_running(), "{}", first.log());
    second.wait_for_line("claimed and restored");
    first.expect_exit(3);
    let claimed = Instant::now();
    wait_for("a while", || (claimed.elapsed() > SILENCE).then_some(()));
    lives();
    second.signal("TERM");
    second.expect_exit(0);
    judge_all(&world, 1);
}

/// What an instance that was killed leaves of a lender: a transaction that is open in the first so many partitions of the cursor topic.
fn left_open(world: &World, lender: usize, partition_count: i32, settings: &[(&str, &str)]) {
    let id = format!("{}.{}", world.name, world.lender(lender).public_id);
    let killed = kafka::producer(
        &world.servers,
        &[&[("transactional.id", id.as_str())], settings].concat(),
    );
    killed.init_transactions(PATIENCE).expect("fenced");
    killed.begin_transaction().expect("begun");
    let topic = world.topic("cursor");
    for partition in 0..partition_count {
        let record = BaseRecord::<str, str>::to(&topic).key("other").payload("open");
        killed.send(record.partition(partition)).expect("sent");
    }
    killed.flush(PATIENCE).expect("written");
    // It says nothing any more.
    std::mem::forget(killed);
}

#[test]
fn what_a_killed_instance_left_open_for_other_lenders_does_not_hold_back_a_start() {
    const LENDERS: usize = 2;
    let world = World::new(&[50; LENDERS]);
    world.catch_up();
    let begun = Instant::now();
    (0..LENDERS).for_each(|lender| left_open(&world, lender, 1, &[]));
    let one_by_one = [("D02_TEST_SIDE_BY_SIDE", "1")];
    let mut source = world.command(&["run", "--until-caught-up"], &one_by_one);
    source.expect_exit(0);
    let log = source.log();
    assert!(log.contains("fencing all lenders that are to start"), "{log}");
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "it waited for their time-out"
    );
    judge_all(&world, LENDERS);
}

#[test]
fn what_a_killed_instance_left_open_for_a_lender_that_is_ready_later_holds_back_the_others_no_longer_than_that() {
    const LATER: Duration = Duration::from_secs(15);
    let world = World::new(&[50; 2]);
    world.catch_up();
    // In all partitions: who starts first reads them all.
    left_open(&world, 1, 2, &[("transaction.timeout.ms", "150000")]);
    let slow = Fault::on(Endpoint::Login, Effect::Hang(LATER)).lender(&world.lender(1).subdomain);
    world.simulator.push_fault(slow);
    let begun = Instant::now();
    let mut source = world.command(&["run", "--until-caught-up"], &[]);
    source.expect_exit(0);
    let log = source.log();
    assert!(log.contains("fencing all lenders that are to start"), "{log}");
    assert!(
        begun.elapsed() < Duration::from_secs(140),
        "it waited for the time-out: {log}"
    );
    judge_all(&world, 2);
}

#[test]
fn a_start_whose_lender_goes_on_where_it_ran_before_it_is_claimed_fences_it_anew() {
    let world = World::new(&[50]).single();
    let mut first = world.command(&["run"], &[BEAT]);
    wait_for("the snapshot", || (world.accounts_so_far() == 50).then_some(()));
    // For longer than the first one looks for a claim.
    let mut second = world.command(&["run"], &[BEAT, ("D02_FAILPOINT", "after_fence:1:30000")]);
    second.wait_for_line("failpoint after_fence reached");
    first.wait_for_line("no other instance took over");
    first.wait_for_line("reopened");
    world.simulator.touch(0, 20, 1);
    wait_for("its changes", || (world.accounts_so_far() >= 70).then_some(()));
    assert!(!second.log().contains("claimed"), "{}", second.log());
    world.simulator.touch(0, 20, 2);
    second.wait_for_line("claimed and restored");
    first.expect_exit(3);
    let log = second.log();
    assert!(log.contains("who ran it went on before the claim"), "{log}");
    assert!(!log.contains("stopped:"), "{log}");
    second.signal("TERM");
    second.expect_exit(0);
    let owners = owners(&world);
    let epochs: Vec<_> = owners.values().map(|epochs| epochs.len()).collect();
    assert_eq!(epochs, [2], "it moved once: {owners:?}");
    judge_all(&world, 1);
}

/// The instances that claimed each lender, by epoch.
fn owners(world: &World) -> BTreeMap<String, BTreeMap<u64, BTreeSet<String>>> {
    let mut owners: BTreeMap<String, BTreeMap<u64, BTreeSet<String>>> = BTreeMap::new();
    for record in world.cursors() {
        let json = record.json();
        if let Some(instance) = json["instance"].as_str() {
            let epoch = json["epoch"].as_u64().expect("a number");
            let epochs = owners.entry(record.key().to_owned()).or_default();
            epochs.entry(epoch).or_default().insert(instance.to_owned());
        }
    }
    owners
}

#[test]
fn a_second_instance_takes_many_lenders_over_and_each_moves_once_however_long_it_takes() {
    const LENDERS: usize = 16;
    let world = World::new(&[20; LENDERS]).single();
    let mut first = world.command(&["run"], &[BEAT]);
    wait_for("the snapshots", || {
        (world.accounts_so_far() == 20 * LENDERS).then_some(())
    });
    // It stops in the middle, for longer than the first one looks for a claim: what is fenced by then goes on where it was.
    let mut second = world.command(&["run"], &[BEAT, ("D02_FAILPOINT", "after_claim:8:25000")]);
    second.wait_for_line("failpoint after_claim reached");
    let stopped = Instant::now();
    (0..LENDERS).for_each(|lender| {
        world.simulator.touch(lender, 5, 1);
    });
    // All but the one that is claimed and stopped.
    wait_for("changes of the others", || {
        (world.accounts_so_far() >= 25 * LENDERS - 5).then_some(())
    });
    assert!(
        stopped.elapsed() < Duration::from_secs(25),
        "they were written by whoever claimed them"
    );
    assert!(first.is_running(), "{}", first.log());
    let claimed = |log: &str| log.matches("claimed and restored").count();
    let (mut seed, mut changed) = (2, Instant::now());
    wait_for("the other claims", || {
        if changed.elapsed() > Duration::from_millis(500) {
            world.simulator.touch(seed as usize % LENDERS, 3, seed);
            (seed, changed) = (seed + 1, Instant::now());
        }
        (claimed(&second.log()) == LENDERS).then_some(())
    });
    first.expect_exit(3);
    second.signal("TERM");
    second.expect_exit(0);
    assert!(!second.log().contains("stopped:"), "{}", second.log());
    for (lender, epochs) in owners(&world) {
        assert_eq!(
            epochs.keys().copied().collect::<Vec<_>>(),
            [1, 2],
            "{lender} moves once"
        );
        assert!(
            epochs.values().all(|instances| instances.len() == 1),
            "One writer: {lender}"
        );
    }
    world.catch_up();
    judge_all(&world, LENDERS);
}
