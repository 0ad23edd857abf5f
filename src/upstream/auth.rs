//! Which token goes with a request? One at a time for a lender, renewed once for all requests that were refused with it.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::UpstreamError;
use super::http::{Client, Connection};
use super::request::with_path;
use crate::config;
use crate::progress::Timestamp;

/// What the login answered.
#[derive(Debug, Clone)]
pub struct Login {
    pub lender_public_id: String,
    /// Upstream's clock, `None` where its answers carry no `Date`.
    pub clock: Option<Timestamp>,
}

/// The token in use and the one that renews it.
struct Tokens {
    token: SecretString,
    refresh: SecretString,
    /// Counts the tokens: a request refused with an older one is simply sent again.
    generation: u64,
}

pub(super) struct Auth {
    tokens: Mutex<Tokens>,
    lender: String,
    config: config::Lender,
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
    pub async fn login(
        connection: &Connection,
        lender: &str,
        config: config::Lender,
    ) -> Result<(Self, Login), UpstreamError> {
        let (answer, clock) = log_in(connection, lender, &config).await?;
        let login = Login {
            lender_public_id: answer.lender_public_id,
            clock,
        };
        let tokens = Tokens {
            token: answer.token,
            refresh: answer.refresh_token,
            generation: 0,
        };
        Ok((
            Self {
                tokens: Mutex::new(tokens),
                lender: lender.to_owned(),
                config,
            },
            login,
        ))
    }

    pub async fn token(&self) -> (u64, SecretString) {
        let tokens = self.tokens.lock().await;
        (tokens.generation, tokens.token.clone())
    }

    pub fn email(&self) -> &str {
        &self.config.email
    }

    /// Replaces the token of `generation`, unless that happened meanwhile; `true` if it did.
    pub async fn renew(
        &self,
        connection: &Connection,
        generation: u64,
        renewal: Renewal,
    ) -> Result<bool, UpstreamError> {
        let mut tokens = self.tokens.lock().await;
        if tokens.generation != generation {
            return Ok(true);
        }
        if renewal == Renewal::Refresh
            && let Some(token) = self.refresh(connection, &tokens.refresh).await?
        {
            (tokens.token, tokens.generation) = (token, generation + 1);
            return Ok(false);
        }
        let (answer, _) = log_in(connection, &self.lender, &self.config).await?;
        *tokens = Tokens {
            token: answer.token,
            refresh: answer.refresh_token,
            generation: generation + 1,
        };
        Ok(false)
    }

    /// `None` when the refresh token is refused: log in again.
    async fn refresh(
        &self,
        connection: &Connection,
        refresh_token: &SecretString,
    ) -> Result<Option<SecretString>, UpstreamError> {
        let doing = "refreshing the token";
        let url = with_path(
            &connection.base_url,
            &["admin", "auth", &self.config.subdomain, "refresh-token"],
        );
        let body = RefreshBody {
            refresh_token: refresh_token.expose_secret(),
        };
        let request = connection.http.post(url).json(&body);
        let turn = connection.route.turn().await;
        match connection.send(turn, doing, request).await {
            Ok(answer) => {
                let RefreshAnswer { token } = answer.json(doing)?;
                connection.metrics.token_refreshes_total.inc();
                Ok(Some(token))
            }
            Err(UpstreamError::Status {
                status: 400 | 401 | 403 | 404,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

async fn log_in(
    connection: &Connection,
    lender: &str,
    config: &config::Lender,
) -> Result<(LoginAnswer, Option<Timestamp>), UpstreamError> {
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
    let answer = match connection
        .send(turn, doing, connection.http.post(url).json(&body))
        .await
    {
        Err(UpstreamError::Status {
            doing,
            status: status @ (400 | 401 | 403 | 404),
            message,
            request_id,
            ..
        }) => {
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
    let login: LoginAnswer = answer.json(doing)?;
    if let Some(wanted) = config
        .public_id
        .as_ref()
        .filter(|wanted| **wanted != login.lender_public_id)
    {
        let (lender, wanted, found) = (lender.to_owned(), wanted.clone(), login.lender_public_id);
        return Err(UpstreamError::OtherLender { lender, wanted, found });
    }
    connection.metrics.logins_total.inc();
    Ok((login, answer.clock))
}

impl Client {
    /// The `lenderId` claim of the token in use, for the message of a 403.
    pub(super) async fn token_lender(&self) -> String {
        let (_, token) = self.auth.token().await;
        lender_claim(token.expose_secret()).unwrap_or_else(|| "(not readable)".to_owned())
    }
}

/// Reads a JWT's `lenderId` without verifying it.
fn lender_claim(jwt: &str) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Claims {
        lender_id: String,
    }
    let payload = jwt.split('.').nth(1)?.trim_end_matches('=');
    let claims = BASE64_URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&claims)
        .ok()
        .map(|Claims { lender_id }| lender_id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lender_claim_is_read_and_rubbish_is_not() {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(r#"{"lenderId":"5f0c","exp":1}"#);
        assert_eq!(lender_claim(&format!("h.{payload}.s")).as_deref(), Some("5f0c"));
        assert_eq!(lender_claim("h.x.s"), None);
        assert_eq!(lender_claim(""), None);
    }
}
