//! What do the rows of a page become? The bytes of accounts, and dead letters, one after another.

use serde_json::value::RawValue;

use super::drift::Unfit;
use super::page::{DeadRow, EncodedRow, Entry, ReceivedRow, Span};
use super::row_encoder::RowEncoder;
use crate::account::{self, JsonType, Reason, Rejected, Scratch};
use crate::upstream::DAMAGE;

/// The rows of a page as they become bytes.
#[derive(Default)]
pub(super) struct Encoded {
    pub entries: Vec<Entry>,
    pub bytes: Vec<u8>,
    scratch: Scratch,
    pub invalid_count: u64,
    pub unreal_date_count: u64,
    pub unknown_count: u64,
    pub tolerated_count: u64,
    /// Fields that did not fit, each once.
    pub unfit: Vec<Unfit>,
}

impl Encoded {
    /// Takes one row; gives its `updated_at`, if it has a usable one.
    pub(super) fn take(&mut self, json: &RawValue, how: &RowEncoder) -> Option<i64> {
        match account::read_row(json, &how.lender, &how.rules, &mut self.scratch) {
            Ok(row) => {
                let public_id = self.put(row.account.public_id.as_bytes());
                let start = self.bytes.len();
                how.encoder.encode(&row.account, &mut self.bytes);
                let value = self.span_from(start);
                let is_large = self.bytes.len() - start > how.large_value;
                row.invalid.iter().for_each(|field| self.note(field, false, json));
                let received = is_large.then(|| ReceivedRow {
                    json: self.put(json.get().as_bytes()),
                    digest: account::dead_letter_digest(json, json.get().as_bytes(), &how.rules),
                });
                self.tolerated_count += u64::from(row.tolerated_count);
                self.invalid_count += row.invalid.len() as u64;
                self.unreal_date_count += u64::from(row.unreal_date_count);
                self.unknown_count += row.unknown.len() as u64;
                row.unknown.iter().for_each(|name| how.say_once(name));
                let invalid = (!row.invalid.is_empty()).then(|| account::list(row.invalid).into_boxed_str());
                let (updated_at, created_at) = (row.account.updated_at, row.account.created_at);
                let digest = row.digest;
                let row = EncodedRow {
                    public_id,
                    value,
                    updated_at,
                    created_at,
                    digest,
                    invalid,
                    received,
                };
                self.entries.push(Entry::Account(row));
                Some(updated_at)
            }
            Err(rejected) => {
                let digest = account::dead_letter_digest(json, json.get().as_bytes(), &how.rules);
                if let Some(field) = rejected.reason.unfit_field() {
                    self.note(field, true, json);
                }
                let json = self.put(json.get().as_bytes());
                let updated_at = rejected.updated_at;
                self.entries.push(Entry::DeadLetter(DeadRow { json, rejected, digest }));
                updated_at
            }
        }
    }

    /// Takes a row that is no UTF-8 as a dead letter; `json` has [`DAMAGE`] in the place of what is none, `received` is how it came.
    pub(super) fn take_damaged(&mut self, json: &RawValue, received: &[u8], how: &RowEncoder) -> Option<i64> {
        let (public_id, updated_at) = match account::read_row(json, &how.lender, &how.rules, &mut self.scratch) {
            Ok(row) => (Some(row.account.public_id.into_owned()), Some(row.account.updated_at)),
            Err(rejected) => (rejected.public_id, rejected.updated_at),
        };
        let rejected = Box::new(Rejected {
            reason: Reason::NotUtf8,
            public_id: public_id.filter(|id| !id.contains(DAMAGE)),
            updated_at,
        });
        let digest = account::dead_letter_digest(json, received, &how.rules);
        let json = self.put(received);
        self.entries.push(Entry::DeadLetter(DeadRow { json, rejected, digest }));
        updated_at
    }

    /// The `public_id` of the last row, where it has one and a time: of no more bytes than any `_id`, as it stands in the cursor
    /// record.
    pub(super) fn last_id(&self) -> Option<&str> {
        const LONGEST: usize = 128;
        let id = match self.entries.last()? {
            Entry::Account(row) => {
                let Span { start, end } = row.public_id;
                std::str::from_utf8(&self.bytes[start as usize..end as usize]).ok()
            }
            Entry::DeadLetter(dead) => dead.rejected.updated_at.and(dead.rejected.public_id.as_deref()),
        };
        id.filter(|id| id.len() <= LONGEST)
    }

    /// A field that does not fit; only the first of a page is looked at.
    fn note(&mut self, field: &'static str, is_dead: bool, json: &RawValue) {
        match self.unfit.iter_mut().find(|unfit| unfit.field == field) {
            Some(unfit) => unfit.row_count += 1,
            None => self.unfit.push(Unfit {
                field,
                is_dead,
                row_count: 1,
                found: JsonType::of(json, field),
            }),
        }
    }

    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        self.span_from(start)
    }

    /// `upstream.max_body` is at most 1 GiB, and a page's bytes are fewer than four times its body's.
    fn span_from(&self, start: usize) -> Span {
        let place = |place: usize| u32::try_from(place).expect("a page is far smaller than 4 GiB");
        Span {
            start: place(start),
            end: place(self.bytes.len()),
        }
    }
}
