//! Which lenders start together, and which are followed until they may? Those that are ready at the same time share the reading.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::candidate::{Candidate, Restorable, Starter};
use super::images::Images;
use super::main_loop::Pipeline;
use super::plan::Left;
use super::start_error::StartError;
use crate::backoff::{Backoff, Patience};
use crate::exit::{Diagnosis, chain};

/// The longest that lenders which are ready wait for the logins of the others, to share the reading of the topics.
const GROUP_WAIT: Duration = Duration::from_secs(10);

/// The same where only those come that the group gives to this process, each when it does.
const GIVEN_WAIT: Duration = Duration::from_secs(1);

/// How often what is followed is read on.
const FOLLOW: Duration = Duration::from_secs(1);

/// The longest pause after a failure to do so.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// For others that are given to this process together with one: they come within a moment, and share the reading.
const TOGETHER_WAIT: Duration = Duration::from_millis(100);

/// What stays wrong is said again after so long.
const SAID_FOR: Duration = Duration::from_secs(60);

/// What is to be done for a lender.
pub(crate) enum Wanted {
    Start(ToStart),
    /// It may be started later: what its topics hold is read, and read on all the time. What it held may be known.
    StandBy(Restorable, Option<Box<Left>>),
}

/// A lender that is ready to be started, and who waits for it.
pub(crate) struct ToStart {
    pub candidate: Candidate,
    pub started: oneshot::Sender<Result<Pipeline, StartError>>,
}

impl ToStart {
    /// The candidate, and what is told apart from it.
    fn with_lender(self) -> (Candidate, (Restorable, oneshot::Sender<Result<Pipeline, StartError>>)) {
        let lender = self.candidate.lender.clone();
        (self.candidate, (lender, self.started))
    }
}

impl Wanted {
    fn lender(&self) -> &str {
        match self {
            Self::Start(ToStart { candidate, .. }) => &candidate.lender.lender,
            Self::StandBy(lender, _) => &lender.lender,
        }
    }
}

/// Starts those together that are ready together, and follows those that stand by. `was_read` hears when that was done for the first
/// time.
pub(crate) async fn start_in_groups(
    starter: Arc<Starter>,
    wanted: mpsc::UnboundedReceiver<Wanted>,
    was_read: oneshot::Sender<()>,
    lender_count: usize,
) {
    let is_alone = starter.claimant.group.is_none();
    let first_wait = match is_alone || starter.stands_by_warm() {
        true => GROUP_WAIT,
        false => GIVEN_WAIT,
    };
    let mut held = Followed::new(starter, Queue { wanted, put_back: None });
    let mut was_read = Some(was_read);
    loop {
        let first = if held.standing_by.is_empty() {
            held.queue.next().await
        } else {
            match tokio::time::timeout(FOLLOW, held.queue.next()).await {
                Ok(first) => first,
                Err(_) => {
                    held = blocking(held, Followed::follow).await;
                    continue;
                }
            }
        };
        let Some(first) = first else { return };
        let (begun, is_first) = (Instant::now(), was_read.is_some());
        let wait = match &first {
            _ if is_first => first_wait,
            Wanted::Start(_) => TOGETHER_WAIT,
            Wanted::StandBy(..) => Duration::ZERO,
        };
        let mut lenders = BTreeSet::from([first.lender().to_owned()]);
        let mut group = vec![first];
        loop {
            let is_whole = lenders.len() >= lender_count;
            if is_whole && is_first {
                break;
            }
            // What is there already is taken in any case.
            let until = if is_whole { begun } else { begun + wait };
            match tokio::time::timeout_at(until, held.queue.next()).await {
                Ok(Some(next)) => {
                    lenders.insert(next.lender().to_owned());
                    group.push(next);
                }
                Ok(None) | Err(_) => break,
            }
        }
        held = blocking(held, |held| held.take(group)).await;
        if let Some(was_read) = was_read.take() {
            // Who is no member does not ask.
            let _ = was_read.send(());
        }
    }
}

