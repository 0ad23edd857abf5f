//! How does a request get from a socket to its answer?

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as RequestBody;
use hyper::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderMap, LOCATION, RETRY_AFTER,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_native_tls::TlsAcceptor;
use tracing::debug;

use super::answer::{Answer, Body, Delivery};
use super::clock::http_date;
use super::fault::{Endpoint, RetryAfter};
use super::shared::{MAX_REQUEST_BODY, Shared};
use super::view::RequestLog;
use super::{control, export, login};

/// More than any test opens; the next connection waits in the listener's queue.
const MAX_CONNECTIONS: usize = 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Closes the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the simulator is down")]
pub(super) struct Down;

/// Accepts connections until it is dropped; they end with it.
pub(super) async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, acceptor.clone(), shared.clone()));
                }
                Err(error) => {
                    debug!(%error, "a connection could not be accepted");
                    sleep(Duration::from_millis(50)).await;
                }
            },
            // Ended ones are taken out, so that the set does not grow.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, acceptor: Option<TlsAcceptor>, shared: Arc<Shared>) {
    if shared.control().down {
        return;
    }
    // Pages leave in few large writes; waiting to fill a segment only adds latency.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    match acceptor {
        None => requests(stream, shared).await,
        Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, shared).await,
            Ok(Err(error)) => debug!(%error, "a TLS handshake failed"),
            Err(_) => debug!("a TLS handshake took too long"),
        },
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { respond(&shared, request).await }
    });
    let served = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection ended early");
    }
}

/// The query runs first, then the latency passes, then `Date` is written: the widest gap that the contract allows.
pub(super) async fn respond<B>(shared: &Arc<Shared>, request: Request<B>) -> Result<Response<Body>, Down>
where
    B: RequestBody<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let (head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let id = shared.request_id();
    let segments: Vec<_> = path.trim_start_matches('/').split('/').collect();
    if let ["simulator", asked @ ..] = segments.as_slice() {
        let answer = control::answer(shared, &head.method, asked, &query, body).await;
        return Ok(response(shared, answer, false, &id).await);
    }
    let mut log = RequestLog {
        at_ms: shared.clock.now_ms(),
        method: head.method.to_string(),
        path: path.clone(),
        query: query.clone(),
        status: None,
        effect: None,
        request_id: id.clone(),
    };
    if shared.control().down {
        shared.log(log, 0);
        return Err(Down);
    }
    let answer = match (&head.method, segments.as_slice()) {
        (&Method::POST, ["admin", "auth", subdomain, "login"]) => {
            authenticate(shared, Endpoint::Login, subdomain, body, &id).await
        }
        (&Method::POST, ["admin", "auth", subdomain, "refresh-token"]) => {
            authenticate(shared, Endpoint::Refresh, subdomain, body, &id).await
        }
        (&Method::GET, ["admin", "v3", "lenders", lender, "exports", section, dataset]) => {
            let request = export::Request {
                authorization: text(&head.headers, AUTHORIZATION),
                lender_public_id: lender,
                section,
                dataset,
                query: &query,
                id: &id,
            };
            export::answer(shared, &request)
        }
        (method, _) => {
            let message = format!("Cannot {method} {path}");
            Answer::error(StatusCode::NOT_FOUND, &message, &id)
        }
    };
    log.status = Some(answer.status.as_u16());
    log.effect.clone_from(&answer.effect);
    shared.log(log, answer.row_count);

    let delay = answer.delay + shared.control().latency;
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let gzip = shared.gzip
        && matches!(answer.delivery, Delivery::Whole | Delivery::Slow(_))
        && text(&head.headers, ACCEPT_ENCODING).is_some_and(|accepted| accepted.contains("gzip"));
    Ok(response(shared, answer, gzip, &id).await)
}

async fn authenticate<B>(shared: &Shared, endpoint: Endpoint, subdomain: &str, body: B, id: &str) -> Answer
where
    B: RequestBody<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    match Limited::new(body, MAX_REQUEST_BODY).collect().await {
        Ok(body) => login::answer(shared, endpoint, subdomain, &body.to_bytes(), id),
        Err(_) => Answer::error(StatusCode::BAD_REQUEST, "Bad request", id),
    }
}

async fn response(shared: &Shared, answer: Answer, gzip: bool, id: &str) -> Response<Body> {
    let mut response = Response::builder()
        .status(answer.status)
        .header(CONTENT_TYPE, answer.content_type)
        .header("x-request-id", id);
    let mut bytes = answer.body;
    if gzip {
        bytes = compress(bytes).await;
        response = response.header(CONTENT_ENCODING, "gzip");
    }
    let date_ms = shared.clock.date_ms();
    if let Some(retry_after) = answer.retry_after {
        let value = match retry_after {
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::DateIn(seconds) => http_date(date_ms + i64::from(seconds) * 1_000),
        };
        response = response.header(RETRY_AFTER, value);
    }
    if let Some(location) = answer.location {
        response = response.header(LOCATION, location);
    }
    response
        .header(DATE, http_date(date_ms))
        .body(Body::new(bytes, answer.delivery))
        .expect("every header is visible ASCII: a script's location is held to that")
}

/// Off the runtime: a page takes milliseconds, tens of them unoptimised.
async fn compress(bytes: Bytes) -> Bytes {
    tokio::task::spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder
            .write_all(&bytes)
            .and_then(|()| encoder.finish())
            .expect("memory takes everything")
            .into()
    })
    .await
    .expect("compression does not panic")
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
