//! What do the topics hold of the lenders that start? Each is read once for all of them, then on for each one that is claimed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::candidate::{Candidate, PATIENCE, Starter};
use super::claim::{SharedFailure, StartError, key_of};
use super::contents::Contents;
use crate::avro::Frame;
use crate::index::{Index, Removals};
use crate::kafka::{End, Reading, TopicReader};
use crate::shutdown::Shutdown;
use crate::sink::{
    ContentOf, CursorRecords, DeadLetterDigests, RestoredAccounts, RestoredDeadLetters, SinkError, Topics,
};

/// Of each topic what it holds, or why it keeps all from starting that share it.
type Outcomes<T> = HashMap<String, Result<T, SharedFailure>>;

/// What the topics of lenders that start together hold of them.
pub(super) struct Images<'s> {
    starter: &'s Starter,
    contents: Option<Contents>,
    /// Of what is read on; made anew after an error.
    reader: Option<TopicReader>,
    cursors: Outcomes<CursorRecords>,
    accounts: Outcomes<RestoredAccounts>,
    dead_letters: Outcomes<RestoredDeadLetters>,
    /// By topic, the fences that stood when it was last read to its true end.
    read_behind: HashMap<String, Fences>,
}

/// How many times lenders were fenced: what is read to its end after that holds all that they committed before.
pub(super) type Fences = u64;

impl<'s> Images<'s> {
    /// Reads what nobody's open transaction hides. Nobody is fenced and nobody waited for.
    pub(super) fn restore<'c>(starter: &'s Starter, candidates: impl Iterator<Item = &'c Candidate> + Clone) -> Self {
        let shutdown = &starter.shutdown;
        let cursors = each_topic(
            starter,
            candidates.clone(),
            |topics| &topics.cursor.name,
            |topic, _| CursorRecords::of(topic),
            |records, reader| records.read_on(reader, End::Stable, shutdown, &mut || {}),
        );
        let mut expected = HashMap::new();
        for candidate in candidates.clone() {
            let key = key_of(&starter.config, &candidate.lender, &candidate.public_id);
            let records = cursors[&candidate.topics.cursor.name].as_ref();
            let current = records.ok().and_then(|records| records.current(&key).ok().flatten());
            let count = current
                .and_then(|(_, record)| record?.accounts)
                .map_or(0, |(count, _)| count);
            expected.insert(&candidate.public_id, usize::try_from(count).unwrap_or(usize::MAX));
        }
        let own = candidates
            .clone()
            .filter_map(|candidate| match candidate.frames.account {
                Frame::Confluent { schema_id } => Some(schema_id),
                Frame::SingleObject => None,
            });
        let contents = starter.config.kafka.topics.changes.is_some().then(|| {
            let (registry, runtime) = (starter.registry.clone(), starter.runtime.clone());
            Contents::new(registry, runtime, shutdown.clone(), own)
        });
        let retentions = candidates
            .clone()
            .map(|candidate| candidate.topics.accounts.delete_retention);
        let retention = retentions.max().unwrap_or_default();
        let accounts = each_topic(
            starter,
            candidates.clone(),
            |topics| &topics.accounts.name,
            |topic, lenders| {
                let expected = |lender: &String| (lender.clone(), expected[lender]);
                RestoredAccounts::of(topic, lenders.iter().map(expected), retention)
            },
            |accounts, reader| {
                read_accounts(
                    accounts,
                    reader,
                    contents.as_ref(),
                    how(End::Stable, shutdown, &mut || {}),
                )
            },
        );
        let dead_letters = each_topic(
            starter,
            candidates,
            |topics| &topics.dead_letters.name,
            RestoredDeadLetters::of,
            |letters, reader| letters.read_on(reader, how(End::Stable, shutdown, &mut || {})),
        );
        Self {
            starter,
            contents,
            reader: None,
            cursors,
            accounts,
            dead_letters,
            read_behind: HashMap::new(),
        }
    }

    /// # Errors
    /// When a topic of the lender cannot be used: then there is nothing to fence it for.
    pub(super) fn check(&self, candidate: &Candidate) -> Result<(), StartError> {
        let Topics {
            cursor,
            accounts,
            dead_letters,
            ..
        } = &candidate.topics;
        let failed = [
            self.cursors[&cursor.name].as_ref().err(),
            self.accounts[&accounts.name].as_ref().err(),
            self.dead_letters[&dead_letters.name].as_ref().err(),
        ];
        failed
            .into_iter()
            .flatten()
            .next()
            .map_or(Ok(()), |shared| Err(shared.clone().into()))
    }

    /// Reads the topics of a lender on to their true end, where they were not since `fenced`, when it was fenced. `now`: all fences
    /// so far. `hidden` is called where an open transaction seems to hide an end.
    ///
    /// # Errors
    /// When one cannot be read, or must not be used: then none of its lenders can start.
    pub(super) fn read_on(
        &mut self,
        candidate: &Candidate,
        [fenced, now]: [Fences; 2],
        hidden: &mut dyn FnMut(),
    ) -> Result<(), StartError> {
        let Topics {
            cursor,
            accounts,
            dead_letters,
            ..
        } = &candidate.topics;
        let (starter, contents, reader) = (self.starter, self.contents.as_ref(), &mut self.reader);
        let (shutdown, read_behind) = (&starter.shutdown, &mut self.read_behind);
        let mut is_due = |topic: &str| {
            let behind = read_behind.entry(topic.to_owned()).or_default();
            std::mem::replace(behind, now.max(*behind)) < fenced
        };
        if is_due(&cursor.name) {
            let outcome = self.cursors.get_mut(&cursor.name);
            on(starter, reader, outcome, &mut |records, reader| {
                records.read_on(reader, End::True, shutdown, hidden)?;
                records.check_whole()
            })?;
        }
        if is_due(&accounts.name) {
            let outcome = self.accounts.get_mut(&accounts.name);
            on(starter, reader, outcome, &mut |accounts, reader| {
                read_accounts(accounts, reader, contents, how(End::True, shutdown, hidden))
            })?;
        }
        if is_due(&dead_letters.name) {
            let outcome = self.dead_letters.get_mut(&dead_letters.name);
            on(starter, reader, outcome, &mut |letters, reader| {
                letters.read_on(reader, how(End::True, shutdown, hidden))
            })?;
        }
        Ok(())
    }

    pub(super) fn cursors(&self, candidate: &Candidate) -> Result<&CursorRecords, StartError> {
        let records = &self.cursors[&candidate.topics.cursor.name];
        records.as_ref().map_err(|shared| shared.clone().into())
    }

    /// Takes a lender out.
    pub(super) fn lender(
        &mut self,
        candidate: &Candidate,
    ) -> Result<((Index, Removals), DeadLetterDigests), StartError> {
        let (topics, public_id) = (&candidate.topics, &candidate.public_id);
        let accounts = self.accounts.get_mut(&topics.accounts.name).expect(READ);
        let letters = self.dead_letters.get_mut(&topics.dead_letters.name).expect(READ);
        let accounts = accounts.as_mut().map_err(|shared| shared.clone())?;
        let letters = letters.as_mut().map_err(|shared| shared.clone())?;
        Ok((accounts.lender(public_id), letters.lender(public_id)))
    }
}

