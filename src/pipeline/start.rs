//! How does a lender start? Restored, fenced, read to the end, checked against its record and claimed, or refused with the way on.
//!
//! The order is that of docs/delivery.md, "Starting". Lenders that start together share the long reading, which disturbs nobody; then
//! each is fenced and claimed by itself, so that what is not claimed yet goes on where it runs.

use std::collections::VecDeque;

use tokio::time::Instant;

use super::candidate::{Candidate, PATIENCE, Starter, may_pass};
use super::changes::ChangeRecorder;
use super::claim::{Claim, StartError, claim_of, key_of, refuse_live_elsewhere};
use super::images::Images;
use super::lender::LenderSettings;
use super::main_loop::Pipeline;
use crate::avro::{ACCOUNT, WriterSchema};
use crate::backoff::Patience;
use crate::failpoint;
use crate::kafka;
use crate::progress::Timestamp;
use crate::sink::{SinkError, Transactions, Watchers};

/// A lender that waits for its claim, and who hears of it.
struct Queued<R> {
    candidate: Candidate,
    reply: R,
    /// What became of fencing it, where it was.
    fenced: Option<Result<Transactions, SinkError>>,
}

impl Starter {
    /// Starts lenders together; blocks. `done` gets each as soon as it is decided, with what came with it: one that is claimed runs
    /// at once, and one that is refused does not hold back the others.
    pub(crate) fn start<R: Send>(
        &self,
        candidates: Vec<(Candidate, R)>,
        mut done: impl FnMut(R, Result<Pipeline, StartError>),
    ) {
        let begun = Instant::now();
        let mut images = Images::restore(self, candidates.iter().map(|(candidate, _)| candidate));
        failpoint::reach("after_restore");
        let mut waiting: VecDeque<Queued<R>> = candidates.into_iter().map(Queued::from).collect();
        while let Some(mut next) = waiting.pop_front() {
            if let Err(error) = images.check(&next.candidate) {
                done(next.reply, Err(error));
                continue;
            }
            if next.fenced.is_none() {
                let fenced = self.fence(&next.candidate, Patience::Once);
                let may_pass = |error: &SinkError| may_pass(&self.denials.anew(), error);
                if fenced.as_ref().is_err_and(may_pass) && !self.shutdown.is_requested() {
                    // It may last: side by side they wait for it once.
                    waiting.push_front(next);
                    self.fence_all(&mut waiting);
                    continue;
                }
                next.fenced = Some(fenced);
            }
            let Some(Ok(transactions)) = next.fenced.take_if(|fenced| fenced.is_ok()) else {
                let error = next.fenced.and_then(Result::err);
                let error = error.unwrap_or(SinkError::Kafka(kafka::Error::Interrupted));
                done(next.reply, Err(error.into()));
                continue;
            };
            failpoint::reach("after_fence");
            // What a killed instance left open ends by fencing its lender, whichever that is.
            let hidden = &mut || {
                if waiting.iter().any(|lender| lender.fenced.is_none()) {
                    tracing::info!(
                        "an open transaction hides the end of a topic: fencing all lenders that are to start"
                    );
                    self.fence_all(&mut waiting);
                }
            };
            let read = images.read_on(&next.candidate, hidden);
            let started = read.and_then(|()| self.claim(&next.candidate, transactions, &mut images));
            if let Ok((account_count, epoch, _)) = &started {
                let (lender, took) = (&next.candidate.lender, begun.elapsed());
                tracing::info!(lender, account_count, ?took, epoch, "claimed and restored");
            }
            done(next.reply, started.map(|(.., pipeline)| pipeline));
        }
    }

    /// Fences, side by side, those that are not yet.
    fn fence_all<R: Send>(&self, waiting: &mut VecDeque<Queued<R>>) {
        std::thread::scope(|scope| {
            for lender in waiting.iter_mut().filter(|lender| lender.fenced.is_none()) {
                let (candidate, fenced) = (&lender.candidate, &mut lender.fenced);
                scope.spawn(move || *fenced = Some(self.fence(candidate, PATIENCE)));
            }
        });
    }

    /// # Errors
    /// When the process is to end, or the lender is to be given up.
    fn go_on(&self, candidate: &Candidate) -> Result<(), SinkError> {
        match candidate.shutdown.is_requested() || self.shutdown.is_requested() {
            true => Err(kafka::Error::Interrupted.into()),
            false => Ok(()),
        }
    }

    /// Makes a lender's producer and fences its predecessors.
    fn fence(&self, candidate: &Candidate, patience: Patience) -> Result<Transactions, SinkError> {
        self.go_on(candidate)?;
        let key = key_of(&self.config, &candidate.lender, &candidate.public_id);
        let id = format!("{}.{}", self.config.name, candidate.public_id);
        let (cluster, topics) = (self.cluster.clone(), candidate.topics.clone());
        let watched = Watchers {
            metrics: candidate.metrics.clone(),
            pulse: candidate.pulse.clone(),
        };
        let mut transactions = Transactions::new(cluster, id, topics, key, candidate.shutdown.clone(), watched)?;
        self.patiently(patience, || {
            let result = transactions.init();
            if result.is_err() {
                transactions.replace_producer()?;
            }
            result
        })?;
        Ok(transactions)
    }

    /// Commits the record just read with this instance's id and the next epoch, where it fits what was restored; gives the number of
    /// accounts and the epoch, too.
    fn claim(
        &self,
        candidate: &Candidate,
        transactions: Transactions,
        images: &mut Images<'_>,
    ) -> Result<(usize, u64, Pipeline), StartError> {
        // Reading on goes on for a while when the process is to end.
        self.go_on(candidate)?;
        let key = transactions.key().clone();
        let base_url = self.config.upstream.base_url.to_string();
        let records = images.cursors(candidate)?;
        refuse_live_elsewhere(&key, &base_url, self.config.transaction.heartbeat_interval, records)?;
        let committed = records.committed(&key)?;
        let partitions = self.patiently(PATIENCE, || transactions.partitions())?;
        let record = claim_of(committed, &self.claimant, base_url, partitions)?;
        let start_from = self.config.lenders[&candidate.lender].start_from;
        let settings = LenderSettings {
            lender: &candidate.lender,
            public_id: &candidate.public_id,
            changes: candidate
                .frames
                .change
                .map(|frame| ChangeRecorder::new(frame, self.config.changes.initial)),
            errors: &self.config.errors,
            transaction: &self.config.transaction,
            late_window: self.config.upstream.late_window,
            poll_interval: self.config.upstream.poll_interval,
            start_from: start_from.map(Timestamp::from),
            schema: WriterSchema::of(candidate.frames.account, &ACCOUNT),
            republish: self.republish.clone(),
            metrics: candidate.metrics.clone(),
            pulse: candidate.pulse.clone(),
            shutdown: candidate.shutdown.clone(),
        };
        let (held, dead_letters) = images.lender(candidate)?;
        let claim = Claim::new(transactions, record, held, dead_letters, settings)?;
        let (account_count, epoch) = (claim.account_count(), claim.epoch());
        Ok((account_count, epoch, claim.commit(&self.denials.anew())?))
    }
}

impl<R> From<(Candidate, R)> for Queued<R> {
    fn from((candidate, reply): (Candidate, R)) -> Self {
        Self {
            candidate,
            reply,
            fenced: None,
        }
    }
}
