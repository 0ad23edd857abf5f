//! What does one topic of accounts hold for the lenders that start? Taken record by record, in the topic's order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use twox_hash::XxHash3_64;

use super::image::Index;
use super::key::Key;
use super::removals::Removals;
use super::tombstones::Tombstones;
use super::version::Version;
use crate::account::Content;

/// The indexes of the lenders that start from one topic, and the tombstones of all of its lenders. Of what others hold nothing
/// is kept.
#[derive(Debug)]
pub(crate) struct Restored {
    /// By public id; one that was taken out is gone.
    indexes: HashMap<String, Index>,
    keys: KeyFilter,
    /// Keys whose last record is a tombstone.
    tombstones: HashMap<Key, Tombstone>,
    /// Those of `tombstones` that are still to be remembered, as they were when the first lender was taken out since they were
    /// settled.
    shared: Option<Arc<HashSet<Key>>>,
    /// An older one is not remembered, in milliseconds since the epoch: its topic does not promise to hold it any longer.
    remembered_from: i64,
    /// How many `tombstones` there were when they were last settled.
    settled_count: usize,
}

#[derive(Debug)]
struct Tombstone {
    /// Milliseconds since the epoch.
    at: i64,
    removed: Removed,
    /// It came after `shared` was made.
    is_late: bool,
}

/// What a tombstone removed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Removed {
    /// The source wrote it: it is part of what was committed.
    Own,
    /// Of the lender that starts, the account of this hash; `None` where that had left the topic.
    Of(Arc<str>, Option<u64>),
    /// Of a lender that does not start.
    Others,
    /// It names no lender, and what it removed had left the topic or is not held here.
    Nameless,
}

impl Restored {
    /// `lenders`: public ids, and how many accounts are expected of each.
    pub(crate) fn new(lenders: impl IntoIterator<Item = (String, usize)>, remembered_from: i64) -> Self {
        let mut expected = 0;
        let with_room = |(lender, count): (String, usize)| {
            expected += count;
            (lender, Index::with_capacity(count))
        };
        let indexes = lenders.into_iter().map(with_room).collect();
        Self {
            indexes,
            keys: KeyFilter::new(expected),
            tombstones: HashMap::new(),
            shared: None,
            remembered_from,
            settled_count: 0,
        }
    }

    /// Whether nothing is kept of anybody.
    pub(crate) fn is_empty(&self) -> bool {
        self.indexes.is_empty()
    }

    /// How many accounts are kept of `lender`.
    pub(crate) fn account_count(&self, lender: &str) -> Option<usize> {
        self.indexes.get(lender).map(Index::len)
    }

    /// Takes over what was restored apart from the same topic, of lenders of which nothing is kept so far. Gives whether no
    /// account is held by two of them; else nothing of this may be used any more.
    #[must_use]
    pub(crate) fn merge(&mut self, other: Self) -> bool {
        for (lender, index) in other.indexes {
            if !self.add(lender, index) {
                return false;
            }
        }
        for (key, tombstone) in other.tombstones {
            let is_late = self.shared.is_some();
            self.note(key, Tombstone { is_late, ..tombstone });
        }
        true
    }

    /// Takes back what one lender holds that was taken out of this; gives what [`Restored::merge`] gives. What it knows of
    /// deletions is known here, or read again.
    #[must_use]
    pub(crate) fn take_back(&mut self, lender: String, mut index: Index) -> bool {
        index.set_tombstones(Tombstones::default());
        self.add(lender, index)
    }

    fn add(&mut self, lender: String, index: Index) -> bool {
        let count = self.indexes.values().map(Index::len).sum::<usize>() + index.len();
        if count > self.keys.expected {
            self.keys = KeyFilter::new(2 * count);
            for key in self.indexes.values().flat_map(Index::keys) {
                self.keys.insert(&key.to_string());
            }
        }
        for key in index.keys() {
            let public_id = key.to_string();
            if self.keys.insert(&public_id) && self.other_holder(&lender, &public_id).is_some() {
                return false;
            }
        }
        self.indexes.insert(lender, index);
        true
    }

    /// Who holds the account beside `lender`.
    fn other_holder(&self, lender: &str, public_id: &str) -> Option<&String> {
        let holds = |(other, index): &(&String, &Index)| *other != lender && index.contains(public_id);
        self.indexes.iter().find(holds).map(|(other, _)| other)
    }

