//! What would be written? Decided like everything else, and committed nowhere.

use super::batch::{Batch, BatchItem};
use super::decide::Decider;
use super::limit::Allowance;
use super::plan::Holdings;
use super::report::Monitor;
use super::stop::StopReason;
use crate::index::Index;
use crate::metrics::LenderMetrics;
use crate::progress::Progress;
use crate::reader::{Incoming, Item};
use crate::shutdown::Shutdown;
use crate::sink::DeadLetterDigests;
use crate::watchdog::Pulse;

/// Decides all that comes from a reader against what `accounts` holds, as if it were committed. `metrics` get what it would be.
pub(crate) async fn dry_run(
    decider: &Decider,
    index: Index,
    lender: &str,
    metrics: LenderMetrics,
    mut incoming: Incoming,
    mut shutdown: Shutdown,
) -> StopReason {
    let monitor = Monitor::new(lender, metrics, Pulse::default());
    let retention = decider.topics.accounts.delete_retention;
    let mut holdings = Holdings::new(index, DeadLetterDigests::default(), retention);
    let progress = Progress::default();
    loop {
        let item = tokio::select! {
            // Nothing is open that would have to be ended.
            biased;
            () = shutdown.requested() => return StopReason::as_asked(),
            item = incoming.next() => item,
        };
        match item {
            Some(Item::Page(page)) => {
                let batch = Batch::of(BatchItem::Page(page));
                let plan = decider.plan(&holdings, &progress, Allowance::Any, batch.items.iter());
                monitor.tell(&plan);
                holdings.remember(plan, 0);
            }
            Some(Item::Begin(_) | Item::Split(_) | Item::Ask(_)) => {}
            Some(Item::End(ended)) => return StopReason::of_reader(&ended),
            None => return StopReason::lost_reader(),
        }
    }
}
