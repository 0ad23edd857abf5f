//! Do Connect's paths work, and lasts what somebody wants of a lender? Asked over HTTP, and judged by what comes into the topics.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::http::Observed;
use crate::support::world::World;
use crate::support::{judge, nothing_happens_for, shown, wait_for};

/// Longer than it takes to see a change, with the interval of the tests.
const LONG: Duration = Duration::from_secs(2);

fn connector(world: &World, lender: &str) -> String {
    format!("{}-{lender}", world.name)
}

/// Of the first lender.
fn path(world: &World, part: &str) -> String {
    format!("/connectors/{}{part}", connector(world, "lender-1"))
}

fn json_of(observed: &Observed, path: &str) -> Value {
    let (status, text) = observed.get(path);
    assert_eq!(status, StatusCode::OK, "{path}: {text}");
    serde_json::from_str(&text).expect("JSON")
}

#[track_caller]
fn ask(observed: &Observed, method: Method, path: &str, expected: StatusCode) {
    let (status, text) = observed.ask(method, path);
    assert_eq!((status, text.as_str()), (expected, ""), "{path}");
}

fn state(world: &World, observed: &Observed) -> Value {
    json_of(observed, &path(world, "/status"))["connector"]["state"].clone()
}

#[track_caller]
fn wait_until(world: &World, observed: &Observed, expected: &str) {
    wait_for(expected, || (state(world, observed) == expected).then_some(()));
}

#[test]
fn lenders_are_connectors_with_one_task() {
    let world = World::new(&[20, 10]);
    let observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    let name = connector(&world, "lender-1");
    let root = json_of(&observed, "/");
    assert_eq!(root["version"], env!("CARGO_PKG_VERSION"));
    assert!(
        root["kafka_cluster_id"].is_string() && root["commit"].is_string(),
        "{root}"
    );
    let names = json!([connector(&world, "lender-1"), connector(&world, "lender-2")]);
    assert_eq!(json_of(&observed, "/connectors"), names);
    let status = json_of(&observed, &path(&world, "/status"));
    let worker = &status["connector"]["worker_id"];
    let state = json!({"state": "RUNNING", "worker_id": worker, "version": env!("CARGO_PKG_VERSION")});
    let mut task = state.clone();
    task["id"] = json!(0);
    let expected = json!({"name": name, "connector": state, "tasks": [task], "type": "source"});
    assert_eq!(status, expected);
    assert_eq!(json_of(&observed, &path(&world, "/tasks/0/status")), task);
    let expanded = json_of(&observed, "/connectors?expand=status&expand=info");
    assert_eq!(expanded[&name]["status"], expected);
    let info = json_of(&observed, &path(&world, ""));
    assert_eq!(expanded[&name]["info"], info);
    assert_eq!(info["tasks"], json!([{"connector": name, "task": 0}]));
    let config = json_of(&observed, &path(&world, "/config"));
    assert_eq!(info["config"], config);
    assert_eq!(config["lenders.lender-1.password"], "[hidden]");
    let text = config.to_string();
    assert!(!text.contains("secret-1") && !text.contains("lender-2"), "{text}");
    let topics = json_of(&observed, &path(&world, "/topics"));
    let mut expected = [world.topic("accounts"), world.topic("changes"), world.topic("dead")];
    expected.sort();
    assert_eq!(topics[&name]["topics"], json!(expected));
    let offsets = json_of(&observed, &path(&world, "/offsets"));
    let partition = json!({"dataset": "D02", "lender": world.lender(0).public_id});
    assert_eq!(offsets["offsets"][0]["partition"], partition);
    assert!(offsets["offsets"][0]["offset"]["read"].is_number() || offsets["offsets"][0]["offset"].is_object());
    for (path, message) in [
        ("/connectors/nope".to_owned(), "Connector nope not found".to_owned()),
        (
            "/connectors/nope/status".to_owned(),
            "No status found for connector nope".to_owned(),
        ),
        (
            path(&world, "/tasks/7/status"),
            format!("No status found for task {name}-7"),
        ),
        ("/nope".to_owned(), "HTTP 404 Not Found".to_owned()),
    ] {
        let (status, text) = observed.get(&path);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (status.as_u16(), answer),
            (404, json!({"error_code": 404, "message": message}))
        );
    }
    for (method, path) in [
        (Method::POST, "/connectors".to_owned()),
        (Method::DELETE, path(&world, "")),
        (Method::PUT, path(&world, "/config")),
        (Method::PUT, path(&world, "/status")),
    ] {
        let (status, text) = observed.ask(method, &path);
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((status.as_u16(), &answer["error_code"]), (405, &json!(405)), "{path}");
    }
}

