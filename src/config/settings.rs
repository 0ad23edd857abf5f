//! What did the operator ask for?
//!
//! [`load`] turns files, variables and `--set` into one typed [`Config`], or into every error at once. `keys` is the
//! table of all keys; `layers` says where a value comes from and which one counts; `values` reads one value from its
//! text and keeps secrets; `validate` holds values against one another; `show` prints the result.
//!
//! Defaults stand in the table; the reason for each stands at its field below.

mod error;
mod keys;
mod layers;
mod oauth;
mod show;
mod validate;
mod values;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::Url;
use secrecy::SecretString;

pub use crate::account::Extra;
pub use error::{ConfigError, ConfigErrors};
pub use layers::{Layers, process_environment};
pub use oauth::{OAuth, token_endpoint};
pub use show::Effective;
pub use values::{Property, SecretError, SecretSource, hide};

use crate::account::{AmountTolerance, Rules};
use layers::{Entry, Values};
use values::{
    is_secret_property, parse_address, parse_duration, parse_email, parse_extra, parse_flag, parse_name, parse_path,
    parse_servers, parse_size, parse_time, parse_url, parse_user, parse_word, shown_url,
};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this source is: the prefix of every `transactional.id` and a part of the cursor's key. Another name starts
    /// from the beginning, and an old instance under the old one is not fenced.
    pub name: String,
    pub upstream: Upstream,
    /// By the name that the operator gave; it stands in logs, labels and the cursor's key.
    pub lenders: BTreeMap<String, Lender>,
    pub kafka: Kafka,
    pub transaction: Transaction,
    pub avro: Avro,
    pub schema_registry: SchemaRegistry,
    pub changes: Changes,
    pub errors: Errors,
    pub http: Http,
}

/// The Exports API and how hard to pull at it.
#[derive(Clone)]
pub struct Upstream {
    /// `https`, or `http` to this machine only: the login sends a password.
    pub base_url: Url,
    /// Rows a request. 1000 is the most upstream gives; fewer only mean more requests.
    pub page_size: u16,
    /// From the beginning of one poll to the next. 5 s: an empty poll is cheap, and nobody calls a borrower sooner.
    pub poll_interval: Duration,
    /// From sending to the last byte. 60 s: above the proxy's own limit, so that its 504 is seen and halves the page.
    pub request_timeout: Duration,
    /// Bytes of one answer after decompression. 64 MiB: a page of 1000 rows has about 0.7 MB, a runaway one is stopped.
    pub max_body: u64,
    /// How long after its `updated_at` a row may still become visible. 10 min: far beyond any replica's lag.
    pub late_window: Duration,
    /// Pause between two sweeps for late rows. 1 min: a tenth of the window.
    pub late_sweep_interval: Duration,
    /// Ranges of the snapshot read side by side. 4: the round trip hides behind the others, the vendor hardly notices.
    pub snapshot_parallelism: usize,
    /// Requests a second of one lender, logins included; no limit by default.
    pub max_requests_per_second: Option<f64>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
    /// Used for upstream only. May hold a user name and a password: print it with care.
    pub proxy: Option<Url>,
    /// Pause between two full re-reads; none by default, a re-read costs as much as a snapshot.
    pub reconcile_interval: Option<Duration>,
    /// The largest share of the accounts that a re-read may delete. 0.05: an upstream that shows half of them is wrong.
    pub reconcile_max_deletes: f64,
}

/// By hand for the proxy's password alone; the pattern makes a new field show up here.
impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Upstream {
            base_url,
            page_size,
            poll_interval,
            request_timeout,
            max_body,
            late_window,
            late_sweep_interval,
            snapshot_parallelism,
            max_requests_per_second,
            ca_file,
            proxy,
            reconcile_interval,
            reconcile_max_deletes,
        } = self;
        f.debug_struct("Upstream")
            .field("base_url", &base_url.as_str())
            .field("page_size", page_size)
            .field("poll_interval", poll_interval)
            .field("request_timeout", request_timeout)
            .field("max_body", max_body)
            .field("late_window", late_window)
            .field("late_sweep_interval", late_sweep_interval)
            .field("snapshot_parallelism", snapshot_parallelism)
            .field("max_requests_per_second", max_requests_per_second)
            .field("ca_file", ca_file)
            .field("proxy", &proxy.as_ref().map(|url| shown_url(url.as_str())))
            .field("reconcile_interval", reconcile_interval)
            .field("reconcile_max_deletes", reconcile_max_deletes)
            .finish()
    }
}

