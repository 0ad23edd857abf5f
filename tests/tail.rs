//! Does `tail` show what stands in the topics, all of it, and nothing that was not committed?

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Schema, types};
use d02_source::simulator::RowKind;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::support::kafka::{self, Record};
use crate::support::shown::{Shown, bare, command, shown};
use crate::support::world::{World, options};
use crate::support::{PATIENCE, RUNTIME, registry, testbed, wait_for};

fn tail_with(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Shown {
    let args: Vec<&str> = ["tail"].into_iter().chain(args.iter().copied()).collect();
    shown(world, &args, environment)
}

fn tail(world: &World, args: &[&str]) -> Shown {
    tail_with(world, args, &[])
}

/// A `tail` under way; killed in the end, whatever happened.
struct Running {
    child: Child,
}

impl Running {
    fn start(world: &World, args: &[&str]) -> (Self, ChildStdout) {
        Self::start_with(world, args, &[])
    }

    fn start_with(world: &World, args: &[&str], environment: &[(&str, &str)]) -> (Self, ChildStdout) {
        let config = world.config();
        let args: Vec<&str> = ["--config", &config, "tail"]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        let mut command = command(&args, environment);
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let stdout = child.stdout.take().expect("piped");
        (Self { child }, stdout)
    }

    #[track_caller]
    fn expect_exit(&mut self, code: i32) -> String {
        let status = wait_for("tail ends", || self.child.try_wait().expect("a child"));
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().expect("piped");
        stderr.read_to_string(&mut log).expect("text");
        assert_eq!(status.code(), Some(code), "{log}");
        log
    }

    fn terminate(&self) {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status();
        assert!(killed.expect("kill runs").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(stdout: ChildStdout) -> Receiver<Value> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let parsed = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if sender.send(parsed).is_err() {
                break;
            }
        }
    });
    lines
}

fn place(line: &Value) -> (i64, i64) {
    let number = |name: &str| line[name].as_i64().expect("a number");
    (number("partition"), number("offset"))
}

/// What an independent reader sees, in the same order as what `tail --from-beginning` showed is put.
#[track_caller]
fn same_records(lines: &mut [Value], records: &mut [Record]) {
    lines.sort_by_key(place);
    records.sort_by_key(|record| (record.partition, record.offset));
    let places: Vec<_> = records
        .iter()
        .map(|record| (i64::from(record.partition), record.offset))
        .collect();
    assert_eq!(lines.iter().map(place).collect::<Vec<_>>(), places);
    for (line, record) in lines.iter().zip(records) {
        let headers: BTreeMap<String, String> =
            serde_json::from_value(line["headers"].clone()).expect("headers are texts");
        assert_eq!(headers, record.headers);
        let timestamp = line["timestamp"].as_str().expect("a timestamp");
        assert!(chrono::DateTime::parse_from_rfc3339(timestamp).is_ok(), "{timestamp}");
    }
}

/// Odd rows, bad ones and one that is too large even for a dead letter.
fn odd_world(rows: u32) -> World {
    let mut options = options(&[rows]);
    (
        options.lenders[0].odd_rate,
        options.lenders[0].bad_rate,
        options.lenders[0].oversized_rows,
    ) = (0.2, 0.1, 1);
    World::with(options)
}

#[test]
fn accounts_dead_letters_and_cursor_are_decoded_as_they_were_written() {
    let world = odd_world(600);
    world.catch_up();
    let rows = world.simulator.rows(0);

    let mut lines = tail(&world, &["--from-beginning"]).expect(0).lines();
    let mut records = world.accounts();
    same_records(&mut lines, &mut records);
    let lender = world.lender(0).public_id;
    let by_key: BTreeMap<&str, &Value> = lines
        .iter()
        .map(|line| (line["key"].as_str().expect("a key"), line))
        .collect();
    for (line, record) in lines.iter().zip(&records) {
        assert_eq!(line["key"], record.key());
        assert_eq!(line["topic"], world.topic("accounts"));
        assert_eq!(
            (&line["op"], &line["value"]["lender_public_id"]),
            (&"r".into(), &lender.as_str().into())
        );
        assert!(line["schema_id"].is_u64(), "{line}");
    }
    for row in rows.iter().filter(|row| row.kind == RowKind::Sound) {
        let row: serde_json::Map<String, Value> = serde_json::from_str(&row.json).expect("a row");
        let value = &by_key[row["public_id"].as_str().expect("an id")]["value"];
        for (name, expected) in &row {
            match name.as_str() {
                "created_at" | "updated_at" => {
                    let instant = |value: &Value| {
                        let text = value.as_str().expect("a time");
                        chrono::DateTime::parse_from_rfc3339(text)
                            .expect("RFC 3339")
                            .timestamp_millis()
                    };
                    assert_eq!(instant(&value[name]), instant(expected), "{name}");
                }
                _ => assert_eq!(&value[name], expected, "{name}"),
            }
        }
        let (day, parsed) = (row["due_date"].as_str().expect("a day"), &value["due_date_parsed"]);
        assert_eq!(*parsed, format!("{}-{}-{}", &day[6..], &day[3..5], &day[..2]));
    }

    let shown = tail(&world, &["--topic", "dead-letters", "--from-beginning"]).expect(0);
    let (mut lines, mut letters) = (shown.lines(), world.dead_letters());
    assert!(letters.len() > 10);
    same_records(&mut lines, &mut letters);
    #[derive(serde::Deserialize)]
    struct Raw {
        offset: i64,
        reason: String,
        value: Box<RawValue>,
    }
    let raw: Vec<Raw> = shown
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line"))
        .collect();
    for letter in &letters {
        let line = raw.iter().find(|line| line.offset == letter.offset).expect("the line");
        assert_eq!(line.reason, letter.header("__connect.errors.exception.message"));
        let bytes = String::from_utf8(letter.value.clone().expect("a value")).expect("text");
        if letter.headers.contains_key("d02.size") {
            assert_eq!((bytes.as_str(), line.value.get()), ("", "\"\""));
        } else {
            // Digit by digit, whatever the numbers, duplicates and white space.
            assert_eq!(line.value.get(), bytes.replace(['\n', '\r', '\t'], " "));
        }
    }

    let mut lines = tail(&world, &["--topic", "cursor", "--from-beginning"])
        .expect(0)
        .lines();
    let mut records = world.cursors();
    assert!(!records.is_empty());
    same_records(&mut lines, &mut records);
    for (line, record) in lines.iter().zip(&records) {
        assert_eq!(line["key"], serde_json::from_str::<Value>(record.key()).expect("JSON"));
        assert_eq!(line["value"], record.json());
        assert!(line["value"]["ranges"].is_string(), "{line}");
    }
}

