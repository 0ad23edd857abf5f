//! What was found, and how is it said? A line each, or one JSON document. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::config::hide;
use crate::exit::{ErrorCode, Exit, Failure};

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Finding {
    pub area: &'static str,
    /// Its key in the configuration, where this is of one lender.
    pub lender: Option<String>,
    pub what: String,
    pub status: Status,
    pub found: String,
    /// Where it is not as it should be.
    pub wanted: Option<String>,
    /// As `wanted`.
    pub advice: Option<String>,
    /// Of an error that `run` would meet.
    pub code: Option<ErrorCode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// Worth a look; `run` would run.
    Warning,
    /// `run` would not, or not well; the exit code by its kind.
    Error(Exit),
}

impl Status {
    fn sign(self) -> char {
        match self {
            Self::Ok => '✓',
            Self::Warning => '!',
            Self::Error(_) => '✗',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error(_) => "error",
        }
    }
}

impl Finding {
    fn text(&self) -> String {
        let mut text = format!("{} {}", self.status.sign(), self.area);
        let write = |text: &mut String, part: std::fmt::Arguments<'_>| {
            text.write_fmt(part).expect("a String takes everything");
        };
        if let Some(lender) = &self.lender {
            write(&mut text, format_args!(" {lender}"));
        }
        write(&mut text, format_args!(", {}: {}", self.what, self.found));
        if let Some(wanted) = &self.wanted {
            write(&mut text, format_args!("; wanted: {wanted}"));
        }
        if let Some(advice) = &self.advice {
            write(&mut text, format_args!("\n    → {advice}"));
        }
        if let Some(code) = &self.code {
            write(&mut text, format_args!(" (d02-source explain {code})"));
        }
        text
    }

    fn json(&self) -> Value {
        let mut json = json!({
            "area": self.area,
            "what": self.what,
            "status": self.status.name(),
            "found": self.found,
            "wanted": self.wanted,
            "advice": self.advice,
            "code": self.code.map(ErrorCode::name),
        });
        if let Some(lender) = &self.lender {
            json["lender"] = json!(lender);
        }
        json
    }
}

/// What is found in one area, for one lender where it is the lender's.
#[derive(Debug)]
pub(super) struct Notes {
    area: &'static str,
    lender: Option<String>,
    /// What is being looked at now: what is named when it does not end.
    doing: &'static str,
    pub findings: Vec<Finding>,
}

impl Notes {
    pub(super) fn new(area: &'static str, lender: Option<&str>) -> Self {
        Self {
            area,
            lender: lender.map(str::to_owned),
            doing: "",
            findings: Vec::new(),
        }
    }

    /// Says what is looked at from now on.
    pub(super) fn doing(&mut self, what: &'static str) {
        self.doing = what;
    }

    pub(super) fn ok(&mut self, what: impl Into<String>, found: impl Into<String>) {
        self.push(what.into(), Status::Ok, found.into(), None, None, None);
    }

    pub(super) fn warning(
        &mut self,
        what: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let (wanted, advice) = (Some(wanted.into()), Some(advice.into()));
        self.push(what.into(), Status::Warning, found.into(), wanted, advice, None);
    }

    /// An error that `run` would meet.
    pub(super) fn failure(&mut self, failure: &Failure, what: impl Into<String>, wanted: impl Into<String>) {
        let (exit, code) = (failure.exit(), failure.code());
        self.error(exit, code, what, failure.text(), wanted, failure.advice());
    }

    pub(super) fn error(
        &mut self,
        exit: Exit,
        code: impl Into<Option<ErrorCode>>,
        what: impl Into<String>,
        found: impl Into<String>,
        wanted: impl Into<String>,
        advice: impl Into<String>,
    ) {
        let (wanted, advice) = (Some(wanted.into()), Some(advice.into()));
        let status = Status::Error(exit);
        self.push(what.into(), status, found.into(), wanted, advice, code.into());
    }

    /// Says that it did not end within `limit`.
    pub(super) fn gave_up(&mut self, limit: Duration, advice: &str) {
        let limit = humantime::format_duration(limit);
        let found = format!("no end within {limit}");
        self.error(Exit::Failed, None, self.doing, found, "an answer", advice);
    }

