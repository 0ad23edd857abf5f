//! What did the operator ask for? The configuration, typed; `keys` says what each is for, and why its default is what it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use prometheus_client::metrics::gauge::Gauge;
use reqwest::Url;

use super::error::{ConfigError, ConfigErrors};
use super::oauth::OAuth;
use super::values::{Property, Proxy, SecretSource};
use crate::account::{AmountTolerance, Extra, Rules};
use crate::in_flight::{self, InFlight};

/// The whole configuration, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Who this source is: the prefix of every `transactional.id` and a part of the cursor's key.
    pub(crate) name: String,
    pub(crate) upstream: Upstream,
    /// By the name that the operator gave; it stands in logs, labels and the cursor's key.
    pub(crate) lenders: BTreeMap<String, Lender>,
    pub(crate) kafka: Kafka,
    pub(crate) group: Group,
    pub(crate) transaction: Transaction,
    pub(crate) memory: Memory,
    pub(crate) content: ContentRules,
    pub(crate) avro: Avro,
    pub(crate) schema_registry: SchemaRegistry,
    pub(crate) changes: Changes,
    pub(crate) errors: Errors,
    pub(crate) http: Http,
}

/// The Exports API and how hard to pull at it.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// `https`, or `http` to this machine only.
    pub(crate) base_url: Url,
    /// Rows a request.
    pub(crate) page_size: u16,
    /// From the beginning of one poll to the next.
    pub(crate) poll_interval: Duration,
    /// From sending to the last byte.
    pub(crate) request_timeout: Duration,
    /// Bytes of one answer after decompression.
    pub(crate) max_body: u64,
    /// How long after its `updated_at` a row may still become visible.
    pub(crate) late_window: Duration,
    /// Pause between two sweeps for late rows.
    pub(crate) late_sweep_interval: Duration,
    /// A live walk that is further behind becomes ranges.
    pub(crate) backlog: Duration,
    /// Ranges of the snapshot read side by side.
    pub(crate) snapshot_parallelism: usize,
    /// Requests a second of one lender, logins included; `None`: no limit.
    pub(crate) max_requests_per_second: Option<f64>,
    /// Certificates (PEM) to trust beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// Used for upstream only.
    pub(crate) proxy: Option<Proxy>,
    /// Pause between two full re-reads; `None`: there are none.
    pub(crate) reconcile_interval: Option<Duration>,
    /// The largest share of the accounts that a re-read may delete.
    pub(crate) reconcile_max_deletes: f64,
}

/// One lender: whose accounts to read.
#[derive(Debug, Clone)]
pub struct Lender {
    pub(crate) email: String,
    pub(crate) password: SecretSource,
    /// The part of the login path that names the lender; the lender's key by default.
    pub(crate) subdomain: String,
    /// The UUID of the export path. The login answers it; if given here, the two must match.
    pub(crate) public_id: Option<String>,
    /// Older rows are ignored unless their key is known.
    pub(crate) start_from: Option<DateTime<Utc>>,
}

/// The cluster and what is ours in it.
#[derive(Debug, Clone)]
pub struct Kafka {
    /// `host:port`, comma separated, without spaces.
    pub(crate) bootstrap_servers: String,
    /// Whether `run` creates missing topics.
    pub(crate) create_topics: bool,
    pub(crate) topics: TopicNames,
    pub(crate) topic_settings: TopicSettings,
    /// For librdkafka as they are; those that would break a promise were refused.
    pub(crate) properties: BTreeMap<String, Property>,
    /// Where `properties` ask for OAUTHBEARER.
    pub(crate) oauth: Option<OAuth>,
}

/// The names of the topics. `{lender}` in one stands for the lender's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNames {
    pub(crate) accounts: String,
    pub(crate) cursor: String,
    /// `None` turns the trail off.
    pub(crate) changes: Option<String>,
    pub(crate) dead_letters: String,
}

impl TopicNames {
    /// The names for one lender.
    pub fn for_lender(&self, key: &str) -> TopicNames {
        let name = |pattern: &String| pattern.replace("{lender}", key);
        TopicNames {
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
    pub(crate) accounts: TopicSetting,
    pub(crate) cursor: TopicSetting,
    pub(crate) changes: TopicSetting,
    pub(crate) dead_letters: TopicSetting,
}

/// How one missing topic is created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSetting {
    pub(crate) partitions: i32,
    /// −1 is the broker's default.
    pub(crate) replication_factor: i32,
    /// By Kafka's names, the operator's over the built-in ones. `min.insync.replicas` is here only if the operator set
    /// it: it depends on the factor that the broker answers.
    pub(crate) settings: BTreeMap<String, String>,
}

/// Who runs a lender, where several processes could.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    pub(crate) mode: GroupMode,
    /// Of the Kafka group; `None`: as `name`.
    pub(crate) id: Option<String>,
    pub(crate) protocol: GroupProtocol,
    /// A member that is silent for as long has lost what it had. By the classic protocol; by the other one the broker decides.
    pub(crate) session_timeout: Duration,
    pub(crate) standby: StandbyMode,
    /// A static member's name.
    pub(crate) instance_id: Option<String>,
}

