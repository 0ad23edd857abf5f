//! Which partitions does Kafka's group protocol give to this process? One thread owns the consumer; what it is told becomes events.
//!
//! Nothing is ever fetched, and no offset asked for or committed: librdkafka keeps what the group gave apart from what is fetched, and
//! is told to fetch nothing, with empty lists. What is revoked is given back from the thread's loop and not in the callback, so that
//! it is polled meanwhile: the longest that a member may go without being polled is no limit to finishing a transaction.
//!
//! ```text
//! librdkafka ─rebalance()─▶ Rebalances ─GroupEvent─▶ who runs lenders ─drops GivenUp─▶ the thread ─incremental_unassign─▶ librdkafka
//! ```

use std::collections::BTreeSet;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc::UnboundedSender;

use super::cluster::Cluster;
use super::context::{Context, authorize};
use super::error::ClusterError;
use crate::config;

/// Topic and partition.
pub(crate) type Place = (String, i32);

/// How late at most it is seen that something was given up, or that the group is to be left.
const TICK: Duration = Duration::from_millis(20);

/// How long what is revoked may take to be given up; then the partition is given back all the same. Another process that runs its
/// lenders then fences what is left of this one.
const GIVING_UP: Duration = Duration::from_secs(20);

/// What becomes of partitions.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// This process's, beside what it has.
    Assigned(Vec<Place>),
    /// To be given up: nobody else gets them before the last clone of [`GivenUp`] is dropped, or 20 s are over.
    Revoked(Vec<Place>, GivenUp),
    /// Somebody else may have them already.
    Lost(Vec<Place>),
    /// It goes on trying.
    Failed(KafkaError),
    /// The last event: it is out of the group for good.
    Ended(Option<KafkaError>),
}

