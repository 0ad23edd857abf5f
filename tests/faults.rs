//! Is anything lost or doubled when upstream errs while ranges, live walks and sweeps run side by side? One fault after another.

use std::collections::HashSet;
use std::time::Duration;

use d02_source::simulator::{Effect, Fault, RequestLog, RetryAfter, Total};
use reqwest::StatusCode;

use crate::support::judge;
use crate::support::kafka::Record;
use crate::support::source::Source;
use crate::support::world::{self, World};
use crate::support::{PATIENCE, wait_for, wait_for_as_long_as};

const ROWS: u32 = 3_000;
/// Requests for pages of ranges after which a test may end: more than half of the snapshot.
const RANGE_REQUESTS: usize = 60;
const HOUR: Duration = Duration::from_secs(3_600);
const HOUR_MS: i64 = 3_600_000;
/// Seeded rows are older than this, and changes are younger.
const DAY_MS: i64 = 24 * HOUR_MS;

/// Small pages, short pauses. Other assignments may follow.
const SET: [&str; 8] = [
    "upstream.snapshot_parallelism=4",
    "upstream.page_size=25",
    "upstream.poll_interval=50ms",
    // So that sweeps have some pages.
    "upstream.late_sweep_interval=500ms",
    // Longer than the simulator ever takes to show what it has changed.
    "upstream.late_window=1s",
    "transaction.max_delay=50ms",
    "transaction.max_rows=1000",
    "kafka.topic_settings.accounts.partitions=3",
];

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    Range,
    Live,
    Sweep,
}

/// An upstream that changes while it is read, and errs.
struct Trial {
    world: World,
    set: Vec<&'static str>,
    /// Upstream's clock.
    begun_ms: i64,
    /// Live walks that upstream has changed for.
    changed_for: usize,
    inserted: Vec<String>,
}

