//! Does what is in flight stay within its budget, whatever is slow, large or many? On real brokers.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use d02_source::testbed::{Broker, BrokerOptions};

use crate::support::judge;
use crate::support::nothing_happens_for;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

const MIB: u64 = 1 << 20;

/// What the allocators, the copies of records in librdkafka and what it knows of them take beside a budget: so many times.
const SLACK: u64 = 2;

/// A broker that can be made to stand still, which answers nobody and closes no connection.
struct Stopped<'b>(&'b Broker);

impl<'b> Stopped<'b> {
    fn begin(broker: &'b Broker) -> Self {
        signal(broker, "STOP");
        Self(broker)
    }
}

impl Drop for Stopped<'_> {
    fn drop(&mut self) {
        signal(self.0, "CONT");
    }
}

fn signal(broker: &Broker, name: &str) {
    let properties = broker.directory().join("node-1.properties");
    let is_it = |process: &Path| {
        let command = std::fs::read_to_string(process.join("cmdline")).unwrap_or_default();
        command.contains("kafka.Kafka") && command.contains(&properties.display().to_string())
    };
    let processes = std::fs::read_dir("/proc").expect("processes");
    let paths = processes.map(|entry| entry.expect("an entry").path());
    // The broker, and who watches over it.
    let ids: Vec<String> = paths
        .filter(|path| is_it(path))
        .map(|path| path.file_name().expect("a number").to_string_lossy().into_owned())
        .collect();
    assert!(!ids.is_empty(), "the broker runs");
    let status = Command::new("kill").arg(format!("-{name}")).args(ids).status();
    assert!(status.expect("kill runs").success());
}

/// How long a broker stands still: longer than everything that can be read takes, shorter than a delivery may take.
const STANDSTILL: Duration = Duration::from_secs(20);

/// The most that the process holds meanwhile.
fn most_while_it_stands_still(source: &mut Source) -> u64 {
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < STANDSTILL {
        assert!(source.is_running(), "{}", source.log());
        most = most.max(source.resident_bytes());
        nothing_happens_for(Duration::from_millis(100));
    }
    most
}

#[track_caller]
fn judge_all(world: &World, lenders: usize) {
    let rows: Vec<_> = (0..lenders).flat_map(|lender| world.simulator.rows(lender)).collect();
    let records = world.judged_accounts();
    judge::once_and_in_order(&records);
    judge::complete(&records, &rows);
}

#[test]
fn eight_lenders_in_their_snapshots_stay_within_one_budget_while_the_broker_stands_still() {
    const ROWS: u32 = 8_000;
    const BUDGET_MIB: u64 = 32;
    let broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let world = World::with(options(&[ROWS; 8])).on(&broker.bootstrap_servers());
    // Nothing is read before all are claimed.
    world.simulator.set_latency(Duration::from_secs(3));
    let budget = format!("memory.in_flight={BUDGET_MIB}MiB");
    let set = ["upstream.snapshot_parallelism=4", &budget];
    let mut source = world.command_with(&set, &["run", "--until-caught-up"]);
    wait_for("all are claimed", || {
        (source.log().matches("claimed and restored").count() == 8).then_some(())
    });
    assert!(source.is_running(), "{}", source.log());
    let before = source.resident_bytes();
    let stopped = Stopped::begin(&broker);
    world.simulator.set_latency(Duration::ZERO);
    let most = most_while_it_stands_still(&mut source);
    let (read, taken) = (world.simulator.counts().row_count, most.saturating_sub(before) / MIB);
    println!("{} MiB before, {taken} MiB more, {read} rows read", before / MIB);
    assert!(
        (1..8 * u64::from(ROWS)).contains(&read),
        "the reading waits: {read} rows are read"
    );
    assert!(taken < SLACK * BUDGET_MIB, "{taken} MiB more");
    drop(stopped);
    source.expect_exit(0);
    judge_all(&world, 8);
}

#[test]
fn pages_that_are_larger_than_the_whole_budget_pass_one_after_another() {
    let mut with = options(&[3_000, 3_000]);
    for lender in &mut with.lenders {
        lender.oversized_rows = 30;
    }
    let world = World::with(with);
    let set = ["memory.in_flight=16MiB", "upstream.snapshot_parallelism=4"];
    let mut source: Source = world.command_with(&set, &["run", "--until-caught-up"]);
    source.expect_exit(0);
    let records = world.judged_accounts();
    judge::once_and_in_order(&records);
    assert_eq!((records.len(), world.dead_letters().len()), (2 * 2_970, 60));
}
