//! How is upstream read by one who only looks? By the reader of `run`, so with its verified pages, fresh walks and
//! patience with faults; but nothing is committed, and an upstream that is away is given up after a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::table::ListedVersion;
use crate::account::{Digest, Op, Reason};
use crate::avro::{Encoder, Frame};
use crate::backoff::Patience;
use crate::config::{Config, Encoding};
use crate::exit::{Diagnosis, ErrorCode, Failure, ProcessError};
use crate::failpoint;
use crate::login;
use crate::metrics::LenderMetrics;
use crate::phase::Phase;
use crate::progress::{Progress, Range, Step, Timestamp, Walk};
use crate::reader::{Entry, Item, Page, Reader, ReaderExit, ReaderSettings, Until};
use crate::sink::{AccountRecord, Topic, account_size};
use crate::upstream::{Client, Login, Route, Transport};

/// Accounts are asked for again by their times, in no more ranges than this: each costs a request, so that of many
/// accounts what lies between them is read too.
const MOST_RANGES: usize = 200;

/// Upstream is given up.
#[derive(Debug, thiserror::Error)]
#[error("upstream brought nothing further for {}", humantime::format_duration(*.patience))]
struct NothingFurther {
    patience: Duration,
}

impl Diagnosis for NothingFurther {
    fn code(&self) -> ErrorCode {
        ErrorCode::U17
    }

    fn advice(&self) -> &str {
        "the warnings above say why; check upstream.base_url and that upstream is up, then verify again"
    }
}

/// A row as upstream shows it.
pub(super) enum SeenRow<'a> {
    Account {
        public_id: &'a str,
        version: ListedVersion,
    },
    /// It cannot be an account.
    Dead {
        public_id: Option<&'a str>,
        updated_at: Option<i64>,
        /// Over the row as received: what tells one dead letter from another.
        digest: Digest,
        reason: &'a Reason,
    },
}

/// One lender's rows.
pub(super) struct UpstreamRows<'a> {
    client: Arc<Client>,
    config: &'a Config,
    lender: &'a str,
    public_id: String,
    metrics: LenderMetrics,
    patience: Duration,
    /// Where accounts are to go: what is too large for it is none.
    topic: &'a Topic,
}

impl<'a> UpstreamRows<'a> {
    /// Logs in; what may pass is tried again for a while.
    pub(super) async fn log_in(
        http: &Arc<dyn Transport>,
        config: &'a Config,
        lender: &'a str,
        metrics: LenderMetrics,
        topic: &'a Topic,
        patience: Duration,
    ) -> Result<(Self, Login), Failure> {
        let route = Arc::new(Route::new(lender, &config.upstream, Phase::alone()));
        let patience = with_requests(config, patience);
        let logged_in = login::log_in(http, config, lender, &metrics, &route, Patience::For(patience)).await;
        let (client, login) = logged_in?;
        let rows = Self {
            client: Arc::new(client),
            config,
            lender,
            public_id: login.lender_public_id.clone(),
            metrics,
            patience,
            topic,
        };
        Ok((rows, login))
    }

    pub(super) fn public_id(&self) -> &str {
        &self.public_id
    }

