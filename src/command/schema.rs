//! `schema print / check / register`: the schemas as files, against the registry, and into it. Without Kafka, and without
//! lenders where none stands in the name of a topic.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::{Value, json};

use super::{Failure, Subject};
use crate::avro::{ACCOUNT, CHANGE, Definition};
use crate::config::{Config, Encoding};
use crate::exit::{Exit, chain};
use crate::registry::{Compatibility, CompatibilityVerdict, Registered, Registry, RegistryError, WANTED_LEVEL};

const PRINT_EXAMPLES: &str = "Examples:
  d02-source schema print > account.avsc
  d02-source schema print account-change --fingerprint";

const CHECK_HELP: &str = "Examples:
  d02-source --config config/d02-source.toml schema check
  d02-source --set schema_registry.url=http://localhost:8081 schema check --json

Writes nothing and needs no Kafka. For each subject two lines, the schema and the compatibility:
  ✓  it is registered, or compatible and `run` registers it
  !  a warning
  ✗  `run` would wait
The exit code is 0 without a ✗, 1 if the registry gives no answer, else 2.";

const REGISTER_EXAMPLE: &str = "Example:
  d02-source --config config/d02-source.toml schema register

Safe to repeat. Needs no Kafka, and leaves the compatibility as it is: `setup` sets that.";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Print a schema as it stands in its file, byte for byte
    #[command(after_help = PRINT_EXAMPLES)]
    Print(PrintArgs),
    /// See whether the registry has the schemas, or would take them
    #[command(after_help = CHECK_HELP)]
    Check {
        #[command(flatten)]
        whose: Whose,
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Register the schemas
    #[command(after_help = REGISTER_EXAMPLE)]
    Register {
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, clap::Args)]
pub struct PrintArgs {
    /// Which schema
    #[arg(value_enum, default_value_t = Schema::Account)]
    schema: Schema,
    /// Its name and fingerprints instead: CRC-64-AVRO (Rabin), its bytes in the order in which they stand in a
    /// single object (little-endian), and SHA-256, both in hexadecimal and over the Parsing Canonical Form
    #[arg(long)]
    fingerprint: bool,
}

#[derive(Debug, clap::Args)]
pub struct Whose {
    /// For whose topic, where {lender} stands in its name; all lenders of the configuration by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Schema {
    /// The values of the topic `accounts`: avro/account.avsc
    Account,
    /// The values of the topic `changes`: avro/account_change.avsc
    AccountChange,
}

impl Schema {
    fn definition(self) -> &'static Definition {
        match self {
            Self::Account => &ACCOUNT,
            Self::AccountChange => &CHANGE,
        }
    }
}

/// `schema print`: writes to `out`, in `main` standard output. Needs no configuration and nobody else.
pub fn print(args: &PrintArgs, mut out: impl Write) -> io::Result<()> {
    let schema = args.schema.definition();
    if !args.fingerprint {
        return out.write_all(schema.text.as_bytes());
    }
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha_256 = openssl::sha::sha256(schema.canonical_form().as_bytes());
    writeln!(out, "name         {}", schema.name)?;
    writeln!(out, "crc-64-avro  {}", digits(&schema.fingerprint()))?;
    writeln!(out, "sha-256      {}", digits(&sha_256))
}

/// `schema check`.
pub async fn check(whose: &Whose, as_json: bool, config: &Config) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    if config.avro.encoding == Encoding::Confluent {
        let subjects = super::subjects(config, whose.lender.as_deref())?;
        let registry = Registry::new(&config.schema_registry).map_err(|error| failure(&error))?;
        for subject in subjects {
            let finding = Finding::of(&registry, subject, config.schema_registry.auto_register).await;
            let is_away = finding.exit == Exit::Failed;
            findings.push(finding);
            if is_away {
                // It would not answer for the others either.
                break;
            }
        }
    }
    if as_json {
        let findings: Vec<Value> = findings.iter().map(Finding::json).collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&findings).expect("findings are always JSON")
        );
    } else if findings.is_empty() {
        println!("{NO_REGISTRY}");
    } else {
        findings.iter().for_each(|finding| println!("{}", finding.text()));
    }
    let exits: Vec<Exit> = findings.iter().map(|finding| finding.exit).collect();
    Ok(Exit::of_all(&exits))
}

pub(super) const NO_REGISTRY: &str =
    "avro.encoding is \"single-object\": values carry the schema's fingerprint, no registry is asked";

/// `schema register`.
pub async fn register(whose: &Whose, config: &Config) -> Result<Exit, Failure> {
    if config.avro.encoding == Encoding::SingleObject {
        println!("{NO_REGISTRY}");
        return Ok(Exit::Done);
    }
    let subjects = super::subjects(config, whose.lender.as_deref())?;
    let registry = Registry::new(&config.schema_registry).map_err(|error| failure(&error))?;
    for subject in subjects {
        let (registered, state) = registered(&registry, &subject).await.map_err(|error| failure(&error))?;
        println!("{}: {state}, {}", subject.name, place(&registered));
    }
    Ok(Exit::Done)
}

