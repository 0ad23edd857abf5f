//! Which keys exist, what may stand in them, and what holds when nobody sets them?
//!
//! One table, [`KEYS`]: unknown-key detection, the environment, `config show` and the test of the reference file all read it.
//! A `*` stands for a name the operator chooses.

use std::fmt;

use super::values::{
    NUMBER_OF_ROWS_MAX, parse_address, parse_duration, parse_email, parse_extra, parse_flag, parse_name, parse_servers,
    parse_size, parse_time, parse_url, parse_user, parse_word, shown_url,
};

/// One key of the configuration.
#[derive(Debug)]
pub struct Key {
    /// The dotted name, `*` for a part that the operator chooses.
    pub name: &'static str,
    /// What may stand in it.
    pub kind: Kind,
    /// The value when nobody sets it, as it would be written on the command line; `None` where there is none.
    pub default: Option<&'static str>,
}

/// What may stand in a key. Every kind is read from text, so that a file, a variable and `--set` mean the same.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
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
pub enum UrlRule {
    /// `https`, or `http` to this machine only: the login sends a password.
    Upstream,
    /// `https` or `http`, no user name or password in it.
    Registry,
    /// `http` or `https`; a user name and a password may stand in it.
    Proxy,
}

const fn key(name: &'static str, kind: Kind, default: Option<&'static str>) -> Key {
    Key { name, kind, default }
}

const fn duration(min: &'static str, max: &'static str, why: &'static str) -> Kind {
    Kind::Duration { min, max, why }
}

const PARTITIONS: Kind = Kind::Whole {
    min: 1,
    max: 10_000,
    why: "",
};

