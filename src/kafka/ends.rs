//! Where did topics end when somebody asked last? For all lenders of a process that want to know it at about the same time.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What was found when a topic was asked where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundEnds {
    /// Before it was asked: what was written by then lies before its ends.
    pub asked_at: Instant,
    /// By partition.
    pub ends: Vec<i64>,
}

/// By topic: when it was last asked, and what was found; `None`: nothing so far, or in vain.
#[derive(Default)]
pub(super) struct KnownEnds(Mutex<HashMap<String, (Instant, Option<FoundEnds>)>>);

impl KnownEnds {
    /// Those of a topic, no older than `max_age`, else what `ask` finds; `None` where somebody else is asking, or asked in vain and
    /// had the error. Nobody waits for another one.
    pub(super) fn find<E>(
        &self,
        topic: &str,
        max_age: Duration,
        ask: impl FnOnce() -> Result<Vec<i64>, E>,
    ) -> Result<Option<FoundEnds>, E> {
        let asked_at = Instant::now();
        {
            let mut known = self.known();
            if let Some((_, found)) = known.get(topic).filter(|(at, _)| at.elapsed() <= max_age) {
                return Ok(found.clone());
            }
            known.insert(topic.to_owned(), (asked_at, None));
        }
        let found = Some(FoundEnds { asked_at, ends: ask()? });
        self.known().insert(topic.to_owned(), (asked_at, found.clone()));
        Ok(found)
    }

    /// What was found by the way.
    pub(super) fn note(&self, topic: &str, found: FoundEnds) {
        self.known().insert(topic.to_owned(), (found.asked_at, Some(found)));
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, (Instant, Option<FoundEnds>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_has_just_asked_is_not_asked_again_an_error_neither() {
        const HOUR: Duration = Duration::from_secs(3600);
        let known = KnownEnds::default();
        let find = |topic: &str, max_age, answer: Result<i64, &'static str>| {
            let mut is_asked = false;
            let found = known.find(topic, max_age, || {
                is_asked = true;
                answer.map(|end| vec![end])
            });
            (found.map(|found| found.map(|found| found.ends[0])), is_asked)
        };
        assert_eq!(find("a", HOUR, Ok(1)), (Ok(Some(1)), true));
        assert_eq!(find("a", HOUR, Ok(2)), (Ok(Some(1)), false));
        assert_eq!(find("b", HOUR, Err("away")), (Err("away"), true));
        assert_eq!(find("b", HOUR, Ok(2)), (Ok(None), false));
        // Whoever must know asks for this one alone.
        assert_eq!(find("b", Duration::ZERO, Ok(3)), (Ok(Some(3)), true));
        assert_eq!(find("a", HOUR, Ok(4)), (Ok(Some(1)), false));
    }

    #[test]
    fn what_was_found_by_the_way_is_not_asked_for() {
        let known = KnownEnds::default();
        let asked_at = Instant::now();
        known.note(
            "a",
            FoundEnds {
                asked_at,
                ends: vec![7],
            },
        );
        let ask = || Err("nobody needs to know");
        let found = known.find("a", Duration::from_secs(3600), ask);
        assert_eq!(found.map(|found| found.map(|found| found.ends[0])), Ok(Some(7)));
    }

    #[test]
    fn nobody_waits_while_another_one_asks() {
        let known = KnownEnds::default();
        let found = known.find("a", Duration::ZERO, || {
            let meanwhile = known.find("a", Duration::from_secs(60), || Ok::<_, ()>(vec![9]));
            assert_eq!(meanwhile, Ok(None));
            Ok::<_, ()>(vec![1])
        });
        assert_eq!(found.map(|found| found.map(|found| found.ends)), Ok(Some(vec![1])));
    }
}
