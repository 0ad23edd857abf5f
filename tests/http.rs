//! Do health and metrics say what is so? Asked over HTTP, as a supervisor and Prometheus do, of the real process.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Fault, LenderOptions};
use d02_source::testbed::{Broker, BrokerOptions};
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::kafka_proxy::KafkaProxy;
use crate::support::shown::{self, Shown};
use crate::support::source::Source;
use crate::support::world::{self, World};
use crate::support::{PATIENCE, RUNTIME, judge, wait_for};

/// A source that is looked at over HTTP.
pub(crate) struct Observed {
    pub(crate) source: Source,
    url: String,
}

impl Observed {
    pub(crate) fn start(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Self {
        let listen = [("D02__HTTP__LISTEN", "127.0.0.1:0")];
        // A later one wins.
        let environment: Vec<_> = listen.into_iter().chain(environment.iter().copied()).collect();
        let mut source = world.command(args, &environment);
        source.wait_for_line("health and metrics at http://");
        let log = source.log();
        let (_, rest) = log.split_once("health and metrics at http://").expect("the line");
        let address = rest.split_whitespace().next().expect("an address");
        let url = format!("http://{}", address.replace("0.0.0.0", "127.0.0.1"));
        Self { source, url }
    }

    pub(crate) fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.url))
    }

    fn send(&self, request: reqwest::RequestBuilder) -> (StatusCode, reqwest::header::HeaderMap, String) {
        RUNTIME.block_on(async {
            let answer = request.send().await.expect("an answer");
            let (status, headers) = (answer.status(), answer.headers().clone());
            (status, headers, answer.text().await.expect("text"))
        })
    }

    pub(crate) fn get(&self, path: &str) -> (StatusCode, String) {
        let (status, _, text) = self.send(self.request(Method::GET, path));
        (status, text)
    }

    pub(crate) fn ask(&self, method: Method, path: &str) -> (StatusCode, String) {
        self.ask_with(method, path, &[], String::new())
    }

    pub(crate) fn ask_with(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (StatusCode, String) {
        let request = headers
            .iter()
            .fold(self.request(method, path), |request, (name, value)| {
                request.header(*name, *value)
            });
        let (status, _, text) = self.send(request.body(body));
        (status, text)
    }

    /// The status and body of a health page.
    fn health(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.get(path);
        (status.as_u16(), serde_json::from_str(&text).expect("JSON"))
    }

    #[track_caller]
    pub(crate) fn wait_until_ready(&self) {
        wait_for("it is ready", || (self.health("/readyz").0 == 200).then_some(()));
    }

    fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics");
        assert_eq!(status, StatusCode::OK, "{text}");
        Metrics::of_text(&text)
    }
}

struct Metrics {
    samples: BTreeMap<String, f64>,
}

impl Metrics {
    fn of_text(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a name and a value");
            (name.to_owned(), value.parse().expect("a number"))
        });
        Self {
            samples: samples.collect(),
        }
    }

    /// Of a lender; `None`: there is no such sample.
    fn find(&self, name: &str, lender: &str) -> Option<f64> {
        self.samples.get(&format!("d02_{name}{{lender=\"{lender}\"}}")).copied()
    }

    #[track_caller]
    fn of(&self, name: &str, lender: &str) -> f64 {
        self.find(name, lender)
            .unwrap_or_else(|| panic!("no {name} of {lender} in {:#?}", self.samples))
    }

    fn requests(&self, lender: &str, status: &str) -> f64 {
        let name = format!("d02_requests_total{{lender=\"{lender}\",status=\"{status}\"}}");
        self.samples.get(&name).copied().unwrap_or_default()
    }
}

