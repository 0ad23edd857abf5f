//! Is everything read, and soon: ranges side by side, live walks beside them, rows that become visible late?

use std::time::{Duration, Instant};

use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

fn run(world: &World, set: &[&str], args: &[&str]) -> Source {
    let set = [&["upstream.snapshot_parallelism=4"], set].concat();
    world.command_with(&set, args)
}

#[track_caller]
fn catch_up(world: &World, set: &[&str]) -> String {
    let mut source = run(world, set, &["run", "--until-caught-up"]);
    source.expect_exit(0);
    source.log()
}

/// How many ranges a cursor record held at most.
fn most_ranges(world: &World) -> usize {
    let ranges = |record: kafka::Record| {
        let text = record.json()["ranges"].as_str().expect("a string").to_owned();
        let ranges: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
        ranges.len()
    };
    world.cursors().into_iter().map(ranges).max().unwrap_or(0)
}

/// A row as a person would have written it, at a time in milliseconds.
fn row(id: &str, at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).expect("a time");
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(r#"{{"public_id":"{id}","balance_amount":7,"updated_at":"{at}"}}"#)
}

#[test]
fn a_snapshot_in_ranges_side_by_side_arrives_complete_and_once() {
    let world = World::new(&[40_000]);
    world.simulator.set_latency(Duration::from_millis(30));
    catch_up(&world, &["upstream.page_size=500", "transaction.max_rows=2000"]);
    assert_eq!(world.accounts().len(), 40_000);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    assert!(most_ranges(&world) >= 4, "{} ranges", most_ranges(&world));
    assert_eq!(world.cursors().pop().expect("a cursor record").json()["ranges"], "[]");
}

