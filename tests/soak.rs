//! Does it hold out? Weeks of trouble in minutes: what the process holds levels off, and nothing is lost or doubled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Fault, LenderOptions, Options};
use d02_source::testbed::{Broker, BrokerOptions, Registry, RegistryOptions};

use crate::support::judge::{self, RegistryReader};
use crate::support::kafka;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::World;

/// How long a part takes: the first fills caches and pools, and the third is held to the second, or a later one to that before it.
const PART: Duration = Duration::from_secs(30);

/// What grows without end grows in each of them. What a part needs at most differs with what happens to come together in it, the more the
/// busier the machine is.
const MOST_PARTS: u32 = 6;

/// What a process holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    memory: u64,
    threads: u64,
    descriptors: u64,
}

impl Held {
    fn of(source: &Source) -> Self {
        Self {
            memory: source.resident_bytes(),
            threads: source.thread_count(),
            descriptors: source.descriptor_count(),
        }
    }

    fn most(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }

    /// Of each, what it is most of the time.
    fn median(held: &[Self]) -> Self {
        let of = |value: fn(&Self) -> u64| {
            let mut values: Vec<u64> = held.iter().map(value).collect();
            values.sort_unstable();
            values[values.len() / 2]
        };
        Self {
            memory: of(|held| held.memory),
            threads: of(|held| held.threads),
            descriptors: of(|held| held.descriptors),
        }
    }
}

#[test]
fn what_the_process_holds_levels_off_under_changes_faults_short_tokens_and_broker_restarts() {
    let mut broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let lender = |number| LenderOptions {
        rows: 3_000,
        bad_rate: 0.001,
        odd_rate: 0.01,
        ..LenderOptions::numbered(number)
    };
    let world = World::with(Options {
        lenders: vec![lender(1), lender(2)],
        token_lifetime: Duration::from_secs(5),
        ..Options::default()
    });
    let world = world.on(&broker.bootstrap_servers());
    world.simulator.push_fault(Fault::export(Effect::Mixed).rate(0.05));
    let environment = [
        ("D02__UPSTREAM__REQUEST_TIMEOUT", "2s"),
        ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "1s"),
        ("D02__UPSTREAM__LATE_WINDOW", "10s"),
        ("D02__UPSTREAM__RECONCILE_INTERVAL", "1h"),
        ("D02_TEST_RECONCILE_INTERVAL", "7000"),
        ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s"),
        ("D02__TRANSACTION__MAX_DELAY", "50ms"),
        ("D02_TEST_TRANSACTION_TIMEOUT", "8000"),
        // So that what arenas keep does not hide what grows.
        ("MALLOC_ARENA_MAX", "2"),
    ];
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    let (mut parts, mut seed) = (Vec::new(), 0);
    for part in 0..MOST_PARTS {
        let (begun, mut most, mut at_rest) = (Instant::now(), Held::default(), Vec::new());
        let mut restarted_at: Option<Instant> = None;
        while restarted_at.is_none_or(|at| at.elapsed() < 2 * PART / 3) {
            assert!(source.is_running(), "{}", source.log());
            let held = Held::of(&source);
            most = most.most(held);
            if restarted_at.is_some_and(|at| at.elapsed() > PART / 3) {
                at_rest.push(held);
            }
            seed += 1;
            for lender in [0, 1] {
                world.simulator.touch(lender, 20, seed);
                world.simulator.change_late(lender, 2, Duration::from_secs(2), seed);
            }
            if restarted_at.is_none() && begun.elapsed() > PART / 3 {
                // Once in order, then twice not: what is compared is what the same came to.
                if part == 0 {
                    world.stop_between_transactions(&source);
                    broker.restart(1).expect("restarted");
                    source.signal("CONT");
                } else {
                    let degraded = || source.log().matches("degraded, reopening").count();
                    let before = degraded();
                    broker.stop(1).expect("stopped");
                    wait_for("it notices", || (degraded() > before).then_some(()));
                    broker.restart(1).expect("restarted");
                }
                restarted_at = Some(Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        parts.push((most, Held::median(&at_rest)));
        if part >= 2 && levels_off(&parts) {
            break;
        }
    }
    assert!(levels_off(&parts), "it grows: {parts:?}");
    println!("held at most, and mostly after the restart: {parts:?}");

    world.simulator.clear_faults();
    source.signal("TERM");
    source.expect_exit(0);
    let log = source.log();
    for said in ["degraded, reopening", "upstream answered"] {
        assert!(log.contains(said), "never `{said}`: nothing was tried");
    }
    // Where the broker is away for longer than a session, both lenders are started anew instead.
    let started_anew = log.matches("claimed and restored").count() > 2;
    assert!(
        started_anew || log.contains("INFO reopened"),
        "it never went on: nothing was tried"
    );
    wait_for("the last late row", || {
        (world.simulator.pending_late_count() == 0).then_some(())
    });
    world.catch_up();
    let records = world.judged_accounts();
    let rows: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|lender| world.simulator.rows(lender))
        .collect();
    judge::everything(&records, &rows);
}

/// Whether the last part needed no more than the one before it, of each the most and what was mostly held after the restart.
fn levels_off(parts: &[(Held, Held)]) -> bool {
    let [.., (most_before, before), (most_last, last)] = parts else {
        return false;
    };
    most_last.memory <= most_before.memory + most_before.memory / 10
        // Whether one looks while a client is being replaced is chance; what leaks is there most of the time.
        && last.threads <= before.threads + 4
        && last.descriptors <= before.descriptors + 8
}

/// How long a test goes on that `just soak` has go on for longer than usual.
pub(crate) fn lasting(usual: Duration) -> Duration {
    let minutes = std::env::var("D02_TEST_SOAK_MINUTES");
    minutes.map_or(usual, |minutes| {
        Duration::from_secs_f64(60.0 * minutes.parse::<f64>().expect("minutes"))
    })
}

/// What was done to it, and what came of it.
#[derive(Debug, Default)]
struct Tally {
    kills: u32,
    /// Of these, those that struck before a lender was claimed.
    kills_of_starts: u32,
    /// Starts that were refused, as `cleanup.policy` was another one at that moment.
    refusals: u32,
    /// Other ends, with exit code 1, each followed by a start, as a supervisor would.
    ends_by_itself: u32,
    broker_restarts: u32,
    registry_losses: u32,
    settings_changed: u32,
    changes_upstream: usize,
    commits: usize,
    account_records: usize,
    change_records: usize,
    republished_records: usize,
    aborted_records: usize,
}

/// What is around the source, until `over`.
struct Around<'a> {
    over: &'a AtomicBool,
}

