//! Has somebody asked us to end, and perhaps insisted? One count for tasks, which await it, and threads, which look.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// The asking side.
#[derive(Debug)]
pub struct ShutdownSender(watch::Sender<u32>);

/// The asked side; clones see the same count.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<u32>);

pub fn channel() -> (ShutdownSender, Shutdown) {
    let (sender, receiver) = watch::channel(0);
    (ShutdownSender(sender), Shutdown(receiver))
}

impl ShutdownSender {
    /// Asks to end; a second time: at once.
    pub fn request(&self) {
        self.0.send_modify(|count| *count += 1);
    }
}

impl Shutdown {
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Whether it was asked for twice: nothing is worth waiting for any more.
    pub fn is_insisted(&self) -> bool {
        *self.0.borrow() > 1
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
        self.reached(1).await;
    }

    /// Returns once it was asked for twice; never, if nobody can any more.
    pub async fn insisted(&mut self) {
        self.reached(2).await;
    }

    async fn reached(&mut self, wanted: u32) {
        if self.0.wait_for(|count| *count >= wanted).await.is_err() {
            std::future::pending().await
        }
    }
}
