//! Do rows that do not fit do what the operator asked for? Every key of `[errors]`, `avro.extra`, and the alarm of a field that
//! changed for all rows; on a real broker, judged by an independent reader.

use std::collections::BTreeSet;
use std::process::Command;

use apache_avro::types::Value;

use crate::support::judge::{self, RegistryReader};
use crate::support::kafka::Record;
use crate::support::rows::{mend, spoil, with};
use crate::support::wait_for;
use crate::support::world::{World, options};

const NO_TOLERANCE: (&str, &str) = ("D02__ERRORS__TOLERANCE", "none");
const PAGES_OF_100: (&str, &str) = ("D02__UPSTREAM__PAGE_SIZE", "100");

/// Lenders with so many rows each, no two at the same time: what is in which page is known.
fn world(rows: &[u32]) -> World {
    let mut options = options(rows);
    for lender in &mut options.lenders {
        lender.tie_groups = vec![1];
    }
    World::with(options)
}

/// `run --until-caught-up` to an end with `code`; gives its log.
#[track_caller]
fn catch_up(world: &World, environment: &[(&str, &str)], code: i32) -> String {
    let mut source = world.command(&["run", "--until-caught-up"], environment);
    source.expect_exit(code);
    source.log()
}

#[track_caller]
fn reset(world: &World) {
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
}

/// What `tail` prints of the dead letters.
fn tail(world: &World, args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_d02-source"))
        .args(["--config", &world.config(), "tail", "--topic", "dead-letters"])
        .args(args)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn ids(records: &[Record]) -> BTreeSet<&str> {
    records.iter().map(Record::key).collect()
}

fn of<'r>(records: &'r [Record], id: &str) -> &'r Record {
    records
        .iter()
        .rev()
        .find(|record| record.key() == id)
        .expect("a record")
}

fn field(record: &Record, name: &str) -> Value {
    match RegistryReader::default().read(record).remove(name).expect("a field") {
        Value::Union(_, value) => *value,
        value => value,
    }
}

#[test]
fn without_tolerance_a_lender_stops_before_the_page_of_the_first_dead_letter_and_goes_on_once_it_is_mended() {
    let world = world(&[1_000]);
    let rows = world.simulator.rows(0);
    let row = &rows[550];
    spoil(&world, row, &[("balance_amount", "10.5")]);
    // A restart does not mend it.
    for _ in 0..2 {
        let log = catch_up(&world, &[NO_TOLERANCE, PAGES_OF_100], 2);
        let stopped = log.lines().find(|line| line.contains("stopped: ")).expect("a line");
        for text in [
            "ERROR",
            "errors.tolerance is \"none\": `balance_amount` is not an exact 64-bit whole number",
            &format!("public_id {}, request id req_", row.id),
            "have the row mended upstream and start again, or set errors.tolerance = \"all\"",
        ] {
            assert!(stopped.contains(text), "no `{text}` in\n{log}");
        }
        // All pages before it, whole, and nothing of its own.
        let records = world.accounts();
        let before = rows[..500].iter().map(|row| row.id.as_str()).collect();
        assert_eq!((records.len(), ids(&records)), (500, before));
        assert!(world.dead_letters().is_empty());
        let cursor = world.cursors().pop().expect("a cursor record").json();
        assert_eq!(cursor["instance"], serde_json::Value::Null, "it is released");
    }
    mend(&world, row);
    catch_up(&world, &[NO_TOLERANCE, PAGES_OF_100], 0);
    let records = world.accounts();
    assert_eq!(records.len(), 1_000);
    judge::everything(&records, &world.simulator.rows(0));
    assert!(world.dead_letters().is_empty());
}

