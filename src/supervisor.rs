//! Who sees to it that every lender of the configuration runs? All of them in one process: started together, each run to its
//! end on a thread of its own, and tried again while upstream refuses it.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinSet};

use crate::avro::Encoder;
use crate::backoff::{Backoff, Patience};
use crate::config::{Config, Encoding, SecretSource};
use crate::exit::{Diagnosis, Exit, Failure, ProcessError, chain};
use crate::http::{Health, Server, Site, Standing};
use crate::in_flight::InFlight;
use crate::kafka::Cluster;
use crate::login;
use crate::metrics::Metrics;
use crate::pipeline::{
    Candidate, Frames, Pipeline, Republish, Starter, StopReason, ToStart, key_of, on_thread, refuse_living,
    say_unreadable, start_in_groups,
};
use crate::policy::{self, AfterRequest, AfterSink, DENIED_WAIT, Denials};
use crate::progress::Timestamp;
use crate::progress_bar;
use crate::reader::{self, Incoming, Reader, Until};
use crate::registry::{Registry, watch_ids};
use crate::shutdown::{self, Shutdown};
use crate::sink::{CursorRecords, TopicError, Topics, UsableTopic, ready_topics, watch_settings};
use crate::upstream::{Route, Transport, UpstreamError};
use crate::watchdog::{self, Watchdog};

/// How often a living process says what it did.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// The first wait before a lender is tried again that upstream refuses, and the longest.
const FAILED_WAIT: Duration = Duration::from_secs(60);
const MAX_FAILED_WAIT: Duration = Duration::from_secs(900);

/// What a process is started for.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub until: Until,
    /// With login, registry and upstream.
    pub patience: Patience,
    /// What is written once more as it is held, where that is the errand.
    pub republish: Option<Republish>,
}

/// What the lenders of the process share.
pub(crate) struct Supervisor {
    config: Config,
    http: Arc<dyn Transport>,
    checked: Vec<UsableTopic>,
    registry: Option<Arc<Registry>>,
    metrics: Arc<Metrics>,
    in_flight: InFlight,
    health: Arc<Health>,
    watchdog: Arc<Watchdog>,
    shutdown: Shutdown,
    until: Until,
    /// With login, registry and upstream.
    patience: Patience,
    to_start: mpsc::UnboundedSender<ToStart>,
    /// How often the registry was found to have lost a schema that is written under.
    schemas_lost: watch::Sender<u64>,
    /// How many lenders have not yet run or failed since they were last tried.
    undecided: watch::Sender<usize>,
    /// Whether any lender ever ran.
    any_ran: watch::Sender<bool>,
}

/// A lender that can be run.
struct Ready {
    pipeline: Pipeline,
    incoming: Incoming,
    reading: AbortHandle,
}

