//! Which versions do the topics hold of one lender? Read like `recovery`, but kept by nobody here: the caller takes them
//! one by one, and can go on later with what came since.

use std::time::Duration;

use rdkafka::message::Message;

use super::error::SinkError;
use super::record::{AccountRecordHeader, DeadLetterHeader};
use crate::account::Digest;
use crate::kafka::{Cluster, Offsets, Watermarks, read_to_end};
use crate::shutdown::Shutdown;

/// Reads what `accounts` holds, from `from` on. `take` gets each key with its `updated_at` and digest; without them where
/// the lender has no record of it any more: a tombstone, or another lender's record of the same key.
///
/// # Errors
/// When the topic cannot be read to its end, or holds what the source did not write.
pub(crate) fn read_versions(
    cluster: &Cluster,
    topic: &str,
    lender: &str,
    from: &Offsets,
    shutdown: &Shutdown,
    mut take: impl FnMut(&str, Option<(i64, Digest)>),
) -> Result<Offsets, SinkError> {
    let bounds = read_to_end(cluster, topic, from, shutdown, Duration::ZERO, |message| {
        let (public_id, header) = AccountRecordHeader::parse(message)?;
        let version = match header {
            AccountRecordHeader::Account { lender: whose, version } if whose == lender => {
                Some((version.updated_at, version.digest))
            }
            AccountRecordHeader::Account { .. } | AccountRecordHeader::Tombstone { .. } => None,
        };
        take(public_id, version);
        Ok::<_, SinkError>(())
    })?;
    Ok(ends(&bounds))
}

/// How far `dead-letters` was read.
#[derive(Debug, Default)]
pub(crate) struct DeadLetters {
    pub read: Offsets,
    /// Retention has removed some: what is not there may have been.
    pub is_cut: bool,
}

/// Reads the lender's dead letters, from `from` on. `take` gets the digest and the value of each.
///
/// # Errors
/// When the topic cannot be read to its end, or what `take` fails with.
pub(crate) fn read_dead_letters(
    cluster: &Cluster,
    topic: &str,
    lender: &str,
    from: &Offsets,
    shutdown: &Shutdown,
    mut take: impl FnMut(Digest, &[u8]) -> Result<(), SinkError>,
) -> Result<DeadLetters, SinkError> {
    let bounds = read_to_end(cluster, topic, from, shutdown, Duration::ZERO, |message| {
        if let Some(header) = DeadLetterHeader::parse(message)
            && header.lender == lender
        {
            take(header.digest, message.payload().unwrap_or_default())?;
        }
        Ok::<_, SinkError>(())
    })?;
    Ok(DeadLetters {
        is_cut: bounds.values().any(|(low, _)| *low > 0),
        read: ends(&bounds),
    })
}

fn ends(bounds: &Watermarks) -> Offsets {
    bounds
        .iter()
        .map(|(partition, (_, high))| (*partition, *high))
        .collect()
}
