//! Which dead letters can be read by now? They are tried again with this version and configuration, and what can be read now is
//! written. The rows come from their topic instead of upstream (`reader::replay`); deciding and committing is `run`'s.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::avro::{Encoder, Frame, WriterSchema};
use crate::backoff::Patience;
use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure, INTERRUPTED};
use crate::index::Index;
use crate::kafka::{self, Cluster, Offsets, blocking};
use crate::login::public_id_of;
use crate::metrics::{LenderMetrics, Metrics};
use crate::phase::Phase;
use crate::pipeline::{
    Candidate, Claimant, Decider, Frames, Images, Pipeline, Restorable, Starter, dry_run, key_of, on_thread,
    refuse_living,
};
use crate::policy::Denials;
use crate::progress::Timestamp;
use crate::reader::{Closed, Incoming, Letters, ReaderError, ReaderExit, Replay, ReplaySettings};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::sink::{
    CursorReaders, CursorRecords, RestoredAccounts, SinkError, Topics, UsableTopic, read_dead_letters, ready_topics,
};
use crate::supervisor::{instance_id, registry_of};
use crate::watchdog::Pulse;

/// Tries the dead letters of lenders again.
pub(crate) struct Replayer<'a> {
    config: &'a Config,
    cluster: Cluster,
    checked: Vec<UsableTopic>,
    registry: Option<Arc<Registry>>,
    patience: Patience,
    metrics: Metrics,
    shutdown: Shutdown,
}

impl<'a> Replayer<'a> {
    /// Looks at the topics; writes nothing. `patience`: with login and registry.
    ///
    /// # Errors
    /// When they cannot be used.
    pub(crate) async fn new(config: &'a Config, patience: Duration, shutdown: Shutdown) -> Result<Self, Failure> {
        let cluster = Cluster::new(config);
        let checked = ready_topics(&cluster, config, false).await?;
        Ok(Self {
            config,
            cluster,
            checked,
            registry: registry_of(config)?,
            patience: Patience::For(patience),
            metrics: Metrics::new(),
            shutdown,
        })
    }

