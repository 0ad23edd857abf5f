//! What does one lender have: credentials, rows, and the changes to them?

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::clock::{Clock, millis};
use super::options::LenderOptions;
use super::rows::{Generator, Origin, RowKind};
use super::store::{Filter, Key, Row, Store};
use super::view::{LenderInfo, StoredRow};

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
    pub(super) late: f64,
    pub(super) late_by: Duration,
    pub(super) ahead: f64,
    pub(super) ahead_by: Duration,
}

impl Rates {
    pub(super) fn are_any(&self) -> bool {
        self.change + self.insert + self.delete + self.late + self.ahead > 0.0
    }
}

#[derive(Debug)]
pub(super) struct Lender {
    pub(super) subdomain: String,
    pub(super) public_id: String,
    pub(super) email: String,
    pub(super) rates: Rates,
    /// A late change has come, perhaps the next that is due.
    pub(super) late_came: Notify,
    access: Mutex<Access>,
    generator: Generator,
    data: RwLock<Data>,
}

#[derive(Debug, Default)]
pub(super) struct Data {
    pub(super) store: Store,
    /// As it was at a moment that somebody chose: what a standby that is behind, or a restored backup, would show.
    copy: Option<Store>,
    /// The `_id` of each generated row, among them some that are gone.
    generated: Vec<Arc<str>>,
    next_index: u32,
    /// What is not visible yet, by the time when it will be; the number tells those of one moment apart.
    late: BTreeMap<(Instant, u64), Late>,
    next_late: u64,
}

/// A change that is not visible yet.
#[derive(Debug)]
struct Late {
    id: Arc<str>,
    /// What the account was when it was changed: if it is something else meanwhile, the change is dropped.
    origin: Origin,
    updated_at_ms: i64,
}

impl Data {
    pub(super) fn late_count(&self) -> usize {
        self.late.len()
    }

    /// Keeps the rows as they are now; gives how many.
    pub(super) fn keep_copy(&mut self) -> usize {
        self.copy.insert(self.store.clone()).len()
    }