/// Every key there is, in the order of the reference file.
pub const KEYS: &[Key] = &[
    key("name", Kind::Name, Some("d02-source")),
    // Upstream.
    key(
        "upstream.base_url",
        Kind::Url(UrlRule::Upstream),
        Some("https://v3-api.cleargrid.ai"),
    ),
    key(
        "upstream.page_size",
        Kind::Whole {
            min: 1,
            max: 1000,
            why: "upstream cuts anything larger to 1000 in silence",
        },
        Some("1000"),
    ),
    key(
        "upstream.poll_interval",
        duration("1ms", "1d", "it is how old a live record can be"),
        Some("5s"),
    ),
    key(
        "upstream.request_timeout",
        duration("1ms", "10m", "a request that hangs holds up its lender for as long"),
        Some("60s"),
    ),
    key(
        "upstream.max_body",
        Kind::Size {
            min: "64KiB",
            max: "1GiB",
            why: "it must hold a page of rows, and all of it stands in memory",
        },
        Some("64MiB"),
    ),
    key(
        "upstream.late_window",
        duration("1ms", "1d", "every sweep reads the whole window again"),
        Some("10m"),
    ),
    key(
        "upstream.late_sweep_interval",
        duration("1ms", "1d", "late rows wait for as long"),
        Some("1m"),
    ),
    key(
        "upstream.snapshot_parallelism",
        Kind::Whole {
            min: 1,
            max: 64,
            why: "each is a request in flight at the vendor",
        },
        Some("4"),
    ),
    key(
        "upstream.max_requests_per_second",
        Kind::Number {
            min: 0.001,
            below: 10_000.0,
            why: "leave it out for no limit",
        },
        None,
    ),
    key("upstream.ca_file", Kind::Path, None),
    key("upstream.proxy", Kind::Url(UrlRule::Proxy), None),
    key(
        "upstream.reconcile_interval",
        duration("1m", "400d", "it reads every account again"),
        None,
    ),
    key(
        "upstream.reconcile_max_deletes",
        Kind::Number {
            min: 0.0,
            below: 1.0,
            why: "a share of the accounts",
        },
        Some("0.05"),
    ),
    // Lenders.
    key("lenders.*.email", Kind::Email, None),
    key("lenders.*.password", Kind::Secret, None),
    key("lenders.*.subdomain", Kind::Word, None),
    key("lenders.*.public_id", Kind::Word, None),
    key("lenders.*.start_from", Kind::Time, None),
    // Kafka.
    key("kafka.bootstrap_servers", Kind::Servers, Some("localhost:9092")),
    key("kafka.create_topics", Kind::Flag, Some("true")),
    key("kafka.topics.accounts", Kind::Topic, Some("cleargrid.d02.accounts")),
    key("kafka.topics.cursor", Kind::Topic, Some("cleargrid.d02.cursor")),
    key("kafka.topics.changes", Kind::Topic, Some("cleargrid.d02.changes")),
    key(
        "kafka.topics.dead_letters",
        Kind::Topic,
        Some("cleargrid.d02.dead-letters"),
    ),
    key("kafka.topic_settings.accounts.partitions", PARTITIONS, Some("6")),
    key(
        "kafka.topic_settings.accounts.replication_factor",
        Kind::Replication,
        Some("-1"),
    ),
    key(
        "kafka.topic_settings.accounts.cleanup.policy",
        Kind::Setting,
        Some("compact"),
    ),
    key(
        "kafka.topic_settings.accounts.delete.retention.ms",
        Kind::Setting,
        Some("604800000"),
    ),
    key(
        "kafka.topic_settings.accounts.min.compaction.lag.ms",
        Kind::Setting,
        Some("3600000"),
    ),
    key(
        "kafka.topic_settings.accounts.unclean.leader.election.enable",
        Kind::Setting,
        Some("false"),
    ),
    key("kafka.topic_settings.accounts.*", Kind::Setting, None),
    key("kafka.topic_settings.cursor.partitions", PARTITIONS, Some("1")),
    key(
        "kafka.topic_settings.cursor.replication_factor",
        Kind::Replication,
        Some("-1"),
    ),
    key(
        "kafka.topic_settings.cursor.cleanup.policy",
        Kind::Setting,
        Some("compact"),
    ),
    key("kafka.topic_settings.cursor.segment.ms", Kind::Setting, Some("3600000")),
    key(
        "kafka.topic_settings.cursor.unclean.leader.election.enable",
        Kind::Setting,
        Some("false"),
    ),
    key("kafka.topic_settings.cursor.*", Kind::Setting, None),
    key("kafka.topic_settings.changes.partitions", PARTITIONS, Some("6")),
    key(
        "kafka.topic_settings.changes.replication_factor",
        Kind::Replication,
        Some("-1"),
    ),
    key(
        "kafka.topic_settings.changes.cleanup.policy",
        Kind::Setting,
        Some("delete"),
    ),
    key(
        "kafka.topic_settings.changes.retention.ms",
        Kind::Setting,
        Some("34560000000"),
    ),
    key(
        "kafka.topic_settings.changes.unclean.leader.election.enable",
        Kind::Setting,
        Some("false"),
    ),
    key("kafka.topic_settings.changes.*", Kind::Setting, None),
    key("kafka.topic_settings.dead_letters.partitions", PARTITIONS, Some("1")),
    key(
        "kafka.topic_settings.dead_letters.replication_factor",
        Kind::Replication,
        Some("-1"),
    ),
    key(
        "kafka.topic_settings.dead_letters.cleanup.policy",
        Kind::Setting,
        Some("delete"),
    ),
    key(
        "kafka.topic_settings.dead_letters.retention.ms",
        Kind::Setting,
        Some("2592000000"),
    ),
    key(
        "kafka.topic_settings.dead_letters.unclean.leader.election.enable",
        Kind::Setting,
        Some("false"),
    ),
    key("kafka.topic_settings.dead_letters.*", Kind::Setting, None),
    key("kafka.properties.*", Kind::Property, None),
    // Transaction.
    key(
        "transaction.max_rows",
        Kind::Whole {
            min: 1,
            max: NUMBER_OF_ROWS_MAX,
            why: "the rows of a transaction stand in memory",
        },
        Some("20000"),
    ),
    key(
        "transaction.max_delay",
        duration(
            "1ms",
            "10s",
            "a decided row waits for as long, and readers of the topic with it",
        ),
        Some("500ms"),
    ),
    key(
        "transaction.heartbeat_interval",
        duration("1ms", "1h", "a dead instance counts as alive for three of them"),
        Some("1m"),
    ),
    // Avro and its registry.
    key(
        "avro.encoding",
        Kind::Choice(&["confluent", "single-object"]),
        Some("confluent"),
    ),
    key(
        "avro.subject_strategy",
        Kind::Choice(&["topic-name", "record-name", "topic-record-name"]),
        Some("topic-name"),
    ),
    key("avro.extra", Kind::Extra, Some("all")),
    key(
        "schema_registry.url",
        Kind::Url(UrlRule::Registry),
        Some("http://localhost:8081"),
    ),
    key("schema_registry.auto_register", Kind::Flag, Some("true")),
    key("schema_registry.username", Kind::User, None),
    key("schema_registry.password", Kind::Secret, None),
    key("schema_registry.token", Kind::Secret, None),
    key("schema_registry.ca_file", Kind::Path, None),
    // Changes, errors, HTTP.
    key("changes.initial", Kind::Flag, Some("true")),
    key("errors.tolerance", Kind::Choice(&["all", "none"]), Some("all")),
    key("errors.bad_field", Kind::Choice(&["null", "dead-letter"]), Some("null")),
    key(
        "errors.amount_tolerance",
        Kind::Number {
            min: 0.0,
            below: 0.5,
            why: "in minor units; half of one could be either amount",
        },
        Some("0"),
    ),
    key(
        "errors.max_dead_letters_per_hour",
        Kind::Whole {
            min: 0,
            max: i64::MAX,
            why: "leave it out for no limit",
        },
        None,
    ),
    key("http.listen", Kind::Address, None),
    key("http.token", Kind::Secret, None),
    key(
        "http.stale_after",
        duration("1ms", "1d", "a stuck lender counts as ready for as long"),
        Some("5m"),
    ),
];

