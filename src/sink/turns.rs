//! Who reads for whom? Of those who ask at the same time one reads, for all.
//!
//! What must hold:
//!
//! - **Whoever asks gets what was committed when it asked** (Once, One writer): an answer comes from a reading that *began* after
//!   the question, for a reading asks at its beginning where the topic ends. One that is under way is waited for, and counts for
//!   nothing.
//! - Nobody ends the reading of another: who reads for others and has to end gives its turn away, and the next one reads on. Who
//!   waits for the turn of another waits no longer than it would read on itself.
//! - What fails fails for all that it was read for: two hundred who find out one after another would take two hundred time-outs.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::SinkError;
use crate::kafka;
use crate::shutdown::Shutdown;

/// What is read, as far as it was read so far.
pub(super) struct Turns<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    held: T,
    /// How many readings have begun.
    begun: u64,
    is_reading: bool,
    /// How often an open transaction has seemed to hide the end of the one under way.
    hidden: u64,
    /// The last reading that was not interrupted, and how it ended.
    ended: u64,
    outcome: Result<(), SinkError>,
}

/// Who asks.
pub(super) struct Asker<'a> {
    pub shutdown: &'a Shutdown,
    /// How long it goes on once it was asked to end.
    pub grace: Duration,
    /// Called as long as an open transaction seems to hide the end, whoever reads.
    pub hidden: &'a mut dyn FnMut(),
}

impl<T: Clone> Turns<T> {
    pub(super) fn new(held: T) -> Self {
        Self {
            state: Mutex::new(State {
                held,
                begun: 0,
                is_reading: false,
                hidden: 0,
                ended: 0,
                outcome: Ok(()),
            }),
            changed: Condvar::new(),
        }
    }

