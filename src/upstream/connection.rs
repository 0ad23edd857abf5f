//! How does a request travel? One bounded answer a request: in time, in bytes, and never through a redirect.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, Proxy, Request, Response, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::error::{ClientError, UpstreamError};
use super::rate::Turn;
use super::response::{self, PageBody, RequestId};
use super::route::Route;
use crate::clock::{self, Tick, Ticks};
use crate::config;
use crate::metrics::LenderMetrics;
use crate::progress::Timestamp;
use crate::tls;

/// Connecting takes no longer, or something is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries a request to upstream and the answer back. The second implementation is the model test's: a simulator
/// without a socket, in a time of its own.
pub(crate) trait Transport: Send + Sync {
    fn execute(&self, request: Request) -> Execution<'_>;
}

impl Transport for reqwest::Client {
    fn execute(&self, request: Request) -> Execution<'_> {
        Box::pin(self.execute(request))
    }
}

/// An answer under way.
pub(crate) type Execution<'a> = Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send + 'a>>;

/// What every request of a lender shares.
pub(super) struct Connection {
    pub transport: Arc<dyn Transport>,
    pub base_url: Url,
    pub max_body: u64,
    pub metrics: LenderMetrics,
    pub route: Arc<Route>,
    pub ticks: Ticks,
}

/// A 200 with its body, read as UTF-8.
pub(crate) struct Answer {
    text: String,
    pub request_id: RequestId,
    /// Upstream's clock when the answer was computed, at the latest: `Date` minus the time the request took.
    pub clock: Option<Timestamp>,
    /// `Date` itself.
    pub date: Option<Timestamp>,
    /// This machine's time when it was asked for.
    pub sent_at: Timestamp,
    pub requested: Tick,
    pub received: Tick,
}

impl Connection {
    /// Sends one request and reads its answer. Anything but a 200 in UTF-8 is an error, in which `secret`, which the request
    /// holds, is not repeated.
    /// `_turn` was waited for before, so that neither the time-out nor what is measured here includes the wait.
    pub(super) async fn send(
        &self,
        _turn: Turn,
        doing: &'static str,
        request: Request,
        secret: &SecretString,
    ) -> Result<Answer, UpstreamError> {
        let network = |source: reqwest::Error| UpstreamError::Network {
            doing,
            source: source.without_url(),
        };
        let sent_at = Timestamp(clock::now().timestamp_millis());
        let (started, requested) = (Instant::now(), self.ticks.next());
        let response = match self.transport.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                self.metrics.count_request(None);
                return Err(network(error));
            }
        };
        let (date, took) = (date(&response), started.elapsed());
        let clock = date.map(|date| Timestamp::from(date - took));
        let status = response.status();
        self.metrics.count_request(Some(status.as_u16()));
        // An error may be a gateway's, with a clock of its own.
        if let (StatusCode::OK, Some(date)) = (status, date) {
            self.route.compare_clocks(date, took, &self.metrics);
        }
        let request_id = RequestId::of(header_text(&response, "x-request-id"));
        let retry_after =
            header_text(&response, header::RETRY_AFTER.as_str()).and_then(|text| response::retry_after(text, date));
        let body = self.body(response).await.map_err(network)?;
        if status != StatusCode::OK {
            let body = body.as_deref().unwrap_or_default();
            let (message, request_id) = response::error(body, request_id, secret.expose_secret());
            return Err(UpstreamError::Status {
                doing,
                status: status.as_u16(),
                message,
                request_id,
                retry_after,
            });
        }
        let Some(body) = body else {
            return Err(UpstreamError::TooLarge {
                doing,
                max_body: self.max_body,
                request_id,
            });
        };
        self.metrics.bytes_total.inc_by(body.len() as u64);
        let received = self.ticks.next();
        let date = date.map(Timestamp::from);
        match String::from_utf8(body) {
            Ok(text) => Ok(Answer {
                text,
                request_id,
                clock,
                date,
                sent_at,
                requested,
                received,
            }),
            Err(_) => Err(UpstreamError::NoEnvelope {
                doing,
                what: "no UTF-8".to_owned(),
                request_id,
            }),
        }
    }

    /// The body, or nothing where it is larger than `max_body`; counted decompressed, so that a small bomb is large.
    async fn body(&self, mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(0).min(1 << 20) as usize);
        while let Some(chunk) = response.chunk().await? {
            if (body.len() + chunk.len()) as u64 > self.max_body {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

impl Answer {
    /// The page in this answer.
    ///
    /// # Errors
    /// When the text is no success envelope.
    pub(crate) fn page(&self) -> Result<PageBody<'_>, UpstreamError> {
        response::page(&self.text).map_err(|what| UpstreamError::NoEnvelope {
            doing: "reading a page of D02",
            what,
            request_id: self.request_id.clone(),
        })
    }

    pub(super) fn json<T: DeserializeOwned>(&self, doing: &'static str) -> Result<T, UpstreamError> {
        // The reason is left out: it could quote a token.
        serde_json::from_str(&self.text).map_err(|_| UpstreamError::NoEnvelope {
            doing,
            what: format!("{} bytes of another form", self.text.len()),
            request_id: self.request_id.clone(),
        })
    }
}

/// A request with a token, which nothing prints.
pub(super) fn get(url: Url, token: &SecretString) -> Request {
    let mut request = Request::new(Method::GET, url);
    // A token that cannot stand in a header is one that upstream refuses.
    if let Ok(mut value) = header::HeaderValue::try_from(format!("Bearer {}", token.expose_secret())) {
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// A request with a JSON body.
pub(super) fn post(url: Url, body: &impl Serialize) -> Request {
    let json = serde_json::to_vec(body).expect("a body of texts is always JSON");
    let mut request = Request::new(Method::POST, url);
    let content_type = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    *request.body_mut() = Some(json.into());
    request
}

fn header_text<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn date(response: &Response) -> Option<DateTime<Utc>> {
    let text = header_text(response, header::DATE.as_str())?;
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

/// The HTTP client of all lenders: they share its connections.
///
/// # Errors
/// When `upstream.ca_file` cannot be used.
pub(crate) fn http_client(upstream: &config::Upstream) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("d02-source/", env!("CARGO_PKG_VERSION")))
        // A redirect could carry the token to another host, or off TLS.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT.min(upstream.request_timeout))
        .timeout(upstream.request_timeout)
        .gzip(true);
    if let Some(path) = &upstream.ca_file {
        for certificate in tls::certificates(path).map_err(ClientError::Ca)? {
            builder = builder.add_root_certificate(certificate);
        }
    }
    if let Some(proxy) = &upstream.proxy {
        builder = builder.proxy(Proxy::all(proxy.0.clone()).map_err(ClientError::Http)?);
    }
    builder.build().map_err(ClientError::Http)
}
