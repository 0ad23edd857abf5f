//! Has somebody asked us to end? One flag for tasks, which await it, and threads, which look.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The asking side.
#[derive(Debug)]
pub struct ShutdownSender(watch::Sender<bool>);

/// The asked side; clones see the same flag.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

pub fn channel() -> (ShutdownSender, Shutdown) {
    let (sender, receiver) = watch::channel(false);
    (ShutdownSender(sender), Shutdown(receiver))
}

impl ShutdownSender {
    pub fn request(&self) {
        self.0.send_replace(true);
    }
}

impl Shutdown {
    pub fn is_requested(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits for `wait`, or until it was requested.
    pub async fn sleep(&mut self, wait: Duration) {
        // Nothing follows from which of the two it was.
        let _ = tokio::time::timeout(wait, self.requested()).await;
    }

    /// Blocks for `wait`, or until it was requested.
    pub fn block(&self, wait: Duration) {
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
    pub async fn requested(&mut self) {
        if self.0.wait_for(|requested| *requested).await.is_err() {
            std::future::pending().await
        }
    }
}
