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
    /// By public id; one that was taken is gone.
    indexes: HashMap<String, Index>,
    keys: KeyFilter,
    /// Keys whose last record is a tombstone.
    tombstones: HashMap<Key, Tombstone>,
    /// Those of `tombstones` that are still to be remembered, as they were when the first lender was taken.
    shared: Option<Arc<HashSet<Key>>>,
    /// An older one is not remembered, in milliseconds since the epoch: its topic does not promise to hold it any longer.
    remembered_from: i64,
}

#[derive(Debug)]
struct Tombstone {
    /// Milliseconds since the epoch.
    at: i64,
    removed: Removed,
    /// It came after the first lender was taken.
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
        }
    }

    /// Whether records of `lender` are kept.
    pub(crate) fn is_kept(&self, lender: &str) -> bool {
        self.indexes.contains_key(lender)
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
        if is_known {
            let is_other = |(other, index): &(&String, &Index)| *other != lender && index.contains(public_id);
            if let Some((other, _)) = self.indexes.iter().find(is_other) {
                return Err(other.clone());
            }
        }
        Ok(())
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
        let new = Tombstone { at, removed, is_late };
        let Some(before) = self.tombstones.get_mut(&key) else {
            self.tombstones.insert(key, new);
            return;
        };
        // Where nothing was held any more, the first one removed it; a later one may say whose it was, and one for a lender that
        // starts is believed rather than one for another.
        let is_guess = matches!(before.removed, Removed::Nameless | Removed::Others);
        if new.removed == Removed::Own || is_guess && new.removed != Removed::Nameless {
            before.removed = new.removed;
        }
        before.at = before.at.max(at);
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

    proptest! {
        /// Of three lenders, each with keys of its own, those of `starting` start. The source knows what it wrote alone.
        #[test]
        fn what_others_removed_is_honoured_and_what_is_lost_is_not_whoever_starts(
            steps in steps(), starting in 1u8..8, lost in any::<prop::sample::Index>(), is_lost in any::<bool>()
        ) {
            let name = |lender: u8| ["a", "b", "c"][lender as usize];
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
