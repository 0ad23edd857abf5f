//! Are keys still spread as they were? Partition counts, as they stand in the cursor record. Pure.

use std::collections::BTreeMap;

/// Whether a topic that is in both has another number of partitions.
pub fn are_spread_anew(recorded: &str, found: &str) -> bool {
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

/// What a changed partition count means, in one sentence.
pub fn partitions_changed(recorded: &str, found: &str) -> String {
    format!("the partitions were {recorded} and are {found}: keys would move and lose their order")
}
