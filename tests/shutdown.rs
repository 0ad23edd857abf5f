//! Does a process that is asked to end do so in time, whatever it is at, and leave nothing open?

use std::net::TcpListener;
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Endpoint, Fault};
use d02_source::testbed::{Broker, BrokerOptions};

use crate::support::judge;
use crate::support::kafka::Record;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{nothing_happens_for, wait_for};

/// Nobody listens there.
const NOBODY: &str = "127.0.0.1:9";

/// Of SIGTERM, from docs/operations/running.md, and what a loaded machine takes beside it.
const BOUND: Duration = Duration::from_secs(9 + 3);

/// Asks it to end; gives how long that takes.
#[track_caller]
fn ends(source: &mut Source) -> Duration {
    let begun = Instant::now();
    source.signal("TERM");
    source.expect_exit(0);
    let took = begun.elapsed();
    assert!(took < BOUND, "{took:?}: {}", source.log());
    took
}

/// No transaction is open, before the next start would end it.
#[track_caller]
fn nothing_is_open(world: &World) {
    let begun = Instant::now();
    // The markers of the last one may still be on their way; an open one stays for a minute.
    loop {
        let open = world.open_topics();
        if open.is_empty() {
            return;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(5),
            "a transaction is open in {open:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn goes_on(world: &World) {
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn in_back_off_it_ends_at_once_and_releases_its_lender() {
    let world = World::new(&[2_000]);
    let mut source = world.command(&["run"], &[]);
    source.wait_for_line("claimed and restored");
    wait_for("some accounts", || (world.accounts_so_far() > 0).then_some(()));
    world.simulator.set_down(true);
    source.wait_for_line("try_count=4");
    let took = ends(&mut source);
    assert!(took < Duration::from_secs(5), "{took:?}: {}", source.log());
    let record = world.cursors().pop().expect("a cursor record").json();
    assert_eq!(record["instance"], serde_json::Value::Null);
    nothing_is_open(&world);
    world.simulator.set_down(false);
    goes_on(&world);
}

#[test]
fn while_kafka_is_away_it_ends_in_time_and_the_next_start_goes_on() {
    let mut broker = Broker::start(BrokerOptions::default()).expect("a broker");
    let world = World::new(&[300]).on(&broker.bootstrap_servers());
    for has_said_so in [false, true] {
        let mut source = world.command(&["run"], &[("D02_TEST_TRANSACTION_TIMEOUT", "5000")]);
        source.wait_for_line("claimed and restored");
        let inserted = world.simulator.insert(0, 1);
        wait_for("the account", || {
            let is_there = |records: &[Record]| records.iter().any(|record| record.key() == inserted[0]);
            world.follow_accounts(is_there).then_some(())
        });
        world.stop_between_transactions(&source);
        broker.kill(1).expect("killed");
        source.signal("CONT");
        // A transaction is begun that cannot be ended.
        world.simulator.insert(0, 2);
        if has_said_so {
            source.wait_for_line("degraded, reopening");
        } else {
            nothing_happens_for(Duration::from_secs(1));
        }
        ends(&mut source);
        broker.restart(1).expect("restarted");
    }
    goes_on(&world);
}

#[test]
fn at_whatever_moment_of_a_start_it_ends_in_time_and_leaves_nothing_open() {
    let world = World::new(&[5_000]);
    world.simulator.set_latency(Duration::from_millis(30));
    // A start takes a second or two here; the last ones are in the middle of a snapshot.
    for step in 0..12 {
        let mut source = world.run();
        source.wait_until_it_listens();
        nothing_happens_for(Duration::from_millis(200 * step));
        let begun = Instant::now();
        source.signal("TERM");
        let code = source.exit_code();
        assert!(code == 0, "step {step}: {code}, {}", source.log());
        assert!(
            begun.elapsed() < BOUND,
            "step {step}: {:?}, {}",
            begun.elapsed(),
            source.log()
        );
    }
    world.simulator.set_latency(Duration::ZERO);
    nothing_is_open(&world);
}

#[test]
fn a_start_that_waits_for_somebody_ends_in_time() {
    // Takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("an address").to_string();
    let (silent_upstream, nobodys_registry) = (format!("http://{silent}"), format!("http://{NOBODY}"));
    // All at the same time, for each of them only waits.
    let started = |environment: &[(&str, &str)]| {
        let world = World::new(&[50]);
        let source = world.command(&["run"], environment);
        (world, source)
    };
    let mut waiting = Vec::new();
    for environment in [
        ("D02__KAFKA__BOOTSTRAP_SERVERS", NOBODY),
        ("D02__KAFKA__BOOTSTRAP_SERVERS", silent.as_str()),
        ("D02__UPSTREAM__BASE_URL", silent_upstream.as_str()),
        ("D02__SCHEMA_REGISTRY__URL", nobodys_registry.as_str()),
        ("D02__SCHEMA_REGISTRY__URL", silent_upstream.as_str()),
    ] {
        waiting.push(started(&[environment]));
    }
    let (endpoint, servers) = (format!("http://{silent}/token"), silent.as_str());
    let no_token = [
        ("D02__KAFKA__BOOTSTRAP_SERVERS", servers),
        ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
        ("D02__KAFKA__PROPERTIES__SASL_MECHANISM", "OAUTHBEARER"),
        ("D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_METHOD", "oidc"),
        (
            "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
            endpoint.as_str(),
        ),
        ("D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_ID", "d02-source"),
        (
            "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET",
            "planted-client",
        ),
    ];
    let (_world, mut without_token) = started(&no_token);
    let world = World::new(&[50]);
    world
        .simulator
        .push_fault(Fault::on(Endpoint::Login, Effect::Hang(Duration::from_secs(60))));
    let mut at_log_in = world.run();
    nothing_happens_for(Duration::from_secs(3));
    let took = ends(&mut without_token);
    assert!(took < Duration::from_secs(3), "{took:?}: {}", without_token.log());
    ends(&mut at_log_in);
    std::thread::scope(|scope| {
        for (_world, source) in &mut waiting {
            scope.spawn(|| ends(source));
        }
    });
}
