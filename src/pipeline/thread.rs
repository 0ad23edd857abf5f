//! Where does a loop run? On an OS thread of its own, because it blocks while it commits.

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::stop::StopReason;
use crate::exit::ProcessError;

/// Runs a lender's loop on a thread of its own, to its end.
///
/// The last thing that it gives is let go of once the others are told: a producer takes its time.
pub(crate) async fn on_thread<T: Default + Send + 'static, L>(
    lender: &str,
    running: impl Future<Output = (StopReason, T, L)> + Send + 'static,
) -> (StopReason, T) {
    let (ended, end) = oneshot::channel();
    let runtime = Handle::current();
    let thread = std::thread::Builder::new()
        .name(format!("pipeline-{lender}"))
        .spawn(move || {
            // Nobody waits any more only when the process is ending.
            let (stop, told, let_go) = runtime.block_on(running);
            let _ = ended.send((stop, told));
            drop(let_go);
        });
    if let Err(source) = thread {
        let doing = "starting a thread";
        return (ProcessError::System { doing, source }.into(), T::default());
    }
    let what = "its thread ended without a word";
    end.await
        .unwrap_or_else(|_| (ProcessError::Defect { what }.into(), T::default()))
}
