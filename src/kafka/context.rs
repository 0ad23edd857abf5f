//! What does a client report beside its calls, and who hears it? Errors, delivery reports, statistics, and its wish for a token.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::Message;
use rdkafka::client::{Client, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::oauth::{self, KafkaTokens};
use super::rebalances::Rebalances;
use super::reported::{LastReported, NO_TOKEN};
use crate::exit::chain;
use crate::metrics::LenderMetrics;

/// Hears what a client reports beside its calls.
#[derive(Clone)]
pub(crate) struct Context {
    reports: Arc<Reports>,
    tokens: Option<Arc<KafkaTokens>>,
    /// Of a member of a group.
    rebalances: Option<Arc<Rebalances>>,
}

#[derive(Debug, Default)]
pub(super) struct Reports {
    error_count: AtomicU64,
    /// When a broker last refused this client's credentials.
    refused_at: Mutex<Option<Instant>>,
    /// When a side of TLS last refused the other.
    distrusted_at: Mutex<Option<Instant>>,
    last_error: Mutex<Option<String>>,
    /// How long a quota held this client back at a time, in the last of its statistics that know of any.
    throttled: Mutex<Option<Duration>>,
    /// Records of the open transaction whose reports are still to come; fewer only while `deliveries` is locked.
    outstanding: AtomicU64,
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
    failed: Option<(String, KafkaError)>,
    written: Vec<WrittenTo>,
    /// The place in `written` of the last report: those of a partition come one after another.
    last: usize,
}

/// Where records of one transaction stand in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WrittenTo {
    pub topic: String,
    pub partition: usize,
    /// The offset of the first one.
    pub first: i64,
    /// Behind the last one.
    pub end: i64,
    /// librdkafka does not know the offset of some: of what the broker took already when it was sent again, or of what was
    /// acknowledged by a later request alone.
    pub is_partly_unknown: bool,
}

impl Deliveries {
    fn note(&mut self, topic: &str, partition: i32, offset: i64) {
        let Ok(partition) = usize::try_from(partition) else {
            return;
        };
        let is_it = |known: &WrittenTo| known.partition == partition && known.topic == topic;
        if !self.written.get(self.last).is_some_and(is_it) {
            let place = self.written.iter().position(is_it);
            self.last = place.unwrap_or(self.written.len());
        }
        match self.written.get_mut(self.last) {
            Some(known) => {
                (known.first, known.end) = (known.first.min(offset), known.end.max(offset + 1));
                known.is_partly_unknown |= offset < 0;
            }
            None => self.written.push(WrittenTo {
                topic: topic.to_owned(),
                partition,
                first: offset,
                end: offset + 1,
                is_partly_unknown: offset < 0,
            }),
        }
    }
}

impl Reports {
    /// With statistics that are asked for.
    pub(super) fn to(metrics: LenderMetrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..Self::default()
        }
    }
}

impl Context {
    pub(super) fn new(reports: Reports, tokens: Option<Arc<KafkaTokens>>) -> Self {
        Self {
            reports: Arc::new(reports),
            tokens,
            rebalances: None,
        }
    }

    pub(super) fn of_member(self, rebalances: Rebalances) -> Self {
        Self {
            rebalances: Some(Arc::new(rebalances)),
            ..self
        }
    }

    pub(super) fn rebalances(&self) -> Option<&Rebalances> {
        self.rebalances.as_deref()
    }

    /// Errors reported so far: what moves during a commit makes it doubtful.
    pub(crate) fn error_count(&self) -> u64 {
        self.reports.error_count.load(Ordering::SeqCst)
    }

    fn tokens(&self) -> Option<&KafkaTokens> {
        self.tokens.as_deref()
    }

    /// Hears why no broker can authenticate this client.
    pub(crate) fn authentication_failed(&self, reason: &str) {
        self.error(KafkaError::Global(RDKafkaErrorCode::Authentication), reason);
    }

    /// Whether a broker has refused this client's credentials lately.
    pub(crate) fn is_refused(&self) -> bool {
        is_lately(&self.reports.refused_at)
    }

    /// Whether that, or TLS failed lately: a client that is made anew reads the secrets and certificates that stand in their files now.
    pub(super) fn is_outdated(&self) -> bool {
        self.is_refused() || is_lately(&self.reports.distrusted_at)
    }

    pub(crate) fn last_reported(&self) -> LastReported {
        LastReported {
            reason: lock(&self.reports.last_error).clone(),
            throttled: *lock(&self.reports.throttled),
        }
    }