    /// Whether there are many more tombstones than when they were last settled.
    pub(crate) fn has_grown(&self) -> bool {
        const FEW: usize = 1 << 10;
        self.tombstones.len() > FEW.max(2 * self.settled_count)
    }

    /// Forgets tombstones that are older than `remembered_from` and explain nothing.
    pub(crate) fn settle(&mut self, remembered_from: i64) {
        self.remembered_from = remembered_from;
        self.shared = None;
        self.tombstones.retain(|_, tombstone| {
            tombstone.is_late = false;
            let explains = matches!(tombstone.removed, Removed::Of(..) | Removed::Nameless);
            explains || tombstone.at >= remembered_from
        });
        self.settled_count = self.tombstones.len();
    }

    /// Those of which records are kept.
    pub(crate) fn lenders(&self) -> impl Iterator<Item = &String> {
        self.indexes.keys()
    }

    /// Takes an account's record. `content`: what of it is to be remembered.
    ///
    /// # Errors
    /// With the lender that starts and holds the account, too.
    pub(crate) fn take(
        &mut self,
        lender: &str,
        public_id: &str,
        version: &Version,
        content: Option<&Content<'_>>,
    ) -> Result<(), String> {
        if !self.tombstones.is_empty() {
            self.tombstones.remove(&Key::new(public_id));
        }
        let is_new = self
            .indexes
            .get_mut(lender)
            .map(|index| index.restore(public_id, version, content));
        let is_known = match is_new {
            // Nobody else held it when it came.
            Some(false) => false,
            Some(true) => self.keys.insert(public_id),
            None => self.keys.contains(public_id),
        };
        match is_known.then(|| self.other_holder(lender, public_id)).flatten() {
            Some(other) => Err(other.clone()),
            None => Ok(()),
        }
    }

    /// Takes a tombstone that was written `at` (milliseconds since the epoch). `named`: the lender that it names, `is_ours`:
    /// whether the source wrote it for that lender.
    pub(crate) fn take_tombstone(&mut self, public_id: &str, at: i64, named: Option<&str>, is_ours: bool) {
        let key = Key::new(public_id);
        let is_late = self.shared.is_some();
        let mut holder = None;
        if self.keys.contains(public_id) {
            // A key under two lenders is refused.
            let mut indexes = self.indexes.iter_mut();
            holder = indexes
                .find_map(|(lender, index)| Some((Arc::from(lender.as_str()), index.restore_removal(public_id)?)));
        }
        let removed = match (holder, named) {
            (Some((lender, _)), Some(named)) if is_ours && *lender == *named => Removed::Own,
            (Some((lender, hash)), _) => Removed::Of(lender, Some(hash)),
            (None, Some(_)) if is_ours => Removed::Own,
            (None, Some(named)) if self.indexes.contains_key(named) => Removed::Of(named.into(), None),
            (None, Some(_)) => Removed::Others,
            (None, None) => Removed::Nameless,
        };
        self.note(key, Tombstone { at, removed, is_late });
    }

    fn note(&mut self, key: Key, new: Tombstone) {
        let Some(before) = self.tombstones.get_mut(&key) else {
            self.tombstones.insert(key, new);
            return;
        };
        // Where nothing was held any more, the first one removed it; a later one may say whose it was, and one for a lender that is
        // kept is believed rather than one for another, but not against what was seen to be removed.
        let rank = |removed: &Removed| match removed {
            Removed::Own => 4,
            Removed::Of(_, Some(_)) => 3,
            Removed::Of(_, None) => 2,
            Removed::Others => 1,
            Removed::Nameless => 0,
        };
        if rank(&new.removed) > rank(&before.removed) {
            before.removed = new.removed;
        }
        before.at = before.at.max(new.at);
    }

    /// Takes a lender out, with the tombstones of others that removed accounts of it. What is taken afterwards is not its.
    pub(crate) fn lender(&mut self, public_id: &str) -> (Index, Removals) {
        let mut index = self.indexes.remove(public_id).unwrap_or_default();
        let mut removals = Removals::default();
        for tombstone in self.tombstones.values() {
            match &tombstone.removed {
                Removed::Of(lender, Some(hash)) if **lender == *public_id => removals.known.push(*hash),
                Removed::Of(lender, None) if **lender == *public_id => removals.unknown += 1,
                Removed::Nameless => removals.nameless += 1,
                Removed::Own | Removed::Of(..) | Removed::Others => {}
            }
        }
        let is_remembered = |tombstone: &Tombstone| tombstone.at >= self.remembered_from;
        let shared = self.shared.get_or_insert_with(|| {
            let remembered = self.tombstones.iter().filter(|(_, tombstone)| is_remembered(tombstone));
            Arc::new(remembered.map(|(key, _)| key.clone()).collect())
        });
        let late = self.tombstones.iter().filter(|(_, tombstone)| tombstone.is_late);
        index.set_tombstones(Tombstones::restored(
            Arc::clone(shared),
            late.map(|(key, _)| (key.clone(), 0)).collect(),
        ));
        (index, removals)
    }
}

