//! How does a lender get in upstream? One log-in for all who need one; what may pass is tried again for as long as the caller
//! has patience.

use std::sync::Arc;

use crate::backoff::{AfterTry, Patience};
use crate::config::Config;
use crate::exit::{Exit, Failure, chain};
use crate::metrics::{LenderMetrics, Metrics};
use crate::policy::{self, AfterRequest};
use crate::upstream::{Client, ClientError, Login, Route, Transport, UpstreamError, http_client};

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
    let log_in = || {
        Client::login(
            Arc::clone(http),
            upstream,
            lender,
            settings,
            metrics.clone(),
            Arc::clone(route),
        )
    };
    let after = |error: &UpstreamError| match policy::after_request(error) {
        AfterRequest::Retry { retry_after: at_least } => AfterTry::Retry { at_least },
        AfterRequest::Smaller | AfterRequest::PerhapsDeadCursor => AfterTry::Retry { at_least: None },
        AfterRequest::Fail | AfterRequest::Stop(_) => AfterTry::GiveUp,
    };
    let counted = |error: &UpstreamError| {
        let after = after(error);
        if after != AfterTry::GiveUp && patience != Patience::Once {
            metrics.retries_total.inc();
        }
        after
    };
    let say = |error: &UpstreamError, wait| {
        let advice = policy::request_advice(error);
        tracing::warn!(lender, ?wait, advice, "{}", chain(error));
    };
    patience.retry(log_in, counted, say).await
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