/// What is held of a lender that another process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StandbyMode {
    /// All that is needed to go on with it, read on all the time.
    Warm,
    /// Nothing: it is read when the lender is taken.
    Cold,
}

/// Whether processes share the lenders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupMode {
    /// Kafka's group protocol shares them out.
    Shared,
    /// A second process takes over, and the first one ends.
    Single,
}

/// By which protocol members are known to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GroupProtocol {
    Classic,
    /// KIP-848.
    Consumer,
}

/// How much memory the process may take beside its indexes.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    /// In bytes.
    pub(crate) in_flight: u64,
}

/// How much goes into one Kafka transaction.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Rows.
    pub(crate) max_rows: usize,
    /// How long decided rows wait for more before they are committed.
    pub(crate) max_delay: Duration,
    /// How often an idle lender commits its cursor alone; a dead instance counts as alive for three of them.
    pub(crate) heartbeat_interval: Duration,
}

/// What counts as the same content.
#[derive(Debug, Clone)]
pub(crate) struct ContentRules {
    /// Members that are none.
    pub(crate) ignore: BTreeSet<String>,
}

/// How a record's value is written.
#[derive(Debug, Clone)]
pub struct Avro {
    pub(crate) encoding: Encoding,
    pub(crate) subject_strategy: SubjectStrategy,
    /// Which members without a field of their own pass.
    pub(crate) extra: Extra,
}

/// What stands before the Avro bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// `0x00` and a schema id; needs a registry.
    Confluent,
    /// `0xC3 0x01` and a fingerprint.
    SingleObject,
}

/// How a schema's subject is named, as Confluent's serialisers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectStrategy {
    /// `<topic>-value`.
    TopicName,
    RecordName,
    TopicRecordName,
}

/// The schema registry.
#[derive(Debug, Clone)]
pub struct SchemaRegistry {
    /// May have a path; always there with [`Encoding::Confluent`].
    pub(crate) url: Option<Url>,
    /// Whether `run` registers a missing schema.
    pub(crate) auto_register: bool,
    /// For HTTP basic authentication, with `password`.
    pub(crate) username: Option<String>,
    pub(crate) password: Option<SecretSource>,
    /// A bearer token, instead of user name and password.
    pub(crate) token: Option<SecretSource>,
    /// Certificates (PEM) to trust beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
}

/// The trail of changes.
#[derive(Debug, Clone)]
pub struct Changes {
    /// Whether every account of the snapshot gets an opening record.
    pub(crate) initial: bool,
}

/// What happens to a row that does not fit.
#[derive(Debug, Clone)]
pub struct Errors {
    pub(crate) tolerance: Tolerance,
    pub(crate) bad_field: BadField,
    /// How far an amount may be from a whole number of minor units and still count as that.
    pub(crate) amount_tolerance: AmountTolerance,
    /// What would be more within an hour stops the lender; `None`: no limit.
    pub(crate) max_dead_letters_per_hour: Option<u64>,
}

/// Whether a dead letter stops its lender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tolerance {
    /// Go on.
    All,
    /// Stop at the first.
    None,
}

/// What an unreadable field, other than an amount, makes of its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadField {
    /// The field is null and its text stands in `extra`.
    Null,
    DeadLetter,
}

/// Health and metrics over HTTP.
#[derive(Debug, Clone)]
pub struct Http {
    /// `None`: no HTTP.
    pub(crate) listen: Option<SocketAddr>,
    /// Asked for by all but health and metrics, unless `listen` is loopback.
    pub(crate) token: Option<SecretSource>,
    /// How long a lender may stand still and be called ready.
    pub(crate) stale_after: Duration,
}

impl Config {
    /// The budget of a command that reads one lender after another.
    pub(crate) fn in_flight_of_one(&self) -> InFlight {
        InFlight::new(self.memory.in_flight, 1, Gauge::default())
    }

    /// The Kafka group of the processes that share the lenders.
    pub(crate) fn group_id(&self) -> &str {
        self.group.id.as_deref().unwrap_or(&self.name)
    }

    /// What may be in flight in the process, in bytes: a lender's part is never too small to go on at a pace.
    pub(crate) fn in_flight(&self) -> u64 {
        const LEAST_A_LENDER: u64 = 1 << 20;
        self.memory.in_flight.max(LEAST_A_LENDER * self.lenders.len() as u64)
    }

    /// What a lender's producer may hold, in bytes.
    pub(crate) fn producer_share(&self) -> usize {
        in_flight::producer_share(self.in_flight(), self.lenders.len())
    }

    /// What the operator decided about rows.
    pub fn rules(&self) -> Rules {
        Rules {
            amount_tolerance: self.errors.amount_tolerance.clone(),
            rejects_bad_fields: match self.errors.bad_field {
                BadField::Null => false,
                BadField::DeadLetter => true,
            },
            extra: self.avro.extra.clone(),
            content_ignore: self.content.ignore.clone(),
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
