//! Which accounts were deleted? Keys that have had a tombstone, as long as that matters; also where the account was written again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::key::Key;
use crate::clock::Tick;

/// The deleted accounts of one lender, and those of the whole topic as a start found them.
#[derive(Debug, Default)]
pub(super) struct Tombstones {
    /// Held once for all lenders of the topic.
    restored: Option<Arc<HashSet<Key>>>,
    /// Since the start, and when each was known to be committed.
    since: HashMap<Key, Tick>,
    /// What `since` was before it was last turned.
    before: HashMap<Key, Tick>,
}

impl Tombstones {
    pub(super) fn restored(restored: Arc<HashSet<Key>>, since: HashMap<Key, Tick>) -> Self {
        let before = HashMap::new();
        let restored = Some(restored).filter(|keys| !keys.is_empty());
        Self {
            restored,
            since,
            before,
        }
    }

    /// When the last deletion of `key` was known to be committed; 0: before the start.
    pub(super) fn get(&self, key: &Key) -> Option<Tick> {
        let since = self.since.get(key).or_else(|| self.before.get(key)).copied();
        let is_restored = || self.restored.as_ref().is_some_and(|keys| keys.contains(key));
        since.or_else(|| is_restored().then_some(0))
    }

    pub(super) fn insert(&mut self, key: Key, deleted: Tick) {
        self.since.insert(key, deleted);
    }

    /// Forgets what came before it was last turned.
    pub(super) fn turn(&mut self) {
        self.before = std::mem::take(&mut self.since);
        self.restored = None;
    }

    /// Bytes that it takes; of what is shared, its part.
    pub(super) fn size(&self) -> usize {
        let own = self.since.capacity() + self.before.capacity();
        let shared = self.restored.as_ref();
        let shared = shared.map_or(0, |keys| keys.capacity() / Arc::strong_count(keys).max(1));
        own * (size_of::<(Key, Tick)>() + 1) + shared * (size_of::<Key>() + 1)
    }
}
