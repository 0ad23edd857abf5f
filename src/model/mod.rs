//! Do the five promises hold, whatever happens in whatever order? The real reader, index, progress and loop, against the
//! simulator and a broker in memory, on one thread and in a time of their own: everything follows from the seed.
//!
//! ```text
//! events, faults ─► simulator ◄─ Transport ─ Client ─ Reader ─► Pipeline ─ Sink ─► broker ─► promises
//!                                                 crashes, lost answers, take-overs ─┘
//! ```
//!
//! A seed that failed is printed; `D02_MODEL_SEED=<seed> cargo test --lib model -- --nocapture` replays it alone.
//! `D02_MODEL_SECONDS` is how long seeds are tried.

mod broker;
mod upstream;

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::DateTime;
use fastrand::Rng;
use prometheus_client::metrics::gauge::Gauge;
use secrecy::SecretString;
use serde_json::value::RawValue;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::account::{AmountTolerance, Digest, Rules, Scratch, read_row};
use crate::avro::{Encoder, Frame, WriterSchema};
use crate::backoff::Patience;
use crate::clock;
use crate::config::{self, SecretSource};
use crate::exit::{Diagnosis, Exit};
use crate::failpoint::{self, Rule};
use crate::in_flight::InFlight;
use crate::index::Restored;
use crate::metrics::LenderMetrics;
use crate::phase::Phase;
use crate::pipeline::{ChangeRecorder, Claim, Claimant, Left, LenderSettings, StartError, StopReason, claim_of};
use crate::policy::Denials;
use crate::progress::Timestamp;
use crate::reader::{Reader, ReaderSettings, Until};
use crate::shutdown::{self, Shutdown, ShutdownSender};
use crate::simulator::{LenderOptions, Options, Simulator};
use crate::sink::Sink;
use crate::upstream::{Client, Route};
use broker::{Broker, Crashes, topics};
use upstream::{EVENTS, Event, InProcess, World};

/// 2026-06-01T00:00:00Z: upstream's clock when a play begins.
const BEGIN_MS: i64 = 1_780_272_000_000;

/// What must hold: the five promises (docs/delivery.md), and what the model looks at besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Promise {
    Complete,
    Once,
    InOrder,
    Atomic,
    OneWriter,
    /// A process ends only as it should, and gets to its end.
    Alive,
    /// Nothing is deleted that upstream shows.
    Gone,
    /// `changes` says what differs.
    Trail,
}

/// A promise that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Violation {
    promise: Promise,
    what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.what)
    }
}

/// What one play did, so that a model that does nothing shows.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Played {
    commits: u64,
    /// Processes that were started; all but the last were killed, crashed, or lost the lender.
    processes: u64,
    crashes: u64,
    fenced: u64,
    /// Transactions of which Kafka did not take all in time.
    slow: u64,
    requests: u64,
    faults: u64,
    accounts: u64,
    changes: u64,
    dead_letters: u64,
    sweeps: u64,
    fresh_walks: u64,
    reconciles: u64,
    deleted: u64,
    put_back: u64,
    /// Starts with what the process held already.
    warm: u64,
}

impl Played {
    fn add(&mut self, other: &Self) {
        self.commits += other.commits;
        self.crashes += other.crashes;
        self.processes += other.processes;
        self.fenced += other.fenced;
        self.slow += other.slow;
        self.requests += other.requests;
        self.faults += other.faults;
        self.accounts += other.accounts;
        self.changes += other.changes;
        self.dead_letters += other.dead_letters;
        self.sweeps += other.sweeps;
        self.fresh_walks += other.fresh_walks;
        self.reconciles += other.reconciles;
        self.deleted += other.deleted;
        self.put_back += other.put_back;
        self.warm += other.warm;
    }
}

/// What is drawn once for a play.
struct Scenario {
    upstream: config::Upstream,
    transaction: config::Transaction,
    lender: config::Lender,
    errors: config::Errors,
    start_from: Option<Timestamp>,
    metrics: LenderMetrics,
    /// What the cursor topic takes.
    max_record: usize,
    in_flight: InFlight,
}

/// What a process of the group holds of the topic, while it runs the lender and while another one does.
struct Image {
    restored: Restored,
    /// What stands before this is in it.
    known: usize,
}

impl Image {
    fn of(public_id: &str) -> Self {
        Self {
            restored: Restored::new([(public_id.to_owned(), 0)], 0),
            known: 0,
        }
    }

    fn read_on(&mut self, broker: &Broker, public_id: &str) {
        self.known = broker.restore(&mut self.restored, public_id, self.known);
    }
}

/// A process of the group, as far as it lives on when another one runs the lender. Clones are the same.
#[derive(Clone, Default)]
struct Member(Arc<Mutex<Option<Image>>>);

impl Member {
    fn image(&self) -> MutexGuard<'_, Option<Image>> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }

    /// Reads on what is held, as it does while it stands by.
    fn follow(&self, broker: &Broker, public_id: &str) {
        let mut image = self.image();
        image
            .get_or_insert_with(|| Image::of(public_id))
            .read_on(broker, public_id);
    }

    /// Takes back what the lender held when it was released: others may have written behind where it was taken out.
    fn take_back(&self, public_id: &str, left: Option<Left>, taken_at: usize) {
        let mut guard = self.image();
        let Some(image) = guard.as_mut() else { return };
        let is_back = match left {
            Some(left) if image.restored.account_count(public_id).is_none() => {
                if !failpoint::is_broken(Rule::TakenBackWhereItWas) {
                    image.known = taken_at;
                }
                image.restored.take_back(public_id.to_owned(), left.index)
            }
            // Lost, or not known to be released: it is restored anew.
            Some(_) | None => false,
        };
        if !is_back {
            *guard = None;
        }
    }
}

/// One process of the source, for one lender.
struct Process {
    member: Member,
    /// It is asked to end by this.
    ending: Arc<ShutdownSender>,
    shutdown: Shutdown,
    simulator: crate::simulator::Handle,
    broker: Broker,
    scenario: Arc<Scenario>,
    number: u64,
    until: Until,
    /// Among the lenders of a configuration, of eight.
    place: usize,
}

impl Process {
    fn new(
        simulator: crate::simulator::Handle,
        broker: &Broker,
        scenario: &Arc<Scenario>,
        number: u64,
        until: Until,
    ) -> Self {
        let (sender, shutdown) = shutdown::channel();
        Self {
            member: Member::default(),
            ending: Arc::new(sender),
            shutdown,
            simulator,
            broker: broker.clone(),
            scenario: Arc::clone(scenario),
            number,
            until,
            place: 0,
        }
    }

    fn start(self) -> JoinHandle<Option<StopReason>> {
        tokio::spawn(self.run())
    }

    /// As `member`; what is given beside it asks it to end.
    fn start_of(self, member: &Member) -> (JoinHandle<Option<StopReason>>, Arc<ShutdownSender>) {
        let (ending, member) = (Arc::clone(&self.ending), member.clone());
        (Self { member, ..self }.start(), ending)
    }

