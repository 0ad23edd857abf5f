//! A broker and a registry, from wherever they can be had.

use std::sync::Arc;

use testcontainers_modules::kafka::apache::Kafka;
use testcontainers_modules::testcontainers::{GenericImage, Image};

use super::broker::{Broker, BrokerOptions};
use super::docker::{Contained, Engine};
use super::error::{DockerError, TestbedError};
use super::registry::{self, Registry, RegistryOptions};
use super::ways::Ways;

/// Names a broker that runs already; the testbed then starts none.
pub const BOOTSTRAP_SERVERS_VARIABLE: &str = "TESTBED_BOOTSTRAP_SERVERS";
/// Names a schema registry that runs already; the testbed then starts none.
pub const SCHEMA_REGISTRY_URL_VARIABLE: &str = "TESTBED_SCHEMA_REGISTRY_URL";
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
                Broker::start(BrokerOptions {
                    // It is never started anew: on a busy machine its own controller would call it dead after the default's 9 s.
                    properties: vec![("broker.session.timeout.ms".to_owned(), "60000".to_owned())],
                    ..BrokerOptions::default()
                })
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
