//! What do the lenders of a process share, and how is one of them started?

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::assignment::{Assignment, Lease, PastLease};
use crate::avro::Encoder;
use crate::backoff::Patience;
use crate::config::{Config, SecretSource, StandbyMode};
use crate::exit::{Diagnosis, Exit, Failure, ProcessError};
use crate::failpoint;
use crate::http::{Health, Standing};
use crate::in_flight::InFlight;
use crate::kafka::{self, partition_of};
use crate::login;
use crate::metrics::Metrics;
use crate::phase::Phase;
use crate::pipeline::{
    Among, Candidate, Frames, Left, Pipeline, Restorable, StartError, StopReason, ToStart, Wanted, key_of,
    refuse_living, say_unreadable,
};
use crate::policy::{self, AfterRequest};
use crate::progress::Timestamp;
use crate::reader::{self, Incoming, Reader, Until};
use crate::registry::Registry;
use crate::shutdown::{Shutdown, ShutdownSender};
use crate::sink::{CursorReaders, CursorRecords, SinkError, Topics, UsableTopic};
use crate::targets::{Target, Targets};
use crate::upstream::{Route, Transport, UpstreamError};
use crate::watchdog::Watchdog;

/// What the lenders of the process share.
pub(crate) struct Supervisor {
    pub(super) config: Config,
    pub(super) http: Arc<dyn Transport>,
    pub(super) checked: Vec<UsableTopic>,
    pub(super) registry: Option<Arc<Registry>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) in_flight: InFlight,
    pub(super) health: Arc<Health>,
    pub(super) watchdog: Arc<Watchdog>,
    pub(super) shutdown: Shutdown,
    pub(super) until: Until,
    /// With login, registry and upstream.
    pub(super) patience: Patience,
    pub(super) assignment: Assignment,
    /// Whether a member of the group is configured otherwise.
    pub(super) members_differ: watch::Sender<bool>,
    /// What is committed.
    pub(super) cursors: CursorReaders,
    pub(super) wanted: mpsc::UnboundedSender<Wanted>,
    /// How often the registry was found to have lost a schema that is written under.
    pub(super) schemas_lost: watch::Sender<u64>,
    /// How many lenders have not yet run or failed since they were last tried.
    pub(super) undecided: watch::Sender<usize>,
    /// Whether any lender ever ran.
    pub(super) any_ran: watch::Sender<bool>,
    /// `None`: an errand, which is one person's wish, whatever others want.
    pub(super) targets: Option<Arc<Targets>>,
}

/// A lender that can be run.
pub(super) struct Ready {
    pub lease: Lease,
    pub pipeline: Pipeline,
    pub incoming: Incoming,
    pub reading: AbortHandle,
}

impl Supervisor {
    /// Logs a lender in, waits until it is this process's, and has it started; `ending`: what asks it alone to end. Nothing is open
    /// of one that is not. `fenced_under`: the lease under which another process took it; `left`: what it held when this one ended.
    pub(super) async fn start(
        &self,
        lender: &str,
        route: &Arc<Route>,
        ending: (&ShutdownSender, Shutdown),
        fenced_under: &PastLease,
        left: Option<Left>,
    ) -> Result<Ready, StopReason> {
        let metrics = self.metrics.lender(lender);
        let logging_in = login::log_in(&self.http, &self.config, lender, &metrics, route, self.patience);
        let asked = &ending.1.clone();
        let (client, login) = unless(asked, logging_in).await?.map_err(|error| refused(&error))?;
        let topics = Topics::of(&self.checked, &self.config.kafka, lender);
        let (registry, strategy) = (self.registry.as_deref(), self.config.avro.subject_strategy);
        let frames = Frames::find(registry, strategy, lender, &topics, self.patience);
        let frames = unless(asked, frames).await?.map_err(|error| Failure::of(&error))?;
        if self.until.is_errand() {
            self.refuse_living(lender, &login.lender_public_id, &topics).await?;
        }
        let restorable = Restorable {
            lender: lender.to_owned(),
            public_id: login.lender_public_id.clone(),
            topics: topics.clone(),
            frames,
            metrics,
        };
        if self.assignment.is_shared() && self.config.group.standby == StandbyMode::Warm {
            self.want(Wanted::StandBy(restorable.clone(), left.map(Box::new)))?;
        }
        let (lease, pipeline) = self.claimed(&restorable, route.phase(), ending, fenced_under).await?;
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
        if let Some(targets) = &self.targets {
            // Nothing is read of one that may be paused.
            unless(asked, targets.known()).await?;
        }
        let (reader, incoming) = Reader::new(reader::ReaderSettings {
            client: Arc::new(client),
            encoder: Encoder::new(frames.account),
            rules: self.config.rules(),
            name: lender,
            lender: &login.lender_public_id,
            upstream: &self.config.upstream,
            until: self.until,
            target: self.target(lender),
            patience: self.patience,
            max_message: topics.largest_row(),
            max_record: topics.cursor.max_message,
            ends_length: topics.ends_length(),
            in_flight: &self.in_flight,
            committed: pipeline.committed(),
        });
        let start_from = self.config.lenders[lender].start_from.map(Timestamp::from);
        let reading = tokio::spawn(reader.run(login.clock, start_from)).abort_handle();
        Ok(Ready {
            lease,
            pipeline,
            incoming,
            reading,
        })
    }

