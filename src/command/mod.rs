//! What can a person ask for? A subcommand a file.

pub mod check;
pub mod config;
pub mod cursor;
#[cfg(feature = "demo")]
pub mod demo;
pub mod health_check;
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
use crate::exit::{Exit, Failure};
use crate::registry;

/// What stands for the lender in the name of a topic.
const LENDER: &str = "{lender}";

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
