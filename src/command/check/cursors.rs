//! What would `run` make of the cursor records?

use std::collections::BTreeMap;
use std::time::Duration;

use super::ask::ask;
use super::finding::Notes;
use crate::config::{Config, GroupMode};
use crate::kafka::{Cluster, topic_ends};
use crate::pipeline::{Claimant, StartError, claim_of, key_of, living_age, refuse_live_elsewhere};
use crate::progress::{Record, RecordKey};
use crate::sink::{
    Committed, CursorRecords, Role, SinkError, StoredCursor, TRAIL_ADVICE, UsableTopic, partitions_text,
};

/// Lenders share topics.
const ENDS_AGE: Duration = Duration::from_secs(10);

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
        let (name, asked) = (topic.clone(), cluster.clone());
        let records = ask(move |shutdown| CursorRecords::read(&asked, &name, shutdown)?.whole()).await;
        match records {
            Err(error) => {
                let what = format!("cursor records in {topic}");
                let failure = StartError::from(error).into();
                notes.failure(&failure, what, "records that can be read");
            }
            Ok(records) => {
                for lender in lenders {
                    cursor(notes, config, usable, missing, lender, &records);
                    identities(notes, config, cluster, usable, lender, &records).await;
                }
            }
        }
    }
}

/// Whether the topics are those that the lender's record tells of.
async fn identities(
    notes: &mut Notes,
    config: &Config,
    cluster: &Cluster,
    usable: &[UsableTopic],
    lender: &str,
    records: &CursorRecords,
) {
    let names = config.kafka.topics.for_lender(lender);
    let named = [
        Some(names.accounts),
        Some(names.cursor),
        names.changes,
        Some(names.dead_letters),
    ];
    let is_of_lender = |topic: &&UsableTopic| named.iter().flatten().any(|name| *name == topic.name);
    for key in keys(config, lender, records) {
        let Ok(Some((_, Some(record)))) = records.current(&key) else {
            continue;
        };
        for topic in usable.iter().filter(is_of_lender) {
            let (cluster, name) = (cluster.clone(), topic.name.clone());
            // One that cannot be asked was said to be.
            let ends = ask(move |_| topic_ends(&cluster, &name, ENDS_AGE)).await.ok().flatten();
            let Some(found) = ends else { continue };
            let Some(before) = record.ends.ends_before(&topic.name, &found.ends) else {
                continue;
            };
            let (what, text) = (format!("topic {}", topic.name), before.text(&topic.name));
            match topic.role {
                Role::Accounts | Role::Cursor if found.ends.iter().any(|end| *end > 0) => {
                    let wanted = format!("the topic that {lender} wrote to, or a copy of it");
                    notes.warning(
                        what,
                        text,
                        wanted,
                        "`run` compares what it holds, and refuses what is no copy",
                    );
                }
                Role::Accounts | Role::Cursor => {
                    let error = SinkError::Recreated {
                        topic: topic.name.clone(),
                        ends: before,
                    };
                    let wanted = format!("the topic that {lender} wrote to");
                    notes.failure(&StartError::from(error).into(), what, wanted);
                }
                Role::Changes | Role::DeadLetters => {
                    notes.warning(what, text, format!("the topic that {lender} wrote to"), TRAIL_ADVICE);
                }
            }
        }
    }
}

/// The keys under which the lender's record may stand.
fn keys(config: &Config, lender: &str, records: &CursorRecords) -> Vec<RecordKey> {
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
    keys
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
    let keys = keys(config, lender, records);
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
        Some((stored, Some(record))) => held(config, stored, record),
    };
    let names = config.kafka.topics.for_lender(lender);
    let committed = records.committed(key)?;
    if let Committed::Record(record) = &committed
        && let Some(committed) = record.accounts.filter(|(count, _)| *count > 0)
        && missing.contains(&names.accounts)
    {
        // `run` would create it, and refuse it then.
        return Err(StartError::OtherAccounts {
            topic: names.accounts,
            held: (0, 0),
            committed,
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
        claim_of(committed, &Claimant::alone("check".to_owned()), base_url, partitions)?;
    }
    Ok(found)
}

fn held(config: &Config, stored: &StoredCursor, record: &Record) -> String {
    let age = living_age(stored.written_at, record, config.transaction.heartbeat_interval);
    let is_member = record.group.as_deref() == Some(config.group_id());
    let state = match (&record.instance, age, config.group.mode) {
        (None, _, _) => "released",
        (Some(_), None, _) => "not released, but its instance gives no sign of life",
        (Some(_), Some(_), GroupMode::Single) => "an instance lives; another `run` would take over from it",
        (Some(_), Some(_), GroupMode::Shared) if is_member => {
            "an instance lives; another `run` would share the lenders out with it"
        }
        (Some(_), Some(_), GroupMode::Shared) => {
            "an instance lives that is no member of the group; another `run` would stand by"
        }
    };
    format!("{state}; partitions as recorded ({})", record.partitions)
}
