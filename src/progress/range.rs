//! A part of the past still being read: where it begins, stands and ends.

use serde::{Deserialize, Serialize};

use super::timestamp::Timestamp;

/// A part of the past still being read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Range {
    /// As sent: the bounds that `cursor` belongs to.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    /// The range ends at its first row at or after this.
    pub stop: Timestamp,
    /// Upstream's token for the next page; none before the first.
    pub cursor: Option<String>,
    /// The highest `updated_at` committed.
    pub highest: Option<Timestamp>,
    /// The `public_id` of the last row before `cursor`, where it is known: what tells a page that goes on within one
    /// `updated_at` from one that comes twice. Stands beside the ranges in the record, whose form stays as it is.
    #[serde(skip)]
    pub last_id: Option<Box<str>>,
}

/// Where the next live walk goes on, if that is inside the group of rows that have the time `read`: their `updated_at` is no
/// place that one could begin at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// As sent: the bound that `cursor` belongs to.
    pub since: Option<Timestamp>,
    /// Upstream's token for the last page of the walk, which is read once more.
    pub cursor: String,
    /// The `public_id` of the row before it.
    pub last_id: Box<str>,
    /// Rows of that page; 0, which the record does not keep: not known. All but one of them can be left behind.
    pub row_count: u16,
}

/// A range becomes two: it ends at `at`, and a fresh walk reads `[at, stop)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Split {
    /// The range's `stop` so far.
    pub stop: Timestamp,
    pub at: Timestamp,
}

impl Range {
    /// A walk over `[since, stop)` that has not begun.
    pub(crate) fn fresh(since: Timestamp, stop: Timestamp) -> Self {
        Self {
            since: Some(since),
            until: Some(stop),
            stop,
            cursor: None,
            highest: None,
            last_id: None,
        }
    }

    /// It goes on as a fresh walk from its highest row.
    pub(super) fn forget_cursor(&mut self) {
        *self = Self {
            since: self.position(),
            ..Self::fresh(self.stop, self.stop)
        };
    }

    /// Where it stands: everything before is read. `None` where it reads from the oldest row on and has none yet.
    pub(crate) fn position(&self) -> Option<Timestamp> {
        self.highest.max(self.since)
    }
}
