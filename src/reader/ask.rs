//! What does a reconciliation ask the pipeline?

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::clock::Tick;
use crate::exit::{Diagnosis, ErrorCode};
use crate::progress::Timestamp;
use crate::upstream::Client;

/// What a reader asks the pipeline, behind everything that it handed over before.
pub(crate) enum Ask {
    /// From now on, accounts count as seen by what is requested after `since`.
    Begin { since: Tick, done: oneshot::Sender<()> },
    /// How many accounts are unseen?
    Count { answer: oneshot::Sender<usize> },
    /// Delete those, unless they are more than this share of all. `at`: upstream's clock when it began.
    Delete {
        at: Timestamp,
        max_share: f64,
        client: Arc<Client>,
        /// How many were deleted, or why none.
        answer: oneshot::Sender<Result<usize, NotReconciled>>,
    },
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin { .. } => "Begin",
            Self::Count { .. } => "Count",
            Self::Delete { .. } => "Delete",
        })
    }
}

/// Why none of the accounts that upstream does not show was deleted.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub(crate) enum NotReconciled {
    #[error(
        "nothing was deleted: upstream does not show {unseen} of {held} accounts, which is more than the share {max_share} that \
         may go"
    )]
    TooMany { unseen: usize, held: usize, max_share: f64 },
    #[error(
        "nothing was deleted: {rows} rows say no public_id that can be read, so they may be some of the {unseen} accounts that \
         upstream does not show"
    )]
    Unnamed { rows: u64, unseen: usize },
}

impl NotReconciled {
    /// Whether more than the share `max_share` of those held would be deleted.
    pub(crate) fn is_too_many(unseen: usize, held: usize, max_share: f64) -> bool {
        unseen as f64 > max_share * held as f64
    }
}

impl Diagnosis for NotReconciled {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TooMany { .. } => ErrorCode::U18,
            Self::Unnamed { .. } => ErrorCode::U19,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::TooMany { .. } => {
                "see with `d02-source verify` which they are; if upstream is right, run `d02-source reconcile --max-deletes` \
                 with a larger share"
            }
            Self::Unnamed { .. } => {
                "see them with `d02-source tail --topic dead-letters`, and ask the vendor to mend them"
            }
        }
    }
}
