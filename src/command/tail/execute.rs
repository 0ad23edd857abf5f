//! `tail`: what stands in a topic? Decoded, a line a record. What is printed is data, and goes to standard output alone.

mod change;
mod dpd;
mod line;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use tokio::runtime::Handle;

use self::line::Content;
use self::table::Table;
use super::Failure;
use crate::account::Changed;
use crate::avro::{DecodeError, Decoder, Framed, unframe};
use crate::clock;
use crate::config::{Config, SchemaRegistry};
use crate::exit::{Exit, chain};
use crate::kafka::{self, Cluster};
use crate::registry::{Registry, RegistryError};
use crate::shutdown::{self, Shutdown};
use crate::sink::{TailError, TopicRecord, TopicTail};

/// After a signal, what cannot stop by itself (a terminal that does not read, a registry that does not answer) is left.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Records without `-n`.
const DEFAULT_LINES: usize = 10;

const EXAMPLES: &str = "Examples:
  d02-source --config config/d02-source.toml tail --format table
  d02-source --config config/d02-source.toml tail --key 65f0c0ffee65f0c0ffee65f0 --from-beginning
  d02-source --config config/d02-source.toml tail --topic dead-letters --follow
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
    topic: Kind,
    /// How many of the last records, over all partitions, by their timestamps [default: 10; with --key, all of `changes`]
    #[arg(short = 'n', long, value_name = "COUNT", conflicts_with = "from_beginning")]
    lines: Option<usize>,
    /// All records from the beginning, partition by partition as they arrive
    #[arg(long)]
    from_beginning: bool,
    /// Go on with what comes, until Ctrl-C or SIGTERM
    #[arg(short, long)]
    follow: bool,
    /// Only records with exactly this key: a public_id; in `cursor` the whole JSON
    #[arg(long)]
    key: Option<String>,
    /// Only records of `changes` that name this field in d02.changed, * for any untracked one; repeated: any of them
    #[arg(long, value_name = "FIELD", value_parser = PossibleValuesParser::new(Changed::NAMES))]
    changed: Vec<String>,
    /// Whose topic, where {lender} stands in its name; all lenders of the configuration by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
    /// JSON lines for programs, a table for people
    #[arg(long, value_enum, default_value_t = Format::Json)]
    format: Format,
}

impl Args {
    /// Whether it is about the changes of one account: few, so that all of them are shown.
    fn is_trail(&self) -> bool {
        self.topic == Kind::Changes && self.key.is_some()
    }

    fn is_wanted(&self, record: &TopicRecord) -> bool {
        self.changed.is_empty() || change::names_any(record, &self.changed)
    }
}

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Accounts,
    Changes,
    DeadLetters,
    Cursor,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Json,
    Table,
}

pub async fn execute(args: Args, config: Config) -> Result<Exit, Failure> {
    let topics = topics(&args, &config)?;
    let (sender, shutdown) = shutdown::channel();
    shutdown::listen_for_signals(sender)?;
    let mut asked = shutdown.clone();
    let follows = args.follow;
    let runtime = Handle::current();
    let work = tokio::task::spawn_blocking(move || tail(&args, &config, &topics, shutdown, runtime));
    tokio::select! {
        ended = work => ended.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())),
        // The reading itself ends by the same flag; this is the bound on how long that may take.
        () = async { asked.requested().await; tokio::time::sleep(SHUTDOWN_LIMIT).await } => Ok(Exit::Done),
        // Without this, `tail --follow | head -1` would end at the next record only.
        () = stdout_closed(), if follows => Ok(Exit::Done),
    }
}

/// The names of the topics that are asked for.
fn topics(args: &Args, config: &Config) -> Result<Vec<String>, Failure> {
    let usage = |message: &str| Err(Failure::new(Exit::Usage, message));
    let topics = &config.kafka.topics;
    if !args.changed.is_empty() && args.topic != Kind::Changes {
        return usage("--changed chooses among the records of `changes` only\n  → add --topic changes");
    }
    let (key, pattern) = match args.topic {
        Kind::Accounts => ("kafka.topics.accounts", &topics.accounts),
        Kind::Changes => match &topics.changes {
            Some(changes) => ("kafka.topics.changes", changes),
            None => {
                return usage("`changes` is turned off: kafka.topics.changes is \"\"\n  → set it to the topic's name");
            }
        },
        Kind::DeadLetters => ("kafka.topics.dead_letters", &topics.dead_letters),
        Kind::Cursor => ("kafka.topics.cursor", &topics.cursor),
    };
    super::topic_names(key, pattern, args.lender.as_deref(), config)
}

/// Why it ends before the records do.
enum Stop {
    /// As asked, or nobody reads any more.
    Ended,
    Failed(Failure),
}

impl From<TailError> for Stop {
    fn from(error: TailError) -> Self {
        match error {
            TailError::Kafka(kafka::Error::Interrupted) => Self::Ended,
            error => Self::Failed(Failure::of(error.exit(), &error, error.advice())),
        }
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::Ended,
            _ => Self::Failed(Failure::new(
                Exit::Failed,
                format!("writing to standard output: {error}"),
            )),
        }
    }
}

