//! What is one D02 row worth? A typed [`Account`], or a [`Rejected`] row and why.
//!
//! ```text
//! row's JSON ─► members (names and raw values) ─┬─► Account   (docs/records.md, strictly)
//!                                               ├─► digest    (the content: what is written, as upstream sent it)
//!                                               └─► invalid   (fields whose value did not fit)
//! ```
//!
//! Nothing here rounds, guesses or defaults: a value fits its field exactly, or it is kept as text and named.

mod by_name;
mod date;
mod digest;
mod fields;
mod member;
mod names;
mod number;
mod rejected;
mod row;
mod rules;
mod scan;
#[cfg(test)]
mod tests;
mod tracked;

#[cfg(test)]
pub(crate) use tracked::tests::contents;

pub(crate) use date::{day, day_text, instant};
pub(crate) use digest::Digest;
pub(crate) use fields::{Account, Op};
pub(crate) use member::{JsonType, shortened};
pub(crate) use names::{list, listed};
pub(crate) use number::AmountTolerance;
pub(crate) use rejected::{Reason, Rejected};
#[cfg(any(test, feature = "demo"))]
pub(crate) use row::Row;
pub(crate) use row::{Scratch, content_members, dead_letter_digest, read_row};
pub(crate) use rules::Extra;
pub(crate) use rules::Rules;
pub(crate) use tracked::Changed;
pub(crate) use tracked::{AMOUNT_COUNT, Content, Tracked};
