//! Which topics are wanted, and do those that are there differ from it? What is asked for against what is found, without a
//! broker.
//!
//! | Found | Then |
//! |---|---|
//! | no such topic | it is created, or an error |
//! | `accounts` or `cursor` not exactly compacted | an error: the log would lose what the promises rest on |
//! | any other difference | a warning, with the command that mends it |

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::topic_error::{MIN_MAX_MESSAGE, TopicError};
use crate::config::{self, TopicSetting};
use crate::exit::ErrorCode;

const CLEANUP_POLICY: &str = "cleanup.policy";
const COMPACT: &str = "compact";
const MAX_MESSAGE: &str = "max.message.bytes";
const MIN_INSYNC: &str = "min.insync.replicas";
const UNCLEAN_ELECTION: &str = "unclean.leader.election.enable";

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Accounts,
    Cursor,
    Changes,
    DeadLetters,
}

/// A topic that is there and can be used.
#[derive(Debug, Clone)]
pub(crate) struct UsableTopic {
    pub role: Role,
    pub name: String,
    /// Whether this call created it.
    pub created: bool,
    pub partition_count: usize,
    /// Of the partition that has the fewest replicas.
    pub replication_factor: usize,
    /// `max.message.bytes`.
    pub max_message: usize,
    /// `delete.retention.ms`.
    pub delete_retention: Duration,
    /// Differences from the wanted settings that do no harm to a promise.
    pub warnings: Vec<TopicDifference>,
}

/// How a topic differs from what is wanted, and what mends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicDifference {
    /// As a clause: "it has 3 partitions".
    pub found: String,
    pub wanted: String,
    pub advice: String,
    /// "is" or "are": what is wanted.
    verb: &'static str,
}

impl TopicDifference {
    pub(crate) const CODE: ErrorCode = ErrorCode::T10;
}

impl fmt::Display for TopicDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            found,
            wanted,
            advice,
            verb,
        } = self;
        write!(f, "{found}, wanted {verb} {wanted}; {advice}")
    }
}

/// The topics of one lender, with what each takes.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub accounts: Topic,
    pub cursor: Topic,
    /// `None`: the trail is turned off.
    pub changes: Option<Topic>,
    pub dead_letters: Topic,
}

/// One of them.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub name: String,
    pub partition_count: usize,
    /// `max.message.bytes`.
    pub max_message: usize,
    /// `delete.retention.ms`: how long a tombstone stays at least.
    pub delete_retention: Duration,
}

impl Topics {
    /// The topics of one lender among `checked`, which `ensure_topics` gave for this lender too.
    pub(crate) fn of(checked: &[UsableTopic], kafka: &config::Kafka, lender: &str) -> Self {
        let names = kafka.topics.for_lender(lender);
        let topic = |role: Role, name: &str| {
            let found = checked.iter().find(|topic| topic.role == role && topic.name == name);
            let found = found.expect("the topics of every lender were checked");
            Topic {
                name: found.name.clone(),
                partition_count: found.partition_count,
                max_message: found.max_message,
                delete_retention: found.delete_retention,
            }
        };
        Self {
            accounts: topic(Role::Accounts, &names.accounts),
            cursor: topic(Role::Cursor, &names.cursor),
            changes: names.changes.map(|name| topic(Role::Changes, &name)),
            dead_letters: topic(Role::DeadLetters, &names.dead_letters),
        }
    }

    /// How long the member `topic_ends` of the cursor record becomes at most, in bytes.
    pub(crate) fn ends_length(&self) -> usize {
        /// Of a topic beside its name and its partitions: brackets, a colon, a comma, quotes in a text of JSON.
        const TOPIC: usize = 8;
        /// The digits of an offset, and a comma.
        const OFFSET: usize = 20;
        let of_topic = |topic: &Topic| topic.name.len() + TOPIC + OFFSET * topic.partition_count;
        self.each().map(|(_, topic)| of_topic(topic)).sum()
    }

    /// Each of them, with what it is for.
    pub(super) fn each(&self) -> impl Iterator<Item = (Role, &Topic)> {
        let Self {
            accounts,
            cursor,
            changes,
            dead_letters,
        } = self;
        let changes = changes.iter().map(|changes| (Role::Changes, changes));
        [
            (Role::Accounts, accounts),
            (Role::Cursor, cursor),
            (Role::DeadLetters, dead_letters),
        ]
        .into_iter()
        .chain(changes)
    }

