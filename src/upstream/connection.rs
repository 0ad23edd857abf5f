//! How does a request travel? One bounded answer a request: in time, in bytes, and never through a redirect.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::{Method, Request, Response, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::error::UpstreamError;
use super::rate::Turn;
use super::response::{self, NotPage, PageBody, RequestId};
use super::route::Route;
use super::transport::Transport;
use crate::clock::{self, Tick};
use crate::failpoint::{self, Rule};
use crate::metrics::LenderMetrics;
use crate::progress::Timestamp;

/// What a request for a page does.
pub(super) const READING: &str = "reading a page of D02";

/// `Date` is cut to the second.
const DATE_CUT: Duration = Duration::from_secs(1);

/// What every request of a lender shares.
pub(super) struct Connection {
    pub transport: Arc<dyn Transport>,
    pub base_url: Url,
    pub max_body: u64,
    pub metrics: LenderMetrics,
    pub route: Arc<Route>,
}

/// A 200 with its body.
pub(crate) struct Answer {
    /// What of it is no UTF-8 has the one byte [`DAMAGE`] in the place of each of its own.
    text: String,
    /// The body as received, where it is no UTF-8.
    damaged: Option<Vec<u8>>,
    /// What the request held, which no error repeats.
    secret: SecretString,
    pub request_id: RequestId,
    /// What is dated before was there to be read: the earlier of both clocks, less the time that the request took.
    pub clock: Timestamp,
    /// What the answer can show is dated no later by the same clock: what the request took, and the second that `Date` is
    /// cut to.
    pub latest: Timestamp,
    /// `Date` itself.
    pub date: Option<Timestamp>,
    pub requested: Tick,
    pub received: Tick,
}

/// Stands for a byte that is no UTF-8. JSON allows it in texts, and every place keeps its offset.
pub(crate) const DAMAGE: char = '\u{7f}';

impl Connection {
    /// Sends one request and reads its answer. Anything but a 200 is an error, in which `secret`, which the request holds, is
    /// not repeated.
    /// `_turn` was waited for before, so that neither the time-out nor what is measured here includes the wait.
    pub(super) async fn send(
        &self,
        _turn: Turn,
        doing: &'static str,
        request: Request,
        secret: &SecretString,
    ) -> Result<Answer, UpstreamError> {
        let network = |source: reqwest::Error| {
            if self.route.stayed_silent() {
                self.transport.reconnect();
            }
            UpstreamError::Network {
                doing,
                source: source.without_url(),
            }
        };
        let asked = request.url().clone();
        let sent_at = clock::now();
        let (started, requested) = (Instant::now(), self.route.ticks.next());
        let response = match self.transport.execute(request).await {
            Ok(response) => response,
            Err(error) => {
                self.metrics.count_request(None);
                return Err(network(error));
            }
        };
        let (date, took) = (date(&response), started.elapsed());
        let clock = earlier(date, took, sent_at);
        let status = response.status();
        self.metrics.count_request(Some(status.as_u16()));
        // An error may be a gateway's, with a clock of its own.
        if let (StatusCode::OK, Some(date)) = (status, date) {
            self.route.compare_clocks(date, sent_at, took, &self.metrics);
        }
        let request_id = RequestId::of(header_text(&response, "x-request-id"));
        if status != StatusCode::OK {
            self.leave_alone(&response, date);
        }
        let target = status
            .is_redirection()
            .then(|| response::target(&asked, header_text(&response, "location"), secret.expose_secret()));
        let body = self.body(response).await.map_err(network)?;
        self.route.answered();
        if let Some(target) = target {
            return Err(UpstreamError::Redirect {
                doing,
                status: status.as_u16(),
                target,
                request_id,
            });
        }
        if status != StatusCode::OK {
            let body = body.as_deref().unwrap_or_default();
            let (message, is_upstreams, request_id) = response::error(body, request_id, secret.expose_secret());
            return Err(UpstreamError::Status {
                doing,
                status: status.as_u16(),
                message,
                is_upstreams,
                request_id,
            });
        }
        let Some(body) = body else {
            return Err(UpstreamError::TooLarge {
                doing,
                max_body: self.max_body,
                request_id,
            });
        };
        self.metrics.bytes_total.inc_by(body.len() as u64);
        let received = self.route.ticks.next();
        let date = date.map(Timestamp::from);
        let (text, damaged) = text_of(body);
        Ok(Answer {
            text,
            damaged,
            secret: secret.clone(),
            request_id,
            clock: Timestamp::from(clock),
            latest: Timestamp::from(clock + took + DATE_CUT),
            date,
            requested,
            received,
        })
    }

