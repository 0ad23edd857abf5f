//! Which clients talk to Kafka, and with which settings? One place, so that no client lacks what a promise rests on.

use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::admin::AdminClient;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, DeliveryResult};
use rdkafka::producer::{ProducerContext, ThreadedProducer};
use rdkafka::statistics::Statistics;
use secrecy::ExposeSecret;

use super::Reason;
use super::oauth::{NO_TOKEN, Tokens, authorize};
use crate::config::{self, Property, SecretError};
use crate::exit::chain;
use crate::failpoint;
use crate::metrics::LenderMetrics;

/// A transaction that is open for longer is aborted by the broker. A batch takes well under a second; a dead producer
/// that nobody replaces hides other lenders' records on the cursor partition for this long.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a transaction may be open: a minute, which a test may shorten.
pub fn transaction_timeout() -> Duration {
    failpoint::shortened("D02_TEST_TRANSACTION_TIMEOUT", TRANSACTION_TIMEOUT)
}

/// Kafka as the configuration describes it.
#[derive(Clone)]
pub struct Cluster {
    name: String,
    kafka: config::Kafka,
    tokens: Option<Arc<Tokens>>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("reading the secret of kafka.properties.\"{key}\"")]
    Secret { key: String, source: SecretError },
    /// Without the value, which rdkafka's own error shows.
    #[error("setting up a Kafka client: kafka.properties.\"{key}\" is refused: {why}")]
    Property { key: String, why: String },
    #[error("setting up a Kafka client")]
    Client(#[source] KafkaError),
}

/// How much a consumer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

impl Cluster {
    pub fn new(config: &config::Config) -> Self {
        Self {
            name: config.name.clone(),
            kafka: config.kafka.clone(),
            tokens: config.kafka.oauth.clone().map(|oauth| Arc::new(Tokens::new(oauth))),
        }
    }

    pub(super) fn servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// What the names of all transactional ids of this source begin with.
    pub(super) fn transactional_prefix(&self) -> String {
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
        self.client_of(config, Reports::default())
    }