    pub(crate) fn is_interrupted(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Tries one lender's dead letters; `tell` hears what became of them. A dry run writes nothing.
    ///
    /// # Errors
    /// When they cannot all be tried.
    pub(crate) async fn replay(
        &self,
        lender: &str,
        is_dry: bool,
        tell: impl FnOnce(&Letters, &LenderMetrics),
    ) -> Result<Exit, Failure> {
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let public_id = public_id_of(self.config, lender, self.patience).await?;
        let metrics = self.metrics.lender(lender);
        let (stop, letters) = if is_dry {
            let index = self.held(&public_id, &topics).await?;
            let decider = Decider {
                public_id: public_id.clone(),
                topics: topics.clone(),
                changes: None,
                late_window: self.config.upstream.late_window,
                start_from: self.config.lenders[lender].start_from.map(Timestamp::from),
                schema: WriterSchema::Unknown,
                republish: None,
            };
            let (replay, incoming) = self.letters(lender, &public_id, Frame::SingleObject, &topics, &metrics);
            let deciding = dry_run(
                &decider,
                index,
                lender,
                metrics.clone(),
                incoming,
                self.shutdown.clone(),
            );
            tokio::join!(deciding, self.reading(replay, &topics, &public_id))
        } else {
            let candidate = self.candidate(lender, &public_id, &topics, &metrics).await?;
            let frame = candidate.lender.frames.account;
            let pipeline = self.claimed(candidate).await?;
            let (replay, incoming) = self.letters(lender, &public_id, frame, &topics, &metrics);
            let running = on_thread(lender, pipeline.run(incoming));
            let ((stop, _), letters) = tokio::join!(running, self.reading(replay, &topics, &public_id));
            (stop, letters)
        };
        tell(&letters, &metrics);
        match stop.failure {
            Some(failure) => Err(failure),
            None if self.shutdown.is_requested() => Err(ReplayError::Unfinished.into()),
            None => Ok(stop.exit()),
        }
    }

    async fn candidate(
        &self,
        lender: &str,
        public_id: &str,
        topics: &Topics,
        metrics: &LenderMetrics,
    ) -> Result<Candidate, Failure> {
        let key = key_of(self.config, lender, public_id);
        let records = CursorRecords::find(&self.cluster, &topics.cursor.name).await?;
        let advice = "stop it, replay, and start it again; --dry-run may run beside it";
        refuse_living(self.config, &records, &key, advice)?;
        let strategy = self.config.avro.subject_strategy;
        let mut shutdown = self.shutdown.clone();
        let frames = tokio::select! {
            // Nothing is open yet that would have to be ended.
            biased;
            () = shutdown.requested() => return Err(ReplayError::Interrupted.into()),
            frames = Frames::find(self.registry.as_deref(), strategy, lender, topics, self.patience) => frames?,
        };
        Ok(Candidate {
            lender: Restorable {
                lender: lender.to_owned(),
                public_id: public_id.to_owned(),
                topics: topics.clone(),
                frames,
                metrics: metrics.clone(),
            },
            pulse: Pulse::default(),
            shutdown: self.shutdown.clone(),
            waits_for: None,
            phase: Phase::alone(),
        })
    }

    /// As `run` starts a lender.
    async fn claimed(&self, candidate: Candidate) -> Result<Pipeline, Failure> {
        let starter = Arc::new(Starter {
            cluster: self.cluster.clone(),
            cursors: CursorReaders::new(self.cluster.clone()),
            config: self.config.clone(),
            claimant: Claimant::alone(instance_id()),
            registry: self.registry.clone(),
            runtime: Handle::current(),
            shutdown: self.shutdown.clone(),
            republish: None,
            denials: Denials::said_at_once(),
        });
        let started = blocking(move || {
            let mut started = None;
            let mut images = Images::new(Arc::clone(&starter));
            starter.start(&mut images, vec![(candidate, ())], Vec::new, |(), result| {
                started = Some(result)
            });
            started.expect("one was to be started")
        })
        .await;
        started.map_err(|error| match error.exit() {
            Exit::Done => ReplayError::Interrupted.into(),
            _ => error.into(),
        })
    }

    /// What `accounts` holds of the lender.
    async fn held(&self, public_id: &str, topics: &Topics) -> Result<Index, Failure> {
        let (cluster, shutdown) = (self.cluster.clone(), self.shutdown.clone());
        let (accounts, public_id) = (topics.accounts.clone(), public_id.to_owned());
        let held = blocking(move || {
            RestoredAccounts::whole(
                &cluster,
                &accounts.name,
                public_id,
                accounts.delete_retention,
                &shutdown,
            )
        });
        held.await.map_err(|error| match error {
            SinkError::Kafka(kafka::Error::Interrupted) => ReplayError::Interrupted.into(),
            error => Failure::from(error),
        })
    }

    /// What makes pages of dead letters, and where they come out.
    fn letters(
        &self,
        lender: &str,
        public_id: &str,
        frame: Frame,
        topics: &Topics,
        metrics: &LenderMetrics,
    ) -> (Replay, Incoming) {
        Replay::new(ReplaySettings {
            in_flight: &self.config.in_flight_of_one(),
            encoder: Encoder::new(frame),
            rules: self.config.rules(),
            name: lender,
            lender: public_id,
            max_message: topics.largest_row(),
            metrics: metrics.clone(),
        })
    }

    /// Reads all dead letters, to their end or that of whoever takes the pages.
    async fn reading(&self, mut replay: Replay, topics: &Topics, public_id: &str) -> Letters {
        let (topic, public_id) = (topics.dead_letters.name.clone(), public_id.to_owned());
        let (cluster, shutdown, runtime) = (self.cluster.clone(), self.shutdown.clone(), Handle::current());
        blocking(move || {
            let take = |_, value: &[u8]| {
                let taken = replay.take(&runtime, value);
                taken.map_err(|Closed| SinkError::Kafka(kafka::Error::Interrupted))
            };
            let read = read_dead_letters(&cluster, &topic, &public_id, &Offsets::new(), &shutdown, take);
            let ended = match read {
                Ok(_) => ReaderExit::CaughtUp,
                Err(error) => ReaderError::Letters(error).into(),
            };
            replay.end(&runtime, ended)
        })
        .await
    }
}

/// Why dead letters were left untried.
#[derive(Debug, thiserror::Error)]
enum ReplayError {
    #[error("interrupted; nothing was written")]
    Interrupted,
    #[error("interrupted before all dead letters were tried")]
    Unfinished,
}

impl Diagnosis for ReplayError {
    fn code(&self) -> ErrorCode {
        INTERRUPTED
    }

    fn advice(&self) -> &str {
        "run it again: what is written is not written twice"
    }

    /// What was asked for is not done.
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}
