//! A record as one line of a table.

use serde_json::Value;

use super::cell::{cut, due_date, key, moment, op, plain, visible};
use super::change;
use super::kind::Kind;
use super::line::Content;
use crate::progress::Timestamp;
use crate::sink::{TopicRecord, header};

/// A heading and the width that it has from the start: a table that goes on is printed before all of it is known.
struct Column {
    heading: &'static str,
    width: usize,
    is_number: bool,
}

const fn text(heading: &'static str, width: usize) -> Column {
    Column {
        heading,
        width,
        is_number: false,
    }
}

const fn number(heading: &'static str, width: usize) -> Column {
    Column {
        heading,
        width,
        is_number: true,
    }
}

/// `YYYY-MM-DD hh:mm:ss`.
const TIME: usize = 19;

pub(super) struct Table {
    columns: Vec<Column>,
}

impl Table {
    pub(super) fn new(kind: Kind) -> Self {
        let place = || text("PLACE", 7);
        let written = || text("WRITTEN (UTC)", TIME);
        let columns = match kind {
            Kind::Accounts => vec![
                place(),
                written(),
                text("OP", 7),
                text("KEY", 24),
                text("REFERENCE", 12),
                text("STATUS", 13),
                number("BALANCE (MINOR UNITS)", 0),
                text("CURRENCY", 0),
                text("DUE DATE", 10),
                text("UPDATED (UTC)", TIME),
                text("NOTE", 0),
            ],
            Kind::Changes => vec![
                place(),
                written(),
                text("OP", 7),
                text("KEY", 24),
                text("UPDATED (UTC)", TIME),
                text("STATUS", 13),
                number("BALANCE (MINOR UNITS)", 0),
                text("CURRENCY", 0),
                text("DUE DATE", 10),
                number(change::BY_SUBMISSION, 0),
                number(change::BY_DUE_DATE, 0),
                text("CHANGED", 0),
            ],
            Kind::DeadLetters => vec![
                place(),
                written(),
                text("KEY", 24),
                text("FIELD", 16),
                text("REQUEST ID", 10),
                text("REASON", 0),
            ],
            Kind::Cursor => vec![
                place(),
                written(),
                text("CONNECTOR", 16),
                number("EPOCH", 0),
                number("SEQUENCE", 0),
                text("READ (UTC)", TIME),
                text("SETTLED (UTC)", TIME),
                number("RANGES", 0),
                number("ACCOUNTS", 0),
                text("INSTANCE", 32),
                text("NOTE", 0),
            ],
        };
        let mut table = Self { columns };
        let headings: Vec<String> = table.headings().map(str::to_owned).collect();
        table.make_room(&headings);
        table
    }