    fn client_of<T: FromClientConfigAndContext<Context>>(
        &self,
        config: &ClientConfig,
        reports: Reports,
    ) -> Result<T, ClusterError> {
        let context = Context {
            reports: Arc::new(reports),
            tokens: self.tokens.clone(),
        };
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

    fn consumer(&self, config: &ClientConfig) -> Result<BaseConsumer<Context>, ClusterError> {
        let consumer: BaseConsumer<Context> = self.client(config)?;
        authorize(consumer.client());
        Ok(consumer)
    }

    /// Whoever uses it for longer calls [`authorize`] before each request: nobody else does.
    pub(super) fn admin(&self) -> Result<AdminClient<Context>, ClusterError> {
        self.client(&self.config()?)
    }

    /// `batch_size`: the largest batch that every topic takes, `max_message`: the largest record, both in bytes.
    pub(super) fn producer(
        &self,
        transactional_id: &str,
        batch_size: usize,
        max_message: usize,
        metrics: LenderMetrics,
    ) -> Result<ThreadedProducer<Context>, ClusterError> {
        /// Less than a transaction may last; then its records are given up, and the batch is decided again.
        const MESSAGE_TIMEOUT_SHARE: u32 = 2;
        let timeout = transaction_timeout();
        let mut config = self.config()?;
        set_defaults(&mut config);
        config
            .set("transactional.id", transactional_id)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .set(
                "message.timeout.ms",
                (timeout / MESSAGE_TIMEOUT_SHARE).as_millis().to_string(),
            )
            // The Java clients' partitioner, so that Streams and Flink joins are co-partitioned.
            .set("partitioner", "murmur2_random")
            // A batch is never larger than the smallest topic limit; one large record goes alone.
            .set("batch.size", batch_size.to_string())
            .set("message.max.bytes", max_message.to_string());
        let reports = Reports {
            metrics: Some(metrics),
            ..Reports::default()
        };
        self.client_of(&config, reports)
    }

    /// Its records are refused by every broker, after a look at the rights (`rights`).
    pub(super) fn refused_producer(&self) -> Result<ThreadedProducer<Context>, ClusterError> {
        const TIMEOUT: &str = "10000";
        let mut config = self.config()?;
        config
            .set("acks", "2")
            .set("message.timeout.ms", TIMEOUT)
            // Nothing is gained by waiting for more.
            .set("linger.ms", "0");
        self.client(&config)
    }

    pub(super) fn reader(&self, isolation: Isolation) -> Result<BaseConsumer<Context>, ClusterError> {
        self.consumer(&self.reader_config(isolation)?)
    }

    /// A reader of committed records that waits for what comes: the broker answers as soon as there is anything, and is
    /// not asked a hundred times a second while there is not.
    pub(super) fn follower(&self) -> Result<BaseConsumer<Context>, ClusterError> {
        let mut config = self.reader_config(Isolation::ReadCommitted)?;
        config.set("fetch.wait.max.ms", "500");
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

/// What a producer has where the user says nothing else.
fn set_defaults(config: &mut ClientConfig) {
    // Of two names of one property, the order in which both would be set is not ours.
    for (names, value) in [
        // lz4 beats none and zstd in wall time.
        (&["compression.type", "compression.codec"][..], "lz4"),
        // At least twice a transaction, so that a full queue is rare.
        (&["queue.buffering.max.messages"], "250000"),
        // As often as Prometheus asks; a few kilobytes of JSON each.
        (&["statistics.interval.ms"], "15000"),
    ] {
        if names.iter().all(|name| config.get(name).is_none()) {
            config.set(names[0], value);
        }
    }
}

/// Hears what a client reports beside its calls.
#[derive(Clone)]
pub(super) struct Context {
    reports: Arc<Reports>,
    tokens: Option<Arc<Tokens>>,
}

#[derive(Debug, Default)]
struct Reports {
    error_count: AtomicU64,
    /// When a broker last did not let this client in.
    refused_at: Mutex<Option<Instant>>,
    last_error: Mutex<Option<String>>,
    deliveries: Mutex<Deliveries>,
    delivered: Condvar,
    /// Where its statistics go, if they are asked for.
    metrics: Option<LenderMetrics>,
    /// As last told.
    totals: Mutex<Totals>,
}

/// What librdkafka counts since the client was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Totals {
    messages: u64,
    message_bytes: u64,
    errors: u64,
    retries: u64,
    timeouts: u64,
}

/// The delivery reports of the open transaction.
#[derive(Debug, Default)]
struct Deliveries {
    outstanding: u64,
    failed: Option<(String, KafkaError)>,
}

impl Context {
    /// Errors reported so far: what moves during a commit makes it doubtful.
    pub fn error_count(&self) -> u64 {
        self.reports.error_count.load(Ordering::SeqCst)
    }

    pub fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_deref()
    }

    /// Hears why no broker would let this client in.
    pub fn not_let_in(&self, reason: &str) {
        self.error(KafkaError::Global(RDKafkaErrorCode::Authentication), reason);
    }

    /// Whether a broker has refused this client's credentials lately: librdkafka says the same again after 30 s.
    pub fn is_refused(&self) -> bool {
        const LATELY: Duration = Duration::from_secs(60);
        lock(&self.reports.refused_at).is_some_and(|at| at.elapsed() < LATELY)
    }

    pub fn reason(&self) -> Reason {
        Reason(lock(&self.reports.last_error).clone())
    }

    pub fn sending(&self) {
        lock(&self.reports.deliveries).outstanding += 1;
    }

    pub fn not_sent(&self) {
        lock(&self.reports.deliveries).outstanding -= 1;
    }

    /// Waits until nothing is outstanding or a record failed, at most `limit`; `true` if nothing is.
    pub fn wait_for_deliveries(&self, limit: Duration) -> Result<bool, (String, KafkaError)> {
        let deadline = Instant::now() + limit;
        let mut deliveries = lock(&self.reports.deliveries);
        loop {
            if let Some(failed) = deliveries.failed.take() {
                return Err(failed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if deliveries.outstanding == 0 || left.is_zero() {
                return Ok(deliveries.outstanding == 0);
            }
            let waited = self.reports.delivered.wait_timeout(deliveries, left);
            deliveries = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

/// A panic elsewhere leaves a counter and two texts, which are whole at any moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl ClientContext for Context {
    // Asked for by OAUTHBEARER alone.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let tokens = self
            .tokens
            .as_ref()
            .ok_or_else(|| format!("{NO_TOKEN}: nobody to ask for one"))?;
        // Reported with its causes: whoever gets it takes the text.
        tokens.token().map_err(|error| chain(&*error).into())
    }

    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // Producers are told of consumers' settings and the reverse; brokers come and go, which `error` hears as well.
        if fac == "CONFWARN" {
            return;
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::warn!(target: "librdkafka", "{fac} {message}");
            }
            RDKafkaLogLevel::Warning => tracing::info!(target: "librdkafka", "{fac} {message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "librdkafka", "{fac} {message}");
            }
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // librdkafka looks for the coordinator of a reader's group, which is asked nothing and needs no right.
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            return;
        }
        self.reports.error_count.fetch_add(1, Ordering::SeqCst);
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication) {
            *lock(&self.reports.refused_at) = Some(Instant::now());
            // Where there was none, none was refused.
            if let Some(tokens) = self.tokens.as_ref().filter(|_| !reason.contains(NO_TOKEN)) {
                tokens.forget();
            }
        }
        // "All brokers are down" says less than what brought them down.
        let says_more = error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown);
        let mut last = lock(&self.reports.last_error);
        if says_more || last.is_none() {
            *last = Some(reason.to_owned());
        }
        drop(last);
        tracing::debug!(target: "librdkafka", %error, reason, "reported");
    }

