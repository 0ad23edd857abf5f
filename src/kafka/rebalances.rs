//! What does the group give and take? Heard from librdkafka's callbacks, told as events, and answered.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::mpsc::UnboundedSender;

/// Topic and partition.
pub(crate) type TopicPartition = (String, i32);

/// How long what is revoked may take to be given up; then the partition is given back all the same. Another process that runs its
/// lenders then fences what is left of this one.
const GIVING_UP: Duration = Duration::from_secs(20);

/// What becomes of partitions.
#[derive(Debug)]
pub(crate) enum GroupEvent {
    /// This process's, beside what it has; none, where there is nothing for it.
    Assigned(Vec<TopicPartition>),
    /// To be given up: nobody else gets them before the last clone of [`GivenUp`] is dropped, or 20 s are over.
    Revoked(Vec<TopicPartition>, GivenUp),
    /// Somebody else may have them already.
    Lost(Vec<TopicPartition>),
    /// It goes on trying.
    Failed(KafkaError),
    /// The last event: it is out of the group for good.
    Ended(Option<KafkaError>),
}

/// Gives back what was revoked, when it is dropped.
#[derive(Debug)]
pub(crate) struct GivenUp(#[expect(dead_code, reason = "its end is what tells")] mpsc::Sender<()>);

/// Hears what the group gives and takes.
pub(super) struct Rebalances {
    events: UnboundedSender<GroupEvent>,
    state: Mutex<MemberState>,
}

#[derive(Default)]
struct MemberState {
    held: BTreeSet<TopicPartition>,
    /// What was revoked last: closed once that is given up, and since when.
    revoking: Option<(mpsc::Receiver<()>, Instant)>,
    has_ended: bool,
}

impl Rebalances {
    pub(super) fn to(events: UnboundedSender<GroupEvent>) -> Self {
        Self {
            events,
            state: Mutex::default(),
        }
    }

    /// librdkafka calls this from a poll.
    pub(super) fn rebalance(
        &self,
        consumer: &BaseConsumer<impl ConsumerContext>,
        what: RDKafkaRespErr,
        places: &TopicPartitionList,
    ) {
        let places: Vec<TopicPartition> = places
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
            self.tell(GroupEvent::Assigned(places));
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

    pub(super) fn give_back_what_is_given_up(&self, consumer: &BaseConsumer<impl ConsumerContext>) {
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
    fn give_back(&self, consumer: &BaseConsumer<impl ConsumerContext>) {
        if let Err(error) = consumer.incremental_unassign(&TopicPartitionList::new()) {
            self.failed(error);
        }
    }

    /// From here on nobody answers but the callback itself.
    pub(super) fn end(&self, consumer: &BaseConsumer<impl ConsumerContext>, fatal: Option<KafkaError>) {
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

    /// Whether there is nothing to be given back, or waited for.
    pub(super) fn has_nothing(&self) -> bool {
        let state = self.state();
        state.held.is_empty() && state.revoking.is_none()
    }

    pub(super) fn failed(&self, error: KafkaError) {
        // A member that was too busy to poll is told so, and joins again by itself: what it lost is told as lost.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::PollExceeded) {
            self.tell(GroupEvent::Failed(error));
        }
    }

    fn tell(&self, event: GroupEvent) {
        // At the end nobody listens any more.
        let _ = self.events.send(event);
    }

    fn state(&self) -> std::sync::MutexGuard<'_, MemberState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
