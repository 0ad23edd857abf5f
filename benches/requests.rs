//! What does following cost upstream? Requests and rows an hour, by what changes.
//! `cargo bench --bench requests [-- --against BINARY]`
//!
//! An hour is a minute here: poll, sweeps and window are sixty times shorter, and changes come sixty times as fast. How many
//! requests that makes does not depend on how fast the machine is, as long as each poll ends before the next one. With
//! `--against`, another build of the program follows the same changes after this one, in the same run.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use d02_source::simulator::{LenderOptions, Options, Simulator};
use d02_source::testbed::Testbed;
use tokio::runtime::Runtime;

const HOUR: Duration = Duration::from_secs(60);

/// The defaults, a sixtieth of them.
const SET: [&str; 4] = [
    "upstream.page_size=1000",
    "upstream.poll_interval=83ms",
    "upstream.late_sweep_interval=1s",
    "upstream.late_window=10s",
];

/// What changes in the hour.
struct Load {
    name: &'static str,
    /// Accounts that get one time at its beginning.
    bulk: usize,
    /// Changes a second, each with a time of its own.
    change_rate: f64,
}

const LOADS: [Load; 4] = [
    Load {
        name: "at rest",
        bulk: 0,
        change_rate: 0.0,
    },
    Load {
        name: "a bulk update of 100,000 accounts with one time",
        bulk: 100_000,
        change_rate: 0.0,
    },
    Load {
        name: "10 changes a second",
        bulk: 0,
        change_rate: 10.0,
    },
    Load {
        name: "a night in which 100,000 accounts change, each at its time",
        bulk: 0,
        change_rate: 100_000.0 / 3_600.0,
    },
];

/// A process that is gone with this.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What upstream served in an hour.
struct Served {
    requests: u64,
    rows: u64,
    changed: u64,
}

fn main() {
    let mut asked = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let against = match (asked.next().as_deref(), asked.next()) {
        (None, _) => None,
        (Some("--against"), Some(binary)) => Some(PathBuf::from(binary)),
        _ => panic!("cargo bench --bench requests [-- --against BINARY]"),
    };
    let testbed = Testbed::start().unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error)));
    let runtime = Runtime::new().expect("a runtime");
    let own = PathBuf::from(env!("CARGO_BIN_EXE_d02-source"));
    println!("| in an hour | requests | rows | readings a changed row |\n|---|---|---|---|");
    for load in &LOADS {
        for binary in std::iter::once(&own).chain(&against) {
            let Served {
                requests,
                rows,
                changed,
            } = follow(&testbed, &runtime, load, binary);
            let readings = match changed {
                0 => "-".to_owned(),
                changed => format!("{:.2}", rows as f64 / changed as f64),
            };
            let which = if *binary == own { "" } else { ", before" };
            println!("| {}{which} | {requests} | {rows} | {readings} |", load.name);
        }
    }
}

fn follow(testbed: &Testbed, runtime: &Runtime, load: &Load, binary: &Path) -> Served {
    let lender = LenderOptions {
        rows: 100_000,
        change_rate: 60.0 * load.change_rate,
        ..LenderOptions::numbered(1)
    };
    let options = Options {
        lenders: vec![lender],
        ..Options::default()
    };
    let simulator = runtime.block_on(Simulator::start(options)).expect("a simulator");
    let name = format!("requests-{}-{}", std::process::id(), fastrand::u32(..));
    let info = simulator.handle().lender(0);
    let config = std::env::temp_dir().join(format!("{name}.toml"));
    let toml = format!(
        "name = \"{name}\"\n[upstream]\nbase_url = \"{}\"\n[lenders.{}]\nemail = \"{}\"\npassword = \"{}\"\n[kafka]\n\
         bootstrap_servers = \"{}\"\n[kafka.topics]\naccounts = \"{name}.accounts\"\ncursor = \"{name}.cursor\"\n\
         changes = \"{name}.changes\"\ndead_letters = \"{name}.dead\"\n[schema_registry]\nurl = \"{}\"\n",
        simulator.handle().base_url(),
        info.subdomain,
        info.email,
        info.password,
        testbed.bootstrap_servers(),
        testbed.schema_registry_url(),
    );
    std::fs::write(&config, toml).expect("the configuration is written");
    let mut command = Command::new(binary);
    command.arg("--config").arg(&config).stderr(Stdio::null());
    for set in SET {
        command.args(["--set", set]);
    }
    let running = Running(command.arg("run").spawn().expect("the program starts"));
    let served = || {
        let counts = simulator.handle().counts();
        (counts.request_count, counts.row_count)
    };
    // The snapshot, and what comes late beside it: until as good as nothing is read for a while.
    let begun = Instant::now();
    let mut quiet = 0;
    while quiet < 3 {
        assert!(begun.elapsed() < 10 * HOUR, "the snapshot does not end");
        let before = served().1;
        std::thread::sleep(Duration::from_secs(2));
        let is_read = before >= 100_000;
        let is_quiet = load.change_rate > 0.0 || served().1 - before < 2_000;
        quiet = if is_read && is_quiet { quiet + 1 } else { 0 };
    }
    let (requests, rows) = served();
    let changes = simulator.handle().counts().change_count;
    if load.bulk > 0 {
        simulator.handle().touch(0, load.bulk, 1);
    }
    std::thread::sleep(HOUR);
    let (requests_after, rows_after) = served();
    drop(running);
    // In a directory of temporary files anyway.
    let _ = std::fs::remove_file(&config);
    Served {
        requests: requests_after - requests,
        rows: rows_after - rows,
        changed: simulator.handle().counts().change_count - changes,
    }
}
