//! What does an answer say? The success and the error envelope, strictly where rows depend on it, else tolerant.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::account::{instant, shortened};
use crate::config::hide;
use crate::progress::Timestamp;

/// Upstream's id of a request, for the vendor's support; prints as nothing where there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct RequestId(pub Option<String>);

impl RequestId {
    pub(super) fn of(text: Option<&str>) -> Self {
        Self(text.map(|id| shortened(id).chars().filter(|char| !char.is_control()).collect()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(id) => write!(f, " (request id {id})"),
            None => Ok(()),
        }
    }
}

/// A page as it came, not yet verified.
pub(crate) struct PageBody<'a> {
    pub rows: Vec<&'a RawValue>,
    pub next_cursor: Option<String>,
    /// Rows of the whole filter, where upstream was asked for them and counted them all.
    pub total: Option<u64>,
    /// There are more rows than a page can have; the rest was passed over.
    pub are_too_many: bool,
    /// How upstream understood the bounds.
    pub since: Option<Timestamp>,
    pub until: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    body: Body<'a>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    rows: Rows<'a>,
    pagination: Pagination,
    meta: Meta,
}

/// Upstream gives no more rows a page, whatever `limit` says. The bytes of an answer do not bound them: 64 MiB hold 32
/// million rows of one digit.
const MAX_ROWS: usize = 1000;

struct Rows<'a> {
    rows: Vec<&'a RawValue>,
    are_too_many: bool,
}

impl<'de: 'a, 'a> Deserialize<'de> for Rows<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RowsVisitor)
    }
}

struct RowsVisitor;

impl<'de> Visitor<'de> for RowsVisitor {
    type Value = Rows<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<Self::Value, A::Error> {
        let mut read = Vec::new();
        while read.len() < MAX_ROWS {
            match rows.next_element()? {
                Some(row) => read.push(row),
                None => break,
            }
        }
        let mut are_too_many = false;
        while let Some(IgnoredAny) = rows.next_element()? {
            are_too_many = true;
        }
        Ok(Rows {
            rows: read,
            are_too_many,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pagination {
    // A missing member is no end of data: only a null is.
    #[serde(deserialize_with = "Option::deserialize")]
    next_cursor: Option<String>,
    // Only shown to people: whatever else stands there is as good as nothing.
    #[serde(default)]
    total: serde_json::Value,
    #[serde(default)]
    total_exact: serde_json::Value,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(deserialize_with = "Option::deserialize")]
    since: Option<String>,
    #[serde(deserialize_with = "Option::deserialize")]
    until: Option<String>,
}

/// Reads a success envelope; the error says what is wrong with it, without its contents.
pub(super) fn page(text: &str) -> Result<PageBody<'_>, String> {
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Eof => "JSON that is cut off",
            serde_json::error::Category::Data => "JSON of another form",
            serde_json::error::Category::Io | serde_json::error::Category::Syntax => "no JSON",
        };
        format!(
            "{kind} at line {} column {} of {} bytes",
            error.line(),
            error.column(),
            text.len()
        )
    })?;
    let Body { rows, pagination, meta } = envelope.body;
    let bound = |name, text: Option<String>| match text.as_deref().map(instant) {
        None => Ok(None),
        Some(Some(at)) => Ok(Some(Timestamp(at))),
        Some(None) => Err(format!("meta.{name} is no RFC 3339 time")),
    };
    let (since, until) = (bound("since", meta.since)?, bound("until", meta.until)?);
    Ok(PageBody {
        rows: rows.rows,
        are_too_many: rows.are_too_many,
        next_cursor: pagination.next_cursor,
        total: pagination.total.as_u64().filter(|_| pagination.total_exact != false),
        since,
        until,
    })
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ErrorEnvelope {
    message: Option<String>,
    request_id: Option<String>,
}

/// The longest part of a foreign message that is repeated.
const MAX_MESSAGE: usize = 300;

/// Message and request id of an error answer, whatever its body is; the message without the `secret` that was sent.
pub(super) fn error(body: &[u8], header_id: RequestId, secret: &str) -> (String, RequestId) {
    let envelope: ErrorEnvelope = serde_json::from_slice(body).unwrap_or_default();
    let message = match envelope.message {
        Some(mut message) => {
            hide(&mut message, secret);
            message.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect()
        }
        None => format!("{} bytes without a message", body.len()),
    };
    let envelope_id = RequestId::of(envelope.request_id.as_deref());
    let mut id = envelope_id.0.or(header_id.0);
    if let Some(id) = &mut id {
        hide(id, secret);
    }
    (message, RequestId(id))
}

