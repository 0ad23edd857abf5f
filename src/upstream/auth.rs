//! Which token goes with a request? One at a time for a lender, renewed once for all requests.
//!
//! ```text
//! received ───────────── good ────────────── due ──── good ──── over, or refused
//!                                            one request refreshes   every request waits for
//!                                            it, the others go on    the one that renews it
//! ```
//!
//! An early refresh that fails leaves the token in use; a refused one brings a refresh, then a login, then an error.

use std::sync::{Mutex, MutexGuard, PoisonError};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::connection::{Answer, Connection, post};
use super::error::UpstreamError;
use super::request::with_path;
use super::token::{MIN_PAUSE, Token};
use crate::backoff::Backoff;
use crate::clock;
use crate::config;
use crate::exit::{Diagnosis, chain};
use crate::phase::Phase;
use crate::progress::Timestamp;

/// What the login answered.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub lender_public_id: String,
    /// The clock of its answer.
    pub clock: Timestamp,
    /// Upstream's own, where its answers carry a `Date`.
    pub date: Option<Timestamp>,
}

/// The token in use and the one that renews it.
struct Tokens {
    token: Token,
    refresh: SecretString,
    /// Counts the tokens: a request refused with an older one is simply sent again.
    generation: u64,
    /// By upstream: it is being replaced, or that failed.
    is_refused: bool,
    /// Whether the token that renews it was refused: only a login helps, once the token is refused too.
    is_last: bool,
}

pub(super) struct Auth {
    /// Never locked across an `await`.
    tokens: Mutex<Tokens>,
    /// Locked while one request renews the token for all.
    renewing: tokio::sync::Mutex<Early>,
    lender: String,
    config: config::Lender,
}

/// What became of the early refreshes of the token in use.
#[derive(Default)]
struct Early {
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// How a refused token is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    Refresh,
    Login,
}

#[derive(Serialize)]
struct LoginBody<'a> {
    email: &'a str,
    password: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoginAnswer {
    lender_public_id: String,
    token: SecretString,
    refresh_token: SecretString,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefreshBody<'a> {
    refresh_token: &'a str,
}

#[derive(Deserialize)]
struct RefreshAnswer {
    token: SecretString,
}

impl Auth {
    /// Logs in for the first time.
    pub(super) async fn login(
        connection: &Connection,
        lender: &str,
        config: config::Lender,
    ) -> Result<(Self, Login), UpstreamError> {
        let (login, tokens) = log_in(connection, lender, &config, 0).await?;
        Ok((
            Self {
                tokens: Mutex::new(tokens),
                renewing: tokio::sync::Mutex::default(),
                lender: lender.to_owned(),
                config,
            },
            login,
        ))
    }

    /// The `lenderId` claim of the token in use, where it can be read.
    pub(super) fn token_lender(&self) -> Option<String> {
        self.tokens().token.lender()
    }

