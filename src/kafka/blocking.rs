//! On which thread is Kafka talked to? On one that may wait: every call blocks.

use crate::shutdown::{self, Shutdown};

/// Calls Kafka on a thread that is meant for it.
pub(crate) async fn blocking<T: Send + 'static>(call: impl FnOnce() -> T + Send + 'static) -> T {
    let called = tokio::task::spawn_blocking(call).await;
    called.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// As [`blocking`], for who is asked to end by nobody but the end of the process.
pub(crate) async fn uninterrupted<T: Send + 'static>(call: impl FnOnce(Shutdown) -> T + Send + 'static) -> T {
    let (_sender, shutdown) = shutdown::channel();
    blocking(move || call(shutdown)).await
}
