//! How far were a lender's topics written? What tells a topic from another one of the same name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The offsets behind the last records of a lender, by topic and partition; 0 where there is none. They never go back in one
/// topic: what ends before was created anew, lost its last records, or is another cluster's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct TopicEnds(BTreeMap<String, Vec<i64>>);

/// A partition that ends before what was written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndsBefore {
    pub partition: usize,
    /// Where it ends, or where a record was written.
    pub found: i64,
    /// Behind what was written to it.
    pub written: i64,
}

impl EndsBefore {
    /// What there is to say of such a topic.
    pub(crate) fn text(self, topic: &str) -> String {
        let Self {
            partition,
            found,
            written,
        } = self;
        format!(
            "{topic} partition {partition} goes on at offset {found}, but this lender wrote up to {written}: it was deleted and created \
             anew, lost its last records, or is another cluster's"
        )
    }
}

impl TopicEnds {
    /// A record was written up to `end`.
    pub(crate) fn raise(&mut self, topic: &str, partition: usize, end: i64) {
        if !self.0.contains_key(topic) {
            self.0.insert(topic.to_owned(), Vec::new());
        }
        let ends = self.0.get_mut(topic).expect("it is there by now");
        if ends.len() <= partition {
            ends.resize(partition + 1, 0);
        }
        ends[partition] = ends[partition].max(end);
    }

    /// What is known of `topic` counts no more.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// The first partition of `topic` that ends before what was written to it; `found`: by partition.
    pub(crate) fn ends_before(&self, topic: &str, found: &[i64]) -> Option<EndsBefore> {
        let written = self.0.get(topic)?.iter().copied().enumerate();
        written
            .map(|(partition, written)| EndsBefore {
                partition,
                found: found.get(partition).copied().unwrap_or(0),
                written,
            })
            .find(|ends| ends.found < ends.written)
    }

    /// Whether a record at `offset` stands where others were written before.
    pub(crate) fn is_before(&self, topic: &str, partition: usize, offset: i64) -> Option<EndsBefore> {
        let written = *self.0.get(topic)?.get(partition)?;
        (offset < written).then_some(EndsBefore {
            partition,
            found: offset,
            written,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(of: &[(&str, &[i64])]) -> TopicEnds {
        let mut ends = TopicEnds::default();
        for (topic, partitions) in of {
            for (partition, end) in partitions.iter().enumerate() {
                ends.raise(topic, partition, *end);
            }
        }
        ends
    }

    #[test]
    fn an_end_is_raised_and_never_lowered() {
        let mut ends = ends(&[("a", &[3, 0, 7])]);
        ends.raise("a", 2, 5);
        ends.raise("a", 4, 9);
        assert_eq!(serde_json::to_string(&ends).expect("JSON"), r#"{"a":[3,0,7,0,9]}"#);
        ends.forget("a");
        assert_eq!(ends, TopicEnds::default());
    }

    #[test]
    fn a_topic_that_ends_before_what_was_written_is_another_one() {
        let ends = ends(&[("a", &[3, 0, 7])]);
        let before = |partition, found, written| {
            Some(EndsBefore {
                partition,
                found,
                written,
            })
        };
        for (topic, found, expected) in [
            ("a", &[3, 0, 7][..], None),
            ("a", &[5, 2, 7, 1], None),
            ("a", &[3, 0, 6], before(2, 6, 7)),
            ("a", &[0, 0, 0], before(0, 0, 3)),
            ("a", &[3], before(2, 0, 7)),
            // Not known, so nothing to hold it to.
            ("b", &[0], None),
        ] {
            assert_eq!(ends.ends_before(topic, found), expected, "{topic} {found:?}");
        }
        for (partition, offset, expected) in [
            (0, 3, None),
            (0, 2, before(0, 2, 3)),
            (1, 0, None),
            (2, 0, before(2, 0, 7)),
            (3, 0, None),
        ] {
            assert_eq!(ends.is_before("a", partition, offset), expected, "{partition} {offset}");
        }
    }
}
