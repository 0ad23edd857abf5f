//! The accounts as they are, a row of CSV each.

use std::collections::HashMap;
use std::io::Write;

use serde_json::Value;

use super::cell::visible;
use super::decoders::Decoders;
use super::error::PrintError;
use super::line::Content;
use super::printer::Stop;
use crate::avro::ACCOUNT;
use crate::exit::Diagnosis;
use crate::sink::{TailError, TopicRecord, TopicTail};

/// Lines of one kind that it adds to the log.
const MAX_LINES: u64 = 10;

/// Where a record stands, and whether an account does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    partition: i32,
    offset: i64,
    is_account: bool,
}

impl Last {
    fn of(record: &TopicRecord) -> Self {
        Self {
            partition: record.partition,
            offset: record.offset,
            is_account: record.value.is_some(),
        }
    }
}

/// Writes the last version of every account that is there at the ends of `tail`, under a line of the schema's names. The topic is read
/// twice, so that only places are held.
///
/// # Errors
/// When reading or writing fails, a value cannot be decoded, or an account is compacted away between the two readings.
pub(super) fn print(tail: &TopicTail, decoders: &mut Decoders, out: impl Write, is_terminal: bool) -> Result<(), Stop> {
    let mut last: HashMap<(String, Option<Vec<u8>>), Last> = HashMap::new();
    tail.read_all(|record| {
        let place = Last::of(&record);
        last.insert((record.topic, record.key), place);
        Ok::<_, TailError>(())
    })?;
    let all = last.values().filter(|last| last.is_account).count() as u64;
    let names = names();
    let mut rows = csv::Writer::from_writer(out);
    rows.write_record(&names).map_err(std::io::Error::from)?;
    let (mut count, mut undecodable) = (0, 0);
    tail.read_all(|mut record| {
        let (place, value) = (Last::of(&record), record.value.take());
        if last.get(&(record.topic, record.key)) != Some(&place) {
            return Ok(());
        }
        let Some(value) = value else { return Ok(()) };
        count += 1;
        match decoders.avro(&value).map_err(Stop::Failed)? {
            Ok(Content::Avro { value, .. }) => {
                let account = serde_json::to_value(value).unwrap_or_default();
                let cells = names.iter().map(|name| cell(&account[name], is_terminal));
                rows.write_record(cells).map_err(std::io::Error::from)?;
            }
            Ok(_) => {}
            Err(reason) => {
                undecodable += 1;
                if undecodable <= MAX_LINES {
                    let (partition, offset) = (place.partition, place.offset);
                    let code = PrintError::LeftOut { count: 1, all }.code();
                    tracing::warn!(partition, offset, %code, "left out, it cannot be decoded: {reason}");
                }
            }
        }
        Ok::<_, Stop>(())
    })?;
    rows.flush()?;
    if undecodable > 0 {
        return Err(Stop::Failed(
            PrintError::LeftOut {
                count: undecodable,
                all,
            }
            .into(),
        ));
    }
    if count < all {
        return Err(Stop::Failed(
            PrintError::CompactedAway {
                count: all - count,
                all,
            }
            .into(),
        ));
    }
    Ok(())
}

/// The names of the schema's fields, in its order.
fn names() -> Vec<String> {
    let schema: Value = serde_json::from_str(ACCOUNT.text).expect("a schema is JSON");
    let fields = schema["fields"].as_array().into_iter().flatten();
    fields
        .filter_map(|field| field["name"].as_str().map(str::to_owned))
        .collect()
}

/// Numbers with every digit. A text that a spreadsheet would take for a formula has an apostrophe before it.
fn cell(value: &Value, is_terminal: bool) -> String {
    let text = match value {
        Value::Null => return String::new(),
        Value::String(text) if is_terminal => visible(text),
        Value::String(text) => text.clone(),
        other => return other.to_string(),
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_fields_of_the_schema_in_its_order() {
        let names = names();
        assert_eq!((&*names[0], &*names[1]), ("public_id", "lender_public_id"));
        assert_eq!(names.last().map(String::as_str), Some("extra"));
    }

    #[test]
    fn a_cell_is_exact_and_nothing_that_a_spreadsheet_or_a_terminal_runs() {
        let shown = |value: Value| cell(&value, false);
        assert_eq!(shown(Value::Null), "");
        assert_eq!(shown(i64::MAX.into()), "9223372036854775807");
        assert_eq!(shown((-1).into()), "-1");
        for text in ["=1+1", "+1", "-1", "@a", "\ta", "\ra"] {
            assert_eq!(shown(text.into()), format!("'{text}"));
        }
        assert_eq!(shown("22/02/2026 = due".into()), "22/02/2026 = due");
        assert_eq!(shown("\u{1b}[2J".into()), "\u{1b}[2J", "a file has what is stored");
        assert!(!cell(&"\u{1b}[2J".into(), true).contains('\u{1b}'));
    }
}
