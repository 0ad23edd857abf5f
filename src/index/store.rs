//! What is held of millions of accounts, as small as it goes, for as long as the process runs.
//!
//! ```text
//! hash table: 4 bytes a place ─► slot of the class that fits ─► kind │ key │ updated_at │ digest │ received │ content
//! ```
//!
//! A slot is as large as what it holds, to the next four bytes; slots of one size stand in chunks, and one that is left is
//! used again. Without a content it takes about 30 bytes, with one about 75; the table 5 to 10 more.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use hashbrown::HashTable;
use twox_hash::XxHash3_64;

use super::key::{HashedKey, Key};
use super::packed::{self, Labels};
use super::schemas::{self, Schemas};
use super::version::Held;
use crate::account::{Content, Digest};
use crate::avro::WriterSchema;
use crate::clock::Tick;
use crate::varint;

/// Versions by key.
#[derive(Debug)]
pub(super) struct Store {
    places: HashTable<SlotPlace>,
    slots: Slots,
    labels: Labels,
    schemas: Schemas,
    /// So that nobody can choose keys that collide.
    seed: u64,
    scratch: Vec<u8>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            places: HashTable::new(),
            slots: Slots::default(),
            labels: Labels::default(),
            schemas: Schemas::default(),
            seed: fastrand::u64(..),
            scratch: Vec::new(),
        }
    }
}

impl Store {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Makes room in the table: one that grows leaves its smaller predecessors behind with the allocator.
    pub(super) fn reserve(&mut self, count: usize) {
        let (slots, seed) = (&self.slots, self.seed);
        self.places.reserve(count, |place| hash(seed, slots.get(*place)));
    }

    /// The one hash that everything that is asked of `key` needs.
    pub(super) fn hashed(&self, key: Key) -> HashedKey {
        let hash = XxHash3_64::oneshot_with_seed(self.seed, key.bytes());
        HashedKey { key, hash }
    }

    /// Bytes that it takes, with what is made room for.
    pub(super) fn size(&self) -> usize {
        self.places.allocation_size() + self.slots.size() + self.labels.size()
    }

    /// Where an account stands until the next one is inserted, received or removed.
    pub(super) fn find(&self, key: &HashedKey) -> Option<SlotPlace> {
        let is_it = |place: &SlotPlace| is_of(self.slots.get(*place), &key.key);
        self.places.find(key.hash, is_it).copied()
    }

    pub(super) fn held(&self, place: SlotPlace) -> Held {
        Slot::of(self.slots.get(place), &self.schemas).held
    }