#[test]
fn the_last_are_the_last_of_all_partitions_whatever_takes_offsets_between_them() {
    let world = World::new(&[40]);
    world.catch_up();
    // Each of these leaves more transaction markers than records.
    for round in 1..=6 {
        world.simulator.touch(0, 1, round);
        world.catch_up();
    }
    let times = |lines: &[Value]| -> Vec<String> {
        let time = |line: &Value| line["timestamp"].as_str().expect("a time").to_owned();
        lines.iter().map(time).collect()
    };
    let all = tail(&world, &["--from-beginning"]).expect(0).lines();
    assert_eq!(all.len(), world.accounts().len());
    let mut all_times = times(&all);
    all_times.sort();
    for (args, count) in [
        (&["-n", "3"][..], 3),
        (&[], 10),
        (&["--lines", "1000"], all.len()),
        (&["-n", "0"], 0),
    ] {
        let last = tail(&world, args).expect(0).lines();
        assert_eq!(times(&last), all_times[all.len() - count..], "{args:?}");
    }
    let ops: Vec<_> = tail(&world, &["-n", "6"])
        .lines()
        .iter()
        .map(|line| line["op"].clone())
        .collect();
    assert_eq!(ops, ["u"; 6]);

    let cursors = world.cursors();
    assert!(cursors.len() >= 14, "{}", cursors.len());
    let last = tail(&world, &["--topic", "cursor", "-n", "12"]).expect(0).lines();
    let offsets: Vec<_> = last.iter().map(|line| place(line).1).collect();
    let expected: Vec<_> = cursors[cursors.len() - 12..]
        .iter()
        .map(|record| record.offset)
        .collect();
    assert_eq!(offsets, expected);
}

#[test]
fn a_key_is_found_wherever_it_stands_and_exactly() {
    let world = World::new(&[200]);
    world.catch_up();
    let changed = world.simulator.touch(0, 1, 3);
    world.catch_up();
    let records = world.accounts();
    let changed: Vec<&Record> = records.iter().filter(|record| record.key() == changed[0]).collect();
    assert_eq!(changed.len(), 2);
    let key = changed[0].key();
    for args in [&["--key", key][..], &["--key", key, "--from-beginning"]] {
        let lines = tail(&world, args).expect(0).lines();
        let ops: Vec<_> = lines.iter().map(|line| line["op"].as_str().expect("an op")).collect();
        assert_eq!(ops, ["r", "u"], "{args:?}");
        assert!(lines.iter().all(|line| line["key"] == key));
    }
    assert_eq!(tail(&world, &["--key", key, "-n", "1"]).expect(0).lines()[0]["op"], "u");
    assert_eq!(tail(&world, &["--key", &key[1..]]).expect(0).out, "");
}

#[test]
fn follow_shows_a_live_change_and_ends_by_sigterm_with_0() {
    let world = World::new(&[20]);
    world.catch_up();
    let (mut tail, stdout) = Running::start(&world, &["--follow", "-n", "1"]);
    let lines = lines_of(stdout);
    let next = || lines.recv_timeout(PATIENCE).expect("a line");
    assert_eq!(next()["op"], "r");
    let mut source = world.run();
    let changed = world.simulator.touch(0, 1, 9);
    let line = next();
    assert_eq!((&line["op"], &line["key"]), (&"u".into(), &changed[0].as_str().into()));
    tail.terminate();
    tail.expect_exit(0);
    source.signal("TERM");
    source.expect_exit(0);
}

