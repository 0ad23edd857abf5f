//! What does it cost, and what does it give, to share the lenders out among processes of one group?

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;
use rdkafka::message::Message;

use super::follower;
use super::process::{Running, Source, memory};
use super::{Report, Upstream};

const PATIENCE: Duration = Duration::from_secs(600);

/// For how long what is at rest is looked at.
const MEASURED: Duration = Duration::from_secs(60);

/// A member of the group, that can be asked how it is.
struct Member {
    running: Running,
    address: String,
}

impl Member {
    fn start(source: &Source) -> Self {
        // Free a moment ago.
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let running = source.run_with(&["--set", &format!("http.listen={address}")]);
        Self { running, address }
    }

    /// The sum of each metric over all lenders; nothing while it does not answer.
    fn metrics(&self) -> BTreeMap<String, f64> {
        let asked = || -> std::io::Result<String> {
            let mut connection = TcpStream::connect(&self.address)?;
            connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            connection.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let mut sums = BTreeMap::new();
        for line in asked().unwrap_or_default().lines() {
            if let Some((name, value)) = line.rsplit_once(' ')
                && let Ok(value) = value.parse::<f64>()
            {
                *sums
                    .entry(name.split('{').next().unwrap_or(name).to_owned())
                    .or_default() += value;
            }
        }
        sums
    }

    /// One metric, of all lenders together.
    fn of(&self, name: &str) -> f64 {
        self.metrics().get(name).copied().unwrap_or_default()
    }

    fn threads(&self) -> usize {
        let directory = fs::read_dir(format!("/proc/{}/task", self.running.id()));
        directory.expect("it runs").count()
    }

    fn resident(&self) -> u64 {
        memory(format!("/proc/{}/status", self.running.id()).as_ref(), "VmRSS:").expect("it runs")
    }

    fn sockets(&self) -> usize {
        let directory = fs::read_dir(format!("/proc/{}/fd", self.running.id())).expect("it runs");
        let is_socket = |entry: &fs::DirEntry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"))
        };
        directory.flatten().filter(is_socket).count()
    }
}

fn sum(members: &[Member], name: &str) -> f64 {
    members.iter().map(|member| member.of(name)).sum()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
    begun.elapsed()
}

/// A snapshot of twelve lenders by one, two and three processes.
pub(super) fn sharing(testbed: &Testbed, report: &mut Report) {
    let (lenders, row_count) = (12, 40_000);
    let upstream = Upstream::with(&[
        "--lenders",
        &lenders.to_string(),
        "--rows",
        &row_count.to_string(),
        "--latency",
        "100ms",
    ]);
    let all = f64::from(lenders * row_count);
    report.line(&format!(
        "**A snapshot of {lenders} lenders with {row_count} accounts each, upstream takes 100 ms an answer**, by processes that start at the \
         same time\n"
    ));
    report.line(
        "| processes | from the first lender that is run to the last record | times faster than one | CPU seconds |",
    );
    report.line("|---:|---:|---:|---:|");
    let mut alone = None;
    for count in 1..=3 {
        let source = Source::of(testbed, &upstream.base_url, &format!("sharing-{count}"), lenders);
        let members: Vec<Member> = (0..count).map(|_| Member::start(&source)).collect();
        wait_for("lenders are run", || sum(&members, "d02_running") > 0.0);
        let took = wait_for("the snapshot", || sum(&members, "d02_records_total") >= all).as_secs_f64();
        let cpu: f64 = members.iter().map(|member| member.running.cpu().as_secs_f64()).sum();
        let one = *alone.get_or_insert(took);
        report.line(&format!("| {count} | {took:.1} s | {:.2} | {cpu:.1} |", one / took));
    }
    report.line("");
}

