//! Where do the tests and the demo get a Kafka broker and a schema registry from?
//!
//! From the environment, if it names them; else from a Docker engine, if one answers; else from Maven Central, started on the JVM. Both are real ones, on
//! loopback ports of this machine:
//!
//! ```text
//! Testbed ─┬─ docker: containers that end with this process
//!          ├─ Broker ────┬── artifacts: the jars, from Maven Central, once
//!          └─ Registry ──┤── directory: where it keeps its data, removed afterwards
//!                        └── process:   a JVM that ends with this process, however this process ends
//! ```
//!
//! Everything here blocks the calling thread and uses no async runtime of the caller's, so that any thread may call it. Every wait has a bound.

mod artifacts;
mod broker;
mod directory;
mod docker;
mod error;
mod ports;
mod process;
mod registry;

use std::env::VarError;
use std::sync::Arc;

use testcontainers_modules::kafka::apache::Kafka;
use testcontainers_modules::testcontainers::{GenericImage, Image};

use crate::exit::chain;
use docker::{Contained, Engine};

pub use artifacts::default_cache;
pub use broker::{Broker, BrokerOptions};
pub use directory::RunDirectory;
pub use docker::DockerError;
pub use error::TestbedError;
pub use process::{Output, Process};
pub use registry::{Registry, RegistryOptions};

/// Names a broker that runs already; the testbed then starts none.
pub const BOOTSTRAP_SERVERS_VARIABLE: &str = "TESTBED_BOOTSTRAP_SERVERS";
/// Names a schema registry that runs already; the testbed then starts none.
pub const SCHEMA_REGISTRY_URL_VARIABLE: &str = "TESTBED_SCHEMA_REGISTRY_URL";
/// Forces one way to start what is not named: `docker` or `jvm`.
pub const CHOICE_VARIABLE: &str = "TESTBED";

/// A broker and a registry, each found in the environment or started here. What was started ends when this is dropped.
pub struct Testbed {
    broker: Service<Broker, Kafka>,
    registry: Service<Registry, GenericImage>,
}

/// Where a service is: named by the environment, or ours.
enum Service<J, I: Image> {
    Given(String),
    Contained(Contained<I>),
    OnJvm(J),
}

impl Testbed {
    /// Takes the services that the environment names and starts the others, both at the same time.
    ///
    /// A container that cannot be had is no error but a line on stderr: the JVM works without. Only `TESTBED=docker` makes it one.
    pub fn start() -> Result<Self, TestbedError> {
        let ways = Ways::from_environment()?;
        let named = |variable| std::env::var(variable).ok().filter(|address| !address.is_empty());
        let broker = named(BOOTSTRAP_SERVERS_VARIABLE);
        let registry = named(SCHEMA_REGISTRY_URL_VARIABLE);
        let engine = if broker.is_some() && registry.is_some() {
            None
        } else {
            ways.engine()?
        };
        let (broker, registry) = std::thread::scope(|scope| {
            let registry = scope.spawn(|| {
                Service::start(registry, ways, engine.as_ref(), Engine::registry, || {
                    Registry::start(RegistryOptions::default())
                })
            });
            let broker = Service::start(broker, ways, engine.as_ref(), Engine::broker, || {
                Broker::start(BrokerOptions::default())
            });
            let registry = registry.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            (broker, registry)
        });
        Ok(Self {
            broker: broker?,
            registry: registry?,
        })
    }

    /// The value for `bootstrap.servers`.
    pub fn bootstrap_servers(&self) -> String {
        match &self.broker {
            Service::Given(address) => address.clone(),
            Service::Contained(broker) => format!("127.0.0.1:{}", broker.port()),
            Service::OnJvm(broker) => broker.bootstrap_servers(),
        }
    }

    /// The base address of the Confluent-compatible API; it may have a path.
    pub fn schema_registry_url(&self) -> String {
        match &self.registry {
            Service::Given(address) => address.clone(),
            Service::Contained(registry) => registry::url(registry.port()),
            Service::OnJvm(registry) => registry.url(),
        }
    }
}

/// How services may be started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    DockerOrJvm,
    Docker,
    Jvm,
}

impl Ways {
    fn from_environment() -> Result<Self, TestbedError> {
        match std::env::var(CHOICE_VARIABLE).as_deref() {
            Err(VarError::NotPresent) | Ok("") => Ok(Self::DockerOrJvm),
            Ok("docker") => Ok(Self::Docker),
            Ok("jvm") => Ok(Self::Jvm),
            Ok(other) => Err(TestbedError::Choice {
                value: other.to_owned(),
            }),
            Err(VarError::NotUnicode(other)) => Err(TestbedError::Choice {
                value: other.to_string_lossy().into_owned(),
            }),
        }
    }

    /// The engine for containers, unless they are to be had from the JVM.
    fn engine(self) -> Result<Option<Arc<Engine>>, TestbedError> {
        if self == Self::Jvm {
            return Ok(None);
        }
        match Engine::find() {
            Ok(engine) => Ok(Some(engine)),
            Err(error) if self == Self::DockerOrJvm && error.is_absence() => Ok(None),
            Err(error) => self.without(error).map(|()| None),
        }
    }

    /// Goes on without Docker, if that may be.
    fn without(self, source: DockerError) -> Result<(), TestbedError> {
        if self == Self::Docker {
            return Err(TestbedError::Docker { source });
        }
        let why = chain(&source).replace('\n', " ");
        eprintln!("testbed: on the JVM and not in Docker, because {why}");
        Ok(())
    }
}

impl<J, I: Image> Service<J, I> {
    fn start(
        named: Option<String>,
        ways: Ways,
        engine: Option<&Arc<Engine>>,
        in_docker: impl FnOnce(&Arc<Engine>) -> Result<Contained<I>, DockerError>,
        on_jvm: impl FnOnce() -> Result<J, TestbedError>,
    ) -> Result<Self, TestbedError> {
        if let Some(address) = named {
            return Ok(Self::Given(address));
        }
        if let Some(engine) = engine {
            match in_docker(engine) {
                Ok(contained) => return Ok(Self::Contained(contained)),
                Err(error) => ways.without(error)?,
            }
        }
        on_jvm().map(Self::OnJvm)
    }
}
