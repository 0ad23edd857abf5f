//! How does an answer look on the wire, when all is well and when it is not?

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::fault::{Effect, RetryAfter};

pub(super) const JSON: &str = "application/json; charset=utf-8";
const PADDING: &[u8] = &[b'x'; 64 * 1024];
const SLOW_STEPS: u32 = 20;
/// Long enough for the first half of a body to leave before the connection closes.
const FLUSH: Duration = Duration::from_millis(20);

/// An answer before it is sent.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) retry_after: Option<RetryAfter>,
    pub(super) location: Option<String>,
    pub(super) body: Bytes,
    pub(super) delay: Duration,
    pub(super) delivery: Delivery,
    /// Rows of the page, for the counts.
    pub(super) row_count: usize,
    /// What the request met, for the log.
    pub(super) effect: Option<Effect>,
}

/// How the body reaches the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Delivery {
    Whole,
    Reset,
    Slow(Duration),
    /// So many bytes more, in `message`.
    Padded(u64),
}

impl Answer {
    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            content_type: JSON,
            retry_after: None,
            location: None,
            body: body.into(),
            delay: Duration::ZERO,
            delivery: Delivery::Whole,
            row_count: 0,
            effect: None,
        }
    }

    /// The error envelope.
    pub(super) fn error(status: StatusCode, message: &str, request_id: &str) -> Self {
        let envelope = serde_json::json!({
            "success": false,
            "message": message,
            "requestId": request_id,
        });
        Self::json(status, envelope.to_string())
    }

    /// A page for people.
    fn html(status: StatusCode) -> Self {
        let page = "<!DOCTYPE html><html><body><h1>We will be back soon</h1></body></html>";
        Self {
            content_type: "text/html; charset=utf-8",
            ..Self::json(status, page)
        }
    }

    /// The answer under an effect that any endpoint can meet; the others have been seen to before.
    pub(super) fn under(mut self, effect: &Effect, request_id: &str) -> Self {
        match effect {
            Effect::Status { code, retry_after } => {
                let message = code.canonical_reason().unwrap_or("Unexpected error");
                self = Self::error(*code, message, request_id);
                self.retry_after = *retry_after;
            }
            Effect::Html { code } => self = Self::html(*code),
            Effect::Redirect { code, location } => {
                self = Self::html(*code);
                self.location = Some(location.clone());
            }
            Effect::ErrorIn200 { code, errors } => self.body = with_error(&self.body, *code, errors),
            Effect::AboveSize { bytes, code } => {
                if self.body.len() > *bytes {
                    self = Self::error(*code, "The answer is too large", request_id);
                }
            }
            Effect::NotUtf8 { id } => self.body = with_member(&self.body, id, b"\"note\":\"caf\xe9\","),
            Effect::NotANumber { id } => self.body = with_member(&self.body, id, b"\"share\":NaN,"),
            Effect::RawControl { id } => self.body = with_member(&self.body, id, b"\"note\":\"a\x01b\","),
            Effect::CutOffJson => self.body.truncate(self.body.len() / 2),
            Effect::WrongTopLevelTypes => {
                let body = r#"{"code":"200","message":null,"body":[],"errors":{},"lenderPublicId":1,"token":[],"refreshToken":false}"#;
                self = Self::json(StatusCode::OK, body);
            }
            Effect::WrongContentType => self.content_type = "text/plain",
            Effect::Reset => self.delivery = Delivery::Reset,
            Effect::Hang(time) => self.delay = *time,
            Effect::SlowBody(time) => self.delivery = Delivery::Slow(*time),
            Effect::OversizedBody { bytes } => self.delivery = Delivery::Padded(*bytes),
            Effect::DuplicatePage
            | Effect::PageOutOfOrder
            | Effect::BoundsNotEchoed
            | Effect::CursorAnswersItself
            | Effect::EmptyPageWithCursor
            | Effect::LongCursor { .. }
            | Effect::TokenRevoked
            | Effect::AllCursorsDead
            | Effect::Vanish { .. }
            | Effect::OldCopy
            | Effect::Mixed => {}
        }
        self
    }
}

/// A page with another `code` and with `errors`.
fn with_error(page: &[u8], code: u16, errors: &[String]) -> Bytes {
    const HEAD: &[u8] = br#"{"code":200"#;
    const TAIL: &[u8] = br#"[]}"#;
    let rows = &page[HEAD.len()..page.len() - TAIL.len()];
    let errors = serde_json::json!(errors).to_string();
    [format!(r#"{{"code":{code}"#).as_bytes(), rows, errors.as_bytes(), b"}"]
        .concat()
        .into()
}

/// A page whose row of this account has one more member; as it is, where it has no such row.
fn with_member(page: &[u8], id: &str, member: &[u8]) -> Bytes {
    let first = format!(r#""public_id":"{id}""#);
    let at = page.windows(first.len()).position(|bytes| bytes == first.as_bytes());
    let (before, row) = page.split_at(at.unwrap_or(page.len()));
    let member = if row.is_empty() { &[][..] } else { member };
    [before, member, row].concat().into()
}

/// A response body: data, pauses, and perhaps an end that comes too early.
#[derive(Debug)]
pub struct Body {
    steps: VecDeque<Step>,
    /// What `Content-Length` says; without it the body is chunked.
    length: Option<u64>,
    pause: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Step {
    Data(Bytes),
    Pause(Duration),
    Break,
}

impl Body {
    pub(super) fn new(bytes: Bytes, delivery: Delivery) -> Self {
        let mut length = Some(bytes.len() as u64);
        let steps = match delivery {
            Delivery::Whole if bytes.is_empty() => VecDeque::new(),
            Delivery::Whole => VecDeque::from([Step::Data(bytes)]),
            Delivery::Reset => {
                let half = bytes.slice(..bytes.len() / 2);
                VecDeque::from([Step::Data(half), Step::Pause(FLUSH), Step::Break])
            }
            Delivery::Slow(time) => {
                let size = bytes.len().div_ceil(SLOW_STEPS as usize).max(1);
                (0..bytes.len())
                    .step_by(size)
                    .flat_map(|at| {
                        let end = bytes.len().min(at + size);
                        [Step::Pause(time / SLOW_STEPS), Step::Data(bytes.slice(at..end))]
                    })
                    .collect()
            }
            Delivery::Padded(padding) => {
                length = None;
                padded(&bytes, padding)
            }
        };
        Self {
            steps,
            length,
            pause: None,
        }
    }
}

/// The object's first member becomes a long one; its memory is shared, whatever its length.
fn padded(bytes: &Bytes, padding: u64) -> VecDeque<Step> {
    let chunk = Bytes::from_static(PADDING);
    let mut steps = VecDeque::from([Step::Data(Bytes::from_static(b"{\"message\":\""))]);
    let mut left = padding;
    while left > 0 {
        let size = left.min(chunk.len() as u64);
        let end = usize::try_from(size).expect("at most one chunk");
        steps.push_back(Step::Data(chunk.slice(..end)));
        left -= size;
    }
    steps.push_back(Step::Data(Bytes::from_static(b"\",")));
    steps.push_back(Step::Data(bytes.slice(bytes.len().min(1)..)));
    steps
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(context));
                self.pause = None;
            }
            match self.steps.pop_front() {
                Some(Step::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Pause(time)) => self.pause = Some(Box::pin(sleep(time))),
                Some(Step::Break) => {
                    let broken = io::Error::from(io::ErrorKind::ConnectionReset);
                    return Poll::Ready(Some(Err(broken)));
                }
                None => return Poll::Ready(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.steps.is_empty() && self.pause.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
