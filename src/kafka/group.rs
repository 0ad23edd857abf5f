//! Which partitions does Kafka's group protocol give to this process? One thread owns the consumer; what it is told becomes events.
//!
//! Nothing is ever fetched, and no offset asked for or committed: librdkafka keeps what the group gave apart from what is fetched, and
//! is told to fetch nothing, with empty lists. What is revoked is given back from the thread's loop and not in the callback, so that
//! it is polled meanwhile: the longest that a member may go without being polled is no limit to finishing a transaction.
//!
//! ```text
//! librdkafka ─rebalance()─▶ Rebalances ─GroupEvent─▶ who runs lenders ─drops GivenUp─▶ the thread ─incremental_unassign─▶ librdkafka
//! ```

use std::sync::mpsc::{self, TryRecvError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use tokio::sync::mpsc::UnboundedSender;

use super::cluster::Cluster;
use super::context::{Context, authorize};
use super::error::{ClusterError, Error};
use super::rebalances::{GroupEvent, Rebalances};
use crate::backoff::Backoff;
use crate::config;
use crate::exit::{Diagnosis, Failure, ProcessError, chain};

/// How late at most it is seen that something was given up, or that the group is to be left.
const TICK: Duration = Duration::from_millis(20);

/// The least between two members that are made because the brokers refuse the one before.
const LEAST: Duration = Duration::from_secs(2);

/// A member of the group, until this is dropped. Then what it has is revoked, and after that it leaves: unless it is a static
/// member, whose partitions wait for its session to end.
pub(crate) struct Membership {
    /// Dropped to leave.
    staying: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Membership {
    /// Joins the group of `topics`; what it gives to this process comes to `events`.
    ///
    /// # Errors
    /// When a client cannot be made; what the brokers refuse comes as an event.
    pub(crate) fn join(
        cluster: &Cluster,
        group: &config::Group,
        client_id: &str,
        topics: &[&str],
        events: UnboundedSender<GroupEvent>,
    ) -> Result<Self, Failure> {
        let (cluster, group, client_id) = (cluster.clone(), group.clone(), client_id.to_owned());
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let member = move || -> Result<BaseConsumer<Context>, Error> {
            let consumer = cluster.member(&group, &client_id, Rebalances::to(events.clone()))?;
            let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
            consumer.subscribe(&topics).map_err(ClusterError::Client)?;
            Ok(consumer)
        };
        let consumer = member()?;
        let (staying, leaving) = mpsc::channel();
        let run = move || run(consumer, member, &leaving);
        let thread = std::thread::Builder::new().name("group".to_owned()).spawn(run);
        let thread = thread.map_err(|source| {
            let doing = "starting a thread";
            ProcessError::System { doing, source }
        })?;
        Ok(Self { staying, thread })
    }

    /// Leaves; blocks until what was held is given up and the group knows, at most for as long as giving up may take.
    pub(crate) fn leave(self) {
        drop(self.staying);
        // What it had to say was said by events.
        let _ = self.thread.join();
    }
}

/// Is a member until it is left, or a fatal error ends it.
fn run(
    mut consumer: BaseConsumer<Context>,
    member: impl Fn() -> Result<BaseConsumer<Context>, Error>,
    leaving: &mpsc::Receiver<()>,
) {
    let mut backoff = Backoff::default();
    while !turn(&consumer, leaving, backoff.next(Some(LEAST))) {
        match member() {
            Ok(another) => consumer = another,
            Err(error) => {
                let (code, advice) = (error.code(), error.advice());
                tracing::warn!(%code, advice, "joining the group anew: {}", chain(&error));
            }
        }
    }
}

/// Polls until it is left, or a fatal error ends it; `false`: the brokers refuse what it shows or trusts, and it has nothing. Not before
/// `least` is over: another one was made just now.
fn turn(consumer: &BaseConsumer<Context>, leaving: &mpsc::Receiver<()>, least: Duration) -> bool {
    let rebalances = consumer.context().rebalances().expect("a member hears of rebalances");
    let (begun, mut is_leaving) = (Instant::now(), false);
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
        } else if consumer.context().is_outdated() && rebalances.has_nothing() && begun.elapsed() > least {
            return false;
        }
    };
    rebalances.end(consumer, fatal);
    true
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
