//! Can it be made as hard to read as an upstream may be: by chance, late, ahead of its time, with rows that vanish?

use std::collections::HashMap;
use std::future::Future;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::*;

const YEAR_MS: i64 = 365 * 86_400_000;

/// Steers, and expects that it can be done.
async fn done(simulator: &Simulator, method: Method, path: &str) -> Value {
    let (status, answer) = steer(simulator, method, path, "").await;
    assert_eq!(status, 200, "{answer}");
    answer
}

async fn counts(simulator: &Simulator) -> Value {
    done(simulator, Method::GET, "counts").await
}

/// Asks until it is true. Blocks nothing: the simulator runs on the same thread.
async fn wait_until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn ids(answer: &Value) -> HashSet<String> {
    let ids = answer["ids"].as_array().expect("ids");
    ids.iter().map(text).collect()
}

#[tokio::test]
async fn faults_by_rate_meet_their_share_and_the_same_requests_with_the_same_seed() {
    let script = "{\"effect\":{\"status\":{\"code\":503}},\"rate\":0.3}\n{\"effect\":\"cut_off_json\"}";
    let mut runs = Vec::new();
    for _ in 0..2 {
        let simulator = start(LenderOptions::numbered(1)).await;
        let reader = Reader::log_in(&simulator).await;
        let (_, answer) = steer(&simulator, Method::POST, "faults", script).await;
        assert_eq!(answer, json!({"pending_fault_count": 1, "standing_fault_count": 1}));
        let cut_off = reader.get(&[("limit", "1")]).await;
        assert!(cut_off.json::<Value>().await.is_err(), "what is in order comes first");
        let mut statuses = Vec::new();
        for _ in 0..200 {
            statuses.push(reader.status(&[("limit", "1")]).await.as_u16());
        }
        let met = statuses.iter().filter(|status| **status == 503).count();
        assert!((20..120).contains(&met), "{met}");
        assert_eq!(
            (simulator.counts().fault_count, simulator.fault_count()),
            (met as u64 + 1, 0)
        );
        let answer = done(&simulator, Method::DELETE, "faults").await;
        assert_eq!(answer, json!({"pending_fault_count": 0, "standing_fault_count": 0}));
        for _ in 0..50 {
            assert_eq!(reader.status(&[("limit", "1")]).await, StatusCode::OK);
        }
        runs.push(statuses);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_page_limit_and_the_total_can_be_set_from_outside() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let answer = done(&simulator, Method::POST, "page-limit?most=100").await;
    assert_eq!(answer, json!({"page_limit": 100}));
    assert_eq!(reader.status(&[("limit", "101")]).await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reader.status(&[("limit", "100")]).await, StatusCode::OK);
    let answer = done(&simulator, Method::DELETE, "page-limit").await;
    assert_eq!(answer, json!({"page_limit": null}));
    assert_eq!(reader.status(&[("limit", "101")]).await, StatusCode::OK);

    for (total, expected) in [
        ("capped:7", json!([7, false, "capped"])),
        ("capped:1000", json!([1_000, true, null])),
        ("timeout", json!([null, false, "timeout"])),
        ("exact", json!([1_000, true, null])),
    ] {
        let answer = done(&simulator, Method::POST, &format!("total?as={total}")).await;
        assert_eq!(answer, json!({ "total": total }));
        let page = reader.ok(&[("includeTotal", "true"), ("limit", "1")]).await;
        let answered = &page["body"]["pagination"];
        let answered = json!([answered["total"], answered["totalExact"], answered["totalNote"]]);
        assert_eq!(answered, expected, "{total}");
    }
}

#[tokio::test]
async fn a_volatile_member_is_in_every_row_with_another_value_in_each_answer() {
    let simulator = start(LenderOptions::numbered(1)).await;
    simulator.upsert_json(
        0,
        0,
        "a",
        r#"{"public_id":"a","updated_at":"1970-01-01T00:00:00.000Z"}"#,
    );
    let reader = Reader::log_in(&simulator).await;
    let values = async || {
        let page = reader.ok(&[("limit", "3")]).await;
        let rows = page["body"]["rows"].as_array().expect("rows").clone();
        let values: Vec<_> = rows.iter().map(|row| row.get("exported_at").cloned()).collect();
        assert_eq!((values.len(), &values[0], &values[1]), (3, &values[1], &values[2]));
        values[0].clone()
    };
    assert_eq!(values().await, None);
    let answer = done(&simulator, Method::POST, "volatile?member=exported_at").await;
    assert_eq!(answer, json!({"volatile_members": ["exported_at"]}));
    let (one, other) = (values().await, values().await);
    assert!(one.is_some() && other.is_some() && one != other, "{one:?} {other:?}");
    let answer = done(&simulator, Method::DELETE, "volatile").await;
    assert_eq!(answer, json!({"volatile_members": []}));
    assert_eq!(values().await, None);
}

#[tokio::test]
async fn the_clock_can_be_skewed_from_outside() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let straight_ms = simulator.now_ms();
    let answer = done(&simulator, Method::POST, "clock?skew_ms=-7200000").await;
    assert_eq!(answer, json!({"skew_ms": -7_200_000}));
    let touched = ids(&done(&simulator, Method::POST, "lenders/lender-1/touch?count=5").await);
    for row in simulator.rows(0).iter().filter(|row| touched.contains(&row.id)) {
        assert!((-7_200_000..-3_600_000).contains(&(row.updated_at_ms - straight_ms)));
    }
    let date = reader.get(&[]).await.headers()["date"].clone();
    let date = chrono::DateTime::parse_from_rfc2822(date.to_str().expect("ASCII")).expect("a date");
    // `Date` has no milliseconds.
    assert!((-7_201_000..-3_600_000).contains(&(date.timestamp_millis() - straight_ms)));
    done(&simulator, Method::POST, "clock?skew_ms=0").await;
    assert!(simulator.now_ms() >= straight_ms);
}

