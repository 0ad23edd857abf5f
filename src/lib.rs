//! Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once.
//!
//! Data enters at the top and leaves at the bottom; a module uses only what stands above it.
//!
//! | Layer | Module | Its one responsibility |
//! |---|---|---|
//! | values | [`account`] | a D02 row as a typed account, or why it is none; its digest. Pure |
//! | | [`progress`] | what is read, what is left; the cursor record. Pure |
//! | | [`exit`], `jwt` | exit codes, an error with its causes; what a token says of itself. Pure |
//! | | [`backoff`], `tls` | how long until the next try; whom a client believes |
//! | | [`config`], [`metrics`], [`clock`], [`shutdown`], [`watchdog`], [`failpoint`] | settings; metrics; time; the end; loops that hang; tests' stops |
//! | codec | [`avro`] | accounts to framed bytes, and back to JSON. Pure |
//! | | [`index`] | which rows are news. Pure |
//! | edges | [`upstream`] | one page after a cursor |
//! | | [`registry`] | schema ids and the schemas behind them; what a subject takes, and its compatibility |
//! | | `kafka` | a cluster's clients, what they report and read; nothing of what records mean |
//! | | [`sink`] | a batch with its progress, or nothing; what is committed, read back |
//! | core | [`policy`] | error → retry, reopen or stop, and the advice a person gets |
//! | | [`reader`] | walks → verified, encoded pages in order |
//! | | [`pipeline`] | the loop |
//! | | [`start`] | a lender claimed, restored and checked, or refused |
//! | shell | [`http`] | health and metrics, for those who watch |
//! | | [`command`] | a subcommand a file |
//! | beside | [`simulator`] | an independent upstream; never imports `upstream` |
//! | | `model` | the model test: all of this on one thread, by a seed |
//! | | `testbed` | a broker and a registry on this machine, for the demo and the tests |

pub mod account;
pub mod avro;
pub mod backoff;
pub mod clock;
pub mod command;
pub mod config;
pub mod exit;
pub mod failpoint;
pub mod http;
pub mod index;
mod jwt;
mod kafka;
pub mod login;
pub mod metrics;
#[cfg(test)]
mod model;
pub mod pipeline;
pub mod policy;
pub mod progress;
pub mod progress_bar;
pub mod reader;
pub mod registry;
pub mod replay;
pub mod shutdown;
pub mod simulator;
pub mod sink;
pub mod supervisor;
#[cfg(feature = "demo")]
pub mod testbed;
mod tls;
pub mod upstream;
pub mod varint;
pub mod verify;
pub mod watchdog;
