//! What goes wrong next, and for which request?
//!
//! Faults are a script: a request takes the first one in it that matches and is due; if there is none, those with a rate
//! take their chances, one after another. They come after authentication, so an export fault meets a request that would
//! otherwise have been answered with a page.

use std::collections::VecDeque;
use std::time::Duration;

use fastrand::Rng;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;
use twox_hash::XxHash3_64;

/// A line of a fault script that cannot be used.
#[derive(Debug, Error)]
#[error("cannot read line {line} of the fault script")]
pub struct ScriptError {
    pub line: usize,
    pub source: serde_json::Error,
}

/// One entry of the script: an effect, and the requests it is meant for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub effect: Effect,
    #[serde(default)]
    pub endpoint: Endpoint,
    /// A subdomain; `None`: any lender.
    #[serde(default)]
    pub lender: Option<String>,
    /// Whether the request carries a cursor; `None`: either.
    #[serde(default)]
    pub cursor: Option<bool>,
    /// Whether the request has an `until`: a snapshot's and a sweep's have one, live ones have not. `None`: either.
    #[serde(default)]
    pub until: Option<bool>,
    /// Matching requests that pass before the first one is met.
    #[serde(default)]
    pub skip: u32,
    /// Requests that are met. `None`: one, or with a rate all that are to come.
    #[serde(default)]
    pub times: Option<u32>,
    /// The probability that a matching request is met, above 0 and up to 1; `None`: it is met for certain, in order.
    #[serde(default, deserialize_with = "rate")]
    pub rate: Option<f64>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Endpoint {
    #[default]
    Export,
    Login,
    Refresh,
}

