//! Which lenders are this process's to run? By what Kafka's group says, or all of them, where it is alone.
//!
//! That says who should run a lender. Who may is decided by its transactional id and its claim alone: an assignment that is wrong
//! or comes late costs time.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use tokio::sync::{mpsc, watch};

use crate::exit::{Diagnosis, ErrorCode, chain};
use crate::kafka::{self, Acl, GivenUp, GroupEvent, TopicPartition, code};
use crate::metrics::Metrics;
use crate::policy::{AfterSink, Denials};

/// Whose lenders are this process's.
#[derive(Debug, Clone)]
pub(crate) enum Assignment {
    /// There is no group.
    All,
    ByGroup(Arc<Granted>),
}

/// What the group has given to this process, by topic and partition.
#[derive(Debug, Default)]
pub(crate) struct Granted(watch::Sender<HashMap<TopicPartition, Arc<Grant>>>);

/// A partition that is this process's until it is taken.
#[derive(Debug, Default)]
pub(crate) struct Grant {
    is_revoked: watch::Sender<bool>,
    /// Dropped with the last lease: then the partition may be another's.
    given_up: Mutex<Option<Arc<GivenUp>>>,
}

/// A lender is this process's to run, until it is revoked. The partition is given back once all its leases are dropped.
#[derive(Debug, Clone, Default)]
pub(crate) enum Lease {
    /// There is no group.
    #[default]
    Always,
    Granted(Arc<Grant>),
    /// Another member has the partition, and nobody runs the lender: until this process has it.
    Adopted(Arc<Granted>, TopicPartition),
}

/// Which lease it was, without keeping anything from being given back.
#[derive(Debug, Default)]
pub(crate) struct PastLease(Weak<Grant>);

impl PastLease {
    /// Whether `lease` is of the same assignment: nothing was given to this process since.
    pub(crate) fn is_still(&self, lease: &Lease) -> bool {
        match lease {
            Lease::Granted(grant) => self.0.ptr_eq(&Arc::downgrade(grant)),
            Lease::Always | Lease::Adopted(..) => false,
        }
    }
}

impl Lease {
    pub(crate) fn past(&self) -> PastLease {
        PastLease(match self {
            Self::Granted(grant) => Arc::downgrade(grant),
            Self::Always | Self::Adopted(..) => Weak::new(),
        })
    }

    pub(crate) fn is_adopted(&self) -> bool {
        matches!(self, Self::Adopted(..))
    }

    /// Returns once the lender is to be given up; never, where there is no group.
    pub(crate) async fn revoked(&self) {
        match self {
            // The senders stand beside them.
            Self::Granted(grant) => drop(grant.is_revoked.subscribe().wait_for(|is_revoked| *is_revoked).await),
            // To be run under what the group gives.
            Self::Adopted(given, place) => drop(given.0.subscribe().wait_for(|given| given.contains_key(place)).await),
            Self::Always => std::future::pending().await,
        }
    }
}

impl Assignment {
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self, Self::ByGroup(_))
    }

    /// Waits until the partition is this process's.
    pub(crate) async fn lease(&self, place: &TopicPartition) -> Lease {
        let Self::ByGroup(given) = self else {
            return Lease::Always;
        };
        let mut given = given.0.subscribe();
        loop {
            if let Some(grant) = given.borrow_and_update().get(place) {
                return Lease::Granted(Arc::clone(grant));
            }
            // It cannot end: the sender is in `self`.
            let _ = given.changed().await;
        }
    }

    /// A lease of what is not this process's, where nobody runs it.
    pub(crate) fn adopted(&self, place: &TopicPartition) -> Lease {
        match self {
            Self::All => Lease::Always,
            Self::ByGroup(given) => Lease::Adopted(Arc::clone(given), place.clone()),
        }
    }
}

