//! The simulator without a socket, and everything that happens to it: rows that change, appear late, vanish; faults.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat};
use fastrand::Rng;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::body::Frame;
use tokio::time::sleep;

use crate::simulator::{Effect, Endpoint, Fault, Handle, RetryAfter};
use crate::upstream::{Execution, Transport};

/// Carries requests to a simulator of the same thread.
pub(super) struct InProcess {
    pub simulator: Handle,
    /// Until the first byte of the answer.
    pub timeout: Duration,
}

impl Transport for InProcess {
    fn execute(&self, request: reqwest::Request) -> Execution<'_> {
        Box::pin(async move {
            let body = request.body().and_then(reqwest::Body::as_bytes).unwrap_or_default();
            let mut asked = hyper::Request::new(Full::new(Bytes::copy_from_slice(body)));
            *asked.method_mut() = request.method().clone();
            *asked.uri_mut() = request.url().as_str().parse().expect("a URL is a URI");
            *asked.headers_mut() = request.headers().clone();
            match tokio::time::timeout(self.timeout, self.simulator.answer(asked)).await {
                Ok(Some(answer)) => Ok(answer.map(reqwest::Body::wrap).into()),
                // reqwest's errors cannot be made; a body that breaks is one to the client as well.
                Ok(None) | Err(_) => Ok(hyper::Response::new(reqwest::Body::wrap(Broken)).into()),
            }
        })
    }
}

struct Broken;

impl hyper::body::Body for Broken {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))))
    }
}

/// What may happen upstream, in the measure that a seed draws.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Change,
    /// Several accounts at once, all with one time.
    ChangeMany,
    Late,
    LateNew,
    /// As `LateNew`, with the time of a row that is there.
    LateTied,
    Ahead,
    Insert,
    Delete,
    /// Other content of the same time.
    Silent,
    /// Other content of an earlier time.
    Back,
    /// A row that cannot be an account.
    Bad,
    Fault,
    KillCursors,
    RevokeTokens,
    PageLimit,
    ScanLimit,
    Poison,
    Latency,
    Down,
    /// `Date` is another than the clock that dates the rows.
    DateApart,
}

pub(super) const EVENTS: [Event; 20] = [
    Event::Change,
    Event::ChangeMany,
    Event::Late,
    Event::LateNew,
    Event::LateTied,
    Event::Ahead,
    Event::Insert,
    Event::Delete,
    Event::Silent,
    Event::Back,
    Event::Bad,
    Event::Fault,
    Event::KillCursors,
    Event::RevokeTokens,
    Event::PageLimit,
    Event::ScanLimit,
    Event::Poison,
    Event::Latency,
    Event::Down,
    Event::DateApart,
];

/// Makes things happen. Every content is a new one, so that a version that is written twice shows.
pub(super) struct World {
    pub simulator: Handle,
    pub rng: Rng,
    pub late_window: Duration,
    next_id: u64,
    next_content: u64,
    /// Rows that are written but not yet visible.
    late: tokio::task::JoinSet<()>,
}

impl World {
    pub(super) fn new(simulator: Handle, rng: Rng, late_window: Duration) -> Self {
        Self {
            simulator,
            rng,
            late_window,
            next_id: 0,
            next_content: 0,
            late: tokio::task::JoinSet::new(),
        }
    }

    /// Accounts as they were before anybody read: spread over a span, many with one time.
    pub(super) fn fill(&mut self, row_count: u32, span: Duration) {
        let now = self.simulator.now_ms();
        let span = i64::try_from(span.as_millis()).expect("seconds");
        let times: Vec<i64> = (0..row_count / 2 + 1)
            .map(|_| now - 1 - self.rng.i64(0..span))
            .collect();
        for _ in 0..row_count {
            let at = times[self.rng.usize(..times.len())];
            self.insert_at(at);
        }
    }

    pub(super) fn insert_at(&mut self, at: i64) {
        let id = self.new_id();
        self.put(&id, at);
    }

