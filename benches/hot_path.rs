//! What does a row cost on its way: parse, encode, decide, each for itself? `cargo bench --bench hot_path`

use std::sync::LazyLock;

use d02_source::hot_path::{
    ACCOUNT, ChangeEncoder, ChangeHead, Changed, Decoder, Encoder, Frame, Index, Layout, PendingVersions, RowVersion,
    Rules, Scratch, Version, read_row,
};
use d02_source::simulator::{LenderOptions, Options, Simulator};
use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use serde_json::value::RawValue;

/// A page.
const ROW_COUNT: u32 = 1_000;

const LENDER: &str = "5f0c0000-0000-4000-8000-000000000001";

static ROWS: LazyLock<Vec<Box<RawValue>>> = LazyLock::new(|| {
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
});

fn main() {
    divan::main();
}

/// JSON text to a typed account and its digest.
#[divan::bench]
fn parse(bencher: Bencher<'_, '_>) {
    let byte_count: usize = ROWS.iter().map(|row| row.get().len()).sum();
    let (rules, mut scratch) = (Rules::default(), Scratch::default());
    bencher
        .counter(ItemsCount::new(ROWS.len()))
        .counter(BytesCount::new(byte_count))
        .bench_local(|| {
            for row in ROWS.iter() {
                black_box(read_row(black_box(row), LENDER, &rules, &mut scratch)).expect("an account");
            }
        });
}

/// A typed account to framed Avro.
#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (rules, mut scratch) = (Rules::default(), Scratch::default());
    let rows: Vec<_> = ROWS
        .iter()
        .map(|row| read_row(row, LENDER, &rules, &mut scratch).expect("an account"))
        .collect();
    let encoder = Encoder::new(Frame::Confluent { schema_id: 7 });
    let mut bytes = Vec::new();
    bencher.counter(ItemsCount::new(rows.len())).bench_local(|| {
        bytes.clear();
        for row in &rows {
            encoder.encode(black_box(&row.account), &mut bytes).expect("encodable");
        }
        black_box(&bytes);
    });
}

/// The Avro of every row, without a frame.
fn values() -> Vec<Vec<u8>> {
    let (rules, mut scratch) = (Rules::default(), Scratch::default());
    let encoder = Encoder::new(Frame::Confluent { schema_id: 7 });
    let encoded = ROWS.iter().map(|row| {
        let row = read_row(row, LENDER, &rules, &mut scratch).expect("an account");
        let mut bytes = Vec::new();
        encoder.encode(&row.account, &mut bytes).expect("encodable");
        bytes.split_off(5)
    });
    encoded.collect()
}

static LAYOUT: LazyLock<Layout> = LazyLock::new(Layout::current);

/// What is remembered of a value: every one is read so at a restart.
#[divan::bench]
fn remembered(bencher: Bencher<'_, '_>) {
    let values = values();
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| {
        for value in &values {
            black_box(LAYOUT.read(black_box(value))).expect("a value");
        }
    });
}

/// The same by apache-avro's reader.
#[divan::bench]
fn remembered_by_the_library(bencher: Bencher<'_, '_>) {
    let values = values();
    let decoder = Decoder::new(ACCOUNT.text).expect("a schema");
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| {
        for value in &values {
            black_box(decoder.decode(black_box(value))).expect("a value");
        }
    });
}

/// A change up to its `after`.
#[divan::bench]
fn encode_change(bencher: Bencher<'_, '_>) {
    let values = values();
    let contents: Vec<_> = values
        .iter()
        .map(|value| LAYOUT.read(value).expect("a value"))
        .collect();
    let encoder = ChangeEncoder::new(Frame::Confluent { schema_id: 8 });
    let mut bytes = Vec::new();
    bencher.counter(ItemsCount::new(contents.len())).bench_local(|| {
        bytes.clear();
        for pair in contents.windows(2) {
            let head = ChangeHead {
                public_id: "65f0c0ffee65f0c0ffee65f0",
                lender_public_id: LENDER,
                op: "u",
                updated_at: 1,
                previous_updated_at: Some(0),
                changed: Changed::between(black_box(&pair[0]), &pair[1]),
                before: Some(&pair[0].tracked),
            };
            encoder.encode(&head, &mut bytes).expect("encodable");
        }
        black_box(&bytes);
    });
}

/// Which rows are news, against an index of so many accounts: all of them are, and are remembered.
#[divan::bench(args = [0, 100_000, 2_000_000])]
fn decide(bencher: Bencher<'_, '_>, held_count: u32) {
    let (rules, mut scratch) = (Rules::default(), Scratch::default());
    let rows: Vec<_> = ROWS
        .iter()
        .map(|row| read_row(row, LENDER, &rules, &mut scratch).expect("an account"))
        .collect();
    let values = values();
    let contents: Vec<_> = values
        .iter()
        .map(|value| LAYOUT.read(value).expect("a value"))
        .collect();
    let content = contents[0].clone();
    let version = Version {
        updated_at: 1,
        digest: rows[0].digest,
        is_regressed: false,
    };
    let mut index = Index::default();
    for number in 0..held_count {
        index.restore(&format!("{number:024x}"), &version, Some(&content));
    }
    let mut pass = 0;
    bencher.counter(ItemsCount::new(rows.len())).bench_local(|| {
        pass += 1;
        let mut news = PendingVersions::default();
        for (row, content) in rows.iter().zip(&contents) {
            let candidate = RowVersion {
                public_id: &row.account.public_id,
                // Later than what the pass before left.
                updated_at: row.account.updated_at + pass,
                created_at: row.account.created_at,
                digest: row.digest,
                requested: 1,
                received: 2,
                is_reconciled: false,
            };
            let judged = index.judge(&news, black_box(&candidate), 0);
            index.note(&mut news, &candidate, judged, Some(content.clone()));
        }
        index.remember(news, 0);
    });
}
