//! What may stand in a cell of a table, and how long is it?

use serde_json::Value;

use crate::avro::hexadecimal;
use crate::sink::{TopicRecord, header};

/// Whether a character is better shown by its number: it moves the cursor, colours, or turns the text around it.
pub(crate) fn is_unprintable(char: char) -> bool {
    char.is_control()
        || matches!(char, '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

pub(super) fn op(record: &TopicRecord) -> String {
    match record.header(header::OP) {
        Some("r") => "read".to_owned(),
        Some("c") => "created".to_owned(),
        Some("u") => "updated".to_owned(),
        Some("d") => "deleted".to_owned(),
        other => visible(other.unwrap_or_default()),
    }
}

/// The parsed day is the same for every way of writing it; one that is no real day is shown as stored.
pub(super) fn due_date(account: &Value) -> String {
    match &account["due_date_parsed"] {
        Value::Null => plain(&account["due_date"]),
        parsed => plain(parsed),
    }
}

pub(super) fn key(record: &TopicRecord) -> String {
    match record.key.as_deref().map(|key| (std::str::from_utf8(key), key)) {
        Some((Ok(text), _)) => visible(text),
        Some((Err(_), bytes)) => hexadecimal(bytes),
        None => "-".to_owned(),
    }
}

pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => visible(text),
        other => visible(&other.to_string()),
    }
}

/// `2026-05-28T20:26:40.123Z` to the second, as `2026-05-28 20:26:40`; other texts as they are.
pub(super) fn moment(text: &str) -> String {
    match text.split_once('T') {
        Some((day, time)) if day.len() == 10 && time.len() >= 9 && time.ends_with('Z') && time.is_ascii() => {
            format!("{day} {}", &time[..8])
        }
        _ => text.to_owned(),
    }
}

pub(super) fn cut(mut text: String) -> String {
    if let Some((end, _)) = text.char_indices().nth(MAX_CELL) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// On one line, and without a character that a terminal would obey.
pub(super) fn visible(text: &str) -> String {
    let mut visible = String::with_capacity(text.len());
    for char in text.chars() {
        if is_unprintable(char) {
            visible.extend(char.escape_default());
        } else {
            visible.push(char);
        }
    }
    visible
}

/// Longer texts are cut in every column but keys and the last.
const MAX_CELL: usize = 40;
