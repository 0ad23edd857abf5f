//! Is every value framed as it was asked for, and nothing written while the registry has no id for it? Do `setup` and
//! `schema` leave a registry as they say, and is a topic with several versions of the schema read back?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::kafka::{self, Record};
use crate::support::registry::{self, Door};
use crate::support::shown::{Shown, bare, shown};
use crate::support::world::World;
use crate::support::{PATIENCE, judge, testbed, wait_for};

const ACCOUNT: &str = include_str!("../avro/account.avsc");
const CHANGE: &str = include_str!("../avro/account_change.avsc");

/// A schema that has nothing in common with an account's.
const OTHER: &str = r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"int"}]}"#;

/// The accounts' schema with one more field at its end.
fn with_field(field: Value) -> String {
    let mut schema: Value = serde_json::from_str(ACCOUNT).expect("JSON");
    schema["fields"].as_array_mut().expect("fields").push(field);
    schema.to_string()
}

/// `schema …` with nothing but a registry and the name of the accounts' topic: no lender, no changes, no Kafka.
fn schema(args: &[&str], topic: &str, url: &str, set: &[&str]) -> Shown {
    let (topic, url) = (
        format!("kafka.topics.accounts={topic}"),
        format!("schema_registry.url={url}"),
    );
    let only = ["kafka.topics.changes=", "kafka.bootstrap_servers=127.0.0.1:9"];
    let set = [&[topic.as_str(), &url], &only[..], set].concat();
    let set = set.iter().flat_map(|value| ["--set", *value]);
    bare(&set.chain(["schema"]).chain(args.iter().copied()).collect::<Vec<_>>())
}

/// What `schema check --json` found of the accounts' subject, the first.
#[track_caller]
fn finding(shown: &Shown) -> Value {
    let found: Vec<Value> = serde_json::from_str(&shown.out).unwrap_or_else(|error| panic!("{error}: {}", shown.out));
    let (finding, others) = found.split_first().expect("a finding");
    let is_of_changes = |other: &Value| {
        other["subject"]
            .as_str()
            .is_some_and(|subject| subject.contains(".changes"))
    };
    assert!(others.iter().all(is_of_changes), "{found:?}");
    finding.clone()
}

fn schema_id(record: &Record) -> u32 {
    let value = record.value.as_deref().expect("a value");
    assert_eq!(value[0], 0, "the magic byte");
    u32::from_be_bytes(value[1..5].try_into().expect("four bytes"))
}

/// Held by whoever uses the subject that is the record's name: it is the same for all.
static RECORD_NAME: Mutex<()> = Mutex::new(());

/// Names that no other test, and no other run with the same registry, has.
fn fresh(kind: &str) -> String {
    format!("{kind}-{}", std::process::id())
}

#[test]
fn single_object_encoding_needs_no_registry() {
    let world = World::new(&[100]);
    let environment = [
        ("D02__AVRO__ENCODING", "single-object"),
        ("D02__SCHEMA_REGISTRY__URL", "http://127.0.0.1:9"),
    ];
    world
        .command(&["run", "--until-caught-up"], &environment)
        .expect_exit(0);
    let records = world.accounts();
    judge::once_and_in_order(&records);
    judge::complete(&records, &world.simulator.rows(0));
    for record in &records {
        assert_eq!(record.value.as_deref().expect("a value")[..2], [0xC3, 0x01]);
    }
}

