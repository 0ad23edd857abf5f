//! How does a lender get in upstream? One log-in for all who need one; what may pass is tried again for as long as the caller
//! has patience.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::Config;
use crate::exit::{Exit, Failure, chain};
use crate::metrics::{LenderMetrics, Metrics};
use crate::policy::{self, AfterRequest};
use crate::upstream::{Client, ClientError, Login, Route, Transport, UpstreamError, http_client};

/// How long a log-in is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    Once,
    For(Duration),
    /// Until upstream refuses.
    Endless,
}

impl Patience {
    /// Whether a further try after `wait` is within it, begun `ago`.
    fn allows(self, ago: Duration, wait: Duration) -> bool {
        match self {
            Self::Once => false,
            Self::For(patience) => ago + wait <= patience,
            Self::Endless => true,
        }
    }
}

/// Logs a lender in. What may pass is tried again, with back-off.
///
/// # Errors
/// When upstream refuses, or the patience is over.
pub async fn log_in(
    http: &Arc<dyn Transport>,
    config: &Config,
    lender: &str,
    metrics: &LenderMetrics,
    route: &Arc<Route>,
    patience: Patience,
) -> Result<(Client, Login), UpstreamError> {
    let (upstream, settings) = (&config.upstream, &config.lenders[lender]);
    let (begun, mut backoff) = (Instant::now(), Backoff::default());
    loop {
        let (transport, route) = (Arc::clone(http), Arc::clone(route));
        let error = match Client::login(transport, upstream, lender, settings, metrics.clone(), route).await {
            Ok(logged_in) => return Ok(logged_in),
            Err(error) => error,
        };
        let retry_after = match policy::after_request(&error) {
            AfterRequest::Retry { retry_after } => retry_after,
            AfterRequest::Smaller | AfterRequest::PerhapsDeadCursor => None,
            AfterRequest::Fail | AfterRequest::Stop(_) => return Err(error),
        };
        let wait = backoff.next(retry_after);
        if !patience.allows(begun.elapsed(), wait) {
            return Err(error);
        }
        metrics.retries_total.inc();
        if backoff.is_worth_a_line() {
            let advice = policy::request_advice(&error);
            tracing::warn!(lender, ?wait, advice, "{}", chain(&error));
        }
        tokio::time::sleep(wait).await;
    }
}

/// The HTTP client that all lenders share.
///
/// # Errors
/// When its settings cannot be used.
pub fn transport(config: &Config) -> Result<Arc<dyn Transport>, Failure> {
    let failure = |error: ClientError| Failure::of(Exit::Usage, &error, "correct upstream.ca_file or upstream.proxy");
    let http = http_client(&config.upstream).map_err(failure)?;
    Ok(Arc::new(http))
}

/// A lender's public id: as configured, else as the login tells it.
///
/// # Errors
/// When there is no login.
pub async fn public_id_of(config: &Config, lender: &str) -> Result<String, Failure> {
    if let Some(public_id) = &config.lenders[lender].public_id {
        return Ok(public_id.clone());
    }
    let (http, route) = (transport(config)?, Arc::new(Route::new(lender, &config.upstream)));
    let metrics = Metrics::new().lender(lender);
    match log_in(&http, config, lender, &metrics, &route, Patience::Once).await {
        Ok((_, login)) => Ok(login.lender_public_id),
        Err(error) => {
            let advice = format!("{}; or set lenders.{lender}.public_id", policy::request_advice(&error));
            Err(Failure::of(Exit::Refused, &error, &advice))
        }
    }
}