    /// The rows as they were kept; as they are, if they never were.
    pub(super) fn old(&self) -> &Store {
        self.copy.as_ref().unwrap_or(&self.store)
    }

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
                late: options.late_rate,
                late_by: options.late_by,
                ahead: options.ahead_rate,
                ahead_by: options.ahead_by,
            },
            late_came: Notify::new(),
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

    /// Changes up to `count` different accounts, now; fewer if there are fewer. Bad rows, rows that a test wrote and rows that
    /// are dated ahead stay.
    ///
    /// The time is taken under the lock: a row never appears behind one that a walk has already been given.
    pub(super) fn touch(&self, clock: &Clock, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        self.change(&mut data, count, now_ms, now_ms, rng)
    }

    /// As `touch`, but dated `by` later than now.
    pub(super) fn change_ahead(&self, clock: &Clock, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let now_ms = clock.now_ms();
        self.change(&mut data, count, now_ms, now_ms.saturating_add(millis(by)), rng)
    }

    /// As `touch`, but each change is visible only after a random time of up to `by`: a row then appears behind others.
    pub(super) fn change_late(&self, clock: &Clock, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let (now, now_ms) = (Instant::now(), clock.now_ms());
        let most_ms = millis(by).unsigned_abs();
        let mut ids = Vec::new();
        for (id, origin) in self.draw_accounts(&data, count, now_ms, rng) {
            ids.push(id.to_string());
            let due = now + Duration::from_millis(rng.u64(0..=most_ms));
            let number = data.next_late;
            data.next_late += 1;
            let late = Late {
                id,
                origin,
                updated_at_ms: now_ms,
            };
            data.late.insert((due, number), late);
        }
        drop(data);
        self.late_came.notify_one();
        ids
    }

    /// Makes up to `most` late changes visible that are due. Gives how many became so, and when the next one is due.
    pub(super) fn reveal(&self, now: Instant, most: usize) -> (u64, Option<Instant>) {
        let mut data = self.write();
        let mut count = 0;
        for _ in 0..most {
            let Some(next) = data.late.first_entry().filter(|next| next.key().0 <= now) else {
                break;
            };
            let late = next.remove();
            let stands = data.store.get(&late.id).and_then(|(_, row)| row.origin) == Some(late.origin);
            if stands {
                self.put_next(&mut data, late.id, late.origin, late.updated_at_ms);
                count += 1;
            }
        }
        (count, data.late.keys().next().map(|(due, _)| *due))
    }

    fn change(&self, data: &mut Data, count: usize, now_ms: i64, updated_at_ms: i64, rng: &mut Rng) -> Vec<String> {
        let drawn = self.draw_accounts(data, count, now_ms, rng);
        let changed = drawn.into_iter().map(|(id, origin)| {
            self.put_next(data, id.clone(), origin, updated_at_ms);
            id.to_string()
        });
        changed.collect()
    }

    /// Accounts whose time has come: a change never makes `updated_at` go back.
    fn draw_accounts(&self, data: &Data, count: usize, now_ms: i64, rng: &mut Rng) -> Vec<(Arc<str>, Origin)> {
        let is_bad = |origin: &Origin| matches!(self.generator.kind(origin.index), RowKind::Bad(_));
        draw(data, count, rng, |updated_at_ms, origin| {
            updated_at_ms <= now_ms && !is_bad(origin)
        })
    }

    fn put_next(&self, data: &mut Data, id: Arc<str>, origin: Origin, updated_at_ms: i64) {
        let origin = Origin {
            version: origin.version.wrapping_add(1),
            ..origin
        };
        data.store.put(id, updated_at_ms, self.row(origin, updated_at_ms));
    }

    /// Takes up to `count` generated rows out, without a trace; bad ones too.
    pub(super) fn delete(&self, count: usize, rng: &mut Rng) -> Vec<String> {
        let mut data = self.write();
        let drawn = draw(&data, count, rng, |_, _| true);
        let deleted = drawn.into_iter().map(|(id, _)| {
            data.remove(&id);
            id.to_string()
        });
        deleted.collect()
    }

    /// Takes out up to `count` generated rows that a walk reaches after its next page, the nearest first. Gives how many.
    pub(super) fn vanish(&self, filter: &Filter, after: Option<&Key>, limit: usize, count: usize) -> u64 {
        let mut data = self.write();
        let ahead = data.store.rest(filter, after).skip(limit);
        let generated = ahead.filter(|(_, row)| row.origin.is_some());
        let ids: Vec<_> = generated.map(|((_, id), _)| id.clone()).take(count).collect();
        for id in &ids {
            data.remove(id);
        }
        ids.len() as u64
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
fn draw(data: &Data, count: usize, rng: &mut Rng, fits: impl Fn(i64, &Origin) -> bool) -> Vec<(Arc<str>, Origin)> {
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
        let origin = data.store.get(id).and_then(|(updated_at_ms, row)| {
            let origin = row.origin?;
            fits(updated_at_ms, &origin).then_some(origin)
        });
        if let Some(origin) = origin {
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

    fn of_50_rows() -> (Lender, Clock, Rng) {
        let options = LenderOptions {
            rows: 50,
            tie_groups: vec![],
            ..LenderOptions::numbered(1)
        };
        (Lender::new(1, &options), Clock::default(), Rng::with_seed(1))
    }

    #[test]
    fn a_late_change_is_seen_when_its_time_has_come_and_dated_before() {
        let (lender, clock, mut rng) = of_50_rows();
        let before = lender.rows();
        let (begun, by) = (Instant::now(), Duration::from_secs(3_600));
        let ids = lender.change_late(&clock, 20, by, &mut rng);
        let changed_ms = clock.now_ms();
        assert_eq!(lender.reveal(begun, 50).0, 0);
        assert_eq!(lender.rows(), before);
        let over = Instant::now() + by;
        let (count, next) = lender.reveal(over, 15);
        assert!(count == 15 && next.is_some_and(|next| begun <= next && next <= over));
        assert_eq!(lender.reveal(over, 15), (5, None));
        let (old, new): (Vec<_>, Vec<_>) = lender.rows().into_iter().partition(|row| before.contains(row));
        assert_eq!((old.len(), new.len()), (30, 20));
        assert!(
            new.iter()
                .all(|row| ids.contains(&row.id) && row.updated_at_ms <= changed_ms)
        );
    }

    #[test]
    fn a_late_change_is_dropped_if_its_account_has_changed_or_gone() {
        let (lender, clock, mut rng) = of_50_rows();
        let by = Duration::from_secs(3_600);
        for _ in 0..2 {
            assert_eq!(lender.change_late(&clock, 50, by, &mut rng).len(), 50);
        }
        // So that a change that was not dropped would go back.
        clock.set_skew_ms(60_000);
        let mut overtaken: HashSet<_> = lender.touch(&clock, 20, &mut rng).into_iter().collect();
        let touched: Vec<_> = lender
            .rows()
            .into_iter()
            .filter(|row| overtaken.contains(&row.id))
            .collect();
        let (gone, stayed): (Vec<_>, Vec<_>) = {
            let deleted = lender.delete(10, &mut rng);
            touched.into_iter().partition(|row| deleted.contains(&row.id))
        };
        let left = lender.rows();
        assert_eq!((left.len(), gone.len() + stayed.len()), (40, 20));
        overtaken.retain(|id| left.iter().any(|row| row.id == *id));
        let (count, next) = lender.reveal(Instant::now() + by, 1_000);
        assert_eq!((count, next), (40 - overtaken.len() as u64, None));
        let rows = lender.rows();
        assert_eq!(rows.len(), 40);
        assert!(stayed.iter().all(|row| rows.contains(row)));
    }

    #[test]
    fn an_account_that_is_dated_ahead_is_not_changed_before_that_time() {
        let (lender, clock, mut rng) = of_50_rows();
        let (begun_ms, hour) = (clock.now_ms(), Duration::from_secs(3_600));
        let ids = lender.change_ahead(&clock, 10, hour, &mut rng);
        let ahead: Vec<_> = lender.rows().into_iter().filter(|row| ids.contains(&row.id)).collect();
        assert!(ahead.len() == 10 && ahead.iter().all(|row| row.updated_at_ms >= begun_ms + 3_600_000));
        for changed in [
            lender.change_ahead(&clock, 0, hour, &mut rng),
            lender.change_late(&clock, 50, hour, &mut rng),
            lender.touch(&clock, 50, &mut rng),
        ] {
            assert!(changed.iter().all(|id| !ids.contains(id)));
        }
        assert!(ahead.iter().all(|row| lender.rows().contains(row)));
        clock.set_skew_ms(7_200_000);
        assert_eq!(lender.touch(&clock, 50, &mut rng).len(), 50);
    }

    #[test]
    fn what_vanishes_is_right_behind_the_page_and_was_generated() {
        let (lender, ..) = of_50_rows();
        let before = lender.rows();
        let key = |at: usize| (before[at].updated_at_ms, Arc::from(&*before[at].id));
        let given = Row {
            json: "{}".into(),
            origin: None,
        };
        let (at_ms, id) = key(11);
        lender.write().store.put(id, at_ms, given);
        let mut filter = Filter {
            since: None,
            until: None,
            descending: false,
        };
        let gone = || {
            let rows = lender.rows();
            let gone = |at: &usize| rows.iter().all(|row| row.id != before[*at].id);
            (0..50).filter(gone).collect::<Vec<_>>()
        };
        assert_eq!(lender.vanish(&filter, None, 10, 2), 2);
        assert_eq!(gone(), [10, 12]);
        assert_eq!(lender.vanish(&filter, Some(&key(37)), 10, 5), 2);
        assert_eq!(gone(), [10, 12, 48, 49]);
        assert_eq!(lender.vanish(&filter, Some(&key(37)), 10, 5), 0);
        filter.descending = true;
        filter.since = Some(before[5].updated_at_ms);
        assert_eq!(lender.vanish(&filter, Some(&key(9)), 3, 5), 1);
        assert_eq!(gone(), [5, 10, 12, 48, 49]);
    }

    #[test]
    fn a_draw_follows_from_the_seed_and_hits_every_row() {
        let lender = Lender::new(1, &LenderOptions::numbered(1));
        let data = lender.read();
        let draw = |seed| super::draw(&data, 10, &mut Rng::with_seed(seed), |_, _| true);
        assert_eq!(draw(1), draw(1));
        let hit: HashSet<_> = (0..2_000).flat_map(draw).map(|(id, _)| id).collect();
        assert_eq!(hit.len(), 1_000);
    }
}
