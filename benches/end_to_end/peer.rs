//! What does a program of a day's work take for the same? `benches/peer/peer.py`, in an environment of its own, beside this program, in
//! turn, accounts only.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;

use super::process::{Source, children_cpu};
use super::{ROUNDS, Report, Upstream, median};

pub(crate) fn peer(testbed: &Testbed, report: &mut Report) {
    let row_count = 1_000_000;
    let python = environment();
    let upstream = Upstream::start(row_count, Duration::ZERO);
    let (mut peers, mut ours) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let source =
            Source::new(testbed, &upstream.base_url, &format!("peer-{round}")).set("kafka.topics.changes=".to_owned());
        let figures = source.catch_up();
        eprintln!("round {round}: {figures:?}");
        ours.push((figures.wall, figures.cpu));
        let taken = run(&python, testbed, &upstream.base_url, round, row_count);
        eprintln!("round {round}, the other: {taken:?}");
        peers.push(taken);
    }
    report.peer(row_count, &peers, &ours);
}

/// Wall and CPU time of one walk.
type Taken = (Duration, Duration);

fn run(python: &str, testbed: &Testbed, base_url: &str, round: usize, row_count: u32) -> Taken {
    let name = format!("bench-{}-python-{round}", std::process::id());
    let (accounts, cursor) = (format!("{name}.accounts"), format!("{name}.cursor"));
    super::ceiling::create(&testbed.bootstrap_servers(), &accounts);
    super::ceiling::create(&testbed.bootstrap_servers(), &cursor);
    let (cpu_before, begun) = (children_cpu(), Instant::now());
    let output = Command::new(python)
        .arg("benches/peer/peer.py")
        .args(["--base-url", base_url, "--lender", "lender-1"])
        .args(["--email", "exports@lender-1.example"])
        .args(["--bootstrap-servers", &testbed.bootstrap_servers()])
        .args(["--registry", &testbed.schema_registry_url()])
        .args(["--schema", "avro/account.avsc"])
        .args(["--accounts", &accounts, "--cursor", &cursor])
        .env("PEER_PASSWORD", "secret-1")
        .output()
        .expect("python runs");
    let taken = (begun.elapsed(), children_cpu() - cpu_before);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).expect("text");
    assert_eq!(said.trim(), row_count.to_string(), "the walk is complete");
    taken
}

/// A Python with the packages that are pinned.
fn environment() -> String {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    let python = folder.join("bin/python").to_str().expect("a path").to_owned();
    let done = |command: &mut Command| assert!(command.status().expect("it runs").success(), "{command:?}");
    done(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    done(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--requirement", "benches/peer/requirements.txt"]),
    );
    python
}

impl Report {
    fn peer(&mut self, row_count: u32, peers: &[Taken], ours: &[Taken]) {
        let rows = f64::from(row_count);
        self.line(&format!(
            "**Beside a transactional program in Python** (`benches/peer/peer.py`), {row_count} accounts, without `changes`\n"
        ));
        self.line("| | rows/s, whole process | CPU seconds per million rows |");
        self.line("|---|---:|---:|");
        let figures = |taken: &[Taken]| {
            let rate = rows / median(taken.iter().map(|(wall, _)| wall.as_secs_f64()));
            (
                rate,
                median(taken.iter().map(|(_, cpu)| cpu.as_secs_f64())) / rows * 1e6,
            )
        };
        let (peer, our) = (figures(peers), figures(ours));
        self.line(&format!("| Python | {:.0} | {:.1} |", peer.0, peer.1));
        self.line(&format!("| this | {:.0} | {:.1} |", our.0, our.1));
        self.line(&format!(
            "| | {:.1} times as many | {:.1} times less |\n",
            our.0 / peer.0,
            peer.1 / our.1
        ));
    }
}