    async fn log_in(&self) -> (Client, crate::upstream::Login) {
        let phase = Phase::of(Instant::now(), self.place, 8);
        let route = Arc::new(Route::new("lender-1", &self.scenario.upstream, phase));
        loop {
            let transport = Arc::new(InProcess {
                simulator: self.simulator.clone(),
                timeout: self.scenario.upstream.request_timeout,
            });
            let (upstream, metrics) = (&self.scenario.upstream, self.scenario.metrics.clone());
            let (lender, route) = (&self.scenario.lender, Arc::clone(&route));
            match Client::login(transport, upstream, "lender-1", lender, metrics, route).await {
                Ok(logged_in) => return logged_in,
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }

    /// `None`: it crashed.
    async fn run(self) -> Option<StopReason> {
        let (client, login) = self.log_in().await;
        // Restored while others still write, unless it is held, then fenced and read on.
        let public_id = &login.lender_public_id;
        let held = self
            .member
            .image()
            .take()
            .filter(|image| image.restored.account_count(public_id).is_some());
        let was_held = held.is_some();
        let mut image = held.unwrap_or_else(|| Image::of(public_id));
        image.read_on(&self.broker, public_id);
        sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        let producer = self.broker.producer(topics());
        let is_dead = producer.is_dead();
        if !failpoint::is_broken(Rule::ReadOnWhenFenced) {
            image.read_on(&self.broker, public_id);
        }
        let claimant = Claimant::alone(format!("process-{}", self.number));
        let committed = producer.committed().expect("it has not crashed yet");
        let base_url = self.scenario.upstream.base_url.to_string();
        let record =
            claim_of(committed, &claimant, base_url, "accounts=6,changes=6".to_owned()).expect("the same source");
        if was_held && record.accounts.is_none() {
            // Nothing tells whether it is right.
            image = Image::of(public_id);
            image.read_on(&self.broker, public_id);
        }
        let settings = LenderSettings {
            lender: "lender-1",
            public_id,
            changes: Some(ChangeRecorder::new(Frame::Confluent { schema_id: 2 }, true)),
            errors: &self.scenario.errors,
            transaction: &self.scenario.transaction,
            late_window: self.scenario.upstream.late_window,
            poll_interval: self.scenario.upstream.poll_interval,
            start_from: self.scenario.start_from,
            schema: WriterSchema::Unknown,
            republish: None,
            metrics: self.scenario.metrics.clone(),
            pulse: crate::watchdog::Pulse::default(),
            shutdown: self.shutdown.clone(),
            phase: client.phase(),
        };
        let (held, dead_letters) = (image.restored.lender(public_id), self.broker.dead_letters());
        let taken_at = image.known;
        let claim = match Claim::new(producer, record, held, dead_letters, settings) {
            Ok(claim) => claim,
            Err(error) => {
                self.broker.violate(Promise::Atomic, error.to_string());
                return None;
            }
        };
        let pipeline = match claim.commit(&Denials::said_at_once()) {
            Ok(pipeline) => pipeline,
            Err(error) => {
                let error = StartError::from(error);
                // Uncertain again and again is Failed: its supervisor starts it again.
                if !is_dead.load(Ordering::SeqCst) && !matches!(error.exit(), Exit::TakenOver | Exit::Failed) {
                    self.broker.violate(Promise::Alive, format!("claiming: {error}"));
                }
                return None;
            }
        };
        if was_held {
            self.broker.note_warm();
        }
        *self.member.image() = Some(image);
        let (reader, inbox) = Reader::new(ReaderSettings {
            target: watch::Sender::default().subscribe(),
            client: Arc::new(client),
            encoder: Encoder::new(Frame::Confluent { schema_id: 1 }),
            rules: Rules::default(),
            name: "lender-1",
            lender: &login.lender_public_id,
            upstream: &self.scenario.upstream,
            until: self.until,
            patience: Patience::Endless,
            max_message: 1 << 20,
            max_record: self.scenario.max_record,
            ends_length: 0,
            in_flight: &self.scenario.in_flight,
            committed: pipeline.committed(),
        });
        let mut reading = JoinSet::new();
        reading.spawn(reader.run(login.clock, self.scenario.start_from));
        let (stopped, left, _) = pipeline.run(inbox).await;
        if is_dead.load(Ordering::SeqCst) {
            *self.member.image() = None;
            return None;
        }
        // Whoever takes it back may be busy with another lender.
        sleep(Duration::from_millis(fastrand::u64(0..3_000))).await;
        self.member.take_back(public_id, left, taken_at);
        // Tokens that are refused again and again make a lender fail, which is tried again.
        if !matches!(stopped.exit(), Exit::Done | Exit::TakenOver) && !stopped.is_failed {
            self.broker
                .violate(Promise::Alive, format!("a process ended: {:?}", stopped.failure));
        }
        Some(stopped)
    }
}

/// One play: everything follows from `seed`.
#[derive(Debug, Clone, Copy)]
struct Play {
    seed: u64,
    crashes: Option<Crashes>,
    /// Rows, changes and crashes, but nothing wrong upstream and one process at a time.
    is_plain: bool,
    /// Says what it does.
    is_told: bool,
}

impl Play {
    fn of(seed: u64) -> Self {
        Self {
            seed,
            crashes: None,
            is_plain: false,
            is_told: false,
        }
    }

    fn run(self) -> (Played, Option<Violation>) {
        // Jitter and ids come from the thread's generator.
        fastrand::seed(self.seed);
        paused_runtime().block_on(self.play())
    }

    fn scenario(rng: &mut Rng, base_url: &str, info: &crate::simulator::LenderInfo, now_ms: i64) -> Scenario {
        let millis = |rng: &mut Rng, choices: &[u64]| Duration::from_millis(choices[rng.usize(..choices.len())]);
        let start_from = (rng.u8(..6) == 0).then(|| now_ms - rng.i64(0..20_000));
        let upstream = config::Upstream {
            base_url: base_url.parse().expect("a URL"),
            page_size: [1, 2, 3, 7, 40][rng.usize(..5)],
            poll_interval: millis(rng, &[20, 100, 500]),
            request_timeout: Duration::from_secs(5),
            max_body: 1 << 20,
            late_window: millis(rng, &[300, 1_000, 4_000]),
            late_sweep_interval: millis(rng, &[100, 500, 3_000]),
            backlog: millis(rng, &[50, 1_000, 300_000]),
            snapshot_parallelism: [1, 2, 4][rng.usize(..3)],
            max_requests_per_second: [None, None, Some(20.0)][rng.usize(..3)],
            ca_file: None,
            proxy: None,
            reconcile_interval: (rng.u8(..6) == 0).then(|| millis(rng, &[500, 3_000, 20_000])),
            reconcile_max_deletes: 1.0,
        };
        let transaction = config::Transaction {
            max_rows: [1, 3, 10, 100][rng.usize(..4)],
            max_delay: millis(rng, &[1, 50, 500]),
            heartbeat_interval: millis(rng, &[500, 5_000]),
        };
        let lender = config::Lender {
            email: info.email.clone(),
            password: SecretSource::Inline(SecretString::from(info.password.clone())),
            subdomain: info.subdomain.clone(),
            public_id: None,
            start_from: None,
        };
        Scenario {
            upstream,
            transaction,
            lender,
            errors: config::Errors {
                tolerance: config::Tolerance::All,
                bad_field: config::BadField::Null,
                amount_tolerance: AmountTolerance::default(),
                max_dead_letters_per_hour: None,
            },
            start_from: start_from.map(Timestamp),
            metrics: LenderMetrics::default(),
            in_flight: InFlight::new([1, 100_000, 256 << 20][rng.usize(..3)], 2, Gauge::default()),
            max_record: [2_500, 5_000, 1 << 20][rng.usize(..3)],
        }
    }

    async fn play(self) -> (Played, Option<Violation>) {
        let mut rng = Rng::with_seed(self.seed);
        let begin_ms = BEGIN_MS + rng.i64(0..1_000);
        let token_lifetime = Duration::from_secs([3, 60, 3_600][rng.usize(..3)]);
        let simulator = empty_simulator(begin_ms, token_lifetime).await;
        let scenario = Self::scenario(&mut rng, "http://127.0.0.1", &simulator.lender(0), begin_ms);
        let scenario = Arc::new(scenario);
        let mut world = World::new(simulator.handle(), rng.fork(), scenario.upstream.late_window);
        let span = Duration::from_millis([1, 5_000, 60_000][rng.usize(..3)]);
        world.fill([0, 5, 30, 80][rng.usize(..4)], span);
        simulator.set_latency(Duration::from_millis(rng.u64(..200)));
        let crashes = self.crashes.unwrap_or(Crashes::OneIn(rng.u32(3..40)));
        let broker = Broker::new(rng.fork(), crashes);
        broker.watch(simulator.handle());

        let mut played = Played::default();
        // What went back in time, or changed and kept its time, is found by reading everything once more only.
        let hides = !self.is_plain && rng.u8(..3) == 0;
        let events: Vec<Event> = EVENTS
            .into_iter()
            .filter(|event| !self.is_plain || is_plain(*event))
            .filter(|event| hides || !matches!(event, Event::Back | Event::Silent))
            .flat_map(|event| vec![event; [0, 0, 1, 4][rng.usize(..4)]])
            .collect();
        let pace = rng.u64(10..800);
        let event_count = rng.u32(5..60);
        let mut process = |until, member: &Member| {
            played.processes += 1;
            let process = Process::new(simulator.handle(), &broker, &scenario, played.processes, until);
            let place = usize::try_from(played.processes).unwrap_or_default() % 8;
            Process { place, ..process }.start_of(member)
        };
        let (mut first, mut second) = (Member::default(), Member::default());
        let public_id = simulator.lender(0).public_id;
        let (mut running, mut ending) = process(Until::Asked, &first);
        for _ in 0..event_count {
            // The one that stands by.
            if rng.bool() {
                second.follow(&broker, &public_id);
            }
            sleep(Duration::from_millis(rng.u64(..pace))).await;
            if !events.is_empty() {
                world.happen(events[rng.usize(..events.len())]).await;
            }
            match rng.u8(..20) {
                // Killed between two commits; for a while nobody runs.
                0 if !self.is_plain => {
                    running.abort();
                    first = Member::default();
                    sleep(Duration::from_millis(rng.u64(..3 * 4_000))).await;
                    (running, ending) = process(Until::Asked, &first);
                }
                // The second process takes over; the first one finds out.
                1 if !self.is_plain => {
                    std::mem::swap(&mut first, &mut second);
                    (running, ending) = process(Until::Asked, &first);
                }
                // The first one is asked to release it, and given some time for that.
                3 | 4 if !self.is_plain => {
                    ending.request();
                    sleep(Duration::from_millis(rng.u64(..1_000))).await;
                    std::mem::swap(&mut first, &mut second);
                    (running, ending) = process(Until::Asked, &first);
                }
                // A quota; or it is lifted.
                2 if !self.is_plain => broker.take([0, 3, 20, usize::MAX][rng.usize(..4)]),
                _ => {}
            }
            // What crashed is started again.
            if running.is_finished() {
                sleep(Duration::from_millis(rng.u64(..500))).await;
                (running, ending) = process(Until::Asked, &first);
            }
        }
        world.mend();
        broker.calm();
        world.settle().await;
        if rng.bool() {
            running.abort();
        }
        // To the end of what is read anyway, and then to that of everything.
        // Only a person can tell what went back in time from an old copy.
        let reconciled = Until::Reconciled { is_backup: hides };
        for until in [Until::CaughtUp, reconciled] {
            let ended = async {
                loop {
                    match process(until, &Member::default()).0.await.transpose() {
                        // Crashed, or lost to one that was just starting.
                        None => {}
                        Some(Ok(stopped)) if stopped.exit() == Exit::TakenOver => {}
                        Some(ended) => break ended,
                    }
                }
            };
            match timeout(Duration::from_secs(24 * 3600), ended).await {
                Ok(Ok(stopped)) if stopped.exit() == Exit::Done => {}
                Ok(Ok(stopped)) => broker.violate(Promise::Alive, format!("not {until:?}: {stopped:?}")),
                Ok(Err(panicked)) => broker.violate(Promise::Alive, format!("a process panicked: {panicked}")),
                Err(_) => broker.violate(Promise::Alive, format!("not {until:?} after a day")),
            }
            if until == reconciled || !hides {
                complete(&simulator, &broker, &scenario);
            }
        }
        nothing_more(&simulator, &broker);
        let metrics = &scenario.metrics;
        let counts = simulator.counts();
        let played = Played {
            commits: broker.commit_count(),
            crashes: broker.crash_count(),
            fenced: broker.fence_count(),
            slow: broker.slow_count(),
            requests: counts.request_count,
            faults: counts.fault_count,
            accounts: metrics.records_total.get(),
            changes: broker.change_count(),
            dead_letters: metrics.dead_letters_total.get(),
            sweeps: metrics.sweeps_total.get(),
            fresh_walks: metrics.fresh_walks_total.get(),
            reconciles: metrics.reconciles_total.get(),
            deleted: metrics.deleted_accounts_total.get(),
            put_back: metrics.put_back_total.get(),
            warm: broker.warm_count(),
            ..played
        };
        if self.is_told {
            for asked in simulator.requests() {
                println!("{} {:?} {}", Timestamp(asked.at_ms), asked.status, asked.query);
            }
        }
        (played, broker.violation())
    }
}

/// A simulator without rows whose clock begins at `begin_ms`.
async fn empty_simulator(begin_ms: i64, token_lifetime: Duration) -> Simulator {
    let lender = LenderOptions {
        rows: 0,
        ..LenderOptions::numbered(1)
    };
    let options = Options {
        lenders: vec![lender],
        token_lifetime,
        ..Options::default()
    };
    let simulator = Simulator::start(options).await.expect("a simulator");
    simulator.set_clock_skew(begin_ms - simulator.now_ms());
    // Whoever reads has the right time, whatever upstream's `Date` says.
    let begin = DateTime::from_timestamp_millis(begin_ms).expect("a time of these years");
    clock::MODEL.set(Some((begin, Instant::now())));
    simulator
}

/// Time that passes by itself, on one thread; the clock is the machine's again once it is gone.
struct PausedRuntime(Runtime);

fn paused_runtime() -> PausedRuntime {
    let mut builder = Builder::new_current_thread();
    PausedRuntime(builder.enable_all().start_paused(true).build().expect("a runtime"))
}

impl PausedRuntime {
    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.0.block_on(work)
    }
}

impl Drop for PausedRuntime {
    fn drop(&mut self) {
        clock::MODEL.set(None);
    }
}

fn is_plain(event: Event) -> bool {
    matches!(
        event,
        Event::Change | Event::ChangeMany | Event::Late | Event::LateNew | Event::LateTied | Event::Insert | Event::Bad
    )
}

/// Complete: of what upstream does not show there is no record, once that was looked for.
fn nothing_more(simulator: &Simulator, broker: &Broker) {
    let shown: HashSet<String> = simulator.rows(0).into_iter().map(|row| row.id).collect();
    for key in broker.keys() {
        if !shown.contains(&key) {
            broker.violate(Promise::Complete, format!("{key} is gone upstream, and in the topic"));
        }
    }
}

/// Complete: the latest record of every account is what upstream shows; a row that cannot be one is a dead letter.
fn complete(simulator: &Simulator, broker: &Broker, scenario: &Scenario) {
    let encoder = Encoder::new(Frame::Confluent { schema_id: 1 });
    let lender = simulator.lender(0).public_id;
    let mut scratch = Scratch::default();
    for row in simulator.rows(0) {
        let json: &RawValue = serde_json::from_str(&row.json).expect("JSON");
        let held = broker.latest(&row.id);
        match read_row(json, &lender, &Rules::default(), &mut scratch) {
            Ok(read) => {
                let mut value = Vec::new();
                encoder.encode(&read.account, &mut value);
                let is_old = scenario.start_from.is_some_and(|from| row.updated_at_ms < from.0);
                let is_there = held.as_ref().is_some_and(|held| held.value == value);
                let is_left_out = is_old && held.is_none();
                if !is_there && !is_left_out {
                    let at = |at: Option<i64>| at.map(Timestamp);
                    let found = at(held.map(|held| held.version.updated_at));
                    let (id, wanted) = (&row.id, Timestamp(row.updated_at_ms));
                    broker.violate(
                        Promise::Complete,
                        format!("{id} is {wanted} upstream, {found:?} in the topic"),
                    );
                }
            }
            Err(rejected) => {
                if !broker.has_dead_letter(Digest::of_bytes(row.json.as_bytes())) {
                    let what = format!("{} is no dead letter: {}", row.id, rejected.reason);
                    broker.violate(Promise::Complete, what);
                }
            }
        }
    }
}

mod tests {
    use std::io::Write as _;

