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
mod services;
mod ways;

pub use artifacts::default_cache;
pub use broker::{Broker, BrokerOptions};
pub use directory::RunDirectory;
pub use error::{CHOICE_VARIABLE, DockerError, TestbedError};
pub use process::{Output, Process};
pub use registry::{Registry, RegistryOptions};
pub use services::{BOOTSTRAP_SERVERS_VARIABLE, SCHEMA_REGISTRY_URL_VARIABLE, Testbed};
