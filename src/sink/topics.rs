//! Do the topics exist, and as they must be? The missing are created, an existing one is never altered.
//!
//! | Found | Then |
//! |---|---|
//! | no such topic | it is created, or an error |
//! | `accounts` or `cursor` not exactly compacted | an error: the log would lose what the promises rest on |
//! | any other difference | a warning, with the command that mends it |

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;

use crate::config::{self, TopicSetting};
use crate::exit::Exit;
use crate::kafka::{
    Acl, AclOperation, Cluster, ClusterError, Context, GRANT, Isolation, LastReported, authorize, blocking, code,
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

const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";
const MAX_MESSAGE: &str = "max.message.bytes";
const MIN_INSYNC: &str = "min.insync.replicas";
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// A dead letter without its row, or a cursor record with all its ranges, takes no more.
const MIN_MAX_MESSAGE: usize = 64 << 10;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    Accounts,
    Cursor,
    Changes,
    DeadLetters,
}

/// A topic that is there and can be used.
#[derive(Debug, Clone)]
pub struct Checked {
    pub role: Role,
    pub name: String,
    /// Whether this call created it.
    pub created: bool,
    pub partition_count: usize,
    /// Of the partition that has the fewest replicas.
    pub replication_factor: usize,
    /// `max.message.bytes`.
    pub max_message: usize,
    /// Differences from the wanted settings that do no harm to a promise.
    pub warnings: Vec<Difference>,
}

/// How a topic differs from what is wanted, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// As a clause: "it has 3 partitions".
    pub found: String,
    pub wanted: String,
    pub advice: String,
    /// "is" or "are": what is wanted.
    verb: &'static str,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            found,
            wanted,
            advice,
            verb,
        } = self;
        write!(f, "{found}, wanted {verb} {wanted}; {advice}")
    }
}

/// A topic as [`inspect_topics`] finds it.
#[derive(Debug)]
pub struct Inspected {
    pub role: Role,
    pub name: String,
    pub state: Result<State, TopicError>,
}

#[derive(Debug)]
pub enum State {
    Usable(Checked),
    /// There is none, and it would be created so.
    Missing {
        partition_count: i32,
        /// `None`: the broker's default, which it does not say.
        replication_factor: Option<usize>,
    },
}

/// The brokers as one of them shows itself.
#[derive(Debug)]
pub struct Brokers {
    pub count: usize,
    /// Of one broker, by Kafka's names; `None` where they may not be read.
    pub settings: Option<BTreeMap<String, String>>,
}

/// Why the topics cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{key}.\"cleanup.policy\" is {found}, but it can only be compact")]
    CleanupSetting { key: &'static str, found: String },
    #[error("{key}.\"max.message.bytes\" is {found}, it must be at least {MIN_MAX_MESSAGE}")]
    SmallSetting { key: &'static str, found: usize },
    #[error("no answer from {servers} within {}{last_reported}", humantime::format_duration(*.limit))]
    Unreachable {
        servers: String,
        limit: Duration,
        last_reported: LastReported,
        source: Box<KafkaError>,
    },
    #[error("missing topics: {}: `d02-source setup` creates them", .topics.join(", "))]
    Missing { topics: Vec<String> },
    #[error("topic {topic}: cleanup.policy is {found}, it must be exactly compact")]
    CleanupPolicy {
        topic: String,
        found: String,
        advice: String,
    },
    #[error("{doing} topic {topic}{last_reported}")]
    Kafka {
        doing: &'static str,
        topic: String,
        last_reported: LastReported,
        source: Box<KafkaError>,
    },
    #[error("{doing} topic {topic}: {acl} is not granted")]
    Denied {
        doing: &'static str,
        topic: String,
        acl: Acl,
        source: Box<KafkaError>,
    },
    #[error(
        "topic {topic} was created, but not all of its partitions have a leader after {}",
        humantime::format_duration(LIMIT)
    )]
    NotReady { topic: String },
    #[error(
        "topic {topic}: the brokers show none of its settings, as where DESCRIBE_CONFIGS on topic {topic} is not granted"
    )]
    NoSettings { topic: String },
    #[error("topic {topic}: the broker does not say what {setting} is")]
    NoSetting { topic: String, setting: &'static str },
    #[error("topic {topic}: max.message.bytes is {found}, it must be at least {MIN_MAX_MESSAGE}")]
    TooSmall { topic: String, found: usize },
}

