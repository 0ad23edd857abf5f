//! What can a person ask for? A subcommand a file.

pub mod config;
pub mod cursor;
pub mod run;
pub mod setup;
pub mod simulate;

use crate::config::Config;
use crate::policy::{Exit, chain};
use crate::sink::{Checked, Cluster, ensure_topics};

/// A command that did not do what it was asked for.
#[derive(Debug)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
        }
    }

    /// `error` with its causes, and what to do about it.
    pub fn of(exit: Exit, error: &dyn std::error::Error, advice: &str) -> Self {
        Self {
            exit,
            message: format!("{}\n  → {advice}", chain(error)),
        }
    }
}

/// Checks the topics of all lenders, creates the missing ones if asked to, and logs what is worth a look.
async fn topics(cluster: &Cluster, config: &Config, create: bool) -> Result<Vec<Checked>, Failure> {
    let lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let checked = ensure_topics(cluster, &config.kafka, &lenders, create).await;
    let checked = checked.map_err(|error| Failure::of(error.exit(), &error, error.advice()))?;
    for topic in &checked {
        if topic.created {
            tracing::info!(topic = topic.name, partitions = topic.partition_count, "created");
        }
        topic
            .warnings
            .iter()
            .for_each(|warning| tracing::warn!(topic = topic.name, "{warning}"));
    }
    Ok(checked)
}