    fn new_id(&mut self) -> String {
        self.next_id += 1;
        let place = self.rng.u32(..);
        // Not in the order of their making, and now and then no Mongo id.
        if self.rng.u8(..10) == 0 {
            format!("id-{place}-{}", self.next_id)
        } else {
            format!("{place:08x}{:016x}", self.next_id)
        }
    }

    fn json(&mut self, id: &str, at: i64, is_bad: bool) -> String {
        self.next_content += 1;
        let time = DateTime::from_timestamp_millis(at).expect("a time of these years");
        let time = time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let half = if is_bad { ".5" } else { "" };
        let content = self.next_content;
        format!(r#"{{"public_id":"{id}","balance_amount":{content}{half},"updated_at":"{time}"}}"#)
    }

    pub(super) fn put(&mut self, id: &str, at: i64) {
        let json = self.json(id, at, false);
        self.simulator.upsert_json(0, at, id, &json);
    }

    /// An account whose time has come: what changes it now does not go back in time.
    fn any(&mut self) -> Option<String> {
        let now = self.simulator.now_ms();
        let rows = self.simulator.rows(0);
        let rows: Vec<_> = rows.iter().filter(|row| row.updated_at_ms <= now).collect();
        (!rows.is_empty()).then(|| rows[self.rng.usize(..rows.len())].id.clone())
    }

    fn change(&mut self, at: i64) {
        if let Some(id) = self.any() {
            self.put(&id, at);
        }
    }

    /// Written now, visible only later, unless something newer came before.
    fn appear_late(&mut self, id: String, at: i64) {
        let now = self.simulator.now_ms();
        let json = self.json(&id, at, false);
        let left = i64::try_from(self.late_window.as_millis()).expect("seconds") - (now - at);
        let delay = Duration::from_millis(self.rng.u64(1..left.max(2).unsigned_abs()));
        let simulator = self.simulator.clone();
        let is_new = simulator.rows(0).iter().all(|row| row.id != id);
        self.late.spawn(async move {
            sleep(delay).await;
            let before = simulator.rows(0).into_iter().find(|row| row.id == id);
            let is_newer = before.as_ref().is_some_and(|row| row.updated_at_ms < at);
            if is_newer || is_new && before.is_none() {
                simulator.upsert_json(0, at, &id, &json);
            }
        });
    }

    /// Waits until everything that is written is visible.
    pub(super) async fn settle(&mut self) {
        while self.late.join_next().await.is_some() {}
    }

    pub(super) async fn happen(&mut self, event: Event) {
        let now = self.simulator.now_ms();
        match event {
            Event::Change => self.change(now),
            Event::ChangeMany => (0..self.rng.u32(2..12)).for_each(|_| self.change(now)),
            Event::Late => {
                if let Some(id) = self.any() {
                    self.appear_late(id, now);
                }
            }
            Event::LateNew => {
                let id = self.new_id();
                self.appear_late(id, now);
            }
            Event::LateTied => {
                let latest = self.simulator.rows(0).iter().map(|row| row.updated_at_ms).max();
                let half = i64::try_from(self.late_window.as_millis() / 2).expect("seconds");
                if let Some(at) = latest.filter(|at| (now - half..=now).contains(at)) {
                    let id = self.new_id();
                    self.appear_late(id, at);
                }
            }
            Event::Ahead => {
                let by = self.rng.i64(1..5_000);
                self.change(now + by);
            }
            Event::Insert => self.insert_at(now),
            Event::Delete => {
                if let Some(id) = self.any() {
                    self.simulator.remove(0, &id);
                }
            }
            Event::Silent | Event::Back => {
                if let Some(id) = self.any() {
                    let by = if matches!(event, Event::Back) {
                        self.rng.i64(1..5_000)
                    } else {
                        0
                    };
                    let row = self.simulator.rows(0).into_iter().find(|row| row.id == id);
                    self.put(&id, row.expect("any row").updated_at_ms - by);
                }
            }
            Event::Bad => {
                if let Some(id) = self.any() {
                    let json = self.json(&id, now, true);
                    self.simulator.upsert_json(0, now, &id, &json);
                }
            }
            Event::Fault => {
                let fault = self.fault();
                self.simulator.push_fault(fault);
            }
            Event::KillCursors => self.simulator.kill_cursors(),
            Event::RevokeTokens => {
                self.simulator.revoke_tokens();
                if self.rng.bool() {
                    self.simulator.revoke_refresh_tokens();
                }
            }
            Event::PageLimit => {
                let most = self.rng.usize(1..5);
                self.simulator.set_page_limit_504(self.rng.bool().then_some(most));
            }
            Event::ScanLimit => {
                let most = self.rng.usize(1..30);
                self.simulator.set_scan_limit_504(self.rng.bool().then_some(most));
            }
            Event::Poison => {
                let id = self.any().filter(|_| self.rng.bool());
                self.simulator.poison(id.as_deref());
            }
            Event::Latency => self.simulator.set_latency(Duration::from_millis(self.rng.u64(..400))),
            Event::Down => {
                self.simulator.set_down(true);
                sleep(Duration::from_millis(self.rng.u64(..3_000))).await;
                self.simulator.set_down(false);
            }
            Event::DateApart => {
                let by = [0, self.rng.i64(-20_000..20_000), self.rng.i64(-3_600_000..3_600_000)];
                self.simulator.set_date_skew(by[self.rng.usize(..by.len())]);
            }
        }
    }

    /// Ends everything that is wrong.
    pub(super) fn mend(&self) {
        self.simulator.clear_faults();
        self.simulator.set_page_limit_504(None);
        self.simulator.set_scan_limit_504(None);
        self.simulator.poison(None);
        self.simulator.set_latency(Duration::from_millis(5));
        self.simulator.set_down(false);
        self.simulator.set_date_skew(0);
    }

    fn fault(&mut self) -> Fault {
        let code = |code: StatusCode| Effect::status(code);
        let later = |code: StatusCode, retry_after| Effect::Status {
            code,
            retry_after: Some(retry_after),
        };
        let effects = [
            code(StatusCode::TOO_MANY_REQUESTS),
            later(StatusCode::TOO_MANY_REQUESTS, RetryAfter::Seconds(1)),
            code(StatusCode::INTERNAL_SERVER_ERROR),
            code(StatusCode::BAD_GATEWAY),
            later(StatusCode::SERVICE_UNAVAILABLE, RetryAfter::DateIn(2)),
            code(StatusCode::GATEWAY_TIMEOUT),
            code(StatusCode::PAYLOAD_TOO_LARGE),
            code(StatusCode::GONE),
            code(StatusCode::NOT_FOUND),
            Effect::Html {
                code: StatusCode::FORBIDDEN,
            },
            Effect::Redirect {
                code: StatusCode::FOUND,
                location: "/elsewhere".to_owned(),
            },
            Effect::ErrorIn200 {
                code: 500,
                errors: Vec::new(),
            },
            Effect::NotUtf8 {
                id: self.any().unwrap_or_default(),
            },
            Effect::Reset,
            Effect::CutOffJson,
            Effect::Html { code: StatusCode::OK },
            Effect::WrongTopLevelTypes,
            Effect::WrongContentType,
            Effect::SlowBody(Duration::from_secs(2)),
            Effect::Hang(Duration::from_millis(self.rng.u64(..4_000))),
            Effect::Hang(Duration::from_secs(60)),
            Effect::DuplicatePage,
            Effect::PageOutOfOrder,
            Effect::BoundsNotEchoed,
            Effect::CursorAnswersItself,
            Effect::EmptyPageWithCursor,
            Effect::TokenRevoked,
            Effect::AllCursorsDead,
        ];
        let effect = effects[self.rng.usize(..effects.len())].clone();
        let mut fault = Fault::on(Endpoint::Export, effect).times(self.rng.u32(1..5));
        if self.rng.u8(..3) == 0 {
            fault = fault.cursor(self.rng.bool());
        }
        if self.rng.u8(..3) == 0 {
            fault = fault.until(self.rng.bool());
        }
        fault
    }
}