#[test]
fn what_was_aborted_is_not_shown_and_an_open_transaction_hides_what_is_behind_it_and_is_said() {
    let world = World::new(&[30]);
    world.catch_up();
    let topic = world.topic("accounts");
    let id = format!("{}.foreign", world.name);
    let producer = kafka::producer(&world.servers, &[("transactional.id", &id)]);
    producer.init_transactions(PATIENCE).expect("initialised");
    let send = |partition| {
        producer.begin_transaction().expect("begun");
        let record = BaseRecord::to(&topic)
            .key("aborted")
            .payload("rubbish")
            .partition(partition);
        producer.send(record).expect("sent");
        producer.flush(PATIENCE).expect("written");
    };
    for partition in 0..6 {
        send(partition);
        producer.abort_transaction(PATIENCE).expect("aborted");
    }
    let shown = tail(&world, &["--from-beginning"]).expect(0);
    assert_eq!(shown.lines().len(), 30);
    assert_eq!(shown.log, "", "nothing is hidden");
    assert_eq!(tail(&world, &["-n", "1000"]).expect(0).lines().len(), 30);

    send(2);
    kafka::write(&world.servers, &topic, 2, "behind", None);
    let begun = Instant::now();
    let shown = tail(&world, &["--from-beginning"]).expect(0);
    assert_eq!(shown.lines().len(), 30);
    assert!(
        shown.log.contains("an open transaction hides the end of the partition"),
        "{}",
        shown.log
    );
    assert!(shown.log.contains("partition=2"), "{}", shown.log);
    // The transaction itself stays open for a minute.
    assert!(begun.elapsed() < Duration::from_secs(40), "{:?}", begun.elapsed());

    let (mut following, stdout) = Running::start(&world, &["--follow", "-n", "1"]);
    let lines = lines_of(stdout);
    lines.recv_timeout(PATIENCE).expect("the last record before");
    producer.abort_transaction(PATIENCE).expect("aborted");
    let line = lines.recv_timeout(PATIENCE).expect("what stood behind");
    assert_eq!((&line["key"], &line["value"]), (&"behind".into(), &Value::Null));
    following.terminate();
    following.expect_exit(0);
}

#[test]
fn the_last_are_found_behind_any_number_of_records_that_were_aborted() {
    let world = World::new(&[30]);
    world.catch_up();
    let expected = tail(&world, &["-n", "3"]).expect(0).lines();
    let id = format!("{}.foreign", world.name);
    let producer = kafka::producer(&world.servers, &[("transactional.id", &id)]);
    producer.init_transactions(PATIENCE).expect("initialised");
    producer.begin_transaction().expect("begun");
    // More in each partition than is read at first: stretches before it are read, too.
    for place in 0..300 {
        let topic = world.topic("accounts");
        let record = BaseRecord::to(&topic).key("aborted").payload("rubbish");
        producer.send(record.partition(place % 6)).expect("sent");
    }
    producer.flush(PATIENCE).expect("written");
    producer.abort_transaction(PATIENCE).expect("aborted");
    assert_eq!(tail(&world, &["-n", "3"]).expect(0).lines(), expected);
}

#[test]
fn single_objects_need_no_registry_and_confluents_frame_does() {
    let world = World::new(&[50]);
    let away = ("D02__SCHEMA_REGISTRY__URL", "http://127.0.0.1:9");
    let environment = [("D02__AVRO__ENCODING", "single-object"), away];
    world
        .command(&["run", "--until-caught-up"], &environment)
        .expect_exit(0);
    let lines = tail_with(&world, &["--from-beginning"], &environment).expect(0).lines();
    assert_eq!(lines.len(), 50);
    let printed = bare(&["schema", "print", "--fingerprint"]).expect(0).out;
    for line in lines {
        assert_eq!(line["value"]["public_id"], line["key"]);
        let fingerprint = line["fingerprint"].as_str().and_then(|hex| hex.strip_prefix("0x"));
        assert!(
            printed.contains(fingerprint.expect("a fingerprint")),
            "{line} {printed}"
        );
    }

    let world = World::new(&[50]);
    world.catch_up();
    let shown = tail_with(&world, &[], &[away]).expect(1);
    assert_eq!(shown.out, "");
    assert!(shown.log.contains("error: fetching schema "), "{}", shown.log);
    assert!(shown.log.contains("→ check that the registry is up"), "{}", shown.log);
    // What holds no Avro does without.
    tail_with(&world, &["--topic", "cursor"], &[away]).expect(0);
    tail_with(&world, &["--topic", "dead-letters"], &[away]).expect(0);
}

