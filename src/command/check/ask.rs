//! How does a check ask Kafka?

use crate::kafka::blocking;
use crate::shutdown::{self, Shutdown};

/// Talks to Kafka. Nothing asks it to end: whoever waits does so for a bounded time.
pub(super) async fn ask<T: Send + 'static>(question: impl FnOnce(&Shutdown) -> T + Send + 'static) -> T {
    let (_sender, shutdown) = shutdown::channel();
    blocking(move || question(&shutdown)).await
}
