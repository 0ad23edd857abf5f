//! The first look at everything, and the further ones at what differed.
//!
//! A look reads upstream first and the topics after it, each to its end of that moment: so what a source had written when
//! upstream showed it is seen, and what it writes later is never missed by the next look.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use super::finding::{FindingKind, Look, UpstreamSide, finding};
use super::found::{Counted, DeadRowFinding, Findings, Listed};
use super::repair::{Cursor, Need, Repair};
use super::rows::{SeenRow, UpstreamRows};
use super::table::{Keep, ListedVersion, Table, merge};
use crate::account::{Digest, Reason, shortened};
use crate::config::Config;
use crate::exit::Failure;
use crate::index::Key;
use crate::kafka::{Cluster, Offsets, uninterrupted};
use crate::pipeline::{key_of, living_age};
use crate::progress::Timestamp;
use crate::sink::{CursorRecords, DeadLetters, SinkError, Topics, read_dead_letters, read_versions};

/// Beyond two polls: for pages and transactions under way.
const MARGIN: Duration = Duration::from_secs(1);

/// Everything that looking at one lender needs.
pub(super) struct Looking<'a> {
    pub rows: &'a UpstreamRows<'a>,
    pub config: &'a Config,
    pub lender: &'a str,
    pub cluster: &'a Cluster,
    pub topics: &'a Topics,
}

/// An account whose sides differed, by its last two looks.
#[derive(Debug, Clone, Copy)]
struct Suspect {
    before: Look,
    now: Look,
    /// `updated_at` of the row seen by the present look; the lowest number before there is one.
    seen_at: i64,
}

impl Suspect {
    /// Takes a row of the present look; of several the newest counts, whatever order they come in.
    fn see(&mut self, updated_at: i64, upstream: UpstreamSide) {
        if updated_at >= self.seen_at {
            (self.seen_at, self.now.upstream) = (updated_at, upstream);
        }
    }

    fn finding(&self) -> Option<FindingKind> {
        finding(self.before, self.now)
    }

    /// When upstream had it, and when the topic's version is of.
    fn times(&self) -> [Option<i64>; 2] {
        [upstream_at(self.now), self.now.held.map(|held| held.updated_at)]
    }
}

fn upstream_at(look: Look) -> Option<i64> {
    match look.upstream {
        UpstreamSide::Account(version) => Some(version.updated_at),
        UpstreamSide::Absent | UpstreamSide::Dead => None,
    }
}

/// A row that cannot be an account.
struct Dead {
    key: Option<Key>,
    updated_at: Option<i64>,
    reason: Reason,
    /// What the topic holds of the account.
    held: Option<ListedVersion>,
    is_buried: bool,
    /// By the present look.
    is_seen: bool,
}

impl Dead {
    fn of(public_id: Option<&str>, updated_at: Option<i64>, reason: &Reason) -> Self {
        Self {
            key: public_id.map(Key::new),
            updated_at,
            reason: reason.clone(),
            held: None,
            is_buried: false,
            is_seen: true,
        }
    }
}

type DeadRows = HashMap<Digest, Dead>;

/// What the looks so far have left.
struct LookState {
    /// UpstreamSide's clock when it began, less the time that a row may take to become visible.
    since: Timestamp,
    read: Offsets,
    letters: DeadLetters,
    suspects: HashMap<Key, Suspect>,
    dead: DeadRows,
    upstream_count: usize,
    held_count: usize,
    ignored_count: usize,
    /// UpstreamRows that could not be accounts and were gone or changed at the next look.
    moved_count: usize,
}

