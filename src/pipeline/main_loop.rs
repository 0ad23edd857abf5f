//! The loop: take the next pages, already encoded; keep what is news; commit records and progress together; remember.
//!
//! One OS thread a lender owns index, progress and producer. A row is decided when the commit before it is known.

use std::convert::Infallible;
use std::ops::ControlFlow;

use tokio::sync::watch;
use tokio::time::Instant;

use super::inbox::{Batch, Inbox, Next};
use super::lender::LenderParts;
use super::ownership::{Outcome, Ownership};
use super::plan::{Holdings, Plan};
use super::reconcile::Reconciling;
use super::stop::StopReason;
use crate::backoff::Backoff;
use crate::clock::Tick;
use crate::failpoint::{self, Rule};
use crate::progress::{Progress, Record};
use crate::reader::{Ask, Incoming};
use crate::sink::{Sink, Transactions};
use crate::watchdog::work_limit;

/// One lender, claimed and restored.
pub struct Pipeline<S = Transactions> {
    lender: LenderParts<S>,
    /// The cursor record as committed.
    record: Record,
    holdings: Holdings,
    ownership: Ownership,
    /// When the last transaction was; the next heartbeat is counted from it.
    committed_at: Instant,
    /// While everything is read once more.
    reconciling: Option<Reconciling>,
    /// What is committed, for those who read.
    committed: watch::Sender<Progress>,
}

impl<S: Sink> Pipeline<S> {
    pub(super) fn new(lender: LenderParts<S>, record: Record, holdings: Holdings) -> Self {
        let pipeline = Self {
            ownership: Ownership::new(lender.monitor.clone(), lender.shutdown.clone()),
            committed_at: Instant::now(),
            reconciling: None,
            committed: watch::Sender::new(record.progress.clone()),
            lender,
            record,
            holdings,
        };
        pipeline.show();
        pipeline
    }

    /// What is committed, from now on.
    pub fn committed(&self) -> watch::Receiver<Progress> {
        self.committed.subscribe()
    }

    /// Runs the lender until it is asked to end, cannot go on, or has caught up, and releases it.
    ///
    /// Awaits what is read, but blocks while it commits: for a thread of its own.
    pub async fn run(mut self, incoming: Incoming) -> StopReason {
        let ControlFlow::Break(stop) = self.read_on(Inbox::new(incoming)).await;
        let lender = &self.lender;
        lender.monitor.pulse.enter("ending", work_limit());
        let public_id = &lender.decider.public_id;
        self.ownership.end(&lender.sink, &self.record, public_id, &stop);
        stop
    }

    async fn read_on(&mut self, mut inbox: Inbox) -> ControlFlow<StopReason, Infallible> {
        let interval = self.lender.settings.heartbeat_interval;
        loop {
            let heartbeat_at = self.committed_at + interval;
            let wait = heartbeat_at.saturating_duration_since(Instant::now()) + self.lender.settings.max_delay;
            self.lender.monitor.pulse.enter("waiting for pages", wait);
            let (settings, shutdown) = (&self.lender.settings, &mut self.lender.shutdown);
            let next = inbox.next(settings, heartbeat_at, shutdown).await;
            self.lender
                .monitor
                .pulse
                .enter("deciding and remembering", work_limit());
            let batch = match next {
                Next::Batch(batch) => batch, // pages, already verified and encoded; none: a heartbeat
                Next::Ask(ask) => {
                    self.answer(ask).await?;
                    continue;
                }
                Next::Ended(ended) => return ControlFlow::Break(StopReason::of_reader(&ended)),
                Next::Shutdown => return ControlFlow::Break(StopReason::as_asked()),
                Next::Lost => return ControlFlow::Break(StopReason::lost_reader()),
            };
            self.ownership
                .check_partitions(&self.lender.sink, &self.record, interval)?;
            let mut plan = self.commit(&batch).await?;
            let refused = plan.refused.take();
            self.remember(plan, 0);
            self.lender.monitor.note_progress(&batch);
            if let Some(reconciling) = &mut self.reconciling {
                reconciling.see(&batch, &mut self.holdings.index);
            }
            if let Some(refused) = refused {
                return ControlFlow::Break(refused.into());
            }
        }
    }