    /// What is remembered of the version's content, if anything is.
    pub(super) fn content(&self, place: SlotPlace) -> Option<Content<'_>> {
        let slot = Slot::of(self.slots.get(place), &self.schemas);
        (!slot.content.is_empty()).then(|| packed::unpack(slot.content, &self.labels))
    }

    /// Gives what was held before.
    pub(super) fn insert(&mut self, key: &HashedKey, held: Held, content: Option<&Content<'_>>) -> Option<Held> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        put_key(&key.key, &mut bytes);
        bytes[0] |= if held.is_regressed { REGRESSED } else { 0 };
        bytes[0] |= if held.went_back { WENT_BACK } else { 0 };
        bytes[0] |= self.schemas.add(held.schema) << SCHEMA_SHIFT;
        varint::put(varint::zigzag(held.updated_at), &mut bytes);
        bytes.extend_from_slice(&held.digest.0.to_le_bytes());
        varint::put(held.received, &mut bytes);
        if let Some(content) = content {
            packed::pack(content, &mut self.labels, &mut bytes);
        }
        let (slots, seed) = (&mut self.slots, self.seed);
        let found = self
            .places
            .find_mut(key.hash, |place| is_of(slots.get(*place), &key.key));
        let before = match found {
            Some(place) => {
                let before = Slot::of(slots.get(*place), &self.schemas).held;
                self.schemas.remove(before.schema);
                *place = slots.replace(*place, &bytes);
                Some(before)
            }
            None => {
                let place = slots.put(&bytes);
                self.places
                    .insert_unique(key.hash, place, |place| hash(seed, slots.get(*place)));
                None
            }
        };
        self.scratch = bytes;
        before
    }

    /// What is held of the account was received once more.
    pub(super) fn receive(&mut self, key: &HashedKey, received: Tick) {
        let Some(place) = self.find(key) else { return };
        let slot = self.slots.get(place);
        let Slot {
            held,
            received_at,
            content,
        } = Slot::of(slot, &self.schemas);
        if held.received >= received {
            return;
        }
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        bytes.extend_from_slice(&slot[..received_at]);
        varint::put(received, &mut bytes);
        bytes.extend_from_slice(content);
        let moved = self.slots.replace(place, &bytes);
        if moved != place {
            let found = self.places.find_mut(key.hash, |found| *found == place);
            *found.expect("it was found above") = moved;
        }
        self.scratch = bytes;
    }

    /// Marks every account as unseen; one that is inserted is seen.
    pub(super) fn forget_seen(&mut self) {
        for place in &self.places {
            self.slots.get_mut(*place)[0] |= UNSEEN;
        }
    }

    pub(super) fn see(&mut self, key: &HashedKey) {
        if let Some(place) = self.find(key) {
            self.slots.get_mut(place)[0] &= !UNSEEN;
        }
    }

    /// How many accounts stand under which schema.
    pub(super) fn schemas(&self) -> Vec<(WriterSchema, u64)> {
        self.schemas.counted()
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.places.iter().map(|place| key_of(self.slots.get(*place)))
    }

    /// The accounts that nobody has seen.
    pub(super) fn unseen(&self) -> impl Iterator<Item = Key> {
        let slots = self.places.iter().map(|place| self.slots.get(*place));
        slots.filter(|slot| slot[0] & UNSEEN != 0).map(key_of)
    }

    /// The up to `most` accounts that were updated last, up to `until`, in no order.
    pub(super) fn newest(&self, until: i64, most: usize) -> impl Iterator<Item = (Key, i64)> {
        // The oldest of them first.
        let mut newest = BinaryHeap::new();
        for place in &self.places {
            let updated_at = Slot::of(self.slots.get(*place), &self.schemas).held.updated_at;
            if updated_at > until {
                continue;
            }
            if newest.len() < most {
                newest.push(Reverse((updated_at, place.0)));
            } else if let Some(mut oldest) = newest.peek_mut()
                && updated_at > oldest.0.0
            {
                *oldest = Reverse((updated_at, place.0));
            }
        }
        let found = newest.into_iter();
        found.map(|Reverse((updated_at, place))| (key_of(self.slots.get(SlotPlace(place))), updated_at))
    }

    /// Gives what was held.
    pub(super) fn remove(&mut self, key: &HashedKey) -> Option<Held> {
        let slots = &mut self.slots;
        let is_it = |place: &SlotPlace| is_of(slots.get(*place), &key.key);
        let found = self.places.find_entry(key.hash, is_it);
        let (place, _) = found.ok()?.remove();
        let held = Slot::of(slots.get(place), &self.schemas).held;
        self.schemas.remove(held.schema);
        slots.free(place);
        Some(held)
    }
}

/// The first byte of a slot: how its key stands there, and what else is known in a bit.
const OBJECT_ID: u8 = 0;
const TEXT: u8 = 1;
const KEY_KIND: u8 = 1;
/// Nobody has seen the account since all were marked so.
const UNSEEN: u8 = 1 << 1;
/// The version was written though a newer one was held.
const REGRESSED: u8 = 1 << 2;
/// Since the start, it or a version before it was.
const WENT_BACK: u8 = 1 << 3;
/// The bits above are the number of its schema.
const SCHEMA_SHIFT: u32 = u8::BITS - schemas::BITS;

fn put_key(key: &Key, bytes: &mut Vec<u8>) {
    match key {
        Key::ObjectId(id) => {
            bytes.push(OBJECT_ID);
            bytes.extend_from_slice(id);
        }
        Key::Other(text) => {
            bytes.push(TEXT);
            varint::put(text.len() as u64, bytes);
            bytes.extend_from_slice(text.as_bytes());
        }
    }
}