    /// Holds everything of the lender for as long as `Retry-After` says.
    fn leave_alone(&self, response: &Response, date: Option<DateTime<Utc>>) {
        let asked_for =
            header_text(response, header::RETRY_AFTER.as_str()).and_then(|text| response::retry_after(text, date));
        let wait = asked_for.filter(|wait| !wait.is_zero());
        if let Some(wait) = wait.and_then(|wait| self.route.hold(wait)) {
            let (lender, status) = (self.route.lender(), response.status().as_u16());
            tracing::warn!(
                lender,
                status,
                ?wait,
                "upstream asks to be left alone: nothing of this lender is sent meanwhile"
            );
        }
    }

    /// The body, or nothing where it is larger than `max_body`; counted decompressed, so that a small bomb is large.
    async fn body(&self, mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
        let mut body = Vec::with_capacity(response.content_length().unwrap_or(0).min(1 << 20) as usize);
        while let Some(chunk) = response.chunk().await? {
            if (body.len() + chunk.len()) as u64 > self.max_body {
                return Ok(None);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Some(body))
    }
}

impl Answer {
    /// The memory that it takes.
    pub(crate) fn size(&self) -> usize {
        size_of::<Self>() + self.text.capacity() + self.damaged.as_ref().map_or(0, Vec::capacity)
    }

    /// The page in this answer.
    ///
    /// # Errors
    /// When it is no UTF-8, or the text is no success envelope.
    pub(crate) fn page(&self) -> Result<PageBody<'_>, UpstreamError> {
        self.whole()?;
        self.page_with_damage()
    }

    /// # Errors
    /// When it is no UTF-8.
    pub(crate) fn whole(&self) -> Result<(), UpstreamError> {
        self.refuse_damage(READING)
    }

    /// The page in this answer, also where it is no UTF-8: [`Answer::damage_of`] tells the rows that hold damage.
    ///
    /// # Errors
    /// When the text is no success envelope.
    pub(crate) fn page_with_damage(&self) -> Result<PageBody<'_>, UpstreamError> {
        let doing = READING;
        response::page(&self.text, self.secret.expose_secret()).map_err(|why| match why {
            NotPage::Unreadable(what) => UpstreamError::NoEnvelope {
                doing,
                what,
                request_id: self.request_id.clone(),
            },
            NotPage::Error {
                status,
                message,
                request_id,
            } => UpstreamError::ErrorIn200 {
                doing,
                status,
                message,
                request_id: RequestId(request_id.0.or(self.request_id.0.clone())),
            },
        })
    }

    /// How a row of that page came, where it is no UTF-8.
    pub(crate) fn damage_of(&self, row: &RawValue) -> Option<&[u8]> {
        let received = self.damaged.as_ref()?;
        // The row is a part of the text, which has as many bytes.
        let start = row.get().as_ptr().addr() - self.text.as_ptr().addr();
        let received = received.get(start..start + row.get().len())?;
        std::str::from_utf8(received).is_err().then_some(received)
    }

    fn refuse_damage(&self, doing: &'static str) -> Result<(), UpstreamError> {
        let Some(received) = &self.damaged else {
            return Ok(());
        };
        Err(UpstreamError::NotUtf8 {
            doing,
            first: received.utf8_chunks().next().map_or(0, |chunk| chunk.valid().len()),
            size: received.len(),
            request_id: self.request_id.clone(),
        })
    }

    pub(super) fn json<T: DeserializeOwned>(&self, doing: &'static str) -> Result<T, UpstreamError> {
        self.refuse_damage(doing)?;
        // The reason is left out: it could quote a token.
        serde_json::from_str(&self.text).map_err(|_| UpstreamError::NoEnvelope {
            doing,
            what: format!("{} bytes of another form", self.text.len()),
            request_id: self.request_id.clone(),
        })
    }
}

