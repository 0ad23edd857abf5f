//! `cursor reset`, `set`, `export` and `import`: what a lender's record says, changed by a person.
//!
//! - One writer: `init_transactions` ends whatever an instance has under way; then the record is read once more, and what is
//!   committed has a higher epoch than any before.
//! - Complete: a rewind takes nothing out of what is left to be read (`Progress::rewind`); a record that is imported is held
//!   to the accounts in their topic by the next start, by its count and checksum.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::backoff::Patience;
use crate::command::print::print_line;
use crate::config::Config;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure, chain};
use crate::kafka::{Cluster, uninterrupted};
use crate::login::public_id_of;
use crate::pipeline::{PartitionsChanged, are_spread_anew, key_of, refuse_living};
use crate::progress::{Record, RecordKey, Timestamp, TopicEnds};
use crate::selection::require_lender;
use crate::sink::{
    CursorReaders, CursorRecords, Records, Sink, SinkError, Topics, Transactions, Watchers, partitions_text,
    ready_topics,
};

/// Why a record is not changed.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error("{lender}: there is no cursor record: it has not been read yet, or was reset")]
    NoRecord { lender: String },
    #[error("{lender}: it is read up to {read}, and {to} is not before that: what lies between would be lost")]
    NotBefore {
        lender: String,
        read: String,
        to: Timestamp,
    },
    #[error("reading {file}")]
    File { file: String, source: std::io::Error },
    #[error("{file}: {why}")]
    Import {
        file: String,
        why: String,
        advice: &'static str,
    },
}

impl Diagnosis for ChangeError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoRecord { .. } => ErrorCode::S13,
            Self::NotBefore { .. } => ErrorCode::S14,
            Self::File { .. } | Self::Import { .. } => ErrorCode::S15,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::NoRecord { .. } => "`d02-source run` reads it from the beginning",
            Self::NotBefore { .. } => "choose an earlier time",
            Self::File { .. } => "correct the path, or let this user read the file",
            Self::Import { advice, .. } => advice,
        }
    }
}

/// A lender whose record is to be changed.
pub(super) struct Lender<'a> {
    config: &'a Config,
    name: &'a str,
    public_id: String,
    cluster: Cluster,
    topics: Topics,
    /// As they stand in the cursor record.
    partitions: String,
    key: RecordKey,
}

impl<'a> Lender<'a> {
    pub(super) async fn find(config: &'a Config, name: &'a str) -> Result<Self, Failure> {
        require_lender(config, name)?;
        let public_id = public_id_of(config, name, Patience::Once).await?;
        let cluster = Cluster::new(config);
        let checked = ready_topics(&cluster, config, false).await?;
        let topics = Topics::of(&checked, &config.kafka, name);
        let changes = topics.changes.as_ref().map(|topic| topic.partition_count);
        Ok(Self {
            config,
            name,
            partitions: partitions_text(topics.accounts.partition_count, changes),
            topics,
            key: key_of(config, name, &public_id),
            public_id,
            cluster,
        })
    }

    async fn records(&self) -> Result<CursorRecords, Failure> {
        Ok(CursorRecords::find(&self.cluster, &self.topics.cursor.name).await?)
    }

    fn refuse_living(&self, records: &CursorRecords, force: bool) -> Result<(), Failure> {
        if force {
            return Ok(());
        }
        let advice = "stop it, or take the lender over from it with --force";
        Ok(refuse_living(self.config, records, &self.key, advice)?)
    }

    /// Takes the lender from whoever has it, and hands its producer and the records on that stand then.
    async fn take<T: Send + 'static>(
        &self,
        change: impl FnOnce(&Transactions, &CursorRecords) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let (cluster, topics, key) = (self.cluster.clone(), self.topics.clone(), self.key.clone());
        let id = format!("{}.{}", self.config.name, self.public_id);
        uninterrupted(move |shutdown| {
            let cursors = CursorReaders::new(cluster.clone()).of(&topics.cursor.name);
            let (reader, watchers) = (Arc::clone(&cursors), Watchers::default());
            let producer = Transactions::new(cluster, reader, id, topics, key, shutdown.clone(), watchers);
            let transactions = producer.map_err(SinkError::from)?;
            transactions.init()?;
            // Read now that nobody else can commit any more.
            let records = cursors.ask(&shutdown, &mut || {})?;
            change(&transactions, &records)
        })
        .await
    }

    /// Commits what `change` makes of the record that stands then, released and with the next epoch.
    async fn commit(
        &self,
        force: bool,
        change: impl Fn(Option<Record>) -> Result<Record, Failure> + Clone + Send + 'static,
    ) -> Result<Record, Failure> {
        let records = self.records().await?;
        self.refuse_living(&records, force)?;
        // Before anybody is fenced for it.
        change(current(&records, &self.key)?)?;
        let (key, public_id) = (self.key.clone(), self.public_id.clone());
        self.take(move |transactions, records| {
            let current = current(records, &key)?;
            let after =
                |number: fn(&Record) -> u64, new: &Record| current.as_ref().map_or(0, number).max(number(new)) + 1;
            let new = change(current.clone())?;
            let record = Record {
                instance: None,
                epoch: after(|record| record.epoch, &new),
                sequence: after(|record| record.sequence, &new),
                ..new
            };
            transactions.commit(&Records::default(), &record, &public_id)?;
            Ok(record)
        })
        .await
    }

    fn nothing(&self) -> ChangeError {
        ChangeError::NoRecord {
            lender: self.name.to_owned(),
        }
    }
}

