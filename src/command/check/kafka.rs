//! Are the brokers there, the topics as they must be, and may the source do what it has to do? Nothing is written: the
//! transactional id `<name>.check` is claimed, which fences nobody, and no transaction is begun.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use super::ask::ask;
use super::authorization::authorization;
use super::cursors::cursors;
use super::finding::Notes;
use super::group::group;
use super::records::{WrittenSchema, records};
use crate::config::Config;
use crate::exit::{Diagnosis, Exit, Failure, chain};
use crate::kafka::{self, Cluster, REFUSED, Refusal, UNREACHABLE, code, transaction_timeout};
use crate::sink::{
    Brokers, InspectedTopic, Role, SinkError, TopicError, TopicState, UsableTopic, inspect_topics, try_transactional_id,
};

/// What to do about brokers that do not answer.
pub(super) const AWAY: &str = UNREACHABLE;

/// Looks at the cluster; `seen` gets the schemas of records that are there. Ends where nothing more can be known.
pub(super) async fn check(notes: &mut Notes, seen: &mut Vec<WrittenSchema>, config: &Config, limit: Duration) {
    let cluster = Cluster::new(config);
    let lenders: Vec<&str> = config.lenders.keys().map(String::as_str).collect();
    notes.doing("brokers");
    let (brokers, inspected) = match inspect_topics(&cluster, &config.kafka, &lenders, limit).await {
        Ok(found) => found,
        Err(error) => return away(notes, &error),
    };
    settings(notes, config, &brokers);
    let factors = factors(&inspected);
    let is_missing = |topic: &&InspectedTopic| matches!(topic.state, Ok(TopicState::Missing { .. }));
    let missing: Vec<String> = inspected
        .iter()
        .filter(is_missing)
        .map(|topic| topic.name.clone())
        .collect();
    let usable = topics(notes, config, inspected);
    replication(notes, &factors);
    notes.doing("authorization");
    let readable = authorization(
        notes,
        &cluster,
        &usable,
        config.kafka.create_topics && !missing.is_empty(),
    )
    .await;
    notes.doing("cursor records");
    cursors(notes, config, &cluster, &usable, &readable, &missing).await;
    notes.doing("group");
    group(notes, config, &cluster, &usable).await;
    notes.doing("transaction");
    transaction(notes, config, &cluster).await;
    notes.doing("records");
    records(notes, seen, &cluster, &readable).await;
}

/// No topic could be looked at. A broker that was reached and refuses says why through librdkafka's reports alone.
fn away(notes: &mut Notes, error: &TopicError) {
    let failure = Failure::of(error);
    let TopicError::Unreachable { last_reported, .. } = error else {
        return notes.failure(&failure, "brokers", "a client that can be set up");
    };
    // `run` may have come before the brokers' owner; whoever looks is to mend it.
    let (exit, what, wanted) = match last_reported.refusal() {
        Some(Refusal::Tls) => (Exit::Usage, "TLS", "TLS with a certificate that is trusted"),
        Some(Refusal::Credentials) => (Exit::Usage, "authentication", "credentials that the brokers accept"),
        Some(Refusal::TokenRefused) => (Exit::Usage, "authentication", "a token"),
        Some(Refusal::NoToken) => (Exit::Failed, "authentication", "a token"),
        None => (Exit::Failed, "brokers", "an answer"),
    };
    notes.error(exit, failure.code(), what, failure.text(), wanted, failure.advice());
}

