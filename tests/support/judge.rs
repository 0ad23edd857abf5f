//! Is what a consumer sees what was promised? Complete, Once, In order: judged from the records and upstream's rows alone.

use std::collections::{BTreeMap, HashMap};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use d02_source::simulator::{RowKind, StoredRow};

use super::kafka::Record;
use super::{RUNTIME, testbed};

/// Once and In order, for every key.
#[track_caller]
pub fn once_and_in_order(records: &[Record]) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut seen: HashMap<(&str, &[u8]), i64> = HashMap::new();
    let mut partition_of: HashMap<&str, i32> = HashMap::new();
    for record in records {
        let (key, value) = (record.key(), record.value.as_deref().unwrap_or_default());
        let updated_at = record.updated_at();
        let partition = partition_of.insert(key, record.partition);
        assert!(
            partition.is_none_or(|before| before == record.partition),
            "In order: {key} is in two partitions"
        );
        let before = last.insert(key, updated_at);
        assert!(
            before.is_none_or(|before| before <= updated_at),
            "In order: {key} goes back to {updated_at}"
        );
        let twice = seen.insert((key, value), record.offset);
        assert_eq!(
            twice, None,
            "Once: {key} at {updated_at} is written twice, offset {}",
            record.offset
        );
    }
}

/// The latest record of every account is what upstream shows.
#[track_caller]
pub fn complete(records: &[Record], rows: &[StoredRow]) {
    let mut latest: HashMap<&str, &Record> = HashMap::new();
    for record in records {
        latest.insert(record.key(), record);
    }
    let good: Vec<_> = rows.iter().filter(|row| !matches!(row.kind, RowKind::Bad(_))).collect();
    let missing: Vec<_> = good
        .iter()
        .filter(|row| !latest.contains_key(row.id.as_str()))
        .map(|row| &row.id)
        .collect();
    assert!(
        missing.is_empty(),
        "Complete: {} of {} are missing, such as {}",
        missing.len(),
        good.len(),
        missing[0]
    );
    for row in &good {
        let record = latest[row.id.as_str()];
        assert_eq!(record.updated_at(), row.updated_at_ms, "Complete: {} is stale", row.id);
    }
    assert_eq!(
        latest.len(),
        good.len(),
        "Complete: accounts that upstream does not have"
    );
}

/// Every promise that a quiet upstream lets one check, and the content by a reader that knows only the registry.
#[track_caller]
pub fn everything(records: &[Record], rows: &[StoredRow]) {
    once_and_in_order(records);
    complete(records, rows);
    let mut reader = RegistryReader::default();
    let mut latest: HashMap<&str, &Record> = HashMap::new();
    for record in records {
        latest.insert(record.key(), record);
    }
    for row in rows.iter().filter(|row| row.kind == RowKind::Sound) {
        let account = reader.read(latest[row.id.as_str()]);
        same_values(&account, &serde_json::from_str(&row.json).expect("a row is JSON"));
    }
}

/// A sound row and its account hold the same values.
#[track_caller]
fn same_values(account: &BTreeMap<String, Value>, row: &serde_json::Value) {
    for (name, expected) in row.as_object().expect("an object") {
        let found = match &account[name] {
            Value::Union(_, value) => value.as_ref(),
            value => value,
        };
        let is_same = match (found, expected) {
            (Value::String(found), serde_json::Value::String(expected)) => found == expected,
            (Value::Long(found), serde_json::Value::Number(expected)) => Some(*found) == expected.as_i64(),
            (Value::TimestampMillis(found), serde_json::Value::String(expected)) => {
                chrono::DateTime::parse_from_rfc3339(expected).is_ok_and(|at| at.timestamp_millis() == *found)
            }
            (Value::Null, serde_json::Value::Null) => true,
            _ => false,
        };
        assert!(is_same, "{name}: {found:?} is not {expected}");
    }
}

/// Decodes Confluent-framed Avro with nothing but the registry.
#[derive(Default)]
pub struct RegistryReader {
    schemas: HashMap<u32, Schema>,
}

impl RegistryReader {
    pub fn read(&mut self, record: &Record) -> BTreeMap<String, Value> {
        let value = record.value.as_deref().expect("no tombstone");
        assert_eq!(value[0], 0, "the magic byte");
        let id = u32::from_be_bytes(value[1..5].try_into().expect("four bytes"));
        let schema = self.schemas.entry(id).or_insert_with(|| fetch(id));
        let reader = GenericDatumReader::builder(schema).build().expect("a reader");
        match reader.read_value(&mut &value[5..]).expect("decodable") {
            Value::Record(fields) => fields.into_iter().collect(),
            other => panic!("no record: {other:?}"),
        }
    }
}

fn fetch(id: u32) -> Schema {
    let url = format!("{}/schemas/ids/{id}", testbed().schema_registry_url());
    let answer: serde_json::Value =
        RUNTIME.block_on(async { reqwest::get(&url).await.expect("an answer").json().await.expect("JSON") });
    Schema::parse_str(answer["schema"].as_str().expect("a schema")).expect("an Avro schema")
}
