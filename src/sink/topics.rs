//! Are the topics what the promises need? Checked before anything is written, created where they are missing, never
//! altered.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::Reason;
use super::cluster::{self, Cluster, ClusterError, Context, Isolation};
use super::transaction::{Topic, Topics};
use crate::config::{self, TopicSetting};
use crate::policy::Exit;

/// How long the brokers may take to answer one question.
const QUERY_LIMIT: Duration = Duration::from_secs(30);

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Accounts,
    Cursor,
    DeadLetters,
}

/// A topic that can be used.
#[derive(Debug, Clone)]
pub struct Checked {
    pub name: String,
    pub created: bool,
    pub partition_count: usize,
    /// `max.message.bytes`.
    pub max_message: usize,
    /// What differs from the settings that are wanted, with the command that mends it.
    pub warnings: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{doing}{reason}")]
    Kafka {
        doing: String,
        reason: Reason,
        source: KafkaError,
    },
    #[error("{doing}")]
    Broker { doing: String, source: RDKafkaErrorCode },
    #[error("the topic {topic} does not exist")]
    Missing { topic: String },
    #[error("the topic {topic} has cleanup.policy={found}, wanted is compact")]
    CleanupPolicy { topic: String, found: String },
    #[error("the topic {topic} was created but does not appear")]
    NotThere { topic: String },
}

impl TopicError {
    pub fn exit(&self) -> Exit {
        match self {
            Self::Kafka { .. } | Self::NotThere { .. } => Exit::Failed,
            Self::Cluster(_) | Self::Broker { .. } | Self::Missing { .. } | Self::CleanupPolicy { .. } => Exit::Usage,
        }
    }

    pub fn advice(&self) -> &'static str {
        match self {
            Self::Cluster(_) => "correct kafka.properties",
            Self::Kafka { .. } => "check kafka.bootstrap_servers, kafka.properties and that the brokers are up",
            Self::Broker { .. } => "grant DESCRIBE, DESCRIBE_CONFIGS and, to create, CREATE on the topics",
            Self::Missing { .. } => "run `d02-source setup`, or set kafka.create_topics = true",
            Self::CleanupPolicy { .. } => {
                "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name … --add-config \
                 cleanup.policy=compact; with any other policy accounts or progress would vanish"
            }
            Self::NotThere { .. } => "start again; if it lasts, look at the controller's log",
        }
    }
}

impl Topics {
    /// The topics of one lender among those that were checked for all.
    pub fn of(checked: &[Checked], kafka: &config::Kafka, lender: &str) -> Self {
        let names = kafka.topics.for_lender(lender);
        let topic = |name: &str| {
            let found = checked
                .iter()
                .find(|topic| topic.name == name)
                .expect("every lender's topics were checked");
            let Checked {
                name,
                max_message,
                partition_count,
                ..
            } = found.clone();
            Topic {
                name,
                max_message,
                partition_count,
            }
        };
        let (accounts, cursor, dead_letters) =
            (topic(&names.accounts), topic(&names.cursor), topic(&names.dead_letters));
        Self {
            accounts,
            cursor,
            dead_letters,
        }
    }
}

/// Checks the topics of `lenders`; creates those that are missing if `create`.
///
/// # Errors
/// When one is missing and may not be created, is not compacted though it must be, or the cluster does not answer.
pub async fn ensure_topics(
    cluster: &Cluster,
    kafka: &config::Kafka,
    lenders: &[&str],
    create: bool,
) -> Result<Vec<Checked>, TopicError> {
    let mut wanted: BTreeMap<String, Role> = BTreeMap::new();
    for lender in lenders {
        let names = kafka.topics.for_lender(lender);
        wanted.insert(names.accounts, Role::Accounts);
        wanted.insert(names.cursor, Role::Cursor);
        wanted.insert(names.dead_letters, Role::DeadLetters);
    }
    let admin = cluster.admin()?;
    let mut checked = Vec::new();
    for (name, role) in wanted {
        let settings = match role {
            Role::Accounts => &kafka.topic_settings.accounts,
            Role::Cursor => &kafka.topic_settings.cursor,
            Role::DeadLetters => &kafka.topic_settings.dead_letters,
        };
        let mut count = partition_count(cluster, &name).await?;
        let mut created = false;
        if count.is_none() {
            if !create {
                return Err(TopicError::Missing { topic: name });
            }
            create_topic(&admin, &name, settings).await?;
            (created, count) = (true, Some(appeared(cluster, &name).await?));
        }
        let found = describe(&admin, &ResourceSpecifier::Topic(&name)).await?;
        let found: HashMap<String, String> = found
            .entries
            .into_iter()
            .filter_map(|entry| Some((entry.name, entry.value?)))
            .collect();
        let policy = found.get("cleanup.policy").cloned().unwrap_or_default();
        if role != Role::DeadLetters && policy != "compact" {
            return Err(TopicError::CleanupPolicy {
                topic: name,
                found: policy,
            });
        }
        let partition_count = count.unwrap_or_default();
        /// The broker's own default.
        const DEFAULT_MAX_MESSAGE: usize = 1_048_588;
        let max_message = found.get("max.message.bytes").and_then(|text| text.parse().ok());
        checked.push(Checked {
            warnings: differences(&name, settings, partition_count, &found),
            name,
            created,
            partition_count,
            max_message: max_message.unwrap_or(DEFAULT_MAX_MESSAGE),
        });
    }
    Ok(checked)
}

