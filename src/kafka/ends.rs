//! Where did topics end when somebody asked last? For all lenders of a process that want to know it at about the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// By topic: when it was asked for, and what was found, by partition; `None`: in vain.
#[derive(Default)]
pub(super) struct KnownEnds(Mutex<HashMap<String, (Instant, Ends)>>);

type Ends = Option<Vec<i64>>;

impl KnownEnds {
    /// Those of a topic, no older than `max_age`; else `ask` gets the names to ask for, this topic first, then the others that are
    /// as old. `None` where somebody asked in vain since, who had the error.
    pub(super) fn find<E>(
        &self,
        topic: &str,
        max_age: Duration,
        ask: impl FnOnce(&[String], &mut dyn FnMut(&str, Ends)) -> Result<(), E>,
    ) -> Result<Ends, E> {
        // Held while it is asked: who waits for it wants to know the same.
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: Instant| at.elapsed() <= max_age;
        if let Some((_, ends)) = known.get(topic).filter(|(at, _)| is_fresh(*at)) {
            return Ok(ends.clone());
        }
        let others = known.iter().filter(|(name, (at, _))| *name != topic && !is_fresh(*at));
        let names: Vec<String> = [topic.to_owned()]
            .into_iter()
            .chain(others.map(|(name, _)| name.clone()))
            .collect();
        let mut note = |name: &str, ends| {
            known.insert(name.to_owned(), (Instant::now(), ends));
        };
        note(topic, None);
        ask(&names, &mut note)?;
        Ok(known.get(topic).and_then(|(_, ends)| ends.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks for `topic`, whose first answer, and that of others, is `ends`; gives which were asked for.
    fn found(
        known: &KnownEnds,
        topic: &str,
        max_age: Duration,
        ends: Option<i64>,
    ) -> (Result<Ends, &'static str>, Vec<String>) {
        let mut asked = Vec::new();
        let found = known.find(topic, max_age, |names, note| {
            asked = names.to_vec();
            let ends = ends.ok_or("away")?;
            names.iter().for_each(|name| note(name, Some(vec![ends])));
            Ok(())
        });
        (found, asked)
    }

    #[test]
    fn what_somebody_has_just_asked_is_not_asked_again_an_error_neither() {
        const HOUR: Duration = Duration::from_secs(3600);
        let known = KnownEnds::default();
        assert_eq!(found(&known, "a", HOUR, Some(1)), (Ok(Some(vec![1])), vec!["a".into()]));
        assert_eq!(found(&known, "a", HOUR, Some(2)), (Ok(Some(vec![1])), vec![]));
        assert_eq!(found(&known, "b", HOUR, None), (Err("away"), vec!["b".into()]));
        assert_eq!(found(&known, "b", HOUR, Some(2)), (Ok(None), vec![]));
        // Whoever must know asks for all that is as old.
        let all = vec!["b".to_owned(), "a".to_owned()];
        assert_eq!(found(&known, "b", Duration::ZERO, Some(3)), (Ok(Some(vec![3])), all));
        assert_eq!(found(&known, "a", HOUR, Some(4)), (Ok(Some(vec![3])), vec![]));
    }
}
