//! What does an answer say? The success and the error envelope, strictly where rows depend on it, else tolerant.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
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

/// Why a 200 is no page.
pub(super) enum NotPage {
    /// What is wrong with it, without its contents.
    Unreadable(String),
    /// It says that something went wrong. `status`: where it says so as one.
    Error {
        status: Option<u16>,
        message: String,
        request_id: RequestId,
    },
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
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

/// Reads a success envelope. An error in it has no more of it than a bounded text, without the `secret` that was sent.
pub(super) fn page<'a>(text: &'a str, secret: &str) -> Result<PageBody<'a>, NotPage> {
    let envelope: Envelope<'_> = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            return Err(error_in(text, secret).unwrap_or_else(|| NotPage::Unreadable(unreadable(&error, text))));
        }
    };
    if !is_200(envelope.code) || !is_empty(envelope.errors) {
        let otherwise = || NotPage::Unreadable("an error of another form".to_owned());
        return Err(error_in(text, secret).unwrap_or_else(otherwise));
    }
    page_of(envelope.body).map_err(NotPage::Unreadable)
}

fn unreadable(error: &serde_json::Error, text: &str) -> String {
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
}

fn page_of(Body { rows, pagination, meta }: Body<'_>) -> Result<PageBody<'_>, String> {
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

/// What an answer that is no success may hold: of any type, unread until it is asked for.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ErrorEnvelope<'a> {
    #[serde(borrow)]
    success: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    request_id: Option<&'a RawValue>,
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    #[serde(borrow)]
    errors: Option<&'a RawValue>,
}

impl ErrorEnvelope<'_> {
    fn message(&self, secret: &str) -> Option<String> {
        text_of(self.message).map(|message| told(message, secret))
    }

    fn request_id(&self, secret: &str) -> RequestId {
        let mut id = text_of(self.request_id);
        if let Some(id) = &mut id {
            hide(id, secret);
        }
        RequestId::of(id.as_deref())
    }

    /// Whether it is the vendor's: what stands between here and upstream has other forms.
    fn is_upstreams(&self) -> bool {
        self.success.is_some_and(|success| success.get() == "false") && text_of(self.message).is_some()
    }
}

/// The longest part of a foreign message that is repeated.
const MAX_MESSAGE: usize = 300;

/// More of a member is not read to tell its beginning.
const MAX_TOLD: usize = 64 * 1024;

fn text_of(member: Option<&RawValue>) -> Option<String> {
    member.and_then(|member| serde_json::from_str(member.get()).ok())
}

/// As much of it as an error repeats, without the secret.
fn told(mut text: String, secret: &str) -> String {
    text.retain(|char| !char.is_control());
    hide(&mut text, secret);
    text.chars().take(MAX_MESSAGE).collect()
}

/// Message and request id of an error answer, whatever its body is, and whether it has the vendor's error envelope; all without
/// the `secret` that was sent.
pub(super) fn error(body: &[u8], header_id: RequestId, secret: &str) -> (String, bool, RequestId) {
    let envelope: ErrorEnvelope<'_> = serde_json::from_slice(body).unwrap_or_default();
    let message = envelope.message(secret);
    let message = message.unwrap_or_else(|| format!("{} bytes without a message", body.len()));
    let mut id = envelope.request_id(secret).0.or(header_id.0);
    if let Some(id) = &mut id {
        hide(id, secret);
    }
    (message, envelope.is_upstreams(), RequestId(id))
}

/// A missing `code` is a good one.
fn is_200(code: Option<&RawValue>) -> bool {
    code.is_none_or(|code| code.get().trim_matches('"').parse() == Ok(200.0))
}

/// Whether nothing is in it: it is missing or null, or no member and no element.
fn is_empty(errors: Option<&RawValue>) -> bool {
    errors.is_none_or(|errors| {
        let text = errors.get();
        let inner = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
        text.starts_with(['[', '{', '"']) && inner.trim_ascii().is_empty()
    })
}

