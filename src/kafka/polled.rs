//! Who hears a producer's reports? A thread of its own: at once while something is under way, once a second else.
//!
//! That of rdkafka 0.39.0 (`ThreadedProducer`) polls for 100 ms at a time, and spins through the last millisecond of each, because the
//! time that is left is rounded down to 0: half a percent of a core for each producer at rest
//! (findings/rdkafka-spins-through-the-last-millisecond-of-a-poll).

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, Producer};

use super::context::Context;

/// How long reports may wait while nothing is under way: statistics, a connection that is lost, a token that is to be renewed.
const AT_REST: Duration = Duration::from_secs(1);

/// What is begun has its reports heard at once for so long, and then for as long as anything is in flight.
const AWAKE: Duration = Duration::from_millis(500);

/// How soon the thread sees that it is to end.
const TURN: Duration = Duration::from_millis(100);

/// A producer with a thread that polls it, until it is dropped.
pub(crate) struct PolledProducer {
    producer: Arc<BaseProducer<Context>>,
    polling: Arc<Polling>,
    thread: Option<JoinHandle<()>>,
}

struct Polling {
    is_over: AtomicBool,
    awake_until: Mutex<Instant>,
}

impl PolledProducer {
    /// # Errors
    /// When the system gives no thread.
    pub(super) fn new(producer: BaseProducer<Context>) -> std::io::Result<Self> {
        let producer = Arc::new(producer);
        let polling = Arc::new(Polling {
            is_over: AtomicBool::new(false),
            awake_until: Mutex::new(Instant::now() + AWAKE),
        });
        let polled = (Arc::clone(&producer), Arc::clone(&polling));
        let poll = move || poll(&polled.0, &polled.1);
        let thread = std::thread::Builder::new().name("producer".to_owned()).spawn(poll)?;
        Ok(Self {
            producer,
            polling,
            thread: Some(thread),
        })
    }

    /// Hears what waits, and from now on at once: something is about to be under way.
    pub(crate) fn wake(&self) {
        self.hear();
        *self.polling.awake_until() = Instant::now() + AWAKE;
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// A report counts as in flight until it is freed, a moment after it was heard. A commit that finds one there takes 100 ms
    /// longer (findings/rdkafka-rounds-a-commit-up-to-100-ms). Not for long: other events count, too.
    pub(crate) fn wait_until_reports_are_freed(&self) {
        const STEP: Duration = Duration::from_micros(50);
        const LIMIT: Duration = Duration::from_millis(20);
        let begun = Instant::now();
        while self.producer.in_flight_count() > 0 && begun.elapsed() < LIMIT {
            std::thread::sleep(STEP);
        }
    }

    /// Hears what waits.
    pub(crate) fn hear(&self) {
        self.producer.poll(Duration::ZERO);
    }
}

impl Polling {
    fn awake_until(&self) -> MutexGuard<'_, Instant> {
        self.awake_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn poll(producer: &BaseProducer<Context>, polling: &Polling) {
    while !polling.is_over.load(Ordering::SeqCst) {
        if producer.in_flight_count() > 0 || Instant::now() < *polling.awake_until() {
            producer.poll(TURN);
        } else {
            std::thread::park_timeout(AT_REST);
            producer.poll(Duration::ZERO);
        }
    }
}

impl Deref for PolledProducer {
    type Target = BaseProducer<Context>;

    fn deref(&self) -> &Self::Target {
        &self.producer
    }
}

impl Drop for PolledProducer {
    fn drop(&mut self) {
        self.polling.is_over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // It does not panic, and whoever drops this could do nothing about it.
            let _ = thread.join();
        }
    }
}