impl Trial {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(set: &[&'static str]) -> Self {
        let mut options = world::options(&[ROWS]);
        // Some are larger than a page, one of them larger than two.
        options.lenders[0].tie_groups = vec![1, 1, 3, 10, 30, 1, 70];
        options.latency = Duration::from_millis(30);
        let world = World::with(options);
        Self {
            begun_ms: world.simulator.now_ms(),
            world,
            set: SET.iter().chain(set).copied().collect(),
            changed_for: 0,
            inserted: Vec::new(),
        }
    }

    fn skewed(mut self, skew_ms: i64) -> Self {
        self.world.simulator.set_clock_skew(skew_ms);
        self.begun_ms = self.world.simulator.now_ms();
        self
    }

    fn command(&self, command: &[&str]) -> Source {
        let set = self.set.iter().flat_map(|assignment| ["--set", assignment]);
        let args: Vec<_> = set.chain(command.iter().copied()).collect();
        self.world.command(&args, &[])
    }

    fn run(&self) -> Source {
        self.command(&["run"])
    }

    /// With every live walk that begins more changes than fit a page: much, and never more than it gets on with.
    fn change(&mut self, requests: &[(Walk, RequestLog)]) {
        let mut asked = HashSet::new();
        // At its time, or at a place that was read before.
        let walk_count = requests
            .iter()
            .filter(|(walk, request)| {
                let is_again = !asked.insert(&request.query);
                *walk == Walk::Live && (is_again || query(request, "cursor").is_none())
            })
            .count();
        if walk_count > self.changed_for {
            self.changed_for = walk_count;
            self.world.simulator.touch(0, 26, walk_count as u64);
            self.inserted.extend(self.world.simulator.insert(0, 2));
        }
    }

    /// Requests for pages, with whose they are.
    fn requests(&self) -> Vec<(Walk, RequestLog)> {
        let all = self.world.simulator.requests().into_iter();
        let pages = all.filter(|request| request.path.contains("/exports/") && !is_for_total(request));
        pages.map(|request| (self.walk(&request), request)).collect()
    }

    fn first_of(&self, walk: Walk) -> Option<RequestLog> {
        let mut requests = self.requests().into_iter();
        requests.find(|(whose, _)| *whose == walk).map(|(_, request)| request)
    }

    fn walk(&self, request: &RequestLog) -> Walk {
        match (time(request, "since"), time(request, "until")) {
            (_, None) => Walk::Live,
            // A sweep begins at most `late_window` before the start, a range at or between seeded rows.
            (Some(since), Some(_)) if since > self.begun_ms - DAY_MS => Walk::Sweep,
            (_, Some(_)) => Walk::Range,
        }
    }

    /// Lets upstream change and be read until this holds of the requests so far, and long enough for it to show anything.
    fn until(
        &mut self,
        source: &mut Source,
        what: &str,
        mut holds: impl FnMut(&mut Self, &[(Walk, RequestLog)]) -> bool,
    ) {
        wait_for_as_long_as(3 * PATIENCE, what, || {
            is_well(source);
            let requests = self.requests();
            self.change(&requests);
            let ranges: Vec<_> = requests.iter().filter(|(walk, _)| *walk == Walk::Range).collect();
            let now_ms = self.world.simulator.now_ms();
            // One that ends too early is for the judge.
            let are_over = ranges.last().is_some_and(|(_, last)| now_ms - last.at_ms > 3_000);
            (holds(self, &requests) && (ranges.len() >= RANGE_REQUESTS || are_over)).then_some(())
        });
    }

    /// Ranges meet each of these; a live walk and a sweep meet some; all while the others go on.
    fn meet(&mut self, effects: &[Effect]) -> Source {
        let script = |effect: &Effect, until| Fault::export(effect.clone()).until(until).cursor(true);
        for effect in effects {
            self.world.simulator.push_fault(script(effect, true).skip(1).times(2));
        }
        let mut source = self.run();
        // Nothing has changed yet, so that no sweep has a second page: these meet ranges.
        wait_for("ranges meet it", || {
            is_well(&mut source);
            (self.world.simulator.fault_count() == 0).then_some(())
        });
        let mut effects = effects.iter().cycle();
        self.until(&mut source, "live walks and sweeps meet it", |trial, requests| {
            let has_met = |walk| are_met_by(walk, requests, |request| request.effect.is_some());
            let until = match (has_met(Walk::Live), has_met(Walk::Sweep)) {
                (true, true) => return true,
                // It may meet a range again, as long as there are any.
                (true, false) => true,
                (false, _) => false,
            };
            // Not one upon another: a token that is revoked again and again is given up, and rightly so.
            let last = requests.iter().rfind(|(_, request)| request.effect.is_some());
            let now_ms = trial.world.simulator.now_ms();
            let is_over = last.is_none_or(|(_, last)| now_ms - last.at_ms > 100);
            if is_over && are_let_in_again(requests, now_ms) && trial.world.simulator.fault_count() == 0 {
                let effect = effects.next().expect("they begin again");
                trial.world.simulator.push_fault(script(effect, until));
            }
            false
        });
        assert!(are_met(&self.requests(), |request| request.effect.is_some()));
        source
    }

    /// Ends the source, and lets another one catch up with an upstream that is quiet and sound. Gives the log of both.
    #[track_caller]
    fn stop(&self, mut source: Source) -> String {
        self.world.simulator.clear_faults();
        self.world.simulator.set_latency(Duration::ZERO);
        source.signal("TERM");
        source.expect_exit(0);
        source.log() + &self.catch_up()
    }

    /// As `stop`; then every promise holds. Gives what is in the topic, too.
    #[track_caller]
    fn end(&self, source: Source) -> (String, Vec<Record>) {
        let log = self.stop(source);
        assert!(!log.contains("U28"), "upstream showed all that it counted: {log}");
        (log, self.judged())
    }

    #[track_caller]
    fn catch_up(&self) -> String {
        let mut source = self.command(&["run", "--until-caught-up"]);
        source.expect_exit(0);
        source.log()
    }

    #[track_caller]
    fn judged(&self) -> Vec<Record> {
        self.were_side_by_side();
        let records = self.world.judged_accounts();
        judge::everything(&records, &self.world.simulator.rows(0));
        records
    }

    /// Live walks and sweeps went on before the snapshot was over.
    #[track_caller]
    fn were_side_by_side(&self) {
        let requests = self.requests();
        let is_of = |walk: Walk| move |(whose, _): &(Walk, RequestLog)| *whose == walk;
        let last_of_ranges = requests.iter().rposition(is_of(Walk::Range)).expect("a range");
        for walk in [Walk::Live, Walk::Sweep] {
            let are_any = requests[..last_of_ranges].iter().any(is_of(walk));
            assert!(are_any, "no {walk:?} beside the snapshot");
        }
    }
}

#[track_caller]
fn is_well(source: &mut Source) {
    let log = source.log();
    // Clocks that are far apart are an error that stops nobody.
    let is_wrong = |line: &str| line.contains("ERROR") && !line.contains("code=U25");
    assert!(source.is_running() && !log.lines().any(is_wrong), "{log}");
}

/// Whether ranges, live walks and sweeps each have such a request.
fn are_met(requests: &[(Walk, RequestLog)], is_met: impl Fn(&RequestLog) -> bool) -> bool {
    [Walk::Range, Walk::Live, Walk::Sweep]
        .into_iter()
        .all(|walk| are_met_by(walk, requests, &is_met))
}

fn are_met_by(walk: Walk, requests: &[(Walk, RequestLog)], is_met: impl Fn(&RequestLog) -> bool) -> bool {
    requests
        .iter()
        .any(|(whose, request)| *whose == walk && is_met(request))
}

fn is_for_total(request: &RequestLog) -> bool {
    query(request, "includeTotal").is_some()
}

fn query<'a>(request: &'a RequestLog, name: &str) -> Option<&'a str> {
    let mut pairs = request.query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// A bound that was asked for, in milliseconds.
