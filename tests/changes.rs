//! Is every change in `changes`, with what was before it? Judged by what stands in `accounts`.

use crate::support::judge;
use crate::support::kafka::{self, Record};
use crate::support::registry;
use crate::support::wait_for;
use crate::support::world::World;

const ID: &str = "65f0c0ffee65f0c0ffee65f0";

fn catch_up_with(world: &World, set: &[&str]) -> String {
    let set = set.iter().flat_map(|assignment| ["--set", assignment]);
    let args: Vec<_> = set.chain(["run", "--until-caught-up"]).collect();
    let mut source = world.command(&args, &[]);
    source.expect_exit(0);
    source.log()
}

fn names(record: &Record) -> Vec<String> {
    let listed = record.headers.get("d02.changed");
    listed
        .map(|names| names.split(',').map(str::to_owned).collect())
        .unwrap_or_default()
}

/// Changes the account, now.
fn put(world: &World, members: &str) {
    let updated_at_ms = world.simulator.now_ms();
    let at = d02_source::simulator::Timestamp(updated_at_ms);
    let json = format!(r#"{{"public_id":"{ID}",{members},"updated_at":"{at}"}}"#);
    world.simulator.upsert_json(0, updated_at_ms, ID, &json);
}

#[test]
fn each_change_says_what_was_what_differs_and_what_is() {
    let world = World::new(&[200]);
    let base = r#""balance_amount":120000,"currency":"AED","due_date":"01/02/2026","status":5"#;
    put(&world, base);
    world.catch_up();
    let opening = world.changes();
    assert_eq!(opening.len(), 201);
    assert!(
        opening
            .iter()
            .all(|record| record.header("__op") == "r" && names(record).is_empty())
    );
    // The next start has to remember all of it by what stands in `accounts`.
    put(&world, &base.replace("120000", "90000"));
    world.catch_up();
    let mut source = world.run();
    let mut count = 202;
    let mut step = |members: &str, is_written: bool| {
        put(&world, members);
        let at = world
            .simulator
            .rows(0)
            .into_iter()
            .find(|row| row.id == ID)
            .expect("the row")
            .updated_at_ms;
        wait_for("the account", || {
            let latest = world.accounts().into_iter().rfind(|record| record.key() == ID);
            (latest.expect("a record").updated_at() == at).then_some(())
        });
        count += usize::from(is_written);
        assert_eq!(world.changes().len(), count, "{members}");
    };
    let moved = base.replace("120000", "90000").replace("01/02/2026", "22/02/2026");
    step(&moved, true);
    step(&moved, false);
    let labelled = moved.replace(r#""status":5"#, r#""status":"5","merchant_name":"m""#);
    step(&labelled, true);
    step(&labelled.replace(r#""22/02/2026""#, "null"), true);
    // What Connect's header converter would take for JSON.
    step(&labelled.replace(r#""22/02/2026""#, r#""null""#), true);
    step(&labelled.replace(r#""22/02/2026""#, r#"" []""#), true);
    step(&labelled, true);
    source.signal("TERM");
    source.expect_exit(0);

    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    let trail: Vec<Record> = world
        .changes()
        .into_iter()
        .filter(|record| record.key() == ID)
        .collect();
    let changed: Vec<_> = trail.iter().map(names).collect();
    let due_date: &[&str] = &["due_date"];
    let expected: [&[&str]; 8] = [
        &[],
        &["balance_amount"],
        due_date,
        &["status", "*"],
        due_date,
        due_date,
        due_date,
        due_date,
    ];
    assert_eq!(changed, expected);
    let has_moved = |place: usize| {
        let header = |name: &str| trail[place].headers.get(name).map(String::as_str);
        (header("d02.previous_due_date"), header("d02.due_date"))
    };
    assert_eq!(has_moved(2), (Some("01/02/2026"), Some("22/02/2026")));
    assert_eq!(has_moved(4), (Some("22/02/2026"), None), "null has none");
    assert_eq!(
        [has_moved(5), has_moved(6)],
        [(None, None); 2],
        "nor has what is no plain text"
    );
    assert_eq!(has_moved(7), (None, Some("22/02/2026")));
    assert_eq!(
        world.cursors().pop().expect("a record").json()["partitions"],
        "accounts=6,changes=6"
    );
}

#[test]
fn without_opening_records_the_first_change_of_an_account_has_what_was() {
    let world = World::new(&[300]);
    catch_up_with(&world, &["changes.initial=false"]);
    assert_eq!(world.changes(), []);
    world.simulator.touch(0, 50, 1);
    let created = world.simulator.insert(0, 2);
    catch_up_with(&world, &["changes.initial=false"]);
    let changes = world.changes();
    assert_eq!(changes.len(), 52);
    let is_created = |record: &&Record| record.header("__op") == "c";
    let found: Vec<_> = changes.iter().filter(is_created).map(Record::key).collect();
    assert!(
        created.iter().all(|id| found.contains(&id.as_str())) && found.len() == 2,
        "{found:?}"
    );
}

#[test]
fn what_is_turned_off_is_neither_created_nor_written_and_can_be_turned_on_later() {
    let world = World::new(&[300]);
    let is_there = || kafka::topics(&world.servers).contains(&world.topic("changes"));
    let partitions = || world.cursors().pop().expect("a record").json()["partitions"].clone();
    catch_up_with(&world, &["kafka.topics.changes="]);
    assert!(!is_there());
    assert_eq!(partitions(), "accounts=6");
    world.simulator.touch(0, 30, 1);
    catch_up_with(&world, &[]);
    assert_eq!(
        (world.changes().len(), partitions()),
        (30, "accounts=6,changes=6".into())
    );
    assert!(world.changes().iter().all(|record| record.header("__op") == "u"));
    // And off again.
    world.simulator.touch(0, 30, 2);
    catch_up_with(&world, &["kafka.topics.changes="]);
    assert_eq!((world.changes().len(), partitions()), (30, "accounts=6".into()));
}

#[test]
fn added_partitions_of_the_topic_are_refused_at_a_start() {
    let world = World::new(&[50]);
    world.catch_up();
    catch_up_with(&world, &["kafka.topics.changes="]);
    world.catch_up();
    kafka::add_partitions(&world.servers, &world.topic("changes"), 8);
    let mut source = world.run();
    source.expect_exit(2);
    let log = source.log();
    let why = "the partitions were accounts=6,changes=6 and are accounts=6,changes=8: keys would move";
    assert!(log.contains(why), "{log}");
}

#[test]
fn single_objects_have_a_trail_too() {
    let world = World::new(&[100]);
    let set = ["avro.encoding=single-object"];
    catch_up_with(&world, &set);
    world.simulator.touch(0, 20, 1);
    catch_up_with(&world, &set);
    let changes = world.changes();
    assert_eq!(changes.len(), 120);
    assert!(
        changes
            .iter()
            .all(|record| record.value.as_deref().expect("a value").starts_with(&[0xC3, 1]))
    );
    assert_eq!(changes.iter().filter(|record| record.header("__op") == "u").count(), 20);
    assert!(
        changes
            .iter()
            .all(|record| record.header("__op") == "r" || !names(record).is_empty())
    );
}

#[test]
fn a_registry_that_does_not_know_an_account_costs_its_before_and_nothing_else() {
    let world = World::new(&[100]);
    world.catch_up();
    let subject = format!("{}-value", world.topic("accounts"));
    // What the accounts were written with: of another name, and nobody's version.
    let foreign = r#"{"type":"record","name":"Other","fields":[{"name":"public_id","type":"string"}]}"#;
    let id = registry::register(&format!("{subject}-other"), foreign);
    let records = world.accounts();
    let odd = &records[0];
    let value = [
        &[0][..],
        &id.to_be_bytes(),
        &odd.value.as_deref().expect("a value")[5..],
    ]
    .concat();
    kafka::write_records(
        &world.servers,
        &world.topic("accounts"),
        &[Record {
            value: Some(value),
            ..odd.clone()
        }],
    );
    world.simulator.touch(0, 100, 1);
    let log = world.catch_up();
    assert!(
        log.contains(&format!(
            "accounts of schema {id} cannot be read: schema {id} of the schema registry is Other, not cleargrid.d02.Account"
        )),
        "{log}"
    );
    let changes = world.changes();
    let change = changes
        .iter()
        .rfind(|record| record.key() == odd.key())
        .expect("a change");
    assert_eq!((change.header("__op"), names(change)), ("u", vec!["*".to_owned()]));
    assert_eq!(changes.len(), 200);
}

#[test]
fn a_change_that_its_topic_does_not_take_is_a_dead_letter_and_so_is_its_account() {
    let world = World::new(&[20]);
    let size = "kafka.topic_settings.changes.\"max.message.bytes\"=65536";
    let member = |name: &str, size: usize| format!(r#""{name}":"{}""#, "x".repeat(size));
    put(&world, &member("merchant_name", 30_000));
    catch_up_with(&world, &[size]);
    assert_eq!((world.changes().len(), world.dead_letters().len()), (21, 0));
    put(&world, &member("merchant_name", 65_300));
    catch_up_with(&world, &[size]);
    assert_eq!((world.changes().len(), world.dead_letters().len()), (21, 1));
    let letter = world.dead_letters().pop().expect("a dead letter");
    assert!(
        letter
            .header("__connect.errors.exception.message")
            .contains(&world.topic("changes"))
    );
    assert!(letter.text().contains(&"x".repeat(65_300)), "the row as it was");
    // What was does not keep out what is.
    put(&world, &member("status", 40_000));
    catch_up_with(&world, &[size]);
    put(&world, &member("status", 41_000));
    catch_up_with(&world, &[size]);
    let changes = world.changes();
    let last = changes.iter().rfind(|record| record.key() == ID).expect("a change");
    assert_eq!((changes.len(), names(last)), (23, vec!["status".to_owned()]));
    let value = judge::RegistryReader::default().read(last);
    assert_eq!(
        value["before"],
        apache_avro::types::Value::Union(0, Box::new(apache_avro::types::Value::Null))
    );
    assert_eq!(world.dead_letters().len(), 1);
}
