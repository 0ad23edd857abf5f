//! Which reading does a page belong to, and how far does it take it?

use super::timestamp::Timestamp;

/// Which reading a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Walk {
    /// The range with this `stop`: ranges do not overlap, so no two have the same.
    Range(Timestamp),
    Live,
    /// What may have become visible late, between the marks.
    Sweep,
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
            Self::Live | Self::Sweep | Self::Replay => None,
        }
    }
}

/// How far a page takes its walk.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub walk: Walk,
    /// As sent with the page.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
    pub next_cursor: Option<String>,
    /// The highest `updated_at` of the walk so far.
    pub highest: Option<Timestamp>,
    /// Upstream's clock when the walk's first answer was computed.
    pub clock: Timestamp,
    /// With the last page of a sweep: the lowest `updated_at` of a row that is left for the next one.
    pub left: Option<Timestamp>,
    pub is_last: bool,
}
