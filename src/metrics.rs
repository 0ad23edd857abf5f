//! What is counted, under which name, and what does it mean? Every counter of the process, with label and help.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::clock::NOTABLE_SKEW;

/// For what is no whole number.
pub type FloatGauge = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LenderLabel {
    lender: String,
}

macro_rules! lender_metrics {
    ($($kind:ident $name:ident $help:literal;)*) => {
        /// The metrics of all lenders.
        #[derive(Default)]
        pub struct Metrics {
            registry: Registry,
            $($name: Family<LenderLabel, $kind>,)*
        }

        /// The metrics of one lender; clones count together.
        #[derive(Clone, Debug, Default)]
        pub struct LenderMetrics {
            $(#[doc = $help] pub $name: $kind,)*
        }

        impl Metrics {
            pub fn new() -> Self {
                let mut metrics = Self { registry: Registry::with_prefix("d02"), ..Self::default() };
                $(metrics.registry.register(metric_name(stringify!($name)), $help, metrics.$name.clone());)*
                metrics
            }

            pub fn lender(&self, lender: &str) -> LenderMetrics {
                let label = LenderLabel { lender: lender.to_owned() };
                LenderMetrics { $($name: self.$name.get_or_create(&label).clone(),)* }
            }
        }
    };
}

/// prometheus-client adds `_total` to a counter's name itself.
fn metric_name(field: &str) -> &str {
    field.strip_suffix("_total").unwrap_or(field)
}

lender_metrics! {
    Counter pages_total "Verified pages read from upstream";
    Counter rows_total "Rows in verified pages";
    Counter bytes_total "Bytes of answers, decompressed";
    Counter requests_total "Requests sent to upstream, logins included";
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
    Counter sweep_rows_total "Rows in verified pages of sweeps";
    Counter ahead_rows_total "Rows dated more than a second ahead of upstream's own clock";
    Counter invalid_fields_total "Fields whose value did not fit: null in the account, kept in extra where avro.extra lets it pass";
    Counter unreal_dates_total "Dates that are no real day: kept as text, the parsed field is null";
    Counter unknown_fields_total "Members that D02 is not known to have, kept in extra where avro.extra lets them pass";
    Counter tolerated_amounts_total "Amounts that are no whole number of minor units, but within errors.amount_tolerance of the one they were taken for";
    Counter transactions_total "Transactions committed, heartbeats included";
    Counter reopens_total "Producers replaced because an outcome was uncertain";
    Gauge accounts "Accounts in the index";
    Gauge index_bytes "Memory of the index, without what the allocator adds";
    Gauge stuck_walks "Walks that get nowhere: the same place fails again and again";
    Gauge drifting_fields "Fields that upstream changed for all rows: nearly none has a value that fits";
    Gauge ranges "Ranges of the snapshot that are still being read";
    Gauge snapshot_rows "Rows of the snapshot that this process reads, as upstream counted them at its start; 0 while it has not said";
    Counter snapshot_rows_read_total "Rows of the snapshot that were read and decided";
    FloatGauge upstream_clock_skew_seconds "Upstream's clock minus this machine's, to about a second, by the last quick answer that had a Date";
}

impl Metrics {
    /// All metrics as OpenMetrics text.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(_) => String::new(),
        }
    }
}

impl LenderMetrics {
    /// How much of the snapshot that was left at the start is read, 0–1; `None` without a snapshot, or where upstream
    /// does not say how much there is.
    pub fn snapshot_share(&self) -> Option<f64> {
        let (read, all) = (self.snapshot_rows_read_total.get(), self.snapshot_rows.get());
        // Rows that moved meanwhile are no longer there to be read, and new ones may have come.
        (self.ranges.get() > 0 && all > 0).then(|| (read as f64 / all as f64).min(1.0))
    }

    /// The line that a log gets each minute and at the end: what was done since the start, and what needs a look.
    pub fn line(&self) -> String {
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
        if let Some(share) = self.snapshot_share() {
            write!(line, ", snapshot {:.0} %", share * 100.0).expect("a String takes everything");
        }
        if self.stuck_walks.get() > 0 {
            write!(line, ", {} walks STUCK", self.stuck_walks.get()).expect("a String takes everything");
        }
        if self.drifting_fields.get() > 0 {
            write!(line, ", {} fields DRIFTING", self.drifting_fields.get()).expect("a String takes everything");
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
