//! What does each codec cost, and how much smaller is what is written?

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use d02_source::testbed::Testbed;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::{ClientConfig, ClientContext, Statistics};

use super::follower;
use super::process::{Figures, Source};
use super::{ROUNDS, Report, Upstream, median};

/// In turn in every round, so that none has the machine's better minutes.
pub(super) fn codecs(testbed: &Testbed, report: &mut Report) {
    let row_count = 200_000;
    let upstream = Upstream::start(row_count, Duration::ZERO);
    let mut measured = ["lz4", "none", "snappy", "zstd", "gzip"].map(|codec| (codec, Vec::<(Figures, u64)>::new()));
    for round in 0..ROUNDS {
        for (codec, figures) in &mut measured {
            let source = Source::new(testbed, &upstream.base_url, &format!("codec-{codec}-{round}"))
                .set(format!("kafka.properties.compression.type={codec}"));
            let walk = source.catch_up();
            let bytes = ["accounts", "changes"].map(|topic| received(testbed, &source.topic(topic)));
            eprintln!("{codec}: {walk:?}, {bytes:?} bytes");
            figures.push((walk, bytes.iter().sum()));
        }
    }
    report.line(&format!(
        "**Codecs**: a first walk over {row_count} accounts with `changes`, and what a consumer receives of both topics\n"
    ));
    report.line("| `compression.type` | rows/s | of lz4's | CPU seconds per million rows | bytes a row | of lz4's |");
    report.line("|---|---:|---:|---:|---:|---:|");
    let rows = f64::from(row_count);
    let mut of_lz4 = None;
    for (codec, figures) in &measured {
        let rate = rows / median(figures.iter().map(|(walk, _)| walk.wall.as_secs_f64()));
        let cpu = median(figures.iter().map(|(walk, _)| walk.cpu.as_secs_f64())) / rows * 1e6;
        let bytes = median(figures.iter().map(|(_, bytes)| *bytes as f64)) / rows;
        let (lz4_rate, lz4_bytes) = *of_lz4.get_or_insert((rate, bytes));
        report.line(&format!(
            "| {codec} | {rate:.0} | {:.2} | {cpu:.1} | {bytes:.0} | {:.2} |",
            rate / lz4_rate,
            bytes / lz4_bytes
        ));
    }
    report.line("");
}

/// Counts what comes from brokers, as it is on the wire.
#[derive(Default)]
struct Received(AtomicU64);

impl ClientContext for Received {
    fn stats(&self, statistics: Statistics) {
        let bytes: u64 = statistics.brokers.values().map(|broker| broker.rxbytes).sum();
        self.0.store(bytes, Ordering::Relaxed);
    }
}

impl ConsumerContext for Received {}

/// The bytes that a consumer is sent when it reads a topic once.
fn received(testbed: &Testbed, topic: &str) -> u64 {
    const STATISTICS: Duration = Duration::from_millis(100);
    let consumer: BaseConsumer<Received> = ClientConfig::new()
        .set("bootstrap.servers", testbed.bootstrap_servers())
        .set("group.id", "codecs")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", STATISTICS.as_millis().to_string())
        .create_with_context(Received::default())
        .expect("a consumer");
    follower::to_the_end(&consumer, topic, |_| {});
    // The last of it is in the statistics after next.
    let read = Instant::now();
    while read.elapsed() < 3 * STATISTICS {
        assert!(
            !matches!(consumer.poll(STATISTICS), Some(Ok(_))),
            "it was read to its end"
        );
    }
    consumer.context().0.load(Ordering::Relaxed)
}
