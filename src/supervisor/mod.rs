//! Who sees to it that every lender of the configuration runs? All of them in one process, started together, each run to its end on a
//! thread of its own and tried again while upstream refuses it; or those that the group gives to this process.
//!
//! - `process`: what is there before any lender runs, and the end
//! - `shared`: what the lenders share, and the start of one
//! - `lender`: one lender, again and again

mod lender;
mod process;
mod shared;

pub(crate) use process::{Errand, instance_id, registry_of};
pub(crate) use shared::Supervisor;