/// What happens to a request. Those from `DuplicatePage` on are for exports only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// The error envelope.
    Status {
        #[serde(deserialize_with = "status")]
        code: StatusCode,
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// A page for people, as proxies send.
    Html {
        #[serde(deserialize_with = "status")]
        code: StatusCode,
    },
    /// To another place, with a page for people.
    Redirect {
        #[serde(deserialize_with = "status")]
        code: StatusCode,
        #[serde(deserialize_with = "location")]
        location: String,
    },
    /// Half of the JSON as a whole HTTP message.
    CutOffJson,
    /// 200, JSON, every top-level member of another type.
    WrongTopLevelTypes,
    /// The right body as `text/plain`.
    WrongContentType,
    /// The connection closes in the middle of the body.
    Reset,
    /// The answer, so much later.
    Hang(#[serde(deserialize_with = "duration")] Duration),
    /// The answer, its body spread over so much time.
    SlowBody(#[serde(deserialize_with = "duration")] Duration),
    /// A valid answer with so many bytes in its `message`, chunked, so that no length warns.
    OversizedBody { bytes: u64 },
    /// The rows of the page before with the cursor of this one: who accepts it loses a page. Met with a cursor only.
    DuplicatePage,
    /// The page, with another `code` and with these `errors`.
    #[serde(rename = "error_in_200")]
    ErrorIn200 {
        #[serde(default = "good")]
        code: u16,
        #[serde(default)]
        errors: Vec<String>,
    },
    /// The error envelope instead of an answer of more bytes. For every one of them, with a rate of 1.
    AboveSize {
        bytes: usize,
        #[serde(deserialize_with = "status")]
        code: StatusCode,
    },
    /// The row of this account has a text that is no UTF-8. Whenever it is read, with a rate of 1; so the next two.
    NotUtf8 { id: String },
    /// It has a `NaN`, which is no JSON.
    NotANumber { id: String },
    /// It has a control character as it is, which is no JSON.
    RawControl { id: String },
    /// The page backwards. Without effect on a page whose rows all have one `updated_at`.
    PageOutOfOrder,
    /// `meta` names other bounds than those asked for.
    BoundsNotEchoed,
    /// `nextCursor` is the cursor sent. Met with a cursor only.
    CursorAnswersItself,
    /// No rows, and a good cursor that has not moved.
    EmptyPageWithCursor,
    /// `nextCursor` has about so many bytes, never more.
    LongCursor { bytes: usize },
    /// All access tokens of the lender are revoked, this one among them: 401.
    TokenRevoked,
    /// All cursors given so far are dead; one that this request carries too.
    AllCursorsDead,
    /// So many rows are deleted that this walk is still to read, the nearest behind this page, which is answered as ever. Fewer
    /// if fewer are left, none on the last page.
    Vanish { count: usize },
    /// The page as it was when a copy of the rows was last kept; as it is, where none was.
    OldCopy,
    /// One of those that a client gets over by asking again, at random: 429 and 503 with and without `Retry-After`, 500, 502,
    /// 504, `Html`, `CutOffJson`, `WrongTopLevelTypes`, `WrongContentType`, `Reset`, `Hang` and `SlowBody` of a second,
    /// `PageOutOfOrder`, `BoundsNotEchoed`, `EmptyPageWithCursor`, `TokenRevoked`.
    Mixed,
}

/// The `Retry-After` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryAfter {
    /// A number of seconds.
    Seconds(u32),
    /// An HTTP date so many seconds ahead.
    DateIn(u32),
}

impl Fault {
    /// A fault for the next request of an endpoint.
    pub fn on(endpoint: Endpoint, effect: Effect) -> Self {
        Self {
            effect,
            endpoint,
            lender: None,
            cursor: None,
            until: None,
            skip: 0,
            times: None,
            rate: None,
        }
    }

    /// A fault for the next export request.
    pub fn export(effect: Effect) -> Self {
        Self::on(Endpoint::Export, effect)
    }

    /// Only for the lender with this subdomain.
    #[must_use]
    pub fn lender(mut self, subdomain: &str) -> Self {
        self.lender = Some(subdomain.to_owned());
        self
    }

    /// Only for requests with, or without, a cursor.
    #[must_use]
    pub fn cursor(mut self, with: bool) -> Self {
        self.cursor = Some(with);
        self
    }

    /// Only for requests with, or only for those without an `until`.
    #[must_use]
    pub fn until(mut self, with: bool) -> Self {
        self.until = Some(with);
        self
    }

    /// Lets so many matching requests pass first.
    #[must_use]
    pub fn skip(mut self, requests: u32) -> Self {
        self.skip = requests;
        self
    }

    /// Meets so many requests.
    #[must_use]
    pub fn times(mut self, requests: u32) -> Self {
        self.times = Some(requests);
        self
    }

    /// Meets a matching request with this probability, above 0 and up to 1, for ever if `times` does not bound it.
    #[must_use]
    pub fn rate(mut self, rate: f64) -> Self {
        self.rate = Some(rate);
        self
    }

    fn is_for_ever(&self) -> bool {
        self.rate.is_some() && self.times.is_none()
    }

    /// Whether this was the last request that it meets.
    fn is_spent(&mut self) -> bool {
        if self.is_for_ever() {
            return false;
        }
        let left = self.times.unwrap_or(1).saturating_sub(1);
        self.times = Some(left);
        left == 0
    }

    /// Whether a matching request may be met; one that is let pass is counted.
    fn is_due(&mut self) -> bool {
        let is_due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        is_due
    }

    fn matches(&self, endpoint: Endpoint, subdomain: &str, cursor: bool, until: bool) -> bool {
        let needs_cursor = matches!(self.effect, Effect::DuplicatePage | Effect::CursorAnswersItself);
        self.endpoint == endpoint
            && self.lender.as_deref().is_none_or(|own| own == subdomain)
            && self.cursor.is_none_or(|with| with == cursor)
            && self.until.is_none_or(|with| with == until)
            && (cursor || !needs_cursor)
    }
}

impl Effect {
    /// A status with the error envelope.
    pub fn status(code: StatusCode) -> Self {
        Self::Status {
            code,
            retry_after: None,
        }
    }

    fn is_for_exports_only(&self) -> bool {
        match self {
            Self::Status { .. }
            | Self::Html { .. }
            | Self::Redirect { .. }
            | Self::CutOffJson
            | Self::WrongTopLevelTypes
            | Self::WrongContentType
            | Self::Reset
            | Self::Hang(_)
            | Self::SlowBody(_)
            | Self::OversizedBody { .. } => false,
            Self::DuplicatePage
            | Self::ErrorIn200 { .. }
            | Self::AboveSize { .. }
            | Self::NotUtf8 { .. }
            | Self::NotANumber { .. }
            | Self::RawControl { .. }
            | Self::PageOutOfOrder
            | Self::BoundsNotEchoed
            | Self::CursorAnswersItself
            | Self::EmptyPageWithCursor
            | Self::LongCursor { .. }
            | Self::TokenRevoked
            | Self::AllCursorsDead
            | Self::Vanish { .. }
            | Self::OldCopy
            | Self::Mixed => true,
        }
    }

    /// What `Mixed` draws from.
    fn recoverable() -> Vec<Self> {
        let second = Duration::from_secs(1);
        let later = |code| Self::Status {
            code,
            retry_after: Some(RetryAfter::Seconds(1)),
        };
        vec![
            Self::status(StatusCode::TOO_MANY_REQUESTS),
            later(StatusCode::TOO_MANY_REQUESTS),
            Self::status(StatusCode::INTERNAL_SERVER_ERROR),
            Self::status(StatusCode::BAD_GATEWAY),
            Self::status(StatusCode::SERVICE_UNAVAILABLE),
            later(StatusCode::SERVICE_UNAVAILABLE),
            Self::status(StatusCode::GATEWAY_TIMEOUT),
            Self::Html { code: StatusCode::OK },
            Self::CutOffJson,
            Self::WrongTopLevelTypes,
            Self::WrongContentType,
            Self::Reset,
            Self::Hang(second),
            Self::SlowBody(second),
            Self::PageOutOfOrder,
            Self::BoundsNotEchoed,
            Self::EmptyPageWithCursor,
            Self::TokenRevoked,
        ]
    }
}

/// The faults still to come.
#[derive(Debug)]
pub(super) struct Script {
    in_order: VecDeque<Fault>,
    by_rate: Vec<Fault>,
    rng: Rng,
}

impl Script {
    /// Chance follows from the seed, and from the requests that come.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            in_order: VecDeque::new(),
            by_rate: Vec::new(),
            rng: Rng::with_seed(XxHash3_64::oneshot_with_seed(seed, b"faults")),
        }
    }

    pub(super) fn push(&mut self, fault: Fault) {
        if fault.rate.is_some() {
            self.by_rate.push(fault);
        } else {
            self.in_order.push_back(fault);
        }
    }

    pub(super) fn clear(&mut self) {
        self.in_order.clear();
        self.by_rate.clear();
    }

    /// Faults that requests are still to meet: all but those that stay for ever.
    pub(super) fn pending_count(&self) -> usize {
        let by_rate = self.by_rate.iter().filter(|fault| !fault.is_for_ever());
        self.in_order.len() + by_rate.count()
    }

    /// Faults that stay for ever.
    pub(super) fn standing_count(&self) -> usize {
        self.by_rate.iter().filter(|fault| fault.is_for_ever()).count()
    }

    /// The effect that a request meets. A fault that lets it pass counts it.
    pub(super) fn take(&mut self, endpoint: Endpoint, subdomain: &str, cursor: bool, until: bool) -> Option<Effect> {
        let matches = |fault: &Fault| fault.matches(endpoint, subdomain, cursor, until);
        let met = self
            .in_order
            .iter_mut()
            .position(|fault| matches(fault) && fault.is_due());
        if let Some(at) = met {
            let effect = self.in_order[at].effect.clone();
            if self.in_order[at].is_spent() {
                self.in_order.remove(at);
            }
            return Some(self.drawn(effect));
        }
        let rng = &mut self.rng;
        let met = self.by_rate.iter_mut().position(|fault| {
            let rate = fault.rate.unwrap_or_default();
            matches(fault) && fault.is_due() && rng.f64() < rate
        });
        let at = met?;
        let effect = self.by_rate[at].effect.clone();
        if self.by_rate[at].is_spent() {
            self.by_rate.remove(at);
        }
        Some(self.drawn(effect))
    }

    fn drawn(&mut self, effect: Effect) -> Effect {
        if effect != Effect::Mixed {
            return effect;
        }
        let mut effects = Effect::recoverable();
        let at = self.rng.usize(..effects.len());
        effects.swap_remove(at)
    }
}

