//! What do the brokers have, and what do they take? Topics are looked at, and the missing ones created; an existing one is
//! never altered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use super::topic_error::TopicError;
use super::topics::{Role, TopicDescription, TopicSpec, UsableTopic, topic_specs};
use crate::config;
use crate::kafka::{
    Acl, AclOperation, Aside, Cluster, ClusterError, Context, Isolation, LastReported, authorize, blocking, code,
    is_denied, may_pass,
};

/// How long the cluster may not answer, or not show what it created.
const LIMIT: Duration = Duration::from_secs(30);

/// One request for metadata. Short, because a shutdown waits for the thread it blocks.
const METADATA_STEP: Duration = Duration::from_secs(3);

/// One request of the admin client.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(200);

/// A topic as [`inspect_topics`] finds it.
#[derive(Debug)]
pub(crate) struct InspectedTopic {
    pub role: Role,
    pub name: String,
    pub state: Result<TopicState, TopicError>,
}

#[derive(Debug)]
pub(crate) enum TopicState {
    Usable(UsableTopic),
    /// There is none, and it would be created so.
    Missing {
        partition_count: i32,
        /// `None`: the broker's default, which it does not say.
        replication_factor: Option<usize>,
    },
}

/// The brokers as one of them shows itself.
#[derive(Debug)]
pub(crate) struct Brokers {
    pub count: usize,
    /// Of one broker, by Kafka's names; `None` where they may not be read.
    pub settings: Option<BTreeMap<String, String>>,
}

/// Checks the topics of `lenders`, creates the missing ones if `create`, and waits until they can be written to.
///
/// # Errors
/// When the cluster does not answer, or a topic is missing, may not be described, or must not be used as it is.
pub(super) async fn ensure_topics(
    cluster: &Cluster,
    kafka: &config::Kafka,
    lenders: &[&str],
    create: bool,
) -> Result<Vec<UsableTopic>, TopicError> {
    let wanted = topic_specs(kafka, lenders);
    for topic in &wanted {
        topic.check_settings()?;
    }
    let clients = AdminClients::new(cluster, &kafka.bootstrap_servers, LIMIT).await?;
    let mut missing = Vec::new();
    for topic in &wanted {
        if clients.partitions(&topic.name).await?.is_none() {
            missing.push(topic);
        }
    }
    let mut created = Vec::new();
    if !missing.is_empty() {
        if !create {
            return Err(TopicError::Missing {
                topics: missing.iter().map(|topic| topic.name.clone()).collect(),
            });
        }
        created = clients.create(&missing).await?;
    }
    let mut checked = Vec::with_capacity(wanted.len());
    for topic in &wanted {
        let found = clients.describe_topic(&topic.name).await?;
        let created = created.contains(&topic.name);
        checked.push(topic.usable(&found, created, &kafka.bootstrap_servers)?);
    }
    Ok(checked)
}

/// Looks at the brokers and at the topics of `lenders`, each by itself. Creates and alters nothing.
///
/// # Errors
/// When the cluster does not answer within `limit`, or a client cannot be set up.
pub(crate) async fn inspect_topics(
    cluster: &Cluster,
    kafka: &config::Kafka,
    lenders: &[&str],
    limit: Duration,
) -> Result<(Brokers, Vec<InspectedTopic>), TopicError> {
    let clients = AdminClients::new(cluster, &kafka.bootstrap_servers, limit).await?;
    let wanted = topic_specs(kafka, lenders);
    let mut brokers = None;
    let mut inspected = Vec::with_capacity(wanted.len());
    for topic in &wanted {
        let state = match clients.inspect(topic).await {
            Err(unreachable @ TopicError::Unreachable { .. }) => return Err(unreachable),
            state => state,
        };
        if brokers.is_none() {
            brokers = clients.brokers(&topic.name).await;
        }
        inspected.push(InspectedTopic {
            role: topic.role,
            name: topic.name.clone(),
            state,
        });
    }
    let brokers = brokers.unwrap_or(Brokers {
        count: 0,
        settings: None,
    });
    let default_factor = brokers
        .settings
        .as_ref()
        .and_then(|settings| settings.get(DEFAULT_FACTOR)?.parse().ok());
    for (topic, inspected) in wanted.iter().zip(&mut inspected) {
        let Ok(TopicState::Missing { replication_factor, .. }) = &mut inspected.state else {
            continue;
        };
        *replication_factor = topic.replication_factor(default_factor);
        if kafka.create_topics
            && let Err(error) = clients.try_to_create(topic, default_factor).await
        {
            inspected.state = Err(error);
        }
    }
    Ok((brokers, inspected))
}

/// What the broker gives a topic that is created without a factor of its own.
const DEFAULT_FACTOR: &str = "default.replication.factor";

/// The admin client, and a consumer beside it: nobody polls the admin client's main queue, so that only the consumer
/// hears why a connection fails.
struct AdminClients {
    admin: Arc<Aside<AdminClient<Context>>>,
    consumer: Arc<Aside<BaseConsumer<Context>>>,
    servers: String,
    /// How long the cluster may not answer, or not show what it created.
    limit: Duration,
}

