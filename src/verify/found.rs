//! What was found of one lender?

use std::collections::HashMap;

use super::finding::FindingKind;
use super::repair::Repair;
use crate::exit::{Exit, Failure};
use crate::progress::Timestamp;

/// One lender's outcome.
pub(crate) struct Report {
    pub lender: String,
    pub found: Result<Findings, Failure>,
}

impl Report {
    pub(crate) fn exit(&self) -> Exit {
        match &self.found {
            Ok(found) if found.is_equal() => Exit::Done,
            Ok(_) => Exit::Failed,
            Err(failure) => failure.exit(),
        }
    }
}

/// What was found of one lender.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub public_id: String,
    pub topic: String,
    pub dead_letters_topic: String,
    /// Accounts upstream, without those that are ignored.
    pub upstream_count: usize,
    /// Accounts in the topic.
    pub held_count: usize,
    /// Rows older than `start_from` whose account the topic does not hold.
    pub ignored_count: usize,
    /// Rows that could not be accounts and were gone or changed when they were looked at again.
    pub moved_count: usize,
    pub kinds: HashMap<FindingKind, Counted<Listed>>,
    pub dead: Counted<DeadRowFinding>,
    /// Of these, those that are not in `dead-letters`.
    pub unburied_count: usize,
    /// Retention has removed dead letters, so that one which is not there may have been.
    pub is_cut: bool,
    pub repair: Repair,
}

impl Findings {
    pub(crate) fn is_equal(&self) -> bool {
        let is_wrong = |kind: &FindingKind| kind.is_difference() && self.count(*kind) > 0;
        !FindingKind::ALL.iter().any(is_wrong) && (self.unburied_count == 0 || self.is_cut)
    }

    pub(crate) fn count(&self, kind: FindingKind) -> usize {
        self.kinds.get(&kind).map_or(0, |counted| counted.count)
    }

    pub(crate) fn changed_count(&self) -> usize {
        self.count(FindingKind::Changed) + self.moved_count
    }
}

/// All of something counted, the first of it listed.
#[derive(Debug)]
pub(crate) struct Counted<T> {
    pub count: usize,
    pub listed: Vec<T>,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self {
            count: 0,
            listed: Vec::new(),
        }
    }
}

impl<T: Ord> Counted<T> {
    /// Counts it, and lists it while fewer than `limit` stand before it.
    pub(crate) fn add(&mut self, item: T, limit: usize) {
        /// So many more are kept until they are sorted out.
        const SPARE: usize = 1_000;
        self.count += 1;
        self.listed.push(item);
        if self.listed.len() > limit.saturating_add(SPARE) {
            self.list(limit);
        }
    }

    /// Keeps the first `limit` in order.
    pub(crate) fn list(&mut self, limit: usize) {
        self.listed.sort_unstable();
        self.listed.truncate(limit);
    }
}

/// An account that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Listed {
    pub public_id: String,
    pub upstream_at: Option<Timestamp>,
    pub held_at: Option<Timestamp>,
}

/// A row that cannot be an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DeadRowFinding {
    /// Those that are not come first.
    pub is_buried: bool,
    pub public_id: Option<String>,
    pub updated_at: Option<Timestamp>,
    pub reason: String,
    pub field: Option<String>,
    /// `updated_at` of the account's last good record.
    pub held_at: Option<Timestamp>,
}
