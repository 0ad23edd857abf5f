//! What does the source make of each answer, from its first byte to what follows from it?

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::Response;
use reqwest::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::Instant;

use super::client::Client;
use super::error::UpstreamError;
use super::request::PageRequest;
use super::route::Route;
use super::transport::{Execution, HttpClient, Transport};
use crate::config::{self, Config};
use crate::exit::{Diagnosis, ErrorCode, Exit};
use crate::metrics::LenderMetrics;
use crate::phase::Phase;
use crate::policy::{AfterRequest, after_request};
use crate::simulator::Authority;

const LOGIN: &str = r#"{"lenderPublicId":"5f0c","token":"planted-token","refreshToken":"planted-refresh"}"#;
const PAGE: &str = r#"{"code":200,"body":{"rows":[{"a":"b"}],"pagination":{"nextCursor":null},"meta":{"since":null,"until":null}},"errors":[]}"#;
const ENVELOPE: &str = r#"{"success":false,"message":"no to planted-token","requestId":"req_1"}"#;
const GATEWAY: &str = "<html>no such service</html>";

/// An upstream that answers by a function.
struct Fake<F>(F);

impl<F: Fn(&str) -> Response<Vec<u8>> + Send + Sync> Transport for Fake<F> {
    fn execute(&self, request: Request) -> Execution<'_> {
        let answer = (self.0)(request.url().path()).map(reqwest::Body::from);
        Box::pin(async move { Ok(answer.into()) })
    }
}

fn answer(status: u16, body: impl Into<Vec<u8>>) -> Response<Vec<u8>> {
    let response = Response::builder().status(status);
    response.body(body.into()).expect("an answer")
}

fn config(set: &[&str]) -> Config {
    let lender = [
        "lenders.acme.email=a@acme.example",
        "lenders.acme.password=planted-password",
    ];
    let layers = config::Layers {
        set: lender.iter().chain(set).map(|set| (*set).to_owned()).collect(),
        ..config::Layers::default()
    };
    config::load(layers).expect("a configuration").config
}

async fn log_in(transport: Arc<dyn Transport>, config: &Config, route: &Arc<Route>) -> Result<Client, UpstreamError> {
    let (upstream, lender) = (&config.upstream, &config.lenders["acme"]);
    let (metrics, route) = (LenderMetrics::default(), Arc::clone(route));
    let client = Client::login(transport, upstream, "acme", lender, metrics, route).await;
    client.map(|(client, _)| client)
}

fn route(config: &Config) -> Arc<Route> {
    Arc::new(Route::new("acme", &config.upstream, Phase::alone()))
}

fn request() -> PageRequest {
    PageRequest {
        since: None,
        until: None,
        cursor: None,
        limit: 500,
        include_total: false,
    }
}

/// A client that is logged in, and whose requests for pages `page` answers.
async fn client(page: impl Fn() -> Response<Vec<u8>> + Send + Sync + 'static) -> Client {
    let fake = Fake(move |path: &str| match path.ends_with("/D02") {
        true => page(),
        false => answer(200, LOGIN),
    });
    let config = config(&[]);
    log_in(Arc::new(fake), &config, &route(&config)).await.expect("a login")
}

/// Why one request for a page that is answered so brings none.
async fn refused(page: impl Fn() -> Response<Vec<u8>> + Send + Sync + 'static) -> UpstreamError {
    let answered = client(page).await.page_once(&request()).await;
    let error = match answered {
        Ok(answer) => answer.page().err(),
        Err(error) => Some(error),
    };
    error.expect("no page")
}

fn all() -> impl Iterator<Item = (u16, bool)> {
    (300..=599).flat_map(|status| [(status, true), (status, false)])
}