#[test]
fn what_is_paused_is_not_read_stays_claimed_and_paused_and_is_ready() {
    let world = World::new(&[30, 10]);
    let mut observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    wait_for("the snapshot", || (world.accounts_so_far() == 40).then_some(()));
    ask(&observed, Method::PUT, &path(&world, "/pause"), StatusCode::ACCEPTED);
    assert_eq!(state(&world, &observed), "PAUSED");
    // What was asked for before it was paused may still come.
    nothing_happens_for(LONG);
    world.simulator.touch(0, 5, 1);
    world.simulator.touch(1, 3, 1);
    wait_for("the other lender goes on", || {
        (world.accounts_so_far() == 43).then_some(())
    });
    nothing_happens_for(LONG);
    assert_eq!(world.accounts_so_far(), 43);
    let ready = json_of(&observed, "/readyz");
    assert_eq!(ready["lenders"]["lender-1"]["paused"], true, "{ready}");
    assert!(observed.get("/metrics").1.contains("d02_paused{lender=\"lender-1\"} 1"));
    // It lasts.
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    let observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    assert_eq!(state(&world, &observed), "PAUSED");
    nothing_happens_for(LONG);
    assert_eq!(world.accounts_so_far(), 43);
    ask(&observed, Method::PUT, &path(&world, "/resume"), StatusCode::ACCEPTED);
    wait_for("what came meanwhile", || (world.accounts_so_far() == 48).then_some(()));
    assert_eq!(state(&world, &observed), "RUNNING");
    drop(observed);
    let accounts = world.accounts();
    judge::once_and_in_order(&accounts);
    judge::complete(&accounts, &[world.simulator.rows(0), world.simulator.rows(1)].concat());
}

#[test]
fn what_is_stopped_is_released_and_runs_nowhere_until_it_is_resumed() {
    let world = World::new(&[30, 10]).spread();
    let mut first = Observed::start(&world, &["run"], &[]);
    first.wait_until_ready();
    wait_for("the snapshot", || (world.accounts_so_far() == 40).then_some(()));
    ask(&first, Method::PUT, &path(&world, "/stop"), StatusCode::NO_CONTENT);
    wait_until(&world, &first, "STOPPED");
    assert_eq!(json_of(&first, &path(&world, "/status"))["tasks"], json!([]));
    assert_eq!(json_of(&first, &path(&world, "/tasks")), json!([]));
    assert_eq!(json_of(&first, "/readyz")["lenders"]["lender-1"]["stopped"], true);
    // Whoever joins does not run it either, nor who comes after.
    let second = Observed::start(&world, &["run"], &[]);
    second.wait_until_ready();
    first.source.signal("TERM");
    first.source.expect_exit(0);
    wait_until(&world, &second, "STOPPED");
    world.simulator.touch(0, 5, 1);
    world.simulator.touch(1, 3, 1);
    wait_for("the other lender goes on", || {
        (world.accounts_so_far() == 43).then_some(())
    });
    nothing_happens_for(LONG);
    assert_eq!(world.accounts_so_far(), 43);
    // A batch leaves it alone.
    let log = world.catch_up();
    assert!(log.contains("left alone: somebody has paused or stopped it"), "{log}");
    assert_eq!(world.accounts_so_far(), 43);
    ask(&second, Method::PUT, &path(&world, "/resume"), StatusCode::ACCEPTED);
    wait_until(&world, &second, "RUNNING");
    wait_for("what came meanwhile", || (world.accounts_so_far() == 48).then_some(()));
    drop(second);
    let accounts = world.accounts();
    judge::once_and_in_order(&accounts);
    judge::complete(&accounts, &[world.simulator.rows(0), world.simulator.rows(1)].concat());
}