#[tokio::test]
async fn the_header_date_can_be_skewed_apart_from_rows_and_tokens() {
    let simulator = start(LenderOptions::numbered(1)).await;
    assert_eq!(
        done(&simulator, Method::POST, "date?skew_ms=7200000").await,
        json!({"skew_ms": 7_200_000})
    );
    let reader = Reader::log_in(&simulator).await;
    let date = reader.get(&[]).await.headers()["date"].clone();
    let date = chrono::DateTime::parse_from_rfc2822(date.to_str().expect("ASCII")).expect("a date");
    let now_ms = d02_source::clock::now().timestamp_millis();
    assert!(
        (7_190_000..7_201_000).contains(&(date.timestamp_millis() - now_ms)),
        "{date}"
    );
    assert!((now_ms - simulator.now_ms()).abs() < 10_000);
    let (status, _) = steer(&simulator, Method::POST, "date?skew_ms=99999999999999", "").await;
    assert_eq!(status, 400);
}

#[tokio::test]
async fn an_old_copy_is_served_from_when_it_was_kept_until_the_faults_are_forgotten() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let page = async || body(reader.get(&[("limit", "1000")]).await).await["body"]["rows"].clone();
    let before = page().await;
    let kept = done(&simulator, Method::POST, "lenders/lender-1/copy").await;
    assert_eq!(kept, json!({"row_count": 1_000}));
    simulator.touch(0, 100, 1);
    assert_ne!(page().await, before);
    simulator.push_fault(Fault::export(Effect::OldCopy).rate(1.0));
    assert_eq!(page().await, before);
    done(&simulator, Method::DELETE, "faults").await;
    assert_ne!(page().await, before);
}

