//! `run`: the source. Every lender of the configuration in one process, until it is asked to end.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::{BATCH_PATIENCE, Patience};
use crate::config::Loaded;
use crate::exit::{Exit, Failure};
use crate::metrics::Metrics;
use crate::reader::Until;
use crate::supervisor::{Errand, Supervisor};

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  d02-source --config config/d02-source.toml run --until-caught-up")]
pub struct Args {
    /// End with 0 once every lender has been read to the end: for a batch, a cron job
    #[arg(long)]
    until_caught_up: bool,
    /// With --until-caught-up: how long it waits for login, registry and upstream where they do not answer, before it ends with 1
    #[arg(long, value_name = "TIME", requires = "until_caught_up", default_value = BATCH_PATIENCE, value_parser = humantime::parse_duration)]
    patience: Duration,
    /// Do not run, but ask the `run` that listens at http.listen whether it is alive, and exit: for a container
    #[arg(long, conflicts_with = "until_caught_up")]
    pub health_check: bool,
}

pub async fn execute(args: Args, loaded: Loaded) -> Result<Exit, Failure> {
    let Loaded {
        config,
        effective: shown,
    } = loaded;
    config.require_lenders()?;
    let (until, patience) = if args.until_caught_up {
        (Until::CaughtUp, Patience::For(args.patience))
    } else {
        (Until::Asked, Patience::Endless)
    };
    let errand = Errand {
        until,
        patience,
        republish: None,
        shown,
    };
    Supervisor::run(errand, config, Arc::new(Metrics::new())).await
}
