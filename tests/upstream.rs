//! Does the source get on with upstream as it really is: tokens that end, answers that are wrong, connections that break?

use std::time::Duration;

use d02_source::simulator::{Effect, Endpoint, Fault, Options, RequestLog, RetryAfter};
use reqwest::StatusCode;

use crate::support::judge;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{self, World};

/// In pages of 50: many requests, few bytes.
const ROWS: u32 = 1_200;

fn fresh_world() -> World {
    World::with(options(ROWS))
}

/// What is asked for beside the first page is answered before the third.
fn unhurried_world() -> World {
    World::with(Options {
        latency: Duration::from_millis(30),
        ..options(ROWS)
    })
}

/// Few rows of equal time, so that the order of pages tells one from another.
fn options(rows: u32) -> Options {
    let mut options = world::options(&[rows]);
    options.lenders[0].tie_groups = vec![1, 1, 3, 20];
    options
}

/// For a page of the snapshot: live walks go on beside it.
fn snapshot_fault(effect: Effect) -> Fault {
    Fault::export(effect).until(true)
}

/// One fault after another, each on a page that has a cursor, with good pages between them.
fn push(world: &World, effects: &[(Effect, u32)]) {
    for (at, (effect, times)) in effects.iter().enumerate() {
        let skip = u32::try_from(at).expect("few faults") * 2 + 1;
        let fault = snapshot_fault(effect.clone()).cursor(true).skip(skip).times(*times);
        world.simulator.push_fault(fault);
    }
}

/// `run --until-caught-up` with small pages and these `--set`s.
fn command(world: &World, set: &[&str], environment: &[(&str, &str)]) -> Source {
    // Nothing lies between the marks, so a sweep is one request without rows.
    let mut args = vec!["--set", "upstream.page_size=50", "--set", "upstream.late_window=1ms"];
    for assignment in set {
        args.extend(["--set", assignment]);
    }
    args.extend(["run", "--until-caught-up"]);
    world.command(&args, environment)
}

/// Runs to the good end; every promise holds. Gives the log.
#[track_caller]
fn catch_up(world: &World, set: &[&str]) -> String {
    let mut source = command(world, set, &[]);
    source.expect_exit(0);
    let log = source.log();
    assert_eq!(world.simulator.fault_count(), 0, "every fault is met: {log}");
    judged(world);
    log
}

/// Every account is there, and none twice.
#[track_caller]
fn judged(world: &World) {
    let (records, rows) = (world.accounts(), world.simulator.rows(0));
    judge::everything(&records, &rows);
    assert_eq!(records.len(), rows.len(), "reading a page again writes nothing again");
}

#[track_caller]
fn contains(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "no `{text}` in:\n{log}");
    }
}

/// Requests for pages of the snapshot and the sweep, without those that only ask how many rows it has.
fn exports(world: &World) -> Vec<RequestLog> {
    let all = world.simulator.requests().into_iter();
    all.filter(|request| request.path.contains("/exports/"))
        .filter(|request| query(request, "until").is_some() && query(request, "includeTotal").is_none())
        .collect()
}

fn count(world: &World, end: &str) -> usize {
    let all = world.simulator.requests();
    all.iter().filter(|request| request.path.ends_with(end)).count()
}

fn query(request: &RequestLog, name: &str) -> Option<String> {
    let pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value.to_owned())
        .next()
}

fn limits(world: &World) -> Vec<u16> {
    let limit = |request: &RequestLog| query(request, "limit").expect("a limit").parse().expect("a number");
    exports(world).iter().map(limit).collect()
}

fn status(code: u16) -> Effect {
    Effect::status(StatusCode::from_u16(code).expect("a status"))
}

fn status_with(code: u16, retry_after: RetryAfter) -> Effect {
    Effect::Status {
        code: StatusCode::from_u16(code).expect("a status"),
        retry_after: Some(retry_after),
    }
}

/// How long the walk stood still after the first answer of this status, in milliseconds.
fn pause_after(world: &World, code: u16) -> i64 {
    let requests = exports(world);
    let refused = requests.iter().position(|request| request.status == Some(code));
    let refused = refused.expect("such an answer");
    requests[refused + 1].at_ms - requests[refused].at_ms
}

// Tokens and credentials.