/// One lender: whose accounts to read.
#[derive(Debug, Clone)]
pub struct Lender {
    pub email: String,
    pub password: SecretSource,
    /// The part of the login path that names the lender; the lender's key by default.
    pub subdomain: String,
    /// The UUID of the export path. The login answers it; if given here, the two must match.
    pub public_id: Option<String>,
    /// Older rows are ignored unless their key is known; everything by default.
    pub start_from: Option<DateTime<Utc>>,
}

/// The cluster and what is ours in it.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, comma separated, without spaces.
    pub bootstrap_servers: String,
    /// Whether `run` creates missing topics. On: a topic that the broker creates by itself is not compacted.
    pub create_topics: bool,
    pub topics: Topics,
    pub topic_settings: TopicSettings,
    /// For librdkafka as they are; those that would break a promise were refused.
    pub properties: BTreeMap<String, Property>,
    /// Where `properties` ask for OAUTHBEARER.
    pub oauth: Option<OAuth>,
}

/// The names of the topics. `{lender}` in one stands for the lender's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    pub accounts: String,
    pub cursor: String,
    /// `None` turns the trail off.
    pub changes: Option<String>,
    pub dead_letters: String,
}

impl Topics {
    /// The names for one lender.
    pub fn for_lender(&self, key: &str) -> Topics {
        let name = |pattern: &String| pattern.replace("{lender}", key);
        Topics {
            accounts: name(&self.accounts),
            cursor: name(&self.cursor),
            changes: self.changes.as_ref().map(name),
            dead_letters: name(&self.dead_letters),
        }
    }
}

/// How a missing topic is created, one by one.
#[derive(Debug, Clone)]
pub struct TopicSettings {
    pub accounts: TopicSetting,
    pub cursor: TopicSetting,
    pub changes: TopicSetting,
    pub dead_letters: TopicSetting,
}

/// How one missing topic is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    /// 6 for the topics that carry rows, 1 for the others. It can never change later: keys would move.
    pub partitions: i32,
    /// −1 is the broker's default.
    pub replication_factor: i32,
    /// By Kafka's names, the operator's over the built-in ones. `min.insync.replicas` is here only if the operator set
    /// it: it depends on the factor that the broker answers.
    pub settings: BTreeMap<String, String>,
}

/// How much goes into one Kafka transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Rows. 20,000: the commit is then a few per cent of the time, and a reader of `read_committed` waits 60 ms.
    pub max_rows: usize,
    /// How long decided rows wait for more before they are committed. 500 ms.
    pub max_delay: Duration,
    /// How often an idle lender commits its cursor alone. 1 min: three of them are how long a dead instance looks alive.
    pub heartbeat_interval: Duration,
}

/// How a record's value is written.
#[derive(Debug, Clone)]
pub struct Avro {
    pub encoding: Encoding,
    pub subject_strategy: SubjectStrategy,
    /// Which members without a field of their own pass. All: a field the vendor adds tomorrow is in Kafka tomorrow.
    pub extra: Extra,
}

/// What stands before the Avro bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `0x00` and a schema id; needs a registry.
    Confluent,
    /// `0xC3 0x01` and a fingerprint. Has to be asked for, so that a forgotten registry never fills a topic with it.
    SingleObject,
}

/// How a schema's subject is named, as Confluent's serialisers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStrategy {
    /// `<topic>-value`, the default of every client.
    TopicName,
    RecordName,
    TopicRecordName,
}

