//! Does a replay write what can be read now, once, and nothing older over something newer?

use d02_source::simulator::StoredRow;

use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::rows::{change, mend, spoil};
use crate::support::shown::{Shown, shown};
use crate::support::wait_for;
use crate::support::world::World;

/// What does not fit makes its row a dead letter; without it, `replay` reads such rows.
const STRICT: (&str, &str) = ("D02__ERRORS__BAD_FIELD", "dead-letter");

/// `run --until-caught-up` that buries rows of which a field does not fit.
#[track_caller]
fn bury(world: &World) {
    world.command(&["run", "--until-caught-up"], &[STRICT]).expect_exit(0);
}

fn replay_with(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Shown {
    let args: Vec<_> = ["replay"].iter().chain(args).copied().collect();
    shown(world, &args, environment)
}

/// What it says that it did.
#[track_caller]
fn replay(world: &World) -> String {
    replay_with(world, &[], &[]).expect(0).out
}

#[track_caller]
fn last<'r>(records: &'r [Record], row: &StoredRow) -> &'r Record {
    let mut of_row = records.iter().rev().filter(|record| record.key() == row.id);
    of_row.next().expect("a record")
}

#[test]
fn what_can_be_read_now_is_written_once_and_nothing_older_over_something_newer() {
    let world = World::new(&[300]);
    bury(&world);
    let rows = world.simulator.rows(0);
    // Held already, then changed so that it cannot be read: written. Changed once more, readable: not written.
    for row in &rows[10..17] {
        change(&world, row, &[("status", "true")]);
    }
    bury(&world);
    rows[15..17].iter().for_each(|row| mend(&world, row));
    // Never an account: the third of an amount. Still no account.
    change(&world, &rows[20], &[("balance_amount", "0.333")]);
    change(&world, &rows[21], &[("balance_amount", "0.333")]);
    // Gone upstream and deleted meanwhile.
    change(&world, &rows[30], &[("status", "true")]);
    bury(&world);
    let gone = &rows[30].id;
    assert!(world.simulator.remove(0, gone));
    shown(
        &world,
        &["reconcile", "--max-deletes", "1"],
        &[STRICT, ("D02__UPSTREAM__LATE_WINDOW", "1s")],
    )
    .expect(0);
    let before = world.judged_accounts();
    let letters = world.dead_letters().len();
    assert_eq!(letters, 10);

    let dry = replay_with(&world, &["--dry-run"], &[]).expect(0).out;
    let told = |written: &str| {
        format!(
            "lender-1: 10 dead letters
          5  {written}
          2  are older than what `accounts` holds
          1  left to `reconcile`: as new as what `accounts` holds, or of an account that was deleted
          2  still cannot be read: `balance_amount` is not an exact 64-bit whole number of minor units
"
        )
    };
    assert_eq!(dry, told("would be written"));
    assert_eq!(world.accounts().len(), before.len(), "a dry run writes nothing");

    assert_eq!(replay(&world), told("written"));
    let records = world.judged_accounts();
    judge::once_and_in_order(&records);
    assert_eq!(records.len(), before.len() + 5);
    for row in &rows[10..15] {
        let record = last(&records, row);
        assert_eq!((record.header("__op"), record.header("d02.invalid")), ("u", "status"));
        assert!(record.updated_at() > row.updated_at_ms);
    }
    for row in &rows[15..17] {
        assert!(!last(&records, row).headers.contains_key("d02.invalid"));
    }
    assert!(
        last(&records, &rows[30]).value.is_none(),
        "what was deleted stays deleted"
    );
    assert_eq!(world.dead_letters().len(), letters, "nothing is buried twice");

    let again = replay(&world);
    assert!(again.contains("5  are what `accounts` holds\n"), "{again}");
    assert!(!again.contains(" written"), "{again}");
    assert_eq!(world.accounts().len(), records.len());
    // The source goes on from where it was.
    bury(&world);
    assert_eq!(world.accounts().len(), records.len());
}