    /// Commits what of a batch is news, with its progress; returns once it is known to have landed.
    ///
    /// What changes nothing is left to the next heartbeat: an idle poll would commit what stands there already.
    async fn commit<'a>(&mut self, batch: &'a Batch) -> ControlFlow<StopReason, Plan<'a>> {
        let mut plan = self.plan(batch); // every row against the index: is it news?
        let is_heartbeat = self.committed_at.elapsed() >= self.lender.settings.heartbeat_interval;
        if !is_heartbeat && !plan.changes(&self.record) {
            return ControlFlow::Continue(plan);
        }
        let (begun, mut backoff) = (Instant::now(), Backoff::default());
        self.record = loop {
            let LenderParts { sink, decider, .. } = &mut self.lender;
            let record = plan.record(&self.record);
            let Err(error) = sink.commit(&plan.records, &record, &decider.public_id) else {
                break record;
            };
            let records = [&self.record, &record];
            match self.ownership.reopen(sink, &error, records, &mut backoff).await? {
                Outcome::Landed => break record,
                // The next start reads it again.
                Outcome::NotLanded if self.lender.shutdown.is_requested() => {
                    return ControlFlow::Break(StopReason::as_asked());
                }
                Outcome::NotLanded if failpoint::is_broken(Rule::RowsWithTheirMarks) => {
                    plan.lose_rows(&self.holdings.index)
                }
                Outcome::NotLanded => plan = self.plan(batch), // nothing of it is there
            }
        };
        self.committed_at = Instant::now();
        self.lender.monitor.committed(&plan, &self.record, begun.elapsed());
        ControlFlow::Continue(plan)
    }

    fn plan<'a>(&self, batch: &'a Batch) -> Plan<'a> {
        let allowance = self.lender.limit.allowance(Instant::now());
        let LenderParts { decider, .. } = &self.lender;
        decider.plan(&self.holdings, &self.record.progress, allowance, &batch.items)
    }

    /// Makes a committed plan part of what is held. `now`: what is requested later shows what comes after a deletion.
    fn remember(&mut self, plan: Plan<'_>, now: Tick) {
        failpoint::reach("before_remember");
        self.lender.monitor.tell(&plan);
        self.lender.limit.note(plan.dead_letters.len() as u64, Instant::now());
        self.holdings.remember(plan, now);
        self.show();
    }

    fn show(&self) {
        let (index, progress) = (&self.holdings.index, &self.record.progress);
        self.lender.monitor.show(index, progress, &self.committed);
    }

    /// Answers what a reconciliation asks; commits what it deletes.
    async fn answer(&mut self, ask: Ask) -> ControlFlow<StopReason> {
        match ask {
            Ask::Begin { since, done } => {
                self.reconciling = Some(Reconciling::begin(since, &mut self.holdings.index));
                // Who asked may have been given up.
                let _ = done.send(());
            }
            Ask::Count { answer } => {
                let _ = answer.send(self.holdings.index.unseen().count());
            }
            Ask::Delete {
                at,
                max_share,
                client,
                answer,
            } => {
                let reconciling = self.reconciling.take().expect("a reader begins before it deletes");
                let max_rows = self.lender.settings.max_rows;
                let (reconciled, items) = reconciling.end(&self.holdings.index, max_share, max_rows, at);
                for item in items {
                    if self.lender.shutdown.is_requested() {
                        return ControlFlow::Continue(());
                    }
                    let batch = Batch::of(item);
                    let plan = self.commit(&batch).await?;
                    self.remember(plan, client.tick());
                }
                tracing::info!(lender = self.lender.monitor.lender, "reconciled: {reconciled}");
                let _ = answer.send(reconciled);
            }
        }
        ControlFlow::Continue(())
    }
}
