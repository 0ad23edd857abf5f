//! How much may be in flight in the process? One budget of memory for all lenders: what is read and not yet committed, and what
//! is on its way to Kafka.
//!
//! ```text
//! a quarter   producers' queues, in equal parts
//! a quarter   rooms of a lender's own: half of each part for what is live, half for the rest
//! the rest    common: who comes first
//! ```
//!
//! Whoever reads takes room before it asks upstream, as much as an answer took of late, and gives back what the page does not
//! need. A lender whose Kafka stands still can fill the common room and its own ones, never those of another. An answer that is
//! larger than a room takes all of it: so one page always passes, however small the rooms are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// What an answer is thought to take before there was any: a page of 1000 rows, as it came and as accounts.
const FIRST_ANSWER: usize = 2 << 20;

/// Of what an answer took less than was thought, so much is believed: one in so many parts.
const DECAY: usize = 8;

/// The budget of a process.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    common: Arc<Semaphore>,
    common_size: u32,
    /// Of each room of a lender's own.
    own_size: u32,
    taken: Gauge,
}

/// How much of a budget of so many bytes the producer of one of so many lenders may hold.
pub(crate) fn producer_share(bytes: u64, lender_count: usize) -> usize {
    usize::try_from(bytes / 4).unwrap_or(usize::MAX) / lender_count.max(1)
}

fn size(bytes: usize) -> u32 {
    // More than 4 GiB a room bound nothing.
    u32::try_from(bytes).unwrap_or(u32::MAX).max(1)
}

impl InFlight {
    /// `taken` shows what is taken of it.
    pub(crate) fn new(bytes: u64, lender_count: usize, taken: Gauge) -> Self {
        let common_size = size(usize::try_from(bytes / 2).unwrap_or(usize::MAX));
        Self {
            common: Arc::new(Semaphore::new(common_size as usize)),
            common_size,
            own_size: size(producer_share(bytes, lender_count) / 2),
            taken,
        }
    }

    /// What is read may come to, in bytes.
    pub(crate) fn limit(&self, lender_count: usize) -> i64 {
        let own = 2 * u64::from(self.own_size) * lender_count as u64;
        i64::try_from(u64::from(self.common_size) + own).unwrap_or(i64::MAX)
    }

    /// The rooms of one lender: for what is live, and for the rest.
    pub(crate) fn rooms(&self) -> [Arc<Room>; 2] {
        let waiting = Arc::new(Waiting::default());
        [(); 2].map(|()| {
            Arc::new(Room {
                own: Arc::new(Semaphore::new(self.own_size as usize)),
                waiting: Arc::clone(&waiting),
                answer: AtomicUsize::new(FIRST_ANSWER),
                budget: self.clone(),
            })
        })
    }
}

/// Where one kind of a lender's pages may be: its own room, and the common one.
#[derive(Debug)]
pub(crate) struct Room {
    own: Arc<Semaphore>,
    /// Of both rooms of the lender.
    waiting: Arc<Waiting>,
    /// What an answer takes, by those that came.
    answer: AtomicUsize,
    budget: InFlight,
}

/// Who waits for room.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    count: AtomicUsize,
    more: Notify,
}

impl Waiting {
    /// Returns once anybody waits. Cancel-safe.
    pub(crate) async fn any(&self) {
        loop {
            // Before looking, so that who comes in between is not missed.
            let more = self.more.notified();
            tokio::pin!(more);
            more.as_mut().enable();
            if self.count.load(Ordering::SeqCst) > 0 {
                return;
            }
            more.await;
        }
    }
}

/// One that waits, as long as it does.
struct Waits<'w>(&'w Waiting);