/// What metadata says of one topic.
struct TopicMetadata {
    error: Option<RDKafkaErrorCode>,
    partitions: TopicPartitions,
}

#[derive(Debug, Clone, Copy)]
struct TopicPartitions {
    count: usize,
    replication_factor: usize,
    have_leaders: bool,
    /// Any broker.
    broker: Option<i32>,
    broker_count: usize,
}

impl AdminClients {
    async fn new(cluster: &Cluster, servers: &str, limit: Duration) -> Result<Self, TopicError> {
        let cluster = cluster.clone();
        let (admin, consumer) = blocking(move || {
            let consumer = cluster.reader(Isolation::ReadCommitted)?;
            Ok::<_, ClusterError>((Arc::new(cluster.admin()?), Arc::new(consumer)))
        })
        .await?;
        Ok(Self {
            admin,
            consumer,
            servers: servers.to_owned(),
            limit,
        })
    }

    /// Delivers what was reported meanwhile, and gives the last of it.
    async fn last_reported(&self) -> LastReported {
        /// More are not queued within one try.
        const REPORTS: usize = 100;
        let consumer = Arc::clone(&self.consumer);
        blocking(move || {
            for _ in 0..REPORTS {
                // Without time for it, a poll hands one report to the context and then says that nothing came.
                drop(consumer.poll(Duration::ZERO));
            }
            consumer.context().last_reported()
        })
        .await
    }

    /// The admin client, with a token where brokers ask for one.
    async fn admin(&self) -> &AdminClient<Context> {
        let admin = Arc::clone(&self.admin);
        blocking(move || authorize(admin.inner())).await;
        &self.admin
    }

    /// `operation`: what was tried.
    async fn error(&self, operation: AclOperation, topic: &str, source: KafkaError) -> TopicError {
        let doing = match operation {
            AclOperation::Create => "creating",
            AclOperation::Read | AclOperation::Write | AclOperation::Describe | AclOperation::DescribeConfigs => {
                "describing"
            }
        };
        let (topic, source) = (topic.to_owned(), Box::new(source));
        if is_denied(&source) {
            return TopicError::Denied {
                doing,
                acl: Acl::of_topic(operation, &topic),
                topic,
                source,
            };
        }
        TopicError::Kafka {
            doing,
            topic,
            last_reported: self.last_reported().await,
            source,
        }
    }

