//! Is it faster than another build of itself? `cargo bench --bench end_to_end -- --against BINARY`: rounds of both in turn, medians,
//! and their ratio. Each has topics of its own, which it wrote itself.

use std::path::{Path, PathBuf};
use std::time::Duration;

use d02_source::testbed::Testbed;

use super::ceiling::Ceiling;
use super::process::{Figures, Source};
use super::{ROUNDS, Report, Upstream, median, walk_and_ceiling};

/// Restarts of which each is to hold: resident memory differs from one to the next.
const RESTARTS: usize = 5;

/// What both did, the other one first.
type Both<T> = [Vec<T>; 2];

pub(crate) fn against(testbed: &Testbed, other: &Path, report: &mut Report) {
    report.line(&format!("**Against {}**\n", other.display()));
    report.line("| | the other | this | this of the other |");
    report.line("|---|---:|---:|---:|");
    let programs = [other.to_owned(), PathBuf::from(env!("CARGO_BIN_EXE_d02-source"))];
    walk(testbed, &programs, true, report);
    walk(testbed, &programs, false, report);
    let (row_count, full) = (1_000_000, restarts(testbed, &programs, 1_000_000));
    let one = restarts(testbed, &programs, 1);
    let what = format!("restart with {row_count} accounts");
    report.compare(&format!("{what}: restore, s"), &full, |figures| {
        seconds(figures.restore)
    });
    report.compare(&format!("{what}: whole process, s"), &full, |figures| {
        seconds(figures.wall)
    });
    report.compare(&format!("{what}: CPU, s"), &full, |figures| seconds(figures.cpu));
    report.compare("restart with one account: whole process, s", &one, |figures| {
        seconds(figures.wall)
    });
    let rest = one
        .each_ref()
        .map(|figures| median(figures.iter().map(|figures| figures.restored_bytes as f64)));
    let resident = |figures: &Figures, rest: f64| (figures.restored_bytes as f64 - rest) / f64::from(row_count);
    let each = [0, 1].map(|program: usize| {
        let each = full[program].iter().map(|figures| resident(figures, rest[program]));
        each.map(|bytes| format!("{bytes:.0}")).collect::<Vec<_>>().join(", ")
    });
    report.line(&format!(
        "| resident after the restore, bytes an account, each run | {} | {} | |\n",
        each[0], each[1]
    ));
}

fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}

impl Report {
    fn compare<T>(&mut self, what: &str, both: &Both<T>, value: impl Fn(&T) -> f64) {
        let [other, this] = both.each_ref().map(|figures| median(figures.iter().map(&value)));
        self.line(&format!(
            "| {what} | {other:.2} | {this:.2} | **{:.2}** |",
            this / other
        ));
    }
}

/// Also how many rows a second these records took without a source, by the same client.
fn walk(testbed: &Testbed, programs: &[PathBuf; 2], with_changes: bool, report: &mut Report) {
    let row_count = 500_000;
    let upstream = Upstream::start(row_count, Duration::ZERO);
    let mut both: Both<(Figures, Ceiling)> = Both::default();
    for round in 0..ROUNDS {
        for (number, program) in programs.iter().enumerate() {
            let name = format!("against{number}-{round}-{with_changes}");
            let source = Source::new(testbed, &upstream.base_url, &name).by(program);
            let taken = walk_and_ceiling(testbed, source, with_changes, row_count);
            eprintln!("{name}: {taken:?}");
            both[number].push(taken);
        }
    }
    let what = format!(
        "walk over {row_count}, {} `changes`",
        if with_changes { "with" } else { "without" }
    );
    let rows = f64::from(row_count);
    report.compare(&format!("{what}: whole process, rows/s"), &both, |(figures, _)| {
        rows / seconds(figures.wall)
    });
    report.compare(
        &format!("{what}: of the ceiling of its round"),
        &both,
        |(figures, ceiling)| seconds(ceiling.wall) / seconds(figures.wall),
    );
    report.compare(&format!("{what}: CPU s per million rows"), &both, |(figures, _)| {
        seconds(figures.cpu) / rows * 1e6
    });
    report.compare(&format!("{what}: the ceiling's"), &both, |(_, ceiling)| {
        seconds(ceiling.cpu) / rows * 1e6
    });
    report.compare(&format!("{what}: peak memory, MiB"), &both, |(figures, _)| {
        figures.peak_bytes as f64 / f64::from(1 << 20)
    });
}

/// Restarts at rest, with `changes`.
fn restarts(testbed: &Testbed, programs: &[PathBuf; 2], row_count: u32) -> Both<Figures> {
    let upstream = Upstream::start(row_count, Duration::ZERO);
    let source = |number: usize| {
        let source = Source::new(testbed, &upstream.base_url, &format!("restart{number}-{row_count}"));
        source.by(&programs[number])
    };
    let sources = [source(0), source(1)];
    sources.iter().for_each(|source| {
        source.catch_up();
    });
    let mut both: Both<Figures> = Both::default();
    for _ in 0..RESTARTS {
        for (number, source) in sources.iter().enumerate() {
            let figures = source.catch_up();
            eprintln!("restart {number} with {row_count}: {figures:?}");
            both[number].push(figures);
        }
    }
    both
}
