//! How is one batch written? In one transaction with the cursor record that says "read up to here".
//!
//! ```text
//! begin ─► accounts ─► changes ─► dead letters ─► cursor record ─► every delivery report ─► EndTxn
//! ```
//!
//! The caller decides what follows an error: nothing is sent again here, because only the committed cursor record can
//! tell whether a batch landed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseRecord, Producer};

use super::cursors::CursorReader;
use super::error::SinkError;
use super::ground::{EndsLook, Ground, TrailRecreated};
use super::interface::{Committed, Sink};
use super::producer::{INIT_LIMIT, claim_id, denied_id, fatal_error, kafka_error};
use super::record::{Records, account_headers, change_headers, largest_value, partitions_text};
use super::topics::{Topic, Topics};
use crate::clock;
use crate::failpoint;
use crate::kafka::{
    self, Acl, AclOperation, Cluster, ClusterError, EARLIEST_RETRY, PolledProducer, denied_writes, is_denied,
    partition_count, topic_ends, transaction_timeout,
};
use crate::metrics::LenderMetrics;
use crate::progress::{Record, RecordKey, TopicEnds};
use crate::shutdown::Shutdown;
use crate::watchdog::{Pulse, work_limit};

/// A commit that takes longer is doubtful, even if it then succeeds (KAFKA-17754, librdkafka#5423): EndTxn may have been
/// repeated, which librdkafka says nowhere when the connection was closed.
const COMMIT_LIMIT: Duration = EARLIEST_RETRY;

/// Reading the cursor topic ends by itself when nothing comes any more. As long as anything does, it may go on; there is a small
/// record a transaction.
const CURSOR_LIMIT: Duration = Duration::from_secs(600);

/// Before it is believed that a topic is another one.
const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// While ending, less patience: the whole process has ten seconds.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// The transactional producer of one lender.
pub(crate) struct Transactions {
    cluster: Cluster,
    cursors: Arc<CursorReader>,
    transactional_id: String,
    topics: Topics,
    key: RecordKey,
    producer: PolledProducer,
    shutdown: Shutdown,
    watchers: Watchers,
    ground: Mutex<Ground>,
    said_left_out: AtomicBool,
}

/// Who hears what the producer does.
#[derive(Clone, Default)]
pub(crate) struct Watchers {
    pub metrics: LenderMetrics,
    /// Of the thread that calls.
    pub pulse: Pulse,
}

impl Transactions {
    /// Makes the producer; [`Transactions::init`] makes it the lender's one writer.
    ///
    /// # Errors
    /// When the client settings cannot be used.
    pub(crate) fn new(
        cluster: Cluster,
        cursors: Arc<CursorReader>,
        transactional_id: String,
        topics: Topics,
        key: RecordKey,
        shutdown: Shutdown,
        watchers: Watchers,
    ) -> Result<Self, ClusterError> {
        let producer = Self::producer(&cluster, &transactional_id, &topics, &watchers.metrics)?;
        Ok(Self {
            cluster,
            cursors,
            transactional_id,
            topics,
            key,
            producer,
            shutdown,
            watchers,
            ground: Mutex::default(),
            said_left_out: AtomicBool::new(false),
        })
    }

    fn producer(
        cluster: &Cluster,
        transactional_id: &str,
        topics: &Topics,
        metrics: &LenderMetrics,
    ) -> Result<PolledProducer, ClusterError> {
        /// librdkafka's own default, and the bounds of both of its settings.
        const MAX_BATCH: usize = 1_000_000;
        const MAX_MESSAGE: usize = 1_000_000_000;
        let limits = || topics.each().map(|(_, topic)| topic.max_message);
        let smallest = limits().min().unwrap_or(MAX_BATCH).clamp(1, MAX_BATCH);
        let largest = limits().max().unwrap_or(MAX_BATCH).clamp(MAX_BATCH, MAX_MESSAGE);
        cluster.producer(transactional_id, smallest, largest, metrics.clone())
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.key
    }

    /// Fences every earlier producer of this lender and ends what it left open (One writer).
    ///
    /// # Errors
    /// When the coordinator cannot be reached in time, or refuses.
    pub(crate) fn init(&self) -> Result<(), SinkError> {
        let limit = self.patience(INIT_LIMIT);
        let _call = self.watchers.pulse.during("claiming the transactional id", 2 * limit);
        let claimed = claim_id(&self.producer, &self.topics.cursor.name, limit);
        Ok(claimed.map_err(|source| self.kafka("claiming the transactional id", source))?)
    }

