//! `setup`: creates the topics with the right settings and registers the schema. Safe to repeat.

use super::Failure;
use crate::avro::{ACCOUNT_NAME, ACCOUNT_SCHEMA};
use crate::config::{Config, Encoding, SchemaRegistry};
use crate::policy::Exit;
use crate::registry::{self, Registry};
use crate::sink::{Cluster, Topics};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  d02-source --config config/d02-source.toml setup")]
pub struct Args {}

pub async fn execute(Args {}: Args, config: Config) -> Result<Exit, Failure> {
    let cluster = Cluster::new(&config);
    let checked = super::topics(&cluster, &config, true).await?;
    for topic in &checked {
        let state = if topic.created { "created" } else { "exists" };
        println!("topic    {}: {state}, {} partitions", topic.name, topic.partition_count);
        topic
            .warnings
            .iter()
            .for_each(|warning| println!("         ! {warning}"));
    }
    if config.avro.encoding == Encoding::SingleObject {
        return Ok(Exit::Done);
    }
    let failure = |error: registry::RegistryError| Failure::of(Exit::Failed, &error, error.advice());
    // Asked for by name: the switch is about what `run` may do by itself.
    let settings = SchemaRegistry {
        auto_register: true,
        ..config.schema_registry.clone()
    };
    let registry = Registry::new(&settings).map_err(|error| Failure::of(Exit::Usage, &error, error.advice()))?;
    let mut subjects: Vec<String> = config
        .lenders
        .keys()
        .map(|lender| Topics::of(&checked, &config.kafka, lender).accounts.name)
        .map(|topic| registry::subject(config.avro.subject_strategy, &topic, ACCOUNT_NAME))
        .collect();
    subjects.dedup();
    for subject in subjects {
        let id = registry.schema_id(&subject, ACCOUNT_SCHEMA).await.map_err(failure)?;
        println!("schema   {subject}: id {id}");
    }
    Ok(Exit::Done)
}
