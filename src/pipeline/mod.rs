//! A lender's life in this process: restored, claimed, read on, released.
//!
//! ```text
//! candidate ─ restore, compare ─► Claim ─ commit ─► Pipeline ─ run ─► StopReason
//!                └ refused: StartError
//! ```
//!
//! A [`Pipeline`] cannot be written down without a claim that is committed and an index that matches it: [`Claim::new`] is
//! the only way to the one, [`Claim::commit`] the only way to the other.
//!
//! - `candidate`: who is to be started, and with what
//! - `group`: which lenders start together, and which are followed until they may
//! - `start`: the order in which lenders start, together
//! - `claim`: the claim and what is checked before and after it; `start_error`: why a lender does not start
//! - `images`: what the topics hold of lenders that start, or stand by; `each_topic`: how those are read
//! - `contents`: what was in the accounts that a start finds
//! - `main_loop`: the loop
//! - `inbox`: what goes into the next transaction, gathered into a `batch`, whose size follows what Kafka takes
//! - `commit`: one batch, tried until it has landed
//! - `plan`: what one transaction will write, and what is true once it is committed (pure)
//! - `decide`: which rows are written (pure)
//! - `changes`: what `changes` says of a row that is written (pure)
//! - `lender`: what a loop works with
//! - `limit`: how many dead letters there may be (pure)
//! - `ownership`: the way back from everything uncertain, and the end
//! - `partitions`: whether keys are still spread as they were (pure)
//! - `reconcile`: whom upstream has shown since everything is read once more
//! - `report`: what people and metrics hear of it
//! - `republish`: which accounts are written once more as they are held (pure)
//! - `stop`: how it ended
//! - `thread`: where it runs
//! - `unreadable`: which accounts nobody can read who asks the registry
//! - `frames`: what stands before the values of its topics
//! - `dry_run`: the same decisions, committed nowhere

mod batch;
mod candidate;
mod changes;
mod claim;
mod commit;
mod contents;
mod decide;
mod dry_run;
mod each_topic;
mod frames;
mod group;
mod images;
mod inbox;
mod lender;
mod limit;
mod main_loop;
mod ownership;
mod partitions;
mod plan;
mod reconcile;
mod report;
mod republish;
mod start;
mod start_error;
mod stop;
mod thread;
mod unreadable;

pub(crate) use candidate::{Candidate, Restorable, Starter};
#[cfg(test)]
pub(crate) use changes::ChangeRecorder;
#[cfg(test)]
pub(crate) use claim::Claim;
pub(crate) use claim::{Among, Claimant, claim_of, key_of, living_age, refuse_live_elsewhere, refuse_living};
pub(crate) use decide::Decider;
pub(crate) use dry_run::dry_run;
pub(crate) use frames::Frames;
pub(crate) use group::{ToStart, Wanted, start_in_groups};
pub(crate) use images::Images;
#[cfg(test)]
pub(crate) use lender::LenderSettings;
pub(crate) use limit::DeadLetterStop;
pub(crate) use main_loop::Pipeline;
pub(crate) use partitions::{PartitionsChanged, are_spread_anew};
pub(crate) use plan::Left;
pub(crate) use republish::Republish;
pub(crate) use start_error::StartError;
pub(crate) use stop::StopReason;
pub(crate) use thread::on_thread;
pub(crate) use unreadable::say_unreadable;
