//! Is every value framed as it was asked for, and nothing written while the registry has no id for it?

use crate::support::judge;
use crate::support::kafka;
use crate::support::world::World;
use crate::support::{RUNTIME, testbed};

fn registry(method: reqwest::Method, path: &str, body: &str) -> u16 {
    let url = format!("{}{path}", testbed().schema_registry_url());
    RUNTIME.block_on(async {
        let request = reqwest::Client::new()
            .request(method, url)
            .header("content-type", "application/json");
        request
            .body(body.to_owned())
            .send()
            .await
            .expect("an answer")
            .status()
            .as_u16()
    })
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
    assert_eq!(
        registry(reqwest::Method::DELETE, &format!("/subjects/{subject}"), ""),
        200
    );
    let other =
        r#"{"schema":"{\"type\":\"record\",\"name\":\"Other\",\"fields\":[{\"name\":\"a\",\"type\":\"int\"}]}"}"#;
    assert_eq!(
        registry(reqwest::Method::POST, &format!("/subjects/{subject}/versions"), other),
        200
    );
    let full = r#"{"compatibility":"FULL"}"#;
    assert_eq!(registry(reqwest::Method::PUT, &format!("/config/{subject}"), full), 200);
    let mut source = world.command(&["run", "--until-caught-up"], &[]);
    source.wait_for_line("waiting for the schema registry");
    source.wait_for_line("incompatible");
    assert!(source.is_running());
    assert!(world.accounts().is_empty());
    assert_eq!(
        registry(
            reqwest::Method::PUT,
            &format!("/config/{subject}"),
            r#"{"compatibility":"NONE"}"#
        ),
        200
    );
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}

#[test]
fn without_auto_register_a_schema_that_is_missing_is_waited_for() {
    let world = World::new(&[100]);
    let off = ("D02__SCHEMA_REGISTRY__AUTO_REGISTER", "false");
    let mut source = world.command(&["run", "--until-caught-up"], &[off]);
    source.wait_for_line("waiting for the schema registry");
    assert!(kafka::committed(&world.servers, &world.topic("accounts")).is_empty());
    // `setup` registers whatever `run` may.
    world.command(&["setup"], &[off]).expect_exit(0);
    source.expect_exit(0);
    judge::everything(&world.accounts(), &world.simulator.rows(0));
}