impl Key {
    /// Whether its values stay out of every message and dump.
    pub fn is_secret(&self) -> bool {
        matches!(self.kind, Kind::Secret)
    }

    /// Whether `KEY_file` exists beside it.
    pub fn has_file(&self) -> bool {
        matches!(self.kind, Kind::Secret | Kind::Property)
    }
}

impl Kind {
    /// Whether this text may stand in the key.
    pub fn accepts(&self, text: &str) -> bool {
        match *self {
            Kind::Name => parse_name(text).is_some(),
            Kind::Whole { min, max, .. } => text.parse::<i64>().is_ok_and(|n| (min..=max).contains(&n)),
            Kind::Number { min, below, .. } => text.parse::<f64>().is_ok_and(|n| min <= n && n < below),
            Kind::Replication => text.parse::<i16>().is_ok_and(|n| n == -1 || n > 0),
            Kind::Flag => parse_flag(text).is_some(),
            Kind::Duration { min, max, .. } => {
                parse_duration(text).is_some_and(|d| parse_duration(min) <= Some(d) && Some(d) <= parse_duration(max))
            }
            Kind::Size { min, max, .. } => {
                parse_size(text).is_some_and(|s| parse_size(min) <= Some(s) && Some(s) <= parse_size(max))
            }
            Kind::Url(rule) => parse_url(text).is_some_and(|url| rule.allows(&url)),
            Kind::Choice(names) => names.contains(&text),
            Kind::Extra => parse_extra(text).is_some(),
            Kind::Email => parse_email(text).is_some(),
            Kind::Word => parse_word(text).is_some(),
            Kind::User => parse_user(text).is_some(),
            Kind::Path | Kind::Secret => !text.is_empty(),
            Kind::Time => parse_time(text).is_some(),
            Kind::Address => parse_address(text).is_some(),
            Kind::Servers => parse_servers(text).is_some(),
            Kind::Topic | Kind::Setting | Kind::Property => true,
        }
    }

    /// Whether a bare number or boolean of TOML may stand for the text; elsewhere it would lose digits (`007`, `1e5`).
    pub fn takes_bare_scalars(&self) -> bool {
        matches!(
            self,
            Kind::Whole { .. }
                | Kind::Replication
                | Kind::Number { .. }
                | Kind::Flag
                | Kind::Duration { .. }
                | Kind::Size { .. }
                | Kind::Setting
                | Kind::Property
        )
    }

