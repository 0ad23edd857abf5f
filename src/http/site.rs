//! Which page does a request get?

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::json;

use super::api::{self, Api, ApiRequest};
use super::health::Health;
use crate::config::SecretSource;
use crate::metrics::{self, Metrics};
use crate::watchdog::Watchdog;

/// What there is to see.
pub(crate) struct Site {
    pub metrics: Arc<Metrics>,
    pub health: Arc<Health>,
    pub watchdog: Arc<Watchdog>,
    /// Once there is one.
    pub api: Arc<OnceLock<Arc<dyn Api>>>,
}

/// Of a request; Connect's largest is a connector's configuration.
const MAX_BODY: usize = 1 << 20;

const CLOSED: &str =
    "http.listen is not a loopback address, and http.token is not set: only /livez, /readyz and /metrics are served";

/// Who may ask for more than health and metrics.
pub(super) enum Access {
    /// Only this machine's own users get here.
    Own,
    /// Whoever has it.
    Token(SecretSource),
    /// Nobody: others get here, and no token is set.
    Closed,
}

pub(super) async fn answer(site: &Site, access: &Access, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let page = match request.uri().path() {
        "/livez" => Site::livez,
        "/readyz" => Site::readyz,
        "/metrics" => Site::metrics,
        _ => return site.api(access, request).await,
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
    async fn api(&self, access: &Access, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if let Some(why) = api::refused(request.headers(), matches!(access, Access::Own)) {
            return error(StatusCode::FORBIDDEN, why);
        }
        match access {
            Access::Own => {}
            Access::Token(token) if has_token(request.headers(), token) => {}
            Access::Token(_) => {
                let mut refused = error(StatusCode::UNAUTHORIZED, "this needs the token of http.token");
                let scheme = hyper::header::HeaderValue::from_static("Bearer");
                refused.headers_mut().insert(WWW_AUTHENTICATE, scheme);
                return refused;
            }
            Access::Closed => return error(StatusCode::FORBIDDEN, CLOSED),
        }
        let Some(api) = self.api.get() else {
            return error(StatusCode::SERVICE_UNAVAILABLE, "it is starting, and waits for Kafka");
        };
        let (parts, body) = request.into_parts();
        // Nothing that is asked for so far needs one.
        if Limited::new(body, MAX_BODY).collect().await.is_err() {
            return error(StatusCode::PAYLOAD_TOO_LARGE, "a body of up to 1 MiB is read here");
        }
        let request = ApiRequest {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
        };
        api.answer(&request).await
    }

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

pub(crate) fn as_json(status: StatusCode, value: &serde_json::Value) -> Response<Full<Bytes>> {
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