fn time(request: &RequestLog, name: &str) -> Option<i64> {
    let text = query(request, name)?.replace("%3A", ":");
    let at = chrono::DateTime::parse_from_rfc3339(&text).expect("a time");
    Some(at.timestamp_millis())
}

/// Ranges, live walks and sweeps meet these; it is said in the log; nothing is lost or doubled.
#[track_caller]
fn survives(effects: &[Effect], said: &str) {
    survives_with(&[], effects, said);
}

#[track_caller]
fn survives_with(set: &[&'static str], effects: &[Effect], said: &str) {
    let mut trial = Trial::with(set);
    let source = trial.meet(effects);
    let (log, _) = trial.end(source);
    assert!(log.contains(said), "no `{said}` in:\n{log}");
}

/// A status without `Retry-After`, with one in seconds, and with one that is a date.
fn statuses(code: StatusCode) -> [Effect; 3] {
    let with = |retry_after| Effect::Status { code, retry_after };
    [
        with(None),
        with(Some(RetryAfter::Seconds(1))),
        with(Some(RetryAfter::DateIn(1))),
    ]
}

// Answers that are errors.

#[test]
fn an_answer_of_429_loses_and_doubles_nothing() {
    survives(&statuses(StatusCode::TOO_MANY_REQUESTS), "upstream answered 429");
}

#[test]
fn an_answer_of_500_loses_and_doubles_nothing() {
    survives(&statuses(StatusCode::INTERNAL_SERVER_ERROR), "upstream answered 500");
}

#[test]
fn an_answer_of_502_loses_and_doubles_nothing() {
    survives(&statuses(StatusCode::BAD_GATEWAY), "upstream answered 502");
}

#[test]
fn an_answer_of_503_loses_and_doubles_nothing() {
    survives(&statuses(StatusCode::SERVICE_UNAVAILABLE), "upstream answered 503");
}

#[test]
fn an_answer_of_504_loses_and_doubles_nothing() {
    survives(&statuses(StatusCode::GATEWAY_TIMEOUT), "upstream answered 504");
}

#[test]
fn a_504_above_a_page_size_loses_and_doubles_nothing() {
    let mut trial = Trial::new();
    trial.world.simulator.set_page_limit_504(Some(15));
    let mut source = trial.run();
    trial.until(&mut source, "smaller pages are read", |_, requests| {
        let is_small = |request: &RequestLog| {
            let limit = query(request, "limit").expect("a limit");
            request.status == Some(200) && limit.parse::<u16>().expect("a number") <= 15
        };
        are_met(requests, |request| request.status == Some(504)) && are_met(requests, is_small)
    });
    trial.world.simulator.set_page_limit_504(None);
    trial.end(source);
}

/// Who came with a revoked token has been answered since; or it was a while ago, as what a range asked for when it was over is not asked for
/// again.
fn are_let_in_again(requests: &[(Walk, RequestLog)], now_ms: i64) -> bool {
    const A_WHILE_MS: i64 = 10_000;
    let is_answered = |number: usize, refused: &Walk| {
        let mut later = requests[number..].iter();
        later.any(|(walk, later)| walk == refused && later.status == Some(200))
    };
    let mut all = requests.iter().enumerate();
    all.all(|(number, (walk, request))| {
        request.status != Some(401) || is_answered(number, walk) || now_ms - request.at_ms > A_WHILE_MS
    })
}

#[test]
fn a_token_that_is_revoked_loses_and_doubles_nothing() {
    let mut trial = Trial::new();
    let source = trial.meet(&[Effect::TokenRevoked]);
    let (log, _) = trial.end(source);
    // Of Kafka's there may be some on a busy machine.
    let is_of_upstream = |line: &str| line.contains("WARN") && line.contains("code=U");
    assert!(
        !log.lines().any(is_of_upstream),
        "a token that ends is nothing to worry about: {log}"
    );
}

// Connections that break, answers that take too long.

#[test]
fn a_reset_in_the_middle_of_a_body_loses_and_doubles_nothing() {
    survives(&[Effect::Reset], "reading a page of D02: no answer: ");
}

#[test]
fn an_answer_that_hangs_loses_and_doubles_nothing() {
    let hang = Effect::Hang(Duration::from_secs(30));
    survives_with(&["upstream.request_timeout=700ms"], &[hang], "operation timed out");
}

#[test]
fn a_body_that_trickles_loses_and_doubles_nothing() {
    let bodies = [Duration::from_secs(30), Duration::from_millis(300)].map(Effect::SlowBody);
    survives_with(&["upstream.request_timeout=700ms"], &bodies, "operation timed out");
}

// Answers that are no page, or the wrong one.

#[test]
fn json_that_is_cut_off_loses_and_doubles_nothing() {
    survives(&[Effect::CutOffJson], "JSON that is cut off at line 1");
}

#[test]
fn a_page_for_people_with_200_loses_and_doubles_nothing() {
    survives(&[Effect::Html { code: StatusCode::OK }], "no JSON at line 1");
}

#[test]
fn a_page_of_another_content_type_loses_and_doubles_nothing() {
    let mut trial = Trial::new();
    let source = trial.meet(&[Effect::WrongContentType]);
    let (log, _) = trial.end(source);
    assert!(!log.contains("WARN"), "it is a page: {log}");
}

#[test]
fn a_page_that_comes_twice_loses_and_doubles_nothing() {
    survives(&[Effect::DuplicatePage], "the page is discarded and asked for again");
}

#[test]
fn rows_out_of_order_lose_and_double_nothing() {
    survives(&[Effect::PageOutOfOrder], "is older than the one before it");
}

#[test]
fn bounds_that_are_not_echoed_lose_and_double_nothing() {
    survives(&[Effect::BoundsNotEchoed], "`meta` says ");
}

#[test]
fn a_cursor_that_answers_itself_loses_and_doubles_nothing() {
    survives(
        &[Effect::CursorAnswersItself],
        "`nextCursor` is the cursor that was sent",
    );
}

#[test]
fn an_empty_page_with_a_cursor_loses_and_doubles_nothing() {
    let mut trial = Trial::new();
    let source = trial.meet(&[Effect::EmptyPageWithCursor]);
    trial.end(source);
}

#[test]
fn cursors_that_all_die_at_once_lose_and_double_nothing() {
    let mut trial = Trial::new();
    let mut source = trial.run();
    let is_refused = |request: &RequestLog| request.status == Some(500);
    trial.until(&mut source, "every walk has a dead cursor", |trial, requests| {
        let now_ms = trial.world.simulator.now_ms();
        // Where one of them was at its end, they all begin afresh first.
        let last = requests.iter().rfind(|(_, request)| is_refused(request));
        let is_over = last.is_none_or(|(_, last)| now_ms - last.at_ms > 2_000);
        if is_over && trial.world.simulator.fault_count() == 0 {
            // Once a live walk has met it, it is for a sweep to; it may be a range that does, as long as there are any.
            let until = are_met_by(Walk::Live, requests, is_refused);
            let fault = Fault::export(Effect::AllCursorsDead).until(until).cursor(true);
            trial.world.simulator.push_fault(fault);
        }
        are_met(requests, is_refused)
    });
    trial.end(source);
}

// Totals.

#[track_caller]
fn survives_a_total(total: Total) {
    let mut trial = Trial::new();
    trial.world.simulator.set_total(total);
    let mut source = trial.run();
    let is_asked = |request: &RequestLog| is_for_total(request) && request.status == Some(200);
    trial.until(&mut source, "it asks how many rows there are", |trial, requests| {
        trial.world.simulator.requests().iter().any(is_asked) && are_met(requests, |_| true)
    });
    trial.end(source);
}

#[test]
fn a_total_that_is_capped_loses_and_doubles_nothing() {
    survives_a_total(Total::Capped(100));
}

#[test]
fn a_total_that_times_out_loses_and_doubles_nothing() {
    survives_a_total(Total::Timeout);
}

/// A total that is too high by so many.
#[track_caller]
fn survives_a_total_that_is_off(by: i64, is_said: bool) {
    let mut trial = Trial::new();
    trial.world.simulator.set_total(Total::Off(by));
    let mut source = trial.run();
    trial.until(&mut source, "the snapshot is counted", |trial, _| {
        trial
            .world
            .simulator
            .requests()
            .iter()
            .filter(|request| is_for_total(request))
            .count()
            > 1
    });
    let log = trial.stop(source);
    trial.judged();
    assert_eq!(log.contains("U28"), is_said, "{log}");
}

#[test]
fn a_total_that_is_too_high_is_said_and_one_that_is_too_low_is_not() {
    // More than change while it is read.
    survives_a_total_that_is_off(3_000, true);
    survives_a_total_that_is_off(-3, false);
}

// Rows that come late, are dated ahead, or vanish.

#[test]
fn rows_that_become_visible_late_are_neither_lost_nor_doubled() {
    let mut trial = Trial::with(&["upstream.late_window=1m"]);
    let mut source = trial.run();
    let (by, mut seed) = (Duration::from_millis(400), 0);
    trial.until(&mut source, "rows come late", |trial, requests| {
        seed += 1;
        trial.world.simulator.change_late(0, 3, by, seed);
        trial.world.simulator.counts().late_count > 100 && are_met(requests, |_| true)
    });
    let is_visible = |trial: &Trial| trial.world.simulator.pending_late_count() == 0;
    wait_for("the last late row", || is_visible(&trial).then_some(()));
    // Neither a range nor a live walk will read there again.
    let t0 = trial.first_of(Walk::Live).and_then(|request| time(&request, "since"));
    let late_at = t0.expect("a live walk") + 1;
    wait_for("the live walks have passed it", || {
        let read = trial.world.cursors().pop().expect("a cursor record").json()["read"].clone();
        let read = read.as_str().expect("a time").parse::<chrono::DateTime<chrono::Utc>>();
        (read.expect("a time").timestamp_millis() > late_at).then_some(())
    });
    let at = chrono::DateTime::from_timestamp_millis(late_at).expect("a time");
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let row = format!(r#"{{"public_id":"late","balance_amount":7,"updated_at":"{at}"}}"#);
    trial.world.simulator.upsert_json(0, late_at, "late", &row);
    wait_for("a sweep finds it", || {
        let records = trial.world.accounts();
        records.iter().any(|record| record.key() == "late").then_some(())
    });
    trial.end(source);
}

#[test]
fn rows_that_are_dated_ahead_are_neither_lost_nor_doubled() {
    let mut trial = Trial::new();
    let mut source = trial.run();
    let (mut ahead, mut seed) = (HashSet::new(), 0);
    trial.until(&mut source, "rows are dated ahead", |trial, requests| {
        seed += 1;
        let simulator = &trial.world.simulator;
        ahead.extend(simulator.change_ahead(0, 1, HOUR, seed));
        // Their time comes, and they change again.
        simulator.change_ahead(0, 3, Duration::from_millis(300), seed);
        simulator.counts().ahead_count > 100 && are_met(requests, |_| true)
    });
    let (log, records) = trial.end(source);
    assert!(
        log.contains("rows are dated ahead of the clock of their answer"),
        "{log}"
    );
    let limit = trial.begun_ms + HOUR_MS;
    let found: Vec<_> = records.iter().filter(|record| record.updated_at() >= limit).collect();
    assert!(found.iter().all(|record| ahead.contains(record.key())));
    assert_eq!(
        found.len(),
        ahead.len(),
        "each once, however often a live walk reads it"
    );
}

#[test]
fn accounts_that_vanish_during_a_walk_cost_no_other() {
    let mut trial = Trial::new();
    let (before, mut seed) = (trial.world.simulator.rows(0), 0);
    let mut source = trial.meet(&[Effect::Vanish { count: 5 }]);
    trial.until(&mut source, "some vanish anywhere", |trial, _| {
        seed += 1;
        trial.world.simulator.delete(0, 2, seed);
        trial.world.simulator.counts().delete_count > 100
    });
    trial.stop(source);
    let (mut records, rows) = (trial.world.accounts(), trial.world.simulator.rows(0));
    judge::once_and_in_order(&records);
    // Nothing says that an account is gone, so what was read of it stays.
    let left: HashSet<_> = rows.iter().map(|row| row.id.as_str()).collect();
    let ever = before.iter().map(|row| &row.id).chain(&trial.inserted);
    let gone: HashSet<_> = ever.filter(|id| !left.contains(id.as_str())).collect();
    let count = records.len();
    records.retain(|record| !gone.iter().any(|id| *id == record.key()));
    assert!(records.len() < count, "none that was read vanished");
    trial.were_side_by_side();
    judge::everything(&records, &rows);
}

// Clocks.

#[track_caller]
fn survives_a_clock(skew_ms: i64) {
    let mut trial = Trial::new().skewed(skew_ms);
    let mut source = trial.run();
    trial.until(&mut source, "it is read", |_, requests| are_met(requests, |_| true));
    let (log, records) = trial.end(source);
    let said = if skew_ms > 0 { "ahead of" } else { "behind" };
    assert!(log.contains("upstream's clock is ") && log.contains(said), "{log}");
    let newest = records.iter().map(Record::updated_at).max().expect("a record");
    assert!(newest >= trial.begun_ms, "the changes were read by upstream's clock");
}

#[test]
fn a_clock_that_is_an_hour_fast_loses_and_doubles_nothing() {
    survives_a_clock(HOUR_MS);
}

#[test]
fn a_clock_that_is_an_hour_slow_loses_and_doubles_nothing() {
    survives_a_clock(-HOUR_MS);
}

#[test]
fn a_clock_that_is_put_forward_an_hour_loses_and_doubles_nothing() {
    survives_a_jump(HOUR_MS);
}

#[test]
fn a_clock_that_is_put_back_an_hour_within_the_late_window_loses_and_doubles_nothing() {
    survives_a_jump(-HOUR_MS);
}

#[track_caller]
fn survives_a_jump(skew_ms: i64) {
    let mut trial = Trial::with(&["upstream.late_window=2h"]);
    let mut source = trial.run();
    wait_for("a sweep beside the snapshot", || {
        are_met_by(Walk::Sweep, &trial.requests(), |_| true).then_some(())
    });
    trial.world.simulator.set_clock_skew(skew_ms);
    let jumped_ms = trial.world.simulator.now_ms();
    let is_after = |request: &RequestLog| (request.at_ms - jumped_ms).abs() < HOUR_MS / 2;
    trial.until(&mut source, "it is read", |_, requests| are_met(requests, is_after));
    trial.end(source);
}

// All of them.

#[test]
fn mixed_faults_and_kills_lose_and_double_nothing() {
    let mut trial = Trial::with(&["upstream.request_timeout=700ms"]);
    trial
        .world
        .simulator
        .push_fault(Fault::export(Effect::Mixed).rate(0.15));
    for kill in 1..=3 {
        let mut source = trial.run();
        source.wait_for_line("claimed and restored");
        let before = trial.requests().len();
        wait_for("some pages", || {
            is_well(&mut source);
            let requests = trial.requests();
            trial.change(&requests);
            (requests.len() >= before + 5 * kill).then_some(())
        });
        source.kill();
    }
    let mut source = trial.run();
    trial.until(&mut source, "every walk meets some", |_, requests| {
        are_met(requests, |request| request.effect.is_some())
    });
    source.kill();
    // It also gets to the end while they go on.
    trial.catch_up();
    trial.judged();
    let mut effects = Vec::new();
    for effect in trial.requests().into_iter().filter_map(|(_, request)| request.effect) {
        if !effects.contains(&effect) {
            effects.push(effect);
        }
    }
    assert!(effects.len() >= 5, "no mix: {effects:?}");
}

// Degraded, not dead.

/// Upstream is of no use for several tries; the source goes on by itself when it is again.
#[track_caller]
fn outlives(said: &str, begin: impl Fn(&World), end: impl Fn(&World)) {
    let mut trial = Trial::new();
    let mut source = trial.run();
    trial.until(&mut source, "it is read", |_, requests| are_met(requests, |_| true));
    begin(&trial.world);
    wait_for("several tries", || {
        is_well(&mut source);
        source.log().contains("try_count=4").then_some(())
    });
    let log = source.log();
    // Up to four ranges, a live walk and a sweep; their first, second and fourth tries.
    let count = log.lines().filter(|line| line.contains(said)).count();
    assert!((3..=18).contains(&count), "{count} lines: {log}");
    assert!(!log.contains("try_count=3 "), "a line for every try: {log}");
    end(&trial.world);
    let id = trial.world.simulator.insert(0, 1).remove(0);
    wait_for("the live walks go on", || {
        is_well(&mut source);
        let records = trial.world.accounts();
        records.iter().any(|record| record.key() == id).then_some(())
    });
    trial.end(source);
}

#[test]
fn an_upstream_that_is_away_for_a_while_is_outlived() {
    outlives(
        "reading a page of D02: no answer: ",
        |world| world.simulator.set_down(true),
        |world| world.simulator.set_down(false),
    );
}

#[test]
fn an_upstream_that_answers_rubbish_for_a_while_is_outlived() {
    let rubbish = Fault::export(Effect::Html { code: StatusCode::OK }).rate(1.0);
    outlives(
        "upstream answered 200 with something that is no D02 answer",
        |world| world.simulator.push_fault(rubbish.clone()),
        |world| world.simulator.clear_faults(),
    );
}
