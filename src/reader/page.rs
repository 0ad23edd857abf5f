//! What is a page once it is verified? Rows as the bytes of accounts, and what they move.

use std::convert::Infallible;
use std::fmt;

use tokio::sync::oneshot;

use crate::account::{Digest, Rejected};
use crate::clock::Tick;
use crate::exit::{Diagnosis, ErrorCode};
use crate::in_flight::Taken;
use crate::progress::Step;

/// Longer tokens fit neither a URL nor the cursor record.
pub(super) const MAX_CURSOR: usize = 4096;

/// A verified page whose rows are encoded.
pub(crate) struct Page {
    pub step: Step,
    pub entries: Vec<Entry>,
    /// Keys, values and dead rows, one after another.
    pub(super) bytes: Vec<u8>,
    pub requested: Tick,
    pub received: Tick,
    pub request_id: Option<String>,
    /// Fields that upstream changed for all rows: they had an alarm of their own.
    pub drifting: Vec<&'static str>,
    pub(super) tail: PageTail,
    /// The room that it takes, until it is committed.
    pub(super) taken: Option<Taken>,
    /// With the last page of a walk: dropped once it is committed.
    pub(super) _done: Option<oneshot::Sender<Infallible>>,
}

/// The rows of a page that have its last `updated_at`: XXH3-64 of each as received. A page that comes twice within one
/// `updated_at` shows by nothing else.
pub(super) struct PageTail {
    pub row_hashes: Vec<u64>,
    /// The page before ended with this `updated_at`, too.
    pub is_continued: bool,
}

/// A part of a page's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

pub(crate) enum Entry {
    Account(EncodedRow),
    DeadLetter(DeadRow),
}

pub(crate) struct EncodedRow {
    pub public_id: Span,
    pub value: Span,
    pub updated_at: i64,
    pub created_at: Option<i64>,
    pub digest: Digest,
    /// The header `d02.invalid`.
    pub invalid: Option<Box<str>>,
    /// Kept only where the record may be too large for its topic.
    pub received: Option<ReceivedRow>,
}

/// A row as received.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReceivedRow {
    pub json: Span,
    /// As of a dead letter.
    pub digest: Digest,
}

pub(crate) struct DeadRow {
    pub json: Span,
    pub rejected: Box<Rejected>,
    pub digest: Digest,
}

/// Without the rows: their contents belong in no log.
impl fmt::Debug for Page {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (step, request_id) = (&self.step, &self.request_id);
        f.debug_struct("Page")
            .field("step", step)
            .field("row_count", &self.entries.len())
            .field("request_id", request_id)
            .finish_non_exhaustive()
    }
}

impl Page {
    pub(crate) fn text(&self, span: Span) -> &str {
        std::str::from_utf8(self.bytes(span)).expect("only text is read as text")
    }

    pub(crate) fn bytes(&self, span: Span) -> &[u8] {
        &self.bytes[span.start as usize..span.end as usize]
    }

    /// The memory that it takes: all of its buffers, not only what they are filled with.
    pub(super) fn size(&self) -> usize {
        let Self {
            entries, bytes, tail, ..
        } = self;
        let hashes = tail.row_hashes.capacity() * size_of::<u64>();
        size_of::<Self>() + bytes.capacity() + entries.capacity() * size_of::<Entry>() + hashes
    }

    /// The `public_id` of its last account.
    pub(super) fn last_id(&self) -> Option<&str> {
        self.entries.iter().rev().find_map(|entry| match entry {
            Entry::Account(row) => Some(self.text(row.public_id)),
            Entry::DeadLetter(_) => None,
        })
    }
}

/// The code of a page that does not count.
pub(crate) const DISCARDED: ErrorCode = ErrorCode::U08;

/// Why a page does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unverified {
    #[error("`meta` says {found} for `{bound}`, asked was {asked}")]
    Bound {
        bound: &'static str,
        asked: String,
        found: String,
    },
    #[error("row {row} is older than the one before it")]
    Order { row: usize },
    #[error("row {row} lies outside of what was asked for")]
    Outside { row: usize },
    #[error("`nextCursor` is the cursor that was sent")]
    SameCursor,
    #[error("every row of it was in a page before")]
    Repeated,
    #[error("the third empty page in a row says that there is more")]
    Empty,
    #[error("it has more rows than a page can have")]
    TooManyRows,
    #[error("`nextCursor` has {length} bytes, {MAX_CURSOR} are plenty")]
    LongCursor { length: usize },
}

impl Diagnosis for Unverified {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Bound { .. }
            | Self::Order { .. }
            | Self::Outside { .. }
            | Self::SameCursor
            | Self::Repeated
            | Self::Empty
            | Self::TooManyRows
            | Self::LongCursor { .. } => DISCARDED,
        }
    }

    fn advice(&self) -> &str {
        "the page is discarded and asked for again; tell the vendor's support if it lasts"
    }
}
