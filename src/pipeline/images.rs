//! What do the topics hold of lenders that this process does not run? Each topic is read once for all that start from it together,
//! then on: for each one that is claimed, and all the time for those that stand by.
//!
//! What is held of a lender is what stands in its topic before `offsets`. A lender that comes back with what it held when it was
//! released, or that was read apart, has its topic go back to where that ends: records that are taken twice, in order, are taken once.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::candidate::{Restorable, Starter, may_pass, patience};
use super::claim::key_of;
use super::contents::Contents;
use super::each_topic::{Outcomes, RestoredTopics, each_topic, on};
use super::plan::Left;
use super::start_error::{SharedFailure, StartError};
use crate::avro::Frame;
use crate::backoff::Patience;
use crate::exit::{Diagnosis, chain};
use crate::index::{Index, Removals};
use crate::kafka::{self, End, Offsets, Reading, TopicReader};
use crate::shutdown::Shutdown;
use crate::sink::{CursorRecords, DeadLetterDigests, RestoredAccounts, RestoredDeadLetters, SinkError, Topics};

/// What topics hold of lenders that start, or stand by.
pub(crate) struct Images {
    starter: Arc<Starter>,
    contents: Option<Contents>,
    /// Of what is read on; made anew after an error.
    reader: Option<TopicReader>,
    cursors: HashMap<String, Arc<CursorRecords>>,
    accounts: HashMap<String, RestoredAccounts>,
    dead_letters: HashMap<String, RestoredDeadLetters>,
    /// What keeps all lenders of a topic from starting, since they were last restored.
    failed: HashMap<String, SharedFailure>,
    /// By topic, the fences that stood when it was last read to its true end.
    read_behind: HashMap<String, Fences>,
    /// By public id, up to where accounts and dead letters were read of a lender when it was last taken out.
    taken_at: HashMap<String, [Offsets; 2]>,
}

/// How many times lenders were fenced: what is read to its end after that holds all that they committed before.
pub(super) type Fences = u64;

impl Images {
    /// Of nothing so far.
    pub(crate) fn new(starter: Arc<Starter>) -> Self {
        let contents = starter.config.kafka.topics.changes.is_some().then(|| {
            let (registry, runtime) = (starter.registry.clone(), starter.runtime.clone());
            Contents::new(registry, runtime, starter.shutdown.clone())
        });
        Self {
            starter,
            contents,
            reader: None,
            cursors: HashMap::new(),
            accounts: HashMap::new(),
            dead_letters: HashMap::new(),
            failed: HashMap::new(),
            read_behind: HashMap::new(),
            taken_at: HashMap::new(),
        }
    }