impl TopicError {
    /// What a person should do about it.
    pub fn advice(&self) -> &str {
        match self {
            Self::Cluster(_) => "correct kafka.properties",
            Self::SmallSetting { .. } => "raise it, or leave it out",
            Self::CleanupSetting { .. } => "leave it out: the latest record of every key has to stay",
            Self::Unreachable { .. } => {
                "check that the brokers are up, kafka.bootstrap_servers, and the security settings in kafka.properties"
            }
            Self::Missing { .. } => {
                "run it, or set kafka.create_topics = true; a topic that may not be described looks missing too"
            }
            Self::CleanupPolicy { advice, .. } => advice,
            Self::Denied { .. } | Self::NoSettings { .. } => GRANT,
            Self::Kafka { source, .. } => match code(source) {
                Some(RDKafkaErrorCode::InvalidReplicationFactor) => {
                    "set kafka.topic_settings.*.replication_factor to no more than there are brokers"
                }
                Some(RDKafkaErrorCode::InvalidTopic) => "correct the name in kafka.topics",
                Some(
                    RDKafkaErrorCode::InvalidPartitions
                    | RDKafkaErrorCode::InvalidConfig
                    | RDKafkaErrorCode::PolicyViolation,
                ) => "correct kafka.topic_settings to what this cluster allows, or have the topic created by its owner",
                _ => "check that the brokers are up, then start again",
            },
            Self::NotReady { .. } => "check that the brokers are up, then start again",
            Self::NoSetting { .. } => "check that the brokers are Kafka 2.4 or newer",
            Self::TooSmall { .. } => "raise it with kafka-configs.sh, or take out the override of this topic",
        }
    }

    /// The process's exit code: whether a restart may mend it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Cluster(_)
            | Self::CleanupSetting { .. }
            | Self::SmallSetting { .. }
            | Self::Missing { .. }
            | Self::Denied { .. }
            | Self::CleanupPolicy { .. }
            | Self::NoSettings { .. }
            | Self::NoSetting { .. }
            | Self::TooSmall { .. } => Exit::Usage,
            Self::Unreachable { .. } | Self::NotReady { .. } => Exit::Failed,
            Self::Kafka { source, .. } => match code(source) {
                Some(code) if !may_pass(code) => Exit::Usage,
                _ => Exit::Failed,
            },
        }
    }
}

/// Checks the topics of `lenders`, creates the missing ones if `create`, and waits until they can be written to.
///
/// # Errors
/// When the cluster does not answer, or a topic is missing, may not be described, or must not be used as it is.
pub async fn ensure_topics(
    cluster: &Cluster,
    kafka: &config::Kafka,
    lenders: &[&str],
    create: bool,
) -> Result<Vec<Checked>, TopicError> {
    let wanted = wanted(kafka, lenders);
    for topic in &wanted {
        topic.check_settings()?;
    }
    let clients = Clients::new(cluster, &kafka.bootstrap_servers, LIMIT).await?;
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
        let found = clients.found(&topic.name).await?;
        let created = created.contains(&topic.name);
        checked.push(topic.checked(&found, created, &kafka.bootstrap_servers)?);
    }
    Ok(checked)
}

