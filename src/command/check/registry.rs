//! Would the registry take the schemas, and does it know those of the records that are there? It registers nothing.

use super::finding::Notes;
use super::records::WrittenSchema;
use crate::avro::ACCOUNT;
use crate::config::{Config, Encoding};
use crate::exit::Exit;
use crate::registry::{Registry, WANTED_LEVEL};
use crate::subjects::{NO_REGISTRY, SubjectFinding, subjects};

/// What to do about a registry that does not answer.
pub(super) const AWAY: &str = "check that the registry is up, and schema_registry.url, ca_file, DNS and proxy";

/// Looks at the subjects of `accounts` and `changes`.
pub(super) async fn check(notes: &mut Notes, config: &Config) {
    notes.doing("subjects");
    if config.avro.encoding == Encoding::SingleObject {
        return notes.ok("encoding", NO_REGISTRY);
    }
    let registry = match Registry::new(&config.schema_registry) {
        Ok(registry) => registry,
        Err(error) => {
            let wanted = "a registry that can be asked";
            return notes.failure(&error.into(), "registry", wanted);
        }
    };
    let subjects = match subjects(config, None) {
        Ok(subjects) => subjects,
        Err(error) => return notes.failure(&error.into(), "subjects", "subjects"),
    };
    for subject in subjects {
        let found = SubjectFinding::of(&registry, subject, config.schema_registry.auto_register).await;
        let (what, (_, state)) = (format!("subject {}", found.subject), found.state());
        match found.failure() {
            None => notes.ok(&*what, state),
            Some(failure) => {
                let wanted = if found.exit == Exit::Failed {
                    "an answer"
                } else {
                    "the schema, or one that it is compatible with"
                };
                notes.error(failure.exit(), failure.code(), &*what, state, wanted, failure.advice());
            }
        }
        if let Some((level, warning)) = found.compatibility() {
            match warning {
                None => notes.ok(what, level),
                Some(warning) => notes.warning(what, level, WANTED_LEVEL, warning),
            }
        }
        if found.exit == Exit::Failed {
            // It would not answer for the others either.
            break;
        }
    }
}

/// Whether the registry knows the schemas that records are written with.
pub(super) async fn records(notes: &mut Notes, config: &Config, seen: &[WrittenSchema]) {
    notes.doing("schemas of records");
    let Ok(registry) = Registry::new(&config.schema_registry) else {
        // Said before.
        return;
    };
    for WrittenSchema { topic, schema_id } in seen {
        let what = format!("records in {topic}");
        match registry.schema_of(*schema_id, ACCOUNT.name).await {
            Ok(_) => notes.ok(what, format!("schema {schema_id} of the last one is known")),
            Err(error) => {
                let wanted = format!("schema {schema_id} of the last record");
                notes.failure(&error.into(), what, wanted);
            }
        }
    }
}
