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
            let sent = stream.write_all(answer.as_bytes());
            if heard.send(authorization.unwrap_or_default()).is_err() || sent.is_err() {
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
        let found = hears.recv_timeout(crate::support::PATIENCE).expect("a request");
        assert_eq!(found.replacen('A', "a", 1), expected);
    }
}