#[tokio::test]
async fn late_rows_are_not_seen_before_their_time_and_then_dated_before() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let before = simulator.rows(0);
    // Over a hundred years, the first of twenty is not due within this test.
    let late = format!("lenders/lender-1/late?count=20&by_ms={}", 100 * YEAR_MS);
    assert_eq!(ids(&done(&simulator, Method::POST, &late).await).len(), 20);
    assert_eq!(simulator.rows(0), before);
    let now = counts(&simulator).await;
    assert_eq!(
        (&now["late_count"], &now["pending_late_count"]),
        (&json!(0), &json!(20))
    );

    let asked_ms = simulator.now_ms();
    // What comes later and is due before is not kept waiting.
    let path = "lenders/lender-1/late?count=20&by_ms=300";
    let late = ids(&done(&simulator, Method::POST, path).await);
    let answered_ms = simulator.now_ms();
    wait_until("late rows become visible", async || {
        counts(&simulator).await["late_count"] == 20
    })
    .await;
    let rows = simulator.rows(0);
    let seen: Vec<_> = rows.iter().filter(|row| row.updated_at_ms >= asked_ms).collect();
    assert_eq!(seen.iter().map(|row| row.id.clone()).collect::<HashSet<_>>(), late);
    assert!(seen.iter().all(|row| row.updated_at_ms <= answered_ms));
    let now = counts(&simulator).await;
    assert_eq!(
        (&now["pending_late_count"], &now["change_count"]),
        (&json!(20), &json!(0))
    );
    assert_eq!(simulator.pending_late_count(), 20);
}

#[tokio::test]
async fn late_rows_never_go_back_nor_come_back_among_other_changes() {
    let simulator = start(LenderOptions {
        rows: 300,
        change_rate: 300.0,
        delete_rate: 20.0,
        late_rate: 600.0,
        late_by: Duration::from_millis(500),
        ..LenderOptions::numbered(1)
    })
    .await;
    let begun = Instant::now();
    let mut last: HashMap<String, i64> = HashMap::new();
    let mut gone = HashSet::new();
    while simulator.counts().late_count < 200 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", simulator.counts());
        let rows: HashMap<_, _> = simulator
            .rows(0)
            .into_iter()
            .map(|row| (row.id, row.updated_at_ms))
            .collect();
        for (id, updated_at_ms) in &rows {
            assert!(!gone.contains(id));
            assert!(last.get(id).is_none_or(|last| last <= updated_at_ms));
        }
        gone.extend(last.into_keys().filter(|id| !rows.contains_key(id)));
        last = rows;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn rows_dated_ahead_stand_until_their_time_has_come() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let asked_ms = simulator.now_ms();
    let path = format!("lenders/lender-1/ahead?count=20&by_ms={YEAR_MS}");
    let ahead = ids(&done(&simulator, Method::POST, &path).await);
    let answered_ms = simulator.now_ms();
    let rows = simulator.rows(0);
    let dated: Vec<_> = rows.iter().rev().take(20).collect();
    for row in &dated {
        assert!(ahead.contains(&row.id));
        assert!((asked_ms..=answered_ms).contains(&(row.updated_at_ms - YEAR_MS)));
    }
    let touched = ids(&done(&simulator, Method::POST, "lenders/lender-1/touch?count=1000").await);
    assert_eq!(touched.intersection(&ahead).count(), 0);
    assert_eq!(touched.len(), 980);
    assert!(dated.iter().all(|row| simulator.rows(0).contains(row)));
    let now = counts(&simulator).await;
    assert_eq!((&now["ahead_count"], &now["change_count"]), (&json!(20), &json!(980)));
    simulator.set_clock_skew(2 * YEAR_MS);
    let touched = done(&simulator, Method::POST, "lenders/lender-1/touch?count=1000").await;
    assert_eq!(ids(&touched).len(), 1_000);
}

