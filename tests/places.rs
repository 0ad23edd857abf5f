//! What if one place cannot be read while others can, if one time has many rows, or if much has changed meanwhile?

use std::collections::HashSet;
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Fault};
use reqwest::StatusCode;

use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::wait_for;
use crate::support::world::{World, options};

#[track_caller]
fn catch_up(world: &World, set: &[&str]) -> String {
    let mut source = world.command_with(set, &["run", "--until-caught-up"]);
    source.expect_exit(0);
    source.log()
}

#[track_caller]
fn judged(world: &World) {
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

/// A row as a person would have written it, at a time in milliseconds.
fn row(id: &str, at_ms: i64, balance: usize) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).expect("a time");
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    format!(r#"{{"public_id":"{id}","balance_amount":{balance},"updated_at":"{at}"}}"#)
}

fn id(number: usize) -> String {
    format!("{:08x}{number:016x}", 0x6500_0000 + number)
}

/// Rows that all have one time, as a bulk update leaves them.
fn bulk(world: &World, count: usize, at_ms: i64) {
    for number in 0..count {
        let id = id(number);
        world.simulator.upsert_json(0, at_ms, &id, &row(&id, at_ms, number));
    }
}

/// How many pages were asked for since `from` requests.
fn pages(world: &World, from: usize) -> usize {
    let requests = world.simulator.requests();
    let pages = requests[from..].iter().filter(|request| request.path.ends_with("D02"));
    pages.count()
}

fn last_cursor(world: &World) -> serde_json::Value {
    world.cursors().last().map(Record::json).unwrap_or_default()
}

#[test]
fn dead_cursors_that_are_refused_with_400_are_left_for_fresh_walks() {
    let mut options = options(&[800]);
    // A page holds the largest group with room to spare, so each fresh walk gets further.
    options.lenders[0].tie_groups = vec![1, 1, 3, 40];
    let world = World::with(options);
    let refused = Effect::status(StatusCode::BAD_REQUEST);
    world
        .simulator
        .push_fault(Fault::export(refused).cursor(true).rate(1.0));
    let log = catch_up(&world, &["upstream.page_size=200"]);
    assert!(log.contains("upstream answered 400: Bad Request"), "{log}");
    assert!(!log.contains("stuck"), "{log}");
    judged(&world);
}

#[test]
fn a_group_that_no_cursor_leads_through_is_stuck_by_name_and_read_once_the_cursors_work() {
    let world = World::new(&[50]);
    bulk(&world, 300, world.simulator.now_ms() - 60_000);
    let refused = Effect::status(StatusCode::UNPROCESSABLE_ENTITY);
    world
        .simulator
        .push_fault(Fault::export(refused).cursor(true).rate(1.0));
    let mut source = world.command_with(&["upstream.page_size=100"], &["run", "--until-caught-up"]);
    source.expect_exit(4);
    let log = source.log();
    assert!(
        log.contains("the reading is stuck: at ") && log.contains("U14"),
        "{log}"
    );
    world.simulator.clear_faults();
    catch_up(&world, &["upstream.page_size=100"]);
    judged(&world);
}

#[test]
fn answers_that_are_refused_for_their_size_are_asked_for_in_smaller_pages() {
    for code in [
        StatusCode::BAD_GATEWAY,
        StatusCode::SERVICE_UNAVAILABLE,
        StatusCode::PAYLOAD_TOO_LARGE,
    ] {
        let world = World::new(&[3_000]);
        let too_large = Effect::AboveSize { bytes: 100_000, code };
        world.simulator.push_fault(Fault::export(too_large).rate(1.0));
        let log = catch_up(&world, &["upstream.page_size=500"]);
        assert!(log.contains(&format!("upstream answered {}", code.as_u16())), "{log}");
        assert!(!log.contains("stuck"), "{log}");
        judged(&world);
    }
}

