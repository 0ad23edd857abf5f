//! How is a batch committed? Decided, written, and tried again until it is known to have landed; the less of it the longer Kafka
//! takes.

use std::ops::ControlFlow;

use tokio::time::Instant;

use super::batch::Batch;
use super::lender::LenderParts;
use super::main_loop::Pipeline;
use super::ownership::Outcome;
use super::plan::Plan;
use super::stop::StopReason;
use crate::backoff::Backoff;
use crate::clock::Tick;
use crate::exit::ErrorCode;
use crate::failpoint::{self, Rule};
use crate::kafka::delivery_timeout;
use crate::policy;
use crate::sink::Sink;

/// The code of a page that does not get through alone.
const TOO_LARGE_A_PAGE: ErrorCode = ErrorCode::K24;

impl<S: Sink> Pipeline<S> {
    /// Commits what of a batch is news, with its progress, and remembers it; returns once it is known to have landed, with what
    /// of the batch was too much for one transaction. What changes nothing is left to the next heartbeat: an idle poll would
    /// commit what stands there already.
    ///
    /// `now`: what is requested later shows what comes after a deletion.
    pub(super) async fn commit(&mut self, mut batch: Batch, now: Tick) -> ControlFlow<StopReason, Batch> {
        let is_heartbeat = Instant::now() >= self.lender.heartbeat_at(self.committed_at);
        let (begun, mut backoff, mut left) = (Instant::now(), Backoff::default(), Batch::default());
        let mut is_broken = false;
        let mut plan = loop {
            let mut plan = self.plan(&batch); // every row against the index: is it news?
            if !is_heartbeat && !plan.changes(&self.record) {
                break plan;
            }
            if is_broken {
                plan.lose_rows(&self.holdings.index);
            }
            let LenderParts { sink, decider, .. } = &mut self.lender;
            let (record, written) = (plan.record(&self.record), Instant::now());
            if let Err(error) = sink.commit(&plan.records, &record, &decider.public_id) {
                let records = [&self.record, &record];
                let outcome = self.ownership.reopen(sink, &error, records, &mut backoff).await?;
                if outcome == Outcome::NotLanded {
                    drop(plan); // nothing of it is there
                    if self.lender.shutdown.is_requested() {
                        // The next start reads it again.
                        return ControlFlow::Break(StopReason::as_asked());
                    }
                    if policy::is_too_slow(&error) {
                        left.put_back(self.shrink(&mut batch, &backoff));
                    }
                    is_broken = failpoint::is_broken(Rule::RowsWithTheirMarks);
                    continue;
                }
            } else {
                let took = written.elapsed();
                self.lender.batch_size.note(batch.row_count, took, delivery_timeout());
            }
            (self.record, self.committed_at) = (record, Instant::now());
            self.lender.monitor.committed(&plan, &self.record, begun.elapsed());
            break plan;
        };
        let refused = plan.refused.take();
        self.remember(plan, now);
        self.lender.monitor.note_progress(&batch);
        self.reconciliation.see(&batch, &mut self.holdings.index);
        match refused {
            Some(refused) => ControlFlow::Break(refused.into()),
            None => ControlFlow::Continue(left),
        }
    }

    /// What did not get through in time is tried by halves; gives the other one.
    fn shrink(&mut self, batch: &mut Batch, backoff: &Backoff) -> Batch {
        let tried = batch.row_count;
        if tried == 0 {
            return Batch::default(); // a heartbeat is no less than that
        }
        let left = batch.cut(self.lender.batch_size.shrink(tried));
        if backoff.is_worth_a_line() {
            let (lender, rows) = (&self.lender.monitor.lender, batch.row_count);
            if left.items.is_empty() {
                tracing::warn!(
                    lender,
                    rows,
                    code = %TOO_LARGE_A_PAGE,
                    advice =
                        "have the quota raised, or lower upstream.page_size and start again: a page is written as a whole",
                    "a transaction of one page did not get through in time"
                );
            } else {
                tracing::warn!(
                    lender,
                    rows,
                    "a transaction of {tried} rows did not get through in time: fewer are tried"
                );
            }
        }
        left
    }

    fn plan<'a>(&self, batch: &'a Batch) -> Plan<'a> {
        let allowance = self.lender.limit.allowance(Instant::now());
        let LenderParts { decider, .. } = &self.lender;
        decider.plan(&self.holdings, &self.record.progress, allowance, batch.items.iter())
    }

    /// Makes a committed plan part of what is held.
    fn remember(&mut self, plan: Plan<'_>, now: Tick) {
        failpoint::reach("before_remember");
        self.lender.monitor.tell(&plan);
        self.lender.limit.note(plan.dead_letters.len() as u64, Instant::now());
        self.holdings.remember(plan, now);
        self.lender.monitor.show(&self.holdings.index, &self.record.progress);
    }
}
