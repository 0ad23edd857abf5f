//! Who is to be started, with what, and how long is Kafka waited for?

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::claim::{Among, Claimant};
use super::frames::Frames;
use super::republish::Republish;
use crate::backoff::{AfterTry, Patience};
use crate::config::{self, StandbyMode};
use crate::exit::{Diagnosis, chain};
use crate::failpoint;
use crate::kafka::{self, Cluster};
use crate::metrics::LenderMetrics;
use crate::phase::Phase;
use crate::policy::{self, AfterSink, DENIED_WAIT, Denials};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::sink::{CursorReaders, SinkError, Topics};
use crate::watchdog::Pulse;

/// A lender that logged in, so that it is known whose records are its own.
#[derive(Debug, Clone)]
pub(crate) struct Restorable {
    /// Its key in the configuration.
    pub lender: String,
    pub public_id: String,
    pub topics: Topics,
    pub frames: Frames,
    pub metrics: LenderMetrics,
}

/// One that is to be started.
pub(crate) struct Candidate {
    pub lender: Restorable,
    /// Of the loop that it becomes.
    pub pulse: Pulse,
    pub shutdown: Shutdown,
    /// Among whom it is another's while they show life; `None`: it is taken over, from whomever.
    pub waits_for: Option<Among>,
    pub phase: Phase,
}

/// Everything that the lenders of one process share.
pub(crate) struct Starter {
    pub cluster: Cluster,
    /// What is committed.
    pub cursors: CursorReaders,
    pub config: config::Config,
    pub claimant: Claimant,
    pub registry: Option<Arc<Registry>>,
    /// For what is asked of the registry.
    pub runtime: Handle,
    pub shutdown: Shutdown,
    /// What a person asks to have written once more.
    pub republish: Option<Republish>,
    /// Of each call.
    pub denials: Denials,
}

impl Starter {
    /// Whether what other processes run is held here, too.
    pub(super) fn stands_by_warm(&self) -> bool {
        self.claimant.group.is_some() && self.config.group.standby == StandbyMode::Warm
    }

    /// Tries what may pass again for a while: a start is often the start of the brokers too.
    pub(super) fn patiently<T>(
        &self,
        patience: Patience,
        call: impl FnMut() -> Result<T, SinkError>,
    ) -> Result<T, SinkError> {
        let denials = self.denials.anew();
        let after = |error: &SinkError| match may_pass(&denials, error) {
            true => AfterTry::Retry { at_least: None },
            false => AfterTry::GiveUp,
        };
        let say = |error: &SinkError, _| {
            tracing::warn!(code = %error.code(), advice = error.advice(), "starting: {}", chain(error));
        };
        patience.retry_blocking(DENIED_WAIT, &self.shutdown, call, after, say)
    }
}

/// How long a start waits for Kafka.
pub(super) fn patience() -> Patience {
    Patience::For(failpoint::shortened("D02_TEST_PATIENCE", Duration::from_secs(120)))
}

/// Whether what failed may be tried again at a start.
pub(super) fn may_pass(denials: &Denials, error: &SinkError) -> bool {
    match denials.after(policy::after_sink(error)) {
        // It has waited long enough by itself.
        _ if matches!(
            error,
            SinkError::Kafka(kafka::Error::EndNotReached { .. } | kafka::Error::WentBack { .. })
        ) =>
        {
            false
        }
        AfterSink::Reopen => true,
        AfterSink::LookForClaim | AfterSink::AskAgain(_) | AfterSink::Stop(_) => false,
    }
}
