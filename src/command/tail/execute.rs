//! Reads what is asked for, and has it printed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::time::Duration;

use tokio::runtime::Handle;

use super::args::{Args, Format};
use super::decoders::Decoders;
use super::error::PrintError;
use super::kind::Kind;
use super::portfolio;
use super::printer::{Printer, Stop};
use super::table::Table;
use crate::config::Config;
use crate::exit::{ErrorCode, Exit, Failure};
use crate::kafka::Cluster;
use crate::selection::topic_names;
use crate::shutdown::{self, Shutdown};
use crate::sink::{TailError, TopicRecord, TopicTail};

/// After a signal, what cannot stop by itself (a terminal that does not read, a registry that does not answer) is left.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(2);

/// Records without `-n`.
const DEFAULT_LINES: usize = 10;

/// The code of records that cannot be seen yet.
const HIDDEN: ErrorCode = ErrorCode::K16;

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
    let topics = &config.kafka.topics;
    if args.format == Format::Csv && !args.is_portfolio() {
        return Err(PrintError::NoPortfolio.into());
    }
    if !args.changed.is_empty() && args.topic != Kind::Changes {
        return Err(PrintError::ChangedElsewhere.into());
    }
    let (key, pattern) = match args.topic {
        Kind::Accounts => ("kafka.topics.accounts", &topics.accounts),
        Kind::Changes => match &topics.changes {
            Some(changes) => ("kafka.topics.changes", changes),
            None => return Err(PrintError::ChangesOff.into()),
        },
        Kind::DeadLetters => ("kafka.topics.dead_letters", &topics.dead_letters),
        Kind::Cursor => ("kafka.topics.cursor", &topics.cursor),
    };
    Ok(topic_names(key, pattern, args.lender.as_deref(), config)?)
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
        Ok(()) if !args.follow && printer.undecodable > 0 => {
            let (count, all) = (printer.undecodable, printer.count);
            Err(PrintError::Undecodable { count, all }.into())
        }
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
    if args.format == Format::Csv {
        let is_terminal = io::stdout().is_terminal();
        portfolio::print(&tail, &mut printer.decoders, &mut printer.out, is_terminal)?;
    } else if args.is_trail() {
        trail(args, &tail, printer)?;
    } else if args.from_beginning {
        printer.head(&[])?;
        tail.read_all(|record| {
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
            code = %HIDDEN,
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
    tail.read_all(|record| {
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
