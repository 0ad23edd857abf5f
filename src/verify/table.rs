//! All accounts of one side, as small as they go: key, `updated_at` and digest, sorted, so that two sides are compared by
//! going through both once. Pure.
//!
//! An account takes 28 bytes with the key of a Mongo id, and up to a quarter more that is kept free; sorting takes another
//! half for its time.

use std::cmp::Ordering;

use crate::account::Digest;
use crate::index::Key;

/// What tells one version of an account from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ListedVersion {
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub digest: Digest,
}

/// Which of two versions of one account stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The one that was put last: a topic's order is the truth.
    Last,
    /// The highest `updated_at`, of equal ones the last: a row that moves while all are read is seen twice, in any order.
    Highest,
}

/// One side.
#[derive(Debug)]
pub(super) struct Table {
    keep: Keep,
    by_object_id: Entries<[u8; 12]>,
    by_text: Entries<Box<str>>,
}

impl Table {
    pub(super) fn new(keep: Keep) -> Self {
        Self {
            keep,
            by_object_id: Entries(Vec::new()),
            by_text: Entries(Vec::new()),
        }
    }

    /// `None`: from here on there is no such account.
    pub(super) fn put(&mut self, public_id: &str, version: Option<ListedVersion>) {
        let version = Packed::from(version);
        match Key::new(public_id) {
            Key::ObjectId(key) => self.by_object_id.put(key, version, self.keep),
            Key::Other(key) => self.by_text.put(key, version, self.keep),
        }
    }

    /// Sorts, so that it can be looked into.
    pub(super) fn settle(&mut self) {
        self.by_object_id.settle(self.keep);
        self.by_text.settle(self.keep);
    }

    /// Of a settled table.
    pub(super) fn len(&self) -> usize {
        self.by_object_id.0.len() + self.by_text.0.len()
    }

    /// From a settled table.
    pub(super) fn get(&self, key: &Key) -> Option<ListedVersion> {
        match key {
            Key::ObjectId(key) => self.by_object_id.get(key),
            Key::Other(key) => self.by_text.get(key),
        }
    }
}

/// Goes through two settled tables; `each` gets every account of either, and its version on both sides.
pub(super) fn merge(
    upstream: &Table,
    held: &Table,
    mut each: impl FnMut(Key, Option<ListedVersion>, Option<ListedVersion>),
) {
    merge_entries(&upstream.by_object_id, &held.by_object_id, |key, ours, theirs| {
        each(Key::ObjectId(*key), ours, theirs);
    });
    merge_entries(&upstream.by_text, &held.by_text, |key, ours, theirs| {
        each(Key::Other(key.clone()), ours, theirs);
    });
}

/// [`ListedVersion`] without what aligns it to 8 bytes; none at all where `updated_at` is the lowest number, which no text says.
#[derive(Debug, Clone, Copy)]
#[repr(C, packed(4))]
struct Packed {
    updated_at: i64,
    digest: u64,
}

const NONE: i64 = i64::MIN;

impl From<Option<ListedVersion>> for Packed {
    fn from(version: Option<ListedVersion>) -> Self {
        Self {
            updated_at: version.map_or(NONE, |version| version.updated_at),
            digest: version.map_or(0, |version| version.digest.0),
        }
    }
}

impl Packed {
    fn version(self) -> Option<ListedVersion> {
        let Self { updated_at, digest } = self;
        (updated_at != NONE).then_some(ListedVersion {
            updated_at,
            digest: Digest(digest),
        })
    }
}

#[derive(Debug)]
struct TableEntry<K> {
    key: K,
    version: Packed,
}

#[derive(Debug)]
struct Entries<K>(Vec<TableEntry<K>>);

impl<K: Ord> Entries<K> {
    fn put(&mut self, key: K, version: Packed, keep: Keep) {
        if self.0.len() == self.0.capacity() {
            self.make_room(keep);
        }
        self.0.push(TableEntry { key, version });
    }

    /// What was replaced goes first: a topic may hold an account many times. Only what stays makes the table grow.
    fn make_room(&mut self, keep: Keep) {
        const LEAST: usize = 4096;
        self.settle(keep);
        let spare = (self.0.len() / 4).max(LEAST);
        self.0.reserve_exact(spare);
    }

