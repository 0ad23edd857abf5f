//! What may stand in a key? Every kind is read from text, so that a file, a variable and `--set` mean the same.

use std::fmt;

use super::values::{
    IGNORED_LENGTH_MAX, IGNORED_MAX, parse_address, parse_duration, parse_email, parse_extra, parse_flag,
    parse_ignored, parse_name, parse_servers, parse_size, parse_time, parse_url, parse_user, parse_word, shown_url,
};
use crate::loopback::is_loopback;

/// What may stand in a key. Every kind is read from text, so that a file, a variable and `--set` mean the same.
#[derive(Debug, Clone, Copy)]
pub(super) enum ValueKind {
    /// Letters, digits, `.`, `_`, `-`: safe in a transactional id and in a connector name.
    Name,
    Whole {
        min: i64,
        max: i64,
        why: &'static str,
    },
    /// -1 for the broker's default, or a number of copies.
    Replication,
    /// A share or a rate; both bounds are part of it.
    Number {
        min: f64,
        below: f64,
        why: &'static str,
    },
    Flag,
    /// Bounds as an operator would write them.
    Duration {
        min: &'static str,
        max: &'static str,
        why: &'static str,
    },
    Size {
        min: &'static str,
        max: &'static str,
        why: &'static str,
    },
    Url(UrlRule),
    Choice(&'static [&'static str]),
    /// `all`, `none` or a list of names.
    Extra,
    /// A list of names of members, which may be empty.
    Ignored,
    Email,
    /// Text without spaces that ends up in a path or a header.
    Word,
    /// The user name of HTTP basic authentication, which ends at a colon.
    User,
    Path,
    Time,
    Address,
    Servers,
    /// A topic name; its form is checked once `{lender}` is replaced.
    Topic,
    /// Text that no message shows; the same name with `_file` reads it from a file.
    Secret,
    /// Handed to Kafka as it is.
    Setting,
    /// Handed to librdkafka as it is; secret when its name says so, and the same name with `_file` reads a file.
    Property,
}

/// Which URLs a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UrlRule {
    /// `https`, or `http` to this machine only: the login sends a password.
    Upstream,
    /// `https` or `http`, no user name or password in it.
    Registry,
    /// `http` or `https`; a user name and a password may stand in it.
    Proxy,
}

impl ValueKind {
    /// Whether this text may stand in the key.
    pub(super) fn accepts(&self, text: &str) -> bool {
        match *self {
            ValueKind::Name => parse_name(text).is_some(),
            ValueKind::Whole { min, max, .. } => text.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            ValueKind::Number { min, below, .. } => text.parse::<f64>().is_ok_and(|n| min <= n && n < below),
            ValueKind::Replication => text.parse::<i16>().is_ok_and(|n| n == -1 || n > 0),
            ValueKind::Flag => parse_flag(text).is_some(),
            ValueKind::Duration { min, max, .. } => {
                parse_duration(text).is_some_and(|d| parse_duration(min) <= Some(d) && Some(d) <= parse_duration(max))
            }
            ValueKind::Size { min, max, .. } => {
                parse_size(text).is_some_and(|s| parse_size(min) <= Some(s) && Some(s) <= parse_size(max))
            }
            ValueKind::Url(rule) => parse_url(text).is_some_and(|url| rule.allows(&url)),
            ValueKind::Choice(names) => names.contains(&text),
            ValueKind::Extra => parse_extra(text).is_some(),
            ValueKind::Ignored => parse_ignored(text).is_some(),
            ValueKind::Email => parse_email(text).is_some(),
            ValueKind::Word => parse_word(text).is_some(),
            ValueKind::User => parse_user(text).is_some(),
            ValueKind::Path | ValueKind::Secret => !text.is_empty(),
            ValueKind::Time => parse_time(text).is_some(),
            ValueKind::Address => parse_address(text).is_some(),
            ValueKind::Servers => parse_servers(text).is_some(),
            ValueKind::Topic | ValueKind::Setting | ValueKind::Property => true,
        }
    }

