//! Does the testbed ask a Docker engine first, and does it work without one?
//!
//! There is no engine on the machines where these tests run. What answers here only looks like one: it shows what the testbed asks for, what it does
//! with errors, and that nothing outlives it, never that a container works.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use d02_source::exit::chain;
use d02_source::testbed::{BOOTSTRAP_SERVERS_VARIABLE, CHOICE_VARIABLE, SCHEMA_REGISTRY_URL_VARIABLE, Testbed};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{RUNTIME, wait_for};

/// Set in the processes that these tests start.
const CHILD_VARIABLE: &str = "D02_TEST_TESTBED";
const GIVEN: &str = "http://registry.example";

#[test]
fn without_an_engine_it_is_the_jvm_without_a_word() {
    if is_child() {
        return start_testbed();
    }
    let test = "without_an_engine_it_is_the_jvm_without_a_word";
    let directory = tempfile::tempdir().expect("a directory");
    let absent = format!("unix://{}", directory.path().join("absent.sock").display());
    let started = run(test, &[("DOCKER_HOST", &absent)]);
    assert!(started.answer.starts_with("started 127.0.0.1:"), "{started:?}");
    assert_eq!(started.lines, [""; 0]);

    let path = path_without_java(&directory);
    // Kept, so that nobody else is given it, and not listened on.
    let kept = tokio::net::TcpSocket::new_v4().expect("a socket");
    kept.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let closed = format!("tcp://{}", kept.local_addr().expect("an address"));
    let refused = run(test, &[("DOCKER_HOST", &closed), ("PATH", &path)]);
    assert!(refused.is_about_java(), "{refused:?}");
    assert_eq!(refused.lines, [""; 0]);
}

#[test]
fn an_engine_that_cannot_be_used_is_told_in_a_line_and_it_is_the_jvm() {
    if is_child() {
        return start_testbed();
    }
    let test = "an_engine_that_cannot_be_used_is_told_in_a_line_and_it_is_the_jvm";
    let directory = tempfile::tempdir().expect("a directory");
    let path = path_without_java(&directory);
    let line = |engine: &FakeEngine| {
        let end = run(test, &[("DOCKER_HOST", &engine.host), ("PATH", &path)]);
        assert!(end.is_about_java(), "{end:?}");
        assert_eq!(end.lines.len(), 1, "{end:?}");
        end.lines[0].clone()
    };

    let garbage = FakeEngine::on_socket(directory.path(), |_, _| Some((200, json!("no engine"))));
    assert!(line(&garbage).contains("answer cannot be used"));
    let silent = FakeEngine::on_port(|_, _| None);
    assert!(line(&silent).contains("did not answer within 2s"));
    let unwilling = FakeEngine::on_port(|_, _| Some((400, json!({"message": "not for you"}))));
    assert!(line(&unwilling).contains("not for you"));
    let without_command = FakeEngine::on_port(|_, _| Some((200, json!({"ID": "fake"}))));
    assert!(line(&without_command).contains("`docker` command"));

    let commands = fake_docker_command(&directory);
    let without_images = FakeEngine::on_port(|request, _| match request.contains(" /info ") {
        true => Some((200, json!({"ID": "fake"}))),
        false => Some((500, json!({"message": "no route to the registry"}))),
    });
    let why = line(&without_images);
    assert!(why.contains("apache/kafka:4.4.0"), "{why}");
    assert!(why.contains("no route to the registry"), "{why}");
    wait_for("the remover's end", || {
        commands().contains("rm --force --volumes fake-container").then_some(())
    });
}

#[test]
fn the_environment_chooses_the_way() {
    if is_child() {
        return start_testbed();
    }
    let test = "the_environment_chooses_the_way";
    let directory = tempfile::tempdir().expect("a directory");
    let path = path_without_java(&directory);
    let absent = format!("unix://{}", directory.path().join("absent.sock").display());
    let docker = run(
        test,
        &[(CHOICE_VARIABLE, "docker"), ("DOCKER_HOST", &absent), ("PATH", &path)],
    );
    let expected = "failed TESTBED=docker asks for containers: see to it that they can be had, or unset it for the JVM: \
                    no Docker engine answers: ";
    assert!(docker.answer.starts_with(expected), "{docker:?}");
    assert_eq!(docker.lines, [""; 0]);

    let engine = FakeEngine::on_port(|_, _| Some((200, json!("no engine"))));
    let jvm = run(
        test,
        &[(CHOICE_VARIABLE, "jvm"), ("DOCKER_HOST", &engine.host), ("PATH", &path)],
    );
    assert!(jvm.is_about_java(), "{jvm:?}");
    assert_eq!(jvm.lines, [""; 0]);
    assert!(engine.requests.try_recv().is_err(), "it was asked");

    let other = run(test, &[(CHOICE_VARIABLE, "podman")]);
    assert!(other.answer.contains("may be `docker`, `jvm`, or unset"), "{other:?}");
}

