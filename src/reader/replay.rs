//! Which dead letters can this version read? Rows as they were buried, made into pages that move no mark.
//!
//! In order: such a page was requested and received before everything else, so a row of it is written only where nothing of
//! its account is held, or something older (`Index::judge`).

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use tokio::runtime::Handle;

use super::encoded::Encoded;
use super::exit::ReaderExit;
use super::incoming::{Incoming, Item, Outlet};
use super::page::{Entry, Page, PageTail};
use super::row_encoder::{Noted, RowEncoder, large_value};
use crate::account::{Reason, Rules};
use crate::avro::Encoder;
use crate::in_flight::InFlight;
use crate::metrics::LenderMetrics;
use crate::progress::{Step, Timestamp, Walk};

/// A page has so many rows, or bytes.
const MAX_ROWS: usize = 200;
const MAX_BYTES: usize = 1 << 20;

/// What a replay is made of.
pub(crate) struct ReplaySettings<'a> {
    pub in_flight: &'a InFlight,
    pub encoder: Encoder,
    pub rules: Rules,
    /// The lender's key in the configuration.
    pub name: &'a str,
    /// Its public id.
    pub lender: &'a str,
    /// What the topics of rows take, in bytes.
    pub max_message: usize,
    pub metrics: LenderMetrics,
}

/// Makes pages of one lender's dead letters.
pub(crate) struct Replay {
    encoder: RowEncoder,
    way: Outlet,
    page: Encoded,
    letters: Letters,
}

/// What was found of dead letters, beside those that became accounts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Letters {
    /// All of them.
    pub count: u64,
    /// The row was too large for the topic, so it is not in it.
    pub without_row: u64,
    /// Still no account, and why.
    pub unreadable: BTreeMap<String, u64>,
}

/// Nobody listens any more.
pub(crate) struct Closed;

impl Replay {
    pub(crate) fn new(settings: ReplaySettings<'_>) -> (Self, Incoming) {
        let (incoming, [_, way]) = Incoming::new(settings.in_flight.rooms());
        let encoder = RowEncoder {
            rules: settings.rules,
            encoder: settings.encoder,
            name: settings.name.into(),
            lender: settings.lender.into(),
            large_value: large_value(settings.max_message),
            metrics: settings.metrics,
            noted: Noted::default(),
        };
        let replay = Self {
            encoder,
            way,
            page: Encoded::default(),
            letters: Letters::default(),
        };
        (replay, incoming)
    }

    /// Takes the value of one dead letter. Blocks while too much waits to be committed: for a thread that may.
    ///
    /// # Errors
    /// When the pipeline has ended.
    pub(crate) fn take(&mut self, runtime: &Handle, value: &[u8]) -> Result<(), Closed> {
        if self.way.items.is_closed() {
            return Err(Closed);
        }
        self.letters.count += 1;
        if value.is_empty() {
            self.letters.without_row += 1;
            return Ok(());
        }
        let json: &RawValue = match serde_json::from_slice(value) {
            Ok(json) => json,
            Err(_) => {
                self.count_unreadable("it is no JSON".to_owned());
                return Ok(());
            }
        };
        self.page.take(json, &self.encoder);
        if let Some(Entry::DeadLetter(dead)) = self.page.entries.pop_if(|entry| matches!(entry, Entry::DeadLetter(_))) {
            self.page.bytes.truncate(dead.json.start as usize);
            let why = match &dead.rejected.reason {
                // Upstream chose the name: neither for a terminal nor for a list without end.
                Reason::DuplicateMember { .. } => "a member appears more than once".to_owned(),
                reason => reason.to_string(),
            };
            self.count_unreadable(why);
        }
        if self.page.entries.len() >= MAX_ROWS || self.page.bytes.len() >= MAX_BYTES {
            runtime.block_on(self.hand_over());
        }
        Ok(())
    }

    /// Hands over what is left, and ends as the reading of the topic did.
    pub(crate) fn end(mut self, runtime: &Handle, ended: ReaderExit) -> Letters {
        runtime.block_on(self.hand_over());
        self.way.send(Item::End(ended));
        self.letters
    }

    fn count_unreadable(&mut self, why: String) {
        *self.letters.unreadable.entry(why).or_default() += 1;
    }

    async fn hand_over(&mut self) {
        let Encoded { entries, bytes, .. } = std::mem::take(&mut self.page);
        let step = Step {
            walk: Walk::Replay,
            from: None,
            since: None,
            until: None,
            next_cursor: None,
            last_id: None,
            highest: None,
            clock: Timestamp(0),
            answer_clock: Timestamp(0),
            left: None,
            place: None,
            backlog: None,
            is_further: true,
            is_last: false,
        };
        let page = Page {
            step,
            entries,
            bytes,
            requested: 0,
            received: 0,
            request_id: None,
            drifting: Vec::new(),
            tail: PageTail {
                row_hashes: Vec::new(),
                is_continued: false,
            },
            taken: None,
            _done: None,
        };
        self.way.hand_over(page).await;
    }
}
