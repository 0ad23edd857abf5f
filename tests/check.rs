//! Does `check` say what is so and what to do about it, end whatever hangs, and leave everything as it was?

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use d02_source::simulator::{Effect, Fault, Options};
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use reqwest::StatusCode;
use serde_json::Value;

use crate::support::kafka;
use crate::support::registry;
use crate::support::shown::{Shown, bare, shown};
use crate::support::world::{World, options};
use crate::support::{RUNTIME, judge, wait_for};

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

/// A schema that has nothing in common with an account's.
const OTHER: &str = r#"{"type":"record","name":"Other","fields":[{"name":"a","type":"int"}]}"#;

fn check(world: &World, environment: &[(&str, &str)]) -> Shown {
    shown(world, &["check"], environment)
}

/// `check --set …`.
fn check_with(world: &World, set: &[&str]) -> Shown {
    let set = set.iter().flat_map(|value| ["--set", *value]);
    shown(world, &set.chain(["check"]).collect::<Vec<_>>(), &[])
}

/// What is another one at each run, put by a name.
fn masked(world: &World, text: &str) -> String {
    let lender = world.lender(0);
    let mut masked = String::new();
    for line in text
        .replace(&world.name, "t")
        .replace(&lender.public_id, "LENDER")
        .lines()
    {
        let mut line = line.to_owned();
        for before in [" id ", "schema "] {
            if let Some((start, rest)) = line.split_once(before)
                && rest.starts_with(|char: char| char.is_ascii_digit())
            {
                let rest = rest.trim_start_matches(|char: char| char.is_ascii_digit());
                line = format!("{start}{before}N{rest}");
            }
        }
        masked.push_str(&line);
        masked.push('\n');
    }
    masked
}

#[track_caller]
fn contains(shown: &Shown, texts: &[&str]) {
    for text in texts {
        assert!(shown.out.contains(text), "no `{text}` in:\n{}", shown.out);
    }
}

/// What a look must leave as it was.
#[derive(Debug, PartialEq)]
struct State {
    topics: Vec<String>,
    /// Partition, low and high watermark.
    ends: Vec<(i32, i64, i64)>,
    schema_versions: Vec<i64>,
}

fn state(world: &World) -> State {
    let mut topics = kafka::topics(&world.servers);
    topics.retain(|topic| topic.starts_with(&format!("{}.", world.name)));
    topics.sort();
    let ends = topics.iter().flat_map(|topic| kafka::ends(&world.servers, topic));
    State {
        ends: ends.collect(),
        topics,
        schema_versions: registry::versions(&format!("{}-value", world.topic("accounts"))),
    }
}

/// A port that takes connections and never answers.
fn silent() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

