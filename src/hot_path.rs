//! What does a row cost on its way, step by step? What `cargo bench --bench hot_path` measures; nothing else uses it.

use std::hint::black_box;

use serde_json::value::RawValue;

use crate::account::{Changed, Content, Row, Rules, Scratch, read_row};
use crate::avro::{ACCOUNT, ChangeEncoder, ChangeHead, Decoder, Encoder, Frame, Layout, WriterSchema};
use crate::index::{Index, PendingVersions, RowVersion, Version};

const LENDER: &str = "5f0c0000-0000-4000-8000-000000000001";

/// Bytes that stand before a framed value.
const FRAME: usize = 5;

/// The rows of a page, at every step of their way. Each function goes over all of them once.
pub struct Steps {
    json: &'static [Box<RawValue>],
    rows: Vec<Row<'static>>,
    contents: Vec<Content<'static>>,
    values: &'static [Vec<u8>],
    rules: Rules,
    scratch: Scratch,
    encoder: Encoder,
    changes: ChangeEncoder,
    decoder: Decoder,
    layout: Layout,
    bytes: Vec<u8>,
}

impl Steps {
    /// `json`: rows that are accounts. They are kept until the process ends.
    pub fn new(json: Vec<Box<RawValue>>) -> Self {
        let json: &'static [Box<RawValue>] = Box::leak(json.into_boxed_slice());
        let (rules, mut scratch) = (Rules::default(), Scratch::default());
        let mut read = |row| read_row(row, LENDER, &rules, &mut scratch).expect("an account");
        let rows: Vec<Row<'static>> = json.iter().map(|row| read(row)).collect();
        let encoder = Encoder::new(Frame::Confluent { schema_id: 7 });
        let value = |row: &Row<'_>| {
            let mut bytes = Vec::new();
            encoder.encode(&row.account, &mut bytes);
            bytes.split_off(FRAME)
        };
        let values: &'static [Vec<u8>] = Box::leak(rows.iter().map(value).collect());
        let layout = Layout::current();
        let contents = values
            .iter()
            .map(|value| layout.read(value).expect("a value"))
            .collect();
        Self {
            json,
            rows,
            contents,
            values,
            rules,
            scratch,
            encoder,
            changes: ChangeEncoder::new(Frame::Confluent { schema_id: 8 }),
            decoder: Decoder::new(ACCOUNT.text).expect("a schema"),
            layout,
            bytes: Vec::new(),
        }
    }

    /// JSON text to a typed account and its digest.
    pub fn parse(&mut self) {
        for row in self.json {
            black_box(read_row(black_box(row), LENDER, &self.rules, &mut self.scratch)).expect("an account");
        }
    }

    /// A typed account to framed Avro.
    pub fn encode(&mut self) {
        self.bytes.clear();
        for row in &self.rows {
            self.encoder.encode(black_box(&row.account), &mut self.bytes);
        }
        black_box(&self.bytes);
    }

    /// A change up to its `after`.
    pub fn encode_change(&mut self) {
        self.bytes.clear();
        for pair in self.contents.windows(2) {
            let head = ChangeHead {
                public_id: "65f0c0ffee65f0c0ffee65f0",
                lender_public_id: LENDER,
                op: "u",
                updated_at: 1,
                previous_updated_at: Some(0),
                changed: Changed::between(black_box(&pair[0]), &pair[1]),
                before: Some(&pair[0].tracked),
            };
            self.changes.encode(&head, &mut self.bytes);
        }
        black_box(&self.bytes);
    }

    /// What is remembered of a value: every one is read so at a restart.
    pub fn read_back(&self) {
        for value in self.values {
            black_box(self.layout.read(black_box(value))).expect("a value");
        }
    }

    /// The same by apache-avro's reader.
    pub fn read_back_by_the_library(&self) {
        for value in self.values {
            black_box(self.decoder.decode(black_box(value))).expect("a value");
        }
    }

    /// These rows before an index of so many other accounts.
    pub fn before(&self, held_count: u32) -> Deciding<'_> {
        let version = Version {
            updated_at: 1,
            digest: self.rows[0].digest,
            is_regressed: false,
            schema: WriterSchema::Id(1),
        };
        let mut index = Index::default();
        for number in 0..held_count {
            index.restore(&format!("{number:024x}"), &version, Some(&self.contents[0]));
        }
        Deciding {
            steps: self,
            index,
            pass: 0,
        }
    }
}

/// Rows before an index.
pub struct Deciding<'s> {
    steps: &'s Steps,
    index: Index,
    pass: i64,
}

impl Deciding<'_> {
    /// Which rows are news: all of them are, and are remembered.
    pub fn decide(&mut self) {
        self.pass += 1;
        let mut pending = PendingVersions::default();
        for (row, content) in self.steps.rows.iter().zip(&self.steps.contents) {
            let version = RowVersion {
                public_id: &row.account.public_id,
                // Later than what the pass before left.
                updated_at: row.account.updated_at + self.pass,
                created_at: row.account.created_at,
                digest: row.digest,
                schema: WriterSchema::Id(1),
                requested: 1,
                received: 2,
                is_reconciled: false,
            };
            let decision = self.index.judge(&pending, black_box(&version), 0);
            self.index.note(&mut pending, &version, decision, Some(content.clone()));
        }
        self.index.remember(pending, 0);
    }
}
