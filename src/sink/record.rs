//! What do records look like in their topics? The one place of the wire format: what stands in a record beside its value, the
//! headers written and read, and how large a record is.
//!
//! | Topic | Key | Headers | Value |
//! |---|---|---|---|
//! | `accounts` | public id | `__op`, `__source_ts_ms`, `d02.lender`, `d02.digest`; `d02.invalid`, `d02.regressed` and `d02.republished` where they say something | framed Avro |
//! | the same, deleted | public id | `__op`, `d02.lender` | none |
//! | `changes` | public id | those of its account; `d02.changed`, and the due dates where they differ | Avro: what was, what is |
//! | `dead-letters` | public id, if there is one | `__connect.errors.*`, `d02.lender`, `d02.digest`; `d02.field`, `d02.request_id`, `d02.size` where there is one | the row's JSON |
//! | `cursor` | [`crate::progress::RecordKey`] | none | [`crate::progress::Record`] |

use std::borrow::Cow;
use std::ops::Range;

use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};

use super::error::SinkError;
use super::topics::Topic;
use crate::account::{self, Changed, Digest, Op, Reason};
use crate::avro;
use crate::index::Version;
use crate::kafka::{self, NotText};

/// The names of the headers; whoever writes or reads one takes it from here.
pub(crate) mod header {
    /// Why an account was written, in one letter: [`crate::account::Op`].
    pub(crate) const OP: &str = "__op";
    /// The row's `updated_at`, in milliseconds since the epoch.
    pub(crate) const SOURCE_TS_MS: &str = "__source_ts_ms";
    /// The public id of the row's lender.
    pub(crate) const LENDER: &str = "d02.lender";
    /// Of the row's content.
    pub(crate) const DIGEST: &str = "d02.digest";
    /// The fields that did not fit, [listed](crate::account::list).
    pub(crate) const INVALID: &str = "d02.invalid";
    /// `true` where a newer version was held: upstream went back in time.
    pub(crate) const REGRESSED: &str = "d02.regressed";
    /// `true` where the account is written once more as it is held.
    pub(crate) const REPUBLISHED: &str = "d02.republished";
    /// In `changes`, the fields that differ, [listed](crate::account::list); absent where none do.
    pub(crate) const CHANGED: &str = "d02.changed";
    /// In `changes`, where the due date moved: the one before.
    pub(crate) const PREVIOUS_DUE_DATE: &str = "d02.previous_due_date";
    /// In `changes`, where the due date moved: the one now.
    pub(crate) const DUE_DATE: &str = "d02.due_date";
    /// In `dead-letters`, the field that cannot be read.
    pub(crate) const FIELD: &str = "d02.field";
    /// In `dead-letters`, upstream's id of the request that brought the row.
    pub(crate) const REQUEST_ID: &str = "d02.request_id";
    /// In `dead-letters`, the bytes of a row that is too large for its topic.
    pub(crate) const SIZE: &str = "d02.size";
    /// In `dead-letters`, in Kafka Connect's words.
    pub(crate) const ERROR_TOPIC: &str = "__connect.errors.topic";
    pub(crate) const ERROR_CONNECTOR: &str = "__connect.errors.connector.name";
    pub(crate) const ERROR_STAGE: &str = "__connect.errors.stage";
    pub(crate) const ERROR_CLASS: &str = "__connect.errors.exception.class.name";
    pub(crate) const ERROR_MESSAGE: &str = "__connect.errors.exception.message";

    /// Upstream's text where it may stand in a header. What Connect's header converter takes for JSON may become something without a
    /// schema, and of the text `null` it makes an error that stops a sink (Kafka 4.4.0, `SimpleHeaderConverter`).
    pub(super) fn plain(text: &str) -> Option<&str> {
        let content = text.trim();
        (content != "null" && !content.starts_with(['[', '{'])).then_some(text)
    }
}

/// What [`header::REGRESSED`] and [`header::REPUBLISHED`] say, where they are there.
const YES: &str = "true";

/// Bytes that a record batch of one record takes around key, value and headers: batch header, lengths, deltas.
const RECORD_OVERHEAD: usize = 61 + 5 * 5;

