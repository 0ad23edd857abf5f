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
    /// Which of the accounts that are held were updated last, up to then?
    Newest {
        until: Timestamp,
        most: usize,
        answer: oneshot::Sender<Newest>,
    },
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

/// The accounts that were updated last.
#[derive(Debug)]
pub(crate) struct Newest {
    /// How many are held at all.
    pub held: usize,
    /// Public id and `updated_at`, in no order.
    pub accounts: Vec<(String, i64)>,
}

impl std::fmt::Debug for Ask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Begin { .. } => "Begin",
            Self::Newest { .. } => "Newest",
            Self::Count { .. } => "Count",
            Self::Delete { .. } => "Delete",
        })
    }
}

/// Why nothing was put right, or at least none of the accounts that upstream does not show was deleted.
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
    #[error("nothing was written or deleted: upstream is older than what is held, of which the newest is of {newest}")]
    Older { newest: Timestamp },
    #[error(
        "nothing was deleted: while everything was read, upstream is older than what is held: it shows nothing from {from} on any \
         more"
    )]
    BecameOlder { from: Timestamp },
}

impl NotReconciled {
    /// How many of those held may be deleted at a share of `max_share`: one at least, unless it is 0.
    pub(crate) fn may_go(held: usize, max_share: f64) -> usize {
        let may_go = (max_share * held as f64) as usize;
        may_go.max(usize::from(max_share > 0.0))
    }

    /// Whether more than the share `max_share` of those held would be deleted.
    pub(crate) fn is_too_many(unseen: usize, held: usize, max_share: f64) -> bool {
        unseen > Self::may_go(held, max_share)
    }
}

impl Diagnosis for NotReconciled {
    fn code(&self) -> ErrorCode {
        match self {
            Self::TooMany { .. } => ErrorCode::U18,
            Self::Unnamed { .. } => ErrorCode::U19,
            Self::Older { .. } | Self::BecameOlder { .. } => ErrorCode::U26,
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
            Self::Older { .. } | Self::BecameOlder { .. } => {
                "ask the vendor whether a standby is behind or a backup was restored; if accounts are meant to go back, run \
                 `d02-source reconcile --restored-backup`"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::NotReconciled;

    #[test]
    fn a_share_of_less_than_one_account_allows_one_and_no_share_none() {
        for (held, max_share, expected) in [
            (400, 0.05, 20),
            (419, 0.05, 20),
            (19, 0.05, 1),
            (1, 0.05, 1),
            (400, 0.0, 0),
            (400, 1.0, 400),
        ] {
            assert_eq!(
                NotReconciled::may_go(held, max_share),
                expected,
                "{max_share} of {held}"
            );
        }
    }
}