/// The schema registry.
#[derive(Debug, Clone)]
pub struct SchemaRegistry {
    /// May have a path; always there with [`Encoding::Confluent`].
    pub url: Option<Url>,
    /// Whether `run` registers a missing schema.
    pub auto_register: bool,
    /// For HTTP basic authentication, with `password`.
    pub username: Option<String>,
    pub password: Option<SecretSource>,
    /// A bearer token, instead of user name and password.
    pub token: Option<SecretSource>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// The trail of changes.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Whether every account of the snapshot gets an opening record, so that a trail has a beginning.
    pub initial: bool,
}

/// What happens to a row that does not fit.
#[derive(Debug, Clone)]
pub struct Errors {
    pub tolerance: Tolerance,
    pub bad_field: BadField,
    /// How far an amount may be from a whole number of minor units and still count as that. 0: never.
    pub amount_tolerance: AmountTolerance,
    /// What would be more within an hour stops the lender; no limit by default.
    pub max_dead_letters_per_hour: Option<u64>,
}

/// Whether a dead letter stops its lender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Go on: one odd row does not hold back the others.
    All,
    /// Stop at the first.
    None,
}

/// What an unreadable field, other than an amount, makes of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadField {
    /// The field is null and its text stands in `extra`: one odd field does not hold back a due date.
    Null,
    DeadLetter,
}

/// Health and metrics over HTTP.
#[derive(Debug, Clone)]
pub struct Http {
    /// `None`: no HTTP.
    pub listen: Option<SocketAddr>,
    /// Asked for by all but health and metrics, unless `listen` is loopback.
    pub token: Option<SecretSource>,
    /// How long a lender may stand still and be called ready. 5 min: above every back-off.
    pub stale_after: Duration,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every value that counts and where it came from, secrets already left out: for `config show`.
    pub effective: Vec<Effective>,
}

/// Reads all layers. No error, warning or effective value holds a secret.
pub fn load(layers: Layers) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let values = layers::merge(layers, &mut errors);
    let config = build(&values, &mut errors);
    validate::together(&config, &values, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    Ok(Loaded {
        effective: show::effective(&config, &values),
        config,
    })
}

/// `http.listen`, of layers that lack everything else: a health check knows the environment of its container alone.
pub fn http_listen(layers: Layers) -> Result<Option<SocketAddr>, ConfigErrors> {
    let mut errors = Vec::new();
    let values = layers::merge(layers, &mut errors);
    if values.incomplete || values.refused.contains("http.listen") {
        return Err(ConfigErrors(errors));
    }
    Ok(values.get("http.listen", parse_address))
}

impl Config {
    /// What the operator decided about rows.
    pub fn rules(&self) -> Rules {
        Rules {
            amount_tolerance: self.errors.amount_tolerance.clone(),
            rejects_bad_fields: match self.errors.bad_field {
                BadField::Null => false,
                BadField::DeadLetter => true,
            },
            extra: self.avro.extra.clone(),
        }
    }

    /// For the commands that cannot do without a lender.
    pub fn require_lenders(&self) -> Result<(), ConfigErrors> {
        if !self.lenders.is_empty() {
            return Ok(());
        }
        Err(ConfigErrors(vec![ConfigError::NoLender]))
    }
}

fn build(values: &Values, errors: &mut Vec<ConfigError>) -> Config {
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
            snapshot_parallelism: values.need("upstream.snapshot_parallelism", number),
            max_requests_per_second: values.get("upstream.max_requests_per_second", number),
            ca_file: values.get("upstream.ca_file", parse_path),
            proxy: values.get("upstream.proxy", parse_url),
            reconcile_interval: values.get("upstream.reconcile_interval", parse_duration),
            reconcile_max_deletes: values.need("upstream.reconcile_max_deletes", number),
        },
        lenders: lenders(values, errors),
        kafka: Kafka {
            bootstrap_servers: values.need("kafka.bootstrap_servers", parse_servers),
            create_topics: values.need("kafka.create_topics", parse_flag),
            topics: Topics {
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
        transaction: Transaction {
            max_rows: values.need("transaction.max_rows", number),
            max_delay: values.need("transaction.max_delay", parse_duration),
            heartbeat_interval: values.need("transaction.heartbeat_interval", parse_duration),
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

fn both_given(name: &str, inline: &Entry, file: &Entry) -> ConfigError {
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

#[cfg(test)]
mod tests;