#[test]
fn upstream_is_asked_how_much_a_snapshot_has_before_it_and_once_it_is_read_and_not_at_all_after_it() {
    let world = fresh_world();
    let totals = || {
        let all = world.simulator.requests().into_iter();
        let is_total = |request: &RequestLog| query(request, "includeTotal").as_deref() == Some("true");
        all.filter(is_total).collect::<Vec<_>>()
    };
    catch_up(&world, &[]);
    let asked = totals();
    assert_eq!(asked.len(), 2);
    assert!(
        asked
            .iter()
            .all(|request| query(request, "limit").as_deref() == Some("1"))
    );
    catch_up(&world, &[]);
    assert_eq!(totals().len(), 2);
}

#[test]
fn a_token_that_expires_in_the_middle_is_refreshed_without_a_login() {
    let world = World::with(Options {
        token_lifetime: Duration::from_millis(800),
        latency: Duration::from_millis(150),
        ..options(ROWS)
    });
    let log = catch_up(&world, &[]);
    assert_eq!(count(&world, "/login"), 1, "{log}");
    assert!(count(&world, "/refresh-token") >= 2, "{log}");
    let refused = exports(&world)
        .iter()
        .filter(|request| request.status == Some(401))
        .count();
    assert!(
        refused <= count(&world, "/refresh-token") * 2,
        "a refused token is not tried on and on"
    );
}

/// Many small pages from a slow upstream, four walks and live ones beside one another, for longer than a token is good.
fn slow_world(token_lifetime: Duration) -> (World, Source) {
    let world = World::with(Options {
        token_lifetime,
        latency: Duration::from_millis(300),
        ..options(ROWS)
    });
    let set = ["upstream.page_size=5", "upstream.snapshot_parallelism=4"];
    let mut args: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    args.push("run");
    let source = world.command(&args, &[]);
    (world, source)
}

/// Where the first request stands that has this end of its path and this status.
fn position(requests: &[RequestLog], end: &str, status: u16) -> Option<usize> {
    let is_it = |request: &RequestLog| request.path.ends_with(end) && request.status == Some(status);
    requests.iter().position(is_it)
}

fn status_count(requests: &[RequestLog], end: &str, status: u16) -> usize {
    let is_it = |request: &&RequestLog| request.path.ends_with(end) && request.status == Some(status);
    requests.iter().filter(is_it).count()
}

#[test]
fn a_token_is_refreshed_once_for_all_walks_before_it_ends_and_nobody_waits_for_that() {
    let (world, mut source) = slow_world(Duration::from_secs(20));
    let slow = Effect::Hang(Duration::from_secs(1));
    world.simulator.push_fault(Fault::on(Endpoint::Refresh, slow));
    let requests = wait_for("a refresh and pages with what it brought", || {
        let requests = world.simulator.requests();
        let refresh = position(&requests, "/refresh-token", 200)?;
        (requests.len() > refresh + 30).then_some(requests)
    });
    assert!(source.is_running(), "{}", source.log());
    assert_eq!(status_count(&requests, "/D02", 401), 0, "{}", source.log());
    assert_eq!(
        (count(&world, "/login"), count(&world, "/refresh-token")),
        (1, 1),
        "{}",
        source.log()
    );
    let refresh = position(&requests, "/refresh-token", 200).expect("it was there");
    let beside = &requests[refresh + 1];
    assert!(beside.at_ms - requests[refresh].at_ms < 1_000, "{beside:?}");
    let log = source.log();
    assert!(!log.contains("WARN") && !log.contains("eyJ"), "{log}");
}

#[test]
fn an_early_refresh_that_fails_leaves_the_token_in_use_and_is_tried_again_with_pauses() {
    let (world, mut source) = slow_world(Duration::from_secs(20));
    world
        .simulator
        .push_fault(Fault::on(Endpoint::Refresh, status(503)).times(1_000));
    let requests = wait_for("the end of the token", || {
        let requests = world.simulator.requests();
        position(&requests, "/D02", 401).map(|_| requests)
    });
    let failed = position(&requests, "/refresh-token", 503).expect("an early try");
    let ended = position(&requests, "/D02", 401).expect("it was there");
    assert!(failed < ended, "early");
    assert!(
        status_count(&requests[failed..ended], "/D02", 200) > 0,
        "the old token is used"
    );
    let tries = status_count(&requests[..ended], "/refresh-token", 503);
    let seconds = (requests[ended].at_ms - requests[failed].at_ms) / 1_000;
    assert!(tries as i64 <= seconds + 1, "{tries} tries in {seconds} s");

    world.simulator.clear_faults();
    wait_for("pages with a new token", || {
        let requests = world.simulator.requests();
        let refresh = position(&requests, "/refresh-token", 200)?;
        (status_count(&requests[refresh..], "/D02", 200) > 10).then_some(())
    });
    assert!(source.is_running(), "{}", source.log());
    assert_eq!(count(&world, "/login"), 1, "{}", source.log());
    let log = source.log();
    let early = log.lines().find(|line| line.contains("refreshing the token early"));
    let why = "refreshing the token: upstream answered 503: Service Unavailable (request id req_";
    assert!(early.is_some_and(|line| line.contains(why)), "{log}");
    assert!(!log.contains("eyJ"), "{log}");
}

