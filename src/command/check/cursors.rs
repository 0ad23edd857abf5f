//! What would `run` make of the cursor records?

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::ask;
use super::finding::Notes;
use crate::config::Config;
use crate::kafka::Cluster;
use crate::pipeline::{StartError, claim_of, key_of, living_age, refuse_live_elsewhere};
use crate::progress::{Record, RecordKey};
use crate::sink::{Committed, CursorRecords, Role, StoredCursor, UsableTopic, partitions_text};

/// What `run` would make of the lenders' cursor records.
pub(super) async fn cursors(
    notes: &mut Notes,
    config: &Config,
    cluster: &Cluster,
    usable: &[UsableTopic],
    readable: &[(Role, String)],
    missing: &[String],
) {
    let mut by_topic: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for lender in config.lenders.keys() {
        let topic = config.kafka.topics.for_lender(lender).cursor;
        by_topic.entry(topic).or_default().push(lender);
    }
    let is_readable = |topic: &String| readable.contains(&(Role::Cursor, topic.clone()));
    for (topic, lenders) in by_topic.iter().filter(|(topic, _)| is_readable(topic)) {
        let (name, cluster) = (topic.clone(), cluster.clone());
        let records = ask(move |shutdown| CursorRecords::read(&cluster, &name, shutdown)?.whole()).await;
        match records {
            Err(error) => {
                let what = format!("cursor records in {topic}");
                let failure = StartError::from(error).into();
                notes.failure(&failure, what, "records that can be read");
            }
            Ok(records) => lenders
                .iter()
                .for_each(|lender| cursor(notes, config, usable, missing, lender, &records)),
        }
    }
}

/// The cursor record of one lender, against the topics as they are.
fn cursor(
    notes: &mut Notes,
    config: &Config,
    usable: &[UsableTopic],
    missing: &[String],
    lender: &str,
    records: &CursorRecords,
) {
    let what = format!("cursor record of {lender}");
    let connector = format!("{}-{lender}", config.name);
    let mut keys: Vec<RecordKey> = match &config.lenders[lender].public_id {
        // Without it only the login knows.
        None => records
            .keys()
            .filter(|key| key.connector == connector)
            .cloned()
            .collect(),
        Some(public_id) => vec![key_of(config, lender, public_id)],
    };
    keys.sort();
    if keys.is_empty() {
        return notes.ok(what, NO_RECORD);
    }
    for key in keys {
        match judged(config, usable, missing, lender, &key, records) {
            Ok(found) => notes.ok(&*what, found),
            Err(error) => {
                let wanted = "a record that `run` can go on from";
                notes.failure(&error.into(), &*what, wanted);
            }
        }
    }
}

const NO_RECORD: &str = "none; the first `run` reads from the beginning";

/// What the record says, if `run` could claim it.
fn judged(
    config: &Config,
    usable: &[UsableTopic],
    missing: &[String],
    lender: &str,
    key: &RecordKey,
    records: &CursorRecords,
) -> Result<String, StartError> {
    let (base_url, heartbeat) = (
        config.upstream.base_url.to_string(),
        config.transaction.heartbeat_interval,
    );
    refuse_live_elsewhere(key, &base_url, heartbeat, records)?;
    let found = match records.current(key)? {
        None => NO_RECORD.to_owned(),
        Some((_, None)) => "reset; the next `run` reads from the beginning".to_owned(),
        Some((stored, Some(record))) => held(stored, record, heartbeat),
    };
    let names = config.kafka.topics.for_lender(lender);
    let committed = records.committed(key)?;
    if let Committed::Record(record) = &committed
        && let Some((wanted, wanted_checksum)) = record.accounts.filter(|(count, _)| *count > 0)
        && missing.contains(&names.accounts)
    {
        // `run` would create it, and refuse it then.
        return Err(StartError::OtherAccounts {
            topic: names.accounts,
            found: 0,
            found_checksum: 0,
            wanted,
            wanted_checksum,
        });
    }
    let count = |role, name: &str| {
        let mut usable = usable.iter().filter(|topic| topic.role == role && topic.name == name);
        usable.next().map(|topic| topic.partition_count)
    };
    if let Some(accounts) = count(Role::Accounts, &names.accounts) {
        let changes = names.changes.and_then(|name| count(Role::Changes, &name));
        let partitions = partitions_text(accounts, changes);
        // Who would claim it does not matter.
        claim_of(committed, "check", base_url, partitions)?;
    }
    Ok(found)
}

fn held(stored: &StoredCursor, record: &Record, heartbeat: Duration) -> String {
    let state = match (&record.instance, living_age(stored.written_at, record, heartbeat)) {
        (None, _) => "released".to_owned(),
        (Some(_), Some(_)) => "an instance lives; another `run` would take over from it".to_owned(),
        (Some(_), None) => "not released, but its instance gives no sign of life".to_owned(),
    };
    format!("{state}; partitions as recorded ({})", record.partitions)
}