#[test]
fn metrics_of_a_known_run_have_the_values_that_topics_and_upstream_show() {
    let mut options = world::options(&[2_000, 300]);
    options.lenders[0].bad_rate = 0.02;
    let world = World::with(options);
    let bad_gateway = Effect::Status {
        code: StatusCode::BAD_GATEWAY,
        retry_after: None,
    };
    // On a page of the snapshot; the counting of its rows, which is not tried again, has no cursor.
    let fault = Fault::export(bad_gateway).lender("lender-1").cursor(true).times(2);
    world.simulator.push_fault(fault);
    let environment = [
        ("D02__KAFKA__PROPERTIES__STATISTICS_INTERVAL_MS", "200"),
        ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "200ms"),
    ];
    let mut observed = Observed::start(&world, &["run"], &environment);
    observed.wait_until_ready();
    let good_count = |lender: usize| {
        let rows = world.simulator.rows(lender);
        rows.iter()
            .filter(|row| !matches!(row.kind, d02_source::simulator::RowKind::Bad(_)))
            .count()
    };
    let counts = [good_count(0), good_count(1)];
    let bad_count = 2_000 - counts[0];
    assert!(bad_count > 10, "{bad_count} bad rows");
    let snapshot = counts[0] + counts[1];
    wait_for("the snapshot", || (world.accounts_so_far() == snapshot).then_some(()));
    let touched = world.simulator.touch(0, 40, 7).len();
    wait_for("the changes", || {
        (world.accounts_so_far() == snapshot + touched).then_some(())
    });
    let metrics = wait_for("what is committed is counted, and librdkafka has told", || {
        let metrics = observed.metrics();
        let is_counted = metrics.of("records_total", "lender-1") == (counts[0] + touched) as f64
            && metrics.of("records_total", "lender-2") == counts[1] as f64
            && metrics.of("kafka_messages_total", "lender-1") >= (counts[0] + touched) as f64
            && metrics.of("sweeps_total", "lender-1") > 0.0;
        // Not all of one moment: a transaction may be committed between two of them.
        let fits_together = ["lender-1", "lender-2"].iter().all(|lender| {
            let of = |name: &str| metrics.of(name, lender);
            let written = of("records_total") + of("dead_letters_total") + of("repeated_rows_total");
            of("rows_total") >= written
                && of("transactions_total") == of("transaction_seconds_count")
                && of("transactions_total") == of("transaction_records_count")
        });
        (is_counted && fits_together).then_some(metrics)
    });
    assert_eq!(metrics.of("changes_total", "lender-1"), (counts[0] + touched) as f64);
    assert_eq!(
        metrics.of("changes_total", "lender-1") + metrics.of("changes_total", "lender-2"),
        world.changes().len() as f64
    );
    // Bad rows that are the same to the byte are one dead letter.
    let dead_count = world.dead_letters().len();
    assert!(
        dead_count > 10 && dead_count <= bad_count,
        "{dead_count} of {bad_count}"
    );
    assert_eq!(metrics.of("dead_letters_total", "lender-1"), dead_count as f64);
    assert!(metrics.of("repeated_rows_total", "lender-1") >= (bad_count - dead_count) as f64);
    assert_eq!(metrics.of("dead_letters_total", "lender-2"), 0.0);
    for (number, lender) in ["lender-1", "lender-2"].into_iter().enumerate() {
        let of = |name: &str| metrics.of(name, lender);
        assert_eq!(of("accounts"), counts[number] as f64);
        assert!(of("index_bytes") > of("accounts"));
        assert_eq!(
            of("snapshot_rows_read_total"),
            if number == 0 { 2_000.0 } else { 300.0 }
        );
        assert_eq!((of("logins_total"), of("ready"), of("rows_behind")), (1.0, 1.0, 0.0));
        assert_eq!(metrics.find("snapshot_share", lender), None);
        for zero in [
            "reopens_total",
            "regressed_rows_total",
            "stale_rows_total",
            "unverified_pages_total",
        ] {
            assert_eq!(of(zero), 0.0, "{zero}");
        }
        assert!(
            (0.0..60.0).contains(&of("freshness_seconds")),
            "{}",
            of("freshness_seconds")
        );
        let settled = of("settled_timestamp_seconds") * 1000.0;
        let now = world.simulator.now_ms() as f64;
        assert!(settled > now - 3_600_000.0 && settled < now, "{settled}");
        assert!(of("kafka_brokers_up") >= 1.0 && of("bytes_total") > 1_000.0);
    }
    let written = metrics.of("transaction_records_sum", "lender-1");
    assert_eq!(written, (2 * (counts[0] + touched) + dead_count) as f64);
    // Only what is live has a latency.
    assert_eq!(metrics.of("latency_seconds_count", "lender-1"), touched as f64);
    assert_eq!(metrics.of("latency_seconds_count", "lender-2"), 0.0);
    assert_eq!(metrics.requests("lender-1", "502"), 2.0);
    assert_eq!(metrics.of("retries_total", "lender-1"), 2.0);
    assert_eq!(metrics.requests("lender-1", "401"), 0.0);
    let version = format!("d02_build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
    assert_eq!(metrics.samples[&version], 1.0);
    // For .ci/metrics.
    let (_, text) = observed.get("/metrics");
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/metrics.txt"), text).expect("written");
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    let requests = world.simulator.requests();
    let refused = requests.iter().filter(|request| request.status == Some(502)).count();
    assert_eq!(refused, 2);
    judge::once_and_in_order(&world.judged_accounts());
}