#[test]
fn a_refresh_token_that_is_refused_early_is_left_alone_until_the_token_ends_and_a_login_follows() {
    let (world, mut source) = slow_world(Duration::from_secs(20));
    wait_for("a page", || position(&world.simulator.requests(), "/D02", 200));
    world.simulator.revoke_refresh_tokens();
    let requests = wait_for("pages after a second login", || {
        let requests = world.simulator.requests();
        let login = requests.iter().rposition(|request| request.path.ends_with("/login"))?;
        (count(&world, "/login") == 2 && requests.len() > login + 10).then_some(requests)
    });
    let early = position(&requests, "/refresh-token", 401).expect("an early try");
    let ended = position(&requests, "/D02", 401).expect("the token ended");
    assert!(status_count(&requests[early..ended], "/D02", 200) > 0, "early");
    assert_eq!(status_count(&requests, "/refresh-token", 401), 2, "one early, one late");
    assert!(source.is_running(), "{}", source.log());
    contains(&source.log(), &["the token cannot be refreshed any more"]);
}

#[test]
fn a_revoked_token_is_refreshed_once_and_where_that_does_not_help_a_login_follows() {
    let world = unhurried_world();
    // The second refresh is refused; what the third brings is refused.
    push(
        &world,
        &[
            (Effect::TokenRevoked, 1),
            (Effect::TokenRevoked, 1),
            (Effect::TokenRevoked, 2),
        ],
    );
    world
        .simulator
        .push_fault(Fault::on(Endpoint::Refresh, status(401)).skip(1));
    // No live poll beside it: it would refresh what the snapshot is about to replace by a login.
    let log = catch_up(&world, &["upstream.poll_interval=1d"]);
    assert_eq!(
        (count(&world, "/login"), count(&world, "/refresh-token")),
        (3, 3),
        "{log}"
    );
    // A start may be asked to wait for leaders of partitions that are new.
    let is_a_warning = |line: &str| line.contains("WARN") && !line.contains("WARN starting: ");
    assert!(
        !log.lines().any(is_a_warning),
        "a token that ends is nothing to worry about: {log}"
    );
}

#[test]
fn a_login_or_a_refresh_that_stumbles_is_tried_again() {
    let world = unhurried_world();
    for effect in [
        status(502),
        Effect::Html { code: StatusCode::OK },
        Effect::WrongTopLevelTypes,
        Effect::Reset,
        status_with(429, RetryAfter::Seconds(1)),
    ] {
        world.simulator.push_fault(Fault::on(Endpoint::Login, effect));
    }
    world
        .simulator
        .push_fault(snapshot_fault(Effect::TokenRevoked).cursor(true).skip(3));
    world.simulator.push_fault(Fault::on(Endpoint::Refresh, status(500)));
    let log = catch_up(&world, &[]);
    assert_eq!(
        (count(&world, "/login"), count(&world, "/refresh-token")),
        (6, 2),
        "{log}"
    );
    contains(
        &log,
        &[
            "logging in: upstream answered 502: Bad Gateway (request id req_",
            "refreshing the token: upstream answered 500",
        ],
    );
}

#[test]
fn a_password_that_is_changed_while_it_runs_ends_it_with_4_and_the_vendors_message() {
    let world = World::with(Options {
        latency: Duration::from_millis(200),
        ..options(ROWS)
    });
    let old = world.lender(0).password;
    let mut source = command(&world, &[], &[]);
    wait_for("the first pages", || (exports(&world).len() >= 3).then_some(()));
    world.simulator.set_password(0, "changed meanwhile");
    world.simulator.revoke_refresh_tokens();
    world.simulator.revoke_tokens();
    source.expect_exit(4);
    let log = source.log();
    contains(
        &log,
        &[
            "upstream refused the credentials of exports@lender-1.example: 401: Invalid email or password (request id req_",
        ],
    );
    assert!(!log.contains(&old) && !log.contains("changed meanwhile"), "{log}");
    // What was committed before is good, and the next start goes on from there.
    judge::once_and_in_order(&world.accounts());
    world.simulator.set_latency(Duration::ZERO);
    let log = catch_up(&world, &[]);
    assert!(!log.contains("refused"), "{log}");
}

