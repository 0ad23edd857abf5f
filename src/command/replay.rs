//! `replay`: the dead letters tried again with this version and configuration, and what can be read now written. The rows
//! come from their topic instead of upstream (`reader::replay`); deciding and committing is `run`'s.

use std::fmt::Write as _;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Failure, cursor, run};
use crate::avro::{Encoder, Frame};
use crate::config::Config;
use crate::metrics::{LenderMetrics, Metrics};
use crate::pipeline::{Pipeline, Setting, Stopped};
use crate::policy::{self, Exit};
use crate::progress::{Progress, Record, Timestamp};
use crate::reader::{Closed, Ended, Letters, Replay, ReplaySetting};
use crate::registry::Registry;
use crate::shutdown::{self, Shutdown};
use crate::sink::{
    Checked, Cluster, Committed, Offsets, Records, Sink, SinkError, Topics, in_background, read_dead_letters,
    restore_accounts,
};
use crate::start::{Candidate, Starter};
use crate::watchdog::Pulse;

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
}

pub async fn execute(args: Args, mut config: Config) -> Result<Exit, Failure> {
    super::keep_lender(&mut config, args.lender.as_deref())?;
    let (sender, shutdown) = shutdown::channel();
    super::listen_for_signals(sender)?;
    let replayed = run::bounded(shutdown.clone(), replay(&config, args.dry_run, shutdown)).await;
    replayed.unwrap_or(Ok(Exit::Failed))
}

/// Every lender, one after another: the memory is that of the largest.
async fn replay(config: &Config, is_dry: bool, shutdown: Shutdown) -> Result<Exit, Failure> {
    let cluster = Cluster::new(config);
    let checked = super::topics(&cluster, config, false).await?;
    let replayer = Replayer {
        config,
        cluster,
        checked,
        registry: run::registry_of(config)?,
        metrics: Metrics::new(),
        shutdown,
    };
    let mut exits = Vec::new();
    for lender in config.lenders.keys() {
        if replayer.shutdown.is_requested() {
            exits.push(Exit::Failed);
            break;
        }
        exits.push(match replayer.replay(lender, is_dry).await {
            Ok(exit) => exit,
            Err(failure) => {
                eprintln!("error: {lender}: {}", failure.message);
                failure.exit
            }
        });
    }
    Ok(Exit::of_all(&exits))
}

