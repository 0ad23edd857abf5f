//! `replay`: the dead letters tried again with this version and configuration. Arguments and report; the trying is
//! `crate::replay`.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Duration;

use crate::backoff::BATCH_PATIENCE;
use crate::command::print::print_line;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::metrics::LenderMetrics;
use crate::progress_bar::AboveBars;
use crate::reader::Letters;
use crate::replay::Replayer;
use crate::selection::keep_lender;
use crate::shutdown;

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml replay --dry-run
  d02-source --config config/d02-source.toml replay --lender acme

Tries every row in the dead-letter topic again: after an upgrade that reads more, or with another
errors.amount_tolerance or errors.bad_field. What can be an account now is written to `accounts`
and `changes`, once, and never over a version that is as new or newer. What still cannot stays in
the topic, is not buried a second time, and is counted by its reason.

A lender that a running source has is not taken from it: stop that first. The exit code is 0 also
if dead letters are left, and 1 if not all of them could be tried; to go on, run it again.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this lender of the configuration; all of them by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// Count what would be written, and write nothing; may run beside a source
    #[arg(long)]
    dry_run: bool,
    /// How long it waits for login, registry and upstream where they do not answer, before it ends with 1
    #[arg(long, value_name = "TIME", default_value = BATCH_PATIENCE, value_parser = humantime::parse_duration)]
    patience: Duration,
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    keep_lender(&mut config, args.lender.as_deref())?;
    let (sender, shutdown) = shutdown::channel();
    shutdown::listen_for_signals(sender)?;
    let is_dry = args.dry_run;
    let replayed = shutdown::bounded(shutdown.clone(), async {
        let replayer = Replayer::new(&config, args.patience, shutdown).await?;
        let mut exits = Vec::new();
        // One after another: the memory is that of the largest.
        for lender in config.lenders.keys() {
            if replayer.is_interrupted() {
                exits.push(Exit::Failed);
                break;
            }
            let mut printed = Ok(());
            let replayed = replayer.replay(lender, is_dry, |letters, metrics| {
                printed = print_line!("{}", told(lender, letters, metrics, is_dry));
            });
            let replayed = replayed.await;
            printed?;
            exits.push(match replayed {
                Ok(exit) => exit,
                Err(failure) => {
                    // It takes everything.
                    let _ = writeln!(AboveBars, "error: {lender}: {failure}");
                    failure.exit()
                }
            });
        }
        Ok(Exit::of_all(&exits))
    });
    replayed.await.unwrap_or(Ok(Exit::Failed))
}

/// What became of the dead letters: a line each for what there is.
fn told(lender: &str, letters: &Letters, metrics: &LenderMetrics, is_dry: bool) -> String {
    let mut text = format!("{lender}: {} dead letters", letters.count);
    let written = if is_dry { "would be written" } else { "written" };
    let unreadable = letters
        .unreadable
        .iter()
        .map(|(why, count)| (*count, format!("still cannot be read: {why}")));
    let lines = [
        (metrics.records_total.get(), written),
        (metrics.repeated_rows_total.get(), "are what `accounts` holds"),
        (metrics.stale_rows_total.get(), "are older than what `accounts` holds"),
        (
            metrics.undecided_rows_total.get(),
            "left to `reconcile`: as new as what `accounts` holds, or of an account that was deleted",
        ),
        (
            metrics.ignored_rows_total.get(),
            "older than start_from, of accounts that are not held",
        ),
        (
            metrics.still_dead_letters_total.get(),
            "can be read, but are too large for their topic",
        ),
        (
            letters.without_row,
            "stand there without their row, which was too large for the dead-letter topic",
        ),
    ];
    let lines = lines.map(|(count, what)| (count, what.to_owned()));
    for (count, what) in lines.into_iter().chain(unreadable).filter(|(count, _)| *count > 0) {
        write!(text, "\n  {count:>9}  {what}").expect("writing to a string works");
    }
    text
}
