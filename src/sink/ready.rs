//! Are the topics of all lenders ready? UsableTopic, created if they may be, and what is worth a look said.

use super::admin::ensure_topics;
use super::topics::{TopicDifference, UsableTopic};
use crate::config::Config;
use crate::exit::Failure;
use crate::kafka::Cluster;

/// Checks the topics of all lenders, creates the missing ones if asked to, and logs what is worth a look.
///
/// # Errors
/// As [`ensure_topics`].
pub(crate) async fn ready_topics(
    cluster: &Cluster,
    config: &Config,
    create: bool,
) -> Result<Vec<UsableTopic>, Failure> {
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
