//! May the source read and write what it has to?

use super::ask::ask;
use super::finding::Notes;
use crate::kafka::{self, Acl, AclOperation, Cluster, GRANT, NOT_GRANTED, denied_reads, denied_writes};
use crate::sink::{Role, UsableTopic};

/// Gives those of the topics to which it is denied.
type Tried = fn(&Cluster, &[String]) -> Result<Vec<String>, kafka::Error>;

/// Tries what `run` has to do with the topics that are there; gives the names of those that may be read. Whether the others may
/// be created was tried when they were looked at.
pub(super) async fn authorization(
    notes: &mut Notes,
    cluster: &Cluster,
    usable: &[UsableTopic],
    creates_some: bool,
) -> Vec<(Role, String)> {
    let is_read = |topic: &&UsableTopic| topic.role != Role::Changes;
    let name = |topic: &UsableTopic| topic.name.clone();
    let written: Vec<String> = usable.iter().map(name).collect();
    let read: Vec<String> = usable.iter().filter(is_read).map(name).collect();
    let mut denied = Vec::new();
    for (operation, topics, tried) in [
        (AclOperation::Read, read, denied_reads as Tried),
        (AclOperation::Write, written, denied_writes),
    ] {
        let cluster = cluster.clone();
        match ask(move |_| tried(&cluster, &topics)).await {
            Ok(topics) => denied.extend(topics.into_iter().map(|topic| (operation, topic))),
            Err(error) => {
                notes.failure(&error.into(), format!("authorization, {operation}"), "an answer");
                return Vec::new();
            }
        }
    }
    for (operation, topic) in &denied {
        let acl = Acl::of_topic(*operation, topic);
        let what = format!("ACLs of topic {topic}");
        let wanted = "READ, but for `changes`, and WRITE";
        let found = format!("{acl} is not granted");
        notes.error(NOT_GRANTED.exit(), NOT_GRANTED, what, found, wanted, GRANT);
    }
    let found = match (denied.is_empty(), usable.is_empty(), creates_some) {
        (true, true, true) => "CREATE, tried without creating; READ and WRITE can be tried once the topics are there",
        (true, false, true) => {
            "READ, but of `changes`, and WRITE on the topics that are there; CREATE of the others, tried without creating"
        }
        (true, false, false) => "READ, but of `changes`, and WRITE on every topic that is there, tried without writing",
        // An error says more.
        (false, _, _) | (_, true, false) => "",
    };
    if !found.is_empty() {
        notes.ok("authorization", found);
    }
    let is_readable = |topic: &&UsableTopic| !denied.contains(&(AclOperation::Read, topic.name.clone()));
    usable
        .iter()
        .filter(is_read)
        .filter(is_readable)
        .map(|topic| (topic.role, topic.name.clone()))
        .collect()
}
