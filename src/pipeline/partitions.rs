//! Are keys still spread as they were? Partition counts, as they stand in the cursor record. Pure.

use std::collections::BTreeMap;

use crate::exit::{Diagnosis, ErrorCode};

/// Whether a topic that is in both has another number of partitions.
pub(crate) fn are_spread_anew(recorded: &str, found: &str) -> bool {
    let counts = |text: &str| -> BTreeMap<String, String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs
            .map(|(topic, count)| (topic.to_owned(), count.to_owned()))
            .collect()
    };
    let found = counts(found);
    let differs = |(topic, count): (&String, &String)| found.get(topic).is_some_and(|found| found != count);
    counts(recorded).iter().any(differs)
}

/// Why nothing more is written: the counts are others.
#[derive(Debug, thiserror::Error)]
#[error("the partitions were {recorded} and are {found}: keys would move and lose their order")]
pub(crate) struct PartitionsChanged {
    pub recorded: String,
    pub found: String,
}

impl PartitionsChanged {
    pub(crate) fn new(recorded: &str, found: &str) -> Self {
        let (recorded, found) = (recorded.to_owned(), found.to_owned());
        Self { recorded, found }
    }
}

impl Diagnosis for PartitionsChanged {
    fn code(&self) -> ErrorCode {
        ErrorCode::S06
    }

    fn advice(&self) -> &str {
        "recreate the topic with the old count, or write to a new one: kafka.topics.accounts and `cursor reset`"
    }
}
