//! What do a supervisor and Prometheus see of this process? Health and metrics, over HTTP/1.
//!
//! | Path | Answer |
//! |---|---|
//! | `/livez` | whether the loops of the process turn |
//! | `/readyz` | whether every lender makes progress |
//! | `/metrics` | what is counted |
//!
//! Whoever reaches the port may do no more than look, and not for long: a connection carries one request without a body, and
//! ends within seconds.

mod health;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Body;
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::config::{self, SecretError, SecretSource};
use crate::metrics::{self, Metrics};
use crate::watchdog::Watchdog;
pub use health::{Health, Standing};

/// Probes and scrapes are a handful; the next connection waits in the listener's queue.
const MAX_CONNECTIONS: usize = 64;

/// From the first byte of a request's head to its last.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// From the acceptance of a connection to its end: nobody holds one of the few for longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// A request of ours has a line and some headers.
const MAX_HEAD: usize = 16 * 1024;

/// Where a client on this machine finds what listens on `address`: nobody can connect to "all addresses" (`0.0.0.0`).
pub fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("listening on {listen} (http.listen)")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("reading the secret of http.token")]
    Token(#[source] SecretError),
}

impl HttpError {
    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Listen { .. } => {
                "stop what listens there, or choose an address of this machine and a port that is free"
            }
            Self::Token(_) => "correct http.token_file, or its permissions",
        }
    }
}

/// A port that is ours, with nobody behind it yet.
pub struct Server {
    listener: TcpListener,
    token: Option<SecretSource>,
}

/// What there is to see.
pub struct Site {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub watchdog: Arc<Watchdog>,
}

impl Server {
    /// Takes the port, so that one that is taken is known before anything else is touched; `None` where none is asked for.
    ///
    /// # Errors
    /// When the port cannot be had, or the token not be read.
    pub async fn bind(config: &config::Http) -> Result<Option<Self>, HttpError> {
        let Some(listen) = config.listen else { return Ok(None) };
        let failed = |source| HttpError::Listen { listen, source };
        if let Some(token) = &config.token {
            token.read().map_err(HttpError::Token)?;
        }
        let listener = TcpListener::bind(listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        tracing::info!("health and metrics at http://{address}");
        Ok(Some(Self {
            listener,
            // This machine's own users are trusted with everything.
            token: config.token.clone().filter(|_| !address.ip().is_loopback()),
        }))
    }

    /// Answers until it is dropped.
    pub async fn serve(self, site: Arc<Site>) {
        let token = self.token.map(Arc::new);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Either; what waits is served as soon as there is room.
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, token.clone(), Arc::clone(&site)));
                    }
                    Err(error) => {
                        /// Files may have run out; trying on at once would burn the processor.
                        const PAUSE: Duration = Duration::from_millis(50);
                        tracing::debug!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                },
                // Ended ones are taken out, so that the set does not grow.
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(stream: TcpStream, token: Option<Arc<SecretSource>>, site: Arc<Site>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let answer = answer(&site, token.as_deref(), &request);
        async move { Ok::<_, std::convert::Infallible>(answer) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(MAX_HEAD)
        // One that stays open would count among the few.
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_LIMIT, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection ended early"),
        Err(_) => tracing::debug!("a connection took too long"),
    }
}

fn answer<B: Body>(site: &Site, token: Option<&SecretSource>, request: &Request<B>) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/livez" => Site::livez,
        "/readyz" => Site::readyz,
        "/metrics" => Site::metrics,
        _ => {
            if token.is_some_and(|token| !has_token(request.headers(), token)) {
                let mut refused = error(StatusCode::UNAUTHORIZED, "this needs the token of http.token");
                let scheme = hyper::header::HeaderValue::from_static("Bearer");
                refused.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                return refused;
            }
            return error(
                StatusCode::NOT_FOUND,
                "there are only /livez, /readyz and /metrics here",
            );
        }
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = error(StatusCode::METHOD_NOT_ALLOWED, "this can only be read");
        let allowed = hyper::header::HeaderValue::from_static("GET, HEAD");
        refused.headers_mut().insert(ALLOW, allowed);
        return refused;
    }
    if !request.body().is_end_stream() {
        return error(StatusCode::PAYLOAD_TOO_LARGE, "a request has no body here");
    }
    page(site)
}

/// Whether the request carries the token; a file is read again each time, since a mounted secret is replaced in place.
fn has_token(headers: &HeaderMap, token: &SecretSource) -> bool {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, given)) = given.and_then(|given| given.split_once(' ')) else {
        return false;
    };
    let Ok(token) = token.read() else { return false };
    let (given, token) = (given.trim().as_bytes(), token.expose_secret().as_bytes());
    scheme.eq_ignore_ascii_case("bearer") && given.len() == token.len() && openssl::memcmp::eq(given, token)
}

impl Site {
    fn livez(&self) -> Response<Full<Bytes>> {
        let late = self.watchdog.late();
        let status = if late.is_empty() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        as_json(status, &json!({ "alive": late.is_empty(), "late": late }))
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        let (are_ready, report) = self.health.report();
        let status = if are_ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        as_json(status, &report)
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        // For the metric of its own.
        self.health.report();
        response(StatusCode::OK, metrics::CONTENT_TYPE, self.metrics.text())
    }
}

/// In the form of Kafka Connect's REST API.
fn error(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    as_json(status, &json!({ "error_code": status.as_u16(), "message": message }))
}

fn as_json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
    response(status, "application/json", format!("{value}\n"))
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(CONTENT_TYPE, content_type)
        // What was true a moment ago misleads.
        .header(CACHE_CONTROL, "no-store")
        .body(Full::new(body.into()))
        .expect("every header is visible ASCII")
}