#[test]
fn a_wrong_password_ends_it_with_4_and_the_vendors_message_and_is_not_logged() {
    let world = fresh_world();
    let mut source = command(&world, &[], &[("D02__LENDERS__LENDER_1__PASSWORD", "hunter2hunter2")]);
    source.expect_exit(4);
    let log = source.log();
    contains(
        &log,
        &[
            "logging in: upstream refused the credentials of exports@lender-1.example: 401: Invalid email or password (request id req_",
            "check email and password of the lender",
        ],
    );
    assert!(
        !log.contains("hunter2") && !log.contains(&world.lender(0).password),
        "{log}"
    );
    assert_eq!(
        count(&world, "/login"),
        1,
        "a wrong password is not tried again: the account could be locked"
    );
}

#[test]
fn an_inactive_lender_ends_with_4_and_the_vendors_message() {
    let world = fresh_world();
    world.simulator.set_active(0, false);
    let mut source = command(&world, &[], &[]);
    source.expect_exit(4);
    contains(&source.log(), &["Lender is not active"]);
}

#[test]
fn a_lender_with_another_public_id_ends_with_4_and_names_both() {
    let world = fresh_world();
    let other = "00000000-0000-4000-8000-000000000000";
    let mut source = command(&world, &[&format!("lenders.lender-1.public_id={other}")], &[]);
    source.expect_exit(4);
    contains(
        &source.log(),
        &[other, &world.lender(0).public_id, "lenders.lender-1.public_id"],
    );
    assert!(exports(&world).is_empty(), "nothing of the wrong lender is read");
}

#[test]
fn a_password_of_digits_alone_can_come_from_the_environment_and_the_right_public_id_is_fine() {
    let world = fresh_world();
    world.simulator.set_password(0, "0123456789");
    let own = format!("lenders.lender-1.public_id={}", world.lender(0).public_id);
    let mut source = command(&world, &[&own], &[("D02__LENDERS__LENDER_1__PASSWORD", "0123456789")]);
    source.expect_exit(0);
    assert!(!source.log().contains("0123456789"));
    judged(&world);
}

#[test]
fn a_dataset_that_is_not_served_and_a_foreign_lender_end_with_4() {
    let world = fresh_world();
    let soon = [("D02_TEST_REFUSED_PAUSE", "300")];
    world.simulator.push_fault(snapshot_fault(status(404)).times(2));
    let mut source = command(&world, &[], &soon);
    source.expect_exit(4);
    contains(
        &source.log(),
        &[
            "upstream answered 404: Not Found (request id req_",
            "upstream does not serve D02 to this lender",
        ],
    );
    assert_eq!(exports(&world).len(), 2, "404 is tried once more");

    world.simulator.push_fault(snapshot_fault(status(403)).times(2));
    let mut source = command(&world, &[], &soon);
    source.expect_exit(4);
    let lender = world.lender(0).public_id;
    contains(
        &source.log(),
        &[
            &format!("reading D02 of lender {lender}: upstream answered 403: Forbidden (request id req_"),
            &format!("the token is for lender {lender}"),
        ],
    );
}

// Statuses.

#[test]
fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let world = fresh_world();
    // The date is one of upstream's clock: by this machine's it is long past.
    world.simulator.set_clock_skew(-7_200_000);
    let (seconds, date) = (RetryAfter::Seconds(2), RetryAfter::DateIn(3));
    push(&world, &[(status_with(429, seconds), 1), (status_with(503, date), 1)]);
    let log = catch_up(&world, &[]);
    contains(
        &log,
        &[
            "upstream answered 429: Too Many Requests (request id req_",
            "upstream answered 503: ",
        ],
    );
    for code in [429, 503] {
        // A date has whole seconds: up to one is lost.
        let pause = pause_after(&world, code);
        assert!((1_990..10_000).contains(&pause), "{code}: {pause} ms");
    }
}

#[test]
fn every_status_that_may_pass_is_tried_again_with_the_same_cursor() {
    const CODES: [u16; 6] = [500, 502, 503, 408, 418, 429];
    let world = fresh_world();
    push(&world, &CODES.map(|code| (status(code), 1)));
    let log = catch_up(&world, &[]);
    let requests = exports(&world);
    for code in CODES {
        contains(&log, &[&format!("reading a page of D02: upstream answered {code}: ")]);
        let refused = requests.iter().position(|request| request.status == Some(code));
        let refused = refused.expect("the answer");
        assert_eq!(requests[refused].query, requests[refused + 1].query, "{code}");
        assert_eq!(requests[refused + 1].status, Some(200), "{code}");
    }
    assert_eq!(
        log.matches("WARN").count(),
        log.matches("(request id req_").count(),
        "{log}"
    );
    assert!(
        limits(&world).iter().all(|limit| *limit == 50),
        "only 504 says anything about the size"
    );
    assert_eq!(count(&world, "/login"), 1);
}