/// Which keys may be held by anybody that starts? A Bloom filter: it saves asking each index for each record.
#[derive(Debug)]
struct KeyFilter {
    /// Blocks of 512 bits: a key's bits lie in one.
    blocks: Vec<[u64; 8]>,
    /// So many keys it was made for.
    expected: usize,
}

impl KeyFilter {
    /// About one in a thousand keys is taken for one that is known; beyond `expected` keys, more.
    fn new(expected: usize) -> Self {
        const BITS_A_KEY: usize = 16;
        const FEWEST: usize = 1 << 8;
        let most = (1 << 24) * BITS_A_KEY / 512;
        let blocks = expected.saturating_mul(BITS_A_KEY) / 512;
        Self {
            blocks: vec![[0; 8]; blocks.clamp(FEWEST, most)],
            expected,
        }
    }

    /// Whether it may have been there before.
    fn insert(&mut self, public_id: &str) -> bool {
        let (block, bits) = self.place(public_id);
        let words = &mut self.blocks[block];
        let is_set = |words: &[u64; 8]| bits.iter().all(|bit| words[bit / 64] & 1 << (bit % 64) != 0);
        let was_there = is_set(words);
        bits.iter().for_each(|bit| words[bit / 64] |= 1 << (bit % 64));
        was_there
    }

    fn contains(&self, public_id: &str) -> bool {
        let (block, bits) = self.place(public_id);
        bits.iter()
            .all(|bit| self.blocks[block][bit / 64] & 1 << (bit % 64) != 0)
    }

