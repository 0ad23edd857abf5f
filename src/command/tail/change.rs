//! What does a record of `changes` tell a person? Which fields differ, from what to what, and the days past due.

use chrono::{DateTime, NaiveDate};
use serde_json::Value;

use super::cell::{cut, due_date, key, plain, visible};
use super::dpd::{Computed, Delinquency, Unknown};
use super::line::Content;
use crate::account;
use crate::sink::{TopicRecord, header};

pub(super) const BY_SUBMISSION: &str = "DPD (SUBMISSION)";
pub(super) const BY_DUE_DATE: &str = "DPD (DUE DATE)";

/// Whether the record's header names one of `fields`.
pub(super) fn names_any(record: &TopicRecord, fields: &[String]) -> bool {
    let named = record.header(header::CHANGED).map(account::listed);
    named.iter().flatten().any(|name| fields.contains(name))
}

/// The due date, and what it was before where it moved.
pub(super) fn moved_due_date(change: &Value) -> String {
    let name = "due_date";
    let [before, after] = [&change["before"], &change["after"]];
    if changed(change).any(|changed| changed == name) {
        format!("{} → {}", cut(shown(before, name)), cut(shown(after, name)))
    } else {
        cut(due_date(after))
    }
}

/// `balance_amount 120000 → 90000`: one text a field, in the order in which the record names them.
pub(super) fn in_words(change: &Value) -> Vec<String> {
    let [before, after] = [&change["before"], &change["after"]];
    let words = changed(change).map(|name| match before.get(name) {
        Some(_) => format!("{} {} → {}", visible(name), shown(before, name), shown(after, name)),
        // `*`, or what a later version tracks.
        None => visible(name),
    });
    words.collect()
}

fn shown(version: &Value, name: &str) -> String {
    match (name, &version[name]) {
        (_, Value::Null) => "null".to_owned(),
        (_, Value::String(text)) if text.is_empty() => "\"\"".to_owned(),
        ("due_date", _) => due_date(version),
        (_, value) => plain(value),
    }
}

fn changed(change: &Value) -> impl Iterator<Item = &str> {
    change["changed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Both ways, on the day of the version; empty where they cannot be computed.
pub(super) fn days_past_due(change: &Value) -> [String; 2] {
    let updated_at = change["updated_at"].as_str();
    let day = updated_at.and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    match (Delinquency::of(change), day) {
        (Ok(account), Some(at)) => {
            let day = at.date_naive();
            let text = |computed: Result<Computed, Unknown>| computed.map(|it| it.days.to_string()).unwrap_or_default();
            [account.by_submission(day), account.by_due_date(day)].map(text)
        }
        _ => Default::default(),
    }
}

/// The days past due of an account on `today`, by its last record.
pub(super) fn explanation(record: &TopicRecord, content: &Result<Content, String>, today: NaiveDate) -> String {
    let account = match content {
        Ok(Content::Avro { value, .. }) => Delinquency::of(&serde_json::to_value(value).unwrap_or_default()),
        _ => Err(Unknown::NoAccount),
    };
    let line = |computed: Result<Computed, Unknown>| match computed {
        Ok(Computed { days, from }) => format!("{days}: {from}"),
        Err(reason) => format!("cannot be computed: {reason}"),
    };
    let by_submission = line(account.and_then(|account| account.by_submission(today)));
    let by_due_date = line(account.and_then(|account| account.by_due_date(today)));
    format!(
        "Days past due (DPD) of {} today, {today} (UTC), by its last record, {}:{}
  {BY_SUBMISSION}  {by_submission}
  {BY_DUE_DATE}    {by_due_date}
{BY_SUBMISSION} = delinquent_days_on_submission + days since submitted_date: counts on, whatever was paid.
{BY_DUE_DATE} = days since due_date: begins anew when the due date moves.",
        key(record),
        record.partition,
        record.offset,
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::avro::{CHANGE, Decoder};
    use crate::command::tail::line::Schema;
    use apache_avro::types;
    use apache_avro::writer::datum::GenericDatumWriter;
    use serde_json::json;

    /// What is decoded of a change with these fields, the others being null.
    pub(crate) fn content(change: Value) -> Content {
        let schema = apache_avro::Schema::parse_str(CHANGE.text).expect("a schema");
        let value = types::Value::try_from(change).and_then(|value| value.resolve(&schema));
        let writer = GenericDatumWriter::builder(&schema).build().expect("a writer");
        let bytes = writer.write_value_to_vec(value.expect("a change")).expect("encodable");
        let value = Decoder::new(CHANGE.text).and_then(|decoder| decoder.decode(&bytes));
        Content::Avro {
            schema: Schema::Id(1),
            value: value.expect("decodable"),
        }
    }

    #[test]
    fn a_record_is_wanted_if_its_header_names_one_of_the_fields() {
        let names = |header: Option<&str>, fields: &[&str]| {
            let value = header.map(|header| header.as_bytes().to_vec());
            let record = TopicRecord {
                headers: Some(vec![("d02.changed".into(), value)]),
                ..TopicRecord::default()
            };
            let fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
            names_any(&record, &fields)
        };
        // 0.1 wrote a JSON array.
        for header in [Some("balance_amount,*"), Some(r#"["balance_amount","*"]"#)] {
            assert!(names(header, &["balance_amount"]));
            assert!(names(header, &["due_date", "*"]));
            // A part of a name is no name, and `*` stands for no tracked field.
            for field in ["actual_balance_amount", "balance", "due_date"] {
                assert!(!names(header, &[field]), "{field}");
            }
        }
        for header in [None, Some(""), Some("[]"), Some(r#"{"*":1}"#), Some("[1]"), Some("[*")] {
            assert!(!names(header, &["*"]), "{header:?}");
        }
    }

    #[test]
    fn the_days_past_due_are_explained_as_of_today() {
        let record = TopicRecord {
            partition: 3,
            offset: 7,
            key: Some(b"a\x1b".to_vec()),
            ..TopicRecord::default()
        };
        let change = |after: Value| {
            Ok(content(json!({
                "public_id": "a", "lender_public_id": "l", "op": "u", "updated_at": 0, "after": after,
            })))
        };
        let mut account = json!({
            "public_id": "a", "lender_public_id": "l", "updated_at": 0,
            "submitted_date": "10/02/2026", "submitted_date_parsed": 20_494, "delinquent_days_on_submission": 30,
            "due_date": "22/02/2026", "due_date_parsed": 20_506,
        });
        let sound = change(account.clone());
        account["submitted_date_parsed"] = Value::Null;
        account["due_date_parsed"] = 20_520.into();
        let today = "2026-03-01".parse().expect("a day");
        let shown = [
            sound,
            change(account),
            change(Value::Null),
            Err("it is empty".to_owned()),
        ]
        .map(|content| explanation(&record, &content, today));
        let expected = include_str!("../../../tests/golden/tail-days-past-due.txt");
        assert_eq!(shown.join("\n\n"), expected.trim_end());
    }
}