/// Two hundred lenders at rest, in one, two and three processes.
pub(super) fn rest(testbed: &Testbed, report: &mut Report) {
    let (lenders, row_count) = (200, 5_000);
    let upstream = Upstream::of_lenders(lenders, row_count);
    let source = Source::of(testbed, &upstream.base_url, "rest", lenders);
    report.line(&format!(
        "**{lenders} lenders with {row_count} accounts each, at rest, polled each 5 s**, for {} s: all processes together, and in brackets \
         the largest of them\n",
        MEASURED.as_secs()
    ));
    report.line("| processes | cores | resident | threads a lender | sockets | caught up after |");
    report.line("|---:|---:|---:|---:|---:|---:|");
    let mut members: Vec<Member> = Vec::new();
    for count in 1..=3_usize {
        let begun = Instant::now();
        members.push(Member::start(&source));
        wait_for("all lenders are run by all processes", || {
            let running: Vec<f64> = members.iter().map(|member| member.of("d02_running")).collect();
            running.iter().sum::<f64>() == f64::from(lenders)
                && running.iter().all(|running| *running > 0.0)
                && sum(&members, "d02_accounts") == f64::from(lenders * row_count)
                && sum(&members, "d02_rows_behind") == 0.0
        });
        let caught_up = begun.elapsed();
        // What a start leaves to be done is done by then.
        std::thread::sleep(Duration::from_secs(20));
        let before: Vec<Duration> = members.iter().map(|member| member.running.cpu()).collect();
        std::thread::sleep(MEASURED);
        let cores = |(member, before): (&Member, &Duration)| {
            (member.running.cpu() - *before).as_secs_f64() / MEASURED.as_secs_f64()
        };
        let cores: Vec<f64> = members.iter().zip(&before).map(cores).collect();
        let resident: Vec<u64> = members.iter().map(|member| member.resident() >> 20).collect();
        let threads: usize = members.iter().map(Member::threads).sum();
        let sockets: usize = members.iter().map(Member::sockets).sum();
        report.line(&format!(
            "| {count} | {:.2} ({:.2}) | {} ({}) MiB | {:.1} | {sockets} | {:.0} s |",
            cores.iter().sum::<f64>(),
            cores.iter().copied().fold(0.0, f64::max),
            resident.iter().sum::<u64>(),
            resident.iter().max().expect("some"),
            threads as f64 / f64::from(lenders),
            caught_up.as_secs_f64(),
        ));
    }
    report.line("");
}

/// What a process costs that stands by for a million accounts, of which fifty a second change.
pub(super) fn standby(testbed: &Testbed, report: &mut Report) {
    let row_count = 1_000_000;
    let upstream = Upstream::with_changes(row_count, Duration::ZERO, 50);
    let source = Source::new(testbed, &upstream.base_url, "standby");
    let first = Member::start(&source);
    wait_for("the snapshot", || first.of("d02_accounts") >= f64::from(row_count));
    let second = Member::start(&source);
    let warm = wait_for("it is warm", || {
        second.of("d02_standby_accounts") >= f64::from(row_count)
    });
    std::thread::sleep(Duration::from_secs(10));
    let before = [first.running.cpu(), second.running.cpu()];
    let written = |member: &Member| member.of("d02_kafka_message_bytes_total");
    let bytes = written(&first);
    std::thread::sleep(MEASURED);
    let share = |member: &Member, before: Duration| {
        (member.running.cpu() - before).as_secs_f64() / MEASURED.as_secs_f64() * 100.0
    };
    report.line(&format!(
        "**A warm standby of {row_count} accounts, of which 50 change a second**, for {} s\n",
        MEASURED.as_secs()
    ));
    report.line("| | runs the lender | stands by |");
    report.line("|---|---:|---:|");
    report.line(&format!(
        "| of a core | {:.1} % | {:.1} % |",
        share(&first, before[0]),
        share(&second, before[1])
    ));
    report.line(&format!(
        "| resident | {} MiB | {} MiB |",
        first.resident() >> 20,
        second.resident() >> 20
    ));
    report.line(&format!(
        "| bytes of records, all topics | {:.0} a second written | `changes` is not read |",
        (written(&first) - bytes) / MEASURED.as_secs_f64()
    ));
    report.line(&format!("| warm after | | {:.1} s |", warm.as_secs_f64()));
    report.line("");
}