/// A slot's key, and what stands behind it.
fn split_key(slot: &[u8]) -> (&[u8], &[u8]) {
    let mut left = &slot[1..];
    let size = match slot[0] & KEY_KIND {
        OBJECT_ID => 12,
        _ => varint::take(&mut left).expect(WRITTEN_HERE) as usize,
    };
    left.split_at(size)
}

/// Whether it is that of `key`.
fn is_of(slot: &[u8], key: &Key) -> bool {
    match key {
        Key::ObjectId(id) => slot[0] & KEY_KIND == OBJECT_ID && slot[1..13] == *id,
        Key::Other(text) => slot[0] & KEY_KIND == TEXT && split_key(slot).0 == text.as_bytes(),
    }
}

fn key_of(slot: &[u8]) -> Key {
    let (bytes, _) = split_key(slot);
    if slot[0] & KEY_KIND == OBJECT_ID {
        return Key::ObjectId(bytes.try_into().expect(WRITTEN_HERE));
    }
    Key::Other(std::str::from_utf8(bytes).expect(WRITTEN_HERE).into())
}

const WRITTEN_HERE: &str = "what was packed can be unpacked";

/// Of a slot's key, as [`Store::hashed`] makes it.
fn hash(seed: u64, slot: &[u8]) -> u64 {
    XxHash3_64::oneshot_with_seed(seed, split_key(slot).0)
}

/// A slot told apart.
struct Slot<'s> {
    held: Held,
    /// Where in the slot it stands when it was received.
    received_at: usize,
    /// With what fills the slot up, and empty if it holds none.
    content: &'s [u8],
}

impl<'s> Slot<'s> {
    fn of(slot: &'s [u8], schemas: &Schemas) -> Self {
        let (_, mut left) = split_key(slot);
        let updated_at = varint::take(&mut left).map(varint::unzigzag).expect(WRITTEN_HERE);
        let (digest, rest) = left.split_first_chunk().expect(WRITTEN_HERE);
        left = rest;
        let received_at = slot.len() - left.len();
        let received = varint::take(&mut left).expect(WRITTEN_HERE);
        let held = Held {
            updated_at,
            digest: Digest(u64::from_le_bytes(*digest)),
            received,
            is_regressed: slot[0] & REGRESSED != 0,
            went_back: slot[0] & WENT_BACK != 0,
            schema: schemas.get(slot[0] >> SCHEMA_SHIFT),
        };
        // What fills a slot up is shorter than any content.
        let content = if left.len() < packed::MIN_SIZE { &[] } else { left };
        Self {
            held,
            received_at,
            content,
        }
    }
}

/// Where a slot is: its size class and its place among those of the class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotPlace(u32);

/// Sizes go up by this.
const STEP: usize = 4;

/// Larger ones are boxed, one by one.
const CLASS_COUNT: usize = 64;

/// The bits of a place that are not its class.
const PLACE_BITS: u32 = 26;

/// Bytes that are made room for at once: a size of the allocator's own, which it does not round up (ADR 0027).
const CHUNK: usize = 1 << 14;

impl SlotPlace {
    fn new(class: usize, place: usize) -> Self {
        assert!(
            place < 1 << PLACE_BITS,
            "an index holds 67 million accounts of one size at most"
        );
        Self((class as u32) << PLACE_BITS | place as u32)
    }

    fn class(self) -> usize {
        (self.0 >> PLACE_BITS) as usize
    }

    fn place(self) -> usize {
        (self.0 & ((1 << PLACE_BITS) - 1)) as usize
    }

    /// Of a class that is not boxed: the chunk, and where the slot stands in it.
    fn stretch(self) -> (usize, Range<usize>) {
        let (place, size) = (self.place(), self.class() * STEP);
        let per_chunk = CHUNK / size;
        let start = place % per_chunk * size;
        (place / per_chunk, start..start + size)
    }
}

