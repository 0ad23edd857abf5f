//! Can consumers of committed records still read what is written? A transaction that does not end hides from all of them what follows
//! it in its partition, while writing goes on: the last stable offset stands still, below the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::exit::ErrorCode;
use crate::kafka::{Cluster, Error, Isolation, TopicPartition, all_ends, blocking, transaction_timeout};

/// The code of a transaction that does not end.
const HANGS: ErrorCode = ErrorCode::K22;

/// A partition whose end is hidden.
#[derive(Debug, Clone, Copy)]
struct Hidden {
    /// From here on.
    stable: i64,
    /// When it was first found to be so.
    since: Instant,
    is_said: bool,
}

/// What a look shows that the one before did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    Hangs { lasts: Duration },
    MovesOn,
}

/// The partitions of some topics whose ends are hidden, as of the last look.
#[derive(Debug, Default)]
pub(super) struct HiddenEnds(BTreeMap<TopicPartition, Hidden>);

impl HiddenEnds {
    /// Looks at `topics`, and says what hangs and what moves on. What cannot be asked stays as it is.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub(super) async fn look(&mut self, cluster: &Cluster, topics: &BTreeSet<String>) -> Result<(), Error> {
        let (asked, names) = (cluster.clone(), topics.clone());
        let (stable, ends) = blocking(move || {
            // In this order: what is committed between the two looks hidden once, and no longer at the next look.
            let stable = all_ends(&asked, &names, Isolation::ReadCommitted)?;
            Ok::<_, Error>((stable, all_ends(&asked, &names, Isolation::ReadUncommitted)?))
        })
        .await?;
        for (place, stable) in stable {
            let Some(end) = ends.get(&place).copied() else { continue };
            let news = self.note(place.clone(), stable, end, Instant::now());
            say(cluster.servers(), &place, stable, news);
        }
        Ok(())
    }

    /// How many partitions of `topics` hang.
    pub(super) fn hanging(&self, topics: &[&str]) -> usize {
        let hangs =
            |((topic, _), hidden): &(&TopicPartition, &Hidden)| hidden.is_said && topics.contains(&topic.as_str());
        self.0.iter().filter(hangs).count()
    }

    fn note(&mut self, place: TopicPartition, stable: i64, end: i64, now: Instant) -> Option<News> {
        let before = self.0.remove(&place);
        let was_said = before.is_some_and(|before| before.is_said);
        if stable >= end {
            return was_said.then_some(News::MovesOn);
        }
        let same = before.filter(|before| before.stable == stable);
        let mut hidden = same.unwrap_or(Hidden {
            stable,
            since: now,
            is_said: false,
        });
        let lasts = now.saturating_duration_since(hidden.since);
        let news = if same.is_none() && was_said {
            Some(News::MovesOn)
        } else if !hidden.is_said && lasts > longest_transaction() {
            hidden.is_said = true;
            Some(News::Hangs { lasts })
        } else {
            None
        };
        self.0.insert(place, hidden);
        news
    }
}

/// Longer than any of this source: the broker ends it within that.
fn longest_transaction() -> Duration {
    2 * transaction_timeout()
}

fn say(servers: &str, (topic, partition): &TopicPartition, stable: i64, news: Option<News>) {
    match news {
        Some(News::Hangs { lasts }) => {
            let lasts = humantime::format_duration(Duration::from_secs(lasts.as_secs()));
            let advice = format!(
                "kafka-transactions.sh --bootstrap-server {servers} describe-producers --topic {topic} --partition {partition} shows \
                 whose it is; where nobody ends it: … abort --topic {topic} --partition {partition} --start-offset {stable}, as \
                 docs/operations/runbooks.md says under \"A transaction that hangs\""
            );
            tracing::error!(
                topic,
                partition,
                code = %HANGS,
                advice,
                "a transaction does not end: for {lasts}, consumers of committed records have read nothing of {topic} partition \
                 {partition} from offset {stable} on; writing goes on"
            );
        }
        Some(News::MovesOn) => {
            tracing::info!(topic, partition, "the transaction has ended: consumers read on");
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks at one partition, each after so many seconds with its stable offset and its end.
    fn looks(looks: &[(u64, i64, i64)]) -> (Vec<Option<News>>, usize) {
        let (begun, mut ends) = (Instant::now(), HiddenEnds::default());
        let news = looks.iter().map(|(seconds, stable, end)| {
            let now = begun + Duration::from_secs(*seconds);
            ends.note(("accounts".to_owned(), 3), *stable, *end, now)
        });
        let news = news.collect();
        (news, ends.hanging(&["accounts"]))
    }

    fn hangs(seconds: u64) -> Option<News> {
        let lasts = Duration::from_secs(seconds);
        Some(News::Hangs { lasts })
    }

    #[test]
    fn an_end_that_is_hidden_for_longer_than_a_transaction_takes_is_said_once_and_when_it_is_over() {
        let long = [(0, 5, 9), (60, 5, 20), (600, 5, 20), (1_200, 5, 90)];
        assert_eq!(looks(&long), (vec![None, None, hangs(600), None], 1));
        let ended = [&long[..], &[(1_800, 90, 90)]].concat();
        assert_eq!(looks(&ended).0[4], Some(News::MovesOn));
        assert_eq!(looks(&ended).1, 0);
        // The next one hides it: nobody knows yet whether that will end.
        let next = [&long[..], &[(1_800, 50, 90), (2_400, 50, 90)]].concat();
        assert_eq!(looks(&next).0[4..], [Some(News::MovesOn), hangs(600)]);
    }

    #[test]
    fn transactions_that_are_under_way_at_every_look_hide_nothing_for_long() {
        let busy: Vec<_> = (0..9)
            .map(|look| (600 * look, 100 * look as i64, 100 * look as i64 + 7))
            .collect();
        assert_eq!(looks(&busy), (vec![None; 9], 0));
        assert_eq!(looks(&[(0, 5, 5), (600, 5, 5), (1_200, 5, 6)]), (vec![None; 3], 0));
    }

    #[test]
    fn a_partition_counts_for_those_whose_topic_it_is_of() {
        let (begun, mut ends) = (Instant::now(), HiddenEnds::default());
        for (topic, partition) in [("a", 0), ("a", 1), ("b", 0)] {
            for seconds in [0, 600] {
                ends.note(
                    (topic.to_owned(), partition),
                    1,
                    2,
                    begun + Duration::from_secs(seconds),
                );
            }
        }
        assert_eq!(
            [ends.hanging(&["a", "c"]), ends.hanging(&["b"]), ends.hanging(&["c"])],
            [2, 1, 0]
        );
    }
}
