//! What does a lender do about an answer that is no page: a gateway's, a refusal, a wish to be left alone?

use std::time::{Duration, Instant};

use d02_source::simulator::{Effect, Fault, LenderInfo, Options, RequestLog, RetryAfter, StoredRow};
use reqwest::StatusCode;

use crate::support::http_proxy::HttpProxy;
use crate::support::judge;
use crate::support::shown::shown;
use crate::support::source::Source;
use crate::support::wait_for;
use crate::support::world::{World, options};

/// Instead of a minute.
const PAUSE_SOON: (&str, &str) = ("D02_TEST_REFUSED_PAUSE", "300");

fn rows(world: &World) -> Vec<StoredRow> {
    let lenders = 0..world.simulator.lender_count();
    lenders.flat_map(|number| world.simulator.rows(number)).collect()
}

#[track_caller]
fn judged(world: &World) {
    judge::everything(&world.judged_accounts(), &rows(world));
}

#[track_caller]
fn contains(log: &str, texts: &[&str]) {
    for text in texts {
        assert!(log.contains(text), "no `{text}` in:\n{log}");
    }
}

/// A request for a page, a login or a refresh of this lender.
fn is_of(request: &RequestLog, lender: &LenderInfo) -> bool {
    let parts = request.path.split('/');
    parts
        .into_iter()
        .any(|part| part == lender.subdomain || part == lender.public_id)
}

fn status(code: u16) -> Effect {
    Effect::status(StatusCode::from_u16(code).expect("a status"))
}

#[test]
fn a_gateway_that_answers_in_place_of_upstream_stops_nobody() {
    let world = World::new(&[1_200, 1_200]);
    for code in [StatusCode::NOT_FOUND, StatusCode::FORBIDDEN] {
        let fault = Fault::export(Effect::Html { code });
        world.simulator.push_fault(fault.lender("lender-1"));
    }
    let log = world.catch_up();
    assert_eq!(world.simulator.fault_count(), 0);
    contains(
        &log,
        &[
            "upstream answered 404: ",
            "upstream answered 403: ",
            "no answer of upstream's",
        ],
    );
    assert!(!log.contains("failed; it is tried again"), "{log}");
    judged(&world);
}

#[test]
fn a_lender_that_is_refused_twice_has_failed_and_runs_again_once_that_is_mended() {
    let world = World::new(&[300, 300]);
    let file = world.path("password");
    let right = world.lender(1).password;
    std::fs::write(&file, &right).expect("written");
    let config = std::fs::read_to_string(world.config())
        .expect("a configuration")
        .replace(
            &format!("password = \"{right}\""),
            &format!("password_file = \"{}\"", file.display()),
        );
    let path = world.path("with-a-file.toml");
    std::fs::write(&path, config).expect("written");
    let refusal = Fault::export(status(404)).lender("lender-2").rate(1.0);
    world.simulator.push_fault(refusal);
    let mut source = Source::spawn(&["--config", &path.display().to_string(), "run"], &[PAUSE_SOON]);
    source.wait_for_line("failed; it is tried again");
    wait_for("the other lender", || (world.accounts_so_far() == 300).then_some(()));
    let log = source.log();
    contains(
        &log,
        &[
            "asked once more then: ",
            "upstream answered 404: Not Found (request id req_",
        ],
    );
    assert!(source.is_running(), "{log}");
    world.simulator.clear_faults();
    // It would be tried within a minute without that.
    std::fs::write(&file, right).expect("written");
    wait_for("both lenders", || (world.accounts_so_far() == 600).then_some(()));
    source.signal("TERM");
    source.expect_exit(0);
    judged(&world);
}

#[test]
fn what_upstream_wants_to_be_left_alone_for_holds_everything_of_its_lender_and_of_no_other() {
    const LATENCY_MS: i64 = 100;
    let mut options: Options = options(&[8_000, 8_000]);
    options.latency = Duration::from_millis(LATENCY_MS.unsigned_abs());
    for lender in &mut options.lenders {
        lender.change_rate = 20.0;
    }
    let world = World::with(options);
    let set = [
        "upstream.page_size=50",
        "upstream.snapshot_parallelism=4",
        "upstream.late_sweep_interval=200ms",
        "upstream.late_window=1s",
    ];
    let mut args: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    args.push("run");
    let mut source = world.command(&args, &[]);
    let (held, other) = (world.lender(0), world.lender(1));
    let of = |lender: &LenderInfo| {
        let all = world.simulator.requests().into_iter();
        all.filter(|request| is_of(request, lender)).collect::<Vec<_>>()
    };
    wait_for("ranges, live walks and a sweep", || {
        (of(&held).len() > 60).then_some(())
    });
    let leave_alone = Effect::Status {
        code: StatusCode::TOO_MANY_REQUESTS,
        retry_after: Some(RetryAfter::Seconds(5)),
    };
    world
        .simulator
        .push_fault(Fault::export(leave_alone).lender("lender-1"));
    let refused = |request: &RequestLog| request.status == Some(429);
    let (begun, after) = wait_for("requests after the hold", || {
        let requests = of(&held);
        let at = requests.iter().position(refused)?;
        let begun = requests[at].at_ms;
        let after: Vec<i64> = requests
            .iter()
            .map(|request| request.at_ms)
            .filter(|at| *at > begun)
            .collect();
        after.iter().any(|at| *at > begun + 5_000).then_some((begun, after))
    });
    // What was under way when the answer came was sent before.
    let answered = begun + LATENCY_MS + 500;
    let early: Vec<i64> = after
        .iter()
        .map(|at| at - begun)
        .filter(|at| (answered - begun..5_000).contains(at))
        .collect();
    assert!(early.is_empty(), "{early:?} ms after it, for 5 s: {}", source.log());
    let meanwhile = of(&other)
        .iter()
        .filter(|request| (answered..begun + 5_000).contains(&request.at_ms))
        .count();
    assert!(meanwhile > 10, "the other lender reads on: {meanwhile} requests");
    assert_eq!(
        source.log().matches("upstream asks to be left alone").count(),
        1,
        "{}",
        source.log()
    );

    let for_long = Effect::Status {
        code: StatusCode::SERVICE_UNAVAILABLE,
        retry_after: Some(RetryAfter::Seconds(1_800)),
    };
    world.simulator.push_fault(Fault::export(for_long).lender("lender-1"));
    wait_for("a long hold", || (world.simulator.fault_count() == 0).then_some(()));
    let asked = Instant::now();
    source.signal("TERM");
    source.expect_exit(0);
    assert!(
        asked.elapsed() < Duration::from_secs(9),
        "an end waits for no hold: {:?}",
        asked.elapsed()
    );
    judge::once_and_in_order(&world.accounts());
}

