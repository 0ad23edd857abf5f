//! Are the topics still those that were written to? Their offsets tell: in one topic they never go back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::error::SinkError;
use super::topics::Topics;
use crate::exit::ErrorCode;
use crate::kafka::{FoundEnds, WrittenTo};
use crate::progress::{EndsBefore, TopicEnds};

/// The code of a trail, or of dead letters, that begin anew.
const TRAIL_RECREATED: ErrorCode = ErrorCode::S20;

pub(crate) const TRAIL_ADVICE: &str = "accounts are complete, and reading goes on; what was in it before is gone: restore it if somebody needs \
                            it, and tell its consumers, whose offsets may lie behind its end";

/// What one lender knows of its topics.
#[derive(Debug, Default)]
pub(super) struct Ground {
    /// `None`: not yet held to what the cursor record says, so none is known to be the one that it tells of.
    ends: Option<TopicEnds>,
    /// When the lender last wrote to a topic: what was asked before says nothing of that.
    written_at: BTreeMap<String, Instant>,
    /// Topics that begin anew and were said to.
    said: BTreeSet<String>,
}

/// How a topic's ends are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndsLook {
    /// As anybody found them of late.
    Recent,
    /// Asked for once more, after a moment.
    Again,
}

/// A topic that begins anew, of those without which the source can go on.
#[derive(Debug)]
pub(super) struct TrailRecreated<'t> {
    topic: &'t str,
    ends: EndsBefore,
}

impl TrailRecreated<'_> {
    pub(super) fn say(&self, connector: &str) {
        let Self { topic, ends } = self;
        tracing::error!(
            connector,
            code = %TRAIL_RECREATED,
            advice = TRAIL_ADVICE,
            "{}",
            ends.text(topic)
        );
    }
}

impl Ground {
    /// What the next cursor record says; `recorded`: the last one.
    pub(super) fn ends<'g>(&'g self, recorded: &'g TopicEnds) -> &'g TopicEnds {
        self.ends.as_ref().unwrap_or(recorded)
    }

    /// Holds the topics to what was written to them; `find` gives their ends, `None` where they are not known. Gives those that
    /// begin anew, each once.
    ///
    /// At first they are held to what the cursor record says: `accounts` was compared by then, so it is what it should be even
    /// where it is another topic, a copy.
    ///
    /// # Errors
    /// When `accounts` or `cursor` is another one.
    pub(super) fn hold<'t>(
        &mut self,
        topics: &'t Topics,
        recorded: &TopicEnds,
        mut find: impl FnMut(&str, EndsLook) -> Result<Option<FoundEnds>, SinkError>,
    ) -> Result<Vec<TrailRecreated<'t>>, SinkError> {
        let is_first = self.ends.is_none();
        let mut known = self.ends(recorded).clone();
        let mut recreated = Vec::new();
        for (topic, is_vital) in named(topics) {
            // Until then: one broker may not know yet what another one was told.
            let mut before = None;
            for look in [EndsLook::Recent, EndsLook::Again] {
                let Some(found) = find(topic, look)? else {
                    // Later, all of them again.
                    return Ok(recreated);
                };
                let is_older = self.written_at.get(topic).is_some_and(|at| found.asked_at <= *at);
                let ends = known.ends_before(topic, &found.ends).filter(|_| !is_older);
                before = ends.map(|ends| (ends, found.ends));
                if before.is_none() {
                    break;
                }
            }
            let Some((ends, found)) = before else { continue };
            if !is_vital {
                recreated.extend(self.trail(topic, ends));
            } else if is_first {
                tracing::warn!("{}; it holds what it should hold", ends.text(topic));
                known.forget(topic);
                for (partition, end) in found.iter().enumerate() {
                    known.raise(topic, partition, *end);
                }
            } else {
                return Err(recreated_error(topic, ends));
            }
        }
        self.ends.get_or_insert(known);
        Ok(recreated)
    }

    /// Notes what a committed transaction wrote. Gives the topics that begin anew, each once.
    ///
    /// # Errors
    /// When `accounts` or `cursor` is another one.
    pub(super) fn note<'t>(
        &mut self,
        topics: &'t Topics,
        written: &[WrittenTo],
    ) -> Result<Vec<TrailRecreated<'t>>, SinkError> {
        let Some(known) = &self.ends else { return Ok(Vec::new()) };
        let mut recreated = Vec::new();
        for (topic, is_vital) in named(topics) {
            let is_known = |written: &&WrittenTo| written.topic == topic && !written.is_partly_unknown;
            let of_topic = written.iter().filter(is_known);
            let before = of_topic.filter_map(|written| known.is_before(topic, written.partition, written.first));
            let Some(ends) = before.min_by_key(|ends| ends.partition) else {
                continue;
            };
            if is_vital {
                return Err(recreated_error(topic, ends));
            }
            recreated.push((topic, ends));
        }
        let recreated = recreated.into_iter();
        let recreated = recreated.filter_map(|(topic, ends)| self.trail(topic, ends)).collect();
        if let Some(known) = &mut self.ends {
            for written in written {
                self.written_at.insert(written.topic.clone(), Instant::now());
                if !written.is_partly_unknown {
                    known.raise(&written.topic, written.partition, written.end);
                }
            }
        }
        Ok(recreated)
    }

    fn trail<'t>(&mut self, topic: &'t str, ends: EndsBefore) -> Option<TrailRecreated<'t>> {
        let is_news = self.said.insert(topic.to_owned());
        is_news.then_some(TrailRecreated { topic, ends })
    }
}

