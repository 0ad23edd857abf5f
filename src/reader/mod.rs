//! What of upstream is news to the pipeline? Walks over D02 that become verified, encoded pages, each walk in its order.
//!
//! ```text
//! snapshot ── range ─┐                                   beside one another, from T0 on:
//!          ── range ─┤ each: request ─► verify ─► encode ─► hand over
//!          ── range ─┤
//! live     ── walk, pause, walk, pause …
//! sweep    ── pause, walk between the marks, pause …
//! ```
//!
//! The next request goes out as soon as the answer's `nextCursor` is known, while its rows are still being encoded. What
//! is handed over waits in channels that are bounded in bytes, and no live walk or sweep begins before the one before it is
//! committed: so a slow Kafka slows the reading down, and one that is away stops it. What is live is taken first.
//!
//! - `reading`: what is read beside what
//! - `walk`: one walk, and what goes wrong on it; `walked`: how it ended
//! - `context`: what every walk of a lender needs
//! - `bounds`: which part of the time is asked for (pure)
//! - `ladder`: what is tried next at a place that fails (pure)
//! - `ahead`: a request under way
//! - `judge`: one answer, verified; `encoded`: its rows as bytes; `row_encoder`: how they become that
//! - `page`: what is handed over; `incoming`: how
//! - `drift`: a field that upstream changed for all rows (pure)
//! - `again`: rows that are read again; `volatile`: content that differs each time it is read (pure)
//! - `reconcile`: everything once more, to find what is gone; `ask`: what it asks the pipeline; `witness`: whether upstream is as
//!   new as what is held
//! - `replay`: the rows of dead letters instead of upstream's
//! - `shares`: which range is read by whom (pure); `room`: how many there may be
//! - `count`: how many rows the snapshot has, for people
//! - `stuck`: a walk that gets nowhere
//! - `exit`: how a reader ends by itself

mod again;
mod ahead;
mod ask;
mod bounds;
mod context;
mod count;
mod drift;
mod encoded;
mod exit;
mod incoming;
mod judge;
mod ladder;
mod page;
mod reading;
mod reconcile;
mod replay;
mod room;
mod row_encoder;
mod shares;
mod stuck;
mod volatile;
mod walk;
mod walked;
mod witness;

pub(crate) use ask::{Ask, Newest, NotReconciled};
pub(crate) use exit::{ReaderError, ReaderExit};
pub(crate) use incoming::{Incoming, Item};
pub(crate) use judge::AHEAD_TOLERANCE;
pub(crate) use page::{DISCARDED, EncodedRow, Entry, Page};
pub(crate) use reading::{Reader, ReaderSettings, Until};
pub(crate) use replay::{Closed, Letters, Replay, ReplaySettings};
