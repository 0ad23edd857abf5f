//! What is there before any lender runs, and how does a process end?

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use super::lender::supervise;
use super::shared::Supervisor;
use crate::assignment::{Assignment, Granted};
use crate::backoff::{Backoff, Patience};
use crate::config::{Config, Effective, Encoding, GroupMode, StandbyMode};
use crate::connect::Connectors;
use crate::exit::{Diagnosis, Exit, Failure, ProcessError, chain};
use crate::http::{Api, Health, Server, Site};
use crate::in_flight::InFlight;
use crate::kafka::{Cluster, Membership, blocking};
use crate::login;
use crate::members::{client_id, refuse_strangers, watch_members};
use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::pipeline::{Claimant, Republish, Starter, start_in_groups};
use crate::policy::{self, AfterSink, DENIED_WAIT, Denials};
use crate::progress_bar;
use crate::reader::Until;
use crate::registry::{Registry, watch_ids};
use crate::shutdown::{self, Shutdown};
use crate::sink::{CursorReaders, Role, TopicError, UsableTopic, ready_topics, watch_topics};
use crate::targets::Targets;
use crate::watchdog::{self, Watchdog};

/// How often a living process says what it did.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What a process is started for.
#[derive(Debug, Clone)]
pub(crate) struct Errand {
    pub until: Until,
    /// With login, registry and upstream.
    pub patience: Patience,
    /// What is written once more as it is held, where that is the errand.
    pub republish: Option<Republish>,
    /// The settings as they are shown, where anybody can ask for them.
    pub shown: Vec<Effective>,
}

/// The membership, once there is one, and what joins and then ends with why there can be none.
type Joined = (
    Arc<Mutex<Option<Membership>>>,
    Pin<Box<dyn Future<Output = Failure> + Send>>,
);

/// What lenders are run with.
struct Prepared {
    supervisor: Arc<Supervisor>,
    group: Option<Joined>,
}