#[tokio::test]
async fn accounts_vanish_ahead_of_the_walk_that_has_not_read_them() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let mut expected = truth(&simulator);
    let script = "{\"effect\":{\"vanish\":{\"count\":3}},\"skip\":1,\"times\":2}";
    steer(&simulator, Method::POST, "faults", script).await;
    let walked = reader.walk(&[("limit", "100")]).await;
    // The third page begins after those that the second one lost.
    expected.drain(303..306);
    expected.drain(200..203);
    assert_eq!(walked, expected);
    assert_eq!(truth(&simulator), expected);
    assert_eq!(
        (simulator.counts().delete_count, simulator.counts().fault_count),
        (6, 2)
    );
    assert_eq!(simulator.fault_count(), 0);
}

#[tokio::test]
async fn a_process_outside_is_told_what_is_wrong_with_what_it_sets() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let (post, delete) = (Method::POST, Method::DELETE);
    for (method, path, status, part) in [
        (&post, "page-limit", 400, "most is missing"),
        (&post, "page-limit?most=0", 400, "most=\"0\" cannot be read"),
        (&delete, "page-limit?most=1", 400, "no parameter \"most\""),
        (&post, "volatile", 400, "member is missing"),
        (&post, "volatile?member=a-b", 400, "member=\"a-b\" cannot be read"),
        (&delete, "volatile?member=a", 400, "no parameter \"member\""),
        (&post, "total", 400, "as is missing"),
        (
            &post,
            "total?as=capped",
            400,
            "no total \"capped\"; a total is exact, timeout, capped:N or off:N",
        ),
        (&post, "clock?skew_ms=2m", 400, "skew_ms=\"2m\" cannot be read"),
        (
            &post,
            "clock?skew_ms=-9223372036854775808",
            400,
            "skew_ms is at most a hundred years",
        ),
        (&delete, "clock", 404, "/simulator/clock"),
        (
            &post,
            "lenders/lender-1/late?by_ms=-1",
            400,
            "by_ms=\"-1\" cannot be read",
        ),
        (
            &post,
            "lenders/lender-1/ahead?by_ms=4000000000000",
            400,
            "by_ms is at most a hundred years",
        ),
        (&post, "lenders/nobody/ahead", 404, "no lender \"nobody\""),
    ] {
        let (answered, error) = steer(&simulator, method.clone(), path, "").await;
        let message = text(&error["error"]);
        assert_eq!(answered, status, "{path} {message}");
        assert!(message.contains(part), "{path} {message}");
    }
    let (status, error) = steer(&simulator, post, "faults", "{\"effect\":\"reset\",\"rate\":2}").await;
    assert_eq!(status, 400);
    assert!(
        text(&error["error"]).contains("a rate is above 0 and at most 1"),
        "{error}"
    );
    assert_eq!(simulator.counts(), Counts::default());
}

/// The running command, and where it answers.
async fn started(command: &mut tokio::process::Command) -> (tokio::process::Child, String) {
    let mut child = command
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let base_url = loop {
        let line = lines.next_line().await.expect("text").expect("a base_url");
        if let Some(url) = line.strip_prefix("base_url = \"") {
            break url.trim_end_matches('"').to_owned();
        }
    };
    (child, base_url)
}

