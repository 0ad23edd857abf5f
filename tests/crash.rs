//! Is anything lost or doubled, whatever is killed? The real binary, SIGKILL, and an independent reader.

use std::time::{Duration, Instant};

use crate::support::judge;
use crate::support::kafka;
use crate::support::wait_for;
use crate::support::world::World;

/// A thousand rows a transaction, so that a walk has many.
const SMALL: (&str, &str) = ("D02__TRANSACTION__MAX_ROWS", "1000");

#[test]
fn killed_more_than_twenty_times_in_one_walk_nothing_is_lost_or_doubled() {
    let world = World::new(&[60_000]);
    // Slow enough that no run reaches the end.
    world.simulator.set_latency(Duration::from_millis(120));
    let failpoints = [
        "after_claim:1",
        "before_begin:3",
        "after_begin:4",
        "while_sending:1",
        "while_sending:2",
        "before_commit:1",
        "accounts_sent:4",
        "after_commit:1",
        "after_commit:4",
        "before_remember:1",
        "before_remember:3",
    ];
    let mut kill_count = 0;
    for (number, failpoint) in failpoints.into_iter().enumerate() {
        let mut source = world.command(&["run"], &[SMALL, ("D02_FAILPOINT", failpoint)]);
        let name = failpoint.split(':').next().expect("a name");
        source.wait_for_line(&format!("failpoint {name} reached"));
        source.kill();
        // And once wherever it happens to be.
        let mut source = world.command(&["run"], &[SMALL]);
        source.wait_for_line("claimed and restored");
        let until = Instant::now() + Duration::from_millis(37 * (number as u64 % 7));
        wait_for("the moment", || (Instant::now() >= until).then_some(()));
        source.kill();
        kill_count += 2;
    }
    assert!(kill_count > 20);
    // The last one may have left a transaction open, which hides what is committed for a minute.
    drop(world.fence());
    let ranges = world.cursors().pop().expect("a cursor record").json()["ranges"].clone();
    assert_ne!(ranges, "[]", "the walk was over before the last kill");
    world.simulator.set_latency(Duration::ZERO);
    world.catch_up();
    let records = world.judged_accounts();
    assert_eq!(records.len(), 60_000);
    judge::everything(&records, &world.simulator.rows(0));
    let with_aborted = kafka::uncommitted(&world.servers, &world.topic("accounts")).len();
    assert!(
        with_aborted > records.len(),
        "no kill left an aborted record, so nothing was tried"
    );
}

#[test]
fn a_second_signal_ends_at_once_what_the_first_one_waits_for() {
    let world = World::new(&[2_000]);
    // A commit that does not come back.
    let mut source = world.command(&["run"], &[SMALL, ("D02_FAILPOINT", "accounts_sent:1")]);
    source.wait_for_line("failpoint accounts_sent reached");
    source.signal("TERM");
    source.wait_for_line("SIGTERM: ending");
    assert!(source.is_running());
    let began = Instant::now();
    source.signal("INT");
    source.expect_exit(1);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let log = source.log();
    assert!(
        log.contains("asked to end a second time; an open transaction is left to its time-out"),
        "{log}"
    );
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn sigterm_in_the_middle_of_a_walk_leaves_no_open_transaction() {
    let world = World::new(&[30_000]);
    world.simulator.set_latency(Duration::from_millis(50));
    let mut source = world.command(&["run"], &[SMALL]);
    wait_for("some accounts", || {
        (world.simulator.counts().row_count > 5_000).then_some(())
    });
    source.wait_for_line("claimed and restored");
    let began = Instant::now();
    source.signal("TERM");
    source.expect_exit(0);
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}: {}",
        began.elapsed(),
        source.log()
    );
    // An open transaction would hold this back for a minute.
    let began = Instant::now();
    judge::once_and_in_order(&world.accounts());
    assert_eq!(
        world.cursors().pop().expect("a cursor record").json()["instance"],
        serde_json::Value::Null
    );
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    world.simulator.set_latency(Duration::ZERO);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}
