//! How is one value read from its text, and how does a secret stay one?

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::SecretString;

use crate::account::Extra;

/// The largest `transaction.max_rows`. Larger ones gain nothing (the commit is a few per cent of the time from 20,000
/// rows on) and everything in them is kept until the commit is known.
pub(super) const NUMBER_OF_ROWS_MAX: i64 = 100_000;

/// How many members can be no content, and how long their names are, in characters: every row is held against them.
pub(super) const IGNORED_MAX: usize = 50;
pub(super) const IGNORED_LENGTH_MAX: usize = 200;

/// The largest secret file, in bytes. A token of an identity provider has a few thousand; a path that was meant for
/// something else must not fill the memory.
const SECRET_BYTES_MAX: u64 = 64 * 1024;

/// Stands in a dump where a secret would.
pub(super) const REDACTED: &str = "(redacted)";

/// A secret in the configuration itself, or in a file. `Debug` shows the path and never the secret.
#[derive(Debug, Clone)]
pub enum SecretSource {
    Inline(SecretString),
    File(PathBuf),
}

/// Why a secret could not be read. No variant holds any of it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SecretError {
    #[error("cannot read the secret file {path}")]
    Unreadable { path: PathBuf, source: Arc<io::Error> },
    #[error("the secret file {path} has more than {SECRET_BYTES_MAX} bytes: is it the right one?")]
    TooLarge { path: PathBuf },
    #[error("the secret file {path} is not UTF-8 text")]
    NotText { path: PathBuf },
    #[error("the secret file {path} is empty")]
    Empty { path: PathBuf },
}

impl SecretSource {
    /// The secret as it is now: a file is read again at every call, since a mounted secret is replaced in place.
    /// One newline at its end is cut off.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        let path = match self {
            SecretSource::Inline(secret) => return Ok(secret.clone()),
            SecretSource::File(path) => path,
        };
        let unreadable = |source| SecretError::Unreadable {
            path: path.clone(),
            source: Arc::new(source),
        };
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(SECRET_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(unreadable)?;
        if bytes.len() as u64 > SECRET_BYTES_MAX {
            return Err(SecretError::TooLarge { path: path.clone() });
        }
        let text = String::from_utf8(bytes).map_err(|_| SecretError::NotText { path: path.clone() })?;
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            return Err(SecretError::Empty { path: path.clone() });
        }
        Ok(SecretString::from(text))
    }

    /// When its file last changed; `None` for a secret in the configuration itself and for a file that cannot be seen.
    pub fn modified(&self) -> Option<SystemTime> {
        match self {
            SecretSource::Inline(_) => None,
            SecretSource::File(path) => path.metadata().and_then(|m| m.modified()).ok(),
        }
    }
}

/// A property for librdkafka.
#[derive(Debug, Clone)]
pub enum Property {
    Plain(String),
    Secret(SecretSource),
}

impl Property {
    /// The text for librdkafka; a file is read now.
    pub fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Property::Plain(text) => Ok(SecretString::from(text.as_str())),
            Property::Secret(source) => source.read(),
        }
    }

    /// Whether it stands in a file.
    pub fn is_file(&self) -> bool {
        matches!(self, Property::Secret(SecretSource::File(_)))
    }

    /// The text, where it is no secret.
    pub fn plain(&self) -> Option<&str> {
        match self {
            Property::Plain(text) => Some(text),
            Property::Secret(_) => None,
        }
    }
}

/// Whether the value of a librdkafka property is kept out of messages and dumps. By its name, and rather one too many.
pub(super) fn is_secret_property(name: &str) -> bool {
    // `pem` for the keys that librdkafka takes inline, `oauthbearer.config` because client secrets stand in it.
    const SIGNS: [&str; 9] = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "jaas",
        "credential",
        "key.pem",
        "oauthbearer.config",
    ];
    let name = name.to_ascii_lowercase();
    SIGNS.iter().any(|sign| name.contains(sign))
}

