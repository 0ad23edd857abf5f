//! Does a reconciliation write what is missing and different and delete what is gone, and nothing else?

use d02_source::simulator::{Effect, Fault};

use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::shown::{Shown, shown};
use crate::support::wait_for;
use crate::support::world::{self, World};

const QUICK: [(&str, &str); 2] = [
    ("D02__UPSTREAM__LATE_WINDOW", "1s"),
    ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "500ms"),
];

fn reconcile_with(world: &World, args: &[&str]) -> Shown {
    let args: Vec<_> = ["reconcile"].iter().chain(args).copied().collect();
    shown(world, &args, &QUICK)
}

/// What it says that it did.
#[track_caller]
fn reconcile(world: &World) -> String {
    reconcile_with(world, &["--max-deletes", "1"]).expect(0).out
}

#[track_caller]
fn judged(world: &World) -> Vec<Record> {
    let records = world.judged_accounts();
    judge::everything(&records, &world.simulator.rows(0));
    records
}

fn json_of(world: &World, id: &str) -> (i64, serde_json::Value) {
    let row = world
        .simulator
        .rows(0)
        .into_iter()
        .find(|row| row.id == id)
        .expect("the row");
    (row.updated_at_ms, serde_json::from_str(&row.json).expect("JSON"))
}

/// Puts another balance upstream, `by_ms` before the time that the account has.
fn hide_change(world: &World, id: &str, by_ms: i64) {
    let (updated_at_ms, mut row) = json_of(world, id);
    let at = updated_at_ms - by_ms;
    row["balance_amount"] = 4_711.into();
    row["updated_at"] = d02_source::simulator::Timestamp(at).to_string().into();
    world.simulator.upsert_json(0, at, id, &row.to_string());
}

#[test]
fn what_changed_without_a_trace_is_written_and_what_is_gone_is_deleted() {
    let world = World::new(&[5_000]);
    world.catch_up();
    let before = world.accounts();
    let (silent, back) = (before[10].key().to_owned(), before[20].key().to_owned());
    hide_change(&world, &silent, 0);
    hide_change(&world, &back, 3_600_000);
    let gone = world.simulator.delete(0, 50, 7);
    assert!(!gone.contains(&silent) && !gone.contains(&back));
    world.catch_up();
    assert_eq!(
        world.accounts().len(),
        before.len(),
        "nothing of that is seen by reading on"
    );

    assert_eq!(reconcile(&world), "lender-1: 2 accounts written, 50 deleted\n");
    let records = judged(&world);
    assert_eq!(records.len(), before.len() + 52);
    let last = |key: &str| records.iter().rfind(|record| record.key() == key).expect("a record");
    for id in &gone {
        let tombstone = last(id);
        assert_eq!((tombstone.value.as_ref(), tombstone.header("__op")), (None, "d"));
        assert_eq!(tombstone.header("d02.lender"), world.lender(0).public_id);
        assert_eq!(tombstone.headers.len(), 2);
    }
    assert_eq!(last(&back).header("d02.regressed"), "true");
    assert_eq!(last(&back).header("__op"), "u");
    assert!(!last(&silent).headers.contains_key("d02.regressed"));

    // Once: the next time nothing is left to do, also by a process that knows only the topics.
    assert!(reconcile(&world).contains("lender-1: 0 accounts written, 0 deleted"));
    assert_eq!(world.accounts().len(), records.len());
    // What went back goes on from there.
    let (updated_at_ms, row) = json_of(&world, &back);
    let mut row = row;
    row["updated_at"] = d02_source::simulator::Timestamp(updated_at_ms + 1_000)
        .to_string()
        .into();
    world
        .simulator
        .upsert_json(0, updated_at_ms + 1_000, &back, &row.to_string());
    reconcile(&world);
    judged(&world);
}

