//! What of a simulator can be looked at from outside?

use super::fault::Effect;
use super::rows::RowKind;

/// What a client needs to log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LenderInfo {
    pub subdomain: String,
    pub public_id: String,
    pub email: String,
    pub password: String,
}

/// A row as upstream has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    /// The `_id` in the order; `public_id` in the text of a row that has one.
    pub id: String,
    /// The time in the order; `updated_at` in the text of a row that has one.
    pub updated_at_ms: i64,
    pub json: String,
    pub kind: RowKind,
}

/// A request that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestLog {
    /// When its head was read, by the simulator's clock.
    pub at_ms: i64,
    pub method: String,
    pub path: String,
    pub query: String,
    /// What it was, or will be, answered; `None` while the simulator is down.
    pub status: Option<u16>,
    /// What it met of the fault script.
    pub effect: Option<Effect>,
    pub request_id: String,
}

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub request_count: u64,
    /// Rows in answered pages.
    pub row_count: u64,
    /// Faults that a request met.
    pub fault_count: u64,
    /// Accounts that were changed, at a rate or because it was asked for; late changes and those dated ahead not among them.
    pub change_count: u64,
    pub insert_count: u64,
    /// Rows that were taken out, those that vanished ahead of a walk among them.
    pub delete_count: u64,
    /// Late changes that have become visible.
    pub late_count: u64,
    /// Changes that were dated ahead.
    pub ahead_count: u64,
}
