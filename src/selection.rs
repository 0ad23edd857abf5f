//! Which lenders and topics does a person mean?

use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode};

/// Why it is not known which lender or topic is meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SelectionError {
    #[error("no lender `{lender}` in the configuration; there are: {}", .known.join(", "))]
    NoSuchLender { lender: String, known: Vec<String> },
    #[error("--lender chooses nothing: {key} is {pattern:?}, which all lenders share")]
    Shared { key: String, pattern: String },
    #[error("{key} is {pattern:?}, and no lender is configured")]
    WhoseTopic { key: String, pattern: String },
}

impl Diagnosis for SelectionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoSuchLender { .. } => ErrorCode::C14,
            Self::Shared { .. } => ErrorCode::C15,
            Self::WhoseTopic { .. } => ErrorCode::C16,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::NoSuchLender { .. } => "choose one of them, or add it to the configuration",
            Self::Shared { .. } => "leave it out",
            Self::WhoseTopic { .. } => "say whose topic: --lender NAME",
        }
    }
}

/// What stands for the lender in the name of a topic.
pub(crate) const LENDER: &str = "{lender}";

/// The topics that `pattern`, the value of `key`, names: of one lender if it is asked for, else of all of them. Needs no
/// lender in the configuration where none stands in the name, or where `lender` says whose topic.
///
/// # Errors
/// When that lender is none of the configuration's, or nothing says whose topic.
pub(crate) fn topic_names(
    key: &str,
    pattern: &str,
    lender: Option<&str>,
    config: &Config,
) -> Result<Vec<String>, SelectionError> {
    let named = || (key.to_owned(), pattern.to_owned());
    let known: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    if !pattern.contains(LENDER) {
        return match lender {
            Some(_) => {
                let (key, pattern) = named();
                Err(SelectionError::Shared { key, pattern })
            }
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
            let (key, pattern) = named();
            return Err(SelectionError::WhoseTopic { key, pattern });
        }
        None => known,
    };
    Ok(lenders
        .into_iter()
        .map(|lender| pattern.replace(LENDER, lender))
        .collect())
}

/// Leaves only this lender in the configuration, if one is asked for.
///
/// # Errors
/// When it is none of the configuration's.
pub(crate) fn keep_lender(config: &mut Config, lender: Option<&str>) -> Result<(), SelectionError> {
    if let Some(lender) = lender {
        require_lender(config, lender)?;
        config.lenders.retain(|name, _| name == lender);
    }
    Ok(())
}

/// # Errors
/// When the lender is none of the configuration's.
pub(crate) fn require_lender(config: &Config, lender: &str) -> Result<(), SelectionError> {
    if config.lenders.contains_key(lender) {
        return Ok(());
    }
    Err(SelectionError::NoSuchLender {
        lender: lender.to_owned(),
        known: config.lenders.keys().cloned().collect(),
    })
}
