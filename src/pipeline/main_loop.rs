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
use super::ownership::Ownership;
use super::plan::{Holdings, Left};
use super::reconcile::{Deletion, Reconciliation};
use super::stop::StopReason;
use crate::avro::WriterSchema;
use crate::progress::{Progress, Record};
use crate::reader::Incoming;
use crate::sink::{Sink, Transactions};

/// One lender, claimed and restored.
pub(crate) struct Pipeline<S = Transactions> {
    pub(super) lender: LenderParts<S>,
    /// The cursor record as committed.
    pub(super) record: Record,
    pub(super) holdings: Holdings,
    pub(super) ownership: Ownership,
    /// When the last transaction was; the next heartbeat is counted from it.
    pub(super) committed_at: Instant,
    pub(super) reconciliation: Reconciliation,
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

    /// How many accounts stand under which schema.
    pub(crate) fn schemas(&self) -> Vec<(WriterSchema, u64)> {
        self.holdings.index.schemas()
    }

    /// Runs the lender until it is asked to end, cannot go on, or has caught up, and releases it. Awaits what is read, but blocks
    /// while it commits: for a thread of its own. Gives what it held, too, where it is released, and what it worked with.
    pub(crate) async fn run(mut self, incoming: Incoming) -> (StopReason, Option<Left>, impl Sized) {
        let ControlFlow::Break(stop) = self.read_on(Inbox::new(incoming)).await;
        self.lender.say_left(&self.holdings.index);
        let public_id = &self.lender.decider.public_id;
        let is_released = self.ownership.end(&self.lender.sink, &self.record, public_id, &stop);
        let left = is_released.then(|| self.holdings.left_behind());
        (stop, left, self.lender)
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
            let left = self.commit(batch, 0).await?;
            inbox.put_back(left);
        }
    }

    /// Commits what a reconciliation deletes.
    async fn delete(&mut self, mut deletion: Deletion) -> ControlFlow<StopReason> {
        while let Some(item) = deletion.batches.pop() {
            if self.lender.shutdown.is_requested() {
                return ControlFlow::Continue(());
            }
            let left = self.commit(Batch::of(item), deletion.client.tick()).await?;
            deletion.batches.put_back(left);
        }
        deletion.done(&self.lender.monitor.lender);
        ControlFlow::Continue(())
    }
}