    /// What there is by a reading that begins after this call. `read` reads on to the end that it finds, as the asker may go on, and
    /// calls what it is given where something seems to hide that end.
    ///
    /// # Errors
    /// When that reading failed, or the asker is to end.
    pub(super) fn ask(
        &self,
        asker: Asker<'_>,
        read: impl FnOnce(&mut T, &mut dyn FnMut()) -> Result<(), SinkError>,
    ) -> Result<T, SinkError> {
        /// A request to end is noticed this soon.
        const STEP: Duration = Duration::from_millis(100);
        let mut ending_since = None;
        let mut heard = 0;
        let mut state = self.state();
        let wanted = state.begun + 1;
        loop {
            if state.ended >= wanted {
                return state.outcome.clone().map(|()| state.held.clone());
            }
            if asker.shutdown.is_requested() && ending_since.get_or_insert_with(Instant::now).elapsed() >= asker.grace {
                return Err(kafka::Error::Interrupted.into());
            }
            if !state.is_reading {
                state.begun += 1;
                let (turn, mut held) = TakenTurn::begin(self, state);
                let outcome = read(&mut held, &mut || {
                    self.state().hidden += 1;
                    self.changed.notify_all();
                    (asker.hidden)();
                });
                return turn.end(held, Some(outcome));
            }
            if std::mem::replace(&mut heard, state.hidden) < state.hidden {
                drop(state);
                (asker.hidden)();
                state = self.state();
                continue;
            }
            let waited = self.changed.wait_timeout(state, STEP);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// What was read so far, read on by `read`: for whoever asks alone, where somebody reads at the moment. Nobody is waited for.
    ///
    /// # Errors
    /// When reading failed.
    pub(super) fn look(&self, read: impl FnOnce(&mut T) -> Result<(), SinkError>) -> Result<T, SinkError> {
        let state = self.state();
        if state.is_reading {
            // It may be the first reading, and nothing held yet.
            let mut held = state.held.clone();
            drop(state);
            return read(&mut held).map(|()| held);
        }
        let (turn, mut held) = TakenTurn::begin(self, state);
        let read = read(&mut held);
        let held = turn.end(held, None)?;
        read.map(|()| held)
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        // A panic elsewhere leaves what was read before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to read: however it ends, the next one may.
struct TakenTurn<'t, T> {
    turns: &'t Turns<T>,
    number: u64,
}

impl<'t, T: Clone> TakenTurn<'t, T> {
    fn begin(turns: &'t Turns<T>, mut state: MutexGuard<'_, State<T>>) -> (Self, T) {
        state.is_reading = true;
        let number = state.begun;
        (Self { turns, number }, state.held.clone())
    }

    /// What was read stays, also of a reading that failed; `outcome`: if it counts for others.
    fn end(self, held: T, outcome: Option<Result<(), SinkError>>) -> Result<T, SinkError> {
        let mut state = self.turns.state();
        state.held = held;
        let Some(outcome) = outcome else {
            return Ok(state.held.clone());
        };
        if !matches!(outcome, Err(SinkError::Kafka(kafka::Error::Interrupted))) {
            state.ended = self.number;
            state.outcome = outcome.clone();
        }
        outcome.map(|()| state.held.clone())
    }
}

impl<T> Drop for TakenTurn<'_, T> {
    fn drop(&mut self) {
        let mut state = self.turns.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.is_reading, state.hidden) = (false, 0);
        drop(state);
        self.turns.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::JoinHandle;

    use super::*;
    use crate::shutdown;

    /// Longer than anything takes that works.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// A topic: how much is committed, and a reading that stands still once it knows where the topic ends.
    #[derive(Clone)]
    struct Topic {
        turns: Arc<Turns<u64>>,
        committed: Arc<AtomicU64>,
        readings: Arc<AtomicU64>,
        /// How many were seen to wait for another one's reading.
        waiting: Arc<AtomicU64>,
    }

    type Answer = JoinHandle<Result<u64, SinkError>>;

    impl Topic {
        fn new() -> Self {
            Self {
                turns: Arc::new(Turns::new(0)),
                committed: Arc::default(),
                readings: Arc::default(),
                waiting: Arc::default(),
            }
        }

        fn commit(&self) -> u64 {
            self.committed.fetch_add(1, Ordering::SeqCst) + 1
        }

        fn ask(&self, shutdown: &Shutdown) -> Result<u64, SinkError> {
            self.ask_by(shutdown, |_| Ok(()))
        }

        fn count_waiting(&self) -> u64 {
            self.waiting.load(Ordering::SeqCst)
        }

        /// `stop`: what happens between the question where the topic ends and the last record.
        fn ask_by(
            &self,
            shutdown: &Shutdown,
            stop: impl FnOnce(&mut dyn FnMut()) -> Result<(), SinkError>,
        ) -> Result<u64, SinkError> {
            self.ask_hidden(shutdown, &mut || {}, stop)
        }

        fn ask_hidden(
            &self,
            shutdown: &Shutdown,
            hidden: &mut dyn FnMut(),
            stop: impl FnOnce(&mut dyn FnMut()) -> Result<(), SinkError>,
        ) -> Result<u64, SinkError> {
            let asker = Asker {
                shutdown,
                grace: Duration::from_millis(1),
                hidden,
            };
            self.turns.ask(asker, |held, hidden| {
                self.readings.fetch_add(1, Ordering::SeqCst);
                let end = self.committed.load(Ordering::SeqCst);
                stop(hidden)?;
                *held = end;
                Ok(())
            })
        }

        /// One who reads and stands still until it is told how that ends. It says that the end is hidden, which whoever waits hears.
        fn reading(&self, shutdown: &Shutdown) -> (Answer, Sender<Result<(), SinkError>>) {
            let (go, told) = channel::<Result<(), SinkError>>();
            let (topic, shutdown) = (self.clone(), shutdown.clone());
            let before = self.readings.load(Ordering::SeqCst);
            let reading = std::thread::spawn(move || {
                topic.ask_by(&shutdown, |hidden| {
                    hidden();
                    told.recv_timeout(PATIENCE).expect("told how to go on")
                })
            });
            self.wait_until(|topic| topic.readings.load(Ordering::SeqCst) > before);
            (reading, go)
        }

        fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
            let begun = Instant::now();
            while !is_so(self) {
                assert!(begun.elapsed() < PATIENCE, "waited in vain");
                std::thread::yield_now();
            }
        }

        /// So many who ask while somebody reads, and read by `stop` where it is their turn; each is known to wait.
        fn waiting(&self, shutdown: &Shutdown, count: u64, stop: fn() -> Result<(), SinkError>) -> Vec<Answer> {
            let before = self.count_waiting();
            let ask = |_| {
                let (topic, shutdown) = (self.clone(), shutdown.clone());
                std::thread::spawn(move || {
                    let hidden = &mut || {
                        topic.waiting.fetch_add(1, Ordering::SeqCst);
                    };
                    topic.ask_hidden(&shutdown, hidden, |_| stop())
                })
            };
            let answers = (0..count).map(ask).collect();
            self.wait_until(|topic| topic.count_waiting() == before + count);
            answers
        }
    }

    fn answers(waiting: Vec<Answer>) -> Vec<Result<u64, SinkError>> {
        let ended = waiting.into_iter().map(|answer| answer.join());
        ended.map(|answer| answer.expect("no panic")).collect()
    }

    #[test]
    fn a_reading_that_began_before_somebody_asks_counts_for_nothing_and_one_reading_answers_all_who_wait() {
        let (_sender, shutdown) = shutdown::channel();
        let topic = Topic::new();
        let (first, go) = topic.reading(&shutdown);
        let committed = topic.commit();
        let waiting = topic.waiting(&shutdown, 20, || Ok(()));
        go.send(Ok(())).expect("it reads");
        assert_eq!(first.join().expect("no panic").expect("read"), committed - 1);
        for answer in answers(waiting) {
            assert_eq!(answer.expect("read"), committed);
        }
        assert_eq!(
            topic.readings.load(Ordering::SeqCst),
            2,
            "one before, one for all of them"
        );
    }

    #[test]
    fn whoever_asks_sees_its_own_commit_however_many_ask_beside_it() {
        let topic = Topic::new();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let (_sender, shutdown) = shutdown::channel();
                    for _ in 0..300 {
                        let committed = topic.commit();
                        let found = topic.ask_by(&shutdown, |_| {
                            std::thread::yield_now();
                            Ok(())
                        });
                        assert!(found.expect("read") >= committed);
                    }
                });
            }
        });
        let readings = topic.readings.load(Ordering::SeqCst);
        assert!(readings <= 2_400, "{readings}");
    }

    #[test]
    fn one_who_has_to_end_while_it_reads_for_others_leaves_the_reading_to_the_next_one() {
        let (_sender, shutdown) = shutdown::channel();
        let topic = Topic::new();
        let (first, go) = topic.reading(&shutdown);
        let committed = topic.commit();
        let waiting = topic.waiting(&shutdown, 3, || Ok(()));
        go.send(Err(kafka::Error::Interrupted.into())).expect("it reads");
        let first = first.join().expect("no panic");
        assert!(
            matches!(first, Err(SinkError::Kafka(kafka::Error::Interrupted))),
            "{first:?}"
        );
        for answer in answers(waiting) {
            assert_eq!(answer.expect("read"), committed);
        }
    }

    #[test]
    fn one_who_has_to_end_while_another_reads_does_and_the_other_reads_on() {
        let (_sender, shutdown) = shutdown::channel();
        let (ending, asked) = shutdown::channel();
        let topic = Topic::new();
        let (first, go) = topic.reading(&shutdown);
        ending.request();
        let given_up = topic.ask(&asked);
        assert!(
            matches!(given_up, Err(SinkError::Kafka(kafka::Error::Interrupted))),
            "{given_up:?}"
        );
        go.send(Ok(())).expect("it still reads");
        assert_eq!(first.join().expect("no panic").expect("read"), 0);
    }

    fn no_topic() -> SinkError {
        let topic = "t".to_owned();
        kafka::Error::NoTopic { topic }.into()
    }

    #[test]
    fn what_fails_fails_for_all_who_were_waiting_and_the_next_question_is_asked_anew() {
        let (_sender, shutdown) = shutdown::channel();
        let topic = Topic::new();
        let (_first, go) = topic.reading(&shutdown);
        let waiting = topic.waiting(&shutdown, 10, || Err(no_topic()));
        go.send(Ok(())).expect("it reads");
        for answer in answers(waiting) {
            assert_eq!(answer.expect_err("no topic").to_string(), no_topic().to_string());
        }
        assert_eq!(topic.readings.load(Ordering::SeqCst), 2);
        assert_eq!(topic.ask(&shutdown).expect("read"), 0);
    }

    #[test]
    fn who_reads_what_hides_its_end_is_heard_by_all_as_long_as_that_lasts_and_who_only_looks_does_not_wait() {
        let (_sender, shutdown) = shutdown::channel();
        let topic = Topic::new();
        let (ended, is_ended): (Sender<()>, Receiver<()>) = channel();
        let reading = {
            let (topic, shutdown) = (topic.clone(), shutdown.clone());
            std::thread::spawn(move || {
                topic.ask_by(&shutdown, |hidden| {
                    let begun = Instant::now();
                    while is_ended.recv_timeout(Duration::from_millis(10)).is_err() {
                        assert!(begun.elapsed() < PATIENCE, "what hides it is ended");
                        hidden();
                    }
                    Ok(())
                })
            })
        };
        topic.wait_until(|topic| topic.turns.state().hidden > 0);
        let seen = |end| {
            topic.turns.look(|held| {
                *held = end;
                Ok(())
            })
        };
        assert_eq!(seen(9).expect("read"), 9, "by itself, and nothing is kept of it");
        // One of those who wait can end it, not at first.
        let mut calls = 0;
        let mut end = || {
            calls += 1;
            if calls == 3 {
                ended.send(()).expect("it reads");
            }
        };
        let answer = topic.ask_hidden(&shutdown, &mut end, |_| Ok(()));
        assert_eq!(answer.expect("read"), 0);
        assert!(calls >= 3, "{calls}");
        assert_eq!(reading.join().expect("no panic").expect("read"), 0);
        assert_eq!(seen(7).expect("read"), 7);
    }

    #[test]
    fn a_panic_of_one_who_reads_leaves_the_reading_to_the_next_one() {
        let (_sender, shutdown) = shutdown::channel();
        let topic = Topic::new();
        let (panicking, silent) = (topic.clone(), shutdown.clone());
        let panicked = std::thread::spawn(move || panicking.ask_by(&silent, |_| panic!("on purpose")));
        assert!(panicked.join().is_err());
        let committed = topic.commit();
        assert_eq!(topic.ask(&shutdown).expect("read"), committed);
    }
}
