//! Which lenders and topics does a person mean?

use crate::config::Config;
use crate::exit::{Exit, Failure};

/// What stands for the lender in the name of a topic.
pub const LENDER: &str = "{lender}";

/// The topics that `pattern`, the value of `key`, names: of one lender if it is asked for, else of all of them. Needs no
/// lender in the configuration where none stands in the name, or where `lender` says whose topic.
pub fn topic_names(key: &str, pattern: &str, lender: Option<&str>, config: &Config) -> Result<Vec<String>, Failure> {
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
pub fn keep_lender(config: &mut Config, lender: Option<&str>) -> Result<(), Failure> {
    if let Some(lender) = lender {
        require_lender(config, lender)?;
        config.lenders.retain(|name, _| name == lender);
    }
    Ok(())
}

pub fn require_lender(config: &Config, lender: &str) -> Result<(), Failure> {
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
