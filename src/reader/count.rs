//! How many rows has upstream? Asked for the people who watch a snapshot, and to hold what was read against it.

use std::sync::Arc;

use super::context::WalkContext;
use super::page::{Entry, Page};
use crate::exit::{ErrorCode, chain};
use crate::progress::{Progress, Timestamp};
use crate::upstream::{Client, PageRequest, UpstreamError};

/// The rows of more ranges are not counted: it costs upstream a query each.
pub(super) const MAX_COUNTED: usize = 64;

/// The code of rows that upstream counts and did not show.
const NOT_SHOWN: ErrorCode = ErrorCode::U28;

const NOT_SHOWN_ADVICE: &str = "`d02-source verify` says which accounts are missing; a reconciliation writes them";

/// Asks how many rows the snapshot has left, for the people who watch it; tried once.
pub(super) async fn count_snapshot(client: Arc<Client>, progress: Progress) {
    let metrics = client.metrics();
    let mut count = metrics.snapshot_rows_read_total.get();
    for range in &progress.ranges {
        match total(&client, range.position(), range.stop).await {
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

/// The rows of [`since`, `until`) by upstream's count; `None` where it is not exact.
async fn total(client: &Client, since: Option<Timestamp>, until: Timestamp) -> Result<Option<u64>, UpstreamError> {
    let request = PageRequest {
        since,
        until: Some(until),
        cursor: None,
        limit: 1,
        include_total: true,
    };
    Ok(client.page(&request).await?.page()?.total)
}

/// What a walk read of a range whose first row it knows.
#[derive(Debug)]
pub(super) struct RowCount {
    since: Option<Timestamp>,
    /// Beyond it rows may still become visible: the sweeps' work. Known from the first answer on.
    settled: Option<Timestamp>,
    rows: u64,
}

impl RowCount {
    pub(super) fn new(since: Option<Timestamp>) -> Self {
        Self {
            since,
            settled: None,
            rows: 0,
        }
    }

    pub(super) fn add(&mut self, context: &WalkContext, page: &Page) {
        let settled = *self
            .settled
            .get_or_insert(page.step.clock.before(context.upstream.late_window));
        let is_counted = |entry: &&Entry| match entry {
            Entry::Account(row) => row.updated_at < settled.0,
            // Where a row belongs that cannot be an account is not known; too many are no harm.
            Entry::DeadLetter(_) => true,
        };
        self.rows += page.entries.iter().filter(is_counted).count() as u64;
    }

    /// Says so where upstream counts more than it showed, up to `stop`; tried once. Fewer have changed or gone meanwhile.
    pub(super) async fn hold_against_total(&self, context: &WalkContext, stop: Timestamp) {
        let Some(until) = self.settled.map(|settled| settled.min(stop)) else {
            return;
        };
        if self.since.is_some_and(|since| since >= until) {
            return;
        }
        let total = match total(&context.client, self.since, until).await {
            Ok(total) => total,
            Err(error) => {
                tracing::debug!("counting the rows of a range: {}", chain(&error));
                return;
            }
        };
        let Some(not_shown) = total
            .and_then(|total| total.checked_sub(self.rows))
            .filter(|rows| *rows > 0)
        else {
            return;
        };
        context.client.metrics().not_shown_rows_total.inc_by(not_shown);
        let since = self
            .since
            .map_or_else(|| "the oldest row".to_owned(), |since| since.to_string());
        tracing::warn!(
            lender = &*context.name,
            code = %NOT_SHOWN,
            advice = NOT_SHOWN_ADVICE,
            "upstream counts {not_shown} rows from {since} to {until} more than the {} that it showed",
            self.rows
        );
    }
}
