//! Is this instance still the lender's one writer, and what does it do when it does not know? The one way back, and the end.

use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::Instant;

use super::lender::LenderParts;
use super::partitions::PartitionsChanged;
use super::report::Monitor;
use super::stop::StopReason;
use crate::backoff::Backoff;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure, chain};
use crate::phase::Phase;
use crate::policy::{self, AfterSink, DENIED_WAIT, Denials};
use crate::progress::Record;
use crate::shutdown::Shutdown;
use crate::sink::{Committed, Records, Sink, SinkError};
use crate::watchdog::work_limit;

/// What reading the cursor back says of an attempted commit.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Landed,
    NotLanded,
}

/// Why an instance is the lender's writer no longer, or gives it up.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnershipError {
    #[error("another instance took the lender over; this one writes nothing more")]
    TakenOver,
    #[error("transactions ran out of time again and again, and no other instance took over")]
    TimeOuts,
    /// Asked to end meanwhile.
    #[error("ending, and whether another instance took over is not known")]
    Unknown,
    /// Asked to end meanwhile.
    #[error("ending, and what is committed is not known")]
    NotReopened(#[source] SinkError),
}

/// The code of a lender that is another instance's.
pub(super) const TAKEN_OVER: ErrorCode = ErrorCode::S10;

/// What to do about it.
pub(super) const TAKEN_OVER_ADVICE: &str = "nothing, if that was meant; else stop one of the two";

impl Diagnosis for OwnershipError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TakenOver => TAKEN_OVER,
            Self::TimeOuts => ErrorCode::K15,
            Self::Unknown | Self::NotReopened(_) => ErrorCode::S16,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::TakenOver => TAKEN_OVER_ADVICE,
            Self::TimeOuts => "look at the brokers and at this machine: disks, load, the network between",
            Self::Unknown | Self::NotReopened(_) => "nothing: the next start asks",
        }
    }
}

/// What this instance knows of being the lender's one writer.
pub(super) struct Ownership {
    monitor: Monitor,
    shutdown: Shutdown,
    own_time_outs: Vec<Instant>,
    /// Of this batch: reopening goes well where only writing is denied.
    denials: Denials,
    /// While what is committed is not known, nothing may be written, a release neither: it could stand over another owner's
    /// record, or over rows that landed.
    is_certain: bool,
    /// When the topics were last looked at, and how often they are.
    looked_at: Option<Instant>,
    interval: Duration,
    phase: Phase,
}

impl Ownership {
    /// Of a lender whose claim is committed.
    pub(super) fn new<S>(lender: &LenderParts<S>) -> Self {
        Self {
            monitor: lender.monitor.clone(),
            shutdown: lender.shutdown.clone(),
            own_time_outs: Vec::new(),
            denials: Denials::asked_again(),
            is_certain: true,
            looked_at: None,
            interval: lender.settings.heartbeat_interval,
            phase: lender.phase,
        }
    }

    /// The one way back for everything uncertain: a new producer, then what the cursor record says.
    ///
    /// - Once: the batch is decided again only if the record read back is ours and older than the attempt; one that
    ///   reached the attempted sequence *is* the attempt, because only this thread raises it.
    /// - Atomic: the record and the batch are one transaction, so the one answers for the other.
    /// - One writer: a record that is not ours ends this lender; `init` has fenced nobody who could not reopen in turn.
    /// - Complete: the reading ends at the true end (`kafka::read`), so an attempt that landed is seen.
    ///
    /// `held`: the last record that is known to be committed. `backoff`: of this batch. What fails again and again after
    /// reopening well waits longer and longer, too.
    pub(super) async fn reopen<S: Sink>(
        &mut self,
        sink: &mut S,
        error: &SinkError,
        [held, attempted]: [&Record; 2],
        backoff: &mut Backoff,
    ) -> ControlFlow<StopReason, Outcome> {
        self.is_certain = false;
        let mut is_repeated = backoff.try_count() > 0;
        if !is_repeated {
            self.denials = self.denials.anew();
        }
        let (mut after, mut failure) = (policy::after_sink(error), Failure::of(error));
        loop {
            let is_denied = matches!(after, AfterSink::AskAgain(_));
            after = self.denials.after(after);
            if let AfterSink::Stop(_) = after {
                sink.abandon();
                return ControlFlow::Break(failure.into());
            }
            let wait = backoff.next(None);
            let wait = if is_denied { wait.min(DENIED_WAIT) } else { wait };
            if backoff.is_worth_a_line() {
                let (lender, code, advice) = (&self.monitor.lender, failure.code(), failure.advice());
                tracing::warn!(lender, %code, advice, "degraded, reopening: {}", failure.text());
            }
            if std::mem::take(&mut is_repeated) {
                self.wait_for_kafka(wait).await;
            }
            if after == AfterSink::LookForClaim {
                self.look_for_claim(sink, held).await?;
            }
            self.monitor.metrics.reopens_total.inc();
            match try_reopen(sink, held, attempted) {
                Ok(Some(outcome)) => {
                    self.is_certain = true;
                    tracing::info!(lender = self.monitor.lender, ?outcome, "reopened");
                    return ControlFlow::Continue(outcome);
                }
                Ok(None) => return ControlFlow::Break(OwnershipError::TakenOver.into()),
                Err(error) => {
                    if self.shutdown.is_requested() {
                        // What is committed is not known now; the next start asks.
                        return ControlFlow::Break(OwnershipError::NotReopened(error).into());
                    }
                    (after, failure) = (policy::after_reopening(&error), Failure::of(&error));
                    self.wait_for_kafka(wait).await;
                }
            }
        }
    }