#[test]
fn a_504_halves_the_page_until_it_passes_and_it_grows_again_to_what_is_configured() {
    let world = World::with(options(4_000));
    world.simulator.set_page_limit_504(Some(15));
    let mut source = command(&world, &[], &[]);
    wait_for("small pages", || {
        let good = exports(&world)
            .iter()
            .filter(|request| request.status == Some(200))
            .count();
        (good > 5).then_some(())
    });
    world.simulator.set_page_limit_504(None);
    source.expect_exit(0);
    judged(&world);
    let limits = limits(&world);
    assert_eq!(limits[..4], [50, 25, 12, 12]);
    assert!(limits.contains(&24), "{limits:?}");
    assert_eq!(limits.iter().max(), Some(&50), "{limits:?}");
    assert_eq!(limits.last(), Some(&50), "{limits:?}");
    contains(&source.log(), &["upstream answered 504: Gateway Timeout"]);
}

#[test]
fn a_body_that_is_too_large_when_decompressed_halves_the_page() {
    let world = World::with(Options {
        gzip: true,
        ..options(1_500)
    });
    world
        .simulator
        .push_fault(snapshot_fault(Effect::OversizedBody { bytes: 3_000_000_000 }));
    // About 0.7 MB a page of 1,000, a tenth of it on the wire.
    let log = catch_up(&world, &["upstream.max_body=256KiB", "upstream.page_size=1000"]);
    contains(
        &log,
        &["the answer is larger than upstream.max_body (262144 bytes) (request id req_"],
    );
    assert_eq!(limits(&world)[..4], [1000, 500, 250, 250]);
}

// The limit of requests, and the clocks.

#[test]
fn no_more_requests_are_sent_than_the_limit_allows_whatever_reads_at_the_same_time() {
    const RATE: i64 = 8;
    let world = World::with(options(2_000));
    let set = [
        "upstream.max_requests_per_second=8",
        "upstream.snapshot_parallelism=4",
        "upstream.poll_interval=500ms",
    ];
    catch_up(&world, &set);
    let requests = world.simulator.requests();
    assert!(requests.len() > 40, "{} requests", requests.len());
    for (first, from) in requests.iter().enumerate() {
        for (last, to) in requests.iter().enumerate().skip(first) {
            // Some may have been under way for a second.
            let allowed = RATE + RATE * (to.at_ms - from.at_ms + 1_000) / 1_000;
            let found = (last - first + 1) as i64;
            assert!(found <= allowed, "{found} requests in {} ms", to.at_ms - from.at_ms);
        }
    }
}

#[test]
fn logins_count_against_the_limit_also_those_that_fail() {
    let world = World::with(options(60));
    world
        .simulator
        .push_fault(Fault::on(Endpoint::Login, status(502)).times(2));
    catch_up(&world, &["upstream.max_requests_per_second=1"]);
    let requests = world.simulator.requests();
    assert_eq!(status_count(&requests, "/login", 502), 2);
    // Without the limit, the first comes again after less than half a second.
    let pause = requests[1].at_ms - requests[0].at_ms;
    assert!(pause > 600, "{pause} ms between the first two logins");
}

#[test]
fn a_clock_that_differs_from_upstreams_is_warned_about_once_and_stands_in_the_line() {
    let world = fresh_world();
    world.simulator.set_clock_skew(7_200_000);
    let log = catch_up(&world, &[]);
    let skews = |before: &str, after: &str| -> Vec<f64> {
        let parts = log.split(before).skip(1).filter_map(|rest| rest.split_once(after));
        parts.filter_map(|(number, _)| number.parse().ok()).collect()
    };
    let warned = skews("upstream's clock is ", " s ahead of this machine's");
    let summed_up = skews("upstream's clock ", " s ahead");
    assert_eq!((warned.len(), summed_up.len()), (1, 1), "{log}");
    for skew in [warned[0], summed_up[0]] {
        assert!((skew - 7_200.0).abs() < 5.0, "{log}");
    }
    contains(&log, &["WARN", "NTP"]);

    world.simulator.set_clock_skew(0);
    let log = catch_up(&world, &[]);
    assert!(!log.contains("upstream's clock"), "{log}");
}