    /// Replaces the producer: whatever the old one had under way can change nothing after [`Transactions::init`].
    ///
    /// # Errors
    /// When the client settings cannot be used any more (a secret file that is gone).
    pub(crate) fn replace_producer(&mut self) -> Result<(), ClusterError> {
        let _call = self.watchers.pulse.during("replacing the producer", work_limit());
        let metrics = &self.watchers.metrics;
        self.producer = Self::producer(&self.cluster, &self.transactional_id, &self.topics, metrics)?;
        Ok(())
    }

    /// Forgets the lender's cursor record: a tombstone in each of `partitions`.
    ///
    /// # Errors
    /// As for [`Sink::commit`].
    pub(crate) fn commit_tombstones(&self, partitions: &[i32]) -> Result<(), SinkError> {
        self.begin()?;
        let begun = Instant::now();
        let key = self.key.to_json();
        for partition in partitions {
            let record = BaseRecord::<str, [u8]>::to(&self.topics.cursor.name)
                .key(&key)
                .partition(*partition);
            self.send_record(record, begun)?;
        }
        self.drain()?;
        self.end_transaction()
    }

    fn begin(&self) -> Result<(), kafka::Error> {
        self.producer.wake();
        let begun = self.producer.begin_transaction();
        begun.map_err(|source| self.kafka("beginning a transaction", source))
    }

    fn send(
        &self,
        topic: &str,
        key: Option<&str>,
        value: &[u8],
        headers: OwnedHeaders,
        begun: Instant,
    ) -> Result<(), kafka::Error> {
        let mut record = BaseRecord::<str, [u8]>::to(topic).payload(value).headers(headers);
        record.key = key;
        self.send_record(record, begun)
    }