#[derive(Debug)]
struct Slots {
    /// By class; that of 0 bytes has none.
    classes: Vec<Class>,
    large: Vec<Box<[u8]>>,
    large_free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Class {
    chunks: Vec<Box<[u8]>>,
    count: usize,
    free: Vec<u32>,
}

impl Default for Slots {
    fn default() -> Self {
        Self {
            classes: std::iter::repeat_with(Class::default).take(CLASS_COUNT).collect(),
            large: Vec::new(),
            large_free: Vec::new(),
        }
    }
}

/// 0: it is boxed.
fn class_of(size: usize) -> usize {
    let class = size.div_ceil(STEP);
    if class < CLASS_COUNT { class } else { 0 }
}

impl Slots {
    fn get(&self, place: SlotPlace) -> &[u8] {
        let class = place.class();
        if class == 0 {
            return &self.large[place.place()];
        }
        let (chunk, stretch) = place.stretch();
        &self.classes[class].chunks[chunk][stretch]
    }

    fn get_mut(&mut self, place: SlotPlace) -> &mut [u8] {
        let class = place.class();
        if class == 0 {
            return &mut self.large[place.place()];
        }
        let (chunk, stretch) = place.stretch();
        &mut self.classes[class].chunks[chunk][stretch]
    }

    fn size(&self) -> usize {
        let chunks = self.classes.iter().map(|class| class.chunks.len() * CHUNK);
        let free = self
            .classes
            .iter()
            .map(|class| class.free.capacity() * size_of::<u32>());
        let boxed = self.large.iter().map(|slot| slot.len() + size_of_val(slot));
        chunks.sum::<usize>() + free.sum::<usize>() + boxed.sum::<usize>()
    }

    fn put(&mut self, bytes: &[u8]) -> SlotPlace {
        let class = class_of(bytes.len());
        if class == 0 {
            let place = match self.large_free.pop() {
                Some(place) => place as usize,
                None => {
                    self.large.push(Box::default());
                    self.large.len() - 1
                }
            };
            self.large[place] = bytes.into();
            return SlotPlace::new(class, place);
        }
        let slots = &mut self.classes[class];
        let place = match slots.free.pop() {
            Some(place) => place as usize,
            None => {
                if slots.count == slots.chunks.len() * (CHUNK / (class * STEP)) {
                    slots.chunks.push(vec![0; CHUNK].into_boxed_slice());
                }
                slots.count += 1;
                slots.count - 1
            }
        };
        let place = SlotPlace::new(class, place);
        self.fill(place, bytes);
        place
    }

    /// In its place, if it fits.
    fn replace(&mut self, place: SlotPlace, bytes: &[u8]) -> SlotPlace {
        if place.class() != 0 && place.class() == class_of(bytes.len()) {
            self.fill(place, bytes);
            return place;
        }
        self.free(place);
        self.put(bytes)
    }

    fn fill(&mut self, place: SlotPlace, bytes: &[u8]) {
        let slot = self.get_mut(place);
        slot[..bytes.len()].copy_from_slice(bytes);
        slot[bytes.len()..].fill(0);
    }

