//! How is a real schema registry started, lost and brought back on this machine?
//!
//! Apicurio, through its Confluent-compatible API. Its schemas are in memory: a restarted registry is empty, at the same address.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::artifacts::{self, Installed, Jvm};
use super::directory::RunDirectory;
use super::error::TestbedError;
use super::ports;
use super::process::{Output, Process};

/// A start takes 1–6 s on two idle cores.
pub(super) const START_BOUND: Duration = Duration::from_secs(90);
/// For one question whether it serves; the first answer is the slowest.
const ANSWER_BOUND: Duration = Duration::from_secs(5);
const API: &str = "/apis/ccompat/v7";

/// Schemas in memory, whether the registry runs on the JVM or in a container. (As a container's environment: upper case, dots as underscores.)
pub(super) const STORAGE: [(&str, &str); 2] = [("apicurio.storage.kind", "sql"), ("apicurio.storage.sql.kind", "h2")];

/// How to start a registry.
pub struct RegistryOptions {
    /// The JVM's greatest heap, as in `-Xmx`.
    pub heap: String,
    /// Where the registry is kept between runs.
    pub cache: PathBuf,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            heap: "256m".to_owned(),
            cache: artifacts::default_cache(),
        }
    }
}

/// A running registry. Dropped, or with this process, it ends.
pub struct Registry {
    // Before the directory, which must not go while it runs.
    process: Option<Process>,
    directory: RunDirectory,
    apicurio: Installed,
    heap: String,
    port: u16,
}

impl Registry {
    /// Starts the registry and waits until it serves. The first call in a cache directory fetches it (104 MB) from Maven Central.
    pub fn start(options: RegistryOptions) -> Result<Self, TestbedError> {
        let apicurio = artifacts::install(&options.cache, &artifacts::REGISTRY, |apicurio| {
            Self::start_installed(apicurio.clone(), &options, Jvm::Archiving)?.stop()
        })?;
        Self::start_installed(apicurio, &options, Jvm::Sharing)
    }

    fn start_installed(apicurio: Installed, options: &RegistryOptions, jvm: Jvm) -> Result<Self, TestbedError> {
        let mut registry = Self {
            process: None,
            directory: RunDirectory::create(&options.cache)?,
            apicurio,
            heap: options.heap.clone(),
            port: ports::free(1)?[0],
        };
        registry.start_process(jvm)?;
        Ok(registry)
    }

    /// The base address of the Confluent-compatible API.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Where the registry keeps its log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends the registry in order and waits until it is gone. Its schemas go with it.
    pub fn stop(&mut self) -> Result<(), TestbedError> {
        self.process.take().map_or(Ok(()), Process::stop)
    }

    /// Starts an empty registry at the same address and waits until it serves; stops the running one first.
    pub fn restart(&mut self) -> Result<(), TestbedError> {
        self.stop()?;
        self.start_process(Jvm::Sharing)
    }

    fn start_process(&mut self, jvm: Jvm) -> Result<(), TestbedError> {
        let directory = self.directory.path();
        let mut command = jvm.options(&self.apicurio, &self.heap, directory);
        command.extend([
            "-Dquarkus.http.host=127.0.0.1".to_owned(),
            format!("-Dquarkus.http.port={}", self.port),
        ]);
        command.extend(STORAGE.map(|(name, value)| format!("-D{name}={value}")));
        command.extend([
            "-jar".to_owned(),
            self.apicurio
                .directory
                .join("apicurio-registry-app-3.0.9-runner.jar")
                .display()
                .to_string(),
        ]);
        let process = self
            .process
            .insert(Process::start("registry", "java", &command, directory, Output::Log)?);
        let port = self.port;
        process.wait_until_ready(START_BOUND, |_| serves(port).unwrap_or(false))
    }
}

/// The base address of the API behind a loopback port.
pub(super) fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}{API}")
}

/// Whether the API answers 200. By hand, so that the testbed needs no HTTP client.
pub(super) fn serves(port: u16) -> std::io::Result<bool> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut connection = TcpStream::connect_timeout(&address, ANSWER_BOUND)?;
    connection.set_read_timeout(Some(ANSWER_BOUND))?;
    connection.write_all(format!("GET {API}/subjects HTTP/1.0\r\n\r\n").as_bytes())?;
    let mut status = [0; "HTTP/1.0 200".len()];
    connection.read_exact(&mut status)?;
    Ok(status.ends_with(b" 200"))
}