/// A body as text, and as it came where it is none: of as many bytes, so that what is found in one is found in the other.
fn text_of(body: Vec<u8>) -> (String, Option<Vec<u8>>) {
    let body = match String::from_utf8(body) {
        Ok(text) => return (text, None),
        Err(error) => error.into_bytes(),
    };
    let mut text = String::with_capacity(body.len());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| DAMAGE));
    }
    (text, Some(body))
}

/// The clock of an answer. What lies before it is in the answer, if it was visible: the query ran after the request was
/// sent, and before `Date` was written. Too early is safe, too late is not, so the earlier of both clocks counts.
fn earlier(date: Option<DateTime<Utc>>, took: Duration, sent_at: DateTime<Utc>) -> DateTime<Utc> {
    match date.map(|date| date - took) {
        Some(clock) if failpoint::is_broken(Rule::EarlierClock) => clock,
        Some(clock) => clock.min(sent_at),
        None => sent_at,
    }
}

/// A request with a token, which nothing prints.
pub(super) fn get(url: Url, token: &SecretString) -> Request {
    let mut request = Request::new(Method::GET, url);
    // A token that cannot stand in a header is one that upstream refuses.
    if let Ok(mut value) = header::HeaderValue::try_from(format!("Bearer {}", token.expose_secret())) {
        value.set_sensitive(true);
        request.headers_mut().insert(header::AUTHORIZATION, value);
    }
    request
}

/// A request with a JSON body.
pub(super) fn post(url: Url, body: &impl Serialize) -> Request {
    let json = serde_json::to_vec(body).expect("a body of texts is always JSON");
    let mut request = Request::new(Method::POST, url);
    let content_type = header::HeaderValue::from_static("application/json");
    request.headers_mut().insert(header::CONTENT_TYPE, content_type);
    *request.body_mut() = Some(json.into());
    request
}

fn header_text<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response.headers().get(name).and_then(|value| value.to_str().ok())
}

fn date(response: &Response) -> Option<DateTime<Utc>> {
    let text = header_text(response, header::DATE.as_str())?;
    DateTime::parse_from_rfc2822(text).ok().map(|date| date.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf_8_keeps_its_place_and_its_bytes() {
        assert_eq!(text_of("\u{e4}7\u{7f}".into()), ("\u{e4}7\u{7f}".to_owned(), None));
        // A lone byte, half a character before the end of a text, a surrogate in UTF-8, and half a character at the end.
        for bytes in [
            &b"[\"a\xffb\"]"[..],
            b"{\"a\":\"\xf0\x9f\x98\"}",
            b"\"\xed\xa0\x80\"",
            b"\"\xc3\xa4\xc3",
        ] {
            let (text, damaged) = text_of(bytes.to_vec());
            assert_eq!(damaged.as_deref(), Some(bytes));
            assert_eq!(text.len(), bytes.len());
            let kept = |(at, byte): (usize, u8)| byte == bytes[at] || byte == 0x7f && bytes[at] >= 0x80;
            assert!(text.bytes().enumerate().all(kept), "{text:?}");
        }
    }

    #[test]
    fn the_earlier_clock_counts_and_ours_where_there_is_no_other() {
        let at = |text: &str| -> DateTime<Utc> { text.parse().expect("a time") };
        let (sent_at, took) = (at("2026-11-24T10:00:00Z"), Duration::from_secs(2));
        for (date, expected) in [
            (Some("2026-11-24T10:00:02Z"), "2026-11-24T10:00:00Z"),
            (Some("2026-11-24T10:00:01Z"), "2026-11-24T09:59:59Z"),
            (Some("2026-11-24T11:00:01Z"), "2026-11-24T10:00:00Z"),
            (Some("2026-11-24T09:00:02Z"), "2026-11-24T09:00:00Z"),
            (None, "2026-11-24T10:00:00Z"),
        ] {
            assert_eq!(earlier(date.map(at), took, sent_at), at(expected), "{date:?}");
        }
    }
}
