//! Which bearer token shows the brokers who this is? That of an authorization server, by client credentials (RFC 6749, section
//! 4.4), renewed in time. librdkafka does this by itself only with an HTTP client of its own, which is not built here.
//!
//! Clients ask for a token when a poll tells them to. Those that nobody polls yet, or that rdkafka never polls for it (the admin
//! client: fede1024/rust-rdkafka#757), are given theirs by `authorize`.

use std::ffi::{CString, c_char};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::bindings;
use rdkafka::client::{Client, ClientContext, OAuthToken};
use reqwest::{StatusCode, header, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::reported::{NO_TOKEN, Refusal};
use crate::clock;
use crate::config::{OAuth, SecretError, token_endpoint};
use crate::exit::{Diagnosis, ErrorCode, chain};
use crate::jwt;
use crate::loopback::direct_to_loopback;
use crate::tls::{self, CertificateError};

/// One answer of the authorization server; whoever polls a client waits for it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// For so long nobody asks again: many clients wait for one answer, not each for its own.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// A token that ends sooner is of no use any more, in milliseconds.
const MIN_LEFT: i64 = 2_000;

/// Whatever a server says, in milliseconds: a year.
const MAX_LIFE: f64 = 366.0 * 86_400_000.0;

/// A token has a few kilobytes.
const MAX_BODY: usize = 256 * 1024;

/// The tokens of one source. Its clients share them.
pub(super) struct KafkaTokens {
    oauth: OAuth,
    /// Held by who asks for a new one.
    asking: Mutex<()>,
    known: Mutex<TokenCache>,
}

#[derive(Default)]
struct TokenCache {
    held: Option<KafkaToken>,
    failed: Option<(Instant, Arc<TokenError>)>,
}

struct KafkaToken {
    value: SecretString,
    /// For librdkafka's own words; the broker reads the token.
    principal: String,
    /// Milliseconds since the epoch.
    ends_at: i64,
    /// From then on a client that asks gets a new one: librdkafka asks after four fifths of the life.
    renew_at: i64,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("{NO_TOKEN}: reading the properties of OAUTHBEARER")]
    Secret(#[from] SecretError),
    #[error("{NO_TOKEN}: sasl.oauthbearer.token.endpoint.url is no https:// address")]
    Endpoint,
    #[error("{NO_TOKEN}: reading https.ca.location {path}: {what}")]
    CaFile { path: String, what: String },
    #[error("{NO_TOKEN}: no answer from the authorization server")]
    NoAnswer(#[source] reqwest::Error),
    #[error("{NO_TOKEN}: the authorization server answered {status}{}", .error.as_ref().map(|error| format!(" ({error})")).unwrap_or_default())]
    Refused { status: StatusCode, error: Option<String> },
    #[error("{NO_TOKEN}: the authorization server's answer {what}")]
    Answer { what: &'static str },
    #[error("{NO_TOKEN}: there is no thread to ask on")]
    Thread(#[source] io::Error),
}

impl Diagnosis for TokenError {
    fn code(&self) -> ErrorCode {
        self.refusal().code()
    }

    fn advice(&self) -> &str {
        self.refusal().advice()
    }
}

impl TokenError {
    fn refusal(&self) -> Refusal {
        match self {
            Self::NoAnswer(_) => Refusal::NoToken,
            Self::Secret(_)
            | Self::Endpoint
            | Self::CaFile { .. }
            | Self::Refused { .. }
            | Self::Answer { .. }
            | Self::Thread(_) => Refusal::TokenRefused,
        }
    }
}

impl KafkaTokens {
    pub(super) fn new(oauth: OAuth) -> Self {
        Self {
            oauth,
            asking: Mutex::default(),
            known: Mutex::default(),
        }
    }

    /// A token that is good for a while; blocks while one is asked for, by whomever, for little more than [`TIMEOUT`].
    pub(super) fn token(&self) -> Result<OAuthToken, Arc<TokenError>> {
        if let Some(known) = self.known().answer(clock::now().timestamp_millis()) {
            return known;
        }
        let _asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // It may have come while this one waited.
        if let Some(known) = self.known().answer(clock::now().timestamp_millis()) {
            return known;
        }
        let fetched = fetch_apart(&self.oauth);
        let mut known = self.known();
        match fetched {
            Ok(token) => {
                let answer = token.for_client();
                known.held = Some(token);
                known.failed = None;
                Ok(answer)
            }
            Err(error) => {
                let error = Arc::new(error);
                known.failed = Some((Instant::now(), Arc::clone(&error)));
                let left = known.left(clock::now().timestamp_millis());
                if left.is_some() {
                    let (code, advice) = (error.code(), error.advice());
                    tracing::warn!(%code, advice, "the token for Kafka is not renewed yet: {}", chain(&*error));
                }
                left.ok_or(error)
            }
        }
    }

    /// A broker did not take it.
    pub(super) fn forget(&self) {
        self.known().held = None;
    }

    fn known(&self) -> MutexGuard<'_, TokenCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenCache {
    /// What there is to say without asking; `now`: milliseconds since the epoch.
    fn answer(&self, now: i64) -> Option<Result<OAuthToken, Arc<TokenError>>> {
        if let Some(token) = self.held.as_ref().filter(|token| now < token.renew_at) {
            return Some(Ok(token.for_client()));
        }
        let (at, error) = self.failed.as_ref()?;
        (at.elapsed() < FAILED_FOR).then(|| self.left(now).ok_or_else(|| Arc::clone(error)))
    }

    /// The held token, as long as it lasts: one that cannot be renewed yet is still good.
    fn left(&self, now: i64) -> Option<OAuthToken> {
        let held = self.held.as_ref().filter(|token| now < token.ends_at - MIN_LEFT);
        held.map(KafkaToken::for_client)
    }
}

/// Gives the client its token: rdkafka 0.39 has no call for it.
#[allow(unsafe_code)]
pub(super) fn set_token<C: ClientContext>(client: &Client<C>, token: OAuthToken) -> Result<(), String> {
    const ERROR_SIZE: usize = 512;
    let text = |text: String| CString::new(text).map_err(|_| format!("{NO_TOKEN}: it has a NUL"));
    let (value, principal) = (text(token.token)?, text(token.principal_name)?);
    let mut error = [0_u8; ERROR_SIZE];
    // SAFETY: the client lives as long as it is borrowed; both texts end with NUL and are copied by the callee, which writes no
    // more than `ERROR_SIZE` bytes to `error`, and is given no extensions.
    let code = unsafe {
        bindings::rd_kafka_oauthbearer_set_token(
            client.native_ptr(),
            value.as_ptr(),
            token.lifetime_ms,
            principal.as_ptr(),
            std::ptr::null_mut(),
            0,
            error.as_mut_ptr().cast::<c_char>(),
            ERROR_SIZE,
        )
    };
    if code == bindings::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Ok(());
    }
    let end = error.iter().position(|byte| *byte == 0).unwrap_or(ERROR_SIZE);
    Err(format!("{NO_TOKEN}: {}", String::from_utf8_lossy(&error[..end])))
}

/// On a thread and a runtime of its own: whoever polls a client may be inside another one.
fn fetch_apart(oauth: &OAuth) -> Result<KafkaToken, TokenError> {
    let fetch = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(TokenError::Thread)?;
        let fetched = runtime.block_on(fetch(oauth));
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        fetched
    };
    std::thread::scope(|scope| {
        let fetching = std::thread::Builder::new().name("token".to_owned());
        let fetching = fetching.spawn_scoped(scope, fetch).map_err(TokenError::Thread)?;
        fetching
            .join()
            .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked))
    })
}