/// The lender's topics, and whether it cannot go on without what was in them.
fn named(topics: &Topics) -> impl Iterator<Item = (&str, bool)> {
    topics
        .each()
        .map(|(role, topic)| (topic.name.as_str(), role.is_compacted()))
}

fn recreated_error(topic: &str, ends: EndsBefore) -> SinkError {
    let topic = topic.to_owned();
    SinkError::Recreated { topic, ends }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::exit::{Diagnosis, Exit};
    use crate::sink::Topic;

    fn topics() -> Topics {
        let topic = |name: &str| Topic {
            name: name.to_owned(),
            partition_count: 6,
            max_message: 1_000_000,
            delete_retention: Duration::ZERO,
        };
        Topics {
            accounts: topic("accounts"),
            cursor: topic("cursor"),
            changes: Some(topic("changes")),
            dead_letters: topic("dead-letters"),
        }
    }

    fn written(topic: &str, partition: usize, first: i64, end: i64) -> WrittenTo {
        let topic = topic.to_owned();
        WrittenTo {
            topic,
            partition,
            first,
            end,
            is_partly_unknown: false,
        }
    }

    /// Asked just now.
    fn found(ends: i64) -> Option<FoundEnds> {
        Some(FoundEnds {
            asked_at: Instant::now(),
            ends: vec![ends],
        })
    }

    /// Ends of accounts, changes, dead letters and cursor, of one partition each.
    fn hold(ground: &mut Ground, recorded: &TopicEnds, ends: [i64; 4]) -> Result<Vec<String>, (String, Exit)> {
        let topics = topics();
        let find = |topic: &str, _: EndsLook| {
            let place = ["accounts", "changes", "dead-letters", "cursor"]
                .iter()
                .position(|name| *name == topic);
            Ok(found(ends[place.expect("one of them")]))
        };
        let held = ground.hold(&topics, recorded, find);
        held.map(|recreated| recreated.iter().map(|one| one.topic.to_owned()).collect())
            .map_err(|error| (error.to_string(), error.exit()))
    }

    fn running() -> Ground {
        let mut ground = Ground::default();
        assert_eq!(hold(&mut ground, &TopicEnds::default(), [0; 4]), Ok(vec![]));
        let all = ["accounts", "changes", "dead-letters", "cursor"].map(|topic| written(topic, 0, 0, 10));
        assert!(ground.note(&topics(), &all).expect("the same topics").is_empty());
        ground
    }

    #[test]
    fn a_running_source_stops_for_other_accounts_and_another_cursor_and_says_the_others_once() {
        let recorded = TopicEnds::default();
        assert_eq!(hold(&mut running(), &recorded, [10; 4]), Ok(vec![]));
        for ends in [[9, 10, 10, 10], [10, 10, 10, 0]] {
            let (error, exit) = hold(&mut running(), &recorded, ends).expect_err("another one");
            assert_eq!(exit, Exit::Usage, "{error}");
        }
        let mut ground = running();
        let both = ["dead-letters".to_owned(), "changes".to_owned()].to_vec();
        assert_eq!(hold(&mut ground, &recorded, [10, 3, 4, 10]), Ok(both));
        assert_eq!(hold(&mut ground, &recorded, [10, 3, 4, 10]), Ok(vec![]));
    }

    #[test]
    fn a_record_that_is_written_where_others_were_shows_it_at_once() {
        let topics = topics();
        for (topic, is_vital) in [
            ("accounts", true),
            ("cursor", true),
            ("changes", false),
            ("dead-letters", false),
        ] {
            let noted = |first| {
                let mut ground = running();
                let noted = ground.note(&topics, &[written(topic, 0, first, 15)]);
                noted.map(|recreated| recreated.len()).map_err(|error| error.exit())
            };
            assert_eq!(noted(10), Ok(0), "{topic}");
            assert_eq!(noted(9), if is_vital { Err(Exit::Usage) } else { Ok(1) }, "{topic}");
        }
    }

    #[test]
    fn a_start_takes_a_copy_of_what_it_compared_and_holds_that_from_then_on() {
        let mut recorded = TopicEnds::default();
        ["accounts", "changes", "dead-letters", "cursor"]
            .iter()
            .for_each(|topic| recorded.raise(topic, 0, 10));
        let mut ground = Ground::default();
        // Before, it is not known which topic it is.
        assert!(ground.note(&topics(), &[written("cursor", 0, 2, 3)]).is_ok());
        assert_eq!(ground.ends(&recorded), &recorded);
        assert_eq!(hold(&mut ground, &recorded, [4, 10, 10, 3]), Ok(vec![]));
        assert_eq!(hold(&mut ground, &recorded, [4, 10, 10, 3]), Ok(vec![]));
        assert!(hold(&mut ground, &recorded, [3, 10, 10, 3]).is_err());
    }

    #[test]
    fn ends_from_before_the_last_write_and_those_that_are_others_a_moment_later_prove_nothing() {
        let topics = topics();
        let none = TopicEnds::default();
        let asked_at = Instant::now();
        let mut ground = running();
        let held = ground.hold(&topics, &none, |_, look| {
            assert_eq!(look, EndsLook::Recent, "there is nothing to look at again");
            Ok(Some(FoundEnds {
                asked_at,
                ends: vec![7],
            }))
        });
        assert!(held.expect("the same topics").is_empty());
        let held = ground.hold(&topics, &none, |_, look| {
            Ok(found(if look == EndsLook::Again { 10 } else { 7 }))
        });
        assert!(held.expect("the same topics").is_empty());
    }

    #[test]
    fn a_record_whose_offset_is_not_known_proves_nothing() {
        let mut ground = running();
        let unknown = WrittenTo {
            is_partly_unknown: true,
            ..written("accounts", 0, -1001, 0)
        };
        assert!(ground.note(&topics(), &[unknown]).expect("the same topics").is_empty());
        assert_eq!(hold(&mut ground, &TopicEnds::default(), [10; 4]), Ok(vec![]));
    }

    #[test]
    fn ends_that_are_not_known_are_held_against_nobody() {
        let mut recorded = TopicEnds::default();
        recorded.raise("accounts", 0, 10);
        let mut ground = Ground::default();
        let topics = topics();
        let held = ground.hold(&topics, &recorded, |_, _| Ok(None));
        assert!(held.expect("nothing to say").is_empty());
        assert_eq!(ground.ends(&recorded), &recorded);
        assert_eq!(hold(&mut ground, &recorded, [10, 0, 0, 0]), Ok(vec![]));
    }
}
