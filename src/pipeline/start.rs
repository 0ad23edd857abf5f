//! How does a lender start? Restored, fenced, read to the end, checked against its record and claimed, or refused with the way on.
//!
//! The order is that of docs/delivery.md, "Starting". Lenders that start together share the long reading, which disturbs nobody; then
//! a few at a time are fenced, read on and claimed, so that what it has not come to yet goes on where it runs.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::candidate::{Candidate, Starter, may_pass, patience};
use super::changes::ChangeRecorder;
use super::claim::{Claim, Unclaimed, claim_of, key_of, others_age, refuse_live_elsewhere};
use super::images::{Fences, Images};
use super::lender::LenderSettings;
use super::main_loop::Pipeline;
use super::start_error::StartError;
use crate::avro::{ACCOUNT, WriterSchema};
use crate::backoff::Patience;
use crate::exit::{Diagnosis, chain};
use crate::failpoint;
use crate::kafka::{self, TopicReader};
use crate::progress::Timestamp;
use crate::sink::{CursorRecords, KeptClients, SinkError, Transactions, Watchers};

/// A lender that waits for its claim, and who hears of it.
struct Queued<R> {
    candidate: Candidate,
    reply: R,
    /// Before it was to start.
    was_held: bool,
    /// What became of fencing it, where it was.
    fenced: Option<Fenced>,
    /// How often who ran it went on after that.
    taken_back: u32,
}

struct Fenced {
    transactions: Result<Transactions, SinkError>,
    /// The number of that.
    number: Fences,
    at: Instant,
}

/// So many are fenced side by side, and then claimed one after another: making a producer takes many times what a claim takes. Each
/// stands still meanwhile, where another process runs it.
const SIDE_BY_SIDE: usize = 32;

/// Who was fenced looks for a claim for 15 s, and then goes on. Of what was fenced so long ago, nobody can say any more.
const FENCED_FOR: Duration = Duration::from_secs(5);

/// So often a start fences anew who fenced it in turn.
const TIMES_TAKEN_BACK: u32 = 3;

impl Starter {
    /// Starts lenders together; blocks. `done` gets each as soon as it is decided, with what came with it: one that is claimed runs
    /// at once, and one that is refused does not hold back the others. `more`: those that are ready by then, asked for where one of
    /// them may have to be fenced before the first ones can go on.
    pub(crate) fn start<R: Send>(
        &self,
        images: &mut Images,
        candidates: Vec<(Candidate, R)>,
        mut more: impl FnMut() -> Vec<(Candidate, R)>,
        mut done: impl FnMut(R, Result<Pipeline, StartError>),
    ) {
        let begun = Instant::now();
        let mut newcomers: Vec<Queued<R>> = candidates.into_iter().map(Queued::new).collect();
        let (mut waiting, fences) = (VecDeque::new(), Cell::new(0));
        // While one lender follows another.
        let mut clients: Vec<KeptClients> = Vec::new();
        loop {
            if !newcomers.is_empty() {
                let cursors = newcomers.iter().map(Queued::cursors);
                clients.extend(cursors.map(|topic| self.cursors.of(topic).keep_clients()));
                self.admit(images, &mut waiting, std::mem::take(&mut newcomers), &mut done);
            }
            let Some(mut next) = waiting.pop_front() else {
                break;
            };
            if let Err(error) = images.check(&next.candidate.lender) {
                done(next.reply, Err(error));
                continue;
            }
            let fenced = next
                .fenced
                .take_if(|fenced| fenced.transactions.is_err() || fenced.at.elapsed() < FENCED_FOR);
            let Some(fenced) = fenced else {
                next.fenced = None;
                waiting.push_front(next);
                self.fence_some(&mut waiting, &fences);
                continue;
            };
            let transactions = match fenced.transactions {
                Ok(transactions) => transactions,
                Err(error) => {
                    done(next.reply, Err(error.into()));
                    continue;
                }
            };
            failpoint::reach("after_fence");
            // What a killed instance left open ends by fencing its lender, whichever that is.
            let hidden = &mut || {
                newcomers.extend(more().into_iter().map(Queued::new));
                let lenders = waiting.iter_mut().chain(self.free_ones(&mut newcomers));
                let unfenced: Vec<_> = lenders.filter(|lender| lender.fenced.is_none()).collect();
                if !unfenced.is_empty() {
                    tracing::info!(
                        "an open transaction hides the end of a topic: fencing all lenders that are to start"
                    );
                    self.fence_all(unfenced.into_iter(), patience(), &fences);
                }
            };
            let read = images.read_on(&next.candidate.lender, [fenced.number, fences.get()], hidden);
            let lender = &next.candidate.lender;
            let started = match read {
                Ok(()) if next.was_held && !images.is_proven(lender) => None,
                Err(error) => Some(Err(error.into())),
                Ok(()) => Some(self.claim(&next.candidate, transactions, images)),
            };
            let started = match started {
                Some(Err(Unclaimed::TakenBack(left))) if next.taken_back < TIMES_TAKEN_BACK => {
                    let lender = &lender.lender;
                    tracing::warn!(lender, "who ran it went on before the claim: fenced and read on anew");
                    images.take_back(&next.candidate.lender, *left);
                    (next.was_held, next.taken_back) = (true, next.taken_back + 1);
                    waiting.push_front(next);
                    // Where it could not be taken back, it is read.
                    images.restore(waiting.iter().map(|lender| &lender.candidate.lender), patience());
                    continue;
                }
                started => started.map(|started| started.map_err(StartError::from)),
            };
            let started = match started {
                Some(Err(error)) if next.was_held && error.may_be_of_what_was_held() => {
                    let (lender, code) = (&lender.lender, error.code());
                    tracing::warn!(lender, %code, "what was held of it is read anew: {}", chain(&error));
                    None
                }
                started => started,
            };
            let Some(started) = started else {
                // What was followed is never a reason to refuse, nor taken for right where nothing tells.
                images.forget_lender(lender);
                waiting.push_front(next);
                waiting.iter_mut().for_each(|lender| lender.was_held = false);
                images.restore(waiting.iter().map(|lender| &lender.candidate.lender), patience());
                continue;
            };
            if let Ok((account_count, epoch, _)) = &started {
                let (lender, took) = (&lender.lender, begun.elapsed());
                tracing::info!(lender, account_count, ?took, epoch, "claimed and restored");
            }
            done(next.reply, started.map(|(.., pipeline)| pipeline));
        }
    }

