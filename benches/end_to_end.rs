//! What does the whole path cost, beside what the same bytes cost without us? `cargo bench --bench end_to_end`
//!
//! A broker, a registry and a simulator run on this machine beside what is measured. Everything that is compared is
//! measured in turn in this one run, three times; medians are reported. With `-- --write`, the figures and the picture go
//! into `docs/`. With `-- --against BINARY`, this build beside another one.

#[path = "end_to_end/against.rs"]
mod against;
#[path = "end_to_end/ceiling.rs"]
mod ceiling;
#[path = "end_to_end/codecs.rs"]
mod codecs;
#[path = "end_to_end/follower.rs"]
mod follower;
#[path = "end_to_end/group.rs"]
mod group;
#[path = "end_to_end/peer.rs"]
mod peer;
#[path = "end_to_end/picture.rs"]
mod picture;
#[path = "end_to_end/process.rs"]
mod process;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use ceiling::Ceiling;
use d02_source::testbed::Testbed;
use process::{Figures, Source};

const ROUNDS: usize = 3;

/// What stands in the middle of sorted values.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// A simulated upstream in a process of its own.
struct Upstream {
    child: Child,
    /// Open as long as it runs: it may have more to say.
    _output: BufReader<ChildStdout>,
    base_url: String,
}

impl Upstream {
    fn start(row_count: u32, latency: Duration) -> Self {
        Self::with_changes(row_count, latency, 0)
    }

    /// So many lenders, each with so many rows.
    fn of_lenders(lenders: u32, row_count: u32) -> Self {
        Self::with(&["--lenders", &lenders.to_string(), "--rows", &row_count.to_string()])
    }

    /// With so many changes a second.
    fn with_changes(row_count: u32, latency: Duration, change_rate: u32) -> Self {
        let latency = format!("{}ms", latency.as_millis());
        let (row_count, change_rate) = (row_count.to_string(), change_rate.to_string());
        Self::with(&[
            "--latency",
            &latency,
            "--rows",
            &row_count,
            "--change-rate",
            &change_rate,
        ])
    }

    fn with(options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_d02-source"))
            .args(["simulate", "--tie-group", "1,5,1500"])
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator starts");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let base_url = output
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| Some(line.strip_prefix("base_url = \"")?.trim_end_matches('"').to_owned()))
            .expect("the simulator says where it listens");
        Self {
            child,
            _output: output,
            base_url,
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn main() {
    // cargo adds `--bench`.
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let is_asked = |part: &str| asked.iter().any(|argument| argument == part);
    let is_written = is_asked("--write");
    let testbed = Testbed::start().unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error)));
    let mut report = Report::default();
    if let [option, other] = &asked[..]
        && option == "--against"
    {
        against::against(&testbed, Path::new(other), &mut report);
        return println!("{}", report.text);
    }
    for (part, measure) in PARTS {
        if is_written || asked.is_empty() || is_asked(part) {
            measure(&testbed, &mut report);
        }
    }
    println!("{}", report.text);
    if is_written {
        report.write();
    }
}