impl Around<'_> {
    /// Does it again and again, so long apart; gives how often.
    fn each(&self, apart: Duration, mut act: impl FnMut(u32)) -> u32 {
        for number in 0.. {
            if !self.lasts(apart) {
                return number;
            }
            act(number);
        }
        unreachable!("a count has no end")
    }

    /// Lets it pass; whether it goes on then.
    fn lasts(&self, how_long: Duration) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < how_long && !self.over.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
        !self.over.load(Ordering::SeqCst)
    }

    /// One broker after the other, each once all partitions have three replicas again: ended in order, or killed.
    fn brokers(&self, broker: &mut Broker) -> u32 {
        let servers = broker.bootstrap_servers();
        self.each(Duration::from_secs(3), |number| {
            let node = number as usize % 3 + 1;
            if number % 2 == 0 {
                broker.stop(node)
            } else {
                broker.kill(node)
            }
            .expect("ended");
            self.lasts(Duration::from_secs(4));
            broker.restart(node).expect("restarted");
            wait_for("all replicas are in sync", || {
                kafka::is_in_sync(&servers, 3).then_some(())
            });
        })
    }

    /// It goes for five seconds, and comes back without a schema.
    fn registry(&self, registry: &mut Registry) -> u32 {
        self.each(Duration::from_secs(25), |_| {
            registry.stop().expect("ended");
            self.lasts(Duration::from_secs(5));
            registry.restart().expect("an empty registry");
        })
    }

    /// Each setting for five seconds.
    fn settings(&self, servers: &str, world: &World) -> u32 {
        // The cleaner would remove the very duplicates that the judge looks for.
        let kept = ("min.compaction.lag.ms", "604800000");
        let compact = ("cleanup.policy", "compact");
        let other = [
            ("accounts", ("cleanup.policy", "delete")),
            ("cursor", ("cleanup.policy", "compact,delete")),
            ("accounts", ("min.insync.replicas", "3")),
            ("accounts", ("message.timestamp.type", "LogAppendTime")),
            ("cursor", ("min.insync.replicas", "3")),
            ("accounts", ("segment.ms", "1000")),
        ];
        let admin = kafka::admin(servers);
        self.each(Duration::from_secs(10), |number| {
            let (topic, setting) = other[number as usize % other.len()];
            let topic = world.topic(topic);
            let mut changed = vec![kept, compact];
            changed.retain(|(name, _)| *name != setting.0);
            changed.push(setting);
            wait_for("it is altered", || {
                kafka::try_set_all(&admin, &topic, &changed).then_some(())
            });
            self.lasts(Duration::from_secs(5));
            wait_for("it is as before", || {
                kafka::try_set_all(&admin, &topic, &[kept, compact]).then_some(())
            });
        })
    }

    /// 200 changes a second, and some that become visible late.
    fn upstream(&self, world: &World) -> usize {
        let begun = Instant::now();
        let (mut touched, mut late) = (0, 0);
        self.each(Duration::from_millis(50), |number| {
            let due = usize::try_from(begun.elapsed().as_millis() / 5).expect("minutes");
            for lender in [0, 1] {
                touched += world
                    .simulator
                    .touch(lender, (due - touched) / (2 - lender), number.into())
                    .len();
                if number % 20 == 0 {
                    let by = Duration::from_secs(3);
                    late += world.simulator.change_late(lender, 2, by, number.into()).len();
                }
            }
        });
        touched + late
    }
}

