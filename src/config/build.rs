//! Turns the values that count into a [`Config`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use secrecy::SecretString;

use super::error::ConfigError;
use super::layers::{GivenValue, Values};
use super::settings::{
    Avro, BadField, Changes, Config, ContentRules, Encoding, Errors, Group, GroupMode, GroupProtocol, Http, Kafka,
    Lender, Memory, SchemaRegistry, StandbyMode, SubjectStrategy, Tolerance, TopicNames, TopicSetting, TopicSettings,
    Transaction, Upstream,
};
use super::values::{
    Property, Proxy, SecretSource, is_secret_property, parse_address, parse_duration, parse_email, parse_extra,
    parse_flag, parse_ignored, parse_name, parse_path, parse_servers, parse_size, parse_time, parse_url, parse_user,
    parse_word,
};
use super::{oauth, validate};
use crate::account::AmountTolerance;

pub(super) fn build(values: &Values, errors: &mut Vec<ConfigError>) -> Config {
    let mut properties = properties(values, errors);
    let oauth = oauth::take(&mut properties, values, errors);
    Config {
        name: values.need("name", parse_name),
        upstream: Upstream {
            base_url: values.need("upstream.base_url", parse_url),
            page_size: values.need("upstream.page_size", number),
            poll_interval: values.need("upstream.poll_interval", parse_duration),
            request_timeout: values.need("upstream.request_timeout", parse_duration),
            max_body: values.need("upstream.max_body", parse_size),
            late_window: values.need("upstream.late_window", parse_duration),
            late_sweep_interval: values.need("upstream.late_sweep_interval", parse_duration),
            backlog: values.need("upstream.backlog", parse_duration),
            snapshot_parallelism: values.need("upstream.snapshot_parallelism", number),
            max_requests_per_second: values.get("upstream.max_requests_per_second", number),
            ca_file: values.get("upstream.ca_file", parse_path),
            proxy: values.get("upstream.proxy", parse_url).map(Proxy),
            reconcile_interval: values.get("upstream.reconcile_interval", parse_duration),
            reconcile_max_deletes: values.need("upstream.reconcile_max_deletes", number),
        },
        lenders: lenders(values, errors),
        kafka: Kafka {
            bootstrap_servers: values.need("kafka.bootstrap_servers", parse_servers),
            create_topics: values.need("kafka.create_topics", parse_flag),
            topics: TopicNames {
                accounts: values.need("kafka.topics.accounts", text),
                cursor: values.need("kafka.topics.cursor", text),
                changes: values.get("kafka.topics.changes", text).filter(|name| !name.is_empty()),
                dead_letters: values.need("kafka.topics.dead_letters", text),
            },
            topic_settings: TopicSettings {
                accounts: topic_setting(values, "accounts"),
                cursor: topic_setting(values, "cursor"),
                changes: topic_setting(values, "changes"),
                dead_letters: topic_setting(values, "dead_letters"),
            },
            properties,
            oauth,
        },
        group: Group {
            mode: values.need("group.mode", |text| match text {
                "shared" => Some(GroupMode::Shared),
                "single" => Some(GroupMode::Single),
                _ => None,
            }),
            id: values.get("group.id", parse_name),
            protocol: values.need("group.protocol", |text| match text {
                "classic" => Some(GroupProtocol::Classic),
                "consumer" => Some(GroupProtocol::Consumer),
                _ => None,
            }),
            session_timeout: values.need("group.session_timeout", parse_duration),
            standby: values.need("group.standby", |text| match text {
                "warm" => Some(StandbyMode::Warm),
                "cold" => Some(StandbyMode::Cold),
                _ => None,
            }),
            instance_id: values.get("group.instance_id", parse_name),
        },
        memory: Memory {
            in_flight: values.need("memory.in_flight", parse_size),
        },
        transaction: Transaction {
            max_rows: values.need("transaction.max_rows", number),
            max_delay: values.need("transaction.max_delay", parse_duration),
            heartbeat_interval: values.need("transaction.heartbeat_interval", parse_duration),
        },
        content: ContentRules {
            ignore: values.need("content.ignore", parse_ignored),
        },
        avro: Avro {
            encoding: values.need("avro.encoding", |text| match text {
                "confluent" => Some(Encoding::Confluent),
                "single-object" => Some(Encoding::SingleObject),
                _ => None,
            }),
            subject_strategy: values.need("avro.subject_strategy", |text| match text {
                "topic-name" => Some(SubjectStrategy::TopicName),
                "record-name" => Some(SubjectStrategy::RecordName),
                "topic-record-name" => Some(SubjectStrategy::TopicRecordName),
                _ => None,
            }),
            extra: values.need("avro.extra", parse_extra),
        },
        schema_registry: SchemaRegistry {
            url: values.get("schema_registry.url", parse_url),
            auto_register: values.need("schema_registry.auto_register", parse_flag),
            username: values.get("schema_registry.username", parse_user),
            password: secret(values, "schema_registry.password", errors),
            token: secret(values, "schema_registry.token", errors),
            ca_file: values.get("schema_registry.ca_file", parse_path),
        },
        changes: Changes {
            initial: values.need("changes.initial", parse_flag),
        },
        errors: Errors {
            tolerance: values.need("errors.tolerance", |text| match text {
                "all" => Some(Tolerance::All),
                "none" => Some(Tolerance::None),
                _ => None,
            }),
            bad_field: values.need("errors.bad_field", |text| match text {
                "null" => Some(BadField::Null),
                "dead-letter" => Some(BadField::DeadLetter),
                _ => None,
            }),
            amount_tolerance: values.need("errors.amount_tolerance", AmountTolerance::parse),
            max_dead_letters_per_hour: values.get("errors.max_dead_letters_per_hour", |text| {
                // By way of the type that its kind checks: "-0" is a whole number too.
                number::<i64>(text).and_then(|count| u64::try_from(count).ok())
            }),
        },
        http: Http {
            listen: values.get("http.listen", parse_address),
            token: secret(values, "http.token", errors),
            stale_after: values.need("http.stale_after", parse_duration),
        },
    }
}

fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.parse().ok()
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// Lenders that are complete; what another one lacks becomes an error.
fn lenders(values: &Values, errors: &mut Vec<ConfigError>) -> BTreeMap<String, Lender> {
    let mut lenders = BTreeMap::new();
    for (key, layer) in &values.lenders {
        let name = |field: &str| format!("lenders.{key}.{field}");
        let email = values.get(&name("email"), parse_email);
        let password = secret(values, &name("password"), errors);
        for (field, wanted) in [
            ("email", "the login at upstream"),
            ("password", "password_file or password"),
        ] {
            if !values.is_given(&name(field)) && !values.incomplete {
                errors.push(ConfigError::Missing {
                    key: name(field),
                    layer: layer.clone(),
                    wanted,
                });
            }
        }
        let (Some(email), Some(password)) = (email, password) else {
            continue;
        };
        let subdomain = values
            .get(&name("subdomain"), parse_word)
            .unwrap_or_else(|| key.clone());
        let public_id = values.get(&name("public_id"), parse_word);
        let start_from = values.get(&name("start_from"), parse_time);
        lenders.insert(
            key.clone(),
            Lender {
                email,
                password,
                subdomain,
                public_id,
                start_from,
            },
        );
    }
    lenders
}

/// The secret under `name` or `name_file`; both is an error.
fn secret(values: &Values, name: &str, errors: &mut Vec<ConfigError>) -> Option<SecretSource> {
    let file = values.entries.get(&format!("{name}_file"));
    match (values.entries.get(name), file) {
        (Some(inline), Some(file)) => {
            errors.push(both_given(name, inline, file));
            None
        }
        (Some(inline), None) => Some(SecretSource::Inline(SecretString::from(inline.text.as_str()))),
        (None, file) => file.map(|file| SecretSource::File(PathBuf::from(&file.text))),
    }
}

fn both_given(name: &str, inline: &GivenValue, file: &GivenValue) -> ConfigError {
    ConfigError::BothGiven {
        key: name.to_owned(),
        layer: inline.layer.clone(),
        file_layer: file.layer.clone(),
    }
}

fn topic_setting(values: &Values, topic: &str) -> TopicSetting {
    let prefix = format!("kafka.topic_settings.{topic}.");
    let ours = |name: &str| matches!(name, "partitions" | "replication_factor");
    let settings = values.entries.iter().filter_map(|(name, entry)| {
        let name = name.strip_prefix(&prefix).filter(|name| !ours(name))?;
        Some((name.to_owned(), entry.text.clone()))
    });
    TopicSetting {
        partitions: values.need(&format!("{prefix}partitions"), number),
        replication_factor: values.need(&format!("{prefix}replication_factor"), number),
        settings: settings.collect(),
    }
}

fn properties(values: &Values, errors: &mut Vec<ConfigError>) -> BTreeMap<String, Property> {
    let mut properties = BTreeMap::new();
    for (full, entry) in &values.entries {
        let Some(given) = full.strip_prefix("kafka.properties.") else {
            continue;
        };
        let name = given.strip_suffix("_file").unwrap_or(given);
        if let Some(reason) = validate::refusal(name) {
            let (property, layer) = (given.to_owned(), entry.layer.clone());
            errors.push(ConfigError::RefusedProperty {
                property,
                layer,
                reason,
            });
            continue;
        }
        let inline = values.entries.get(&format!("kafka.properties.{name}"));
        if let (true, Some(inline)) = (entry.is_file, inline) {
            errors.push(both_given(&format!("kafka.properties.{name}"), inline, entry));
            continue;
        }
        let property = if entry.is_file {
            Property::Secret(SecretSource::File(PathBuf::from(&entry.text)))
        } else if is_secret_property(name) {
            Property::Secret(SecretSource::Inline(SecretString::from(entry.text.as_str())))
        } else {
            Property::Plain(entry.text.clone())
        };
        properties.insert(name.to_owned(), property);
    }
    properties
}
