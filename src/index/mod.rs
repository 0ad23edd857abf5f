//! Which rows are news? What `accounts` holds for one lender, in memory: the topic is the state, this is its image.
//!
//! Decisions are made against the index *and* what the batch decided before ([`PendingVersions`]); only a commit that is known
//! to have landed makes them part of the index ([`Index::remember`]). So a batch can be decided again, and never twice.

mod decision;
mod image;
mod key;
mod packed;
mod pending;
mod removals;
mod restored;
mod schemas;
mod store;
mod tombstones;
mod version;

pub(crate) use decision::Verdict;
pub(crate) use decision::{Decision, RowVersion};
pub(crate) use image::Index;
pub(crate) use key::Key;
pub(crate) use pending::PendingVersions;
pub(crate) use removals::{Explained, Removals};
pub(crate) use restored::Restored;
pub(crate) use version::Held;
pub(crate) use version::Version;