pub(super) fn parse_name(text: &str) -> Option<String> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    ((1..=100).contains(&text.len()) && text.chars().all(fine)).then(|| text.to_owned())
}

pub(super) fn parse_flag(text: &str) -> Option<bool> {
    text.parse().ok()
}

pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// Bytes. Powers of 1024 with an `i` (`MiB`), of 1000 without; a bare number is refused, as for durations.
pub(super) fn parse_size(text: &str) -> Option<u64> {
    let unit = text.ends_with(['b', 'B']);
    unit.then(|| text.parse::<bytesize::ByteSize>().ok())
        .flatten()
        .map(|size| size.as_u64())
}

pub(super) fn parse_url(text: &str) -> Option<Url> {
    Url::parse(text).ok()
}

pub(super) fn parse_time(text: &str) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc())
}

pub(super) fn parse_address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

pub(super) fn parse_email(text: &str) -> Option<String> {
    let (user, host) = text.split_once('@')?;
    (parse_word(text).is_some() && !user.is_empty() && !host.is_empty()).then(|| text.to_owned())
}

pub(super) fn parse_word(text: &str) -> Option<String> {
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | '\\' | '?' | '#');
    (!text.is_empty() && !text.contains(odd)).then(|| text.to_owned())
}

pub(super) fn parse_user(text: &str) -> Option<String> {
    (!text.is_empty() && !text.contains(|c: char| c == ':' || c.is_control())).then(|| text.to_owned())
}

pub(super) fn parse_path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

/// Brokers as librdkafka takes them, without the spaces that it would take for a part of a name.
pub(super) fn parse_servers(text: &str) -> Option<String> {
    let servers: Vec<&str> = text.split(',').map(str::trim).collect();
    let fine = |server: &&str| !server.is_empty() && !server.contains(char::is_whitespace);
    servers.iter().all(fine).then(|| servers.join(","))
}

pub(super) fn parse_extra(text: &str) -> Option<Extra> {
    match text {
        "all" => return Some(Extra::All),
        "none" => return Some(Extra::None),
        _ => {}
    }
    let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let mixed = names
        .iter()
        .any(|name| name.is_empty() || name == "all" || name == "none");
    (!mixed).then_some(Extra::Only(names))
}

pub(super) fn parse_ignored(text: &str) -> Option<BTreeSet<String>> {
    if text.is_empty() {
        return Some(BTreeSet::new());
    }
    let names: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_fine = |name: &String| {
        (1..=IGNORED_LENGTH_MAX).contains(&name.chars().count()) && !matches!(&**name, "public_id" | "updated_at")
    };
    (names.len() <= IGNORED_MAX && names.iter().all(is_fine)).then_some(names)
}

/// Takes a secret out of what somebody says who was sent it, also as JSON escapes it. One that is too short to be told from
/// other words stays.
pub fn hide(text: &mut String, secret: &str) {
    const SHORTEST: usize = 6;
    if secret.len() < SHORTEST {
        return;
    }
    let json = serde_json::Value::from(secret).to_string();
    for form in [secret, &json[1..json.len() - 1]] {
        if text.contains(form) {
            *text = text.replace(form, REDACTED);
        }
    }
}

/// A proxy; its URL may hold a user name and a password, which `Debug` leaves out.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy(pub Url);

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown_url(self.0.as_str()))
    }
}

/// A URL as a message may show it: without user name, password, query and fragment, also when it is no valid URL.
pub(super) fn shown_url(text: &str) -> String {
    let (scheme, rest) = match text.find("://") {
        Some(at) => text.split_at(at + 3),
        None => ("", text),
    };
    // The last `@` of all: a password with an `@`, a slash or a question mark makes the URL invalid and no less secret.
    let (credentials, rest) = match rest.rfind('@') {
        Some(at) => (REDACTED, &rest[at..]),
        None => ("", rest),
    };
    match rest.find(['?', '#']) {
        Some(at) => format!("{scheme}{credentials}{}…", &rest[..at]),
        None => format!("{scheme}{credentials}{rest}"),
    }
}