type Part = (&'static str, fn(&Testbed, &mut Report));

/// What can be asked for by name; all of it, if nothing is.
const PARTS: [Part; 13] = [
    ("walk", walk),
    ("sizes", sizes),
    ("restore", restore),
    ("lenders", lenders),
    ("latency", latency),
    ("freshness", freshness),
    ("sharing", group::sharing),
    ("rest", group::rest),
    ("standby", group::standby),
    ("hand-over", group::hand_over),
    ("take-over", group::take_over),
    ("codecs", codecs::codecs),
    ("peer", peer::peer),
];

/// With `changes`, which writes a second record for each row, and without; one after the other in every round.
fn walk(testbed: &Testbed, report: &mut Report) {
    let row_count = 500_000;
    let mut both = [(true, Vec::new()), (false, Vec::new())];
    let upstream = Upstream::start(row_count, Duration::ZERO);
    for round in 0..ROUNDS {
        for (with_changes, measured) in &mut both {
            let source = Source::new(testbed, &upstream.base_url, &format!("walk{round}-{with_changes}"));
            let taken = walk_and_ceiling(testbed, source, *with_changes, row_count);
            eprintln!("round {round}, changes {with_changes}: {taken:?}");
            measured.push(taken);
        }
    }
    let [(_, with), (_, without)] = both;
    report.walk(row_count, &with, &without);
}

/// A first walk, and what its records take without a source.
fn walk_and_ceiling(testbed: &Testbed, mut source: Source, with_changes: bool, row_count: u32) -> (Figures, Ceiling) {
    let mut topics = vec![source.topic("accounts")];
    if with_changes {
        topics.push(source.topic("changes"));
    } else {
        source = source.set("kafka.topics.changes=".to_owned());
    }
    let walk = source.catch_up();
    assert_eq!(walk.account_count, u64::from(row_count), "the walk is complete");
    let ceiling = ceiling::produce(&testbed.bootstrap_servers(), &topics, walk.rows_a_transaction);
    (walk, ceiling)
}

fn sizes(testbed: &Testbed, report: &mut Report) {
    let first_walks = |row_count| {
        let upstream = Upstream::start(row_count, Duration::ZERO);
        let walk = |round| {
            let figures = Source::new(testbed, &upstream.base_url, &format!("size-{row_count}-{round}")).catch_up();
            eprintln!("{row_count} rows: {figures:?}");
            figures
        };
        (row_count, (0..ROUNDS).map(walk).collect())
    };
    report.sizes(&[100_000, 2_000_000].map(first_walks));
}

fn restore(testbed: &Testbed, report: &mut Report) {
    let row_count = 1_000_000;
    let restarts = |name, row_count| {
        let upstream = Upstream::start(row_count, Duration::ZERO);
        let source = Source::new(testbed, &upstream.base_url, name);
        source.catch_up();
        let figures: Vec<_> = (0..ROUNDS).map(|_| source.catch_up()).collect();
        eprintln!("{name}: {figures:?}");
        figures
    };
    report.restore(row_count, &restarts("full", row_count), &restarts("empty", 1));
}

/// As many accounts of one lender and of fifty, which share a topic; one after the other in every round.
fn lenders(testbed: &Testbed, report: &mut Report) {
    let both = [(1, 1_000_000), (50, 20_000)].map(|(lenders, row_count)| {
        let upstream = Upstream::of_lenders(lenders, row_count);
        let source = Source::of(testbed, &upstream.base_url, &format!("lenders-{lenders}"), lenders);
        let first = source.catch_up();
        assert_eq!(first.account_count, 1_000_000, "the walk is complete");
        (lenders, upstream, source, Vec::new())
    });
    let mut both = both;
    for _ in 0..ROUNDS {
        for (lenders, _, source, measured) in &mut both {
            let figures = source.catch_up();
            eprintln!("{lenders} lenders: {figures:?}");
            measured.push(figures);
        }
    }
    report.lenders(&both.map(|(lenders, _, _, measured)| (lenders, measured)));
}

fn latency(testbed: &Testbed, report: &mut Report) {
    let row_count = 600_000;
    let upstream = Upstream::start(row_count, Duration::from_millis(100));
    let walks = |parallelism: u32| {
        // One after another takes a minute, and waits for nearly all of it: once shows as much as three times.
        let rounds = if parallelism == 1 { 1 } else { ROUNDS };
        let walk = |round| {
            let name = format!("latency-{parallelism}-{round}");
            let source = Source::new(testbed, &upstream.base_url, &name);
            let figures = source
                .set(format!("upstream.snapshot_parallelism={parallelism}"))
                .catch_up();
            eprintln!("{parallelism} ranges: {figures:?}");
            figures
        };
        (parallelism, (0..rounds).map(walk).collect())
    };
    report.latency(row_count, &[1, 4, 8, 16].map(walks));
}

fn freshness(testbed: &Testbed, report: &mut Report) {
    let measure = |what, row_count, latency, parallelism: u32| {
        let upstream = Upstream::with_changes(row_count, Duration::from_millis(latency), 100);
        let source = Source::new(testbed, &upstream.base_url, &format!("fresh-{row_count}-{latency}"))
            .set("upstream.poll_interval=250ms".to_owned())
            .set(format!("upstream.snapshot_parallelism={parallelism}"));
        let delays = follower::delays(&testbed.bootstrap_servers(), &source);
        eprintln!("{what}: {} changes", delays.len());
        (what, delays)
    };
    let all = [
        measure("at rest", 10_000, 0, 4),
        measure(
            "beside a snapshot of 3,000,000 accounts in one range, upstream takes 20 ms an answer",
            3_000_000,
            20,
            1,
        ),
        measure(
            "beside one in four ranges, upstream takes 100 ms an answer",
            3_000_000,
            100,
            4,
        ),
    ];
    report.freshness(&all);
}

/// When, of what and on which machine: figures without that are hearsay.
fn origin() -> String {
    let said = |command: &str, arguments: &[&str]| {
        let output = Command::new(command).args(arguments).output().expect("it runs");
        assert!(output.status.success(), "{command} {arguments:?}");
        String::from_utf8(output.stdout).expect("text").trim().to_owned()
    };
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let is_changed = !said("git", &["status", "--porcelain", "--", "src", "benches", "Cargo.lock"]).is_empty();
    let changed = if is_changed { ", changed" } else { "" };
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).expect("Linux");
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or("unknown");
        line.trim_start_matches([':', ' ', '\t']).to_owned()
    };
    let memory: u64 = field("/proc/meminfo", "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .expect("kilobytes");
    format!(
        "Measured on {} at commit {commit}{changed}, on {} cores ({}) of a shared virtual machine with {} GiB.",
        d02_source::clock::now().format("%Y-%m-%d"),
        std::thread::available_parallelism().expect("cores"),
        field("/proc/cpuinfo", "model name"),
        memory.div_ceil(1 << 20),
    )
}

