//! What does `accounts` hold? Every account of one lender, and what one more row would be to it.

use twox_hash::XxHash3_64;

use super::decision::{Against, Decision, RowVersion, judge};
use super::key::{HashedKey, Key};
use super::pending::{PendingVersions, Written};
use super::store::Store;
use super::tombstones::Tombstones;
use super::version::{Held, Version};
use crate::account::Content;
use crate::avro::WriterSchema;
use crate::clock::Tick;
use crate::failpoint::{self, Rule};

/// Every account of one lender that has a live record in `accounts`.
#[derive(Debug, Default)]
pub(crate) struct Index {
    held: Store,
    tombstones: Tombstones,
    /// XOR over the accounts of XXH3-64 of key and `updated_at` (8 bytes little-endian).
    checksum: u64,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Bytes that it takes, without what the allocator adds.
    pub(crate) fn size(&self) -> usize {
        self.held.size() + self.tombstones.size()
    }

    #[cfg(test)]
    pub(crate) fn get(&self, key: &Key) -> Option<Held> {
        self.held
            .find(&self.held.hashed(key.clone()))
            .map(|place| self.held.held(place))
    }

    #[cfg(test)]
    pub(super) fn tombstone_of(&self, public_id: &str) -> Option<Tick> {
        self.tombstones.get(&Key::new(public_id))
    }

    /// Count and checksum as they will be once `pending` is committed.
    pub(crate) fn with(&self, pending: &PendingVersions<'_>) -> (u64, u64) {
        let count = self.held.len() as u64 + pending.new_count - pending.deleted.len() as u64;
        (count, self.checksum ^ pending.checksum)
    }

    /// With room for so many accounts: what grows instead leaves its smaller tables behind with the allocator.
    pub(crate) fn with_capacity(account_count: usize) -> Self {
        /// More than that is made room for as it comes; a number alone must not take gigabytes.
        const MOST: usize = 1 << 24;
        let mut index = Self::default();
        index.held.reserve(account_count.min(MOST));
        index
    }

    /// Takes a record of `accounts`, in the topic's order; gives whether nothing of the account was held. `content`: what of it
    /// is to be remembered.
    pub(crate) fn restore(&mut self, public_id: &str, version: &Version, content: Option<&Content<'_>>) -> bool {
        self.checksum ^= hash_of(public_id, version.updated_at);
        let held = Held {
            updated_at: version.updated_at,
            digest: version.digest,
            received: 0,
            is_regressed: version.is_regressed,
            went_back: false,
            schema: version.schema,
        };
        let before = self.held.insert(&self.hashed(public_id), held, content);
        self.checksum ^= before.map_or(0, |before| hash_of(public_id, before.updated_at));
        before.is_none()
    }

    /// Takes the removal of an account by a tombstone; gives the hash of what was held.
    pub(super) fn restore_removal(&mut self, public_id: &str) -> Option<u64> {
        let before = self.held.remove(&self.hashed(public_id))?;
        let hash = hash_of(public_id, before.updated_at);
        self.checksum ^= hash;
        Some(hash)
    }

    pub(super) fn set_tombstones(&mut self, tombstones: Tombstones) {
        self.tombstones = tombstones;
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.held.keys()
    }

    /// Forgets the tombstones that came before this was last called.
    pub(crate) fn turn_tombstones(&mut self) {
        self.tombstones.turn();
    }

    /// Count and checksum of what is held.
    pub(crate) fn proof(&self) -> (u64, u64) {
        (self.held.len() as u64, self.checksum)
    }

    /// How many accounts stand under which schema.
    pub(crate) fn schemas(&self) -> Vec<(WriterSchema, u64)> {
        self.held.schemas()
    }

    /// From now on no account has been seen.
    pub(crate) fn forget_seen(&mut self) {
        self.held.forget_seen();
    }

    /// Upstream has shown the account.
    pub(crate) fn see(&mut self, public_id: &str) {
        self.held.see(&self.hashed(public_id));
    }

    /// The accounts that upstream has not shown since [`Index::forget_seen`] and that were held then.
    pub(crate) fn unseen(&self) -> impl Iterator<Item = Key> {
        self.held.unseen()
    }