#[tokio::test]
async fn every_status_has_its_meaning_with_and_without_the_vendors_envelope() {
    for (status, is_upstreams) in all() {
        let error = refused(move || answer(status, if is_upstreams { ENVELOPE } else { GATEWAY })).await;
        let (follows, code) = match (status, is_upstreams) {
            (300..=399, _) => (AfterRequest::Silence, ErrorCode::U20),
            (401, _) => (AfterRequest::Fail, ErrorCode::U09),
            (403, true) => (AfterRequest::Fail, ErrorCode::U10),
            (404, true) => (AfterRequest::Fail, ErrorCode::U02),
            (403 | 404, false) | (408 | 429, _) => (AfterRequest::Silence, ErrorCode::U05),
            (413, _) => (AfterRequest::TooLarge, ErrorCode::U06),
            (400..=499, _) => (AfterRequest::Doubt, ErrorCode::U22),
            (500, _) => (AfterRequest::Doubt, ErrorCode::U03),
            (504, _) => (AfterRequest::TooSlow, ErrorCode::U04),
            _ => (AfterRequest::Silence, ErrorCode::U05),
        };
        let what = format!("{status}, {is_upstreams}: {error}");
        assert_eq!((after_request(&error), error.code()), (follows, code), "{what}");
        let is_refusal = matches!(code, ErrorCode::U02 | ErrorCode::U09 | ErrorCode::U10 | ErrorCode::U22);
        let exit = if is_refusal { Exit::Refused } else { Exit::Failed };
        assert_eq!(error.exit(), exit, "{what}");
        assert!(
            what.contains(&status.to_string()) && !what.contains("planted"),
            "{what}"
        );
    }
}

#[tokio::test]
async fn a_login_is_refused_by_upstream_alone() {
    for (status, is_upstreams) in all() {
        let config = config(&[]);
        let fake = Fake(move |_: &str| answer(status, if is_upstreams { ENVELOPE } else { GATEWAY }));
        let logged_in = log_in(Arc::new(fake), &config, &route(&config)).await;
        let error = logged_in.err().expect("no login");
        let is_refused = match status {
            400 | 401 => true,
            403 | 404 => is_upstreams,
            _ => false,
        };
        let follows = after_request(&error);
        assert_eq!(
            follows == AfterRequest::Fail,
            is_refused,
            "{status}, {is_upstreams}: {error}"
        );
        assert!(!matches!(follows, AfterRequest::Stop(_)), "{status}: {error}");
    }
}

#[tokio::test]
async fn a_refresh_that_a_gateway_answers_is_none_and_one_that_upstream_refuses_brings_a_login() {
    for (body, logins) in [(ENVELOPE, 2), (GATEWAY, 1)] {
        let counted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&counted);
        let fake = Fake(move |path: &str| {
            if path.ends_with("/login") {
                count.fetch_add(1, Ordering::SeqCst);
                return answer(200, LOGIN);
            }
            answer(if path.ends_with("/D02") { 401 } else { 404 }, body)
        });
        let config = config(&[]);
        let client = log_in(Arc::new(fake), &config, &route(&config)).await.expect("a login");
        let error = client.page_once(&request()).await.err().expect("no page");
        // What a login brought is refused as well.
        let expected = if logins == 2 {
            AfterRequest::Fail
        } else {
            AfterRequest::Silence
        };
        assert_eq!(after_request(&error), expected, "{error}");
        assert!(counted.load(Ordering::SeqCst) >= logins, "{body}");
        assert_eq!(counted.load(Ordering::SeqCst) == 1, logins == 1, "{body}");
    }
}

