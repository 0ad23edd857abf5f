//! Where do topics begin and end? Asked of the brokers, for whoever sees all records or the committed ones alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rdkafka::client::Client;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};

use super::cluster::{Cluster, Isolation};
use super::context::Context;
use super::ends::FoundEnds;
use super::error::{Acl, AclOperation, Error, is_denied};
use super::rebalances::TopicPartition;

pub(super) const ASKING_FOR_PARTITIONS: &str = "asking for the partitions of";

/// Low and high watermark of each partition.
pub(crate) type Watermarks = BTreeMap<i32, (i64, i64)>;

/// Low and high watermark of every partition; the latter is the last stable offset where `reader` sees committed records alone.
pub(super) fn topic_watermarks(
    reader: &BaseConsumer<Context>,
    topic: &str,
    limit: Duration,
) -> Result<Watermarks, Error> {
    let count = partition_count(reader.client(), topic, limit)
        .map_err(|source| read_error(reader, ASKING_FOR_PARTITIONS, AclOperation::Describe, topic, source))?
        .ok_or_else(|| Error::NoTopic {
            topic: topic.to_owned(),
        })?;
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    // One question to each broker for all of them; two to each partition by the call that is made for it.
    let at = |offset| {
        let places = (0..count).map(|partition| (topic, partition));
        let failed = |source| {
            read_error(
                reader,
                "asking for the watermarks of",
                AclOperation::Describe,
                topic,
                source,
            )
        };
        let ends = offsets_at(reader, places, offset, limit).map_err(failed)?;
        let end = |partition| match ends.get(&(topic.to_owned(), partition)) {
            Some(Ok(end)) => Ok(*end),
            Some(Err(source)) => Err(failed(source.clone())),
            None => Err(failed(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))),
        };
        (0..count).map(end).collect::<Result<Vec<i64>, Error>>()
    };
    let (lows, highs) = (at(Offset::Beginning)?, at(Offset::End)?);
    Ok((0..count).zip(lows.into_iter().zip(highs)).collect())
}

/// The high watermarks of a topic by partition, no older than `max_age`; `None` where somebody else is asking, or asked in vain and
/// had the error. Blocks.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn topic_ends(cluster: &Cluster, topic: &str, max_age: Duration) -> Result<Option<FoundEnds>, Error> {
    /// A leader answers at once; one that is not there is waited for elsewhere.
    const LIMIT: Duration = Duration::from_secs(5);
    cluster.known_ends().find(topic, max_age, || {
        let found = cluster.ask(|asker| topic_watermarks(asker, topic, LIMIT))?;
        Ok(highs(&found))
    })
}

/// By partition.
pub(super) fn highs(watermarks: &Watermarks) -> Vec<i64> {
    watermarks.values().map(|(_, high)| *high).collect()
}

/// Where each partition of `topics` ends for who sees what `isolation` lets them see: one question to each broker. Blocks.
///
/// # Errors
/// When it cannot be asked.
pub(crate) fn all_ends(
    cluster: &Cluster,
    topics: &BTreeSet<String>,
    isolation: Isolation,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let reader = cluster.reader(isolation)?;
    let mut places = Vec::new();
    for topic in topics {
        let count = partition_count(reader.client(), topic, ENDS_LIMIT).map_err(|source| no_ends(&reader, source))?;
        let count = i32::try_from(count.unwrap_or_default()).unwrap_or(i32::MAX);
        places.extend((0..count).map(|partition| (topic.as_str(), partition)));
    }
    ends_of(&reader, places.into_iter())
}

/// Short, because a shutdown waits for the thread that this blocks.
const ENDS_LIMIT: Duration = Duration::from_secs(3);

fn no_ends(reader: &BaseConsumer<Context>, source: KafkaError) -> Error {
    Error::Call {
        doing: "asking where partitions end",
        last_reported: reader.context().last_reported(),
        source,
    }
}

/// Where partitions end for `reader`: one question to each broker. Those that cannot be asked for now are left out.
pub(super) fn ends_of<'t>(
    reader: &BaseConsumer<Context>,
    places: impl Iterator<Item = (&'t str, i32)>,
) -> Result<BTreeMap<TopicPartition, i64>, Error> {
    let found = offsets_at(reader, places, Offset::End, ENDS_LIMIT).map_err(|source| no_ends(reader, source))?;
    let there = found.into_iter().filter_map(|(place, end)| Some((place, end.ok()?)));
    Ok(there.collect())
}

/// Where partitions begin or end for `reader`, by `offset`: one question to each broker.
fn offsets_at<'t>(
    reader: &BaseConsumer<Context>,
    places: impl Iterator<Item = (&'t str, i32)>,
    offset: Offset,
    limit: Duration,
) -> KafkaResult<BTreeMap<TopicPartition, KafkaResult<i64>>> {
    let mut list = TopicPartitionList::new();
    for (topic, partition) in places {
        // In place of a time.
        list.add_partition_offset(topic, partition, offset)?;
    }
    if list.count() == 0 {
        return Ok(BTreeMap::new());
    }
    let found = reader.offsets_for_times(list, limit)?;
    let offset = |element: &TopicPartitionListElem<'_>| match (element.error(), element.offset()) {
        (Ok(()), Offset::Offset(offset)) => Ok(offset),
        (Ok(()), _) => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
        (Err(error), _) => Err(error),
    };
    let elements = found.elements();
    let place = |element: &TopicPartitionListElem<'_>| (element.topic().to_owned(), element.partition());
    Ok(elements
        .iter()
        .map(|element| (place(element), offset(element)))
        .collect())
}

/// Low and high watermark of one partition; the latter is the last stable offset where `reader` sees committed records alone.
pub(crate) fn watermarks(
    reader: &BaseConsumer<Context>,
    topic: &str,
    partition: i32,
    limit: Duration,
) -> Result<(i64, i64), Error> {
    let doing = "asking for the watermarks of";
    let found = reader.fetch_watermarks(topic, partition, limit);
    found.map_err(|source| read_error(reader, doing, AclOperation::Describe, topic, source))
}

/// Why a topic could not be read; `operation`: which ACL is missing, if one is.
pub(crate) fn read_error(
    reader: &BaseConsumer<Context>,
    doing: &'static str,
    operation: AclOperation,
    topic: &str,
    source: KafkaError,
) -> Error {
    if is_denied(&source) {
        return Error::Denied {
            doing: "reading a topic",
            acl: Acl::of_topic(operation, topic),
            source,
        };
    }
    Error::Read {
        doing,
        topic: topic.to_owned(),
        last_reported: reader.context().last_reported(),
        source,
    }
}

/// How many partitions a topic has, by metadata; `None` where there is no such topic, or it may not be described.
pub(crate) fn partition_count(client: &Client<Context>, topic: &str, limit: Duration) -> KafkaResult<Option<usize>> {
    let metadata = client.fetch_metadata(Some(topic), limit)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let error = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from);
    if let Some(error @ RDKafkaErrorCode::TopicAuthorizationFailed) = error {
        return Err(KafkaError::MetadataFetch(error));
    }
    Ok(found.map(|found| found.partitions().len()).filter(|count| *count > 0))
}
