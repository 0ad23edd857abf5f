//! `run`: the source. Every lender of the configuration in one process, until it is asked to end.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::{Failure, cursor, progress_bar};
use crate::avro::{ACCOUNT, CHANGE, Definition, Encoder, Frame};
use crate::backoff::Backoff;
use crate::config::{Config, Encoding, SecretSource, SubjectStrategy};
use crate::http::{Health, Server, Site, Standing};
use crate::metrics::{LenderMetrics, Metrics};
use crate::pipeline::{Pipeline, Stopped};
use crate::policy::{self, AfterRequest, Exit};
use crate::reader::{self, Incoming, Reader, Until};
use crate::registry::{self, Registry};
use crate::shutdown::{self, Shutdown};
use crate::sink::{Checked, Cluster, Sink, Topic, Topics};
use crate::start::{Candidate, Frames, Starter};
use crate::upstream::{Client, Route, Transport, UpstreamError, http_client};
use crate::watchdog::{self, Watchdog};

/// The longest that lenders which are ready wait for the logins of the others, to share the reading of the topics.
const GROUP_WAIT: Duration = Duration::from_secs(10);

/// Everything that is under way at a shutdown ends within this, or is left to the broker's time-out.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(9);

/// How often a living process says what it did.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  d02-source --config config/d02-source.toml run --until-caught-up")]
pub struct Args {
    /// End with 0 once every lender has been read to the end: for a batch, a cron job
    #[arg(long)]
    until_caught_up: bool,
    /// Do not run, but ask the `run` that listens at http.listen whether it is alive, and exit: for a container
    #[arg(long, conflicts_with = "until_caught_up")]
    pub health_check: bool,
}

/// What the lenders of the process share.
struct Process {
    config: Config,
    http: Arc<dyn Transport>,
    checked: Vec<Checked>,
    registry: Option<Arc<Registry>>,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    watchdog: Arc<Watchdog>,
    shutdown: Shutdown,
    until: Until,
    to_start: mpsc::UnboundedSender<ToStart>,
    /// How many lenders have not yet run or failed since they were last tried.
    undecided: watch::Sender<usize>,
    /// Whether any lender ever ran.
    any_ran: watch::Sender<bool>,
}

struct ToStart {
    candidate: Candidate,
    started: oneshot::Sender<Result<Pipeline, crate::start::StartError>>,
}

pub async fn execute(args: Args, config: Config) -> Result<Exit, Failure> {
    let until = if args.until_caught_up {
        Until::CaughtUp
    } else {
        Until::Asked
    };
    run_until(until, config).await
}

/// Runs all lenders of the configuration.
pub(super) async fn run_until(until: Until, config: Config) -> Result<Exit, Failure> {
    let (sender, shutdown) = shutdown::channel();
    super::listen_for_signals(sender)?;
    let exits = Mutex::default();
    match bounded(shutdown.clone(), run(until, config, shutdown.clone(), &exits)).await {
        Some(ended) => ended?,
        None if shutdown.is_insisted() => return Ok(Exit::Failed),
        None => {}
    }
    let exits = exits.lock().unwrap_or_else(PoisonError::into_inner);
    Ok(Exit::of_all(&exits))
}

/// The work itself ends when it is asked to; this is the bound on how long that may take. `None`: it took longer, or was
/// asked a second time.
pub(super) async fn bounded<T>(mut asked: Shutdown, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        asked.requested().await;
        tokio::time::timeout(SHUTDOWN_LIMIT, asked.insisted()).await.is_ok()
    };
    tokio::select! {
        ended = work => Some(ended),
        is_insisted = over => {
            let why = if is_insisted { "asked to end a second time" } else { "not everything ended in time" };
            tracing::warn!("{why}; an open transaction is left to its time-out");
            None
        }
    }
}

