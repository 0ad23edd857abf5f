//! Which clients talk to Kafka, and with which settings? One place, so that no client lacks what a promise rests on.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::admin::AdminClient;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::BaseProducer;
use secrecy::ExposeSecret;

use super::aside::Aside;
use super::context::{Context, Reports, authorize};
use super::ends::KnownEnds;
use super::error::{ClusterError, Error};
use super::oauth::KafkaTokens;
use super::polled::PolledProducer;
use super::rebalances::Rebalances;
use crate::config::{self, GroupProtocol, Property};
use crate::failpoint;
use crate::metrics::LenderMetrics;

/// A transaction that is open for longer is aborted by the broker. A batch takes well under a second; a dead producer
/// that nobody replaces hides other lenders' records on the cursor partition for this long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a transaction may be open: a minute, which a test may shorten.
pub(crate) fn transaction_timeout() -> Duration {
    failpoint::shortened("D02_TEST_TRANSACTION_TIMEOUT", TRANSACTION_TIMEOUT)
}

/// How long a record may take: less than a transaction may be open. Then its records are given up, and the batch is decided again.
pub(crate) fn delivery_timeout() -> Duration {
    transaction_timeout() / 2
}

/// How long librdkafka waits before it repeats a request, less or more by a fifth.
const RETRY_BACKOFF: Duration = Duration::from_secs(1);

/// A commit that was shorter was asked for once: EndTxn is not repeated before that.
pub(crate) const EARLIEST_RETRY: Duration = Duration::from_millis(800);

/// Kafka as the configuration describes it.
#[derive(Clone)]
pub(crate) struct Cluster {
    name: String,
    kafka: config::Kafka,
    /// What a producer may hold, in bytes.
    producer_share: usize,
    tokens: Option<Arc<KafkaTokens>>,
    ends: Arc<KnownEnds>,
    /// Asks where topics end: kept, because each one connects to all brokers.
    asker: Arc<Mutex<Option<Aside<BaseConsumer<Context>>>>>,
}