    /// What every topic takes that an account's row is written to, in bytes.
    pub(crate) fn largest_row(&self) -> usize {
        let accounts = self.accounts.max_message;
        self.changes
            .as_ref()
            .map_or(accounts, |changes| accounts.min(changes.max_message))
    }
}

/// A topic as it should be.
pub(super) struct TopicSpec<'a> {
    pub role: Role,
    pub name: String,
    pub setting: &'a TopicSetting,
}

/// A topic as it is.
#[derive(Debug, Default)]
pub(super) struct TopicDescription {
    pub partition_count: usize,
    /// Of the partition that has the fewest replicas.
    pub replication_factor: usize,
    pub settings: BTreeMap<String, String>,
}

/// The topics of `lenders`, each distinct name once.
pub(super) fn topic_specs<'a>(kafka: &'a config::Kafka, lenders: &[&str]) -> Vec<TopicSpec<'a>> {
    let mut specs: Vec<TopicSpec<'_>> = Vec::new();
    for lender in lenders {
        let names = kafka.topics.for_lender(lender);
        let settings = &kafka.topic_settings;
        for (role, name, setting) in [
            (Role::Accounts, Some(names.accounts), &settings.accounts),
            (Role::Cursor, Some(names.cursor), &settings.cursor),
            (Role::Changes, names.changes, &settings.changes),
            (Role::DeadLetters, Some(names.dead_letters), &settings.dead_letters),
        ] {
            let Some(name) = name else { continue };
            if !specs.iter().any(|topic| topic.role == role && topic.name == name) {
                specs.push(TopicSpec { role, name, setting });
            }
        }
    }
    specs
}

impl Role {
    /// Where its settings stand in the configuration.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Accounts => "kafka.topic_settings.accounts",
            Self::Cursor => "kafka.topic_settings.cursor",
            Self::Changes => "kafka.topic_settings.changes",
            Self::DeadLetters => "kafka.topic_settings.dead_letters",
        }
    }

    /// Whether the latest record of every key has to stay, and nothing else may go.
    pub(super) fn is_compacted(self) -> bool {
        match self {
            Self::Accounts | Self::Cursor => true,
            Self::Changes | Self::DeadLetters => false,
        }
    }
}

