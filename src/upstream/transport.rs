//! What carries a request? An HTTP client that all lenders share, and that can leave its connections behind.

use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use reqwest::{Proxy, Request, Response};
use tokio::time::Instant;

use super::error::ClientError;
use crate::config;
use crate::exit::{Diagnosis, chain};
use crate::loopback::direct_to_loopback;
use crate::tls;

/// Connecting takes no longer, or something is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Of several lenders that get no answer, one has the client made anew for all.
const LEAST_AGE: Duration = Duration::from_secs(1);

/// Carries a request to upstream and the answer back. The second implementation is the model test's: a simulator
/// without a socket, in a time of its own.
pub(crate) trait Transport: Send + Sync {
    fn execute(&self, request: Request) -> Execution<'_>;

    /// The next request uses a new connection: the name is looked up again, which a connection that is kept alive hides.
    fn reconnect(&self) {}
}

/// An answer under way.
pub(crate) type Execution<'a> = Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send + 'a>>;

/// The HTTP client of all lenders: they share its connections.
pub(crate) struct HttpClient {
    upstream: config::Upstream,
    /// With the time when it was made.
    current: Mutex<(reqwest::Client, Instant)>,
}

impl HttpClient {
    /// # Errors
    /// When `upstream.ca_file` or `upstream.proxy` cannot be used.
    pub(crate) fn new(upstream: &config::Upstream) -> Result<Self, ClientError> {
        Ok(Self {
            upstream: upstream.clone(),
            current: Mutex::new((build(upstream)?, Instant::now())),
        })
    }

    fn current(&self) -> MutexGuard<'_, (reqwest::Client, Instant)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport for HttpClient {
    fn execute(&self, request: Request) -> Execution<'_> {
        let client = self.current().0.clone();
        Box::pin(async move { client.execute(request).await })
    }

    fn reconnect(&self) {
        let mut current = self.current();
        if current.1.elapsed() < LEAST_AGE {
            return;
        }
        // It reads `upstream.ca_file` again, which may have been replaced.
        match build(&self.upstream) {
            Ok(client) => *current = (client, Instant::now()),
            Err(error) => {
                let (code, advice) = (error.code(), error.advice());
                tracing::warn!(%code, advice, "the connections to upstream stay as they are: {}", chain(&error));
            }
        }
    }
}

fn build(upstream: &config::Upstream) -> Result<reqwest::Client, ClientError> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("d02-source/", env!("CARGO_PKG_VERSION")))
        // A redirect could carry the token to another host, or off TLS.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT.min(upstream.request_timeout))
        .timeout(upstream.request_timeout)
        .gzip(true);
    builder = tls::trusting(builder, upstream.ca_file.as_deref()).map_err(ClientError::Ca)?;
    if let Some(proxy) = &upstream.proxy {
        builder = builder.proxy(Proxy::all(proxy.0.clone()).map_err(ClientError::Http)?);
    }
    direct_to_loopback(builder, &upstream.base_url)
        .build()
        .map_err(ClientError::Http)
}