/// `Retry-After` in seconds or as a date, the latter against the answer's own `Date`.
pub(super) fn retry_after(header: &str, date: Option<DateTime<Utc>>) -> Option<Duration> {
    if let Ok(seconds) = header.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = DateTime::parse_from_rfc2822(header).ok()?;
    at.signed_duration_since(date?).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = r#"{"code":200,"message":"ok","new":1,"body":{"rows":[{"a":1},2],"pagination":{"nextCursor":"c","total":null},
        "meta":{"since":"2026-05-29T07:20:55Z","until":null,"tenantPathKind":"direct"}},"errors":[]}"#;

    #[test]
    fn a_page_is_its_rows_its_cursor_and_its_bounds() {
        let page = page(OK).expect("a page");
        assert_eq!(
            page.rows.iter().map(|row| row.get()).collect::<Vec<_>>(),
            [r#"{"a":1}"#, "2"]
        );
        assert_eq!(page.next_cursor.as_deref(), Some("c"));
        assert_eq!(
            page.since.map(|at| at.to_string()).as_deref(),
            Some("2026-05-29T07:20:55.000Z")
        );
        assert_eq!((page.until, page.total), (None, None));
        for (total, expected) in [
            (r#""total":7,"totalExact":true"#, Some(7)),
            (r#""total":7"#, Some(7)),
            (r#""total":10000,"totalExact":false,"totalNote":"capped""#, None),
            (r#""total":"many""#, None),
        ] {
            let counted = OK.replace(r#""total":null"#, total);
            assert_eq!(
                super::page(&counted).map(|page| page.total).ok(),
                Some(expected),
                "{total}"
            );
        }
    }

    #[test]
    fn what_is_no_envelope_says_why_and_nothing_of_its_contents() {
        for (text, expected) in [
            ("<html>secret</html>", "no JSON at line 1 column 1 of 19 bytes"),
            (&OK[..60], "JSON that is cut off at line 1 column 60 of 60 bytes"),
            (
                r#"{"body":{"rows":{}}}"#,
                "JSON of another form at line 1 column 16 of 20 bytes",
            ),
            (
                r#"{"body":{"rows":[],"pagination":{},"meta":{"since":null,"until":null}}}"#,
                "JSON of another form at line 1 column 34 of 71 bytes",
            ),
        ] {
            assert_eq!(page(text).err().expect("refused"), expected, "{text}");
        }
        let bound = OK.replace("2026-05-29T07:20:55Z", "yesterday");
        assert_eq!(page(&bound).err().expect("refused"), "meta.since is no RFC 3339 time");
    }

    #[test]
    fn more_rows_than_a_page_has_are_not_kept() {
        let rows = |count: usize| OK.replace(r#"[{"a":1},2]"#, &format!("[{}]", vec!["0"; count].join(",")));
        for (count, expected) in [
            (0, false),
            (MAX_ROWS, false),
            (MAX_ROWS + 1, true),
            (3 * MAX_ROWS, true),
        ] {
            let text = rows(count);
            let page = page(&text).expect("a page");
            assert_eq!((page.rows.len(), page.are_too_many), (count.min(MAX_ROWS), expected));
        }
    }

    #[test]
    fn an_error_keeps_message_and_request_id() {
        let body = br#"{"success":false,"message":"No\nway","requestId":"req_1"}"#;
        let (message, id) = error(body, RequestId(Some("header".into())), "hunter22");
        assert_eq!(
            (message.as_str(), id.to_string().as_str()),
            ("Noway", " (request id req_1)")
        );
        let (message, id) = error(b"<html>", RequestId(None), "hunter22");
        assert_eq!(
            (message.as_str(), id.to_string().as_str()),
            ("6 bytes without a message", "")
        );
    }

    #[test]
    fn retry_after_comes_in_two_forms() {
        let date = DateTime::parse_from_rfc2822("Tue, 24 Nov 2026 10:00:00 GMT")
            .ok()
            .map(|date| date.to_utc());
        assert_eq!(retry_after(" 7 ", None), Some(Duration::from_secs(7)));
        assert_eq!(
            retry_after("Tue, 24 Nov 2026 10:00:30 GMT", date),
            Some(Duration::from_secs(30))
        );
        assert_eq!(retry_after("Tue, 24 Nov 2026 09:00:00 GMT", date), None);
        assert_eq!(retry_after("soon", date), None);
    }
}
