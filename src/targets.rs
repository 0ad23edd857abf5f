//! What is wanted of each lender? Started, paused or stopped: people write it into the cursor topics, and every process follows it there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::exit::{Diagnosis, chain};
use crate::kafka::{self, Cluster, End, Offsets, TopicReader, blocking};
use crate::metrics::Metrics;
use crate::progress::TargetState;
use crate::shutdown::Shutdown;
use crate::sink::{CursorRecords, SinkError};

/// What is wanted of a lender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Target {
    pub state: TargetState,
    /// How often it was to begin anew since the process began.
    pub restarts: u64,
}

impl Target {
    /// Whether what began under this one is to end, now that `other` is wanted.
    pub(crate) fn is_over(self, other: Self) -> bool {
        other.state == TargetState::Stopped || other.restarts != self.restarts
    }
}

/// What is wanted of all lenders of the process.
pub(crate) struct Targets {
    cluster: Cluster,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
    lenders: BTreeMap<String, TargetOf>,
    followed: Arc<Mutex<CursorTopics>>,
    is_known: watch::Sender<bool>,
    /// It ends once all is read, and so leaves a lender alone that is paused, as if it were stopped.
    is_batch: bool,
}

struct TargetOf {
    connector: String,
    /// Where it is written.
    topic: String,
    target: watch::Sender<Target>,
}

/// The cursor topics, as far as they were read.
#[derive(Default)]
struct CursorTopics {
    reader: Option<TopicReader>,
    topics: BTreeMap<String, CursorRecords>,
}

impl Targets {
    pub(crate) fn new(
        cluster: Cluster,
        config: &Config,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        is_batch: bool,
    ) -> Self {
        let lender = |name: &String| {
            let lender = TargetOf {
                connector: format!("{}-{name}", config.name),
                topic: config.kafka.topics.for_lender(name).cursor,
                target: watch::Sender::default(),
            };
            (name.clone(), lender)
        };
        let lenders: BTreeMap<String, TargetOf> = config.lenders.keys().map(lender).collect();
        let topics = lenders.values().map(|lender| {
            let records = CursorRecords::of(&lender.topic);
            (lender.topic.clone(), records)
        });
        let followed = CursorTopics {
            reader: None,
            topics: topics.collect(),
        };
        Self {
            cluster,
            metrics,
            shutdown,
            followed: Arc::new(Mutex::new(followed)),
            lenders,
            is_known: watch::Sender::default(),
            is_batch,
        }
    }

    /// What is wanted of a lender of the configuration, as far as it is known.
    pub(crate) fn of(&self, lender: &str) -> watch::Receiver<Target> {
        self.lenders[lender].target.subscribe()
    }

    /// Returns once it is known.
    pub(crate) async fn known(&self) {
        // The sender is in `self`.
        let _ = self.is_known.subscribe().wait_for(|is_known| *is_known).await;
    }

    /// Has a lender run anew, where this process runs it.
    pub(crate) fn restart(&self, lender: &str) {
        self.lenders[lender].target.send_modify(|target| target.restarts += 1);
    }

    /// Writes what is wanted of a lender, for good, and returns once this process knows it.
    ///
    /// # Errors
    /// When it cannot be written, or not be read back.
    pub(crate) async fn set(&self, lender: &str, state: TargetState) -> Result<(), SinkError> {
        let TargetOf { connector, topic, .. } = &self.lenders[lender];
        let (cluster, topic, key) = (self.cluster.clone(), topic.clone(), TargetState::key(connector));
        blocking(move || kafka::write(&cluster, &topic, &key, &state.to_json())).await?;
        self.read_on(End::True).await
    }

    /// Follows what is written, until it is dropped.
    pub(crate) async fn follow(self: Arc<Self>) {
        /// So late a process hears what another one was told.
        const LOOK: Duration = Duration::from_secs(5);
        let mut backoff = Backoff::default();
        loop {
            let wait = match self.read_on(End::Stable).await {
                Ok(()) => {
                    backoff = Backoff::default();
                    LOOK
                }
                Err(error) => {
                    let wait = backoff.next(None).min(LOOK);
                    // Whoever starts meanwhile says what is wrong with Kafka.
                    let (code, advice) = (error.code(), error.advice());
                    tracing::debug!(%code, advice, "whether lenders are paused or stopped cannot be read: {}", chain(&error));
                    wait
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn read_on(&self, end: End<'static>) -> Result<(), SinkError> {
        let (followed, cluster, shutdown) = (Arc::clone(&self.followed), self.cluster.clone(), self.shutdown.clone());
        let connectors: Vec<(String, String)> = self
            .lenders
            .values()
            .map(|lender| (lender.topic.clone(), lender.connector.clone()))
            .collect();
        let states = blocking(move || {
            let mut followed = followed.lock().unwrap_or_else(PoisonError::into_inner);
            followed.read_on(&cluster, end, &shutdown)?;
            let state = |(topic, connector): &(String, String)| followed.topics[topic].target(connector);
            Ok::<_, SinkError>(connectors.iter().map(state).collect::<Vec<_>>())
        })
        .await?;
        for ((name, lender), state) in self.lenders.iter().zip(states) {
            self.note(name, lender, state);
        }
        self.is_known.send_replace(true);
        Ok(())
    }

    fn note(&self, name: &str, lender: &TargetOf, state: TargetState) {
        let state = match state {
            TargetState::Paused if self.is_batch => TargetState::Stopped,
            state => state,
        };
        let is_new = lender.target.send_if_modified(|target| {
            let is_new = target.state != state;
            target.state = state;
            is_new
        });
        let metrics = self.metrics.lender(name);
        metrics.paused.set((state == TargetState::Paused).into());
        metrics.stopped.set((state == TargetState::Stopped).into());
        if !is_new {
            return;
        }
        match state {
            TargetState::Started => tracing::info!(lender = name, "it is wanted to run"),
            TargetState::Paused => tracing::warn!(
                lender = name,
                "paused, as somebody asked: nothing is read of it, and its claim stays"
            ),
            TargetState::Stopped => tracing::warn!(
                lender = name,
                "stopped, as somebody asked: nobody runs it until it is resumed"
            ),
        }
    }
}

impl CursorTopics {
    fn read_on(&mut self, cluster: &Cluster, end: End<'_>, shutdown: &Shutdown) -> Result<(), SinkError> {
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => TopicReader::new(cluster)?,
        };
        let followed: Vec<_> = self
            .topics
            .iter()
            .map(|(topic, records)| (topic.as_str(), records.offsets()))
            .collect();
        // One question, whatever the number of topics.
        let ends = match end {
            End::Stable => reader.stable_ends(&followed)?,
            End::True | End::At(_) => BTreeMap::new(),
        };
        for (topic, records) in &mut self.topics {
            let went_back = |ends: &Offsets| {
                ends.iter()
                    .any(|(partition, end)| records.offsets().get(partition) > Some(end))
            };
            if ends.get(topic).is_some_and(went_back) {
                // It is another topic by now.
                *records = CursorRecords::of(topic);
            }
            if records.offsets().is_empty() || ends.get(topic) != Some(records.offsets()) {
                records.read_on(&reader, end, shutdown, &mut || {})?;
            }
        }
        self.reader = Some(reader);
        Ok(())
    }
}