#[test]
fn a_record_that_cannot_be_decoded_is_shown_in_its_place_with_the_reason_and_ends_with_1() {
    let world = World::new(&[30]);
    // One that lives: a start refuses what it did not write.
    let mut source = world.run();
    wait_for("the topic", || (world.simulator.counts().row_count > 0).then_some(()));
    let count_reaches = |count| wait_for("the accounts", || (world.accounts().len() == count).then_some(()));
    count_reaches(30);
    let topic = world.topic("accounts");
    let sound = world
        .accounts()
        .into_iter()
        .find(|record| record.partition == 3)
        .expect("one");
    let schema_id = u32::from_be_bytes(sound.value.expect("a value")[1..5].try_into().expect("four bytes"));
    let schema_id = String::from_utf8(schema_id.to_be_bytes().to_vec()).expect("a small id");
    for value in ["{\"a\":1}", "\0\x7f\x7f\x7f\x7fx", &format!("\0{schema_id}\x02a")] {
        kafka::write(&world.servers, &topic, 3, "foreign", Some(value));
    }
    world.simulator.touch(0, 30, 4);
    count_reaches(63);
    source.signal("TERM");
    source.expect_exit(0);
    let shown = tail(&world, &["--from-beginning"]).expect(1);
    let lines = shown.lines();
    assert_eq!(lines.len(), 63);
    assert!(
        shown.log.contains("error: 3 of 63 records cannot be decoded"),
        "{}",
        shown.log
    );
    let in_order: Vec<_> = lines.iter().filter(|line| line["partition"] == 3).collect();
    assert!(in_order.is_sorted_by_key(|line| place(line)));
    let bad: Vec<_> = in_order.iter().filter(|line| line["value"].is_null()).collect();
    let errors: Vec<_> = bad
        .iter()
        .map(|line| line["error"].as_str().expect("an error"))
        .collect();
    assert_eq!(
        errors,
        [
            "it begins with 0x7b2261223a317d, neither Confluent's wire format nor an Avro single object",
            "the schema registry has no schema 2139062143",
            "it ends before its schema does"
        ]
    );
    assert_eq!(
        (&bad[0]["key"], &bad[0]["raw"]),
        (&"foreign".into(), &"eyJhIjoxfQ==".into())
    );
    let table = tail(&world, &["--format", "table", "--key", "foreign"]).expect(1).out;
    assert_eq!(table.matches("cannot be decoded: it ").count(), 2, "{table}");
}

