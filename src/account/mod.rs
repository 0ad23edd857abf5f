//! What is one D02 row worth? A typed [`Account`], or a [`Rejected`] row and why.
//!
//! ```text
//! row's JSON ─► members (names and raw values) ─┬─► Account   (docs/records.md, strictly)
//!                                               ├─► digest    (the content as upstream sent it)
//!                                               └─► invalid   (fields whose value did not fit)
//! ```
//!
//! Nothing here rounds, guesses or defaults: a value fits its field exactly, or it is kept as text and named.

mod date;
mod digest;
mod fields;
mod member;
mod number;
mod rejected;
mod row;
mod rules;
#[cfg(test)]
mod tests;
mod tracked;

pub use date::{day, instant};
pub use digest::Digest;
pub use fields::{Account, Op};
pub use member::{JsonType, shortened};
pub use number::AmountTolerance;
pub use rejected::{Reason, Rejected};
#[cfg(test)]
use row::Row;
pub use row::{Scratch, read_row};
pub use rules::{Extra, Rules};
#[cfg(test)]
pub use tracked::tests::contents;
pub use tracked::{AMOUNT_COUNT, Changed, Content, Tracked};
