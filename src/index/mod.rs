//! Which rows are news? What `accounts` holds for one lender, in memory: the topic is the state, this is its image.
//!
//! Decisions are made against the index *and* what the batch decided before ([`PendingVersions`]); only a commit that is known
//! to have landed makes them part of the index ([`Index::remember`]). So a batch can be decided again, and never twice.

mod decision;
mod image;
mod key;
mod packed;
mod pending;
mod store;
mod version;

pub use decision::{RowVersion, Verdict};
pub use image::Index;
pub use key::Key;
pub use pending::PendingVersions;
pub use version::{Held, Version};
