//! `cursor`: how far each lender is read, shown and changed.

mod change;

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::account::instant;
use crate::clock;
use crate::command::print::print_line;
use crate::config::{Config, Upstream};
use crate::exit::{Exit, Failure};
use crate::kafka::Cluster;
use crate::pipeline::living_age;
use crate::progress::{Record, RecordKey, Timestamp};
use crate::sink::{CursorRecords, StoredCursor};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Show how far each lender is read
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml cursor show --json")]
    Show {
        /// One JSON array instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Read everything from a time on again: what is there already is not written again
    #[command(
        after_help = "Example:\n  d02-source --config config/d02-source.toml cursor set acme --to 2026-01-31T00:00:00Z"
    )]
    Set {
        /// The lender's key in the configuration
        lender: String,
        /// By upstream's clock, RFC 3339; before what is read
        #[arg(long, value_name = "TIME", value_parser = time)]
        to: Timestamp,
        /// Also while an instance lives: takes the lender over from it
        #[arg(long)]
        force: bool,
    },
    /// Print how far a lender is read, as a line of JSON for `import`
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml cursor export acme > acme.json")]
    Export {
        /// The lender's key in the configuration
        lender: String,
    },
    /// Go on from an exported cursor: after a move to another cluster, or a lost cursor topic
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml cursor import acme acme.json")]
    Import {
        /// The lender's key in the configuration
        lender: String,
        /// What `export` printed; - is standard input
        file: PathBuf,
        /// Also while an instance lives: takes the lender over from it
        #[arg(long)]
        force: bool,
    },
    /// Forget how far a lender is read: the next run reads from the beginning and writes only what is missing
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml cursor reset acme")]
    Reset {
        /// The lender's key in the configuration
        lender: String,
        /// Also while an instance lives: takes the lender over from it
        #[arg(long)]
        force: bool,
    },
}

fn time(text: &str) -> Result<Timestamp, String> {
    let time = instant(text).map(Timestamp);
    time.ok_or_else(|| "a time such as 2026-01-31T00:00:00Z is expected".to_owned())
}

pub async fn execute(args: Args, config: Config) -> Result<Exit, Failure> {
    match args.command {
        Command::Show { json } => show(&config, json).await,
        Command::Set { lender, to, force } => change::set(&config, &lender, to, force).await,
        Command::Export { lender } => change::export(&config, &lender).await,
        Command::Import { lender, file, force } => change::import(&config, &lender, &file, force).await,
        Command::Reset { lender, force } => change::reset(&config, &lender, force).await,
    }
}

async fn show(config: &Config, as_json: bool) -> Result<Exit, Failure> {
    let cluster = Cluster::new(config);
    let heartbeat = config.transaction.heartbeat_interval;
    let mut rows = Vec::new();
    for lender in config.lenders.keys() {
        let topic = config.kafka.topics.for_lender(lender).cursor;
        let records = CursorRecords::find(&cluster, &topic).await?.whole()?;
        let connector = format!("{}-{lender}", config.name);
        let mut keys: Vec<&RecordKey> = records.keys().filter(|key| key.connector == connector).collect();
        keys.sort();
        if keys.is_empty() {
            rows.push(json!({"lender": lender, "state": "none", "target": records.target(&connector)}));
        }
        for key in keys {
            let current = records.current(key)?;
            let mut row = row(lender, key, current, heartbeat, &config.upstream);
            row["target"] = json!(records.target(&connector));
            rows.push(row);
        }
    }
    if as_json {
        print_line!("{}", serde_json::to_string_pretty(&rows).expect("rows are always JSON"))?;
        return Ok(Exit::Done);
    }
    print_line!(
        "{:<16} {:<9} {:<8} {:<24} {:<24} {:>9} {:>6} {:>9}",
        "LENDER",
        "STATE",
        "TARGET",
        "READ",
        "SETTLED",
        "ACCOUNTS",
        "RANGES",
        "AGE"
    )?;
    for row in rows {
        let text = |name: &str| match &row[name] {
            serde_json::Value::Null => "-".to_owned(),
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let age = row["age_seconds"].as_u64().map_or("-".to_owned(), |age| {
            humantime::format_duration(Duration::from_secs(age)).to_string()
        });
        print_line!(
            "{:<16} {:<9} {:<8} {:<24} {:<24} {:>9} {:>6} {age:>9}",
            text("lender"),
            text("state"),
            text("target"),
            text("read"),
            text("settled"),
            text("account_count"),
            text("range_count"),
        )?;
    }
    print_line!(
        "A row that becomes visible late is found within {} of its updated_at, at the latest.",
        humantime::format_duration(late_rows_found_within(&config.upstream))
    )?;
    Ok(Exit::Done)
}

/// The next sweep after all that may become visible is.
fn late_rows_found_within(upstream: &Upstream) -> Duration {
    upstream.late_window + upstream.late_sweep_interval
}

/// One lender's state: `none`, `reset`, `released`, `live` or `stale` (not released, but no heartbeat either).
fn row(
    lender: &str,
    key: &RecordKey,
    current: Option<(&StoredCursor, Option<&Record>)>,
    heartbeat: Duration,
    upstream: &Upstream,
) -> serde_json::Value {
    let public_id = &key.lender_public_id;
    let Some((stored, record)) = current else {
        return json!({"lender": lender, "public_id": public_id, "state": "none"});
    };
    let age = (clock::now().timestamp_millis() - stored.written_at).max(0) / 1000;
    let Some(record) = record else {
        return json!({"lender": lender, "public_id": public_id, "state": "reset", "age_seconds": age});
    };
    let state = match (&record.instance, living_age(stored.written_at, record, heartbeat)) {
        (None, _) => "released",
        (Some(_), Some(_)) => "live",
        (Some(_), None) => "stale",
    };
    json!({
        "lender": lender, "public_id": public_id, "state": state, "age_seconds": age,
        "instance": record.instance, "epoch": record.epoch, "sequence": record.sequence, "base_url": record.base_url,
        "first_snapshot_at": record.progress.first_snapshot_at, "read": record.progress.read,
        "settled": record.progress.settled, "range_count": record.progress.ranges.len(),
        "ranges": record.progress.ranges, "account_count": record.accounts.map(|(count, _)| count),
        "account_checksum": record.accounts.map(|(_, checksum)| format!("{checksum:016x}")),
        "late_rows_found_within_seconds": late_rows_found_within(upstream).as_secs_f64(),
        "partitions": record.partitions, "partition": stored.partition, "offset": stored.offset,
    })
}