    /// The up to `most` accounts that were updated last, up to `until`, in no order: public id and `updated_at`.
    pub(crate) fn newest(&self, until: i64, most: usize) -> Vec<(String, i64)> {
        let newest = self.held.newest(until, most);
        newest.map(|(key, updated_at)| (key.to_string(), updated_at)).collect()
    }

    pub(crate) fn contains(&self, public_id: &str) -> bool {
        self.held.find(&self.hashed(public_id)).is_some()
    }

    fn hashed(&self, public_id: &str) -> HashedKey {
        self.held.hashed(Key::new(public_id))
    }

    /// Whether the account is held, or written by the batch itself.
    pub(crate) fn holds(&self, pending: &PendingVersions<'_>, public_id: &str) -> bool {
        let key = self.hashed(public_id);
        pending.find(&key).is_some() || self.held.find(&key).is_some()
    }

    /// Judges one row, later rows of a batch against earlier ones.
    ///
    /// `first_snapshot_at` (milliseconds) tells an account that was there before the source from one created since.
    pub(crate) fn judge(
        &self,
        pending: &PendingVersions<'_>,
        row: &RowVersion<'_>,
        first_snapshot_at: i64,
    ) -> Decision {
        let key = self.hashed(row.public_id);
        let (against, held) = match pending.find(&key) {
            Some(place) => (Against::Written(place), Some(pending.written[place].held)),
            None => match self.held.find(&key) {
                Some(place) => (Against::Held(place), Some(self.held.held(place))),
                None => (Against::Nothing, None),
            },
        };
        let deleted = self.tombstones.get(&key.key);
        Decision {
            verdict: judge(held.as_ref(), deleted, row, first_snapshot_at),
            held,
            is_regressed: row.is_reconciled && held.is_some_and(|held| row.updated_at < held.updated_at),
            key,
            against,
        }
    }

    /// What is remembered of the content of the version that a row was judged against.
    pub(crate) fn content<'i>(&'i self, pending: &'i PendingVersions<'_>, decision: &Decision) -> Option<Content<'i>> {
        match decision.against {
            Against::Nothing => None,
            Against::Held(place) => self.held.content(place),
            Against::Written(_) if failpoint::is_broken(Rule::BeforeIsOfTheBatch) => {
                self.held.content(self.held.find(&decision.key)?)
            }
            Against::Written(place) => pending.written[place].content.clone(),
        }
    }

    /// Notes in `pending` a row that is to be written. `content`: what of it is to be remembered.
    pub(crate) fn note<'a>(
        &self,
        pending: &mut PendingVersions<'a>,
        row: &RowVersion<'_>,
        decision: Decision,
        content: Option<Content<'a>>,
    ) {
        pending.checksum ^= hash_of(row.public_id, row.updated_at);
        match decision.held {
            Some(held) => pending.checksum ^= hash_of(row.public_id, held.updated_at),
            None => pending.new_count += 1,
        }
        let held = Held {
            updated_at: row.updated_at,
            digest: row.digest,
            received: row.received,
            is_regressed: decision.is_regressed,
            went_back: decision.is_regressed || decision.held.is_some_and(|held| held.went_back),
            schema: row.schema,
        };
        let place = match decision.against {
            Against::Written(place) => Some(place),
            Against::Held(_) | Against::Nothing => None,
        };
        let key = decision.key;
        pending.put(place, Written { key, held, content });
    }

    /// Notes in `pending` a row that shows again what is held: no page from before it tells more of that version.
    pub(crate) fn note_repeated(&self, pending: &mut PendingVersions<'_>, row: &RowVersion<'_>, decision: Decision) {
        match decision.against {
            Against::Written(place) => {
                let held = &mut pending.written[place].held;
                held.received = held.received.max(row.received);
            }
            Against::Held(_) | Against::Nothing => pending.repeated.push((decision.key, row.received)),
        }
    }

    /// Notes in `pending` the deletion of an account; gives the version that goes, and what is remembered of its content.
    pub(crate) fn note_deleted(
        &self,
        pending: &mut PendingVersions<'_>,
        key: &Key,
    ) -> Option<(Held, Option<Content<'_>>)> {
        let key = self.held.hashed(key.clone());
        let place = self.held.find(&key)?;
        let held = self.held.held(place);
        pending.checksum ^= hash_of(&key.key.to_string(), held.updated_at);
        pending.deleted.push(key);
        Some((held, self.held.content(place)))
    }

    /// Makes a committed batch part of the index. `now`: what is requested later shows what comes after it.
    pub(crate) fn remember(&mut self, pending: PendingVersions<'_>, now: Tick) {
        self.checksum ^= pending.checksum;
        for (key, received) in pending.repeated {
            self.held.receive(&key, received);
        }
        for Written { key, held, content } in pending.written {
            self.held.insert(&key, held, content.as_ref());
        }
        for key in pending.deleted {
            self.held.remove(&key);
            self.tombstones.insert(key.key, now);
        }
    }
}

