//! Why is there no answer to a question to the registry, and what should a person do?

use crate::config::SecretError;
use crate::exit::{Diagnosis, ErrorCode};
use crate::tls::CertificateError;

/// Why the registry did not do what it was asked for. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("schema_registry.url is not set, or cannot have a path")]
    NoUrl,
    #[error("reading schema_registry.ca_file")]
    Ca(#[source] CertificateError),
    #[error("setting up HTTP for the schema registry")]
    Http(#[source] reqwest::Error),
    #[error("reading {key}")]
    Secret { key: &'static str, source: SecretError },
    #[error(
        "registering the schema of subject {subject}: it is not compatible with those registered before: {message}"
    )]
    Incompatible { subject: String, message: String },
    #[error("the schema of subject {subject} is not registered, and schema_registry.auto_register is off")]
    NotRegistered { subject: String },
    #[error("{doing} {target}: the schema registry refused with {status}: {message}")]
    Refused {
        doing: &'static str,
        target: String,
        status: u16,
        message: String,
    },
    #[error("{doing} {target}: the schema registry does not take it: {message}")]
    Invalid {
        doing: &'static str,
        target: String,
        message: String,
    },
    /// The network, a server's fault, anything that may pass.
    #[error("{doing} {target}: the schema registry {what}")]
    Unavailable {
        doing: &'static str,
        target: String,
        what: String,
        source: Option<reqwest::Error>,
    },
    #[error("{doing} {target}: the answer is no schema registry's: {what}")]
    NoAnswerForm {
        doing: &'static str,
        target: String,
        what: String,
    },
    #[error("the schema registry has no schema {id}")]
    UnknownId { id: u32 },
    #[error("schema {id} of the schema registry is not Avro but {kind}")]
    NotAvro { id: u32, kind: String },
    #[error("schema {id} of the schema registry is {found}, not {wanted}")]
    Foreign {
        id: u32,
        found: String,
        wanted: &'static str,
    },
    #[error("schema {id} of the schema registry is another one than it was")]
    Changed { id: u32 },
}

impl RegistryError {
    /// Whether what is asked for is not there, by an answer that asking again does not change.
    pub(crate) fn is_lost_id(&self) -> bool {
        matches!(
            self,
            Self::UnknownId { .. } | Self::NotAvro { .. } | Self::Foreign { .. } | Self::Changed { .. }
        )
    }
}

impl Diagnosis for RegistryError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoUrl => ErrorCode::R01,
            Self::Ca(_) | Self::Http(_) => ErrorCode::R02,
            Self::Secret { .. } => ErrorCode::R03,
            Self::Unavailable { .. } => ErrorCode::R04,
            Self::Refused { .. } => ErrorCode::R05,
            Self::Incompatible { .. } => ErrorCode::R06,
            Self::NotRegistered { .. } => ErrorCode::R07,
            Self::Invalid { .. } => ErrorCode::R08,
            Self::NoAnswerForm { .. } => ErrorCode::R09,
            Self::UnknownId { .. } => ErrorCode::R10,
            Self::NotAvro { .. } => ErrorCode::R11,
            Self::Foreign { .. } | Self::Changed { .. } => ErrorCode::R12,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::NoUrl => "set schema_registry.url",
            Self::Ca(_) => "correct schema_registry.ca_file: a PEM file with the registry's CA",
            Self::Http(_) => "correct schema_registry.ca_file and the proxy variables of the environment",
            Self::Secret { .. } => "mount the secret where schema_registry.*_file points, readable for this process",
            Self::Incompatible { .. } => {
                "see which schemas the subject holds and who registered them (`schema check` compares). If they are not \
                 d02-source's, choose another kafka.topics.accounts or avro.subject_strategy. If consumers can live with \
                 the new schema, let the subject's owner loosen its compatibility; else run the version of d02-source \
                 that registered the old one"
            }
            Self::NotRegistered { .. } => {
                "run `d02-source schema register`, or have the subject's owner register what `d02-source schema print` \
                 prints; or set schema_registry.auto_register = true"
            }
            Self::Refused { .. } => {
                "check schema_registry.username, password_file and token_file, and the right to this subject: READ, to \
                 register also WRITE"
            }
            Self::Invalid { .. } => "see whether the registry is read-only or has rules of its own for schemas",
            Self::Unavailable { .. } => {
                "check that the registry is up, and schema_registry.url, ca_file, DNS and proxy"
            }
            Self::NoAnswerForm { .. } => {
                "correct schema_registry.url: it is the base of Confluent's API, which may need a path (Apicurio: \
                 /apis/ccompat/v7)"
            }
            Self::UnknownId { .. } | Self::Foreign { .. } | Self::Changed { .. } => LOST_IDS,
            Self::NotAvro { .. } => "nothing of d02-source's is written so: find out who wrote the record",
        }
    }
}

const LOST_IDS: &str = "correct schema_registry.url, if it is another registry's; else the registry has lost its schemas: restore them, or \
                        run `d02-source republish`, which writes such accounts once more under today's";
