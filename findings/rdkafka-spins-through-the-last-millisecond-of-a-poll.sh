#!/usr/bin/env bash
# rdkafka 0.39.0 (Rust; librdkafka 2.12.1): a ThreadedProducer that has nothing to do burns CPU, and so does every poll with a time-out.
#
# Expected   BaseProducer::poll(100 ms) sleeps in librdkafka until an event comes or the 100 ms are over. A producer at rest costs nothing.
# Instead    poll asks librdkafka again and again for what is left of its time-out, and that is rounded down to milliseconds. When less
#            than one is left it is 0, so poll spins until it is over: half a millisecond on average, at 100 % of a core. The thread of a
#            ThreadedProducer polls for 100 ms at a time, for ever: half a percent of a core for each producer, whatever it does.
# Matters    Two hundred producers at rest, one for each transactional id, take a core.
# Project    It did, with 200 lenders: 83 % of a core went there, of 95 % in all. A thread of its own polls without a time-out once a
#            second while nothing is under way (src/kafka/polled.rs).
#
# Five minutes, most of them for building librdkafka. No broker is needed: librdkafka brings a mock of one.
. "$(dirname "$0")/support.bash"

crate=0.39.0

rust "rdkafka = \"=$crate\"" <<'RUST'
use std::fs;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, DefaultProducerContext, ThreadedProducer};

const PRODUCERS: usize = 40;
const MEASURED: Duration = Duration::from_secs(10);

/// Time that threads whose name begins so have been on a CPU, by schedstat, which counts nanoseconds.
fn on_cpu(name: &str) -> Duration {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux").flatten();
    let time = |task: fs::DirEntry| {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).ok();
        if !read("comm")?.starts_with(name) {
            return None;
        }
        read("schedstat")?.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(tasks.filter_map(time).sum())
}

/// Percent of a core for each producer.
fn measure(what: &str, thread: &str) -> f64 {
    // What a start brings is over.
    std::thread::sleep(Duration::from_secs(3));
    let before = on_cpu(thread);
    std::thread::sleep(MEASURED);
    let each = (on_cpu(thread) - before).as_secs_f64() / MEASURED.as_secs_f64() / PRODUCERS as f64 * 100.0;
    println!("{what:64} {each:.3} % of a core for each of {PRODUCERS} producers at rest");
    each
}

fn main() {
    println!("rdkafka 0.39.0, librdkafka {}", rdkafka::util::get_rdkafka_version().1);
    let mut config = ClientConfig::new();
    config.set("test.mock.num.brokers", "1");

    let threaded: Vec<ThreadedProducer<DefaultProducerContext>> =
        (0..PRODUCERS).map(|_| config.create().expect("a producer")).collect();
    let spinning = measure("ThreadedProducer: its thread polls for 100 ms", "producer pollin");
    drop(threaded);

    let over = Instant::now() + MEASURED + Duration::from_secs(5);
    let threads: Vec<_> = (0..PRODUCERS)
        .map(|_| {
            let producer: BaseProducer = config.create().expect("a producer");
            let poll = move || {
                while Instant::now() < over {
                    producer.poll(Duration::ZERO);
                    std::thread::sleep(Duration::from_millis(100));
                }
            };
            std::thread::Builder::new().name("own poll".to_owned()).spawn(poll).expect("a thread")
        })
        .collect();
    let asleep = measure("BaseProducer: a thread polls without a time-out each 100 ms", "own poll");
    threads.into_iter().for_each(|thread| thread.join().expect("it ends"));

    let is_seen = spinning > 0.2 && spinning > 5.0 * asleep;
    std::process::exit(if is_seen { 0 } else { 3 });
}
RUST

seen_by "a producer at rest does not spin" "$rust"
