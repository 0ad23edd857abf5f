//! How are the topics of lenders that start read? Each once, for all that share it, a few side by side.

use std::collections::{BTreeMap, HashMap};
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

use super::candidate::{Restorable, Starter};
use super::start_error::SharedFailure;
use crate::backoff::Patience;
use crate::kafka::TopicReader;
use crate::sink::{SinkError, Topics};

/// What each topic was found to hold, or why it cannot be used.
pub(super) type Outcomes<T> = HashMap<String, Result<T, SharedFailure>>;

/// With a reader that is left, if one is.
pub(super) type RestoredTopics<T> = (Outcomes<T>, Option<TopicReader>);

/// Reads on with the reader that is there, patiently; after an error with another one.
pub(super) fn on(
    starter: &Starter,
    reader: &mut Option<TopicReader>,
    patience: Patience,
    read: &mut dyn FnMut(&TopicReader) -> Result<(), SinkError>,
) -> Result<(), SinkError> {
    starter.patiently(patience, || {
        let with = match reader.take() {
            Some(reader) => reader,
            None => TopicReader::new(&starter.cluster)?,
        };
        read(&with)?;
        *reader = Some(with);
        Ok(())
    })
}

/// Reads each topic of `lenders` once, for all that share it, a few side by side. Each has an outcome of its own: one lender's topic
/// does not keep the others from starting.
pub(super) fn each_topic<'c, T: Send>(
    (starter, patience): (&Starter, Patience),
    lenders: impl Iterator<Item = &'c Restorable>,
    name: fn(&Topics) -> &String,
    nothing: impl Fn(&str, &[String]) -> T + Sync,
    read: impl Fn(&mut T, &TopicReader) -> Result<(), SinkError> + Sync,
) -> RestoredTopics<T> {
    const READERS: usize = 4;
    let mut topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for lender in lenders {
        let topic = name(&lender.topics).clone();
        topics.entry(topic).or_default().push(lender.public_id.clone());
    }
    let reader_count = READERS.min(topics.len());
    let left = Mutex::new(topics.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let read_all = || {
        let (mut outcomes, mut reader) = (Vec::new(), None);
        while let Some((topic, lenders)) = next() {
            let mut image = nothing(&topic, &lenders);
            let outcome = on(starter, &mut reader, patience, &mut |reader| read(&mut image, reader));
            outcomes.push((topic, outcome.map(|()| image).map_err(SharedFailure::of)));
        }
        (outcomes, reader)
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..reader_count).map(|_| scope.spawn(read_all)).collect();
        let (mut all, mut left) = (Outcomes::new(), None);
        for reader in readers {
            let (outcomes, reader) = reader.join().unwrap_or_else(|panicked| resume_unwind(panicked));
            all.extend(outcomes);
            left = left.or(reader);
        }
        (all, left)
    })
}