    fn tokens(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token in use and its generation.
    pub(super) fn token(&self) -> (u64, SecretString) {
        let tokens = self.tokens();
        (tokens.generation, tokens.token.secret.clone())
    }

    pub(super) fn email(&self) -> &str {
        &self.config.email
    }

    /// Waits while a token that is over or refused is replaced; refreshes one that is due. Never fails: with the token that
    /// is then in use a request goes out, and what upstream answers decides.
    pub(super) async fn ready(&self, connection: &Connection) {
        let (is_due, is_over) = {
            let (tokens, now) = (self.tokens(), Instant::now());
            (tokens.is_due(now), tokens.is_refused || tokens.token.is_over(now))
        };
        if is_over {
            let mut early = self.renewing.lock().await;
            self.refresh_early(connection, &mut early).await;
        } else if is_due && let Ok(mut early) = self.renewing.try_lock() {
            self.refresh_early(connection, &mut early).await;
        }
    }

    /// Refreshes the token if it is still due and was not tried just now.
    async fn refresh_early(&self, connection: &Connection, early: &mut Early) {
        let now = Instant::now();
        let (generation, refresh) = {
            let tokens = self.tokens();
            if !tokens.is_due(now) || early.not_before.is_some_and(|at| now < at) {
                return;
            }
            (tokens.generation, tokens.refresh.clone())
        };
        // Counts also if this request is given up half-way.
        early.not_before = Some(now + MIN_PAUSE);
        let lender = &*self.lender;
        match self.refresh(connection, &refresh).await {
            Ok(Some(token)) => {
                *self.tokens() = Tokens::new(token, refresh, generation + 1);
                *early = Early::default();
            }
            Ok(None) => {
                self.tokens().is_last = true;
                tracing::info!(
                    lender,
                    "the token cannot be refreshed any more: it is used until it is refused"
                );
            }
            Err(error) => {
                connection.metrics.retries_total.inc();
                let wait = early.backoff.next(None).max(MIN_PAUSE);
                early.not_before = Some(Instant::now() + wait);
                if early.backoff.is_worth_a_line() {
                    let (code, error) = (error.code(), chain(&error));
                    tracing::warn!(
                        lender,
                        ?wait,
                        %code,
                        error,
                        "refreshing the token early: the old one is still used"
                    );
                }
            }
        }
    }

    /// Replaces the token of `generation`, which was refused, unless that happened meanwhile; `true` if it did.
    pub(super) async fn renew(
        &self,
        connection: &Connection,
        generation: u64,
        renewal: Renewal,
    ) -> Result<bool, UpstreamError> {
        let is_current = |tokens: &Tokens| tokens.generation == generation;
        {
            let mut tokens = self.tokens();
            tokens.is_refused |= is_current(&tokens);
        }
        let mut early = self.renewing.lock().await;
        let refresh = {
            let tokens = self.tokens();
            if !is_current(&tokens) {
                return Ok(true);
            }
            tokens.refresh.clone()
        };
        let refreshed = match renewal {
            Renewal::Refresh => self.refresh(connection, &refresh).await?.map(|token| (token, refresh)),
            Renewal::Login => None,
        };
        let tokens = match refreshed {
            Some((token, refresh)) => Tokens::new(token, refresh, generation + 1),
            None => log_in(connection, &self.lender, &self.config, generation + 1).await?.1,
        };
        *self.tokens() = tokens;
        *early = Early::default();
        Ok(false)
    }

    /// `None` when the refresh token is refused: log in again.
    async fn refresh(
        &self,
        connection: &Connection,
        refresh_token: &SecretString,
    ) -> Result<Option<Token>, UpstreamError> {
        let doing = "refreshing the token";
        let url = with_path(
            &connection.base_url,
            &["admin", "auth", &self.config.subdomain, "refresh-token"],
        );
        let body = RefreshBody {
            refresh_token: refresh_token.expose_secret(),
        };
        let turn = connection.route.turn().await;
        match connection.send(turn, doing, post(url, &body), refresh_token).await {
            Ok(answer) => {
                let RefreshAnswer { token } = answer.json(doing)?;
                connection.metrics.token_refreshes_total.inc();
                Ok(Some(received(token, &answer, connection.route.phase())))
            }
            Err(UpstreamError::Status {
                status, is_upstreams, ..
            }) if refuses(status, is_upstreams) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl Tokens {
    fn new(token: Token, refresh: SecretString, generation: u64) -> Self {
        Self {
            token,
            refresh,
            generation,
            is_refused: false,
            is_last: false,
        }
    }

    /// Whether it is to be refreshed early. What is refused is renewed by who met the refusal, and its error counts there.
    fn is_due(&self, now: Instant) -> bool {
        self.token.is_due(now) && !self.is_refused && !self.is_last
    }
}

/// A token that has just come. The clock that made it is upstream's, or where that is not known, ours.
fn received(secret: SecretString, answer: &Answer, phase: Phase) -> Token {
    let clock = match answer.date {
        // It was cut to the second: so much later it may have been.
        Some(date) => Timestamp(date.0 + 1_000),
        None => Timestamp(clock::now().timestamp_millis()),
    };
    Token::new(secret, clock, Instant::now(), phase)
}

/// Whether a login or a refresh is refused. A gateway answers 403 and 404 too, while upstream is being deployed.
fn refuses(status: u16, is_upstreams: bool) -> bool {
    matches!(status, 400 | 401) || is_upstreams && matches!(status, 403 | 404)
}

async fn log_in(
    connection: &Connection,
    lender: &str,
    config: &config::Lender,
    generation: u64,
) -> Result<(Login, Tokens), UpstreamError> {
    let doing = "logging in";
    let turn = connection.route.turn().await;
    let secret = |source| UpstreamError::Secret {
        lender: lender.to_owned(),
        source,
    };
    let password = config.password.read().map_err(secret)?;
    let url = with_path(&connection.base_url, &["admin", "auth", &config.subdomain, "login"]);
    let body = LoginBody {
        email: &config.email,
        password: password.expose_secret(),
    };
    let answer = match connection.send(turn, doing, post(url, &body), &password).await {
        Err(UpstreamError::Status {
            doing,
            status,
            message,
            is_upstreams,
            request_id,
        }) if refuses(status, is_upstreams) => {
            let email = config.email.clone();
            return Err(UpstreamError::Credentials {
                doing,
                email,
                status,
                message,
                request_id,
            });
        }
        other => other?,
    };
    let LoginAnswer {
        lender_public_id,
        token,
        refresh_token,
    } = answer.json(doing)?;
    if let Some(wanted) = config.public_id.as_ref().filter(|wanted| **wanted != lender_public_id) {
        let (lender, wanted, found) = (lender.to_owned(), wanted.clone(), lender_public_id);
        return Err(UpstreamError::OtherLender { lender, wanted, found });
    }
    connection.metrics.logins_total.inc();
    let login = Login {
        lender_public_id,
        clock: answer.clock,
        date: answer.date,
    };
    let tokens = Tokens::new(
        received(token, &answer, connection.route.phase()),
        refresh_token,
        generation,
    );
    Ok((login, tokens))
}
