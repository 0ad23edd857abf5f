//! `verify`: is what `accounts` holds what upstream shows? Arguments and report; the comparison is `crate::verify`.

mod report;

use std::time::Duration;

use crate::backoff::BATCH_PATIENCE;
use crate::command::print::print_line;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::selection::keep_lender;
use crate::verify::{Report, reports};

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
    /// How long it waits for login, registry and upstream where they do not answer, before it ends with 1
    #[arg(long, value_name = "TIME", default_value = BATCH_PATIENCE, value_parser = humantime::parse_duration)]
    patience: Duration,
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    keep_lender(&mut config, args.lender.as_deref())?;
    let reports = reports(&config, args.limit, args.patience).await?;
    if args.json {
        let json = report::json(&reports);
        print_line!(
            "{}",
            serde_json::to_string_pretty(&json).expect("a report is always JSON")
        )?;
    } else {
        let text = report::text(&reports, args.limit);
        if !text.is_empty() {
            print_line!("{}", text.trim_end())?;
        }
    }
    let exits: Vec<Exit> = reports.iter().map(Report::exit).collect();
    Ok(Exit::of_all(&exits))
}