    async fn wait_for_kafka(&mut self, wait: Duration) {
        self.monitor.pulse.enter("waiting for Kafka", wait);
        self.shutdown.sleep(wait).await;
    }

    /// We were fenced: by another instance, whose claim then appears, or by the broker, because our transaction ran out
    /// of time.
    async fn look_for_claim<S: Sink>(&mut self, sink: &S, held: &Record) -> ControlFlow<StopReason> {
        const PATIENCE: Duration = Duration::from_secs(15);
        const STEP: Duration = Duration::from_millis(500);
        const TIME_OUTS: usize = 3;
        const TIME_OUT_WINDOW: Duration = Duration::from_secs(600);
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE && !self.shutdown.is_requested() {
            match sink.committed() {
                // A reset is somebody else's doing as well.
                Ok(Committed::Reset) => return ControlFlow::Break(OwnershipError::TakenOver.into()),
                Ok(Committed::Record(record)) if !record.has_owner_of(held) => {
                    return ControlFlow::Break(OwnershipError::TakenOver.into());
                }
                Ok(Committed::Record(_) | Committed::Nothing) | Err(_) => {}
            }
            self.monitor
                .pulse
                .enter("looking for another instance's claim", PATIENCE);
            self.shutdown.sleep(STEP).await;
        }
        if self.shutdown.is_requested() {
            // Whether somebody took over is not known; a producer made now would fence them.
            return ControlFlow::Break(OwnershipError::Unknown.into());
        }
        self.own_time_outs.retain(|at| at.elapsed() < TIME_OUT_WINDOW);
        self.own_time_outs.push(Instant::now());
        if self.own_time_outs.len() > TIME_OUTS {
            return ControlFlow::Break(OwnershipError::TimeOuts.into());
        }
        tracing::warn!(
            lender = self.monitor.lender,
            "no other instance took over: our own transaction ran out of time"
        );
        ControlFlow::Continue(())
    }

    /// Once in a heartbeat's interval, at first before anything is read: whether the topics are still those that were written to,
    /// and keys spread as they were.
    pub(super) fn look_at_topics<S: Sink>(&mut self, sink: &S, held: &Record) -> ControlFlow<StopReason> {
        if self
            .looked_at
            .is_some_and(|at| Instant::now() < self.phase.next(at, self.interval))
        {
            return ControlFlow::Continue(());
        }
        self.looked_at = Some(Instant::now());
        match sink.hold_ground(&held.ends, self.interval / 2) {
            Ok(Some(found)) if found != held.partitions => {
                return ControlFlow::Break(PartitionsChanged::new(&held.partitions, &found).into());
            }
            Ok(_) => {}
            Err(SinkError::Recreated { topic, ends }) => {
                // What became of the cursor topic is for a person to look at.
                self.is_certain = topic != sink.topics().cursor.name;
                return ControlFlow::Break(Failure::of(&SinkError::Recreated { topic, ends }).into());
            }
            Err(error) => {
                let (lender, code, advice) = (&self.monitor.lender, error.code(), error.advice());
                tracing::warn!(lender, %code, advice, "{}", chain(&error));
            }
        }
        ControlFlow::Continue(())
    }

    /// Releases the lender at its end, if it is known to be this instance's; gives whether that is committed.
    pub(super) fn end<S: Sink>(&self, sink: &S, held: &Record, public_id: &str, stop: &StopReason) -> bool {
        self.monitor.pulse.enter("ending", work_limit());
        stop.exit() != Exit::TakenOver && self.is_certain && release(sink, held, public_id, &self.monitor.lender)
    }
}

/// `None`: the lender is another's.
fn try_reopen<S: Sink>(sink: &mut S, held: &Record, attempted: &Record) -> Result<Option<Outcome>, SinkError> {
    let record = match sink.reopen()? {
        Committed::Record(record) if record.has_owner_of(held) || record.has_owner_of(attempted) => Some(record),
        // A reset is somebody else's doing as well.
        Committed::Record(_) | Committed::Reset => return Ok(None),
        Committed::Nothing => None,
    };
    match sink.hold_ground(&held.ends, Duration::ZERO) {
        Err(error) if record.is_none() || matches!(error, SinkError::Recreated { .. }) => return Err(error),
        // What cannot be asked for now is asked for at the next look.
        Ok(_) | Err(_) => {}
    }
    match record {
        Some(record) if record.sequence >= attempted.sequence => Ok(Some(Outcome::Landed)),
        Some(_) => Ok(Some(Outcome::NotLanded)),
        // A record that is gone is nobody's claim: its topic is another one, though it may have grown as long meanwhile.
        None => {
            let topic = sink.topics().cursor.name.clone();
            Err(SinkError::CursorGone { topic })
        }
    }
}

/// Commits a last cursor record that says the lender is free; tried once, because a producer made anew would fence
/// whoever took over meanwhile. Gives whether it is committed.
pub(super) fn release<S: Sink>(sink: &S, held: &Record, public_id: &str, lender: &str) -> bool {
    let record = Record {
        instance: None,
        sequence: held.sequence + 1,
        ..held.clone()
    };
    match sink.commit(&Records::default(), &record, public_id) {
        Ok(()) => {
            tracing::debug!(lender, "released");
            true
        }
        Err(error) => {
            sink.abandon();
            let (code, advice) = (error.code(), error.advice());
            tracing::warn!(
                lender,
                %code,
                advice,
                "not released, it counts as alive for a while: {}",
                chain(&error)
            );
            false
        }
    }
}
