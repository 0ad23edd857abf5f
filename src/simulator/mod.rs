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
mod handle;
mod lender;
mod live;
mod login;
mod options;
mod query;
mod rows;
mod server;
mod shared;
mod start;
mod store;
mod tls;
mod tokens;
mod view;

/// When, as rows and requests have it.
pub use crate::progress::Timestamp;
pub use answer::Body;
pub use fault::{Effect, Endpoint, Fault, RetryAfter, ScriptError, parse_script};
pub use handle::Handle;
pub(crate) use options::is_member;
pub use options::{DEFAULT_BY, LenderOptions, MAX_SHIFT, Options, Total, UnknownTotal};
pub use rows::{Bad, Odd, RowKind};
pub use start::{Simulator, StartError};
pub use tls::{Authority, Certified, TlsError, ca_file};
pub use view::{Counts, LenderInfo, RequestLog, StoredRow};
