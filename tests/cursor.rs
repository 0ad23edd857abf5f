//! Does changing a lender's cursor lose nothing and double nothing, and is it refused where it would?

use std::time::Duration;

use d02_source::simulator::{Effect, Fault};

use crate::support::judge;
use crate::support::rows::spoil;
use crate::support::shown::{Shown, shown};
use crate::support::wait_for;
use crate::support::world::{self, World};

fn cursor(world: &World, args: &[&str]) -> Shown {
    let args: Vec<_> = ["cursor"].iter().chain(args).copied().collect();
    shown(world, &args, &[])
}

fn shown_record(world: &World) -> serde_json::Value {
    let out = cursor(world, &["show", "--json"]).expect(0).out;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&out).expect("JSON");
    rows[0].clone()
}

#[track_caller]
fn refused(world: &World, args: &[&str], why: &[&str]) {
    let before = world.cursors().len();
    let log = cursor(world, args).expect(2).log;
    for why in why {
        assert!(log.contains(why), "{why}: {log}");
    }
    assert_eq!(world.cursors().len(), before, "nothing is written");
}

#[test]
fn after_a_rewind_everything_since_is_read_again_and_only_what_differs_is_written() {
    let mut options = world::options(&[2_000]);
    // No two at the same time.
    options.lenders[0].tie_groups = vec![1];
    let world = World::with(options);
    refused(
        world_that_was_never_run(&world),
        &["set", "lender-1", "--to", "2026-01-01T00:00:00Z"],
        &["there is no cursor record"],
    );
    world.catch_up();
    let rows = world.simulator.rows(0);
    // Silent changes: one before the time, one after it.
    for row in [&rows[500], &rows[1_500]] {
        spoil(&world, row, &[("merchant_name", "\"another\"")]);
    }
    let at = |ms: i64| d02_source::simulator::Timestamp(ms).to_string();
    let (to, epoch) = (at(rows[1_000].updated_at_ms), shown_record(&world)["epoch"].clone());
    let set = cursor(&world, &["set", "lender-1", "--to", &to]).expect(0).out;
    assert_eq!(
        set,
        format!(
            "lender-1: the next run reads again everything from {to} on and writes only what is missing or different\n"
        )
    );
    let record = shown_record(&world);
    assert_eq!(
        (&record["state"], &record["range_count"]),
        (&"released".into(), &1.into())
    );
    assert!(record["epoch"].as_u64() > epoch.as_u64());
    let read_before = world.simulator.counts().row_count;
    world.catch_up();
    let read = world.simulator.counts().row_count - read_before;
    assert!((1_000..2_000).contains(&read), "{read} rows were read");
    let records = world.judged_accounts();
    assert_eq!(records.len(), 2_001);
    let count = |id: &str| records.iter().filter(|record| record.key() == id).count();
    assert_eq!((count(&rows[500].id), count(&rows[1_500].id)), (1, 2));
    // Never forward: what lies between would be lost.
    let later = at(world.simulator.now_ms() + 60_000);
    refused(
        &world,
        &["set", "lender-1", "--to", &later],
        &["would be lost", "choose an earlier time"],
    );
    let usage = cursor(&world, &["set", "lender-1", "--to", "yesterday"]).expect(2).log;
    assert!(
        usage.contains("a time such as 2026-01-31T00:00:00Z is expected"),
        "{usage}"
    );
    refused(&world, &["set", "acme", "--to", &to], &["no lender `acme`"]);
}

/// Its topics are there, and nothing is read.
fn world_that_was_never_run(world: &World) -> &World {
    world.command(&["setup"], &[]).expect_exit(0);
    world
}