    fn push(
        &mut self,
        what: String,
        status: Status,
        found: String,
        wanted: Option<String>,
        advice: Option<String>,
        code: Option<ErrorCode>,
    ) {
        self.findings.push(Finding {
            area: self.area,
            lender: self.lender.clone(),
            what: one_line(&what),
            status,
            found: one_line(&found),
            wanted: wanted.as_deref().map(one_line),
            advice: advice.as_deref().map(one_line),
            code,
        });
    }
}

/// What others said must neither break a line nor steer a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\r' | '\t' => line.push(' '),
            char if char.is_control() => line.extend(char.escape_default()),
            char => line.push(char),
        }
    }
    line
}

/// Takes the secrets out of everything that is said: whoever answers may quote what it was sent.
pub(super) fn redact(findings: &mut [Finding], secrets: &[String]) {
    for finding in findings {
        let Finding {
            found, wanted, advice, ..
        } = finding;
        for text in [Some(found), wanted.as_mut(), advice.as_mut()].into_iter().flatten() {
            secrets.iter().for_each(|secret| hide(text, secret));
        }
    }
}

/// The process's exit code: 0 without an error, whatever the warnings.
pub(super) fn exit(findings: &[Finding]) -> Exit {
    let exits: Vec<Exit> = findings
        .iter()
        .filter_map(|finding| match finding.status {
            Status::Error(exit) => Some(exit),
            Status::Ok | Status::Warning => None,
        })
        .collect();
    Exit::of_all(&exits)
}

fn count(findings: &[Finding], name: &str) -> usize {
    findings.iter().filter(|finding| finding.status.name() == name).count()
}

/// A line each, and what they come to.
pub(super) fn text(findings: &[Finding]) -> String {
    let mut lines: Vec<String> = findings.iter().map(Finding::text).collect();
    let counted = |count: usize, one: &str, many: &str| match count {
        0 => format!("no {many}"),
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    lines.push(format!(
        "{}, {}",
        counted(count(findings, "error"), "error", "errors"),
        counted(count(findings, "warning"), "warning", "warnings")
    ));
    lines.join("\n")
}

pub(super) fn json(findings: &[Finding]) -> Value {
    let errors = count(findings, "error");
    let warnings = count(findings, "warning");
    let status = match (errors, warnings) {
        (0, 0) => "ok",
        (0, _) => "warning",
        _ => "error",
    };
    json!({
        "findings": findings.iter().map(Finding::json).collect::<Vec<_>>(),
        "overall": {
            "status": status,
            "exit_code": exit(findings).code(),
            "ok_count": count(findings, "ok"),
            "warning_count": warnings,
            "error_count": errors,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        let mut notes = Notes::new("upstream", Some("acme"));
        notes.ok("name", "localhost resolves");
        notes.warning("page", "no rows", "rows", "ask\nthe \u{1b}[2Jvendor");
        notes
    }

    #[test]
    fn a_finding_is_a_line_and_its_advice_another() {
        let mut notes = notes();
        assert_eq!(exit(&notes.findings), Exit::Done);
        assert_eq!(
            text(&notes.findings),
            "✓ upstream acme, name: localhost resolves\n\
             ! upstream acme, page: no rows; wanted: rows\n    → ask the \\u{1b}[2Jvendor\n\
             no errors, 1 warning"
        );
        notes.doing("login");
        notes.gave_up(Duration::from_secs(60), "check it");
        notes.error(
            Exit::Refused,
            ErrorCode::ALL[0],
            "page",
            "404",
            "a page",
            "ask the vendor",
        );
        assert!(
            text(&notes.findings)
                .contains("✗ upstream acme, login: no end within 1m; wanted: an answer\n    → check it")
        );
        assert!(text(&notes.findings).contains("; wanted: a page\n    → ask the vendor (d02-source explain C01)\n"));
        assert_eq!(exit(&notes.findings), Exit::Refused);
        let json = json(&notes.findings);
        assert_eq!(json["overall"]["status"], "error");
        assert_eq!(json["overall"]["exit_code"], 4);
        assert_eq!(json["findings"][1]["lender"], "acme");
        assert_eq!(json["findings"][3]["code"], "C01");
    }

    #[test]
    fn what_was_sent_and_came_back_is_not_said() {
        let mut findings = notes().findings;
        findings[0].found = "no such user x:hunter22".to_owned();
        redact(&mut findings, &["hunter22".to_owned()]);
        assert_eq!(findings[0].found, "no such user x:(redacted)");
    }
}
