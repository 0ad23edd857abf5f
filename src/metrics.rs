//! What is counted, under which name, and what does it mean? Every metric of the process, with labels and help.
//!
//! docs/operations/metrics.md has the same as a table, which a test holds to this. What a scrape alone needs is computed by it; the rest
//! are atomic counters, and a histogram's lock a row that is live.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ages::LastTimes;
use chrono::{DateTime, Utc};
#[cfg(test)]
pub(crate) use described::Described;
use described::{
    BUILD_INFO, GROUP_MEMBER, GROUP_PARTITIONS, GROUP_REBALANCES, IN_FLIGHT, IN_FLIGHT_LIMIT, LOG_LINES_DROPPED,
    REQUESTS, START,
};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::clock::{self, NOTABLE_SKEW};
use crate::counter::Counter;
use crate::log;

mod ages;
mod described;

/// Prometheus's own text format: each of its versions reads it, every agent beside it does, and `promtool check metrics`
/// checks it, which it does not do for OpenMetrics.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Stands before every name.
const PREFIX: &str = "d02";

/// The `status` of a request that got no answer.
const NO_ANSWER: &str = "none";

/// For what is no whole number.
pub(crate) type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LenderLabel {
    lender: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabel {
    lender: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabel {
    group: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct VersionLabel {
    version: &'static str,
}

type OfLender<M> = Family<LenderLabel, M, fn() -> M>;

macro_rules! new_metric {
    ($kind:ident) => {
        <$kind>::default()
    };
    ($kind:ident $buckets:tt) => {
        $kind::new($buckets)
    };
}

macro_rules! lender_metrics {
    (
        $($kind:ident $name:ident $([$($bucket:literal),*])? $help:literal;)*
        => at a scrape: $($scraped_kind:ident $scraped:ident $scraped_help:literal;)*
    ) => {
        /// The metrics of all lenders.
        pub(crate) struct Metrics {
            registry: Registry,
            lenders: Mutex<BTreeMap<String, LenderMetrics>>,
            requests_total: Family<RequestLabel, Counter>,
            pub in_flight_bytes: Gauge,
            pub in_flight_limit_bytes: Gauge,
            group_member: Family<GroupLabel, Gauge>,
            pub group_partitions: Gauge,
            pub group_rebalances_total: Counter,
            $($name: OfLender<$kind>,)*
            $($scraped: OfLender<$scraped_kind>,)*
        }

        /// The metrics of one lender; clones count together.
        #[derive(Clone, Debug)]
        pub(crate) struct LenderMetrics {
            lender: String,
            requests_total: Family<RequestLabel, Counter>,
            pub times: Arc<LastTimes>,
            $(#[doc = $help] pub $name: $kind,)*
        }

        /// Of no lender: counts for whoever holds it.
        impl Default for LenderMetrics {
            fn default() -> Self {
                Self {
                    lender: String::new(),
                    requests_total: Family::default(),
                    times: Arc::default(),
                    $($name: new_metric!($kind $([$($bucket),*])?),)*
                }
            }
        }

        impl Metrics {
            pub(crate) fn new() -> Self {
                let mut metrics = Self {
                    registry: Registry::with_prefix(PREFIX),
                    lenders: Mutex::default(),
                    in_flight_bytes: Gauge::default(),
                    in_flight_limit_bytes: Gauge::default(),
                    group_member: Family::default(),
                    group_partitions: Gauge::default(),
                    group_rebalances_total: Counter::default(),
                    requests_total: Family::default(),
                    $($name: Family::new_with_constructor(|| new_metric!($kind $([$($bucket),*])?)),)*
                    $($scraped: Family::new_with_constructor(|| new_metric!($scraped_kind)),)*
                };
                let registry = &mut metrics.registry;
                registry.register(REQUESTS.name, REQUESTS.help, metrics.requests_total.clone());
                $(registry.register(stringify!($name), $help, metrics.$name.clone());)*
                $(registry.register(stringify!($scraped), $scraped_help, metrics.$scraped.clone());)*
                registry.register(IN_FLIGHT.name, IN_FLIGHT.help, metrics.in_flight_bytes.clone());
                registry.register(IN_FLIGHT_LIMIT.name, IN_FLIGHT_LIMIT.help, metrics.in_flight_limit_bytes.clone());
                let start = FloatGauge::default();
                start.set(clock::now().timestamp_millis() as f64 / 1000.0);
                registry.register(START.name, START.help, start);
                registry.register(GROUP_MEMBER.name, GROUP_MEMBER.help, metrics.group_member.clone());
                registry.register(GROUP_PARTITIONS.name, GROUP_PARTITIONS.help, metrics.group_partitions.clone());
                registry.register(GROUP_REBALANCES.name, GROUP_REBALANCES.help, metrics.group_rebalances_total.clone());
                registry.register(LOG_LINES_DROPPED.name, LOG_LINES_DROPPED.help, Counter(log::dropped()));
                let build_info = Family::<VersionLabel, Gauge>::default();
                build_info.get_or_create(&VersionLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
                registry.register(BUILD_INFO.name, BUILD_INFO.help, build_info);
                metrics
            }

            pub(crate) fn show_member(&self, group: &str) {
                let group = group.to_owned();
                self.group_member.get_or_create(&GroupLabel { group }).set(1);
            }

            /// The metrics of a lender, which are there from then on.
            pub(crate) fn lender(&self, lender: &str) -> LenderMetrics {
                let label = LenderLabel { lender: lender.to_owned() };
                let new = || LenderMetrics {
                    lender: lender.to_owned(),
                    requests_total: self.requests_total.clone(),
                    times: Arc::default(),
                    $($name: self.$name.get_or_create_owned(&label),)*
                };
                self.lenders().entry(lender.to_owned()).or_insert_with(new).clone()
            }
        }

        /// Every metric there is, in the order of the table in docs/operations/metrics.md.
        #[cfg(test)]
        pub(crate) const DESCRIBED: &[Described] = &[
            REQUESTS,
            $(Described { name: stringify!($name), kind: stringify!($kind), labels: "lender", help: $help },)*
            $(Described {
                name: stringify!($scraped),
                kind: stringify!($scraped_kind),
                labels: "lender",
                help: $scraped_help,
            },)*
            IN_FLIGHT,
            IN_FLIGHT_LIMIT,
            START,
            GROUP_MEMBER,
            GROUP_PARTITIONS,
            GROUP_REBALANCES,
            LOG_LINES_DROPPED,
            BUILD_INFO,
        ];
    };
}

lender_metrics! {
    Counter pages_total "Verified pages read from upstream";
    Counter rows_total "Rows in verified pages";
    Counter bytes_total "Bytes of answers, decompressed";
    Counter retries_total "Requests repeated after a fault";
    Counter unverified_pages_total "Pages discarded because they contradict what was asked";
    Counter fresh_walks_total "Walks begun again without a cursor";
    Counter logins_total "Logins with email and password";
    Counter token_refreshes_total "Tokens renewed with a refresh token";
    Counter records_total "Account records committed";
    Counter changes_total "Records committed to the topic of changes";
    Counter deleted_accounts_total "Tombstones committed, for accounts that upstream does not show any more";
    Counter put_back_total "Account records committed though a newer version was held, by reconciliation";
    Counter reconciles_total "Times that everything was read once more and compared";
    Counter dead_letters_total "Dead letters committed";
    Counter repeated_rows_total "Rows not written because the same version is held";
    Counter stale_rows_total "Rows not written because a newer version is held";
    Counter undecided_rows_total "Rows left for a later reading";
    Counter regressed_rows_total "Rows older than what is held though read later";
    Counter ignored_rows_total "Rows older than start_from whose account is not held";
    Counter still_dead_letters_total "Dead letters that a replay could read, but that are too large for their topics";
    Counter sweeps_total "Sweeps for late rows that ended";
    Counter backlogs_total "Live walks that were too far behind, and became ranges";
    Counter sweep_rows_total "Rows in verified pages of sweeps";
    Counter not_shown_rows_total "Rows that upstream counted in a range when it was read, beyond those that it showed";
    Counter ahead_rows_total "Rows dated more than a second ahead of what the clock of their answer allows";
    Counter invalid_fields_total "Fields whose value did not fit: null in the account, kept in extra where avro.extra lets it pass";
    Counter unreal_dates_total "Dates that are no real day: kept as text, the parsed field is null";
    Counter unknown_fields_total "Members that D02 is not known to have, kept in extra where avro.extra lets them pass";
    Counter tolerated_amounts_total "Amounts that are no whole number of minor units, but within errors.amount_tolerance of the one they were taken for";
    Counter transactions_total "Transactions committed, heartbeats included";
    Counter republished_accounts_total "Accounts written once more as they are held";
    Counter schemas_lost_total "Starts because the registry had lost the schema that is written under";
    Counter recreated_topics_total "Topics of changes or dead letters that begin anew under the source";
    Counter reopens_total "Producers replaced because an outcome was uncertain";
    Gauge running "1 while this process runs the lender, else 0";
    Gauge paused "1 while somebody has paused the lender, else 0";
    Gauge stopped "1 while somebody has stopped the lender, else 0";
    Gauge accounts "Accounts in the index";
    Gauge standby_accounts "Accounts held of the lender that stands by here, 0 where it runs or nothing is held of it";
    Gauge index_bytes "Memory of the index, without what the allocator adds";
    Gauge lost_schema_accounts "Accounts that a start found under schemas that the registry does not know, or that are others' now";
    Gauge left_to_republish "At the end of a republishing, accounts that upstream does not show as they are held";
    Gauge uncompacted_topics "Of accounts and cursor, those that are not exactly compacted any more";
    Gauge hidden_partitions "Partitions of its topics of which consumers of committed records read nothing more: a transaction does not end";
    Gauge stuck_walks "Walks that get nowhere: the same place fails again and again";
    Gauge drifting_fields "Fields that upstream changed for all rows: nearly none has a value that fits";
    Gauge volatile_members "Members whose content differs each time that it is read: such rows are written again at each reading";
    Gauge ranges "Ranges of the snapshot that are still being read";
    Gauge snapshot_rows "Rows of the snapshot that this process reads, as upstream counted them at its start; 0 while it has not said";
    Counter snapshot_rows_read_total "Rows of the snapshot that were read and decided";
    FloatGauge upstream_clock_skew_seconds "Upstream's clock minus this machine's, to about a second, by the last quick answer that had a Date";
    Gauge clocks_apart "1 while upstream's clock and this machine's differ by more than upstream.late_window, else 0";
    Histogram transaction_seconds [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0]
        "Duration of a transaction, until it was known to be committed";
    Histogram transaction_records [0.0, 1.0, 10.0, 100.0, 1000.0, 5000.0, 10000.0, 20000.0, 50000.0, 100000.0]
        "Records of a transaction beside its cursor record: accounts, changes and dead letters";
    Histogram latency_seconds [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 3600.0]
        "From updated_at to the commit, by upstream's clock, of account records that a live walk or a sweep brought";
    Gauge kafka_queue_messages "Records in the producer's queue, in flight ones included, by librdkafka";
    Gauge kafka_queue_bytes "Bytes of the records in the producer's queue, by librdkafka";
    Gauge kafka_requests_waiting "Requests that wait to be sent to a broker, by librdkafka";
    Gauge kafka_requests_in_flight "Requests that a broker has not answered yet, by librdkafka";
    Gauge kafka_brokers_up "Brokers that the producer is connected to, by librdkafka";
    FloatGauge kafka_round_trip_seconds "Longest of the brokers' mean round trips, by librdkafka";
    FloatGauge kafka_throttle_seconds "Longest time that a broker read nothing from the producer because of a quota, by librdkafka";
    Counter kafka_messages_total "Records sent to brokers, repetitions included, by librdkafka";
    Counter kafka_message_bytes_total "Bytes of records sent to brokers, by librdkafka";
    Counter kafka_request_errors_total "Requests that could not be sent to a broker, by librdkafka";
    Counter kafka_request_retries_total "Requests that librdkafka sent again";
    Counter kafka_request_timeouts_total "Requests that a broker did not answer in time, by librdkafka";

    => at a scrape:
    FloatGauge freshness_seconds "Now minus the clock of the first answer of the last live walk that was committed: what is older is in the topic";
    FloatGauge read_timestamp_seconds "Up to here, in seconds since the epoch, live walks have read: the latest updated_at that counts";
    FloatGauge settled_timestamp_seconds "What is older, in seconds since the epoch, is read completely: nothing late is expected there any more";
    FloatGauge progress_age_seconds "Since a page that got further was last committed";
    FloatGauge snapshot_share "Share of the snapshot left at the start that is read, 0 to 1; not there where upstream does not say how much it is";
    Gauge rows_behind "Rows of the snapshot that are not read yet, as upstream counted them at the start";
    FloatGauge standby_age_seconds "Since what is held of a lender that stands by was last read on to where its topics end";
    Gauge ready "1 where /readyz calls the lender ready, else 0";
}

impl Metrics {
    /// All metrics in the form of [`CONTENT_TYPE`].
    pub(crate) fn text(&self) -> String {
        for metrics in self.lenders().values() {
            self.bring_up_to_date(metrics, clock::now());
        }
        let mut text = String::new();
        text::encode_registry(&mut text, &self.registry).expect("a String takes everything");
        text
    }

    /// Says whether a lender is ready, as of now.
    pub(crate) fn show_ready(&self, lender: &str, is_ready: bool) {
        let lender = lender.to_owned();
        let label = LenderLabel { lender };
        self.ready.get_or_create(&label).set(i64::from(is_ready));
    }

    /// What is not known yet is not there: neither alarms nor graphs take it for a number.
    fn bring_up_to_date(&self, metrics: &LenderMetrics, now: DateTime<Utc>) {
        let lender = metrics.lender.clone();
        let label = LenderLabel { lender };
        let seconds = |milliseconds: i64| milliseconds as f64 / 1000.0;
        let [live_clock, read, settled] = metrics.times.known();
        let freshness = live_clock.map(|clock| {
            // It is the earlier of both: upstream's where that is behind.
            let age = seconds(now.timestamp_millis() - clock) + metrics.upstream_clock_skew_seconds.get().min(0.0);
            age.max(0.0)
        });
        for (shown, value) in [
            (&self.freshness_seconds, freshness),
            (&self.read_timestamp_seconds, read.map(seconds)),
            (&self.settled_timestamp_seconds, settled.map(seconds)),
            (
                &self.progress_age_seconds,
                metrics.times.progress_age().map(|age| age.as_secs_f64()),
            ),
            (&self.snapshot_share, metrics.snapshot_share()),
            (
                &self.standby_age_seconds,
                metrics.times.follow_age().map(|age| age.as_secs_f64()),
            ),
        ] {
            match value {
                Some(value) => drop(shown.get_or_create(&label).set(value)),
                None => drop(shown.remove(&label)),
            }
        }
        let read = i64::try_from(metrics.snapshot_rows_read_total.get()).unwrap_or(i64::MAX);
        let behind = match metrics.ranges.get() {
            0 => 0,
            _ => metrics.snapshot_rows.get().saturating_sub(read).max(0),
        };
        self.rows_behind.get_or_create(&label).set(behind);
    }

    fn lenders(&self) -> MutexGuard<'_, BTreeMap<String, LenderMetrics>> {
        self.lenders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl LenderMetrics {
    /// Counts a request by what was answered; `None`: nothing was. Made-up codes count as their class, so that an upstream that
    /// invents some does not fill the memory.
    pub(crate) fn count_request(&self, status: Option<u16>) {
        let status = match status {
            None => NO_ANSWER.to_owned(),
            Some(status @ (200..=208 | 300..=308 | 400..=431 | 500..=511)) => status.to_string(),
            Some(status) => format!("{}xx", status / 100),
        };
        let lender = self.lender.clone();
        self.requests_total
            .get_or_create(&RequestLabel { lender, status })
            .inc();
    }

    /// Another process runs it: what there was to say of it here is over, and no alarm is to wait for it.
    pub(crate) fn stand_by(&self) {
        for gauge in [
            &self.accounts,
            &self.index_bytes,
            &self.lost_schema_accounts,
            &self.uncompacted_topics,
            &self.hidden_partitions,
            &self.stuck_walks,
            &self.drifting_fields,
            &self.volatile_members,
            &self.ranges,
            &self.snapshot_rows,
            &self.clocks_apart,
        ] {
            gauge.set(0);
        }
        self.times.forget();
    }

    /// Notes how late these versions are, which are now committed: their `updated_at` in milliseconds since the epoch.
    pub(crate) fn note_latencies(&self, updated_at: &[i64]) {
        let now = clock::now().timestamp_millis() as f64 / 1000.0 + self.upstream_clock_skew_seconds.get();
        for updated_at in updated_at {
            let latency = now - *updated_at as f64 / 1000.0;
            self.latency_seconds.observe(latency.max(0.0));
        }
    }

    /// How much of the snapshot that was left at the start is read, 0–1; `None` without a snapshot, or where upstream
    /// does not say how much there is.
    pub(crate) fn snapshot_share(&self) -> Option<f64> {
        let (read, all) = (self.snapshot_rows_read_total.get(), self.snapshot_rows.get());
        // Rows that moved meanwhile are no longer there to be read, and new ones may have come.
        (self.ranges.get() > 0 && all > 0).then(|| (read as f64 / all as f64).min(1.0))
    }

    /// The line that a log gets each minute and at the end: what was done since the start, and what needs a look.
    pub(crate) fn line(&self) -> String {
        let mut line = format!(
            "{} rows in {} pages, {} records in {} transactions, {} accounts",
            self.rows_total.get(),
            self.pages_total.get(),
            self.records_total.get(),
            self.transactions_total.get(),
            self.accounts.get(),
        );
        let odd = [
            (&self.repeated_rows_total, "repeated"),
            (&self.dead_letters_total, "dead letters"),
            (&self.stale_rows_total, "stale"),
            (&self.undecided_rows_total, "undecided"),
            (&self.regressed_rows_total, "regressed"),
            (&self.ignored_rows_total, "before start_from"),
            (&self.ahead_rows_total, "dated ahead"),
            (&self.invalid_fields_total, "invalid fields"),
            (&self.tolerated_amounts_total, "tolerated amounts"),
            (&self.unreal_dates_total, "unreal dates"),
            (&self.unknown_fields_total, "unknown fields"),
            (&self.retries_total, "retries"),
            (&self.unverified_pages_total, "unverified pages"),
            (&self.reopens_total, "reopens"),
        ];
        if let Some(age) = self.times.follow_age() {
            let (accounts, age) = (self.standby_accounts.get(), age.as_secs());
            write!(line, "; standing by, {accounts} accounts held, {age} s behind").expect("a String takes everything");
        }
        if let Some(share) = self.snapshot_share() {
            write!(line, ", snapshot {:.0} %", share * 100.0).expect("a String takes everything");
        }
        if self.stuck_walks.get() > 0 {
            write!(line, ", {} walks STUCK", self.stuck_walks.get()).expect("a String takes everything");
        }
        if self.drifting_fields.get() > 0 {
            write!(line, ", {} fields DRIFTING", self.drifting_fields.get()).expect("a String takes everything");
        }
        if self.volatile_members.get() > 0 {
            write!(line, ", {} members VOLATILE", self.volatile_members.get()).expect("a String takes everything");
        }
        for (counter, what) in odd {
            if counter.get() > 0 {
                write!(line, ", {} {what}", counter.get()).expect("a String takes everything");
            }
        }
        let skew = self.upstream_clock_skew_seconds.get();
        if skew.abs() > NOTABLE_SKEW {
            let side = if skew > 0.0 { "ahead" } else { "behind" };
            write!(line, ", upstream's clock {:.0} s {side}", skew.abs()).expect("a String takes everything");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Timestamp;

    #[test]
    fn clones_count_together_and_the_text_names_the_lender() {
        let metrics = Metrics::new();
        metrics.lender("acme").rows_total.inc_by(3);
        metrics.lender("acme").rows_total.inc();
        assert!(
            metrics.text().contains("d02_rows_total{lender=\"acme\"} 4"),
            "{}",
            metrics.text()
        );
    }

    #[test]
    fn the_text_is_prometheus_own_format() {
        let metrics = Metrics::new();
        let acme = metrics.lender("acme");
        acme.count_request(Some(200));
        acme.count_request(Some(299));
        acme.count_request(None);
        acme.transaction_seconds.observe(0.3);
        let text = metrics.text();
        for line in [
            "# TYPE d02_rows_total counter",
            "# HELP d02_rows_total Rows in verified pages.",
            "d02_requests_total{lender=\"acme\",status=\"200\"} 1",
            "d02_requests_total{lender=\"acme\",status=\"2xx\"} 1",
            "d02_requests_total{lender=\"acme\",status=\"none\"} 1",
            "# TYPE d02_transaction_seconds histogram",
            "d02_transaction_seconds_bucket{le=\"0.25\",lender=\"acme\"} 0",
            "d02_transaction_seconds_bucket{le=\"+Inf\",lender=\"acme\"} 1",
            "d02_transaction_seconds_count{lender=\"acme\"} 1",
            concat!("d02_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "d02_rows_behind{lender=\"acme\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
        // What is not known is not there.
        for name in [
            "d02_freshness_seconds{",
            "d02_read_timestamp_seconds{",
            "d02_settled_timestamp_seconds{",
            "d02_snapshot_share{",
            "d02_ready{",
        ] {
            assert!(!text.contains(name), "{text}");
        }
    }

    #[test]
    fn ages_are_by_upstreams_clock_and_what_is_left_of_the_snapshot_is_told() {
        let metrics = Metrics::new();
        let acme = metrics.lender("acme");
        let value = |name: &str| {
            let text = metrics.text();
            let start = format!("d02_{name}{{lender=\"acme\"}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|value| value.parse::<f64>().expect("a number"))
        };
        let now = clock::now().timestamp_millis();
        acme.times.note_live_walk(Timestamp(now - 7_220_000));
        acme.times.note_live_walk(Timestamp(now - 7_290_000));
        // The earlier clock: upstream's behind ours.
        acme.upstream_clock_skew_seconds.set(-7_200.0);
        let age = value("freshness_seconds").expect("known");
        assert!((20.0..25.0).contains(&age), "{age}");
        // Ours, behind upstream's.
        acme.times.note_live_walk(Timestamp(now - 20_000));
        acme.upstream_clock_skew_seconds.set(7_200.0);
        let age = value("freshness_seconds").expect("known");
        assert!((20.0..25.0).contains(&age), "{age}");
        acme.times.note_marks(Some(Timestamp(2_000)), None);
        assert_eq!(value("settled_timestamp_seconds"), None);
        acme.times.note_marks(Some(Timestamp(2_500)), Some(Timestamp(1_500)));
        assert_eq!(
            (value("read_timestamp_seconds"), value("settled_timestamp_seconds")),
            (Some(2.5), Some(1.5))
        );
        acme.ranges.set(2);
        acme.snapshot_rows.set(200);
        acme.snapshot_rows_read_total.inc_by(50);
        assert_eq!(
            (value("snapshot_share"), value("rows_behind")),
            (Some(0.25), Some(150.0))
        );
        acme.ranges.set(0);
        assert_eq!((value("snapshot_share"), value("rows_behind")), (None, Some(0.0)));
        metrics.show_ready("acme", true);
        assert_eq!(value("ready"), Some(1.0));
    }

    #[test]
    fn the_table_in_the_documents_has_every_metric_and_no_other() {
        let row = |metric: &Described| {
            let kind = metric.kind.trim_start_matches("Float").to_lowercase();
            let Described { name, labels, help, .. } = metric;
            format!("| `{PREFIX}_{name}` | {kind} | {labels} | {help} |")
        };
        let expected: Vec<String> = DESCRIBED.iter().map(row).collect();
        let operations = include_str!("../docs/operations/metrics.md");
        // Those of four columns: the table of alarms has two.
        let is_row = |line: &&str| line.starts_with("| `d02_") && line.matches(" | ").count() == 3;
        let found: Vec<&str> = operations.lines().filter(is_row).collect();
        assert!(
            found == expected,
            "docs/operations/metrics.md should have\n{}",
            expected.join("\n")
        );
    }

    #[test]
    fn the_line_names_only_oddities_that_occurred() {
        let lender = LenderMetrics::default();
        lender.retries_total.inc();
        assert_eq!(
            lender.line(),
            "0 rows in 0 pages, 0 records in 0 transactions, 0 accounts, 1 retries"
        );
        lender.ranges.set(1);
        lender.snapshot_rows.set(200);
        lender.snapshot_rows_read_total.inc_by(84);
        assert!(
            lender.line().contains("0 accounts, snapshot 42 %, 1 retries"),
            "{}",
            lender.line()
        );
        for (skew, expected) in [
            (30.0, "1 retries"),
            (-45.4, ", upstream's clock 45 s behind"),
            (7200.4, ", upstream's clock 7200 s ahead"),
        ] {
            lender.upstream_clock_skew_seconds.set(skew);
            assert!(lender.line().ends_with(expected), "{}", lender.line());
        }
    }
}