    use super::*;
    use hyper::StatusCode;

    use crate::simulator::{Effect, Fault};

    /// The first seed of a run is the minute it began in, so that each run tries others.
    fn first_seed() -> u64 {
        let now = crate::clock::now().timestamp();
        u64::try_from(now).expect("after 1970") / 60 * 1_000_000
    }

    fn seconds() -> Duration {
        let given = std::env::var("D02_MODEL_SECONDS")
            .ok()
            .and_then(|text| text.parse().ok());
        Duration::from_secs(given.unwrap_or(15))
    }

    #[test]
    fn the_five_promises_hold_whatever_happens() {
        if let Ok(seed) = std::env::var("D02_MODEL_SEED") {
            let _ = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_max_level(tracing::Level::DEBUG)
                .try_init();
            let play = Play {
                is_told: true,
                ..Play::of(seed.parse().expect("a number"))
            };
            let (played, violation) = play.run();
            assert_eq!(violation, None, "{played:?}");
            return;
        }
        let (begun, first) = (std::time::Instant::now(), first_seed());
        let mut all = Played::default();
        let mut count = 0;
        while begun.elapsed() < seconds() {
            let seed = first + count;
            let (played, violation) = Play::of(seed).run();
            if let Some(violation) = violation {
                panic!("seed {seed}: {violation}\nreplay: D02_MODEL_SEED={seed} cargo test --lib model\n{played:?}");
            }
            all.add(&played);
            count += 1;
        }
        // Not by a macro, whose output a passing test does not show.
        let _ = writeln!(std::io::stderr(), "model: {count} plays from seed {first}: {all:?}");
        assert!(
            all.crashes > 0 && all.fenced > 0 && all.slow > 0 && all.faults > 0 && all.fresh_walks > 0 && all.warm > 0,
            "{all:?}"
        );
    }

