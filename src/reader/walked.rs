//! How did a walk end?

use std::convert::Infallible;

use tokio::sync::oneshot;

use crate::progress::{Backlog, Timestamp};

/// How a walk ended.
pub(super) struct Walked {
    /// The highest `updated_at`.
    pub highest: Option<Timestamp>,
    /// It was given up: what it left is among the ranges now, up to this time.
    pub backlog: Option<Backlog>,
    /// Ends when its last page is committed, or given up.
    pub committed: oneshot::Receiver<Infallible>,
}

impl Walked {
    /// Returns once everything that was read is committed: whoever reads on before reads for nothing.
    pub(super) async fn committed(self) {
        // Never a value: the sender is dropped.
        let _ = self.committed.await;
    }
}