impl Granted {
    /// Follows what the group says; gives why this process cannot be in it, once that is sure.
    pub(crate) async fn follow(
        &self,
        group: &str,
        mut events: mpsc::UnboundedReceiver<GroupEvent>,
        denials: &Denials,
        metrics: &Metrics,
    ) -> GroupError {
        /// The same is said again after so long.
        const SAID_FOR: Duration = Duration::from_secs(30);
        /// librdkafka need not say again what a broker denies.
        const LOOK: Duration = Duration::from_secs(1);
        let (mut said, mut denied): (Option<(ErrorCode, Instant)>, Option<GroupError>) = (None, None);
        loop {
            let event = match tokio::time::timeout(LOOK, events.recv()).await {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => match denied.take_if(|denied| denials.after(denied.after()) != AfterSink::Reopen) {
                    Some(denied) => return denied,
                    None => continue,
                },
            };
            match event {
                GroupEvent::Assigned(places) => {
                    tracing::info!(partitions = %shown(&places), "assigned by the group");
                    // Nobody denies anything any more.
                    denials.after(AfterSink::Reopen);
                    denied = None;
                    self.give(places);
                }
                GroupEvent::Revoked(places, given_up) => {
                    tracing::info!(
                        partitions = %shown(&places),
                        "revoked by the group: what is open is finished, and the lenders are released"
                    );
                    self.take(&places, Some(&Arc::new(given_up)));
                }
                GroupEvent::Lost(places) => {
                    tracing::warn!(
                        partitions = %shown(&places),
                        "lost: the group heard nothing of this process for longer than its session; another may run its lenders by now"
                    );
                    self.take(&places, None);
                }
                GroupEvent::Failed(error) => {
                    let error = GroupError::of(group, error);
                    if denials.after(error.after()) != AfterSink::Reopen {
                        return error;
                    }
                    let code = error.code();
                    if said.is_none_or(|(known, at)| known != code || at.elapsed() > SAID_FOR) {
                        tracing::warn!(%code, advice = error.advice(), "{}", chain(&error));
                        said = Some((code, Instant::now()));
                    }
                    denied = Some(error).filter(|error| error.after() != AfterSink::Reopen);
                    continue;
                }
                GroupEvent::Ended(Some(error)) => return GroupError::of(group, error),
                GroupEvent::Ended(None) => break,
            }
            metrics.group_rebalances_total.inc();
            let count = i64::try_from(self.0.borrow().len()).unwrap_or(i64::MAX);
            metrics.group_partitions.set(count);
        }
        // It was left, which whoever left it knows.
        std::future::pending().await
    }

    fn give(&self, places: Vec<TopicPartition>) {
        self.0
            .send_modify(|given| given.extend(places.into_iter().map(|place| (place, Arc::default()))));
    }

    fn take(&self, places: &[TopicPartition], given_up: Option<&Arc<GivenUp>>) {
        self.0.send_modify(|given| {
            for grant in places.iter().filter_map(|place| given.remove(place)) {
                *grant.given_up.lock().unwrap_or_else(PoisonError::into_inner) = given_up.cloned();
                grant.is_revoked.send_replace(true);
            }
        });
    }
}

/// Why this process is no member of its group.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GroupError {
    #[error("joining the group: {acl} is not granted")]
    Denied { acl: Acl, source: KafkaError },
    #[error("another process is in the group {group} with this group.instance_id")]
    SameInstance { group: String, source: KafkaError },
    #[error("the group {group} is used by something else: its members share out by other rules")]
    OtherSoftware { group: String, source: KafkaError },
    #[error("the group {group} is used by something else: its members have the client ids {who}")]
    Strangers { group: String, who: String },
    #[error("the group {group} cannot be used")]
    Other { group: String, source: KafkaError },
}

impl GroupError {
    fn of(group: &str, source: KafkaError) -> Self {
        let group = group.to_owned();
        match code(&source) {
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => Self::Denied {
                acl: Acl::Group { group },
                source,
            },
            Some(RDKafkaErrorCode::FencedInstanceId) => Self::SameInstance { group, source },
            Some(RDKafkaErrorCode::InconsistentGroupProtocol | RDKafkaErrorCode::UnsupportedAssignor) => {
                Self::OtherSoftware { group, source }
            }
            _ => Self::Other { group, source },
        }
    }

    /// What a broker that has just started may say too is asked again for a while.
    fn after(&self) -> AfterSink {
        match self {
            Self::Denied { .. } | Self::OtherSoftware { .. } => AfterSink::AskAgain(self.exit()),
            Self::SameInstance { .. } | Self::Strangers { .. } => AfterSink::Stop(self.exit()),
            // librdkafka goes on trying.
            Self::Other { .. } => AfterSink::Reopen,
        }
    }
}

impl Diagnosis for GroupError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Denied { .. } => kafka::NOT_GRANTED,
            Self::SameInstance { .. } => ErrorCode::K25,
            Self::OtherSoftware { .. } | Self::Strangers { .. } => ErrorCode::K26,
            Self::Other { .. } => ErrorCode::K27,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Denied { .. } => kafka::GRANT,
            Self::SameInstance { .. } => {
                "give each process a group.instance_id of its own, such as the name of its pod"
            }
            Self::OtherSoftware { .. } | Self::Strangers { .. } => {
                "set group.id to a name that nothing else uses; `kafka-consumer-groups.sh --describe --members --group …` names who is \
                 in it"
            }
            Self::Other { .. } => kafka::UNREACHABLE,
        }
    }
}

/// Partitions, for the log.
fn shown(places: &[TopicPartition]) -> String {
    let mut by_topic: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (topic, partition) in places {
        by_topic.entry(topic).or_default().push(partition.to_string());
    }
    let texts = by_topic
        .into_iter()
        .map(|(topic, partitions)| format!("{topic} {}", partitions.join(",")));
    match places.is_empty() {
        true => "none".to_owned(),
        false => texts.collect::<Vec<_>>().join("; "),
    }
}
