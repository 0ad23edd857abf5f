//! A request under way, and work that takes a while.

use std::sync::Arc;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::{AbortHandle, JoinHandle, spawn_blocking};

use crate::in_flight::{Room, Taken};
use crate::upstream::{Answer, Client, PageRequest, UpstreamError};

/// A request under way; dropped, it is given up.
pub(super) struct Ahead {
    pub request: PageRequest,
    /// With the room that it takes.
    pub answer: JoinHandle<Result<(Answer, Taken), UpstreamError>>,
    abort: AbortHandle,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

impl Ahead {
    /// Asks once there is room for the answer.
    pub(super) fn start(client: &Arc<Client>, room: &Arc<Room>, request: PageRequest) -> Self {
        let (client, room, asked) = (Arc::clone(client), Arc::clone(room), request.clone());
        let answer = tokio::spawn(async move {
            let mut taken = room.take_answer().await;
            let answer = client.page(&asked).await?;
            taken.settle(answer.size());
            Ok((answer, taken))
        });
        let abort = answer.abort_handle();
        Self { request, answer, abort }
    }
}

/// Does work that takes a while on a thread where it may. A runtime of one thread does it in its order: what the model
/// test does must follow from its seed.
pub(super) fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => tokio::spawn(async { work() }),
        _ => spawn_blocking(work),
    }
}
