//! What does a batch write, before it is known to be committed?

use std::collections::HashMap;

use super::key::Key;
use super::version::Held;
use crate::account::Content;
use crate::clock::Tick;

/// The accounts that one batch writes, not yet known to be committed.
#[derive(Debug, Default)]
pub(crate) struct PendingVersions<'a> {
    pub(super) written: HashMap<Key, Written<'a>>,
    /// What was shown again as it is held, and when that was received.
    pub(super) repeated: Vec<(Key, Tick)>,
    pub(super) deleted: Vec<Key>,
    pub(super) new_count: u64,
    pub(super) checksum: u64,
}

#[derive(Debug)]
pub(super) struct Written<'a> {
    pub(super) held: Held,
    pub(super) content: Option<Content<'a>>,
}
