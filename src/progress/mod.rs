//! What is read, what is left? The ranges and marks of one lender, how a page advances them, and the cursor record that
//! keeps them in Kafka.
//!
//! ```text
//!              range            range        T0        read            now
//! oldest ├────────────────┼────────────────┤├──────────┤┄┄┄ live ┄┄┄┄┄┄┤
//!                                      ├─┄ settled: below it nothing is expected any more
//! ```

mod ends;
mod marks;
mod range;
mod record;
mod target;
mod timestamp;
mod walk;

pub(crate) use ends::{EndsBefore, TopicEnds};
pub(crate) use marks::Progress;
pub(crate) use range::{Place, Range, Split};
pub(crate) use record::{Record, RecordError, RecordKey};
pub(crate) use target::TargetState;
pub use timestamp::Timestamp;
pub(crate) use walk::{Backlog, Step, Walk};