    fn stats(&self, statistics: Statistics) {
        if let Some(metrics) = &self.reports.metrics {
            show_statistics(&statistics, metrics, &mut lock(&self.reports.totals));
        }
    }
}

/// Tells the metrics what librdkafka says of a producer: sums over its brokers, and nothing of single partitions.
fn show_statistics(statistics: &Statistics, metrics: &LenderMetrics, told: &mut Totals) {
    let brokers = || statistics.brokers.values();
    let whole = |number: i64| u64::try_from(number).unwrap_or(0);
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    metrics.kafka_queue_messages.set(count(statistics.msg_cnt));
    metrics.kafka_queue_bytes.set(count(statistics.msg_size));
    metrics
        .kafka_requests_waiting
        .set(brokers().map(|broker| broker.outbuf_cnt).sum());
    metrics
        .kafka_requests_in_flight
        .set(brokers().map(|broker| broker.waitresp_cnt).sum());
    // The names from the configuration are none of the brokers that are talked to, and have no number.
    let are_up = brokers().filter(|broker| broker.state == "UP" && broker.nodeid >= 0);
    metrics.kafka_brokers_up.set(count(are_up.count() as u64));
    let round_trips = brokers().filter_map(|broker| broker.rtt.as_ref()).map(|rtt| rtt.avg);
    let microseconds = round_trips.max().unwrap_or(0);
    metrics.kafka_round_trip_seconds.set(microseconds as f64 / 1e6);
    let now = Totals {
        messages: whole(statistics.txmsgs),
        message_bytes: whole(statistics.txmsg_bytes),
        errors: brokers().map(|broker| broker.txerrs).sum(),
        retries: brokers().map(|broker| broker.txretries).sum(),
        timeouts: brokers().map(|broker| broker.req_timeouts).sum(),
    };
    for (counter, now, before) in [
        (&metrics.kafka_messages_total, now.messages, told.messages),
        (
            &metrics.kafka_message_bytes_total,
            now.message_bytes,
            told.message_bytes,
        ),
        (&metrics.kafka_request_errors_total, now.errors, told.errors),
        (&metrics.kafka_request_retries_total, now.retries, told.retries),
        (&metrics.kafka_request_timeouts_total, now.timeouts, told.timeouts),
    ] {
        // A broker that is forgotten takes its counts along.
        counter.inc_by(now.saturating_sub(before));
    }
    *told = now;
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut deliveries = lock(&self.reports.deliveries);
        deliveries.outstanding -= 1;
        if let Err((error, message)) = result {
            deliveries
                .failed
                .get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
        if deliveries.outstanding == 0 || deliveries.failed.is_some() {
            self.reports.delivered.notify_all();
        }
    }
}

/// The name of a header is not UTF-8.
#[derive(Debug)]
pub(super) struct NotText;

/// What `read` takes from a record's headers; `None` where there are none.
///
/// rdkafka 0.39 panics at a name that is no UTF-8, which anybody who may write to a topic can send.
pub(super) fn headers<'m, T>(
    message: &'m BorrowedMessage<'_>,
    read: impl FnOnce(&'m BorrowedHeaders) -> T,
) -> Result<Option<T>, NotText> {
    let Some(headers) = message.headers() else {
        return Ok(None);
    };
    catch_unwind(AssertUnwindSafe(|| read(headers)))
        .map(Some)
        .map_err(|_| NotText)
}

/// Partition counts by metadata.
pub(super) fn partition_count(client: &Client<Context>, topic: &str, limit: Duration) -> KafkaResult<Option<usize>> {
    let metadata = client.fetch_metadata(Some(topic), limit)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
    if let Some(error @ RDKafkaErrorCode::TopicAuthorizationFailed) = error {
        return Err(KafkaError::MetadataFetch(error));
    }
    Ok(found.map(|found| found.partitions().len()).filter(|count| *count > 0))
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
            set_defaults(&mut config);
            let of = |key| config.get(key).map(str::to_owned);
            (of("compression.type"), of("compression.codec"))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(compression(&[]), (some("lz4"), None));
        assert_eq!(compression(&[("compression.type", "zstd")]), (some("zstd"), None));
        assert_eq!(compression(&[("compression.codec", "zstd")]), (None, some("zstd")));
    }
}