/// How much a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl Cluster {
    pub(crate) fn new(config: &config::Config) -> Self {
        Self {
            name: config.name.clone(),
            kafka: config.kafka.clone(),
            producer_share: config.producer_share(),
            tokens: config
                .kafka
                .oauth
                .clone()
                .map(|oauth| Arc::new(KafkaTokens::new(oauth))),
            ends: Arc::default(),
            asker: Arc::default(),
        }
    }

    pub(super) fn known_ends(&self) -> &Arc<KnownEnds> {
        &self.ends
    }

    /// Has something asked of a consumer that sees all records: of the one that is kept, where it is free, and did not fail last.
    pub(super) fn ask<T>(&self, ask: impl FnOnce(&BaseConsumer<Context>) -> Result<T, Error>) -> Result<T, Error> {
        let kept = || self.asker.lock().unwrap_or_else(PoisonError::into_inner);
        let free = kept().take();
        let asker = match free {
            Some(asker) => asker,
            None => self.reader(Isolation::ReadUncommitted)?,
        };
        authorize(asker.client());
        let answer = ask(&asker)?;
        *kept() = Some(asker);
        Ok(answer)
    }

    /// What the brokers call the cluster; `None`: they do not say so in time. Blocks.
    pub(crate) fn id(&self) -> Option<String> {
        const LIMIT: Duration = Duration::from_secs(5);
        self.ask(|asker| Ok(asker.client().fetch_cluster_id(LIMIT)))
            .ok()
            .flatten()
    }

    pub(crate) fn servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// What the names of all transactional ids of this source begin with.
    pub(crate) fn transactional_prefix(&self) -> String {
        format!("{}.", self.name)
    }

    /// The user's properties first: what follows is refused in them, or not theirs to set.
    fn config(&self) -> Result<ClientConfig, ClusterError> {
        let mut config = ClientConfig::new();
        for (key, property) in &self.kafka.properties {
            match property {
                Property::Plain(value) => config.set(key, value),
                Property::Secret(source) => {
                    let secret = source.read().map_err(|source| ClusterError::Secret {
                        key: key.clone(),
                        source,
                    })?;
                    config.set(key, secret.expose_secret())
                }
            };
        }
        config.set("bootstrap.servers", &self.kafka.bootstrap_servers);
        if !self.kafka.properties.contains_key("client.id") {
            config.set("client.id", &self.name);
        }
        if !self.kafka.properties.contains_key("reconnect.backoff.ms") {
            // A new client connects to the broker that it has just learned of no sooner than half of it after the first connection,
            // 50 ms by default, and a start has half a dozen of them. It doubles up to `reconnect.backoff.max.ms`, as ever.
            config.set("reconnect.backoff.ms", "20");
        }
        // A misspelt topic is an error, not a new topic with the broker's defaults.
        config.set("allow.auto.create.topics", "false");
        // librdkafka's warnings, unless more is asked for; what it reports beside its log comes through the context.
        config.set_log_level(if self.kafka.properties.contains_key("debug") {
            RDKafkaLogLevel::Debug
        } else {
            RDKafkaLogLevel::Warning
        });
        Ok(config)
    }

    fn client<T: FromClientConfigAndContext<Context>>(&self, config: &ClientConfig) -> Result<T, ClusterError> {
        self.client_of(config, Context::new(Reports::default(), self.tokens.clone()))
    }

    fn client_of<T: FromClientConfigAndContext<Context>>(
        &self,
        config: &ClientConfig,
        context: Context,
    ) -> Result<T, ClusterError> {
        config.create_with_context(context).map_err(|error| match error {
            KafkaError::ClientConfig(_, mut why, key, value) => {
                if let Some(Property::Secret(_)) = self.kafka.properties.get(&key) {
                    config::hide(&mut why, &value);
                }
                ClusterError::Property { key, why }
            }
            error => ClusterError::Client(error),
        })
    }

    fn consumer(&self, config: &ClientConfig) -> Result<Aside<BaseConsumer<Context>>, ClusterError> {
        let consumer: BaseConsumer<Context> = self.client(config)?;
        authorize(consumer.client());
        Ok(Aside::new(consumer))
    }

    /// Whoever uses it for longer calls [`authorize`] before each request: nobody else does.
    pub(crate) fn admin(&self) -> Result<Aside<AdminClient<Context>>, ClusterError> {
        Ok(Aside::new(self.client(&self.config()?)?))
    }

    /// `batch_size`: the largest batch that every topic takes, `max_message`: the largest record, both in bytes.
    pub(crate) fn producer(
        &self,
        transactional_id: &str,
        batch_size: usize,
        max_message: usize,
        metrics: LenderMetrics,
    ) -> Result<PolledProducer, ClusterError> {
        let mut config = self.config()?;
        set_defaults(&mut config, self.producer_share, max_message);
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("transaction.timeout.ms", transaction_timeout().as_millis().to_string())
            .set("message.timeout.ms", delivery_timeout().as_millis().to_string())
            // Both, so that no repetition is earlier: a longer wait is cut to the greatest.
            .set("retry.backoff.ms", RETRY_BACKOFF.as_millis().to_string())
            .set("retry.backoff.max.ms", RETRY_BACKOFF.as_millis().to_string())
            // The Java clients' partitioner, so that Streams and Flink joins are co-partitioned.
            .set("partitioner", "murmur2_random")
            // A batch is never larger than the smallest topic limit; one large record goes alone.
            .set("batch.size", batch_size.to_string())
            .set("message.max.bytes", max_message.to_string());
        polled(self.client_of(&config, Context::new(Reports::to(metrics), self.tokens.clone()))?)
    }

    /// Its records are refused by every broker, after a look at the ACLs (`probe`).
    pub(crate) fn refused_producer(&self) -> Result<PolledProducer, ClusterError> {
        const TIMEOUT: &str = "10000";
        let mut config = self.config()?;
        config
            .set("acks", "2")
            .set("message.timeout.ms", TIMEOUT)
            // Nothing is gained by waiting for more.
            .set("linger.ms", "0");
        polled(self.client(&config)?)
    }

    /// Of single records, outside of any transaction. `limit`: how long one may take.
    pub(super) fn writer(&self, limit: Duration) -> Result<PolledProducer, ClusterError> {
        let mut config = self.config()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", limit.as_millis().to_string())
            .set("partitioner", "murmur2_random")
            // Nothing is gained by waiting for more.
            .set("linger.ms", "0");
        polled(self.client(&config)?)
    }

    pub(crate) fn reader(&self, isolation: Isolation) -> Result<Aside<BaseConsumer<Context>>, ClusterError> {
        self.consumer(&self.reader_config(isolation)?)
    }

    /// A reader of committed records that waits for what comes: the broker answers as soon as there is anything, and is
    /// not asked a hundred times a second while there is not.
    pub(crate) fn follower(&self) -> Result<Aside<BaseConsumer<Context>>, ClusterError> {
        let mut config = self.reader_config(Isolation::ReadCommitted)?;
        config.set("fetch.wait.max.ms", "500");
        self.consumer(&config)
    }

    /// A member of the group, which fetches nothing. `client_id`: what others see of it.
    pub(super) fn member(
        &self,
        group: &config::Group,
        client_id: &str,
        rebalances: Rebalances,
    ) -> Result<BaseConsumer<Context>, ClusterError> {
        /// How soon a member hears that it has to give up, or may take, in milliseconds; a third of the session at most.
        const HEARTBEAT: u128 = 300;
        let mut config = self.config()?;
        config
            .set("client.id", client_id)
            .set("group.id", group.id.as_deref().unwrap_or(&self.name))
            .set("enable.auto.commit", "false")
            // Longer than anything keeps its thread from polling.
            .set("max.poll.interval.ms", "300000");
        match group.protocol {
            GroupProtocol::Classic => {
                let session = group.session_timeout.as_millis();
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", "cooperative-sticky")
                    .set("session.timeout.ms", session.to_string())
                    .set("heartbeat.interval.ms", HEARTBEAT.min(session / 3).to_string());
            }
            // The broker says how long its sessions are, and refuses to hear it from a client.
            GroupProtocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        if let Some(instance) = &group.instance_id {
            config.set("group.instance.id", instance);
        }
        let context = Context::new(Reports::default(), self.tokens.clone()).of_member(rebalances);
        let consumer: BaseConsumer<Context> = self.client_of(&config, context)?;
        authorize(consumer.client());
        Ok(consumer)
    }

    /// Of a group, without being a member: it may ask and commit, as far as this user may.
    pub(super) fn bystander(&self, group: &str) -> Result<Aside<BaseConsumer<Context>>, ClusterError> {
        let mut config = self.reader_config(Isolation::ReadUncommitted)?;
        config.set("group.id", group);
        self.consumer(&config)
    }

    fn reader_config(&self, isolation: Isolation) -> Result<ClientConfig, ClusterError> {
        let isolation = match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        };
        let mut config = self.config()?;
        config
            // librdkafka wants one to assign; nothing is ever committed to it.
            .set("group.id", format!("{}.recovery", self.name))
            .set("enable.auto.commit", "false")
            .set("isolation.level", isolation)
            .set("enable.partition.eof", "true")
            // An offset that is gone is an error, not a reason to start elsewhere.
            .set("auto.offset.reset", "error")
            // Half a second less at the end of every read.
            .set("fetch.wait.max.ms", "10")
            // librdkafka pauses a full partition for a second; reading is all that happens at a start.
            .set("fetch.queue.backoff.ms", "5")
            // Fetched ahead of what is taken in; a quarter of the default, which would stay with the process for good.
            .set("queued.max.messages.kbytes", "16384")
            .set("check.crcs", "true");
        Ok(config)
    }
}

