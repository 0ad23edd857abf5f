//! Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once.
//!
//! Data enters at the top and leaves at the bottom; a module uses only what stands above it.
//!
//! | Layer | Module | Its one responsibility |
//! |---|---|---|
//! | values | `exit`, `log`, `failpoint`, `clock`, `varint`, `jwt`, `tls`, `loopback`, `cases` | exit codes; an error with its causes, code, advice and page; lines that get out without anybody waiting; tests' stops; time; numbers of variable length; what a token says of itself; whom a client believes; what stays on this machine; how long property tests try |
//! | | `shutdown`, `backoff`, `phase`, `watchdog`, `in_flight` | the end; the next try; when it is a lender's turn; loops that hang; memory of what is under way |
//! | | `account` | a D02 row as a typed account, or why it is none; its digest. Pure |
//! | | `progress` | what is read, what is left; the cursor record. Pure |
//! | | `config`, `counter`, `metrics` | settings; what a counter is; metrics |
//! | codec | `avro` | accounts to framed bytes, and back to JSON. Pure |
//! | | `index` | which rows are news. Pure |
//! | edges | `upstream` | one page after a cursor |
//! | | `registry` | schema ids and the schemas behind them; what a subject takes, and its compatibility |
//! | | `kafka` | the cluster: clients and their settings, authentication, what a user may, reading to the true end |
//! | | `sink` | a batch with its progress, or nothing; what is committed, read back; the topics |
//! | | `http` | health and metrics, for those who watch |
//! | core | `targets` | what is wanted of each lender: started, paused, stopped |
//! | | `policy` | error → retry, reopen or stop |
//! | | `login` | one log-in, with a patience |
//! | | `reader` | walks → verified, encoded pages in order |
//! | | `pipeline` | a lender's life: claimed, restored, read on, released; the loop |
//! | | `assignment` | which lenders are this process's |
//! | | `connect` | Kafka Connect's REST API |
//! | | `members` | who else is in the group |
//! | | `progress_bar` | what a terminal shows of a snapshot |
//! | | `supervisor` | every lender of the configuration, to its end |
//! | | `replay`, `verify` | dead letters tried again; both sides compared |
//! | beside | `simulator` | an independent upstream; never uses `upstream` |
//! | | `testbed` | a broker and a registry on this machine, for the demo and the tests |
//! | shell | `selection`, `subjects` | which lenders and topics a person means; which subjects, and what the registry says of them |
//! | | `command` | a subcommand a file |
//! | | `hot_path` | the steps of a row's way, for the benchmark |
//! | | `model` | the model test: all of this on one thread, by a seed |

mod account;
mod assignment;
mod avro;
mod backoff;
#[cfg(test)]
mod cases;
pub mod clock;
pub mod command;
pub mod config;
mod connect;
mod counter;
pub mod exit;
mod failpoint;
#[cfg(feature = "demo")]
#[doc(hidden)]
pub mod hot_path;
mod http;
mod in_flight;
mod index;
mod jwt;
mod kafka;
pub mod log;
mod login;
mod loopback;
mod members;
mod metrics;
#[cfg(test)]
mod model;
mod phase;
mod pipeline;
mod policy;
mod progress;
pub mod progress_bar;
mod reader;
mod registry;
mod replay;
mod selection;
mod shutdown;
pub mod simulator;
mod sink;
mod subjects;
mod supervisor;
mod targets;
#[cfg(feature = "demo")]
pub mod testbed;
mod tls;
mod upstream;
mod varint;
mod verify;
mod watchdog;
