//! Looks at each part by itself, and prints what was found.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::finding::{self, Finding, Notes};
use super::{kafka, registry, upstream};
use crate::command::print::print_line;
use crate::config::{Config, ConfigErrors, Loaded, OAuth, Property, SecretSource};
use crate::exit::{Exit, Failure};
use crate::failpoint;
use crate::selection::keep_lender;

const HELP: &str = "Examples:
  d02-source --config config/d02-source.toml check
  d02-source --config config/d02-source.toml check --lender acme --json

  ✓  as it should be
  !  a warning: worth a look, `run` would run
  ✗  an error, with what to do about it

The exit code is 0 without a ✗; else 2 for a configuration, or a state of topics, cursor records or
schemas, that a restart does not mend, 4 if upstream refuses, 1 for all others, such as what does
not answer. Nothing is written and no lender is taken over: it may run beside the source. It ends
within about a minute and a half, whoever hangs.";

/// A part that takes longer is given up, and said to be.
const LIMIT: Duration = Duration::from_secs(60);

/// How long the brokers may not answer: nobody waits here for a cluster that is just starting.
const BROKER_LIMIT: Duration = Duration::from_secs(15);

/// The schemas of records that are there, all of them together.
const SCHEMAS_LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct Args {
    /// Only this lender of the configuration; all of them by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// One JSON document instead of lines
    #[arg(long)]
    json: bool,
}

/// `loaded`: the configuration, or all that is wrong with it, which is a finding here.
pub async fn execute(args: Args, loaded: Result<Loaded, ConfigErrors>) -> Result<Exit, Failure> {
    let mut notes = Notes::new("configuration", None);
    let findings = match loaded {
        Err(errors) => {
            wrong(&mut notes, &errors);
            notes.findings
        }
        Ok(Loaded { config, .. }) => match config.require_lenders() {
            Err(errors) => {
                wrong(&mut notes, &errors);
                notes.findings
            }
            Ok(()) => look(notes, config, args.lender.as_deref()).await?,
        },
    };
    let exit = finding::exit(&findings);
    if args.json {
        let json = finding::json(&findings);
        print_line!(
            "{}",
            serde_json::to_string_pretty(&json).expect("findings are always JSON")
        )?;
    } else {
        print_line!("{}", finding::text(&findings))?;
    }
    Ok(exit)
}

fn wrong(notes: &mut Notes, errors: &ConfigErrors) {
    for error in &errors.0 {
        notes.failure(&Failure::of(error), "loaded", "a value that can be used");
    }
}

/// Everything but what keeps the configuration from being loaded.
async fn look(mut notes: Notes, mut config: Config, lender: Option<&str>) -> Result<Vec<Finding>, Failure> {
    keep_lender(&mut config, lender)?;
    let names: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    let noun = if names.len() == 1 { "lender" } else { "lenders" };
    notes.ok("loaded", format!("{} {noun}: {}", names.len(), names.join(", ")));
    let limit = failpoint::shortened("D02_TEST_CHECK_LIMIT", LIMIT);
    let config = Arc::new(config);
    let mut parts: Vec<JoinHandle<Vec<Finding>>> = Vec::new();
    match upstream::http(&config, limit) {
        Err(failed) => notes.findings.push(failed),
        Ok(http) => {
            for lender in config.lenders.keys() {
                let (config, http, lender) = (Arc::clone(&config), Arc::clone(&http), lender.clone());
                parts.push(tokio::spawn(async move {
                    let mut notes = Notes::new("upstream", Some(&lender));
                    let looking = upstream::check(&mut notes, &config, http, &lender);
                    if timeout(limit, looking).await.is_err() {
                        notes.gave_up(limit, upstream::AWAY);
                    }
                    notes.findings
                }));
            }
        }
    }
    let kafka = tokio::spawn({
        let config = Arc::clone(&config);
        async move {
            let (mut notes, mut schemas) = (Notes::new("kafka", None), Vec::new());
            let looking = kafka::check(&mut notes, &mut schemas, &config, BROKER_LIMIT.min(limit / 2));
            if timeout(limit, looking).await.is_err() {
                notes.gave_up(limit, kafka::AWAY);
            }
            (notes.findings, schemas)
        }
    });
    let registry = tokio::spawn({
        let config = Arc::clone(&config);
        async move {
            let mut notes = Notes::new("registry", None);
            if timeout(limit, registry::check(&mut notes, &config)).await.is_err() {
                notes.gave_up(limit, registry::AWAY);
            }
            notes.findings
        }
    });
    let mut findings = notes.findings;
    for part in parts {
        findings.extend(ended(part).await);
    }
    let (found, schemas) = ended(kafka).await;
    findings.extend(found);
    let found = ended(registry).await;
    let answers = finding::exit(&found) != Exit::Failed;
    findings.extend(found);
    if answers && !schemas.is_empty() {
        let (mut notes, limit) = (Notes::new("registry", None), limit.min(SCHEMAS_LIMIT));
        let looking = registry::records(&mut notes, &config, &schemas);
        if timeout(limit, looking).await.is_err() {
            notes.gave_up(limit, registry::AWAY);
        }
        findings.extend(notes.findings);
    }
    finding::redact(&mut findings, &secrets(&config));
    Ok(findings)
}

async fn ended<T>(part: JoinHandle<T>) -> T {
    part.await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Every secret of the configuration that can be read.
fn secrets(config: &Config) -> Vec<String> {
    let lenders = config.lenders.values().map(|lender| &lender.password);
    let registry = [&config.schema_registry.password, &config.schema_registry.token];
    let oauth = config.kafka.oauth.iter().flat_map(OAuth::properties);
    let kafka = config
        .kafka
        .properties
        .values()
        .chain(oauth)
        .filter_map(|property| match property {
            Property::Secret(secret) => Some(secret),
            Property::Plain(_) => None,
        });
    let sources: Vec<&SecretSource> = lenders.chain(registry.into_iter().flatten()).chain(kafka).collect();
    let read = sources.into_iter().filter_map(|source| source.read().ok());
    let proxy = config.upstream.proxy.as_ref().and_then(|proxy| proxy.0.password());
    read.map(|secret| secret.expose_secret().to_owned())
        .chain(proxy.map(str::to_owned))
        .collect()
}
