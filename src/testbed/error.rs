//! What can go wrong with the testbed, and what should a person do about it?

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testcontainers_modules::testcontainers::TestcontainersError;

/// Forces one way to start what is not named: `docker` or `jvm`.
pub const CHOICE_VARIABLE: &str = "TESTBED";

/// Kafka's oldest supported Java for brokers, and that of the pinned registry.
pub(super) const JAVA_MINIMUM: u32 = 17;

/// Why a broker or a registry could not be had on this machine.
#[derive(Debug, thiserror::Error)]
pub enum TestbedError {
    #[error(
        "starting the testbed needs java {JAVA_MINIMUM} or newer on the PATH, but {found}: \
         install it, for example `apt-get install openjdk-17-jre-headless`, or set \
         TESTBED_BOOTSTRAP_SERVERS and TESTBED_SCHEMA_REGISTRY_URL to a broker and a registry that run already"
    )]
    Java { found: String },

    #[error(
        "fetching {artifact} for the testbed needs mvn on the PATH: install it, for example `apt-get install maven`, or set \
         TESTBED_BOOTSTRAP_SERVERS and TESTBED_SCHEMA_REGISTRY_URL to a broker and a registry that run already"
    )]
    Maven { artifact: &'static str },

    #[error("{CHOICE_VARIABLE} is {value:?}, but may be `docker`, `jvm`, or unset")]
    Choice { value: String },

    #[error("{CHOICE_VARIABLE}=docker asks for containers: see to it that they can be had, or unset it for the JVM")]
    Docker { source: DockerError },

    #[error("{name} ended with {status} before it was ready; its log ends with\n{log_tail}")]
    Ended {
        name: String,
        status: String,
        log_tail: String,
    },

    #[error("{name} was not ready after {bound:?}: is this machine overloaded? its log ends with\n{log_tail}")]
    NotReady {
        name: String,
        bound: Duration,
        log_tail: String,
    },

    #[error("{name} was still running {bound:?} after it was told to end: find it with `ps` and kill it")]
    StillRunning { name: String, bound: Duration },

    #[error(
        "waited {bound:?} for the lock {}: another process is fetching the testbed's files; end it if it hangs", path.display()
    )]
    Locked { path: PathBuf, bound: Duration },

    #[error("no free port on 127.0.0.1 after {tries} tries: end what occupies them")]
    NoFreePort { tries: usize },

    #[error("could not {doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
}

impl TestbedError {
    /// For `map_err`: adds what was being done to which path.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// Why there is no container.
#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("no Docker engine answers")]
    Absent { source: Box<dyn Error + Send + Sync> },

    #[error("the Docker engine did not answer within {bound:?}")]
    Silent { bound: Duration },

    #[error("the Docker engine's answer cannot be used")]
    Answer { source: Box<dyn Error + Send + Sync> },

    #[error(
        "the `docker` command, which is to remove the containers in the end, does not reach the engine that answers"
    )]
    Command,

    #[error("cannot have a container of {image}")]
    Container { image: String, source: TestcontainersError },

    #[error("the container of {image} was not there after {bound:?}")]
    Late { image: String, bound: Duration },

    #[error("the container of {image} is on {host}, but its ports can be reached on this machine only")]
    Elsewhere { image: String, host: String },

    #[error("the container of {image} does not serve on port {port} after {bound:?}")]
    NotServing { image: String, port: u16, bound: Duration },

    #[error("cannot start what talks to the Docker engine")]
    Start { source: std::io::Error },
}

impl DockerError {
    /// Whether there is simply no engine, which is no trouble.
    pub(super) fn is_absence(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }
}