#[test]
fn a_lender_whose_upstream_stands_still_is_not_ready_until_it_moves_again_and_the_process_lives() {
    let world = World::new(&[200]);
    let environment = [
        ("D02__HTTP__STALE_AFTER", "1500ms"),
        ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "200ms"),
    ];
    let observed = Observed::start(&world, &["run"], &environment);
    observed.wait_until_ready();
    for _ in 0..2 {
        world.simulator.set_down(true);
        let report = wait_for("it is not ready", || {
            let (status, report) = observed.health("/readyz");
            assert_eq!(observed.health("/livez").0, 200);
            (status == 503).then_some(report)
        });
        let lender = &report["lenders"]["lender-1"];
        assert_eq!((&report["ready"], &lender["ready"]), (&false.into(), &false.into()));
        let why = lender["why"].as_str().expect("why");
        assert!(why.contains("nothing further of it was read and committed"), "{why}");
        assert_eq!(observed.metrics().of("ready", "lender-1"), 0.0);
        // A heartbeat is no progress.
        let heartbeats = observed.metrics().of("transactions_total", "lender-1");
        wait_for("a heartbeat", || {
            (observed.metrics().of("transactions_total", "lender-1") > heartbeats).then_some(())
        });
        assert_eq!(observed.health("/readyz").0, 503);
        assert_eq!(
            observed.health("/livez"),
            (200, serde_json::json!({ "alive": true, "late": [] }))
        );
        world.simulator.set_down(false);
        observed.wait_until_ready();
    }
    assert!(observed.metrics().requests("lender-1", "none") > 0.0);
}