    /// Reads what nobody's open transaction hides, of those of which nothing is held so far. Nobody is fenced and nobody waited for.
    ///
    /// What fails keeps all lenders of its topic from starting, until this is called again.
    pub(super) fn restore<'c>(&mut self, lenders: impl Iterator<Item = &'c Restorable>, patience: Patience) {
        self.failed.clear();
        self.read_behind.clear();
        let lenders: Vec<&Restorable> = lenders.collect();
        for lender in &lenders {
            if let (Some(contents), Frame::Confluent { schema_id }) = (&self.contents, lender.frames.account) {
                contents.know(schema_id);
            }
        }
        self.read_cursors(&lenders, patience);
        for accounts in self.accounts.values_mut() {
            accounts.settle();
        }
        self.restore_accounts_and_dead_letters(&lenders, patience);
    }

    fn read_cursors(&mut self, lenders: &[&Restorable], patience: Patience) {
        let topics: HashSet<&String> = lenders.iter().map(|lender| &lender.topics.cursor.name).collect();
        for topic in topics {
            let cursors = self.starter.cursors.of(topic);
            let read = self
                .starter
                .patiently(patience, || cursors.look(&self.starter.shutdown));
            match read {
                Ok(records) => drop(self.cursors.insert(topic.clone(), records)),
                Err(error) => drop(self.failed.insert(topic.clone(), SharedFailure::of(error))),
            }
        }
    }

    fn restore_accounts_and_dead_letters(&mut self, lenders: &[&Restorable], patience: Patience) {
        let lacks_accounts = |lender: &&&Restorable| self.account_count(lender).is_none();
        let lacks_letters = |lender: &&&Restorable| {
            let held = self.dead_letters.get(&lender.topics.dead_letters.name);
            held.is_none_or(|letters| !letters.holds(&lender.public_id))
        };
        let (accounts, letters) = std::thread::scope(|scope| {
            let letters = scope.spawn(|| self.letters_of(lenders.iter().filter(lacks_letters).copied(), patience));
            let accounts = self.accounts_of(lenders.iter().filter(lacks_accounts).copied(), patience);
            (
                accounts,
                letters.join().unwrap_or_else(|panicked| resume_unwind(panicked)),
            )
        });
        let disputed = self.keep_accounts(accounts);
        if !disputed.is_empty() {
            // Read together it is known which record it is.
            let is_disputed = |lender: &&&Restorable| disputed.contains(&lender.topics.accounts.name);
            let accounts = self.accounts_of(lenders.iter().filter(is_disputed).copied(), patience);
            self.keep_accounts(accounts);
        }
        let (letters, _) = letters;
        keep(&mut self.dead_letters, &mut self.failed, letters, |held, restored| {
            held.merge(restored);
            true
        });
    }

    /// Gives the topics of which nothing can be made with what was held before.
    fn keep_accounts(&mut self, (restored, reader): RestoredTopics<RestoredAccounts>) -> HashSet<String> {
        // The first to read on with.
        self.reader = self.reader.take().or(reader);
        keep(&mut self.accounts, &mut self.failed, restored, RestoredAccounts::merge)
    }

    fn letters_of<'c>(
        &self,
        lenders: impl Iterator<Item = &'c Restorable>,
        patience: Patience,
    ) -> RestoredTopics<RestoredDeadLetters> {
        each_topic(
            (&self.starter, patience),
            lenders,
            |topics| &topics.dead_letters.name,
            RestoredDeadLetters::of,
            |letters, reader| letters.read_on(reader, how(End::Stable, &self.starter.shutdown, &mut || {})),
        )
    }

    fn accounts_of<'c>(
        &self,
        lenders: impl Iterator<Item = &'c Restorable> + Clone,
        patience: Patience,
    ) -> RestoredTopics<RestoredAccounts> {
        let (starter, contents) = (&self.starter, self.contents.as_ref());
        let mut expected = HashMap::new();
        for lender in lenders.clone() {
            let key = key_of(&starter.config, &lender.lender, &lender.public_id);
            let records = self.cursors.get(&lender.topics.cursor.name);
            let current = records.and_then(|records| records.current(&key).ok().flatten());
            let count = current
                .and_then(|(_, record)| record?.accounts)
                .map_or(0, |(count, _)| count);
            expected.insert(&lender.public_id, usize::try_from(count).unwrap_or(usize::MAX));
        }
        let retention = longest_retention(lenders.clone());
        each_topic(
            (starter, patience),
            lenders.clone(),
            |topics| &topics.accounts.name,
            |topic, lenders| {
                let expected = |lender: &String| (lender.clone(), expected[lender]);
                RestoredAccounts::of(topic, lenders.iter().map(expected), retention)
            },
            |accounts, reader| {
                let contents = (contents, Patience::Endless);
                read_accounts(
                    accounts,
                    reader,
                    contents,
                    how(End::Stable, &starter.shutdown, &mut || {}),
                )
            },
        )
    }

    /// How many accounts are held of a lender; `None`: nothing is.
    pub(super) fn account_count(&self, lender: &Restorable) -> Option<usize> {
        let accounts = self.accounts.get(&lender.topics.accounts.name)?;
        accounts.account_count(&lender.public_id)
    }

    /// # Errors
    /// When a topic of the lender cannot be used: then there is nothing to fence it for.
    pub(super) fn check(&self, lender: &Restorable) -> Result<(), StartError> {
        let Topics {
            cursor,
            accounts,
            dead_letters,
            ..
        } = &lender.topics;
        let topics = [cursor, accounts, dead_letters];
        let mut failed = topics.into_iter().filter_map(|topic| self.failed.get(&topic.name));
        failed.next().map_or(Ok(()), |shared| Err(shared.clone().into()))
    }

    /// Reads the topics of a lender on to their true end, where they were not since `fenced`, when it was fenced. `now`: all fences
    /// so far. `hidden` is called as long as an open transaction seems to hide an end.
    ///
    /// # Errors
    /// When one cannot be read, or must not be used: then none of its lenders can start.
    pub(super) fn read_on(
        &mut self,
        lender: &Restorable,
        [fenced, now]: [Fences; 2],
        hidden: &mut dyn FnMut(),
    ) -> Result<(), StartError> {
        let Topics {
            cursor,
            accounts,
            dead_letters,
            ..
        } = &lender.topics;
        let (starter, contents, reader) = (&self.starter, self.contents.as_ref(), &mut self.reader);
        let (shutdown, read_behind) = (&starter.shutdown, &mut self.read_behind);
        let mut when_due = |topic: &String, read: &mut dyn FnMut() -> Result<(), SinkError>| {
            let behind = read_behind.entry(topic.clone()).or_default();
            match std::mem::replace(behind, now.max(*behind)) < fenced {
                true => read().map_err(|error| (topic.clone(), SharedFailure::of(error))),
                false => Ok(()),
            }
        };
        let read = when_due(&cursor.name, &mut || {
            let cursors = starter.cursors.of(&cursor.name);
            let records = starter.patiently(patience(), || cursors.ask(shutdown, hidden))?;
            records.check_whole()?;
            self.cursors.insert(cursor.name.clone(), records);
            Ok(())
        });
        let read = read.and_then(|()| {
            let held = self.accounts.get_mut(&accounts.name).expect(READ);
            when_due(&accounts.name, &mut || {
                on(starter, reader, patience(), &mut |reader| {
                    let contents = (contents, Patience::Endless);
                    read_accounts(held, reader, contents, how(End::True, shutdown, hidden))
                })
            })
        });
        let read = read.and_then(|()| {
            let held = self.dead_letters.get_mut(&dead_letters.name).expect(READ);
            when_due(&dead_letters.name, &mut || {
                on(starter, reader, patience(), &mut |reader| {
                    held.read_on(reader, how(End::True, shutdown, hidden))
                })
            })
        });
        read.map_err(|(topic, failure)| {
            self.forget(&topic);
            self.failed.insert(topic, failure.clone());
            failure.into()
        })
    }

    /// Drops what is held of a topic: it is read anew.
    fn forget(&mut self, topic: &str) {
        self.cursors.remove(topic);
        self.accounts.remove(topic);
        self.dead_letters.remove(topic);
    }

    /// Drops what is held in the topics of a lender.
    pub(super) fn forget_lender(&mut self, lender: &Restorable) {
        self.forget(&lender.topics.accounts.name);
        self.forget(&lender.topics.dead_letters.name);
    }

    /// Whether a lender's record says what its topics hold: after a reset nothing does.
    pub(super) fn is_proven(&self, lender: &Restorable) -> bool {
        let key = key_of(&self.starter.config, &lender.lender, &lender.public_id);
        let records = self.cursors.get(&lender.topics.cursor.name);
        match records.and_then(|records| records.current(&key).ok().flatten()) {
            Some((_, record)) => record.is_some_and(|record| record.accounts.is_some()),
            None => true,
        }
    }

    /// Whether all is held that a start of the lender needs.
    pub(super) fn holds(&self, lender: &Restorable) -> bool {
        let letters = self.dead_letters.get(&lender.topics.dead_letters.name);
        let has_letters = letters.is_some_and(|letters| letters.holds(&lender.public_id));
        has_letters && self.account_count(lender).is_some()
    }

    /// Ends the connections that reading on needs, until it is needed again.
    pub(super) fn disconnect(&mut self) {
        self.reader = None;
    }

    /// What keeps lenders from being held, since they were last restored.
    pub(super) fn failures(&self) -> impl Iterator<Item = (&String, &SharedFailure)> {
        self.failed.iter()
    }

    pub(super) fn cursors(&self, lender: &Restorable) -> Result<&CursorRecords, StartError> {
        self.check(lender)?;
        Ok(self.cursors.get(&lender.topics.cursor.name).expect(READ))
    }

    /// Takes a lender out.
    pub(super) fn lender(&mut self, lender: &Restorable) -> Result<((Index, Removals), DeadLetterDigests), StartError> {
        self.check(lender)?;
        let (topics, public_id) = (&lender.topics, &lender.public_id);
        let accounts = self.accounts.get_mut(&topics.accounts.name).expect(READ);
        let letters = self.dead_letters.get_mut(&topics.dead_letters.name).expect(READ);
        let taken_at = [accounts.offsets.clone(), letters.offsets.clone()];
        self.taken_at.insert(public_id.clone(), taken_at);
        Ok((accounts.lender(public_id), letters.lender(public_id)))
    }

    /// Takes back what a lender held when it was released. Whoever came after it wrote behind where it was taken out.
    pub(super) fn take_back(&mut self, lender: &Restorable, left: Left) {
        let Left { index, dead_letters } = left;
        let (topics, public_id) = (&lender.topics, lender.public_id.clone());
        // Where the image is gone, or it is another lender by now, it is restored.
        let Some([accounts_at, letters_at]) = self.taken_at.remove(&public_id) else {
            return;
        };
        let name = &topics.accounts.name;
        if let Some(accounts) = self.accounts.get_mut(name)
            && !accounts.take_back(public_id.clone(), index, &accounts_at)
        {
            self.accounts.remove(name);
        }
        if let Some(letters) = self.dead_letters.get_mut(&topics.dead_letters.name) {
            letters.take_back(public_id, dead_letters, &letters_at);
        }
    }

    /// Reads on what is held, as far as no open transaction hides it. What cannot go on is dropped. Gives whether all of it was
    /// asked for: a partition may have no leader.
    ///
    /// # Errors
    /// When Kafka cannot be asked now.
    pub(super) fn follow(&mut self) -> Result<bool, SinkError> {
        let accounts = self.accounts.iter().filter(|(_, held)| !held.is_empty());
        let letters = self.dead_letters.iter().filter(|(_, held)| !held.is_empty());
        let places = accounts.map(|(topic, held)| (topic, &held.offsets));
        let places = places.chain(letters.map(|(topic, held)| (topic, &held.offsets)));
        let followed: Vec<_> = places.map(|(topic, at)| (topic.clone(), at.clone())).collect();
        if followed.is_empty() {
            return Ok(true);
        }
        let (starter, contents) = (Arc::clone(&self.starter), self.contents.as_ref());
        let shutdown = &starter.shutdown;
        let mut ends = BTreeMap::new();
        on(&starter, &mut self.reader, Patience::Once, &mut |reader| {
            let followed = followed.iter().map(|(topic, at)| (topic.as_str(), at));
            ends = reader.stable_ends(&followed.collect::<Vec<_>>())?;
            Ok(())
        })?;
        let (mut lost, mut is_whole, mut failed) = (Vec::new(), true, None);
        for (topic, offsets) in &followed {
            let nothing = Offsets::new();
            let ends = ends.get(topic).unwrap_or(&nothing);
            is_whole &= ends.len() == offsets.len();
            let offset = |partition: &i32| offsets.get(partition).copied().unwrap_or(0);
            if ends.iter().any(|(partition, end)| *end < offset(partition)) {
                // It was created anew, or lost records: what is held is not what stands there.
                lost.push(topic);
                continue;
            }
            if ends.iter().all(|(partition, end)| *end == offset(partition)) {
                continue;
            }
            let read = on(&starter, &mut self.reader, Patience::Once, &mut |reader| {
                if let Some(accounts) = self.accounts.get_mut(topic) {
                    let contents = (contents, Patience::Once);
                    read_accounts(accounts, reader, contents, how(End::At(ends), shutdown, &mut || {}))?;
                }
                if let Some(letters) = self.dead_letters.get_mut(topic) {
                    letters.read_on(reader, how(End::At(ends), shutdown, &mut || {}))?;
                }
                Ok(())
            });
            match read {
                Ok(()) => {}
                // Nobody keeps records of a topic that deletes until a standby comes back.
                Err(error) if may_pass(&starter.denials.anew(), &error) && !is_gone(&error) => {
                    failed = failed.or(Some(error))
                }
                Err(error) => {
                    let (code, advice) = (error.code(), error.advice());
                    tracing::warn!(topic, %code, advice, "standing by: {}", chain(&error));
                    lost.push(topic);
                }
            }
        }
        lost.into_iter().for_each(|topic| self.forget(topic));
        failed.map_or(Ok(is_whole), Err)
    }
}

