//! Are the topics of all lenders ready? UsableTopic, created if they may be, and what is worth a look said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::admin::{InspectedTopic, ensure_topics, inspect_topics};
use super::hidden::HiddenEnds;
use super::topic_error::TopicError;
use super::topics::{Role, TopicDifference, UsableTopic};
use crate::backoff::pause_between_looks;
use crate::config::Config;
use crate::exit::{Diagnosis, chain};
use crate::kafka::Cluster;
use crate::metrics::Metrics;

/// How long the brokers may not answer one look.
const LOOK_LIMIT: Duration = Duration::from_secs(60);

/// Checks the topics of all lenders, creates the missing ones if asked to, and logs what is worth a look.
///
/// # Errors
/// As [`ensure_topics`].
pub(crate) async fn ready_topics(
    cluster: &Cluster,
    config: &Config,
    create: bool,
) -> Result<Vec<UsableTopic>, TopicError> {
    let lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let checked = ensure_topics(cluster, &config.kafka, &lenders, create).await?;
    for topic in &checked {
        if topic.created {
            tracing::info!(topic = topic.name, partitions = topic.partition_count, "created");
        }
        for warning in &topic.warnings {
            tracing::warn!(topic = topic.name, code = %TopicDifference::CODE, "{warning}");
        }
    }
    Ok(checked)
}

/// Looks again and again, for as long as the process runs, whether the topics that have to be compacted still are, and whether
/// consumers still read what is written to them. Tells the metrics of their lenders, and the log.
pub(crate) async fn watch_topics(cluster: Cluster, config: Config, metrics: Arc<Metrics>) {
    let (mut uncompacted, mut hidden) = (BTreeSet::new(), HiddenEnds::default());
    loop {
        pause_between_looks().await;
        look_at_settings(&cluster, &config, &metrics, &mut uncompacted).await;
        look_at_ends(&cluster, &config, &metrics, &mut hidden).await;
    }
}

/// `wrong_before`: the topics that the look before found not to be compacted. Their lenders are not ready.
async fn look_at_settings(cluster: &Cluster, config: &Config, metrics: &Metrics, wrong_before: &mut BTreeSet<String>) {
    let lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let inspected = match inspect_topics(cluster, &config.kafka, &lenders, LOOK_LIMIT).await {
        Ok((_, inspected)) => inspected,
        // It is looked at again; what the brokers do to a lender is that lender's to say.
        Err(error) => return tracing::debug!("looking at the settings of topics: {}", chain(&error)),
    };
    let wrong: BTreeSet<String> = inspected.iter().filter_map(say_uncompacted).collect();
    for topic in wrong_before.difference(&wrong) {
        tracing::info!(topic, "is exactly compacted again");
    }
    for lender in &lenders {
        let names = config.kafka.topics.for_lender(lender);
        let count = [names.accounts, names.cursor]
            .iter()
            .filter(|name| wrong.contains(*name))
            .count();
        metrics.lender(lender).uncompacted_topics.set(count as i64);
    }
    *wrong_before = wrong;
}

/// Their lenders stay ready: they are written, and no restart ends somebody's transaction.
async fn look_at_ends(cluster: &Cluster, config: &Config, metrics: &Metrics, hidden: &mut HiddenEnds) {
    let topics_of = |lender: &str| {
        let names = config.kafka.topics.for_lender(lender);
        let mut topics = vec![names.accounts, names.cursor, names.dead_letters];
        topics.extend(names.changes);
        topics
    };
    let all: BTreeSet<String> = config.lenders.keys().flat_map(|lender| topics_of(lender)).collect();
    if let Err(error) = hidden.look(cluster, &all).await {
        return tracing::debug!("looking where topics end: {}", chain(&error));
    }
    for lender in config.lenders.keys() {
        let topics = topics_of(lender);
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let count = hidden.hanging(&topics);
        metrics.lender(lender).hidden_partitions.set(count as i64);
    }
}

/// Gives the name of a topic that has to be compacted and is not, and says so.
fn say_uncompacted(topic: &InspectedTopic) -> Option<String> {
    let Err(error @ TopicError::CleanupPolicy { .. }) = &topic.state else {
        return None;
    };
    let what = match topic.role {
        Role::Accounts => "accounts that do not change",
        Role::Cursor | Role::Changes | Role::DeadLetters => "the progress of lenders that do not move",
    };
    tracing::error!(
        code = %error.code(),
        advice = error.advice(),
        "{error}: {what} are removed from it by age; writing goes on"
    );
    Some(topic.name.clone())
}