fn hash_of(public_id: &str, updated_at: i64) -> u64 {
    // Hashed in one piece without an allocation for any key of a usual length.
    let mut buffer = [0; 64];
    let length = public_id.len() + 8;
    match buffer.get_mut(..length) {
        Some(input) => {
            input[..public_id.len()].copy_from_slice(public_id.as_bytes());
            input[public_id.len()..].copy_from_slice(&updated_at.to_le_bytes());
            XxHash3_64::oneshot(input)
        }
        None => XxHash3_64::oneshot(&[public_id.as_bytes(), &updated_at.to_le_bytes()].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decision::Verdict;
    use super::*;
    use crate::account::{Digest, Op};

    fn row(id: &str, updated_at: i64, content: u64, requested: Tick, received: Tick) -> RowVersion<'_> {
        RowVersion {
            public_id: id,
            updated_at,
            created_at: None,
            digest: Digest(content),
            schema: WriterSchema::Id(1),
            requested,
            received,
            is_reconciled: false,
        }
    }

    fn version(updated_at: i64) -> Version {
        Version {
            updated_at,
            digest: Digest(1),
            is_regressed: false,
            schema: WriterSchema::Id(1),
        }
    }

    /// Judges a row, and notes what is to be written.
    fn decide(
        index: &Index,
        pending: &mut PendingVersions<'_>,
        row: &RowVersion<'_>,
        first_snapshot_at: i64,
    ) -> Verdict {
        let decision = index.judge(pending, row, first_snapshot_at);
        let verdict = decision.verdict;
        match verdict {
            Verdict::Write(_) => index.note(pending, row, decision, None),
            Verdict::Repeated => index.note_repeated(pending, row, decision),
            Verdict::Stale | Verdict::Undecided | Verdict::Regressed => {}
        }
        verdict
    }

    /// Decides and commits one row after another.
    fn verdicts(index: &mut Index, rows: &[RowVersion<'_>]) -> Vec<Verdict> {
        rows.iter()
            .map(|row| {
                let mut pending = PendingVersions::default();
                let verdict = decide(index, &mut pending, row, 1_000);
                index.remember(pending, 0);
                verdict
            })
            .collect()
    }

    #[test]
    fn only_what_is_newer_or_provably_other_content_is_written() {
        use Verdict::{Regressed, Repeated, Stale, Undecided, Write};
        let mut index = Index::default();
        let rows = [
            row("a", 10, 1, 5, 6),
            row("a", 11, 1, 5, 7),  // newer, even from an old page
            row("a", 11, 1, 1, 8),  // the same
            row("a", 11, 2, 6, 9),  // other content, page asked for before what is held was received
            row("a", 11, 2, 9, 10), // other content, asked for later
            row("a", 9, 3, 9, 11),  // older, asked for before
            row("a", 9, 3, 12, 13), // older, asked for later
        ];
        let expected = [
            Write(Op::Read),
            Write(Op::Updated),
            Repeated,
            Undecided,
            Write(Op::Updated),
            Stale,
            Regressed,
        ];
        assert_eq!(verdicts(&mut index, &rows), expected);
        assert_eq!(
            index.get(&Key::new("a")).map(|held| (held.updated_at, held.digest)),
            Some((11, Digest(2)))
        );
    }

    #[test]
    fn created_is_known_by_its_date_or_by_a_tombstone() {
        let mut index = Index::default();
        index.tombstones.insert(Key::new("gone"), 0);
        let new = RowVersion {
            created_at: Some(1_000),
            ..row("new", 1, 1, 1, 2)
        };
        let old = RowVersion {
            created_at: Some(999),
            ..row("old", 1, 1, 1, 2)
        };
        let gone = row("gone", 1, 1, 1, 2);
        let expected = [
            Verdict::Write(Op::Created),
            Verdict::Write(Op::Read),
            Verdict::Write(Op::Created),
        ];
        assert_eq!(verdicts(&mut index, &[new, old, gone]), expected);
    }

    #[test]
    fn a_batch_is_decided_against_itself_and_forgotten_unless_committed() {
        let index = Index::default();
        let mut pending = PendingVersions::default();
        assert_eq!(
            decide(&index, &mut pending, &row("a", 1, 1, 1, 2), 0),
            Verdict::Write(Op::Read)
        );
        assert_eq!(
            decide(&index, &mut pending, &row("a", 1, 1, 1, 2), 0),
            Verdict::Repeated
        );
        assert_eq!(
            decide(&index, &mut pending, &row("a", 2, 1, 1, 2), 0),
            Verdict::Write(Op::Updated)
        );
        assert_eq!(pending.new_count, 1);
        assert_eq!(index.len(), 0);
        assert_eq!(
            decide(&index, &mut PendingVersions::default(), &row("a", 1, 1, 1, 2), 0),
            Verdict::Write(Op::Read)
        );
    }

    #[test]
    fn count_and_checksum_of_a_restored_index_are_those_of_the_committed_one() {
        let mut index = Index::default();
        let long = "x".repeat(100);
        let mut pending = PendingVersions::default();
        for candidate in [row("a", 1, 1, 1, 2), row(&long, 2, 1, 1, 2), row("a", 3, 1, 1, 2)] {
            decide(&index, &mut pending, &candidate, 0);
        }
        let promised = index.with(&pending);
        index.remember(pending, 0);
        let mut restored = Index::default();
        for (id, at) in [("b", 9), ("a", 1), (&long, 2), ("a", 3)] {
            restored.restore(id, &version(at), None);
        }
        restored.restore_removal("b");
        assert_eq!(index.proof(), promised);
        assert_eq!(restored.proof(), promised);
    }

    #[test]
    fn what_went_back_is_written_by_a_reconciliation_and_what_follows_it_by_later_pages_only() {
        use Verdict::{Regressed, Undecided, Write};
        let mut index = Index::default();
        let reconciled = |row| RowVersion {
            is_reconciled: true,
            ..row
        };
        let rows = [
            row("a", 10, 1, 5, 6),
            row("a", 8, 2, 7, 8),
            reconciled(row("a", 8, 2, 6, 9)), // asked for when what is held was received
            reconciled(row("a", 8, 2, 9, 10)),
            row("a", 10, 1, 9, 11), // may be what there was before
            row("a", 11, 3, 11, 12),
            row("a", 12, 4, 5, 13), // as before, though a later version is held by now
            row("a", 12, 4, 13, 14),
        ];
        let updated = Write(Op::Updated);
        let expected = [
            Write(Op::Read),
            Regressed,
            Verdict::Stale,
            updated,
            Undecided,
            updated,
            Undecided,
            updated,
        ];
        assert_eq!(verdicts(&mut index, &rows), expected);
    }

    #[test]
    fn what_is_shown_again_is_as_new_as_the_page_that_shows_it() {
        use Verdict::{Repeated, Undecided, Write};
        let mut index = Index::default();
        let rows = [
            row("a", 10, 1, 5, 6),
            row("a", 10, 1, 7, 9),
            row("a", 10, 2, 8, 10), // from in between: may be what there was before
            row("a", 10, 1, 3, 4),  // an older page takes nothing from that
            row("a", 10, 2, 8, 11),
            row("a", 10, 2, 10, 12),
        ];
        let updated = Write(Op::Updated);
        let expected = [Write(Op::Read), Repeated, Undecided, Repeated, Undecided, updated];
        assert_eq!(verdicts(&mut index, &rows), expected);
        // Within a batch, too; of what is not committed nothing is left.
        let mut pending = PendingVersions::default();
        let of_the_batch = [
            row("a", 11, 1, 13, 14),
            row("a", 11, 1, 15, 18),
            row("a", 11, 2, 16, 19),
        ];
        let judged = of_the_batch.map(|row| decide(&index, &mut pending, &row, 0));
        assert_eq!(judged, [updated, Repeated, Undecided]);
        drop(pending);
        assert_eq!(verdicts(&mut index, &[row("a", 10, 3, 13, 20)]), [updated]);
    }

    #[test]
    fn what_is_deleted_comes_back_from_later_pages_only() {
        let mut index = Index::default();
        index.restore("a", &version(10), None);
        index.restore("b", &version(20), None);
        index.forget_seen();
        index.see("b");
        let unseen: Vec<Key> = index.unseen().collect();
        assert_eq!(unseen, [Key::new("a")]);
        let mut pending = PendingVersions::default();
        let (held, content) = index.note_deleted(&mut pending, &unseen[0]).expect("it is held");
        assert_eq!((held.updated_at, content), (10, None));
        let promised = index.with(&pending);
        index.remember(pending, 7);
        assert_eq!(index.proof(), promised);
        assert_eq!(promised.0, 1);
        let rows = [
            row("a", 10, 1, 7, 8),
            row("a", 10, 1, 8, 9),
            row("a", 30, 1, 7, 10), // what there was before, though it has been written again
            row("a", 30, 1, 8, 11),
        ];
        let (undecided, write) = (Verdict::Undecided, Verdict::Write);
        let expected = [undecided, write(Op::Created), undecided, write(Op::Updated)];
        assert_eq!(verdicts(&mut index, &rows), expected);
    }

    #[test]
    fn a_deletion_is_forgotten_when_its_tombstone_may_be_gone_and_not_before() {
        let mut index = Index::default();
        index.restore("a", &version(10), None);
        let mut pending = PendingVersions::default();
        index.note_deleted(&mut pending, &Key::new("a"));
        index.remember(pending, 7);
        let verdict = |index: &Index| decide(index, &mut PendingVersions::default(), &row("a", 10, 1, 7, 8), 1_000);
        index.turn_tombstones();
        assert_eq!(verdict(&index), Verdict::Undecided);
        index.turn_tombstones();
        assert_eq!(verdict(&index), Verdict::Write(Op::Read));
    }

    #[test]
    fn keys_compare_exactly() {
        let lower = "00112233445566778899aabb";
        assert!(matches!(Key::new(lower), Key::ObjectId(_)));
        assert_ne!(Key::new(lower), Key::new(&lower.to_uppercase()));
        assert_ne!(Key::new(lower), Key::new(&lower[1..]));
    }

    #[test]
    fn an_account_takes_at_most_100_bytes_with_all_that_is_remembered_of_it() {
        use crate::account::{Rules, Scratch, read_row};
        use crate::avro::{Encoder, Frame, Layout};
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let options = crate::simulator::Options {
            lenders: vec![crate::simulator::LenderOptions {
                rows: 16_000,
                ..crate::simulator::LenderOptions::numbered(1)
            }],
            ..crate::simulator::Options::default()
        };
        let simulator = runtime
            .block_on(crate::simulator::Simulator::start(options))
            .expect("a simulator");
        let (layout, encoder) = (Layout::current(), Encoder::new(Frame::Confluent { schema_id: 1 }));
        let (rules, mut scratch) = (Rules::default(), Scratch::default());
        let mut index = Index::with_capacity(16_000);
        let mut fill = |index: &mut Index| {
            for row in simulator.rows(0) {
                let json = serde_json::value::RawValue::from_string(row.json).expect("JSON");
                let row = read_row(&json, "lender", &rules, &mut scratch).expect("an account");
                let mut value = Vec::new();
                encoder.encode(&row.account, &mut value);
                let content = layout.read(&value[5..]).expect("readable");
                let version = Version {
                    updated_at: row.account.updated_at,
                    digest: row.digest,
                    is_regressed: false,
                    schema: WriterSchema::Id(1),
                };
                index.restore(&row.account.public_id, &version, Some(&content));
            }
        };
        fill(&mut index);
        let restored = index.size() / index.len();
        // What came and went must not stay behind.
        for seed in 0..3 {
            simulator.touch(0, 8_000, seed);
            fill(&mut index);
        }
        let changed = index.size() / index.len();
        println!("{restored} bytes an account when restored, {changed} after many changes");
        assert!(restored <= 100 && changed <= 100, "{restored}, {changed}");
    }
}
