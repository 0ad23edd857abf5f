//! Do the values go together?

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::layers::Values;
use super::settings::{Config, Encoding, TopicNames};

/// The longest name of a topic that Kafka takes, in characters.
const TOPIC_NAME_MAX: usize = 249;

/// librdkafka properties that would break a promise, or that another key decides, with the reason. librdkafka's second
/// names for the same property stand here too.
const REFUSED: [(&str, &str); 23] = [
    ("acks", "fewer than all in-sync replicas can lose a committed record"),
    (
        "request.required.acks",
        "fewer than all in-sync replicas can lose a committed record",
    ),
    (
        "allow.auto.create.topics",
        "a topic that the broker creates by itself is not compacted",
    ),
    ("group.id", "the key for it is group.id"),
    ("group.instance.id", "the key for it is group.instance_id"),
    ("group.protocol", "the key for it is group.protocol"),
    ("session.timeout.ms", "the key for it is group.session_timeout"),
    (
        "partition.assignment.strategy",
        "an eager one takes all lenders from all processes at each change",
    ),
    ("bootstrap.servers", "the key for it is kafka.bootstrap_servers"),
    ("metadata.broker.list", "the key for it is kafka.bootstrap_servers"),
    (
        "delivery.report.only.error",
        "every delivery is counted before a commit",
    ),
    (
        "enable.auto.commit",
        "progress is committed with the records, never beside them",
    ),
    ("enable.idempotence", "without it records double and change order"),
    (
        "isolation.level",
        "a reader of uncommitted records would take aborted ones for progress",
    ),
    ("max.in.flight", "more than 5 would change the order of records"),
    (
        "max.in.flight.requests.per.connection",
        "more than 5 would change the order of records",
    ),
    (
        "message.timeout.ms",
        "a record that times out inside a transaction must fail the commit, not vanish",
    ),
    (
        "delivery.timeout.ms",
        "a record that times out inside a transaction must fail the commit, not vanish",
    ),
    (
        "partitioner",
        "another one than murmur2_random moves keys to other partitions",
    ),
    (
        "retry.backoff.ms",
        "a commit that takes longer is known to have been repeated by it",
    ),
    (
        "retry.backoff.max.ms",
        "a commit that takes longer is known to have been repeated by it",
    ),
    ("transaction.timeout.ms", "recovery waits by it"),
    (
        "transactional.id",
        "it is made of name and the lender's public id, and fences a second writer",
    ),
];

/// Why a librdkafka property is not the operator's to set.
pub(super) fn refusal(property: &str) -> Option<&'static str> {
    REFUSED
        .iter()
        .find(|(name, _)| *name == property)
        .map(|(_, reason)| *reason)
}

/// Holds the values against one another. What hangs on a value that was refused is not judged.
pub(super) fn together(config: &Config, values: &Values, errors: &mut Vec<ConfigError>) {
    let mut conflict = |key: &str, problem: String| {
        let key = key.to_owned();
        errors.push(ConfigError::Conflict {
            layer: layer_of(values, &key),
            key,
            problem,
        });
    };
    topics(config, &mut conflict);
    twins(config, &mut conflict);

    let given = |key: &str| values.is_given(key);
    let lacks = |key: &str| !given(key) && !values.incomplete;

    if config.avro.encoding == Encoding::Confluent && lacks("schema_registry.url") {
        conflict(
            "avro.encoding",
            "\"confluent\" needs schema_registry.url; \"single-object\" does without a registry".to_owned(),
        );
    }
    if values.entries.contains_key("schema_registry.username") && lacks("schema_registry.password") {
        conflict(
            "schema_registry.username",
            "it needs schema_registry.password_file".to_owned(),
        );
    }
    for form in ["schema_registry.password", "schema_registry.password_file"] {
        if values.entries.contains_key(form) && lacks("schema_registry.username") {
            conflict(form, "it needs schema_registry.username".to_owned());
        }
    }
    if values.entries.contains_key("schema_registry.username") && given("schema_registry.token") {
        let problem = "schema_registry.token is given as well: a request carries one of them".to_owned();
        conflict("schema_registry.username", problem);
    }
}

fn layer_of(values: &Values, key: &str) -> String {
    match values.entries.contains_key(key) {
        true => values.layer(key),
        false => values
            .lenders
            .get(key.trim_start_matches("lenders."))
            .cloned()
            .unwrap_or_else(|| values.layer(key)),
    }
}

/// Every name is one that Kafka takes, and no two of the four topics are one, whatever the lenders are called.
fn topics(config: &Config, conflict: &mut impl FnMut(&str, String)) {
    let mut taken: BTreeMap<String, (&str, String)> = BTreeMap::new();
    let mut lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    if lenders.is_empty() {
        lenders.push("lender");
    }
    let mut reported: Vec<&str> = Vec::new();
    for lender in lenders {
        let TopicNames {
            accounts,
            cursor,
            changes,
            dead_letters,
        } = config.kafka.topics.for_lender(lender);
        let named = [
            ("kafka.topics.accounts", Some(accounts)),
            ("kafka.topics.cursor", Some(cursor)),
            ("kafka.topics.changes", changes),
            ("kafka.topics.dead_letters", Some(dead_letters)),
        ];
        for (key, name) in named {
            let Some(name) = name else { continue };
            if reported.contains(&key) {
                continue;
            }
            let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            let length = name.chars().count();
            if length == 0 || length > TOPIC_NAME_MAX || !name.chars().all(fine) || name == "." || name == ".." {
                let allowed = "letters, digits, dots, underscores and hyphens, and {lender} for the lender's name";
                conflict(
                    key,
                    format!("{name:?} is no topic name; allowed are 1 to {TOPIC_NAME_MAX} {allowed}"),
                );
                reported.push(key);
                continue;
            }
            // Kafka's metrics cannot tell a dot from an underscore, and it refuses to create such a pair.
            let other = taken
                .entry(name.replace('_', "."))
                .or_insert_with(|| (key, name.clone()));
            if other.0 != key {
                conflict(
                    key,
                    format!("{name:?} is taken by {}: each topic needs a name of its own", other.0),
                );
                reported.push(key);
            }
        }
    }
}

/// No two lenders are the same one: they would write every account twice, and fence each other.
fn twins(config: &Config, conflict: &mut impl FnMut(&str, String)) {
    let mut ids: BTreeMap<String, &str> = BTreeMap::new();
    let mut logins: BTreeMap<(String, String), &str> = BTreeMap::new();
    for (key, lender) in &config.lenders {
        if let Some(id) = &lender.public_id {
            match ids.get(&id.to_lowercase()) {
                Some(other) => conflict(
                    &format!("lenders.{key}.public_id"),
                    format!("{id:?} is the one of lenders.{other}: a lender is read once"),
                ),
                None => drop(ids.insert(id.to_lowercase(), key)),
            }
        }
        let login = (lender.subdomain.to_lowercase(), lender.email.to_lowercase());
        match logins.get(&login) {
            Some(other) => conflict(
                &format!("lenders.{key}"),
                format!("subdomain and email are those of lenders.{other}: a lender is read once"),
            ),
            None => drop(logins.insert(login, key)),
        }
    }
}
