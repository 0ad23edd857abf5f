//! The loop: take the next pages, already encoded; keep what is news; commit records and progress together; remember.
//!
//! One OS thread a lender owns index, progress and producer. A row is decided when the commit before it is known.

use std::convert::Infallible;
use std::ops::ControlFlow;

use tokio::sync::watch;
use tokio::time::Instant;

use super::batch::Batch;
use super::inbox::{Inbox, Next};
use super::lender::LenderParts;
use super::ownership::{Outcome, Ownership};
use super::plan::{Holdings, Plan};
use super::reconcile::{Deletion, Reconciliation};
use super::stop::StopReason;
use crate::backoff::Backoff;
use crate::clock::Tick;
use crate::failpoint::{self, Rule};
use crate::progress::{Progress, Record};
use crate::reader::Incoming;
use crate::sink::{Sink, Transactions};

/// One lender, claimed and restored.
pub(crate) struct Pipeline<S = Transactions> {
    lender: LenderParts<S>,
    /// The cursor record as committed.
    record: Record,
    holdings: Holdings,
    ownership: Ownership,
    /// When the last transaction was; the next heartbeat is counted from it.
    committed_at: Instant,
    reconciliation: Reconciliation,
}

impl<S: Sink> Pipeline<S> {
    pub(super) fn new(lender: LenderParts<S>, record: Record, holdings: Holdings) -> Self {
        lender.monitor.show(&holdings.index, &record.progress);
        Self {
            ownership: Ownership::new(&lender),
            committed_at: Instant::now(),
            reconciliation: Reconciliation::default(),
            lender,
            record,
            holdings,
        }
    }

    /// What is committed, from now on.
    pub(crate) fn committed(&self) -> watch::Receiver<Progress> {
        self.lender.monitor.progress()
    }

    /// Runs the lender until it is asked to end, cannot go on, or has caught up, and releases it. Awaits what is read, but blocks
    /// while it commits: for a thread of its own.
    pub(crate) async fn run(mut self, incoming: Incoming) -> StopReason {
        let ControlFlow::Break(stop) = self.read_on(Inbox::new(incoming)).await;
        let public_id = &self.lender.decider.public_id;
        self.ownership.end(&self.lender.sink, &self.record, public_id, &stop);
        stop
    }

    async fn read_on(&mut self, mut inbox: Inbox) -> ControlFlow<StopReason, Infallible> {
        loop {
            let batch = match inbox.next(&mut self.lender, self.committed_at).await {
                Next::Batch(batch) => batch, // pages, already verified and encoded; none: a heartbeat
                Next::Ask(ask) => {
                    let (index, max_rows) = (&mut self.holdings.index, self.lender.settings.max_rows);
                    if let Some(deletion) = self.reconciliation.answer(ask, index, max_rows) {
                        self.delete(deletion).await?;
                    }
                    continue;
                }
                Next::Stop(stop) => return ControlFlow::Break(stop),
            };
            self.ownership.look_at_topics(&self.lender.sink, &self.record)?;
            let mut plan = self.commit(&batch).await?;
            let refused = plan.refused.take();
            self.remember(plan, 0);
            self.lender.monitor.note_progress(&batch);
            self.reconciliation.see(&batch, &mut self.holdings.index);
            if let Some(refused) = refused {
                return ControlFlow::Break(refused.into());
            }
        }
    }

    /// Commits what of a batch is news, with its progress; returns once it is known to have landed. What changes nothing is left
    /// to the next heartbeat: an idle poll would commit what stands there already.
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
        self.lender.monitor.show(&self.holdings.index, &self.record.progress);
    }

    /// Commits what a reconciliation deletes.
    async fn delete(&mut self, mut deletion: Deletion) -> ControlFlow<StopReason> {
        for item in std::mem::take(&mut deletion.items) {
            if self.lender.shutdown.is_requested() {
                return ControlFlow::Continue(());
            }
            let batch = Batch::of(item);
            let plan = self.commit(&batch).await?;
            self.remember(plan, deletion.client.tick());
        }
        deletion.done(&self.lender.monitor.lender);
        ControlFlow::Continue(())
    }
}