impl Supervisor {
    /// Runs all lenders of the configuration, until each has ended or the process is asked to end.
    ///
    /// # Errors
    /// When nothing can be run: the port is taken, the topics cannot be used.
    pub(crate) async fn run(errand: Errand, config: Config, metrics: Arc<Metrics>) -> Result<Exit, Failure> {
        let (sender, asked) = shutdown::channel();
        shutdown::listen_for_signals(sender)?;
        let (ending, shutdown) = asked.child();
        let lenders: Vec<String> = config.lenders.keys().cloned().collect();
        // How each that ended did, also if the others are left behind.
        let exits = Mutex::<Vec<Exit>>::default();
        let work = async {
            let mut watchers = JoinSet::new();
            let prepared = Self::prepare(errand, config, Arc::clone(&metrics), shutdown.clone(), &mut watchers);
            let Some(Prepared { supervisor, group }) = prepared.await? else {
                return Ok(());
            };
            let (mut running, origin) = (JoinSet::new(), tokio::time::Instant::now());
            for (place, lender) in lenders.iter().enumerate() {
                let phase = Phase::of(origin, place, lenders.len());
                running.spawn(supervise(Arc::clone(&supervisor), lender.clone(), phase));
            }
            let all = async {
                while let Some(ended) = running.join_next().await {
                    match ended {
                        Ok(exit) => exits.lock().unwrap_or_else(PoisonError::into_inner).push(exit),
                        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
                    }
                }
            };
            if let Some((membership, following)) = group {
                let mut all = pin!(all);
                let failure = tokio::select! {
                    () = &mut all => None,
                    failed = following => {
                        ending.request();
                        all.await;
                        Some(failed)
                    }
                };
                // What it had is given up by now.
                let membership = membership.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(membership) = membership {
                    blocking(|| membership.leave()).await;
                }
                failure.map_or(Ok(()), Err)?;
            } else {
                all.await;
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
    ) -> Result<Option<Prepared>, Failure> {
        let stale_after = config.http.stale_after;
        let is_shared = config.group.mode == GroupMode::Shared && errand.until == Until::Asked;
        let stands_by_warm = is_shared && config.group.standby == StandbyMode::Warm;
        let health = Health::new(config.lenders.keys(), stale_after, stands_by_warm, Arc::clone(&metrics));
        let health = Arc::new(health);
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
        let api = Arc::<OnceLock<Arc<dyn Api>>>::default();
        let mut worker = None;
        // The port first: one that is taken is known before anything else is touched. A person's errand is over soon.
        if !errand.until.is_errand()
            && let Some(server) = Server::bind(&config.http).await?
        {
            worker = Some(server.address().to_string());
            let site = Site {
                api: Arc::clone(&api),
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
        let budget = config.in_flight();
        let in_flight = InFlight::new(budget, config.lenders.len(), metrics.in_flight_bytes.clone());
        metrics.in_flight_limit_bytes.set(in_flight.limit(config.lenders.len()));
        let (wanted, to_do) = mpsc::unbounded_channel();
        // Told once what was to stand by first was read.
        let (was_read, held_first) = oneshot::channel();
        let lenders: Vec<String> = config.lenders.keys().cloned().collect();
        let instance = instance_id();
        let differ = watch::Sender::new(false);
        let (assignment, group) = if is_shared {
            let (client_id, group) = (client_id(&config, &instance), config.group_id().to_owned());
            refuse_strangers(&cluster, &group).await?;
            let (given, joined) = join(&cluster, &config, &client_id, &checked, &denials, &metrics, held_first);
            watchers.spawn(watch_members(cluster.clone(), group, client_id, differ.clone()));
            (Assignment::ByGroup(given), Some(joined))
        } else {
            (Assignment::All, None)
        };
        tracing::info!(
            instance,
            lenders = lenders.len(),
            version = env!("CARGO_PKG_VERSION"),
            "starting"
        );
        let cursors = CursorReaders::new(cluster.clone());
        let starter = Starter {
            cluster: cluster.clone(),
            cursors: cursors.clone(),
            config: config.clone(),
            claimant: Claimant {
                instance,
                group: is_shared.then(|| config.group_id().to_owned()),
            },
            registry: registry.clone(),
            runtime: Handle::current(),
            shutdown: shutdown.clone(),
            republish: errand.republish,
            denials: denials.anew(),
        };
        tokio::spawn(start_in_groups(Arc::new(starter), to_do, was_read, lenders.len()));
        for lender in &lenders {
            watchers.spawn(progress_bar::follow(lender.clone(), metrics.lender(lender)));
        }
        watchers.spawn(report(Arc::clone(&metrics), lenders.clone()));
        let schemas_lost = watch::Sender::default();
        if let Some(registry) = &registry {
            watchers.spawn(watch_ids(Arc::clone(registry), schemas_lost.clone()));
        }
        watchers.spawn(watch_topics(
            Cluster::new(&config),
            config.clone(),
            Arc::clone(&metrics),
        ));
        let targets = (!errand.until.is_errand()).then(|| {
            let is_batch = errand.until == Until::CaughtUp;
            Arc::new(Targets::new(
                cluster.clone(),
                &config,
                Arc::clone(&metrics),
                shutdown.clone(),
                is_batch,
            ))
        });
        if let Some(targets) = &targets {
            watchers.spawn(Arc::clone(targets).follow());
            if let Some(worker) = worker {
                let (health, targets) = (Arc::clone(&health), Arc::clone(targets));
                let connectors = Connectors::new(&config, &errand.shown, cluster.clone(), health, targets, worker);
                // Once.
                let _ = api.set(Arc::new(connectors));
            }
        }
        let supervisor = Arc::new(Self {
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
            wanted,
            cursors,
            schemas_lost,
            undecided: watch::Sender::new(lenders.len()),
            assignment,
            members_differ: differ,
            any_ran: watch::Sender::new(false),
            targets,
        });
        Ok(Some(Prepared { supervisor, group }))
    }
}

/// Joins the group, once what stands by was read: so what it is given at once is taken over warm, and a process that can log in to no
/// lender is given none. Gives what the group gives, the membership, and why there can be none, once that is sure.
fn join(
    cluster: &Cluster,
    config: &Config,
    client_id: &str,
    checked: &[UsableTopic],
    denials: &Denials,
    metrics: &Arc<Metrics>,
    held_first: oneshot::Receiver<()>,
) -> (Arc<Granted>, Joined) {
    let cursors = checked.iter().filter(|topic| topic.role == Role::Cursor);
    let topics: BTreeSet<String> = cursors.map(|topic| topic.name.clone()).collect();
    let (given, membership) = (Arc::<Granted>::default(), Arc::<Mutex<Option<Membership>>>::default());
    let following = {
        let (given, joined, group) = (
            Arc::clone(&given),
            Arc::clone(&membership),
            config.group_id().to_owned(),
        );
        let (denials, metrics) = (denials.anew(), Arc::clone(metrics));
        let (cluster, settings, client_id) = (cluster.clone(), config.group.clone(), client_id.to_owned());
        async move {
            if settings.standby == StandbyMode::Warm && held_first.await.is_err() {
                // Nothing starts any more, which whoever waits for that says.
                return std::future::pending().await;
            }
            let (events, told) = mpsc::unbounded_channel();
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            match Membership::join(&cluster, &settings, &client_id, &topics, events) {
                Ok(membership) => *joined.lock().unwrap_or_else(PoisonError::into_inner) = Some(membership),
                Err(failure) => return failure,
            }
            tracing::info!(group, "sharing the lenders out with the members of the group");
            metrics.show_member(&group);
            Failure::from(given.follow(&group, told, &denials, &metrics).await)
        }
    };
    (given, (membership, Box::pin(following)))
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

/// The host's name and 128 random bits in hex: no two processes share it, and a person sees where it runs.
pub(crate) fn instance_id() -> String {
    /// As long as a DNS label may be.
    const LENGTH: usize = 63;
    // One that cannot be read says nothing.
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let is_plain = |letter: &char| letter.is_ascii_alphanumeric() || "-._".contains(*letter);
    let host: String = host.trim().chars().filter(is_plain).take(LENGTH).collect();
    let mut bytes = [0; 16];
    openssl::rand::rand_bytes(&mut bytes).expect("the system has randomness");
    let random: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{host}:{random}")
}
