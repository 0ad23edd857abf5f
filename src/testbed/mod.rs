//! Where do the tests and the demo get a Kafka broker and a schema registry from?
//!
//! From the environment, if it names them; otherwise both are real ones, started on loopback ports of this machine without Docker:
//!
//! ```text
//! Testbed ── Broker ────┬── artifacts: the jars, from Maven Central, once
//!         └─ Registry ──┤── directory: where it keeps its data, removed afterwards
//!                       └── process:   a JVM that ends with this process, however this process ends
//! ```
//!
//! Everything here blocks the calling thread and uses no async runtime, so that any thread may call it. Every wait has a bound.

mod artifacts;
mod broker;
mod directory;
mod error;
mod ports;
mod process;
mod registry;

pub use artifacts::default_cache;
pub use broker::{Broker, BrokerOptions};
pub use error::TestbedError;
pub use registry::{Registry, RegistryOptions};

/// Names a broker that runs already; the testbed then starts none.
pub const BOOTSTRAP_SERVERS_VARIABLE: &str = "TESTBED_BOOTSTRAP_SERVERS";
/// Names a schema registry that runs already; the testbed then starts none.
pub const SCHEMA_REGISTRY_URL_VARIABLE: &str = "TESTBED_SCHEMA_REGISTRY_URL";

/// A broker and a registry, each found in the environment or started here. What was started ends when this is dropped.
pub struct Testbed {
    broker: Service<Broker>,
    registry: Service<Registry>,
}

/// Where a service is: named by the environment, or ours.
enum Service<T> {
    Given(String),
    Started(T),
}

impl Testbed {
    /// Takes the services that the environment names and starts the others, both at the same time.
    pub fn start() -> Result<Self, TestbedError> {
        let registry = std::thread::spawn(|| {
            Service::given_or(SCHEMA_REGISTRY_URL_VARIABLE, || {
                Registry::start(RegistryOptions::default())
            })
        });
        let broker = Service::given_or(BOOTSTRAP_SERVERS_VARIABLE, || Broker::start(BrokerOptions::default()));
        let registry = registry.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok(Self {
            broker: broker?,
            registry: registry?,
        })
    }

    /// The value for `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        match &self.broker {
            Service::Given(address) => address.clone(),
            Service::Started(broker) => broker.bootstrap_servers(),
        }
    }

    /// The base address of the Confluent-compatible API; it may have a path.
    pub fn schema_registry_url(&self) -> String {
        match &self.registry {
            Service::Given(address) => address.clone(),
            Service::Started(registry) => registry.url(),
        }
    }
}

impl<T> Service<T> {
    fn given_or(variable: &str, start: impl FnOnce() -> Result<T, TestbedError>) -> Result<Self, TestbedError> {
        match std::env::var(variable) {
            Ok(address) if !address.is_empty() => Ok(Self::Given(address)),
            _ => start().map(Self::Started),
        }
    }
}