#[test]
fn a_container_ends_with_the_testbed_and_with_a_killed_parent() {
    if is_child() {
        return start_testbed();
    }
    let test = "a_container_ends_with_the_testbed_and_with_a_killed_parent";
    let directory = tempfile::tempdir().expect("a directory");
    let path = path_without_java(&directory);
    let commands = fake_docker_command(&directory);
    let registry = FakeEngine::on_port(|_, _| Some((200, json!([]))));
    let port = registry.host.rsplit_once(':').expect("a port").1.to_owned();
    let engine = FakeEngine::on_port(move |request, _| {
        Some(match request.split(' ').take(2).collect::<Vec<_>>()[..] {
            ["GET", "/info"] => (200, json!({"ID": "fake"})),
            ["POST", create] if create.starts_with("/containers/create") => (201, json!({"Id": "c1", "Warnings": []})),
            ["POST", "/containers/c1/start"] => (204, Value::Null),
            ["GET", inspect] if inspect.starts_with("/containers/c1/json") => {
                let ports = json!({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]});
                (200, json!({"Id": "c1", "NetworkSettings": {"Ports": ports}}))
            }
            ["DELETE", remove] if remove.starts_with("/containers/c1?") => (204, Value::Null),
            _ => (500, json!({"message": format!("unexpected: {request}")})),
        })
    });
    let environment = [
        ("DOCKER_HOST", engine.host.as_str()),
        ("PATH", &path),
        (CHOICE_VARIABLE, "docker"),
        (BOOTSTRAP_SERVERS_VARIABLE, "broker.example:9092"),
        (SCHEMA_REGISTRY_URL_VARIABLE, ""),
    ];

    let end = run(test, &environment);
    assert!(end.answer.ends_with("/apis/ccompat/v7"), "{end:?}");
    let asked: Vec<_> = engine.requests.try_iter().collect();
    let created = asked.iter().find(|(request, _)| request.contains("/containers/create"));
    let created: Value = serde_json::from_str(&created.expect("a creation").1).expect("JSON");
    assert_eq!(created["Image"], "quay.io/apicurio/apicurio-registry:3.0.9");
    let bindings = json!({"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]});
    assert_eq!(created["HostConfig"]["PortBindings"], bindings);
    let removed = |(request, _): &(String, String)| request.starts_with("DELETE /containers/c1?");
    assert!(asked.iter().any(removed), "{asked:?}");

    let before = commands();
    let mut parent = spawn(test, &[&environment[..], &[("D02_TEST_STAYS", "1")]].concat());
    let output = BufReader::new(parent.stdout.take().expect("the output is piped"));
    let started = output
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("started"));
    assert!(started.is_some(), "it ended");
    parent.kill().expect("the parent should die");
    parent.wait().expect("the parent should be gone");
    assert!(!engine.requests.try_iter().any(|request| removed(&request)));
    wait_for("the remover's end", || {
        commands()[before.len()..]
            .contains("rm --force --volumes fake-container")
            .then_some(())
    });
    let label = created["Labels"]["d02-source.testbed"].as_str().expect("a label");
    assert!(before.contains(&format!("ps --all --quiet --filter label=d02-source.testbed={label}")));
}

fn is_child() -> bool {
    std::env::var_os(CHILD_VARIABLE).is_some()
}

/// In the child: starts the testbed, and says what came of it. On the thread of a runtime, because any thread may start it.
fn start_testbed() {
    RUNTIME.block_on(async { start_testbed_here() });
}

fn start_testbed_here() {
    match Testbed::start() {
        Ok(testbed) => {
            println!(
                "\nstarted {} {}",
                testbed.bootstrap_servers(),
                testbed.schema_registry_url()
            );
            if std::env::var_os("D02_TEST_STAYS").is_some() {
                std::thread::sleep(Duration::from_secs(60));
            }
        }
        Err(error) => println!("\nfailed {}", chain(&error)),
    }
}

/// What a child said.
#[derive(Debug)]
struct End {
    answer: String,
    /// On stderr, from the testbed.
    lines: Vec<String>,
}

impl End {
    /// It went on to the JVM, where it found none.
    fn is_about_java(&self) -> bool {
        self.answer.starts_with("failed starting the testbed needs java")
    }
}