    /// Restores what is not held of newcomers, and has them wait, but for those that others run who are waited for.
    fn admit<R>(
        &self,
        images: &mut Images,
        waiting: &mut VecDeque<Queued<R>>,
        mut newcomers: Vec<Queued<R>>,
        done: &mut impl FnMut(R, Result<Pipeline, StartError>),
    ) {
        for lender in &mut newcomers {
            lender.was_held = images.account_count(&lender.candidate.lender).is_some();
        }
        let lenders = waiting.iter().chain(&newcomers);
        images.restore(lenders.map(|lender| &lender.candidate.lender), patience());
        failpoint::reach("after_restore");
        for lender in newcomers {
            // Who was asked for before it was fenced is not asked for again.
            let refused = match &lender.fenced {
                Some(_) => Ok(()),
                None => images
                    .cursors(&lender.candidate.lender)
                    .and_then(|records| self.refuse_others(records, &lender.candidate)),
            };
            match refused {
                Ok(()) => waiting.push_back(lender),
                Err(error) => done(lender.reply, Err(error)),
            }
        }
    }

    /// # Errors
    /// When somebody shows life who is waited for.
    fn refuse_others(
        &self,
        records: &CursorRecords,
        Candidate { lender, waits_for, .. }: &Candidate,
    ) -> Result<(), StartError> {
        let Some(among) = *waits_for else {
            return Ok(());
        };
        let key = key_of(&self.config, &lender.lender, &lender.public_id);
        let hides = |partition| self.hides_end(&lender.topics.cursor.name, partition);
        match others_age(&self.config, among, records, &key, hides)? {
            Some(age) => Err(StartError::LivesOutside { age }),
            None => Ok(()),
        }
    }

