//! What can be wrong with a configuration, and how is the person told?
//!
//! Each error says where the value came from, which key, which value and what is allowed. A value under a secret key,
//! an unknown key or a table's place is never shown.

use std::fmt;
use std::path::PathBuf;

use crate::exit::{Diagnosis, ErrorCode};

/// Everything that is wrong, at once. Its text has a line an error.
#[derive(Debug, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => write!(f, "the configuration cannot be used: {one}"),
            many => {
                write!(f, "the configuration cannot be used, {} errors:", many.len())?;
                many.iter()
                    .try_for_each(|error| write!(f, "\n  - {error} ({})", error.code()))
            }
        }
    }
}

/// One thing that is wrong. `layer` reads like "file /etc/d02.toml" or "environment variable D02__NAME".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {reason}")]
    UnreadableFile { path: PathBuf, reason: String },

    /// `reason` comes from the parser and names what it expected; the line itself is not shown, it may hold a secret.
    #[error("the configuration file {path} is not valid TOML, line {line}: {reason}")]
    NotToml { path: PathBuf, line: usize, reason: String },

    #[error("--set number {position} is not KEY=VALUE; an example: --set upstream.page_size=500")]
    NotAnAssignment { position: usize },

    #[error("{layer}: the value is not valid UTF-8")]
    NotText { layer: String },

    /// `key` and `nearest` are spelt as the layer spells keys.
    #[error("{key} ({layer}): there is no such key; the nearest is {nearest}")]
    UnknownKey {
        key: String,
        layer: String,
        nearest: String,
    },

    #[error("{key} ({layer}): this is a table of keys, not a value")]
    NotAValue { key: String, layer: String },

    #[error("lenders.{lender} ({layer}): the name of a lender is made of lower-case letters, digits and hyphens")]
    LenderName { lender: String, layer: String },

    /// `value` as it may be shown.
    #[error("{key} = {value} ({layer}): allowed is {allowed}")]
    Invalid {
        key: String,
        value: String,
        layer: String,
        allowed: String,
    },

    #[error("{key} ({layer}): the value is not shown because it may be secret; allowed is {allowed}")]
    InvalidHidden {
        key: String,
        layer: String,
        allowed: String,
    },

    /// `layer` is the one that names the lender.
    #[error("{key} is missing, {wanted} ({layer} names the lender)")]
    Missing {
        key: String,
        layer: String,
        wanted: &'static str,
    },

    #[error(
        "no lender is configured: in a file, [lenders.NAME] with email and password_file; in the environment, \
         D02__LENDERS__NAME__EMAIL and D02__LENDERS__NAME__PASSWORD_FILE"
    )]
    NoLender,

    #[error("{key} ({layer}) and {key}_file ({file_layer}) are both given: one of them has to go")]
    BothGiven {
        key: String,
        layer: String,
        file_layer: String,
    },

    #[error("kafka.properties: {property} ({layer}) is not yours to set: {reason}")]
    RefusedProperty {
        property: String,
        layer: String,
        reason: &'static str,
    },

    /// Two keys that do not go together.
    #[error("{key} ({layer}): {problem}")]
    Conflict {
        key: String,
        layer: String,
        problem: String,
    },
}

/// Of many, that of the first.
impl Diagnosis for ConfigErrors {
    fn code(&self) -> ErrorCode {
        self.first().code()
    }

    fn advice(&self) -> &str {
        match self.0.as_slice() {
            [one] => one.advice(),
            [] | [_, ..] => "correct them all; config/d02-source.toml has every key, its default and the reason",
        }
    }
}

impl ConfigErrors {
    fn first(&self) -> &ConfigError {
        self.0.first().expect("without an error the configuration can be used")
    }
}

impl Diagnosis for ConfigError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnreadableFile { .. } => ErrorCode::C01,
            Self::NotToml { .. } => ErrorCode::C02,
            Self::NotAnAssignment { .. } => ErrorCode::C03,
            Self::NotText { .. } => ErrorCode::C04,
            Self::UnknownKey { .. } => ErrorCode::C05,
            Self::NotAValue { .. } => ErrorCode::C06,
            Self::LenderName { .. } => ErrorCode::C07,
            Self::Invalid { .. } | Self::InvalidHidden { .. } => ErrorCode::C08,
            Self::Missing { .. } => ErrorCode::C09,
            Self::NoLender => ErrorCode::C10,
            Self::BothGiven { .. } => ErrorCode::C11,
            Self::RefusedProperty { .. } => ErrorCode::C12,
            Self::Conflict { .. } => ErrorCode::C13,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::UnreadableFile { .. } => "correct the path of --config, or let this user read the file",
            Self::NotToml { .. } => "correct that line; it is not shown because it may hold a secret",
            Self::NotAnAssignment { .. } => "write a key, = and its value",
            Self::NotText { .. } => "correct the variable of the environment",
            Self::UnknownKey { .. } => "correct the spelling; config/d02-source.toml has every key of this version",
            Self::NotAValue { .. } => "set a key in it",
            Self::LenderName { .. } => "choose such a name",
            Self::Invalid { .. } | Self::InvalidHidden { .. } => "correct the value",
            Self::Missing { .. } => "set it",
            Self::NoLender => "add one",
            Self::BothGiven { .. } => "remove one of them, in whatever layer",
            Self::RefusedProperty { .. } => "remove it",
            Self::Conflict { .. } => "change one of them",
        }
    }
}
