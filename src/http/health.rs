//! Which lenders make progress? A page of any walk that got further, committed; a heartbeat is none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};

use crate::exit::Exit;
use crate::metrics::{LenderMetrics, Metrics};

/// Where a lender stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It logs in, waits for the registry, or is restored.
    Starting,
    Running,
    /// It is another process's to run, until the group gives it to this one.
    Standby,
    /// Somebody stopped it: nobody runs it.
    Stopped,
    /// Upstream refused it, or its secret cannot be read; it is tried again.
    Failed,
    Ended(Exit),
}

/// The health of all lenders.
pub(crate) struct Health {
    stale_after: Duration,
    stands_by_warm: bool,
    metrics: Arc<Metrics>,
    lenders: BTreeMap<String, LenderHealth>,
}

struct LenderHealth {
    standing: Mutex<Standing>,
    /// Why it failed or ended last, as the log says it.
    failure: Mutex<Option<String>>,
    metrics: LenderMetrics,
}

impl Health {
    /// `stale_after`: how long a lender may stand still and be called ready; `stands_by_warm`: whether one that stands by is ready
    /// only once what its topics hold is held here.
    pub(crate) fn new<'a>(
        lenders: impl Iterator<Item = &'a String>,
        stale_after: Duration,
        stands_by_warm: bool,
        metrics: Arc<Metrics>,
    ) -> Self {
        let lender = |name: &String| {
            let lender = LenderHealth {
                standing: Mutex::new(Standing::Starting),
                failure: Mutex::default(),
                metrics: metrics.lender(name),
            };
            (name.clone(), lender)
        };
        Self {
            stale_after,
            stands_by_warm,
            lenders: lenders.map(lender).collect(),
            metrics,
        }
    }

    pub(crate) fn set(&self, lender: &str, standing: Standing) {
        let lender = self.lenders.get(lender).expect(CONFIGURED);
        *lender.standing.lock().unwrap_or_else(PoisonError::into_inner) = standing;
        lender.metrics.running.set(i64::from(standing == Standing::Running));
        if matches!(standing, Standing::Standby | Standing::Stopped) {
            lender.metrics.stand_by();
        }
    }

    /// Why a lender failed or ended: for who may know more than whether it is ready.
    pub(crate) fn note_failure(&self, lender: &str, failure: String) {
        let lender = self.lenders.get(lender).expect(CONFIGURED);
        *lender.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
    }

    /// Where a lender stands, and why it last failed or ended.
    pub(crate) fn standing(&self, lender: &str) -> (Standing, Option<String>) {
        let lender = self.lenders.get(lender).expect(CONFIGURED);
        let standing = *lender.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let failure = lender.failure.lock().unwrap_or_else(PoisonError::into_inner);
        (standing, failure.clone())
    }

    /// Whether every lender is ready, and of each whether and why not. Tells the metrics, too.
    pub(crate) fn report(&self) -> (bool, Value) {
        let mut lenders = serde_json::Map::new();
        let mut are_ready = true;
        for (name, lender) in &self.lenders {
            let standing = *lender.standing.lock().unwrap_or_else(PoisonError::into_inner);
            let age = lender.metrics.times.progress_age();
            let why = match standing {
                Standing::Standby if self.metrics.group_rebalances_total.get() == 0 => Some(NO_MEMBER.to_owned()),
                Standing::Standby => self.stands_by_warm.then(|| cold(&lender.metrics)).flatten(),
                // As somebody asked.
                Standing::Running if lender.metrics.paused.get() == 1 => None,
                _ => why_not(standing, age, self.stale_after, trouble(&lender.metrics)),
            };
            self.metrics.show_ready(name, why.is_none());
            are_ready &= why.is_none();
            let mut shown = shown(why, age);
            match standing {
                Standing::Standby => shown["standby"] = standby(&lender.metrics),
                Standing::Stopped => shown["stopped"] = json!(true),
                Standing::Running if lender.metrics.paused.get() == 1 => shown["paused"] = json!(true),
                _ => {}
            }
            lenders.insert(name.clone(), shown);
        }
        (are_ready, json!({ "ready": are_ready, "lenders": lenders }))
    }
}

