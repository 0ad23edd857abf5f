//! What does a person get of an error: its text with all causes, its code, and what to do?

use std::error::Error;
use std::fmt::{self, Write as _};

use super::code::ErrorCode;
use super::status::Exit;

/// What an error says beside its text. Each enum of errors has this beside it, in matches without a `_` arm: a new variant has to
/// be given a code, and with it a page.
pub trait Diagnosis: Error {
    fn code(&self) -> ErrorCode;

    /// What to do about it.
    fn advice(&self) -> &str;

    /// How a process ends that cannot go on because of it: as its code says, but for those who meet it in another place.
    fn exit(&self) -> Exit {
        self.code().exit()
    }
}

/// Why something did not do what it was asked for, as it is told. Only a [`Diagnosis`] makes one, so each has a code and advice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    code: ErrorCode,
    exit: Exit,
    text: String,
    advice: String,
}

impl Failure {
    pub fn of(error: &impl Diagnosis) -> Self {
        Self {
            code: error.code(),
            exit: error.exit(),
            text: chain(error),
            advice: error.advice().to_owned(),
        }
    }

    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// The error with its causes.
    pub fn text(&self) -> &str {
        &self.text
    }

    pub fn advice(&self) -> &str {
        &self.advice
    }

    /// The advice, and where there is more.
    pub fn way_on(&self) -> String {
        let Self { advice, code, .. } = self;
        format!("{advice} (d02-source explain {code})")
    }

    /// As a line of the log says it, which has the code beside it.
    pub fn line(&self) -> String {
        format!("{} → {}", self.text, self.advice)
    }
}

/// As a command says it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  → {}", self.text, self.way_on())
    }
}

impl<E: Diagnosis> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::of(&error)
    }
}

/// An error and everything that caused it, on one line; a cause that only repeats what stands there is left out.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            write!(text, ": {cause_text}").expect("a String takes everything");
        }
        source = cause.source();
    }
    text
}
