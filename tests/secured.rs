//! Does it do its work with exactly the documented rights, say which one is missing, lose nothing meanwhile, and get in by
//! every way that a broker asks for?

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use d02_source::simulator::Authority;
use d02_source::testbed::{Broker, BrokerOptions};

use crate::support::acls::{Operation, Resource, Right};
use crate::support::authorization::AuthorizationServer;
use crate::support::http_proxy::HttpProxy;
use crate::support::kafka::Record;
use crate::support::rows::{change, mend};
use crate::support::secured::{CERTIFIED, borrowed, secured};
use crate::support::shown::shown;
use crate::support::source::Source;
use crate::support::world::World;
use crate::support::{judge, nothing_happens_for, wait_for};

/// Nothing that is denied is asked for again.
const AT_ONCE: (&str, &str) = ("D02_TEST_DENIAL_PATIENCE", "0");

/// A lender, and `user` with the rights to its topics that the documented commands give.
fn world_of(user: &str, rows: u32) -> World {
    let world = World::new(&[rows]).on(&secured().servers());
    secured().grant_as_documented(user, &world);
    world
}

/// The same, in a moment.
fn quick_world_of(user: &str, rows: u32) -> World {
    let world = World::new(&[rows]).on(&secured().servers());
    secured().grant(user, &world);
    world
}

fn transactional_ids(world: &World) -> Right {
    let resource = Resource::TransactionalIds(format!("{}.", world.name));
    let operation = Operation::Write;
    Right { operation, resource }
}

/// What people are told where it is missing.
fn refusal(right: &Right) -> String {
    let operation = match right.operation {
        Operation::Read => "READ",
        Operation::Write => "WRITE",
        Operation::Create => "CREATE",
        Operation::DescribeConfigs => "DESCRIBE_CONFIGS",
    };
    match &right.resource {
        // It alone implies that the topic may be seen.
        Resource::Topic(topic) if operation == "WRITE" && topic.ends_with(".changes") => {
            format!("DESCRIBE on topic {topic}, which READ and WRITE imply, is not granted")
        }
        Resource::Topic(topic) => format!("{operation} on topic {topic} is not granted"),
        Resource::TransactionalIds(prefix) => {
            format!("WRITE on the transactional ids that begin with {prefix} is not granted")
        }
        Resource::Group(name) => format!("READ on the group {name} is not granted"),
    }
}

/// Without `right`, `check` names it, and so does a start, which then changes nothing.
#[track_caller]
fn needs(world: &World, user: &str, right: &Right) {
    let environment = secured().of(user);
    let mut environment = borrowed(&environment);
    environment.push(AT_ONCE);
    let refusal = refusal(right);
    secured().take_away(user, right);
    let found = shown(world, &["check"], &environment).expect(2);
    let errors: Vec<_> = found.out.lines().filter(|line| line.starts_with('✗')).collect();
    assert!(
        errors.len() == 1 && errors[0].contains(&refusal),
        "no `{refusal}`: {}",
        found.out
    );
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.expect_exit(2);
    let log = source.log();
    assert!(log.contains(&refusal), "no `{refusal}`: {log}");
    assert!(
        log.contains("docs/operations/kafka.md has the kafka-acls.sh lines"),
        "{log}"
    );
    secured().give_back(user, right);
}

#[track_caller]
fn catch_up(world: &World, environment: &[(&str, &str)]) -> String {
    let mut source = world.command(&["run", "--until-caught-up"], environment);
    source.expect_exit(0);
    source.log()
}

