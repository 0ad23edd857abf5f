//! What does one lender have: credentials, rows, and the changes to them?

use std::collections::HashSet;
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

#[derive(Debug)]
pub(super) struct Lender {
    pub(super) subdomain: String,
    pub(super) public_id: String,
    pub(super) email: String,
    /// Live changes a second.
    pub(super) change_rate: f64,
    access: Mutex<Access>,
    generator: Generator,
    data: RwLock<Data>,
}

/// Rows, and by index the `_id` of each that was generated.
#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) store: Store,
    generated: Vec<Arc<str>>,
}

impl Lender {
    /// Renders the seeded rows: seconds of work for a million of them.
    pub(super) fn new(seed: u64, options: &LenderOptions) -> Self {
        let lender = Self {
            subdomain: options.subdomain.clone(),
            public_id: options.public_id.clone(),
            email: options.email.clone(),
            change_rate: options.change_rate,
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
                kind: row
                    .origin
                    .map_or(RowKind::Given, |origin| self.generator.kind(origin.index)),
            })
            .collect()
    }

    /// Changes up to `count` different accounts, now; fewer if there are fewer. Bad rows and rows that a test wrote stay.
    ///
    /// The time is taken under the lock: a row never appears behind one that a walk has already been given.
    pub(super) fn touch(&self, clock: &Clock, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        let mut changed = HashSet::new();
        let mut ids = Vec::new();
        for _ in 0..count {
            let Some((id, origin)) = self.next_unchanged(&data, &changed, rng) else {
                break;
            };
            let origin = Origin {
                version: origin.version.wrapping_add(1),
                ..origin
            };
            data.store.put(id.clone(), now_ms, self.row(origin, now_ms));
            ids.push(id.to_string());
            changed.insert(origin.index);
        }
        ids
    }

    /// Adds `count` new accounts, now.
    pub(super) fn insert(&self, clock: &Clock, count: usize) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        (0..count)
            .map(|_| {
                let origin = Origin {
                    index: u32::try_from(data.generated.len()).expect("fewer than 2^32 rows"),
                    version: 0,
                    created_at_ms: now_ms,
                };
                self.add(&mut data, origin, now_ms).to_string()
            })
            .collect()
    }

    fn add(&self, data: &mut Data, origin: Origin, updated_at_ms: i64) -> Arc<str> {
        let id: Arc<str> = self.generator.id(&origin).into();
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

    /// The first account from a random place on that can change and has not yet.
    fn next_unchanged(&self, data: &Data, changed: &HashSet<u32>, rng: &mut Rng) -> Option<(Arc<str>, Origin)> {
        let total = data.generated.len();
        let start = rng.usize(..total.max(1));
        (0..total).find_map(|step| {
            let id = &data.generated[(start + step) % total];
            let origin = data.store.get(id)?.origin?;
            let sound = !matches!(self.generator.kind(origin.index), RowKind::Bad(_));
            (sound && !changed.contains(&origin.index)).then(|| (id.clone(), origin))
        })
    }
}

#[cfg(test)]
mod tests {
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
}
