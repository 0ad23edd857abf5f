//! Do accounts arrive complete, once and in order? On a real broker, judged by an independent reader.

use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Endpoint, Fault};

use crate::support::judge;
use crate::support::kafka;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

#[test]
fn a_walk_over_50_000_accounts_arrives_complete_once_and_in_order() {
    let world = World::new(&[50_000]);
    let log = world.catch_up();
    let (records, rows) = (world.accounts(), world.simulator.rows(0));
    assert_eq!(rows.len(), 50_000);
    assert_eq!(records.len(), 50_000, "{log}");
    judge::everything(&records, &rows);
    let lender = world.lender(0).public_id;
    assert!(
        records
            .iter()
            .all(|record| record.header("__op") == "r" && record.header("d02.lender") == lender)
    );
    let cursor = world.cursors().pop().expect("a cursor record").json();
    assert_eq!(cursor["account_count"], 50_000);
    assert_eq!(
        cursor["instance"],
        serde_json::Value::Null,
        "a clean end releases the lender"
    );
    assert_eq!(cursor["ranges"], "[]");
}

#[test]
fn a_restart_at_rest_writes_nothing_but_cursor_records_and_after_changes_only_those() {
    let world = World::new(&[3_000]);
    world.catch_up();
    let (before, cursors_before) = (world.accounts().len(), world.cursors().len());
    world.catch_up();
    assert_eq!(world.accounts().len(), before);
    assert!(world.cursors().len() > cursors_before);
    let changed = world.simulator.touch(0, 120, 7);
    world.simulator.insert(0, 30);
    world.catch_up();
    let records = world.accounts();
    assert_eq!(records.len(), before + changed.len() + 30);
    judge::everything(&records, &world.simulator.rows(0));
    let ops = |op| records.iter().filter(|record| record.header("__op") == op).count();
    assert_eq!((ops("r"), ops("u"), ops("c")), (3_000, changed.len(), 30));
}

#[test]
fn live_changes_arrive_while_it_runs_and_sigterm_releases_the_lender() {
    let world = World::new(&[500]);
    let mut source = world.run();
    wait_for("the snapshot", || (world.accounts_so_far() == 500).then_some(()));
    let changed = world.simulator.touch(0, 20, 1).len();
    wait_for("the changes", || {
        (world.accounts_so_far() == 500 + changed).then_some(())
    });
    let began = std::time::Instant::now();
    source.signal("TERM");
    source.expect_exit(0);
    assert!(began.elapsed().as_secs() < 10, "{}", source.log());
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    assert_eq!(
        world.cursors().pop().expect("a cursor record").json()["instance"],
        serde_json::Value::Null
    );
}

#[test]
fn accounts_that_change_while_the_walk_goes_on_come_again_in_order_and_once() {
    let world = World::new(&[6_000]);
    world.simulator.set_latency(std::time::Duration::from_millis(500));
    // One transaction takes snapshot and live pages alike: the same key stands twice in a batch.
    let mut source = world.command(&["run", "--until-caught-up"], &[("D02__TRANSACTION__MAX_DELAY", "5s")]);
    wait_for("the first page", || {
        (world.simulator.counts().row_count >= 1_000).then_some(())
    });
    let early = world.simulator.touch(0, 200, 1);
    wait_for("the third page", || {
        (world.simulator.counts().row_count >= 3_000).then_some(())
    });
    let late = world.simulator.touch(0, 200, 2);
    source.expect_exit(0);
    let records = world.accounts();
    judge::everything(&records, &world.simulator.rows(0));
    let twice = records.iter().filter(|record| record.header("__op") == "u").count();
    assert!(twice > 0 && twice <= early.len() + late.len(), "{twice} updates");
}

