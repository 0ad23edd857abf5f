//! What was in the accounts that a start finds? Their values are read by the layouts of the schemas that wrote them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::account::Content;
use crate::avro::{ACCOUNT, Framed, Layout, unframe};
use crate::backoff::{AfterTry, Patience};
use crate::exit::{Diagnosis, ErrorCode, Exit, chain};
use crate::kafka;
use crate::registry::{Registry, RegistryError};
use crate::shutdown::Shutdown;
use crate::sink::SinkError;

/// Reads contents for the index; blocks while it asks for a schema.
pub(super) struct Contents {
    registry: Option<Arc<Registry>>,
    runtime: Handle,
    shutdown: Shutdown,
    current: Arc<Layout>,
    /// `None`: no version of the account's schema.
    layouts: Mutex<HashMap<u32, Option<Arc<Layout>>>>,
    is_said: AtomicBool,
    /// The last time that the registry gave no answer.
    unanswered: Mutex<Option<(Instant, Arc<RegistryError>)>>,
}

/// Who does not wait for the registry asks again after so long: not for each topic anew.
const ASKED_AGAIN: Duration = Duration::from_secs(5);

/// Between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The code of accounts whose content before cannot be read.
const UNREADABLE: ErrorCode = ErrorCode::S17;

const ADVICE: &str = "nothing is lost: the next change of such an account has no `before`";

impl Contents {
    pub(super) fn new(registry: Option<Arc<Registry>>, runtime: Handle, shutdown: Shutdown) -> Self {
        let current = Arc::new(Layout::current());
        Self {
            registry,
            runtime,
            shutdown,
            layouts: Mutex::default(),
            current,
            is_said: AtomicBool::new(false),
            unanswered: Mutex::default(),
        }
    }

    /// `own`: an id under which this version's schema is registered.
    pub(super) fn know(&self, own: u32) {
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        layouts.insert(own, Some(Arc::clone(&self.current)));
    }

    /// Gives the content of each value of `accounts` that it is given; `None` where it cannot be read, which is said. `patience`: with a
    /// registry that gives no answer.
    ///
    /// # Errors
    /// When the process is to end while the registry is waited for, or the patience is over.
    pub(super) fn reader(
        &self,
        patience: Patience,
    ) -> impl FnMut(&[u8]) -> Result<Option<Content<'_>>, SinkError> + Send {
        // Nearly all are of one schema.
        let mut last = None;
        move |value| {
            let (layout, datum) = match unframe(value) {
                Ok(Framed::Confluent { schema_id, datum }) => {
                    let layout = match last.take() {
                        Some((id, layout)) if id == schema_id => layout,
                        _ => self.layout(schema_id, patience)?,
                    };
                    (last.insert((schema_id, layout)).1.as_deref(), datum)
                }
                Ok(Framed::SingleObject { fingerprint, datum }) => {
                    let is_current = fingerprint == ACCOUNT.fingerprint();
                    (is_current.then_some(&*self.current), datum)
                }
                Err(error) => {
                    self.say_once(&chain(&error));
                    return Ok(None);
                }
            };
            let Some(layout) = layout else { return Ok(None) };
            let content = layout.read(datum);
            Ok(content.inspect_err(|error| self.say_once(&chain(error))).ok())
        }
    }

    fn say_once(&self, error: &str) {
        if !self.is_said.swap(true, Ordering::Relaxed) {
            tracing::warn!(code = %UNREADABLE, advice = ADVICE, "an account's record cannot be read: {error}");
        }
    }

    fn layout(&self, id: u32, patience: Patience) -> Result<Option<Arc<Layout>>, SinkError> {
        // Held while it is asked for: nobody else gets on without it either.
        let mut layouts = self.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layout) = layouts.get(&id) {
            return Ok(layout.clone());
        }
        let read = |schema: String| Layout::new(&schema).map_err(|error| chain(&error));
        let layout = match self.fetch(id, patience)?.and_then(read) {
            Ok(layout) => Some(Arc::new(layout)),
            Err(error) => {
                tracing::warn!(code = %UNREADABLE, advice = ADVICE, "accounts of schema {id} cannot be read: {error}");
                None
            }
        };
        layouts.insert(id, layout.clone());
        Ok(layout)
    }

    /// The schema's text, or why there is none. A registry that is away or refuses is waited for: `before` would be missing
    /// for no better reason than that.
    fn fetch(&self, id: u32, patience: Patience) -> Result<Result<String, String>, SinkError> {
        let Some(registry) = &self.registry else {
            return Ok(Err(
                "avro.encoding is \"single-object\", so no registry is asked".to_owned()
            ));
        };
        let ask = || {
            let mut shutdown = self.shutdown.clone();
            self.runtime.block_on(async {
                tokio::select! {
                    biased;
                    () = shutdown.requested() => Err(None),
                    answer = registry.schema_of(id, ACCOUNT.name) => answer.map_err(Some),
                }
            })
        };
        let after = |error: &Option<RegistryError>| match error {
            None => AfterTry::GiveUp,
            Some(error) if error.is_lost_id() => AfterTry::GiveUp,
            Some(_) => AfterTry::Retry { at_least: None },
        };
        let say = |error: &Option<RegistryError>, wait| {
            let Some(error) = error else { return };
            let (code, advice, text) = (error.code(), error.advice(), chain(error));
            if error.exit() == Exit::Failed {
                tracing::warn!(?wait, %code, advice, "starting, waiting for the schema registry: {text}");
            } else {
                tracing::error!(?wait, %code, advice, "starting, waiting for the schema registry: {text}");
            }
        };
        let mut unanswered = self.unanswered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, error)) = &*unanswered
            && patience == Patience::Once
            && at.elapsed() < ASKED_AGAIN
        {
            return Err(SinkError::Schema(Arc::clone(error)));
        }
        match patience.retry_blocking(LONGEST_WAIT, &self.shutdown, ask, after, say) {
            Ok(schema) => Ok(Ok(schema)),
            Err(Some(error)) if error.is_lost_id() => Ok(Err(chain(&error))),
            Err(Some(error)) if !self.shutdown.is_requested() => {
                let error = Arc::new(error);
                *unanswered = Some((Instant::now(), Arc::clone(&error)));
                Err(SinkError::Schema(error))
            }
            Err(_) => Err(kafka::Error::Interrupted.into()),
        }
    }
}