/// Gives back what was revoked, when it is dropped.
#[derive(Debug)]
pub(crate) struct GivenUp(#[expect(dead_code, reason = "its end is what tells")] mpsc::Sender<()>);

/// A member of the group, until this is dropped. Then what it has is revoked, and after that it leaves: unless it is a static
/// member, whose partitions wait for its session to end.
pub(crate) struct Membership {
    /// Dropped to leave.
    staying: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Joins the group of `topics`; what it gives to this process comes to `events`.
    ///
    /// # Errors
    /// When a client cannot be made; what the brokers refuse comes as an event.
    pub(crate) fn join(
        cluster: &Cluster,
        group: &config::Group,
        topics: &[&str],
        events: UnboundedSender<GroupEvent>,
    ) -> Result<Self, ClusterError> {
        let consumer = cluster.member(group, Rebalances::to(events))?;
        consumer.subscribe(topics).map_err(ClusterError::Client)?;
        let (staying, leaving) = mpsc::channel();
        let run = move || run(&consumer, &leaving);
        let thread = std::thread::Builder::new().name("group".to_owned()).spawn(run);
        Ok(Self {
            staying: Some(staying),
            thread: Some(thread.map_err(ClusterError::Thread)?),
        })
    }

    /// Leaves; blocks until what was held is given up and the group knows, at most for as long as giving up may take.
    pub(crate) fn leave(mut self) {
        self.staying = None;
        if let Some(thread) = self.thread.take() {
            // What it had to say was said by events.
            let _ = thread.join();
        }
    }
}

/// Polls until it is left, or a fatal error ends it.
fn run(consumer: &BaseConsumer<Context>, leaving: &mpsc::Receiver<()>) {
    let rebalances = consumer.context().rebalances().expect("a member hears of rebalances");
    let mut is_leaving = false;
    let fatal = loop {
        authorize(consumer.client());
        match consumer.poll(TICK) {
            // Nothing is assigned to be fetched.
            None | Some(Ok(_)) => {}
            Some(Err(error)) => rebalances.failed(error),
        }
        rebalances.give_back_what_is_given_up(consumer);
        if let Some((code, _)) = consumer.client().fatal_error() {
            break Some(KafkaError::Global(code));
        }
        if is_leaving {
            if consumer.closed() {
                break None;
            }
        } else if !matches!(leaving.try_recv(), Err(TryRecvError::Empty)) {
            is_leaving = true;
            // What is revoked by it is answered as ever; a second call would say the same.
            if let Err(error) = consumer.close_queue() {
                break Some(error);
            }
        }
    };
    rebalances.end(consumer, fatal);
}

/// Hears what the group gives and takes.
pub(super) struct Rebalances {
    events: UnboundedSender<GroupEvent>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: BTreeSet<Place>,
    /// What was revoked last: closed once that is given up, and since when.
    revoking: Option<(mpsc::Receiver<()>, Instant)>,
    has_ended: bool,
}

impl Rebalances {
    fn to(events: UnboundedSender<GroupEvent>) -> Self {
        Self {
            events,
            state: Mutex::default(),
        }
    }

    /// librdkafka calls this from a poll.
    pub(super) fn rebalance(
        &self,
        consumer: &BaseConsumer<Context>,
        what: RDKafkaRespErr,
        places: &TopicPartitionList,
    ) {
        let places: Vec<Place> = places
            .elements()
            .iter()
            .map(|place| (place.topic().to_owned(), place.partition()))
            .collect();
        let mut state = self.state();
        if what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Err(error) = consumer.incremental_assign(&TopicPartitionList::new()) {
                self.failed(error);
            }
            state.held.extend(places.iter().cloned());
            if !places.is_empty() {
                self.tell(GroupEvent::Assigned(places));
            }
            return;
        }
        state.held.retain(|held| !places.contains(held));
        if consumer.assignment_lost() || state.has_ended {
            self.give_back(consumer);
            self.tell(GroupEvent::Lost(places));
        } else {
            let (given_up, giving_up) = mpsc::channel();
            state.revoking = Some((giving_up, Instant::now()));
            self.tell(GroupEvent::Revoked(places, GivenUp(given_up)));
        }
    }

    fn give_back_what_is_given_up(&self, consumer: &BaseConsumer<Context>) {
        let mut state = self.state();
        let is_given_up = state.revoking.as_ref().is_some_and(|(giving_up, since)| {
            giving_up.try_recv() == Err(TryRecvError::Disconnected) || since.elapsed() > GIVING_UP
        });
        if is_given_up {
            state.revoking = None;
            self.give_back(consumer);
        }
    }

    /// Of what is fetched there is nothing to take away; that it was answered is what counts.
    fn give_back(&self, consumer: &BaseConsumer<Context>) {
        if let Err(error) = consumer.incremental_unassign(&TopicPartitionList::new()) {
            self.failed(error);
        }
    }

    /// From here on nobody answers but the callback itself.
    fn end(&self, consumer: &BaseConsumer<Context>, fatal: Option<KafkaError>) {
        let mut state = self.state();
        state.has_ended = true;
        if state.revoking.take().is_some() {
            self.give_back(consumer);
        }
        let held = std::mem::take(&mut state.held);
        if !held.is_empty() {
            self.tell(GroupEvent::Lost(held.into_iter().collect()));
        }
        self.tell(GroupEvent::Ended(fatal));
    }

    fn failed(&self, error: KafkaError) {
        // A member that was too busy to poll is told so, and joins again by itself: what it lost is told as lost.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PollExceeded) {
            self.tell(GroupEvent::Failed(error));
        }
    }

    fn tell(&self, event: GroupEvent) {
        // At the end nobody listens any more.
        let _ = self.events.send(event);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a record of this key stands in a topic of so many partitions: by the hash of the Java clients' partitioner, which the
/// producers of this program are told to use.
pub(crate) fn partition_of(key: &[u8], partition_count: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    i32::try_from(u64::from(positive) % partition_count.max(1) as u64).expect("less than 2^31")
}

/// MurmurHash2 of 32 bits, by Austin Appleby, with Kafka's seed.
fn murmur2(bytes: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let mut hash = SEED ^ u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut words = bytes.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        let word = (word ^ (word >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ word;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_s_partition_is_that_of_kafka_s_own_clients() {
        // From the tests of Kafka's Utils.murmur2, as signed numbers.
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
        assert_eq!(partition_of(b"foobar", 1), 0);
        assert_eq!(partition_of(b"foobar", 24), (-790_332_482_i32 & 0x7fff_ffff) % 24);
    }
}