#[test]
fn a_date_that_is_an_hour_ahead_makes_it_not_ready_with_the_reason_and_loses_nothing() {
    let world = World::new(&[200]);
    world.simulator.set_date_skew(3_600_000);
    let environment = [
        ("D02__UPSTREAM__LATE_WINDOW", "5s"),
        ("D02__UPSTREAM__LATE_SWEEP_INTERVAL", "300ms"),
    ];
    let mut observed = Observed::start(&world, &["run"], &environment);
    let of = |observed: &Observed, name: &str| observed.metrics().of(name, "lender-1");
    wait_for("what there was", || (world.accounts_so_far() == 200).then_some(()));
    for number in 0..3 {
        let begun = of(&observed, "pages_total");
        wait_for("some polls", || {
            (of(&observed, "pages_total") > begun + 5.0).then_some(())
        });
        world.simulator.touch(0, 20, number);
        // Visible three seconds late: live has passed it, and a mark that went by `Date` has, too.
        world.simulator.change_late(0, 20, Duration::from_secs(3), number);
    }
    let (status, report) = observed.health("/readyz");
    let why = report["lenders"]["lender-1"]["why"].as_str().unwrap_or_default();
    assert!(
        status == 503 && why.contains("differ by more than upstream.late_window"),
        "{report}"
    );
    assert_eq!(observed.metrics().of("clocks_apart", "lender-1"), 1.0);
    wait_for("the late rows", || {
        (world.simulator.pending_late_count() == 0).then_some(())
    });
    // A sweep reads what is due, so that comes the late window after; a change behind it takes `read` there.
    let late_until = world.simulator.now_ms() as f64 / 1_000.0;
    world.simulator.touch(0, 1, 9);
    wait_for("the sweeps behind them", || {
        (of(&observed, "settled_timestamp_seconds") > late_until).then_some(())
    });
    judge::complete(&world.accounts(), &world.simulator.rows(0));
    world.simulator.set_date_skew(0);
    observed.wait_until_ready();
    assert_eq!(observed.metrics().of("clocks_apart", "lender-1"), 0.0);
    observed.source.wait_for_line("together again");
    let log = observed.source.log();
    assert_eq!(log.matches("U25").count(), 1, "{log}");
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_lender_that_does_not_run_makes_the_process_not_ready_and_no_page_shows_a_secret() {
    let mut options = world::options(&[50, 50]);
    options.lenders[0] = LenderOptions {
        password: "canary-password".to_owned(),
        ..options.lenders[0].clone()
    };
    let world = World::with(options);
    let observed = Observed::start(
        &world,
        &["run"],
        &[("D02__LENDERS__LENDER_2__PASSWORD", "canary-wrong")],
    );
    let report = wait_for("one runs and the other has failed", || {
        let (status, report) = observed.health("/readyz");
        assert_eq!(status, 503);
        let why = report["lenders"]["lender-2"]["why"].as_str()?.to_owned();
        (why.contains("refused") && report["lenders"]["lender-1"]["ready"] == true).then_some(report)
    });
    assert_eq!(
        report["lenders"]["lender-2"]["why"],
        "upstream refused it, or its secret cannot be read; the log says why"
    );
    assert!(observed.metrics().requests("lender-2", "401") > 0.0);
    for path in ["/metrics", "/readyz", "/livez", "/nothing"] {
        let (_, text) = observed.get(path);
        assert!(!text.contains("canary") && !text.contains("Bearer"), "{path}: {text}");
    }
}

#[test]
fn a_taken_port_is_exit_2_before_upstream_or_kafka_are_touched() {
    let world = World::new(&[10]);
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let environment = [
        ("D02__HTTP__LISTEN", address.as_str()),
        ("D02__KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:1"),
    ];
    let mut source = world.command(&["run"], &environment);
    source.expect_exit(2);
    let log = source.log();
    assert!(
        log.contains(&format!("error: listening on {address} (http.listen): ")),
        "{log}"
    );
    assert!(
        log.contains("choose an address of this machine and a port that is free"),
        "{log}"
    );
    assert_eq!(log.lines().count(), 2, "{log}");
    assert_eq!(world.simulator.counts().request_count, 0);
}

#[test]
fn pages_are_served_while_kafka_is_away_at_the_start() {
    let world = World::new(&[10]);
    let proxy = KafkaProxy::bind();
    let servers = proxy.bootstrap_servers();
    let observed = Observed::start(&world, &["run"], &[("D02__KAFKA__BOOTSTRAP_SERVERS", &servers)]);
    let (status, report) = observed.health("/readyz");
    assert_eq!(status, 503);
    assert_eq!(report["lenders"]["lender-1"]["why"], "it has not started yet");
    assert_eq!(observed.health("/livez").0, 200);
    assert_eq!(observed.metrics().of("rows_total", "lender-1"), 0.0);
}

#[test]
fn what_is_not_there_or_cannot_be_done_is_answered_as_http_has_it() {
    let world = World::new(&[10]);
    let environment = [("D02__HTTP__LISTEN", "0.0.0.0:0"), ("D02__HTTP__TOKEN", "canary-token")];
    let observed = Observed::start(&world, &["run"], &environment);
    let request = |method: Method, path: &str| observed.request(method, path);
    let (status, headers, _) = observed.send(request(Method::POST, "/metrics"));
    assert_eq!(
        (status.as_u16(), &headers["allow"]),
        (405, &"GET, HEAD".parse().expect("a value"))
    );
    let (status, headers, text) = observed.send(request(Method::HEAD, "/metrics"));
    assert_eq!((status.as_u16(), text.as_str()), (200, ""));
    assert_eq!(headers["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let (status, _, _) = observed.send(request(Method::GET, "/livez").body("a body"));
    assert_eq!(status.as_u16(), 413);
    // Health and metrics are for everybody, the rest is not.
    assert_eq!(observed.health("/livez").0, 200);
    let (status, headers, text) = observed.send(request(Method::GET, "/connectors"));
    assert_eq!(
        (status.as_u16(), &headers["www-authenticate"]),
        (401, &"Bearer".parse().expect("a value"))
    );
    assert!(!text.contains("canary"), "{text}");
    let with = |token: &str| {
        observed
            .send(request(Method::GET, "/connectors").bearer_auth(token))
            .0
            .as_u16()
    };
    observed.wait_until_ready();
    assert_eq!(
        (with("canary-toke"), with("canary-tokem"), with("canary-token")),
        (401, 401, 200)
    );
}

#[test]
fn without_a_token_others_get_health_and_metrics_alone() {
    let world = World::new(&[10]);
    let observed = Observed::start(&world, &["run"], &[("D02__HTTP__LISTEN", "0.0.0.0:0")]);
    observed.wait_until_ready();
    assert_eq!(observed.get("/metrics").0, StatusCode::OK);
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/connectors"),
        (Method::PUT, "/connectors/x/stop"),
    ] {
        let (status, text) = observed.ask(method, path);
        assert_eq!(status, StatusCode::FORBIDDEN, "{text}");
        assert!(text.contains("http.token is not set"), "{text}");
    }
}

#[test]
fn clients_that_hold_every_connection_without_a_whole_request_are_cut() {
    let world = World::new(&[10]);
    let observed = Observed::start(&world, &["run"], &[("D02__HTTP__TOKEN", "canary-token")]);
    observed.wait_until_ready();
    // This machine's own users need no token.
    assert_eq!(observed.get("/connectors").0, StatusCode::OK);
    let began = Instant::now();
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(observed.address()).expect("connected");
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: ").expect("written");
        slow.push(stream);
    }
    assert_eq!(observed.health("/livez").0, 200);
    for mut stream in slow {
        stream.set_read_timeout(Some(PATIENCE)).expect("set");
        let mut answer = Vec::new();
        // Closed, with or without a word, or reset.
        match stream.read_to_end(&mut answer) {
            Ok(_) => assert!(!answer.starts_with(b"HTTP/1.1 200"), "{answer:?}"),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}"),
        }
    }
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}