/// Reads a fault script: a JSON object a line; empty lines and lines that start with `#` are left out.
pub fn parse_script(text: &str) -> Result<Vec<Fault>, ScriptError> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
        .map(|(at, line)| {
            serde_json::from_str::<Fault>(line)
                .and_then(|fault| {
                    if fault.endpoint != Endpoint::Export && fault.effect.is_for_exports_only() {
                        return Err(serde_json::Error::custom("this effect is for exports only"));
                    }
                    Ok(fault)
                })
                .map_err(|source| ScriptError { line: at + 1, source })
        })
        .collect()
}

fn rate<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    let rate = f64::deserialize(deserializer)?;
    if rate > 0.0 && rate <= 1.0 {
        Ok(Some(rate))
    } else {
        Err(D::Error::custom("a rate is above 0 and at most 1"))
    }
}

fn location<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    HeaderValue::from_str(&text).map_err(D::Error::custom)?;
    Ok(text)
}

fn good() -> u16 {
    200
}

fn status<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StatusCode, D::Error> {
    let code = u16::deserialize(deserializer)?;
    StatusCode::from_u16(code).map_err(D::Error::custom)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(script: &mut Script, cursor: bool) -> Option<Effect> {
        script.take(Endpoint::Export, "acme", cursor, false)
    }

    #[test]
    fn faults_are_met_in_order_by_the_requests_they_are_meant_for() {
        let mut script = Script::new(1);
        script.push(Fault::export(Effect::Reset).cursor(true).skip(1));
        script.push(Fault::export(Effect::CutOffJson).times(2));
        script.push(Fault::export(Effect::PageOutOfOrder).lender("other"));
        script.push(Fault::on(Endpoint::Login, Effect::status(StatusCode::BAD_GATEWAY)));
        assert_eq!(take(&mut script, true), Some(Effect::CutOffJson));
        assert_eq!(take(&mut script, false), Some(Effect::CutOffJson));
        assert_eq!(take(&mut script, false), None);
        assert_eq!(take(&mut script, true), Some(Effect::Reset));
        assert_eq!(take(&mut script, true), None);
        assert_eq!(script.pending_count(), 2);
    }

    /// Which of so many requests are met.
    fn met(script: &mut Script, requests: usize) -> Vec<bool> {
        (0..requests).map(|_| take(script, true).is_some()).collect()
    }

    fn count(met: &[bool]) -> usize {
        met.iter().filter(|met| **met).count()
    }

    #[test]
    fn a_rate_meets_its_share_for_ever_as_the_seed_says() {
        let script = |seed| {
            let mut script = Script::new(seed);
            script.push(Fault::export(Effect::Reset).rate(0.05));
            script
        };
        let first = met(&mut script(1), 10_000);
        // Ten standard deviations to either side.
        assert!((280..720).contains(&count(&first)), "{}", count(&first));
        assert_eq!(first, met(&mut script(1), 10_000));
        assert_ne!(first, met(&mut script(2), 10_000));
        let mut script = script(1);
        assert_eq!((script.pending_count(), script.standing_count()), (0, 1));
        script.clear();
        assert_eq!((count(&met(&mut script, 1_000)), script.standing_count()), (0, 0));
    }

    #[test]
    fn a_rate_can_skip_requests_and_end_and_comes_after_what_is_in_order() {
        let mut script = Script::new(1);
        script.push(Fault::export(Effect::Reset).rate(1.0).skip(3).times(2));
        script.push(Fault::export(Effect::CutOffJson).rate(1.0));
        script.push(Fault::export(Effect::PageOutOfOrder));
        assert_eq!((script.pending_count(), script.standing_count()), (2, 1));
        let effects: Vec<_> = (0..8).filter_map(|_| take(&mut script, true)).collect();
        let expected = [
            Effect::PageOutOfOrder,
            Effect::CutOffJson,
            Effect::CutOffJson,
            Effect::CutOffJson,
            Effect::Reset,
            Effect::Reset,
            Effect::CutOffJson,
            Effect::CutOffJson,
        ];
        assert_eq!(effects, expected);
        assert_eq!((script.pending_count(), script.standing_count()), (0, 1));
        assert_eq!(script.take(Endpoint::Login, "acme", false, false), None);
    }

    #[test]
    fn a_mixed_fault_is_each_of_the_recoverable_ones_in_time() {
        let mut script = Script::new(1);
        script.push(Fault::export(Effect::Mixed).rate(1.0));
        let met: Vec<_> = (0..1_000).filter_map(|_| take(&mut script, false)).collect();
        let recoverable = Effect::recoverable();
        assert!(met.len() == 1_000 && met.iter().all(|effect| recoverable.contains(effect)));
        assert!(recoverable.iter().all(|effect| met.contains(effect)));
    }

    #[test]
    fn a_script_is_read_line_by_line() {
        let text = r#"
# upstream stumbles
{"effect":{"status":{"code":503,"retry_after":{"seconds":2}}},"cursor":true,"skip":3,"times":2}
{"effect":{"hang":"30s"},"lender":"lender-2"}
{"effect":"token_revoked"}
{"effect":{"status":{"code":401}},"endpoint":"refresh"}
{"effect":{"vanish":{"count":3}},"rate":0.05,"times":7}
{"effect":{"error_in_200":{"errors":["no"]}}}
{"effect":{"not_utf8":{"id":"a"}},"rate":1}
"#;
        let faults = parse_script(text).expect("a good script");
        assert_eq!(faults.len(), 7);
        let errors = vec!["no".to_owned()];
        assert_eq!(faults[5].effect, Effect::ErrorIn200 { code: 200, errors });
        assert_eq!((faults[0].skip, faults[0].times, faults[0].rate), (3, Some(2), None));
        assert_eq!(faults[1].effect, Effect::Hang(Duration::from_secs(30)));
        assert_eq!(
            faults[4],
            Fault::export(Effect::Vanish { count: 3 }).rate(0.05).times(7)
        );
        for bad in [
            r#"{"effect":"reset","tmies":2}"#,
            r#"{"effect":{"status":{"code":7}}}"#,
            r#"{"effect":"duplicate_page","endpoint":"login"}"#,
            r#"{"effect":{"redirect":{"code":302,"location":"a\nb"}}}"#,
            r#"{"effect":{"above_size":{"bytes":7,"code":503}},"endpoint":"login"}"#,
            r#"{"effect":"mixed","endpoint":"refresh"}"#,
            r#"{"effect":"reset","rate":0}"#,
            r#"{"effect":"reset","rate":1.01}"#,
            r#"{"effect":"reset","rate":null}"#,
        ] {
            let text = format!("\n{bad}");
            assert_eq!(parse_script(&text).expect_err(bad).line, 2);
        }
    }
}
