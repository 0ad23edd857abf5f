//! What do many lenders of one process cost Kafka at the same moment, and does each still see what is committed?

use std::collections::BTreeSet;

use d02_source::testbed::{Broker, BrokerOptions};

use crate::support::kafka;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{judge, wait_for};

const LENDERS: usize = 12;

/// What is read, and by how many clients, is told; what cannot be delivered is given up after 4 s.
const ENVIRONMENT: [(&str, &str); 2] = [
    ("RUST_LOG", "info,d02_source::kafka::read=debug"),
    ("D02_TEST_TRANSACTION_TIMEOUT", "8000"),
];

/// What a process read of the cursor topic.
#[derive(Debug, Default)]
struct Readings {
    /// Of all topics.
    clients: usize,
    readings: usize,
    records: usize,
}

impl Readings {
    /// By the lines of the log that follow so many.
    fn since(world: &World, source: &Source, line_count: usize) -> Self {
        let topic = format!("topic=\"{}\"", world.topic("cursor"));
        let mut found = Self::default();
        for line in source.log().lines().skip(line_count) {
            found.clients += 2 * usize::from(line.contains("connecting two clients to read with"));
            if line.contains("read to the end") && line.contains(&topic) {
                found.readings += 1;
                let count = line.split("record_count=").nth(1);
                let count = count.and_then(|rest| rest.split(' ').next()?.parse::<usize>().ok());
                found.records += count.expect("a count");
            }
        }
        found
    }
}

/// How many lines after the first so many say `text`.
fn count(source: &Source, line_count: usize, text: &str) -> usize {
    let log = source.log();
    log.lines().skip(line_count).filter(|line| line.contains(text)).count()
}

/// The lenders in the lines after the first so many that say `text`.
fn lenders(source: &Source, line_count: usize, text: &str) -> BTreeSet<String> {
    let log = source.log();
    let lines = log.lines().skip(line_count).filter(|line| line.contains(text));
    let lender = |line: &str| Some(line.split_once("lender=\"")?.1.split_once('"')?.0.to_owned());
    lines.filter_map(lender).collect()
}

/// All lenders read to the end of their snapshots, then the broker away until each has found out. Gives how many lines were logged
/// before that, and how many cursor records the start found.
fn without_a_broker(world: &World, broker: &mut Broker, meanwhile: impl FnOnce()) -> (Source, usize, usize) {
    // A start that finds records has read of the topic.
    world.catch_up();
    let found = world.cursors().len();
    let source = world.command(&["run"], &ENVIRONMENT);
    wait_for("all are claimed", || {
        (count(&source, 0, "claimed and restored") == LENDERS).then_some(())
    });
    world.stop_between_transactions(&source);
    meanwhile();
    let before = source.log().lines().count();
    broker.kill(1).expect("killed");
    source.signal("CONT");
    // Each has something to write, and finds that it cannot.
    (0..LENDERS).for_each(|lender| {
        world.simulator.touch(lender, 5, 1);
    });
    wait_for("all are degraded", || {
        (lenders(&source, before, "degraded, reopening").len() == LENDERS).then_some(())
    });
    (source, before, found)
}

#[test]
fn lenders_that_reopen_at_the_same_time_share_what_they_read_of_the_cursor_topic() {
    let mut broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let world = World::new(&[20; LENDERS]).single().on(&broker.bootstrap_servers());
    let (mut source, before, at_start) = without_a_broker(&world, &mut broker, || {});
    broker.restart(1).expect("restarted");
    wait_for("all are reopened", || {
        (lenders(&source, before, " reopened ").len() == LENDERS).then_some(())
    });
    let found = Readings::since(&world, &source, before);
    let (reopened, committed) = (count(&source, before, " reopened "), world.cursors().len());
    println!("{reopened} reopened, {committed} cursor records: {found:?}");
    assert!(found.clients < 2 * reopened, "{found:?}");
    // Once for all of them, and once by what follows what is wanted of them.
    assert!(
        found.records <= 2 * (committed - at_start),
        "none is read twice: {found:?}"
    );
    wait_for("what changed", || {
        (world.accounts_so_far() == 25 * LENDERS).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    let records = world.accounts();
    for lender in 0..LENDERS {
        let public_id = world.lender(lender).public_id;
        let of_lender = records.iter().filter(|record| record.header("d02.lender") == public_id);
        let of_lender: Vec<_> = of_lender.cloned().collect();
        judge::everything(&of_lender, &world.simulator.rows(lender));
    }
}

#[test]
fn a_cursor_topic_that_is_created_anew_beneath_lenders_that_reopen_stops_them_all() {
    let mut broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let world = World::new(&[20; LENDERS]).single().on(&broker.bootstrap_servers());
    let topic = world.topic("cursor");
    let (mut source, before, _) = without_a_broker(&world, &mut broker, || {
        kafka::recreate(&world.servers, &topic, &[("cleanup.policy", "compact")]);
    });
    broker.restart(1).expect("restarted");
    source.expect_exit(2);
    assert_eq!(
        count(&source, before, "it is read from the beginning"),
        1,
        "{}",
        source.log()
    );
    assert_eq!(count(&source, before, "code=S19"), LENDERS, "{}", source.log());
    assert!(world.cursors().is_empty(), "nothing is written to another one");
}
