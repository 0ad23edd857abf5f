//! What of a lender's way to upstream outlasts a login? How fast it may be used.

use super::rate::{Rate, Turn};
use crate::config;

/// One lender's way to upstream, from one login to the next.
pub struct Route {
    rate: Option<Rate>,
}

impl Route {
    pub fn new(upstream: &config::Upstream) -> Self {
        Self {
            rate: upstream.max_requests_per_second.map(Rate::new),
        }
    }

    /// Waits until the next request may go out.
    pub(super) async fn turn(&self) -> Turn {
        match &self.rate {
            Some(rate) => rate.turn().await,
            None => Turn::free(),
        }
    }
}