    /// Hands one record to librdkafka; a full queue waits for delivery reports. `begun`: when the transaction was.
    fn send_record(&self, mut record: BaseRecord<'_, str, [u8]>, begun: Instant) -> Result<(), kafka::Error> {
        const FULL_QUEUE_POLL: Duration = Duration::from_millis(10);
        let context = self.producer.context();
        loop {
            context.sending();
            let (error, back) = match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            context.not_sent();
            // As long as the queue moves, this does too; how long it may be full is bounded below.
            self.watchers.pulse.enter("sending a record", transaction_timeout());
            if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                return Err(self.kafka("sending a record", error));
            }
            self.wait(FULL_QUEUE_POLL)?;
            // While ending, it may not even move slowly: record by record, that could take for ever.
            let is_ending_late = self.shutdown.is_requested() && begun.elapsed() > SHUTDOWN_LIMIT;
            // So that what is sent last still has its time before the transaction's is over.
            if is_ending_late || begun.elapsed() > transaction_timeout() / 3 {
                let limit = self.patience(transaction_timeout() / 3);
                return Err(kafka::Error::TimedOut {
                    doing: "sending a record",
                    limit,
                    last_reported: context.last_reported(),
                });
            }
            record = back;
        }
    }

    /// Waits for every delivery report, and for each to be freed.
    fn drain(&self) -> Result<(), kafka::Error> {
        /// A shutdown and a fatal error are noticed this often.
        const STEP: Duration = Duration::from_millis(200);
        /// For other brokers, which may accept its credentials. A new producer has the secrets as they are then.
        const REFUSED_LIMIT: Duration = Duration::from_secs(5);
        let begun = Instant::now();
        let _call = self
            .watchers
            .pulse
            .during("writing a transaction", transaction_timeout());
        loop {
            if self.wait(STEP)? {
                self.producer.wait_until_reports_are_freed();
                return Ok(());
            }
            if let Some(error) = self.fatal("writing a transaction") {
                return Err(error);
            }
            let context = self.producer.context();
            if context.is_refused() && begun.elapsed() > REFUSED_LIMIT {
                let last_reported = context.last_reported();
                return Err(kafka::Error::Authentication { last_reported });
            }
            let limit = self.patience(transaction_timeout());
            if begun.elapsed() > limit {
                return Err(kafka::Error::TimedOut {
                    doing: "writing a transaction",
                    limit,
                    last_reported: context.last_reported(),
                });
            }
        }
    }

    fn wait(&self, limit: Duration) -> Result<bool, kafka::Error> {
        let context = self.producer.context();
        context
            .wait_for_deliveries(limit)
            .map_err(|(topic, source)| self.not_delivered(topic, source))
    }

    /// Why a record was not delivered. The report names the first record of many, and often only that it was purged.
    fn not_delivered(&self, topic: String, source: KafkaError) -> kafka::Error {
        const DOING: &str = "writing a transaction";
        if let Some(error) = self.fatal(DOING) {
            return error;
        }
        let denied = |topic: &str, source| kafka::Error::Denied {
            doing: DOING,
            acl: Acl::of_topic(AclOperation::Write, topic),
            source,
        };
        if is_denied(&source) {
            return denied(&topic, source);
        }
        let source = match denied_id(&self.cluster, DOING, source) {
            Ok(denied) => return denied,
            Err(source) => source,
        };
        let last_reported = self.producer.context().last_reported();
        // A failed transaction answers everything but its abort with what it failed of.
        match self.producer.begin_transaction() {
            Err(cause) if kafka::code(&cause) == Some(RDKafkaErrorCode::InvalidTimestamp) => kafka::Error::WrongTime {
                here: clock::now(),
                source: cause,
            },
            Err(cause) if is_denied(&cause) => match self.denied_topic() {
                Some(topic) => denied(&topic, cause),
                None => kafka::Error::Call {
                    doing: DOING,
                    last_reported,
                    source: cause,
                },
            },
            Ok(()) | Err(_) => kafka::Error::Delivery {
                topic,
                last_reported,
                source,
            },
        }
    }

    /// The first topic that may not be written to: the error does not name it.
    fn denied_topic(&self) -> Option<String> {
        let names: Vec<String> = self.topics.each().map(|(_, topic)| topic.name.clone()).collect();
        denied_writes(&self.cluster, &names).ok()?.into_iter().next()
    }

    fn end_transaction(&self) -> Result<(), SinkError> {
        let context = self.producer.context();
        let (errors_before, begun) = (context.error_count(), Instant::now());
        let _call = self.watchers.pulse.during("committing a transaction", COMMIT_LIMIT);
        failpoint::reach("while_committing");
        self.producer
            .commit_transaction(COMMIT_LIMIT)
            .map_err(|source| self.kafka("committing a transaction", source))?;
        self.producer.hear();
        let took = begun.elapsed();
        if took > COMMIT_LIMIT {
            return Err(SinkError::Doubtful {
                took,
                what: "longer than a commit may take",
            });
        }
        if context.error_count() != errors_before {
            return Err(SinkError::Doubtful {
                took,
                what: "while an error was reported",
            });
        }
        Ok(())
    }

    /// Partition counts as they are now, in the form of the cursor record.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub(crate) fn partitions(&self) -> Result<String, SinkError> {
        let _call = self.watchers.pulse.during("asking for the partitions", 2 * INIT_LIMIT);
        let count = |topic: &Topic| {
            let name = &topic.name;
            partition_count(self.producer.client(), name, self.patience(INIT_LIMIT))
                .map_err(|source| self.kafka("asking for the partitions", source))?
                .ok_or_else(|| kafka::Error::NoTopic { topic: name.clone() })
        };
        let changes = self.topics.changes.as_ref().map(count).transpose()?;
        Ok(partitions_text(count(&self.topics.accounts)?, changes))
    }

    fn ground(&self) -> MutexGuard<'_, Ground> {
        self.ground.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say_recreated(&self, recreated: &[TrailRecreated<'_>]) {
        for topic in recreated {
            self.watchers.metrics.recreated_topics_total.inc();
            topic.say(&self.key.connector);
        }
    }

    fn patience(&self, usual: Duration) -> Duration {
        if self.shutdown.is_requested() {
            usual.min(SHUTDOWN_LIMIT)
        } else {
            usual
        }
    }

    fn kafka(&self, doing: &'static str, source: KafkaError) -> kafka::Error {
        kafka_error(&self.cluster, &self.producer, doing, source)
    }

    fn fatal(&self, doing: &'static str) -> Option<kafka::Error> {
        fatal_error(&self.cluster, &self.producer, doing)
    }
}

impl Sink for Transactions {
    fn topics(&self) -> &Topics {
        &self.topics
    }

