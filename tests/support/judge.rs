//! Is what a consumer sees what was promised? Complete, Once, In order: judged from the records and upstream's rows alone.

use std::collections::{BTreeMap, HashMap, VecDeque};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use d02_source::simulator::{RowKind, StoredRow};

use super::kafka::Record;
use super::{RUNTIME, testbed};

/// Once and In order, for every key.
#[track_caller]
pub(crate) fn once_and_in_order(records: &[Record]) {
    let mut last: HashMap<&str, i64> = HashMap::new();
    let mut seen: HashMap<(&str, &[u8]), i64> = HashMap::new();
    let mut partition_of: HashMap<&str, i32> = HashMap::new();
    for record in records {
        let key = record.key();
        let partition = partition_of.insert(key, record.partition);
        assert!(
            partition.is_none_or(|before| before == record.partition),
            "In order: {key} is in two partitions"
        );
        let says = |name| record.headers.get(name).is_some_and(|text| text == "true");
        // The third exception says that it is the same version once more.
        if says("d02.republished") {
            let known = last.get(key).is_none_or(|before| *before == record.updated_at());
            assert!(known, "Once: {key} is republished as another version than it is");
            continue;
        }
        if record.value.is_none() || says("d02.regressed") {
            last.remove(key);
            seen.retain(|(other, _), _| *other != key);
        }
        let Some(value) = record.value.as_deref() else { continue };
        let updated_at = record.updated_at();
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

/// One writer, for every lender: in the cursor topic epochs never go back, the sequence goes up, and each epoch belongs to one
/// instance; a release keeps the epoch.
#[track_caller]
pub(crate) fn one_writer(cursors: &[Record]) {
    let mut last: HashMap<&str, (u64, u64)> = HashMap::new();
    let mut instances: HashMap<(&str, u64), String> = HashMap::new();
    for record in cursors {
        let (key, json) = (record.key(), record.json());
        let number = |name: &str| json[name].as_u64().expect("a number");
        let place = (number("epoch"), number("sequence"));
        let before = last.insert(key, place).unwrap_or_default();
        assert!(place > before, "One writer: {key} at {before:?}, then {place:?}");
        if let Some(instance) = json["instance"].as_str() {
            let owner = instances.entry((key, place.0)).or_insert_with(|| instance.to_owned());
            assert_eq!(owner, instance, "One writer: two instances in epoch {}", place.0);
        }
    }
}

/// The latest record of every account is what upstream shows.
#[track_caller]
pub(crate) fn complete(records: &[Record], rows: &[StoredRow]) {
    let latest = latest(records);
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

/// What a compacted topic would keep.
pub(crate) fn latest(records: &[Record]) -> HashMap<&str, &Record> {
    let mut latest: HashMap<&str, &Record> = HashMap::new();
    for record in records {
        latest.insert(record.key(), record);
    }
    latest.retain(|_, record| record.value.is_some());
    latest
}

/// Every promise that a quiet upstream lets one check, and the content by a reader that knows only the registry.
#[track_caller]
pub(crate) fn everything(records: &[Record], rows: &[StoredRow]) {
    everything_by(&mut RegistryReader::default(), records, rows);
}

/// As [`everything`], by another reader.
#[track_caller]
pub(crate) fn everything_by(reader: &mut RegistryReader, records: &[Record], rows: &[StoredRow]) {
    once_and_in_order(records);
    complete(records, rows);
    let latest = latest(records);
    for row in rows.iter().filter(|row| row.kind == RowKind::Sound) {
        let account = reader.read(latest[row.id.as_str()]);
        same_values(&account, &serde_json::from_str(&row.json).expect("a row is JSON"));
    }
}

/// Every version of an account whose content is another one has one change: what was, what differs, what is.
///
/// `accounts` and `changes`: whole topics, from which nothing was removed.
#[track_caller]
pub(crate) fn trail(changes: &[Record], accounts: &[Record]) {
    let readers = (&mut RegistryReader::default(), &mut RegistryReader::default());
    trail_by(readers, changes, accounts);
}

/// As [`trail`], by other readers: of `changes`, and of `accounts`.
#[track_caller]
pub(crate) fn trail_by(readers: (&mut RegistryReader, &mut RegistryReader), changes: &[Record], accounts: &[Record]) {
    let (of_changes, of_accounts) = readers;
    let mut trail: HashMap<&str, VecDeque<&Record>> = HashMap::new();
    for change in changes {
        trail.entry(change.key()).or_default().push_back(change);
    }
    let mut last: HashMap<&str, (&Record, Fields)> = HashMap::new();
    for account in accounts {
        let key = account.key();
        if account.value.is_none() {
            is_deletion(
                of_changes,
                trail.get_mut(key).and_then(VecDeque::pop_front),
                last.remove(key),
            );
            continue;
        }
        let updated_at = account.updated_at();
        let fields = of_accounts.read(account);
        let before = last.insert(key, (account, fields.clone()));
        if before
            .as_ref()
            .is_some_and(|(before, _)| before.header("d02.digest") == account.header("d02.digest"))
        {
            continue;
        }
        let change = trail.get_mut(key).and_then(VecDeque::pop_front);
        let change = change.unwrap_or_else(|| panic!("Trail: {key} at {updated_at} has no change"));
        for name in ["__op", "__source_ts_ms", "d02.lender", "d02.digest"] {
            assert_eq!(
                change.header(name),
                account.header(name),
                "Trail: {key} at {updated_at}, {name}"
            );
        }
        is_change(&of_changes.read(change), change, before.as_ref(), &fields);
    }
    let more = trail.values().map(VecDeque::len).sum::<usize>();
    assert_eq!(more, 0, "Trail: changes without an account");
}

#[track_caller]
fn is_deletion(reader: &mut RegistryReader, change: Option<&Record>, last: Option<(&Record, Fields)>) {
    let (change, (last, fields)) = (change.expect("a change"), last.expect("an account that is deleted"));
    let value = reader.read(change);
    assert_eq!((change.header("__op"), change.headers.get("d02.changed")), ("d", None));
    assert_eq!(value["op"], Value::String("d".to_owned()));
    assert_eq!(value["after"], Value::Union(0, Box::new(Value::Null)));
    let at = Value::TimestampMillis(last.updated_at());
    assert_eq!(value["updated_at"], at);
    assert_eq!(value["previous_updated_at"], Value::Union(1, Box::new(at)));
    let Value::Union(1, before) = &value["before"] else {
        panic!("no before")
    };
    let Value::Record(before) = &**before else {
        panic!("no record")
    };
    assert!(before.iter().all(|(name, was)| fields[name] == *was), "{before:?}");
}

#[track_caller]
fn is_change(value: &Fields, change: &Record, before: Option<&(&Record, Fields)>, account: &Fields) {
    let record = |name: &str| match &value[name] {
        Value::Union(1, inner) => match &**inner {
            Value::Record(fields) => Some(fields.iter().cloned().collect::<Fields>()),
            other => panic!("{name} is no record: {other:?}"),
        },
        _ => None,
    };
    let listed = change.headers.get("d02.changed");
    let named: Vec<&str> = listed.map(|names| names.split(',').collect()).unwrap_or_default();
    let in_value = named.iter().map(|name| Value::String((*name).to_owned())).collect();
    assert_eq!(value["changed"], Value::Array(in_value));
    assert_eq!(value["op"], Value::String(change.header("__op").to_owned()));
    assert_eq!(value["updated_at"], account["updated_at"]);
    assert_eq!(record("after").as_ref(), Some(account));
    let Some((before, previous)) = before else {
        assert_eq!((record("before"), &*named), (None, &[][..]), "{}", change.key());
        return;
    };
    let at = Value::Union(1, Box::new(Value::TimestampMillis(before.updated_at())));
    assert_eq!(value["previous_updated_at"], at);
    let tracked = record("before").expect("what was");
    for (name, was) in &tracked {
        assert_eq!(&previous[name], was, "before.{name}");
        let named_as = match &**name {
            "due_date_parsed" => "due_date",
            "status_unmapped_code" => "status",
            name => name,
        };
        let is_named = named.contains(&named_as);
        assert!(is_named || account[name] == *was, "{name} differs and is not named");
    }
    let differs = |name: &str| account[name] != previous[name];
    let by_name: Vec<&str> = named.iter().copied().filter(|name| *name != "*").collect();
    let is_status = |name: &str| name == "status" && differs("status_unmapped_code");
    assert!(
        by_name.iter().all(|name| differs(name) || is_status(name)),
        "{by_name:?} are named"
    );
    let is_derived = |name: &str| ["updated_at", "submitted_date_parsed", "due_date_parsed"].contains(&name);
    let is_rest = |name: &&String| !tracked.contains_key(*name) && !is_derived(name);
    let rest_differs = account.keys().filter(is_rest).any(|name| differs(name));
    assert_eq!(named.contains(&"*"), rest_differs || by_name.is_empty(), "{named:?}");
    let text = |fields: &Fields| match &fields["due_date"] {
        Value::Union(1, text) => match &**text {
            Value::String(text) => Some(text.clone()),
            other => panic!("{other:?}"),
        },
        _ => None,
    };
    // What Connect's header converter would take for JSON has no header.
    let is_plain = |text: &String| text.trim() != "null" && !text.trim().starts_with(['[', '{']);
    let shown = |fields: &Fields| text(fields).filter(is_plain);
    let moved = differs("due_date").then(|| (shown(previous), shown(account)));
    let header = |name: &str| change.headers.get(name).cloned();
    let told = (header("d02.previous_due_date"), header("d02.due_date"));
    assert_eq!(told, moved.unwrap_or_default());
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

/// A record's fields by name.
type Fields = BTreeMap<String, Value>;

/// Decodes Confluent-framed Avro with nothing but the registry.
pub(crate) struct RegistryReader {
    registry: String,
    schemas: HashMap<u32, Schema>,
    /// Whatever its id.
    only: Option<Schema>,
}

impl Default for RegistryReader {
    fn default() -> Self {
        Self::of(&testbed().schema_registry_url())
    }
}

impl RegistryReader {
    /// Reads by another registry than the shared one.
    pub(crate) fn of(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            schemas: HashMap::new(),
            only: None,
        }
    }

    /// Reads every record by the one schema of a subject: where a registry that lost its schemas has given ids anew.
    pub(crate) fn of_subject(registry: &str, subject: &str) -> Self {
        Self {
            only: Some(ask(&format!("{registry}/subjects/{subject}/versions/latest"))),
            ..Self::of(registry)
        }
    }

    pub(crate) fn read(&mut self, record: &Record) -> Fields {
        let value = record.value.as_deref().expect("no tombstone");
        assert_eq!(value[0], 0, "the magic byte");
        let id = u32::from_be_bytes(value[1..5].try_into().expect("four bytes"));
        let by_id = || ask(&format!("{}/schemas/ids/{id}", self.registry));
        let schema = match &self.only {
            Some(schema) => schema,
            None => self.schemas.entry(id).or_insert_with(by_id),
        };
        let reader = GenericDatumReader::builder(schema).build().expect("a reader");
        match reader.read_value(&mut &value[5..]).expect("decodable") {
            Value::Record(fields) => fields.into_iter().collect(),
            other => panic!("no record: {other:?}"),
        }
    }
}

/// A schema of the registry, by the address of an answer that holds it.
fn ask(url: &str) -> Schema {
    let answer: serde_json::Value =
        RUNTIME.block_on(async { reqwest::get(url).await.expect("an answer").json().await.expect("JSON") });
    Schema::parse_str(answer["schema"].as_str().expect("a schema")).expect("an Avro schema")
}