/// Runs every lender to its end; `exits` gets how each that ended did.
async fn run(until: Until, config: Config, shutdown: Shutdown, exits: &Mutex<Vec<Exit>>) -> Result<(), Failure> {
    let metrics = Arc::new(Metrics::new());
    let stale_after = config.http.stale_after;
    let health = Arc::new(Health::new(config.lenders.keys(), stale_after, Arc::clone(&metrics)));
    let watchdog = Arc::new(Watchdog::default());
    let _watching = watchdog
        .start()
        .map_err(|error| Failure::new(Exit::Failed, format!("starting a thread: {error}")))?;
    let mut watchers = JoinSet::new();
    watchers.spawn(watchdog::turn(watchdog.watch("the runtime".to_owned())));
    // The port first: one that is taken is known before anything else is touched. `reconcile` is over soon.
    if until != Until::Reconciled
        && let Some(server) = Server::bind(&config.http)
            .await
            .map_err(|error| Failure::of(Exit::Usage, &error, error.advice()))?
    {
        let site = Site {
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            watchdog: Arc::clone(&watchdog),
        };
        watchers.spawn(server.serve(Arc::new(site)));
    }
    let http = http_client(&config.upstream)
        .map_err(|error| Failure::of(Exit::Usage, &error, "correct upstream.ca_file or upstream.proxy"))?;
    let registry = registry_of(&config)?;
    let cluster = Cluster::new(&config);
    let mut asked = shutdown.clone();
    let checked = tokio::select! {
        // Nothing is open yet that would have to be ended.
        biased;
        () = asked.requested() => return Ok(()),
        checked = super::topics(&cluster, &config, config.kafka.create_topics) => checked?,
    };

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
    };
    tokio::spawn(start_in_groups(Arc::new(starter), waiting, lenders.len()));
    let process = Arc::new(Process {
        config,
        http: Arc::new(http),
        checked,
        registry,
        metrics,
        health,
        watchdog,
        shutdown: shutdown.clone(),
        until,
        to_start,
        undecided: watch::Sender::new(lenders.len()),
        any_ran: watch::Sender::new(false),
    });
    watchers.spawn(report(Arc::clone(&process), lenders.clone()));
    for lender in &lenders {
        watchers.spawn(progress_bar::follow(lender.clone(), process.metrics.lender(lender)));
    }
    let mut running = JoinSet::new();
    for lender in &lenders {
        running.spawn(supervise(Arc::clone(&process), lender.clone()));
    }
    while let Some(ended) = running.join_next().await {
        match ended {
            Ok(exit) => exits.lock().unwrap_or_else(PoisonError::into_inner).push(exit),
            Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
        }
    }
    watchers.shutdown().await;
    if until == Until::Reconciled {
        for lender in &lenders {
            let metrics = process.metrics.lender(lender);
            if metrics.reconciles_total.get() == 0 {
                // It was said why.
                continue;
            }
            let (written, deleted) = (metrics.records_total.get(), metrics.deleted_accounts_total.get());
            println!("{lender}: {} accounts written, {deleted} deleted", written - deleted);
        }
    }
    for lender in &lenders {
        tracing::info!(lender, "at the end: {}", process.metrics.lender(lender).line());
    }
    Ok(())
}

/// The registry, where one is needed.
pub(super) fn registry_of(config: &Config) -> Result<Option<Arc<Registry>>, Failure> {
    match config.avro.encoding {
        Encoding::Confluent => Registry::new(&config.schema_registry)
            .map(|registry| Some(Arc::new(registry)))
            .map_err(|error| Failure::of(error.exit(), &error, error.advice())),
        Encoding::SingleObject => Ok(None),
    }
}