    fn settle(&mut self, keep: Keep) {
        // Stable: of one account, what was put later stands behind.
        self.0.sort_by(|a, b| a.key.cmp(&b.key));
        self.0.dedup_by(|next, kept| {
            let is_same = next.key == kept.key;
            if is_same && (keep == Keep::Last || { next.version.updated_at } >= { kept.version.updated_at }) {
                kept.version = next.version;
            }
            is_same
        });
        self.0.retain(|entry| { entry.version.updated_at } != NONE);
    }

    fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<ListedVersion>
    where
        K: std::borrow::Borrow<Q>,
    {
        let found = self.0.binary_search_by(|entry| entry.key.borrow().cmp(key)).ok()?;
        self.0[found].version.version()
    }
}

fn merge_entries<K: Ord>(
    ours: &Entries<K>,
    theirs: &Entries<K>,
    mut each: impl FnMut(&K, Option<ListedVersion>, Option<ListedVersion>),
) {
    let (mut ours, mut theirs) = (ours.0.iter().peekable(), theirs.0.iter().peekable());
    loop {
        let order = match (ours.peek(), theirs.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(our), Some(their)) => our.key.cmp(&their.key),
        };
        let our = ours.next_if(|_| order.is_le());
        let their = theirs.next_if(|_| order.is_ge());
        if let Some(entry) = our.or(their) {
            let version = |entry: Option<&TableEntry<K>>| entry.and_then(|entry| entry.version.version());
            each(&entry.key, version(our), version(their));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn version(updated_at: i64, digest: u64) -> ListedVersion {
        ListedVersion {
            updated_at,
            digest: Digest(digest),
        }
    }

    fn id(number: u8) -> String {
        // Every third one is no Mongo id.
        if number.is_multiple_of(3) {
            format!("key-{number}")
        } else {
            format!("{number:024x}")
        }
    }

    fn content(table: &Table) -> BTreeMap<String, ListedVersion> {
        let mut content = BTreeMap::new();
        merge(table, &Table::new(Keep::Last), |key, version, none| {
            assert_eq!(none, None);
            let before = content.insert(key.to_string(), version.expect("it is there"));
            assert_eq!(before, None, "{key} twice");
        });
        content
    }

    #[test]
    fn an_account_takes_28_bytes() {
        assert_eq!(size_of::<TableEntry<[u8; 12]>>(), 28);
    }

    #[test]
    fn a_table_that_is_put_into_a_million_times_holds_no_more_than_its_accounts() {
        let mut table = Table::new(Keep::Last);
        for round in 0..200 {
            for number in 0..5_000 {
                table.put(&format!("{number:024x}"), Some(version(round, 1)));
            }
        }
        assert!(
            table.by_object_id.0.capacity() <= 2 * 5_000,
            "{}",
            table.by_object_id.0.capacity()
        );
        table.settle();
        assert_eq!(table.len(), 5_000);
        assert!(content(&table).values().all(|version| version.updated_at == 199));
    }

    proptest! {
        #[test]
        fn a_table_is_what_a_map_is(puts in vec((0u8..20, -3i64..3, 0u64..3, any::<bool>()), 0..200)) {
            let (mut last, mut highest) = (Table::new(Keep::Last), Table::new(Keep::Highest));
            let (mut last_map, mut highest_map) = (BTreeMap::new(), BTreeMap::<String, ListedVersion>::new());
            for (number, updated_at, digest, is_gone) in puts {
                let (id, version) = (id(number), version(updated_at, digest));
                last.put(&id, (!is_gone).then_some(version));
                highest.put(&id, Some(version));
                if is_gone {
                    last_map.remove(&id);
                } else {
                    last_map.insert(id.clone(), version);
                }
                if highest_map.get(&id).is_none_or(|before| before.updated_at <= updated_at) {
                    highest_map.insert(id, version);
                }
            }
            last.settle();
            highest.settle();
            prop_assert_eq!(last.len(), last_map.len());
            prop_assert_eq!(&content(&last), &last_map);
            prop_assert_eq!(&content(&highest), &highest_map);
            for number in 0..20 {
                let id = id(number);
                prop_assert_eq!(last.get(&Key::new(&id)), last_map.get(&id).copied());
            }
            // Both sides of every account, once.
            let mut seen = BTreeMap::new();
            merge(&highest, &last, |key, ours, theirs| {
                assert!(seen.insert(key.to_string(), (ours, theirs)).is_none());
            });
            for (id, (ours, theirs)) in &seen {
                prop_assert_eq!(*ours, highest_map.get(id).copied());
                prop_assert_eq!(*theirs, last_map.get(id).copied());
            }
            prop_assert_eq!(seen.len(), highest_map.len());
        }
    }
}
