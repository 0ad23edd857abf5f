//! How does a check ask Kafka, and what does a refusal mean to it?

use crate::exit::Exit;
use crate::kafka::blocking;
use crate::policy::{self, AfterSink};
use crate::shutdown::{self, Shutdown};
use crate::sink::SinkError;

/// Talks to Kafka. Nothing asks it to end: whoever waits does so for a bounded time.
pub(super) async fn ask<T: Send + 'static>(question: impl FnOnce(&Shutdown) -> T + Send + 'static) -> T {
    let (_sender, shutdown) = shutdown::channel();
    blocking(move || question(&shutdown)).await
}

pub(super) fn sink_exit(error: &SinkError) -> Exit {
    match policy::after_sink(error) {
        AfterSink::Stop(exit) => exit,
        AfterSink::Reopen | AfterSink::LookForClaim => Exit::Failed,
    }
}

/// Advice without the word that it is tried again: that is for `run`.
pub(super) fn once(advice: &str) -> &str {
    advice.strip_suffix("; it is tried again").unwrap_or(advice)
}