/// The lender's record as it is; `None` where there is none, or it was reset.
fn current(records: &CursorRecords, key: &RecordKey) -> Result<Option<Record>, Failure> {
    records.check_whole()?;
    Ok(records.committed(key)?.record())
}

pub(super) async fn reset(config: &Config, lender: &str, force: bool) -> Result<Exit, Failure> {
    let lender = Lender::find(config, lender).await?;
    lender.refuse_living(&lender.records().await?, force)?;
    let key = lender.key.clone();
    lender
        .take(move |transactions, records| {
            // An emptied partition is exactly what a reset is the way on from.
            let tombstones = records.partitions_to_reset(&key);
            Ok(transactions.commit_tombstones(&tombstones)?)
        })
        .await?;
    let name = lender.name;
    print_line!("{name}: the cursor is reset; the next run reads from the beginning and writes only what is missing")?;
    Ok(Exit::Done)
}

pub(super) async fn set(config: &Config, lender: &str, to: Timestamp, force: bool) -> Result<Exit, Failure> {
    let lender = Lender::find(config, lender).await?;
    let name = lender.name.to_owned();
    let start_from = config.lenders[lender.name].start_from.map(Timestamp::from);
    let rewound = move |record: Option<Record>| {
        let lender = name.clone();
        let Some(mut record) = record else {
            return Err(ChangeError::NoRecord { lender }.into());
        };
        if record.progress.rewind(to) {
            // What is older than the one of today is read, but ignored.
            let from = start_from.map_or(to, |start_from| to.max(start_from));
            record.progress.start_from = record.progress.start_from.map(|before| before.min(from));
            return Ok(record);
        }
        let read = record
            .progress
            .read
            .map_or_else(|| "nothing".to_owned(), |read| read.to_string());
        Err(ChangeError::NotBefore { lender, read, to }.into())
    };
    let record = lender.commit(force, rewound).await?;
    let since = record.progress.ranges.last().and_then(|range| range.since);
    let since = since.map_or_else(|| "the oldest row".to_owned(), |since| since.to_string());
    print_line!(
        "{}: the next run reads again everything from {since} on and writes only what is missing or different",
        lender.name
    )?;
    Ok(Exit::Done)
}

/// A lender's record as a file: what it takes to go on elsewhere.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    /// The key of the record, as it stands in the topic.
    key: Box<RawValue>,
    /// Its value.
    value: Box<RawValue>,
}

pub(super) async fn export(config: &Config, lender: &str) -> Result<Exit, Failure> {
    let lender = Lender::find(config, lender).await?;
    let record = current(&lender.records().await?, &lender.key)?.ok_or_else(|| lender.nothing())?;
    let raw = |json: String| RawValue::from_string(json).expect("records are JSON");
    let exported = Exported {
        key: raw(lender.key.to_json()),
        value: raw(record.to_json()),
    };
    print_line!("{}", serde_json::to_string(&exported).expect("records are JSON"))?;
    Ok(Exit::Done)
}

pub(super) async fn import(config: &Config, lender: &str, file: &Path, force: bool) -> Result<Exit, Failure> {
    let text = read_file(file)?;
    let lender = Lender::find(config, lender).await?;
    let refused = |why: String, advice: &'static str| {
        let file = file.display().to_string();
        Err(ChangeError::Import { file, why, advice }.into())
    };
    const NO_EXPORT: &str = "give it what `d02-source cursor export` printed, unchanged";
    let exported: Exported = match serde_json::from_str(&text) {
        Ok(exported) => exported,
        Err(error) => return refused(format!("it is no exported cursor: {error}"), NO_EXPORT),
    };
    let Some(key) = RecordKey::from_json(exported.key.get().as_bytes()) else {
        return refused("its key is not that of a cursor record".to_owned(), NO_EXPORT);
    };
    let record = match Record::from_json(exported.value.get().as_bytes()) {
        Ok(record) => record,
        Err(error) => return refused(format!("its record cannot be read: {}", chain(&error)), NO_EXPORT),
    };
    if key.lender_public_id != lender.public_id {
        return refused(
            format!(
                "it is of lender {}, {} is {}",
                key.lender_public_id, lender.name, lender.public_id
            ),
            "import it for the lender that it was exported of",
        );
    }
    if record.base_url != config.upstream.base_url.as_str() {
        return refused(
            format!(
                "it is of {}, upstream.base_url is {}",
                record.base_url, config.upstream.base_url
            ),
            "another upstream's progress says nothing of this one; without an import, the next run reads everything",
        );
    }
    if are_spread_anew(&record.partitions, &lender.partitions) {
        return refused(
            PartitionsChanged::new(&record.partitions, &lender.partitions).to_string(),
            "create the topics with the old counts; without an import, the next run reads everything",
        );
    }
    // How far the topics were written says something of that cluster's alone; the accounts are held to the record anyway.
    let record = Record {
        ends: TopicEnds::default(),
        ..record
    };
    lender.commit(force, move |_| Ok(record.clone())).await?;
    print_line!(
        "{}: imported; the next run goes on from there, if `accounts` holds what was committed with it",
        lender.name
    )?;
    Ok(Exit::Done)
}

/// A file's text, or standard input's for `-`.
fn read_file(file: &Path) -> Result<String, Failure> {
    /// A record is far smaller: the cursor topic takes 64 KiB by default.
    const LIMIT: u64 = 16 << 20;
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().take(LIMIT).read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|file| file.take(LIMIT).read_to_string(&mut text))
    };
    match read {
        Ok(_) => Ok(text),
        Err(source) => {
            let file = file.display().to_string();
            Err(ChangeError::File { file, source }.into())
        }
    }
}
