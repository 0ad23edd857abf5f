//! What can a person ask for? A subcommand a file.

pub mod check;
pub mod completions;
pub mod config;
pub mod cursor;
#[cfg(feature = "demo")]
pub mod demo;
pub mod explain;
pub mod health_check;
pub mod lender;
mod print;
pub mod reconcile;
pub mod replay;
pub mod republish;
pub mod run;
pub mod schema;
pub mod setup;
pub mod simulate;
pub mod tail;
pub mod verify;
