//! What is committed, for all lenders of a process? Each cursor topic has one reader, which remembers what it read and how far.
//!
//! What must hold, beside what `turns` says of who reads for whom:
//!
//! - It reads on from where it was to the true end (`kafka::read`). What it remembers is what a consumer that reads from the
//!   beginning finds, or more: of each key the last record in each partition. Compaction takes away only what a later record of the
//!   key stands behind. A tombstone is remembered longer than it stands in the topic: a reset was a reset.
//! - In one topic offsets never go back. Where a partition ends before what was read of it, or is gone, the topic is another one, or
//!   lost its last records: all is forgotten and read from the beginning, so that whoever asks sees what stands there, and holds it to
//!   what was written ([`super::ground`]). What became longer than it was before anybody asked again cannot be told from the same one:
//!   so a start reads it from the beginning.
//! - A partition that was added has no offset, and is read whole. The highest (`epoch`, `sequence`) of all partitions counts, in
//!   whatever order they were read.
//! - Clients last from the first question to the last answer of those who ask at about the same time, or through a start, and are made
//!   anew after an error: none is left with an old secret, an old token, or a connection that nobody looks after.
//! - A record a key and partition is held, and nothing of who asked.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::SinkError;
use super::recovery::{CursorRecords, SHUTDOWN_GRACE};
use super::turns::{Asker, Turns};
use crate::kafka::{self, Cluster, End, TopicReader};
use crate::shutdown::Shutdown;

/// The readers of a process, by topic.
#[derive(Clone)]
pub(crate) struct CursorReaders {
    cluster: Cluster,
    readers: Arc<Mutex<BTreeMap<String, Arc<CursorReader>>>>,
}

impl CursorReaders {
    pub(crate) fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            readers: Arc::default(),
        }
    }

    /// The one reader of a topic.
    pub(crate) fn of(&self, topic: &str) -> Arc<CursorReader> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = readers.entry(topic.to_owned());
        Arc::clone(reader.or_insert_with(|| Arc::new(CursorReader::new(self.cluster.clone(), topic))))
    }
}

/// Reads one cursor topic, for all lenders whose records stand there.
pub(crate) struct CursorReader {
    cluster: Cluster,
    topic: String,
    records: Turns<Arc<CursorRecords>>,
    clients: Mutex<Clients>,
}

/// Those that read.
#[derive(Default)]
struct Clients {
    reader: Option<TopicReader>,
    /// How many have a use for them.
    user_count: usize,
}

/// Keeps the clients between questions that follow one another.
pub(crate) struct KeptClients(Arc<CursorReader>);

impl CursorReader {
    fn new(cluster: Cluster, topic: &str) -> Self {
        Self {
            cluster,
            topic: topic.to_owned(),
            records: Turns::new(Arc::new(CursorRecords::of(topic))),
            clients: Mutex::default(),
        }
    }

    /// What is committed as of this call: read on to the true end that the topic has from now on. Blocks. `hidden` is called as
    /// long as an open transaction seems to hide that.
    ///
    /// # Errors
    /// When it cannot be read to its end, or `shutdown` was requested a while ago.
    pub(crate) fn ask(
        self: &Arc<Self>,
        shutdown: &Shutdown,
        hidden: &mut dyn FnMut(),
    ) -> Result<Arc<CursorRecords>, SinkError> {
        let _clients = self.keep_clients();
        let asker = Asker {
            shutdown,
            grace: SHUTDOWN_GRACE,
            hidden,
        };
        self.records.ask(asker, |records, hidden| {
            self.read_on(records, End::True, shutdown, hidden)
        })
    }

    /// What nobody's open transaction hides by now, read from the beginning: nobody is waited for, and something may be missing. Blocks.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn look(self: &Arc<Self>, shutdown: &Shutdown) -> Result<Arc<CursorRecords>, SinkError> {
        let _clients = self.keep_clients();
        self.records.look(|records| {
            *records = Arc::new(CursorRecords::of(&self.topic));
            self.read(Arc::make_mut(records), End::Stable, shutdown, &mut || {})
        })
    }

    pub(crate) fn keep_clients(self: &Arc<Self>) -> KeptClients {
        self.clients().user_count += 1;
        KeptClients(Arc::clone(self))
    }

    fn read_on(
        &self,
        records: &mut Arc<CursorRecords>,
        end: End<'_>,
        shutdown: &Shutdown,
        hidden: &mut dyn FnMut(),
    ) -> Result<(), SinkError> {
        match self.read(Arc::make_mut(records), end, shutdown, hidden) {
            Err(SinkError::Kafka(error @ kafka::Error::WentBack { .. })) => {
                tracing::warn!("{error}; it is read from the beginning");
                *records = Arc::new(CursorRecords::of(&self.topic));
                self.read(Arc::make_mut(records), end, shutdown, hidden)
            }
            read => read,
        }
    }

    fn read(
        &self,
        records: &mut CursorRecords,
        end: End<'_>,
        shutdown: &Shutdown,
        hidden: &mut dyn FnMut(),
    ) -> Result<(), SinkError> {
        let kept = self.clients().reader.take();
        let reader = kept.map_or_else(|| TopicReader::new(&self.cluster), Ok)?;
        records.read_on(&reader, end, shutdown, hidden)?;
        let before = self.clients().reader.replace(reader);
        // Not while others wait for them: closing takes a moment.
        drop(before);
        Ok(())
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for KeptClients {
    fn drop(&mut self) {
        let mut clients = self.0.clients();
        clients.user_count -= 1;
        let unused = match clients.user_count {
            0 => clients.reader.take(),
            _ => None,
        };
        drop(clients);
        drop(unused);
    }
}