/// What the brokers say of themselves.
fn settings(notes: &mut Notes, config: &Config, brokers: &Brokers) {
    let protocol = config.kafka.properties.get("security.protocol");
    let protocol = protocol.and_then(|protocol| protocol.plain()).unwrap_or("plaintext");
    let noun = if brokers.count == 1 { "broker" } else { "brokers" };
    notes.ok(
        "brokers",
        format!("{} {noun}, by {}", brokers.count, protocol.to_uppercase()),
    );
    let wanted = transaction_timeout().as_millis();
    let Some(settings) = &brokers.settings else {
        let found = format!(
            "transaction.max.timeout.ms and the broker's age are not shown without DESCRIBE_CONFIGS on the cluster; whether \
             {wanted} ms may be asked for, the transaction below tells"
        );
        return notes.ok("broker settings", found);
    };
    let most = settings
        .get("transaction.max.timeout.ms")
        .and_then(|text| text.parse::<u128>().ok());
    match most {
        Some(most) if most < wanted => {
            let advice = format!("raise it on every broker: transaction.max.timeout.ms={wanted}");
            let found = format!("transaction.max.timeout.ms is {most}");
            notes.error(
                Exit::Usage,
                REFUSED,
                "transaction time-out",
                found,
                format!("at least {wanted}"),
                advice,
            );
        }
        Some(most) => notes.ok(
            "transaction time-out",
            format!("transaction.max.timeout.ms is {most}, {wanted} is asked for"),
        ),
        None => {}
    }
    // Kafka 4 has no such setting any more.
    if let Some(version) = settings.get("inter.broker.protocol.version") {
        let found = format!("inter.broker.protocol.version is {version}");
        if is_before_3_7(version) {
            let advice = "upgrade the brokers when you can: later ones verify transactions (KIP-890), so that none is left hanging";
            notes.warning("broker version", found, "3.7 or later", advice);
        } else {
            notes.ok("broker version", found);
        }
    }
}

/// `version` as Kafka writes it: `3.6-IV2`, `2.8`.
fn is_before_3_7(version: &str) -> bool {
    let mut numbers = version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), minor) => (major, minor.unwrap_or(0)) < (3, 7),
        (None, _) => false,
    }
}

/// The topics that can be used, each with a line of its own.
fn topics(notes: &mut Notes, config: &Config, inspected: Vec<InspectedTopic>) -> Vec<UsableTopic> {
    let mut usable = Vec::new();
    for InspectedTopic { role, name, state } in inspected {
        let what = format!("topic {name}");
        match state {
            Ok(TopicState::Usable(checked)) => {
                if checked.warnings.is_empty() {
                    notes.ok(
                        &*what,
                        format!("{}, settings as wanted", partitions(checked.partition_count)),
                    );
                }
                for difference in &checked.warnings {
                    notes.warning(&*what, &*difference.found, &*difference.wanted, &*difference.advice);
                }
                usable.push(checked);
            }
            Ok(TopicState::Missing { partition_count, .. }) if config.kafka.create_topics => {
                let count = usize::try_from(partition_count).unwrap_or_default();
                notes.ok(&*what, format!("missing; `run` creates it with {}", partitions(count)));
            }
            Ok(TopicState::Missing { .. }) => {
                let advice = "run `d02-source setup`, or set kafka.create_topics = true; a topic that may not be described \
                              looks missing too";
                let found = "missing, and kafka.create_topics is off";
                notes.error(Exit::Usage, TopicError::MISSING, &*what, found, "the topic", advice);
            }
            Err(error) => {
                let (found, wanted) = unusable(&error, role);
                notes.error(error.exit(), error.code(), &*what, found, wanted, error.advice());
            }
        }
    }
    usable
}

fn partitions(count: usize) -> String {
    let noun = if count == 1 { "partition" } else { "partitions" };
    format!("{count} {noun}")
}

/// What is found and what is wanted instead, where the error says both at once.
fn unusable(error: &TopicError, role: Role) -> (String, String) {
    match error {
        TopicError::CleanupPolicy { found, .. } => (format!("cleanup.policy is {found}"), "exactly compact".to_owned()),
        TopicError::CleanupSetting { .. } | TopicError::SmallSetting { .. } => {
            (chain(error), format!("settings in {} that can be used", role.key()))
        }
        TopicError::Cluster(_)
        | TopicError::Unreachable { .. }
        | TopicError::Missing { .. }
        | TopicError::Kafka { .. }
        | TopicError::Denied { .. }
        | TopicError::NotReady { .. }
        | TopicError::NoSettings { .. }
        | TopicError::NoSetting { .. }
        | TopicError::TooSmall { .. } => (chain(error), "a topic that can be used".to_owned()),
    }
}