fn tail(args: &Args, config: &Config, topics: &[String], shutdown: Shutdown, runtime: Handle) -> Result<Exit, Failure> {
    let mut printer = Printer {
        out: io::BufWriter::new(io::stdout().lock()),
        kind: args.topic,
        table: (args.format == Format::Table).then(|| Table::new(args.topic)),
        decoders: Decoders::new(config, runtime),
        count: 0,
        undecodable: 0,
    };
    let read = read(args, config, topics, shutdown, &mut printer);
    // What was printed before an error is worth seeing.
    let flushed = printer.out.flush().map_err(Stop::from);
    match read.and(flushed) {
        Ok(()) if !args.follow && printer.undecodable > 0 => Err(Failure::new(
            Exit::Failed,
            format!(
                "{} of {} records cannot be decoded; their lines say why",
                printer.undecodable, printer.count
            ),
        )),
        Ok(()) | Err(Stop::Ended) => Ok(Exit::Done),
        Err(Stop::Failed(failure)) => Err(failure),
    }
}

fn read(
    args: &Args,
    config: &Config,
    topics: &[String],
    shutdown: Shutdown,
    printer: &mut Printer<impl Write>,
) -> Result<(), Stop> {
    let key = args.key.as_ref().map(|key| key.clone().into_bytes());
    let tail = TopicTail::open(Cluster::new(config), topics, key, shutdown)?;
    let count = args.lines.unwrap_or(DEFAULT_LINES);
    if args.is_trail() {
        trail(args, &tail, printer)?;
    } else if args.from_beginning {
        printer.head(&[])?;
        tail.from_beginning(|record| {
            if args.is_wanted(&record) {
                printer.print(&record)?;
            }
            Ok::<_, Stop>(())
        })?;
    } else if args.changed.is_empty() {
        printer.print_all(&tail.last(count)?)?;
    } else {
        printer.print_all(&last_wanted(args, &tail, count)?)?;
    }
    printer.out.flush()?;
    for hidden in tail.hidden() {
        tracing::warn!(
            topic = hidden.topic,
            partition = hidden.partition,
            from_offset = hidden.from,
            end_offset = hidden.end,
            "an open transaction hides the end of the partition; --follow shows what is committed once it ends"
        );
    }
    if args.follow {
        tail.follow(|record| {
            if args.is_wanted(&record) {
                printer.print(&record)?;
            }
            Ok::<_, Stop>(printer.out.flush()?)
        })?;
    }
    Ok(())
}

/// The changes of one account, in the order in which they were written, and where that leaves it.
fn trail(args: &Args, tail: &TopicTail, printer: &mut Printer<impl Write>) -> Result<(), Stop> {
    let mut records = tail.last(usize::MAX)?;
    // Offsets, for the clocks of two writers may differ.
    records.sort_by(|one, other| {
        let place = |record: &TopicRecord| (record.partition, record.offset);
        one.topic.cmp(&other.topic).then_with(|| place(one).cmp(&place(other)))
    });
    // Of all, for what is wanted may be older than the account's last change.
    let newest = records.last().cloned();
    records.retain(|record| args.is_wanted(record));
    let surplus = args.lines.map_or(0, |count| records.len().saturating_sub(count));
    printer.print_all(&records[surplus..])?;
    match newest {
        Some(newest) if !args.follow => printer.explain(&newest),
        _ => Ok(()),
    }
}

/// The last records that are wanted, by their timestamps. Where they stand is not known, so all of the topic is read.
fn last_wanted(args: &Args, tail: &TopicTail, count: usize) -> Result<Vec<TopicRecord>, Stop> {
    let mut last = BTreeMap::new();
    tail.from_beginning(|record| {
        if args.is_wanted(&record) {
            let order = (record.timestamp, record.partition, record.offset, record.topic.clone());
            last.insert(order, record);
            if last.len() > count {
                last.pop_first();
            }
        }
        Ok::<_, TailError>(())
    })?;
    Ok(last.into_values().collect())
}

struct Printer<W> {
    out: W,
    kind: Kind,
    /// `None`: lines of JSON.
    table: Option<Table>,
    decoders: Decoders,
    count: u64,
    undecodable: u64,
}