const CONFIGURED: &str = "every configured lender is there";

/// What a lender that moves is not ready for.
fn trouble(metrics: &LenderMetrics) -> Option<&'static str> {
    if metrics.clocks_apart.get() > 0 {
        Some("upstream's clock and this machine's differ by more than upstream.late_window; the log says how far")
    } else if metrics.uncompacted_topics.get() > 0 {
        Some("accounts or cursor is not exactly compacted any more; the log has the command that mends it")
    } else {
        None
    }
}

fn shown(why: Option<String>, age: Option<Duration>) -> Value {
    let mut shown = json!({ "ready": why.is_none() });
    if let Some(age) = age {
        shown["progress_age_seconds"] = json!(age.as_millis() as f64 / 1000.0);
    }
    if let Some(why) = why {
        shown["why"] = json!(why);
    }
    shown
}

/// What is held of a lender that another process runs, and how far behind it is.
fn standby(metrics: &LenderMetrics) -> Value {
    match metrics.times.follow_age() {
        Some(age) => json!({
            "warm": true,
            "accounts": metrics.standby_accounts.get(),
            "age_seconds": age.as_millis() as f64 / 1000.0,
        }),
        None => json!({ "warm": false }),
    }
}

/// Before that, what it is given it is about to start.
const NO_MEMBER: &str = "it stands by, and the group has not shared the lenders out to this process yet";

/// Why one that is to be warm is not ready.
fn cold(metrics: &LenderMetrics) -> Option<String> {
    let is_held = metrics.times.follow_age().is_some();
    (!is_held).then(|| "it stands by, and what its topics hold is not read yet".to_owned())
}