    fn free(&mut self, place: SlotPlace) {
        let (class, place) = (place.class(), place.place());
        if class == 0 {
            self.large[place] = Box::default();
            self.large_free.push(place as u32);
        } else {
            self.classes[class].free.push(place as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;
    use crate::account::contents;

    fn keys() -> impl Strategy<Value = Key> {
        prop_oneof![
            (0u8..6).prop_map(|last| Key::ObjectId([last; 12])),
            (0usize..3, 0u8..3).prop_map(|(size, last)| {
                let size = [1, 60, 400][size];
                Key::Other(format!("{last}{}", "x".repeat(size)).into())
            }),
        ]
    }

    type Entry = (Held, Option<Content<'static>>);

    proptest! {
        #[test]
        fn it_holds_what_a_map_holds_whatever_comes_and_goes(
            steps in prop::collection::vec((keys(), 0u8..9, any::<i64>(), 0u64..1 << 40, prop::option::of(contents())), 0..200)
        ) {
            let (mut store, mut map) = (Store::default(), HashMap::<Key, Entry>::new());
            let mut unseen = HashSet::new();
            for (key, step, updated_at, received, content) in steps {
                if step == 7 {
                    store.forget_seen();
                    unseen = map.keys().cloned().collect();
                    continue;
                }
                if step != 8 {
                    unseen.remove(&key);
                }
                let (digest, is_regressed, went_back) = (Digest(updated_at as u64 ^ 7), step == 3, step >= 2);
                let schema = [WriterSchema::Unknown, WriterSchema::Id(7), WriterSchema::Fingerprint([1; 8])][(received % 3) as usize];
                match step {
                    0..=3 => {
                        let held = Held { updated_at, digest, received, is_regressed, went_back, schema };
                        let before = store.insert(&store.hashed(key.clone()), held, content.as_ref());
                        prop_assert_eq!(before, map.insert(key, (held, content)).map(|(held, _)| held));
                    }
                    4 => store.see(&store.hashed(key)),
                    8 => {
                        store.receive(&store.hashed(key.clone()), received);
                        if let Some((held, _)) = map.get_mut(&key) {
                            held.received = held.received.max(received);
                        }
                    }
                    _ => {
                        let hashed = store.hashed(key.clone());
                        prop_assert_eq!(store.remove(&hashed), map.remove(&key).map(|(held, _)| held));
                        prop_assert_eq!(store.find(&hashed), None);
                    }
                }
            }
            prop_assert_eq!(store.unseen().collect::<HashSet<_>>(), unseen);
            prop_assert_eq!(store.len(), map.len());
            let mut times: Vec<_> = map.values().map(|(held, _)| held.updated_at).filter(|at| *at <= 0).collect();
            times.sort_unstable_by_key(|at| Reverse(*at));
            times.truncate(3);
            let mut newest: Vec<_> = store.newest(0, 3).collect();
            newest.sort_unstable_by_key(|(_, at)| Reverse(*at));
            prop_assert!(newest.iter().all(|(key, at)| map[key].0.updated_at == *at));
            prop_assert_eq!(newest.into_iter().map(|(_, at)| at).collect::<Vec<_>>(), times);
            let mut schemas = HashMap::new();
            map.values().for_each(|(held, _)| *schemas.entry(held.schema).or_insert(0) += 1);
            prop_assert_eq!(store.schemas().into_iter().collect::<HashMap<_, _>>(), schemas);
            for (key, (held, content)) in &map {
                let place = store.find(&store.hashed(key.clone())).expect("it is held");
                prop_assert_eq!(store.held(place), *held);
                prop_assert_eq!(store.content(place), content.clone());
            }
        }
    }

    #[test]
    fn a_slot_that_is_left_is_used_again() {
        let mut store = Store::default();
        let held = |received| Held {
            updated_at: 1_780_000_000_000,
            digest: Digest(1),
            received,
            is_regressed: false,
            went_back: false,
            schema: WriterSchema::Id(1),
        };
        for round in 0..10_000 {
            // Of another size each time.
            store.insert(&store.hashed(Key::ObjectId([1; 12])), held(1 << (round % 40)), None);
            let long = store.hashed(Key::Other("y".repeat(300 + round % 7).into()));
            store.insert(&long, held(0), None);
            store.remove(&long);
        }
        assert_eq!((store.len(), store.slots.large.len()), (1, 1));
        assert!(store.slots.classes.iter().all(|class| class.count <= 1));
    }

    #[test]
    fn more_schemas_than_are_told_apart_count_as_unknown_ones() {
        let mut store = Store::default();
        for number in 0..100_u32 {
            let held = Held {
                updated_at: 1,
                digest: Digest(1),
                received: 0,
                is_regressed: true,
                went_back: true,
                schema: WriterSchema::Id(number),
            };
            store.insert(&store.hashed(Key::new(&number.to_string())), held, None);
        }
        let schemas = store.schemas();
        assert_eq!(schemas[0], (WriterSchema::Unknown, 100 - 15));
        assert_eq!(schemas.len(), 16);
        let of = |number: u32| {
            let place = store.find(&store.hashed(Key::new(&number.to_string())))?;
            let held = store.held(place);
            Some((held.schema, held.is_regressed))
        };
        assert_eq!(of(14), Some((WriterSchema::Id(14), true)));
        assert_eq!(of(15), Some((WriterSchema::Unknown, true)));
    }
}
