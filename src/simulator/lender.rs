//! What does one lender have: credentials, rows, and the changes to them?

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use fastrand::Rng;

use super::clock::Clock;
use super::rows::{Generator, Origin, RowKind};
use super::store::{Row, Store};
use super::{LenderInfo, LenderOptions, StoredRow};

const NOT_POISONED: &str = "nothing panics while it holds the lock";

/// What decides about logins and tokens.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) password: String,
    pub(super) active: bool,
    /// Tokens of earlier generations are revoked.
    pub(super) token_generation: u64,
    pub(super) refresh_generation: u64,
}

/// What happens by itself, a second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    pub(super) change: f64,
    pub(super) insert: f64,
    pub(super) delete: f64,
}

#[derive(Debug)]
pub(super) struct Lender {
    pub(super) subdomain: String,
    pub(super) public_id: String,
    pub(super) email: String,
    pub(super) rates: Rates,
    access: Mutex<Access>,
    generator: Generator,
    data: RwLock<Data>,
}

#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) store: Store,
    /// The `_id` of each generated row, among them some that are gone.
    generated: Vec<Arc<str>>,
    next_index: u32,
}

impl Data {
    /// Takes a row out; whether there was one.
    pub(super) fn remove(&mut self, id: &str) -> bool {
        let removed = self.store.remove(id);
        // So that a draw hits a row that is there at least every other time, however long rows come and go.
        if self.generated.len() > 2 * self.store.len() {
            let store = &self.store;
            self.generated.retain(|id| store.get(id).is_some());
        }
        removed
    }
}

impl Lender {
    /// Renders the seeded rows: seconds of work for a million of them.
    pub(super) fn new(seed: u64, options: &LenderOptions) -> Self {
        let lender = Self {
            subdomain: options.subdomain.clone(),
            public_id: options.public_id.clone(),
            email: options.email.clone(),
            rates: Rates {
                change: options.change_rate,
                insert: options.insert_rate,
                delete: options.delete_rate,
            },
            access: Mutex::new(Access {
                password: options.password.clone(),
                active: true,
                token_generation: 0,
                refresh_generation: 0,
            }),
            generator: Generator::new(seed, options),
            data: RwLock::default(),
        };
        let mut data = lender.write();
        for (updated_at_ms, origin) in lender.generator.seeded(options) {
            lender.add(&mut data, origin, updated_at_ms);
        }
        drop(data);
        lender
    }

    pub(super) fn access(&self) -> MutexGuard<'_, Access> {
        self.access.lock().expect(NOT_POISONED)
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Data> {
        self.data.read().expect(NOT_POISONED)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Data> {
        self.data.write().expect(NOT_POISONED)
    }

    pub(super) fn info(&self) -> LenderInfo {
        LenderInfo {
            subdomain: self.subdomain.clone(),
            public_id: self.public_id.clone(),
            email: self.email.clone(),
            password: self.access().password.clone(),
        }
    }

    pub(super) fn rows(&self) -> Vec<StoredRow> {
        self.read()
            .store
            .iter()
            .map(|((updated_at_ms, id), row)| StoredRow {
                id: id.to_string(),
                updated_at_ms: *updated_at_ms,
                json: row.json.to_string(),
                kind: self.kind(row),
            })
            .collect()
    }

    pub(super) fn kind(&self, row: &Row) -> RowKind {
        row.origin
            .map_or(RowKind::Given, |origin| self.generator.kind(origin.index))
    }

    /// Changes up to `count` different accounts, now; fewer if there are fewer. Bad rows and rows that a test wrote stay.
    ///
    /// The time is taken under the lock: a row never appears behind one that a walk has already been given.
    pub(super) fn touch(&self, clock: &Clock, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        let is_bad = |origin: &Origin| matches!(self.generator.kind(origin.index), RowKind::Bad(_));
        let drawn = draw(&data, count, rng, |origin| !is_bad(origin));
        let changed = drawn.into_iter().map(|(id, origin)| {
            let origin = Origin {
                version: origin.version.wrapping_add(1),
                ..origin
            };
            data.store.put(id.clone(), now_ms, self.row(origin, now_ms));
            id.to_string()
        });
        changed.collect()
    }

    /// Takes up to `count` generated rows out, without a trace; bad ones too.
    pub(super) fn delete(&self, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let drawn = draw(&data, count, rng, |_| true);
        let deleted = drawn.into_iter().map(|(id, _)| {
            data.remove(&id);
            id.to_string()
        });
        deleted.collect()
    }

    /// Adds `count` new accounts, now.
    pub(super) fn insert(&self, clock: &Clock, count: usize) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        (0..count)
            .map(|_| {
                let origin = Origin {
                    index: data.next_index,
                    version: 0,
                    created_at_ms: now_ms,
                };
                self.add(&mut data, origin, now_ms).to_string()
            })
            .collect()
    }