#[test]
fn a_row_that_is_no_utf_8_is_a_dead_letter_with_its_bytes_and_the_others_count() {
    let world = World::new(&[500]);
    let rows = world.simulator.rows(0);
    let bad = rows[123].id.clone();
    let not_utf8 = Effect::NotUtf8 { id: bad.clone() };
    world.simulator.push_fault(Fault::export(not_utf8).rate(1.0));
    let log = catch_up(&world, &["upstream.page_size=100"]);
    assert!(log.contains("dead letter: the row is no UTF-8"), "{log}");
    let letters = world.dead_letters();
    let [letter] = &letters[..] else {
        panic!("{} dead letters", letters.len());
    };
    assert_eq!(letter.key(), bad);
    assert!(
        letter
            .header("__connect.errors.exception.class.name")
            .ends_with(".NotUtf8")
    );
    let received = letter.value.as_deref().expect("the row");
    assert!(std::str::from_utf8(received).is_err(), "as received");
    assert!(received.starts_with(b"{") && received.ends_with(b"}"));
    let good: Vec<_> = rows.into_iter().filter(|row| row.id != bad).collect();
    judge::everything(&world.judged_accounts(), &good);
    // Once it is mended, upstream says so by a new time.
    world.simulator.clear_faults();
    let mended = world.simulator.now_ms();
    world.simulator.upsert_json(0, mended, &bad, &row(&bad, mended, 5));
    catch_up(&world, &[]);
    judged(&world);
    assert_eq!(world.dead_letters().len(), 1, "it is not buried again");
}

#[test]
fn a_row_that_is_no_json_is_stuck_by_name_behind_everything_before_it() {
    let number: fn(&str) -> Effect = |id| Effect::NotANumber { id: id.to_owned() };
    let control: fn(&str) -> Effect = |id| Effect::RawControl { id: id.to_owned() };
    for effect in [number, control] {
        let world = World::new(&[120]);
        let rows = world.simulator.rows(0);
        world
            .simulator
            .push_fault(Fault::export(effect(&rows[70].id)).rate(1.0));
        let mut source = world.command_with(&["upstream.page_size=50"], &["run", "--until-caught-up"]);
        source.expect_exit(4);
        let log = source.log();
        assert!(
            log.contains("the reading is stuck: at ") && log.contains("no JSON"),
            "{log}"
        );
        let held: HashSet<String> = world.accounts().iter().map(|record| record.key().to_owned()).collect();
        assert!(
            rows[..70].iter().all(|row| held.contains(&row.id)),
            "what lies before it is read"
        );
        world.simulator.clear_faults();
        catch_up(&world, &[]);
        judged(&world);
    }
}

