//! Are the topics of all lenders ready? UsableTopic, created if they may be, and what is worth a look said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::admin::{InspectedTopic, ensure_topics, inspect_topics};
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

/// Looks again and again whether the topics that have to be compacted still are, for as long as the process runs. Tells the metrics
/// of their lenders, which are not ready meanwhile, and the log.
pub(crate) async fn watch_settings(cluster: Cluster, config: Config, metrics: Arc<Metrics>) {
    let lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let mut wrong_before = BTreeSet::new();
    loop {
        pause_between_looks().await;
        let inspected = match inspect_topics(&cluster, &config.kafka, &lenders, LOOK_LIMIT).await {
            Ok((_, inspected)) => inspected,
            // It is looked at again; what the brokers do to a lender is that lender's to say.
            Err(error) => {
                tracing::debug!("looking at the settings of topics: {}", chain(&error));
                continue;
            }
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
        wrong_before = wrong;
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
