//! `demo`: is the promise true? Everything on one machine: a broker, a registry, an upstream, the source, live changes, a
//! SIGKILL in the middle of a transaction, and what an independent reader finds afterwards.

mod audience;
mod error;
mod play;
mod reader;
mod stage;
mod verdict;

pub use play::{Args, execute};