/// The figures as they stand in docs/performance.md.
#[derive(Default)]
struct Report {
    text: String,
    bars: Vec<(String, f64)>,
}

impl Report {
    fn line(&mut self, line: &str) {
        writeln!(self.text, "{line}").expect("a String takes everything");
    }

    fn walk(&mut self, row_count: u32, with: &[(Figures, Ceiling)], without: &[(Figures, Ceiling)]) {
        let rows = f64::from(row_count);
        self.line(&format!(
            "**First walk over {row_count} accounts** (`run --until-caught-up`)\n"
        ));
        self.line("| | rows/s | of its ceiling | CPU seconds per million rows |");
        self.line("|---|---|---|---|");
        for (measured, name, bar) in [
            (with, "with `changes` (by default)", "with changes"),
            (without, "`kafka.topics.changes = \"\"`", "without"),
        ] {
            let walks = || measured.iter().map(|(walk, _)| walk);
            let ceilings = || measured.iter().map(|(_, ceiling)| ceiling);
            let rate = |of: fn(&Figures) -> Duration| rows / median(walks().map(|walk| of(walk).as_secs_f64()));
            let share = |of: fn(&Figures) -> Duration| {
                let share = |(walk, ceiling): &(Figures, Ceiling)| ceiling.wall.as_secs_f64() / of(walk).as_secs_f64();
                median(measured.iter().map(share))
            };
            let cpu = |seconds: f64| seconds / rows * 1e6;
            let (whole, reading) = (rate(|walk| walk.wall), rate(|walk| walk.reading));
            let ceiling = rows / median(ceilings().map(|ceiling| ceiling.wall.as_secs_f64()));
            let walk_cpu = cpu(median(walks().map(|walk| walk.cpu.as_secs_f64())));
            let ceiling_cpu = cpu(median(ceilings().map(|ceiling| ceiling.cpu.as_secs_f64())));
            self.line(&format!(
                "| {name}: the whole process, from its start to its end | {whole:.0} | {:.2} | {walk_cpu:.1} |",
                share(|walk| walk.wall)
            ));
            self.line(&format!(
                "| of it, from the claim to the end | {reading:.0} | {:.2} | |",
                share(|walk| walk.reading)
            ));
            self.line(&format!(
                "| ceiling: the same records by a bare transactional librdkafka loop | {ceiling:.0} | 1 | {ceiling_cpu:.1} |"
            ));
            self.bars.push((format!("whole process, {bar}"), whole));
            self.bars.push((format!("claim to end, {bar}"), reading));
            self.bars.push((format!("ceiling, {bar}"), ceiling));
        }
        let peak = |measured: &[(Figures, Ceiling)]| {
            median(measured.iter().map(|(walk, _)| walk.peak_bytes as f64)) / f64::from(1 << 20)
        };
        self.line(&format!(
            "\nPeak memory of the process: {:.0} MiB with `changes`, {:.0} MiB without.\n",
            peak(with),
            peak(without)
        ));
    }

    fn sizes(&mut self, sizes: &[(u32, Vec<Figures>)]) {
        self.line("**Cost of a row by the number of accounts**\n");
        self.line("| accounts | rows/s from the claim on | CPU seconds per million rows | peak memory |");
        self.line("|---|---|---|---|");
        for (row_count, figures) in sizes {
            let rows = f64::from(*row_count);
            let rate = rows / median(figures.iter().map(|figures| figures.reading.as_secs_f64()));
            let cpu = median(figures.iter().map(|figures| figures.cpu.as_secs_f64())) / rows * 1e6;
            let peak = median(figures.iter().map(|figures| figures.peak_bytes as f64)) / f64::from(1 << 20);
            self.line(&format!("| {row_count} | {rate:.0} | {cpu:.1} | {peak:.0} MiB |"));
            self.bars.push((format!("{row_count} accounts"), rate));
        }
        self.line("");
    }