/// Looks at the brokers and at the topics of `lenders`, each by itself. Creates and alters nothing.
///
/// # Errors
/// When the cluster does not answer within `limit`, or a client cannot be set up.
pub async fn inspect_topics(
    cluster: &Cluster,
    kafka: &config::Kafka,
    lenders: &[&str],
    limit: Duration,
) -> Result<(Brokers, Vec<Inspected>), TopicError> {
    let clients = Clients::new(cluster, &kafka.bootstrap_servers, limit).await?;
    let wanted = wanted(kafka, lenders);
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
        inspected.push(Inspected {
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
        let Ok(State::Missing { replication_factor, .. }) = &mut inspected.state else {
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

/// The topics of one lender, with what each takes.
#[derive(Debug, Clone)]
pub struct Topics {
    pub accounts: Topic,
    pub cursor: Topic,
    /// `None`: the trail is turned off.
    pub changes: Option<Topic>,
    pub dead_letters: Topic,
}

#[derive(Debug, Clone)]
pub struct Topic {
    pub name: String,
    /// `max.message.bytes`.
    pub max_message: usize,
}

impl Topics {
    /// The topics of one lender among `checked`, which [`ensure_topics`] gave for this lender too.
    pub fn of(checked: &[Checked], kafka: &config::Kafka, lender: &str) -> Self {
        let names = kafka.topics.for_lender(lender);
        let topic = |role: Role, name: &str| {
            let found = checked.iter().find(|topic| topic.role == role && topic.name == name);
            let found = found.expect("the topics of every lender were checked");
            Topic {
                name: found.name.clone(),
                max_message: found.max_message,
            }
        };
        Self {
            accounts: topic(Role::Accounts, &names.accounts),
            cursor: topic(Role::Cursor, &names.cursor),
            changes: names.changes.map(|name| topic(Role::Changes, &name)),
            dead_letters: topic(Role::DeadLetters, &names.dead_letters),
        }
    }

    /// What every topic takes that an account's row is written to, in bytes.
    pub fn largest_row(&self) -> usize {
        let accounts = self.accounts.max_message;
        self.changes
            .as_ref()
            .map_or(accounts, |changes| accounts.min(changes.max_message))
    }
}

/// What the broker gives a topic that is created without a factor of its own.
const DEFAULT_FACTOR: &str = "default.replication.factor";

/// A topic as it should be.
struct Wanted<'a> {
    role: Role,
    name: String,
    setting: &'a TopicSetting,
}

/// A topic as it is.
#[derive(Debug, Default)]
struct Found {
    partition_count: usize,
    /// Of the partition that has the fewest replicas.
    replication_factor: usize,
    settings: BTreeMap<String, String>,
}

/// Each distinct name once.
fn wanted<'a>(kafka: &'a config::Kafka, lenders: &[&str]) -> Vec<Wanted<'a>> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    for lender in lenders {
        let names = kafka.topics.for_lender(lender);
        let settings = &kafka.topic_settings;
        for (role, name, setting) in [
            (Role::Accounts, Some(names.accounts), &settings.accounts),
            (Role::Cursor, Some(names.cursor), &settings.cursor),
            (Role::Changes, names.changes, &settings.changes),
            (Role::DeadLetters, Some(names.dead_letters), &settings.dead_letters),
        ] {
            let Some(name) = name else { continue };
            if !wanted.iter().any(|topic| topic.role == role && topic.name == name) {
                wanted.push(Wanted { role, name, setting });
            }
        }
    }
    wanted
}

impl Role {
    /// Where its settings stand in the configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Accounts => "kafka.topic_settings.accounts",
            Self::Cursor => "kafka.topic_settings.cursor",
            Self::Changes => "kafka.topic_settings.changes",
            Self::DeadLetters => "kafka.topic_settings.dead_letters",
        }
    }

    /// Whether the latest record of every key has to stay, and nothing else may go.
    fn is_compacted(self) -> bool {
        match self {
            Self::Accounts | Self::Cursor => true,
            Self::Changes | Self::DeadLetters => false,
        }
    }
}