#[test]
fn an_incompatible_schema_is_named_and_waited_for_and_nothing_is_written_meanwhile() {
    let world = World::new(&[100]);
    world.command(&["setup"], &[]).expect_exit(0);
    let subject = format!("{}-value", world.topic("accounts"));
    assert_eq!(registry::ask("DELETE", &format!("/subjects/{subject}"), "").0, 200);
    registry::set_compatibility(&subject, "NONE");
    registry::register(&subject, OTHER);
    registry::set_compatibility(&subject, "FULL");
    let before = registry::versions(&subject);

    let mut source = world.command(&["run", "--until-caught-up"], &[]);
    source.wait_for_line("waiting for the schema registry: registering the schema of subject");
    source.wait_for_line("it is not compatible with those registered before: ");
    source.wait_for_line("see which schemas the subject holds");
    let checked = shown(&world, &["schema", "check"], &[]).expect(2);
    assert!(
        checked.out.contains("✗ ") && checked.out.contains("not compatible with what is: "),
        "{}",
        checked.out
    );
    assert!(
        checked.out.contains("\n    → see which schemas the subject holds"),
        "{}",
        checked.out
    );
    for command in [&["schema", "register"][..], &["setup"]] {
        let refused = shown(&world, command, &[]).expect(2).log;
        let (_, reason) = refused.split_once("registered before: ").expect("what is wrong");
        assert!(!reason.starts_with("it does not say why"), "{refused}");
        assert!(
            refused.contains("\n  → see which schemas the subject holds"),
            "{refused}"
        );
    }
    assert!(source.is_running());
    assert_eq!((world.accounts().len(), world.cursors().len()), (0, 0));
    assert_eq!(registry::versions(&subject), before);
    // Lines grow rarer, as the tries do.
    let log = source.log();
    assert!(log.matches("waiting for the schema registry").count() < 8, "{log}");

    registry::set_compatibility(&subject, "NONE");
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn without_auto_register_a_missing_schema_is_waited_for_however_its_owner_writes_it() {
    let world = World::new(&[100]);
    let door = Door::refusing("DELETE", 405);
    let url = door.url();
    let environment = [
        ("D02__SCHEMA_REGISTRY__AUTO_REGISTER", "false"),
        ("D02__SCHEMA_REGISTRY__URL", &*url),
    ];
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.wait_for_line("is not registered, and schema_registry.auto_register is off");
    source.wait_for_line("run `d02-source schema register`");
    assert_eq!((world.accounts().len(), world.cursors().len()), (0, 0));
    let missing = shown(&world, &["schema", "check"], &environment).expect(2).out;
    assert!(missing.contains("→ run `d02-source schema register`"), "{missing}");
    assert!(source.is_running());
    // Its owner's tool has the same schema in one line.
    let subject = format!("{}-value", world.topic("accounts"));
    let one_line = serde_json::from_str::<Value>(ACCOUNT).expect("JSON").to_string();
    let id = registry::register(&subject, &one_line);
    let change = serde_json::from_str::<Value>(CHANGE).expect("JSON").to_string();
    let changes = format!("{}-value", world.topic("changes"));
    let change_id = registry::register(&changes, &change);
    source.expect_exit(0);
    assert!(world.changes().iter().all(|record| schema_id(record) == change_id));
    let records = world.accounts();
    judge::everything(&records, &world.simulator.rows(0));
    assert!(records.iter().all(|record| schema_id(record) == id));
    assert_eq!(door.writes(), Vec::<String>::new());
    // `setup` and `register` do what they are asked for by name, whatever `run` may; here there is nothing to do.
    shown(&world, &["schema", "register"], &environment).expect(0);
    shown(&world, &["schema", "check"], &environment).expect(0);
    assert_eq!((door.writes(), registry::versions(&subject)), (Vec::new(), vec![1]));
}

#[test]
fn what_is_registered_while_run_waits_lets_it_go_on() {
    let world = World::new(&[50]);
    let off = [("D02__SCHEMA_REGISTRY__AUTO_REGISTER", "false")];
    let mut source = world.command(&["run", "--until-caught-up"], &off);
    source.wait_for_line("waiting for the schema registry");
    assert!(world.accounts().is_empty());
    let registered = shown(&world, &["schema", "register"], &off).expect(0).out;
    source.expect_exit(0);
    let records = world.accounts();
    judge::everything(&records, &world.simulator.rows(0));
    let line = |topic: &str, record: &Record| {
        let (topic, id) = (world.topic(topic), schema_id(record));
        format!("{topic}-value: registered, id {id}, version 1\n")
    };
    let expected = line("accounts", &records[0]) + &line("changes", &world.changes()[0]);
    assert_eq!(registered, expected);
}

#[test]
fn a_registry_that_is_away_at_the_start_delays_it_and_is_named() {
    let world = World::new(&[100]);
    let door = Door::closed();
    let url = door.url();
    let away = [("D02__SCHEMA_REGISTRY__URL", &*url)];
    let mut source = world.command(&["run", "--until-caught-up"], &away);
    source.wait_for_line("waiting for the schema registry: looking up");
    source.wait_for_line("the schema registry gave no answer");
    source.wait_for_line("check that the registry is up");
    assert_eq!((world.accounts().len(), world.cursors().len()), (0, 0));
    let secret = [
        away[0],
        ("D02__SCHEMA_REGISTRY__USERNAME", "svc"),
        ("D02__SCHEMA_REGISTRY__PASSWORD", "hunter2"),
    ];
    for command in [
        &["schema", "check"][..],
        &["schema", "check", "--json"],
        &["schema", "register"],
        &["setup"],
    ] {
        let failed = shown(&world, command, &secret).expect(1);
        let all = failed.out + &failed.log;
        assert!(
            all.contains("gave no answer") && all.contains("check that the registry is up"),
            "{all}"
        );
        assert!(!all.contains("hunter2"), "{all}");
    }
    assert!(source.is_running());
    door.open();
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn a_start_that_waits_for_the_registry_ends_when_it_is_asked_to() {
    let world = World::new(&[10]);
    let url = Door::closed().url();
    let mut source = world.command(&["run"], &[("D02__SCHEMA_REGISTRY__URL", &url)]);
    source.wait_for_line("waiting for the schema registry");
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn check_and_register_need_a_registry_and_the_topics_name_alone() {
    let _alone = RECORD_NAME.lock().unwrap_or_else(PoisonError::into_inner);
    let door = Door::refusing("DELETE", 405);
    let topic = fresh("schema.alone");
    for (strategy, subject) in [
        ("topic-name", format!("{topic}-value")),
        ("record-name", "cleargrid.d02.Account".to_owned()),
        ("topic-record-name", format!("{topic}-cleargrid.d02.Account")),
    ] {
        // The record's name is nobody else's here, but that of an earlier run.
        registry::ask("DELETE", &format!("/subjects/{subject}"), "");
        let strategy = format!("avro.subject_strategy={strategy}");
        let schema =
            |args: &[&str], set: &[&str]| schema(args, &topic, &door.url(), &[&[strategy.as_str()], set].concat());
        let writes = door.writes().len();
        let found = finding(&schema(&["check", "--json"], &[]).expect(0));
        assert_eq!(
            (&found["subject"], &found["state"]),
            (&json!(subject), &json!("acceptable")),
            "{found}"
        );
        let found = finding(&schema(&["check", "--json"], &["schema_registry.auto_register=false"]).expect(2));
        assert_eq!(found["state"], "missing", "{found}");
        assert!(
            found["advice"]
                .as_str()
                .is_some_and(|advice| advice.contains("schema register")),
            "{found}"
        );
        assert_eq!(
            (door.writes().len(), registry::versions(&subject)),
            (writes, Vec::new())
        );

        let first = schema(&["register"], &[]).expect(0).out;
        let again = schema(&["register"], &["schema_registry.auto_register=false"])
            .expect(0)
            .out;
        assert!(first.starts_with(&format!("{subject}: registered, id ")), "{first}");
        assert_eq!(again, first.replace("registered", "was registered"));
        assert_eq!(door.writes().len(), writes + 1);
        let found = finding(&schema(&["check", "--json"], &["schema_registry.auto_register=false"]).expect(0));
        let place = format!("id {}, version {}\n", found["id"], found["version"]);
        assert!(
            found["state"] == "registered" && first.ends_with(&place),
            "{found} {first}"
        );
    }

    let none = schema(&["check"], "{lender}.accounts", &door.url(), &[]).expect(2).log;
    assert!(
        none.contains("no lender is configured\n  → say whose topic: --lender NAME"),
        "{none}"
    );
    let acme = schema(
        &["check", "--json", "--lender", "acme"],
        &format!("{{lender}}.{topic}"),
        &door.url(),
        &[],
    );
    assert_eq!(finding(&acme.expect(0))["subject"], format!("acme.{topic}-value"));
    // Also where the other topic is shared; where both are, there is nothing to choose.
    let shared = format!("kafka.topics.changes={topic}.changes");
    let acme = |pattern: &str| {
        let args = ["check", "--json", "--lender", "acme"];
        schema(&args, pattern, &door.url(), &[&shared])
    };
    let found = acme(&format!("{{lender}}.{topic}")).expect(0).out;
    let found: Vec<Value> = serde_json::from_str(&found).expect("JSON");
    let subjects: Vec<_> = found.iter().map(|finding| finding["subject"].clone()).collect();
    assert_eq!(
        subjects,
        [format!("acme.{topic}-value"), format!("{topic}.changes-value")]
    );
    let none = acme(&topic).expect(2).log;
    assert!(none.contains("--lender chooses nothing"), "{none}");
    // The topics' names are no part of this one.
    schema(
        &["check"],
        "{lender}.accounts",
        &door.url(),
        &["avro.subject_strategy=record-name"],
    )
    .expect(0);
    for args in [&["check"][..], &["register"]] {
        let shown = schema(args, &topic, "http://127.0.0.1:9", &["avro.encoding=single-object"]).expect(0);
        assert!(shown.out.contains("no registry is asked"), "{}", shown.out);
    }
}

#[test]
fn what_the_registry_refuses_is_a_wrong_state_and_a_wrong_url_is_named() {
    let topic = fresh("schema.refused");
    let forbidden = Door::refusing("POST /subjects/", 403);
    for args in [&["check"][..], &["register"]] {
        let shown = schema(args, &topic, &forbidden.url(), &[]).expect(2);
        let all = shown.out + &shown.log;
        assert!(all.contains("the schema registry refused with 403"), "{all}");
        assert!(all.contains("→ check schema_registry.username"), "{all}");
    }
    let base = testbed().schema_registry_url();
    let wrong = schema(&["check"], &topic, &format!("{base}/wrong"), &[]).expect(2).out;
    assert!(wrong.contains("the answer is no schema registry's: 404"), "{wrong}");
    // A registry from before the comparison with all versions.
    let subject = format!("{topic}-value");
    registry::register(&subject, OTHER);
    registry::set_compatibility(&subject, "FULL_TRANSITIVE");
    let old = Door::refusing(&format!("POST /compatibility/subjects/{subject}/versions?"), 405);
    let compared = schema(&["check"], &topic, &old.url(), &[]).expect(2).out;
    assert!(compared.contains("not compatible with what is: "), "{compared}");
    let heard = old.heard();
    assert!(
        heard.iter().any(|request| request.contains("/versions/latest?")),
        "{heard:?}"
    );
}

#[test]
fn setup_guards_the_subject_and_overrules_no_owner() {
    let world = World::new(&[10]);
    let subject = format!("{}-value", world.topic("accounts"));
    let first = shown(&world, &["setup"], &[]).expect(0).out;
    assert!(
        first.contains("\n         compatibility FULL_TRANSITIVE: set\n"),
        "{first}"
    );
    assert_eq!(registry::compatibility(&subject), "FULL_TRANSITIVE");
    let checked = shown(&world, &["schema", "check"], &[]).expect(0).out;
    assert!(
        checked.contains("compatibility FULL_TRANSITIVE, the subject's own") && !checked.contains('!'),
        "{checked}"
    );
    let again = shown(&world, &["setup"], &[]).expect(0).out;
    assert!(
        again.contains(&format!("schema   {subject}: was registered, id ")),
        "{again}"
    );
    assert!(
        again.contains("\n         compatibility FULL_TRANSITIVE: as it was\n"),
        "{again}"
    );
    // What this is for: a version that cannot be read both ways does not get in.
    let breaking = json!({ "schema": with_field(json!({"name": "must", "type": "string"})) }).to_string();
    let (status, answer) = registry::ask("POST", &format!("/subjects/{subject}/versions"), &breaking);
    assert_eq!(status, 409, "{answer}");

    for level in ["BACKWARD", "NONE"] {
        registry::set_compatibility(&subject, level);
        let left = shown(&world, &["setup"], &[]).expect(0).out;
        assert!(
            left.contains(&format!(
                "! the compatibility of {subject} is {level} (chosen by its owner"
            )),
            "{left}"
        );
        assert_eq!(registry::compatibility(&subject), level);
        let checked = shown(&world, &["schema", "check", "--json"], &[]).expect(0);
        assert_eq!(finding(&checked)["compatibility"], level);
        assert!(finding(&checked)["warning"].is_string(), "{}", checked.out);
    }
}

#[test]
fn a_registry_that_lets_nobody_set_the_compatibility_is_a_warning() {
    for status in [403, 405, 404] {
        let world = World::new(&[10]);
        let door = Door::refusing("PUT /config", status);
        let url = door.url();
        let through = [("D02__SCHEMA_REGISTRY__URL", &*url)];
        let warned = shown(&world, &["setup"], &through).expect(0).out;
        assert!(
            warned.contains(&format!(
                "! setting the compatibility of subject {}-value: ",
                world.topic("accounts")
            )),
            "{warned}"
        );
        assert!(
            warned.contains(&status.to_string()) && warned.contains("Have the registry's owner do it"),
            "{warned}"
        );
        world.command(&["run", "--until-caught-up"], &through).expect_exit(0);
        assert_eq!(world.accounts().len(), 10);
    }
}

#[test]
fn each_strategy_names_the_subject_of_what_is_written_also_where_lenders_have_topics_of_their_own() {
    let _alone = RECORD_NAME.lock().unwrap_or_else(PoisonError::into_inner);
    for strategy in ["topic-name", "record-name", "topic-record-name"] {
        let world = World::new(&[30, 30]);
        let pattern = format!("{}.{{lender}}.own", world.name);
        let environment = [
            ("D02__AVRO__SUBJECT_STRATEGY", strategy),
            ("D02__KAFKA__TOPICS__ACCOUNTS", &*pattern),
        ];
        world
            .command(&["run", "--until-caught-up"], &environment)
            .expect_exit(0);
        let mut expected = BTreeSet::new();
        for lender in ["lender-1", "lender-2"] {
            let topic = world.topic(&format!("{lender}.own"));
            let subject = match strategy {
                "topic-name" => format!("{topic}-value"),
                "record-name" => "cleargrid.d02.Account".to_owned(),
                _ => format!("{topic}-cleargrid.d02.Account"),
            };
            let (status, registered) = registry::ask("GET", &format!("/subjects/{subject}/versions/latest"), "");
            assert_eq!(status, 200, "{subject}: {registered}");
            let records = kafka::committed(&world.servers, &topic);
            assert_eq!(records.len(), 30);
            assert!(
                records.iter().all(|record| registered["id"] == schema_id(record)),
                "{subject}: {registered}"
            );
            expected.insert(subject);
        }
        let topic = world.topic("changes");
        let subject = match strategy {
            "topic-name" => format!("{topic}-value"),
            "record-name" => "cleargrid.d02.AccountChange".to_owned(),
            _ => format!("{topic}-cleargrid.d02.AccountChange"),
        };
        let (status, registered) = registry::ask("GET", &format!("/subjects/{subject}/versions/latest"), "");
        assert_eq!(status, 200, "{subject}: {registered}");
        let changes = world.changes();
        assert_eq!(changes.len(), 60);
        assert!(changes.iter().all(|record| registered["id"] == schema_id(record)));
        expected.insert(subject);
        let checked = shown(&world, &["schema", "check", "--json"], &environment).expect(0);
        let found: Vec<Value> = serde_json::from_str(&checked.out).expect("JSON");
        let found: BTreeSet<String> = found
            .iter()
            .map(|finding| {
                assert_eq!(finding["state"], "registered", "{finding}");
                finding["subject"].as_str().expect("a subject").to_owned()
            })
            .collect();
        assert_eq!(found, expected);
        // And no other of this world's.
        let (_, subjects) = registry::ask("GET", "/subjects", "");
        let subjects: BTreeSet<String> = serde_json::from_value(subjects).expect("names");
        let ours = subjects.into_iter().filter(|subject| subject.starts_with(&world.name));
        let topical: BTreeSet<String> = expected.into_iter().filter(|_| strategy != "record-name").collect();
        assert_eq!(ours.collect::<BTreeSet<_>>(), topical);
    }
}

#[test]
fn a_topic_with_records_of_several_schema_versions_is_restored_and_shown() {
    let world = World::new(&[200]);
    let subject = format!("{}-value", world.topic("accounts"));
    world.command(&["setup"], &[]).expect_exit(0);
    world.catch_up();
    let first = world.accounts();
    let first_id = schema_id(&first[0]);
    // A later version, as a later d02-source would register and write it: one more nullable field, at the end.
    let region = json!({"name": "region", "type": ["null", "string"], "default": null, "doc": "Of a later version."});
    let later_id = registry::register(&subject, &with_field(region));
    assert_ne!(first_id, later_id);
    let later: Vec<&Record> = first.iter().step_by(7).collect();
    write_later_version(&world, &later, later_id);
    assert_eq!(world.accounts().len(), first.len() + later.len());

    // The index is whole: nothing that stands there is written again, by either schema.
    world.catch_up();
    assert_eq!(world.accounts().len(), first.len() + later.len());
    // What changes is, by this program's schema, which is still the subject's though not its latest.
    let touched: BTreeSet<String> = world.simulator.touch(0, 60, 3).into_iter().collect();
    assert!(
        later.iter().any(|record| touched.contains(record.key())),
        "none was written by both schemas"
    );
    world.catch_up();
    let records = world.accounts();
    assert_eq!(records.len(), first.len() + later.len() + touched.len());
    judge::everything(&records, &world.simulator.rows(0));
    let mut count_of = BTreeMap::<u32, usize>::new();
    for record in &records {
        *count_of.entry(schema_id(record)).or_default() += 1;
    }
    assert_eq!(
        count_of,
        [(first_id, first.len() + touched.len()), (later_id, later.len())].into()
    );

    let lines = shown(&world, &["tail", "--from-beginning"], &[]).expect(0).lines();
    assert_eq!(lines.len(), records.len());
    for line in lines {
        let is_later = line["schema_id"] == later_id;
        assert_eq!(line["value"]["public_id"], line["key"], "{line}");
        let expected = if is_later { json!("north") } else { Value::Null };
        assert_eq!(line["value"]["region"], expected, "{line}");
        assert_eq!(line["value"].get("region").is_some(), is_later, "{line}");
    }
    // The program that is run knows the older version: that is registered, and compatible with the later one.
    let found = finding(&shown(&world, &["schema", "check", "--json"], &[]).expect(0));
    assert_eq!(
        (&found["id"], &found["version"]),
        (&json!(first_id), &json!(1)),
        "{found}"
    );
}

/// Caught up, and each record once more by a schema that this program does not know.
fn world_with_a_later_version() -> World {
    let world = World::new(&[100]);
    let subject = format!("{}-value", world.topic("accounts"));
    world.command(&["setup"], &[]).expect_exit(0);
    world.catch_up();
    let region = json!({"name": "region", "type": ["null", "string"], "default": null, "doc": "Of a later version."});
    let later_id = registry::register(&subject, &with_field(region));
    let first = world.accounts();
    write_later_version(&world, &first.iter().collect::<Vec<_>>(), later_id);
    world
}

#[test]
fn a_start_that_needs_another_schema_waits_for_a_registry_that_does_not_give_it() {
    let world = world_with_a_later_version();
    let door = Door::refusing("GET /schemas/ids/", 503);
    let mut source = world.command(
        &["run", "--until-caught-up"],
        &[("D02__SCHEMA_REGISTRY__URL", &door.url())],
    );
    source.wait_for_line("starting, waiting for the schema registry: ");
    world.simulator.touch(0, 100, 1);
    assert!(!source.log().contains("claimed and restored"), "{}", source.log());
    door.admit();
    source.expect_exit(0);
    // Every change says what was before it: the values were read, by the schema that wrote them.
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    let changes = world.changes();
    let updates: Vec<&Record> = changes.iter().filter(|change| change.header("__op") == "u").collect();
    assert_eq!(updates.len(), world.accounts().len() - 200);
    assert!(updates.len() > 50 && updates.iter().all(|change| change.header("d02.changed") != "*"));
}

#[test]
fn a_start_that_waits_for_another_schema_ends_in_time_though_the_registry_is_silent() {
    let world = world_with_a_later_version();
    let door = Door::silent_at("GET /schemas/ids/");
    let mut source = world.command(&["run"], &[("D02__SCHEMA_REGISTRY__URL", &door.url())]);
    wait_for("it asks", || {
        let heard = door.heard();
        heard
            .iter()
            .any(|request| request.starts_with("GET /schemas/ids/"))
            .then_some(())
    });
    let begun = Instant::now();
    source.signal("TERM");
    source.expect_exit(0);
    assert!(begun.elapsed() < Duration::from_secs(9), "{}", source.log());
    let record = world.cursors().pop().expect("a cursor record").json();
    assert_eq!(record["instance"], Value::Null, "it is released");
}

/// Writes `records` again with the same key and headers, their values by the later schema.
fn write_later_version(world: &World, records: &[&Record], schema_id: u32) {
    let later = |record: &&Record| {
        let datum = &record.value.as_deref().expect("a value")[5..];
        // The union's second branch, and a string of five bytes.
        let value = [&[0][..], &schema_id.to_be_bytes(), datum, b"\x02\x0anorth"].concat();
        Record {
            value: Some(value),
            ..(*record).clone()
        }
    };
    let later: Vec<Record> = records.iter().map(later).collect();
    kafka::write_records(&world.servers, &world.topic("accounts"), &later);
}

#[test]
fn the_registry_is_asked_with_the_credentials_that_are_configured() {
    use std::io::{BufRead, BufReader, Write};
    // Stands in front of nothing: it only hears what a registry would be told, and answers with an id.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (heard, hears) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut lines = BufReader::new(stream.try_clone().expect("a second handle"))
                .lines()
                .map_while(Result::ok);
            let head: Vec<String> = lines.by_ref().take_while(|line| !line.is_empty()).collect();
            let authorization = head
                .iter()
                .find(|line| line.to_lowercase().starts_with("authorization:"))
                .cloned();
            let mut stream = stream;
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\nconnection: close\r\n\r\n{\"id\":7}";
            // Before the answer: once the command has ended, everything it said is here.
            if heard.send(authorization.unwrap_or_default()).is_err() || stream.write_all(answer.as_bytes()).is_err() {
                break;
            }
        }
    });
    let world = World::new(&[10]);
    let token = world.path("token");
    std::fs::write(&token, "t0ken\n").expect("written");
    let token = token.display().to_string();
    let basic = [
        ("D02__SCHEMA_REGISTRY__USERNAME", "user"),
        ("D02__SCHEMA_REGISTRY__PASSWORD", "12345"),
    ];
    let bearer = [("D02__SCHEMA_REGISTRY__TOKEN_FILE", token.as_str())];
    for (credentials, expected) in [
        (&basic[..], "authorization: Basic dXNlcjoxMjM0NQ=="),
        (&bearer[..], "authorization: Bearer t0ken"),
    ] {
        let environment: Vec<_> = credentials
            .iter()
            .copied()
            .chain([("D02__SCHEMA_REGISTRY__URL", url.as_str())])
            .collect();
        world.command(&["setup"], &environment).expect_exit(0);
        let found = hears.recv_timeout(PATIENCE).expect("a request");
        for found in [found].into_iter().chain(hears.try_iter()) {
            assert_eq!(found.replacen('A', "a", 1), expected);
        }
    }
}
