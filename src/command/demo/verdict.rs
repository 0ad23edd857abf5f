//! Does what a consumer sees keep the promises, while upstream stands still?

use std::collections::{HashMap, HashSet};

use super::error::DemoError;
use super::reader::{Account, Record};
use crate::simulator::{RowKind, StoredRow};

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub account_count: usize,
    pub missing: usize,
    /// Another `updated_at` than upstream's.
    pub stale: usize,
    /// Other contents than upstream's, of rows that are as documented.
    pub different: usize,
    pub surplus: usize,
    pub doubled: usize,
    pub out_of_order: usize,
    /// Rows that cannot be accounts, each content once.
    pub unusable: usize,
    /// Of these, those in the dead-letter topic.
    pub buried: usize,
}

impl Verdict {
    /// `records` partition by partition in their order; `account` decodes one.
    ///
    /// # Errors
    /// When a record cannot be decoded.
    pub(super) fn of(
        records: &[Record],
        letters: &[Record],
        rows: &[StoredRow],
        mut account: impl FnMut(&Record) -> Result<Account, DemoError>,
    ) -> Result<Self, DemoError> {
        let mut verdict = Self::default();
        let mut latest: HashMap<&str, &Record> = HashMap::new();
        let mut versions = HashSet::new();
        for record in records {
            verdict.doubled += usize::from(!versions.insert((&record.key, &record.value)));
            if let Some(before) = latest.insert(&record.key, record) {
                verdict.out_of_order += usize::from(before.updated_at > record.updated_at);
            }
        }
        let letters: HashSet<&[u8]> = letters.iter().map(|letter| &*letter.value).collect();
        let mut unusable = HashSet::new();
        for row in rows {
            if matches!(row.kind, RowKind::Bad(_)) {
                unusable.insert(row.json.as_bytes());
                continue;
            }
            verdict.account_count += 1;
            match latest.remove(&*row.id) {
                None => verdict.missing += 1,
                Some(record) if record.updated_at != Some(row.updated_at_ms) => verdict.stale += 1,
                Some(record) if row.kind == RowKind::Sound => {
                    let row = serde_json::from_str(&row.json).unwrap_or_default();
                    verdict.different += usize::from(!account(record)?.has_all_of(&row));
                }
                Some(_) => {}
            }
        }
        verdict.surplus = latest.len();
        verdict.buried = unusable.iter().filter(|json| letters.contains(*json)).count();
        verdict.unusable = unusable.len();
        Ok(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::Bad;

    fn record(key: &str, updated_at: i64, value: &str) -> Record {
        Record {
            key: key.to_owned(),
            value: value.as_bytes().to_vec(),
            updated_at: Some(updated_at),
        }
    }

    fn row(id: &str, updated_at_ms: i64, json: &str, kind: RowKind) -> StoredRow {
        let (id, json) = (id.to_owned(), json.to_owned());
        StoredRow {
            id,
            updated_at_ms,
            json,
            kind,
        }
    }

    fn verdict(records: &[&Record], letters: &[Record]) -> Verdict {
        let rows = [
            row("a", 2, r#"{"balance_amount":7}"#, RowKind::Sound),
            row("b", 1, r#"{"balance_amount":8,"status":null}"#, RowKind::Sound),
            row("c", 1, "bad", RowKind::Bad(Bad::HalfAmount)),
        ];
        let records: Vec<Record> = records.iter().copied().cloned().collect();
        let decode = |record: &Record| {
            let fields = serde_json::from_slice(&record.value).expect("JSON");
            Ok(Account::of(&record.key, fields))
        };
        Verdict::of(&records, letters, &rows, decode).expect("decodable")
    }

    #[test]
    fn every_way_to_break_a_promise_is_told_apart() {
        let a1 = record("a", 1, r#"{"balance_amount":6}"#);
        let a2 = record("a", 2, r#"{"balance_amount":7}"#);
        let b = record("b", 1, r#"{"balance_amount":8}"#);
        let letters = [record("c", 0, "bad")];
        let good = || Verdict {
            account_count: 2,
            unusable: 1,
            buried: 1,
            ..Verdict::default()
        };
        assert_eq!(verdict(&[&a1, &a2, &b], &letters), good());
        assert_eq!(verdict(&[&a1, &a2, &b], &[]), Verdict { buried: 0, ..good() });
        let broken = |records: &[&Record], breaks: fn(&mut Verdict)| {
            let mut expected = good();
            breaks(&mut expected);
            assert_eq!(verdict(records, &letters), expected);
        };
        broken(&[&a1, &a2], |verdict| verdict.missing = 1);
        broken(&[&a1, &b], |verdict| verdict.stale = 1);
        let other = record("b", 1, r#"{"balance_amount":9}"#);
        broken(&[&a1, &a2, &other], |verdict| verdict.different = 1);
        broken(&[&a1, &a2, &a2, &b], |verdict| verdict.doubled = 1);
        broken(&[&a2, &a1, &b], |verdict| {
            (verdict.out_of_order, verdict.stale) = (1, 1);
        });
        let stranger = record("d", 1, "{}");
        broken(&[&a1, &a2, &b, &stranger], |verdict| verdict.surplus = 1);
    }
}
