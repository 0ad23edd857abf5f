//! Is there ever more than one writer? Two real processes for one lender.

use std::time::{Duration, Instant};

use rdkafka::producer::Producer;

use crate::support::judge;
use crate::support::world::World;
use crate::support::{PATIENCE, wait_for};

#[test]
fn a_second_instance_takes_over_a_busy_lender_and_the_first_exits_3() {
    let world = World::new(&[20_000]).single();
    world.simulator.set_latency(Duration::from_millis(100));
    let mut first = world.command(&["run"], &[("D02__TRANSACTION__MAX_ROWS", "1000")]);
    first.wait_for_line("claimed and restored");
    let mut second = world.command(&["run", "--until-caught-up"], &[]);
    first.expect_exit(3);
    assert!(
        first.log().contains("another instance took the lender over"),
        "{}",
        first.log()
    );
    world.simulator.set_latency(Duration::ZERO);
    second.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    judge::one_writer(&world.cursors());
}

#[test]
fn an_idle_instance_that_lost_its_lender_notices_by_its_heartbeat() {
    let world = World::new(&[300]).single();
    let mut first = world.command(&["run"], &[("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s")]);
    first.wait_for_line("claimed and restored");
    // Its own name is what makes a second one a takeover.
    let mut second = world.command(&["run", "--until-caught-up"], &[]);
    second.expect_exit(0);
    first.expect_exit(3);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    judge::one_writer(&world.cursors());
}

#[test]
fn a_fenced_instance_that_is_to_end_before_the_new_owners_claim_writes_nothing_more() {
    let world = World::new(&[300]).single();
    let mut first = world.run();
    wait_for("the snapshot", || (world.accounts_so_far() == 300).then_some(()));
    // Somebody who fences and has not claimed yet.
    let rival = world.fence();
    let cursors = world.cursors();
    world.simulator.touch(0, 20, 1);
    first.wait_for_line("degraded, reopening");
    let began = Instant::now();
    first.signal("TERM");
    first.expect_exit(0);
    assert!(began.elapsed() < Duration::from_secs(10), "{}", first.log());
    assert!(
        first.log().contains("whether another instance took over is not known"),
        "{}",
        first.log()
    );
    assert_eq!(world.cursors(), cursors);
    assert_eq!(world.accounts().len(), 300);
    // It was not fenced in turn.
    rival.begin_transaction().expect("begun");
    rival.commit_transaction(PATIENCE).expect("committed");
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_transaction_of_our_own_that_ran_out_of_time_is_no_takeover() {
    let world = World::new(&[5_000]).single();
    let environment = [
        ("D02__TRANSACTION__MAX_ROWS", "1000"),
        ("D02_TEST_TRANSACTION_TIMEOUT", "3000"),
        // The broker looks for such transactions every 10 s.
        ("D02_FAILPOINT", "before_commit:4:20000"),
    ];
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.expect_exit(0);
    assert!(
        source.log().contains("our own transaction ran out of time"),
        "{}",
        source.log()
    );
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_live_record_under_another_name_is_refused() {
    let world = World::new(&[300]).single();
    let mut first = world.run();
    first.wait_for_line("claimed and restored");
    let mut second = world.command(&["--set", "name=another", "run"], &[]);
    second.expect_exit(2);
    let expected = format!("{}-lender-1 reads this lender too", world.name);
    assert!(second.log().contains(&expected), "{}", second.log());
    assert!(first.is_running());
    let mut reset = world.command(&["cursor", "reset", "lender-1"], &[]);
    reset.expect_exit(2);
    assert!(reset.log().contains("lives, its last commit is"), "{}", reset.log());
    let mut forced = world.command(&["cursor", "reset", "lender-1", "--force"], &[]);
    forced.expect_exit(0);
    // The one that lost it finds out at its next commit.
    world.simulator.touch(0, 1, 1);
    first.expect_exit(3);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}
