//! What does a batch write, before it is known to be committed?

use hashbrown::HashTable;

use super::key::HashedKey;
use super::version::Held;
use crate::account::Content;
use crate::clock::Tick;

/// The accounts that one batch writes, not yet known to be committed.
#[derive(Debug, Default)]
pub(crate) struct PendingVersions<'a> {
    pub(super) written: Vec<Written<'a>>,
    /// Where in `written` an account stands, by its hash.
    places: HashTable<u32>,
    /// What was shown again as it is held, and when that was received.
    pub(super) repeated: Vec<(HashedKey, Tick)>,
    pub(super) deleted: Vec<HashedKey>,
    pub(super) new_count: u64,
    pub(super) checksum: u64,
}

#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) key: HashedKey,
    pub(super) held: Held,
    pub(super) content: Option<Content<'a>>,
}

impl<'a> PendingVersions<'a> {
    pub(super) fn find(&self, key: &HashedKey) -> Option<usize> {
        let is_it = |place: &u32| self.written[*place as usize].key.key == key.key;
        self.places.find(key.hash, is_it).map(|place| *place as usize)
    }

    /// `place`: where the account stands already.
    pub(super) fn put(&mut self, place: Option<usize>, version: Written<'a>) {
        let Some(place) = place else {
            let (written, place) = (&self.written, self.written.len() as u32);
            let hash = |place: &u32| written[*place as usize].key.hash;
            self.places.insert_unique(version.key.hash, place, hash);
            return self.written.push(version);
        };
        self.written[place] = version;
    }
}
