//! What does the vendor's Exports API do? An independent implementation of it, for tests, users and benchmarks.
//!
//! It shares no code with the client, so that a misreading of the contract cannot stand on both sides.
//!
//! ```text
//!   socket ── server ──┬── control    what a process outside asks for
//!                      ├── login ──── tokens
//!                      └── export ─┬─ query, cursor
//!                                  ├─ fault      what goes wrong next
//!                                  └─ lender ─┬─ store   the order of rows
//!      live ─── changes at rates ─────┘         └─ rows    what a row looks like
//! ```

mod answer;
mod clock;
mod control;
mod cursor;
mod export;
mod fault;
mod lender;
mod live;
mod login;
mod options;
mod query;
mod rows;
mod server;
mod store;
mod tls;
mod tokens;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use fastrand::Rng;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use twox_hash::XxHash3_64;

use clock::Clock;
use fault::Script;
use lender::Lender;
use store::{Filter, Key, Row};

pub use answer::Body;
pub use fault::{Effect, Endpoint, Fault, RetryAfter, ScriptError, parse_script};
pub use options::{DEFAULT_BY, LenderOptions, MAX_SHIFT, Options, Total, UnknownTotal};
pub use rows::{Bad, Odd, RowKind};
pub use tls::{Authority, Certified, TlsError, ca_file};

const MAX_LOGGED_REQUESTS: usize = 10_000;

/// Why a simulator does not start.
#[derive(Debug, Error)]
pub enum StartError {
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot serve https")]
    Tls(#[from] TlsError),
}

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

/// What can be changed while it runs.
#[derive(Debug)]
struct Control {
    script: Script,
    page_limit: Option<usize>,
    /// A query over more rows takes too long.
    scan_limit: Option<usize>,
    /// No page with this row can be served.
    poisoned: Option<String>,
    down: bool,
    latency: Duration,
    total: Total,
    /// Cursors of earlier epochs are dead.
    cursor_epoch: u64,
    log: VecDeque<RequestLog>,
    counts: Counts,
}

#[derive(Debug)]
struct Shared {
    clock: Clock,
    lenders: Vec<Lender>,
    secret: u64,
    token_lifetime: Duration,
    refresh_token_lifetime: Duration,
    gzip: bool,
    base_url: String,
    ca_file: Option<PathBuf>,
    numbers: AtomicU64,
    control: Mutex<Control>,
}

impl Shared {
    fn control(&self) -> MutexGuard<'_, Control> {
        self.control.lock().expect("nothing panics while it holds the lock")
    }

    fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn request_id(&self) -> String {
        format!("req_{:016x}", self.secret.wrapping_add(self.next_number()))
    }

    fn next_effect(&self, endpoint: Endpoint, subdomain: &str, cursor: bool, until: bool) -> Option<Effect> {
        let mut control = self.control();
        let effect = control.script.take(endpoint, subdomain, cursor, until)?;
        control.counts.fault_count += 1;
        Some(effect)
    }

