//! How many rows has the snapshot? Asked once, for the people who watch it.

use std::sync::Arc;

use crate::exit::chain;
use crate::progress::Progress;
use crate::upstream::{Client, PageRequest};

/// The rows of more ranges are not counted: it costs upstream a query each.
pub(super) const MAX_COUNTED: usize = 64;

/// Asks how many rows the snapshot has left, for the people who watch it; tried once.
pub(super) async fn count_snapshot(client: Arc<Client>, progress: Progress) {
    let metrics = client.metrics();
    let mut count = metrics.snapshot_rows_read_total.get();
    for range in &progress.ranges {
        let request = PageRequest {
            since: range.position(),
            until: Some(range.stop),
            cursor: None,
            limit: 1,
            include_total: true,
        };
        let answer = client.page(&request).await;
        match answer.and_then(|answer| Ok(answer.page()?.total)) {
            Ok(Some(left)) => count += left,
            Ok(None) => return,
            Err(error) => {
                tracing::debug!("counting the rows of the snapshot: {}", chain(&error));
                return;
            }
        }
    }
    metrics.snapshot_rows.set(i64::try_from(count).unwrap_or(i64::MAX));
}