/// The error that a 200 tells, by its `code`, its `errors`, or the vendor's error envelope.
fn error_in(text: &str, secret: &str) -> Option<NotPage> {
    let envelope: ErrorEnvelope<'_> = serde_json::from_str(text).ok()?;
    let mut parts = Vec::new();
    let mut status = None;
    if let Some(code) = envelope.code.filter(|code| !is_200(Some(code))) {
        let code = code.get().trim_matches('"');
        status = code.parse().ok().filter(|status| (100..600).contains(status));
        parts.push(format!("code {}", told(shortened(code).into_owned(), secret)));
    }
    let errors = envelope.errors.filter(|errors| !is_empty(Some(errors)));
    if parts.is_empty() && errors.is_none() && !envelope.is_upstreams() {
        return None;
    }
    parts.extend(envelope.message(secret));
    parts.extend(errors.map(|errors| match errors.get() {
        long if long.len() > MAX_TOLD => format!("{} bytes of errors", long.len()),
        short => {
            // Written anew, what was escaped in it is seen by `told`.
            let errors: serde_json::Value = serde_json::from_str(short).unwrap_or_default();
            told(errors.to_string(), secret)
        }
    }));
    Some(NotPage::Error {
        status,
        message: parts.join(", "),
        request_id: envelope.request_id(secret),
    })
}

