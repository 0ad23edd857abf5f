//! The real program as a child process, and what it took.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;

/// What one run of the program took.
#[derive(Debug)]
pub(crate) struct Figures {
    /// From its start to its end.
    pub wall: Duration,
    /// From the claim and the restore of the index to its end.
    pub reading: Duration,
    /// From its start to the claim and the restore.
    pub restore: Duration,
    /// From its start until its last lender is claimed, by the clock of this process.
    pub claimed: Duration,
    /// User and system time.
    pub cpu: Duration,
    pub peak_bytes: u64,
    /// Resident when the index was restored.
    pub restored_bytes: u64,
    pub account_count: u64,
    pub rows_a_transaction: usize,
}

/// One source with topics of its own.
pub(crate) struct Source {
    name: String,
    config: PathBuf,
    settings: Vec<String>,
    program: PathBuf,
}

impl Source {
    pub(crate) fn new(testbed: &Testbed, base_url: &str, name: &str) -> Self {
        Self::of(testbed, base_url, name, 1)
    }

    /// For so many lenders, which share the topics.
    pub(crate) fn of(testbed: &Testbed, base_url: &str, name: &str, lenders: u32) -> Self {
        let name = format!("bench-{}-{name}", std::process::id());
        let lender = |number| {
            format!(
                "[lenders.lender-{number}]\nemail = \"exports@lender-{number}.example\"\npassword = \"secret-{number}\"\n"
            )
        };
        let lenders: String = (1..=lenders).map(lender).collect();
        let toml = format!(
            "name = \"{name}\"\n[upstream]\nbase_url = \"{base_url}\"\n{lenders}[kafka]\nbootstrap_servers = \"{}\"\n[kafka.topics]\n\
             accounts = \"{name}.accounts\"\ncursor = \"{name}.cursor\"\nchanges = \"{name}.changes\"\n\
             dead_letters = \"{name}.dead-letters\"\n\
             [schema_registry]\nurl = \"{}\"\n",
            testbed.bootstrap_servers(),
            testbed.schema_registry_url(),
        );
        let config = std::env::temp_dir().join(format!("{name}.toml"));
        fs::write(&config, toml).expect("the configuration is written");
        Self {
            name,
            config,
            settings: Vec::new(),
            program: PathBuf::from(env!("CARGO_BIN_EXE_d02-source")),
        }
    }

    /// As another build of the program runs it.
    pub(crate) fn by(mut self, program: &Path) -> Self {
        self.program = program.to_owned();
        self
    }

    /// Runs with this `--set` too.
    pub(crate) fn set(mut self, assignment: String) -> Self {
        self.settings.extend(["--set".to_owned(), assignment]);
        self
    }

    pub(crate) fn topic(&self, what: &str) -> String {
        format!("{}.{what}", self.name)
    }

    /// `run`, until the guard is dropped.
    pub(crate) fn run(&self) -> Running {
        self.run_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn run_with(&self, arguments: &[&str]) -> Running {
        let child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args(&self.settings)
            .args(arguments)
            .arg("run")
            .env("RUST_LOG", std::env::var("D02_BENCH_LOG").as_deref().unwrap_or("error"))
            .spawn()
            .expect("the program starts");
        Running(child)
    }

    /// `run --until-caught-up`, to its good end.
    pub(crate) fn catch_up(&self) -> Figures {
        let (cpu_before, begun) = (children_cpu(), Instant::now());
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(&self.config)
            .args(&self.settings)
            .args(["run", "--until-caught-up"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let status = PathBuf::from(format!("/proc/{}/status", child.id()));
        let (mut restored, mut restored_bytes, mut last, mut log) = (None, 0, String::new(), String::new());
        let mut account_count = 0;
        let sampled = status.clone();
        let peak = std::thread::spawn(move || {
            let mut peak_bytes = 0;
            while let Some(bytes) = memory(&sampled, "VmHWM:") {
                peak_bytes = bytes;
                std::thread::sleep(Duration::from_millis(5));
            }
            peak_bytes
        });
        for line in BufReader::new(child.stderr.take().expect("piped"))
            .lines()
            .map_while(Result::ok)
        {
            if line.contains("claimed and restored") {
                restored = Some((begun.elapsed(), field(&line, "took=")));
                restored_bytes = memory(&status, "VmRSS:").expect("it runs");
            }
            if line.contains("at the end: ") {
                account_count += count(&line, " accounts");
                last.clone_from(&line);
            }
            log.push_str(&line);
            log.push('\n');
        }
        let exit = child.wait().expect("a child");
        assert!(exit.success(), "{log}");
        let wall = begun.elapsed();
        let (restored_at, took) = restored.expect("a line that says so");
        let restore = humantime::parse_duration(&took).unwrap_or_else(|_| seconds(&took));
        let (records, transactions) = (count(&last, " records in "), count(&last, " transactions"));
        Figures {
            wall,
            reading: wall - restored_at,
            restore,
            claimed: restored_at,
            cpu: children_cpu() - cpu_before,
            peak_bytes: peak.join().expect("sampling does not panic"),
            restored_bytes,
            account_count,
            rows_a_transaction: usize::try_from(records / transactions.max(1)).expect("a count").max(1),
        }
    }
}

/// A program that runs until this is dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn end(&mut self) {
        let asked = Command::new("kill").arg(self.id().to_string()).status();
        assert!(asked.expect("kill runs").success());
        let exit = self.0.wait().expect("a child");
        assert!(exit.success(), "{exit}");
    }

    /// Waits until it has ended by itself; gives for how long.
    pub(crate) fn wait_for_its_end(&mut self) -> Duration {
        let begun = Instant::now();
        // 3: another one took over.
        assert_eq!(self.0.wait().expect("a child").code(), Some(3));
        begun.elapsed()
    }

    /// User and system time so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu(&self.id().to_string(), 13..15)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // In a directory of temporary files anyway.
        let _ = fs::remove_file(&self.config);
    }
}

/// The number before `what`.
fn count(line: &str, what: &str) -> u64 {
    let before = line
        .split(what)
        .next()
        .expect("a part")
        .rsplit(' ')
        .next()
        .expect("a word");
    before
        .parse()
        .unwrap_or_else(|_| panic!("no number before `{what}` in {line}"))
}

fn field(line: &str, name: &str) -> String {
    let after = line.split(name).nth(1).expect("the field");
    after.split(' ').next().expect("a word").to_owned()
}

/// A duration as `Debug` writes it.
fn seconds(text: &str) -> Duration {
    let (number, scale) = if let Some(number) = text.strip_suffix("ms") {
        (number, 1e-3)
    } else {
        (text.strip_suffix('s').expect("seconds"), 1.0)
    };
    Duration::from_secs_f64(number.parse::<f64>().expect("a number") * scale)
}

/// `None` once the process has ended.
pub(crate) fn memory(status: &Path, name: &str) -> Option<u64> {
    let status = fs::read_to_string(status).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kilobytes * 1024)
}

/// User and system time of all children that have ended.
pub(crate) fn children_cpu() -> Duration {
    cpu("self", 15..17)
}

/// User and system time of this process.
pub(crate) fn own_cpu() -> Duration {
    cpu("self", 13..15)
}

/// Fields of proc(5)'s `stat`, counted from 0, in ticks of 10 ms.
fn cpu(process: &str, fields: std::ops::Range<usize>) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs, and proc is mounted");
    let after_name = stat.rsplit_once(") ").expect("a name in parentheses").1;
    let values = after_name.split(' ').skip(fields.start - 2).take(fields.len());
    Duration::from_millis(values.map(|ticks| ticks.parse::<u64>().expect("ticks") * 10).sum())
}