#[test]
fn what_is_no_page_is_named_and_asked_for_again() {
    let world = World::new(&[1_200]);
    let id = world.simulator.rows(0)[0].id.clone();
    // Of the tries of one request, the first two are told.
    for effect in [Effect::NotUtf8 { id: id.clone() }, Effect::RawControl { id }] {
        world
            .simulator
            .push_fault(Fault::export(effect).until(true).cursor(false));
    }
    let further = [
        Effect::ErrorIn200 {
            code: 200,
            errors: vec!["a replica is away".to_owned()],
        },
        Effect::Redirect {
            code: StatusCode::FOUND,
            location: "https://planted:secret@other.example/new?token=planted".to_owned(),
        },
        status(400),
        status(410),
    ];
    for (number, effect) in (0..).zip(further) {
        let fault = Fault::export(effect).until(true).cursor(true);
        world.simulator.push_fault(fault.skip(2 * number + 1));
    }
    let mut source = world.command(&["--set", "upstream.page_size=50", "run", "--until-caught-up"], &[]);
    source.expect_exit(0);
    let log = source.log();
    contains(
        &log,
        &[
            "reading a page of D02: the answer is no UTF-8, from byte ",
            "no JSON at line 1",
            r#"upstream answered 200 with an error in it: Export fetched successfully, ["a replica is away"] (request id req_"#,
            "upstream answered 302, a redirect to https://other.example/new, which is not followed",
            "set upstream.base_url to where it is",
            "upstream answered 400: Bad Request",
            "upstream answered 410: Gone",
        ],
    );
    assert!(!log.contains("planted"), "{log}");
    assert_eq!(world.simulator.fault_count(), 0);
    judged(&world);
}

#[test]
fn no_answer_to_the_login_of_a_command_is_exit_1_and_a_refusal_4() {
    let world = World::new(&[60]);
    world.catch_up();
    let commands = [&["cursor", "reset", "lender-1", "--force"][..], &["replay"]];
    let wrong = [("D02__LENDERS__LENDER_1__PASSWORD", "wrong-hunter2")];
    for command in commands {
        let refused = shown(&world, command, &wrong).expect(4);
        contains(&refused.log, &["asking upstream for the public id of lender-1", "U09"]);
    }
    world.simulator.set_down(true);
    for command in commands {
        let away = shown(&world, command, &[]).expect(1);
        contains(
            &away.log,
            &["asking upstream for the public id of lender-1", "no answer", "U01"],
        );
    }
    world.simulator.set_down(false);
    judged(&world);
}

#[test]
fn nothing_to_this_machine_goes_through_a_proxy() {
    let world = World::new(&[600]);
    let proxy = HttpProxy::start("svc", "planted-proxy");
    let url = proxy.url("svc", "planted-proxy");
    let mut environment = vec![("D02__UPSTREAM__PROXY", url.as_str())];
    for name in [
        "HTTP_PROXY",
        "http_proxy",
        "HTTPS_PROXY",
        "https_proxy",
        "ALL_PROXY",
        "all_proxy",
    ] {
        environment.push((name, &url));
    }
    // As `127.0.0.1`, from the configuration.
    let found = shown(&world, &["check"], &environment);
    let name = "✓ upstream lender-1, name: 127.0.0.1 has an address";
    contains(&found.out, &[name, "✓ upstream lender-1, page", "✓ registry, "]);
    let mut source = world.command(&["run", "--until-caught-up"], &environment);
    source.expect_exit(0);
    judged(&world);
    let here = |url: &str| url.replace("127.0.0.1", "localhost");
    let base_url = here(&world.simulator.base_url());
    let found = shown(
        &world,
        &["check", "--set", &format!("upstream.base_url={base_url}")],
        &environment,
    );
    contains(&found.out, &["✓ upstream lender-1, page"]);
    assert_eq!(proxy.heard_count(), 0);
}
