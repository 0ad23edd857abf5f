//! Does the simulator keep the Exports API's contract over real HTTP?

mod adverse;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use d02_source::simulator::{
    Bad, Counts, Effect, Endpoint, Fault, LenderOptions, Options, RetryAfter, RowKind, Simulator, Total,
};
use reqwest::{Certificate, Client, Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};

async fn start(lender: LenderOptions) -> Simulator {
    start_with(Options {
        lenders: vec![lender, LenderOptions::numbered(2)],
        ..Options::default()
    })
    .await
}

async fn start_with(options: Options) -> Simulator {
    Simulator::start(options).await.expect("a free port")
}

/// A client without knowledge of the source's own.
struct Reader<'a> {
    simulator: &'a Simulator,
    http: Client,
    token: String,
    refresh_token: String,
}

impl<'a> Reader<'a> {
    async fn log_in(simulator: &'a Simulator) -> Self {
        Self::log_in_by(simulator, Client::new()).await
    }

    async fn log_in_by(simulator: &'a Simulator, http: Client) -> Self {
        let answer = body(login(simulator, &http).send().await.expect("an answer")).await;
        assert_eq!(answer["lenderPublicId"], simulator.lender(0).public_id);
        Self {
            simulator,
            http,
            token: text(&answer["token"]),
            refresh_token: text(&answer["refreshToken"]),
        }
    }

    fn page(&self, query: &[(&str, &str)]) -> RequestBuilder {
        let url = format!(
            "{}/admin/v3/lenders/{}/exports/S1/D02",
            self.simulator.base_url(),
            self.simulator.lender(0).public_id
        );
        self.http.get(with_query(url, query)).bearer_auth(&self.token)
    }

    async fn get(&self, query: &[(&str, &str)]) -> Response {
        self.page(query).send().await.expect("an answer")
    }

    async fn ok(&self, query: &[(&str, &str)]) -> Value {
        let response = self.get(query).await;
        assert_eq!(response.status(), StatusCode::OK);
        body(response).await
    }

    async fn status(&self, query: &[(&str, &str)]) -> StatusCode {
        self.get(query).await.status()
    }

    /// Rows as text, byte for byte, until `nextCursor` is null.
    async fn walk(&self, query: &[(&str, &str)]) -> Vec<String> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = query.to_vec();
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let text = self.get(&query).await.text().await.expect("a body");
            #[derive(serde::Deserialize)]
            struct Page<'a> {
                #[serde(borrow)]
                body: Body<'a>,
            }
            #[derive(serde::Deserialize)]
            struct Body<'a> {
                #[serde(borrow)]
                rows: Vec<&'a serde_json::value::RawValue>,
                pagination: Value,
            }
            let page: Page = serde_json::from_str(&text).expect("a page");
            rows.extend(page.body.rows.iter().map(|row| row.get().to_owned()));
            match page.body.pagination["nextCursor"].as_str() {
                Some(next) => cursor = Some(next.to_owned()),
                None => return rows,
            }
        }
    }
}

fn login(simulator: &Simulator, http: &Client) -> RequestBuilder {
    let lender = simulator.lender(0);
    http.post(format!(
        "{}/admin/auth/{}/login",
        simulator.base_url(),
        lender.subdomain
    ))
    .json(&json!({"email": lender.email, "password": lender.password}))
}

fn with_query(url: String, query: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{url}?{}", pairs.join("&"))
}

