//! `tail`: what stands in a topic? Decoded, a line a record. What is printed is data, and goes to standard output alone.

mod args;
mod cell;
mod change;
mod decoders;
mod dpd;
mod error;
mod execute;
mod kind;
mod line;
mod portfolio;
mod printer;
mod table;

pub use args::Args;
pub(super) use cell::is_unprintable;
pub use execute::execute;