/// Where a redirect leads, for people: without what can hold a secret. `asked`: what was asked for.
pub(super) fn target(asked: &Url, location: Option<&str>, secret: &str) -> String {
    let Some(mut target) = location.and_then(|location| asked.join(location).ok()) else {
        return "nowhere that can be read".to_owned();
    };
    target.set_query(None);
    target.set_fragment(None);
    // Where there is no host, there is none of them.
    let _ = target.set_username("").and_then(|()| target.set_password(None));
    told(target.into(), secret)
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
        let page = page(OK, "").ok().expect("a page");
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
                super::page(&counted, "").map(|page| page.total).ok(),
                Some(expected),
                "{total}"
            );
        }
    }

    fn unreadable(text: &str) -> String {
        match page(text, "") {
            Err(NotPage::Unreadable(what)) => what,
            Err(NotPage::Error { message, .. }) => panic!("{message}"),
            Ok(_) => panic!("a page: {text}"),
        }
    }

    #[test]
    fn a_200_that_says_that_something_went_wrong_is_an_error_with_that_text() {
        let told = |text: &str| match page(text, "hunter22") {
            Err(NotPage::Error {
                status,
                message,
                request_id,
            }) => (status, format!("{message}{request_id}")),
            Err(NotPage::Unreadable(what)) => panic!("{text}: {what}"),
            Ok(_) => panic!("a page: {text}"),
        };
        let with = |from: &str, to: &str| OK.replace(from, to);
        for (text, status, expected) in [
            (with(r#""code":200"#, r#""code":500"#), Some(500), "code 500, ok"),
            (with(r#""code":200"#, r#""code":"504""#), Some(504), "code 504, ok"),
            (with(r#""code":200"#, r#""code":99"#), None, "code 99, ok"),
            (
                with(r#""code":200"#, r#""code":"QUERY_FAILED""#),
                None,
                "code QUERY_FAILED, ok",
            ),
            (
                with(r#""errors":[]"#, r#""errors":[{"a":"x\ny"}]"#),
                None,
                r#"ok, [{"a":"x\ny"}]"#,
            ),
            (
                with(r#""errors":[]"#, r#""errors":"hunter22 failed""#),
                None,
                r#"ok, "(redacted) failed""#,
            ),
            (
                with(r#""errors":[]"#, r#""errors":["hu\u006eter22"]"#),
                None,
                r#"ok, ["(redacted)"]"#,
            ),
            (with(r#""errors":[]"#, r#""errors":false"#), None, "ok, false"),
            // No page is in it at all.
            (
                r#"{"code":422,"message":"No\nway","body":null,"errors":[],"requestId":"req_2"}"#.to_owned(),
                Some(422),
                "code 422, Noway (request id req_2)",
            ),
            (
                r#"{"success":false,"message":"down","requestId":"req_1"}"#.to_owned(),
                None,
                "down (request id req_1)",
            ),
        ] {
            assert_eq!(told(&text), (status, expected.to_owned()), "{text}");
        }
        let many = with(r#""errors":[]"#, &format!(r#""errors":["{}"]"#, "x".repeat(1_000)));
        assert!(told(&many).1.len() < 400, "bounded");
        let more = with(r#""errors":[]"#, &format!(r#""errors":["{}"]"#, "x".repeat(MAX_TOLD)));
        assert_eq!(told(&more).1, format!("ok, {} bytes of errors", MAX_TOLD + 4));
    }

    #[test]
    fn a_200_without_code_and_errors_or_with_empty_ones_is_a_page() {
        for (from, to) in [
            (r#""code":200,"#, ""),
            (r#""code":200"#, r#""code":null"#),
            (r#""code":200"#, r#""code":"200""#),
            (r#""code":200"#, r#""code":200.0"#),
            (r#","errors":[]"#, ""),
            (r#""errors":[]"#, r#""errors":null"#),
            (r#""errors":[]"#, r#""errors":[ ]"#),
            (r#""errors":[]"#, r#""errors":{}"#),
        ] {
            let text = OK.replace(from, to);
            assert!(text != OK && page(&text, "").is_ok(), "{to}");
        }
    }

    #[test]
    fn a_redirect_is_told_without_what_can_hold_a_secret() {
        let asked = Url::parse("https://host/admin/v3?cursor=c").expect("a URL");
        for (location, expected) in [
            ("https://u:p@other.example/new?token=t#f", "https://other.example/new"),
            ("/moved?x", "https://host/moved"),
            ("//other/hunter22", "https://other/(redacted)"),
            ("http://[", "nowhere that can be read"),
            ("mailto:a@b", "mailto:a@b"),
        ] {
            assert_eq!(target(&asked, Some(location), "hunter22"), expected);
        }
        assert_eq!(target(&asked, None, ""), "nowhere that can be read");
        let long = format!("/{}", "x".repeat(10_000));
        assert_eq!(target(&asked, Some(&long), "").len(), MAX_MESSAGE);
    }

    #[test]
    fn the_vendors_error_envelope_is_told_from_what_a_gateway_says() {
        for (body, expected) in [
            (r#"{"success":false,"message":"no","requestId":"req_1"}"#, true),
            (r#" {"message":"no", "success" : false}"#, true),
            (r#"{"success":true,"message":"no"}"#, false),
            (r#"{"success":"false","message":"no"}"#, false),
            (r#"{"success":false,"message":["no"]}"#, false),
            (r#"{"success":false}"#, false),
            (r#"{"message":"no Route matched"}"#, false),
            (r#"[{"success":false,"message":"no"}]"#, false),
            ("<html>404</html>", false),
            ("", false),
        ] {
            let (_, is_upstreams, _) = error(body.as_bytes(), RequestId(None), "");
            assert_eq!(is_upstreams, expected, "{body}");
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
            assert_eq!(unreadable(text), expected, "{text}");
        }
        let bound = OK.replace("2026-05-29T07:20:55Z", "yesterday");
        assert_eq!(unreadable(&bound), "meta.since is no RFC 3339 time");
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
            let page = page(&text, "").ok().expect("a page");
            assert_eq!((page.rows.len(), page.are_too_many), (count.min(MAX_ROWS), expected));
        }
    }

    #[test]
    fn an_error_keeps_message_and_request_id() {
        let body = br#"{"success":false,"message":"No\nway","requestId":"req_1"}"#;
        let (message, _, id) = error(body, RequestId(Some("header".into())), "hunter22");
        assert_eq!(
            (message.as_str(), id.to_string().as_str()),
            ("Noway", " (request id req_1)")
        );
        let (message, _, id) = error(b"<html>", RequestId(None), "hunter22");
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
