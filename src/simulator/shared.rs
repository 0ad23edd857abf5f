//! What do the parts of a running simulator share? Its clock and lenders, and what can be changed while it runs.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::clock::Clock;
use super::fault::{Effect, Endpoint, Script};
use super::lender::Lender;
use super::options::Total;
use super::store::{Filter, Key};
use super::view::{Counts, RequestLog};

/// Bytes of a request's body.
pub(super) const MAX_REQUEST_BODY: usize = 64 * 1024;

const MAX_LOGGED_REQUESTS: usize = 10_000;

/// What can be changed while it runs.
#[derive(Debug)]
pub(super) struct Control {
    pub script: Script,
    pub page_limit: Option<usize>,
    /// A query over more rows takes too long.
    pub scan_limit: Option<usize>,
    /// No page with this row can be served.
    pub poisoned: Option<String>,
    /// Members of every row that have another value in each answer.
    pub volatile_members: Vec<String>,
    pub down: bool,
    pub latency: Duration,
    pub total: Total,
    /// Cursors of earlier epochs are dead.
    pub cursor_epoch: u64,
    pub log: VecDeque<RequestLog>,
    pub counts: Counts,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub clock: Clock,
    pub lenders: Vec<Lender>,
    pub secret: u64,
    pub token_lifetime: Duration,
    pub refresh_token_lifetime: Duration,
    pub gzip: bool,
    pub base_url: String,
    pub ca_file: Option<PathBuf>,
    pub numbers: AtomicU64,
    pub control: Mutex<Control>,
}

impl Shared {
    pub(super) fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect("nothing panics while it holds the lock")
    }

    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn request_id(&self) -> String {
        format!("req_{:016x}", self.secret.wrapping_add(self.next_number()))
    }

    pub(super) fn next_effect(&self, endpoint: Endpoint, subdomain: &str, cursor: bool, until: bool) -> Option<Effect> {
        let mut control = self.control();
        let effect = control.script.take(endpoint, subdomain, cursor, until)?;
        control.counts.fault_count += 1;
        Some(effect)
    }

    pub(super) fn touch(&self, lender: usize, count: usize, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].touch(&self.clock, count, rng);
        self.control().counts.change_count += ids.len() as u64;
        ids
    }

    pub(super) fn insert(&self, lender: usize, count: usize) -> Vec<String> {
        let ids = self.lenders[lender].insert(&self.clock, count);
        self.control().counts.insert_count += ids.len() as u64;
        ids
    }

    pub(super) fn delete(&self, lender: usize, count: usize, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].delete(count, rng);
        self.control().counts.delete_count += ids.len() as u64;
        ids
    }

    pub(super) fn change_late(&self, lender: usize, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        self.lenders[lender].change_late(&self.clock, count, by, rng)
    }

    /// Gives when the next late change becomes visible.
    pub(super) fn reveal(&self, lender: usize, now: Instant, most: usize) -> Option<Instant> {
        let (count, next) = self.lenders[lender].reveal(now, most);
        self.control().counts.late_count += count;
        next
    }

    pub(super) fn change_ahead(&self, lender: usize, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].change_ahead(&self.clock, count, by, rng);
        self.control().counts.ahead_count += ids.len() as u64;
        ids
    }

    pub(super) fn vanish(&self, lender: usize, filter: &Filter, after: Option<&Key>, limit: usize, count: usize) {
        let gone = self.lenders[lender].vanish(filter, after, limit, count);
        self.control().counts.delete_count += gone;
    }

    pub(super) fn remove(&self, lender: usize, id: &str) -> bool {
        let removed = self.lenders[lender].write().remove(id);
        self.control().counts.delete_count += u64::from(removed);
        removed
    }

    pub(super) fn pending_late_count(&self) -> usize {
        let pending = self.lenders.iter().map(|lender| lender.read().late_count());
        pending.sum()
    }

    pub(super) fn log(&self, request: RequestLog, row_count: usize) {
        let mut control = self.control();
        control.counts.request_count += 1;
        control.counts.row_count += row_count as u64;
        if control.log.len() == MAX_LOGGED_REQUESTS {
            control.log.pop_front();
        }
        control.log.push_back(request);
    }
}