#[test]
fn a_date_that_is_an_hour_ahead_at_the_login_and_then_right_loses_nothing() {
    let world = fresh_world();
    world.simulator.set_date_skew(3_600_000);
    let set = ["upstream.late_window=5s", "upstream.late_sweep_interval=300ms"];
    let args: Vec<_> = set.iter().flat_map(|set| ["--set", set]).chain(["run"]).collect();
    let mut source = world.command(&args, &[]);
    source.wait_for_line("U25");
    world.simulator.set_date_skew(0);
    for number in 0..5 {
        world.simulator.touch(0, 10, number);
        world.simulator.change_late(0, 10, Duration::from_secs(2), number);
        std::thread::sleep(Duration::from_millis(300));
    }
    source.wait_for_line("together again");
    wait_for("the late rows", || {
        (world.simulator.pending_late_count() == 0).then_some(())
    });
    source.signal("TERM");
    source.expect_exit(0);
    world.catch_up();
    judge::everything(&world.judged_accounts(), &world.simulator.rows(0));
}

// Connections.

#[test]
fn a_connection_that_breaks_an_answer_that_hangs_and_one_that_trickles_are_tried_again() {
    let world = fresh_world();
    let late = Duration::from_secs(30);
    push(
        &world,
        &[(Effect::Reset, 1), (Effect::Hang(late), 1), (Effect::SlowBody(late), 1)],
    );
    let log = catch_up(&world, &["upstream.request_timeout=3s"]);
    assert_eq!(log.matches("reading a page of D02: no answer: ").count(), 3, "{log}");
    assert_eq!(log.matches("operation timed out").count(), 2, "{log}");
    let requests = exports(&world);
    // Polls without a cursor repeat themselves at the end.
    let is_again = |pair: &&[RequestLog]| pair[0].query == pair[1].query && query(&pair[0], "cursor").is_some();
    let again = requests.windows(2).filter(is_again).count();
    assert_eq!(again, 3, "the same page each time");
}

#[test]
fn an_upstream_that_is_away_is_waited_for() {
    let world = fresh_world();
    world.simulator.set_down(true);
    let mut source = command(&world, &[], &[]);
    source.wait_for_line("logging in: no answer");
    world.simulator.set_down(false);
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn a_batch_waits_for_login_upstream_and_registry_no_longer_than_its_patience() {
    let world = fresh_world();
    let batch = |args: &[&str], environment: &[(&str, &str)]| {
        let args: Vec<_> = args.iter().copied().chain(["--patience", "1500ms"]).collect();
        let mut source = world.command(&args, environment);
        source.expect_exit(1);
        source.log()
    };
    let caught_up = ["run", "--until-caught-up"];
    let no_registry = [("D02__SCHEMA_REGISTRY__URL", "http://127.0.0.1:1")];
    contains(
        &batch(&caught_up, &no_registry),
        &["waiting for the schema registry", "stopped: "],
    );
    world.simulator.set_down(true);
    contains(&batch(&caught_up, &[]), &["code=U01", "stopped: "]);
    world.simulator.set_down(false);
    world.simulator.push_fault(Fault::export(status(502)).rate(1.0));
    contains(
        &batch(&caught_up, &[]),
        &["upstream brought no page that counts for 1s 500ms", "code=U27"],
    );
    world.simulator.clear_faults();
    catch_up(&world, &[]);
    world.simulator.push_fault(Fault::export(status(502)).rate(1.0));
    contains(&batch(&["reconcile"], &[]), &["code=U27"]);
    world.simulator.clear_faults();
    let mut endless = world.command(&["run", "--patience", "1s"], &[]);
    endless.expect_exit(2);
    contains(&endless.log(), &["--until-caught-up"]);
}

#[test]
fn https_with_an_authority_of_its_own_works_and_without_it_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let world = World::with(Options {
        tls: Some(directory.path().to_owned()),
        gzip: true,
        ..options(ROWS)
    });
    assert!(world.simulator.base_url().starts_with("https://"));
    // Nothing between the quotes takes the authority back.
    let mut source = command(&world, &["upstream.ca_file="], &[]);
    source.wait_for_line("logging in: no answer");
    source.kill();
    let log = source.log().to_lowercase();
    assert!(log.contains("certificate"), "the reason is named: {log}");
    assert_eq!(world.simulator.requests().len(), 0, "no password has left");
    catch_up(&world, &[]);

    let mut source = command(&world, &["upstream.ca_file=/nowhere/ca.pem"], &[]);
    source.expect_exit(2);
    contains(&source.log(), &["/nowhere/ca.pem", "No such file"]);
    let empty = world.path("empty.pem");
    std::fs::write(&empty, "nothing").expect("written");
    let mut source = command(&world, &[&format!("upstream.ca_file={}", empty.display())], &[]);
    source.expect_exit(2);
    contains(&source.log(), &["holds no PEM certificate"]);
}

