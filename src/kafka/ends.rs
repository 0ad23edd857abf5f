//! Where do topics end now? Asked once for all lenders of a process that want to know it at about the same time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::cluster::{Cluster, Isolation};
use super::error::Error;
use super::read::{Watermarks, topic_watermarks};

/// By topic: when it was asked for, and what was found; `None`: in vain.
#[derive(Default)]
pub(super) struct KnownEnds(Mutex<HashMap<String, (Instant, Option<Vec<i64>>)>>);

impl Cluster {
    /// The high watermarks of a topic by partition, no older than `max_age`; `None` where somebody asked in vain since, who had
    /// the error. Blocks.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn ends(&self, topic: &str, max_age: Duration) -> Result<Option<Vec<i64>>, Error> {
        // Held while it is asked: who waits for it wants to know the same.
        let mut known = self.known_ends().0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_fresh = |at: Instant| at.elapsed() <= max_age;
        if let Some((_, ends)) = known.get(topic).filter(|(at, _)| is_fresh(*at)) {
            return Ok(ends.clone());
        }
        let reader = self.reader(Isolation::ReadUncommitted)?;
        let stale: Vec<String> = known
            .iter()
            .filter(|(name, (at, _))| *name != topic && !is_fresh(*at))
            .map(|(name, _)| name.clone())
            .collect();
        let mut ask = |name: &str| {
            let asked = topic_watermarks(&reader, name);
            let found = asked.as_ref().ok().map(high);
            known.insert(name.to_owned(), (Instant::now(), found.clone()));
            asked.map(|_| found)
        };
        let found = ask(topic)?;
        // The others, as long as there are answers: each of them has a lender that asks as well.
        let _ = stale.iter().try_for_each(|name| ask(name).map(drop));
        Ok(found)
    }
}

fn high(watermarks: &Watermarks) -> Vec<i64> {
    watermarks.values().map(|(_, high)| *high).collect()
}