async fn fetch(oauth: &OAuth) -> Result<KafkaToken, TokenError> {
    let url = oauth.token_endpoint.read()?;
    let url = token_endpoint(url.expose_secret()).ok_or(TokenError::Endpoint)?;
    let (id, secret) = (oauth.client_id.read()?, oauth.client_secret.read()?);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    if let Some(scope) = &oauth.scope {
        form.append_pair("scope", scope.read()?.expose_secret());
    }
    let mut builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        // The secret goes nowhere else.
        .redirect(redirect::Policy::none());
    builder = direct_to_loopback(builder, &url);
    if let Some(path) = &oauth.ca_file {
        let failed = |what: String| TokenError::CaFile {
            path: path.display().to_string(),
            what,
        };
        builder = tls::trusting(builder, Some(path)).map_err(|error| match error {
            CertificateError::Read { source, .. } => failed(source.to_string()),
            CertificateError::None { .. } => failed("it holds no certificates (PEM)".to_owned()),
        })?;
    }
    let no_answer = |error: reqwest::Error| TokenError::NoAnswer(error.without_url());
    let asked_at = clock::now().timestamp_millis();
    let request = builder
        .build()
        .map_err(no_answer)?
        .post(url)
        .basic_auth(id.expose_secret(), Some(secret.expose_secret()))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::ACCEPT, "application/json")
        .body(form.finish());
    let mut response = request.send().await.map_err(no_answer)?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(no_answer)? {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(TokenError::Answer { what: "is too long" });
        }
        body.extend_from_slice(&chunk);
    }
    if !response.status().is_success() {
        return Err(TokenError::Refused {
            status: response.status(),
            error: error_code(&body),
        });
    }
    KafkaToken::from_answer(&body, id.expose_secret(), asked_at)
}

/// `invalid_client` and its like; its description may say anything.
fn error_code(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct ErrorResponse {
        error: String,
    }
    const MAX: usize = 64;
    let is_code = |text: &str| text.len() <= MAX && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let refusal: ErrorResponse = serde_json::from_slice(body).ok()?;
    Some(refusal.error).filter(|error| is_code(error))
}

impl KafkaToken {
    fn for_client(&self) -> OAuthToken {
        OAuthToken {
            token: self.value.expose_secret().to_owned(),
            principal_name: self.principal.clone(),
            lifetime_ms: self.ends_at,
        }
    }