/// Everything but the clean-up policy that differs, each with the command that mends it.
fn differences(
    name: &str,
    settings: &TopicSetting,
    partition_count: usize,
    found: &HashMap<String, String>,
) -> Vec<String> {
    let mut warnings = Vec::new();
    if usize::try_from(settings.partitions) != Ok(partition_count) {
        warnings.push(format!(
            "has {partition_count} partitions, configured are {}: what exists counts, more would break the keys' order",
            settings.partitions
        ));
    }
    for (key, wanted) in &settings.settings {
        let found = found.get(key).map_or("(unknown)", String::as_str);
        if found != wanted {
            warnings.push(format!(
                "{key} is {found}, configured is {wanted}: kafka-configs.sh --bootstrap-server … --alter --entity-type \
                 topics --entity-name {name} --add-config {key}={wanted}"
            ));
        }
    }
    warnings
}

async fn create_topic(admin: &AdminClient<Context>, name: &str, settings: &TopicSetting) -> Result<(), TopicError> {
    let replication = TopicReplication::Fixed(settings.replication_factor);
    let mut topic = NewTopic::new(name, settings.partitions, replication);
    for (key, value) in &settings.settings {
        topic = topic.set(key, value);
    }
    let given = |key: &str| settings.settings.contains_key(key);
    if !given("unclean.leader.election.enable") {
        topic = topic.set("unclean.leader.election.enable", "false");
    }
    if !given("min.insync.replicas") && effective_factor(admin, settings).await == Some(3) {
        topic = topic.set("min.insync.replicas", "2");
    }
    let doing = || format!("creating the topic {name}");
    let results = admin.create_topics([&topic], &options()).await;
    let results = results.map_err(|source| TopicError::Kafka {
        doing: doing(),
        reason: reason(admin),
        source,
    })?;
    match results.into_iter().next() {
        // Another instance may have been faster.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) | None => Ok(()),
        Some(Err((_, source))) => Err(TopicError::Broker { doing: doing(), source }),
    }
}

/// The replication factor that a new topic gets; `None` where the broker's default may not be read.
async fn effective_factor(admin: &AdminClient<Context>, settings: &TopicSetting) -> Option<i32> {
    if settings.replication_factor > 0 {
        return Some(settings.replication_factor);
    }
    let broker = admin
        .inner()
        .fetch_metadata(None, QUERY_LIMIT)
        .ok()?
        .brokers()
        .first()?
        .id();
    let described = describe(admin, &ResourceSpecifier::Broker(broker)).await.ok()?;
    described
        .get("default.replication.factor")?
        .value
        .as_ref()?
        .parse()
        .ok()
}

async fn describe(admin: &AdminClient<Context>, what: &ResourceSpecifier<'_>) -> Result<ConfigResource, TopicError> {
    let doing = || match what {
        ResourceSpecifier::Topic(name) => format!("reading the settings of the topic {name}"),
        ResourceSpecifier::Group(_) | ResourceSpecifier::Broker(_) => "reading the settings of a broker".to_owned(),
    };
    let results = admin.describe_configs([what], &options()).await;
    let results = results.map_err(|source| TopicError::Kafka {
        doing: doing(),
        reason: reason(admin),
        source,
    })?;
    match results.into_iter().next() {
        Some(Ok(described)) => Ok(described),
        Some(Err(source)) => Err(TopicError::Broker { doing: doing(), source }),
        None => Err(TopicError::Broker {
            doing: doing(),
            source: RDKafkaErrorCode::UnknownTopicOrPartition,
        }),
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(QUERY_LIMIT))
        .operation_timeout(Some(QUERY_LIMIT))
}

fn reason(admin: &AdminClient<Context>) -> Reason {
    admin.inner().context().reason()
}

/// `None` where the topic does not exist.
async fn partition_count(cluster: &Cluster, topic: &str) -> Result<Option<usize>, TopicError> {
    let (cluster, name) = (cluster.clone(), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let reader = cluster.reader(Isolation::ReadUncommitted)?;
        cluster::partition_count(reader.client(), &name, QUERY_LIMIT).map_err(|source| {
            let doing = format!("asking for the topic {name}");
            TopicError::Kafka {
                doing,
                reason: reader.context().reason(),
                source,
            }
        })
    });
    asked
        .await
        .unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Waits until a new topic is known to the brokers.
async fn appeared(cluster: &Cluster, topic: &str) -> Result<usize, TopicError> {
    let begun = Instant::now();
    while begun.elapsed() < QUERY_LIMIT {
        if let Some(count) = partition_count(cluster, topic).await? {
            return Ok(count);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(TopicError::NotThere {
        topic: topic.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_setting_found_wanted_and_the_command() {
        let settings = BTreeMap::from([
            ("retention.ms".to_owned(), "5".to_owned()),
            ("a".to_owned(), "b".to_owned()),
        ]);
        let settings = TopicSetting {
            partitions: 6,
            replication_factor: -1,
            settings,
        };
        let found = HashMap::from([
            ("retention.ms".to_owned(), "7".to_owned()),
            ("a".to_owned(), "b".to_owned()),
        ]);
        assert_eq!(
            differences("t", &settings, 3, &found),
            [
                "has 3 partitions, configured are 6: what exists counts, more would break the keys' order",
                "retention.ms is 7, configured is 5: kafka-configs.sh --bootstrap-server … --alter --entity-type \
                 topics --entity-name t --add-config retention.ms=5",
            ]
        );
        assert!(
            differences(
                "t",
                &settings,
                6,
                &HashMap::from([("retention.ms".into(), "5".into()), ("a".into(), "b".into())])
            )
            .is_empty()
        );
    }
}
