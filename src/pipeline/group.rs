//! Which lenders start together? Those that are ready at the same time: they share the reading.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::candidate::{Candidate, Starter};
use super::claim::StartError;
use super::main_loop::Pipeline;

/// The longest that lenders which are ready wait for the logins of the others, to share the reading of the topics.
const GROUP_WAIT: Duration = Duration::from_secs(10);

/// A lender that is ready to be started, and who waits for it.
pub(crate) struct ToStart {
    pub candidate: Candidate,
    pub started: oneshot::Sender<Result<Pipeline, StartError>>,
}

/// Starts those together that are ready together.
pub(crate) async fn start_in_groups(
    starter: Arc<Starter>,
    mut waiting: mpsc::UnboundedReceiver<ToStart>,
    lender_count: usize,
) {
    let mut first_group = true;
    while let Some(first) = waiting.recv().await {
        let mut group = vec![first];
        let deadline = tokio::time::Instant::now() + if first_group { GROUP_WAIT } else { Duration::ZERO };
        while group.len() < lender_count {
            match tokio::time::timeout_at(deadline, waiting.recv()).await {
                Ok(Some(next)) => group.push(next),
                Ok(None) | Err(_) => break,
            }
        }
        first_group = false;
        let group = group
            .into_iter()
            .map(|ToStart { candidate, started }| (candidate, started));
        let (group, starter) = (group.collect(), Arc::clone(&starter));
        let done = |started: oneshot::Sender<_>, result| {
            // Its supervisor waits for nothing else.
            let _ = started.send(result);
        };
        let starting = tokio::task::spawn_blocking(move || starter.start(group, done)).await;
        starting.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()));
    }
}