#[test]
fn two_lenders_share_the_topics_and_one_that_fails_leaves_the_other_running() {
    let world = World::new(&[1_000, 1_000]);
    world.catch_up();
    world.simulator.touch(0, 10, 3);
    let old = world.lender(1).password;
    world.simulator.set_password(1, "changed meanwhile");
    let mut source = world.command(
        &["run", "--until-caught-up"],
        &[("D02__LENDERS__LENDER_2__PASSWORD", &old)],
    );
    source.expect_exit(4);
    let log = source.log();
    assert!(log.contains("upstream refused the credentials of"), "{log}");
    let records = world.accounts();
    judge::once_and_in_order(&records);
    let rows: Vec<_> = (0..2).flat_map(|lender| world.simulator.rows(lender)).collect();
    judge::complete(&records, &rows);
    assert_eq!(records.len(), 2_010);
}

#[test]
fn odd_rows_are_accounts_and_bad_rows_are_dead_letters_once() {
    let mut options = options(&[4_000]);
    (
        options.lenders[0].odd_rate,
        options.lenders[0].bad_rate,
        options.lenders[0].oversized_rows,
    ) = (0.2, 0.05, 2);
    let world = World::with(options);
    world.catch_up();
    let (records, rows) = (world.accounts(), world.simulator.rows(0));
    judge::everything(&records, &rows);
    let bad: Vec<_> = rows
        .iter()
        .filter(|row| matches!(row.kind, d02_source::simulator::RowKind::Bad(_)))
        .collect();
    let letters = world.dead_letters();
    // Two rows of the same bytes, such as `null`, are one dead letter.
    let distinct: std::collections::HashSet<_> = bad.iter().map(|row| &row.json).collect();
    assert_eq!(letters.len(), distinct.len());
    assert_eq!(records.len() + bad.len(), rows.len());
    for row in &bad {
        let is_this = |json: &[u8]| json == row.json.as_bytes();
        let found = letters
            .iter()
            .filter(|letter| letter.value.as_deref().is_some_and(is_this))
            .count();
        let is_large = row.json.len() > 1_000_000;
        assert_eq!(found, usize::from(!is_large), "{:?}", row.kind);
    }
    let large: Vec<_> = letters
        .iter()
        .filter(|letter| letter.headers.contains_key("d02.size"))
        .collect();
    assert_eq!(large.len(), 2);
    for letter in &letters {
        assert_eq!(letter.header("__connect.errors.topic"), world.topic("accounts"));
        assert!(
            letter
                .header("__connect.errors.exception.class.name")
                .starts_with("cleargrid.d02.")
        );
        assert!(letter.header("d02.digest").starts_with("xxh3-1:"));
    }
    // A full re-read knows them all, accounts and dead letters.
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    world.catch_up();
    assert_eq!(world.accounts().len(), records.len());
    assert_eq!(world.dead_letters().len(), letters.len());
}

