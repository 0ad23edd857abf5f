//! Has somebody asked us to end, and perhaps insisted? One count for tasks, which await it, and threads, which look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::{ErrorCode, ProcessError};

/// Everything that is under way at a shutdown ends within this, or is left to the broker's time-out.
const LIMIT: Duration = Duration::from_secs(9);

/// The code of an end that did not wait for everything.
const CUT_OFF: ErrorCode = ErrorCode::P10;

/// The asking side.
#[derive(Debug)]
pub(crate) struct ShutdownSender(watch::Sender<u32>);

/// The asked side; clones see the same count.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown(watch::Receiver<u32>);

pub(crate) fn channel() -> (ShutdownSender, Shutdown) {
    let (sender, receiver) = watch::channel(0);
    (ShutdownSender(sender), Shutdown(receiver))
}

/// Hands SIGTERM and Ctrl-C on as the request to end, each of them.
///
/// # Errors
/// When they cannot be listened for.
pub(crate) fn listen_for_signals(sender: ShutdownSender) -> Result<(), ProcessError> {
    let doing = "listening for signals";
    let failed = |source| ProcessError::System { doing, source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // Either asks for the same.
                _ = terminate.recv() => tracing::info!("SIGTERM: ending"),
                _ = interrupt.recv() => tracing::info!("interrupted: ending"),
            }
            sender.request();
        }
    });
    Ok(())
}

/// The work itself ends when it is asked to; this is the bound on how long that may take. `None`: it took longer, or was
/// asked a second time.
pub(crate) async fn bounded<T>(mut asked: Shutdown, work: impl Future<Output = T>) -> Option<T> {
    let over = async {
        asked.requested().await;
        tokio::time::timeout(LIMIT, asked.insisted()).await.is_ok()
    };
    tokio::select! {
        ended = work => Some(ended),
        is_insisted = over => {
            let why = if is_insisted { "asked to end a second time" } else { "not everything ended in time" };
            tracing::warn!(code = %CUT_OFF, "{why}; an open transaction is left to its time-out");
            None
        }
    }
}

impl ShutdownSender {
    /// Asks to end; a second time: at once.
    pub(crate) fn request(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Shutdown {
    /// One that is asked to end with this one, and may be before.
    pub(crate) fn child(&self) -> (Arc<ShutdownSender>, Self) {
        let (sender, child) = channel();
        let sender = Arc::new(sender);
        let (mut parent, asking) = (self.clone(), Arc::downgrade(&sender));
        tokio::spawn(async move {
            for wanted in 1..=2 {
                parent.reached(wanted).await;
                let Some(asking) = asking.upgrade() else { return };
                asking.0.send_modify(|count| *count = wanted.max(*count));
            }
        });
        (sender, child)
    }

    pub(crate) fn is_requested(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Whether it was asked for twice: nothing is worth waiting for any more.
    pub(crate) fn is_insisted(&self) -> bool {
        *self.0.borrow() > 1
    }

    /// Waits for `wait`, or until it was requested.
    pub(crate) async fn sleep(&mut self, wait: Duration) {
        // Nothing follows from which of the two it was.
        let _ = tokio::time::timeout(wait, self.requested()).await;
    }

    /// Blocks for `wait`, or until it was requested.
    pub(crate) fn block(&self, wait: Duration) {
        /// A request is noticed this soon.
        const STEP: Duration = Duration::from_millis(100);
        let until = Instant::now() + wait;
        while !self.is_requested() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(STEP.min(left));
        }
    }

    /// Returns once it was requested; never, if nobody can any more.
    pub(crate) async fn requested(&mut self) {
        self.reached(1).await;
    }

    /// Returns once it was asked for twice; never, if nobody can any more.
    pub(crate) async fn insisted(&mut self) {
        self.reached(2).await;
    }

    async fn reached(&mut self, wanted: u32) {
        if self.0.wait_for(|count| *count >= wanted).await.is_err() {
            std::future::pending().await
        }
    }
}