const READ: &str = "read for every lender";

fn how<'a>(end: End, shutdown: &'a Shutdown, hidden: &'a mut dyn FnMut()) -> Reading<'a> {
    Reading {
        end,
        shutdown,
        grace: Duration::ZERO,
        hidden,
    }
}

fn read_accounts(
    accounts: &mut RestoredAccounts,
    reader: &TopicReader,
    contents: Option<&Contents>,
    how: Reading<'_>,
) -> Result<(), SinkError> {
    let content: ContentOf<'_> = &|value| contents.map_or(Ok(None), |contents| contents.of(value));
    accounts.read_on(reader, content, how)
}

/// Reads one topic on, patiently; what does not pass keeps all its lenders from starting.
fn on<T>(
    starter: &Starter,
    reader: &mut Option<TopicReader>,
    outcome: Option<&mut Result<T, SharedFailure>>,
    read: &mut dyn FnMut(&mut T, &TopicReader) -> Result<(), SinkError>,
) -> Result<(), StartError> {
    let outcome = outcome.expect(READ);
    let image = outcome.as_mut().map_err(|shared| shared.clone())?;
    let read = starter.patiently(PATIENCE, || {
        let with = match reader.take() {
            Some(reader) => reader,
            None => TopicReader::new(&starter.cluster)?,
        };
        read(image, &with)?;
        *reader = Some(with);
        Ok(())
    });
    read.map_err(|error| {
        let shared = SharedFailure::of(error);
        *outcome = Err(shared.clone());
        shared.into()
    })
}

/// Reads each topic of `candidates` once, for all the lenders that share it, a few side by side. Each has an outcome of its own: one
/// lender's topic does not keep the others from starting.
fn each_topic<'c, T: Send>(
    starter: &Starter,
    candidates: impl Iterator<Item = &'c Candidate>,
    name: fn(&Topics) -> &String,
    nothing: impl Fn(&str, &[String]) -> T + Sync,
    read: impl Fn(&mut T, &TopicReader) -> Result<(), SinkError> + Sync,
) -> Outcomes<T> {
    const READERS: usize = 4;
    let mut lenders: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for candidate in candidates {
        let topic = name(&candidate.topics).clone();
        lenders.entry(topic).or_default().push(candidate.public_id.clone());
    }
    let reader_count = READERS.min(lenders.len());
    let left = Mutex::new(lenders.into_iter());
    let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
    let read_all = || {
        let mut outcomes = Vec::new();
        while let Some((topic, lenders)) = next() {
            let mut outcome = Ok(nothing(&topic, &lenders));
            // What fails is told by the outcome.
            let _ = on(starter, &mut None, Some(&mut outcome), &mut |image, reader| {
                read(image, reader)
            });
            outcomes.push((topic, outcome));
        }
        outcomes
    };
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..reader_count).map(|_| scope.spawn(read_all)).collect();
        let outcomes = readers.into_iter().map(|reader| reader.join());
        outcomes
            .flat_map(|outcomes| outcomes.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked)))
            .collect()
    })
}