    pub(crate) fn sending(&self) {
        self.reports.outstanding.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn not_sent(&self) {
        self.reports.outstanding.fetch_sub(1, Ordering::SeqCst);
    }

    /// Where the records of the transaction stand that has ended.
    pub(crate) fn take_written(&self) -> Vec<WrittenTo> {
        std::mem::take(&mut lock(&self.reports.deliveries).written)
    }

    /// Waits until nothing is outstanding or a record failed, at most `limit`; `true` if nothing is.
    pub(crate) fn wait_for_deliveries(&self, limit: Duration) -> Result<bool, (String, KafkaError)> {
        let deadline = Instant::now() + limit;
        let mut deliveries = lock(&self.reports.deliveries);
        loop {
            if let Some(failed) = deliveries.failed.take() {
                return Err(failed);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let are_all_in = self.reports.outstanding.load(Ordering::SeqCst) == 0;
            if are_all_in || left.is_zero() {
                return Ok(are_all_in);
            }
            let waited = self.reports.delivered.wait_timeout(deliveries, left);
            deliveries = waited.unwrap_or_else(std::sync::PoisonError::into_inner).0;
        }
    }
}

/// Gives the client its token now, if it needs one; why it cannot be had is heard as what librdkafka reports is.
pub(crate) fn authorize(client: &Client<Context>) {
    let Some(tokens) = client.context().tokens() else {
        return;
    };
    let given = match tokens.token() {
        Ok(token) => oauth::set_token(client, token),
        Err(error) => Err(chain(&*error)),
    };
    if let Err(why) = given {
        client.context().authentication_failed(&why);
    }
}

/// librdkafka says the same again after 30 s.
fn is_lately(at: &Mutex<Option<Instant>>) -> bool {
    const LATELY: Duration = Duration::from_secs(60);
    lock(at).is_some_and(|at| at.elapsed() < LATELY)
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
        // librdkafka looks for the coordinator of a reader's group, which is asked nothing and needs no ACL.
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
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::SSL) {
            *lock(&self.reports.distrusted_at) = Some(Instant::now());
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
        let throttled = longest_throttle(&statistics);
        if !throttled.is_zero() {
            *lock(&self.reports.throttled) = Some(throttled);
        }
        if let Some(metrics) = &self.reports.metrics {
            show_statistics(&statistics, metrics, &mut lock(&self.reports.totals));
        }
    }
}

/// The longest time that a broker read nothing from this client since the statistics before, because of a quota.
fn longest_throttle(statistics: &Statistics) -> Duration {
    let windows = statistics
        .brokers
        .values()
        .filter_map(|broker| broker.throttle.as_ref());
    let longest = windows.map(|window| window.max).max().unwrap_or(0);
    Duration::from_millis(u64::try_from(longest).unwrap_or(0))
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
    metrics
        .kafka_throttle_seconds
        .set(longest_throttle(statistics).as_secs_f64());
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

impl ConsumerContext for Context {
    /// Of members alone: whoever assigns its partitions by itself is not told of any.
    fn rebalance(&self, consumer: &BaseConsumer<Self>, what: RDKafkaRespErr, places: &mut TopicPartitionList) {
        if let Some(rebalances) = self.rebalances() {
            rebalances.rebalance(consumer, what, places);
        }
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut deliveries = lock(&self.reports.deliveries);
        let outstanding = self.reports.outstanding.fetch_sub(1, Ordering::SeqCst) - 1;
        match result {
            Ok(message) => deliveries.note(message.topic(), message.partition(), message.offset()),
            Err((error, message)) => {
                deliveries
                    .failed
                    .get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
            }
        }
        if outstanding == 0 || deliveries.failed.is_some() {
            self.reports.delivered.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_offset_of_any_record_is_not_known_that_of_its_partition_is_not() {
        let mut deliveries = Deliveries::default();
        // As after a request that was repeated: -1 is no offset, and what is counted from it neither.
        for (partition, offset) in [(0, 7), (1, -1), (1, 0), (1, 1), (2, -1001), (2, 40), (0, 9)] {
            deliveries.note("accounts", partition, offset);
        }
        let written = deliveries.written.iter();
        let written: Vec<_> = written
            .map(|written| (written.partition, written.first, written.end, written.is_partly_unknown))
            .collect();
        assert_eq!(written[0], (0, 7, 10, false));
        assert!(
            written[1..]
                .iter()
                .all(|(_, _, _, is_partly_unknown)| *is_partly_unknown),
            "{written:?}"
        );
    }
}