    /// Restarts with all accounts and with one.
    fn restore(&mut self, row_count: u32, restarts: &[Figures], empty: &[Figures]) {
        let restore = median(restarts.iter().map(|figures| figures.restore.as_secs_f64()));
        let wall = median(restarts.iter().map(|figures| figures.wall.as_secs_f64()));
        let resident = |figures: &[Figures]| median(figures.iter().map(|figures| figures.restored_bytes as f64));
        let each = (resident(restarts) - resident(empty)) / f64::from(row_count);
        self.line(&format!("**Restart at rest with {row_count} accounts**\n"));
        self.line("| | |");
        self.line("|---|---|");
        self.line(&format!("| restore of the index, as the log says | {restore:.1} s |"));
        self.line(&format!("| the whole process, to caught up | {wall:.1} s |"));
        self.line(&format!(
            "| memory an account: resident after the restore, less that of a process with one account | {each:.0} bytes |\n"
        ));
    }

    fn lenders(&mut self, all: &[(u32, Vec<Figures>)]) {
        self.line("**Restart at rest with 1000000 accounts of one lender, and of 50 in the same topic**\n");
        self.line(
            "| lenders | from its start until the last is claimed | of one lender | peak memory | of one lender |",
        );
        self.line("|---|---|---|---|---|");
        let figures_of = |figures: &[Figures]| {
            let claimed = median(figures.iter().map(|figures| figures.claimed.as_secs_f64()));
            let peak = median(figures.iter().map(|figures| figures.peak_bytes as f64));
            (claimed, peak)
        };
        let one = figures_of(&all[0].1);
        for (lenders, figures) in all {
            let (claimed, peak) = figures_of(figures);
            self.line(&format!(
                "| {lenders} | {claimed:.1} s | {:.2} | {:.0} MiB | {:.2} |",
                claimed / one.0,
                peak / f64::from(1 << 20),
                peak / one.1
            ));
        }
        self.line("");
    }

    fn latency(&mut self, row_count: u32, walks: &[(u32, Vec<Figures>)]) {
        self.line(&format!(
            "**Upstream takes 100 ms an answer**, pages of 1000 rows, {row_count} accounts\n"
        ));
        self.line("| `snapshot_parallelism` | rows/s from the claim on | of one range |");
        self.line("|---|---|---|");
        let rate = |figures: &[Figures]| {
            f64::from(row_count) / median(figures.iter().map(|figures| figures.reading.as_secs_f64()))
        };
        let one = rate(&walks[0].1);
        for (parallelism, figures) in walks {
            let rate = rate(figures);
            self.line(&format!("| {parallelism} | {rate:.0} | {:.1} |", rate / one));
            self.bars.push((format!("100 ms, {parallelism} ranges"), rate));
        }
        self.line("");
    }

    fn freshness(&mut self, all: &[(&str, Vec<i64>)]) {
        self.line(
            "**From a change upstream to its record, as a `read_committed` consumer gets it**, 100 changes a second,",
        );
        self.line("`poll_interval = \"250ms\"`, for 20 s\n");
        self.line("| | changes | p50 | p99 |");
        self.line("|---|---|---|---|");
        for (what, delays) in all {
            let mut delays = delays.clone();
            delays.sort_unstable();
            let at = |share: usize| delays[(delays.len() - 1) * share / 100];
            self.line(&format!(
                "| {what} | {} | {} ms | {} ms |",
                delays.len(),
                at(50),
                at(99)
            ));
        }
        self.line("");
    }

    /// Puts the figures between the marks in docs/performance.md, and the picture beside it.
    fn write(&self) {
        const BEGIN: &str = "<!-- figures: cargo bench --bench end_to_end -- --write -->\n";
        const END: &str = "<!-- end of the figures -->";
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
        let page = docs.join("performance.md");
        let text = std::fs::read_to_string(&page).expect("docs/performance.md");
        let (head, rest) = text.split_once(BEGIN).expect("the mark before the figures");
        let (_, tail) = rest.split_once(END).expect("the mark after the figures");
        let text = format!("{head}{BEGIN}\n{}\n\n{}\n{END}{tail}", origin(), self.text.trim_end());
        std::fs::write(&page, text).expect("written");
        std::fs::write(docs.join("performance.svg"), picture::bars("rows a second", &self.bars)).expect("written");
    }
}