async fn blocking(mut held: Followed, work: impl FnOnce(&mut Followed) + Send + 'static) -> Followed {
    let done = tokio::task::spawn_blocking(move || {
        work(&mut held);
        held
    });
    done.await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// What failed, and when it is tried again.
struct Retries {
    backoff: Backoff,
    not_before: Instant,
}

impl Retries {
    /// Of what has not failed.
    fn new() -> Self {
        Self {
            backoff: Backoff::default(),
            not_before: Instant::now(),
        }
    }

    fn are_due(&self) -> bool {
        Instant::now() >= self.not_before
    }

    /// It failed once more; gives how long it is not tried now, `longest` at most.
    fn wait(&mut self, longest: Duration) -> Duration {
        let wait = self.backoff.next(None).min(longest);
        self.not_before = Instant::now() + wait;
        wait
    }
}

/// What is wanted, in order.
struct Queue {
    wanted: mpsc::UnboundedReceiver<Wanted>,
    /// The next one, which was looked at too early.
    put_back: Option<Wanted>,
}

impl Queue {
    /// `None`: nothing will come any more.
    async fn next(&mut self) -> Option<Wanted> {
        match self.put_back.take() {
            Some(next) => Some(next),
            None => self.wanted.recv().await,
        }
    }

    /// Those that are to be started and come next.
    fn next_starts(&mut self) -> Vec<ToStart> {
        let mut starts = Vec::new();
        while self.put_back.is_none() {
            match self.wanted.try_recv() {
                Ok(Wanted::Start(start)) => starts.push(start),
                Ok(other) => self.put_back = Some(other),
                Err(_) => break,
            }
        }
        starts
    }
}

/// What is held of lenders that this process does not run.
struct Followed {
    starter: Arc<Starter>,
    queue: Queue,
    images: Images,
    /// Those that stand by, by their keys in the configuration.
    standing_by: BTreeMap<String, Restorable>,
    restoring: Retries,
    following: Retries,
    /// When it was said that nothing could be read on.
    failed_at: Option<Instant>,
}

impl Followed {
    fn new(starter: Arc<Starter>, queue: Queue) -> Self {
        Self {
            images: Images::new(Arc::clone(&starter)),
            starter,
            queue,
            standing_by: BTreeMap::new(),
            restoring: Retries::new(),
            following: Retries::new(),
            failed_at: None,
        }
    }

    /// Does what is wanted of lenders, in order.
    fn take(&mut self, group: Vec<Wanted>) {
        let mut to_start = Vec::new();
        for wanted in group {
            match wanted {
                Wanted::StandBy(lender, left) => {
                    if let Some(left) = left {
                        self.images.take_back(&lender, *left);
                    }
                    self.standing_by.insert(lender.lender.clone(), lender);
                }
                Wanted::Start(start) => to_start.push(start.with_lender()),
            }
        }
        if to_start.is_empty() {
            self.restore();
            self.show_held();
            return;
        }
        let (starter, queue) = (Arc::clone(&self.starter), &mut self.queue);
        let more = || queue.next_starts().into_iter().map(ToStart::with_lender).collect();
        let mut decided = Vec::new();
        starter.start(&mut self.images, to_start, more, |(lender, started), result| {
            // Its supervisor waits for nothing else.
            let _ = started.send(result);
            decided.push(lender);
        });
        for lender in decided {
            if self.images.account_count(&lender).is_none() {
                self.standing_by.remove(&lender.lender);
                show(&lender, None);
            }
        }
        if !self.starter.stands_by_warm() {
            // Nobody is followed, and nothing comes back.
            self.images = Images::new(Arc::clone(&self.starter));
        } else if self.standing_by.is_empty() {
            self.images.disconnect();
        }
    }

    /// Reads what is not held of those that stand by.
    fn restore(&mut self) {
        let are_held = |lender: &Restorable| self.images.holds(lender);
        if self.standing_by.values().all(are_held) || !self.restoring.are_due() {
            return;
        }
        self.images.restore(self.standing_by.values(), Patience::Once);
        let mut failures = self.images.failures().peekable();
        if failures.peek().is_none() {
            self.restoring = Retries::new();
            return;
        }
        let wait = self.restoring.wait(Duration::MAX);
        // Partitions of a topic that was just made may have no leader for a moment.
        let backoff = &self.restoring.backoff;
        if backoff.try_count() > 1 && backoff.is_worth_a_line() {
            for (topic, failure) in failures {
                let (code, failure) = (failure.failure().code(), failure.failure().line());
                tracing::warn!(topic, ?wait, %code, "standing by, and holding nothing of it: {failure}");
            }
        }
    }

    /// Reads on what is held of those that stand by, and what is not.
    fn follow(&mut self) {
        if self.starter.shutdown.is_requested() {
            return;
        }
        self.restore();
        if !self.following.are_due() {
            return;
        }
        match self.images.follow() {
            Ok(is_whole) => {
                self.following = Retries::new();
                if is_whole {
                    self.failed_at = None;
                    self.show_held();
                }
            }
            Err(error) => {
                self.following.wait(LONGEST_PAUSE);
                // The ages say so, too.
                if self.failed_at.is_none_or(|at| at.elapsed() > SAID_FOR) {
                    self.failed_at = Some(Instant::now());
                    let (code, advice) = (error.code(), error.advice());
                    tracing::warn!(%code, advice, "standing by: {}", chain(&error));
                }
            }
        }
    }

    fn show_held(&self) {
        for lender in self.standing_by.values() {
            show(lender, self.images.account_count(lender));
        }
    }
}

/// Tells the metrics how much is held of a lender by now.
fn show(lender: &Restorable, account_count: Option<usize>) {
    let count = account_count.unwrap_or_default();
    lender
        .metrics
        .standby_accounts
        .set(i64::try_from(count).unwrap_or(i64::MAX));
    lender.metrics.times.note_followed(account_count.is_some());
}