    fn add(&self, data: &mut Data, origin: Origin, updated_at_ms: i64) -> Arc<str> {
        let id: Arc<str> = self.generator.id(&origin).into();
        data.next_index = origin.index.wrapping_add(1);
        data.generated.push(id.clone());
        data.store
            .put(id.clone(), updated_at_ms, self.row(origin, updated_at_ms));
        id
    }

    fn row(&self, origin: Origin, updated_at_ms: i64) -> Row {
        Row {
            json: self.generator.render(&origin, updated_at_ms).into(),
            origin: Some(origin),
        }
    }
}

/// Up to `count` different generated rows that are there and fit, at random. Each draw takes the same time, also when few are left.
fn draw(data: &Data, count: usize, rng: &mut Rng, fits: impl Fn(&Origin) -> bool) -> Vec<(Arc<str>, Origin)> {
    // A shuffle that is not written down: only the places that it would have changed.
    let mut moved = HashMap::new();
    let mut drawn = Vec::new();
    for last in (0..data.generated.len()).rev() {
        if drawn.len() == count {
            break;
        }
        let at = rng.usize(..=last);
        let of_last = moved.get(&last).copied().unwrap_or(last);
        let place = moved.insert(at, of_last).unwrap_or(at);
        let id = &data.generated[place];
        let origin = data.store.get(id).and_then(|row| row.origin);
        if let Some(origin) = origin.filter(&fits) {
            drawn.push((id.clone(), origin));
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn touched_accounts_are_different_ones_and_move_to_now() {
        let options = LenderOptions {
            rows: 50,
            bad_rate: 0.3,
            ..LenderOptions::numbered(1)
        };
        let lender = Lender::new(1, &options);
        let clock = Clock::default();
        let started_ms = clock.now_ms();
        let before = lender.rows();
        let bad = before.iter().filter(|row| matches!(row.kind, RowKind::Bad(_))).count();
        assert!(bad > 0);
        let ids = lender.touch(&clock, 1_000, &mut Rng::with_seed(1));
        assert_eq!(ids.len(), 50 - bad);
        assert_eq!(ids.iter().collect::<HashSet<_>>().len(), ids.len());
        for row in lender.rows().iter().filter(|row| ids.contains(&row.id)) {
            assert!(row.updated_at_ms >= started_ms);
            assert!(before.iter().all(|old| old.json != row.json));
        }
        assert_eq!(lender.insert(&clock, 2).len(), 2);
        assert_eq!(lender.read().store.len(), 52);
    }

    #[test]
    fn deleted_rows_are_gone_and_their_ids_are_not_given_again() {
        let lender = Lender::new(1, &LenderOptions::numbered(1));
        let clock = Clock::default();
        let mut rng = Rng::with_seed(1);
        let mut seen: HashSet<_> = lender.rows().into_iter().map(|row| row.id).collect();
        for _ in 0..20 {
            let deleted = lender.delete(100, &mut rng);
            assert_eq!(deleted.iter().collect::<HashSet<_>>().len(), 100);
            assert!(deleted.iter().all(|id| lender.read().store.get(id).is_none()));
            for id in lender.insert(&clock, 100) {
                assert!(seen.insert(id));
            }
        }
        assert_eq!(lender.read().store.len(), 1_000);
        assert!(lender.read().generated.len() <= 2_000);
        assert_eq!(lender.touch(&clock, 5_000, &mut rng).len(), 1_000);
        assert_eq!(lender.delete(5_000, &mut rng).len(), 1_000);
        assert_eq!(lender.delete(1, &mut rng).len(), 0);
    }

    #[test]
    fn a_draw_follows_from_the_seed_and_hits_every_row() {
        let lender = Lender::new(1, &LenderOptions::numbered(1));
        let data = lender.read();
        let draw = |seed| super::draw(&data, 10, &mut Rng::with_seed(seed), |_| true);
        assert_eq!(draw(1), draw(1));
        let hit: HashSet<_> = (0..2_000).flat_map(draw).map(|(id, _)| id).collect();
        assert_eq!(hit.len(), 1_000);
    }
}