    /// The value as a message may show it: what could be a password inside a URL is left out.
    pub fn shown(&self, text: &str) -> String {
        match self {
            Kind::Url(_) => shown_url(text),
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

fn is_loopback(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host
        .trim_start_matches('[')
        .trim_end_matches(']')
        .parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

/// What is allowed, as the end of an error message.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut with = |allowed: String, why: &str| match why {
            "" => write!(f, "{allowed}"),
            _ => write!(f, "{allowed} ({why})"),
        };
        match *self {
            Kind::Name => with("1 to 100 letters, digits, dots, underscores and hyphens".into(), ""),
            Kind::Whole {
                min,
                max: i64::MAX,
                why,
            } => with(format!("a whole number from {min}"), why),
            Kind::Whole { min, max, why } => with(format!("a whole number from {min} to {max}"), why),
            Kind::Number { min, below, why } => with(format!("a number from {min} to below {below}"), why),
            Kind::Replication => with(
                "-1 for the broker's default, or a whole number from 1 to 32767".into(),
                "",
            ),
            Kind::Flag => with("true or false".into(), ""),
            Kind::Duration { min, max, why } => {
                with(format!("a duration with its unit from \"{min}\" to \"{max}\""), why)
            }
            Kind::Size { min, max, why } => with(format!("a size with its unit from \"{min}\" to \"{max}\""), why),
            Kind::Url(UrlRule::Upstream) => with(
                "an https:// URL without credentials, query and fragment; http:// only to this machine".into(),
                "",
            ),
            Kind::Url(UrlRule::Registry) => with(
                "an http:// or https:// URL without query and fragment".into(),
                "credentials go to schema_registry.username and schema_registry.password_file",
            ),
            Kind::Url(UrlRule::Proxy) => with("an http:// or https:// URL of a host, without a path".into(), ""),
            Kind::Choice(names) => with(format!("\"{}\"", names.join("\" or \"")), ""),
            Kind::Extra => with("\"all\", \"none\" or the names of fields".into(), ""),
            Kind::Email => with("an e-mail address".into(), ""),
            Kind::Word => with("text without spaces, slashes and control characters".into(), ""),
            Kind::User => with("a user name without a colon and control characters".into(), ""),
            Kind::Path => with("the path of a file".into(), ""),
            Kind::Time => with("a time such as \"2026-01-01T00:00:00Z\"".into(), ""),
            Kind::Address => with("an IP address and a port such as \"127.0.0.1:8080\"".into(), ""),
            Kind::Servers => with("brokers as host:port, separated by commas".into(), ""),
            Kind::Topic => with("the name of a topic".into(), ""),
            Kind::Secret => with("text that is not empty, in quotes".into(), ""),
            Kind::Setting | Kind::Property => with("one text, number or boolean".into(), ""),
        }
    }
}

/// Finds a key by its parts; `None` when there is no such key. Answers its full dotted name too.
pub fn locate(parts: &[String]) -> Option<(String, &'static Key)> {
    let full = parts.join(".");
    if let Some(found) = KEYS.iter().find(|k| k.name == full) {
        return Some((full, found));
    }
    let found = KEYS.iter().find(|k| matches(k, parts, &full))?;
    Some((full, found))
}

fn matches(key: &Key, parts: &[String], full: &str) -> bool {
    if let Some(field) = key.name.strip_prefix("lenders.*.") {
        let [lenders, _, given] = parts else {
            return false;
        };
        return lenders == "lenders" && (given == field || key.has_file() && is_file_of(given, field));
    }
    if let Some(prefix) = key.name.strip_suffix('*') {
        let Some(rest) = full.strip_prefix(prefix).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        // Kafka's topic settings have a dot, all but one: a name without is a mistyped key of ours.
        return matches!(key.kind, Kind::Property) || rest.contains('.') || rest == "preallocate";
    }
    key.has_file() && is_file_of(full, key.name)
}

fn is_file_of(given: &str, secret: &str) -> bool {
    given.strip_suffix("_file") == Some(secret)
}

/// Whether this is the name of a table, which may be empty.
pub fn is_table(parts: &[String]) -> bool {
    if let [lenders, _] = parts
        && lenders == "lenders"
    {
        return true;
    }
    let start = format!("{}.", parts.join("."));
    KEYS.iter().any(|key| key.name.starts_with(&start))
}

/// The known key that looks most like this one.
pub fn nearest(parts: &[String]) -> String {
    let given = parts.join(".");
    let last = parts.last().map(String::as_str).unwrap_or_default();
    // What the operator chose freely is taken as it is, where the table around it is near enough.
    let free = |at: usize| {
        parts
            .get(at..)
            .filter(|rest| !rest.is_empty())
            .map_or("NAME".to_owned(), |r| r.join("."))
    };
    let lenders = parts.len() > 2 && strsim::osa_distance(&parts[0], "lenders") < 4;
    let lender = if lenders { parts[1].as_str() } else { "NAME" };
    let mut names = Vec::new();
    for key in KEYS {
        let name = match key.name.strip_suffix(".*") {
            Some(table) => format!("{table}.{}", free(table.matches('.').count() + 1)),
            None => key.name.replace('*', lender),
        };
        if name == given {
            continue;
        }
        if key.is_secret() {
            names.push(format!("{name}_file"));
        }
        // Whole tables too: a mistyped one may be empty.
        names.extend(name.match_indices('.').map(|(at, _)| name[..at].to_owned()));
        names.push(name);
    }
    // The right name in the wrong table counts as one slip.
    let distance = |name: &String| {
        let own = name.rsplit('.').next().unwrap_or_default();
        strsim::osa_distance(name, &given).min(strsim::osa_distance(own, last) + 2)
    };
    names.into_iter().min_by_key(distance).unwrap_or_default()
}

/// The table and the name in it. Names that are not ours (Kafka's) keep their dots.
pub fn split(full: &str) -> (String, String) {
    let levels = match full.split('.').collect::<Vec<_>>().as_slice() {
        ["kafka", "properties", ..] => 2,
        ["kafka", "topic_settings", ..] => 3,
        parts => parts.len() - 1,
    };
    let parts: Vec<&str> = full.splitn(levels + 1, '.').collect();
    let (name, table) = parts
        .split_last()
        .map_or(("", [].as_slice()), |(name, table)| (*name, table));
    (table.join("."), name.to_owned())
}
