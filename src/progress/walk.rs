//! Which reading does a page belong to, and how far does it take it?

use super::range::Place;
use super::timestamp::Timestamp;

/// Which reading a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Walk {
    /// The range with this `stop`: ranges do not overlap, so no two have the same.
    Range(Timestamp),
    Live,
    /// What was due to have become visible since: moves `settled`.
    Sweep,
    /// What became visible late, sooner than a sweep finds it. Moves no mark.
    EarlySweep,
    /// A part of everything, read once more to be put right: that with this `stop`. Moves no mark.
    Reconcile(Timestamp),
    /// Dead letters, tried once more. Moves no mark.
    Replay,
}

impl Walk {
    /// Where it ends, if it is one of parts that are shared out.
    pub(crate) fn stop(self) -> Option<Timestamp> {
        match self {
            Self::Range(stop) | Self::Reconcile(stop) => Some(stop),
            Self::Live | Self::Sweep | Self::EarlySweep | Self::Replay => None,
        }
    }
}

/// How far a page takes its walk.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub walk: Walk,
    /// Where the walk began.
    pub from: Option<Timestamp>,
    /// As sent with the page.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub next_cursor: Option<String>,
    /// The `public_id` of the page's last row, else of the row before: where `next_cursor` stands.
    pub last_id: Option<Box<str>>,
    /// The highest `updated_at` of the walk so far.
    pub highest: Option<Timestamp>,
    /// Upstream's clock when the walk's first answer was computed.
    pub clock: Timestamp,
    /// That of this answer.
    pub answer_clock: Timestamp,
    /// With the last page of a sweep, or of a live walk that is given up: the lowest `updated_at` of a row that is left for the
    /// next sweep.
    pub left: Option<Timestamp>,
    /// With the last page of a live walk: where the next one goes on.
    pub place: Option<Place>,
    /// With the last page of a live walk that is given up: what it has left becomes a range.
    pub backlog: Option<Backlog>,
    /// Whether it gets further than any page of the walk before: one that begins afresh reads the same rows again.
    pub is_further: bool,
    pub is_last: bool,
}

/// A live walk is so far behind that what it has left is read like a snapshot, and live goes on at `stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backlog {
    /// Upstream's clock.
    pub stop: Timestamp,
    /// No range is left that ends beyond `settled`: so that what a sweep would read can be a range, too.
    pub settles: bool,
}