    /// Has the lender claimed and restored, with those that are ready at the same time, once it is this process's to run and nobody
    /// outside of the group runs it.
    async fn claimed(
        &self,
        restorable: &Restorable,
        phase: Phase,
        (ending, shutdown): (&ShutdownSender, Shutdown),
        fenced_under: &PastLease,
    ) -> Result<(Lease, Pipeline), StopReason> {
        /// How often it is looked whether somebody else still runs it.
        const LOOK: Duration = Duration::from_secs(5);
        let lender = &*restorable.lender;
        let mut is_said = false;
        loop {
            let lease = self.lease(restorable, &shutdown).await?;
            let is_adopted = lease.is_adopted();
            let candidate = Candidate {
                lender: restorable.clone(),
                pulse: self.watchdog.watch(format!("the pipeline of {lender}")),
                shutdown: shutdown.clone(),
                phase,
                // Who fenced this process by the group's word is given its time: the news of it may be on its way.
                waits_for: self
                    .assignment
                    .is_shared()
                    .then(|| match is_adopted || fenced_under.is_still(&lease) {
                        true => Among::All,
                        false => Among::Outsiders,
                    }),
            };
            let mut started = pin!(self.started(candidate));
            let started = tokio::select! {
                started = &mut started => started?,
                () = lease.revoked() => {
                    // It may be claimed by now: then it is released.
                    ending.request();
                    started.await?
                }
            };
            let age = match started {
                Ok(pipeline) => {
                    if is_adopted {
                        tracing::warn!(
                            lender,
                            "nobody ran it, and its partition is another member's, which may not be configured with it: it is run here \
                             until the group says otherwise, or that one takes it"
                        );
                    }
                    return Ok((lease, pipeline));
                }
                Err(LivesOutside(age)) => age,
            };
            self.health.set(lender, Standing::Standby);
            if is_adopted {
                continue;
            }
            if !std::mem::replace(&mut is_said, true) {
                let age = humantime::format_duration(age);
                tracing::warn!(
                    lender,
                    "another process runs it, which the group knows nothing of: its cursor record is {age} old and not released. It \
                     is taken over once that is released, or silent for three heartbeats"
                );
            }
            unless(&shutdown, async {
                tokio::select! {
                    () = lease.revoked() => {}
                    () = tokio::time::sleep(LOOK) => {}
                }
            })
            .await?;
        }
    }

    /// Waits until the lender is this process's to run.
    async fn lease(&self, lender: &Restorable, asked: &Shutdown) -> Result<Lease, StopReason> {
        if !self.assignment.is_shared() {
            return Ok(Lease::Always);
        }
        let (topic, key) = (
            &lender.topics.cursor,
            key_of(&self.config, &lender.lender, &lender.public_id),
        );
        let partition = partition_of(key.to_json().as_bytes(), topic.partition_count);
        self.health.set(&lender.lender, Standing::Standby);
        let mut schemas_lost = self.schemas_lost.subscribe();
        let place = (topic.name.clone(), partition);
        let lease = unless(asked, async {
            tokio::select! {
                lease = self.assignment.lease(&place) => Some(lease),
                () = self.nobody_may_run_it() => Some(self.assignment.adopted(&place)),
                // What it would write under was found when it began to stand by: it begins anew.
                Ok(()) = schemas_lost.changed() => None,
            }
        });
        let lease = lease.await?.ok_or_else(StopReason::as_asked)?;
        self.health.set(&lender.lender, Standing::Starting);
        Ok(lease)
    }