/// Why a lender is not ready; `None` where it is. Errors stand in the log alone: they may name what is not for everybody who
/// reaches the port.
fn why_not(standing: Standing, age: Option<Duration>, stale_after: Duration, trouble: Option<&str>) -> Option<String> {
    let shown = |duration: Duration| humantime::format_duration(Duration::from_secs(duration.as_secs()));
    match (standing, age) {
        (Standing::Starting, _) => Some("it has not started yet".to_owned()),
        (Standing::Failed, _) => Some("upstream refused it, or its secret cannot be read; the log says why".to_owned()),
        // As it was asked to.
        (Standing::Ended(Exit::Done), _) | (Standing::Standby | Standing::Stopped, _) => None,
        (Standing::Ended(exit), _) => Some(format!("it stopped with exit code {}; the log says why", exit.code())),
        (Standing::Running, None) => Some("nothing of it is read and committed yet".to_owned()),
        (Standing::Running, Some(age)) if age > stale_after => Some(format!(
            "nothing further of it was read and committed for {}; http.stale_after is {}",
            shown(age),
            humantime::format_duration(stale_after)
        )),
        (Standing::Running, Some(_)) => trouble.map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Timestamp;

    const STALE_AFTER: Duration = Duration::from_secs(300);

    #[test]
    fn only_a_lender_that_runs_and_moves_is_ready() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (standing, age, expected) in [
            (Standing::Starting, None, Some("it has not started yet")),
            (Standing::Starting, seconds(1), Some("it has not started yet")),
            (Standing::Running, None, Some("nothing of it is read and committed yet")),
            (Standing::Running, seconds(0), None),
            (Standing::Running, seconds(300), None),
            (
                Standing::Running,
                seconds(301),
                Some("nothing further of it was read and committed for 5m 1s; http.stale_after is 5m"),
            ),
            (
                Standing::Failed,
                seconds(1),
                Some("upstream refused it, or its secret cannot be read; the log says why"),
            ),
            (
                Standing::Ended(Exit::TakenOver),
                seconds(1),
                Some("it stopped with exit code 3; the log says why"),
            ),
            (Standing::Ended(Exit::Done), seconds(900), None),
            (Standing::Standby, None, None),
            (Standing::Standby, seconds(900), None),
        ] {
            let found = why_not(standing, age, STALE_AFTER, None);
            assert_eq!(found.as_deref(), expected, "{standing:?} {age:?}");
        }
        let in_trouble = |standing| why_not(standing, seconds(1), STALE_AFTER, Some("clocks"));
        assert_eq!(in_trouble(Standing::Running).as_deref(), Some("clocks"));
        assert_eq!(in_trouble(Standing::Ended(Exit::Done)), None);
    }

    #[test]
    fn what_is_wrong_with_clocks_and_topics_is_said() {
        let metrics = Metrics::new().lender("acme");
        assert_eq!(trouble(&metrics), None);
        metrics.uncompacted_topics.set(1);
        assert!(trouble(&metrics).is_some_and(|why| why.contains("not exactly compacted")));
        metrics.clocks_apart.set(1);
        assert!(trouble(&metrics).is_some_and(|why| why.contains("upstream.late_window")));
    }

    #[test]
    fn one_lender_that_stands_still_makes_the_process_not_ready() {
        let metrics = Arc::new(Metrics::new());
        let lenders = ["acme".to_owned(), "bolt".to_owned()];
        let health = Health::new(lenders.iter(), STALE_AFTER, true, Arc::clone(&metrics));
        health.set("acme", Standing::Running);
        metrics.lender("acme").times.note_progress();
        let (are_ready, report) = health.report();
        assert!(!are_ready);
        assert_eq!(report["lenders"]["acme"]["ready"], true);
        let bolt = json!({ "ready": false, "why": "it has not started yet" });
        assert_eq!(report["lenders"]["bolt"], bolt);
        assert!(metrics.text().contains("d02_ready{lender=\"bolt\"} 0"));
        health.set("bolt", Standing::Running);
        metrics.lender("bolt").times.note_progress();
        assert!(health.report().0);
    }

    #[test]
    fn of_a_lender_that_another_process_runs_no_age_and_no_trouble_is_shown() {
        let metrics = Arc::new(Metrics::new());
        let name = "acme".to_owned();
        let health = Health::new([&name].into_iter(), STALE_AFTER, true, Arc::clone(&metrics));
        let shown = |what: &str| {
            let start = format!("d02_{what}{{lender=\"acme\"}} ");
            let text = metrics.text();
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map(|value| value.parse::<f64>().expect("a number"))
        };
        let of = metrics.lender(&name);
        health.set(&name, Standing::Running);
        of.times.note_progress();
        of.times.note_live_walk(Timestamp(1_000));
        of.times.note_marks(Some(Timestamp(2_000)), Some(Timestamp(1_000)));
        of.stuck_walks.set(2);
        of.clocks_apart.set(1);
        assert_eq!((shown("running"), shown("stuck_walks")), (Some(1.0), Some(2.0)));
        let ages = [
            "freshness_seconds",
            "read_timestamp_seconds",
            "settled_timestamp_seconds",
            "progress_age_seconds",
        ];
        assert!(ages.iter().all(|age| shown(age).is_some()));
        health.set(&name, Standing::Standby);
        assert!(!health.report().0, "the group may give it in a moment");
        metrics.group_rebalances_total.inc();
        let held = |health: &Health| health.report().1["lenders"]["acme"]["standby"].clone();
        assert_eq!(held(&health), json!({ "warm": false }));
        assert!(!health.report().0, "what it is to take over with is not here");
        of.standby_accounts.set(7);
        of.times.note_followed(true);
        let warm = held(&health);
        assert_eq!((&warm["warm"], &warm["accounts"]), (&json!(true), &json!(7)));
        assert!(warm["age_seconds"].as_f64().is_some_and(|age| age < 60.0), "{warm}");
        assert!(shown("standby_age_seconds").is_some() && of.line().contains("standing by, 7 accounts held"));
        assert!(health.report().0, "it is ready");
        of.times.note_followed(false);
        assert_eq!(shown("standby_age_seconds"), None);
        let cold = Health::new([&name].into_iter(), STALE_AFTER, false, Arc::clone(&metrics));
        cold.set(&name, Standing::Standby);
        assert!(cold.report().0, "nothing is to be held");
        assert_eq!(
            (shown("running"), shown("stuck_walks"), shown("clocks_apart")),
            (Some(0.0), Some(0.0), Some(0.0))
        );
        assert!(ages.iter().all(|age| shown(age).is_none()), "{}", metrics.text());
    }
}
