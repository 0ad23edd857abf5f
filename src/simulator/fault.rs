//! What goes wrong next, and for which request?
//!
//! Faults are a script: a request takes the first one in it that matches and is due. They come after authentication, so an
//! export fault meets a request that would otherwise have been answered with a page.

use std::collections::VecDeque;
use std::time::Duration;

use hyper::StatusCode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use thiserror::Error;

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
    /// Requests that are met.
    #[serde(default = "once")]
    pub times: u32,
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
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// The page backwards. Without effect on a page whose rows all have one `updated_at`.
    PageOutOfOrder,
    /// `meta` names other bounds than those asked for.
    BoundsNotEchoed,
    /// `nextCursor` is the cursor sent. Met with a cursor only.
    CursorAnswersItself,
    /// No rows, and a good cursor that has not moved.
    EmptyPageWithCursor,
    /// All access tokens of the lender are revoked, this one among them: 401.
    TokenRevoked,
    /// All cursors given so far are dead; one that this request carries too.
    AllCursorsDead,
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
            times: once(),
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
        self.times = requests;
        self
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
            | Self::CutOffJson
            | Self::WrongTopLevelTypes
            | Self::WrongContentType
            | Self::Reset
            | Self::Hang(_)
            | Self::SlowBody(_)
            | Self::OversizedBody { .. } => false,
            Self::DuplicatePage
            | Self::PageOutOfOrder
            | Self::BoundsNotEchoed
            | Self::CursorAnswersItself
            | Self::EmptyPageWithCursor
            | Self::TokenRevoked
            | Self::AllCursorsDead => true,
        }
    }
}

/// The faults still to come.
#[derive(Debug, Default)]
pub(super) struct Script(VecDeque<Fault>);

impl Script {
    pub(super) fn push(&mut self, fault: Fault) {
        self.0.push_back(fault);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The effect that a request meets. A fault that lets it pass counts it.
    pub(super) fn take(&mut self, endpoint: Endpoint, subdomain: &str, cursor: bool, until: bool) -> Option<Effect> {
        let mut due = None;
        for (at, fault) in self.0.iter_mut().enumerate() {
            if !fault.matches(endpoint, subdomain, cursor, until) {
                continue;
            }
            if fault.skip == 0 {
                due = Some(at);
                break;
            }
            fault.skip -= 1;
        }
        let at = due?;
        let fault = &mut self.0[at];
        let effect = fault.effect.clone();
        fault.times = fault.times.saturating_sub(1);
        if fault.times == 0 {
            self.0.remove(at);
        }
        Some(effect)
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

fn once() -> u32 {
    1
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
        let mut script = Script::default();
        script.push(Fault::export(Effect::Reset).cursor(true).skip(1));
        script.push(Fault::export(Effect::CutOffJson).times(2));
        script.push(Fault::export(Effect::PageOutOfOrder).lender("other"));
        script.push(Fault::on(Endpoint::Login, Effect::status(StatusCode::BAD_GATEWAY)));
        assert_eq!(take(&mut script, true), Some(Effect::CutOffJson));
        assert_eq!(take(&mut script, false), Some(Effect::CutOffJson));
        assert_eq!(take(&mut script, false), None);
        assert_eq!(take(&mut script, true), Some(Effect::Reset));
        assert_eq!(take(&mut script, true), None);
        assert_eq!(script.len(), 2);
    }

    #[test]
    fn a_script_is_read_line_by_line() {
        let text = r#"
# upstream stumbles
{"effect":{"status":{"code":503,"retry_after":{"seconds":2}}},"cursor":true,"skip":3,"times":2}
{"effect":{"hang":"30s"},"lender":"lender-2"}
{"effect":"token_revoked"}
{"effect":{"status":{"code":401}},"endpoint":"refresh"}
"#;
        let faults = parse_script(text).expect("a good script");
        assert_eq!(faults.len(), 4);
        assert_eq!((faults[0].skip, faults[0].times), (3, 2));
        assert_eq!(faults[1].effect, Effect::Hang(Duration::from_secs(30)));
        for bad in [
            r#"{"effect":"reset","tmies":2}"#,
            r#"{"effect":{"status":{"code":7}}}"#,
            r#"{"effect":"duplicate_page","endpoint":"login"}"#,
        ] {
            let text = format!("\n{bad}");
            assert_eq!(parse_script(&text).expect_err(bad).line, 2);
        }
    }
}
