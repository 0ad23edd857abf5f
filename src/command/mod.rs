//! What can a person ask for? A subcommand a file.

pub mod check;
pub mod config;
pub mod cursor;
#[cfg(feature = "demo")]
pub mod demo;
pub mod health_check;
pub mod progress_bar;
pub mod reconcile;
pub mod replay;
pub mod run;
pub mod schema;
pub mod setup;
pub mod simulate;
pub mod tail;
pub mod verify;

use crate::avro::{ACCOUNT, CHANGE, Definition};
use crate::config::{Config, SubjectStrategy};
use crate::policy::{Exit, chain};
use crate::registry;
use crate::shutdown::ShutdownSender;
use crate::sink::{Checked, Cluster, ensure_topics};

/// What stands for the lender in the name of a topic.
const LENDER: &str = "{lender}";

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

/// The topics that `pattern`, the value of `key`, names: of one lender if it is asked for, else of all of them. Needs no
/// lender in the configuration where none stands in the name, or where `lender` says whose topic.
fn topic_names(key: &str, pattern: &str, lender: Option<&str>, config: &Config) -> Result<Vec<String>, Failure> {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    let known: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    if !pattern.contains(LENDER) {
        return match lender {
            Some(_) => usage(format!(
                "--lender chooses nothing: {key} is {pattern:?}, which all lenders share\n  → leave it out"
            )),
            None => Ok(vec![pattern.to_owned()]),
        };
    }
    let lenders = match lender {
        Some(lender) => {
            if !known.is_empty() {
                require_lender(config, lender)?;
            }
            vec![lender]
        }
        None if known.is_empty() => {
            return usage(format!(
                "{key} is {pattern:?}, and no lender is configured\n  → say whose topic: --lender NAME"
            ));
        }
        None => known,
    };
    Ok(lenders
        .into_iter()
        .map(|lender| pattern.replace(LENDER, lender))
        .collect())
}

/// Leaves only this lender in the configuration, if one is asked for.
fn keep_lender(config: &mut Config, lender: Option<&str>) -> Result<(), Failure> {
    if let Some(lender) = lender {
        require_lender(config, lender)?;
        config.lenders.retain(|name, _| name == lender);
    }
    Ok(())
}

fn require_lender(config: &Config, lender: &str) -> Result<(), Failure> {
    if config.lenders.contains_key(lender) {
        return Ok(());
    }
    let known: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let message = format!(
        "no lender `{lender}` in the configuration; there are: {}",
        known.join(", ")
    );
    Err(Failure::new(Exit::Usage, message))
}

/// A subject with the schema that belongs there.
struct Subject {
    name: String,
    schema: &'static Definition,
}

/// The subjects of what is written, each once: for one lender's topics if they are asked for, else for all.
fn subjects(config: &Config, lender: Option<&str>) -> Result<Vec<Subject>, Failure> {
    let (strategy, names) = (config.avro.subject_strategy, &config.kafka.topics);
    let patterns = [Some(&names.accounts), names.changes.as_ref()];
    let is_one_of_lenders = patterns.into_iter().flatten().any(|pattern| pattern.contains(LENDER));
    let mut subjects = Vec::new();
    for (key, pattern, schema) in [
        ("kafka.topics.accounts", Some(&names.accounts), &ACCOUNT),
        ("kafka.topics.changes", names.changes.as_ref(), &CHANGE),
    ] {
        let Some(pattern) = pattern else { continue };
        // A topic that all share is the lender's as well, as long as the other one is not shared.
        let lender = lender.filter(|_| pattern.contains(LENDER) || !is_one_of_lenders);
        let topics = match (strategy, lender) {
            // Whatever the topics are called.
            (SubjectStrategy::RecordName, None) => vec![String::new()],
            _ => topic_names(key, pattern, lender, config)?,
        };
        subjects.extend(topics.iter().map(|topic| Subject {
            name: registry::subject(strategy, topic, schema.name),
            schema,
        }));
    }
    Ok(subjects)
}

/// Hands SIGTERM and Ctrl-C on as the request to end, each of them.
fn listen_for_signals(sender: ShutdownSender) -> Result<(), Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |error: std::io::Error| Failure::new(Exit::Failed, format!("listening for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // Either asks for the same.
                _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
                _ = interrupt.recv() => tracing::info!("interrupted: ending"),
            }
            sender.request();
        }
    });
    Ok(())
}