#[test]
fn a_table_has_a_line_a_record_and_nothing_that_a_terminal_obeys() {
    let world = odd_world(400);
    world.catch_up();
    let topic = world.topic("dead");
    kafka::write(&world.servers, &topic, 0, "\u{1b}[2J\u{9b}31m", Some("\u{1b}[31m"));
    for (topic, head, count) in [
        ("accounts", "BALANCE (MINOR UNITS)", world.accounts().len()),
        ("dead-letters", "REASON", world.dead_letters().len()),
        ("cursor", "CONNECTOR", world.cursors().len()),
    ] {
        for args in [&["--from-beginning"][..], &["-n", "100000"]] {
            let args: Vec<&str> = ["--format", "table", "--topic", topic]
                .into_iter()
                .chain(args.iter().copied())
                .collect();
            let table = tail(&world, &args).expect(0).out;
            assert!(table.lines().next().expect("a head").contains(head), "{table}");
            assert_eq!(table.lines().count(), count + 1);
            assert!(
                !table.chars().any(|char| char.is_control() && char != '\n'),
                "{table:?}"
            );
        }
    }
    let json = tail(&world, &["--topic", "dead-letters"]).expect(0).out;
    assert!(!json.chars().any(|char| char.is_control() && char != '\n'), "{json:?}");
    assert!(json.contains(r#""key":"\u001b[2J\u009b31m""#), "{json}");
}

#[test]
fn a_closed_pipe_is_a_quiet_end_with_0() {
    let world = World::new(&[2_000]);
    world.catch_up();
    for args in [
        &["--from-beginning"][..],
        &["--from-beginning", "--format", "table"],
        // Nothing more comes, and it ends nevertheless.
        &["--follow"],
    ] {
        let (mut running, stdout) = Running::start(&world, args);
        let mut line = String::new();
        let mut lines = BufReader::new(stdout);
        lines.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "{args:?}");
        drop(lines);
        assert_eq!(running.expect_exit(0), "", "{args:?}");
    }
}

#[test]
fn no_lender_is_needed_but_where_the_topics_name_asks_for_one() {
    let world = World::new(&[20, 20]);
    let patterns = [(
        "D02__KAFKA__TOPICS__ACCOUNTS",
        &*format!("{}.{{lender}}.accounts", world.name),
    )];
    world.command(&["run", "--until-caught-up"], &patterns).expect_exit(0);
    let both = tail_with(&world, &["-n", "100"], &patterns).expect(0).lines();
    assert_eq!(both.len(), 40);
    let of = |lender: &str| tail_with(&world, &["-n", "100", "--lender", lender], &patterns);
    assert_eq!(of("lender-2").expect(0).lines().len(), 20);
    let unknown = of("lender-3").expect(2).log;
    assert!(
        unknown.contains("no lender `lender-3` in the configuration"),
        "{unknown}"
    );

    let servers = format!("kafka.bootstrap_servers={}", world.servers);
    let registry = format!("schema_registry.url={}", testbed().schema_registry_url());
    let pattern = format!("kafka.topics.accounts={}", patterns[0].1);
    let set = ["--set", &servers, "--set", &registry, "--set", &pattern, "tail"];
    let without = bare(&set).expect(2).log;
    assert!(
        without.contains("no lender is configured\n  → say whose topic: --lender NAME"),
        "{without}"
    );
    let args: Vec<&str> = set.into_iter().chain(["--lender", "lender-1"]).collect();
    assert_eq!(bare(&args).expect(0).lines().len(), 10);
    let shared = tail(&world, &["--topic", "cursor", "--lender", "lender-1"])
        .expect(2)
        .log;
    assert!(shared.contains("--lender chooses nothing"), "{shared}");
}

#[test]
fn what_is_not_there_is_named_with_what_to_do() {
    let servers = format!("kafka.bootstrap_servers={}", testbed().bootstrap_servers());
    let missing = bare(&[
        "--set",
        &servers,
        "--set",
        "kafka.topics.accounts=no.such.topic",
        "tail",
    ])
    .expect(2);
    assert!(
        missing.log.contains("error: there is no topic no.such.topic"),
        "{}",
        missing.log
    );
    assert!(
        missing.log.contains("`d02-source setup` creates the topics"),
        "{}",
        missing.log
    );
    let away = bare(&["--set", "kafka.bootstrap_servers=127.0.0.1:9", "tail"]).expect(1);
    assert!(
        away.log.contains("error: no answer from 127.0.0.1:9 within 15s"),
        "{}",
        away.log
    );
    assert!(away.log.contains("→ check that the brokers are up"), "{}", away.log);
    let unknown = bare(&["tail", "--topic", "balances"]).expect(2);
    assert!(
        unknown
            .log
            .contains("possible values: accounts, changes, dead-letters, cursor"),
        "{}",
        unknown.log
    );
}

/// A topic of changes, written by hand.
struct Changes {
    world: World,
    topic: String,
    producer: BaseProducer,
    schema: Schema,
    schema_id: u32,
    record_count: Cell<i64>,
}

impl Changes {
    /// Seconds since the epoch; the first record is written then, each later one a minute after the one before.
    const BEGUN: i64 = 1_780_000_000;

    fn new() -> Self {
        let world = World::new(&[1]);
        let topic = world.topic("changes");
        let admin: AdminClient<_> = ClientConfig::new()
            .set("bootstrap.servers", &world.servers)
            .create()
            .expect("an admin client");
        // Records of another day must not be old enough to go.
        let new = NewTopic::new(&topic, 2, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        RUNTIME
            .block_on(async { admin.create_topics([&new], &AdminOptions::new()).await })
            .expect("an answer");
        let schema = include_str!("../avro/account_change.avsc");
        Self {
            producer: kafka::producer(&world.servers, &[]),
            schema: Schema::parse_str(schema).expect("a schema"),
            schema_id: registry::register(&format!("{topic}-value"), schema),
            record_count: Cell::new(0),
            world,
            topic,
        }
    }

    fn send(&self, partition: i32, key: &str, headers: &[(&str, &str)], value: &[u8]) {
        let count = self.record_count.replace(self.record_count.get() + 1);
        let mut all = OwnedHeaders::new();
        for (key, value) in headers {
            all = all.insert(Header {
                key,
                value: Some(*value),
            });
        }
        let record = BaseRecord::to(&self.topic)
            .partition(partition)
            .key(key)
            .headers(all)
            .timestamp((Self::BEGUN + 60 * count) * 1000)
            .payload(value);
        self.producer.send(record).expect("sent");
        self.producer.flush(PATIENCE).expect("written");
    }

    fn datum(&self, change: &Value) -> Vec<u8> {
        let value = types::Value::try_from(change.clone()).and_then(|value| value.resolve(&self.schema));
        let writer = GenericDatumWriter::builder(&self.schema).build().expect("a writer");
        writer.write_value_to_vec(value.expect("a change")).expect("encodable")
    }

    /// Writes a change as the source does.
    fn write(&self, partition: i32, key: &str, op: &str, changed: &[&str], before: Value, after: Value) {
        let updated_at = (Self::BEGUN + 60 * self.record_count.get() - 5) * 1000;
        let after = match after {
            Value::Object(mut fields) => {
                fields.insert("public_id".into(), key.into());
                fields.insert("lender_public_id".into(), "l".into());
                fields.insert("updated_at".into(), updated_at.into());
                Value::Object(fields)
            }
            other => other,
        };
        let change = json!({
            "public_id": key, "lender_public_id": "l", "op": op, "updated_at": updated_at,
            "changed": changed, "before": before, "after": after,
        });
        let frame = [&[0][..], &self.schema_id.to_be_bytes()].concat();
        let named = changed.join(",");
        let mut headers = vec![("__op", op)];
        headers.extend((!changed.is_empty()).then_some(("d02.changed", &*named)));
        self.send(partition, key, &headers, &[frame, self.datum(&change)].concat());
    }

    fn tail(&self, args: &[&str]) -> Shown {
        let args: Vec<&str> = ["--topic", "changes"].into_iter().chain(args.iter().copied()).collect();
        tail_with(&self.world, &args, &[("D02__KAFKA__TOPICS__CHANGES", &self.topic)])
    }

    /// Three accounts, one of them deleted, and a record that is no change.
    fn of_some_accounts() -> Self {
        let changes = Self::new();
        let account = |balance: i64, due_date: &str, due_date_parsed: i32| {
            json!({
                "balance_amount": balance, "currency": "SAR", "status": "IN_COLLECTION",
                "submitted_date": "10/02/2026", "submitted_date_parsed": 20_494, "delinquent_days_on_submission": 30,
                "due_date": due_date, "due_date_parsed": due_date_parsed,
            })
        };
        let tracked = |account: &Value| {
            let mut tracked = account.clone();
            let fields = tracked.as_object_mut().expect("an object");
            fields.retain(|name, _| !name.starts_with("submitted_date"));
            tracked
        };
        let first = account(120_000, "01/02/2026", 20_485);
        let paid = account(90_000, "01/02/2026", 20_485);
        let moved = account(80_000, "22/02/2026", 20_506);
        changes.write(0, A, "r", &[], Value::Null, first.clone());
        changes.write(1, "other", "r", &[], Value::Null, account(5, "01/07/2026", 20_635));
        changes.write(0, A, "u", &["balance_amount"], tracked(&first), paid.clone());
        changes.send(1, "foreign", &[("d02.changed", r#"["due_date"]"#)], b"{}");
        changes.write(
            0,
            A,
            "u",
            &["balance_amount", "due_date", "*"],
            tracked(&paid),
            moved.clone(),
        );
        changes.write(
            1,
            "other",
            "d",
            &[],
            tracked(&account(5, "01/07/2026", 20_635)),
            Value::Null,
        );
        changes.write(0, A, "u", &["*"], tracked(&moved), moved.clone());
        for count in 0..12 {
            changes.write(
                1,
                "third",
                "u",
                &["status"],
                tracked(&account(count, "", 0)),
                account(count, "", 0),
            );
        }
        changes
    }
}

/// An account whose changes are looked at.
const A: &str = "65f0c0ffee65f0c0ffee65f0";

#[test]
fn changes_are_decoded_and_chosen_by_what_changed() {
    let changes = Changes::of_some_accounts();
    let lines = changes.tail(&["--from-beginning"]).expect(1).lines();
    assert_eq!(lines.len(), 19);
    let mut of_a: Vec<_> = lines.iter().filter(|line| line["key"] == A).collect();
    of_a.sort_by_key(|line| place(line));
    let [_, paid, ..] = of_a[..] else { panic!("{of_a:?}") };
    assert_eq!(
        (&paid["op"], &paid["schema_id"]),
        (&"u".into(), &changes.schema_id.into())
    );
    assert_eq!(paid["value"]["changed"], json!(["balance_amount"]));
    let balances = ["before", "after"].map(|version| &paid["value"][version]["balance_amount"]);
    assert_eq!(balances, [120_000, 90_000]);
    let deleted = lines.iter().find(|line| line["op"] == "d").expect("a deletion");
    assert_eq!(
        (&deleted["key"], &deleted["value"]["after"]),
        (&"other".into(), &Value::Null)
    );
    let foreign = lines.iter().find(|line| line["key"] == "foreign").expect("one");
    assert!(
        foreign["error"]
            .as_str()
            .is_some_and(|error| error.starts_with("it begins with 0x7b7d"))
    );

    let places =
        |args: &[&str], code| -> Vec<_> { changes.tail(args).expect(code).lines().iter().map(place).collect() };
    // The last ten, by their times; what is wanted may stand anywhere before them.
    assert_eq!(places(&[], 0), (5..15).map(|offset| (1, offset)).collect::<Vec<_>>());
    assert_eq!(places(&["--changed", "balance_amount"], 0), [(0, 1), (0, 2)]);
    assert_eq!(
        places(&["--changed", "balance_amount", "--changed", "*"], 0),
        [(0, 1), (0, 2), (0, 3)]
    );
    assert_eq!(places(&["--changed", "*", "-n", "1"], 0), [(0, 3)]);
    assert_eq!(places(&["--changed", "status", "-n", "2"], 0), [(1, 13), (1, 14)]);
    assert_eq!(places(&["--changed", "due_date"], 1), [(1, 1), (0, 2)]);
    let mut all = places(&["--changed", "due_date", "--from-beginning"], 1);
    all.sort_unstable();
    assert_eq!(all, [(0, 2), (1, 1)]);
    assert_eq!(places(&["--changed", "due_date", "--key", A], 0), [(0, 2)]);
    assert_eq!(places(&["--changed", "currency"], 0), []);
    // All of a key, more than ten.
    assert_eq!(places(&["--key", "third"], 0).len(), 12);
    assert_eq!(places(&["--key", "third", "-n", "2"], 0), [(1, 13), (1, 14)]);
}

#[test]
fn follow_shows_a_change_that_is_wanted_and_no_other() {
    let changes = Changes::of_some_accounts();
    let args = [
        "--topic",
        "changes",
        "--changed",
        "due_date",
        "--key",
        A,
        "-n",
        "1",
        "--follow",
    ];
    let (mut following, stdout) = Running::start_with(
        &changes.world,
        &args,
        &[("D02__KAFKA__TOPICS__CHANGES", &changes.topic)],
    );
    let lines = lines_of(stdout);
    let next = || place(&lines.recv_timeout(PATIENCE).expect("a line"));
    assert_eq!(next(), (0, 2));
    let version = json!({"due_date": "22/02/2026"});
    changes.write(0, A, "u", &["status"], version.clone(), version.clone());
    changes.write(0, A, "u", &["due_date"], version.clone(), version);
    assert_eq!(next(), (0, 5));
    following.terminate();
    following.expect_exit(0);
}

#[test]
fn the_trail_of_an_account_is_a_table_and_its_days_past_due_as_of_today() {
    let changes = Changes::of_some_accounts();
    let golden = include_str!("golden/tail-trail.txt");
    for args in [&[][..], &["--from-beginning"]] {
        let shown = changes
            .tail(&[&["--format", "table", "--key", A], args].concat())
            .expect(0)
            .out;
        let (table, explained) = shown.split_once("\n\n").expect("a table and what is below it");
        assert_eq!(table, golden.trim_end(), "{args:?}");
        let days_since = |from: &str, today: &str| {
            let [from, today] = [from, today].map(|day| day.parse::<chrono::NaiveDate>().expect("a day"));
            (today - from).num_days()
        };
        let begin = format!("Days past due (DPD) of {A} today, ");
        let today = explained
            .strip_prefix(&begin)
            .and_then(|rest| rest.split_once(' '))
            .expect("today")
            .0;
        let now = d02_source::clock::now().date_naive().to_string();
        assert!((0..=1).contains(&days_since(today, &now)), "{today}");
        let (submitted, due) = (days_since("2026-02-10", today), days_since("2026-02-22", today));
        let expected = [
            format!("{begin}{today} (UTC), by its last record, 0:3"),
            format!(
                "  DPD (SUBMISSION)  {}: delinquent_days_on_submission 30 + {submitted} days since submitted_date 2026-02-10",
                30 + submitted
            ),
            format!("  DPD (DUE DATE)    {due}: days since due_date 2026-02-22"),
        ];
        assert_eq!(explained.lines().take(3).collect::<Vec<_>>(), expected);
    }
    // The last record of the account explains, also where it is not shown.
    let shown = changes
        .tail(&["--format", "table", "--key", A, "--changed", "due_date"])
        .expect(0)
        .out;
    assert_eq!(
        shown.lines().filter(|line| line.starts_with("0:")).count(),
        1,
        "{shown}"
    );
    assert!(shown.contains("by its last record, 0:3"), "{shown}");

    let deleted = changes.tail(&["--format", "table", "--key", "other"]).expect(0).out;
    assert_eq!(
        deleted.matches("cannot be computed: the account is deleted").count(),
        2,
        "{deleted}"
    );
    let foreign = changes.tail(&["--format", "table", "--key", "foreign"]).expect(1).out;
    assert!(
        foreign.contains("  cannot be decoded: it begins with 0x7b7d"),
        "{foreign}"
    );
    assert_eq!(foreign.matches("cannot be computed: ").count(), 2, "{foreign}");
    // One account only is explained.
    let table = changes.tail(&["--format", "table"]).expect(0).out;
    assert!(!table.contains("Days past due"), "{table}");
    let nobody = changes.tail(&["--format", "table", "--key", "nobody"]).expect(0).out;
    assert_eq!(nobody.lines().count(), 1, "{nobody}");

    // By a clock that is behind: written last, and so the last.
    changes.record_count.set(0);
    changes.write(0, A, "d", &[], json!({}), Value::Null);
    let shown = changes.tail(&["--format", "table", "--key", A]).expect(0).out;
    let places: Vec<_> = shown
        .lines()
        .filter_map(|line| line.strip_prefix("0:"))
        .map(|line| &line[..1])
        .collect();
    assert_eq!(places, ["0", "1", "2", "3", "4"], "{shown}");
    assert!(shown.contains("by its last record, 0:4"), "{shown}");
}

#[test]
fn single_objects_of_changes_need_no_registry() {
    let changes = Changes::new();
    let version = json!({
        "public_id": "a", "lender_public_id": "l", "op": "d", "updated_at": 0, "changed": [],
    });
    // By an implementation that is not the program's: the CRC-64-AVRO of the schema's Parsing Canonical Form.
    let frame = [0xC3, 0x01, 0xfa, 0xfd, 0x84, 0x2f, 0x8d, 0x75, 0x91, 0x72];
    changes.send(
        0,
        "a",
        &[("__op", "d")],
        &[&frame[..], &changes.datum(&version)].concat(),
    );
    let environment = [
        ("D02__KAFKA__TOPICS__CHANGES", changes.topic.as_str()),
        ("D02__SCHEMA_REGISTRY__URL", "http://127.0.0.1:9"),
    ];
    let lines = tail_with(&changes.world, &["--topic", "changes"], &environment)
        .expect(0)
        .lines();
    assert_eq!(
        (&lines[0]["fingerprint"], &lines[0]["value"]["op"]),
        (&"0xfafd842f8d759172".into(), &"d".into())
    );
}

#[test]
fn what_cannot_be_asked_of_changes_is_wrong_usage() {
    let off = bare(&["--set", "kafka.topics.changes=", "tail", "--topic", "changes"])
        .expect(2)
        .log;
    assert!(
        off.contains("`changes` is turned off: kafka.topics.changes is \"\""),
        "{off}"
    );
    let elsewhere = bare(&["tail", "--changed", "due_date"]).expect(2).log;
    assert!(elsewhere.contains("→ add --topic changes"), "{elsewhere}");
    let unknown = bare(&["tail", "--topic", "changes", "--changed", "updated_at"])
        .expect(2)
        .log;
    assert!(
        unknown.contains("possible values: total_amount, balance_amount, "),
        "{unknown}"
    );
    assert!(
        unknown.contains("due_date, status, delinquent_days_on_submission, *]"),
        "{unknown}"
    );
}

#[test]
fn schemas_are_printed_byte_for_byte_without_any_configuration() {
    let file = include_str!("../avro/account.avsc");
    for args in [&["schema", "print"][..], &["schema", "print", "account"]] {
        assert_eq!(
            bare(&[&["--config", "/no/such/file"], args].concat()).expect(0).out,
            file
        );
    }
    let fingerprints = bare(&["schema", "print", "--fingerprint"]).expect(0).out;
    let golden = include_str!("golden/schema-fingerprint.txt");
    assert_eq!(fingerprints, golden);
}

#[test]
fn csv_is_every_account_as_it_is_and_one_that_cannot_be_written_is_an_error() {
    let world = World::new(&[300]);
    world.catch_up();
    world.simulator.touch(0, 150, 1);
    let odd = world.simulator.rows(0).remove(7);
    let mut row: Value = serde_json::from_str(&odd.json).expect("JSON");
    let (at, text) = (world.simulator.now_ms(), "=1+1, \"a\"\n;b");
    // More than a floating-point number holds.
    row["balance_amount"] = 9_007_199_254_740_993_i64.into();
    row["merchant_name"] = text.into();
    row["updated_at"] = d02_source::simulator::Timestamp(at).to_string().into();
    world.simulator.upsert_json(0, at, &odd.id, &row.to_string());
    world.catch_up();
    let gone = world.simulator.delete(0, 5, 2);
    shown(&world, &["reconcile", "--max-deletes", "0.05"], &[]).expect(0);

    let portfolio = |output: &str| -> BTreeMap<String, BTreeMap<String, String>> {
        let mut rows = csv::Reader::from_reader(output.as_bytes());
        let accounts = rows.deserialize().map(|row| row.expect("a row under the head"));
        accounts
            .map(|account: BTreeMap<String, String>| (account["public_id"].clone(), account))
            .collect()
    };
    let told = tail(&world, &["--format", "csv"]).expect(0);
    let accounts = portfolio(&told.out);
    let rows = world.simulator.rows(0);
    assert_eq!(
        (accounts.len(), told.out.lines().count()),
        (rows.len(), rows.len() + 2),
        "one has two lines"
    );
    assert!(gone.iter().all(|id| !accounts.contains_key(id)));
    for row in &rows {
        let (account, json): (_, Value) = (&accounts[&row.id], serde_json::from_str(&row.json).expect("JSON"));
        for name in [
            "balance_amount",
            "paid_amount",
            "currency",
            "due_date",
            "account_reference_id",
        ] {
            let expected = match &json[name] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(account[name], expected, "{name} of {}", row.id);
        }
    }
    assert_eq!(accounts[&odd.id]["balance_amount"], "9007199254740993");
    assert_eq!(accounts[&odd.id]["merchant_name"], format!("'{text}"));
    assert_eq!(
        accounts[&odd.id]["updated_at"],
        d02_source::simulator::Timestamp(at).to_string()
    );

    let one = portfolio(&tail(&world, &["--format", "csv", "--key", &odd.id]).expect(0).out);
    assert_eq!(one.keys().collect::<Vec<_>>(), [&odd.id]);
    for wrong in [
        &["--topic", "changes"][..],
        &["-n", "3"],
        &["--follow"],
        &["--from-beginning"],
    ] {
        let told = tail(&world, &[&["--format", "csv"], wrong].concat()).expect(2);
        assert!(told.log.contains("C21"), "{}", told.log);
    }

    let partition = world
        .accounts()
        .iter()
        .find(|record| record.key() == odd.id)
        .expect("it")
        .partition;
    kafka::write(&world.servers, &world.topic("accounts"), partition, &odd.id, Some("{}"));
    let told = tail(&world, &["--format", "csv"]).expect(1);
    assert_eq!(portfolio(&told.out).len(), rows.len() - 1);
    let count = format!("1 of {} accounts are left out", rows.len());
    assert!(told.log.contains(&count), "{}", told.log);
}