/// 128 random bits in hex: no two processes share it.
pub(super) fn instance_id() -> String {
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("the system has randomness");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Starts those together that are ready together.
async fn start_in_groups(starter: Arc<Starter>, mut waiting: mpsc::UnboundedReceiver<ToStart>, lender_count: usize) {
    let mut first_group = true;
    while let Some(first) = waiting.recv().await {
        let mut group = vec![first];
        let deadline = tokio::time::Instant::now() + if first_group { GROUP_WAIT } else { Duration::ZERO };
        while group.len() < lender_count {
            match tokio::time::timeout_at(deadline, waiting.recv()).await {
                Ok(Some(next)) => group.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        first_group = false;
        let (candidates, replies): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|ToStart { candidate, started }| (candidate, started))
            .unzip();
        let starter = Arc::clone(&starter);
        let started = tokio::task::spawn_blocking(move || starter.start(candidates)).await;
        let started = started.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
        for ((_, result), reply) in started.into_iter().zip(replies) {
            // Its supervisor waits for nothing else.
            let _ = reply.send(result);
        }
    }
}

async fn report(process: Arc<Process>, lenders: Vec<String>) {
    loop {
        tokio::time::sleep(REPORT_INTERVAL).await;
        for lender in &lenders {
            tracing::info!(lender, "{}", process.metrics.lender(lender).line());
        }
    }
}

/// Runs one lender, again and again while its credentials are refused.
async fn supervise(process: Arc<Process>, lender: String) -> Exit {
    let route = Arc::new(Route::new(&lender, &process.config.upstream));
    let mut is_first = true;
    let mut wait = Duration::from_secs(60);
    loop {
        let began = Instant::now();
        process.health.set(&lender, Standing::Starting);
        let password = &process.config.lenders[&lender].password;
        // Before it is read: what replaces it from now on is another one.
        let modified = password.modified();
        let (stopped, did_run) = run_once(&process, &lender, &route, &mut is_first).await;
        if let Some(why) = &stopped.why {
            let exit = stopped.exit.code();
            tracing::error!(lender, exit, "stopped: {why}");
        }
        process.decided(&mut is_first);
        let standing = if stopped.is_failed {
            Standing::Failed
        } else {
            Standing::Ended(stopped.exit)
        };
        process.health.set(&lender, standing);
        if !stopped.is_failed || process.until != Until::Asked || process.shutdown.is_requested() {
            return stopped.exit;
        }
        if did_run && began.elapsed() > Duration::from_secs(3600) {
            wait = Duration::from_secs(60);
        }
        tracing::warn!(
            lender,
            ?wait,
            "failed; it is tried again then, or when its secret file changes"
        );
        tokio::select! {
            // Where no lender ever ran, there is nothing to wait for.
            biased;
            () = process.no_lender_ran() => return stopped.exit,
            is_ending = process.wait_for_mended_credentials(password, modified, wait) => {
                if is_ending {
                    return Exit::Done;
                }
                // It may yet be the one that runs.
                process.undecided.send_modify(|count| *count += 1);
                is_first = true;
            }
        }
        wait = (wait * 2).min(Duration::from_secs(900));
    }
}

async fn run_once(process: &Arc<Process>, lender: &str, route: &Arc<Route>, is_first: &mut bool) -> (Stopped, bool) {
    let refused = |exit, why: String, is_failed| {
        (
            Stopped {
                exit,
                why: Some(why),
                is_failed,
            },
            false,
        )
    };
    let as_asked = || {
        (
            Stopped {
                exit: Exit::Done,
                why: None,
                is_failed: false,
            },
            false,
        )
    };
    let metrics = process.metrics.lender(lender);
    let mut shutdown = process.shutdown.clone();
    let logged_in = tokio::select! {
        // Nothing is open yet that would have to be ended.
        biased;
        () = shutdown.requested() => return as_asked(),
        logged_in = process.log_in(lender, &metrics, route) => logged_in,
    };
    let (client, login) = match logged_in {
        Ok(logged_in) => logged_in,
        Err(error) => {
            let after = policy::after_request(&error);
            let exit = if let AfterRequest::Stop(exit) = after {
                exit
            } else {
                Exit::Refused
            };
            let why = format!("{} → {}", policy::chain(&error), policy::request_advice(&error));
            return refused(exit, why, after == AfterRequest::Fail);
        }
    };
    let topics = Topics::of(&process.checked, &process.config.kafka, lender);
    let registry = process.registry.as_deref();
    let frames = tokio::select! {
        // As above.
        biased;
        () = shutdown.requested() => return as_asked(),
        frames = frames(registry, process.config.avro.subject_strategy, lender, &topics) => frames,
    };
    if process.until == Until::Reconciled
        && let Err(failure) = process.refuse_living(lender, &login.lender_public_id, &topics).await
    {
        return refused(failure.exit, failure.message.replace("\n  →", " →"), false);
    }
    let (started, pipeline) = oneshot::channel();
    let public_id = login.lender_public_id.clone();
    let candidate = Candidate {
        lender: lender.to_owned(),
        public_id,
        topics: topics.clone(),
        frames,
        metrics,
        pulse: process.watchdog.watch(format!("the pipeline of {lender}")),
    };
    if process.to_start.send(ToStart { candidate, started }).is_err() {
        return refused(Exit::Failed, "the start of lenders has ended".to_owned(), false);
    }
    let pipeline = match pipeline.await {
        Ok(Ok(pipeline)) => pipeline,
        // Interrupted.
        Ok(Err(error)) if error.exit() == Exit::Done => return as_asked(),
        Err(_) if process.shutdown.is_requested() => return as_asked(),
        Ok(Err(error)) => {
            return refused(
                error.exit(),
                format!("{} → {}", policy::chain(&error), error.advice()),
                false,
            );
        }
        Err(_) => return refused(Exit::Failed, "the start of lenders has ended".to_owned(), false),
    };
    process.any_ran.send_replace(true);
    process.health.set(lender, Standing::Running);
    process.decided(is_first);
    let (reader, inbox) = Reader::new(reader::Setting {
        client: Arc::new(client),
        encoder: Encoder::new(frames.account),
        rules: process.config.rules(),
        name: lender,
        lender: &pipeline.public_id,
        upstream: &process.config.upstream,
        until: process.until,
        max_message: topics.largest_row(),
        committed: pipeline.committed.subscribe(),
    });
    let reading = tokio::spawn(reader.run(login.clock, pipeline.start_from));
    let stopped = on_thread(pipeline, inbox).await;
    reading.abort();
    (stopped, true)
}

/// What stands before the values of a lender's topics.
pub(super) async fn frames(
    registry: Option<&Registry>,
    strategy: SubjectStrategy,
    lender: &str,
    topics: &Topics,
) -> Frames {
    Frames {
        account: frame(registry, strategy, lender, &topics.accounts, &ACCOUNT).await,
        change: match &topics.changes {
            Some(topic) => Some(frame(registry, strategy, lender, topic, &CHANGE).await),
            None => None,
        },
    }
}

/// What stands before every value. A registry that is away or refuses is waited for: nothing is written unframed.
async fn frame(
    registry: Option<&Registry>,
    strategy: SubjectStrategy,
    lender: &str,
    topic: &Topic,
    schema: &Definition,
) -> Frame {
    let Some(registry) = registry else {
        return Frame::SingleObject;
    };
    let subject = registry::subject(strategy, &topic.name, schema.name);
    let mut backoff = Backoff::default();
    loop {
        match registry.schema_id(&subject, schema.text).await {
            Ok(schema_id) => return Frame::Confluent { schema_id },
            Err(error) => {
                let wait = backoff.next(None);
                if backoff.is_worth_a_line() {
                    let (advice, error) = (error.advice(), policy::chain(&error));
                    tracing::error!(
                        lender,
                        subject,
                        ?wait,
                        advice,
                        "waiting for the schema registry: {error}"
                    );
                }
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Runs a pipeline on a thread of its own, to its end.
pub(super) async fn on_thread<S: Sink + Send + 'static>(pipeline: Pipeline<S>, incoming: Incoming) -> Stopped {
    let failed = |why: String| Stopped {
        exit: Exit::Failed,
        why: Some(why),
        is_failed: false,
    };
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let thread = std::thread::Builder::new()
        .name(format!("pipeline-{}", pipeline.lender))
        .spawn(move || {
            // Nobody waits any more only when the process is ending.
            let _ = ended.send(runtime.block_on(pipeline.run(incoming)));
        });
    if let Err(error) = thread {
        return failed(format!("starting a thread: {error}"));
    }
    end.await
        .unwrap_or_else(|_| failed("its thread ended without a word, which is a defect".to_owned()))
}

impl Process {
    /// Logs in; what may pass is tried again.
    async fn log_in(
        &self,
        lender: &str,
        metrics: &LenderMetrics,
        route: &Arc<Route>,
    ) -> Result<(Client, crate::upstream::Login), UpstreamError> {
        let config = &self.config.lenders[lender];
        let mut backoff = Backoff::default();
        loop {
            let result = Client::login(
                Arc::clone(&self.http),
                &self.config.upstream,
                lender,
                config,
                metrics.clone(),
                Arc::clone(route),
            )
            .await;
            let error = match result {
                Ok(logged_in) => return Ok(logged_in),
                Err(error) => error,
            };
            let retry_after = match policy::after_request(&error) {
                AfterRequest::Retry { retry_after } => retry_after,
                AfterRequest::Smaller | AfterRequest::PerhapsDeadCursor => None,
                AfterRequest::Fail | AfterRequest::Stop(_) => return Err(error),
            };
            metrics.retries_total.inc();
            let wait = backoff.next(retry_after);
            if backoff.is_worth_a_line() {
                let advice = policy::request_advice(&error);
                tracing::warn!(lender, ?wait, advice, "{}", policy::chain(&error));
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// A source that runs is not taken over for it: that one can do it by itself.
    async fn refuse_living(&self, lender: &str, public_id: &str, topics: &Topics) -> Result<(), Failure> {
        let records = cursor::read(&Cluster::new(&self.config), &topics.cursor.name).await?;
        let key = Starter::key(&self.config, lender, public_id);
        let advice = "stop it, or set upstream.reconcile_interval, with which it does this by itself";
        cursor::refuse_living(&self.config, &records, &key, advice)
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