#[test]
fn ids_and_names_as_large_as_a_record_become_dead_letters_that_fit() {
    let world = World::new(&[10]);
    let (at, large) = (world.simulator.rows(0)[0].updated_at_ms, "x".repeat(1_200_000));
    let time = "2025-01-01T00:00:00.000Z";
    let at_time = chrono::DateTime::parse_from_rfc3339(time)
        .expect("a time")
        .timestamp_millis();
    let id = format!(r#"{{"public_id":"{large}","updated_at":"{time}"}}"#);
    let name = format!(r#"{{"public_id":"twice","updated_at":"{time}","{large}":1,"{large}":2}}"#);
    world.simulator.upsert_json(0, at_time.max(at), "large-id", &id);
    world.simulator.upsert_json(0, at_time.max(at), "large-name", &name);
    world.catch_up();
    let letters = world.dead_letters();
    let of = |class: &str| {
        let is_of = |letter: &&kafka::Record| letter.header("__connect.errors.exception.class.name").ends_with(class);
        letters.iter().find(is_of).expect("a dead letter").clone()
    };
    let (id, name) = (of("TooLarge"), of("DuplicateMember"));
    assert_eq!((id.key.as_deref(), name.key.as_deref()), (None, Some("twice")));
    assert!(id.value.is_none_or(|value| value.is_empty()) && name.value.is_none_or(|value| value.is_empty()));
    assert_eq!(name.headers["d02.field"].chars().count(), 201);
    assert_eq!(letters.len(), 2);
    world.catch_up();
    assert_eq!(world.dead_letters().len(), 2);
}

#[test]
fn idle_polls_commit_nothing_but_a_heartbeat() {
    let world = World::new(&[50]);
    let heartbeat = [("D02__TRANSACTION__HEARTBEAT_INTERVAL", "2s")];
    let mut source = world.command(&["run"], &heartbeat);
    wait_for("the snapshot", || (world.accounts_so_far() == 50).then_some(()));
    let begun = Instant::now();
    let (polls, cursors) = (world.simulator.counts().request_count, world.cursors().len());
    wait_for("fifty polls", || {
        (world.simulator.counts().request_count > polls + 50).then_some(())
    });
    let commits = world.cursors().len() - cursors;
    // One each two seconds, and a few that end what follows the snapshot.
    let most = usize::try_from(begun.elapsed().as_secs() / 2).expect("few") + 6;
    assert!(
        (1..=most).contains(&commits),
        "{commits} commits in 50 polls, {:?}",
        begun.elapsed()
    );
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn a_lender_whose_credentials_are_refused_is_tried_again_beside_one_that_runs() {
    let world = World::new(&[300, 300]);
    let mut source = world.command(&["run"], &[("D02__LENDERS__LENDER_2__PASSWORD", "wrong")]);
    source.wait_for_line("failed; it is tried again");
    wait_for("the other lender", || (world.accounts_so_far() == 300).then_some(()));
    assert!(source.is_running(), "{}", source.log());
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn a_password_that_is_replaced_while_the_old_one_is_being_refused_is_tried_soon() {
    let world = World::new(&[300, 300]);
    let file = world.path("password");
    std::fs::write(&file, "wrong").expect("written");
    let config = std::fs::read_to_string(world.config()).expect("a configuration");
    let right = world.lender(1).password;
    let config = config.replace(
        &format!("password = \"{right}\""),
        &format!("password_file = \"{}\"", file.display()),
    );
    let path = world.path("with-a-file.toml");
    std::fs::write(&path, config).expect("written");
    let slow = Effect::Hang(Duration::from_secs(3));
    world
        .simulator
        .push_fault(Fault::on(Endpoint::Login, slow).lender("lender-2"));
    let mut source = Source::spawn(&["--config", &path.display().to_string(), "run"], &[]);
    wait_for("the login is under way", || {
        (world.simulator.fault_count() == 0).then_some(())
    });
    std::fs::write(&file, right).expect("written");
    source.wait_for_line("failed; it is tried again");
    let refused_at = Instant::now();
    wait_for("both lenders", || (world.accounts_so_far() == 600).then_some(()));
    // Without a look at the file, it is a minute.
    assert!(refused_at.elapsed() < Duration::from_secs(40), "{}", source.log());
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn cursor_show_tells_state_and_progress() {
    let world = World::new(&[300]);
    let shown = || {
        let command = std::process::Command::new(env!("CARGO_BIN_EXE_d02-source"))
            .args(["--config", &world.config(), "cursor", "show", "--json"])
            .output()
            .expect("it runs");
        assert!(command.status.success(), "{}", String::from_utf8_lossy(&command.stderr));
        serde_json::from_slice::<serde_json::Value>(&command.stdout).expect("JSON")
    };
    world.command(&["setup"], &[]).expect_exit(0);
    assert_eq!(shown()[0]["state"], "none");
    let mut source = world.run();
    wait_for("the snapshot", || (world.accounts_so_far() == 300).then_some(()));
    let live = wait_for("its end", || {
        Some(shown()[0].clone()).filter(|row| row["range_count"] == 0)
    });
    assert_eq!((&live["state"], &live["account_count"]), (&"live".into(), &300.into()));
    source.kill();
    world.catch_up();
    assert_eq!(shown()[0]["state"], "released");
    world.command(&["cursor", "reset", "lender-1"], &[]).expect_exit(0);
    assert_eq!(shown()[0]["state"], "reset");
}
