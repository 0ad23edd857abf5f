//! How many rows does the simulator serve for a second of its own CPU, at `limit=1000`?
//!
//! ```console
//! $ cargo bench --bench simulator                  # an optimised build, minutes the first time
//! $ cargo bench --profile dev --bench simulator    # as the tests use it
//! $ cargo bench --profile dev --bench simulator -- target/release/d02-source
//! ```
//!
//! The simulator is a process of its own, read over loopback by one connection that is kept; Linux says how much CPU each of the two took. It is to
//! serve at least 300,000 rows a second of CPU, so that whoever measures a client does not measure it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

const ROWS: usize = 100_000;
const LIMIT: usize = 1_000;
const TIME: Duration = Duration::from_secs(5);
/// Of /proc: 100 on every architecture that this program is built for.
const TICKS_PER_SECOND: f64 = 100.0;
const TARGET: f64 = 300_000.0;

fn main() {
    let simulator = Simulator::start(&program());
    let mut connection = Connection::open(&simulator.address);
    let token = connection.log_in(&simulator);
    // The first walk finds everything cold.
    connection.walk(&simulator.public_id, &token);
    let (cpu, own_cpu, begun) = (simulator.cpu(), cpu_of("self"), Instant::now());
    let mut rows = 0;
    while begun.elapsed() < TIME {
        connection.walk(&simulator.public_id, &token);
        rows += ROWS;
    }
    let wall = begun.elapsed().as_secs_f64();
    let (cpu, own_cpu) = (simulator.cpu() - cpu, cpu_of("self") - own_cpu);
    let per_second = |seconds: f64| (rows as f64 / seconds).round();
    println!(
        "{rows} rows in pages of {LIMIT}, {wall:.2} s on the clock ({} rows/s)",
        per_second(wall)
    );
    println!(
        "simulator: {cpu:.2} s of CPU, {} rows a second of CPU (at least {TARGET})",
        per_second(cpu)
    );
    println!("client:    {own_cpu:.2} s of CPU");
    assert!(per_second(cpu) >= TARGET, "too slow");
}

/// The program to measure: an argument, else the one of this build.
fn program() -> String {
    std::env::args()
        .skip(1)
        // `cargo bench` adds `--bench`.
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_else(|| env!("CARGO_BIN_EXE_d02-source").to_owned())
}

struct Simulator {
    process: Child,
    /// Kept, because it still prints.
    _output: BufReader<ChildStdout>,
    address: String,
    subdomain: String,
    public_id: String,
    credentials: String,
}

impl Simulator {
    fn start(program: &str) -> Self {
        let mut process = Command::new(program)
            .args(["simulate", "--rows", &ROWS.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {program}: {error}"));
        let mut output = BufReader::new(process.stdout.take().expect("the output is piped"));
        // It prints the configuration of its one lender when it serves.
        let mut value = |key: &str| loop {
            let mut line = String::new();
            assert_ne!(output.read_line(&mut line).expect("text"), 0, "{program} ended");
            if line.starts_with(key) {
                break line.split('"').nth(1).expect("a text").to_owned();
            }
        };
        let address = value("base_url").trim_start_matches("http://").to_owned();
        let (subdomain, public_id) = (value("subdomain"), value("public_id"));
        let (email, password) = (value("email"), value("password"));
        Self {
            process,
            address,
            subdomain,
            public_id,
            _output: output,
            credentials: format!(r#"{{"email":"{email}","password":"{password}"}}"#),
        }
    }

    fn cpu(&self) -> f64 {
        cpu_of(&self.process.id().to_string())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Seconds of CPU that a process has had, in user space and in the kernel.
fn cpu_of(process: &str) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    // The name, in brackets, may hold spaces. utime and stime are fields 14 and 15, the first after the name is field 3.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks = fields.split_whitespace().skip(11).take(2);
    ticks.map(|field| field.parse::<f64>().expect("a number")).sum::<f64>() / TICKS_PER_SECOND
}

/// HTTP/1.1 by hand, so that the client takes next to nothing.
struct Connection {
    stream: BufReader<TcpStream>,
    body: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        Self {
            stream: BufReader::with_capacity(1 << 20, stream),
            body: Vec::new(),
        }
    }

    fn log_in(&mut self, simulator: &Simulator) -> String {
        let path = format!("/admin/auth/{}/login", simulator.subdomain);
        self.exchange("POST", &path, "", &simulator.credentials);
        text_after(&self.body, r#""token":""#).expect("a token")
    }

    /// Reads every row once.
    fn walk(&mut self, public_id: &str, token: &str) {
        let first = format!("/admin/v3/lenders/{public_id}/exports/S1/D02?limit={LIMIT}");
        let authorization = format!("authorization: Bearer {token}\r\n");
        let mut path = first.clone();
        for page in 1..=ROWS / LIMIT {
            self.exchange("GET", &path, &authorization, "");
            let end = &self.body[self.body.len().saturating_sub(1_000)..];
            match text_after(end, r#""nextCursor":""#) {
                Some(cursor) => path = format!("{first}&cursor={cursor}"),
                None => assert_eq!(page, ROWS / LIMIT, "the walk ended early"),
            }
        }
    }

    fn exchange(&mut self, method: &str, path: &str, header: &str, body: &str) {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\n{header}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (mut line, mut length, mut first) = (String::new(), 0, true);
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("an answer");
            assert!(!first || line.contains(" 200 "), "{line}");
            first = false;
            let header = line.trim_end();
            if header.is_empty() {
                break;
            }
            if let Some(("content-length", value)) = header.split_once(": ") {
                length = value.parse().expect("a length");
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body).expect("a whole body");
    }
}

/// What follows `key`, up to a quotation mark.
fn text_after(bytes: &[u8], key: &str) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let (_, rest) = text.split_once(key)?;
    Some(rest.split('"').next()?.to_owned())
}
