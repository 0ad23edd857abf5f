//! Does everything go on where nobody takes what the process says? Standard error is a pipe that is full or whose reader has gone,
//! is closed, or is a terminal that is held; standard output is closed early.

use std::io::{BufRead, BufReader, PipeReader, PipeWriter, Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::support::shown::command;
use crate::support::world::World;
use crate::support::{RUNTIME, judge, secrets, wait_for};

/// So much is said that a pipe is full within a moment.
const TALKATIVE: [(&str, &str); 2] = [("RUST_LOG", "trace"), ("D02__KAFKA__PROPERTIES__DEBUG", "all")];

/// Of SIGTERM, from docs/operations/running.md, and what a loaded machine takes beside it.
const BOUND: Duration = Duration::from_secs(9 + 1 + 3);

/// For an answer, and for the end of what has nothing open.
const MOMENT: Duration = Duration::from_secs(5);

/// What an unread pipe takes.
const PIPE_SIZE: usize = 64 * 1024;

const WHERE: &str = "health and metrics at http://";

/// A source of which nobody reads what it says any more.
struct Unread {
    child: Child,
    url: String,
    stderr: Option<BufReader<PipeReader>>,
}

impl Unread {
    /// Its standard error is a pipe that is read until it says where it listens.
    fn start(world: &World, environment: &[(&str, &str)]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut source = Self {
            child: Self::command(world, environment)
                .stderr(writer)
                .spawn()
                .expect("it starts"),
            url: String::new(),
            stderr: Some(BufReader::new(reader)),
        };
        let line = source.read_until(WHERE);
        let (_, address) = line.split_once(WHERE).expect("the line");
        let address = address.split(['"', '\n']).next().expect("an address");
        source.url = format!("http://{address}");
        source
    }

    fn command(world: &World, environment: &[(&str, &str)]) -> Command {
        let config = world.config();
        let mut command = command(&["--config", &config, "run"], &[("D02__HTTP__LISTEN", "127.0.0.1:0")]);
        command.envs(environment.iter().copied()).stdout(Stdio::null());
        command
    }

    /// Reads on to a line with `text`.
    fn read_until(&mut self, text: &str) -> String {
        let reader = self.stderr.as_mut().expect("a pipe");
        let mut line = String::new();
        while !line.contains(text) {
            line.clear();
            assert!(
                reader.read_line(&mut line).expect("text") > 0,
                "it ended without `{text}`"
            );
            secrets::none_in(&line);
        }
        line
    }

    fn get(&self, path: &str) -> (u16, String) {
        RUNTIME.block_on(async {
            let client = reqwest::Client::builder()
                .no_proxy()
                .timeout(MOMENT)
                .build()
                .expect("a client");
            let answer = client
                .get(format!("{}{path}", self.url))
                .send()
                .await
                .expect("an answer");
            (answer.status().as_u16(), answer.text().await.expect("text"))
        })
    }

    fn metric(&self, name: &str) -> u64 {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("the metric");
        value.trim().parse().expect("a number")
    }

    fn dropped(&self) -> u64 {
        self.metric("d02_log_lines_dropped_total")
    }

    #[track_caller]
    fn wait_until_more_is_dropped(&self) -> u64 {
        let before = self.dropped();
        wait_for("more lines are dropped", || {
            Some(self.dropped()).filter(|now| *now > before)
        })
    }

    /// It is alive and ready, and what changes upstream arrives.
    #[track_caller]
    fn works(&self, world: &World) {
        wait_for("it is ready", || (self.get("/readyz").0 == 200).then_some(()));
        let inserted = world.simulator.insert(0, 3);
        wait_for("the new accounts", || {
            let are_there = world.follow_accounts(|records| {
                let is_there = |key: &String| records.iter().any(|record| record.key() == *key);
                // What is live may be there before the snapshot is.
                let rows = world.simulator.rows(0);
                inserted.iter().chain(rows.iter().map(|row| &row.id)).all(is_there)
            });
            are_there.then_some(())
        });
        assert_eq!(self.get("/livez").0, 200);
    }

    /// Asked to end, it ends in time, with everything delivered.
    #[track_caller]
    fn ends(&mut self, world: &World) {
        let (begun, status) = (Instant::now(), terminate(&mut self.child));
        assert_eq!(status.code(), Some(0));
        assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
        judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn terminate(child: &mut Child) -> ExitStatus {
    let killed = Command::new("kill").arg(child.id().to_string()).status();
    assert!(killed.expect("kill runs").success());
    wait_for("it ends", || child.try_wait().expect("a child"))
}

/// A pipe that takes no byte more, and what has to stay for it to remain so.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    writer.write_all(&vec![b'x'; PIPE_SIZE]).expect("it takes so much");
    (reader, writer)
}

/// A pipe that nobody reads any more.
fn broken_pipe() -> PipeWriter {
    std::io::pipe().expect("a pipe").1
}

#[test]
fn a_log_that_nobody_reads_costs_lines_and_nothing_else() {
    let world = World::new(&[300]);
    let mut source = Unread::start(&world, &TALKATIVE);
    source.wait_until_more_is_dropped();
    source.works(&world);
    source.wait_until_more_is_dropped();
    source.ends(&world);
}

#[test]
fn a_log_whose_reader_has_gone_costs_lines_and_nothing_else() {
    let world = World::new(&[300]);
    let mut source = Unread::start(&world, &[("RUST_LOG", "debug")]);
    source.stderr = None;
    source.works(&world);
    source.wait_until_more_is_dropped();
    source.ends(&world);
}

#[test]
fn a_log_that_is_closed_costs_nothing() {
    let world = World::new(&[300]);
    // Whoever is told no address has to know one.
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let listen = listen.expect("a port").to_string();
    let config = world.config();
    let mut source = Unread {
        child: Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 2>&-", env!("CARGO_BIN_EXE_d02-source")])
            .args(["--config", &config, "run"])
            .envs([("D02__HTTP__LISTEN", listen.as_str()), ("RUST_LOG", "debug")])
            .spawn()
            .expect("it starts"),
        url: format!("http://{listen}"),
        stderr: None,
    };
    wait_for("it listens", || std::net::TcpStream::connect(&listen).ok());
    source.works(&world);
    // The system's runtime has put /dev/null in its place, which takes everything.
    assert_eq!(source.dropped(), 0);
    source.ends(&world);
}

#[test]
fn who_reads_again_is_told_how_many_lines_were_dropped_and_gets_the_last_one() {
    let world = World::new(&[300]);
    let mut source = Unread::start(&world, &TALKATIVE);
    let dropped = source.wait_until_more_is_dropped();
    let line = source.read_until("lines of this log were dropped");
    let (_, said) = line.split_once("dropped=").expect("how many");
    let said: u64 = said.trim().parse().expect("a number");
    assert!(said >= dropped, "{said} after {dropped}");
    let mut reader = source.stderr.take().expect("a pipe");
    let rest = std::thread::spawn(move || {
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        rest
    });
    source.works(&world);
    source.ends(&world);
    let rest = rest.join().expect("read");
    assert!(rest.contains("at the end: "), "{} lines", rest.lines().count());
}

#[test]
fn an_error_that_nobody_reads_keeps_its_exit_code_and_nobody_waiting() {
    let world = World::new(&[1]);
    let config = world.config();
    let (_reader, full) = full_pipe();
    for (what, stderr) in [("full", full), ("broken", broken_pipe())] {
        for args in [&["run"][..], &["cursor", "show"], &["replay"], &["explain", "K99"]] {
            let wrong = ["--config", config.as_str(), "--set", "upstream.page_size=0"];
            let args: Vec<&str> = wrong.iter().chain(args).copied().collect();
            let mut command = command(&args, &[]);
            let stderr = stderr.try_clone().expect("a descriptor");
            let begun = Instant::now();
            let mut child = command.stdout(Stdio::null()).stderr(stderr).spawn().expect("it starts");
            let status = wait_for("it ends", || child.try_wait().expect("a child"));
            assert_eq!(status.code(), Some(2), "{what}, {args:?}");
            assert!(begun.elapsed() < MOMENT, "{what}, {args:?}: {:?}", begun.elapsed());
        }
    }
    let closed = Command::new("sh")
        .args(["-c", "exec \"$0\" explain K99 2>&-", env!("CARGO_BIN_EXE_d02-source")])
        .status();
    assert_eq!(closed.expect("it runs").code(), Some(2));
}

#[test]
fn a_loop_that_hangs_ends_the_process_also_where_nobody_reads_why() {
    let world = World::new(&[50]);
    let mut source = Unread::start(
        &world,
        &[
            TALKATIVE[0],
            TALKATIVE[1],
            ("D02_FAILPOINT", "in_the_runtime:10"),
            ("D02_TEST_WATCHDOG_GRACE", "3000"),
        ],
    );
    let status = wait_for("it ends", || source.child.try_wait().expect("a child"));
    assert_eq!(status.code(), Some(1));
}

#[test]
fn a_terminal_that_is_held_costs_lines_and_nothing_else() {
    let world = World::new(&[20_000]);
    // A snapshot that has a bar for a while.
    world.simulator.set_latency(Duration::from_millis(100));
    let listen = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr());
    let listen = listen.expect("a port").to_string();
    let pid_file = world.path("pid");
    let (binary, config, pid) = (env!("CARGO_BIN_EXE_d02-source"), world.config(), pid_file.display());
    // It puts a terminal between the two, and stops reading it once its own output is full.
    let run = format!("echo $$ > {pid}; exec {binary} --config {config} run");
    let (_reader, full) = full_pipe();
    let source = Unread {
        child: Command::new("script")
            .args(["--quiet", "--return", "--command", &run, "/dev/null"])
            .envs(TALKATIVE)
            .envs([("D02__HTTP__LISTEN", listen.as_str()), ("TERM", "xterm")])
            .stdin(Stdio::null())
            .stdout(full)
            .spawn()
            .expect("script runs"),
        url: format!("http://{listen}"),
        stderr: None,
    };
    wait_for("it listens", || std::net::TcpStream::connect(&listen).ok());
    source.wait_until_more_is_dropped();
    source.works(&world);
    let pid = std::fs::read_to_string(&pid_file).expect("a number");
    let killed = Command::new("kill").arg(pid.trim()).status();
    assert!(killed.expect("kill runs").success());
    let begun = Instant::now();
    let ended = format!("/proc/{}/exe", pid.trim());
    wait_for("it ends", || std::fs::read_link(&ended).is_err().then_some(()));
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
}

#[test]
fn a_command_whose_output_is_closed_early_ends_as_ever() {
    let world = World::new(&[50]);
    world.catch_up();
    let config = world.config();
    for args in [
        &["check"][..],
        &["check", "--json"],
        &["setup"],
        &["cursor", "show"],
        &["cursor", "show", "--json"],
        &["cursor", "export", "lender-1"],
        &["cursor", "set", "lender-1", "--to", "2000-01-01T00:00:00Z"],
        &["verify"],
        &["verify", "--json"],
        &["reconcile", "--dry-run"],
        &["replay", "--dry-run"],
        &["schema", "print", "account"],
        &["schema", "check"],
        &["schema", "register"],
        &["config", "show"],
        &["explain"],
        &["tail", "--from-beginning"],
        &["run", "--health-check"],
    ] {
        let args: Vec<&str> = ["--config", &config].into_iter().chain(args.iter().copied()).collect();
        let output = command(&args, &[])
            .stdout(broken_pipe())
            .stderr(Stdio::piped())
            .output();
        let output = output.expect("it runs");
        let log = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(0), "{args:?}: {log}");
        assert!(
            !log.contains("panicked") && !log.contains("Broken pipe"),
            "{args:?}: {log}"
        );
    }
}