/// Two lengths of a header, as variable-length integers.
const HEADER_OVERHEAD: usize = 5 + 5;

/// What one transaction writes beside its cursor record.
#[derive(Debug, Default)]
pub(crate) struct Records<'a> {
    pub accounts: Vec<AccountRecord<'a>>,
    pub changes: Vec<ChangeRecord<'a>>,
    /// What stands before `after` in the values of `changes`, one after another.
    pub heads: Vec<u8>,
    pub dead_letters: Vec<DeadLetterRecord<'a>>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct AccountRecord<'a> {
    pub public_id: &'a str,
    /// Framed Avro; nothing where the account was deleted, whose record is a tombstone.
    pub value: &'a [u8],
    pub op: Op,
    /// Milliseconds since the epoch.
    pub updated_at: i64,
    pub digest: Digest,
    /// The fields that did not fit, [listed](account::list), if there are any.
    pub invalid: Option<&'a str>,
    /// A newer version was held: upstream went back in time.
    pub is_regressed: bool,
    /// Written once more as it is held.
    pub is_republished: bool,
}

impl AccountRecord<'_> {
    pub(super) fn is_tombstone(&self) -> bool {
        self.op == Op::Deleted
    }
}

/// What `changes` says of an account that is written to `accounts`.
#[derive(Debug, Clone)]
pub(crate) struct ChangeRecord<'a> {
    pub account: AccountRecord<'a>,
    /// The place of its head in [`Records::heads`].
    pub head: Range<usize>,
    /// The account's Avro binary, without a frame; nothing where it was deleted.
    pub after: &'a [u8],
    pub changed: Changed,
    /// Where the due date moved.
    pub moved: Option<Box<Moved>>,
}

/// The due dates of two versions, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Moved {
    pub previous: Option<String>,
    pub now: Option<String>,
}

impl Records<'_> {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.accounts.len() + self.changes.len() + self.dead_letters.len()
    }

    /// Puts the value of a change together.
    pub(crate) fn change_value(&self, change: &ChangeRecord<'_>, value: &mut Vec<u8>) {
        value.clear();
        value.extend_from_slice(&self.heads[change.head.clone()]);
        value.push(avro::after(!change.account.is_tombstone()));
        value.extend_from_slice(change.after);
    }
}

#[derive(Debug, Clone)]
pub(crate) struct DeadLetterRecord<'a> {
    pub public_id: Option<&'a str>,
    /// The row's JSON, byte for byte.
    pub json: &'a [u8],
    pub reason: Reason,
    pub digest: Digest,
    pub request_id: Option<&'a str>,
}

/// A dead letter as it is written.
pub(super) struct DeadLetterMessage<'a> {
    pub key: Option<&'a str>,
    pub value: &'a [u8],
    pub headers: OwnedHeaders,
}

impl DeadLetterRecord<'_> {
    /// As it stands in a topic that takes `max_message` bytes a record: without its row where that does not fit.
    /// `source`: the topic of the row's account, and the connector's name.
    pub(super) fn message(&self, source: (&str, &str), lender: &str, max_message: usize) -> DeadLetterMessage<'_> {
        let (topic, connector) = source;
        let message = self.reason.to_string();
        let digest = self.digest.to_string();
        let size = self.json.len().to_string();
        let mut headers = vec![
            (header::ERROR_TOPIC, topic),
            (header::ERROR_CONNECTOR, connector),
            (header::ERROR_STAGE, "VALUE_CONVERTER"),
            (header::ERROR_CLASS, self.reason.class_name()),
            (header::ERROR_MESSAGE, message.as_str()),
            (header::LENDER, lender),
            (header::DIGEST, digest.as_str()),
        ];
        let of_upstream = [
            (header::FIELD, self.reason.field()),
            (header::REQUEST_ID, self.request_id),
        ];
        headers.extend(
            of_upstream
                .into_iter()
                .filter_map(|(name, text)| Some((name, header::plain(text?)?))),
        );
        let size_with = |headers: &[(&str, &str)], key: Option<&str>, value: &[u8]| {
            let headers = headers
                .iter()
                .map(|(name, value)| name.len() + value.len() + HEADER_OVERHEAD);
            RECORD_OVERHEAD + headers.sum::<usize>() + key.map_or(0, str::len) + value.len()
        };
        let (mut key, mut value) = (self.public_id, self.json);
        if size_with(&headers, key, value) > max_message {
            headers.push((header::SIZE, &size));
            value = &[];
            // An id of the size of a record is part of what does not fit; the digest tells the row.
            key = key.filter(|key| size_with(&headers, Some(key), value) <= max_message);
        }
        DeadLetterMessage {
            key,
            value,
            headers: text_headers(&headers),
        }
    }
}