    #[test]
    fn a_seed_replays() {
        for seed in 0..5 {
            assert_eq!(Play::of(seed).run(), Play::of(seed).run(), "seed {seed}");
        }
    }

    #[test]
    fn a_crash_at_every_commit_leaves_every_promise_kept() {
        for seed in 0..3 {
            let play = |crashes| Play {
                crashes: Some(crashes),
                is_plain: true,
                ..Play::of(seed)
            };
            let (undisturbed, violation) = play(Crashes::Never).run();
            assert_eq!(violation, None, "seed {seed}");
            for commit in 0..undisturbed.commits.min(40) {
                for is_after in [false, true] {
                    let (played, violation) = play(Crashes::At { commit, is_after }).run();
                    assert_eq!(violation, None, "seed {seed}, commit {commit}, after: {is_after}");
                    assert_eq!(played.crashes, 1, "seed {seed}, commit {commit}");
                }
            }
        }
    }

    /// Everything but the processes, set up by hand.
    struct Stage {
        simulator: Simulator,
        world: World,
        broker: Broker,
        scenario: Arc<Scenario>,
    }

    impl Stage {
        /// Groups of rows with one time each, a second apart, read in pages of `page_size` by so many walks.
        async fn new(tie_sizes: &[u32], page_size: u16, walk_count: usize, crashes: Crashes) -> Self {
            let simulator = empty_simulator(BEGIN_MS, Duration::from_secs(3_600)).await;
            let mut rng = Rng::with_seed(0);
            let mut scenario = Play::scenario(&mut rng, "http://127.0.0.1", &simulator.lender(0), BEGIN_MS);
            (scenario.start_from, scenario.transaction.max_rows) = (None, 1);
            (scenario.max_record, scenario.in_flight) = (1 << 20, InFlight::new(256 << 20, 1, Gauge::default()));
            scenario.upstream.page_size = page_size;
            scenario.upstream.snapshot_parallelism = walk_count;
            scenario.upstream.poll_interval = Duration::from_secs(1);
            scenario.upstream.backlog = Duration::from_secs(300);
            let mut world = World::new(simulator.handle(), rng, scenario.upstream.late_window);
            for (number, size) in (1..).zip(tie_sizes.iter().rev()) {
                (0..*size).for_each(|_| world.insert_at(BEGIN_MS - 1_000 * number));
            }
            Self {
                simulator,
                world,
                broker: Broker::new(Rng::with_seed(0), crashes),
                scenario: Arc::new(scenario),
            }
        }

        /// Polls and sweeps as often as by default, and as many requests as it likes.
        fn at_usual_intervals(mut self) -> Self {
            let scenario = Arc::get_mut(&mut self.scenario).expect("nobody else has it yet");
            scenario.upstream.max_requests_per_second = None;
            scenario.upstream.poll_interval = Duration::from_secs(5);
            scenario.upstream.late_sweep_interval = Duration::from_secs(60);
            scenario.upstream.late_window = Duration::from_secs(600);
            self
        }

        fn process(&self, until: Until) -> Process {
            let simulator = self.simulator.handle();
            Process::new(simulator, &self.broker, &self.scenario, fastrand::u64(..), until)
        }

        /// Reads everything; the promises are to hold.
        async fn catch_up(&self) {
            let stopped = self.process(Until::CaughtUp).run().await.expect("no crash");
            assert_eq!(stopped.exit(), Exit::Done, "{stopped:?}");
            self.judge();
        }