#[test]
fn a_source_that_runs_is_not_taken_over_and_a_dry_run_may_run_beside_it() {
    let world = World::new(&[100]);
    let rows = world.simulator.rows(0);
    spoil(&world, &rows[7], &[("status", "true")]);
    let mut source = world.command(&["run"], &[STRICT]);
    wait_for("the accounts", || (world.accounts_so_far() == 99).then_some(()));
    let refused = replay_with(&world, &[], &[]).expect(2);
    assert!(refused.log.contains("lives, its last commit is"), "{}", refused.log);
    assert!(
        refused.log.contains("→ stop it, replay, and start it again"),
        "{}",
        refused.log
    );
    let dry = replay_with(&world, &["--dry-run"], &[]).expect(0).out;
    assert_eq!(dry, "lender-1: 1 dead letters\n          1  would be written\n");
    assert!(source.is_running());
    source.signal("TERM");
    source.expect_exit(0);
    assert_eq!(world.accounts().len(), 99);
    // Where rows may not be buried, those that are stop nothing.
    let strict = replay_with(&world, &[], &[STRICT, ("D02__ERRORS__TOLERANCE", "none")])
        .expect(0)
        .out;
    assert_eq!(
        strict,
        "lender-1: 1 dead letters\n          1  still cannot be read: the value of `status` does not fit its type\n"
    );
    let wrong = replay_with(&world, &["--lender", "acme"], &[]).expect(2).log;
    assert!(wrong.contains("no lender `acme` in the configuration"), "{wrong}");
}

#[test]
fn what_its_topics_do_not_take_stays_a_dead_letter_and_is_said() {
    let world = World::new(&[20]);
    let set = [("D02__KAFKA__TOPIC_SETTINGS__CHANGES__MAX_MESSAGE_BYTES", "65536")];
    let rows = world.simulator.rows(0);
    world.command(&["run", "--until-caught-up"], &set).expect_exit(0);
    // Too large for `changes` with the head of a change; too large for `dead-letters`.
    for (row, size) in [(&rows[3], 65_300), (&rows[4], 3_000_000)] {
        change(&world, row, &[("merchant_name", &format!("\"{}\"", "x".repeat(size)))]);
    }
    world.command(&["run", "--until-caught-up"], &set).expect_exit(0);
    assert_eq!(world.dead_letters().len(), 2);
    let told = replay_with(&world, &[], &[set[0], ("D02__ERRORS__TOLERANCE", "none")])
        .expect(0)
        .out;
    assert_eq!(
        told,
        "lender-1: 2 dead letters
          1  can be read, but are too large for their topic
          1  stand there without their row, which was too large for the dead-letter topic
"
    );
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (20, 2));
}

#[test]
fn killed_again_and_again_it_writes_everything_once() {
    let world = World::new(&[1_500]);
    world.catch_up();
    for row in world.simulator.rows(0).iter().take(900) {
        change(&world, row, &[("status", "true")]);
    }
    bury(&world);
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (1_500, 900));
    let small = ("D02__TRANSACTION__MAX_ROWS", "100");
    for failpoint in [
        "after_claim:1",
        "before_commit:2",
        "accounts_sent:1",
        "after_commit:2",
        "before_remember:1",
        "accounts_sent:2",
    ] {
        let mut source = world.command(&["replay"], &[small, ("D02_FAILPOINT", failpoint)]);
        let name = failpoint.split(':').next().expect("a name");
        source.wait_for_line(&format!("failpoint {name} reached"));
        source.kill();
        // Else it looks alive for three minutes.
        bury(&world);
    }
    replay(&world);
    let records = world.judged_accounts();
    judge::everything(&records, &world.simulator.rows(0));
    assert_eq!(records.len(), 1_500 + 900);
    let aborted = kafka::uncommitted(&world.servers, &world.topic("accounts")).len() - records.len();
    assert!(aborted > 0, "no kill left an aborted record, so nothing was tried");
    assert_eq!(world.dead_letters().len(), 900);
}