    /// Whether a bare number or boolean of TOML may stand for the text; elsewhere it would lose digits (`007`, `1e5`).
    pub(super) fn takes_bare_scalars(&self) -> bool {
        matches!(
            self,
            ValueKind::Whole { .. }
                | ValueKind::Replication
                | ValueKind::Number { .. }
                | ValueKind::Flag
                | ValueKind::Duration { .. }
                | ValueKind::Size { .. }
                | ValueKind::Setting
                | ValueKind::Property
        )
    }

    /// The value as a message may show it: what could be a password inside a URL is left out.
    pub(super) fn shown(&self, text: &str) -> String {
        match self {
            ValueKind::Url(_) => shown_url(text),
            _ => text.to_owned(),
        }
    }
}

impl UrlRule {
    fn allows(self, url: &reqwest::Url) -> bool {
        let bare = url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let web = matches!(url.scheme(), "http" | "https") && url.has_host();
        match self {
            UrlRule::Upstream => web && bare && anonymous && (url.scheme() == "https" || is_loopback(url)),
            UrlRule::Registry => web && bare && anonymous,
            UrlRule::Proxy => web && bare && url.path() == "/",
        }
    }
}

/// What is allowed, as the end of an error message.
impl fmt::Display for ValueKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut with = |allowed: String, why: &str| match why {
            "" => write!(f, "{allowed}"),
            _ => write!(f, "{allowed} ({why})"),
        };
        match *self {
            ValueKind::Name => with("1 to 100 letters, digits, dots, underscores and hyphens".into(), ""),
            ValueKind::Whole {
                min,
                max: i64::MAX,
                why,
            } => with(format!("a whole number from {min}"), why),
            ValueKind::Whole { min, max, why } => with(format!("a whole number from {min} to {max}"), why),
            ValueKind::Number { min, below, why } => with(format!("a number from {min} to below {below}"), why),
            ValueKind::Replication => with(
                "-1 for the broker's default, or a whole number from 1 to 32767".into(),
                "",
            ),
            ValueKind::Flag => with("true or false".into(), ""),
            ValueKind::Duration { min, max, why } => {
                with(format!("a duration with its unit from \"{min}\" to \"{max}\""), why)
            }
            ValueKind::Size { min, max, why } => with(format!("a size with its unit from \"{min}\" to \"{max}\""), why),
            ValueKind::Url(UrlRule::Upstream) => with(
                "an https:// URL without credentials, query and fragment; http:// only to this machine".into(),
                "",
            ),
            ValueKind::Url(UrlRule::Registry) => with(
                "an http:// or https:// URL without query and fragment".into(),
                "credentials go to schema_registry.username and schema_registry.password_file",
            ),
            ValueKind::Url(UrlRule::Proxy) => with("an http:// or https:// URL of a host, without a path".into(), ""),
            ValueKind::Choice(names) => with(format!("\"{}\"", names.join("\" or \"")), ""),
            ValueKind::Extra => with("\"all\", \"none\" or the names of fields".into(), ""),
            ValueKind::Ignored => with(
                format!("at most {IGNORED_MAX} names of members, each of 1 to {IGNORED_LENGTH_MAX} characters"),
                "without public_id, which says whose row it is, and updated_at, which is no content anyway",
            ),
            ValueKind::Email => with("an e-mail address".into(), ""),
            ValueKind::Word => with("text without spaces, slashes and control characters".into(), ""),
            ValueKind::User => with("a user name without a colon and control characters".into(), ""),
            ValueKind::Path => with("the path of a file".into(), ""),
            ValueKind::Time => with("a time such as \"2026-01-01T00:00:00Z\"".into(), ""),
            ValueKind::Address => with("an IP address and a port such as \"127.0.0.1:8080\"".into(), ""),
            ValueKind::Servers => with("brokers as host:port, separated by commas".into(), ""),
            ValueKind::Topic => with("the name of a topic".into(), ""),
            ValueKind::Secret => with("text that is not empty, in quotes".into(), ""),
            ValueKind::Setting | ValueKind::Property => with("one text, number or boolean".into(), ""),
        }
    }
}