        #[track_caller]
        fn judge(&self) {
            assert_eq!(self.simulator.fault_count(), 0, "a fault was not met");
            complete(&self.simulator, &self.broker, &self.scenario);
            assert_eq!(self.broker.violation(), None);
        }
    }

    #[test]
    fn rows_that_came_while_both_clocks_were_ahead_at_the_login_are_swept_once_these_are_put_right() {
        const HOUR_MS: i64 = 3_600_000;
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 60], 10, 1, Crashes::Never).await;
            stage.simulator.set_latency(Duration::from_millis(200));
            stage.simulator.set_date_skew(HOUR_MS);
            let right = clock::MODEL.get().expect("a clock");
            clock::MODEL.set(Some((right.0 + Duration::from_secs(3_600), right.1)));
            let running = stage.process(Until::Asked).start();
            // Behind the login, before the first page.
            sleep(Duration::from_millis(250)).await;
            stage.simulator.set_date_skew(0);
            clock::MODEL.set(Some(right));
            for _ in 0..30 {
                stage.world.happen(Event::Insert).await;
                sleep(Duration::from_secs(1)).await;
            }
            sleep(2 * stage.scenario.upstream.late_sweep_interval + Duration::from_secs(10)).await;
            let read = stage.broker.read().expect("a record");
            assert!(read.0 > stage.simulator.now_ms() + HOUR_MS / 2, "T0 lies ahead: {read}");
            stage.judge();
            running.abort();
        });
    }

    #[test]
    fn an_old_copy_is_not_believed_and_nothing_of_it_is_written_unless_that_is_meant() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 60], 10, 2, Crashes::Never).await;
            stage.simulator.keep_copy(0);
            for _ in 0..5 {
                sleep(Duration::from_secs(60)).await;
                stage.world.happen(Event::ChangeMany).await;
            }
            stage.catch_up().await;
            let before = stage.broker.keys().len();
            let written = stage.scenario.metrics.records_total.get();
            stage.simulator.push_fault(Fault::export(Effect::OldCopy).rate(1.0));
            let reconcile = async |is_backup| {
                let stopped = stage.process(Until::Reconciled { is_backup }).run().await;
                let stopped = stopped.expect("no crash");
                (stopped.exit(), stopped.failure.map(|failure| failure.text().to_owned()))
            };
            let (exit, why) = reconcile(false).await;
            let why = why.expect("a reason");
            assert!(
                why.contains("nothing was written or deleted: upstream is older"),
                "{why}"
            );
            assert_eq!(
                (exit, stage.scenario.metrics.records_total.get()),
                (Exit::Failed, written)
            );
            stage.broker.forgive();
            let (exit, why) = reconcile(true).await;
            assert_eq!((exit, why), (Exit::Done, None));
            assert!(stage.scenario.metrics.put_back_total.get() > 0);
            assert_eq!(stage.broker.keys().len(), before);
        });
    }

    /// A sweep by a clock that is behind would see them all. One by a clock that was put right in the middle of the live walk
    /// before it does not.
    #[test]
    fn a_reconciliation_that_begins_by_a_clock_that_is_behind_sees_whom_upstream_shows_beyond_it() {
        const HOUR_MS: i64 = 3_600_000;
        for is_ours in [false, true] {
            paused_runtime().block_on(async {
                let mut stage = Stage::new(&[1; 60], 10, 2, Crashes::Never).await;
                sleep(Duration::from_secs(300)).await;
                stage.catch_up().await;
                let gone = stage.simulator.rows(0).swap_remove(3).id;
                assert!(stage.simulator.remove(0, &gone));
                for _ in 0..100 {
                    stage.world.happen(Event::Insert).await;
                }
                let right = clock::MODEL.get().expect("a clock");
                if is_ours {
                    clock::MODEL.set(Some((right.0 - Duration::from_secs(3_600), right.1)));
                } else {
                    stage.simulator.set_date_skew(-HOUR_MS);
                }
                stage.simulator.set_latency(Duration::from_millis(100));
                let running = stage.process(Until::Reconciled { is_backup: false }).start();
                let passes = || {
                    let is_first = |query: &str| query.starts_with("until=") && !query.contains("cursor=");
                    let asked = stage.simulator.requests();
                    asked.iter().filter(|asked| is_first(&asked.query)).count()
                };
                // Of the snapshot's and the first reading's comes one each.
                let before = passes();
                while passes() < before + 2 {
                    assert!(!running.is_finished(), "ours: {is_ours}");
                    sleep(Duration::from_millis(10)).await;
                }
                clock::MODEL.set(Some(right));
                stage.simulator.set_date_skew(0);
                let stopped = running.await.expect("no panic").expect("no crash");
                assert_eq!(stopped.exit(), Exit::Done, "ours: {is_ours}");
                let deleted = stage.scenario.metrics.deleted_accounts_total.get();
                assert_eq!(deleted, 1, "ours: {is_ours}");
                stage.judge();
            });
        }
    }

    /// A copy is old by its rows, and its clock may be as old as they are.
    #[test]
    fn an_old_copy_with_an_old_clock_is_not_believed_either() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 60], 10, 2, Crashes::Never).await;
            stage.simulator.keep_copy(0);
            for _ in 0..5 {
                sleep(Duration::from_secs(60)).await;
                stage.world.happen(Event::ChangeMany).await;
                stage.world.happen(Event::Insert).await;
            }
            stage.catch_up().await;
            let written = stage.scenario.metrics.records_total.get();
            stage.simulator.push_fault(Fault::export(Effect::OldCopy).rate(1.0));
            stage.simulator.set_date_skew(-300_000);
            let stopped = stage.process(Until::Reconciled { is_backup: false }).run().await;
            assert_eq!(stopped.expect("no crash").exit(), Exit::Failed);
            assert_eq!(stage.scenario.metrics.records_total.get(), written);
        });
    }

    #[test]
    fn an_upstream_whose_newest_accounts_are_gone_is_believed() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[1; 60], 10, 2, Crashes::Never).await;
            stage.catch_up().await;
            let rows = stage.simulator.rows(0);
            rows[50..]
                .iter()
                .for_each(|row| assert!(stage.simulator.remove(0, &row.id)));
            let stopped = stage.process(Until::Reconciled { is_backup: false }).run().await;
            assert_eq!(stopped.expect("no crash").exit(), Exit::Done);
            assert_eq!(stage.scenario.metrics.deleted_accounts_total.get(), 10);
            stage.judge();
        });
    }

    #[test]
    fn a_page_in_wrong_order_whose_first_row_is_past_a_split_does_not_end_the_range() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[1; 60], 40, 4, Crashes::Never).await;
            stage
                .simulator
                .push_fault(Fault::export(Effect::PageOutOfOrder).cursor(true));
            stage.catch_up().await;
        });
    }

    /// A walk that was killed within one time, and upstream repeats its page.
    async fn killed_in_a_group_that_is_served_twice() -> Stage {
        let crashes = Crashes::At {
            commit: 4,
            is_after: true,
        };
        let stage = Stage::new(&[60], 10, 1, crashes).await;
        assert!(stage.process(Until::CaughtUp).run().await.is_none(), "it was to crash");
        stage
            .simulator
            .push_fault(Fault::export(Effect::DuplicatePage).times(2));
        stage
    }

    #[test]
    fn a_page_served_twice_to_a_walk_that_was_resumed_within_one_time_skips_nothing() {
        paused_runtime().block_on(async {
            let stage = killed_in_a_group_that_is_served_twice().await;
            stage.catch_up().await;
        });
    }

    #[test]
    fn a_page_from_further_back_that_is_taken_for_the_next_one_is_caught() {
        paused_runtime().block_on(async {
            let stage = killed_in_a_group_that_is_served_twice().await;
            failpoint::BROKEN.set(Some(Rule::PageGoesOn));
            let stopped = stage.process(Until::CaughtUp).run().await.expect("no crash");
            failpoint::BROKEN.set(None);
            assert_eq!(stopped.exit(), Exit::Done, "{stopped:?}");
            complete(&stage.simulator, &stage.broker, &stage.scenario);
            let violation = stage.broker.violation().map(|violation| violation.promise);
            assert_eq!(violation, Some(Promise::Complete));
        });
    }

    #[test]
    fn a_page_served_twice_behind_an_empty_one_skips_nothing() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[60], 10, 1, Crashes::Never).await;
            let empty = Fault::export(Effect::EmptyPageWithCursor).cursor(true).skip(1);
            stage.simulator.push_fault(empty);
            stage.simulator.push_fault(Fault::export(Effect::DuplicatePage).skip(1));
            stage.catch_up().await;
        });
    }

    #[test]
    fn a_query_that_upstream_does_not_manage_is_asked_for_in_parts() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 200], 50, 2, Crashes::Never).await;
            stage.simulator.set_scan_limit_504(Some(30));
            stage.catch_up().await;
            // The live walk too, and the sweep behind it.
            for _ in 0..60 {
                sleep(Duration::from_secs(1)).await;
                stage.world.happen(Event::Insert).await;
            }
            stage.catch_up().await;
        });
    }

    #[test]
    fn a_walk_that_asks_in_parts_and_is_killed_goes_on_behind_the_last_of_them() {
        paused_runtime().block_on(async {
            for commit in 2..9 {
                let crashes = Crashes::At { commit, is_after: true };
                let stage = Stage::new(&[1; 150], 50, 1, crashes).await;
                stage.simulator.set_scan_limit_504(Some(60));
                assert!(
                    stage.process(Until::CaughtUp).run().await.is_none(),
                    "commit {commit}: it was to crash"
                );
                stage.catch_up().await;
            }
        });
    }

    #[test]
    fn a_spot_where_every_cursor_is_dead_is_found_named_and_not_skipped() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[5, 60, 5], 10, 1, Crashes::Never).await;
            let mut tied: Vec<_> = stage.simulator.rows(0);
            tied.retain(|row| row.updated_at_ms == BEGIN_MS - 2_000);
            stage.simulator.poison(Some(&tied[30].id));
            let stopped = stage.process(Until::CaughtUp).run().await.expect("no crash");
            assert_eq!(stopped.exit(), Exit::Refused);
            let why = stopped.failure.expect("a reason").text().to_owned();
            let place = format!("at 2026-05-31T23:59:58.000Z, behind account {}", tied[29].id);
            assert!(why.contains(&place) && why.contains("request id req_"), "{why}");
            assert!(
                stage.broker.latest(&tied[29].id).is_some(),
                "what lies before it is read"
            );
            stage.simulator.poison(None);
            stage.broker.forgive();
            stage.catch_up().await;
        });
    }

    #[test]
    fn dead_cursors_far_apart_in_one_group_of_equal_times_do_not_make_a_walk_stuck() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[80], 5, 1, Crashes::Never).await;
            // Each fresh walk begins with the group, and gets further than the one before it.
            for passes in 1..8 {
                let dead = Fault::export(Effect::status(StatusCode::INTERNAL_SERVER_ERROR));
                // What passes before this fault, passed the ones before it, too.
                let skip = passes * (passes + 1) / 2;
                stage.simulator.push_fault(dead.cursor(true).skip(skip).times(3));
            }
            stage.catch_up().await;
        });
    }

    #[test]
    fn a_stuck_range_shows_and_does_not_hold_up_what_is_live() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[5, 60, 5], 10, 2, Crashes::Never).await;
            let poisoned = stage.simulator.rows(0)[40].id.clone();
            stage.simulator.poison(Some(&poisoned));
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(600)).await;
            assert_eq!(stage.scenario.metrics.stuck_walks.get(), 1);
            stage.world.insert_at(stage.simulator.now_ms());
            let newest = stage.simulator.rows(0).pop().expect("rows").id;
            sleep(Duration::from_secs(3)).await;
            assert!(stage.broker.latest(&newest).is_some(), "live goes on");
            stage.simulator.poison(None);
            sleep(Duration::from_secs(120)).await;
            assert_eq!(stage.scenario.metrics.stuck_walks.get(), 0);
            stage.judge();
            running.abort();
        });
    }

    #[test]
    fn a_row_that_may_not_be_buried_stops_ranges_side_by_side_and_once_mended_nothing_is_missing() {
        paused_runtime().block_on(async {
            for place in [0, 60, 130, 199] {
                let mut stage = Stage::new(&[1; 200], 7, 4, Crashes::Never).await;
                let scenario = Arc::get_mut(&mut stage.scenario).expect("nobody else has it yet");
                scenario.errors.tolerance = config::Tolerance::None;
                // Pages of several ranges, and splits, in one batch.
                (scenario.transaction.max_rows, scenario.transaction.max_delay) = (100, Duration::from_millis(500));
                let row = stage.simulator.rows(0)[place].clone();
                let bad = row.json.replacen('{', r#"{"new":1,"new":2,"#, 1);
                stage.simulator.upsert_json(0, row.updated_at_ms, &row.id, &bad);
                for _ in 0..2 {
                    // One that went on past the row would poll for ever.
                    let run = timeout(Duration::from_secs(600), stage.process(Until::Asked).run());
                    let stopped = run.await.expect("it stops").expect("no crash");
                    assert_eq!(stopped.exit(), Exit::Usage, "{stopped:?}");
                    let why = stopped.failure.expect("a reason").text().to_owned();
                    assert!(why.contains("the member `new` appears more than once"), "{why}");
                    assert!(why.contains(&row.id), "{why}");
                    // It is not alive, and that is all.
                    assert_eq!(
                        stage.broker.violation().map(|violation| violation.promise),
                        Some(Promise::Alive)
                    );
                    stage.broker.forgive();
                }
                assert!(!stage.broker.has_dead_letter(Digest::of_bytes(bad.as_bytes())));
                stage.simulator.upsert_json(0, row.updated_at_ms, &row.id, &row.json);
                stage.catch_up().await;
                assert_eq!(stage.scenario.metrics.dead_letters_total.get(), 0);
            }
        });
    }

    #[test]
    fn an_hour_at_rest_costs_upstream_a_request_a_poll_and_little_else() {
        paused_runtime().block_on(async {
            let stage = Stage::new(&[1; 50], 1_000, 4, Crashes::Never)
                .await
                .at_usual_intervals();
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(1_200)).await;
            let before = stage.simulator.requests().len();
            sleep(Duration::from_secs(3_600)).await;
            let requests = stage.simulator.requests().split_off(before);
            let pages = requests.iter().filter(|request| request.path.ends_with("D02")).count();
            // What is settled is not swept; the token is renewed once in its hour.
            assert_eq!((pages, requests.len() - pages), (720, 1), "{requests:?}");
            running.abort();
        });
    }

    #[test]
    fn lenders_that_start_together_poll_at_once_then_apart_and_none_less_often_than_its_interval() {
        const INTERVAL_MS: i64 = 5_000;
        paused_runtime().block_on(async {
            let mut moments = Vec::new();
            for place in 0..8 {
                let stage = Stage::new(&[1; 5], 1_000, 1, Crashes::Never).await.at_usual_intervals();
                let begun = stage.simulator.now_ms();
                let process = stage.process(Until::Asked);
                let running = Process { place, ..process }.start();
                // What is settled is not swept any more: then only polls are left.
                sleep(Duration::from_secs(1_200)).await;
                let requests = stage.simulator.requests();
                let pages = requests.iter().filter(|request| request.path.ends_with("D02"));
                let asked: Vec<i64> = pages.map(|request| request.at_ms - begun).collect();
                assert!(asked[0] < 1_000, "place {place}: {asked:?}");
                let gaps = asked.windows(2).map(|pair| pair[1] - pair[0]);
                // What a page takes is added, and timers are no finer than a millisecond.
                let longest = gaps.max().expect("some polls");
                assert!(longest <= INTERVAL_MS + 10, "place {place}: {longest} ms");
                moments.push(asked[asked.len() - 1] % INTERVAL_MS);
                running.abort();
            }
            moments.sort_unstable();
            let apart: Vec<i64> = moments.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(apart.iter().all(|apart| (600..=650).contains(apart)), "{moments:?}");
        });
    }

    #[test]
    fn changes_are_read_three_times_each_and_a_bulk_update_hardly_more_often() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 50], 100, 4, Crashes::Never).await;
            let scenario = Arc::get_mut(&mut stage.scenario).expect("nobody else has it yet");
            scenario.upstream.max_requests_per_second = None;
            scenario.upstream.poll_interval = Duration::from_secs(5);
            scenario.upstream.late_sweep_interval = Duration::from_secs(60);
            scenario.upstream.late_window = Duration::from_secs(600);
            (scenario.transaction.max_rows, scenario.transaction.max_delay) = (5_000, Duration::from_millis(500));
            let running = stage.process(Until::Asked).start();
            let ids: Vec<String> = stage.simulator.rows(0).into_iter().map(|row| row.id).collect();
            let mut changes = 0;
            let mut before = stage.simulator.counts();
            for half in 0..3_600_usize {
                // Half an hour, of which the first third is for the sweeps to come into step.
                if half == 1_200 {
                    (before, changes) = (stage.simulator.counts(), 0);
                }
                let at = stage.simulator.now_ms();
                stage.world.put(&ids[half % ids.len()], at);
                // Each account changes again before it is swept, so what is read again are rows that are new.
                stage.world.insert_at(at);
                changes += 1;
                sleep(Duration::from_millis(500)).await;
            }
            let after = stage.simulator.counts();
            // An account that stays as it is is read by live, early and when it is due, one that changes on by live alone.
            let readings = (after.row_count - before.row_count) as f64 / f64::from(changes) - 1.0;
            println!(
                "{readings:.2} readings of a row, {} requests",
                after.request_count - before.request_count
            );
            assert!(readings < 4.0, "{readings:.2} readings a changed row");
            sleep(Duration::from_secs(900)).await;
            // A bulk update: 100 pages, read by live, 20 of them by an early sweep, and all when they are due. Live met it within
            // the second that `Date` is cut to, so it reads them twice.
            let at = stage.simulator.now_ms();
            (0..10_000).for_each(|_| stage.world.insert_at(at));
            let before = stage.simulator.counts();
            sleep(Duration::from_secs(3_600)).await;
            let after = stage.simulator.counts();
            let (requests, rows) = (
                after.request_count - before.request_count,
                after.row_count - before.row_count,
            );
            println!("a bulk update of 100 pages: {requests} requests, {rows} rows in the hour after it");
            assert!(
                (900..=1_060).contains(&requests) && rows < 33_000,
                "{requests} requests, {rows} rows"
            );
            running.abort();
        });
    }

    #[test]
    fn a_backlog_is_read_in_ranges_that_a_restart_goes_on_with_while_live_goes_on_beside() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 5], 10, 4, Crashes::Never).await;
            let scenario = Arc::get_mut(&mut stage.scenario).expect("nobody else has it yet");
            scenario.upstream.max_requests_per_second = None;
            scenario.upstream.late_window = Duration::from_secs(60);
            scenario.upstream.late_sweep_interval = Duration::from_secs(10);
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(30)).await;
            running.abort();
            // An hour in which nobody reads.
            for second in 0..3_000 {
                stage.world.insert_at(stage.simulator.now_ms() + 1_000 * second);
            }
            sleep(Duration::from_secs(3_600)).await;
            stage.simulator.set_latency(Duration::from_millis(100));
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(3)).await;
            let before = stage.broker.progress();
            assert!(before.ranges.len() >= 3, "side by side: {before:?}");
            running.abort();
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(1)).await;
            stage.world.insert_at(stage.simulator.now_ms());
            let newest = stage.simulator.rows(0).pop().expect("rows").id;
            sleep(Duration::from_millis(2_500)).await;
            let progress = stage.broker.progress();
            assert!(!progress.ranges.is_empty(), "it is still reading: {progress:?}");
            assert!(stage.broker.latest(&newest).is_some(), "live goes on beside");
            assert!(progress.read > before.first_snapshot_at && progress.settled <= progress.read);
            sleep(Duration::from_secs(60)).await;
            assert_eq!(stage.broker.progress().ranges, []);
            let requests = stage.simulator.requests();
            let pages = requests
                .iter()
                .filter(|request| request.query.contains("limit=10"))
                .count();
            // 300 of them, what was read twice, polls and sweeps.
            assert!(pages < 700, "{pages} pages");
            stage.judge();
            running.abort();
        });
    }

    #[test]
    fn a_broker_that_is_away_stops_the_requests() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 50], 10, 2, Crashes::Never).await;
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(60)).await;
            stage.broker.set_away(true);
            stage.world.insert_at(stage.simulator.now_ms());
            sleep(Duration::from_secs(10)).await;
            let before = stage.simulator.counts().request_count;
            sleep(Duration::from_secs(3_600)).await;
            assert_eq!(stage.simulator.counts().request_count, before);
            stage.broker.set_away(false);
            sleep(Duration::from_secs(90)).await;
            assert!(stage.simulator.counts().request_count > before);
            stage.judge();
            running.abort();
        });
    }

    /// Tries seeds with a rule broken until a promise catches it.
    #[track_caller]
    fn catches(rule: Rule, promises: &[Promise]) {
        const SEEDS: u64 = 3_000;
        failpoint::BROKEN.set(Some(rule));
        let caught = (0..SEEDS).find_map(|seed| {
            let violation = Play::of(seed).run().1?;
            promises.contains(&violation.promise).then_some((seed, violation))
        });
        failpoint::BROKEN.set(None);
        let (seed, violation) = caught.unwrap_or_else(|| panic!("{rule:?} broken is not caught by {promises:?}"));
        println!("{rule:?} broken: caught at seed {seed}, {violation}");
        assert_eq!(Play::of(seed).run().1, None, "seed {seed} fails without the break, too");
    }

    #[test]
    fn a_boundary_that_is_off_by_one_is_caught() {
        catches(Rule::BoundaryInclusive, &[Promise::Complete]);
    }

    #[test]
    fn marks_committed_ahead_of_their_rows_are_caught() {
        catches(Rule::RowsWithTheirMarks, &[Promise::Complete]);
    }

    #[test]
    fn a_batch_whose_other_half_is_forgotten_is_caught() {
        catches(Rule::LeftIsPutBack, &[Promise::Complete]);
    }

    #[test]
    fn a_live_row_overwritten_by_the_snapshot_is_caught() {
        catches(Rule::StaleIsLeft, &[Promise::InOrder]);
    }

    #[test]
    fn a_sweep_from_the_wrong_mark_is_caught() {
        catches(Rule::SweepFromSettled, &[Promise::Complete]);
    }

    #[test]
    fn a_change_from_a_version_before_the_last_is_caught() {
        catches(Rule::BeforeIsOfTheBatch, &[Promise::Trail]);
    }

    #[test]
    fn a_deletion_of_what_one_pass_did_not_see_is_caught() {
        catches(Rule::TwoPasses, &[Promise::Gone]);
    }

    /// Whether a row is found that enters the group at `read` behind the place where polls go on.
    async fn finds_a_late_row_of_the_group_at_read() -> bool {
        let mut stage = Stage::new(&[5], 10, 1, Crashes::Never).await;
        let scenario = Arc::get_mut(&mut stage.scenario).expect("nobody else has it yet");
        scenario.upstream.late_window = Duration::from_secs(60);
        scenario.upstream.late_sweep_interval = Duration::from_secs(10);
        let running = stage.process(Until::Asked).start();
        sleep(Duration::from_secs(5)).await;
        let at = stage.simulator.now_ms();
        (0..30).for_each(|_| stage.world.insert_at(at));
        sleep(Duration::from_secs(5)).await;
        let progress = stage.broker.progress();
        let place = progress.place.expect("a place in the group");
        assert_eq!(stage.simulator.rows(0).len(), 35);
        let first = "000000000000000000000000";
        assert!(first < &*place.last_id, "before the place");
        stage.world.put(first, at);
        sleep(Duration::from_secs(120)).await;
        running.abort();
        stage.broker.latest(first).is_some()
    }

    #[test]
    fn a_late_row_of_the_group_where_polls_go_on_is_found_by_the_sweep_that_holds_it() {
        paused_runtime().block_on(async {
            assert!(finds_a_late_row_of_the_group_at_read().await);
            failpoint::BROKEN.set(Some(Rule::SweepHoldsRead));
            let finds = finds_a_late_row_of_the_group_at_read().await;
            failpoint::BROKEN.set(None);
            assert!(!finds, "a sweep that ends before `read` is not caught");
        });
    }

    #[test]
    fn a_group_of_any_size_costs_a_page_a_poll_and_after_a_restart_goes_on_where_it_stood() {
        paused_runtime().block_on(async {
            let mut stage = Stage::new(&[1; 5], 100, 4, Crashes::Never).await;
            let scenario = Arc::get_mut(&mut stage.scenario).expect("nobody else has it yet");
            scenario.upstream.max_requests_per_second = None;
            scenario.upstream.late_sweep_interval = Duration::from_secs(60);
            scenario.upstream.late_window = Duration::from_secs(600);
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(60)).await;
            let at = stage.simulator.now_ms();
            (0..5_050).for_each(|_| stage.world.insert_at(at));
            let pages = |stage: &Stage, from: usize| stage.simulator.requests().split_off(from).len();
            sleep(Duration::from_secs(30)).await;
            let before = stage.simulator.requests().len();
            sleep(Duration::from_secs(180)).await;
            // The early sweep gives up after 20 of its 51 pages.
            let count = pages(&stage, before);
            assert!(
                (195..=210).contains(&count),
                "{count} requests in three minutes of polls"
            );
            running.abort();
            let before = stage.simulator.requests().len();
            let running = stage.process(Until::Asked).start();
            sleep(Duration::from_secs(10)).await;
            let count = pages(&stage, before);
            assert!(count < 40, "{count} requests in the ten seconds after a restart");
            // Once it is due, the group is read once more, and never again.
            sleep(Duration::from_secs(700)).await;
            let before = stage.simulator.requests().len();
            sleep(Duration::from_secs(600)).await;
            let count = pages(&stage, before);
            assert!((595..=605).contains(&count), "{count} requests in ten minutes of polls");
            stage.judge();
            running.abort();
        });
    }

    #[test]
    fn an_early_sweep_that_settles_is_caught() {
        catches(Rule::EarlySweepMovesNoMark, &[Promise::Complete]);
    }

    #[test]
    fn a_backlog_that_settles_up_to_its_own_end_is_caught() {
        catches(Rule::BacklogSettlesByItsWalk, &[Promise::Complete]);
    }

    #[test]
    fn a_backlog_that_leaves_its_place_in_a_group_is_caught() {
        catches(Rule::BacklogKeepsItsPlace, &[Promise::Complete]);
    }

    #[test]
    fn a_clock_that_is_ahead_and_believed_is_caught() {
        catches(Rule::EarlierClock, &[Promise::Complete]);
    }

    #[test]
    fn a_split_that_keeps_the_old_bound_is_caught() {
        catches(Rule::SplitMovesStop, &[Promise::Complete]);
    }

    /// A lender goes from one member to the other and back, while the first one is slow to take back what it held.
    async fn goes_to_another_and_comes_back() -> Option<Promise> {
        let mut stage = Stage::new(&[1; 60], 10, 1, Crashes::Never).await;
        let start = |stage: &Stage, member: &Member| stage.process(Until::Asked).start_of(member);
        let (first, second) = (Member::default(), Member::default());
        let (_, ending) = start(&stage, &first);
        sleep(Duration::from_secs(5)).await;
        stage.world.happen(Event::ChangeMany).await;
        ending.request();
        let (_, ending) = start(&stage, &second);
        for _ in 0..50 {
            sleep(Duration::from_millis(100)).await;
            // What else the topic holds is read on meanwhile.
            first.follow(&stage.broker, &stage.simulator.lender(0).public_id);
        }
        ending.request();
        let (running, _ending) = start(&stage, &first);
        sleep(Duration::from_secs(5)).await;
        running.abort();
        stage.broker.violation().map(|violation| violation.promise)
    }

    #[test]
    fn what_is_taken_back_is_read_on_from_where_it_was_and_else_that_is_caught() {
        let play = |seed| {
            fastrand::seed(seed);
            paused_runtime().block_on(goes_to_another_and_comes_back())
        };
        assert!((0..20).all(|seed| play(seed).is_none()));
        failpoint::BROKEN.set(Some(Rule::TakenBackWhereItWas));
        let caught = (0..20).filter_map(play).collect::<HashSet<_>>();
        failpoint::BROKEN.set(None);
        assert_eq!(caught, HashSet::from([Promise::Atomic]));
    }

    #[test]
    fn what_was_written_between_restoring_and_fencing_and_is_not_read_is_caught() {
        catches(Rule::ReadOnWhenFenced, &[Promise::Atomic, Promise::Once]);
    }
}
