//! `check`: what can be known before anything is written? Configuration, upstream, Kafka and registry, a line each.
//!
//! ```text
//! configuration ─┬─► upstream, a task a lender ─┐
//!                ├─► kafka ─────────────────────┼─► schemas of records that are there ─► findings
//!                └─► registry ──────────────────┘
//! ```
//!
//! It only looks: it joins no group, claims no lender, creates no topic and registers no schema. The one claim is that of
//! the transactional id `<name>.check`, which nobody else uses. Each part ends within `LIMIT`, whoever hangs.
//!
//! - `finding`: what is said (pure)
//! - `upstream`: name, connection, login, one page
//! - `page`: what is odd in a page (pure)
//! - `kafka`: brokers, topics, a transaction; `authorization`, `group`, `cursors`, `records`: what may be done, and what stands there
//! - `registry`: the subjects; the schemas of records

mod ask;
mod authorization;
mod cursors;
mod execute;
mod finding;
mod group;
mod kafka;
mod page;
mod records;
mod registry;
mod upstream;

pub use execute::{Args, execute};