impl Looking<'_> {
    /// # Errors
    /// When upstream or Kafka cannot be read.
    pub(super) async fn run(&self, clock: Timestamp, limit: usize) -> Result<Findings, Failure> {
        let mut state = self.first(clock).await?;
        let cursor = self.cursor().await?;
        let mut look_count = 0;
        while let Some(wait) = self.wait(&state, look_count, &cursor) {
            let suspects = state.suspects.len() + state.unburied().count();
            tracing::info!(
                lender = self.lender,
                suspects,
                ?wait,
                "what differs so far is looked at again"
            );
            tokio::time::sleep(wait).await;
            self.again(&mut state).await?;
            look_count += 1;
        }
        Ok(self.found(state, &cursor, limit))
    }

    /// Reads everything.
    async fn first(&self, clock: Timestamp) -> Result<LookState, Failure> {
        let mut upstream = Table::new(Keep::Highest);
        let mut dead = DeadRows::new();
        let take = |seen: SeenRow<'_>| match seen {
            SeenRow::Account { public_id, version } => upstream.put(public_id, Some(version)),
            SeenRow::Dead {
                public_id,
                updated_at,
                digest,
                reason,
            } => {
                dead.entry(digest)
                    .or_insert_with(|| Dead::of(public_id, updated_at, reason));
            }
        };
        let begun = self.rows.all(clock, take).await?;
        upstream.settle();
        // A row may have become an account, or ceased to be one, while everything was read: the newer one counts.
        dead.retain(|_, row| {
            let account = row.key.as_ref().and_then(|key| upstream.get(key));
            account.is_none_or(|account| row.updated_at.is_some_and(|at| at >= account.updated_at))
        });
        let (held, read) = self.held().await?;
        let mut state = LookState {
            since: begun.before(self.config.upstream.late_window),
            read,
            letters: DeadLetters::default(),
            suspects: HashMap::new(),
            dead,
            upstream_count: 0,
            held_count: held.len(),
            ignored_count: 0,
            moved_count: 0,
        };
        for row in state.dead.values_mut() {
            row.held = row.key.as_ref().and_then(|key| held.get(key));
        }
        self.compare(&upstream, &held, &mut state);
        drop((upstream, held));
        self.bury(&mut state).await?;
        let start_from = self.config.lenders[self.lender].start_from;
        let before = state.dead.len();
        state.dead.retain(|_, row| {
            // One that says no time may be older.
            let is_old = start_from.is_some_and(|from| row.updated_at.is_none_or(|at| at < from.timestamp_millis()));
            row.is_buried || !is_old
        });
        state.ignored_count += before - state.dead.len();
        Ok(state)
    }

    fn compare(&self, upstream: &Table, held: &Table, state: &mut LookState) {
        let dead: HashSet<&Key> = state.dead.values().filter_map(|row| row.key.as_ref()).collect();
        let suspects = &mut state.suspects;
        merge(upstream, held, |key, upstream, held| {
            if dead.contains(&key) {
                return;
            }
            if self.is_ignored(upstream, held) {
                state.ignored_count += 1;
                return;
            }
            state.upstream_count += usize::from(upstream.is_some());
            if upstream != held {
                let look = Look {
                    upstream: upstream.map_or(UpstreamSide::Absent, UpstreamSide::Account),
                    held,
                };
                let suspect = Suspect {
                    before: look,
                    now: look,
                    seen_at: i64::MIN,
                };
                suspects.insert(key, suspect);
            }
        });
    }

    /// Older than `start_from`, and not known: the source leaves it out.
    fn is_ignored(&self, upstream: Option<ListedVersion>, held: Option<ListedVersion>) -> bool {
        let start_from = self.config.lenders[self.lender].start_from;
        match (upstream, held, start_from) {
            (Some(upstream), None, Some(start_from)) => upstream.updated_at < start_from.timestamp_millis(),
            _ => false,
        }
    }

    /// What the topic holds of the lender.
    async fn held(&self) -> Result<(Table, Offsets), Failure> {
        let (cluster, topic) = (self.cluster.clone(), self.topics.accounts.name.clone());
        let public_id = self.rows.public_id().to_owned();
        uninterrupted(move |shutdown| {
            let mut held = Table::new(Keep::Last);
            let take = |key: &str, version: Option<(i64, Digest)>| held.put(key, version.map(of_pair));
            let read = read_versions(&cluster, &topic, &public_id, &Offsets::new(), &shutdown, take)?;
            held.settle();
            Ok::<_, SinkError>((held, read))
        })
        .await
        .map_err(Failure::from)
    }

    /// Looks for the dead rows in `dead-letters`, as far as they were not found there.
    async fn bury(&self, state: &mut LookState) -> Result<(), Failure> {
        if state.unburied().next().is_none() {
            return Ok(());
        }
        let (cluster, topic) = (self.cluster.clone(), self.topics.dead_letters.name.clone());
        let (public_id, from) = (self.rows.public_id().to_owned(), state.letters.read.clone());
        let mut dead = std::mem::take(&mut state.dead);
        (state.dead, state.letters) = uninterrupted(move |shutdown| {
            let letters = read_dead_letters(&cluster, &topic, &public_id, &from, &shutdown, |digest, _| {
                if let Some(row) = dead.get_mut(&digest) {
                    row.is_buried = true;
                }
                Ok(())
            })?;
            Ok::<_, SinkError>((dead, letters))
        })
        .await?;
        Ok(())
    }

    /// Reads again what differed.
    async fn again(&self, state: &mut LookState) -> Result<(), Failure> {
        let suspect_times = state.suspects.values().flat_map(Suspect::times).flatten();
        let dead_times = state.unburied().filter_map(|row| row.updated_at);
        let times: BTreeSet<i64> = suspect_times.chain(dead_times).collect();
        let since = state.since;
        let LookState {
            suspects,
            dead,
            moved_count,
            ..
        } = &mut *state;
        let mut turned = Vec::new();
        for suspect in suspects.values_mut() {
            suspect.before = suspect.now;
            (suspect.now.upstream, suspect.seen_at) = (UpstreamSide::Absent, i64::MIN);
        }
        for row in dead.values_mut() {
            row.is_seen = row.is_buried || row.updated_at.is_none();
        }
        let take = |seen: SeenRow<'_>| match seen {
            SeenRow::Account { public_id, version } => {
                if let Some(suspect) = suspects.get_mut(&Key::new(public_id)) {
                    suspect.see(version.updated_at, UpstreamSide::Account(version));
                }
            }
            SeenRow::Dead {
                public_id,
                updated_at,
                digest,
                reason,
            } => {
                if let Some(row) = dead.get_mut(&digest) {
                    row.is_seen = true;
                } else if let Some(suspect) = public_id.and_then(|id| suspects.get_mut(&Key::new(id))) {
                    suspect.see(updated_at.unwrap_or(i64::MIN), UpstreamSide::Dead);
                    turned.push((digest, Dead::of(public_id, updated_at, reason)));
                }
            }
        };
        self.rows.again(&times, since, take).await?;
        let before = dead.len();
        dead.retain(|_, row| row.is_seen);
        *moved_count += before - dead.len();
        for (digest, row) in turned {
            let suspect = row.key.as_ref().and_then(|key| suspects.get(key));
            // Unless it has become an account again.
            if let Some(suspect) = suspect.filter(|suspect| suspect.now.upstream == UpstreamSide::Dead) {
                let held = suspect.now.held;
                dead.insert(digest, Dead { held, ..row });
            }
        }
        self.hold(state).await?;
        self.bury(state).await?;
        state.suspects.retain(|_, suspect| {
            let upstream = match suspect.now.upstream {
                UpstreamSide::Account(version) => Some(version),
                UpstreamSide::Absent | UpstreamSide::Dead => None,
            };
            suspect.finding().is_some() && !self.is_ignored(upstream, suspect.now.held)
        });
        Ok(())
    }

    /// Takes what came in the topic since.
    async fn hold(&self, state: &mut LookState) -> Result<(), Failure> {
        let (cluster, topic) = (self.cluster.clone(), self.topics.accounts.name.clone());
        let (public_id, from) = (self.rows.public_id().to_owned(), state.read.clone());
        let mut suspects = std::mem::take(&mut state.suspects);
        (state.suspects, state.read) = uninterrupted(move |shutdown| {
            let read = read_versions(&cluster, &topic, &public_id, &from, &shutdown, |key, version| {
                if let Some(suspect) = suspects.get_mut(&Key::new(key)) {
                    suspect.now.held = version.map(of_pair);
                }
            })?;
            Ok::<_, SinkError>((suspects, read))
        })
        .await?;
        Ok(())
    }

    /// What the cursor topic says of the lender. What cannot be read there is not what is verified here.
    async fn cursor(&self) -> Result<Cursor, Failure> {
        let records = CursorRecords::find(self.cluster, &self.topics.cursor.name).await?;
        let key = key_of(self.config, self.lender, self.rows.public_id());
        Ok(match records.current(&key) {
            Ok(Some((stored, Some(record)))) => {
                let heartbeat = self.config.transaction.heartbeat_interval;
                Cursor::Record {
                    progress: record.progress.clone(),
                    lives: living_age(stored.written_at, record, heartbeat).is_some(),
                }
            }
            Ok(Some((_, None))) => Cursor::Reset,
            Ok(None) | Err(_) => Cursor::None,
        })
    }

    /// How long until the next look; `None`: everything is said.
    ///
    /// - One more look tells what has only just changed.
    /// - Where a source lives, what it has not written by then and is not settled may be for its sweep: the look after that one
    ///   decides.
    /// - What changes at every look is left at that.
    fn wait(&self, state: &LookState, look_count: u32, cursor: &Cursor) -> Option<Duration> {
        let (upstream, lives) = (&self.config.upstream, cursor.lives());
        let follows = 2 * upstream.poll_interval + MARGIN;
        let short = if lives { follows } else { upstream.poll_interval };
        let kinds = || state.suspects.values().filter_map(Suspect::finding);
        let is_open = !state.suspects.is_empty() || state.unburied().next().is_some();
        let is_ahead = |updated_at: Option<i64>| updated_at.is_some_and(|at| cursor.is_ahead(at));
        let awaits_sweep = || {
            let is_read = |suspect: &Suspect| suspect.finding().is_some_and(FindingKind::is_repaired_by_reading);
            let mut suspects = state.suspects.values();
            suspects.any(|suspect| is_read(suspect) && is_ahead(upstream_at(suspect.now)))
                || state.unburied().any(|row| is_ahead(row.updated_at))
        };
        let changes = || kinds().any(|kind| kind == FindingKind::Changed);
        match look_count {
            0 if is_open => Some(short),
            1 if lives && awaits_sweep() => Some(upstream.late_window + upstream.late_sweep_interval + follows),
            1 | 2 if changes() => Some(short),
            _ => None,
        }
    }

    fn found(&self, state: LookState, cursor: &Cursor, limit: usize) -> Findings {
        let mut need = Need {
            is_all_ahead: true,
            holds_any: state.held_count > 0,
            ..Need::default()
        };
        let mut needs_reading = |updated_at: Option<i64>| {
            need.reading = true;
            need.is_all_ahead &= updated_at.is_some_and(|at| cursor.is_ahead(at));
        };
        let mut kinds: HashMap<FindingKind, Counted<Listed>> = HashMap::new();
        let mut reconciling = false;
        for (key, suspect) in &state.suspects {
            let Some(kind) = suspect.finding() else { continue };
            if kind.is_repaired_by_reading() {
                needs_reading(upstream_at(suspect.now));
            }
            reconciling |= matches!(kind, FindingKind::Surplus | FindingKind::Regressed);
            let listed = Listed {
                public_id: shortened(&key.to_string()).into_owned(),
                upstream_at: upstream_at(suspect.now).map(Timestamp),
                held_at: suspect.now.held.map(|held| Timestamp(held.updated_at)),
            };
            kinds.entry(kind).or_default().add(listed, limit);
        }
        let is_cut = state.letters.is_cut;
        let mut dead: Counted<DeadRowFinding> = Counted::default();
        let mut unburied_count = 0;
        for row in state.dead.values() {
            if !row.is_buried {
                unburied_count += 1;
                if !is_cut {
                    needs_reading(row.updated_at);
                }
            }
            dead.add(
                DeadRowFinding {
                    public_id: row.key.as_ref().map(|key| shortened(&key.to_string()).into_owned()),
                    updated_at: row.updated_at.map(Timestamp),
                    reason: row.reason.to_string(),
                    field: row.reason.field().map(str::to_owned),
                    is_buried: row.is_buried,
                    held_at: row.held.map(|held| Timestamp(held.updated_at)),
                },
                limit,
            );
        }
        kinds.values_mut().for_each(|counted| counted.list(limit));
        dead.list(limit);
        need.reconciling = reconciling;
        Findings {
            public_id: self.rows.public_id().to_owned(),
            topic: self.topics.accounts.name.clone(),
            dead_letters_topic: self.topics.dead_letters.name.clone(),
            upstream_count: state.upstream_count,
            held_count: state.held_count,
            ignored_count: state.ignored_count,
            moved_count: state.moved_count,
            kinds,
            dead,
            unburied_count,
            is_cut,
            repair: Repair::of(self.lender, cursor, need),
        }
    }
}

impl LookState {
    fn unburied(&self) -> impl Iterator<Item = &Dead> {
        self.dead.values().filter(|row| !row.is_buried)
    }
}

fn of_pair((updated_at, digest): (i64, Digest)) -> ListedVersion {
    ListedVersion { updated_at, digest }
}
