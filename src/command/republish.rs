//! `republish`: accounts that stand under schemas which nobody can read any more, written once more as they are held, under
//! today's schema. The reading is that of a reconciliation, and so is the way into Kafka.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::print::print_line;
use crate::avro::{ACCOUNT, WriterSchema};
use crate::backoff::{BATCH_PATIENCE, Patience};
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::kafka::{Cluster, uninterrupted};
use crate::metrics::Metrics;
use crate::pipeline::Republish;
use crate::reader::Until;
use crate::registry::{Registry, subject};
use crate::selection::keep_lender;
use crate::sink::{CursorRecords, RestoredAccounts};
use crate::supervisor::{Errand, Supervisor, registry_of};

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml republish --dry-run
  d02-source --config config/d02-source.toml republish --lender acme --schema-id 7

For a registry that lost its schemas: consumers cannot read what was written under their ids.
Reads all of upstream once, as a reconciliation does, and writes each account whose row is as it
is held, and which stands under one of these ids, once more under today's schema, with the header
d02.republished. changes gets nothing. Without --schema-id it does so with every account that
stands under any other schema than today's: then it can be ended and run again, and goes on.

An upstream that is older than what is held is refused, and nothing is written.

What upstream shows otherwise is written as any row is. Accounts that it does not show at all, or
older than they are held, are left and counted: a reconciliation deletes or writes them. The exit
code is 1 if any are left. A lender that a running source has is not taken from it.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this lender of the configuration; all of them by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// Accounts under this schema of the registry; repeatable. By default all that are not under today's
    #[arg(long, value_name = "N")]
    schema_id: Vec<u32>,
    /// Say how many accounts there are under which schema, and change nothing; may run beside a source
    #[arg(long)]
    dry_run: bool,
    /// How long it waits for login, registry and upstream where they do not answer, before it ends with 1
    #[arg(long, value_name = "TIME", default_value = BATCH_PATIENCE, value_parser = humantime::parse_duration)]
    patience: Duration,
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    keep_lender(&mut config, args.lender.as_deref())?;
    let ids: BTreeSet<u32> = args.schema_id.into_iter().collect();
    let republish = Republish { ids };
    if args.dry_run {
        return dry_run(&config, &republish).await;
    }
    let lenders: Vec<String> = config.lenders.keys().cloned().collect();
    let metrics = Arc::new(Metrics::new());
    let errand = Errand {
        until: Until::Republished,
        patience: Patience::For(args.patience),
        republish: Some(republish),
        shown: Vec::new(),
    };
    let mut exit = Supervisor::run(errand, config, Arc::clone(&metrics)).await?;
    for lender in &lenders {
        let metrics = metrics.lender(lender);
        let (written, left) = (
            metrics.republished_accounts_total.get(),
            metrics.left_to_republish.get(),
        );
        print_line!("{lender}: {written} accounts written once more, {left} left")?;
        if left > 0 && exit == Exit::Done {
            exit = Exit::Failed;
        }
    }
    Ok(exit)
}

/// Says what there is under which schema. Logs in nowhere, and registers nothing.
async fn dry_run(config: &Config, republish: &Republish) -> Result<Exit, Failure> {
    let cluster = Cluster::new(config);
    let registry = registry_of(config)?;
    for lender in config.lenders.keys() {
        let names = config.kafka.topics.for_lender(lender);
        let records = CursorRecords::find(&cluster, &names.cursor).await?;
        let connector = format!("{}-{lender}", config.name);
        let Some(key) = records.keys().find(|key| key.connector == connector) else {
            print_line!("{lender}: there is no cursor record")?;
            continue;
        };
        let own = own_schema(config, registry.as_deref(), &names.accounts).await?;
        let (asked, public_id) = (cluster.clone(), key.lender_public_id.clone());
        // How old tombstones are does not matter to what is held.
        let index = uninterrupted(move |shutdown| {
            RestoredAccounts::whole(&asked, &names.accounts, public_id, Duration::ZERO, &shutdown)
        })
        .await?;
        print_line!(
            "{lender}: {} of {} accounts would be written once more",
            republish.count(&index, own),
            index.len()
        )?;
        for (schema, count) in index.schemas() {
            let what = match (republish.is_of(schema, own), schema == own) {
                (true, _) => "would be written",
                (false, true) => "today's",
                (false, false) => "not named",
            };
            print_line!("  {count:>9}  under schema {schema}: {what}")?;
        }
    }
    Ok(Exit::Done)
}

/// Under which today's schema is registered, if it is.
async fn own_schema(config: &Config, registry: Option<&Registry>, topic: &str) -> Result<WriterSchema, Failure> {
    let Some(registry) = registry else {
        return Ok(WriterSchema::Fingerprint(ACCOUNT.fingerprint()));
    };
    let subject = subject(config.avro.subject_strategy, topic, ACCOUNT.name);
    let found = registry.look_up(&subject, ACCOUNT.text).await?;
    // No id is as good as none: nothing stands under it.
    Ok(found.map_or(WriterSchema::Fingerprint(ACCOUNT.fingerprint()), |found| {
        WriterSchema::Id(found.id)
    }))
}