#[test]
fn a_restart_begins_anew_with_the_next_epoch_and_only_where_it_is_meant() {
    let world = World::new(&[30]);
    let observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    let epoch = || json_of(&observed, &path(&world, "/offsets"))["offsets"][0]["offset"]["epoch"].clone();
    assert_eq!(epoch(), 1);
    let (status, text) = observed.ask(
        Method::POST,
        &path(&world, "/restart?includeTasks=true&onlyFailed=true"),
    );
    assert_eq!(status, StatusCode::ACCEPTED, "{text}");
    nothing_happens_for(LONG);
    assert_eq!(epoch(), 1, "it has not failed");
    let (status, text) = observed.ask(Method::POST, &path(&world, "/restart?includeTasks=true"));
    let answer: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (status, &answer["connector"]["state"]),
        (StatusCode::ACCEPTED, &json!("RESTARTING"))
    );
    wait_for("it begins anew", || (epoch() == 2).then_some(()));
    wait_until(&world, &observed, "RUNNING");
    ask(
        &observed,
        Method::POST,
        &path(&world, "/restart"),
        StatusCode::NO_CONTENT,
    );
    wait_for("it begins anew", || (epoch() == 3).then_some(()));
    world.simulator.touch(0, 5, 1);
    wait_for("it goes on", || (world.accounts_so_far() == 35).then_some(()));
}

#[test]
fn a_person_does_the_same_by_a_command() {
    let world = World::new(&[10]);
    let observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    let listen = [("D02__HTTP__LISTEN", observed.address())];
    let lender = |command: &str, lender: &str| shown::shown(&world, &["lender", command, lender], &listen);
    let target = || {
        let rows = shown::shown(&world, &["cursor", "show", "--json"], &[]).expect(0).out;
        serde_json::from_str::<Value>(&rows).expect("JSON")[0]["target"].clone()
    };
    assert_eq!(target(), "STARTED");
    for (command, said, state) in [
        ("pause", "lender-1: paused\n", "PAUSED"),
        ("resume", "lender-1: resumed\n", "RUNNING"),
        ("stop", "lender-1: stopped\n", "STOPPED"),
        ("resume", "lender-1: resumed\n", "RUNNING"),
        ("restart", "lender-1: begins anew\n", "RUNNING"),
    ] {
        assert_eq!(lender(command, "lender-1").expect(0).out, said);
        wait_until(&world, &observed, state);
    }
    lender("pause", "lender-1").expect(0);
    assert_eq!(target(), "PAUSED");
    let unknown = lender("pause", "lender-7").expect(2);
    assert!(unknown.log.contains("lender-1"), "{}", unknown.log);
    let nobody = shown::shown(&world, &["lender", "pause", "lender-1"], &[]).expect(2);
    assert!(nobody.log.contains("P11"), "{}", nobody.log);
    let away = [("D02__HTTP__LISTEN", "127.0.0.1:9")];
    let away = shown::shown(&world, &["lender", "pause", "lender-1"], &away).expect(1);
    assert!(away.log.contains("P12"), "{}", away.log);
}

#[test]
fn a_page_of_another_site_and_a_large_body_get_nothing() {
    let world = World::new(&[5]);
    let observed = Observed::start(&world, &["run"], &[]);
    observed.wait_until_ready();
    let pause = path(&world, "/pause");
    for (name, value) in [
        ("Host", "evil.example"),
        ("Origin", "http://evil.example"),
        ("Origin", "null"),
    ] {
        let (status, text) = observed.ask_with(Method::PUT, &pause, &[(name, value)], String::new());
        assert_eq!(status, StatusCode::FORBIDDEN, "{name}: {text}");
    }
    let (status, text) = observed.ask_with(Method::PUT, &pause, &[], "x".repeat((1 << 20) + 1));
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{text}");
    assert_eq!(state(&world, &observed), "RUNNING");
}
