//! `verify`: is what `accounts` holds what upstream shows? All of both is read, compared, and what differs asked again.
//!
//! ```text
//! upstream, all ─► table ─┐
//!                         ├─ merge ─► suspects ─► wait, look at them again ─► … ─► findings
//! accounts, all ─► table ─┘                       (upstream first, then what came in the topics)
//! ```
//!
//! It only reads: it joins no group, takes no lender, and can run beside a source. That one follows upstream, so at any
//! moment something is on its way; only what does not arrive is wrong (`finding`).
//!
//! - `table`: one side, small and sorted (pure)
//! - `finding`: what two looks say of an account (pure)
//! - `upstream`: the rows
//! - `looks`: the first look, and the further ones at what differed
//! - `repair`: which command mends it (pure)
//! - `report`: what is printed

mod finding;
mod looks;
mod repair;
mod report;
mod table;
mod upstream;

use std::sync::Arc;

pub(super) use self::finding::Kind;
use self::looks::Looking;
pub(super) use self::report::{Found, Report};
use self::upstream::Rows;
use super::{Failure, progress_bar};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::policy::Exit;
use crate::sink::{Checked, Cluster, Topics};
use crate::upstream::{Transport, http_client};

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml verify
  d02-source --config config/d02-source.toml verify --lender acme --json

missing        upstream has the account, `accounts` does not
stale          `accounts` holds an older version than upstream
different      same updated_at, other content
regressed      updated_at went back upstream, `accounts` holds the newer version
surplus        `accounts` has the account, upstream does not
dead-lettered  upstream's row cannot be an account; its last good record stays
changed        it changed while we looked, again and again: nothing is said of it

The exit code is 0 if all is equal, 1 if anything is missing, stale, different, regressed or
surplus, or a row that cannot be an account is not in `dead-letters` either. All of upstream is
read, as by a first snapshot; nothing is written. It may run beside the source, which is always
a little behind: what differs is looked at again before it is called so.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this lender of the configuration; all of them by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// How many accounts are listed of each kind; all of them are counted
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: usize,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    super::keep_lender(&mut config, args.lender.as_deref())?;
    let reports = reports(&config, args.limit).await?;
    if args.json {
        let json = report::json(&reports);
        println!(
            "{}",
            serde_json::to_string_pretty(&json).expect("a report is always JSON")
        );
    } else {
        print!("{}", report::text(&reports, args.limit));
    }
    let exits: Vec<Exit> = reports.iter().map(Report::exit).collect();
    Ok(Exit::of_all(&exits))
}

/// What is found of each lender of the configuration; `limit`: how many accounts are listed of each kind.
pub(super) async fn reports(config: &Config, limit: usize) -> Result<Vec<Report>, Failure> {
    let http = http_client(&config.upstream)
        .map_err(|error| Failure::of(Exit::Usage, &error, "correct upstream.ca_file or upstream.proxy"))?;
    let http: Arc<dyn Transport> = Arc::new(http);
    let cluster = Cluster::new(config);
    let checked = super::topics(&cluster, config, false).await?;
    let verifier = Verifier {
        config,
        http,
        cluster,
        checked,
        metrics: Metrics::new(),
        limit,
    };
    let mut reports = Vec::new();
    // One after another: the memory is that of the largest.
    for lender in config.lenders.keys() {
        let found = verifier.verify(lender).await;
        if let Err(failure) = &found {
            eprintln!("error: {lender}: {}", failure.message);
        }
        reports.push(Report {
            lender: lender.clone(),
            found,
        });
    }
    Ok(reports)
}

/// What the lenders share.
struct Verifier<'a> {
    config: &'a Config,
    http: Arc<dyn Transport>,
    cluster: Cluster,
    checked: Vec<Checked>,
    metrics: Metrics,
    limit: usize,
}

impl Verifier<'_> {
    async fn verify(&self, lender: &str) -> Result<report::Found, Failure> {
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let metrics = self.metrics.lender(lender);
        let (rows, login) = Rows::log_in(&self.http, self.config, lender, metrics.clone(), &topics.accounts).await?;
        let bar = tokio::spawn(progress_bar::follow(lender.to_owned(), metrics));
        let looking = Looking {
            rows: &rows,
            config: self.config,
            lender,
            cluster: &self.cluster,
            topics: &topics,
        };
        let found = looking.run(login.clock, self.limit).await;
        bar.abort();
        found
    }
}