#[test]
fn an_account_that_comes_back_is_created() {
    let world = World::new(&[300]);
    world.catch_up();
    let id = world.accounts()[0].key().to_owned();
    let (_, row) = json_of(&world, &id);
    assert!(world.simulator.remove(0, &id));
    reconcile(&world);
    let mut source = world.run();
    source.wait_for_line("claimed and restored");
    let now = world.simulator.now_ms();
    let mut row = row;
    row["updated_at"] = d02_source::simulator::Timestamp(now).to_string().into();
    world.simulator.upsert_json(0, now, &id, &row.to_string());
    wait_for("it comes back", || {
        let records = world.accounts();
        let last = records.iter().rfind(|record| record.key() == id).expect("a record");
        last.value.is_some().then(|| assert_eq!(last.header("__op"), "c"))
    });
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn more_than_may_go_stays_and_is_said() {
    let world = World::new(&[400]);
    world.catch_up();
    world.simulator.delete(0, 30, 1);
    hide_change(&world, &world.simulator.rows(0)[0].id, 0);
    let log = reconcile_with(&world, &[]).expect(1).log;
    let why =
        "nothing was deleted: upstream does not show 30 of 400 accounts, which is more than the share 0.05 that may go";
    assert!(log.contains(why) && log.contains("--max-deletes"), "{log}");
    let records = world.accounts();
    assert_eq!(records.len(), 401, "what is different is written all the same");
    assert!(records.iter().all(|record| record.value.is_some()));
    reconcile_with(&world, &["--max-deletes", "0.08"]).expect(0);
    judged(&world);
    let log = reconcile_with(&world, &["--max-deletes", "1.5"]).expect(2).log;
    assert!(log.contains("a number from 0 to 1"), "{log}");
}

#[test]
fn rows_that_do_not_say_whose_they_are_keep_everybody() {
    let world = World::new(&[100]);
    world.catch_up();
    world.simulator.delete(0, 1, 1);
    let now = world.simulator.now_ms() - 60_000;
    let at = d02_source::simulator::Timestamp(now);
    world
        .simulator
        .upsert_json(0, now, "nameless", &format!(r#"{{"public_id":7,"updated_at":"{at}"}}"#));
    // One that says so is nobody's loss.
    let id = world.simulator.rows(0)[0].id.clone();
    let bad = format!(r#"{{"public_id":"{id}","balance_amount":0.5,"updated_at":"{at}"}}"#);
    world.simulator.upsert_json(0, now, &id, &bad);
    let log = reconcile_with(&world, &["--max-deletes", "1"]).expect(1).log;
    assert!(log.contains("rows say no public_id that can be read"), "{log}");
    assert!(world.accounts().iter().all(|record| record.value.is_some()));
    world.simulator.remove(0, "nameless");
    reconcile(&world);
    let records = world.accounts();
    let deleted: Vec<_> = records.iter().filter(|record| record.value.is_none()).collect();
    assert_eq!(deleted.len(), 1);
    assert_ne!(deleted[0].key(), id);
}

#[test]
fn a_dry_run_lists_and_changes_nothing_also_beside_a_source() {
    let world = World::new(&[300]);
    let mut source = world.command(&["run"], &QUICK);
    source.wait_for_line("claimed and restored");
    wait_for("the accounts", || (world.accounts_so_far() == 300).then_some(()));
    let id = world.simulator.rows(0)[5].id.clone();
    hide_change(&world, &id, 0);
    let gone = world.simulator.delete(0, 1, 3);
    let told = reconcile_with(&world, &["--dry-run"]).expect(0).out;
    let expected = format!(
        "lender-1: 1 accounts would be written, 1 of 300 deleted\n  write   different  {id}\n  delete  surplus    {}",
        gone[0]
    );
    assert!(told.contains(&expected), "{told}");
    let refused = reconcile_with(&world, &[]).expect(2).log;
    assert!(refused.contains("upstream.reconcile_interval"), "{refused}");
    assert!(source.is_running());
    source.signal("TERM");
    source.expect_exit(0);
    assert_eq!(world.accounts().len(), 300);
}

#[test]
fn a_running_source_reconciles_by_itself() {
    let world = World::new(&[2_000]);
    let environment = [
        ("D02_TEST_RECONCILE_INTERVAL", "500"),
        ("D02__UPSTREAM__RECONCILE_INTERVAL", "1d"),
        ("D02__UPSTREAM__LATE_WINDOW", "1s"),
    ];
    let mut source = world.command(&["run"], &environment);
    wait_for("the accounts", || (world.accounts_so_far() >= 2_000).then_some(()));
    let gone = world.simulator.delete(0, 20, 2);
    let id = world.simulator.rows(0)[100].id.clone();
    hide_change(&world, &id, 60_000);
    wait_for("what is gone is deleted", || {
        world.simulator.touch(0, 3, 5);
        let records = world.accounts();
        let latest = judge::latest(&records);
        let is_written = latest[id.as_str()].headers.contains_key("d02.regressed");
        (is_written && gone.iter().all(|id| !latest.contains_key(id.as_str()))).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    let reconciled = world.cursors().pop().expect("a record").json()["reconciled"].clone();
    assert!(reconciled.is_string(), "{reconciled}");
    world.catch_up();
    judged(&world);
}

#[test]
fn killed_again_and_again_it_deletes_and_writes_everything_once() {
    let mut options = world::options(&[3_000]);
    options.latency = std::time::Duration::from_millis(5);
    let world = World::with(options);
    world.catch_up();
    let before = world.accounts();
    let gone = world.simulator.delete(0, 500, 9);
    for row in world.simulator.rows(0).iter().take(300) {
        hide_change(&world, &row.id, i64::from(row.id.as_bytes()[20] % 2) * 1_000);
    }
    let small = ("D02__TRANSACTION__MAX_ROWS", "40");
    let failpoints = [
        "after_commit:2",
        "before_commit:3",
        "while_sending:2",
        "after_begin:3",
        "after_commit:3",
        "before_commit:2",
        "before_remember:4",
        "after_commit:3",
        "while_sending:3",
        "accounts_sent:2",
    ];
    for failpoint in failpoints {
        let environment = [
            QUICK[0],
            QUICK[1],
            small,
            ("D02__UPSTREAM__PAGE_SIZE", "50"),
            ("D02_FAILPOINT", failpoint),
        ];
        let mut source = world.command(&["reconcile", "--max-deletes", "1"], &environment);
        source.wait_for_line(&format!(
            "failpoint {} reached",
            failpoint.split(':').next().expect("a name")
        ));
        source.kill();
        // Else it looks alive for three minutes.
        world.catch_up();
    }
    reconcile(&world);
    let records = judged(&world);
    assert_eq!(
        records.iter().filter(|record| record.value.is_none()).count(),
        gone.len()
    );
    assert!(records.len() <= before.len() + gone.len() + 300, "{}", records.len());
    let aborted = kafka::uncommitted(&world.servers, &world.topic("accounts")).len() - records.len();
    assert!(aborted > 0, "no kill left an aborted record, so nothing was tried");
}

#[test]
fn a_tombstone_written_by_hand_is_honoured_at_the_next_start() {
    let world = World::new(&[200]);
    world.catch_up();
    let odd = world.accounts()[7].clone();
    kafka::write_records(
        &world.servers,
        &world.topic("accounts"),
        &[Record {
            value: None,
            headers: Default::default(),
            ..odd.clone()
        }],
    );
    let log = world.catch_up();
    assert!(log.contains("1 accounts were removed"), "{log}");
    assert_eq!(world.accounts().len(), 201, "nothing brings it back");
    let log = world.catch_up();
    assert!(!log.contains("were removed"), "{log}");
    // Upstream shows it still, so a reconciliation does.
    assert!(reconcile(&world).contains("lender-1: 1 accounts written, 0 deleted"));
    let records = world.accounts();
    let last = records
        .iter()
        .rfind(|record| record.key() == odd.key())
        .expect("a record");
    assert_eq!(last.header("__op"), "c");
    assert_eq!(judge::latest(&records).len(), 200);
}

#[test]
fn an_old_copy_is_not_believed_and_nothing_of_it_is_written() {
    let world = World::new(&[400]);
    world.simulator.keep_copy(0);
    // Some are changed after the copy was made, some are new, and one is gone.
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    world.simulator.touch(0, 30, 3);
    world.simulator.insert(0, 3);
    world.simulator.delete(0, 1, 5);
    world.catch_up();
    let before = judged(&world);
    let end = kafka::uncommitted(&world.servers, &world.topic("accounts")).len();

    world.simulator.push_fault(Fault::export(Effect::OldCopy).rate(1.0));
    let log = reconcile_with(&world, &["--max-deletes", "1"]).expect(1).log;
    let why = "nothing was written or deleted: upstream is older than what is held";
    assert!(
        log.contains(why) && log.contains("--restored-backup") && log.contains("U26"),
        "{log}"
    );
    assert_eq!(world.accounts().len(), before.len());
    assert_eq!(kafka::uncommitted(&world.servers, &world.topic("accounts")).len(), end);

    let told = reconcile_with(&world, &["--max-deletes", "1", "--restored-backup"])
        .expect(0)
        .out;
    assert_eq!(told, "lender-1: 31 accounts written, 3 deleted\n");
    let records = world.accounts();
    let back = records
        .iter()
        .filter(|record| record.headers.contains_key("d02.regressed"));
    assert_eq!(back.count(), 30);
    // The present is believed again, and put right.
    world.simulator.clear_faults();
    reconcile(&world);
    judged(&world);
}

#[test]
fn an_upstream_that_becomes_an_old_copy_while_everything_is_read_deletes_nothing() {
    let world = World::new(&[300]);
    let old = world.simulator.rows(0);
    world.simulator.keep_copy(0);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    world.simulator.insert(0, 2);
    world.catch_up();
    let before = judged(&world);
    let questions = || {
        let requests = world.simulator.requests();
        requests
            .iter()
            .filter(|request| request.query.split('&').any(|part| part == "limit=1"))
            .count()
    };
    let before_it = questions();
    world.simulator.set_latency(std::time::Duration::from_millis(500));
    let args = ["reconcile", "--max-deletes", "1"];
    let mut source = world.command(&args, &QUICK);
    // Whether upstream is as new is asked for by one row; what is asked then meets the old copy.
    wait_for("the question", || (questions() > before_it).then_some(()));
    world.simulator.push_fault(Fault::export(Effect::OldCopy).rate(1.0));
    source.expect_exit(1);
    let log = source.log();
    assert!(
        log.contains("nothing was deleted: while everything was read, upstream is older"),
        "{log}"
    );
    assert_eq!(world.accounts().len(), before.len());
    assert_eq!(old.len() + 2, before.len());
}

#[test]
fn an_upstream_that_shows_nothing_is_refused_and_a_small_share_allows_one() {
    let world = World::new(&[10]);
    world.catch_up();
    let before = judged(&world);
    // The newest, and with it what would show that upstream is as new.
    let newest = world.simulator.rows(0).pop().expect("rows").id;
    assert!(world.simulator.remove(0, &newest));
    assert_eq!(
        reconcile_with(&world, &[]).expect(0).out,
        "lender-1: 0 accounts written, 1 deleted\n"
    );
    assert_eq!(world.simulator.delete(0, 10, 1).len(), 9);
    let log = reconcile_with(&world, &[]).expect(1).log;
    assert!(
        log.contains("nothing was deleted: upstream does not show 9 of 9 accounts"),
        "{log}"
    );
    assert_eq!(world.accounts().len(), before.len() + 1);
    reconcile(&world);
    assert!(judge::latest(&world.accounts()).is_empty());
}
