//! Does `verify` find every kind of damage, all of it and nothing else, also beside a source that runs?

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use d02_source::simulator::{Effect, Fault, Options, RowKind, StoredRow};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::kafka;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

/// A sweep soon: what a source that runs has not found by then is wrong.
const SWEEP_SOON: (&str, &str) = ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "300ms");
const WINDOW: (&str, &str) = ("D02__UPSTREAM__LATE_WINDOW", "5s");

const KINDS: [&str; 6] = [
    "missing",
    "stale",
    "different",
    "regressed",
    "surplus",
    "changed_while_looked",
];

/// A `verify` that has ended.
struct Verified {
    code: Option<i32>,
    out: String,
    log: String,
}

impl Verified {
    fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            log: String::from_utf8(output.stderr).expect("text"),
        }
    }

    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.log, self.out);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.out, self.log))
    }

    /// The only lender.
    fn lender(&self) -> Value {
        let json = self.json();
        assert_eq!(json["lenders"].as_array().map(Vec::len), Some(1), "{json}");
        json["lenders"][0].clone()
    }
}

fn verify_command(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Command {
    let config = world.config();
    let mut command = Command::new(env!("CARGO_BIN_EXE_d02-source"));
    command
        .args(["--config", &config, "verify"])
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

fn verify_with(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Verified {
    Verified::of(verify_command(world, args, environment).output().expect("it runs"))
}

fn verify(world: &World) -> Verified {
    verify_with(world, &["--json", "--limit", "1000"], &[])
}

fn ids(lender: &Value, kind: &str) -> BTreeSet<String> {
    let listed = lender[kind]["accounts"].as_array().expect("a list");
    let ids: BTreeSet<String> = listed
        .iter()
        .map(|account| account["public_id"].as_str().expect("an id").to_owned())
        .collect();
    assert_eq!(lender[kind]["count"], ids.len(), "{kind}: {lender}");
    ids
}

/// Exactly these accounts are found of each kind, and none of any other.
#[track_caller]
fn same_findings(lender: &Value, expected: &[(&str, BTreeSet<String>)]) {
    for kind in KINDS {
        let wanted = expected.iter().find(|(wanted, _)| *wanted == kind);
        let wanted = wanted.map(|(_, ids)| ids.clone()).unwrap_or_default();
        assert_eq!(ids(lender, kind), wanted, "{kind}: {lender}");
    }
}

fn set<'a>(ids: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    ids.into_iter().cloned().collect()
}

fn with_text(row: &StoredRow, member: &str, json: &str) -> String {
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(&row.json).expect("a row");
    fields.insert(member.to_owned(), serde_json::from_str(json).expect("JSON"));
    Value::Object(fields).to_string()
}

fn shown(at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).expect("a time");
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// Removes an account from the topic, as no source does.
fn bury_by_hand(world: &World, id: &str) {
    let records = world.accounts();
    let record = records.iter().find(|record| record.key() == id).expect("a record");
    kafka::write(&world.servers, &world.topic("accounts"), record.partition, id, None);
}

#[test]
fn every_kind_of_damage_is_found_and_nothing_else_and_what_can_be_repaired_is() {
    let mut options = options(&[600]);
    let lender = &mut options.lenders[0];
    (lender.odd_rate, lender.bad_rate, lender.oversized_rows) = (0.1, 0.05, 1);
    let world = World::with(options);
    world.catch_up();
    let bad_count = |rows: &[StoredRow]| rows.iter().filter(|row| matches!(row.kind, RowKind::Bad(_))).count();
    let rows = world.simulator.rows(0);
    let (bad, good) = (bad_count(&rows), rows.len() - bad_count(&rows));
    assert!(bad > 10);

    let clean = verify(&world).expect(0).lender();
    same_findings(&clean, &[]);
    assert_eq!(clean["equal"], true);
    assert_eq!(
        (&clean["upstream_count"], &clean["held_count"]),
        (&good.into(), &good.into())
    );
    assert_eq!(clean["dead_lettered"]["count"], bad);
    assert_eq!(clean["dead_lettered"]["not_in_dead_letters_count"], 0);
    assert_eq!(clean["repair"]["commands"], Value::Array(vec![]));
    let letters = clean["dead_lettered"]["rows"].as_array().expect("a list");
    assert!(letters.iter().all(|row| row["in_dead_letters"] == true), "{clean}");
    let too_large = letters.iter().filter(|row| {
        let reason = row["reason"].as_str().expect("a reason");
        reason.starts_with("the record takes ")
    });
    assert_eq!(too_large.count(), 1);

    // The source is not running: what happens upstream it does not see.
    let touched = world.simulator.touch(0, 3, 5);
    let inserted = world.simulator.insert(0, 2);
    let rows = world.simulator.rows(0);
    let mut untouched = rows
        .iter()
        .filter(|row| row.kind == RowKind::Sound && !touched.contains(&row.id) && !inserted.contains(&row.id));
    let mut next = || untouched.next().expect("enough rows");
    let other = [next(), next()];
    for row in other {
        let json = with_text(row, "balance_amount", "123456789");
        world.simulator.upsert_json(0, row.updated_at_ms, &row.id, &json);
    }
    let gone = next();
    assert!(world.simulator.remove(0, &gone.id));
    let back = next();
    let earlier = back.updated_at_ms - 1_000;
    let json = with_text(back, "updated_at", &format!("{:?}", shown(earlier)));
    world.simulator.upsert_json(0, earlier, &back.id, &json);
    let broken = next();
    let now = world.simulator.now_ms();
    let json = with_text(broken, "total_amount", "10.5");
    let json = json.replace(&shown(broken.updated_at_ms), &shown(now));
    world.simulator.upsert_json(0, now, &broken.id, &json);
    let lost = next();
    bury_by_hand(&world, &lost.id);

    let damaged = verify(&world).expect(1);
    let lender = damaged.lender();
    same_findings(
        &lender,
        &[
            ("missing", set(inserted.iter().chain([&lost.id]))),
            ("stale", set(&touched)),
            ("different", set(other.map(|row| &row.id))),
            ("regressed", set([&back.id])),
            ("surplus", set([&gone.id])),
        ],
    );
    let surplus = &lender["surplus"]["accounts"][0];
    assert_eq!(surplus["upstream_updated_at"], Value::Null);
    assert_eq!(surplus["held_updated_at"], shown(gone.updated_at_ms));
    let regressed = &lender["regressed"]["accounts"][0];
    assert_eq!(regressed["upstream_updated_at"], shown(earlier));
    assert_eq!(regressed["held_updated_at"], shown(back.updated_at_ms));
    let dead = &lender["dead_lettered"];
    assert_eq!(dead["count"], bad + 1);
    assert_eq!(dead["not_in_dead_letters_count"], 1);
    let unburied: Vec<_> = dead["rows"]
        .as_array()
        .expect("a list")
        .iter()
        .filter(|row| row["in_dead_letters"] == false)
        .collect();
    assert_eq!(unburied.len(), 1);
    assert_eq!(
        (&unburied[0]["public_id"], &unburied[0]["field"]),
        (&broken.id.as_str().into(), &"total_amount".into())
    );
    assert_eq!(unburied[0]["held_updated_at"], shown(broken.updated_at_ms));
    let commands: Value = serde_json::json!(["d02-source reconcile --lender lender-1"]);
    assert_eq!(lender["repair"]["commands"], commands);
    let text = &damaged.out;
    assert!(!text.contains("123456789"), "contents are printed: {text}");

    let table = verify_with(&world, &["--limit", "1"], &[]).expect(1).out;
    let summary: Vec<&str> = table.lines().nth(1).expect("a line").split_whitespace().collect();
    let counts = [3, 3, 2, 1, 1, bad + 1, 0].map(|count| count.to_string());
    assert_eq!(summary[3..], counts, "{table}");
    for line in [
        "and 2 more: --limit 3 lists them".to_owned(),
        format!("surplus        {}", gone.id),
        "; NOT in the dead letters\n".to_owned(),
        "\nto repair it:\n  d02-source reconcile --lender lender-1\n".to_owned(),
    ] {
        assert!(table.contains(&line), "no `{line}` in\n{table}");
    }

    // The advice is good; but here some rows do not say whose they are, so nobody is deleted.
    let args = ["reconcile", "--lender", "lender-1", "--max-deletes", "0.5"];
    world
        .command(&args, &[("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "500ms")])
        .expect_exit(1);
    let repaired = verify(&world).expect(1).lender();
    same_findings(&repaired, &[("surplus", set([&gone.id]))]);
    assert_eq!(repaired["dead_lettered"]["not_in_dead_letters_count"], 0);
}

#[test]
fn what_a_stopped_source_has_not_read_yet_needs_no_reset() {
    let world = World::new(&[100]);
    world.catch_up();
    let touched = world.simulator.touch(0, 5, 1);
    let lender = verify(&world).expect(1).lender();
    same_findings(&lender, &[("stale", set(&touched))]);
    assert_eq!(lender["repair"]["commands"], serde_json::json!(["d02-source run"]));
    world.catch_up();
    let table = verify_with(&world, &[], &[]).expect(0).out;
    let end = format!("\nlender-1: {} holds what upstream shows\n", world.topic("accounts"));
    assert!(table.ends_with(&end), "{table}");
    // A source that has never run has everything before it.
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    let touched = world.simulator.touch(0, 5, 2);
    let lender = verify(&world).expect(1).lender();
    same_findings(&lender, &[("stale", set(&touched))]);
    assert_eq!(lender["repair"]["commands"], serde_json::json!(["d02-source run"]));
}

fn busy() -> Options {
    let mut options = options(&[3_000]);
    let lender = &mut options.lenders[0];
    (lender.change_rate, lender.insert_rate, lender.late_rate) = (200.0, 20.0, 20.0);
    lender.late_by = Duration::from_secs(1);
    options
}

fn running(world: &World) -> Source {
    // Its sweeps are short, and leave out what was changed some time ago.
    let source = world.command(&["run"], &[SWEEP_SOON, WINDOW]);
    wait_for("the snapshot is read", || {
        (world.accounts_so_far() >= 3_000).then_some(())
    });
    source
}

#[test]
fn beside_a_running_source_live_changes_are_no_differences_and_damage_is_one() {
    let world = World::with(busy());
    let mut source = running(&world);
    let args = ["--json", "--limit", "1000"];
    // Longer pauses than a source needs that has to share the machine with other tests.
    let patient = [SWEEP_SOON, WINDOW, ("D02__UPSTREAM__POLL_INTERVAL", "1500ms")];
    for _ in 0..2 {
        let lender = verify_with(&world, &args, &patient).expect(0).lender();
        for kind in KINDS.iter().filter(|kind| **kind != "changed_while_looked") {
            assert_eq!(lender[*kind]["count"], 0, "{kind}: {lender}");
        }
    }
    // Old rows, which no sweep and no poll reads again; and a row that a live change may hit is none of them for long.
    let rows = world.simulator.rows(0);
    let mut old = rows.iter().filter(|row| row.kind == RowKind::Sound);
    let (gone, other) = (old.next().expect("a row"), old.next().expect("a row"));
    assert!(world.simulator.remove(0, &gone.id));
    let json = with_text(other, "balance_amount", "5");
    world.simulator.upsert_json(0, other.updated_at_ms, &other.id, &json);
    let lender = verify_with(&world, &args, &patient).expect(1).lender();
    assert_eq!(ids(&lender, "surplus"), set([&gone.id]));
    assert_eq!(ids(&lender, "different"), set([&other.id]));
    for kind in ["missing", "stale", "regressed"] {
        assert_eq!(lender[kind]["count"], 0, "{kind}: {lender}");
    }
    let notes = lender["repair"]["notes"].to_string();
    assert!(notes.contains("a source runs: stop it before that"), "{notes}");
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn what_is_only_on_its_way_is_waited_for_and_what_does_not_come_is_stale() {
    let world = World::new(&[3_000]);
    let source = running(&world);
    let args = ["--json", "--limit", "1000"];
    // In the middle of a transaction, it would hide what follows.
    world.stop_between_transactions(&source);
    let touched = world.simulator.touch(0, 50, 1);
    let lender = verify_with(&world, &args, &[SWEEP_SOON, WINDOW]).expect(1).lender();
    same_findings(&lender, &[("stale", set(&touched))]);
    let notes = lender["repair"]["notes"].to_string();
    assert!(
        notes.contains("the source that runs has not read so far yet"),
        "{notes}"
    );

    // Pauses between the looks that are longer than what the source needs to wake up.
    let environment = [SWEEP_SOON, WINDOW, ("D02__UPSTREAM__POLL_INTERVAL", "2s")];
    let mut verifying = world.command(&["verify"], &environment);
    verifying.wait_for_line("what differs so far is looked at again");
    assert!(verifying.log().contains("suspects=50 "), "{}", verifying.log());
    source.signal("CONT");
    verifying.expect_exit(0);
}

#[test]
fn a_row_that_became_visible_late_is_left_to_the_next_sweep_of_a_source_that_runs() {
    let world = World::new(&[50]);
    let sweep_later = [
        ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "10s"),
        ("D02__UPSTREAM__LATE_WINDOW", "15s"),
    ];
    let source = world.command(&["run"], &sweep_later);
    wait_for("the snapshot is read", || (world.accounts_so_far() >= 50).then_some(()));
    // What the source has read lies behind it now.
    let late = world.simulator.now_ms();
    std::thread::sleep(Duration::from_millis(50));
    world.simulator.touch(0, 1, 1);
    wait_for("the change", || (world.accounts_so_far() >= 51).then_some(()));
    let sweeps = || {
        let requests = world.simulator.requests();
        let is_sweep = |query: &str| query.contains("since=") && query.contains("until=");
        requests.iter().filter(|request| is_sweep(&request.query)).count()
    };
    let before = sweeps();
    wait_for("a sweep", || (sweeps() > before).then_some(()));
    let row = world.simulator.rows(0)[0].clone();
    let json = with_text(&row, "updated_at", &format!("{:?}", shown(late)));
    world.simulator.upsert_json(0, late, &row.id, &json);
    world.stop_between_transactions(&source);
    let before = sweeps();
    let mut verifying = world.command(&["verify"], &sweep_later);
    verifying.wait_for_line("what differs so far is looked at again");
    assert!(verifying.log().contains("suspects=1 "), "{}", verifying.log());
    source.signal("CONT");
    verifying.expect_exit(0);
    assert!(sweeps() > before);
}

#[test]
fn lenders_of_one_topic_are_told_apart_and_one_that_is_refused_does_not_hide_the_others() {
    let world = World::new(&[60, 40]);
    world.catch_up();
    let gone = world.simulator.rows(1)[0].id.clone();
    assert!(world.simulator.remove(1, &gone));
    let json = verify(&world).expect(1).json();
    let of = |number: usize| &json["lenders"][number];
    same_findings(of(0), &[]);
    same_findings(of(1), &[("surplus", set([&gone]))]);
    assert_eq!(
        (&json["equal"], &of(0)["equal"], &of(1)["equal"]),
        (&false.into(), &true.into(), &false.into())
    );
    assert_eq!((&of(0)["held_count"], &of(1)["held_count"]), (&60.into(), &40.into()));

    verify_with(&world, &["--lender", "lender-1"], &[]).expect(0);
    let unknown = verify_with(&world, &["--lender", "nobody"], &[]).expect(2);
    assert!(
        unknown.log.contains("no lender `nobody` in the configuration"),
        "{}",
        unknown.log
    );

    let wrong = [("D02__LENDERS__LENDER_1__PASSWORD", "wrong")];
    let refused = verify_with(&world, &["--json"], &wrong).expect(4);
    let json = refused.json();
    let error = json["lenders"][0]["error"].as_str().expect("an error");
    assert!(
        error.contains("refused the credentials") && json["lenders"][0]["code"] == "U09",
        "{error}"
    );
    assert_eq!(json["lenders"][1]["surplus"]["count"], 1);
    assert!(!refused.out.contains("\"wrong\""));

    // The key stands there under another lender now: this one's account is gone for whoever reads the topic.
    let twice = world.simulator.rows(0)[0].clone();
    world
        .simulator
        .upsert_json(1, twice.updated_at_ms, &twice.id, &twice.json);
    world.command(&["cursor", "reset", "lender-2"], &[]).expect_exit(0);
    world.catch_up();
    let lender = verify_with(&world, &["--json", "--lender", "lender-1"], &[])
        .expect(1)
        .lender();
    same_findings(&lender, &[("missing", set([&twice.id]))]);
}

#[test]
fn what_is_older_than_start_from_is_left_out_unless_the_topic_holds_it() {
    let mut options = options(&[300]);
    options.lenders[0].bad_rate = 0.05;
    let world = World::with(options);
    let rows = world.simulator.rows(0);
    let middle = rows[150].updated_at_ms;
    let start_from = shown(middle);
    let environment = [("D02__LENDERS__LENDER_1__START_FROM", &*start_from)];
    world
        .command(&["run", "--until-caught-up"], &environment)
        .expect_exit(0);
    let old = rows.iter().filter(|row| row.updated_at_ms < middle);
    let old_good: BTreeSet<String> = old
        .clone()
        .filter(|row| !matches!(row.kind, RowKind::Bad(_)))
        .map(|row| row.id.clone())
        .collect();
    let lender = verify_with(&world, &["--json"], &environment).expect(0).lender();
    same_findings(&lender, &[]);
    assert!(
        lender["before_start_from_count"].as_u64() >= Some(old_good.len() as u64),
        "{lender}"
    );
    assert_eq!(lender["upstream_count"], lender["held_count"]);
    // Without it, they are missing.
    let lender = verify(&world).expect(1).lender();
    same_findings(&lender, &[("missing", old_good)]);

    // An old account that the topic holds counts.
    let world = World::new(&[300]);
    world.catch_up();
    let oldest = world.simulator.rows(0)[0].id.clone();
    assert!(world.simulator.remove(0, &oldest));
    let lender = verify_with(&world, &["--json"], &environment).expect(1).lender();
    same_findings(&lender, &[("surplus", set([&oldest]))]);
    assert_eq!(lender["before_start_from_count"], 0);
}

#[test]
fn an_upstream_that_is_away_is_given_up_with_1_and_faults_that_pass_change_nothing() {
    let world = World::new(&[2_500]);
    world.catch_up();
    world.simulator.kill_cursors();
    for code in [
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::BAD_GATEWAY,
    ] {
        world.simulator.push_fault(Fault::export(Effect::status(code)));
    }
    world.simulator.push_fault(Fault::export(Effect::CutOffJson));
    let lender = verify(&world).expect(0).lender();
    same_findings(&lender, &[]);

    let impatient = [
        ("D02_TEST_VERIFY_PATIENCE", "1500"),
        ("D02__UPSTREAM__REQUEST_TIMEOUT", "1s"),
    ];
    let forever = || Fault::export(Effect::status(StatusCode::BAD_GATEWAY)).times(1_000_000);
    world.simulator.push_fault(forever());
    let away = verify_with(&world, &[], &impatient).expect(1);
    assert!(
        away.log.contains("upstream brought nothing further for 3s 500ms"),
        "{}",
        away.log
    );
    assert!(away.log.contains("→ the warnings above say why"), "{}", away.log);
    assert_eq!(away.out, "");
    world.simulator.clear_faults();
    world.simulator.set_down(true);
    let away = verify_with(&world, &[], &impatient).expect(1);
    assert!(away.log.contains("logging in: no answer"), "{}", away.log);
}

#[test]
fn what_is_not_there_is_named_with_what_to_do_and_nothing_is_created() {
    let world = World::new(&[10]);
    for _ in 0..2 {
        let missing = verify(&world).expect(2);
        assert!(missing.log.contains("error: missing topics: "), "{}", missing.log);
        assert!(
            missing.log.contains("`d02-source setup` creates them"),
            "{}",
            missing.log
        );
    }
    world.command(&["setup"], &[]).expect_exit(0);
    let empty = verify(&world).expect(1).lender();
    assert_eq!(
        (&empty["missing"]["count"], &empty["held_count"]),
        (&10.into(), &0.into())
    );
    assert_eq!(empty["repair"]["commands"], serde_json::json!(["d02-source run"]));
    assert!(
        world.accounts().is_empty() && world.cursors().is_empty(),
        "something was written"
    );
}
