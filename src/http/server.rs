//! A port of ours: who connects to it gets one answer, and not for long.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::site::{Access, Site, answer};
use crate::config::{self, SecretError};
use crate::exit::{Diagnosis, ErrorCode};

/// Probes and scrapes are a handful; the next connection waits in the listener's queue.
const MAX_CONNECTIONS: usize = 64;

/// From the first byte of a request's head to its last.
const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// From the acceptance of a connection to its end: nobody holds one of the few for longer.
const CONNECTION_LIMIT: Duration = Duration::from_secs(10);

/// A request of ours has a line and some headers.
const MAX_HEAD: usize = 16 * 1024;

/// Where a client on this machine finds what listens on `address`: nobody can connect to "all addresses" (`0.0.0.0`).
pub(crate) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("listening on {listen} (http.listen)")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("reading the secret of http.token")]
    Token(#[source] SecretError),
}

impl Diagnosis for HttpError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Listen { .. } => ErrorCode::P01,
            Self::Token(_) => ErrorCode::P02,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Listen { .. } => {
                "stop what listens there, or choose an address of this machine and a port that is free"
            }
            Self::Token(_) => "correct http.token_file, or its permissions",
        }
    }
}

/// A port that is ours, with nobody behind it yet.
pub(crate) struct Server {
    listener: TcpListener,
    address: SocketAddr,
    access: Access,
}

impl Server {
    /// Takes the port, so that one that is taken is known before anything else is touched; `None` where none is asked for.
    ///
    /// # Errors
    /// When the port cannot be had, or the token not be read.
    pub(crate) async fn bind(config: &config::Http) -> Result<Option<Self>, HttpError> {
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
            address,
            access: match &config.token {
                // This machine's own users are trusted with everything.
                _ if address.ip().is_loopback() => Access::Own,
                Some(token) => Access::Token(token.clone()),
                None => Access::Closed,
            },
        }))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, site: Arc<Site>) {
        let access = Arc::new(self.access);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                // Either; what waits is served as soon as there is room.
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection(stream, Arc::clone(&access), Arc::clone(&site)));
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

async fn connection(stream: TcpStream, access: Arc<Access>, site: Arc<Site>) {
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (site, access) = (Arc::clone(&site), Arc::clone(&access));
        async move { Ok::<_, std::convert::Infallible>(answer(&site, &access, request).await) }
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
