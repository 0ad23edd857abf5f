//! Is what `accounts` holds what upstream shows? All of both is read, compared, and what differs asked again.
//!
//! ```text
//! upstream, all ─► table ─┐
//!                         ├─ merge ─► suspects ─► wait, look at them again ─► … ─► findings
//! accounts, all ─► table ─┘                       (upstream first, then what came in the topics)
//! ```
//!
//! It only reads: it joins no group, takes no lender, and can run beside a source. That one follows upstream, so at any
//! moment something is on its way; only what does not arrive is wrong (`finding`).
//!
//! - `table`: one side, small and sorted (pure)
//! - `finding`: what two looks say of an account (pure)
//! - `rows`: upstream's rows
//! - `looks`: the first look, and the further ones at what differed
//! - `repair`: which command mends it (pure)
//! - `found`: what was found of one lender (pure)
//! - `verifier`: all lenders, one after another

mod finding;
mod found;
mod looks;
mod repair;
mod rows;
mod table;
mod verifier;

pub(crate) use finding::FindingKind;
pub(crate) use found::{DeadRowFinding, Findings, Listed, Report};
#[cfg(test)]
pub(crate) use repair::Repair;
pub(crate) use verifier::reports;