    /// Returns after a while, while some member is configured otherwise: what a process has and that one lacks would be run by nobody.
    async fn nobody_may_run_it(&self) {
        /// Also how long whoever has it may take to start it before this one tries.
        const WAIT: Duration = Duration::from_secs(60);
        loop {
            let wait = failpoint::shortened("D02_TEST_ADOPTION", WAIT);
            tokio::time::sleep(wait.mul_f64(1.0 + 0.2 * fastrand::f64())).await;
            if *self.members_differ.borrow() {
                return;
            }
        }
    }

    /// What is wanted of a lender.
    pub(super) fn target(&self, lender: &str) -> watch::Receiver<Target> {
        match &self.targets {
            Some(targets) => targets.of(lender),
            None => watch::Sender::default().subscribe(),
        }
    }

    async fn started(&self, candidate: Candidate) -> Result<Result<Pipeline, LivesOutside>, StopReason> {
        let (started, pipeline) = oneshot::channel();
        self.want(Wanted::Start(ToStart { candidate, started }))?;
        match pipeline.await {
            Ok(Ok(pipeline)) => Ok(Ok(pipeline)),
            Ok(Err(StartError::LivesOutside { age })) => Ok(Err(LivesOutside(age))),
            // Interrupted.
            Ok(Err(error)) if error.exit() == Exit::Done => Err(StopReason::as_asked()),
            Err(_) if self.shutdown.is_requested() => Err(StopReason::as_asked()),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(starts_ended()),
        }
    }

    fn want(&self, wanted: Wanted) -> Result<(), StopReason> {
        self.wanted.send(wanted).map_err(|_| starts_ended())
    }

    /// What is committed by now.
    async fn records(&self, topics: &Topics) -> Result<Arc<CursorRecords>, SinkError> {
        let cursors = self.cursors.of(&topics.cursor.name);
        kafka::uninterrupted(move |shutdown| cursors.ask(&shutdown, &mut || {})).await
    }

    /// A source that runs is not taken over for it: that one can do it by itself.
    async fn refuse_living(&self, lender: &str, public_id: &str, topics: &Topics) -> Result<(), Failure> {
        let records = self.records(topics).await?;
        let key = key_of(&self.config, lender, public_id);
        let advice = "stop it, or set upstream.reconcile_interval, with which it does this by itself";
        Ok(refuse_living(&self.config, &records, &key, advice)?)
    }

    pub(super) fn decided(&self, is_first: &mut bool) {
        if std::mem::take(is_first) {
            self.undecided.send_modify(|count| *count -= 1);
        }
    }

    /// Returns once every lender has failed without any having run; never, if one ran.
    pub(super) async fn no_lender_ran(&self) {
        let mut undecided = self.undecided.subscribe();
        // The sender is in `self`.
        let _ = undecided.wait_for(|count| *count == 0).await;
        if *self.any_ran.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for `wait`, or until the file is another than the one of `modified`; `true` if the process is to end.
    pub(super) async fn wait_for_mended_credentials(
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

/// A process that the group knows nothing of runs the lender: its last commit is so old.
struct LivesOutside(Duration);

/// What `work` gives, unless it is asked to end first: nothing is open yet that would have to be ended.
async fn unless<T>(asked: &Shutdown, work: impl Future<Output = T>) -> Result<T, StopReason> {
    let mut asked = asked.clone();
    tokio::select! {
        biased;
        () = asked.requested() => Err(StopReason::as_asked()),
        done = work => Ok(done),
    }
}

fn starts_ended() -> StopReason {
    let what = "the start of lenders has ended";
    ProcessError::Defect { what }.into()
}

/// Upstream refused.
fn refused(error: &UpstreamError) -> StopReason {
    StopReason {
        failure: Some(Failure::of(error)),
        is_failed: policy::after_request(error) == AfterRequest::Fail,
    }
}
