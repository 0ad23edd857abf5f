//! An authorization server that gives tokens for client credentials, over TLS, and can be away.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use d02_source::simulator::Authority;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use super::RUNTIME;

pub(crate) struct AuthorizationServer {
    address: SocketAddr,
    directory: TempDir,
    state: Arc<Mutex<State>>,
}

struct State {
    secret: String,
    life: Duration,
    is_away: bool,
    /// The status of each answer.
    answers: Vec<u16>,
}

impl AuthorizationServer {
    /// Gives every client that knows `secret` tokens with a life of `life`.
    pub(crate) fn start(secret: &str, life: Duration) -> Self {
        let authority = Authority::new("authorization").expect("an authority");
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("ca.pem"), authority.pem()).expect("written");
        let certified = authority.server([127, 0, 0, 1].into(), &[]).expect("a certificate");
        let acceptor = certified.acceptor().expect("an acceptor");
        let state = Arc::new(Mutex::new(State {
            secret: secret.to_owned(),
            life,
            is_away: false,
            answers: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let listener = RUNTIME.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let address = listener.local_addr().expect("an address");
        RUNTIME.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    // Whoever does not trust us goes away.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, &shared).await;
                    }
                });
            }
        });
        Self {
            address,
            directory,
            state,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the state")
    }

    pub(crate) fn set_secret(&self, secret: &str) {
        secret.clone_into(&mut self.state().secret);
    }

    pub(crate) fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
    }

    pub(crate) fn answers(&self) -> Vec<u16> {
        self.state().answers.clone()
    }

    /// What a client of it is configured with beside its secret.
    pub(crate) fn environment(&self, client_id: &str) -> Vec<(&'static str, String)> {
        vec![
            ("D02__KAFKA__PROPERTIES__SASL_MECHANISM", "OAUTHBEARER".to_owned()),
            ("D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_METHOD", "oidc".to_owned()),
            (
                "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_TOKEN_ENDPOINT_URL",
                format!("https://{}/token", self.address),
            ),
            (
                "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_CLIENT_ID",
                client_id.to_owned(),
            ),
            (
                "D02__KAFKA__PROPERTIES__SASL_OAUTHBEARER_SCOPE",
                "kafka write".to_owned(),
            ),
            (
                "D02__KAFKA__PROPERTIES__HTTPS_CA_LOCATION",
                self.directory.path().join("ca.pem").display().to_string(),
            ),
        ]
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, state: &Mutex<State>) {
    const BODY: &str = "grant_type=client_credentials&scope=kafka+write";
    let mut request = Vec::new();
    while !request.ends_with(BODY.as_bytes()) {
        let Ok(1..) = stream.read_buf(&mut request).await else {
            return;
        };
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let client = request.lines().find_map(|line| {
        let credentials = line.strip_prefix("authorization: Basic ")?;
        let credentials = String::from_utf8(BASE64_STANDARD.decode(credentials).ok()?).ok()?;
        let (id, secret) = credentials.split_once(':')?;
        Some((id.to_owned(), secret.to_owned()))
    });
    let (status, body) = {
        let mut state = state.lock().expect("the state");
        if state.is_away {
            return;
        }
        let known = client.filter(|(_, secret)| *secret == state.secret);
        let (status, body) = match known {
            Some((id, _)) if request.starts_with("POST /token ") => (200, token(&id, state.life)),
            Some(_) => (404, String::new()),
            None => (
                401,
                r#"{"error":"invalid_client","error_description":"hunter2 is not it"}"#.to_owned(),
            ),
        };
        state.answers.push(status);
        (status, body)
    };
    let answer = format!(
        "HTTP/1.1 {status} So\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    // Whoever does not wait for it does not need it.
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// A token without a signature, which the broker of the tests takes.
fn token(client_id: &str, life: Duration) -> String {
    let now = d02_source::clock::now().timestamp();
    let life = life.as_secs();
    let claims = serde_json::json!({
        "sub": client_id,
        "scope": "kafka write",
        "iat": now,
        "exp": now + i64::try_from(life).expect("a short life") + 1,
    });
    let part = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    let token = format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims.to_string()));
    serde_json::json!({ "access_token": token, "token_type": "Bearer", "expires_in": life }).to_string()
}