/// As a container asks, which knows no file and no lender.
fn health_check(listen: &str) -> Shown {
    let mut asked = shown::command(&["run", "--health-check"], &[("D02__HTTP__LISTEN", listen)]);
    Shown::of(asked.output().expect("it runs"))
}

#[test]
fn a_container_asks_whether_the_source_in_it_is_alive() {
    let world = World::new(&[50]);
    // What listens on all addresses is asked on this machine's own.
    let mut observed = Observed::start(&world, &["run"], &[("D02__HTTP__LISTEN", "0.0.0.0:0")]);
    let port = observed.address().rsplit(':').next().expect("a port").to_owned();
    let asked = health_check(&format!("0.0.0.0:{port}")).expect(0);
    assert_eq!(asked.out, "{\"alive\":true,\"late\":[]}\n");
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    let gone = health_check(&format!("127.0.0.1:{port}")).expect(1);
    assert!(
        gone.log
            .contains(&format!("no answer from http://127.0.0.1:{port}/livez: ")),
        "{}",
        gone.log
    );
    let nobody = health_check("").expect(0);
    assert_eq!(nobody.out, "http.listen is not set here, so there is nobody to ask\n");
    let wrong = health_check("here").expect(1);
    assert!(
        wrong
            .log
            .contains("http.listen = \"here\" (environment variable D02__HTTP__LISTEN): allowed is "),
        "{}",
        wrong.log
    );
}

/// The time beyond its limit that a step may take, in the tests of the watchdog.
const GRACE: (&str, &str) = ("D02_TEST_WATCHDOG_GRACE", "3000");

/// For a test in which time passes between the first sign and the end, or must not run out.
const LONG_GRACE: (&str, &str) = ("D02_TEST_WATCHDOG_GRACE", "9000");