    fn place(&self, public_id: &str) -> (usize, [usize; 4]) {
        let hash = XxHash3_64::oneshot(public_id.as_bytes());
        let block = (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize;
        let bit = |number: u32| (hash >> (9 * number) & 511) as usize;
        (block, [bit(0), bit(1), bit(2), bit(3)])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::super::removals::Explained;
    use super::*;
    use crate::account::Digest;
    use crate::avro::WriterSchema;

    fn version(updated_at: i64) -> Version {
        Version {
            updated_at,
            digest: Digest(1),
            is_regressed: false,
            schema: WriterSchema::Id(1),
        }
    }

    fn of(lenders: &[&str]) -> Restored {
        Restored::new(lenders.iter().map(|lender| ((*lender).to_owned(), 0)), 0)
    }

    fn put(restored: &mut Restored, lender: &str, public_id: &str, updated_at: i64) {
        let taken = restored.take(lender, public_id, &version(updated_at), None);
        taken.expect("a key under one lender");
    }

    /// A start of `a` alone, of whose accounts `1`, `2`, `3` were committed, beside `4` of `b`.
    fn start(records: impl FnOnce(&mut Restored)) -> (Index, Explained) {
        let mut restored = of(&["a"]);
        for (public_id, updated_at) in [("1", 10), ("2", 20), ("3", 30)] {
            put(&mut restored, "a", public_id, updated_at);
        }
        put(&mut restored, "b", "4", 40);
        let committed = restored.indexes["a"].proof();
        records(&mut restored);
        let (index, removals) = restored.lender("a");
        let explained = removals.explain(index.proof(), committed);
        (index, explained)
    }

    #[test]
    fn a_tombstone_counts_for_the_lender_whose_record_it_removed() {
        let explained = |tombstones: &[(&str, Option<&str>, bool)]| {
            let (_, explained) = start(|restored| {
                for (public_id, named, is_ours) in tombstones {
                    restored.take_tombstone(public_id, 5, *named, *is_ours);
                }
            });
            explained
        };
        let (nobody, by_hand, ours) = (None, false, true);
        assert_eq!(explained(&[]), Explained::Missing(0));
        assert_eq!(explained(&[("1", nobody, by_hand)]), Explained::Missing(1));
        assert_eq!(
            explained(&[("1", Some("a"), by_hand), ("2", nobody, by_hand)]),
            Explained::Missing(2)
        );
        // Whatever it names, and whatever it says of who wrote it.
        assert_eq!(explained(&[("1", Some("b"), by_hand)]), Explained::Missing(1));
        assert_eq!(explained(&[("1", Some("b"), ours)]), Explained::Missing(1));
        // Its own are in what is committed.
        assert_eq!(explained(&[("1", Some("a"), ours)]), Explained::No);
        assert_eq!(
            explained(&[("1", nobody, by_hand), ("2", Some("a"), ours)]),
            Explained::No
        );
        // It removed a record that is not this lender's, or nothing.
        assert_eq!(explained(&[("4", Some("b"), by_hand)]), Explained::Missing(0));
        assert_eq!(explained(&[("4", nobody, by_hand)]), Explained::Missing(0));
    }

    /// What is missing was lost, and there are these tombstones.
    fn lost(count: u64, tombstones: &[(&str, Option<&str>, bool)]) -> Explained {
        let mut restored = of(&["a"]);
        for (public_id, named, is_ours) in tombstones {
            restored.take_tombstone(public_id, 5, *named, *is_ours);
        }
        let (index, removals) = restored.lender("a");
        removals.explain(index.proof(), (count, 77))
    }

    #[test]
    fn where_what_was_removed_is_gone_a_tombstone_counts_for_the_lender_it_names() {
        let (by_hand, ours) = (false, true);
        assert_eq!(lost(1, &[]), Explained::No);
        assert_eq!(lost(1, &[("1", Some("a"), by_hand)]), Explained::Missing(1));
        assert_eq!(lost(2, &[("1", Some("a"), by_hand)]), Explained::No);
        assert_eq!(lost(1, &[("1", Some("b"), by_hand)]), Explained::No);
        assert_eq!(lost(1, &[("1", Some("a"), ours)]), Explained::No);
        assert_eq!(lost(1, &[("1", Some("b"), ours)]), Explained::No);
        assert_eq!(lost(1, &[("1", None, by_hand)]), Explained::Nameless(1));
        assert_eq!(lost(2, &[("1", None, by_hand)]), Explained::No);
        assert_eq!(
            lost(2, &[("1", None, by_hand), ("2", Some("a"), by_hand)]),
            Explained::Nameless(1)
        );
        // Of one account that is removed again and again, it was removed once.
        assert_eq!(
            lost(2, &[("1", Some("a"), by_hand), ("1", Some("a"), by_hand)]),
            Explained::No
        );
        // Written once more, it may name the lender.
        assert_eq!(
            lost(1, &[("1", None, by_hand), ("1", Some("a"), by_hand)]),
            Explained::Missing(1)
        );
        assert_eq!(
            lost(1, &[("1", Some("a"), by_hand), ("1", None, by_hand)]),
            Explained::Missing(1)
        );
        // What the source deleted nobody else does.
        assert_eq!(
            lost(1, &[("1", Some("a"), ours), ("1", Some("a"), by_hand)]),
            Explained::No
        );
        assert_eq!(
            lost(1, &[("1", Some("a"), by_hand), ("1", Some("a"), ours)]),
            Explained::No
        );
    }

    #[test]
    fn what_was_honoured_before_explains_nothing_that_is_lost_now() {
        let mut restored = of(&["a"]);
        for number in 0..60 {
            put(&mut restored, "a", &number.to_string(), 10 + number);
        }
        for number in 0..30 {
            restored.take_tombstone(&number.to_string(), 5, None, false);
        }
        let honoured = restored.indexes["a"].proof();
        // Removed since.
        restored.take_tombstone("30", 6, None, false);
        let (index, removals) = restored.lender("a");
        assert_eq!(removals.explain(index.proof(), honoured), Explained::Missing(1));
        let mut lost = Index::default();
        (32..60).for_each(|number| {
            lost.restore(&number.to_string(), &version(10 + number), None);
        });
        assert_eq!(removals.explain(lost.proof(), honoured), Explained::No);
    }

    #[test]
    fn an_account_that_came_back_is_held_again_and_excuses_nothing() {
        let (index, explained) = start(|restored| {
            restored.take_tombstone("1", 5, None, false);
            put(restored, "a", "1", 10);
        });
        assert_eq!((index.len(), explained), (3, Explained::Missing(0)));
        assert_eq!(index.tombstone_of("1"), None);
    }

    #[test]
    fn a_key_under_two_lenders_is_seen_as_soon_as_one_holds_it_that_starts() {
        let mut restored = of(&["a", "b"]);
        put(&mut restored, "a", "1", 10);
        put(&mut restored, "b", "2", 10);
        let mut take = |lender: &str, public_id: &str| restored.take(lender, public_id, &version(10), None);
        assert_eq!(take("b", "1"), Err("a".to_owned()));
        assert_eq!(take("a", "2"), Err("b".to_owned()));
        // By now both hold it.
        assert!(take("other", "1").is_err());
        // Nothing is held of those that do not start: what replaces their record shows no second owner.
        assert_eq!(take("other", "3"), Ok(()));
        assert_eq!(take("a", "3"), Ok(()));
        assert_eq!(take("other", "3"), Err("a".to_owned()));
    }

    #[test]
    fn tombstones_are_held_once_for_all_lenders_and_only_as_long_as_the_topic_keeps_them() {
        let mut restored = Restored::new([("a".to_owned(), 0), ("b".to_owned(), 0)], 100);
        restored.take_tombstone("old", 99, Some("a"), true);
        restored.take_tombstone("young", 100, Some("a"), true);
        let (first, _) = restored.lender("a");
        restored.take_tombstone("late", 101, Some("b"), true);
        let (second, _) = restored.lender("b");
        for (index, late) in [(&first, None), (&second, Some(0))] {
            assert_eq!(index.tombstone_of("old"), None);
            assert_eq!(index.tombstone_of("young"), Some(0));
            assert_eq!(index.tombstone_of("late"), late);
        }
        assert_eq!(restored.shared.as_ref().map(Arc::strong_count), Some(3));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Put(u8, u8),
        Delete(u8),
        ByHand(u8, Option<u8>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (0u8..3, 0u8..4).prop_map(|(lender, key)| Step::Put(lender, key)),
            1 => (0u8..12).prop_map(Step::Delete),
            2 => (0u8..12, prop::option::of(0u8..3)).prop_map(|(key, named)| Step::ByHand(key, named)),
        ];
        prop::collection::vec(step, 0..40)
    }

    /// A record of the topic.
    #[derive(Debug, Clone)]
    enum Record {
        Account(u8, u8),
        Tombstone(u8, Option<u8>, bool),
    }

    fn name(lender: u8) -> &'static str {
        ["a", "b", "c"][lender as usize]
    }

    /// What stands in the topic after these steps: the source deletes what it knows of.
    fn records(steps: &[Step]) -> Vec<Record> {
        let mut written = BTreeSet::new();
        let mut records = Vec::new();
        for step in steps {
            match step {
                Step::Put(lender, key) => {
                    written.insert(lender * 4 + key);
                    records.push(Record::Account(*lender, lender * 4 + key));
                }
                Step::Delete(key) if written.remove(key) => {
                    records.push(Record::Tombstone(*key, Some(key / 4), true));
                }
                Step::Delete(_) => {}
                // What names a wrong lender is read otherwise by who does not hold the right one.
                Step::ByHand(key, named) => {
                    records.push(Record::Tombstone(*key, named.map(|_| key / 4), false));
                }
            }
        }
        records
    }

    /// Takes what stands in the topic from `from` on.
    fn take_all(restored: &mut Restored, records: &[Record], from: usize) {
        for (at, record) in records.iter().enumerate().skip(from) {
            match record {
                Record::Account(lender, key) => put(restored, name(*lender), &key.to_string(), at as i64),
                Record::Tombstone(key, named, is_ours) => {
                    restored.take_tombstone(&key.to_string(), at as i64, named.map(name), *is_ours);
                }
            }
        }
    }

    /// What a process that runs the lender makes of the index by what it writes.
    fn write(index: &mut Index, records: &[Record], from: usize, lender: u8) {
        for (at, record) in records.iter().enumerate().skip(from) {
            match record {
                Record::Account(writer, key) if *writer == lender => {
                    index.restore(&key.to_string(), &version(at as i64), None);
                }
                Record::Tombstone(key, Some(writer), true) if *writer == lender => {
                    index.restore_removal(&key.to_string());
                }
                Record::Account(..) | Record::Tombstone(..) => {}
            }
        }
    }

    proptest! {
        /// Lender `a` is followed beside `b`, run for a while, taken back and followed on; `c` is read apart later.
        #[test]
        fn what_is_taken_back_and_followed_is_what_is_read_anew(
            steps in steps(), cuts in prop::array::uniform4(any::<prop::sample::Index>()), is_followed in any::<bool>()
        ) {
            let topic = records(&steps);
            let mut cuts = cuts.map(|cut| cut.index(topic.len() + 1));
            cuts.sort_unstable();
            let [claimed, stale, released, end] = cuts;
            let mut followed = of(&["a", "b"]);
            take_all(&mut followed, &topic[..claimed], 0);
            let (mut index, _) = followed.lender("a");
            write(&mut index, &topic[..released], claimed, 0);
            // The topic was followed meanwhile, or nothing was held of it any more.
            let mut followed = match is_followed {
                true => {
                    take_all(&mut followed, &topic[..stale], claimed);
                    followed
                }
                false => of(&[]),
            };
            prop_assert!(followed.take_back("a".to_owned(), index));
            take_all(&mut followed, &topic[..end], claimed);
            let mut apart = of(&["c"]);
            take_all(&mut apart, &topic[..end], 0);
            prop_assert!(followed.merge(apart));
            take_all(&mut followed, &topic, claimed);
            let mut anew = of(&["a", "b", "c"]);
            take_all(&mut anew, &topic, 0);
            for number in (0..3).filter(|number| is_followed || *number != 1) {
                let lender = name(number);
                let ((index, removals), (expected, explains)) = (followed.lender(lender), anew.lender(lender));
                prop_assert_eq!(index.proof(), expected.proof());
                for key in (number * 4..number * 4 + 4).map(|key| key.to_string()) {
                    prop_assert_eq!(index.contains(&key), expected.contains(&key));
                    // Of deletions before it was claimed, whoever ran it knew.
                    if !index.contains(&key) && (is_followed || lender == "c") {
                        prop_assert_eq!(index.tombstone_of(&key).is_some(), expected.tombstone_of(&key).is_some());
                    }
                }
                if is_followed {
                    let sorted = |mut removals: Removals| {
                        removals.known.sort_unstable();
                        removals
                    };
                    prop_assert_eq!(sorted(removals), sorted(explains));
                }
            }
        }

        /// Of three lenders, each with keys of its own, those of `starting` start. The source knows what it wrote alone.
        #[test]
        fn what_others_removed_is_honoured_and_what_is_lost_is_not_whoever_starts(
            steps in steps(), starting in 1u8..8, lost in any::<prop::sample::Index>(), is_lost in any::<bool>()
        ) {
            let lenders: Vec<u8> = (0..3).filter(|lender| starting & 1 << lender != 0).collect();
            let names: Vec<&str> = lenders.iter().map(|lender| name(*lender)).collect();
            let mut restored = of(&names);
            // What the source wrote, and what is in the topic.
            let (mut written, mut held) = (BTreeMap::new(), BTreeSet::new());
            for (at, step) in steps.iter().enumerate() {
                match step {
                    Step::Put(lender, key) => {
                        let key = lender * 4 + key;
                        put(&mut restored, name(*lender), &key.to_string(), at as i64);
                        written.insert(key, at as i64);
                        held.insert(key);
                    }
                    Step::Delete(key) => {
                        // It deletes what it knows of.
                        if written.remove(key).is_some() {
                            restored.take_tombstone(&key.to_string(), 0, Some(name(key / 4)), true);
                            held.remove(key);
                        }
                    }
                    Step::ByHand(key, named) => {
                        restored.take_tombstone(&key.to_string(), 0, named.map(name), false);
                        held.remove(key);
                    }
                }
            }
            for lender in lenders {
                let keys = || written.iter().filter(|(key, _)| *key / 4 == lender);
                let mut committed = Index::default();
                keys().for_each(|(key, at)| {
                    committed.restore(&key.to_string(), &version(*at), None);
                });
                let left: Vec<_> = keys().filter(|(key, _)| held.contains(key)).collect();
                let removed = (keys().count() - left.len()) as u64;
                let (index, removals) = restored.lender(name(lender));
                prop_assert_eq!(index.len(), left.len());
                prop_assert_eq!(removals.explain(index.proof(), committed.proof()), Explained::Missing(removed));
                // One more account is not there.
                if is_lost && !left.is_empty() && removals.unknown == 0 {
                    let (key, at) = *lost.get(&left);
                    let mut less = Index::default();
                    left.iter().filter(|(other, _)| *other != key).for_each(|(key, at)| {
                        less.restore(&key.to_string(), &version(**at), None);
                    });
                    let _ = at;
                    let explained = removals.explain(less.proof(), committed.proof());
                    prop_assert!(!matches!(explained, Explained::Missing(_)), "{:?}", explained);
                }
            }
        }
    }
}
