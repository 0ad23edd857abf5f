//! `setup`: creates the topics with the right settings, registers the schemas and guards their subjects. Safe to repeat.

use crate::command::print::print_line;
use crate::config::{Config, Encoding};
use crate::exit::{Exit, Failure, chain};
use crate::kafka::Cluster;
use crate::registry::{Compatibility, Registry, RegistryError, WANTED_LEVEL};
use crate::sink::ready_topics;
use crate::subjects::{place, registered, subjects};

const HELP: &str = "Example:
  d02-source --config config/d02-source.toml setup

An existing topic is never altered. Schemas are registered whatever schema_registry.auto_register says, and each subject
gets the compatibility FULL_TRANSITIVE, unless it has one of its own already.";

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {}

pub async fn execute(Args {}: Args, config: Config) -> Result<Exit, Failure> {
    let cluster = Cluster::new(&config);
    let checked = ready_topics(&cluster, &config, true).await?;
    for topic in &checked {
        let state = if topic.created { "created" } else { "exists" };
        print_line!("topic    {}: {state}, {} partitions", topic.name, topic.partition_count)?;
        for warning in &topic.warnings {
            print_line!("         ! {warning}")?;
        }
    }
    if config.avro.encoding == Encoding::SingleObject {
        return Ok(Exit::Done);
    }
    let registry = Registry::new(&config.schema_registry)?;
    for subject in subjects(&config, None)? {
        // Before it is registered: afterwards Apicurio says NONE of a subject that nobody gave a level.
        let level = registry.compatibility(&subject.name).await;
        let (registered, state) = registered(&registry, &subject).await?;
        print_line!("schema   {}: {state}, {}", subject.name, place(&registered))?;
        let level = guard(&registry, &subject.name, level).await;
        match &level {
            Level::Set => print_line!("         compatibility {WANTED_LEVEL}: set")?,
            Level::AsItWas => print_line!("         compatibility {WANTED_LEVEL}: as it was")?,
            Level::Left(_) | Level::Unsettable(_) => {}
        }
        if let Some(warning) = level.warning(&subject.name) {
            print_line!("         ! {warning}")?;
        }
    }
    Ok(Exit::Done)
}

/// What became of a subject's compatibility.
enum Level {
    Set,
    AsItWas,
    /// Somebody gave the subject this one.
    Left(String),
    Unsettable(RegistryError),
}

impl Level {
    /// None of this keeps `run` from running.
    fn warning(&self, subject: &str) -> Option<String> {
        let how = format!("PUT /config/{subject} with {{\"compatibility\":\"{WANTED_LEVEL}\"}}");
        match self {
            Self::Set | Self::AsItWas => None,
            Self::Left(level) => {
                let whose = match level.as_str() {
                    "NONE" => "chosen by its owner, or by nobody: some registries do not tell",
                    _ => "chosen by its owner",
                };
                Some(format!(
                    "the compatibility of {subject} is {level} ({whose}) and is left so: a later version of the schema may \
                     be one that not every consumer can read. Have the registry told {how}"
                ))
            }
            Self::Unsettable(error) => Some(format!(
                "{}: a later version of the schema may be one that not every consumer can read. Have the registry's owner \
                 do it: {how}",
                chain(error)
            )),
        }
    }
}

/// Sets the wanted level where the subject had none of its own: what an owner chose is never overruled.
async fn guard(registry: &Registry, subject: &str, before: Result<Compatibility, RegistryError>) -> Level {
    match before {
        Ok(Compatibility::OfSubject(level)) if level == WANTED_LEVEL => Level::AsItWas,
        Ok(Compatibility::OfSubject(level)) => Level::Left(level),
        Ok(Compatibility::OfRegistry(_)) => match registry.set_wanted_level(subject).await {
            Ok(()) => Level::Set,
            Err(error) => Level::Unsettable(error),
        },
        Err(error) => Level::Unsettable(error),
    }
}