    fn headings(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.heading)
    }

    /// Widens the columns so that `cells` fit.
    pub(super) fn make_room(&mut self, cells: &[String]) {
        for (column, cell) in self.columns.iter_mut().zip(cells) {
            column.width = column.width.max(cell.chars().count());
        }
    }

    pub(super) fn head(&self) -> String {
        self.line(&self.headings().collect::<Vec<_>>())
    }

    pub(super) fn line(&self, cells: &[impl AsRef<str>]) -> String {
        let mut line = String::new();
        for (column, cell) in self.columns.iter().zip(cells) {
            let (cell, width) = (cell.as_ref(), column.width);
            if !line.is_empty() {
                line.push_str("  ");
            }
            line.push_str(&if column.is_number {
                format!("{cell:>width$}")
            } else {
                format!("{cell:<width$}")
            });
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// One cell a column of [`Table::new`] of the same kind.
pub(super) fn cells(kind: Kind, record: &TopicRecord, content: &Result<Content, String>) -> Vec<String> {
    let value = match content {
        Ok(Content::Avro { value, .. }) => serde_json::to_value(value).unwrap_or_default(),
        // A large number may lose digits here; amounts of accounts are whole and never do.
        Ok(Content::Json(json)) => serde_json::from_str(json.get()).unwrap_or_default(),
        Ok(Content::Tombstone | Content::Text(_)) | Err(_) => Value::Null,
    };
    let field = |name: &str| plain(&value[name]);
    let header = |name: &str| visible(record.header(name).unwrap_or_default());
    let written = record
        .timestamp
        .map(|at| moment(&Timestamp(at).to_string()))
        .unwrap_or_default();
    let mut cells = vec![format!("{}:{}", record.partition, record.offset), written];
    let undecodable = content
        .as_ref()
        .err()
        .map(|reason| format!("cannot be decoded: {}", visible(reason)));
    match kind {
        Kind::Accounts => {
            cells.extend([op(record), key(record)]);
            cells.extend(["account_reference_id", "status", "balance_amount", "currency"].map(|name| cut(field(name))));
            cells.extend([cut(due_date(&value)), moment(&field("updated_at"))]);
            cells.push(undecodable.unwrap_or_else(|| account_notes(record, content).join("; ")));
        }
        Kind::Changes => {
            let after = |name: &str| cut(plain(&value["after"][name]));
            cells.extend([op(record), key(record), moment(&field("updated_at"))]);
            cells.extend(["status", "balance_amount", "currency"].map(after));
            cells.push(change::moved_due_date(&value));
            cells.extend(change::days_past_due(&value));
            let notes = || {
                [change::in_words(&value), account_notes(record, content)]
                    .concat()
                    .join("; ")
            };
            cells.push(undecodable.unwrap_or_else(notes));
        }
        Kind::DeadLetters => {
            let reason = header(header::ERROR_MESSAGE);
            cells.push(key(record));
            cells.extend([header::FIELD, header::REQUEST_ID].map(|name| cut(header(name))));
            cells.push(undecodable.unwrap_or(reason));
        }
        Kind::Cursor => {
            let parsed: Option<Value> = record.key.as_deref().and_then(|key| serde_json::from_slice(key).ok());
            let connector = parsed.as_ref().and_then(|key| key[0].as_str()).map(visible);
            cells.push(connector.unwrap_or_else(|| key(record)));
            let ranges: Option<Vec<Value>> = value["ranges"]
                .as_str()
                .and_then(|text| serde_json::from_str(text).ok());
            cells.extend(["epoch", "sequence"].map(|name| cut(field(name))));
            cells.extend(["read", "settled"].map(|name| cut(moment(&field(name)))));
            cells.push(ranges.map(|ranges| ranges.len().to_string()).unwrap_or_default());
            cells.extend(["account_count", "instance"].map(|name| cut(field(name))));
            cells.push(undecodable.unwrap_or_else(|| cursor_note(content, &value)));
        }
    }
    cells
}

fn account_notes(record: &TopicRecord, content: &Result<Content, String>) -> Vec<String> {
    let mut notes = Vec::new();
    if matches!(content, Ok(Content::Tombstone)) {
        notes.push("tombstone".to_owned());
    }
    if let Some(names) = record.header(header::INVALID) {
        notes.push(format!("did not fit: {}", visible(names)));
    }
    if record.header(header::REGRESSED) == Some("true") {
        notes.push("went back in time".to_owned());
    }
    notes
}

fn cursor_note(content: &Result<Content, String>, value: &Value) -> String {
    let note = match content {
        Ok(Content::Tombstone) => "reset",
        _ if value["epoch"].is_null() => "not of d02-source",
        _ if value["instance"].is_null() => "released",
        _ => "",
    };
    note.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::Account;
    use crate::avro::{ACCOUNT, Decoder, Encoder, Frame};
    use crate::command::tail::line::Schema;
    use serde_json::json;

    fn shown(kind: Kind, records: &[(TopicRecord, Result<Content, String>)]) -> String {
        let mut table = Table::new(kind);
        let rows: Vec<_> = records
            .iter()
            .map(|(record, content)| cells(kind, record, content))
            .collect();
        rows.iter().for_each(|row| table.make_room(row));
        assert!(rows.iter().all(|row| row.len() == table.columns.len()));
        let lines: Vec<_> = std::iter::once(table.head())
            .chain(rows.iter().map(|row| table.line(row)))
            .collect();
        lines.join("\n")
    }

    fn record(offset: i64, key: &str, headers: &[(&str, &str)]) -> TopicRecord {
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).to_owned(), Some(value.as_bytes().to_vec())));
        TopicRecord {
            topic: "t".into(),
            partition: 3,
            offset,
            timestamp: Some(1_780_000_000_123),
            key: Some(key.as_bytes().to_vec()),
            headers: Some(headers.collect()),
            value: None,
        }
    }

    fn content(account: &Account<'_>) -> Content {
        let mut bytes = Vec::new();
        Encoder::new(Frame::Confluent { schema_id: 1 }).encode(account, &mut bytes);
        let value = Decoder::new(ACCOUNT.text).and_then(|decoder| decoder.decode(&bytes[5..]));
        Content::Avro {
            schema: Schema::Id(1),
            value: value.expect("decodable"),
        }
    }

    #[test]
    fn accounts_are_a_line_each_in_minor_units_and_nothing_in_them_reaches_the_terminal_raw() {
        let sound = Account {
            account_reference_id: Some("ACC-1".into()),
            balance_amount: Some(1_250_500),
            currency: Some("KWD".into()),
            due_date: Some("22/02/2026".into()),
            due_date_parsed: Some(20_506),
            status: Some("IN_COLLECTION".into()),
            updated_at: 1_780_000_000_123,
            ..Account::default()
        };
        let odd = Account {
            account_reference_id: Some("\u{1b}[2J\nx\u{202e}".into()),
            due_date: Some("31/02/2026".into()),
            status: Some("x".repeat(50).into()),
            ..Account::default()
        };
        let records = [
            (
                record(7, "65f0c0ffee65f0c0ffee65f0", &[("__op", "u")]),
                Ok(content(&sound)),
            ),
            (
                record(1234, "b", &[("__op", "r"), ("d02.invalid", r#"["due_date"]"#)]),
                Ok(content(&odd)),
            ),
            (record(1235, "c", &[("__op", "d")]), Ok(Content::Tombstone)),
            (record(1236, "d", &[]), Err("it is empty".to_owned())),
        ];
        let expected = include_str!("../../../tests/golden/tail-accounts.txt").trim_end();
        assert_eq!(shown(Kind::Accounts, &records), expected);
    }

    #[test]
    fn changes_say_what_differs_and_the_days_past_due_of_their_day() {
        let account = |fields: &[(&str, Value)]| {
            let mut account = json!({
                "public_id": "a", "lender_public_id": "l", "updated_at": 1_780_000_000_123_i64,
                "submitted_date": "10/02/2026", "submitted_date_parsed": 20_494, "delinquent_days_on_submission": 30,
                "due_date": "22/02/2026", "due_date_parsed": 20_506, "status": "IN_COLLECTION",
                "balance_amount": 90_000, "currency": "KWD",
            });
            fields.iter().for_each(|(name, value)| account[name] = value.clone());
            account
        };
        let change = |op: &str, changed: &[&str], before: Value, after: Value| {
            Ok(change::tests::content(json!({
                "public_id": "a", "lender_public_id": "l", "op": op, "updated_at": 1_780_000_000_123_i64,
                "changed": changed, "before": before, "after": after,
            })))
        };
        let before = json!({
            "balance_amount": 120_000, "due_date": "01/02/2026", "due_date_parsed": 20_485, "status": "\u{1b}[2J", "currency": "",
        });
        let ahead = account(&[("due_date", "01/06/2026".into()), ("due_date_parsed", 20_605.into())]);
        let unreal = account(&[
            ("due_date", "31/02/2026".into()),
            ("due_date_parsed", Value::Null),
            ("submitted_date_parsed", Value::Null),
        ]);
        let key = "65f0c0ffee65f0c0ffee65f0";
        let records = [
            (
                record(7, key, &[("__op", "r")]),
                change("r", &[], Value::Null, account(&[])),
            ),
            (
                record(8, key, &[("__op", "u")]),
                change("u", &["balance_amount", "due_date", "*"], before.clone(), account(&[])),
            ),
            (
                record(9, key, &[("__op", "u"), ("d02.regressed", "true")]),
                change(
                    "u",
                    &["currency", "due_date", "status", "later\n"],
                    before.clone(),
                    ahead,
                ),
            ),
            (
                record(10, key, &[("__op", "u")]),
                change("u", &["due_date", "paid_amount"], before.clone(), unreal),
            ),
            (record(11, key, &[("__op", "d")]), change("d", &[], before, Value::Null)),
            (record(12, "b", &[]), Err("it is empty".to_owned())),
            (record(13, "b", &[]), Ok(Content::Tombstone)),
        ];
        let expected = include_str!("../../../tests/golden/tail-changes.txt").trim_end();
        assert_eq!(shown(Kind::Changes, &records), expected);
    }

    #[test]
    fn dead_letters_and_cursor_records_are_a_line_each() {
        let headers = [
            (
                "__connect.errors.exception.message",
                "`paid_amount` is not an exact 64-bit whole number of minor units",
            ),
            ("d02.field", "paid_amount"),
            ("d02.request_id", "req-17"),
        ];
        let mut keyless = record(8, "", &headers[..1]);
        keyless.key = None;
        let records = [
            (record(7, "a", &headers), Content::json_or_text(b"{}")),
            (keyless, Content::json_or_text(b"null")),
        ];
        let expected = include_str!("../../../tests/golden/tail-dead-letters.txt").trim_end();
        assert_eq!(shown(Kind::DeadLetters, &records), expected);

        let key = r#"["d02-source-acme",{"dataset":"D02","lender":"5f0c"}]"#;
        let value = include_bytes!("../../../tests/golden/cursor-record-v1.json");
        let foreign = r#"["fs",{"filename":"in.txt"}]"#;
        let records = [
            (record(7, key, &[]), Content::json(value)),
            (record(8, key, &[]), Ok(Content::Tombstone)),
            (record(9, foreign, &[]), Content::json(br#"{"position":14}"#)),
            (record(10, "k", &[]), Content::json(b"x")),
        ];
        let expected = include_str!("../../../tests/golden/tail-cursor.txt").trim_end();
        assert_eq!(shown(Kind::Cursor, &records), expected);
    }
}
