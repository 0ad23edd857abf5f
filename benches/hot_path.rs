//! What does a row cost on its way: parse, encode, decide, each for itself? `cargo bench --bench hot_path`

use d02_source::hot_path::Steps;
use d02_source::simulator::{LenderOptions, Options, Simulator};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use serde_json::value::RawValue;

/// A page.
const ROW_COUNT: u32 = 1_000;

fn rows() -> Vec<Box<RawValue>> {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let lender = LenderOptions {
        rows: ROW_COUNT,
        ..LenderOptions::numbered(1)
    };
    let options = Options {
        lenders: vec![lender],
        ..Options::default()
    };
    let simulator = runtime.block_on(Simulator::start(options)).expect("a simulator");
    let rows = simulator.rows(0).into_iter();
    rows.map(|row| RawValue::from_string(row.json).expect("JSON")).collect()
}

fn main() {
    divan::main();
}

/// JSON text to a typed account and its digest.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let rows = rows();
    let byte_count: usize = rows.iter().map(|row| row.get().len()).sum();
    let mut steps = Steps::new(rows);
    bencher
        .counter(ItemsCount::new(ROW_COUNT))
        .counter(BytesCount::new(byte_count))
        .bench_local(|| steps.parse());
}

/// A typed account to framed Avro.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let mut steps = Steps::new(rows());
    let bencher = bencher.counter(ItemsCount::new(ROW_COUNT));
    bencher.bench_local(|| steps.encode());
}

/// What is remembered of a value: every one is read so at a restart.
#[divan::bench]
fn remembered(bencher: Bencher<'_, '_>) {
    let steps = Steps::new(rows());
    let bencher = bencher.counter(ItemsCount::new(ROW_COUNT));
    bencher.bench_local(|| steps.read_back());
}

/// The same by apache-avro's reader.
#[divan::bench]
fn remembered_by_the_library(bencher: Bencher<'_, '_>) {
    let steps = Steps::new(rows());
    let bencher = bencher.counter(ItemsCount::new(ROW_COUNT));
    bencher.bench_local(|| steps.read_back_by_the_library());
}

/// A change up to its `after`.
#[divan::bench]
fn encode_change(bencher: Bencher<'_, '_>) {
    let mut steps = Steps::new(rows());
    let bencher = bencher.counter(ItemsCount::new(ROW_COUNT - 1));
    bencher.bench_local(|| steps.encode_change());
}

/// Which rows are news, against an index of so many accounts: all of them are, and are remembered.
#[divan::bench(args = [0, 100_000, 2_000_000])]
fn decide(bencher: Bencher<'_, '_>, held_count: u32) {
    let steps = Steps::new(rows());
    let mut deciding = steps.before(held_count);
    let bencher = bencher.counter(ItemsCount::new(ROW_COUNT));
    bencher.bench_local(|| deciding.decide());
}