#[test]
fn a_pipeline_that_hangs_is_not_alive_is_named_and_ends_the_process_with_1() {
    let world = World::new(&[50]);
    let environment = [
        LONG_GRACE,
        ("D02_TEST_WORK_LIMIT", "500"),
        ("D02_FAILPOINT", "before_remember:2"),
    ];
    let mut observed = Observed::start(&world, &["run"], &environment);
    observed.source.wait_for_line("failpoint before_remember reached");
    let report = wait_for("it is not alive", || {
        let (status, report) = observed.health("/livez");
        (status == 503).then_some(report)
    });
    assert_eq!(report["alive"], false);
    let asked = health_check(observed.address()).expect(1);
    let said = "/livez answered 503 Service Unavailable: {\"alive\":false,\"late\":[\"the pipeline of lender-1";
    assert!(asked.log.contains(said), "{}", asked.log);
    let late = report["late"][0].as_str().expect("what is late");
    assert!(
        late.starts_with("the pipeline of lender-1 does not turn: deciding and remembering, for "),
        "{late}"
    );
    observed.source.expect_exit(1);
    let log = observed.source.log();
    assert!(
        log.contains("ERROR the pipeline of lender-1 does not turn: deciding and remembering"),
        "{log}"
    );
    // Its supervisor starts it anew.
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_call_to_kafka_that_does_not_return_ends_the_process_with_1() {
    let world = World::new(&[50]);
    let mut source = world.command(&["run"], &[GRACE, ("D02_FAILPOINT", "while_committing:3")]);
    source.expect_exit(1);
    let log = source.log();
    let named = "the pipeline of lender-1 does not turn: committing a transaction, for ";
    let (_, late) = log.split_once(named).expect(&log);
    let (seconds, _) = late
        .split_once(" s longer than the 800ms that it may take")
        .expect(&log);
    // It looks every 750 ms.
    assert!((3..=5).contains(&seconds.parse().expect("a number")), "{log}");
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

#[test]
fn a_runtime_that_does_not_turn_ends_the_process_with_1() {
    let world = World::new(&[50]);
    let mut source = world.command(&["run"], &[GRACE, ("D02_FAILPOINT", "in_the_runtime:2")]);
    source.expect_exit(1);
    let log = source.log();
    assert!(log.contains("the runtime does not turn: waiting for a timer"), "{log}");
}

#[test]
fn neither_an_upstream_nor_a_broker_that_is_away_is_a_hang() {
    let proxy = KafkaProxy::bind();
    let broker = Broker::start(BrokerOptions {
        proxied_port: Some(proxy.port()),
        ..BrokerOptions::default()
    })
    .expect("a broker");
    proxy.forward_to(broker.proxied_listener_address());
    let world = World::new(&[500]).on(&broker.bootstrap_servers());
    let servers = proxy.bootstrap_servers();
    let environment = [
        LONG_GRACE,
        ("D02__KAFKA__BOOTSTRAP_SERVERS", servers.as_str()),
        ("D02__HTTP__STALE_AFTER", "2s"),
        ("D02__TRANSACTION__HEARTBEAT_INTERVAL", "1s"),
    ];
    let mut observed = Observed::start(&world, &["run"], &environment);
    observed.wait_until_ready();
    let mut stand_still = |what: &str, how_long: Duration| {
        let began = Instant::now();
        wait_for(what, || {
            assert!(observed.source.is_running(), "{}", observed.source.log());
            assert_eq!(observed.health("/livez").0, 200, "{}", observed.source.log());
            (began.elapsed() > how_long).then_some(())
        });
        assert_eq!(observed.health("/readyz").0, 503);
    };
    world.simulator.set_down(true);
    stand_still("upstream is away", Duration::from_secs(10));
    world.simulator.set_down(false);
    // Beyond the time-outs of a transaction's delivery and of a claim.
    proxy.cut(true);
    world.simulator.touch(0, 20, 3);
    stand_still("the broker is away", Duration::from_secs(50));
    proxy.cut(false);
    wait_for("the changes", || (world.accounts_so_far() == 520).then_some(()));
    observed.wait_until_ready();
    observed.source.signal("TERM");
    observed.source.expect_exit(0);
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}