/// How long a lender stands still while it is handed over to a process that stands by, and how late what changes meanwhile is.
pub(super) fn hand_over(testbed: &Testbed, report: &mut Report) {
    const TIMES: usize = 10;
    let row_count = 1_000_000;
    let upstream = Upstream::with_changes(row_count, Duration::ZERO, 50);
    let source = Source::new(testbed, &upstream.base_url, "hand-over");
    let mut members = vec![Member::start(&source)];
    wait_for("the snapshot", || sum(&members, "d02_accounts") >= f64::from(row_count));
    for _ in 0..TIMES {
        members.push(Member::start(&source));
        wait_for("one runs it and the other is warm", || {
            sum(&members, "d02_running") == 1.0 && sum(&members, "d02_standby_accounts") >= f64::from(row_count)
        });
        std::thread::sleep(Duration::from_secs(10));
        members.sort_by_key(|member| member.of("d02_running") == 1.0);
        let mut ending = members.pop().expect("the one that runs it");
        ending.running.end();
        wait_for("the other runs it", || sum(&members, "d02_running") == 1.0);
    }
    std::thread::sleep(Duration::from_secs(10));
    let servers = testbed.bootstrap_servers();
    let (mut released_at, mut took) = (None, Vec::new());
    let mut begun_at = i64::MAX;
    follower::read(&servers, &source.topic("cursor"), |message| {
        let (value, at) = (
            message.payload().expect("a record"),
            message.timestamp().to_millis().expect("a time"),
        );
        let record: serde_json::Value = serde_json::from_slice(value).expect("JSON");
        if record["instance"].is_null() {
            released_at = Some(at);
        } else if let Some(released_at) = released_at.take() {
            begun_at = begun_at.min(released_at);
            took.push(at - released_at);
        }
    });
    let (mut late, mut oldest, mut changes) = (0, 0, 0);
    follower::read(&servers, &source.topic("accounts"), |message| {
        let (at, changed_at) = (
            message.timestamp().to_millis().expect("a time"),
            follower::changed_at(message),
        );
        if let Some(changed_at) = changed_at.filter(|changed_at| *changed_at >= begun_at) {
            changes += 1;
            oldest = oldest.max(at - changed_at);
            // The poll interval, and a second.
            late += u32::from(at - changed_at > 6_000);
        }
    });
    took.sort_unstable();
    report.line(&format!(
        "**A hand-over** of one lender with {row_count} accounts and 50 changes a second: SIGTERM to the process that runs it, another one \
         is warm. From the last record of the one (its release) to the first of the other (its claim), in ms, {} times: {took:?}\n",
        took.len()
    ));
    report.line(&format!(
        "Of {changes} changes from the first to the last of them, {late} were older than the poll interval and 1 s when they were written; the \
         oldest was {oldest} ms.\n"
    ));
}

/// Another process takes over all lenders of one that is no member of a group.
pub(super) fn take_over(testbed: &Testbed, report: &mut Report) {
    let (lenders, row_count) = (100, 1_000);
    let upstream = Upstream::of_lenders(lenders, row_count);
    let source = Source::of(testbed, &upstream.base_url, "take-over", lenders).set("group.mode=single".to_owned());
    let all = f64::from(lenders);
    let mut first = Member::start(&source);
    wait_for("the snapshots", || {
        first.of("d02_accounts") == all * f64::from(row_count) && first.of("d02_rows_behind") == 0.0
    });
    let second = Member::start(&source);
    let took = wait_for("the second one runs all", || second.of("d02_running") == all);
    let ended = took + first.running.wait_for_its_end();
    let mut owners: BTreeMap<Vec<u8>, Vec<(String, i64)>> = BTreeMap::new();
    follower::read(&testbed.bootstrap_servers(), &source.topic("cursor"), |message| {
        let value = message.payload().expect("a record");
        let record: serde_json::Value = serde_json::from_slice(value).expect("JSON");
        let owners = owners.entry(message.key().expect("a key").to_owned()).or_default();
        if let Some(instance) = record["instance"].as_str()
            && owners.last().is_none_or(|(last, _)| last != instance)
        {
            let at = message.timestamp().to_millis().expect("a time");
            owners.push((instance.to_owned(), at));
        }
    });
    let moves: Vec<usize> = owners.values().map(|owners| owners.len() - 1).collect();
    let claims: Vec<i64> = owners.values().filter_map(|owners| Some(owners.last()?.1)).collect();
    let between = claims.iter().max().expect("some") - claims.iter().min().expect("some");
    report.line(&format!(
        "**A take-over** of {lenders} lenders with {row_count} accounts each by a second process of mode `single`: all run there {:.1} s after \
         it was started, the first claim and the last one {:.1} s apart; {} lenders moved once, {} more than once. The first process had ended \
         after {:.1} s.\n",
        took.as_secs_f64(),
        between as f64 / 1e3,
        moves.iter().filter(|moves| **moves == 1).count(),
        moves.iter().filter(|moves| **moves > 1).count(),
        ended.as_secs_f64(),
    ));
}
