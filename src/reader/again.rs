//! Are rows that are read again the same? A few of them are compared, and somebody is told who can do something about it.

use serde_json::value::RawValue;

use super::encoded::Encoded;
use super::page::Entry;
use super::row_encoder::RowEncoder;
use super::volatile::VolatileNotice;
use crate::account;
use crate::clock;
use crate::exit::ErrorCode;
use crate::progress::Timestamp;

/// The code of content that differs each time it is read.
const VOLATILE: ErrorCode = ErrorCode::U24;

impl RowEncoder {
    /// Holds a few rows of a page against how they were read before. `sweep_since`: the time from which on a sweep reads.
    pub(super) fn compare(&self, encoded: &Encoded, rows: &[&RawValue], sweep_since: Option<Timestamp>) {
        let now = Timestamp::from(clock::now());
        let volatile = self.noted.volatile.lock();
        let mut volatile = volatile.unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(since) = sweep_since {
            volatile.forget_before(since);
        }
        for (entry, json) in encoded.entries.iter().zip(rows) {
            let Entry::Account(row) = entry else { continue };
            let id = &encoded.bytes[row.public_id.start as usize..row.public_id.end as usize];
            let members = || account::content_members(json, &self.rules);
            volatile.note(id, row.updated_at, row.digest, now, members);
        }
        let said = volatile.judge(now);
        let count = i64::try_from(volatile.member_count()).unwrap_or(i64::MAX);
        drop(volatile);
        self.metrics.volatile_members.set(count);
        if let Some(said) = said {
            self.say_volatile(&said);
        }
    }

    fn say_volatile(&self, said: &VolatileNotice) {
        let lender = &*self.name;
        match said {
            VolatileNotice::Differs {
                row_count,
                window,
                members,
                since,
                total,
            } => {
                let members = members.join(", ");
                tracing::error!(
                    lender,
                    members,
                    code = %VOLATILE,
                    advice = "ask the vendor; content.ignore names members that are no content",
                    "content differs at each reading: that of {row_count} of the last {window} rows that were read again \
                     under the same `updated_at`; since {since} in {total} rows, which are written again"
                );
            }
            VolatileNotice::Over { members, since, total } => {
                let members = members.join(", ");
                tracing::warn!(
                    lender,
                    members,
                    "content is the same at each reading again; it was not in {total} rows since {since}"
                );
            }
        }
    }
}