fn polled(producer: BaseProducer<Context>) -> Result<PolledProducer, ClusterError> {
    let failed = |error| KafkaError::ClientCreation(format!("no thread for it: {error}"));
    PolledProducer::new(producer).map_err(|error| ClusterError::Client(failed(error)))
}

/// What a producer has where the user says nothing else. `share`: the memory that its queue may take.
fn set_defaults(config: &mut ClientConfig, share: usize, max_message: usize) {
    /// What librdkafka has for a record beside its key and value: headers, and its place in a queue.
    const BESIDE: usize = 1 << 10;
    /// Twice what a transaction has by default.
    const MOST: usize = 250_000;
    const FEWEST: usize = 1_000;
    // Half of it for either. One record always has room.
    let messages = (share / 2 / BESIDE).clamp(FEWEST, MOST);
    let kilobytes = (share / 2).max(max_message) / 1024 + 1;
    // Of two names of one property, the order in which both would be set is not ours.
    for (names, value) in [
        // lz4 beats none and zstd in wall time.
        (&["compression.type", "compression.codec"][..], "lz4"),
        (&["queue.buffering.max.messages"], &messages.to_string()),
        (&["queue.buffering.max.kbytes"], &kilobytes.to_string()),
        // As often as Prometheus asks; a few kilobytes of JSON each.
        (&["statistics.interval.ms"], "15000"),
    ] {
        if names.iter().all(|name| config.get(name).is_none()) {
            config.set(names[0], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_compression_counts_by_either_of_its_names() {
        let compression = |given: &[(&str, &str)]| {
            let mut config = ClientConfig::new();
            for (key, value) in given {
                config.set(*key, *value);
            }
            set_defaults(&mut config, 64 << 20, 1_000_000);
            let of = |key| config.get(key).map(str::to_owned);
            (of("compression.type"), of("compression.codec"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(compression(&[]), (some("lz4"), None));
        assert_eq!(compression(&[("compression.type", "zstd")]), (some("zstd"), None));
        assert_eq!(compression(&[("compression.codec", "zstd")]), (None, some("zstd")));
    }
}