#[test]
fn a_lender_that_stops_at_a_dead_letter_leaves_the_others_running() {
    let world = world(&[300, 300]);
    spoil(&world, &world.simulator.rows(0)[150], &[("balance_amount", "\"12\"")]);
    let mut source = world.command(&["run"], &[NO_TOLERANCE]);
    source.wait_for_line("stopped: a row would be a dead letter");
    wait_for("the other lender", || (world.accounts_so_far() == 300).then_some(()));
    let changed = world.simulator.touch(1, 20, 1).len();
    wait_for("its changes", || {
        (world.accounts_so_far() == 300 + changed).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(2);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(1));
}

#[test]
fn a_dead_letter_that_is_known_does_not_stop_a_lender_whose_tolerance_was_taken_away() {
    let world = world(&[300]);
    let rows = world.simulator.rows(0);
    spoil(&world, &rows[150], &[("balance_amount", "10.5")]);
    catch_up(&world, &[], 0);
    reset(&world);
    catch_up(&world, &[NO_TOLERANCE], 0);
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (299, 1));
    // Another one does.
    spoil(&world, &rows[151], &[("balance_amount", "10.5")]);
    reset(&world);
    let log = catch_up(&world, &[NO_TOLERANCE], 2);
    assert!(log.contains(&format!("public_id {}", rows[151].id)), "{log}");
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (299, 1));
}

#[test]
fn more_dead_letters_an_hour_than_allowed_stop_a_lender_before_their_page() {
    let world = world(&[600]);
    let rows = world.simulator.rows(0);
    for place in [10, 20, 210, 220] {
        spoil(&world, &rows[place], &[("balance_amount", "10.5")]);
    }
    let limit = [("D02__ERRORS__MAX_DEAD_LETTERS_PER_HOUR", "3"), PAGES_OF_100];
    let log = catch_up(&world, &limit, 2);
    let next = format!(
        "more than 3 dead letters within an hour, the next one would be: `balance_amount` is not an exact 64-bit whole \
         number of minor units (public_id {}, request id req_",
        rows[220].id
    );
    assert!(log.contains(&next), "no `{next}` in\n{log}");
    assert!(log.contains("raise errors.max_dead_letters_per_hour"), "{log}");
    assert_eq!(log.matches("dead letter: ").count(), 2, "{log}");
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (198, 2));
    // A process counts its own.
    catch_up(&world, &limit, 0);
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (596, 4));
    judge::once_and_in_order(&world.accounts());
}