fn create(world: &World, kind: &str, partitions: i32, settings: &[(&str, &str)]) {
    let topic = world.topic(kind);
    let new = NewTopic::new(&topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let created = async {
        kafka::admin(&world.servers)
            .create_topics([&new], &AdminOptions::new())
            .await
    };
    RUNTIME.block_on(created).expect("an answer");
    // The controller answers before a broker that is busy knows of it.
    wait_for("the topic", || {
        kafka::topics(&world.servers).contains(&topic).then_some(())
    });
}

#[test]
fn before_the_first_run_everything_is_looked_at_and_nothing_is_made() {
    let world = World::new(&[700]);
    let found = check(&world, &[]).expect(0);
    assert_eq!(masked(&world, &found.out), include_str!("golden/check-before.txt"));
    let State {
        topics,
        ends,
        schema_versions,
    } = state(&world);
    assert_eq!((topics, ends, schema_versions), (vec![], vec![], vec![]));
    let requests: Vec<String> = world
        .simulator
        .requests()
        .into_iter()
        .map(|request| request.method)
        .collect();
    assert_eq!(
        requests,
        ["POST", "GET", "GET", "GET"],
        "a login, a page twice, and the newest rows"
    );
    world.catch_up();
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn after_a_run_all_is_well_and_nothing_is_written() {
    let world = World::new(&[700]);
    world.command(&["setup"], &[]).expect_exit(0);
    world.catch_up();
    // The markers of the last transaction are part of the state.
    wait_for("the end of the last transaction", || {
        world.open_topics().is_empty().then_some(())
    });
    let before = state(&world);
    let found = check(&world, &[]).expect(0);
    assert_eq!(masked(&world, &found.out), include_str!("golden/check-after.txt"));
    let json = shown(&world, &["check", "--json"], &[]).expect(0);
    assert_eq!(state(&world), before);
    let json: Value = serde_json::from_str(&json.out).expect("one JSON document");
    assert_eq!(json["overall"]["status"], "warning");
    assert_eq!(json["overall"]["exit_code"], 0);
    assert_eq!(
        (&json["overall"]["error_count"], &json["overall"]["warning_count"]),
        (&0.into(), &1.into())
    );
    let findings = json["findings"].as_array().expect("a list");
    let areas = ["configuration", "upstream", "kafka", "registry"];
    for finding in findings {
        assert!(areas.iter().any(|area| finding["area"] == *area), "{finding}");
        assert_eq!(
            finding["area"] == "upstream",
            finding["lender"] == "lender-1",
            "{finding}"
        );
        let is_ok = finding["status"] == "ok";
        assert_eq!(
            (finding["wanted"].is_null(), finding["advice"].is_null()),
            (is_ok, is_ok),
            "{finding}"
        );
        assert!(finding["what"].is_string() && finding["found"].is_string(), "{finding}");
    }
    let warning = findings
        .iter()
        .find(|finding| finding["status"] == "warning")
        .expect("a warning");
    assert_eq!(warning["what"], "replication factor");
}

#[test]
fn a_running_source_is_not_disturbed() {
    let world = World::new(&[500]);
    let mut source = world.run();
    wait_for("the snapshot", || (world.accounts_so_far() == 500).then_some(()));
    let claim = world.cursors().pop().expect("a cursor record").json()["instance"].clone();
    let found = check(&world, &[]).expect(0);
    contains(
        &found,
        &["✓ kafka, cursor record of lender-1: an instance lives; another `run` would share the lenders out with it"],
    );
    world.simulator.touch(0, 20, 7);
    wait_for("the changes", || (world.accounts_so_far() == 520).then_some(()));
    assert_eq!(
        world.cursors().pop().expect("a cursor record").json()["instance"],
        claim
    );
    source.signal("TERM");
    source.expect_exit(0);
    for word in ["reopening", "took over", "fenced"] {
        assert!(!source.log().contains(word), "{}", source.log());
    }
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn who_is_away_is_named_and_the_others_are_looked_at_all_the_same() {
    let world = World::new(&[50]);
    let soon = ("D02_TEST_CHECK_LIMIT", "8000");
    let upstream = check(&world, &[soon, ("D02__UPSTREAM__BASE_URL", "http://127.0.0.1:9")]).expect(1);
    contains(
        &upstream,
        &[
            "✗ upstream lender-1, connection: ",
            "\n    → check upstream.base_url",
            "✓ kafka, transaction: ",
            "✓ registry, subject ",
        ],
    );
    let broker = check(&world, &[soon, ("D02__KAFKA__BOOTSTRAP_SERVERS", NOBODY)]).expect(1);
    contains(
        &broker,
        &[
            "✗ kafka, brokers: no answer from 127.0.0.1:9 within 4s",
            "Connection refused",
            "✓ upstream lender-1, page: 50 rows",
            "✓ registry, subject ",
        ],
    );
    let registry = check(&world, &[soon, ("D02__SCHEMA_REGISTRY__URL", "http://127.0.0.1:9")]).expect(1);
    contains(
        &registry,
        &[
            "gave no answer",
            "\n    → check that the registry is up",
            "✓ upstream lender-1, page: 50 rows",
            "✓ kafka, transaction: ",
        ],
    );
    // Whoever knows names may take his time to say that there is no such one.
    let name = check(&world, &[("D02__UPSTREAM__BASE_URL", "https://nobody.invalid")]).expect(1);
    contains(&name, &["✗ upstream lender-1, name: nobody.invalid does not resolve"]);
}

#[test]
fn whoever_takes_a_connection_and_never_answers_is_given_up() {
    let world = World::new(&[50]);
    let (upstream, broker, schemas) = (silent(), silent(), silent());
    let (upstream, schemas) = (format!("http://{}", upstream.1), format!("http://{}", schemas.1));
    let begun = Instant::now();
    let found = check(
        &world,
        &[
            ("D02_TEST_CHECK_LIMIT", "5000"),
            ("D02__UPSTREAM__BASE_URL", &upstream),
            ("D02__KAFKA__BOOTSTRAP_SERVERS", &broker.1),
            ("D02__SCHEMA_REGISTRY__URL", &schemas),
        ],
    )
    .expect(1);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    contains(
        &found,
        &[
            "✗ upstream lender-1, login: ",
            "✗ kafka, brokers: no ",
            "✗ registry, subjects: no end within 5s",
        ],
    );
    world
        .simulator
        .push_fault(Fault::export(Effect::Hang(Duration::from_secs(60))));
    let page = check(&world, &[("D02_TEST_CHECK_LIMIT", "5000")]).expect(1);
    contains(&page, &["✓ upstream lender-1, login: ", "✗ upstream lender-1, page: "]);
}

#[test]
fn what_upstream_refuses_is_exit_4() {
    let world = World::new(&[50]);
    let refused = check(&world, &[("D02__LENDERS__LENDER_1__PASSWORD", "wrong-hunter2")]).expect(4);
    contains(
        &refused,
        &[
            "✗ upstream lender-1, login: logging in: upstream refused the credentials of exports@lender-1.example: 401: Invalid \
             email or password",
            "; wanted: credentials that upstream accepts\n    → check email and password of the lender",
        ],
    );
    let other = check(&world, &[("D02__LENDERS__LENDER_1__PUBLIC_ID", "5f0c")]).expect(4);
    let public_id = world.lender(0).public_id;
    let said = format!(
        "✗ upstream lender-1, lender: the login answered lender {public_id}, but lenders.lender-1.public_id is 5f0c; wanted: the \
         same lender in login, token and public_id\n    → correct lenders.*.public_id"
    );
    contains(&other, &[&said]);
    let same = check(&world, &[("D02__LENDERS__LENDER_1__PUBLIC_ID", &public_id)]).expect(0);
    contains(
        &same,
        &["✓ upstream lender-1, lender: login, token and lenders.lender-1.public_id say "],
    );
    world
        .simulator
        .push_fault(Fault::export(Effect::status(StatusCode::NOT_FOUND)));
    let missing = check(&world, &[]).expect(4);
    contains(
        &missing,
        &["✗ upstream lender-1, page: ", "answered 404", "ask the vendor"],
    );
}

#[test]
fn a_member_that_differs_between_two_readings_of_a_page_is_a_warning_that_names_it() {
    let world = World::new(&[50]);
    world.simulator.set_volatile_members(&["exported_at"]);
    let found = check(&world, &[]).expect(0);
    contains(
        &found,
        &[
            "! upstream lender-1, second reading: content differs under the same `updated_at` in 50 of 50 rows: exported_at 50; wanted: \
             the same content at each reading\n    → ask the vendor; ",
            "name it in content.ignore",
        ],
    );
    for set in ["content.ignore=exported_at", "avro.extra=none"] {
        contains(
            &check_with(&world, &[set]).expect(0),
            &["✓ upstream lender-1, second reading: content is the same where `updated_at` is"],
        );
    }
}

/// An upstream that lets everybody in as `lender`, with a token that claims `claims`; gives its address.
fn lets_in(lender: &str, claims: &Value) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let token = format!(
        "{}.{}.s",
        BASE64_URL_SAFE_NO_PAD.encode("{}"),
        BASE64_URL_SAFE_NO_PAD.encode(claims.to_string())
    );
    let body = serde_json::json!({ "lenderPublicId": lender, "token": token, "refreshToken": "r" }).to_string();
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            // The request is small, and what is in it does not matter.
            let _ = client.read(&mut [0; 8_192]);
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            // Whoever does not wait for it does not need it.
            let _ = client.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_token_of_another_lender_is_exit_4_and_one_that_does_not_say_is_a_warning() {
    let world = World::new(&[10]);
    let exp = 4_000_000_000_u64;
    let other = lets_in("5f0c", &serde_json::json!({ "lenderId": "7a1d", "exp": exp }));
    let found = check(&world, &[("D02__UPSTREAM__BASE_URL", &other)]).expect(4);
    contains(
        &found,
        &[
            "✓ upstream lender-1, login: ",
            "✗ upstream lender-1, lender: the login answered lender 5f0c, its token is for lender 7a1d; wanted: one lender in \
             both\n    → check lenders.*.subdomain; if it is right, ask the vendor",
        ],
    );
    assert!(!found.out.contains("upstream lender-1, page"), "{}", found.out);
    let silent = lets_in("5f0c", &serde_json::json!({ "exp": exp }));
    let found = check(&world, &[("D02__UPSTREAM__BASE_URL", &silent)]).expect(1);
    contains(
        &found,
        &[
            "! upstream lender-1, lender: the login says 5f0c, its token does not say whose it is; wanted: a `lenderId` in the token",
            "✗ upstream lender-1, page: ",
        ],
    );
}

#[test]
fn a_page_that_run_would_discard_is_an_error() {
    let world = World::new(&[700]);
    for (effect, line) in [
        (Effect::BoundsNotEchoed, "✗ upstream lender-1, bounds: since "),
        (Effect::PageOutOfOrder, "✗ upstream lender-1, order: "),
        (Effect::CutOffJson, "✗ upstream lender-1, page: reading a page of D02: "),
        (
            Effect::status(StatusCode::INTERNAL_SERVER_ERROR),
            "✗ upstream lender-1, page: reading a page of D02: upstream answered 500",
        ),
    ] {
        world.simulator.push_fault(Fault::export(effect));
        contains(&check(&world, &[]).expect(1), &[line]);
    }
}

#[test]
fn what_is_odd_in_a_page_is_counted_and_no_value_is_said() {
    let mut options = options(&[2_000]);
    let lender = &mut options.lenders[0];
    (lender.odd_rate, lender.bad_rate) = (0.3, 0.05);
    let world = World::with(options);
    world.simulator.set_clock_skew(-90_000);
    let found = check(&world, &[]).expect(0);
    contains(
        &found,
        &[
            "✓ upstream lender-1, page: 1000 rows, more follow",
            "✓ upstream lender-1, order: ",
            "of 1000 rows share their `updated_at` with another one, up to ",
            "! upstream lender-1, amounts: no exact whole number of minor units, which makes dead letters: ",
            "! upstream lender-1, rows: rows that cannot be accounts, which makes dead letters: ",
            "! upstream lender-1, dates: no day in DD/MM/YYYY, kept as text: ",
            "! upstream lender-1, codes: numbers instead of labels, kept as they are: ",
            "! upstream lender-1, members: not known of D02",
            "! upstream lender-1, clock: upstream's is ",
            " s behind this machine's; wanted: no more than 30 s apart",
        ],
    );
    let everything = found.out + &found.log;
    for row in world.simulator.rows(0) {
        assert!(!everything.contains(&row.id), "{everything}");
        let Ok(Value::Object(members)) = serde_json::from_str(&row.json) else {
            continue;
        };
        for name in ["account_reference_id", "customer_reference_id", "reference_id"] {
            if let Some(text) = members.get(name).and_then(Value::as_str) {
                assert!(!everything.contains(text), "{name}: {everything}");
            }
        }
    }
    // What is only odd otherwise stops the lender at its first dead letter.
    let strict = check(&world, &[("D02__ERRORS__TOLERANCE", "none")]).expect(2);
    contains(
        &strict,
        &[
            "✗ upstream lender-1, amounts: ",
            "errors.tolerance = \"none\" allows no dead letter",
        ],
    );
}

#[test]
fn tls_is_tried_with_the_ca_of_the_configuration() {
    let directories = [
        tempfile::tempdir().expect("a directory"),
        tempfile::tempdir().expect("a directory"),
    ];
    let worlds = directories.each_ref().map(|directory| {
        World::with(Options {
            tls: Some(directory.path().to_owned()),
            ..options(&[50])
        })
    });
    contains(
        &check(&worlds[0], &[]).expect(0),
        &["✓ upstream lender-1, connection: TLS, the certificate is trusted"],
    );
    let other = worlds[1]
        .simulator
        .handle()
        .ca_file()
        .expect("a CA")
        .display()
        .to_string();
    let distrusted = check_with(&worlds[0], &[&format!("upstream.ca_file={other}")]).expect(1);
    contains(
        &distrusted,
        &[
            "✗ upstream lender-1, connection: logging in: no answer: ",
            "certificate",
        ],
    );
    let missing = check_with(&worlds[0], &["upstream.ca_file=/nowhere.pem"]).expect(2);
    contains(
        &missing,
        &[
            "✗ upstream, HTTP: reading upstream.ca_file: /nowhere.pem cannot be read: ",
            "✓ kafka, transaction: ",
        ],
    );
}

#[test]
fn a_topic_that_cannot_be_used_is_exit_2_with_the_command_that_mends_it() {
    let world = World::new(&[50]);
    create(&world, "accounts", 6, &[("cleanup.policy", "delete")]);
    create(&world, "cursor", 1, &[("cleanup.policy", "compact")]);
    let found = check(&world, &[]).expect(2);
    let accounts = format!(
        "✗ kafka, topic {}: cleanup.policy is delete; wanted: exactly compact\n    → run: kafka-configs.sh ",
        world.topic("accounts")
    );
    let cursor = format!(
        "! kafka, group: {} has one partition: one process runs all lenders, others stand by; wanted: as many as processes, or more\n    → ",
        world.topic("cursor")
    );
    contains(&found, &[&accounts, &cursor, "✓ kafka, transaction: "]);
    let missing = check(&world, &[("D02__KAFKA__CREATE_TOPICS", "false")]).expect(2);
    let changes = format!(
        "✗ kafka, topic {}: missing, and kafka.create_topics is off; wanted: the topic\n    → run `d02-source setup`",
        world.topic("changes")
    );
    contains(&missing, &[&changes]);
    let setting = check(
        &world,
        &[("D02__KAFKA__TOPIC_SETTINGS__CURSOR__CLEANUP_POLICY", "delete")],
    )
    .expect(2);
    contains(&setting, &["it can only be compact"]);
}

#[test]
fn a_cursor_record_that_run_would_refuse_is_exit_2() {
    let world = World::new(&[50]);
    world.catch_up();
    let localhost = world.simulator.base_url().replace("127.0.0.1", "localhost");
    let other = check(&world, &[("D02__UPSTREAM__BASE_URL", &localhost)]).expect(2);
    contains(
        &other,
        &["✗ kafka, cursor record of lender-1: ", "another source's progress"],
    );
    let gone = check_with(&world, &[&format!("kafka.topics.accounts={}.gone", world.name)]).expect(2);
    contains(
        &gone,
        &[
            ".gone: missing; `run` creates it",
            ".gone does not hold what was committed: 0 accounts",
        ],
    );
    kafka::add_partitions(&world.servers, &world.topic("accounts"), 8);
    wait_for("the partitions", || {
        (kafka::partitions(&world.servers, &world.topic("accounts")).len() == 8).then_some(())
    });
    let moved = check(&world, &[]).expect(2);
    contains(
        &moved,
        &[
            "✗ kafka, cursor record of lender-1: the partitions were accounts=6,changes=6 and are accounts=8,changes=6: keys would \
             move and lose their order; wanted: a record that `run` can go on from",
            "\n    → recreate the topic with the old count",
        ],
    );
}

#[test]
fn a_schema_that_the_registry_does_not_take_is_exit_2() {
    let world = World::new(&[50]);
    let subject = format!("{}-value", world.topic("accounts"));
    registry::register(&subject, OTHER);
    registry::set_compatibility(&subject, "FULL");
    let found = check(&world, &[]).expect(2);
    contains(
        &found,
        &[
            &format!("✗ registry, subject {subject}: not registered, and not compatible with what is: "),
            "\n    → see which schemas the subject holds",
        ],
    );
    assert_eq!(registry::versions(&subject), vec![1]);
    let off = check(&world, &[("D02__SCHEMA_REGISTRY__AUTO_REGISTER", "false")]).expect(2);
    contains(&off, &["not registered, and schema_registry.auto_register is off"]);
    let none = check(&world, &[("D02__AVRO__ENCODING", "single-object")]).expect(0);
    contains(&none, &["✓ registry, encoding: avro.encoding is \"single-object\""]);
}

#[test]
fn records_of_another_registry_are_found_out() {
    let world = World::new(&[50]);
    world.command(&["setup"], &[]).expect_exit(0);
    // Confluent's wire format with id 16843009.
    let value = "\u{0}\u{1}\u{1}\u{1}\u{1}x";
    kafka::write(&world.servers, &world.topic("accounts"), 0, "key", Some(value));
    let found = check(&world, &[]).expect(2);
    contains(
        &found,
        &[
            "the schema registry has no schema 16843009",
            "\n    → correct schema_registry.url, if it is another registry's; else the registry has lost its schemas",
        ],
    );
}

#[test]
fn what_is_wrong_with_the_configuration_is_a_finding() {
    let world = World::new(&[10]);
    let found = check_with(&world, &["upstream.page_size=0", "kafka.bootstrap_server=x"]).expect(2);
    contains(
        &found,
        &[
            "✗ configuration, loaded: upstream.page_size = \"0\"",
            "the nearest is",
            "2 errors, no warnings",
        ],
    );
    let none = bare(&["check", "--json"]).expect(2);
    let json: Value = serde_json::from_str(&none.out).expect("one JSON document");
    assert_eq!(json["overall"]["exit_code"], 2);
    assert_eq!(json["findings"][0]["area"], "configuration");
    shown(&world, &["check", "--lender", "nobody"], &[]).expect(2);
    let one = World::new(&[10, 10]);
    let found = shown(&one, &["check", "--lender", "lender-2"], &[]).expect(0);
    contains(
        &found,
        &[
            "✓ configuration, loaded: 1 lender: lender-2",
            "✓ upstream lender-2, page",
        ],
    );
    assert!(!found.out.contains("lender-1"), "{}", found.out);
}