/// Partition counts as they stand in the cursor record.
pub(crate) fn partitions_text(accounts: usize, changes: Option<usize>) -> String {
    let changes = changes.map(|count| format!(",changes={count}")).unwrap_or_default();
    format!("accounts={accounts}{changes}")
}

/// How large the value of a record with this key may be in `topic`.
pub(super) fn largest_value(topic: &Topic, key: &str) -> usize {
    topic.max_message.saturating_sub(RECORD_OVERHEAD + key.len())
}

/// The size of the largest batch that holds this account alone.
pub(crate) fn account_size(account: &AccountRecord<'_>, lender: &str) -> usize {
    let invalid = account
        .invalid
        .map_or(0, |names| header::INVALID.len() + names.len() + HEADER_OVERHEAD);
    let names = [header::OP, header::SOURCE_TS_MS, header::LENDER, header::DIGEST];
    let headers: usize = names.iter().map(|name| name.len() + HEADER_OVERHEAD).sum();
    let flags = [
        (header::REGRESSED, account.is_regressed),
        (header::REPUBLISHED, account.is_republished),
    ];
    let flags = flags.into_iter().filter(|(_, is_set)| *is_set);
    let flags: usize = flags.map(|(name, _)| name.len() + YES.len() + HEADER_OVERHEAD).sum();
    let texts = 1 + 20 + lender.len() + 23;
    RECORD_OVERHEAD + account.public_id.len() + account.value.len() + headers + texts + invalid + flags
}

/// The size of the largest batch that holds this change alone.
pub(crate) fn change_size(change: &ChangeRecord<'_>, lender: &str) -> usize {
    let size = account_size(&change.account, lender) - change.account.value.len();
    let headers: usize = change_texts(change)
        .iter()
        .map(|(name, text)| name.len() + text.len() + HEADER_OVERHEAD)
        .sum();
    size + change.head.len() + 1 + change.after.len() + headers
}

pub(super) fn account_headers(account: &AccountRecord<'_>, lender: &str) -> OwnedHeaders {
    if account.is_tombstone() {
        return text_headers(&[(header::OP, account.op.letter()), (header::LENDER, lender)]);
    }
    let mut headers = text_headers(&[
        (header::OP, account.op.letter()),
        (header::SOURCE_TS_MS, itoa::Buffer::new().format(account.updated_at)),
        (header::LENDER, lender),
        (header::DIGEST, account.digest.text(&mut [0; Digest::SIZE])),
    ]);
    for (key, text) in [
        (header::INVALID, account.invalid),
        (header::REGRESSED, account.is_regressed.then_some(YES)),
        (header::REPUBLISHED, account.is_republished.then_some(YES)),
    ] {
        if text.is_some() {
            headers = headers.insert(Header { key, value: text });
        }
    }
    headers
}

pub(super) fn change_headers(change: &ChangeRecord<'_>, lender: &str) -> OwnedHeaders {
    let headers = account_headers(&change.account, lender);
    change_texts(change).into_iter().fold(headers, |headers, (key, text)| {
        headers.insert(Header {
            key,
            value: Some(&*text),
        })
    })
}