impl<W: Write> Printer<W> {
    /// The head of a table whose columns are wide enough for `rows`.
    fn head(&mut self, rows: &[Vec<String>]) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        rows.iter().for_each(|row| table.make_room(row));
        writeln!(self.out, "{}", table.head())
    }

    /// Records that are all there: a table knows its columns before it begins.
    fn print_all(&mut self, records: &[TopicRecord]) -> Result<(), Stop> {
        if self.table.is_none() {
            return records.iter().try_for_each(|record| self.print(record));
        }
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let content = self.content(record)?;
            rows.push(table::cells(self.kind, record, &content));
        }
        self.head(&rows)?;
        for row in &rows {
            self.print_row(row)?;
        }
        Ok(())
    }

    fn print(&mut self, record: &TopicRecord) -> Result<(), Stop> {
        let content = self.content(record)?;
        if self.table.is_some() {
            self.print_row(&table::cells(self.kind, record, &content))?;
        } else {
            writeln!(self.out, "{}", line::json(self.kind, record, &content))?;
        }
        Ok(())
    }

    fn print_row(&mut self, cells: &[String]) -> io::Result<()> {
        let Some(table) = &mut self.table else { return Ok(()) };
        table.make_room(cells);
        writeln!(self.out, "{}", table.line(cells))
    }

    /// Below a table, the days past due by an account's last record.
    fn explain(&mut self, newest: &TopicRecord) -> Result<(), Stop> {
        if self.table.is_some() {
            let content = self.decode(newest)?;
            let today = clock::now().date_naive();
            writeln!(self.out, "\n{}", change::explanation(newest, &content, today))?;
        }
        Ok(())
    }

    /// What a record says, or why it cannot be decoded.
    fn content(&mut self, record: &TopicRecord) -> Result<Result<Content, String>, Stop> {
        let content = self.decode(record)?;
        self.count += 1;
        self.undecodable += u64::from(content.is_err());
        Ok(content)
    }

    fn decode(&mut self, record: &TopicRecord) -> Result<Result<Content, String>, Stop> {
        Ok(match (self.kind, &record.value) {
            _ if record.headers.is_none() => Err("the name of one of its headers is no UTF-8".to_owned()),
            (_, None) => Ok(Content::Tombstone),
            (Kind::Accounts | Kind::Changes, Some(value)) => self.decoders.avro(value).map_err(Stop::Failed)?,
            (Kind::Cursor, Some(value)) => Content::json(value),
            (Kind::DeadLetters, Some(value)) => Content::json_or_text(value),
        })
    }
}

/// The schemas met so far, each asked for once.
struct Decoders {
    settings: SchemaRegistry,
    runtime: Handle,
    /// Made when the first record needs it: single objects do without one.
    registry: Option<Registry>,
    by_id: HashMap<u32, Result<Decoder, String>>,
    by_fingerprint: HashMap<[u8; 8], Result<Decoder, String>>,
}

impl Decoders {
    fn new(config: &Config, runtime: Handle) -> Self {
        Self {
            settings: config.schema_registry.clone(),
            runtime,
            registry: None,
            by_id: HashMap::new(),
            by_fingerprint: HashMap::new(),
        }
    }

    /// # Errors
    /// When the registry gives no answer: that is not the record's fault.
    fn avro(&mut self, value: &[u8]) -> Result<Result<Content, String>, Failure> {
        let reason = |error: DecodeError| chain(&error);
        let (decoder, schema, datum) = match unframe(value) {
            Ok(Framed::Confluent { schema_id, datum }) => {
                if !self.by_id.contains_key(&schema_id) {
                    let decoder = self.fetch(schema_id)?;
                    self.by_id.insert(schema_id, decoder);
                }
                (&self.by_id[&schema_id], line::Schema::Id(schema_id), datum)
            }
            Ok(Framed::SingleObject { fingerprint, datum }) => {
                let decoder = self.by_fingerprint.entry(fingerprint);
                let decoder = decoder.or_insert_with(|| Decoder::of_fingerprint(fingerprint).map_err(reason));
                (&*decoder, line::Schema::Fingerprint(fingerprint), datum)
            }
            Err(error) => return Ok(Err(reason(error))),
        };
        Ok(match decoder {
            Ok(decoder) => decoder
                .decode(datum)
                .map(|value| Content::Avro { schema, value })
                .map_err(reason),
            Err(reason) => Err(reason.clone()),
        })
    }

    fn fetch(&mut self, schema_id: u32) -> Result<Result<Decoder, String>, Failure> {
        let registry = match &mut self.registry {
            Some(registry) => registry,
            none => none.insert(
                Registry::new(&self.settings).map_err(|error| Failure::of(Exit::Usage, &error, error.advice()))?,
            ),
        };
        match self.runtime.block_on(registry.schema(schema_id)) {
            Ok(schema) => Ok(Decoder::new(&schema).map_err(|error| chain(&error))),
            Err(error @ (RegistryError::UnknownId { .. } | RegistryError::NotAvro { .. })) => Ok(Err(chain(&error))),
            Err(error) => Err(Failure::of(Exit::Failed, &error, error.advice())),
        }
    }
}

/// Whether a character is better shown by its number: it moves the cursor, colours, or turns the text around it.
pub(super) fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Returns when standard output is a pipe whose reader is gone; never, if it is anything else.
async fn stdout_closed() {
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;

    use tokio::io::Interest;
    use tokio::net::unix::pipe::Sender;
    let watched = || {
        let file = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
        if !file.metadata()?.file_type().is_fifo() {
            return Err(io::Error::from(ErrorKind::Unsupported));
        }
        // Unchecked: only its end is waited for, and the printing thread goes on to block on it.
        Sender::from_file_unchecked(file)
    };
    if let Ok(pipe) = watched() {
        while let Ok(ready) = pipe.ready(Interest::ERROR).await {
            if ready.is_error() || ready.is_write_closed() {
                return;
            }
        }
    }
    std::future::pending().await
}
