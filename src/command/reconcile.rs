//! `reconcile`: everything read once more, and `accounts` put right: what is missing or different is written, what upstream
//! does not show any more is deleted. The reading is `run`'s (`reader::reconcile`), and so is the way into Kafka.

use std::sync::Arc;
use std::time::Duration;

use crate::backoff::{BATCH_PATIENCE, Patience};
use crate::command::print::print_line;
use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::metrics::Metrics;
use crate::reader::{NotReconciled, Until};
use crate::selection::keep_lender;
use crate::supervisor::{Errand, Supervisor};
use crate::verify::{self, FindingKind, Findings, Report};

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml reconcile --dry-run
  d02-source --config config/d02-source.toml reconcile --lender acme --max-deletes 0.2

Reads all of upstream, once or twice, as a first snapshot does. Writes accounts that are missing,
whose content is another one though updated_at is the same, and those whose updated_at went back
(header d02.regressed). Writes a tombstone for an account that neither of two readings of
everything showed, nor a live walk and a sweep after them.

A lender that a running source has is not taken from it: set upstream.reconcile_interval, and the
source does this by itself. The exit code is 1 if nothing could be deleted, because it would have
been too much or because rows do not say whose they are; what was written stays.

An upstream that shows nothing as new as what is held, and accounts as they were before, is not
believed: a standby that is behind, a backup that was restored. Nothing is written then.
--restored-backup says that it is meant.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Only this lender of the configuration; all of them by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// List what would be written and deleted, and change nothing; may run beside a source
    #[arg(long)]
    dry_run: bool,
    /// The largest share of a lender's accounts that may be deleted, 0 to 1; by default upstream.reconcile_max_deletes
    #[arg(long, value_name = "SHARE", value_parser = share)]
    max_deletes: Option<f64>,
    /// Upstream is older than what is held, and that is meant: accounts go back with it
    #[arg(long, conflicts_with = "dry_run")]
    restored_backup: bool,
    /// How long it waits for login, registry and upstream where they do not answer, before it ends with 1
    #[arg(long, value_name = "TIME", default_value = BATCH_PATIENCE, value_parser = humantime::parse_duration)]
    patience: Duration,
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text
        .parse()
        .map_err(|_| "a number from 0 to 1 is expected".to_owned())?;
    if (0.0..=1.0).contains(&share) {
        Ok(share)
    } else {
        Err("a number from 0 to 1 is expected".to_owned())
    }
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    keep_lender(&mut config, args.lender.as_deref())?;
    if let Some(share) = args.max_deletes {
        config.upstream.reconcile_max_deletes = share;
    }
    if !args.dry_run {
        return reconcile(config, args.restored_backup, args.patience).await;
    }
    let max_share = config.upstream.reconcile_max_deletes;
    let reports = verify::reports(&config, usize::MAX, args.patience).await?;
    let mut exits = Vec::new();
    for Report { lender, found } in &reports {
        exits.push(match found {
            Ok(found) => {
                print_line!("{}", told(lender, found, max_share))?;
                if is_too_much(found, max_share) {
                    Exit::Failed
                } else {
                    Exit::Done
                }
            }
            // It was said.
            Err(failure) => failure.exit(),
        });
    }
    Ok(Exit::of_all(&exits))
}

async fn reconcile(config: Config, is_backup: bool, patience: Duration) -> Result<Exit, Failure> {
    let lenders: Vec<String> = config.lenders.keys().cloned().collect();
    let metrics = Arc::new(Metrics::new());
    let errand = Errand {
        until: Until::Reconciled { is_backup },
        patience: Patience::For(patience),
        republish: None,
        shown: Vec::new(),
    };
    let exit = Supervisor::run(errand, config, Arc::clone(&metrics)).await?;
    for lender in &lenders {
        let metrics = metrics.lender(lender);
        if metrics.reconciles_total.get() == 0 {
            // It was said why.
            continue;
        }
        let (written, deleted) = (metrics.records_total.get(), metrics.deleted_accounts_total.get());
        print_line!("{lender}: {} accounts written, {deleted} deleted", written - deleted)?;
    }
    Ok(exit)
}

/// What is written; what is surplus is deleted.
const WRITTEN: [FindingKind; 4] = [
    FindingKind::Missing,
    FindingKind::Stale,
    FindingKind::Different,
    FindingKind::Regressed,
];

fn is_too_much(found: &Findings, max_share: f64) -> bool {
    NotReconciled::is_too_many(found.count(FindingKind::Surplus), found.held_count, max_share)
}

/// What a reconciliation would do now.
fn told(lender: &str, found: &Findings, max_share: f64) -> String {
    let written: usize = WRITTEN.iter().map(|kind| found.count(*kind)).sum();
    let (surplus, held) = (found.count(FindingKind::Surplus), found.held_count);
    let mut lines = vec![format!(
        "{lender}: {written} accounts would be written, {surplus} of {held} deleted"
    )];
    for kind in WRITTEN.into_iter().chain([FindingKind::Surplus]) {
        let verb = if kind == FindingKind::Surplus {
            "delete"
        } else {
            "write"
        };
        let listed = found.kinds.get(&kind).map_or(&[][..], |counted| &counted.listed);
        lines.extend(
            listed
                .iter()
                .map(|account| format!("  {verb:<6}  {:<9}  {}", kind.name(), account.public_id)),
        );
    }
    if is_too_much(found, max_share) {
        lines.push(format!(
            "  nothing would be deleted: that is more than the share {max_share} that may go (--max-deletes)"
        ));
    }
    lines.join("\n")
}