// Answers that are no page, or the wrong one.

#[test]
fn what_is_no_envelope_is_asked_for_again() {
    let world = fresh_world();
    let html = Effect::Html { code: StatusCode::OK };
    world.simulator.push_fault(snapshot_fault(html.clone()).cursor(false));
    push(
        &world,
        &[
            (html, 2),
            (Effect::CutOffJson, 2),
            (Effect::WrongTopLevelTypes, 2),
            // The right body under another name is a page.
            (Effect::WrongContentType, 1),
        ],
    );
    let log = catch_up(&world, &[]);
    let what = "upstream answered 200 with something that is no D02 answer (";
    for text in [
        "no JSON at line 1",
        "JSON that is cut off at line 1",
        "JSON of another form at line 1",
    ] {
        contains(&log, &[&format!("{what}{text}")]);
    }
    assert_eq!(
        (log.matches(what).count(), log.matches("WARN").count()),
        (7, 7),
        "{log}"
    );
    assert_eq!(log.matches("(request id req_").count(), 7, "{log}");
    assert!(
        !log.contains("back soon"),
        "foreign contents stay out of the log: {log}"
    );
}

#[test]
fn a_page_that_contradicts_what_was_asked_is_discarded_and_asked_for_again() {
    let world = fresh_world();
    push(
        &world,
        &[
            (Effect::BoundsNotEchoed, 1),
            (Effect::PageOutOfOrder, 1),
            (Effect::DuplicatePage, 1),
            (Effect::CursorAnswersItself, 1),
        ],
    );
    let log = catch_up(&world, &[]);
    contains(&log, &["`meta` says ", "`nextCursor` is the cursor that was sent"]);
    // A page that comes twice goes back in time, but within one time.
    assert_eq!(log.matches("is older than the one before it").count(), 2, "{log}");
    assert_eq!(
        log.matches("the page is discarded and asked for again").count(),
        4,
        "{log}"
    );
    assert_eq!(log.matches("(request id req_").count(), 4, "{log}");
    assert!(!log.contains("stuck"), "{log}");
}

#[test]
fn a_page_that_stays_wrong_brings_a_fresh_walk_from_the_highest_row() {
    let world = fresh_world();
    let fault = snapshot_fault(Effect::CursorAnswersItself)
        .cursor(true)
        .skip(3)
        .times(3);
    world.simulator.push_fault(fault);
    let log = catch_up(&world, &[]);
    assert!(!log.contains("stuck"), "{log}");
    let fresh = exports(&world)
        .into_iter()
        .filter(|request| query(request, "cursor").is_none())
        .collect::<Vec<_>>();
    assert_eq!(fresh.len(), 3, "the snapshot, its fresh walk, the sweep: {fresh:?}");
    assert!(
        query(&fresh[0], "since").is_none() && query(&fresh[1], "since").is_some(),
        "{fresh:?}"
    );
    assert_eq!(query(&fresh[0], "until"), query(&fresh[1], "until"));
}

#[test]
fn a_walk_that_stays_wrong_is_stuck_and_ends_with_4_and_nothing_is_skipped() {
    let world = fresh_world();
    // Its first page is good, so that it has somewhere to begin afresh.
    world
        .simulator
        .push_fault(snapshot_fault(Effect::BoundsNotEchoed).skip(1).times(1_000));
    let mut source = command(&world, &[], &[]);
    source.expect_exit(4);
    let log = source.log();
    contains(&log, &["the reading is stuck: at ", ": `meta` says "]);
    assert!(log.contains("(request id req_"), "{log}");
    let records = world.accounts();
    judge::once_and_in_order(&records);
    assert!(records.len() <= 50, "{}", records.len());
    world.simulator.clear_faults();
    catch_up(&world, &[]);
}