    /// `asked_at`: milliseconds since the epoch.
    fn from_answer(body: &[u8], client_id: &str, asked_at: i64) -> Result<Self, TokenError> {
        #[derive(Deserialize)]
        struct TokenResponse {
            access_token: SecretString,
            /// Seconds, which some servers write as a text.
            expires_in: Option<serde_json::Value>,
        }
        #[derive(Deserialize)]
        struct Claims {
            sub: Option<String>,
            exp: Option<f64>,
        }
        let odd = |what| TokenError::Answer { what };
        let answer: TokenResponse = serde_json::from_slice(body).map_err(|_| odd("has no access_token"))?;
        let value = answer.access_token.expose_secret();
        // librdkafka would quote it.
        if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(odd("has an access_token with characters that no token has"));
        }
        let claims = jwt::claims::<Claims>(value);
        let (principal, ends_at) = claims.map_or((None, None), |claims| (claims.sub, claims.exp));
        // Relative first: this machine's clock need not be right for it.
        let expires_in = answer.expires_in.and_then(|seconds| match seconds {
            serde_json::Value::Number(seconds) => seconds.as_f64(),
            serde_json::Value::String(seconds) => seconds.parse().ok(),
            _ => None,
        });
        let life = expires_in.map(|seconds| seconds * 1_000.0);
        let life = life.or_else(|| ends_at.map(|seconds| seconds * 1_000.0 - asked_at as f64));
        let life = life.ok_or_else(|| odd("has neither expires_in nor the claim exp"))?;
        if life.is_nan() || life <= MIN_LEFT as f64 {
            return Err(odd(
                "has a token that has ended, or will at once; is this machine's clock right?",
            ));
        }
        let life = life.min(MAX_LIFE) as i64;
        Ok(Self {
            principal: principal
                .filter(|principal| !principal.is_empty())
                .unwrap_or_else(|| client_id.to_owned()),
            value: answer.access_token,
            ends_at: asked_at.saturating_add(life),
            renew_at: asked_at.saturating_add(life / 2),
        })
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD;

    use super::*;

    fn answer(body: &str) -> Result<(String, i64, i64), String> {
        let token = KafkaToken::from_answer(body.as_bytes(), "client", 1_000_000);
        token
            .map(|token| (token.principal, token.ends_at, token.renew_at))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_lives_as_long_as_the_answer_says_or_else_the_token() {
        let jwt = |claims: &str| format!("h.{}.s", BASE64_URL_SAFE_NO_PAD.encode(claims));
        let with_claims = format!(r#"{{"access_token":"{}"}}"#, jwt(r#"{"exp":1060,"sub":"s"}"#));
        let both = with_claims.replace('}', r#","expires_in":10}"#);
        assert_eq!(answer(&with_claims), Ok(("s".to_owned(), 1_060_000, 1_030_000)));
        assert_eq!(answer(&both), Ok(("s".to_owned(), 1_010_000, 1_005_000)));
        let opaque = r#"{"access_token":"opaque","expires_in":10.5,"token_type":"Bearer"}"#;
        assert_eq!(answer(opaque), Ok(("client".to_owned(), 1_010_500, 1_005_250)));
        let as_text = r#"{"access_token":"opaque","expires_in":"3599"}"#;
        assert_eq!(answer(as_text), Ok(("client".to_owned(), 4_599_000, 2_799_500)));
        let endless = r#"{"access_token":"opaque","expires_in":1e300}"#;
        let (_, ends_at, _) = answer(endless).expect("a token");
        assert_eq!(ends_at, 1_000_000 + 366 * 86_400_000);
    }

    #[test]
    fn an_answer_without_a_token_that_can_be_used_is_an_error() {
        for (body, what) in [
            ("", "has no access_token"),
            (r#"{"access_token":1}"#, "has no access_token"),
            (
                r#"{"access_token":"opaque"}"#,
                "has neither expires_in nor the claim exp",
            ),
            (
                r#"{"access_token":"opaque","expires_in":0}"#,
                "has a token that has ended",
            ),
        ] {
            let error = answer(body).expect_err("no token");
            assert!(error.contains(what), "{body}: {error}");
        }
    }

    #[test]
    fn a_token_that_cannot_be_renewed_is_used_to_its_end() {
        let token =
            KafkaToken::from_answer(br#"{"access_token":"opaque","expires_in":100}"#, "client", 0).expect("a token");
        let error = Arc::new(TokenError::Endpoint);
        let mut known = TokenCache {
            held: Some(token),
            failed: Some((Instant::now(), error)),
        };
        let answer = |known: &TokenCache, now| known.answer(now).map(|answer| answer.is_ok());
        assert_eq!(answer(&known, 49_000), Some(true));
        // Nobody asks again so soon.
        assert_eq!(answer(&known, 97_000), Some(true));
        assert_eq!(answer(&known, 99_000), Some(false));
        known.failed = None;
        assert_eq!((answer(&known, 49_000), answer(&known, 51_000)), (Some(true), None));
    }

    #[test]
    fn of_a_refusal_only_its_code_is_said() {
        assert_eq!(
            error_code(br#"{"error":"invalid_client"}"#).as_deref(),
            Some("invalid_client")
        );
        for body in [&br#"{"error":"No such secret: hunter2"}"#[..], b"<html>", b"{}"] {
            assert_eq!(error_code(body), None);
        }
    }
}