/// Here for half a minute; `just soak` has it go on for thirty.
#[test]
fn killed_again_and_again_while_all_around_it_comes_and_goes_it_loses_and_doubles_nothing() {
    let lasting = lasting(Duration::from_secs(30));
    let minutes = lasting.as_secs_f64() / 60.0;
    let mut broker = Broker::start(BrokerOptions {
        nodes: 3,
        ..BrokerOptions::default()
    })
    .expect("a cluster");
    let mut registry = Registry::start(RegistryOptions::default()).expect("a registry");
    let (servers, url) = (broker.bootstrap_servers(), registry.url());
    let world = World::new(&[5_000, 5_000]).on(&servers);
    let environment = [
        ("D02__SCHEMA_REGISTRY__URL", url.as_str()),
        ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "2s"),
        ("D02__UPSTREAM__LATE_WINDOW", "20s"),
        ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s"),
        ("D02_TEST_LOOK_INTERVAL", "2000"),
    ];
    let catch_up = |tally: &mut Tally| {
        let until = || world.command(&["run", "--until-caught-up"], &environment);
        let (mut code, mut log) = (1, String::new());
        while code == 1 {
            let mut source = until();
            (code, log) = (source.exit_code(), source.log());
            tally.ends_by_itself += u32::from(code == 1);
            assert!(tally.ends_by_itself < 20, "{log}");
        }
        assert_eq!(code, 0, "{log}");
    };
    let mut tally = Tally::default();
    catch_up(&mut tally);
    wait_for("all replicas", || kafka::is_in_sync(&servers, 3).then_some(()));
    let over = AtomicBool::new(false);
    let around = Around { over: &over };
    std::thread::scope(|scope| {
        let brokers = scope.spawn(|| around.brokers(&mut broker));
        let losses = scope.spawn(|| around.registry(&mut registry));
        let settings = scope.spawn(|| around.settings(&servers, &world));
        let upstream = scope.spawn(|| around.upstream(&world));
        let _over = OnDrop(&over);
        let (begun, mut rng) = (Instant::now(), fastrand::Rng::with_seed(2_026));
        while begun.elapsed() < lasting {
            let mut source = world.command(&["run"], &environment);
            let (started, lives) = (Instant::now(), Duration::from_millis(rng.u64(17_000..21_000)));
            while started.elapsed() < lives && source.is_running() {
                std::thread::sleep(Duration::from_millis(20));
            }
            if source.is_running() {
                source.kill();
                tally.kills += 1;
                tally.kills_of_starts += u32::from(!source.log().contains("claimed and restored"));
            } else {
                let (code, log) = (source.exit_code(), source.log());
                // A start refuses accounts that are removed by age; a running lender goes on and says it.
                let is_refused = code == 2 && log.contains("it must be exactly compact");
                assert!(is_refused || code == 1, "it ends with {code}: {log}");
                if is_refused {
                    tally.refusals += 1;
                } else {
                    tally.ends_by_itself += 1;
                    println!("it ended by itself: {log}");
                }
                // As a supervisor waits.
                around.lasts(Duration::from_secs(1));
            }
        }
        over.store(true, Ordering::SeqCst);
        tally.broker_restarts = brokers.join().expect("the brokers");
        tally.registry_losses = losses.join().expect("the registry");
        tally.settings_changed = settings.join().expect("the settings");
        tally.changes_upstream = upstream.join().expect("upstream");
    });
    wait_for("the last late row", || {
        (world.simulator.pending_late_count() == 0).then_some(())
    });
    catch_up(&mut tally);

    let (accounts, changes) = (world.accounts(), world.changes());
    let schema_of = |topic: &str| RegistryReader::of_subject(&url, &format!("{}-value", world.topic(topic)));
    let (mut of_accounts, mut of_changes) = (schema_of("accounts"), schema_of("changes"));
    judge::trail_by((&mut of_changes, &mut of_accounts), &changes, &accounts);
    let rows: Vec<_> = [0, 1]
        .into_iter()
        .flat_map(|lender| world.simulator.rows(lender))
        .collect();
    judge::everything_by(&mut of_accounts, &accounts, &rows);
    tally.commits = world.cursors().len();
    (tally.account_records, tally.change_records) = (accounts.len(), changes.len());
    let uncommitted = kafka::uncommitted(&servers, &world.topic("accounts")).len();
    tally.aborted_records = uncommitted - accounts.len();
    println!("{tally:#?}");
    assert!(f64::from(tally.kills) >= 2.0 * minutes, "{tally:?}");
    assert!(
        tally.aborted_records > 0 || minutes < 2.0,
        "no kill struck a transaction: {tally:?}"
    );

    // Whatever the registry forgot can be read again.
    world.command(&["republish"], &environment).expect_exit(0);
    let accounts = world.accounts();
    tally.republished_records = accounts.len() - tally.account_records;
    println!("republished: {}", tally.republished_records);
    let mut reader = RegistryReader::of(&url);
    for account in judge::latest(&accounts).values() {
        let fields = reader.read(account);
        assert!(fields.contains_key("public_id"), "{fields:?}");
    }
    judge::everything_by(&mut of_accounts, &accounts, &rows);
    assert_eq!(world.changes().len(), changes.len(), "`changes` gets nothing by it");
}

/// So that nobody goes on when a test fails.
struct OnDrop<'a>(&'a AtomicBool);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