#[track_caller]
fn judged(world: &World) {
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

fn arrives(world: &World, source: &mut Source, ids: &[String]) {
    wait_for("what was inserted", || {
        assert!(source.is_running(), "{}", source.log());
        let are_there = |records: &[Record]| ids.iter().all(|id| records.iter().any(|record| record.key() == id));
        world.follow_accounts(are_there).then_some(())
    });
}

#[test]
fn each_right_that_a_start_needs_is_named_where_it_is_missing() {
    use Operation::{Create, DescribeConfigs, Read, Write};
    let world = world_of("starts", 300);
    let environment = secured().of("starts");
    let environment = borrowed(&environment);
    needs(&world, "starts", &Right::to(Create, &world.topic("changes")));
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(found.out.contains("missing; `run` creates it"), "{}", found.out);
    catch_up(&world, &environment);
    let mut rights = vec![transactional_ids(&world)];
    for kind in ["accounts", "cursor"] {
        rights.extend([Read, Write].map(|operation| Right::to(operation, &world.topic(kind))));
    }
    rights.push(Right::to(DescribeConfigs, &world.topic("accounts")));
    rights.push(Right::to(Write, &world.topic("changes")));
    for right in rights {
        // Something to write.
        world.simulator.insert(0, 1);
        needs(&world, "starts", &right);
    }
    // The topic of dead letters is written to where there is one, and read where one is held.
    let row = world.simulator.rows(0).swap_remove(7);
    change(&world, &row, &[("balance_amount", "10.5")]);
    needs(&world, "starts", &Right::to(Write, &world.topic("dead")));
    catch_up(&world, &environment);
    assert_eq!(world.dead_letters().len(), 1);
    needs(&world, "starts", &Right::to(Read, &world.topic("dead")));
    mend(&world, &row);
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(found.out.contains("✓ kafka, authorization: "), "{}", found.out);
    catch_up(&world, &environment);
    judged(&world);
}

#[test]
fn a_right_that_is_taken_away_while_it_runs_is_named_and_costs_nothing() {
    let world = quick_world_of("runs", 300);
    let environment = secured().of("runs");
    let mut environment = borrowed(&environment);
    environment.push(AT_ONCE);
    for right in [
        Right::to(Operation::Write, &world.topic("accounts")),
        Right::to(Operation::Write, &world.topic("cursor")),
        transactional_ids(&world),
    ] {
        let mut source = world.command(&["run"], &environment);
        source.wait_for_line("claimed and restored");
        arrives(&world, &mut source, &world.simulator.insert(0, 2));
        secured().take_away("runs", &right);
        // The broker may still let in what comes right after it has said that the right is gone.
        wait_for("the end", || {
            world.simulator.insert(0, 1);
            std::thread::sleep(Duration::from_millis(200));
            (!source.is_running()).then_some(())
        });
        source.expect_exit(2);
        let (log, refusal) = (source.log(), refusal(&right));
        assert!(log.contains(&refusal), "no `{refusal}`: {log}");
        secured().give_back("runs", &right);
    }
    catch_up(&world, &environment);
    judged(&world);
}

#[test]
fn a_right_that_comes_some_seconds_after_a_start_is_waited_for() {
    use Operation::{Create, DescribeConfigs, Read, Write};
    let world = quick_world_of("starts-early", 50);
    let environment = secured().of("starts-early");
    let environment = borrowed(&environment);
    for right in [
        Right::to(Create, &world.topic("changes")),
        Right::to(DescribeConfigs, &world.topic("accounts")),
        transactional_ids(&world),
        Right::to(Read, &world.topic("cursor")),
        Right::to(Write, &world.topic("cursor")),
        Right::to(Read, &world.topic("accounts")),
    ] {
        secured().take_away("starts-early", &right);
        let mut source = world.command(&["run"], &environment);
        source.wait_for_line(&refusal(&right));
        nothing_happens_for(Duration::from_secs(5));
        assert!(source.is_running(), "{right:?}: {}", source.log());
        secured().give_back("starts-early", &right);
        source.wait_for_line("claimed and restored");
        arrives(&world, &mut source, &world.simulator.insert(0, 2));
        source.signal("TERM");
        source.expect_exit(0);
    }
    // What is live came first, and with each end what of the snapshot was not committed yet is read again.
    catch_up(&world, &environment);
    judged(&world);
}

#[test]
fn a_right_that_is_taken_for_ten_seconds_from_a_running_source_costs_nothing() {
    let world = quick_world_of("runs-on", 300);
    let environment = secured().of("runs-on");
    let environment = borrowed(&environment);
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    for right in [
        Right::to(Operation::Write, &world.topic("accounts")),
        Right::to(Operation::Write, &world.topic("cursor")),
        Right::to(Operation::Read, &world.topic("cursor")),
        transactional_ids(&world),
    ] {
        arrives(&world, &mut source, &world.simulator.insert(0, 2));
        secured().take_away("runs-on", &right);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            world.simulator.insert(0, 1);
            nothing_happens_for(Duration::from_millis(500));
        }
        assert!(source.is_running(), "{right:?}: {}", source.log());
        secured().give_back("runs-on", &right);
        arrives(&world, &mut source, &world.simulator.insert(0, 1));
    }
    let log = source.log();
    assert!(
        log.contains("degraded, reopening: ") && log.contains("is not granted"),
        "{log}"
    );
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn a_right_that_stays_away_ends_a_source_after_its_patience_and_a_persons_command_at_once() {
    const PATIENCE: Duration = Duration::from_secs(5);
    let world = quick_world_of("stays-away", 50);
    let environment = secured().of("stays-away");
    let mut environment = borrowed(&environment);
    catch_up(&world, &environment);
    let right = transactional_ids(&world);
    secured().take_away("stays-away", &right);
    // With a minute's patience.
    for command in [&["check"][..], &["replay"], &["reconcile"]] {
        let begun = Instant::now();
        let refused = shown(&world, command, &environment).expect(2);
        let told = format!("{}{}", refused.out, refused.log);
        assert!(told.contains(&refusal(&right)), "{command:?}: {told}");
        assert!(
            begun.elapsed() < Duration::from_secs(45),
            "{command:?}: {:?}",
            begun.elapsed()
        );
    }
    environment.push(("D02_TEST_DENIAL_PATIENCE", "5000"));
    let begun = Instant::now();
    let mut source = world.command(&["run"], &environment);
    source.expect_exit(2);
    assert!(begun.elapsed() > PATIENCE, "{:?}", begun.elapsed());
    secured().give_back("stays-away", &right);

    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    let right = Right::to(Operation::Write, &world.topic("accounts"));
    secured().take_away("stays-away", &right);
    world.simulator.insert(0, 1);
    source.wait_for_line("degraded, reopening: ");
    let begun = Instant::now();
    source.expect_exit(2);
    assert!(begun.elapsed() > PATIENCE / 2, "{:?}", begun.elapsed());
    secured().give_back("stays-away", &right);
    catch_up(&world, &environment);
    judged(&world);
}

#[test]
fn the_right_to_a_group_is_named_where_it_is_missing_and_enough_where_it_is_granted() {
    let world = quick_world_of("stays-away", 50);
    let environment = secured().of("stays-away");
    let mut environment = borrowed(&environment);
    environment.push(("D02_TEST_DENIAL_PATIENCE", "3000"));
    let right = Right {
        operation: Operation::Read,
        resource: Resource::Group(world.name.clone()),
    };
    secured().take_away("stays-away", &right);
    let missing = format!("✗ kafka, group: {}", refusal(&right));
    let checked = shown(&world, &["check"], &environment).expect(2);
    assert!(checked.out.contains(&missing), "no `{missing}`: {}", checked.out);
    let mut source = world.command(&["run"], &environment);
    source.expect_exit(2);
    let log = source.log();
    let told = format!("joining the group: {}", refusal(&right));
    assert!(log.contains(&told), "no `{told}`: {log}");
    assert!(!log.contains("claimed and restored"), "{log}");
    // Who is alone needs none.
    let single = [&environment[..], &[("D02__GROUP__MODE", "single")]].concat();
    shown(&world, &["check"], &single).expect(0);
    secured().give_back("stays-away", &right);
    let granted = format!("✓ kafka, group: READ on {}, tried without joining", world.name);
    let checked = shown(&world, &["check"], &environment).expect(0);
    assert!(checked.out.contains(&granted), "no `{granted}`: {}", checked.out);
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("assigned by the group");
    wait_for("the snapshot", || (world.accounts_so_far() == 50).then_some(()));
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn the_main_job_needs_no_more_than_the_documented_rights() {
    let world = world_of("main", 20_000);
    let environment = secured().of("main");
    let mut environment = borrowed(&environment);
    environment.push(("D02__TRANSACTION__MAX_ROWS", "1000"));
    shown(&world, &["setup"], &environment).expect(0);
    world.simulator.set_latency(Duration::from_millis(20));
    let mut killed = world.command(&["run"], &environment);
    wait_for("a part of the snapshot", || {
        (world.accounts_so_far() > 5_000).then_some(())
    });
    killed.kill();
    world.simulator.set_latency(Duration::ZERO);
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    arrives(&world, &mut source, &world.simulator.insert(0, 5));
    // Longer than a connection may live without showing again who it is.
    nothing_happens_for(Duration::from_secs(8));
    arrives(&world, &mut source, &world.simulator.insert(0, 5));
    let gone = world.simulator.delete(0, 2, 1);
    source.signal("TERM");
    source.expect_exit(0);
    let log = source.log();
    assert!(!log.contains("Authentication") && !log.contains("ERROR"), "{log}");
    shown(&world, &["reconcile"], &environment).expect(0);
    shown(&world, &["verify"], &environment).expect(0);
    shown(&world, &["cursor", "show"], &environment).expect(0);
    shown(&world, &["replay"], &environment).expect(0);
    let records = world.judged_accounts();
    assert!(gone.iter().all(|id| !judge::latest(&records).contains_key(id.as_str())));
    judge::everything(&records, &world.simulator.rows(0));
}

#[test]
fn every_password_mechanism_gets_in_over_tls_and_a_refusal_says_why() {
    let world = quick_world_of("main", 50);
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let environment = secured().sasl(mechanism, "main", "planted-main");
        let environment = borrowed(&environment);
        let found = shown(&world, &["check"], &environment).expect(0);
        assert!(
            found.out.contains("✓ kafka, brokers: 1 broker, by SASL_SSL"),
            "{}",
            found.out
        );
        world.simulator.insert(0, 1);
        catch_up(&world, &environment);
        let wrong = secured().sasl(mechanism, "main", "planted-wrong");
        let mut wrong = borrowed(&wrong);
        wrong.push(("D02_TEST_CHECK_LIMIT", "20000"));
        let refused = shown(&world, &["check"], &wrong).expect(2);
        for part in [
            "✗ kafka, authentication: no answer from ",
            "uthentication failed",
            "; wanted: credentials that the brokers accept\n    → correct user name, password",
        ] {
            assert!(refused.out.contains(part), "no `{part}`: {}", refused.out);
        }
    }
    let ca_file = world.path("other.pem");
    let other = Authority::new("other").expect("an authority");
    std::fs::write(&ca_file, other.pem()).expect("written");
    let ca_file = ca_file.display().to_string();
    let environment = secured().of("main");
    let mut environment = borrowed(&environment);
    environment.push(("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", &ca_file));
    environment.push(("D02_TEST_CHECK_LIMIT", "20000"));
    let distrusted = shown(&world, &["check"], &environment).expect(2);
    assert!(
        distrusted.out.contains("✗ kafka, TLS: no answer from "),
        "{}",
        distrusted.out
    );
    let stranger = secured().of("stranger");
    let found = shown(&world, &["check", "--json"], &borrowed(&stranger)).expect(2);
    for kind in ["accounts", "cursor", "changes", "dead"] {
        let named = format!("DESCRIBE on topic {}", world.topic(kind));
        assert!(found.out.contains(&named), "no `{named}`: {}", found.out);
    }
    assert!(
        found.out.contains(&refusal(&transactional_ids(&world))),
        "{}",
        found.out
    );
    judged(&world);
}

#[test]
fn a_certificate_gets_in_and_one_of_another_authority_does_not() {
    let world = quick_world_of(CERTIFIED, 50);
    let environment = secured().mutual(&world, &secured().certificate(CERTIFIED));
    let environment = borrowed(&environment);
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(
        found.out.contains("✓ kafka, brokers: 1 broker, by SSL"),
        "{}",
        found.out
    );
    catch_up(&world, &environment);
    judged(&world);
    // Neither side takes what it does not know.
    let stranger = Authority::new("stranger").expect("an authority");
    let certified = stranger.client(CERTIFIED).expect("a certificate");
    let other = secured().mutual(&world, &certified);
    let mut other = borrowed(&other);
    other.push(("D02_TEST_CHECK_LIMIT", "20000"));
    let refused = shown(&world, &["check"], &other).expect(2);
    assert!(refused.out.contains("✗ kafka, TLS: no answer from "), "{}", refused.out);
    let ca_file = world.path("stranger.pem");
    std::fs::write(&ca_file, stranger.pem()).expect("written");
    let ca_file = ca_file.display().to_string();
    let mut distrusting = environment.clone();
    distrusting.retain(|(name, _)| !name.ends_with("SSL_CA_LOCATION"));
    distrusting.push(("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", &ca_file));
    distrusting.push(("D02_TEST_CHECK_LIMIT", "20000"));
    let distrusted = shown(&world, &["check"], &distrusting).expect(2);
    for part in [
        "✗ kafka, TLS: no answer from ",
        "certificate verify failed",
        "ssl.ca.location",
    ] {
        assert!(distrusted.out.contains(part), "no `{part}`: {}", distrusted.out);
    }
}

/// `noticed_by`: what is said of a password that is not taken any more.
fn is_read_again_while_it_runs(world: &World, user: &str, noticed_by: &str) {
    let file = world.path("password");
    let write = |password: &str| std::fs::write(&file, password).expect("written");
    write(&format!("planted-{user}"));
    let path = file.display().to_string();
    let environment = secured().of(user);
    let mut environment = borrowed(&environment);
    environment.retain(|(name, _)| !name.ends_with("SASL_PASSWORD"));
    environment.push(("D02__KAFKA__PROPERTIES__SASL_PASSWORD_FILE", &path));
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    arrives(world, &mut source, &world.simulator.insert(0, 1));
    secured().set_password(user, "planted-second");
    source.wait_for_line("Authentication failed during re-authentication");
    let inserted = world.simulator.insert(0, 2);
    source.wait_for_line(noticed_by);
    // Nobody is in a hurry to mount the new one.
    nothing_happens_for(Duration::from_secs(2));
    write("planted-second");
    arrives(world, &mut source, &inserted);
    source.signal("TERM");
    source.expect_exit(0);
    judged(world);
}

#[test]
fn a_password_that_changes_while_it_runs_is_read_again_by_who_is_alone() {
    let world = quick_world_of("rotated", 50).single();
    is_read_again_while_it_runs(&world, "rotated", "degraded, reopening: authentication failed");
}

#[test]
fn a_password_that_changes_while_it_runs_is_read_again_by_a_member() {
    let world = quick_world_of("turned", 50);
    is_read_again_while_it_runs(&world, "turned", "lost: the group heard nothing of this process");
}

#[test]
fn a_ca_file_of_the_brokers_that_is_replaced_while_it_runs_is_read_again_when_a_handshake_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |file: &str| directory.path().join(file).display().to_string();
    let certify = || {
        let authority = Authority::new("of the brokers").expect("an authority");
        let server = authority.server([127, 0, 0, 1].into(), &[]).expect("a certificate");
        let chain = [server.key.as_str(), &server.certificate, authority.pem()].concat();
        std::fs::write(path("broker.pem"), chain).expect("written");
        authority
    };
    std::fs::write(path("ca.pem"), certify().pem()).expect("written");
    let properties = [
        ("ssl.keystore.type", "PEM".to_owned()),
        ("ssl.keystore.location", path("broker.pem")),
    ];
    let mut broker = Broker::start(BrokerOptions {
        properties: properties.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        listeners: vec![("SECURED".to_owned(), "SSL".to_owned())],
        ..BrokerOptions::default()
    })
    .expect("a broker");
    let world = World::new(&[50]).on(&broker.bootstrap_servers());
    let environment = [
        ("D02__KAFKA__BOOTSTRAP_SERVERS", broker.listener_address("SECURED")),
        ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL".to_owned()),
        ("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", path("ca.pem")),
        ("D02__GROUP__SESSION_TIMEOUT", "6s".to_owned()),
    ];
    let mut source = world.command(&["run"], &borrowed(&environment));
    arrives(&world, &mut source, &world.simulator.insert(0, 1));
    world.stop_between_transactions(&source);
    let second = certify();
    broker.restart(1).expect("restarted");
    source.signal("CONT");
    let inserted = world.simulator.insert(0, 2);
    source.wait_for_line("certificate verify failed");
    // Nobody is in a hurry to mount the new one.
    nothing_happens_for(Duration::from_secs(2));
    assert!(source.is_running(), "{}", source.log());
    std::fs::write(path("ca.pem"), second.pem()).expect("written");
    arrives(&world, &mut source, &inserted);
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

const SECRET: &str = "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET";
const SECRET_FILE: &str = "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_SECRET_FILE";

/// So short that several end within a test.
const LIFE: Duration = Duration::from_secs(10);

#[test]
fn a_bearer_token_gets_in_and_is_renewed_before_it_ends() {
    let server = AuthorizationServer::start("planted-client", LIFE);
    let world = quick_world_of("vouched", 500);
    let environment = secured().vouched(&server, "vouched");
    let mut environment = borrowed(&environment);
    environment.push((SECRET, "planted-client"));
    // It runs on this machine, as upstream and the registry do: no proxy is asked.
    let proxy = HttpProxy::start("svc", "planted-proxy");
    let url = proxy.url("svc", "planted-proxy");
    environment.extend(["HTTPS_PROXY", "ALL_PROXY"].map(|name| (name, url.as_str())));
    let found = shown(&world, &["check"], &environment).expect(0);
    assert!(
        found.out.contains("✓ kafka, brokers: 1 broker, by SASL_SSL"),
        "{}",
        found.out
    );
    let before = server.answers().len();
    let begun = Instant::now();
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    while begun.elapsed() < 3 * LIFE {
        arrives(&world, &mut source, &world.simulator.insert(0, 1));
        nothing_happens_for(Duration::from_secs(1));
    }
    source.signal("TERM");
    source.expect_exit(0);
    let log = source.log();
    // On a busy machine one of its connections may come a moment too late to authenticate anew, and is made again.
    let degraded: Vec<_> = log.lines().filter(|line| line.contains("degraded")).collect();
    assert!(
        degraded.len() <= 1 && degraded.iter().all(|line| line.contains("code=K13")),
        "{log}"
    );
    assert!(!log.contains("ERROR"), "{log}");
    let answers = server.answers().split_off(before);
    // One for all clients of a start, then one each time that half of a life or more is over.
    let most = 2 + usize::try_from(begun.elapsed().as_secs() / (LIFE.as_secs() / 2)).expect("few");
    assert!((3..=most).contains(&answers.len()), "{answers:?}");
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
    for command in [&["tail"][..], &["verify"], &["cursor", "show"], &["reconcile"]] {
        shown(&world, command, &environment).expect(0);
    }
    assert_eq!(proxy.heard_count(), 0);
    judged(&world);
}

#[test]
fn a_ca_file_of_the_token_endpoint_that_is_replaced_is_read_again_at_the_next_request() {
    let server = AuthorizationServer::start("planted-client", LIFE);
    let world = quick_world_of("vouched", 50);
    let environment = secured().vouched(&server, "vouched");
    let mut environment = borrowed(&environment);
    environment.push((SECRET, "planted-client"));
    let (mut right, file) = (String::new(), world.path("login-ca.pem"));
    environment.retain(|(name, path)| {
        let is_ca = *name == "D02__KAFKA__PROPERTIES__HTTPS_CA_LOCATION";
        if is_ca {
            right = std::fs::read_to_string(path).expect("the CA");
        }
        !is_ca
    });
    std::fs::write(&file, &right).expect("written");
    let path = file.display().to_string();
    environment.push(("D02__KAFKA__PROPERTIES__HTTPS_CA_LOCATION", &path));
    let mut source = world.command(&["run"], &environment);
    arrives(&world, &mut source, &world.simulator.insert(0, 1));
    let other = Authority::new("other").expect("an authority");
    std::fs::write(&file, other.pem()).expect("written");
    // The last token is good to its end.
    nothing_happens_for(LIFE);
    let inserted = world.simulator.insert(0, 2);
    source.wait_for_line("degraded, reopening: ");
    assert!(
        source
            .log()
            .contains("no token for Kafka: no answer from the authorization server"),
        "{}",
        source.log()
    );
    std::fs::write(&file, right).expect("written");
    arrives(&world, &mut source, &inserted);
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn why_there_is_no_bearer_token_is_said_and_the_secret_is_read_again() {
    let server = AuthorizationServer::start("planted-client", LIFE);
    let world = quick_world_of("vouched", 50);
    let file = world.path("client-secret");
    let write = |secret: &str| std::fs::write(&file, secret).expect("written");
    let path = file.display().to_string();
    let environment = secured().vouched(&server, "vouched");
    let mut environment = borrowed(&environment);
    environment.push((SECRET_FILE, &path));
    environment.push(("D02_TEST_CHECK_LIMIT", "20000"));
    write("planted-wrong");
    let refused = shown(&world, &["check"], &environment).expect(2);
    let why = "no token for Kafka: the authorization server answered 401 Unauthorized (invalid_client)";
    assert!(
        refused.out.contains("✗ kafka, authentication: ") && refused.out.contains(why),
        "{}",
        refused.out
    );
    server.set_away(true);
    let away = shown(&world, &["check"], &environment).expect(1);
    let why = "no token for Kafka: no answer from the authorization server";
    assert!(
        away.out.contains("✗ kafka, authentication: ") && away.out.contains(why),
        "{}",
        away.out
    );
    server.set_away(false);
    write("planted-client");
    let mut source = world.command(&["run"], &environment);
    source.wait_for_line("claimed and restored");
    server.set_secret("planted-second");
    let is_refused = || server.answers().last() == Some(&401);
    wait_for("a renewal is refused", || is_refused().then_some(()));
    // The last token is good to its end.
    nothing_happens_for(LIFE);
    let inserted = world.simulator.insert(0, 2);
    source.wait_for_line("degraded, reopening: ");
    let why = "no token for Kafka: the authorization server answered 401 Unauthorized (invalid_client)";
    assert!(source.log().contains(why), "{}", source.log());
    write("planted-second");
    arrives(&world, &mut source, &inserted);
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn no_log_has_a_bearer_token_or_a_password_however_much_is_logged() {
    let server = AuthorizationServer::start("planted-client", LIFE);
    let world = quick_world_of("vouched", 50);
    let environment = secured().vouched(&server, "vouched");
    let mut environment = borrowed(&environment);
    environment.extend([
        (SECRET, "planted-client"),
        ("D02__KAFKA__PROPERTIES__DEBUG", "all"),
        ("RUST_LOG", "trace"),
    ]);
    // Every output is searched for secrets.
    let log = shown(&world, &["run", "--until-caught-up"], &environment).expect(0).log;
    assert!(log.contains("TRACE") && log.contains("SASLMECHS"), "no trace: {log}");
    let credentials = BASE64_STANDARD.encode("vouched:planted-client");
    assert!(!log.contains(&credentials), "{log}");
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let environment = secured().sasl(mechanism, "vouched", "planted-vouched");
        let mut environment = borrowed(&environment);
        environment.extend([("D02__KAFKA__PROPERTIES__DEBUG", "all"), ("RUST_LOG", "trace")]);
        let found = shown(&world, &["check"], &environment).expect(0);
        assert!(found.log.contains("SASLMECHS"), "no trace: {}", found.log);
        let plain = BASE64_STANDARD.encode("\0vouched\0planted-vouched");
        assert!(!found.log.contains(&plain), "{}", found.log);
    }
    judged(&world);
}