#[test]
fn a_bulk_update_is_read_once_and_then_costs_a_page_a_poll() {
    let world = World::new(&[20]);
    let set = [
        "upstream.page_size=100",
        "upstream.late_window=2s",
        "upstream.late_sweep_interval=500ms",
    ];
    let mut source = world.command_with(&set, &["run"]);
    source.wait_for_line("claimed and restored");
    wait_for("the snapshot", || (world.accounts_so_far() >= 20).then_some(()));
    let bulk_at = world.simulator.now_ms();
    bulk(&world, 4_000, bulk_at);
    wait_for("the bulk update", || (world.accounts_so_far() >= 4_020).then_some(()));
    // Its sweep comes when it is due.
    let settled = || {
        let cursor = last_cursor(&world);
        let at = |name: &str| cursor[name].as_str()?.parse::<chrono::DateTime<chrono::Utc>>().ok();
        let settled = at("settled").filter(|settled| Some(*settled) > at("read"))?;
        (settled.timestamp_millis() > bulk_at).then_some(())
    };
    wait_for("nothing is left to sweep", settled);
    let (before, begun) = (world.simulator.requests().len(), Instant::now());
    wait_for("some polls", || (pages(&world, before) >= 20).then_some(()));
    let (asked, polls) = (pages(&world, before), begun.elapsed().as_millis() / 100 + 2);
    assert!(asked as u128 <= polls, "{asked} pages in {polls} polls");
    assert!(
        last_cursor(&world)["place_cursor"].is_string(),
        "{}",
        last_cursor(&world)
    );
    // A restart at rest does not read the group either.
    source.kill();
    let before = world.simulator.requests().len();
    let mut source = world.command_with(&set, &["run"]);
    source.wait_for_line("claimed and restored");
    wait_for("some polls", || (pages(&world, before) >= 10).then_some(()));
    let asked = world.simulator.requests().split_off(before);
    let on = asked.iter().filter(|request| request.query.contains("cursor=")).count();
    assert!(on + 2 >= asked.len() - 1, "from the place on: {asked:?}");
    // What changes behind it is found as ever.
    let now = world.simulator.now_ms();
    world.simulator.upsert_json(0, now, &id(7), &row(&id(7), now, 1));
    wait_for("a change", || (world.accounts_so_far() >= 4_021).then_some(()));
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn killed_inside_a_group_of_one_time_the_walk_goes_on_inside_it() {
    let world = World::new(&[10]);
    bulk(&world, 6_000, world.simulator.now_ms() - 3_600_000);
    world.simulator.set_latency(Duration::from_millis(20));
    let set = ["upstream.page_size=100", "transaction.max_rows=300"];
    let mut source = world.command_with(&set, &["run"]);
    wait_for("half of the group", || (world.accounts_so_far() >= 3_000).then_some(()));
    source.kill();
    let before = world.simulator.requests().len();
    catch_up(&world, &set);
    let asked = pages(&world, before);
    assert!(asked < 50, "{asked} pages for the half that was left, of 60 in all");
    judged(&world);
}

#[test]
fn a_backlog_is_read_in_ranges_that_are_saved_while_live_goes_on_and_the_lender_is_ready() {
    let world = World::new(&[50]);
    catch_up(&world, &[]);
    let begun = world.simulator.now_ms();
    // As if it had been away for an hour.
    for number in 0..8_000_i64 {
        let (at, id) = (
            begun - 3_600_000 + 1_000 + number * 400,
            id(usize::try_from(number).expect("few")),
        );
        world.simulator.upsert_json(0, at, &id, &row(&id, at, 1));
    }
    set_back(&world, begun - 3_600_000);
    world.simulator.set_latency(Duration::from_millis(150));
    let set = [
        "upstream.page_size=100",
        "upstream.snapshot_parallelism=4",
        "transaction.max_rows=300",
        "http.listen=127.0.0.1:0",
    ];
    let mut source = world.command_with(&set, &["run"]);
    source.wait_for_line("what is left up to");
    wait_for("part of it", || (world.accounts_so_far() >= 2_000).then_some(()));
    // It stands still there while the test looks, however long that takes.
    world.simulator.set_latency(Duration::from_secs(20));
    let ranges = || {
        last_cursor(&world)["ranges"]
            .as_str()
            .unwrap_or_default()
            .matches("stop")
            .count()
    };
    assert!(ranges() >= 3, "side by side: {}", last_cursor(&world));
    source.kill();
    world.simulator.set_latency(Duration::from_millis(50));
    let before = world.simulator.requests().len();
    let held = world.accounts().len();
    let log = catch_up(&world, &set[..3]);
    assert!(!log.contains("what is left up to"), "the ranges were saved: {log}");
    let asked = pages(&world, before);
    let left = (8_050 - held).div_ceil(100);
    assert!(asked < left + 60, "{asked} pages for {left} that were left");
    judged(&world);
}

/// Has the record say that it was read up to a time in milliseconds, and nothing more: as if nobody had read since.
fn set_back(world: &World, to_ms: i64) {
    let to = chrono::DateTime::from_timestamp_millis(to_ms)
        .expect("a time")
        .to_rfc3339();
    let cursors = world.cursors();
    let last = cursors.last().expect("a record");
    let mut record = last.json();
    record["read"] = to.clone().into();
    record["settled"] = to.into();
    record["sequence"] = (record["sequence"].as_u64().expect("a number") + 1).into();
    let (topic, record) = (world.topic("cursor"), record.to_string());
    kafka::write(&world.servers, &topic, last.partition, last.key(), Some(&record));
}

#[test]
fn killed_again_and_again_in_a_backlog_a_large_group_and_a_sweep_nothing_is_lost_or_doubled() {
    let world = World::new(&[2_000]);
    world.simulator.set_latency(Duration::from_millis(15));
    let set = [
        "upstream.page_size=50",
        "upstream.snapshot_parallelism=3",
        "upstream.backlog=1s",
        "upstream.late_window=3s",
        "upstream.late_sweep_interval=300ms",
        "transaction.max_rows=200",
    ];
    let mut kills = 0;
    let mut rng = fastrand::Rng::with_seed(7);
    while kills < 20 {
        bulk(&world, 2_000, world.simulator.now_ms());
        let mut source = world.command_with(&set, &["run"]);
        source.wait_for_line("claimed and restored");
        for _ in 0..rng.u64(2..12) {
            world.simulator.touch(0, 40, rng.u64(..));
            world.simulator.change_late(0, 5, Duration::from_secs(2), rng.u64(..));
            std::thread::sleep(Duration::from_millis(rng.u64(50..250)));
        }
        source.kill();
        kills += 1;
        // So that what comes next is a backlog.
        std::thread::sleep(Duration::from_millis(rng.u64(0..1_200)));
    }
    wait_for("the last late row", || {
        (world.simulator.pending_late_count() == 0).then_some(())
    });
    world.simulator.set_latency(Duration::ZERO);
    catch_up(&world, &set);
    judged(&world);
}