fn failure(error: &RegistryError) -> Failure {
    Failure::of(error.exit(), error, error.advice())
}

/// Registers the schema if it is not there, whatever `auto_register` says; where it then stands, and which of both it was.
pub(super) async fn registered(
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
pub(super) fn place(registered: &Registered) -> String {
    let version = registered.version.map(|version| format!(", version {version}"));
    format!("id {}{}", registered.id, version.unwrap_or_default())
}

/// How the schema stands under a subject.
enum State {
    Registered(Registered),
    /// `run` registers it.
    Acceptable,
    /// It could be registered, but not by `run`.
    Missing,
    /// With the registry's reasons.
    Incompatible(Vec<String>),
    Unknown(RegistryError),
}

/// What `schema check` found out about a subject.
pub(super) struct Finding {
    pub subject: String,
    state: State,
    /// `None`: not asked, because the registry had given no answer before.
    compatibility: Option<Result<Compatibility, RegistryError>>,
    pub exit: Exit,
}

impl Finding {
    pub async fn of(registry: &Registry, subject: Subject, auto_register: bool) -> Self {
        let state = match state(registry, &subject, auto_register).await {
            Ok(state) => state,
            Err(error) => State::Unknown(error),
        };
        let exit = match &state {
            State::Registered(_) | State::Acceptable => Exit::Done,
            State::Missing | State::Incompatible(_) => Exit::Usage,
            State::Unknown(error) => error.exit(),
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
    pub fn state(&self) -> (&'static str, String) {
        match &self.state {
            State::Registered(registered) => ("registered", format!("registered, {}", place(registered))),
            State::Acceptable => ("acceptable", "not registered yet; `run` registers it".to_owned()),
            State::Missing => (
                "missing",
                "not registered, and schema_registry.auto_register is off".to_owned(),
            ),
            State::Incompatible(reasons) => {
                let reasons = match &reasons[..] {
                    [] => "the registry does not say why (it may when `schema register` is refused)".to_owned(),
                    reasons => reasons.join("; "),
                };
                (
                    "incompatible",
                    format!("not registered, and not compatible with what is: {reasons}"),
                )
            }
            State::Unknown(error) => ("unknown", chain(error)),
        }
    }

    /// What to do, where `run` would wait: that of the error which `run` would meet.
    pub fn advice(&self) -> Option<&'static str> {
        let subject = String::new();
        match &self.state {
            State::Registered(_) | State::Acceptable => None,
            State::Missing => Some(RegistryError::NotRegistered { subject }.advice()),
            State::Incompatible(_) => {
                let message = String::new();
                Some(RegistryError::Incompatible { subject, message }.advice())
            }
            State::Unknown(error) => Some(error.advice()),
        }
    }

    /// Which compatibility is in force, and why that is worth a warning.
    pub fn compatibility(&self) -> Option<(String, Option<String>)> {
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

    fn text(&self) -> String {
        let ((_, state), sign) = (self.state(), if self.exit == Exit::Done { '✓' } else { '✗' });
        let mut lines = vec![format!("{sign} {}: {state}", self.subject)];
        lines.extend(self.advice().map(|advice| format!("    → {advice}")));
        if let Some((level, warning)) = self.compatibility() {
            let sign = if warning.is_some() { '!' } else { '✓' };
            lines.push(format!("{sign} {}: {level}", self.subject));
            lines.extend(warning.map(|warning| format!("    → {warning}")));
        }
        lines.join("\n")
    }

    fn json(&self) -> Value {
        let (state, words) = self.state();
        let (id, version) = match &self.state {
            State::Registered(Registered { id, version }) => (Some(id), *version),
            State::Acceptable | State::Missing | State::Incompatible(_) | State::Unknown(_) => (None, None),
        };
        let (level, whose) = match &self.compatibility {
            Some(Ok(Compatibility::OfSubject(level))) => (Some(level), Some("subject")),
            Some(Ok(Compatibility::OfRegistry(level))) => (Some(level), Some("registry")),
            Some(Err(_)) | None => (None, None),
        };
        json!({
            "subject": self.subject,
            "state": state,
            "id": id,
            "version": version,
            "compatibility": level,
            "compatibility_of": whose,
            "problem": self.advice().is_some().then_some(words),
            "advice": self.advice(),
            "warning": self.compatibility().and_then(|(_, warning)| warning),
        })
    }
}

async fn state(
    registry: &Registry,
    Subject { name, schema }: &Subject,
    auto_register: bool,
) -> Result<State, RegistryError> {
    if let Some(found) = registry.look_up(name, schema.text).await? {
        return Ok(State::Registered(found));
    }
    Ok(match registry.compare(name, schema.text).await? {
        CompatibilityVerdict::Incompatible(reasons) => State::Incompatible(reasons),
        CompatibilityVerdict::Compatible | CompatibilityVerdict::NothingToFollow if auto_register => State::Acceptable,
        CompatibilityVerdict::Compatible | CompatibilityVerdict::NothingToFollow => State::Missing,
    })
}