impl Wanted<'_> {
    /// What is asked for must be what can be used, before anything is created so.
    fn check_settings(&self) -> Result<(), TopicError> {
        let setting = |name| self.setting.settings.get(name);
        if let Some(found) = setting(CLEANUP_POLICY).filter(|found| self.role.is_compacted() && *found != COMPACT) {
            let (key, found) = (self.role.key(), found.clone());
            return Err(TopicError::CleanupSetting { key, found });
        }
        match setting(MAX_MESSAGE).and_then(|size| size.parse().ok()) {
            Some(found) if found < MIN_MAX_MESSAGE => Err(TopicError::SmallSetting {
                key: self.role.key(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// The settings that it should have with `replication_factor` replicas, if that is known.
    fn settings(&self, replication_factor: Option<usize>) -> BTreeMap<String, String> {
        let mut settings = self.setting.settings.clone();
        let mut default = |name: &str, value: &str| {
            settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        };
        // A replica that was not in sync lacks committed records: rather no leader than that one.
        default(UNCLEAN_ELECTION, "false");
        if replication_factor == Some(3) {
            // What is acknowledged survives the loss of a broker, and one may be away.
            default(MIN_INSYNC, "2");
        }
        if self.role.is_compacted() {
            default(CLEANUP_POLICY, COMPACT);
        }
        settings
    }

    /// The factor it is created with, if that is known: −1 is the broker's default.
    fn replication_factor(&self, brokers_default: Option<usize>) -> Option<usize> {
        usize::try_from(self.setting.replication_factor)
            .ok()
            .or(brokers_default)
    }

    /// What `found` is, as far as the source can use it.
    fn checked(&self, found: &Found, created: bool, servers: &str) -> Result<Checked, TopicError> {
        Ok(Checked {
            role: self.role,
            name: self.name.clone(),
            created,
            partition_count: found.partition_count,
            replication_factor: found.replication_factor,
            max_message: found.max_message(&self.name)?,
            warnings: self.judge(found, servers)?,
        })
    }

    /// What differs and does no harm to a promise; what does is an error.
    fn judge(&self, found: &Found, servers: &str) -> Result<Vec<Difference>, TopicError> {
        let mut warnings = Vec::new();
        warnings.extend(self.partition_warning(found, servers));
        warnings.extend(self.replication_warning(found));
        for (name, wanted) in self.settings(Some(found.replication_factor)) {
            let value = found.settings.get(&name);
            if value.is_some_and(|value| is_same(&name, value, &wanted)) {
                continue;
            }
            let shown = value.map_or("unknown to the broker", String::as_str);
            let command = self.alter_command(servers, &name, &wanted);
            if name == CLEANUP_POLICY && self.role.is_compacted() {
                let (topic, found) = (self.name.clone(), shown.to_owned());
                return Err(TopicError::CleanupPolicy {
                    topic,
                    found,
                    advice: format!("run: {command}"),
                });
            }
            warnings.push(Difference {
                found: format!("{name} is {shown}"),
                wanted,
                advice: format!("to change it: {command}"),
                verb: "is",
            });
        }
        Ok(warnings)
    }

    /// Keys move when partitions are added, so that is for a topic without records.
    fn partition_warning(&self, found: &Found, servers: &str) -> Option<Difference> {
        let (count, wanted) = (found.partition_count, usize::try_from(self.setting.partitions).ok()?);
        let keep = format!("{}.partitions = {count}", self.role.key());
        let advice = match count.cmp(&wanted) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => format!(
                "while it is empty: kafka-topics.sh --bootstrap-server {servers} --alter --topic {} --partitions {wanted}; \
                 later keys would move: set {keep}",
                self.name
            ),
            std::cmp::Ordering::Greater => format!("they cannot be taken away: set {keep}"),
        };
        Some(Difference {
            found: format!("it has {count} partitions"),
            wanted: wanted.to_string(),
            advice,
            verb: "are",
        })
    }

    fn replication_warning(&self, found: &Found) -> Option<Difference> {
        let (factor, wanted) = (found.replication_factor, self.replication_factor(None)?);
        (factor != wanted).then(|| Difference {
            found: format!("its replication factor is {factor}"),
            wanted: wanted.to_string(),
            advice: format!(
                "to change it: kafka-reassign-partitions.sh with {wanted} replicas for every partition, or set \
                 {}.replication_factor = {factor}",
                self.role.key()
            ),
            verb: "is",
        })
    }

    fn alter_command(&self, servers: &str, name: &str, value: &str) -> String {
        let value = if value.contains(',') {
            format!("'[{value}]'")
        } else {
            value.to_owned()
        };
        format!(
            "kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {} --add-config \
             {name}={value}",
            self.name
        )
    }
}

impl Found {
    fn max_message(&self, topic: &str) -> Result<usize, TopicError> {
        let topic = topic.to_owned();
        match self.settings.get(MAX_MESSAGE).and_then(|value| value.parse().ok()) {
            None => Err(TopicError::NoSetting {
                topic,
                setting: MAX_MESSAGE,
            }),
            Some(found) if found < MIN_MAX_MESSAGE => Err(TopicError::TooSmall { topic, found }),
            Some(found) => Ok(found),
        }
    }
}

/// Whether two spellings mean the same: Kafka answers `0.5` for `0.50`, and a list in any order.
fn is_same(name: &str, one: &str, other: &str) -> bool {
    fn parsed<T: std::str::FromStr>(one: &str, other: &str) -> Option<(T, T)> {
        Some((one.trim().parse().ok()?, other.trim().parse().ok()?))
    }
    fn list(text: &str) -> Vec<&str> {
        let mut items: Vec<_> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        items.sort_unstable();
        items
    }
    if name == CLEANUP_POLICY {
        return list(one) == list(other);
    }
    if let Some((one, other)) = parsed::<i64>(one, other) {
        return one == other;
    }
    if let Some((one, other)) = parsed::<f64>(one, other) {
        return one == other;
    }
    one.trim().eq_ignore_ascii_case(other.trim())
}

/// The admin client, and a consumer beside it: nobody polls the admin client's main queue, so that only the consumer
/// hears why a connection fails.
struct Clients {
    admin: Arc<AdminClient<Context>>,
    consumer: Arc<BaseConsumer<Context>>,
    servers: String,
    /// How long the cluster may not answer, or not show what it created.
    limit: Duration,
}

/// What metadata says of one topic.
struct Seen {
    error: Option<RDKafkaErrorCode>,
    partitions: Partitions,
}

#[derive(Debug, Clone, Copy)]
struct Partitions {
    count: usize,
    replication_factor: usize,
    have_leaders: bool,
    /// Any broker.
    broker: Option<i32>,
    broker_count: usize,
}

impl Clients {
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
    async fn partitions(&self, topic: &str) -> Result<Option<Partitions>, TopicError> {
        let begun = Instant::now();
        loop {
            let error = match self.seen(topic).await {
                Ok(Seen {
                    error: None,
                    partitions,
                }) if partitions.count > 0 => return Ok(Some(partitions)),
                Ok(Seen {
                    error: None | Some(RDKafkaErrorCode::UnknownTopicOrPartition),
                    ..
                }) => return Ok(None),
                Ok(Seen { error: Some(code), .. }) => {
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

    async fn seen(&self, topic: &str) -> KafkaResult<Seen> {
        let (consumer, topic) = (Arc::clone(&self.consumer), topic.to_owned());
        blocking(move || {
            let metadata = consumer.client().fetch_metadata(Some(&topic), METADATA_STEP)?;
            Ok(Seen::of(&metadata, &topic))
        })
        .await
    }

    /// The names of those that were created; somebody else may have created the others meanwhile.
    async fn create(&self, topics: &[&Wanted<'_>]) -> Result<Vec<String>, TopicError> {
        let default_factor = self.default_replication_factor(&topics[0].name).await;
        let created = self.ask_to_create(topics, default_factor, &options()).await?;
        for topic in topics {
            self.wait_until_ready(&topic.name).await?;
        }
        Ok(created)
    }

    /// Whether `topic` could be created, asked of the brokers, which then do nothing.
    async fn try_to_create(&self, topic: &Wanted<'_>, default_factor: Option<usize>) -> Result<(), TopicError> {
        let options = options().validate_only(true);
        self.ask_to_create(&[topic], default_factor, &options).await.map(drop)
    }

    async fn ask_to_create(
        &self,
        topics: &[&Wanted<'_>],
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
        let Partitions {
            broker, broker_count, ..
        } = self.seen(topic).await.ok()?.partitions;
        let described = self.describe(ResourceSpecifier::Broker(broker?)).await.ok();
        Some(Brokers {
            count: broker_count,
            settings: described.map(settings),
        })
    }

    /// What `topic` is, or how it would be created.
    async fn inspect(&self, topic: &Wanted<'_>) -> Result<State, TopicError> {
        topic.check_settings()?;
        if self.partitions(&topic.name).await?.is_none() {
            return Ok(State::Missing {
                partition_count: topic.setting.partitions,
                replication_factor: None,
            });
        }
        let found = self.found(&topic.name).await?;
        topic.checked(&found, false, &self.servers).map(State::Usable)
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
    async fn found(&self, topic: &str) -> Result<Found, TopicError> {
        /// Long after a broker has heard of a topic that another one shows.
        const HEARD: Duration = Duration::from_secs(10);
        let begun = Instant::now();
        loop {
            let error = match (
                self.partitions(topic).await?,
                self.describe(ResourceSpecifier::Topic(topic)).await,
            ) {
                (Some(partitions), Ok(described)) if !described.entries.is_empty() => {
                    return Ok(Found {
                        partition_count: partitions.count,
                        replication_factor: partitions.replication_factor,
                        settings: settings(described),
                    });
                }
                // rdkafka 0.39 leaves out why a broker shows none: it does not know the topic yet, or the right is missing.
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

impl Seen {
    fn of(metadata: &Metadata, topic: &str) -> Self {
        let broker = metadata.brokers().first().map(|broker| broker.id());
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        Self {
            error: found.and_then(|found| found.error()).map(RDKafkaErrorCode::from),
            partitions: Partitions {
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

#[cfg(test)]
mod tests {
    use super::*;

    const SERVERS: &str = "localhost:9092";

    fn setting(partitions: i32, replication_factor: i32, settings: &[(&str, &str)]) -> TopicSetting {
        TopicSetting {
            partitions,
            replication_factor,
            settings: map(settings),
        }
    }

    fn map(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn accounts(setting: &TopicSetting) -> Wanted<'_> {
        Wanted {
            role: Role::Accounts,
            name: "d02.accounts".to_owned(),
            setting,
        }
    }

    fn found(partition_count: usize, replication_factor: usize, settings: &[(&str, &str)]) -> Found {
        let mut settings = map(settings);
        settings
            .entry(CLEANUP_POLICY.to_owned())
            .or_insert_with(|| COMPACT.to_owned());
        settings
            .entry(UNCLEAN_ELECTION.to_owned())
            .or_insert_with(|| "false".to_owned());
        Found {
            partition_count,
            replication_factor,
            settings,
        }
    }

    #[track_caller]
    fn warnings(setting: &TopicSetting, found: &Found) -> Vec<String> {
        texts(&accounts(setting).judge(found, SERVERS).expect("usable"))
    }

    fn texts(differences: &[Difference]) -> Vec<String> {
        differences.iter().map(Difference::to_string).collect()
    }

    #[test]
    fn a_topic_as_wanted_gives_no_warning_however_its_values_are_spelt() {
        let wanted = setting(
            6,
            -1,
            &[
                ("min.cleanable.dirty.ratio", "0.50"),
                ("preallocate", "True"),
                ("segment.ms", "007"),
            ],
        );
        let is = [
            ("min.cleanable.dirty.ratio", "0.5"),
            ("preallocate", "true"),
            ("segment.ms", "7"),
        ];
        assert_eq!(warnings(&wanted, &found(6, 1, &is)), [""; 0]);
        assert!(is_same(CLEANUP_POLICY, "delete,compact", "compact, delete"));
        assert!(!is_same("segment.ms", "9007199254740993", "9007199254740992"));
    }

    #[test]
    fn another_cleanup_policy_is_an_error_with_the_command_that_mends_it() {
        let wanted = setting(6, -1, &[]);
        for policy in ["delete", "compact,delete"] {
            let error = accounts(&wanted).judge(&found(6, 1, &[(CLEANUP_POLICY, policy)]), SERVERS);
            let error = error.expect_err("must be compacted");
            let text = format!("topic d02.accounts: cleanup.policy is {policy}, it must be exactly compact");
            assert_eq!(error.to_string(), text);
            assert_eq!(
                error.advice(),
                "run: kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name \
                 d02.accounts --add-config cleanup.policy=compact"
            );
            assert_eq!(error.exit(), Exit::Usage);
        }
    }

    #[test]
    fn the_configuration_cannot_ask_for_another_cleanup_policy() {
        let asked = setting(6, -1, &[(CLEANUP_POLICY, "compact,delete")]);
        let error = accounts(&asked).check_settings().expect_err("must be compacted");
        assert_eq!(
            error.to_string(),
            "kafka.topic_settings.accounts.\"cleanup.policy\" is compact,delete, but it can only be compact"
        );
        let letters = Wanted {
            role: Role::DeadLetters,
            ..accounts(&asked)
        };
        assert!(letters.check_settings().is_ok());
    }

    #[test]
    fn dead_letters_may_be_cleaned_as_one_likes() {
        let wanted = setting(1, -1, &[(CLEANUP_POLICY, "delete")]);
        let letters = Wanted {
            role: Role::DeadLetters,
            name: "d02.dead".to_owned(),
            setting: &wanted,
        };
        let warnings = texts(&letters.judge(&found(1, 1, &[]), SERVERS).expect("usable"));
        assert_eq!(
            warnings,
            [
                "cleanup.policy is compact, wanted is delete; to change it: kafka-configs.sh --bootstrap-server \
              localhost:9092 --alter --entity-type topics --entity-name d02.dead --add-config cleanup.policy=delete"
            ]
        );
    }

    #[test]
    fn other_differences_are_warnings_with_what_mends_them() {
        let wanted = setting(6, 3, &[("delete.retention.ms", "604800000"), ("made.up", "a,b")]);
        let configs = [
            ("delete.retention.ms", "86400000"),
            (MIN_INSYNC, "1"),
            (UNCLEAN_ELECTION, "true"),
        ];
        let command = "kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name \
                       d02.accounts --add-config";
        assert_eq!(
            warnings(&wanted, &found(3, 3, &configs)),
            [
                "it has 3 partitions, wanted are 6; while it is empty: kafka-topics.sh --bootstrap-server localhost:9092 \
                 --alter --topic d02.accounts --partitions 6; later keys would move: set \
                 kafka.topic_settings.accounts.partitions = 3"
                    .to_owned(),
                format!(
                    "delete.retention.ms is 86400000, wanted is 604800000; to change it: {command} \
                     delete.retention.ms=604800000"
                ),
                format!("made.up is unknown to the broker, wanted is a,b; to change it: {command} made.up='[a,b]'"),
                format!("min.insync.replicas is 1, wanted is 2; to change it: {command} min.insync.replicas=2"),
                format!(
                    "unclean.leader.election.enable is true, wanted is false; to change it: {command} \
                     unclean.leader.election.enable=false"
                ),
            ]
        );
        let wanted = setting(6, 3, &[]);
        assert_eq!(
            warnings(&wanted, &found(12, 2, &[])),
            [
                "it has 12 partitions, wanted are 6; they cannot be taken away: set \
                 kafka.topic_settings.accounts.partitions = 12",
                "its replication factor is 2, wanted is 3; to change it: kafka-reassign-partitions.sh with 3 replicas for \
                 every partition, or set kafka.topic_settings.accounts.replication_factor = 2",
            ]
        );
    }

    #[test]
    fn two_replicas_in_sync_are_wanted_where_there_are_three_unless_the_operator_chose() {
        let min_insync = |factor: i32, brokers_default: Option<usize>, settings: &[(&str, &str)]| {
            let wanted = setting(6, factor, settings);
            let topic = accounts(&wanted);
            let settings = topic.settings(topic.replication_factor(brokers_default));
            assert_eq!(settings[UNCLEAN_ELECTION], "false");
            assert_eq!(settings[CLEANUP_POLICY], COMPACT);
            settings.get(MIN_INSYNC).cloned()
        };
        assert_eq!(min_insync(3, None, &[]).as_deref(), Some("2"));
        assert_eq!(min_insync(-1, Some(3), &[]).as_deref(), Some("2"));
        assert_eq!(min_insync(-1, Some(1), &[]), None);
        assert_eq!(min_insync(-1, None, &[]), None);
        assert_eq!(min_insync(1, Some(3), &[]), None);
        assert_eq!(min_insync(3, Some(3), &[(MIN_INSYNC, "1")]).as_deref(), Some("1"));
    }

    #[test]
    fn a_setting_of_the_operator_stands_over_ours() {
        let wanted = setting(6, -1, &[(UNCLEAN_ELECTION, "true")]);
        assert_eq!(accounts(&wanted).settings(None)[UNCLEAN_ELECTION], "true");
    }

    #[test]
    fn missing_topics_are_named_with_the_command_that_creates_them() {
        let error = TopicError::Missing {
            topics: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(
            error.to_string(),
            "missing topics: a, b: `d02-source setup` creates them"
        );
    }

    #[test]
    fn a_refusal_ends_the_process_for_good_and_a_broker_that_is_away_does_not() {
        let error = |code| TopicError::Kafka {
            doing: "creating",
            topic: "a".to_owned(),
            last_reported: LastReported(None),
            source: Box::new(KafkaError::AdminOp(code)),
        };
        assert_eq!(error(RDKafkaErrorCode::TopicAuthorizationFailed).exit(), Exit::Usage);
        assert_eq!(error(RDKafkaErrorCode::InvalidReplicationFactor).exit(), Exit::Usage);
        assert_eq!(error(RDKafkaErrorCode::OperationTimedOut).exit(), Exit::Failed);
        assert_eq!(
            error(RDKafkaErrorCode::OperationTimedOut).to_string(),
            "creating topic a"
        );
    }
}
