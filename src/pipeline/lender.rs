//! What is a lender's loop made of, beside what it holds?

use std::time::Duration;

use tokio::time::Instant;

use super::batch::BatchSize;
use super::changes::ChangeRecorder;
use super::decide::Decider;
use super::limit::DeadLetterLimit;
use super::report::Monitor;
use super::republish::Republish;
use crate::avro::WriterSchema;
use crate::config;
use crate::index::Index;
use crate::metrics::LenderMetrics;
use crate::phase::Phase;
use crate::progress::Timestamp;
use crate::shutdown::Shutdown;
use crate::sink::Sink;
use crate::watchdog::Pulse;

/// How one lender is run.
pub(crate) struct LenderSettings<'a> {
    /// The lender's key in the configuration.
    pub lender: &'a str,
    pub public_id: &'a str,
    /// `None`: nothing is written to `changes`.
    pub changes: Option<ChangeRecorder>,
    pub errors: &'a config::Errors,
    pub transaction: &'a config::Transaction,
    pub late_window: Duration,
    pub poll_interval: Duration,
    pub start_from: Option<Timestamp>,
    /// That accounts are written with.
    pub schema: WriterSchema,
    pub republish: Option<Republish>,
    pub metrics: LenderMetrics,
    pub pulse: Pulse,
    pub shutdown: Shutdown,
    pub phase: Phase,
}

/// What a loop works with.
pub(super) struct LenderParts<S> {
    pub sink: S,
    pub decider: Decider,
    pub monitor: Monitor,
    pub limit: DeadLetterLimit,
    pub settings: config::Transaction,
    pub batch_size: BatchSize,
    pub shutdown: Shutdown,
    pub phase: Phase,
}

impl<S> LenderParts<S> {
    /// When an idle lender shows life, after what was committed at `committed_at`.
    pub(super) fn heartbeat_at(&self, committed_at: Instant) -> Instant {
        self.phase.next(committed_at, self.settings.heartbeat_interval)
    }
}

impl<S: Sink> LenderParts<S> {
    pub(super) fn new(sink: S, settings: LenderSettings<'_>) -> Self {
        Self {
            decider: Decider {
                public_id: settings.public_id.to_owned(),
                topics: sink.topics().clone(),
                changes: settings.changes,
                late_window: settings.late_window,
                start_from: settings.start_from,
                schema: settings.schema,
                republish: settings.republish,
            },
            sink,
            monitor: Monitor::new(settings.lender, settings.metrics, settings.pulse),
            limit: DeadLetterLimit::new(settings.errors),
            settings: settings.transaction.clone(),
            batch_size: BatchSize::new(settings.transaction.max_rows, settings.poll_interval),
            shutdown: settings.shutdown,
            phase: settings.phase,
        }
    }

    /// At the end of a republishing, how many accounts are left: upstream does not show them as they are held.
    pub(super) fn say_left(&self, index: &Index) {
        let Decider { republish, schema, .. } = &self.decider;
        let Some(republish) = republish else { return };
        // What stands under today's schema may have been written under it just now.
        let of_others = index.schemas().into_iter().filter(|(found, _)| found != schema);
        let left: u64 = of_others
            .filter(|(found, _)| republish.is_of(*found, *schema))
            .map(|(_, count)| count)
            .sum();
        self.monitor
            .metrics
            .left_to_republish
            .set(i64::try_from(left).unwrap_or(i64::MAX));
    }
}