impl<'w> Waits<'w> {
    fn begin(waiting: &'w Waiting) -> Self {
        waiting.count.fetch_add(1, Ordering::SeqCst);
        waiting.more.notify_waiters();
        Self(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Room {
    pub(crate) fn waiting(&self) -> Arc<Waiting> {
        Arc::clone(&self.waiting)
    }

    /// Waits for the room of an answer.
    pub(crate) async fn take_answer(&self) -> Taken {
        self.take(self.answer.load(Ordering::Relaxed)).await
    }

    /// Waits for so many bytes.
    pub(crate) async fn take(&self, bytes: usize) -> Taken {
        let InFlight {
            common,
            common_size,
            own_size,
            taken,
        } = &self.budget;
        let part = |whole: u32| size(bytes).min(whole);
        let now = |semaphore: &Arc<Semaphore>, whole| Arc::clone(semaphore).try_acquire_many_owned(part(whole)).ok();
        let permit = match now(&self.own, *own_size).or_else(|| now(common, *common_size)) {
            Some(permit) => permit,
            None => {
                let _waits = Waits::begin(&self.waiting);
                let own = Arc::clone(&self.own).acquire_many_owned(part(*own_size));
                let common = Arc::clone(common).acquire_many_owned(part(*common_size));
                let permit = tokio::select! {
                    biased;
                    permit = own => permit,
                    permit = common => permit,
                };
                permit.expect("no room is ever closed")
            }
        };
        Taken::new(permit, bytes, taken.clone())
    }

    /// Notes what an answer took in all, for those that come.
    pub(crate) fn note_answer(&self, bytes: usize) {
        let known = self.answer.load(Ordering::Relaxed);
        self.answer.store(
            bytes.max(known - known.saturating_sub(bytes) / DECAY),
            Ordering::Relaxed,
        );
    }
}

/// Room that is taken, until this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    permit: OwnedSemaphorePermit,
    bytes: usize,
    shown: Gauge,
}

impl Taken {
    fn new(permit: OwnedSemaphorePermit, bytes: usize, shown: Gauge) -> Self {
        shown.inc_by(i64::try_from(bytes).unwrap_or(i64::MAX));
        Self { permit, bytes, shown }
    }

    /// It is so much in the end. What is more than was thought is taken if it is there, and else is beyond the budget: who
    /// holds what it has not room for waits for nobody.
    pub(crate) fn settle(&mut self, bytes: usize) {
        let held = self.permit.num_permits();
        let wanted = size(bytes) as usize;
        if wanted < held {
            drop(self.permit.split(held - wanted));
        } else if let Ok(more) = Arc::clone(self.permit.semaphore()).try_acquire_many_owned(size(wanted - held)) {
            self.permit.merge(more);
        }
        let shown = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.shown.inc_by(shown(bytes) - shown(self.bytes));
        self.bytes = bytes;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.shown.dec_by(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MIB: usize = 1 << 20;

    /// Takes all that can be had without waiting, in pages of a mebibyte.
    async fn fill(room: &Room) -> Vec<Taken> {
        let mut all = Vec::new();
        while let Ok(taken) = timeout(Duration::from_millis(1), room.take(MIB)).await {
            all.push(taken);
        }
        all
    }

    #[tokio::test(start_paused = true)]
    async fn a_lender_that_fills_all_it_can_leaves_every_other_one_a_room_for_what_is_live_and_one_for_the_rest() {
        let shown = Gauge::default();
        let budget = InFlight::new(64 << 20, 4, shown.clone());
        let [live, rest] = budget.rooms();
        let held = fill(&rest).await;
        assert_eq!(held.len(), 32 + 2, "the common room and its own");
        let live_held = fill(&live).await;
        assert_eq!(live_held.len(), 2, "what is live has room that the rest cannot take");
        assert_eq!(shown.get(), 36 << 20);
        for _ in 0..3 {
            let rooms = budget.rooms();
            for room in &rooms {
                let taken = timeout(Duration::from_millis(1), room.take(MIB)).await;
                assert!(taken.is_ok(), "another lender has room of its own");
            }
        }
        drop((held, live_held));
        assert_eq!((shown.get(), fill(&rest).await.len()), (0, 34));
    }

    #[tokio::test(start_paused = true)]
    async fn one_page_passes_that_is_larger_than_every_room_and_the_next_one_waits_for_it() {
        let budget = InFlight::new(1 << 20, 100, Gauge::default());
        let [live, _] = budget.rooms();
        let first = live.take(50 * MIB).await;
        let second = live.take(50 * MIB).await;
        let third = tokio::spawn(async move { live.take(50 * MIB).await });
        tokio::task::yield_now().await;
        assert!(!third.is_finished(), "its own room and the common one are taken");
        drop(second);
        third.await.expect("it had its turn");
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_is_known_until_there_is_room() {
        let [_, rest] = InFlight::new(16 << 20, 1, Gauge::default()).rooms();
        let waiting = rest.waiting();
        let is_known = || timeout(Duration::from_millis(1), waiting.any());
        let mut held = fill(&rest).await;
        assert!(is_known().await.is_err(), "nobody waits any more");
        let room = Arc::clone(&rest);
        let waits = tokio::spawn(async move { room.take(MIB).await });
        assert!(is_known().await.is_ok());
        held.pop();
        let _taken = waits.await.expect("it had its turn");
        assert!(is_known().await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_follows_what_it_comes_to() {
        let shown = Gauge::default();
        let [_, rest] = InFlight::new(16 << 20, 1, shown.clone()).rooms();
        let mut taken = rest.take(MIB).await;
        taken.settle(MIB / 4);
        assert_eq!(shown.get(), 1 << 18);
        taken.settle(MIB);
        let others = fill(&rest).await;
        assert_eq!((others.len(), shown.get()), (9, 10 << 20));
        taken.settle(5 * MIB);
        assert_eq!(shown.get(), 14 << 20, "beyond the budget, and shown");
        drop(taken);
        assert_eq!(shown.get(), 9 << 20);
        drop(others);
        rest.note_answer(6 * MIB);
        assert_eq!(rest.take_answer().await.bytes, 6 * MIB);
        rest.note_answer(2 * MIB);
        assert_eq!(rest.take_answer().await.bytes, 6 * MIB - MIB / 2);
    }
}
