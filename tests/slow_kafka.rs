//! What happens where Kafka takes less than is read? On a real broker, whose quotas hold the source back.

use crate::support::judge;
use crate::support::quotas;
use crate::support::source::Source;
use crate::support::world::World;

/// `run --until-caught-up` in transactions of 20,000 rows, each of which may take 8 s and its delivery 4 s, where so many bytes a
/// second may be produced.
fn throttled(world: &World, bytes_per_second: f64, set: &[&str]) -> Source {
    world.command(&["setup"], &[]).expect_exit(0);
    quotas::limit(&world.servers, &world.name, bytes_per_second);
    let set = set.iter().flat_map(|assignment| ["--set", assignment]);
    let args = [
        "--set",
        "transaction.max_rows=20000",
        // Whether a quota is known by the time that a transaction fails depends on it.
        "--set",
        "kafka.properties.statistics.interval.ms=500",
    ];
    let args: Vec<&str> = args
        .into_iter()
        .chain(set)
        .chain(["run", "--until-caught-up"])
        .collect();
    world.command(&args, &[("D02_TEST_TRANSACTION_TIMEOUT", "8000")])
}

#[test]
fn a_batch_that_a_quota_does_not_let_through_in_time_is_tried_by_halves_and_the_advice_names_the_quota() {
    let world = World::new(&[20_000]);
    // What is live may wait for longer, and reading is quicker than this on whatever machine, or nothing is ever too large.
    let mut source = throttled(&world, 150_000.0, &["upstream.poll_interval=60s"]);
    source.expect_exit(0);
    let log = source.log();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    for part in [
        "fewer are tried",
        "code=K23",
        "a quota: the brokers",
        "producer_byte_rate",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
}

#[test]
fn a_page_that_does_not_get_through_alone_is_tried_until_the_quota_is_raised() {
    let world = World::new(&[3_000]);
    let mut source = throttled(&world, 8_000.0, &["upstream.snapshot_parallelism=4"]);
    source.wait_for_line("code=K24");
    let log = source.log();
    assert!(
        log.contains("lower upstream.page_size") && log.contains("rows=1000"),
        "{log}"
    );
    // Behind what is tried.
    let changed = world.simulator.touch(0, 50, 1).len();
    quotas::limit(&world.servers, &world.name, 1e9);
    source.expect_exit(0);
    world.catch_up();
    let records = world.judged_accounts();
    judge::everything(&records, &world.simulator.rows(0));
    assert!(records.len() <= 3_000 + changed, "{}", records.len());
}