/// The headers that a change has beside those of its account.
fn change_texts<'a>(change: &'a ChangeRecord<'_>) -> Vec<(&'static str, Cow<'a, str>)> {
    let mut texts = Vec::new();
    if !change.changed.is_empty() {
        texts.push((header::CHANGED, Cow::Owned(account::list(change.changed.names()))));
    }
    if let Some(moved) = &change.moved {
        let due_dates = [
            (header::PREVIOUS_DUE_DATE, &moved.previous),
            (header::DUE_DATE, &moved.now),
        ];
        texts.extend(due_dates.into_iter().filter_map(|(name, day)| {
            let day = header::plain(day.as_deref()?)?;
            Some((name, Cow::Borrowed(day)))
        }));
    }
    texts
}

fn text_headers(headers: &[(&str, &str)]) -> OwnedHeaders {
    let owned = OwnedHeaders::new_with_capacity(headers.len() + 1);
    headers.iter().fold(owned, |owned, (key, value)| {
        owned.insert(Header {
            key,
            value: Some(*value),
        })
    })
}

/// What key and headers of a record of `accounts` say.
pub(super) enum AccountRecordHeader<'m> {
    Account {
        lender: &'m str,
        version: Version,
    },
    /// Whatever its other headers: anybody may write one.
    Tombstone {
        lender: Option<&'m str>,
        /// The source wrote it.
        is_ours: bool,
    },
}

impl<'m> AccountRecordHeader<'m> {
    /// With the record's key, the public id.
    ///
    /// # Errors
    /// When the source did not write it.
    pub(super) fn parse(message: &'m BorrowedMessage<'_>) -> Result<(&'m str, Self), SinkError> {
        let foreign = |what| SinkError::ForeignRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            what,
        };
        let public_id = message.key().and_then(|key| std::str::from_utf8(key).ok());
        let public_id = public_id.ok_or_else(|| foreign("its key is no text"))?;
        if message.payload().is_none() {
            let [lender, op] = kafka::header_texts(message, [header::LENDER, header::OP]).unwrap_or_default();
            let is_ours = lender.is_some() && op == Some(Op::Deleted.letter());
            return Ok((public_id, Self::Tombstone { lender, is_ours }));
        }
        let names = [header::LENDER, header::SOURCE_TS_MS, header::DIGEST, header::REGRESSED];
        let texts = kafka::header_texts(message, names);
        let [lender, updated_at, digest, regressed] =
            texts.map_err(|NotText| foreign("the name of a header is no UTF-8"))?;
        let lender = lender.ok_or_else(|| foreign("it has no header d02.lender"))?;
        let updated_at = updated_at.and_then(|text| text.parse().ok());
        let updated_at = updated_at.ok_or_else(|| foreign("it has no usable header __source_ts_ms"))?;
        let digest = digest.and_then(Digest::parse);
        let digest = digest.ok_or_else(|| foreign("it has no header d02.digest of a known algorithm"))?;
        let version = Version {
            updated_at,
            digest,
            is_regressed: regressed == Some(YES),
            schema: message.payload().map(avro::WriterSchema::of_value).unwrap_or_default(),
        };
        Ok((public_id, Self::Account { lender, version }))
    }
}

/// Whose row a record of `dead-letters` is, and which; anybody may write one that says neither.
pub(super) struct DeadLetterHeader<'m> {
    pub lender: &'m str,
    pub digest: Digest,
}

impl<'m> DeadLetterHeader<'m> {
    pub(super) fn parse(message: &'m BorrowedMessage<'_>) -> Option<Self> {
        let [lender, digest] = kafka::header_texts(message, [header::LENDER, header::DIGEST]).ok()?;
        Some(Self {
            lender: lender?,
            digest: digest.and_then(Digest::parse)?,
        })
    }
}

/// A record as it stands in its topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TopicRecord {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: Option<i64>,
    pub key: Option<Vec<u8>>,
    /// `None`: the name of one is no UTF-8.
    pub headers: Option<Vec<(String, Option<Vec<u8>>)>>,
    /// `None`: a tombstone.
    pub value: Option<Vec<u8>>,
}

impl TopicRecord {
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = kafka::headers(message, |headers| {
            let owned = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
            headers.iter().map(owned).collect()
        });
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers.map(Option::unwrap_or_default).ok(),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }

    /// The last header of this name, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().flatten().rfind(|(found, _)| found == name)?;
        std::str::from_utf8(value.as_deref()?).ok()
    }
}