impl Supervisor {
    /// Runs all lenders of the configuration, until each has ended or the process is asked to end.
    ///
    /// # Errors
    /// When nothing can be run: the port is taken, the topics cannot be used.
    pub(crate) async fn run(errand: Errand, config: Config, metrics: Arc<Metrics>) -> Result<Exit, Failure> {
        let (sender, shutdown) = shutdown::channel();
        shutdown::listen_for_signals(sender)?;
        let lenders: Vec<String> = config.lenders.keys().cloned().collect();
        // How each that ended did, also if the others are left behind.
        let exits = Mutex::<Vec<Exit>>::default();
        let work = async {
            let mut watchers = JoinSet::new();
            let prepared = Self::prepare(errand, config, Arc::clone(&metrics), shutdown.clone(), &mut watchers);
            let Some(supervisor) = prepared.await? else {
                return Ok(());
            };
            let mut running = JoinSet::new();
            for lender in &lenders {
                running.spawn(supervise(Arc::clone(&supervisor), lender.clone()));
            }
            while let Some(ended) = running.join_next().await {
                match ended {
                    Ok(exit) => exits.lock().unwrap_or_else(PoisonError::into_inner).push(exit),
                    Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                }
            }
            watchers.shutdown().await;
            for lender in &lenders {
                tracing::info!(lender, "at the end: {}", metrics.lender(lender).line());
            }
            Ok::<_, Failure>(())
        };
        match shutdown::bounded(shutdown.clone(), work).await {
            Some(ended) => ended?,
            None if shutdown.is_insisted() => return Ok(Exit::Failed),
            None => {}
        }
        let exits = exits.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Exit::of_all(&exits))
    }

    /// Everything that all lenders need; `None` if the process is to end before that. `watchers` get what goes on beside them.
    async fn prepare(
        errand: Errand,
        config: Config,
        metrics: Arc<Metrics>,
        shutdown: Shutdown,
        watchers: &mut JoinSet<()>,
    ) -> Result<Option<Arc<Self>>, Failure> {
        let stale_after = config.http.stale_after;
        let health = Arc::new(Health::new(config.lenders.keys(), stale_after, Arc::clone(&metrics)));
        let watchdog = Arc::new(Watchdog::default());
        let watching = watchdog.start().map_err(|source| ProcessError::System {
            doing: "starting a thread",
            source,
        })?;
        let runtime = watchdog::turn(watchdog.watch("the runtime".to_owned()));
        watchers.spawn(async move {
            let _watching = watching;
            runtime.await;
        });
        // The port first: one that is taken is known before anything else is touched. A person's errand is over soon.
        if !errand.until.is_errand()
            && let Some(server) = Server::bind(&config.http).await?
        {
            let site = Site {
                metrics: Arc::clone(&metrics),
                health: Arc::clone(&health),
                watchdog: Arc::clone(&watchdog),
            };
            watchers.spawn(server.serve(Arc::new(site)));
        }
        let http = login::transport(&config)?;
        let registry = registry_of(&config)?;
        let cluster = Cluster::new(&config);
        let denials = match errand.until {
            Until::Asked | Until::CaughtUp => Denials::asked_again(),
            Until::Reconciled { .. } | Until::Republished => Denials::said_at_once(),
        };
        let mut asked = shutdown.clone();
        let checked = tokio::select! {
            // Nothing is open yet that would have to be ended.
            biased;
            () = asked.requested() => return Ok(None),
            checked = awaited_topics(&cluster, &config, &denials) => checked?,
        };
        let budget = config.memory.in_flight;
        let in_flight = InFlight::new(budget, config.lenders.len(), metrics.in_flight_bytes.clone());
        metrics.in_flight_limit_bytes.set(in_flight.limit(config.lenders.len()));
        let (to_start, waiting) = mpsc::unbounded_channel();
        let lenders: Vec<String> = config.lenders.keys().cloned().collect();
        let instance = instance_id();
        tracing::info!(
            instance,
            lenders = lenders.len(),
            version = env!("CARGO_PKG_VERSION"),
            "starting"
        );
        let starter = Starter {
            cluster,
            config: config.clone(),
            instance,
            registry: registry.clone(),
            runtime: Handle::current(),
            shutdown: shutdown.clone(),
            republish: errand.republish,
            denials: denials.anew(),
        };
        tokio::spawn(start_in_groups(Arc::new(starter), waiting, lenders.len()));
        for lender in &lenders {
            watchers.spawn(progress_bar::follow(lender.clone(), metrics.lender(lender)));
        }
        watchers.spawn(report(Arc::clone(&metrics), lenders.clone()));
        let schemas_lost = watch::Sender::default();
        if let Some(registry) = &registry {
            watchers.spawn(watch_ids(Arc::clone(registry), schemas_lost.clone()));
        }
        watchers.spawn(watch_settings(
            Cluster::new(&config),
            config.clone(),
            Arc::clone(&metrics),
        ));
        Ok(Some(Arc::new(Self {
            config,
            http,
            checked,
            registry,
            in_flight,
            metrics,
            health,
            watchdog,
            shutdown,
            until: errand.until,
            patience: errand.patience,
            to_start,
            schemas_lost,
            undecided: watch::Sender::new(lenders.len()),
            any_ran: watch::Sender::new(false),
        })))
    }

    /// Logs a lender in and has it started; `shutdown`: its own. Nothing is open of one that is not.
    async fn start(&self, lender: &str, route: &Arc<Route>, shutdown: Shutdown) -> Result<Ready, StopReason> {
        let metrics = self.metrics.lender(lender);
        let logging_in = login::log_in(&self.http, &self.config, lender, &metrics, route, self.patience);
        let (client, login) = self.unless_asked(logging_in).await?.map_err(|error| refused(&error))?;
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let (registry, strategy) = (self.registry.as_deref(), self.config.avro.subject_strategy);
        let frames = Frames::find(registry, strategy, lender, &topics, self.patience);
        let frames = self.unless_asked(frames).await?.map_err(|error| Failure::of(&error))?;
        if self.until.is_errand() {
            self.refuse_living(lender, &login.lender_public_id, &topics).await?;
        }
        let pipeline = self
            .claimed(Candidate {
                lender: lender.to_owned(),
                public_id: login.lender_public_id.clone(),
                topics: topics.clone(),
                frames,
                metrics,
                pulse: self.watchdog.watch(format!("the pipeline of {lender}")),
                shutdown,
            })
            .await?;
        if let Some(registry) = self.registry.clone() {
            let (metrics, own) = (self.metrics.lender(lender), frames.account);
            tokio::spawn(say_unreadable(
                registry,
                lender.to_owned(),
                metrics,
                own,
                pipeline.schemas(),
            ));
        }
        let (reader, incoming) = Reader::new(reader::ReaderSettings {
            client: Arc::new(client),
            encoder: Encoder::new(frames.account),
            rules: self.config.rules(),
            name: lender,
            lender: &login.lender_public_id,
            upstream: &self.config.upstream,
            until: self.until,
            patience: self.patience,
            max_message: topics.largest_row(),
            max_record: topics.cursor.max_message,
            ends_length: topics.ends_length(&self.checked),
            in_flight: &self.in_flight,
            committed: pipeline.committed(),
        });
        let start_from = self.config.lenders[lender].start_from.map(Timestamp::from);
        let reading = tokio::spawn(reader.run(login.clock, start_from)).abort_handle();
        Ok(Ready {
            pipeline,
            incoming,
            reading,
        })
    }

    /// What `work` gives, unless the process is asked to end first: nothing is open yet that would have to be ended.
    async fn unless_asked<T>(&self, work: impl Future<Output = T>) -> Result<T, StopReason> {
        let mut shutdown = self.shutdown.clone();
        tokio::select! {
            biased;
            () = shutdown.requested() => Err(StopReason::as_asked()),
            done = work => Ok(done),
        }
    }

    /// Has the lender claimed and restored, with those that are ready at the same time.
    async fn claimed(&self, candidate: Candidate) -> Result<Pipeline, StopReason> {
        let (started, pipeline) = oneshot::channel();
        let what = "the start of lenders has ended";
        let ended = || StopReason::from(ProcessError::Defect { what });
        let to_start = ToStart { candidate, started };
        self.to_start.send(to_start).map_err(|_| ended())?;
        match pipeline.await {
            Ok(Ok(pipeline)) => Ok(pipeline),
            // Interrupted.
            Ok(Err(error)) if error.exit() == Exit::Done => Err(StopReason::as_asked()),
            Err(_) if self.shutdown.is_requested() => Err(StopReason::as_asked()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(ended()),
        }
    }

    /// A source that runs is not taken over for it: that one can do it by itself.
    async fn refuse_living(&self, lender: &str, public_id: &str, topics: &Topics) -> Result<(), Failure> {
        let records = CursorRecords::find(&Cluster::new(&self.config), &topics.cursor.name).await?;
        let key = key_of(&self.config, lender, public_id);
        let advice = "stop it, or set upstream.reconcile_interval, with which it does this by itself";
        Ok(refuse_living(&self.config, &records, &key, advice)?)
    }

    fn decided(&self, is_first: &mut bool) {
        if std::mem::take(is_first) {
            self.undecided.send_modify(|count| *count -= 1);
        }
    }

    /// Returns once every lender has failed without any having run; never, if one ran.
    async fn no_lender_ran(&self) {
        let mut undecided = self.undecided.subscribe();
        // The sender is in `self`.
        let _ = undecided.wait_for(|count| *count == 0).await;
        if *self.any_ran.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for `wait`, or until the file is another than the one of `modified`; `true` if the process is to end.
    async fn wait_for_mended_credentials(
        &self,
        password: &SecretSource,
        modified: Option<SystemTime>,
        wait: Duration,
    ) -> bool {
        /// Also the least between two logins, however often a file is written.
        const LOOK: Duration = Duration::from_secs(5);
        let mut shutdown = self.shutdown.clone();
        let until = tokio::time::Instant::now() + wait;
        loop {
            tokio::select! {
                // An end is more urgent than a mended password.
                biased;
                () = shutdown.requested() => return true,
                () = tokio::time::sleep(LOOK) => {}
            }
            if tokio::time::Instant::now() >= until || password.modified() != modified {
                return false;
            }
        }
    }
}

/// Runs one lender, again and again while upstream refuses it.
async fn supervise(supervisor: Arc<Supervisor>, lender: String) -> Exit {
    let route = Arc::new(Route::new(&lender, &supervisor.config.upstream));
    let mut is_first = true;
    let mut wait = FAILED_WAIT;
    loop {
        let began = Instant::now();
        supervisor.health.set(&lender, Standing::Starting);
        let password = &supervisor.config.lenders[&lender].password;
        // Before it is read: what replaces it from now on is another one.
        let modified = password.modified();
        let (ending, shutdown) = supervisor.shutdown.child();
        // Before its ids are asked for: what is lost from now on is lost of them.
        let mut schemas_lost = supervisor.schemas_lost.subscribe();
        let (stop, did_run) = match supervisor.start(&lender, &route, shutdown).await {
            Ok(ready) => {
                supervisor.any_ran.send_replace(true);
                supervisor.health.set(&lender, Standing::Running);
                supervisor.decided(&mut is_first);
                let mut running = pin!(on_thread(&lender, ready.pipeline.run(ready.incoming)));
                let stop = tokio::select! {
                    stop = &mut running => stop,
                    Ok(()) = schemas_lost.changed() => {
                        ending.request();
                        supervisor.metrics.lender(&lender).schemas_lost_total.inc();
                        let stop = running.await;
                        // Also where it cannot know now what is committed: the next start asks.
                        if stop.exit() == Exit::Done && !supervisor.shutdown.is_requested() {
                            // It waits for the registry, as at every start, and goes on under the new id.
                            ready.reading.abort();
                            continue;
                        }
                        stop
                    }
                };
                ready.reading.abort();
                (stop, true)
            }
            Err(stop) => (stop, false),
        };
        let exit = stop.exit();
        if let Some(failure) = &stop.failure {
            let (exit, code) = (exit.code(), failure.code());
            tracing::error!(lender, exit, %code, "stopped: {}", failure.line());
        }
        supervisor.decided(&mut is_first);
        let standing = if stop.is_failed {
            Standing::Failed
        } else {
            Standing::Ended(exit)
        };
        supervisor.health.set(&lender, standing);
        if !stop.is_failed || supervisor.until != Until::Asked || supervisor.shutdown.is_requested() {
            return exit;
        }
        if did_run && began.elapsed() > Duration::from_secs(3600) {
            wait = FAILED_WAIT;
        }
        tracing::warn!(
            lender,
            ?wait,
            "failed; it is tried again then, or when its secret file changes"
        );
        tokio::select! {
            // Where no lender ever ran, there is nothing to wait for.
            biased;
            () = supervisor.no_lender_ran() => return exit,
            is_ending = supervisor.wait_for_mended_credentials(password, modified, wait) => {
                if is_ending {
                    return Exit::Done;
                }
                // It may yet be the one that runs.
                supervisor.undecided.send_modify(|count| *count += 1);
                is_first = true;
            }
        }
        wait = (wait * 2).min(MAX_FAILED_WAIT);
    }
}

/// The topics, asked for again while they may only seem to be missing or hidden.
async fn awaited_topics(cluster: &Cluster, config: &Config, denials: &Denials) -> Result<Vec<UsableTopic>, TopicError> {
    let mut backoff = Backoff::default();
    loop {
        let error = match ready_topics(cluster, config, config.kafka.create_topics).await {
            Ok(topics) => return Ok(topics),
            Err(error) => error,
        };
        if denials.after(policy::after_topics(&error)) != AfterSink::Reopen {
            return Err(error);
        }
        let wait = backoff.next(None).min(DENIED_WAIT);
        if backoff.is_worth_a_line() {
            tracing::warn!(code = %error.code(), advice = error.advice(), "starting: {}", chain(&error));
        }
        tokio::time::sleep(wait).await;
    }
}

/// Upstream refused.
fn refused(error: &UpstreamError) -> StopReason {
    StopReason {
        failure: Some(Failure::of(error)),
        is_failed: policy::after_request(error) == AfterRequest::Fail,
    }
}

async fn report(metrics: Arc<Metrics>, lenders: Vec<String>) {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        for lender in &lenders {
            tracing::info!(lender, "{}", metrics.lender(lender).line());
        }
    }
}

/// The registry, where one is needed.
pub(crate) fn registry_of(config: &Config) -> Result<Option<Arc<Registry>>, Failure> {
    match config.avro.encoding {
        Encoding::Confluent => Registry::new(&config.schema_registry)
            .map(|registry| Some(Arc::new(registry)))
            .map_err(Failure::from),
        Encoding::SingleObject => Ok(None),
    }
}

/// 128 random bits in hex: no two processes share it.
pub(crate) fn instance_id() -> String {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
