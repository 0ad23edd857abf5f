//! How is a page asked for? A logged-in lender's way to upstream: the right token, the right bounds, one answer.

use std::sync::Arc;
use std::time::Duration;

use super::auth::{Auth, Login, Renewal};
use super::connection::{Answer, Connection, READING, get};
use super::error::UpstreamError;
use super::request::PageRequest;
use super::route::Route;
use super::transport::Transport;
use crate::clock::Tick;
use crate::config;
use crate::exit::{Diagnosis, chain};
use crate::failpoint;
use crate::metrics::LenderMetrics;
use crate::phase::Phase;

/// Between a refusal of the lender and the last try: upstream may say so while it is being deployed.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);

/// A logged-in lender's way to upstream.
pub(crate) struct Client {
    connection: Connection,
    pub(super) auth: Auth,
    lender_public_id: String,
}

impl Client {
    /// Logs in; the client is good for this lender from then on.
    ///
    /// # Errors
    /// When upstream cannot be reached or refuses the credentials.
    pub(crate) async fn login(
        transport: Arc<dyn Transport>,
        upstream: &config::Upstream,
        lender: &str,
        config: &config::Lender,
        metrics: LenderMetrics,
        route: Arc<Route>,
    ) -> Result<(Self, Login), UpstreamError> {
        let base_url = upstream.base_url.clone();
        let connection = Connection {
            transport,
            base_url,
            max_body: upstream.max_body,
            metrics,
            route,
        };
        let (auth, login) = Auth::login(&connection, lender, config.clone()).await?;
        Ok((
            Self {
                connection,
                auth,
                lender_public_id: login.lender_public_id.clone(),
            },
            login,
        ))
    }

    /// The present place in the order of requests and answers.
    pub(crate) fn tick(&self) -> Tick {
        self.connection.route.ticks.next()
    }

    /// How long nothing of the lender may be sent.
    pub(crate) fn held_for(&self) -> Option<Duration> {
        self.connection.route.held_for()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.connection.route.phase()
    }

    pub(crate) fn metrics(&self) -> &LenderMetrics {
        &self.connection.metrics
    }

    /// Fetches one page; one that upstream refuses is asked for once more after a pause, in which nothing of the lender is sent.
    ///
    /// # Errors
    /// Everything that is no 200; what it holds is judged by [`Answer::page`].
    pub(crate) async fn page(&self, page: &PageRequest) -> Result<Answer, UpstreamError> {
        let error = match self.page_once(page).await {
            Err(error) if error.is_refusal() => error,
            other => return other,
        };
        self.connection.metrics.retries_total.inc();
        let pause = failpoint::shortened("D02_TEST_REFUSED_PAUSE", REFUSED_PAUSE);
        let route = &self.connection.route;
        if let Some(wait) = route.hold(pause) {
            let (lender, code, advice) = (route.lender(), error.code(), error.advice());
            tracing::warn!(lender, ?wait, %code, advice, "asked once more then: {}", chain(&error));
        }
        self.page_once(page).await
    }

    /// Fetches one page. A refused token is refreshed, then replaced by a login, once each.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub(crate) async fn page_once(&self, page: &PageRequest) -> Result<Answer, UpstreamError> {
        let doing = READING;
        let url = page.url(&self.connection.base_url, &self.lender_public_id);
        let mut renewals = [Renewal::Refresh, Renewal::Login].into_iter();
        let mut renewal = renewals.next();
        loop {
            self.auth.ready(&self.connection).await;
            let turn = self.connection.route.turn().await;
            // Only now: it may have been replaced meanwhile, and whoever has a turn must not wait any more.
            let (generation, token) = self.auth.token();
            match self
                .connection
                .send(turn, doing, get(url.clone(), &token), &token)
                .await
            {
                Err(UpstreamError::Status {
                    status: 401,
                    message,
                    request_id,
                    ..
                }) => {
                    let Some(way) = renewal else {
                        let email = self.auth.email().to_owned();
                        return Err(UpstreamError::Credentials {
                            doing,
                            email,
                            status: 401,
                            message,
                            request_id,
                        });
                    };
                    let was_replaced = self.auth.renew(&self.connection, generation, way).await?;
                    if !was_replaced {
                        renewal = renewals.next();
                    }
                }
                Err(UpstreamError::Status {
                    status: 403,
                    message,
                    is_upstreams: true,
                    request_id,
                    ..
                }) => {
                    let public_id = self.lender_public_id.clone();
                    let token_lender = self.token_lender().unwrap_or_else(|| "(not readable)".to_owned());
                    return Err(UpstreamError::Forbidden {
                        public_id,
                        token_lender,
                        message,
                        request_id,
                    });
                }
                other => return other,
            }
        }
    }
}

impl Client {
    /// The `lenderId` claim of the token in use, where it can be read.
    pub(crate) fn token_lender(&self) -> Option<String> {
        self.auth.token_lender()
    }
}
