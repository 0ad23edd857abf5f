//! How does a lender get in upstream? One log-in for all who need one; what may pass is tried again for as long as the caller
//! has patience.

use std::sync::Arc;

use crate::backoff::{AfterTry, Patience};
use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure, chain};
use crate::metrics::{LenderMetrics, Metrics};
use crate::phase::Phase;
use crate::policy::{self, AfterRequest};
use crate::upstream::{Client, ClientError, HttpClient, Login, Route, Transport, UpstreamError};

/// Logs a lender in. What may pass is tried again, with back-off.
///
/// # Errors
/// When upstream refuses, or the patience is over.
pub(crate) async fn log_in(
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
        AfterRequest::Silence
        | AfterRequest::Doubt
        | AfterRequest::TooLarge
        | AfterRequest::TooSlow
        | AfterRequest::Unreadable => AfterTry::Retry {
            at_least: route.held_for(),
        },
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
        let (code, advice) = (error.code(), error.advice());
        tracing::warn!(lender, ?wait, %code, advice, "{}", chain(error));
    };
    let logged_in = patience.retry(log_in, counted, say).await?;
    if logged_in.1.date.is_none() {
        tracing::warn!(lender, "upstream's answers carry no Date: this machine's clock is used");
    }
    Ok(logged_in)
}

/// The HTTP client that all lenders share.
///
/// # Errors
/// When its settings cannot be used.
pub(crate) fn transport(config: &Config) -> Result<Arc<dyn Transport>, ClientError> {
    Ok(Arc::new(HttpClient::new(&config.upstream)?))
}

/// Why it is not known whose records a lender's are.
#[derive(Debug, thiserror::Error)]
#[error("asking upstream for the public id of {lender}")]
struct NoPublicId {
    lender: String,
    advice: String,
    source: UpstreamError,
}

impl Diagnosis for NoPublicId {
    fn code(&self) -> ErrorCode {
        self.source.code()
    }

    fn advice(&self) -> &str {
        &self.advice
    }

    fn exit(&self) -> Exit {
        self.source.exit()
    }
}

/// A lender's public id: as configured, else as the login tells it.
///
/// # Errors
/// When there is no login.
pub(crate) async fn public_id_of(config: &Config, lender: &str, patience: Patience) -> Result<String, Failure> {
    if let Some(public_id) = &config.lenders[lender].public_id {
        return Ok(public_id.clone());
    }
    let (http, route) = (
        transport(config)?,
        Arc::new(Route::new(lender, &config.upstream, Phase::alone())),
    );
    let metrics = Metrics::new().lender(lender);
    match log_in(&http, config, lender, &metrics, &route, patience).await {
        Ok((_, login)) => Ok(login.lender_public_id),
        Err(source) => {
            let advice = format!("{}; or set lenders.{lender}.public_id", source.advice());
            let lender = lender.to_owned();
            Err(NoPublicId { lender, advice, source }.into())
        }
    }
}