impl TopicSpec<'_> {
    /// What is asked for must be what can be used, before anything is created so.
    pub(super) fn check_settings(&self) -> Result<(), TopicError> {
        let setting = |name| self.setting.settings.get(name);
        if let Some(found) = setting(CLEANUP_POLICY).filter(|found| self.role.is_compacted() && *found != COMPACT) {
            let (key, found) = (self.role.key(), found.clone());
            return Err(TopicError::CleanupSetting { key, found });
        }
        match setting(MAX_MESSAGE).and_then(|size| size.parse().ok()) {
            Some(found) if found < MIN_MAX_MESSAGE => Err(TopicError::SmallSetting {
                key: self.role.key(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// The settings that it should have with `replication_factor` replicas, if that is known.
    pub(super) fn settings(&self, replication_factor: Option<usize>) -> BTreeMap<String, String> {
        let mut settings = self.setting.settings.clone();
        let mut default = |name: &str, value: &str| {
            settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        };
        // A replica that was not in sync lacks committed records: rather no leader than that one.
        default(UNCLEAN_ELECTION, "false");
        if replication_factor == Some(3) {
            // What is acknowledged survives the loss of a broker, and one may be away.
            default(MIN_INSYNC, "2");
        }
        if self.role.is_compacted() {
            default(CLEANUP_POLICY, COMPACT);
        }
        settings
    }

    /// The factor it is created with, if that is known: −1 is the broker's default.
    pub(super) fn replication_factor(&self, brokers_default: Option<usize>) -> Option<usize> {
        usize::try_from(self.setting.replication_factor)
            .ok()
            .or(brokers_default)
    }

    /// What `found` is, as far as the source can use it.
    pub(super) fn usable(
        &self,
        found: &TopicDescription,
        created: bool,
        servers: &str,
    ) -> Result<UsableTopic, TopicError> {
        Ok(UsableTopic {
            role: self.role,
            name: self.name.clone(),
            created,
            partition_count: found.partition_count,
            replication_factor: found.replication_factor,
            max_message: found.max_message(&self.name)?,
            delete_retention: found.delete_retention(),
            warnings: self.judge(found, servers)?,
        })
    }

    /// What differs and does no harm to a promise; what does is an error.
    fn judge(&self, found: &TopicDescription, servers: &str) -> Result<Vec<TopicDifference>, TopicError> {
        let mut warnings = Vec::new();
        warnings.extend(self.partition_warning(found, servers));
        warnings.extend(self.replication_warning(found));
        for (name, wanted) in self.settings(Some(found.replication_factor)) {
            let value = found.settings.get(&name);
            if value.is_some_and(|value| is_same(&name, value, &wanted)) {
                continue;
            }
            let shown = value.map_or("unknown to the broker", String::as_str);
            let command = self.alter_command(servers, &name, &wanted);
            if name == CLEANUP_POLICY && self.role.is_compacted() {
                let (topic, found) = (self.name.clone(), shown.to_owned());
                return Err(TopicError::CleanupPolicy {
                    topic,
                    found,
                    advice: format!("run: {command}"),
                });
            }
            warnings.push(TopicDifference {
                found: format!("{name} is {shown}"),
                wanted,
                advice: format!("to change it: {command}"),
                verb: "is",
            });
        }
        Ok(warnings)
    }

    /// Keys move when partitions are added, so that is for a topic without records.
    fn partition_warning(&self, found: &TopicDescription, servers: &str) -> Option<TopicDifference> {
        // The highest epoch and sequence of all partitions counts: a record of the cursor may stand in any of them.
        if self.role == Role::Cursor {
            return None;
        }
        let (count, wanted) = (found.partition_count, usize::try_from(self.setting.partitions).ok()?);
        let keep = format!("{}.partitions = {count}", self.role.key());
        let advice = match count.cmp(&wanted) {
            std::cmp::Ordering::Equal => return None,
            std::cmp::Ordering::Less => format!(
                "while it is empty: kafka-topics.sh --bootstrap-server {servers} --alter --topic {} --partitions {wanted}; \
                 later keys would move: set {keep}",
                self.name
            ),
            std::cmp::Ordering::Greater => format!("they cannot be taken away: set {keep}"),
        };
        Some(TopicDifference {
            found: format!("it has {count} partitions"),
            wanted: wanted.to_string(),
            advice,
            verb: "are",
        })
    }

    fn replication_warning(&self, found: &TopicDescription) -> Option<TopicDifference> {
        let (factor, wanted) = (found.replication_factor, self.replication_factor(None)?);
        (factor != wanted).then(|| TopicDifference {
            found: format!("its replication factor is {factor}"),
            wanted: wanted.to_string(),
            advice: format!(
                "to change it: kafka-reassign-partitions.sh with {wanted} replicas for every partition, or set \
                 {}.replication_factor = {factor}",
                self.role.key()
            ),
            verb: "is",
        })
    }

    fn alter_command(&self, servers: &str, name: &str, value: &str) -> String {
        let value = if value.contains(',') {
            format!("'[{value}]'")
        } else {
            value.to_owned()
        };
        format!(
            "kafka-configs.sh --bootstrap-server {servers} --alter --entity-type topics --entity-name {} --add-config \
             {name}={value}",
            self.name
        )
    }
}

impl TopicDescription {
    fn max_message(&self, topic: &str) -> Result<usize, TopicError> {
        let topic = topic.to_owned();
        match self.settings.get(MAX_MESSAGE).and_then(|value| value.parse().ok()) {
            None => Err(TopicError::NoSetting {
                topic,
                setting: MAX_MESSAGE,
            }),
            Some(found) if found < MIN_MAX_MESSAGE => Err(TopicError::TooSmall { topic, found }),
            Some(found) => Ok(found),
        }
    }

    /// Kafka's default where the broker does not say.
    fn delete_retention(&self) -> Duration {
        const DAY: u64 = 24 * 60 * 60 * 1000;
        let setting = self.settings.get("delete.retention.ms");
        Duration::from_millis(setting.and_then(|value| value.parse().ok()).unwrap_or(DAY))
    }
}

/// Whether two spellings mean the same: Kafka answers `0.5` for `0.50`, and a list in any order.
fn is_same(name: &str, one: &str, other: &str) -> bool {
    fn parsed<T: std::str::FromStr>(one: &str, other: &str) -> Option<(T, T)> {
        Some((one.trim().parse().ok()?, other.trim().parse().ok()?))
    }
    fn list(text: &str) -> Vec<&str> {
        let mut items: Vec<_> = text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect();
        items.sort_unstable();
        items
    }
    if name == CLEANUP_POLICY {
        return list(one) == list(other);
    }
    if let Some((one, other)) = parsed::<i64>(one, other) {
        return one == other;
    }
    if let Some((one, other)) = parsed::<f64>(one, other) {
        return one == other;
    }
    one.trim().eq_ignore_ascii_case(other.trim())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Diagnosis;
    use crate::exit::Exit;

    const SERVERS: &str = "localhost:9092";

    fn setting(partitions: i32, replication_factor: i32, settings: &[(&str, &str)]) -> TopicSetting {
        TopicSetting {
            partitions,
            replication_factor,
            settings: map(settings),
        }
    }

    fn map(settings: &[(&str, &str)]) -> BTreeMap<String, String> {
        settings
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn accounts(setting: &TopicSetting) -> TopicSpec<'_> {
        TopicSpec {
            role: Role::Accounts,
            name: "d02.accounts".to_owned(),
            setting,
        }
    }

    fn found(partition_count: usize, replication_factor: usize, settings: &[(&str, &str)]) -> TopicDescription {
        let mut settings = map(settings);
        settings
            .entry(CLEANUP_POLICY.to_owned())
            .or_insert_with(|| COMPACT.to_owned());
        settings
            .entry(UNCLEAN_ELECTION.to_owned())
            .or_insert_with(|| "false".to_owned());
        TopicDescription {
            partition_count,
            replication_factor,
            settings,
        }
    }

    #[track_caller]
    fn warnings(setting: &TopicSetting, found: &TopicDescription) -> Vec<String> {
        texts(&accounts(setting).judge(found, SERVERS).expect("usable"))
    }

    fn texts(differences: &[TopicDifference]) -> Vec<String> {
        differences.iter().map(TopicDifference::to_string).collect()
    }

    #[test]
    fn a_topic_as_wanted_gives_no_warning_however_its_values_are_spelt() {
        let wanted = setting(
            6,
            -1,
            &[
                ("min.cleanable.dirty.ratio", "0.50"),
                ("preallocate", "True"),
                ("segment.ms", "007"),
            ],
        );
        let is = [
            ("min.cleanable.dirty.ratio", "0.5"),
            ("preallocate", "true"),
            ("segment.ms", "7"),
        ];
        assert_eq!(warnings(&wanted, &found(6, 1, &is)), [""; 0]);
        assert!(is_same(CLEANUP_POLICY, "delete,compact", "compact, delete"));
        assert!(!is_same("segment.ms", "9007199254740993", "9007199254740992"));
    }

    #[test]
    fn another_cleanup_policy_is_an_error_with_the_command_that_mends_it() {
        let wanted = setting(6, -1, &[]);
        for policy in ["delete", "compact,delete"] {
            let error = accounts(&wanted).judge(&found(6, 1, &[(CLEANUP_POLICY, policy)]), SERVERS);
            let error = error.expect_err("must be compacted");
            let text = format!("topic d02.accounts: cleanup.policy is {policy}, it must be exactly compact");
            assert_eq!(error.to_string(), text);
            assert_eq!(
                error.advice(),
                "run: kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name \
                 d02.accounts --add-config cleanup.policy=compact"
            );
            assert_eq!(error.exit(), Exit::Usage);
        }
    }

    #[test]
    fn the_configuration_cannot_ask_for_another_cleanup_policy() {
        let asked = setting(6, -1, &[(CLEANUP_POLICY, "compact,delete")]);
        let error = accounts(&asked).check_settings().expect_err("must be compacted");
        assert_eq!(
            error.to_string(),
            "kafka.topic_settings.accounts.\"cleanup.policy\" is compact,delete, but it can only be compact"
        );
        let letters = TopicSpec {
            role: Role::DeadLetters,
            ..accounts(&asked)
        };
        assert!(letters.check_settings().is_ok());
    }

    #[test]
    fn dead_letters_may_be_cleaned_as_one_likes() {
        let wanted = setting(1, -1, &[(CLEANUP_POLICY, "delete")]);
        let letters = TopicSpec {
            role: Role::DeadLetters,
            name: "d02.dead".to_owned(),
            setting: &wanted,
        };
        let warnings = texts(&letters.judge(&found(1, 1, &[]), SERVERS).expect("usable"));
        assert_eq!(
            warnings,
            [
                "cleanup.policy is compact, wanted is delete; to change it: kafka-configs.sh --bootstrap-server \
              localhost:9092 --alter --entity-type topics --entity-name d02.dead --add-config cleanup.policy=delete"
            ]
        );
    }

    #[test]
    fn other_differences_are_warnings_with_what_mends_them() {
        let wanted = setting(6, 3, &[("delete.retention.ms", "604800000"), ("made.up", "a,b")]);
        let configs = [
            ("delete.retention.ms", "86400000"),
            (MIN_INSYNC, "1"),
            (UNCLEAN_ELECTION, "true"),
        ];
        let command = "kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name \
                       d02.accounts --add-config";
        assert_eq!(
            warnings(&wanted, &found(3, 3, &configs)),
            [
                "it has 3 partitions, wanted are 6; while it is empty: kafka-topics.sh --bootstrap-server localhost:9092 \
                 --alter --topic d02.accounts --partitions 6; later keys would move: set \
                 kafka.topic_settings.accounts.partitions = 3"
                    .to_owned(),
                format!(
                    "delete.retention.ms is 86400000, wanted is 604800000; to change it: {command} \
                     delete.retention.ms=604800000"
                ),
                format!("made.up is unknown to the broker, wanted is a,b; to change it: {command} made.up='[a,b]'"),
                format!("min.insync.replicas is 1, wanted is 2; to change it: {command} min.insync.replicas=2"),
                format!(
                    "unclean.leader.election.enable is true, wanted is false; to change it: {command} \
                     unclean.leader.election.enable=false"
                ),
            ]
        );
        let wanted = setting(6, 3, &[]);
        assert_eq!(
            warnings(&wanted, &found(12, 2, &[])),
            [
                "it has 12 partitions, wanted are 6; they cannot be taken away: set \
                 kafka.topic_settings.accounts.partitions = 12",
                "its replication factor is 2, wanted is 3; to change it: kafka-reassign-partitions.sh with 3 replicas for \
                 every partition, or set kafka.topic_settings.accounts.replication_factor = 2",
            ]
        );
    }

    #[test]
    fn two_replicas_in_sync_are_wanted_where_there_are_three_unless_the_operator_chose() {
        let min_insync = |factor: i32, brokers_default: Option<usize>, settings: &[(&str, &str)]| {
            let wanted = setting(6, factor, settings);
            let topic = accounts(&wanted);
            let settings = topic.settings(topic.replication_factor(brokers_default));
            assert_eq!(settings[UNCLEAN_ELECTION], "false");
            assert_eq!(settings[CLEANUP_POLICY], COMPACT);
            settings.get(MIN_INSYNC).cloned()
        };
        assert_eq!(min_insync(3, None, &[]).as_deref(), Some("2"));
        assert_eq!(min_insync(-1, Some(3), &[]).as_deref(), Some("2"));
        assert_eq!(min_insync(-1, Some(1), &[]), None);
        assert_eq!(min_insync(-1, None, &[]), None);
        assert_eq!(min_insync(1, Some(3), &[]), None);
        assert_eq!(min_insync(3, Some(3), &[(MIN_INSYNC, "1")]).as_deref(), Some("1"));
    }

    #[test]
    fn a_setting_of_the_operator_stands_over_ours() {
        let wanted = setting(6, -1, &[(UNCLEAN_ELECTION, "true")]);
        assert_eq!(accounts(&wanted).settings(None)[UNCLEAN_ELECTION], "true");
    }
}