async fn body(response: Response) -> Value {
    response.json().await.expect("JSON")
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn rows(page: &Value) -> &Vec<Value> {
    page["body"]["rows"].as_array().expect("rows")
}

fn next_cursor(page: &Value) -> String {
    text(&page["body"]["pagination"]["nextCursor"])
}

fn truth(simulator: &Simulator) -> Vec<String> {
    simulator.rows(0).into_iter().map(|row| row.json).collect()
}

#[tokio::test]
async fn a_walk_gives_every_row_byte_for_byte_whatever_the_limit() {
    let simulator = start(LenderOptions {
        tie_groups: vec![1, 7, 600],
        odd_rate: 0.2,
        bad_rate: 0.1,
        oversized_rows: 1,
        ..LenderOptions::numbered(1)
    })
    .await;
    let reader = Reader::log_in(&simulator).await;
    for limit in ["7", "500", "9999"] {
        assert_eq!(reader.walk(&[("limit", limit)]).await, truth(&simulator));
    }
    let mut backwards = truth(&simulator);
    backwards.reverse();
    assert_eq!(reader.walk(&[("sort", "desc")]).await, backwards);
}

#[tokio::test]
async fn a_page_has_the_documented_envelope_and_headers() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let query = [
        ("since", "2025-01-01T00:00:00.000123Z"),
        ("until", "2025-02-01T00:00:00Z"),
        ("limit", "3"),
        ("includeTotal", "true"),
    ];
    let response = reader.get(&query).await;
    let request_id = response.headers()["x-request-id"].clone();
    assert!(response.headers().contains_key("date"));
    let page = body(response).await;
    let expected = simulator
        .rows(0)
        .iter()
        .filter(|row| (1_735_689_600_000..1_738_368_000_000).contains(&row.updated_at_ms))
        .count();
    let next = &page["body"]["pagination"]["nextCursor"];
    assert_eq!(page["code"], 200);
    assert_eq!(page["errors"], json!([]));
    assert_eq!(rows(&page).len(), 3);
    assert_eq!(
        page["body"]["pagination"],
        json!({"nextCursor": next, "total": expected, "totalExact": true, "totalNote": null})
    );
    assert_eq!(
        page["body"]["meta"],
        json!({"since": "2025-01-01T00:00:00.000Z", "until": "2025-02-01T00:00:00.000Z", "tenantPathKind": "direct"})
    );
    let log = simulator.requests().pop().expect("a logged request");
    assert_eq!(
        (log.status, &*log.request_id),
        (Some(200), request_id.to_str().expect("ASCII"))
    );

    simulator.set_total(Total::Capped(5));
    let page = reader.ok(&query).await;
    assert_eq!(page["body"]["pagination"]["total"], 5);
    assert_eq!(page["body"]["pagination"]["totalNote"], "capped");
    simulator.set_total(Total::Timeout);
    let page = reader.ok(&query).await;
    assert_eq!(page["body"]["pagination"]["total"], Value::Null);
    assert_eq!(page["body"]["pagination"]["totalNote"], "timeout");
    let plain = reader.ok(&[]).await;
    assert_eq!(rows(&plain).len(), 500);
    assert_eq!(plain["body"]["pagination"].as_object().map(|it| it.len()), Some(1));
}

#[tokio::test]
async fn a_walk_under_live_changes_skips_and_repeats_nothing() {
    let simulator = start(LenderOptions {
        change_rate: 400.0,
        insert_rate: 100.0,
        delete_rate: 100.0,
        ..LenderOptions::numbered(1)
    })
    .await;
    let before = simulator.rows(0);
    let reader = Reader::log_in(&simulator).await;
    let until = "2025-06-02T00:00:00Z";
    let seen = reader.walk(&[("limit", "3"), ("until", until)]).await;
    let after: HashSet<_> = truth(&simulator).into_iter().collect();
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    let still = before.iter().filter(|row| after.contains(&row.json));
    assert!(still.clone().all(|row| seen.contains(&row.json)));
    let counts = simulator.counts();
    assert!(counts.change_count > 0 && counts.insert_count > 0 && counts.delete_count > 0);
    assert!(still.count() < before.len());
}