#[test]
fn a_value_that_does_not_fit_sends_its_row_to_the_dead_letters_where_that_is_asked_for() {
    let world = world(&[100]);
    let rows = world.simulator.rows(0);
    spoil(&world, &rows[10], &[("status", "true")]);
    spoil(&world, &rows[20], &[("created_at", "\"yesterday\"")]);
    let strict = [("D02__ERRORS__BAD_FIELD", "dead-letter")];
    catch_up(&world, &strict, 0);
    assert_eq!(world.accounts().len(), 98);
    let letters = world.dead_letters();
    let told = |letter: &Record| {
        assert_eq!(
            letter.header("__connect.errors.exception.class.name"),
            "cleargrid.d02.BadField"
        );
        (letter.key().to_owned(), letter.header("d02.field").to_owned())
    };
    let expected =
        [(&rows[10], "status"), (&rows[20], "created_at")].map(|(row, field)| (row.id.clone(), field.into()));
    assert_eq!(letters.iter().map(told).collect::<Vec<_>>(), expected);
    assert_eq!(letters[0].text(), with(&rows[10].json, &[("status", "true")]));
    // In words, for people and for programs.
    let reason = "the value of `status` does not fit its type";
    let table = tail(&world, &["--format", "table"]);
    assert!(
        table
            .lines()
            .any(|line| line.contains(&rows[10].id) && line.ends_with(reason)),
        "{table}"
    );
    let lines = tail(&world, &[]);
    let reason_of = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["reason"].clone();
    assert_eq!(lines.lines().next().map(reason_of), Some(reason.into()), "{lines}");

    // The other way: read again, they are accounts.
    reset(&world);
    catch_up(&world, &[], 0);
    let records = world.accounts();
    assert_eq!((records.len(), world.dead_letters().len()), (100, 2));
    let record = of(&records, &rows[10].id);
    assert_eq!(
        (record.header("d02.invalid"), field(record, "status")),
        ("status", Value::Null)
    );
    assert_eq!(field(record, "extra"), Value::String(r#"{"status":true}"#.to_owned()));
}

#[test]
fn an_amount_is_taken_for_the_whole_number_beside_it_within_the_tolerance_only() {
    let world = world(&[100]);
    let rows = world.simulator.rows(0);
    spoil(&world, &rows[10], &[("balance_amount", "1998.9999999999998")]);
    spoil(&world, &rows[20], &[("balance_amount", "1998.99")]);
    catch_up(&world, &[], 0);
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (98, 2));
    reset(&world);
    let log = catch_up(&world, &[("D02__ERRORS__AMOUNT_TOLERANCE", "0.000001")], 0);
    assert!(log.contains(", 1 tolerated amounts"), "{log}");
    let records = world.accounts();
    assert_eq!((records.len(), world.dead_letters().len()), (99, 2));
    assert_eq!(field(of(&records, &rows[10].id), "balance_amount"), Value::Long(1_999));
}

#[test]
fn an_unknown_member_is_in_extra_at_once_and_named_once() {
    let world = world(&[300]);
    let rows = world.simulator.rows(0);
    for row in &rows[..120] {
        spoil(
            &world,
            row,
            &[("risk_band", "\"B2\""), ("agency", "{\"b\":1.50,\"a\":null}")],
        );
    }
    let log = catch_up(&world, &[PAGES_OF_100], 0);
    for member in ["agency", "risk_band"] {
        let named = |line: &&str| line.contains("an unknown member: it is in `extra`") && line.contains(member);
        assert_eq!(log.lines().filter(named).count(), 1, "{log}");
    }
    assert!(log.contains(", 240 unknown fields"), "{log}");
    let records = world.accounts();
    let extra = field(of(&records, &rows[7].id), "extra");
    let expected = r#"{"agency":{"b":1.50,"a":null},"risk_band":"B2"}"#;
    assert_eq!(extra, Value::String(expected.to_owned()));
    assert_eq!(field(of(&records, &rows[200].id), "extra"), Value::Null);
}

#[test]
fn only_approved_members_pass_into_extra_and_the_others_are_no_content() {
    let world = world(&[100]);
    let row = &world.simulator.rows(0)[10];
    spoil(
        &world,
        row,
        &[
            ("risk_band", "\"B2\""),
            ("secret", "\"x\""),
            ("status", "true"),
            ("reference_id", "7"),
        ],
    );
    let log = catch_up(&world, &[("D02__AVRO__EXTRA", "risk_band, status")], 0);
    let records = world.accounts();
    let record = of(&records, &row.id);
    let expected = r#"{"risk_band":"B2","status":true}"#;
    assert_eq!(field(record, "extra"), Value::String(expected.to_owned()));
    assert_eq!(record.header("d02.invalid"), "reference_id,status");
    assert_eq!(log.matches("an unknown member: it is in `extra`").count(), 1, "{log}");
    assert_eq!(
        log.matches("an unknown member: avro.extra leaves it out").count(),
        1,
        "{log}"
    );
    // Under another rule only that row is another version, as another of its unknown members is written.
    for (count, extra) in [
        (101, "none"),
        (101, "status"),
        (102, "risk_band, reference_id"),
        (103, "all"),
    ] {
        reset(&world);
        catch_up(&world, &[("D02__AVRO__EXTRA", extra)], 0);
        let records = world.accounts();
        judge::once_and_in_order(&records);
        assert_eq!(records.len(), count, "{extra}");
    }
    // What differs in a member that is left out is no news.
    reset(&world);
    let now = &world.simulator.rows(0)[10];
    spoil(&world, now, &[("secret", "\"y\"")]);
    catch_up(&world, &[("D02__AVRO__EXTRA", "risk_band")], 0);
    assert_eq!(world.accounts().len(), 104);
    reset(&world);
    spoil(&world, now, &[("secret", "\"z\"")]);
    catch_up(&world, &[("D02__AVRO__EXTRA", "risk_band")], 0);
    assert_eq!(world.accounts().len(), 104);
    mend(&world, row);
    let now = world.simulator.rows(0).pop().expect("rows");
    spoil(&world, &now, &[("risk_band", "\"B3\"")]);
    catch_up(&world, &[("D02__AVRO__EXTRA", "none")], 0);
    let records = world.accounts();
    assert_eq!(
        (records.len(), field(of(&records, &row.id), "extra")),
        (105, Value::Null)
    );
}

#[test]
fn an_amount_that_becomes_text_in_all_rows_is_one_alarm_and_not_a_line_a_row() {
    let world = world(&[600]);
    for (number, row) in world.simulator.rows(0).iter().enumerate() {
        spoil(&world, row, &[("paid_amount", &format!("\"{}\"", 770_000 + number))]);
    }
    let log = catch_up(&world, &[PAGES_OF_100], 0);
    let alarms: Vec<_> = log.lines().filter(|line| line.contains("upstream changed ")).collect();
    assert_eq!(alarms.len(), 1, "{log}");
    let expected =
        "upstream changed `paid_amount`: it is a string in 100 of the last 100 rows and does not fit; since ";
    assert!(alarms[0].contains("ERROR") && alarms[0].contains(expected), "{log}");
    assert!(
        alarms[0].contains("which are dead letters") && alarms[0].contains("ask the vendor what changed"),
        "{log}"
    );
    assert!(
        !log.contains("dead letter: ") && !log.contains("more dead letters"),
        "{log}"
    );
    assert!(
        log.contains(", 1 fields DRIFTING") && log.contains(", 600 dead letters"),
        "{log}"
    );
    assert!(!log.contains("7700"), "no value in the log:\n{log}");
    assert_eq!((world.accounts().len(), world.dead_letters().len()), (0, 600));
}

#[test]
fn a_few_rows_that_every_poll_and_every_sweep_reads_again_are_no_field_that_changed() {
    let world = world(&[50]);
    world.catch_up();
    // Dated after the last start, so that sweeps read them, too.
    world.simulator.touch(0, 3, 1);
    let mut rows = world.simulator.rows(0);
    rows.sort_by_key(|row| row.updated_at_ms);
    for row in &rows[47..] {
        spoil(&world, row, &[("balance_amount", "10.5")]);
    }
    let mut source = world.command(&["run"], &[("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "100ms")]);
    wait_for("the dead letters", || (world.dead_letters().len() == 3).then_some(()));
    let count = || world.simulator.counts().request_count;
    let before = count();
    wait_for("polls and sweeps", || (count() > before + 60).then_some(()));
    let log = source.log();
    assert!(source.is_running() && !log.contains("upstream changed"), "{log}");
}

#[test]
fn a_status_that_becomes_an_object_in_all_rows_is_one_alarm_beside_the_lines_of_single_rows() {
    let world = world(&[300]);
    let rows = world.simulator.rows(0);
    for row in &rows {
        spoil(&world, row, &[("status", r#"{"label":"Zeta"}"#)]);
    }
    spoil(&world, &rows[250], &[("status", "{}"), ("balance_amount", "10.5")]);
    let log = catch_up(&world, &[PAGES_OF_100], 0);
    assert_eq!(log.matches("upstream changed ").count(), 1, "{log}");
    let expected = "upstream changed `status`: it is an object in 100 of the last 100 rows and does not fit; since ";
    assert!(
        log.contains(expected) && log.contains("in whose accounts it is null"),
        "{log}"
    );
    assert!(!log.contains("Zeta"), "no value in the log:\n{log}");
    let letter = "dead letter: `balance_amount` is not an exact";
    assert_eq!(
        (log.matches("dead letter: ").count(), log.matches(letter).count()),
        (1, 1),
        "{log}"
    );
    let records = world.accounts();
    assert_eq!((records.len(), world.dead_letters().len()), (299, 1));
    assert!(records.iter().all(|record| record.header("d02.invalid") == "status"));
}