    /// Those of the newcomers that may be fenced at once: of the others somebody may show life, or that is not known now.
    fn free_ones<'q, R>(&self, newcomers: &'q mut [Queued<R>]) -> impl Iterator<Item = &'q mut Queued<R>> {
        let mut looked: HashMap<String, Option<Arc<CursorRecords>>> = HashMap::new();
        let unfenced = newcomers.iter_mut().filter(|lender| lender.fenced.is_none());
        unfenced.filter(move |lender| {
            let records = looked
                .entry(lender.cursors().clone())
                .or_insert_with_key(|topic| self.cursors.of(topic).look(&self.shutdown).ok());
            let records = records.as_ref();
            records.is_some_and(|records| self.refuse_others(records, &lender.candidate).is_ok())
        })
    }

    /// Whether an open transaction hides the end of a partition.
    fn hides_end(&self, topic: &str, partition: i32) -> Result<bool, SinkError> {
        self.patiently(patience(), || {
            let reader = TopicReader::new(&self.cluster)?;
            Ok(reader.hides_end(topic, partition)?)
        })
    }

    /// Fences the next ones. What does not get through at once may last: then all wait for it once.
    fn fence_some<R: Send>(&self, waiting: &mut VecDeque<Queued<R>>, fences: &Cell<Fences>) {
        let side_by_side = failpoint::fewer("D02_TEST_SIDE_BY_SIDE", SIDE_BY_SIDE);
        self.fence_all(waiting.iter_mut().take(side_by_side), Patience::Once, fences);
        let is_to_wait = |lender: &&mut Queued<R>| {
            let failed = lender
                .fenced
                .as_ref()
                .and_then(|fenced| fenced.transactions.as_ref().err());
            failed.is_some_and(|error| may_pass(&self.denials.anew(), error))
        };
        let failed: Vec<_> = waiting.iter_mut().filter(is_to_wait).collect();
        if failed.is_empty() || self.shutdown.is_requested() {
            return;
        }
        failed.into_iter().for_each(|lender| lender.fenced = None);
        self.fence_all(waiting.iter_mut(), patience(), fences);
    }

    /// Fences, side by side, those of `lenders` that are not yet.
    fn fence_all<'q, R: Send + 'q>(
        &self,
        lenders: impl Iterator<Item = &'q mut Queued<R>>,
        patience: Patience,
        fences: &Cell<Fences>,
    ) {
        // Whoever reads from now on, reads behind them only once all are fenced.
        let number = fences.get() + 1;
        std::thread::scope(|scope| {
            for lender in lenders.filter(|lender| lender.fenced.is_none()) {
                let (candidate, fenced) = (&lender.candidate, &mut lender.fenced);
                scope.spawn(move || {
                    *fenced = Some(Fenced {
                        transactions: self.fence(candidate, patience),
                        number,
                        at: Instant::now(),
                    });
                });
            }
        });
        fences.set(number);
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
        let lender = &candidate.lender;
        let key = key_of(&self.config, &lender.lender, &lender.public_id);
        let id = format!("{}.{}", self.config.name, lender.public_id);
        let (cluster, topics) = (self.cluster.clone(), lender.topics.clone());
        let cursors = self.cursors.of(&topics.cursor.name);
        let watched = Watchers {
            metrics: lender.metrics.clone(),
            pulse: candidate.pulse.clone(),
        };
        let shutdown = candidate.shutdown.clone();
        let mut transactions = Transactions::new(cluster, cursors, id, topics, key, shutdown, watched)?;
        self.patiently(patience, || {
            let result = transactions.init();
            if result.is_err() {
                transactions.replace_producer()?;
            }
            result
        })?;
        Ok(transactions)
    }

    /// Commits a claim; gives the number of accounts and the epoch, too.
    fn claim(
        &self,
        candidate: &Candidate,
        transactions: Transactions,
        images: &mut Images,
    ) -> Result<(usize, u64, Pipeline), Unclaimed> {
        let claim = self.prepare_claim(candidate, transactions, images)?;
        let (account_count, epoch) = (claim.account_count(), claim.epoch());
        Ok((account_count, epoch, claim.commit(&self.denials.anew())?))
    }

    /// The record just read with this instance's id and the next epoch, where it fits what was restored.
    fn prepare_claim(
        &self,
        candidate: &Candidate,
        transactions: Transactions,
        images: &mut Images,
    ) -> Result<Claim, StartError> {
        // Reading on goes on for a while when the process is to end.
        self.go_on(candidate)?;
        let lender = &candidate.lender;
        let key = transactions.key().clone();
        let base_url = self.config.upstream.base_url.to_string();
        let records = images.cursors(lender)?;
        refuse_live_elsewhere(&key, &base_url, self.config.transaction.heartbeat_interval, records)?;
        let committed = records.committed(&key)?;
        let partitions = self.patiently(patience(), || transactions.partitions())?;
        let record = claim_of(committed, &self.claimant, base_url, partitions)?;
        let start_from = self.config.lenders[&lender.lender].start_from;
        let settings = LenderSettings {
            lender: &lender.lender,
            public_id: &lender.public_id,
            changes: lender
                .frames
                .change
                .map(|frame| ChangeRecorder::new(frame, self.config.changes.initial)),
            errors: &self.config.errors,
            transaction: &self.config.transaction,
            late_window: self.config.upstream.late_window,
            poll_interval: self.config.upstream.poll_interval,
            start_from: start_from.map(Timestamp::from),
            schema: WriterSchema::of(lender.frames.account, &ACCOUNT),
            republish: self.republish.clone(),
            metrics: lender.metrics.clone(),
            pulse: candidate.pulse.clone(),
            shutdown: candidate.shutdown.clone(),
            phase: candidate.phase,
        };
        let (held, dead_letters) = images.lender(lender)?;
        Claim::new(transactions, record, held, dead_letters, settings)
    }
}

impl<R> Queued<R> {
    fn new((candidate, reply): (Candidate, R)) -> Self {
        Self {
            candidate,
            reply,
            was_held: false,
            fenced: None,
            taken_back: 0,
        }
    }

    /// The topic of its cursor record.
    fn cursors(&self) -> &String {
        &self.candidate.lender.topics.cursor.name
    }
}