/// What the lenders share.
struct Replayer<'a> {
    config: &'a Config,
    cluster: Cluster,
    checked: Vec<Checked>,
    registry: Option<Arc<Registry>>,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Replayer<'_> {
    async fn replay(&self, lender: &str, is_dry: bool) -> Result<Exit, Failure> {
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let public_id = cursor::public_id(self.config, lender).await?;
        let metrics = self.metrics.lender(lender);
        let (stopped, letters) = if is_dry {
            let pipeline = self.pretended(lender, &public_id, &topics, &metrics).await?;
            self.tried(pipeline, Frame::SingleObject, &topics).await
        } else {
            let candidate = self.candidate(lender, &public_id, &topics, &metrics).await?;
            let frame = candidate.frames.account;
            let pipeline = self.claimed(candidate).await?;
            self.tried(pipeline, frame, &topics).await
        };
        println!("{}", told(lender, &letters, &metrics, is_dry));
        match stopped.why {
            Some(why) => Err(Failure::new(stopped.exit, why)),
            None if self.shutdown.is_requested() => Err(Failure::new(
                Exit::Failed,
                "interrupted before all dead letters were tried\n  → run it again: what is written is not written twice",
            )),
            None => Ok(stopped.exit),
        }
    }

    async fn candidate(
        &self,
        lender: &str,
        public_id: &str,
        topics: &Topics,
        metrics: &LenderMetrics,
    ) -> Result<Candidate, Failure> {
        let key = Starter::key(self.config, lender, public_id);
        let records = cursor::read(&self.cluster, &topics.cursor.name).await?;
        let advice = "stop it, replay, and start it again; --dry-run may run beside it";
        cursor::refuse_living(self.config, &records, &key, advice)?;
        let strategy = self.config.avro.subject_strategy;
        let mut shutdown = self.shutdown.clone();
        let frames = tokio::select! {
            // Nothing is open yet that would have to be ended.
            biased;
            () = shutdown.requested() => return Err(interrupted()),
            frames = run::frames(self.registry.as_deref(), strategy, lender, topics) => frames,
        };
        Ok(Candidate {
            lender: lender.to_owned(),
            public_id: public_id.to_owned(),
            topics: topics.clone(),
            frames,
            metrics: metrics.clone(),
            pulse: Pulse::default(),
        })
    }

    /// As `run` starts a lender.
    async fn claimed(&self, candidate: Candidate) -> Result<Pipeline, Failure> {
        let starter = Starter {
            cluster: self.cluster.clone(),
            config: self.config.clone(),
            instance: run::instance_id(),
            registry: self.registry.clone(),
            runtime: Handle::current(),
            shutdown: self.shutdown.clone(),
        };
        let mut started = in_background(move || starter.start(vec![candidate])).await;
        let (_, started) = started.pop().expect("one was to be started");
        started.map_err(|error| match error.exit() {
            Exit::Done => interrupted(),
            exit => Failure::of(exit, &error, error.advice()),
        })
    }

    /// One that holds what `accounts` holds, and whose commits go nowhere.
    async fn pretended(
        &self,
        lender: &str,
        public_id: &str,
        topics: &Topics,
        metrics: &LenderMetrics,
    ) -> Result<Pipeline<Nowhere>, Failure> {
        let (cluster, topic) = (self.cluster.clone(), topics.accounts.name.clone());
        let (lenders, shutdown) = (vec![public_id.to_owned()], self.shutdown.clone());
        let indexes =
            in_background(move || restore_accounts(&cluster, &topic, &lenders, |_| 0, &|_| Ok(None), &shutdown)).await;
        let mut indexes = indexes.map_err(|error| match error {
            SinkError::Interrupted => interrupted(),
            error => cursor::sink_failure(&error),
        })?;
        let start_from = self.config.lenders[lender].start_from;
        let mut pipeline = Pipeline::new(Setting {
            lender,
            public_id,
            transactions: Nowhere { topics: topics.clone() },
            record: Record {
                instance: None,
                epoch: 0,
                sequence: 0,
                base_url: self.config.upstream.base_url.to_string(),
                progress: Progress::default(),
                accounts: None,
                partitions: String::new(),
            },
            trail: None,
            errors: &self.config.errors,
            settings: &self.config.transaction,
            late_window: self.config.upstream.late_window,
            start_from: start_from.map(Timestamp::from),
            metrics: metrics.clone(),
            pulse: Pulse::default(),
            shutdown: self.shutdown.clone(),
        });
        pipeline.index = indexes.remove(public_id).unwrap_or_default();
        Ok(pipeline)
    }

    /// Reads all dead letters into `pipeline`, to their end or its.
    async fn tried<S: Sink + Send + 'static>(
        &self,
        pipeline: Pipeline<S>,
        frame: Frame,
        topics: &Topics,
    ) -> (Stopped, Letters) {
        let (replay, incoming) = Replay::new(ReplaySetting {
            encoder: Encoder::new(frame),
            rules: self.config.rules(),
            name: &pipeline.lender,
            lender: &pipeline.public_id,
            max_message: topics.largest_row(),
            metrics: pipeline.metrics.clone(),
        });
        let reading = self.reading(replay, topics.dead_letters.name.clone(), pipeline.public_id.clone());
        tokio::join!(run::on_thread(pipeline, incoming), reading)
    }

    async fn reading(&self, mut replay: Replay, topic: String, public_id: String) -> Letters {
        let (cluster, shutdown, runtime) = (self.cluster.clone(), self.shutdown.clone(), Handle::current());
        in_background(move || {
            let take = |_, value: &[u8]| {
                let taken = replay.take(&runtime, value);
                taken.map_err(|Closed| SinkError::Interrupted)
            };
            let read = read_dead_letters(&cluster, &topic, &public_id, &Offsets::new(), &shutdown, take);
            let ended = match read {
                Ok(_) => Ended::CaughtUp,
                Err(error) => Ended::Letters(policy::chain(&error)),
            };
            replay.end(&runtime, ended)
        })
        .await
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::Failed, "interrupted; nothing was written")
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

/// Where a dry run writes to.
struct Nowhere {
    topics: Topics,
}

impl Sink for Nowhere {
    fn topics(&self) -> &Topics {
        &self.topics
    }

    fn commit(&self, _records: &Records<'_>, _progress: &Record, _lender: &str) -> Result<(), SinkError> {
        Ok(())
    }

    fn reopen(&mut self) -> Result<Committed, SinkError> {
        self.committed()
    }

    fn committed(&self) -> Result<Committed, SinkError> {
        Ok(Committed::Nothing)
    }

    fn partitions(&self) -> Result<String, SinkError> {
        Ok(String::new())
    }

    fn abandon(&self) {}
}