const READ: &str = "read for every lender";

fn how<'a>(end: End<'a>, shutdown: &'a Shutdown, hidden: &'a mut dyn FnMut()) -> Reading<'a> {
    Reading {
        end,
        shutdown,
        grace: Duration::ZERO,
        hidden,
    }
}

/// Keeps what was restored, by topic, beside what is held of others. Gives the topics of which `merge` makes nothing: what was held of
/// them is dropped.
fn keep<T>(
    held: &mut HashMap<String, T>,
    failed: &mut HashMap<String, SharedFailure>,
    restored: Outcomes<T>,
    merge: impl Fn(&mut T, T) -> bool,
) -> HashSet<String> {
    let mut disputed = HashSet::new();
    for (topic, outcome) in restored {
        match (outcome, held.entry(topic)) {
            (Err(failure), place) => drop(failed.insert(place.key().clone(), failure)),
            (Ok(restored), Entry::Vacant(place)) => drop(place.insert(restored)),
            (Ok(restored), Entry::Occupied(mut place)) => {
                if !merge(place.get_mut(), restored) {
                    disputed.insert(place.remove_entry().0);
                }
            }
        }
    }
    disputed
}

/// Whether what was to be read next has left its topic.
fn is_gone(error: &SinkError) -> bool {
    matches!(error, SinkError::Kafka(kafka::Error::Read { source, .. })
        if kafka::code(source) == Some(RDKafkaErrorCode::AutoOffsetReset))
}

fn longest_retention<'c>(lenders: impl Iterator<Item = &'c Restorable>) -> Duration {
    let retentions = lenders.map(|lender| lender.topics.accounts.delete_retention);
    retentions.max().unwrap_or_default()
}

fn read_accounts(
    accounts: &mut RestoredAccounts,
    reader: &TopicReader,
    (contents, patience): (Option<&Contents>, Patience),
    how: Reading<'_>,
) -> Result<(), SinkError> {
    match contents {
        Some(contents) => accounts.read_on(reader, &|| Box::new(contents.reader(patience)), how),
        None => accounts.read_on(reader, &|| Box::new(|_| Ok(None)), how),
    }
}
