//! What can be asked of `tail`?

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;

use super::change;
use super::kind::Kind;
use crate::account::Changed;
use crate::sink::TopicRecord;

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml tail --format table
  d02-source --config config/d02-source.toml tail --key 65f0c0ffee65f0c0ffee65f0 --from-beginning
  d02-source --config config/d02-source.toml tail --topic dead-letters --follow
  d02-source --config config/d02-source.toml tail --format csv > portfolio.csv
  d02-source --config config/d02-source.toml tail --topic changes --changed due_date --follow
  d02-source --config config/d02-source.toml tail --topic changes --key ID --format table
  d02-source --set kafka.bootstrap_servers=broker:9092 tail --topic cursor

A line of JSON holds topic, partition, offset, timestamp, key, op, schema_id (or fingerprint),
headers and value; of a dead letter also reason. A record that cannot be decoded has error and raw
(its bytes, base64) instead of value; then the exit code is 1 at the end. Amounts are minor units
of the currency. Only committed records are shown.
With --key, a table of changes ends with the account's days past due (DPD) as of today, in both
ways that D02 allows.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Which topic, by what it is for; the name stands in kafka.topics
    #[arg(long, value_enum, default_value_t = Kind::Accounts)]
    pub(super) topic: Kind,
    /// How many of the last records, over all partitions, by their timestamps [default: 10; with --key, all of `changes`]
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "from_beginning")]
    pub(super) lines: Option<usize>,
    /// All records from the beginning, partition by partition as they arrive
    #[arg(long)]
    pub(super) from_beginning: bool,
    /// Go on with what comes, until Ctrl-C or SIGTERM
    #[arg(short, long)]
    pub(super) follow: bool,
    /// Only records with exactly this key: a public_id; in `cursor` the whole JSON
    #[arg(long)]
    pub(super) key: Option<String>,
    /// Only records of `changes` that name this field in d02.changed, * for any untracked one; repeated: any of them
    #[arg(long, value_name = "FIELD", value_parser = PossibleValuesParser::new(Changed::NAMES))]
    pub(super) changed: Vec<String>,
    /// Whose topic, where {lender} stands in its name; all lenders of the configuration by default
    #[arg(long, value_name = "NAME")]
    pub(super) lender: Option<String>,
    /// JSON lines for programs, a table for people; csv: all accounts as they are, a row each, for spreadsheets
    #[arg(long, value_enum, default_value_t = Format::Json)]
    pub(super) format: Format,
}

impl Args {
    /// Whether it is about the changes of one account: few, so that all of them are shown.
    pub(super) fn is_trail(&self) -> bool {
        self.topic == Kind::Changes && self.key.is_some()
    }

    /// Whether it is about all accounts as they are, and about nothing else.
    pub(super) fn is_portfolio(&self) -> bool {
        let is_all = self.lines.is_none() && !self.from_beginning && !self.follow && self.changed.is_empty();
        self.topic == Kind::Accounts && is_all
    }

    pub(super) fn is_wanted(&self, record: &TopicRecord) -> bool {
        self.changed.is_empty() || change::names_any(record, &self.changed)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Json,
    Table,
    Csv,
}