    /// Reads everything, and what comes meanwhile or came late. `take` may get a row more than once, and an account that
    /// moved in more than one version. Gives upstream's clock at the beginning.
    ///
    /// # Errors
    /// When upstream refuses, brings nothing for too long, or a place in it cannot be read.
    pub(super) async fn all(&self, clock: Timestamp, take: impl FnMut(SeenRow<'_>)) -> Result<Timestamp, Failure> {
        // `start_from` leaves out nothing here: what is older counts where the topic holds it.
        let begun = self.read(Progress::default(), clock, take).await?;
        Ok(begun.unwrap_or(clock))
    }

    /// Reads what upstream has at `times`, and everything from `since` on.
    ///
    /// # Errors
    /// As above.
    pub(super) async fn again(
        &self,
        times: &BTreeSet<i64>,
        since: Timestamp,
        take: impl FnMut(SeenRow<'_>),
    ) -> Result<(), Failure> {
        let progress = Progress {
            first_snapshot_at: Some(since),
            read: Some(since),
            place: None,
            settled: Some(since),
            reconciled: None,
            start_from: None,
            ranges: ranges(times.range(..since.0).copied()),
        };
        self.read(progress, since, take).await.map(|_| ())
    }

    async fn read(
        &self,
        progress: Progress,
        clock: Timestamp,
        mut take: impl FnMut(SeenRow<'_>),
    ) -> Result<Option<Timestamp>, Failure> {
        // For the bar that a terminal shows.
        let set_ranges = |count: usize| self.metrics.ranges.set(i64::try_from(count).unwrap_or(i64::MAX));
        set_ranges(progress.ranges.len());
        // As a pipeline would commit it.
        let (committing, committed) = watch::channel(progress);
        let late_window = self.config.upstream.late_window;
        // No value is kept, so no schema id is needed: only its size counts.
        let frame = match self.config.avro.encoding {
            Encoding::Confluent => Frame::Confluent { schema_id: 0 },
            Encoding::SingleObject => Frame::SingleObject,
        };
        let (reader, mut incoming) = Reader::new(ReaderSettings {
            // A person's errand.
            target: watch::Sender::default().subscribe(),
            client: Arc::clone(&self.client),
            encoder: Encoder::new(frame),
            rules: self.config.rules(),
            name: self.lender,
            lender: &self.public_id,
            upstream: &self.config.upstream,
            until: Until::CaughtUp,
            patience: Patience::Endless,
            max_message: self.topic.max_message,
            max_record: usize::MAX,
            ends_length: 0,
            in_flight: &self.config.in_flight_of_one(),
            committed,
        });
        // Given up with this reading.
        let mut reading = JoinSet::new();
        reading.spawn(reader.run(clock, None));
        let patience = self.patience;
        let (mut deadline, mut begun) = (Instant::now() + patience, None);
        loop {
            match timeout_at(deadline, incoming.next()).await {
                Ok(Some(Item::Begin(progress))) => {
                    begun = progress.first_snapshot_at;
                    set_ranges(progress.ranges.len());
                    committing.send_replace(progress);
                }
                Ok(Some(Item::Page(page))) => {
                    if is_further(&page.step) {
                        deadline = Instant::now() + patience;
                    }
                    self.note(&page);
                    self.each(&page, &mut take);
                    committing.send_modify(|progress| progress.advance(&page.step, late_window));
                    set_ranges(committing.borrow().ranges.len());
                }
                // Only who reconciles asks.
                Ok(Some(Item::Ask(_))) => {}
                Ok(Some(Item::Split(split))) => {
                    committing.send_modify(|progress| progress.split(split));
                    set_ranges(committing.borrow().ranges.len());
                }
                Ok(Some(Item::End(ReaderExit::CaughtUp))) => return Ok(begun),
                Ok(Some(Item::End(ReaderExit::Failed(error)))) => return Err(error.into()),
                Ok(None) => {
                    if let Some(Err(panicked)) = reading.join_next().await {
                        std::panic::resume_unwind(panicked.into_panic());
                    }
                    let what = "the reading of upstream ended without a word";
                    return Err(ProcessError::Defect { what }.into());
                }
                Err(_) => return Err(NothingFurther { patience }.into()),
            }
        }
    }

    fn note(&self, page: &Page) {
        if let Walk::Range(_) = page.step.walk {
            self.metrics.snapshot_rows_read_total.inc_by(page.entries.len() as u64);
        }
    }

    fn each(&self, page: &Page, take: &mut impl FnMut(SeenRow<'_>)) {
        for entry in &page.entries {
            let row = match entry {
                Entry::DeadLetter(dead) => {
                    take(SeenRow::Dead {
                        public_id: dead.rejected.public_id.as_deref(),
                        updated_at: dead.rejected.updated_at,
                        digest: dead.digest,
                        reason: &dead.rejected.reason,
                    });
                    continue;
                }
                Entry::Account(row) => row,
            };
            let public_id = page.text(row.public_id);
            let record = AccountRecord {
                public_id,
                value: page.bytes(row.value),
                op: Op::Read,
                updated_at: row.updated_at,
                digest: row.digest,
                invalid: row.invalid.as_deref(),
                is_regressed: false,
                is_republished: false,
            };
            let size = account_size(&record, &self.public_id);
            if size > self.topic.max_message {
                take(SeenRow::Dead {
                    public_id: Some(public_id),
                    updated_at: Some(row.updated_at),
                    digest: row.received.map_or(Digest::of_bytes(&[]), |received| received.digest),
                    reason: &Reason::TooLarge {
                        size,
                        limit: self.topic.max_message,
                        topic: self.topic.name.clone(),
                    },
                });
                continue;
            }
            let version = ListedVersion {
                updated_at: row.updated_at,
                digest: row.digest,
            };
            take(SeenRow::Account { public_id, version });
        }
    }
}

/// Polls beside the snapshot come by themselves, also where the snapshot gets nowhere.
fn is_further(step: &Step) -> bool {
    match step.walk {
        Walk::Range(_) | Walk::Sweep | Walk::EarlySweep | Walk::Reconcile(_) | Walk::Replay => true,
        Walk::Live => !step.is_last,
    }
}

/// How long upstream may bring nothing.
fn with_requests(config: &Config, patience: Duration) -> Duration {
    /// As many may stand before one that counts.
    const REQUESTS: f64 = 16.0;
    let upstream = &config.upstream;
    let rate = upstream.max_requests_per_second;
    let turns = rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(REQUESTS / rate));
    failpoint::shortened("D02_TEST_VERIFY_PATIENCE", patience) + 2 * upstream.request_timeout + turns
}

/// Ranges that hold all of `times`, which come in order.
fn ranges(times: impl Iterator<Item = i64>) -> Vec<Range> {
    let times: Vec<i64> = times.collect();
    let size = times.len().div_ceil(MOST_RANGES).max(1);
    let range = |times: &[i64]| Range::fresh(Timestamp(times[0]), Timestamp(times[times.len() - 1] + 1));
    times.chunks(size).map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_times_have_a_range_each_and_many_share_them() {
        let bounds = |times: &[i64]| -> Vec<(i64, i64)> {
            let bounds = |range: Range| (range.since.expect("a bound").0, range.stop.0);
            ranges(times.iter().copied()).into_iter().map(bounds).collect()
        };
        assert_eq!(bounds(&[]), []);
        assert_eq!(bounds(&[3, 5, 900]), [(3, 4), (5, 6), (900, 901)]);
        let many: Vec<i64> = (0..1_001).map(|number| number * 7).collect();
        let found = bounds(&many);
        assert!(found.len() <= MOST_RANGES, "{}", found.len());
        assert!(found.is_sorted_by(|before, next| before.1 <= next.0), "apart, in order");
        let holds = |time: &i64| found.iter().any(|(since, stop)| since <= time && time < stop);
        assert!(many.iter().all(holds));
    }
}
