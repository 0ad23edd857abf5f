//! Which subjects hold the schemas of what is written, and what does the registry say of each?

use serde_json::{Value, json};

use crate::avro::{ACCOUNT, CHANGE, Definition};
use crate::config::{Config, SubjectStrategy};
use crate::exit::{Diagnosis, Exit, Failure, chain};
use crate::registry::{self, Compatibility, CompatibilityVerdict, Registered, Registry, RegistryError, WANTED_LEVEL};
use crate::selection::{LENDER, SelectionError, topic_names};

/// A subject with the schema that belongs there.
pub(crate) struct Subject {
    pub name: String,
    pub schema: &'static Definition,
}

/// The subjects of what is written, each once: for one lender's topics if they are asked for, else for all.
///
/// # Errors
/// When nothing says for whose topics.
pub(crate) fn subjects(config: &Config, lender: Option<&str>) -> Result<Vec<Subject>, SelectionError> {
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

pub(crate) const NO_REGISTRY: &str =
    "avro.encoding is \"single-object\": values carry the schema's fingerprint, no registry is asked";

/// Registers the schema if it is not there, whatever `auto_register` says; where it then stands, and which of both it was.
pub(crate) async fn registered(
    registry: &Registry,
    Subject { name, schema }: &Subject,
) -> Result<(Registered, &'static str), RegistryError> {
    if let Some(found) = registry.look_up(name, schema.text).await? {
        return Ok((found, "was registered"));
    }
    let id = registry.register(name, schema.text).await?;
    // The answer to registering says no version.
    let found = registry.look_up(name, schema.text).await?;
    Ok((found.unwrap_or(Registered { id, version: None }), "registered"))
}

/// `id 7, version 1`.
pub(crate) fn place(registered: &Registered) -> String {
    let version = registered.version.map(|version| format!(", version {version}"));
    format!("id {}{}", registered.id, version.unwrap_or_default())
}

/// What `schema check` found out about a subject.
pub(crate) struct SubjectFinding {
    pub subject: String,
    state: SubjectState,
    /// `None`: not asked, because the registry had given no answer before.
    compatibility: Option<Result<Compatibility, RegistryError>>,
    pub exit: Exit,
}

impl SubjectFinding {
    pub(crate) async fn of(registry: &Registry, subject: Subject, auto_register: bool) -> Self {
        let state = match state(registry, &subject, auto_register).await {
            Ok(state) => state,
            Err(error) => SubjectState::Unknown(error),
        };
        let exit = match &state {
            SubjectState::Registered(_) | SubjectState::Acceptable => Exit::Done,
            SubjectState::Missing | SubjectState::Incompatible(_) => Exit::Usage,
            SubjectState::Unknown(error) => error.exit(),
        };
        let compatibility = match exit {
            Exit::Failed => None,
            Exit::Done | Exit::Usage | Exit::TakenOver | Exit::Refused => {
                Some(registry.compatibility(&subject.name).await)
            }
        };
        Self {
            subject: subject.name,
            state,
            compatibility,
            exit,
        }
    }

    /// What it is called in JSON, and in words.
    pub(crate) fn state(&self) -> (&'static str, String) {
        match &self.state {
            SubjectState::Registered(registered) => ("registered", format!("registered, {}", place(registered))),
            SubjectState::Acceptable => ("acceptable", "not registered yet; `run` registers it".to_owned()),
            SubjectState::Missing => (
                "missing",
                "not registered, and schema_registry.auto_register is off".to_owned(),
            ),
            SubjectState::Incompatible(reasons) => {
                let reasons = match &reasons[..] {
                    [] => "the registry does not say why (it may when `schema register` is refused)".to_owned(),
                    reasons => reasons.join("; "),
                };
                (
                    "incompatible",
                    format!("not registered, and not compatible with what is: {reasons}"),
                )
            }
            SubjectState::Unknown(error) => ("unknown", chain(error)),
        }
    }

    /// The error that `run` would meet, and wait.
    pub(crate) fn failure(&self) -> Option<Failure> {
        let subject = self.subject.clone();
        match &self.state {
            SubjectState::Registered(_) | SubjectState::Acceptable => None,
            SubjectState::Missing => Some(RegistryError::NotRegistered { subject }.into()),
            SubjectState::Incompatible(reasons) => {
                let message = reasons.join("; ");
                Some(RegistryError::Incompatible { subject, message }.into())
            }
            SubjectState::Unknown(error) => Some(Failure::of(error)),
        }
    }

    /// Which compatibility is in force, and why that is worth a warning.
    pub(crate) fn compatibility(&self) -> Option<(String, Option<String>)> {
        const WHY: &str = "a later version of the schema may be one that not every consumer can read";
        let (level, whose, mend) = match self.compatibility.as_ref()? {
            Ok(Compatibility::OfSubject(level)) => {
                let whose = match level.as_str() {
                    // Apicurio says it also of a subject without one, though the whole registry's is in force.
                    "NONE" => "the subject's own or nobody's",
                    _ => "the subject's own",
                };
                (
                    level,
                    whose,
                    format!("its owner can PUT {WANTED_LEVEL} to /config/{}", self.subject),
                )
            }
            Ok(Compatibility::OfRegistry(level)) => {
                let mend = format!("`d02-source setup` sets {WANTED_LEVEL} for the subject");
                (level, "the whole registry's", mend)
            }
            Err(error) => return Some(("compatibility unknown".to_owned(), Some(chain(error)))),
        };
        let warning = (level != WANTED_LEVEL).then(|| format!("{WHY}: {mend}"));
        Some((format!("compatibility {level}, {whose}"), warning))
    }

    pub(crate) fn text(&self) -> String {
        let ((_, state), sign) = (self.state(), if self.exit == Exit::Done { '✓' } else { '✗' });
        let mut lines = vec![format!("{sign} {}: {state}", self.subject)];
        lines.extend(self.failure().map(|failure| format!("    → {}", failure.way_on())));
        if let Some((level, warning)) = self.compatibility() {
            let sign = if warning.is_some() { '!' } else { '✓' };
            lines.push(format!("{sign} {}: {level}", self.subject));
            lines.extend(warning.map(|warning| format!("    → {warning}")));
        }
        lines.join("\n")
    }

    pub(crate) fn json(&self) -> Value {
        let (state, words) = self.state();
        let (id, version) = match &self.state {
            SubjectState::Registered(Registered { id, version }) => (Some(id), *version),
            SubjectState::Acceptable
            | SubjectState::Missing
            | SubjectState::Incompatible(_)
            | SubjectState::Unknown(_) => (None, None),
        };
        let (level, whose) = match &self.compatibility {
            Some(Ok(Compatibility::OfSubject(level))) => (Some(level), Some("subject")),
            Some(Ok(Compatibility::OfRegistry(level))) => (Some(level), Some("registry")),
            Some(Err(_)) | None => (None, None),
        };
        let failure = self.failure();
        json!({
            "subject": self.subject,
            "state": state,
            "id": id,
            "version": version,
            "compatibility": level,
            "compatibility_of": whose,
            "problem": failure.is_some().then_some(words),
            "code": failure.as_ref().map(|failure| failure.code().name()),
            "advice": failure.as_ref().map(Failure::advice),
            "warning": self.compatibility().and_then(|(_, warning)| warning),
        })
    }
}

async fn state(
    registry: &Registry,
    Subject { name, schema }: &Subject,
    auto_register: bool,
) -> Result<SubjectState, RegistryError> {
    if let Some(found) = registry.look_up(name, schema.text).await? {
        return Ok(SubjectState::Registered(found));
    }
    Ok(match registry.compare(name, schema.text).await? {
        CompatibilityVerdict::Incompatible(reasons) => SubjectState::Incompatible(reasons),
        CompatibilityVerdict::Compatible | CompatibilityVerdict::NothingToFollow if auto_register => {
            SubjectState::Acceptable
        }
        CompatibilityVerdict::Compatible | CompatibilityVerdict::NothingToFollow => SubjectState::Missing,
    })
}

/// How the schema stands under a subject.
enum SubjectState {
    Registered(Registered),
    /// `run` registers it.
    Acceptable,
    /// It could be registered, but not by `run`.
    Missing,
    /// With the registry's reasons.
    Incompatible(Vec<String>),
    Unknown(RegistryError),
}
