//! May this process be a member of the group that shares the lenders out, and who is in it? Nobody joins.

use super::ask::ask;
use super::finding::Notes;
use crate::config::{Config, GroupMode};
use crate::exit::{Diagnosis, Failure};
use crate::kafka::{Acl, Cluster, GRANT, NOT_GRANTED, may_join};
use crate::members::refuse_strangers;
use crate::sink::{Role, UsableTopic};

const WHAT: &str = "group";

/// Looks at the group, where there is one.
pub(super) async fn group(notes: &mut Notes, config: &Config, cluster: &Cluster, usable: &[UsableTopic]) {
    if config.group.mode == GroupMode::Single {
        let found = "group.mode is single: one process runs all lenders, and a second one takes over from it";
        return notes.ok(WHAT, found);
    }
    let group = config.group_id().to_owned();
    let Some(lender) = config.lenders.keys().next() else {
        return;
    };
    let topic = config.kafka.topics.for_lender(lender).cursor;
    let tried = {
        let (cluster, group) = (cluster.clone(), group.clone());
        ask(move |_| may_join(&cluster, &group, &topic)).await
    };
    match tried {
        Ok(true) => {}
        Ok(false) => {
            let acl = Acl::Group { group };
            let found = format!("{acl} is not granted");
            let wanted = "READ on the group, or group.mode = \"single\"";
            return notes.error(NOT_GRANTED.exit(), NOT_GRANTED, WHAT, found, wanted, GRANT);
        }
        Err(error) => return notes.failure(&error.into(), WHAT, "an answer"),
    }
    for topic in usable
        .iter()
        .filter(|topic| topic.role == Role::Cursor && topic.partition_count == 1)
    {
        let found = format!(
            "{} has one partition: one process runs all lenders, others stand by",
            topic.name
        );
        let advice = format!(
            "where several are to share them out: kafka-topics.sh --bootstrap-server {} --alter --topic {} --partitions 24, at any time, \
             and restart them one by one",
            cluster.servers(),
            topic.name
        );
        notes.warning(WHAT, found, "as many as processes, or more", advice);
    }
    match refuse_strangers(cluster, &group).await {
        Ok(count) => {
            let members = match count {
                // Or its members are not shown: those of KIP-848 are not.
                0 => "nobody is in it now".to_owned(),
                1 => "1 process is in it now".to_owned(),
                count => format!("{count} processes are in it now"),
            };
            notes.ok(WHAT, format!("READ on {group}, tried without joining; {members}"));
        }
        Err(error) => {
            let failure = Failure::of(&error);
            notes.error(
                error.exit(),
                failure.code(),
                WHAT,
                failure.text(),
                "a group of its own",
                failure.advice(),
            );
        }
    }
}