#[test]
fn a_group_of_20_000_rows_of_one_time_across_the_edge_of_a_range_is_read_once() {
    let mut options = options(&[45_000]);
    options.lenders[0].tie_groups = vec![5_000, 20_000, 20_000];
    let world = World::with(options);
    catch_up(&world, &[]);
    assert_eq!(world.accounts().len(), 45_000);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn years_without_a_row_and_a_second_full_of_them_cost_few_requests() {
    let mut options = options(&[20_000]);
    options.lenders[0].span = Duration::from_secs(1);
    options.lenders[0].tie_groups = Vec::new();
    let world = World::with(options);
    world.simulator.upsert_json(0, 1_000, "old", &row("old", 1_000));
    catch_up(&world, &["upstream.snapshot_parallelism=8"]);
    judge::complete(&world.accounts(), &world.simulator.rows(0));
    judge::once_and_in_order(&world.accounts());
    let requests = world.simulator.counts().request_count;
    assert!(requests < 200, "{requests} requests");
}

#[test]
fn an_account_that_changes_during_a_long_snapshot_arrives_while_that_goes_on() {
    let world = World::new(&[30_000]);
    world.simulator.set_latency(Duration::from_millis(150));
    let mut source = run(&world, &["upstream.page_size=100"], &["run"]);
    source.wait_for_line("claimed and restored");
    wait_for("some accounts", || (world.accounts_so_far() > 500).then_some(()));
    let changed = world.simulator.touch(0, 50, 3);
    let changed_at = world.simulator.now_ms() - 60_000;
    let began = Instant::now();
    wait_for("the changes", || {
        let changes = |records: &[Record]| records.iter().filter(|record| record.updated_at() > changed_at).count();
        (world.follow_accounts(changes) == changed.len()).then_some(())
    });
    let took = began.elapsed();
    assert_ne!(
        world.cursors().pop().expect("a cursor record").json()["ranges"],
        "[]",
        "the snapshot was over, so nothing was shown"
    );
    assert!(took < Duration::from_secs(10), "{took:?}");
    world.simulator.set_latency(Duration::ZERO);
    wait_for("the snapshot", || {
        (world.cursors().pop().expect("a cursor record").json()["ranges"] == "[]").then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    catch_up(&world, &[]);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_row_that_becomes_visible_late_is_found_by_a_sweep() {
    let world = World::new(&[500]);
    let set = ["upstream.late_sweep_interval=300ms", "upstream.late_window=6s"];
    let mut source = run(&world, &set, &["run"]);
    wait_for("the snapshot", || (world.accounts_so_far() == 500).then_some(()));
    let changed = world.simulator.touch(0, 10, 1).len();
    wait_for("the changes", || {
        (world.accounts_so_far() == 500 + changed).then_some(())
    });
    let late_at = world.simulator.now_ms() - 3_000;
    world.simulator.upsert_json(0, late_at, "late", &row("late", late_at));
    wait_for("the late row", || {
        let is_there = |records: &[Record]| records.iter().any(|record| record.key() == "late");
        world.follow_accounts(is_there).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    let records = world.accounts();
    assert_eq!(records.len(), 500 + changed + 1, "a sweep writes nothing twice");
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
}

#[test]
fn a_row_that_becomes_visible_late_while_the_source_is_down_is_found_by_the_first_sweep() {
    let world = World::new(&[500]);
    let window = ["upstream.late_window=1m", "upstream.late_sweep_interval=1h"];
    world.simulator.touch(0, 10, 1);
    catch_up(&world, &window);
    let late_at = world.simulator.now_ms() - 5_000;
    world.simulator.upsert_json(0, late_at, "late", &row("late", late_at));
    // Newer ones came too: the live walk begins behind the late one.
    world.simulator.touch(0, 10, 2);
    catch_up(&world, &window);
    let records = world.accounts();
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
}

#[test]
fn what_is_older_than_start_from_is_left_out() {
    let world = World::new(&[2_000]);
    let rows = world.simulator.rows(0);
    let start_from = rows[1_500].updated_at_ms;
    let at = chrono::DateTime::from_timestamp_millis(start_from)
        .expect("a time")
        .to_rfc3339();
    catch_up(&world, &[&format!("lenders.lender-1.start_from={at}")]);
    let expected: Vec<_> = rows.into_iter().filter(|row| row.updated_at_ms >= start_from).collect();
    judge::everything(&world.judged_accounts(), &expected);
    assert_eq!(world.accounts().len(), expected.len());
}

#[test]
fn a_start_from_that_is_lowered_is_said_with_the_command_that_reads_the_rest() {
    let mut options = options(&[600]);
    // No two at the same time.
    options.lenders[0].tie_groups = vec![1];
    let world = World::with(options);
    let rows = world.simulator.rows(0);
    let at = |place: usize| d02_source::simulator::Timestamp(rows[place].updated_at_ms).to_string();
    let (first, lower) = (at(500), at(300));
    let run = |from: &str| catch_up(&world, &[&format!("lenders.lender-1.start_from={from}")]);
    let said = |log: &str| log.contains("left out by start_from");
    assert!(!said(&run(&first)) && !said(&run(&first)));
    let log = run(&lower);
    let command = |to: &str| format!("cursor set lender-1 --to {to}");
    assert!(said(&log) && log.contains(&command(&lower)), "{log}");
    let log = catch_up(&world, &[]);
    let everything = "1970-01-01T00:00:00.000Z";
    assert!(said(&log) && log.contains(&command(everything)), "{log}");

    let set = |to: &str, set: &[&str]| {
        let set = set.iter().flat_map(|set| ["--set", set]);
        let args: Vec<_> = set.chain(["cursor", "set", "lender-1", "--to", to]).collect();
        world.command(&args, &[]).expect_exit(0);
    };
    let from = format!("lenders.lender-1.start_from={lower}");
    set(&lower, &[&from]);
    assert!(!said(&run(&lower)));
    judge::complete(
        &world.accounts(),
        &rows
            .iter()
            .filter(|row| row.updated_at_ms >= rows[300].updated_at_ms)
            .cloned()
            .collect::<Vec<_>>(),
    );
    // What is read, but left out by what is configured, is not read yet.
    set(everything, &[&from]);
    assert!(said(&catch_up(&world, &[])));
    set(everything, &[]);
    assert!(!said(&catch_up(&world, &[])));
    judge::everything(&world.judged_accounts(), &rows);
}

#[test]
fn killed_again_and_again_while_ranges_live_walks_and_sweeps_run_nothing_is_lost_or_doubled() {
    // Several times what eight ranges can read between the kills, however late the kills come.
    let world = World::new(&[90_000]);
    world.simulator.set_latency(Duration::from_millis(300));
    let set = [
        "upstream.page_size=100",
        "transaction.max_rows=400",
        "upstream.late_sweep_interval=200ms",
    ];
    let mut kills = 0;
    let mut number = 0;
    while kills < 12 {
        number += 1;
        let mut source = run(&world, &set, &["run"]);
        source.wait_for_line("claimed and restored");
        world.simulator.touch(0, 300, number);
        let late_at = world.simulator.now_ms() - 3_000;
        let id = format!("late-{number}");
        world.simulator.upsert_json(0, late_at, &id, &row(&id, late_at));
        let until = Instant::now() + Duration::from_millis(700 + 97 * (number % 9));
        wait_for("the moment", || (Instant::now() >= until).then_some(()));
        source.kill();
        kills += 1;
    }
    // And once for certain in the middle of a transaction whose accounts the broker has.
    let args: Vec<_> = set.iter().flat_map(|set| ["--set", set]).chain(["run"]).collect();
    let mut source = world.command(&args, &[("D02_FAILPOINT", "accounts_sent:3")]);
    source.wait_for_line("failpoint accounts_sent reached");
    source.kill();
    // Else it hides what is committed for a minute.
    drop(world.fence());
    assert!(most_ranges(&world) > 1);
    assert_ne!(
        world.cursors().pop().expect("a cursor record").json()["ranges"],
        "[]",
        "the snapshot was over before the last kill"
    );
    world.simulator.set_latency(Duration::ZERO);
    catch_up(&world, &set);
    let records = world.judged_accounts();
    judge::everything(&records, &world.simulator.rows(0));
    let with_aborted = kafka::uncommitted(&world.servers, &world.topic("accounts")).len();
    assert!(with_aborted > records.len(), "no kill left an aborted record");
}

#[test]
fn a_snapshot_that_was_interrupted_goes_on_where_it_was_though_a_tenth_of_it_changed() {
    let world = World::new(&[30_000]);
    world.simulator.set_latency(Duration::from_millis(200));
    let mut source = run(
        &world,
        &["upstream.page_size=500", "transaction.max_rows=1000"],
        &["run"],
    );
    wait_for("most accounts", || (world.accounts_so_far() > 20_000).then_some(()));
    source.kill();
    world.simulator.set_latency(Duration::ZERO);
    let read_before = world.simulator.counts().row_count;
    world.simulator.touch(0, 3_000, 9);
    // Polls that follow one upon another would read what has changed again and again.
    catch_up(&world, &["upstream.poll_interval=1m"]);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    let read_again = world.simulator.counts().row_count - read_before;
    // What is left; of each range the group of one time that it stood in; what has changed, by two live walks.
    let most = 10_000 + 4 * 1_500 + 2 * 3_000;
    assert!(read_again < most + 2_000, "{read_again} rows: it began anew");
}
