//! Is nothing written again that is the same content? Members that differ in each answer, on a real broker; judged by an
//! independent reader.

use std::collections::BTreeMap;

use apache_avro::types::Value;

use crate::support::judge::{self, RegistryReader};
use crate::support::kafka::Record;
use crate::support::rows::spoil;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

const SWEEPS: (&str, &str) = ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "100ms");
const NO_EXTRA: (&str, &str) = ("D02__AVRO__EXTRA", "none");
const IGNORED: (&str, &str) = ("D02__CONTENT__IGNORE", "exported_at");

/// An upstream that says in each row when it answered; caught up, and 30 accounts of it changed after that, so that sweeps
/// read them.
fn volatile(environment: &[(&str, &str)]) -> World {
    let world = World::with(options(&[300]));
    world.simulator.set_volatile_members(&["exported_at"]);
    catch_up(&world, environment);
    assert_eq!(world.simulator.touch(0, 30, 1).len(), 30);
    world
}

fn catch_up(world: &World, environment: &[(&str, &str)]) {
    world.command(&["run", "--until-caught-up"], environment).expect_exit(0);
}

/// Several polls and sweeps.
fn are_read_again(world: &World) {
    let count = || world.simulator.counts().request_count;
    let before = count();
    wait_for("polls and sweeps", || (count() > before + 60).then_some(()));
}

fn end(mut source: Source) -> String {
    source.signal("TERM");
    source.expect_exit(0);
    source.log()
}

/// What each record says of `exported_at`.
fn exported_at(records: &[Record]) -> Vec<Option<u64>> {
    let mut reader = RegistryReader::default();
    let of = |record: &Record| match reader.read(record).remove("extra") {
        Some(Value::Union(1, extra)) => {
            let Value::String(extra) = *extra else {
                panic!("{extra:?}")
            };
            let extra: BTreeMap<String, serde_json::Value> = serde_json::from_str(&extra).expect("JSON");
            extra.get("exported_at").and_then(serde_json::Value::as_u64)
        }
        _ => None,
    };
    records.iter().map(of).collect()
}

#[test]
fn a_member_that_is_left_out_writes_nothing_again_however_often_it_differs() {
    let rules = [SWEEPS, NO_EXTRA];
    let world = volatile(&rules);
    let source = world.command(&["run"], &rules);
    wait_for("the changes", || (world.accounts_so_far() == 330).then_some(()));
    are_read_again(&world);
    let log = end(source);
    assert!(!log.contains("content differs"), "{log}");
    let records = world.judged_accounts();
    assert_eq!(records.len(), 330, "each version once");
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
    assert_eq!(exported_at(&records), [None; 330]);
    // Everything once more, by the same rules.
    world.command(&["verify"], &rules).expect_exit(0);
    world.command(&["reconcile"], &rules).expect_exit(0);
    assert_eq!(world.accounts().len(), 330);
}

#[test]
fn a_row_that_cannot_be_an_account_is_buried_once_however_often_what_is_no_content_of_it_differs() {
    for rule in [NO_EXTRA, IGNORED] {
        let rules = [SWEEPS, rule];
        let world = volatile(&rules);
        let latest = world.simulator.rows(0);
        // The last of them is read by each poll.
        for row in latest.iter().rev().take(3) {
            spoil(&world, row, &[("balance_amount", "1.5")]);
        }
        let source = world.command(&["run"], &rules);
        wait_for("the dead letters", || (world.dead_letters().len() == 3).then_some(()));
        are_read_again(&world);
        // Another version of the row is another dead letter.
        let row = &world.simulator.rows(0)[299];
        spoil(&world, row, &[("balance_amount", "2.5")]);
        wait_for("the next version", || (world.dead_letters().len() == 4).then_some(()));
        are_read_again(&world);
        end(source);
        catch_up(&world, &rules);
        world.command(&["verify"], &rules).expect_exit(0);
        assert_eq!(world.dead_letters().len(), 4, "{rule:?}");
    }
}

#[test]
fn a_member_that_differs_at_each_reading_is_one_alarm_until_it_is_no_content() {
    let world = volatile(&[SWEEPS]);
    let mut source = world.command(&["run"], &[SWEEPS]);
    source.wait_for_line("content differs at each reading");
    are_read_again(&world);
    let log = end(source);
    let alarms: Vec<_> = log.lines().filter(|line| line.contains("content differs")).collect();
    assert_eq!(alarms.len(), 1, "{log}");
    for text in [
        "ERROR",
        "members=\"exported_at\"",
        "code=U24",
        "content.ignore",
        "of the last ",
    ] {
        assert!(alarms[0].contains(text), "no `{text}` in {}", alarms[0]);
    }
    assert!(log.contains(", 1 members VOLATILE"), "{log}");
    let before = world.judged_accounts().len();
    assert!(before > 360, "{before}: it is written again and again");

    // What has such a member is another version now, once.
    let rules = [SWEEPS, IGNORED];
    catch_up(&world, &rules);
    let records = world.judged_accounts();
    assert!(records.len() - before <= 30, "{before} {}", records.len());
    let source = world.command(&["run"], &rules);
    are_read_again(&world);
    assert_eq!(world.accounts().len(), records.len(), "nothing is written again");
    // A real change carries the member along.
    let latest = exported_at(&records).into_iter().max().flatten().expect("a value");
    assert_eq!(world.simulator.touch(0, 5, 2).len(), 5);
    wait_for("the changes", || {
        (world.accounts_so_far() == records.len() + 5).then_some(())
    });
    are_read_again(&world);
    let log = end(source);
    assert!(!log.contains("content differs"), "{log}");
    let all = world.judged_accounts();
    assert_eq!(all.len(), records.len() + 5);
    judge::once_and_in_order(&all);
    let values = exported_at(&all)
        .into_iter()
        .filter(|value| *value > Some(latest))
        .count();
    assert_eq!(values, 5, "the value of the answer that brought the change");
    let changes = world.changes();
    let last: Vec<_> = changes.iter().map(Record::updated_at).collect();
    let newest = last.iter().max().expect("changes");
    assert!(
        last.iter().filter(|at| *at == newest).count() <= 5,
        "a change makes one record"
    );
}

#[test]
fn what_was_written_before_there_were_these_rules_is_not_written_again() {
    let world = World::with(options(&[100]));
    let row = &world.simulator.rows(0)[10];
    // A row of the unit test that holds the digest to what it was in the first version.
    let json = r#"{"public_id":"a1","updated_at":"2026-05-29T07:20:55.000Z","currency":"SAR","total_amount":1200,"status":17,"new":{"a":[1.5,"é",null]}}"#;
    world.simulator.upsert_json(0, 1_780_039_255_000, "a1", json);
    spoil(&world, row, &[("reference_id", "7"), ("status", "true")]);
    catch_up(&world, &[]);
    let records = world.accounts();
    let golden = records.iter().find(|record| record.key() == "a1").expect("a record");
    assert_eq!(golden.header("d02.digest"), "xxh3-1:49c3e7b2d2011af9");
    for rules in [
        [("D02__AVRO__EXTRA", "new"), ("D02__CONTENT__IGNORE", "exported_at")],
        [("D02__AVRO__EXTRA", "new"), ("D02__CONTENT__IGNORE", "")],
        [("D02__AVRO__EXTRA", "all"), ("D02__CONTENT__IGNORE", "")],
    ] {
        world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
        catch_up(&world, &rules);
        assert_eq!(world.accounts().len(), 101);
    }
}