#[tokio::test]
async fn the_command_starts_it_with_all_of_this() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_d02-source"));
    command
        .args([
            "simulate",
            "--fault-rate",
            "1",
            "--page-limit",
            "100",
            "--total",
            "capped:7",
        ])
        .args(["--clock-skew", "-2h", "--late-rate", "100", "--late-by", "10ms"])
        .args(["--ahead-rate", "100", "--ahead-by", "1h"]);
    let (mut child, base_url) = started(&mut command).await;
    let http = Client::new();
    let counts = async || {
        body(
            http.get(format!("{base_url}/simulator/counts"))
                .send()
                .await
                .expect("an answer"),
        )
        .await
    };
    let lender = LenderOptions::numbered(1);
    let credentials = json!({"email": lender.email, "password": lender.password});
    let login = http
        .post(format!("{base_url}/admin/auth/lender-1/login"))
        .json(&credentials);
    let token = text(&body(login.send().await.expect("an answer")).await["token"]);
    let page = async |query: &str| {
        let url = format!(
            "{base_url}/admin/v3/lenders/{}/exports/S1/D02?{query}",
            lender.public_id
        );
        http.get(url).bearer_auth(&token).send().await
    };
    let answer = page("includeTotal=true&limit=101").await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    // Who asks for the total meets no fault.
    let answer = page("includeTotal=true&limit=100").await.expect("an answer");
    let date = answer.headers()["date"].to_str().expect("ASCII").to_owned();
    let date = chrono::DateTime::parse_from_rfc2822(&date).expect("a date");
    let skew = date.signed_duration_since(d02_source::clock::now());
    assert!((-7_260..-3_600).contains(&skew.num_seconds()), "{skew}");
    assert_eq!(body(answer).await["body"]["pagination"]["total"], 7);
    let before = counts().await;
    assert_eq!(
        (&before["fault_count"], &before["pending_fault_count"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(before["standing_fault_count"], 1);
    // Whatever it is answered, or not.
    let _ = page("limit=100").await;
    assert_eq!(counts().await["fault_count"], 1);
    wait_until("late rows and rows dated ahead", async || {
        let now = counts().await;
        [&now["late_count"], &now["ahead_count"]]
            .iter()
            .all(|count| count.as_u64() > Some(0))
    })
    .await;
    child.kill().await.expect("it runs");
}

#[tokio::test]
async fn the_command_takes_any_fault_by_a_flag_and_an_old_copy_is_that_of_the_start() {
    let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_d02-source"));
    command
        .args(["simulate", "--rows", "10"])
        .args(["--fault", r#"{"effect":{"status":{"code":418}},"endpoint":"login"}"#])
        .args(["--fault", r#"{"effect":"old_copy","cursor":false,"rate":1,"times":1}"#]);
    let (mut child, base_url) = started(&mut command).await;
    let http = Client::new();
    let lender = LenderOptions::numbered(1);
    let credentials = json!({"email": lender.email, "password": lender.password});
    let login = || {
        let login = http.post(format!("{base_url}/admin/auth/lender-1/login"));
        login.json(&credentials).send()
    };
    assert_eq!(login().await.expect("an answer").status(), 418);
    let token = text(&body(login().await.expect("an answer")).await["token"]);
    let inserted = http.post(format!("{base_url}/simulator/lenders/lender-1/insert?count=5"));
    assert_eq!(inserted.send().await.expect("an answer").status(), 200);
    let url = format!("{base_url}/admin/v3/lenders/{}/exports/S1/D02", lender.public_id);
    for rows in [10, 15] {
        let page = http.get(format!("{url}?limit=100")).bearer_auth(&token).send().await;
        let page = body(page.expect("an answer")).await;
        assert_eq!(page["body"]["rows"].as_array().map(Vec::len), Some(rows));
    }
    child.kill().await.expect("it runs");
}

#[test]
fn the_command_says_what_is_wrong_with_its_arguments() {
    for (args, expected) in [
        (&["--fault-rate", "1.5"][..], "a share is between 0 and 1"),
        (&["--fault", r#"{"effect":"burn"}"#], "unknown variant `burn`"),
        (
            &["--fault", r#"{"effect":"reset","rate":2}"#],
            "a rate is above 0 and at most 1",
        ),
        (
            &["--fault", r#"{"effect":"token_revoked","endpoint":"login"}"#],
            "this effect is for exports only",
        ),
        (&["--fault", ""], "a line of a fault script"),
        (&["--page-limit", "0"], "0 is not in 1..=1000"),
        (&["--page-limit", "1001"], "1001 is not in 1..=1000"),
        (&["--total", "capped"], "a total is exact, timeout, capped:N or off:N"),
        (&["--clock-skew", "-soon"], "an example is 90s"),
        (&["--clock-skew", "-40000days"], "more than a hundred years"),
        (&["--late-rate=-1"], "not a number from 0 on"),
        (&["--late-rate", "1", "--late-by", "5"], "an example is 90s"),
        (&["--late-by", "5s"], "--late-rate <LATE_RATE>"),
        (&["--ahead-rate", "much"], "not a number from 0 on"),
        (
            &["--ahead-rate", "1", "--ahead-by", "40000days"],
            "more than a hundred years",
        ),
        (&["--ahead-by", "5s"], "--ahead-rate <AHEAD_RATE>"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_d02-source"));
        let output = command.arg("simulate").args(args).output().expect("the binary runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(
            output.status.code() == Some(2) && text.contains(expected),
            "{args:?} {text}"
        );
    }
}

#[tokio::test]
async fn an_answer_can_be_a_gateways_or_say_that_it_failed_or_not_be_read_at_all() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let mut reader = Reader::log_in(&simulator).await;
    let unled = Client::builder().redirect(reqwest::redirect::Policy::none());
    reader.http = unled.build().expect("a client");
    let id = simulator.rows(0)[3].id.clone();
    let script = [
        r#"{"effect":{"redirect":{"code":307,"location":"https://other.example/?a=b"}}}"#.to_owned(),
        r#"{"effect":{"error_in_200":{"code":500}}}"#.to_owned(),
        r#"{"effect":{"error_in_200":{"errors":["no"]}}}"#.to_owned(),
        format!(r#"{{"effect":{{"not_utf8":{{"id":"{id}"}}}}}}"#),
        format!(r#"{{"effect":{{"not_a_number":{{"id":"{id}"}}}}}}"#),
        format!(r#"{{"effect":{{"raw_control":{{"id":"{id}"}}}}}}"#),
        r#"{"effect":{"status":{"code":410}},"cursor":true,"rate":1}"#.to_owned(),
        r#"{"effect":{"above_size":{"bytes":2000,"code":503}},"rate":1}"#.to_owned(),
    ];
    // What steers wants a text that lives on.
    let script = Box::leak(script.join("\n").into_boxed_str());
    let (status, answer) = steer(&simulator, Method::POST, "faults", script).await;
    assert_eq!(status, 200, "{answer}");
    let ten = [("limit", "10")];
    let redirect = reader.get(&ten).await;
    assert_eq!(redirect.status().as_u16(), 307);
    assert_eq!(redirect.headers()["location"], "https://other.example/?a=b");
    for (code, errors) in [(500, json!([])), (200, json!(["no"]))] {
        let page: Value = reader.get(&ten).await.json().await.expect("JSON");
        assert_eq!((&page["code"], &page["errors"]), (&json!(code), &errors));
        assert_eq!(page["body"]["rows"].as_array().map(Vec::len), Some(10));
    }
    for what in ["UTF-8", "JSON", "JSON"] {
        let body = reader.get(&ten).await.bytes().await.expect("a body");
        let text = std::str::from_utf8(&body);
        assert_eq!(text.is_ok(), what == "JSON", "{text:?}");
        assert!(serde_json::from_slice::<Value>(&body).is_err());
        // The other rows are as ever.
        let whole = String::from_utf8_lossy(&body).into_owned();
        assert_eq!(whole.matches("\"public_id\"").count(), 10, "{whole}");
    }
    assert_eq!(reader.status(&ten).await, StatusCode::SERVICE_UNAVAILABLE);
    let one: Value = reader.get(&[("limit", "1")]).await.json().await.expect("a small page");
    let cursor = text(&one["body"]["pagination"]["nextCursor"]);
    assert_eq!(
        reader.status(&[("limit", "1"), ("cursor", &cursor)]).await,
        StatusCode::GONE
    );
}
