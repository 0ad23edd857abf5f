//! Looks into a running simulator, and changes what it does.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::answer::Body;
#[cfg(doc)]
use super::fault::Effect;
use super::fault::Fault;
use super::lender::Lender;
use super::options::Total;
use super::server;
use super::shared::Shared;
use super::store::Row;
use super::view::{Counts, LenderInfo, RequestLog, StoredRow};

/// Looks into a running simulator and changes what it does. Lenders are numbered from 0, in the order of the options; a
/// number without a lender panics.
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// `http://127.0.0.1:…`, or what else a client on this machine or under a name of the certificate connects to; without
    /// a slash at the end.
    pub fn base_url(&self) -> String {
        self.shared.base_url.clone()
    }

    /// The authority's certificate, PEM; only with https.
    pub fn ca_file(&self) -> Option<PathBuf> {
        self.shared.ca_file.clone()
    }

    /// Answers a request without a socket; `None` while the simulator is down. The body may still break.
    pub async fn answer<B>(&self, request: hyper::Request<B>) -> Option<hyper::Response<Body>>
    where
        B: hyper::body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
    {
        server::respond(&self.shared, request).await.ok()
    }

    pub fn lender_count(&self) -> usize {
        self.shared.lenders.len()
    }

    /// What a client needs to log in, now.
    pub fn lender(&self, lender: usize) -> LenderInfo {
        self.of(lender).info()
    }

    /// All rows of a lender in their order: the ground truth.
    pub fn rows(&self, lender: usize) -> Vec<StoredRow> {
        self.of(lender).rows()
    }

    pub fn row_count(&self, lender: usize) -> usize {
        self.of(lender).read().store.len()
    }

    /// Writes any text under a place in the order; a row with the same id is replaced. `touch` leaves it alone.
    pub fn upsert_json(&self, lender: usize, updated_at_ms: i64, id: &str, json: &str) {
        let row = Row {
            json: json.into(),
            origin: None,
        };
        let mut data = self.of(lender).write();
        data.store.put(id.into(), updated_at_ms, row);
    }

    /// Changes amounts, and of some the due date, of up to `count` different accounts, now. Gives their ids. Bad rows stay,
    /// and so do accounts that are dated ahead.
    pub fn touch(&self, lender: usize, count: usize, seed: u64) -> Vec<String> {
        self.shared.touch(lender, count, &mut Rng::with_seed(seed))
    }

    /// Adds `count` accounts, now. Gives their ids.
    pub fn insert(&self, lender: usize, count: usize) -> Vec<String> {
        self.shared.insert(lender, count)
    }

    /// As `touch`, but each change becomes visible only after a random time of up to `by`, under the `updated_at` of now. Until
    /// then the account stands as it was; if it is changed or deleted before, the late change is dropped.
    pub fn change_late(&self, lender: usize, count: usize, by: Duration, seed: u64) -> Vec<String> {
        self.shared.change_late(lender, count, by, &mut Rng::with_seed(seed))
    }

    /// Late changes that are not visible yet, of all lenders.
    pub fn pending_late_count(&self) -> usize {
        self.shared.pending_late_count()
    }

    /// As `touch`, but with an `updated_at` that lies `by` ahead. Such an account is not changed again before that time.
    pub fn change_ahead(&self, lender: usize, count: usize, by: Duration, seed: u64) -> Vec<String> {
        self.shared.change_ahead(lender, count, by, &mut Rng::with_seed(seed))
    }

    /// Takes up to `count` different generated rows out, without a trace. Gives their ids.
    pub fn delete(&self, lender: usize, count: usize, seed: u64) -> Vec<String> {
        self.shared.delete(lender, count, &mut Rng::with_seed(seed))
    }

    /// Takes a row out; whether there was one.
    pub fn remove(&self, lender: usize, id: &str) -> bool {
        self.shared.remove(lender, id)
    }

    /// Adds a fault to the end of the script.
    pub fn push_fault(&self, fault: Fault) {
        self.shared.control().script.push(fault);
    }

    pub fn clear_faults(&self) {
        self.shared.control().script.clear();
    }

    /// Faults that requests are still to meet. Those that stay for ever are not among them.
    pub fn fault_count(&self) -> usize {
        self.shared.control().script.pending_count()
    }

    /// From now on, a query whose bounds hold more rows is answered with 504, whatever its `limit`.
    pub fn set_scan_limit_504(&self, rows: Option<usize>) {
        self.shared.control().scan_limit = rows;
    }

    /// From now on, a page that would hold this row is answered with 500.
    pub fn poison(&self, id: Option<&str>) {
        self.shared.control().poisoned = id.map(str::to_owned);
    }

    /// From now on, every row has these members beside its own, with another value in each answer.
    pub fn set_volatile_members(&self, names: &[&str]) {
        self.shared.control().volatile_members = names.iter().map(|name| (*name).to_owned()).collect();
    }

    /// From now on, a larger `limit` is answered with 504.
    pub fn set_page_limit_504(&self, limit: Option<usize>) {
        self.shared.control().page_limit = limit;
    }

    /// From now on, every connection is closed without an answer.
    pub fn set_down(&self, down: bool) {
        self.shared.control().down = down;
    }

    pub fn set_latency(&self, latency: Duration) {
        self.shared.control().latency = latency;
    }

    pub fn set_total(&self, total: Total) {
        self.shared.control().total = total;
    }

    /// The simulator's clock minus the machine's, in milliseconds: `Date`, `updated_at` and token expiry follow it.
    pub fn set_clock_skew(&self, skew_ms: i64) {
        self.shared.clock.set_skew_ms(skew_ms);
    }

    /// `Date` minus the simulator's clock, in milliseconds: rows and tokens do not follow it.
    pub fn set_date_skew(&self, skew_ms: i64) {
        self.shared.clock.set_date_skew_ms(skew_ms);
    }

    /// Keeps a copy of a lender's rows as they are now, in place of one before: [`Effect::OldCopy`] answers from it.
    pub fn keep_copy(&self, lender: usize) {
        self.of(lender).write().keep_copy();
    }

    pub fn now_ms(&self) -> i64 {
        self.shared.clock.now_ms()
    }

    pub fn set_password(&self, lender: usize, password: &str) {
        password.clone_into(&mut self.of(lender).access().password);
    }

    /// An inactive lender gets 401 everywhere.
    pub fn set_active(&self, lender: usize, active: bool) {
        self.of(lender).access().active = active;
    }

    /// All access tokens given so far are refused.
    pub fn revoke_tokens(&self) {
        for lender in &self.shared.lenders {
            lender.access().token_generation += 1;
        }
    }

    /// All refresh tokens given so far are refused.
    pub fn revoke_refresh_tokens(&self) {
        for lender in &self.shared.lenders {
            lender.access().refresh_generation += 1;
        }
    }

    /// All cursors given so far are answered with 500.
    pub fn kill_cursors(&self) {
        self.shared.control().cursor_epoch += 1;
    }

    /// The latest requests, at most 10,000, oldest first.
    pub fn requests(&self) -> Vec<RequestLog> {
        self.shared.control().log.iter().cloned().collect()
    }

    pub fn counts(&self) -> Counts {
        self.shared.control().counts
    }

    fn of(&self, lender: usize) -> &Lender {
        &self.shared.lenders[lender]
    }
}