#[tokio::test]
async fn a_200_with_an_error_in_it_is_no_page_and_goes_by_its_code() {
    for (from, to, follows) in [
        (r#""code":200"#, r#""code":500"#, AfterRequest::Doubt),
        (r#""code":200"#, r#""code":422"#, AfterRequest::Doubt),
        (r#""code":200"#, r#""code":413"#, AfterRequest::TooLarge),
        (r#""code":200"#, r#""code":504"#, AfterRequest::TooSlow),
        (r#""code":200"#, r#""code":429"#, AfterRequest::Silence),
        (r#""code":200"#, r#""code":"FAILED""#, AfterRequest::Silence),
        (
            r#""errors":[]"#,
            r#""errors":["planted-token is odd"]"#,
            AfterRequest::Silence,
        ),
    ] {
        let body = PAGE.replace(from, to);
        let error = refused(move || answer(200, body.clone())).await;
        assert_eq!(
            (after_request(&error), error.code()),
            (follows, ErrorCode::U21),
            "{to}: {error}"
        );
        assert!(!error.to_string().contains("planted"), "{error}");
    }
    let error = refused(|| answer(200, GATEWAY)).await;
    assert_eq!(
        (after_request(&error), error.code()),
        (AfterRequest::Unreadable, ErrorCode::U07)
    );
}

#[tokio::test]
async fn what_is_no_utf_8_is_no_page_but_can_be_read_with_its_damage() {
    let body = || {
        let mut body = PAGE.as_bytes().to_vec();
        let at = PAGE.find(r#""b""#).expect("the text") + 1;
        body[at] = 0xe4;
        (body, at)
    };
    let answered = client(move || answer(200, body().0)).await.page_once(&request()).await;
    let answered = answered.expect("an answer");
    let error = answered.page().err().expect("no page");
    assert_eq!(
        (after_request(&error), error.code()),
        (AfterRequest::Unreadable, ErrorCode::U23)
    );
    assert!(
        error
            .to_string()
            .contains(&format!("from byte {} of {} on", body().1, PAGE.len())),
        "{error}"
    );
    let page = answered.page_with_damage().expect("a page");
    assert_eq!(page.rows[0].get(), "{\"a\":\"\u{7f}\"}");
    let start = PAGE.find("{\"a\"").expect("a row");
    assert_eq!(
        answered.damage_of(page.rows[0]),
        Some(&body().0[start..start + page.rows[0].get().len()])
    );

    let config = config(&[]);
    let mut damaged = LOGIN.as_bytes().to_vec();
    damaged[LOGIN.find("token\":\"planted").expect("the token") + 8] = 0xff;
    let fake = Fake(move |_: &str| answer(200, damaged.clone()));
    let error = log_in(Arc::new(fake), &config, &route(&config))
        .await
        .err()
        .expect("no login");
    assert_eq!(after_request(&error), AfterRequest::Unreadable, "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_upstream_refuses_is_asked_for_once_more_after_a_minute() {
    for (refusals, is_page) in [(1, true), (2, false)] {
        for status in [403, 404] {
            let asked = Arc::new(Mutex::new(Vec::new()));
            let times = Arc::clone(&asked);
            let client = client(move || {
                let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
                times.push(Instant::now());
                if times.len() > refusals {
                    answer(200, PAGE)
                } else {
                    answer(status, ENVELOPE)
                }
            })
            .await;
            let answered = client.page(&request()).await;
            assert_eq!(answered.is_ok(), is_page, "{status}, {refusals} times");
            if let Err(error) = answered {
                assert_eq!(after_request(&error), AfterRequest::Fail, "{error}");
            }
            let asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            assert_eq!(asked.len(), 2, "{status}");
            let pause = (asked[1] - asked[0]).as_secs();
            assert!((60..=66).contains(&pause), "{pause} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_of_any_status_holds_everything_of_its_lender_and_of_no_other() {
    for status in [302, 403, 404, 413, 429, 500, 502, 503, 504] {
        for value in ["30", "Tue, 24 Nov 2026 10:00:30 GMT"] {
            let config = config(&[]);
            let (held, other) = (route(&config), route(&config));
            let fake: Arc<dyn Transport> = Arc::new(Fake(move |path: &str| {
                let mut answer = answer(if path.ends_with("/D02") { status } else { 200 }, LOGIN);
                if path.ends_with("/D02") {
                    let headers = [("date", "Tue, 24 Nov 2026 10:00:00 GMT"), ("retry-after", value)];
                    answer.headers_mut().extend(headers.map(|(name, value)| {
                        (
                            hyper::header::HeaderName::from_static(name),
                            value.parse().expect("a value"),
                        )
                    }));
                }
                answer
            }));
            let client = log_in(Arc::clone(&fake), &config, &held).await.expect("a login");
            assert!(client.page_once(&request()).await.is_err(), "{status}");
            let begun = Instant::now();
            log_in(Arc::clone(&fake), &config, &other).await.expect("a login");
            assert!(begun.elapsed().is_zero(), "another lender");
            log_in(fake, &config, &held).await.expect("a login");
            let passed = begun.elapsed().as_secs();
            assert!((30..=33).contains(&passed), "{status}, {value}: {passed} s");
        }
    }
}

/// Answers the first connection once, then never again; every further one is answered on and on. Gives how many there were.
async fn goes_silent() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let number = count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut answered = 0;
                while let Ok(1..) = stream.read(&mut [0; 8_192]).await {
                    // What answered at first is dead by now, behind a name that leads elsewhere.
                    if number < 4 && answered > 0 {
                        continue;
                    }
                    answered += 1;
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", LOGIN.len());
                    let _ = stream.write_all(format!("{head}{LOGIN}").as_bytes()).await;
                }
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn after_three_requests_without_an_answer_the_next_one_uses_a_new_connection() {
    let (address, connections) = goes_silent().await;
    let config = config(&[
        &format!("upstream.base_url=http://{address}"),
        "upstream.request_timeout=1s",
    ]);
    let (http, route) = (
        Arc::new(HttpClient::new(&config.upstream).expect("a client")),
        route(&config),
    );
    let log_in = || log_in(Arc::clone(&http) as Arc<dyn Transport>, &config, &route);
    // Four connections that are kept alive, of which each is dead after its first answer.
    let all = tokio::join!(log_in(), log_in(), log_in(), log_in());
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    assert_eq!(connections.load(Ordering::SeqCst), 4);
    for _ in 0..3 {
        let error = log_in().await.err().expect("no answer");
        assert_eq!(error.code(), ErrorCode::U01, "{error}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 4, "each used one that was there");
    assert!(
        log_in().await.is_ok(),
        "the fourth connection that was kept alive is dead too"
    );
    assert_eq!(connections.load(Ordering::SeqCst), 5);
}

/// Serves logins over https with a certificate of `authority`.
async fn serves_https(authority: &Authority) -> SocketAddr {
    let certified = authority.server([127, 0, 0, 1].into(), &[]).expect("a certificate");
    let acceptor = certified.acceptor().expect("an acceptor");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 8_192]).await;
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                LOGIN.len()
            );
            let _ = stream.write_all(format!("{head}{LOGIN}").as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

#[tokio::test]
async fn a_ca_file_that_was_replaced_is_read_again_when_handshakes_fail() {
    let (old, new) = (
        Authority::new("old").expect("an authority"),
        Authority::new("new").expect("an authority"),
    );
    let directory = tempfile::tempdir().expect("a directory");
    let ca_file = directory.path().join("ca.pem");
    let write = |pem: &str| std::fs::write(&ca_file, pem).expect("written");
    write(old.pem());
    let address = serves_https(&new).await;
    let ca = |path: &Path| format!("upstream.ca_file={}", path.display());
    let config = config(&[&format!("upstream.base_url=https://{address}"), &ca(&ca_file)]);
    let (http, route) = (
        Arc::new(HttpClient::new(&config.upstream).expect("a client")),
        route(&config),
    );
    let log_in = || log_in(Arc::clone(&http) as Arc<dyn Transport>, &config, &route);
    // A file that is being replaced may be gone for a moment: the client stays as it is.
    std::fs::remove_file(&ca_file).expect("removed");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert!(log_in().await.is_err());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    write(new.pem());
    let mut tries = 0;
    while log_in().await.is_err() {
        tries += 1;
        assert!(tries < 600, "never read again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
