//! Which version of an account does `accounts` hold?

use crate::account::Digest;
use crate::avro::WriterSchema;
use crate::clock::Tick;

/// The version of an account that `accounts` holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub digest: Digest,
    /// When its page was received.
    pub received: Tick,
    /// It was written though a newer version was held.
    pub is_regressed: bool,
    /// Since the start, it or a version before it was.
    pub went_back: bool,
    pub schema: WriterSchema,
}

/// A version as a record of `accounts` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub digest: Digest,
    pub is_regressed: bool,
    pub schema: WriterSchema,
}