#[test]
fn a_rewind_in_the_middle_of_a_snapshot_leaves_nothing_out() {
    let world = World::new(&[60_000]).single();
    world.simulator.set_latency(std::time::Duration::from_millis(100));
    let rows = world.simulator.rows(0);
    let mut source = world.command(&["--set", "upstream.snapshot_parallelism=4", "run"], &[]);
    wait_for("some accounts", || (world.accounts_so_far() > 4_000).then_some(()));
    // So that it is not over before it is taken over.
    world.simulator.set_latency(std::time::Duration::from_secs(1));
    let to = d02_source::simulator::Timestamp(rows[3_000].updated_at_ms).to_string();
    let log = cursor(&world, &["set", "lender-1", "--to", &to]).expect(2).log;
    assert!(
        log.contains("lives, its last commit is") && log.contains("--force"),
        "{log}"
    );
    assert!(source.is_running());
    let last = world.cursors().pop().expect("a cursor record").json();
    assert_ne!(last["ranges"], serde_json::json!([]), "the snapshot is over");
    cursor(&world, &["set", "lender-1", "--to", &to, "--force"]).expect(0);
    source.expect_exit(3);
    world.simulator.set_latency(std::time::Duration::ZERO);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn what_is_exported_can_be_imported_and_is_held_to_its_lender_upstream_and_partitions() {
    let world = World::new(&[500]);
    world.catch_up();
    let exported = cursor(&world, &["export", "lender-1"]).expect(0).out;
    let file = world.path("cursor.json");
    std::fs::write(&file, &exported).expect("written");
    let file = file.to_str().expect("text");
    // The topic of the cursor is lost.
    cursor(&world, &["reset", "lender-1"]).expect(0);
    let told = cursor(&world, &["import", "lender-1", file]).expect(0).out;
    assert!(told.starts_with("lender-1: imported; "), "{told}");
    // It may be another cluster's: how far the topics were written there says nothing of these.
    let imported = world.cursors().pop().expect("a record").json();
    assert_eq!(imported["topic_ends"], serde_json::Value::Null, "{imported}");
    assert!(exported.contains("topic_ends"), "{exported}");
    let read_before = world.simulator.counts().row_count;
    world.catch_up();
    let read = world.simulator.counts().row_count - read_before;
    assert!(read < 100, "{read} rows: it began anew");
    assert_eq!(world.accounts().len(), 500);

    let changed = |from: &str, to: &str| {
        assert!(exported.contains(from), "{exported}");
        std::fs::write(file, exported.replace(from, to)).expect("written");
    };
    let import = ["import", "lender-1", file];
    changed(&world.lender(0).public_id, "5f0c5f0c5f0c5f0c5f0c5f0c");
    refused(&world, &import, &["it is of lender 5f0c", "import it for the lender"]);
    changed(&world.simulator.base_url(), "https://elsewhere.example");
    refused(
        &world,
        &import,
        &["it is of https://elsewhere.example", "upstream.base_url is"],
    );
    changed("accounts=", "accounts=1");
    refused(&world, &import, &["keys would move and lose their order"]);
    changed(r#""version":1"#, r#""version":2"#);
    refused(&world, &import, &["its version is 2, this program knows 1"]);
    std::fs::write(file, "{}").expect("written");
    refused(&world, &import, &["it is no exported cursor", "cursor export"]);
    refused(&world, &["import", "lender-1", "/nowhere"], &["reading /nowhere"]);

    // What was committed since is not what the old record says: the next start says so instead of going on.
    std::fs::write(file, &exported).expect("written");
    world.simulator.insert(0, 10);
    world.catch_up();
    assert_eq!(world.accounts().len(), 510);
    cursor(&world, &import).expect(0);
    let mut source = world.command(&["run", "--until-caught-up"], &[]);
    source.expect_exit(2);
    assert!(
        source.log().contains("does not hold what was committed"),
        "{}",
        source.log()
    );
    cursor(&world, &["reset", "lender-1"]).expect(0);
    refused(&world, &["export", "lender-1"], &["there is no cursor record"]);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

/// Cursors as long as they may be.
fn with_long_cursors(rows: u32) -> World {
    let world = World::new(&[rows]);
    let long = Effect::LongCursor { bytes: 4_096 };
    world.simulator.push_fault(Fault::export(long).rate(1.0));
    world
}

#[test]
fn a_snapshot_is_shared_out_among_no_more_ranges_than_the_cursor_topic_takes() {
    let world = with_long_cursors(30_000);
    world.simulator.set_latency(Duration::from_millis(50));
    let mut source = world.command_with(
        &[
            "upstream.snapshot_parallelism=32",
            "upstream.page_size=100",
            "transaction.max_rows=1",
            "kafka.topic_settings.cursor.max.message.bytes=70000",
        ],
        &["run", "--until-caught-up"],
    );
    source.expect_exit(0);
    let log = source.log();
    assert!(log.contains("holds no more than"), "{log}");
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    let largest = world
        .cursors()
        .into_iter()
        .filter_map(|record| record.value)
        .map(|value| value.len())
        .max();
    // Used as far as it may be.
    assert!(
        largest.is_some_and(|largest| (40_000..70_000).contains(&largest)),
        "{largest:?}"
    );
}