    /// The partitions of `topic`, or `None` if there is no such topic. Waits for a cluster that does not answer.
    async fn partitions(&self, topic: &str) -> Result<Option<TopicPartitions>, TopicError> {
        let begun = Instant::now();
        loop {
            let error = match self.metadata(topic).await {
                Ok(TopicMetadata {
                    error: None,
                    partitions,
                }) if partitions.count > 0 => return Ok(Some(partitions)),
                Ok(TopicMetadata {
                    error: None | Some(RDKafkaErrorCode::UnknownTopicOrPartition),
                    ..
                }) => return Ok(None),
                Ok(TopicMetadata { error: Some(code), .. }) => {
                    let error = KafkaError::MetadataFetch(code);
                    if !may_pass(code) || begun.elapsed() > self.limit {
                        return Err(self.error(AclOperation::Describe, topic, error).await);
                    }
                    error
                }
                Err(error) => error,
            };
            // Delivered at every try: the queue would keep them all.
            let last_reported = self.last_reported().await;
            if begun.elapsed() > self.limit {
                let (servers, source) = (self.servers.clone(), Box::new(error));
                return Err(TopicError::Unreachable {
                    servers,
                    limit: self.limit,
                    last_reported,
                    source,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn metadata(&self, topic: &str) -> KafkaResult<TopicMetadata> {
        let (consumer, topic) = (Arc::clone(&self.consumer), topic.to_owned());
        blocking(move || {
            let metadata = consumer.client().fetch_metadata(Some(&topic), METADATA_STEP)?;
            Ok(TopicMetadata::of(&metadata, &topic))
        })
        .await
    }

    /// The names of those that were created; somebody else may have created the others meanwhile.
    async fn create(&self, topics: &[&TopicSpec<'_>]) -> Result<Vec<String>, TopicError> {
        let default_factor = self.default_replication_factor(&topics[0].name).await;
        let created = self.ask_to_create(topics, default_factor, &options()).await?;
        for topic in topics {
            self.wait_until_ready(&topic.name).await?;
        }
        Ok(created)
    }

    /// Whether `topic` could be created, asked of the brokers, which then do nothing.
    async fn try_to_create(&self, topic: &TopicSpec<'_>, default_factor: Option<usize>) -> Result<(), TopicError> {
        let options = options().validate_only(true);
        self.ask_to_create(&[topic], default_factor, &options).await.map(drop)
    }

    async fn ask_to_create(
        &self,
        topics: &[&TopicSpec<'_>],
        default_factor: Option<usize>,
        options: &AdminOptions,
    ) -> Result<Vec<String>, TopicError> {
        let settings: Vec<_> = topics
            .iter()
            .map(|topic| topic.settings(topic.replication_factor(default_factor)))
            .collect();
        let new: Vec<_> = topics
            .iter()
            .zip(&settings)
            .map(|(topic, settings)| {
                let replication = TopicReplication::Fixed(topic.setting.replication_factor);
                let new = NewTopic::new(&topic.name, topic.setting.partitions, replication);
                settings.iter().fold(new, |new, (name, value)| new.set(name, value))
            })
            .collect();
        let results = match self.admin().await.create_topics(&new, options).await {
            Ok(results) => results,
            Err(source) => return Err(self.error(AclOperation::Create, &topics[0].name, source).await),
        };
        let mut created = Vec::new();
        for result in results {
            match result {
                Ok(name) => created.push(name),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((name, code)) => {
                    return Err(self.error(AclOperation::Create, &name, KafkaError::AdminOp(code)).await);
                }
            }
        }
        Ok(created)
    }

    async fn wait_until_ready(&self, topic: &str) -> Result<(), TopicError> {
        let begun = Instant::now();
        loop {
            if self
                .partitions(topic)
                .await?
                .is_some_and(|partitions| partitions.have_leaders)
            {
                return Ok(());
            }
            if begun.elapsed() > self.limit {
                return Err(TopicError::NotReady {
                    topic: topic.to_owned(),
                    limit: self.limit,
                });
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The broker's `default.replication.factor`, unless it may not be read.
    async fn default_replication_factor(&self, topic: &str) -> Option<usize> {
        let settings = self.brokers(topic).await?.settings?;
        settings.get(DEFAULT_FACTOR)?.parse().ok()
    }

    /// The brokers; `topic`: what to ask for, whether there is one or not.
    async fn brokers(&self, topic: &str) -> Option<Brokers> {
        let TopicPartitions {
            broker, broker_count, ..
        } = self.metadata(topic).await.ok()?.partitions;
        let described = self.describe(ResourceSpecifier::Broker(broker?)).await.ok();
        Some(Brokers {
            count: broker_count,
            settings: described.map(settings),
        })
    }

    /// What `topic` is, or how it would be created.
    async fn inspect(&self, topic: &TopicSpec<'_>) -> Result<TopicState, TopicError> {
        topic.check_settings()?;
        if self.partitions(&topic.name).await?.is_none() {
            return Ok(TopicState::Missing {
                partition_count: topic.setting.partitions,
                replication_factor: None,
            });
        }
        let found = self.describe_topic(&topic.name).await?;
        topic.usable(&found, false, &self.servers).map(TopicState::Usable)
    }

    async fn describe(&self, resource: ResourceSpecifier<'_>) -> KafkaResult<ConfigResource> {
        let described = self.admin().await.describe_configs([&resource], &options()).await?;
        let one = described
            .into_iter()
            .next()
            .ok_or(KafkaError::AdminOp(RDKafkaErrorCode::BadMessage))?;
        one.map_err(KafkaError::AdminOp)
    }

    /// A topic that is known to exist.
    async fn describe_topic(&self, topic: &str) -> Result<TopicDescription, TopicError> {
        /// Long after a broker has heard of a topic that another one shows.
        const HEARD: Duration = Duration::from_secs(10);
        let begun = Instant::now();
        loop {
            let error = match (
                self.partitions(topic).await?,
                self.describe(ResourceSpecifier::Topic(topic)).await,
            ) {
                (Some(partitions), Ok(described)) if !described.entries.is_empty() => {
                    return Ok(TopicDescription {
                        partition_count: partitions.count,
                        replication_factor: partitions.replication_factor,
                        settings: settings(described),
                    });
                }
                // rdkafka 0.39 leaves out why a broker shows none: it does not know the topic yet, or the ACL is missing.
                (Some(_), Ok(_)) if begun.elapsed() > HEARD => {
                    let topic = topic.to_owned();
                    return Err(TopicError::NoSettings { topic });
                }
                (_, Ok(_)) => KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition),
                (_, Err(error)) => error,
            };
            // A broker may not yet know of a topic that another has just shown.
            let is_final = code(&error).is_some_and(|code| !may_pass(code));
            if is_final || begun.elapsed() > self.limit {
                return Err(self.error(AclOperation::DescribeConfigs, topic, error).await);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl TopicMetadata {
    fn of(metadata: &Metadata, topic: &str) -> Self {
        let broker = metadata.brokers().first().map(|broker| broker.id());
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        Self {
            error: found.and_then(|found| found.error()).map(RDKafkaErrorCode::from),
            partitions: TopicPartitions {
                count: partitions.len(),
                replication_factor: partitions
                    .iter()
                    .map(|partition| partition.replicas().len())
                    .min()
                    .unwrap_or(0),
                have_leaders: partitions.iter().all(|partition| partition.leader() >= 0),
                broker,
                broker_count: metadata.brokers().len(),
            },
        }
    }
}

/// The settings that have a value.
fn settings(described: ConfigResource) -> BTreeMap<String, String> {
    let entries = described.entries.into_iter();
    entries.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ADMIN_TIMEOUT))
}
