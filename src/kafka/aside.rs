//! A client whose end nobody waits for.
//!
//! rdkafka 0.39.0 closes a consumer by polls of 100 ms, of which the last hears nothing, and the thread of an admin client looks as
//! seldom whether it is to end: a start is done with half a dozen of them, one after another.

use std::ops::Deref;
use std::thread;

/// Ended on a thread of its own.
pub(crate) struct Aside<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Aside<T> {
    pub(super) fn new(client: T) -> Self {
        Self(Some(client))
    }
}

impl<T: Send + 'static> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until this is dropped")
    }
}

impl<T: Send + 'static> Drop for Aside<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where the system gives no thread, it ends here.
        let _ = thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || drop(client));
    }
}