    /// - Complete: `progress` says no more than `records` and what was committed before them cover, because the caller
    ///   derives both from the same verified pages.
    /// - Once: after any error the outcome is unknown, and the caller reads the cursor record back before it decides
    ///   again; nothing here sends twice.
    /// - Atomic: records and cursor record are in one transaction, and every delivery report is in before EndTxn goes
    ///   out, so the commit is EndTxn alone.
    /// - One writer: a producer that was fenced cannot commit; begin and send may still succeed.
    fn commit(&self, records: &Records<'_>, progress: &Record, lender: &str) -> Result<(), SinkError> {
        let _call = self
            .watchers
            .pulse
            .during("writing a transaction", transaction_timeout());
        failpoint::reach("before_begin");
        self.begin()?;
        let begun = Instant::now();
        // What one that failed has left.
        drop(self.producer.context().take_written());
        failpoint::reach("after_begin");
        let middle = records.accounts.len() / 2;
        for (position, account) in records.accounts.iter().enumerate() {
            let mut record = BaseRecord::<str, [u8]>::to(&self.topics.accounts.name)
                .key(account.public_id)
                .headers(account_headers(account, lender));
            record.payload = (!account.is_tombstone()).then_some(account.value);
            self.send_record(record, begun)?;
            if position == middle {
                failpoint::reach("while_sending");
            }
        }
        if let Some(topic) = &self.topics.changes {
            let mut value = Vec::new();
            for change in &records.changes {
                records.change_value(change, &mut value);
                let headers = change_headers(change, lender);
                self.send(&topic.name, Some(change.account.public_id), &value, headers, begun)?;
            }
        }
        for letter in &records.dead_letters {
            let topic = &self.topics.dead_letters;
            let source = (self.topics.accounts.name.as_str(), self.key.connector.as_str());
            let message = letter.message(source, lender, topic.max_message);
            self.send(&topic.name, message.key, message.value, message.headers, begun)?;
        }
        let (topic, key) = (&self.topics.cursor, self.key.to_json());
        let progress = Record {
            ends: self.ground().ends(&progress.ends).clone(),
            ..progress.clone()
        };
        let (value, left_out) = progress.into_json_within(largest_value(topic, &key));
        if left_out > 0 && !self.said_left_out.swap(true, Ordering::Relaxed) {
            let (topic, limit) = (&topic.name, topic.max_message);
            tracing::warn!(
                connector = self.key.connector,
                "the cursor record is larger than {topic} takes ({limit} bytes): {left_out} of its cursors are left out, and a start \
                 reads a little again; raise max.message.bytes of the topic"
            );
        }
        self.send(&topic.name, Some(&key), value.as_bytes(), OwnedHeaders::new(), begun)?;
        self.drain()?;
        if !records.accounts.is_empty() {
            failpoint::reach("accounts_sent");
        }
        failpoint::reach("before_commit");
        self.end_transaction()?;
        failpoint::reach("after_commit");
        let written = self.producer.context().take_written();
        let recreated = self.ground().note(&self.topics, &written)?;
        self.say_recreated(&recreated);
        Ok(())
    }

    fn reopen(&mut self) -> Result<Committed, SinkError> {
        failpoint::reach("before_reopen");
        self.replace_producer()?;
        self.init()?;
        self.committed()
    }

    fn committed(&self) -> Result<Committed, SinkError> {
        let _call = self.watchers.pulse.during("reading the cursor topic", CURSOR_LIMIT);
        let records = self.cursors.ask(&self.shutdown, &mut || {})?;
        records.check_whole()?;
        records.committed(&self.key)
    }

    fn hold_ground(&self, recorded: &TopicEnds, max_age: Duration) -> Result<Option<String>, SinkError> {
        let _call = self
            .watchers
            .pulse
            .during("asking where the topics end", 4 * INIT_LIMIT);
        let find = |topic: &str, look| {
            let max_age = match look {
                _ if self.shutdown.is_requested() => return Ok(None),
                EndsLook::Recent => max_age,
                EndsLook::Again => {
                    self.shutdown.block(LOOK_AGAIN);
                    Duration::ZERO
                }
            };
            Ok(topic_ends(&self.cluster, topic, max_age)?)
        };
        let recreated = self.ground().hold(&self.topics, recorded, find)?;
        self.say_recreated(&recreated);
        // Nobody is asked once more for what was just found.
        let just_found = max_age.max(LOOK_AGAIN);
        let count = |topic: &Topic| {
            let found = topic_ends(&self.cluster, &topic.name, just_found)?;
            Ok::<_, SinkError>(found.map(|found| found.ends.len()))
        };
        let Some(accounts) = count(&self.topics.accounts)? else {
            return Ok(None);
        };
        Ok(match &self.topics.changes {
            None => Some(partitions_text(accounts, None)),
            Some(changes) => count(changes)?.map(|changes| partitions_text(accounts, Some(changes))),
        })
    }

    fn abandon(&self) {
        let limit = SHUTDOWN_LIMIT;
        let _call = self.watchers.pulse.during("ending a transaction", limit);
        self.producer.wake();
        if let Err(error) = self.producer.abort_transaction(limit) {
            tracing::debug!("no transaction was ended: {error}");
        }
    }
}