fn spawn(test: &str, environment: &[(&str, &str)]) -> Child {
    Command::new(std::env::current_exe().expect("the test has a path"))
        .args(["--exact", &format!("docker::{test}"), "--nocapture", "--test-threads=1"])
        .env_remove(CHOICE_VARIABLE)
        .env_remove(BOOTSTRAP_SERVERS_VARIABLE)
        .env(SCHEMA_REGISTRY_URL_VARIABLE, GIVEN)
        .env(CHILD_VARIABLE, "1")
        .envs(environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the test should start itself")
}

fn run(test: &str, environment: &[(&str, &str)]) -> End {
    let begun = Instant::now();
    let output = spawn(test, environment)
        .wait_with_output()
        .expect("the child should end");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let (answer, errors) = (text(output.stdout), text(output.stderr));
    let of_testbed = |line: &&str| line.starts_with("testbed: ");
    let end = End {
        answer: answer
            .lines()
            .find(|line| line.starts_with("started") || line.starts_with("failed"))
            .unwrap_or_else(|| panic!("no answer: {answer} {errors}"))
            .to_owned(),
        lines: errors.lines().filter(of_testbed).map(str::to_owned).collect(),
    };
    if end.is_about_java() {
        // No JVM was waited for: this is all about the engine.
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
    end
}

/// A directory for `PATH` with what the remover needs besides `docker`.
fn path_without_java(directory: &TempDir) -> String {
    for program in ["sh", "cat"] {
        symlink(Path::new("/bin").join(program), directory.path().join(program)).expect("a link");
    }
    directory.path().display().to_string()
}

/// Puts a `docker` into the directory; gives what reads how it was called.
fn fake_docker_command(directory: &TempDir) -> impl Fn() -> String {
    let log: PathBuf = directory.path().join("docker.log");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >>'{}'\ncase $1 in info) echo fake ;; ps) echo fake-container ;; esac\n",
        log.display()
    );
    let command = directory.path().join("docker");
    fs::write(&command, script).expect("written");
    fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).expect("it can be run");
    move || fs::read_to_string(&log).unwrap_or_default()
}

/// Answers HTTP as it is told, one request a connection, and keeps what was asked.
struct FakeEngine {
    host: String,
    requests: mpsc::Receiver<(String, String)>,
}

impl FakeEngine {
    fn on_port(answer: impl Fn(&str, &str) -> Option<(u16, Value)> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let host = format!("tcp://{}", listener.local_addr().expect("an address"));
        let accept = move || listener.accept().map(|(connection, _)| connection);
        Self::serve(host, accept, answer)
    }

    fn on_socket(directory: &Path, answer: impl Fn(&str, &str) -> Option<(u16, Value)> + Send + 'static) -> Self {
        let path = directory.join("docker.sock");
        let listener = UnixListener::bind(&path).expect("a socket");
        let accept = move || listener.accept().map(|(connection, _)| connection);
        Self::serve(format!("unix://{}", path.display()), accept, answer)
    }

    fn serve<C: Read + Write + Send + 'static>(
        host: String,
        accept: impl Fn() -> std::io::Result<C> + Send + 'static,
        answer: impl Fn(&str, &str) -> Option<(u16, Value)> + Send + 'static,
    ) -> Self {
        let (sender, requests) = mpsc::channel();
        std::thread::spawn(move || {
            let mut unanswered = Vec::new();
            while let Ok(mut connection) = accept() {
                let Some((request, body)) = read_request(&mut connection) else {
                    continue;
                };
                let answer = answer(&request, &body);
                // Kept before it is answered: whoever has the answer may end the test.
                if sender.send((request, body)).is_err() {
                    return;
                }
                match answer {
                    Some((status, answer)) => write_answer(&mut connection, status, &answer),
                    None => unanswered.push(connection),
                }
            }
        });
        Self { host, requests }
    }
}

/// The first line of the head, and the body.
fn read_request(connection: &mut impl Read) -> Option<(String, String)> {
    let mut reader = BufReader::new(connection);
    let mut request = String::new();
    reader.read_line(&mut request).ok().filter(|read| *read > 0)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((request, String::from_utf8_lossy(&body).into_owned()))
}

fn write_answer(connection: &mut impl Write, status: u16, answer: &Value) {
    let body = if answer.is_null() {
        String::new()
    } else {
        answer.to_string()
    };
    // Who has gone does not need it.
    let _ = write!(
        connection,
        "HTTP/1.1 {status} .\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
}
