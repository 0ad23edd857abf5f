//! A record as one line of JSON.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;

use super::cell::is_unprintable;
use super::kind::Kind;
use crate::avro::{Decoded, hexadecimal};
use crate::progress::Timestamp;
use crate::sink::{TopicRecord, header};

/// What a record's value says.
#[derive(Debug)]
pub(super) enum Content {
    Tombstone,
    Avro {
        schema: Schema,
        value: Decoded,
    },
    /// Kept as it stands: numbers lose no digit, members no duplicate.
    Json(Box<RawValue>),
    Text(String),
}

/// What names the schema that a value was written with.
#[derive(Debug, Clone, Copy)]
pub(super) enum Schema {
    Id(u32),
    Fingerprint([u8; 8]),
}

impl Content {
    pub(super) fn json(value: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(value)
            .map(Self::Json)
            .map_err(|error| format!("it is not JSON: {error}"))
    }

    pub(super) fn json_or_text(value: &[u8]) -> Result<Self, String> {
        match std::str::from_utf8(value) {
            Ok(text) => Ok(serde_json::from_str(text).map_or_else(|_| Self::Text(text.to_owned()), Self::Json)),
            Err(error) => Err(format!("it is not text: {error}")),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: Option<Timestamp>,
    key: Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    schema_id: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    headers: BTreeMap<&'a str, Header>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    /// The bytes of a value that cannot be decoded, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Null,
    Avro(&'a Decoded),
    Json(&'a RawValue),
    Text(&'a str),
    Bytes(String),
}

/// A header may come more than once.
#[derive(Serialize)]
#[serde(untagged)]
enum Header {
    Once(Option<String>),
    Several(Vec<Option<String>>),
}

/// The line, without the line break.
pub(super) fn json(kind: Kind, record: &TopicRecord, content: &Result<Content, String>) -> String {
    let schema = match content {
        Ok(Content::Avro { schema, .. }) => Some(*schema),
        _ => None,
    };
    let has_op = matches!(kind, Kind::Accounts | Kind::Changes);
    let is_dead_letters = kind == Kind::DeadLetters;
    let line = Line {
        topic: &record.topic,
        partition: record.partition,
        offset: record.offset,
        timestamp: record.timestamp.map(Timestamp),
        key: key(kind, record.key.as_deref()),
        op: record.header(header::OP).filter(|_| has_op),
        schema_id: schema.and_then(|schema| match schema {
            Schema::Id(id) => Some(id),
            Schema::Fingerprint(_) => None,
        }),
        fingerprint: schema.and_then(|schema| match schema {
            Schema::Id(_) => None,
            Schema::Fingerprint(fingerprint) => Some(hexadecimal(&fingerprint)),
        }),
        reason: record.header(header::ERROR_MESSAGE).filter(|_| is_dead_letters),
        headers: headers(record),
        value: content.as_ref().ok().map(|content| match content {
            Content::Tombstone => Shown::Null,
            Content::Avro { value, .. } => Shown::Avro(value),
            Content::Json(json) => Shown::Json(json),
            Content::Text(text) => Shown::Text(text),
        }),
        error: content.as_ref().err().map(String::as_str),
        raw: content
            .as_ref()
            .err()
            .map(|_| STANDARD.encode(record.value.as_deref().unwrap_or_default())),
    };
    on_one_line(&serde_json::to_string(&line).expect("a line is always JSON"))
}

fn key(kind: Kind, key: Option<&[u8]>) -> Shown<'_> {
    let Some(bytes) = key else { return Shown::Null };
    match std::str::from_utf8(bytes) {
        Ok(text) if kind == Kind::Cursor => serde_json::from_str(text).map_or(Shown::Text(text), Shown::Json),
        Ok(text) => Shown::Text(text),
        Err(_) => Shown::Bytes(hexadecimal(bytes)),
    }
}

fn headers(record: &TopicRecord) -> BTreeMap<&str, Header> {
    let mut headers: BTreeMap<&str, Vec<Option<String>>> = BTreeMap::new();
    for (name, value) in record.headers.iter().flatten() {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|_| hexadecimal(bytes));
        headers.entry(name).or_default().push(value.as_deref().map(text));
    }
    let shown = headers.into_iter().map(|(name, mut values)| match values.len() {
        1 => (name, Header::Once(values.remove(0))),
        _ => (name, Header::Several(values)),
    });
    shown.collect()
}

/// The same JSON without a line break, and without a character that a terminal would obey.
///
/// Raw control characters stand between JSON's tokens, where they are white space, and cannot stand in strings; DEL and
/// what lies beyond ASCII stands in strings only, where its escape means the same.
fn on_one_line(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            '\n' | '\r' | '\t' => line.push(' '),
            char if is_unprintable(char) => line.push_str(&format!("\\u{:04x}", u32::from(char))),
            char => line.push(char),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &[u8]) -> TopicRecord {
        TopicRecord {
            topic: "t".into(),
            partition: 1,
            offset: 7,
            timestamp: Some(1_780_000_000_123),
            key: Some(b"k".to_vec()),
            headers: Some(vec![(
                "__connect.errors.exception.message".into(),
                Some(b"why".to_vec()),
            )]),
            value: Some(value.to_vec()),
        }
    }

    fn dead_letter(value: &[u8]) -> String {
        json(Kind::DeadLetters, &record(value), &Content::json_or_text(value))
    }

    #[test]
    fn a_dead_letters_json_is_embedded_with_every_digit_and_duplicate() {
        let head = r#"{"topic":"t","partition":1,"offset":7,"timestamp":"2026-05-28T20:26:40.123Z","key":"k","reason":"why","headers":{"__connect.errors.exception.message":"why"},"#;
        let row = r#"{"a": 1998.9999999999998, "a":1e999, "b":"\ud800"}"#;
        assert_eq!(dead_letter(row.as_bytes()), format!("{head}\"value\":{row}}}"));
        assert_eq!(dead_letter(b"null"), format!("{head}\"value\":null}}"));
        assert_eq!(dead_letter(b"{\"a\""), format!("{head}\"value\":\"{{\\\"a\\\"\"}}"));
        assert_eq!(dead_letter(b""), format!("{head}\"value\":\"\"}}"));
        assert_eq!(
            dead_letter(&[0xFF, 0]),
            format!(
                "{head}\"error\":\"it is not text: invalid utf-8 sequence of 1 bytes from index 0\",\"raw\":\"/wA=\"}}"
            )
        );
    }

    #[test]
    fn a_line_is_one_line_and_holds_nothing_that_a_terminal_obeys() {
        let tricky = "{\r\n\t\"a\": \"\u{7f}\u{9b}31m\u{202e}é\",\n\"b\": \"\\n\"}";
        let line = dead_letter(tricky.as_bytes());
        assert!(!line.chars().any(is_unprintable), "{line:?}");
        let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(read["value"]["a"], "\u{7f}\u{9b}31m\u{202e}é");
        assert_eq!(read["value"]["b"], "\n");
        // A raw control character in a string is no JSON, so it is text, and escaped as such.
        let read: serde_json::Value = serde_json::from_str(&dead_letter(b"\"\x1b[2J\"")).expect("JSON");
        assert_eq!(read["value"], "\"\x1b[2J\"");
    }

    #[test]
    fn keys_and_headers_are_shown_whatever_they_are() {
        let mut record = record(b"{}");
        record.headers = Some(vec![
            ("a".into(), None),
            ("b".into(), Some(vec![0xFF])),
            ("b".into(), Some(b"text".to_vec())),
        ]);
        record.timestamp = None;
        let shown = |record: &TopicRecord| {
            let line = json(Kind::Cursor, record, &Content::json(b"{}"));
            serde_json::from_str::<serde_json::Value>(&line).expect("JSON")
        };
        let line = shown(&record);
        assert_eq!(line["headers"], serde_json::json!({"a": null, "b": ["0xff", "text"]}));
        assert_eq!(
            (&line["timestamp"], &line["key"]),
            (&serde_json::Value::Null, &"k".into())
        );
        record.key = Some(br#"["d02-source-acme",{"dataset":"D02","lender":"5f0c"}]"#.to_vec());
        assert_eq!(shown(&record)["key"][1]["lender"], "5f0c");
        record.key = Some(vec![0xFF]);
        assert_eq!(shown(&record)["key"], "0xff");
        record.key = None;
        assert_eq!(shown(&record)["key"], serde_json::Value::Null);
    }

    #[test]
    fn a_tombstone_has_the_value_null() {
        let mut record = record(b"");
        record.value = None;
        record.headers = Some(vec![("__op".into(), Some(b"d".to_vec()))]);
        let line = json(Kind::Accounts, &record, &Ok(Content::Tombstone));
        assert!(
            line.ends_with(r#""op":"d","headers":{"__op":"d"},"value":null}"#),
            "{line}"
        );
    }
}
