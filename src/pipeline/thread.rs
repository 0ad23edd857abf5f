//! Where does a loop run? On an OS thread of its own, because it blocks while it commits.

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::stop::StopReason;
use crate::exit::ProcessError;

/// Runs a lender's loop on a thread of its own, to its end.
pub(crate) async fn on_thread<T: Default + Send + 'static>(
    lender: &str,
    running: impl Future<Output = (StopReason, T)> + Send + 'static,
) -> (StopReason, T) {
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let thread = std::thread::Builder::new()
        .name(format!("pipeline-{lender}"))
        .spawn(move || {
            // Nobody waits any more only when the process is ending.
            let _ = ended.send(runtime.block_on(running));
        });
    if let Err(source) = thread {
        let doing = "starting a thread";
        return (ProcessError::System { doing, source }.into(), T::default());
    }
    let what = "its thread ended without a word";
    end.await
        .unwrap_or_else(|_| (ProcessError::Defect { what }.into(), T::default()))
}