#[test]
fn a_cursor_that_is_always_dead_within_a_group_of_one_time_is_stuck_and_ends_with_4() {
    let mut options = options(60);
    options.lenders[0].tie_groups = vec![60];
    let world = World::with(options);
    world
        .simulator
        .push_fault(snapshot_fault(status(500)).cursor(true).times(1_000));
    // Every fresh walk reads its first page, which holds nothing but the rows of the same time again.
    let mut source = command(&world, &["upstream.page_size=20"], &[]);
    source.expect_exit(4);
    contains(
        &source.log(),
        &[
            "the reading is stuck: at ",
            ", behind account ",
            "upstream answered 500",
        ],
    );
}

#[test]
fn empty_pages_with_a_cursor_are_passed_over_and_the_third_in_a_row_is_not_believed() {
    let world = fresh_world();
    push(
        &world,
        &[(Effect::EmptyPageWithCursor, 2), (Effect::EmptyPageWithCursor, 4)],
    );
    let log = catch_up(&world, &[]);
    let doubted = log
        .matches("the third empty page in a row says that there is more")
        .count();
    assert_eq!(doubted, 2, "two are believed, then two of four: {log}");
    assert!(!log.contains("stuck"), "{log}");
}

#[test]
fn dead_cursors_bring_a_fresh_walk_from_the_highest_row() {
    let world = fresh_world();
    world
        .simulator
        .push_fault(snapshot_fault(Effect::AllCursorsDead).cursor(true).skip(4));
    let log = catch_up(&world, &[]);
    contains(&log, &["upstream answered 500: "]);
    let requests = exports(&world);
    let refused = requests.iter().filter(|request| request.status == Some(500)).count();
    assert_eq!(refused, 3, "{log}");
    let last = requests
        .iter()
        .rposition(|request| request.status == Some(500))
        .expect("one");
    let fresh = &requests[last + 1];
    assert_eq!((fresh.status, query(fresh, "cursor")), (Some(200), None));
    assert!(query(fresh, "since").is_some(), "not from the beginning: {fresh:?}");
    assert_eq!(query(fresh, "until"), query(&requests[last], "until"));
}

#[test]
fn a_cursor_that_died_while_the_source_was_down_brings_a_fresh_walk_after_the_restart() {
    let world = World::with(Options {
        latency: Duration::from_millis(300),
        ..options(ROWS)
    });
    let mut source = command(&world, &["transaction.max_rows=50", "transaction.max_delay=1ms"], &[]);
    wait_for("some pages, and accounts", || {
        (exports(&world).len() >= 6 && world.accounts_so_far() > 0).then_some(())
    });
    source.kill();
    world.simulator.kill_cursors();
    world.simulator.set_latency(Duration::ZERO);
    let log = catch_up(&world, &[]);
    contains(&log, &["upstream answered 500: "]);
    assert!(
        !log.contains("stuck") && !log.contains("account_count=0 "),
        "killed in the middle: {log}"
    );
}

#[test]
fn a_page_that_comes_twice_among_rows_of_one_time_is_noticed() {
    // Order alone does not tell one page of one time from another.
    let mut options = options(1_200);
    options.lenders[0].tie_groups = vec![1_200];
    let world = World::with(options);
    world
        .simulator
        .push_fault(snapshot_fault(Effect::DuplicatePage).cursor(true).skip(4));
    let log = catch_up(&world, &[]);
    contains(&log, &["every row of it was in a page before"]);
}

#[test]
fn a_page_that_comes_twice_is_noticed_though_one_of_its_rows_has_changed_meanwhile() {
    // One time for all rows, and another row in the place of the one that has changed.
    let mut options = options(400);
    options.lenders[0].tie_groups = vec![400];
    options.latency = Duration::from_secs(1);
    let world = World::with(options);
    let (rows, now_ms) = (world.simulator.rows(0), world.simulator.now_ms());
    let mut source = command(&world, &[], &[]);
    wait_for("the third page is on its way", || {
        (exports(&world).len() >= 3).then_some(())
    });
    let changed = rows[120].json.replace(&iso(rows[120].updated_at_ms), &iso(now_ms));
    world.simulator.upsert_json(0, now_ms, &rows[120].id, &changed);
    world
        .simulator
        .push_fault(snapshot_fault(Effect::DuplicatePage).cursor(true));
    wait_for("the same page again", || {
        (world.simulator.fault_count() == 0).then_some(())
    });
    world.simulator.set_latency(Duration::ZERO);
    source.expect_exit(0);
    let (records, rows) = (world.accounts(), world.simulator.rows(0));
    judge::once_and_in_order(&records);
    judge::complete(&records, &rows);
}

fn iso(at_ms: i64) -> String {
    let at = chrono::DateTime::from_timestamp_millis(at_ms).expect("a time");
    at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}