    fn touch(&self, lender: usize, count: usize, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].touch(&self.clock, count, rng);
        self.control().counts.change_count += ids.len() as u64;
        ids
    }

    fn insert(&self, lender: usize, count: usize) -> Vec<String> {
        let ids = self.lenders[lender].insert(&self.clock, count);
        self.control().counts.insert_count += ids.len() as u64;
        ids
    }

    fn delete(&self, lender: usize, count: usize, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].delete(count, rng);
        self.control().counts.delete_count += ids.len() as u64;
        ids
    }

    fn change_late(&self, lender: usize, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        self.lenders[lender].change_late(&self.clock, count, by, rng)
    }

    /// Gives when the next late change becomes visible.
    fn reveal(&self, lender: usize, now: Instant, most: usize) -> Option<Instant> {
        let (count, next) = self.lenders[lender].reveal(now, most);
        self.control().counts.late_count += count;
        next
    }

    fn change_ahead(&self, lender: usize, count: usize, by: Duration, rng: &mut Rng) -> Vec<String> {
        let ids = self.lenders[lender].change_ahead(&self.clock, count, by, rng);
        self.control().counts.ahead_count += ids.len() as u64;
        ids
    }

    fn vanish(&self, lender: usize, filter: &Filter, after: Option<&Key>, limit: usize, count: usize) {
        let gone = self.lenders[lender].vanish(filter, after, limit, count);
        self.control().counts.delete_count += gone;
    }

    fn remove(&self, lender: usize, id: &str) -> bool {
        let removed = self.lenders[lender].write().remove(id);
        self.control().counts.delete_count += u64::from(removed);
        removed
    }

    fn pending_late_count(&self) -> usize {
        let pending = self.lenders.iter().map(|lender| lender.read().late_count());
        pending.sum()
    }

    fn log(&self, request: RequestLog, row_count: usize) {
        let mut control = self.control();
        control.counts.request_count += 1;
        control.counts.row_count += row_count as u64;
        if control.log.len() == MAX_LOGGED_REQUESTS {
            control.log.pop_front();
        }
        control.log.push_back(request);
    }
}

/// A running simulator; dropping it closes its socket and all connections.
#[derive(Debug)]
pub struct Simulator {
    handle: Handle,
    tasks: Vec<JoinHandle<()>>,
}

/// Looks into a running simulator and changes what it does. Lenders are numbered from 0, in the order of the options; a
/// number without a lender panics.
#[derive(Debug, Clone)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Simulator {
    /// Renders the rows, listens, and serves from tasks of the current runtime.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let listening = |source| StartError::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(listening)?;
        let address = crate::http::reachable(listener.local_addr().map_err(listening)?);
        let (acceptor, ca_file) = match &options.tls {
            Some(dir) => {
                let (acceptor, ca_file) = tls::acceptor(dir, address.ip(), &options.tls_names)?;
                (Some(acceptor), Some(ca_file))
            }
            None => (None, None),
        };
        let base_url = match (&acceptor, options.tls_names.first()) {
            (None, _) => format!("http://{address}"),
            (Some(_), None) => format!("https://{address}"),
            (Some(_), Some(name)) => format!("https://{name}:{}", address.port()),
        };
        let (seed, lenders) = (options.seed, options.lenders);
        let lenders =
            tokio::task::spawn_blocking(move || lenders.iter().map(|lender| Lender::new(seed, lender)).collect())
                .await
                .expect("rendering rows does not panic");
        let shared = Arc::new(Shared {
            clock: Clock::default(),
            lenders,
            secret: XxHash3_64::oneshot(&options.seed.to_be_bytes()),
            token_lifetime: options.token_lifetime,
            refresh_token_lifetime: options.refresh_token_lifetime,
            gzip: options.gzip,
            base_url,
            ca_file,
            numbers: AtomicU64::new(0),
            control: Mutex::new(Control {
                script: Script::new(options.seed),
                page_limit: options.page_limit,
                scan_limit: None,
                poisoned: None,
                down: false,
                latency: options.latency,
                total: options.total,
                cursor_epoch: 0,
                log: VecDeque::new(),
                counts: Counts::default(),
            }),
        });
        shared.clock.set_skew_ms(options.clock_skew_ms);
        let mut tasks = vec![tokio::spawn(server::serve(listener, acceptor, shared.clone()))];
        for (index, lender) in shared.lenders.iter().enumerate() {
            tasks.push(tokio::spawn(live::reveal(shared.clone(), index)));
            if lender.rates.are_any() {
                let rng = Rng::with_seed(options.seed.wrapping_add(index as u64));
                tasks.push(tokio::spawn(live::change(shared.clone(), index, rng)));
            }
        }
        Ok(Self {
            handle: Handle { shared },
            tasks,
        })
    }

    /// A handle that can be cloned and sent to other tasks.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Deref for Simulator {
    type Target = Handle;

    fn deref(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
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
