//! Can the last records be read, and which schemas were they written with?

use super::ask::ask;
use super::finding::Notes;
use crate::avro::{Framed, unframe};
use crate::kafka::Cluster;
use crate::sink::{Role, TopicTail};

/// A schema that a record in `topic` was written with, by its id in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenSchema {
    pub topic: String,
    pub schema_id: u32,
}

/// Reads the last records of what a start reads whole; `seen` gets the schemas of those in `accounts`.
pub(super) async fn records(
    notes: &mut Notes,
    seen: &mut Vec<WrittenSchema>,
    cluster: &Cluster,
    readable: &[(Role, String)],
) {
    /// The last ones may be tombstones.
    const COUNT: usize = 10;
    for role in [Role::Accounts, Role::DeadLetters] {
        let topics = readable.iter().filter(|(of, _)| *of == role);
        let topics: Vec<String> = topics.map(|(_, name)| name.clone()).collect();
        if topics.is_empty() {
            continue;
        }
        let (cluster, names) = (cluster.clone(), topics.clone());
        let read = ask(move |shutdown| TopicTail::open(cluster, &names, None, shutdown.clone())?.last(COUNT)).await;
        match read {
            Ok(last) => {
                for record in last.iter().filter(|_| role == Role::Accounts).rev() {
                    let Some(Ok(Framed::Confluent { schema_id, .. })) = record.value.as_deref().map(unframe) else {
                        continue;
                    };
                    if !seen.iter().any(|seen| seen.topic == record.topic) {
                        let topic = record.topic.clone();
                        seen.push(WrittenSchema { topic, schema_id });
                    }
                }
            }
            Err(error) => {
                let what = format!("records in {}", topics.join(", "));
                notes.failure(&error.into(), what, "records that can be read");
            }
        }
    }
}