#[tokio::test]
async fn rates_are_kept_also_when_they_are_high() {
    let begun = Instant::now();
    let simulator = start(LenderOptions {
        rows: 5_000,
        change_rate: 5_000.0,
        insert_rate: 2_000.0,
        delete_rate: 1_000.0,
        ..LenderOptions::numbered(1)
    })
    .await;
    let due = |rate: f64| begun.elapsed().as_secs_f64() * rate;
    // A machine that is busy makes up for it later.
    while simulator.counts().change_count < 10_000 {
        let counts = simulator.counts();
        assert!(counts.change_count as f64 <= due(5_000.0));
        assert!(counts.insert_count as f64 <= due(2_000.0));
        assert!(counts.delete_count as f64 <= due(1_000.0));
        assert!(begun.elapsed() < Duration::from_secs(30), "{counts:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counts = simulator.counts();
    assert!(counts.insert_count > 3_500 && counts.delete_count > 1_500, "{counts:?}");
    let rows = 5_000 + counts.insert_count - counts.delete_count;
    assert_eq!(simulator.row_count(0) as u64, rows);
}

#[tokio::test]
async fn cursors_and_bounds_that_do_not_fit_are_500_with_a_request_id() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let since = ("since", "2025-01-01T00:00:00Z");
    let cursor = next_cursor(&reader.ok(&[since, ("limit", "5")]).await);
    let cursor = ("cursor", cursor.as_str());
    let page = reader.ok(&[since, cursor, ("limit", "9")]).await;
    assert_eq!(page, reader.ok(&[since, cursor, ("limit", "9")]).await);
    for query in [
        vec![cursor],
        vec![since, cursor, ("sort", "desc")],
        vec![since, cursor, ("until", "2025-06-01T00:00:00Z")],
        vec![since, ("cursor", "bm9uc2Vuc2U")],
        vec![("since", "yesterday")],
    ] {
        let response = reader.get(&query).await;
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let header = response.headers()["x-request-id"].clone();
        let error = body(response).await;
        assert_eq!(error["success"], false);
        assert_eq!(error["requestId"], header.to_str().expect("ASCII"));
    }
    simulator.kill_cursors();
    assert_eq!(reader.status(&[since, cursor]).await, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reader.status(&[since]).await, StatusCode::OK);
}

#[tokio::test]
async fn access_needs_a_good_token_of_this_lender() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let mut reader = Reader::log_in(&simulator).await;
    let base = simulator.base_url();
    let get = |path: String| {
        let request = reader.http.get(format!("{base}{path}"));
        request.bearer_auth(&reader.token).send()
    };
    let other = simulator.lender(1).public_id;
    let own = simulator.lender(0).public_id;
    for (path, status) in [
        (format!("/admin/v3/lenders/{other}/exports/S1/D02"), 403),
        (format!("/admin/v3/lenders/{own}/exports/S1/D99"), 404),
        (format!("/admin/v3/lenders/{own}/exports/S9/D02"), 404),
        ("/nothing".to_owned(), 404),
    ] {
        assert_eq!(get(path).await.expect("an answer").status(), status);
    }
    let refresh = |token: String| {
        let url = format!("{base}/admin/auth/{}/refresh-token", simulator.lender(0).subdomain);
        reader.http.post(url).json(&json!({"refreshToken": token})).send()
    };
    simulator.revoke_tokens();
    assert_eq!(reader.status(&[]).await, StatusCode::UNAUTHORIZED);
    let answer = refresh(reader.refresh_token.clone()).await.expect("an answer");
    let token = text(&body(answer).await["token"]);
    simulator.revoke_refresh_tokens();
    let refused = refresh(reader.refresh_token.clone()).await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    let misused = refresh(token.clone()).await.expect("an answer");
    assert_eq!(misused.status(), StatusCode::UNAUTHORIZED);
    reader.token = token;
    assert_eq!(reader.status(&[]).await, StatusCode::OK);

    simulator.set_clock_skew(3_600_001);
    assert_eq!(body(reader.get(&[]).await).await["message"], "Token expired");
    simulator.set_clock_skew(0);
    simulator.set_active(0, false);
    assert_eq!(reader.status(&[]).await, StatusCode::UNAUTHORIZED);
    simulator.set_active(0, true);
    let bad = login(&simulator, &reader.http).json(&json!({"email": "x", "password": "y"}));
    assert_eq!(bad.send().await.expect("an answer").status(), StatusCode::UNAUTHORIZED);
    let empty = login(&simulator, &reader.http).body("{}");
    assert_eq!(empty.send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    reader.token = "a.b.c".to_owned();
    assert_eq!(body(reader.get(&[]).await).await["message"], "Invalid token");
}

#[tokio::test]
async fn status_faults_come_in_order_with_retry_after() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let status = |code, retry_after| Effect::Status { code, retry_after };
    simulator.push_fault(Fault::export(status(
        StatusCode::TOO_MANY_REQUESTS,
        Some(RetryAfter::Seconds(2)),
    )));
    simulator.push_fault(Fault::export(status(
        StatusCode::SERVICE_UNAVAILABLE,
        Some(RetryAfter::DateIn(3)),
    )));
    simulator.push_fault(Fault::export(Effect::Html { code: StatusCode::OK }));
    simulator.push_fault(Fault::export(Effect::WrongTopLevelTypes));
    simulator.push_fault(Fault::export(Effect::TokenRevoked));
    let first = reader.get(&[]).await;
    assert_eq!(
        (first.status().as_u16(), &first.headers()["retry-after"]),
        (429, &"2".parse().expect("a header"))
    );
    let second = reader.get(&[]).await;
    assert_eq!(second.status(), 503);
    assert!(
        second.headers()["retry-after"]
            .to_str()
            .expect("ASCII")
            .ends_with(" GMT")
    );
    let html = reader.get(&[]).await;
    assert_eq!(html.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(reader.ok(&[]).await["code"], "200");
    assert_eq!(reader.status(&[]).await, StatusCode::UNAUTHORIZED);
    let reader = Reader::log_in(&simulator).await;
    reader.ok(&[]).await;

    simulator.push_fault(Fault::on(Endpoint::Login, Effect::status(StatusCode::BAD_GATEWAY)));
    let refused = login(&simulator, &reader.http).send().await.expect("an answer");
    assert_eq!(refused.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(simulator.fault_count(), 0);
    let effects: Vec<_> = simulator.requests().into_iter().map(|log| log.effect).collect();
    let code = |code| Some(Effect::status(code));
    assert_eq!(effects[0], None, "the login");
    assert_eq!(effects[3], Some(Effect::Html { code: StatusCode::OK }));
    assert_eq!(
        effects[5..],
        [Some(Effect::TokenRevoked), None, None, code(StatusCode::BAD_GATEWAY)]
    );
    simulator.set_page_limit_504(Some(100));
    assert_eq!(reader.status(&[("limit", "101")]).await, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(reader.status(&[("limit", "100")]).await, StatusCode::OK);
    simulator.set_down(true);
    assert!(reader.page(&[]).send().await.is_err());
    assert_eq!(simulator.requests().last().and_then(|log| log.status), None);
    simulator.set_down(false);
    assert_eq!(reader.status(&[("limit", "1")]).await, StatusCode::OK);
}

#[tokio::test]
async fn body_faults_break_the_body_and_nothing_else() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let good = reader.get(&[]).await.text().await.expect("a body");
    let meet = |effect| {
        simulator.push_fault(Fault::export(effect));
        reader.get(&[])
    };
    let cut = meet(Effect::CutOffJson).await.text().await.expect("a whole message");
    assert_eq!(cut, good[..good.len() / 2]);
    let plain = meet(Effect::WrongContentType).await;
    assert_eq!(plain.headers()["content-type"], "text/plain");
    let reset = meet(Effect::Reset).await;
    assert_eq!(reset.status(), StatusCode::OK);
    assert!(reset.bytes().await.is_err());
    let wide = meet(Effect::OversizedBody { bytes: 3_000_000 }).await;
    assert_eq!(wide.content_length(), None);
    let wide = wide.text().await.expect("a body");
    assert!(wide.len() > 3_000_000);
    serde_json::from_str::<Value>(&wide).expect("JSON all the same");
    let pause = Duration::from_millis(200);
    for effect in [Effect::Hang(pause), Effect::SlowBody(pause)] {
        let begun = Instant::now();
        assert_eq!(meet(effect).await.text().await.expect("a body"), good);
        assert!(begun.elapsed() >= pause);
    }
    simulator.push_fault(Fault::export(Effect::Hang(Duration::from_secs(60))));
    let hung = reader.page(&[]).timeout(pause).send().await;
    assert!(hung.expect_err("a time-out").is_timeout());
}

#[tokio::test]
async fn page_faults_lie_about_the_walk() {
    let simulator = start(LenderOptions {
        tie_groups: vec![],
        ..LenderOptions::numbered(1)
    })
    .await;
    let reader = Reader::log_in(&simulator).await;
    let first = reader.ok(&[("limit", "10")]).await;
    let cursor = next_cursor(&first);
    let second = [("limit", "10"), ("cursor", cursor.as_str())];
    let good = reader.ok(&second).await;
    let meet = |effect| {
        simulator.push_fault(Fault::export(effect).cursor(true));
        reader.ok(&second)
    };
    let duplicate = meet(Effect::DuplicatePage).await;
    assert_eq!(rows(&duplicate), rows(&first));
    assert_eq!(next_cursor(&duplicate), next_cursor(&good));
    let mut backwards = rows(&good).clone();
    backwards.reverse();
    assert_eq!(rows(&meet(Effect::PageOutOfOrder).await), &backwards);
    assert_eq!(next_cursor(&meet(Effect::CursorAnswersItself).await), cursor);
    assert_ne!(
        meet(Effect::BoundsNotEchoed).await["body"]["meta"],
        good["body"]["meta"]
    );
    let empty = meet(Effect::EmptyPageWithCursor).await;
    assert!(rows(&empty).is_empty());
    let moved = next_cursor(&empty);
    assert_ne!(moved, cursor);
    let resumed = reader.ok(&[("limit", "10"), ("cursor", &moved)]).await;
    assert_eq!(rows(&resumed), rows(&good));
    simulator.push_fault(Fault::export(Effect::EmptyPageWithCursor));
    let empty = reader.ok(&[("limit", "10")]).await;
    let resumed = reader.ok(&[("limit", "10"), ("cursor", &next_cursor(&empty))]).await;
    assert_eq!(rows(&resumed), rows(&first));
    simulator.push_fault(Fault::export(Effect::AllCursorsDead));
    assert_eq!(reader.status(&second).await, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reader.status(&second).await, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(reader.status(&[]).await, StatusCode::OK);
}

#[tokio::test]
async fn the_handle_changes_what_is_served() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let since = "2025-06-02T00:00:00Z";
    let changed: HashSet<_> = simulator.touch(0, 20, 9).into_iter().collect();
    let seen = reader.walk(&[("since", since)]).await;
    assert_eq!((changed.len(), seen.len()), (20, 20));
    assert!(simulator.touch(0, 20, 9).len() == 20);
    let inserted = simulator.insert(0, 2);
    assert!(simulator.remove(0, &inserted[0]));
    assert_eq!(simulator.row_count(0), 1_001);
    let broken = r#"{"public_id":"x","public_id":"y"}"#;
    simulator.upsert_json(0, 4_102_444_800_000, "ffffffffffffffffffffffff", broken);
    let last = simulator.rows(0).pop().expect("rows");
    assert_eq!((&*last.json, last.kind), (broken, RowKind::Given));
    assert_eq!(reader.walk(&[("since", "2099-01-01T00:00:00Z")]).await, [broken]);
    simulator.set_password(0, "another");
    let again = Reader::log_in(&simulator).await;
    assert_eq!(again.status(&[]).await, StatusCode::OK);
    let oversized = start(LenderOptions {
        oversized_rows: 1,
        ..LenderOptions::numbered(1)
    })
    .await;
    let first = &oversized.rows(0)[0];
    assert_eq!(first.kind, RowKind::Bad(Bad::Oversized));
    assert!(first.json.len() > 1_048_576);
}

/// A request to `/simulator`.
async fn steer(simulator: &Simulator, method: Method, path: &str, body: &'static str) -> (u16, Value) {
    let url = format!("{}/simulator/{path}", simulator.base_url());
    let request = Client::new().request(method, url).body(body);
    let response = request.send().await.expect("an answer");
    (response.status().as_u16(), self::body(response).await)
}

#[tokio::test]
async fn a_process_outside_changes_and_checks_the_rows() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let post = async |path: &str| {
        let (status, answer) = steer(&simulator, Method::POST, path, "").await;
        assert_eq!(status, 200, "{answer}");
        let ids = answer["ids"].as_array().expect("ids").clone();
        ids.into_iter().map(|id| text(&id)).collect::<Vec<_>>()
    };
    let changed = post("lenders/lender-1/touch?count=20&seed=9").await;
    assert_eq!(changed.iter().collect::<HashSet<_>>().len(), 20);
    let added = post("lenders/lender-1/insert?count=3").await;
    assert_eq!(added.len(), 3);
    assert_eq!(
        post(&format!("lenders/lender-1/delete?id={}", added[0])).await,
        added[..1]
    );
    let gone = post("lenders/lender-1/delete?count=5&seed=1").await;
    assert_eq!(post("lenders/lender-2/touch").await.len(), 1);

    let (_, counts) = steer(&simulator, Method::GET, "counts", "").await;
    assert_eq!(counts["change_count"], 21);
    assert_eq!(
        (&counts["insert_count"], &counts["delete_count"]),
        (&json!(3), &json!(6))
    );
    assert_eq!(counts["lenders"][0]["row_count"], 997);
    // Who steers is not counted.
    assert_eq!(counts["request_count"], 0);

    let (_, answer) = steer(&simulator, Method::GET, "lenders/lender-1/rows", "").await;
    assert_eq!(answer["row_count"], 997);
    let listed = answer["rows"].as_array().expect("rows");
    let reader = Reader::log_in(&simulator).await;
    let walked = reader.walk(&[]).await;
    assert_eq!(listed.len(), walked.len());
    for (listed, walked) in listed.iter().zip(&walked) {
        let walked: Value = serde_json::from_str(walked).expect("JSON");
        assert_eq!(listed["id"], walked["public_id"]);
        assert_eq!(listed["updated_at"], walked["updated_at"]);
        assert_eq!(listed["kind"], "sound");
    }
    assert!(gone.iter().all(|id| listed.iter().all(|row| row["id"] != **id)));
    let (_, page) = steer(
        &simulator,
        Method::GET,
        "lenders/lender-1/rows?offset=990&limit=100",
        "",
    )
    .await;
    assert_eq!(page["rows"].as_array().expect("rows"), &listed[990..]);
}

#[tokio::test]
async fn a_process_outside_scripts_faults_and_latency() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let script = "# two\n{\"effect\":{\"status\":{\"code\":503}}}\n\n{\"effect\":\"reset\",\"times\":3}\n";
    let (status, answer) = steer(&simulator, Method::POST, "faults", script).await;
    assert_eq!((status, &answer["pending_fault_count"]), (200, &json!(2)));
    assert_eq!(reader.status(&[]).await, StatusCode::SERVICE_UNAVAILABLE);
    let (_, counts) = steer(&simulator, Method::GET, "counts", "").await;
    assert_eq!(
        (&counts["fault_count"], &counts["pending_fault_count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(steer(&simulator, Method::DELETE, "faults", "").await.0, 200);
    assert_eq!(reader.status(&[]).await, StatusCode::OK);

    let begun = Instant::now();
    let (status, answer) = steer(&simulator, Method::POST, "latency?ms=200", "").await;
    assert_eq!((status, answer), (200, json!({"latency_ms": 200})));
    assert_eq!(reader.status(&[]).await, StatusCode::OK);
    assert!(begun.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn a_process_outside_is_told_what_is_wrong() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let (get, post) = (Method::GET, Method::POST);
    for (method, path, body, status, part) in [
        (&get, "", "", 404, "GET /simulator/counts"),
        (&get, "faults", "", 404, "cannot GET this"),
        (&get, "counts?all=1", "", 400, "no parameter \"all\""),
        (
            &post,
            "lenders/nobody/touch",
            "",
            404,
            "no lender \"nobody\", only lender-1, lender-2",
        ),
        (
            &post,
            "lenders/lender-1/touch?cuont=2",
            "",
            400,
            "no parameter \"cuont\"",
        ),
        (
            &post,
            "lenders/lender-1/touch?count=many",
            "",
            400,
            "count=\"many\" cannot be read",
        ),
        (
            &post,
            "lenders/lender-1/insert?count=1000000",
            "",
            400,
            "no more than 100000",
        ),
        (&post, "lenders/lender-1/delete?id=x", "", 404, "no row \"x\""),
        (
            &post,
            "lenders/lender-1/delete?id=x&count=1",
            "",
            400,
            "either id, or count",
        ),
        (&post, "latency", "", 400, "ms is missing"),
        (
            &post,
            "faults",
            "\n{\"effect\":\"rest\"}",
            400,
            "line 2 of the fault script: unknown variant `rest`",
        ),
    ] {
        let (answered, error) = steer(&simulator, method.clone(), path, body).await;
        let message = text(&error["error"]);
        assert_eq!(answered, status, "{path} {message}");
        assert!(message.contains(part), "{path} {message}");
    }
    assert_eq!(simulator.counts(), Counts::default());
}

#[tokio::test]
async fn gzip_only_for_clients_that_accept_it() {
    let simulator = start_with(Options {
        gzip: true,
        ..Options::default()
    })
    .await;
    let reader = Reader::log_in(&simulator).await;
    assert_eq!(reader.walk(&[]).await, truth(&simulator));
    let plain = Client::builder().no_gzip().build().expect("a client");
    let reader = Reader::log_in_by(&simulator, plain).await;
    assert!(!reader.get(&[]).await.headers().contains_key("content-encoding"));
    let zipped = reader.page(&[]).header("accept-encoding", "gzip").send();
    let zipped = zipped.await.expect("an answer");
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    assert!(zipped.bytes().await.expect("a body").len() < 200_000);
    let never = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in_by(&never, Client::builder().no_gzip().build().expect("a client")).await;
    let plain = reader.page(&[]).header("accept-encoding", "gzip").send();
    let plain = plain.await.expect("an answer");
    assert!(!plain.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn https_is_trusted_by_its_own_authority_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let simulator = start_with(Options {
        tls: Some(dir.path().to_owned()),
        ..Options::default()
    })
    .await;
    assert!(simulator.base_url().starts_with("https://127.0.0.1:"));
    let pem = std::fs::read(simulator.ca_file().expect("an authority")).expect("a file");
    let http = Client::builder()
        .tls_certs_merge([Certificate::from_pem(&pem).expect("a certificate")])
        .build()
        .expect("a client");
    let reader = Reader::log_in_by(&simulator, http).await;
    assert_eq!(reader.walk(&[]).await, truth(&simulator));
    assert!(login(&simulator, &Client::new()).send().await.is_err());
}

#[tokio::test]
async fn https_is_good_under_the_names_asked_for_and_no_other() {
    let dir = tempfile::tempdir().expect("a directory");
    let simulator = start_with(Options {
        tls: Some(dir.path().to_owned()),
        tls_names: vec!["simulator".to_owned(), "exports.example".to_owned()],
        ..Options::default()
    })
    .await;
    let base_url = simulator.base_url();
    let port = base_url.strip_prefix("https://simulator:").expect("the first name");
    let port: u16 = port.parse().expect("a port");
    let pem = std::fs::read(simulator.ca_file().expect("an authority")).expect("a file");
    let mut http = Client::builder().tls_certs_only([Certificate::from_pem(&pem).expect("a certificate")]);
    for name in ["simulator", "exports.example", "another.example"] {
        http = http.resolve(name, ([127, 0, 0, 1], port).into());
    }
    let http = http.build().expect("a client");
    for (host, is_good) in [
        ("simulator", true),
        ("exports.example", true),
        ("localhost", true),
        ("127.0.0.1", true),
        ("another.example", false),
    ] {
        let answer = http.get(format!("https://{host}:{port}/")).send().await;
        assert_eq!(answer.is_ok(), is_good, "{host}");
    }
    let reader = Reader::log_in_by(&simulator, http).await;
    assert_eq!(reader.walk(&[]).await, truth(&simulator));
    // The directory may be shared with clients.
    for file in std::fs::read_dir(dir.path()).expect("a directory") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("PEM");
        assert!(text.starts_with("-----BEGIN CERTIFICATE-----") && !text.contains("PRIVATE KEY"));
    }
}

#[tokio::test]
async fn all_addresses_are_reached_by_loopback() {
    let dir = tempfile::tempdir().expect("a directory");
    for (tls, scheme) in [(None, "http"), (Some(dir.path().to_owned()), "https")] {
        let simulator = start_with(Options {
            listen: ([0, 0, 0, 0], 0).into(),
            tls,
            ..Options::default()
        })
        .await;
        let base_url = simulator.base_url();
        assert!(base_url.starts_with(&format!("{scheme}://127.0.0.1:")), "{base_url}");
    }
}

#[tokio::test]
async fn a_health_check_wants_an_answer_under_the_ca_in_the_directory() {
    let dir = tempfile::tempdir().expect("a directory");
    let health_check = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_d02-source"));
        command.args(["simulate", "--health-check", "--listen"]).args(args);
        let output = command.output().await.expect("the binary runs");
        let text = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("an exit code"), text)
    };
    let simulator = start_with(Options {
        tls: Some(dir.path().to_owned()),
        ..Options::default()
    })
    .await;
    let address = simulator.base_url().replace("https://", "");
    let all = address.replace("127.0.0.1", "0.0.0.0");
    let path = dir.path().to_str().expect("text");
    for listen in [&address, &all] {
        assert_eq!(health_check(&[listen, "--tls", path]).await, (0, String::new()));
    }
    let (code, text) = health_check(&[&address]).await;
    assert!(
        code == 1 && text.starts_with("error: no simulator answers"),
        "{code} {text}"
    );
    // Another simulator's CA.
    let other = start_with(Options {
        tls: Some(dir.path().to_owned()),
        ..Options::default()
    })
    .await;
    let (code, text) = health_check(&[&address, "--tls", path]).await;
    assert!(code == 1 && text.contains("certificate verify failed"), "{code} {text}");
    drop((simulator, other));
    let (code, _) = health_check(&[&address, "--tls", path]).await;
    assert_eq!(code, 1);
    let nowhere = dir.path().join("nowhere");
    let (code, text) = health_check(&[&address, "--tls", nowhere.to_str().expect("text")]).await;
    assert!(
        code == 1 && text.starts_with("error: cannot read the CA"),
        "{code} {text}"
    );
}

#[test]
fn a_name_for_https_is_a_dns_name_and_needs_tls() {
    for (args, expected) in [
        (&["--tls-name", "simulator"][..], "--tls <DIR>"),
        (&["--tls", "ca", "--tls-name", "no name"], "not a DNS name"),
        (&["--tls", "ca", "--tls-name", "a..b"], "not a DNS name"),
        (&["--tls", "ca", "--tls-name=-a"], "not a DNS name"),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_d02-source"));
        let output = command.arg("simulate").args(args).output().expect("the binary runs");
        let text = String::from_utf8(output.stderr).expect("text");
        assert!(output.status.code() == Some(2) && text.contains(expected), "{text}");
    }
}

#[tokio::test]
async fn the_date_header_is_skewed_and_written_after_the_latency() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    // Back: forward the token would expire.
    simulator.set_clock_skew(-100 * 86_400_000);
    simulator.set_latency(Duration::from_millis(1_100));
    let asked_ms = simulator.now_ms();
    let response = reader.get(&[]).await;
    let date = response.headers()["date"].to_str().expect("ASCII");
    let date = chrono::DateTime::parse_from_rfc2822(date).expect("a date");
    let passed_ms = date.timestamp_millis() - asked_ms;
    assert!((100..60_000).contains(&passed_ms), "{passed_ms}");
}

#[tokio::test]
async fn dropping_it_closes_the_port() {
    let simulator = start(LenderOptions::numbered(1)).await;
    let reader = Reader::log_in(&simulator).await;
    let request = reader.page(&[]);
    drop(simulator);
    let deadline = Instant::now() + Duration::from_secs(5);
    while request.try_clone().expect("no body").send().await.is_ok() {
        assert!(Instant::now() < deadline, "still served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