/// Each topic with its replication factor, or that with which it would be created, where it is known.
fn factors(inspected: &[InspectedTopic]) -> Vec<(String, Option<usize>)> {
    let factor = |topic: &InspectedTopic| match &topic.state {
        Ok(TopicState::Usable(checked)) => Some(checked.replication_factor),
        Ok(TopicState::Missing { replication_factor, .. }) => *replication_factor,
        Err(_) => None,
    };
    inspected
        .iter()
        .map(|topic| (topic.name.clone(), factor(topic)))
        .collect()
}

fn replication(notes: &mut Notes, factors: &[(String, Option<usize>)]) {
    let single: Vec<&str> = factors
        .iter()
        .filter(|(_, factor)| *factor == Some(1))
        .map(|(name, _)| name.as_str())
        .collect();
    if !single.is_empty() {
        let advice = "give them 3 replicas (kafka-reassign-partitions.sh; kafka.topic_settings.*.replication_factor where they \
                      are still to be created): with one, a broker that is lost takes what was acknowledged with it";
        let found = format!("1 for {}", single.join(", "));
        notes.warning("replication factor", found, "3, with min.insync.replicas 2", advice);
    } else if let Some(least) = factors.iter().filter_map(|(_, factor)| *factor).min() {
        notes.ok("replication factor", format!("{least} or more"));
    }
}

/// Whether the source may have a transaction, tried with an id that nobody uses.
async fn transaction(notes: &mut Notes, config: &Config, cluster: &Cluster) {
    let (id, cluster) = (format!("{}.check", config.name), cluster.clone());
    let tried = {
        let id = id.clone();
        ask(move |_| try_transactional_id(&cluster, &id)).await
    };
    let error = match tried {
        Ok(()) => return notes.ok("transaction", format!("{id} may be used as a transactional id")),
        Err(error) => SinkError::from(error),
    };
    let code = match &error {
        SinkError::Kafka(kafka::Error::Call { source, .. }) => code(source),
        _ => None,
    };
    let advice = match code {
        Some(RDKafkaErrorCode::InvalidTransactionTimeout) => {
            let wanted = transaction_timeout().as_millis();
            format!("raise it on every broker: transaction.max.timeout.ms={wanted}")
        }
        _ => error.advice().to_owned(),
    };
    notes.error(
        error.exit(),
        error.code(),
        "transaction",
        chain(&error),
        format!("WRITE on the transactional id {id}"),
        advice,
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn the_age_of_a_broker_is_read_from_its_protocol() {
        for (version, is_old) in [
            ("2.8", true),
            ("3.6-IV2", true),
            ("3.7-IV4", false),
            ("3.10", false),
            ("4.0-IV3", false),
            ("4", false),
            ("unknown", false),
        ] {
            assert_eq!(is_before_3_7(version), is_old, "{version}");
        }
    }

    #[test]
    fn a_broker_that_gives_a_transaction_too_little_time_is_an_error() {
        let config = crate::config::load(crate::config::Layers::default())
            .expect("the defaults")
            .config;
        let mut notes = Notes::new("kafka", None);
        let settings_of = |most: &str| Brokers {
            count: 3,
            settings: Some(BTreeMap::from([
                ("transaction.max.timeout.ms".to_owned(), most.to_owned()),
                ("inter.broker.protocol.version".to_owned(), "3.6-IV2".to_owned()),
            ])),
        };
        settings(&mut notes, &config, &settings_of("59999"));
        settings(&mut notes, &config, &settings_of("60000"));
        let text = super::super::finding::text(&notes.findings);
        assert!(
            text.contains("✗ kafka, transaction time-out: transaction.max.timeout.ms is 59999; wanted: at least 60000"),
            "{text}"
        );
        assert!(
            text.contains("✓ kafka, transaction time-out: transaction.max.timeout.ms is 60000"),
            "{text}"
        );
        assert!(
            text.contains("! kafka, broker version: inter.broker.protocol.version is 3.6-IV2"),
            "{text}"
        );
        assert_eq!(super::super::finding::exit(&notes.findings), Exit::Usage);
    }
}
