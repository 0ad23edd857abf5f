//! How are a broker and a registry had from a Docker engine, and who removes their containers when this process is gone?
//!
//! ```text
//! this process ──Docker's API──▶ engine ──▶ Kafka, Apicurio
//!       └──pipe──▶ remover (sh) ──docker rm──▶ the containers with this testbed's label
//! ```
//!
//! Testcontainers removes a container when it is dropped. Nothing else does: its Rust library has no reaper, and its watchdog sees signals only. So a
//! shell waits at a pipe, as in `process`, and when this process ends, however it ends, removes what carries the label: at once, and, where it
//! did not end in order, twice more, as the engine may still be creating one. Three things can leave a container behind: a SIGKILL to the
//! shell as well; an engine that goes down first; one that takes more than four seconds to create a container that nobody waits for any
//! more. `docker ps --all --filter label=d02-source.testbed` shows what is left.
//!
//! The engine must be on this machine, because ports are published on its loopback only, and is reached without TLS. Whether it is shows in
//! whether they answer: where there is a `/.dockerenv`, Testcontainers takes the gateway of a network for the host, also for a process that
//! reaches that loopback, in a virtual machine made from an image or a container with the host's network.
//!
//! Everything with a network is asked from a runtime and a thread of this module's own: any thread may call and drop.

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use testcontainers_modules::kafka::apache::{KAFKA_PORT, Kafka};
use testcontainers_modules::testcontainers::bollard;
use testcontainers_modules::testcontainers::bollard::models::PortBinding;
use testcontainers_modules::testcontainers::core::client::{ClientError, docker_client_instance};
use testcontainers_modules::testcontainers::core::{ContainerPort, IntoContainerPort};
use testcontainers_modules::testcontainers::runners::AsyncRunner;
use testcontainers_modules::testcontainers::{ContainerAsync, ContainerRequest, GenericImage, Image, ImageExt};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::broker::{BrokerOptions, common_properties};
use super::error::DockerError;
use super::process::poll;
use super::registry::{self, RegistryOptions};

/// Nearly every machine without an engine refuses at once; this is for one that hangs.
const PROBE_BOUND: Duration = Duration::from_secs(2);
/// For the `docker` command to say which engine it talks to.
const COMMAND_BOUND: Duration = Duration::from_secs(10);
/// From the container's start until it serves; the JVM's way takes as long at most.
const READY_BOUND: Duration = Duration::from_secs(90);
/// With the pulling of the image over a slow line.
const CONTAINER_BOUND: Duration = Duration::from_secs(10 * 60);
const REMOVE_BOUND: Duration = Duration::from_secs(30);

/// The same version as on the JVM. Not `kafka-native`: it is compiled from the same source by GraalVM and marked as experimental.
const KAFKA_TAG: &str = "4.4.0";
const REGISTRY_IMAGE: &str = "quay.io/apicurio/apicurio-registry";
/// The same version as on the JVM.
const REGISTRY_TAG: &str = "3.0.9";
const REGISTRY_PORT: u16 = 8080;

const LABEL: &str = "d02-source.testbed";
const LOOPBACK: &str = "127.0.0.1";

/// Says which engine it reaches, waits for a line or the end of its input, and removes. Without a line, something may still be on its way.
const REMOVER: &str = r#"
docker info --format '{{.ID}}' </dev/null || exit 1
looks=3
if read -r _; then looks=1; fi
while :; do
    for id in $(docker ps --all --quiet --filter "label=$1"); do
        docker rm --force --volumes "$id"
    done >/dev/null
    looks=$((looks - 1))
    [ $looks -gt 0 ] || exit 0
    sleep 2
done
"#;

/// An engine that answers, and this testbed's label there.
pub(super) struct Engine {
    runtime: OwnRuntime,
    label: String,
    _remover: Remover,
}

impl Engine {
    /// Asks the engine that Testcontainers would use: `DOCKER_HOST`, else the usual sockets.
    pub(super) fn find() -> Result<Arc<Self>, DockerError> {
        let runtime = OwnRuntime::new()?;
        let id = match runtime.block_on(async { timeout(PROBE_BOUND, engine_id()).await }) {
            Ok(answer) => answer?,
            Err(_) => return Err(DockerError::Silent { bound: PROBE_BOUND }),
        };
        let label = format!("{:016x}", fastrand::u64(..));
        Ok(Arc::new(Self {
            _remover: Remover::start(&format!("{LABEL}={label}"), &id)?,
            runtime,
            label,
        }))
    }

    /// Starts a broker and waits until it serves.
    pub(super) fn broker(self: &Arc<Self>) -> Result<Contained<Kafka>, DockerError> {
        let contained = self.start(kafka_request(&self.label), KAFKA_PORT)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, contained.port));
        // Kafka has said that it has started; this is about the port.
        contained.wait_until(Duration::from_secs(10), || {
            TcpStream::connect_timeout(&address, PROBE_BOUND).is_ok()
        })
    }

    /// Starts a registry and waits until it serves.
    pub(super) fn registry(self: &Arc<Self>) -> Result<Contained<GenericImage>, DockerError> {
        let contained = self.start(registry_request(&self.label), REGISTRY_PORT.tcp())?;
        let port = contained.port;
        contained.wait_until(registry::START_BOUND, || registry::serves(port).unwrap_or(false))
    }

    fn start<I: Image + 'static>(
        self: &Arc<Self>,
        request: ContainerRequest<I>,
        port: ContainerPort,
    ) -> Result<Contained<I>, DockerError> {
        let image = request.descriptor();
        let started = self.runtime.block_on(async {
            timeout(CONTAINER_BOUND, async {
                let container = request.start().await?;
                let port = container.get_host_port_ipv4(port).await?;
                let host = container.get_host().await?.to_string();
                Ok((container, port, host))
            })
            .await
        });
        match started {
            Ok(Ok((container, port, host))) => {
                let contained = Contained {
                    container: Some(Box::new(container)),
                    engine: self.clone(),
                    image,
                    port,
                    host,
                };
                match contained.elsewhere() {
                    // What answers at this port here would be something else.
                    Some(elsewhere) if is_by_network() => Err(elsewhere),
                    _ => Ok(contained),
                }
            }
            Ok(Err(source)) => Err(DockerError::Container { image, source }),
            Err(_) => Err(DockerError::Late {
                image,
                bound: CONTAINER_BOUND,
            }),
        }
    }
}

/// Whether the engine is reached by an address, which says where it is.
fn is_by_network() -> bool {
    std::env::var("DOCKER_HOST").is_ok_and(|host| !host.starts_with("unix:"))
}

/// Talks to the engine, from a thread of its own: the caller's may belong to another runtime, which must neither block nor drop one.
struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> Result<Self, DockerError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("testbed-docker")
            .enable_all()
            .build()
            .map_err(|source| DockerError::Start { source })?;
        Ok(Self(Some(runtime)))
    }

    fn block_on<T: Send>(&self, future: impl Future<Output = T> + Send) -> T {
        let runtime = self.0.as_ref().expect("taken at the drop only");
        std::thread::scope(|scope| scope.spawn(|| runtime.block_on(future)).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

async fn engine_id() -> Result<String, DockerError> {
    let client = docker_client_instance().await.map_err(|error| match error {
        ClientError::Init(error) => refused(error),
        other => DockerError::Answer {
            source: Box::new(other),
        },
    })?;
    let info = client.info().await.map_err(refused)?;
    info.id.filter(|id| !id.is_empty()).ok_or_else(|| DockerError::Answer {
        source: "it has no id".into(),
    })
}

fn refused(error: bollard::errors::Error) -> DockerError {
    use bollard::errors::Error;
    let absent = match &error {
        Error::SocketNotFoundError(_) => true,
        Error::HyperLegacyError { err } => err.is_connect(),
        _ => false,
    };
    let source = Box::new(error);
    if absent {
        DockerError::Absent { source }
    } else {
        DockerError::Answer { source }
    }
}

fn kafka_request(label: &str) -> ContainerRequest<Kafka> {
    let request = Kafka::default()
        .with_jvm_image()
        .with_tag(KAFKA_TAG)
        // The module says `broker.id` only.
        .with_env_var("KAFKA_NODE_ID", "1")
        .with_env_var("KAFKA_HEAP_OPTS", format!("-Xmx{}", BrokerOptions::default().heap));
    let request = common_properties(1)
        .into_iter()
        .fold(request, |request, (name, value)| {
            request.with_env_var(format!("KAFKA_{}", environment_name(name)), value)
        });
    owned(request, KAFKA_PORT, label)
}

fn registry_request(label: &str) -> ContainerRequest<GenericImage> {
    let port = REGISTRY_PORT.tcp();
    let image = GenericImage::new(REGISTRY_IMAGE, REGISTRY_TAG).with_exposed_port(port);
    let heap = format!("-Xmx{}", RegistryOptions::default().heap);
    let request = registry::STORAGE.into_iter().fold(
        image.with_env_var("JAVA_OPTS_APPEND", heap),
        |request, (name, value)| request.with_env_var(environment_name(name), value),
    );
    owned(request, port, label)
}

/// With the testbed's label, and its port on this machine's loopback: by itself, Testcontainers opens it to the network.
fn owned<I: Image>(request: ContainerRequest<I>, port: ContainerPort, label: &str) -> ContainerRequest<I> {
    request
        .with_label(LABEL, label)
        .with_startup_timeout(READY_BOUND)
        .with_host_config_modifier(move |host| {
            let any_port = PortBinding {
                host_ip: Some(LOOPBACK.to_owned()),
                host_port: Some(String::new()),
            };
            host.publish_all_ports = Some(false);
            host.port_bindings = Some([(port.to_string(), Some(vec![any_port]))].into());
        })
}

fn environment_name(property: &str) -> String {
    property.to_uppercase().replace('.', "_")
}

/// A running container; dropped, or with this process, it ends.
pub(super) struct Contained<I: Image> {
    /// Taken at the drop.
    container: Option<Box<ContainerAsync<I>>>,
    engine: Arc<Engine>,
    image: String,
    port: u16,
    /// Where Testcontainers takes the engine to be.
    host: String,
}

impl<I: Image> Contained<I> {
    /// On this machine's loopback.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn wait_until(self, bound: Duration, serves: impl Fn() -> bool) -> Result<Self, DockerError> {
        let serving: Result<_, std::convert::Infallible> = poll(bound, || Ok(serves().then_some(())));
        match serving {
            Ok(Some(())) => Ok(self),
            Ok(None) => Err(self.elsewhere().unwrap_or(DockerError::NotServing {
                image: self.image.clone(),
                port: self.port,
                bound,
            })),
        }
    }

    fn elsewhere(&self) -> Option<DockerError> {
        let is_here = self.host == "localhost" || self.host == LOOPBACK;
        (!is_here).then(|| DockerError::Elsewhere {
            image: self.image.clone(),
            host: self.host.clone(),
        })
    }
}

impl<I: Image> Drop for Contained<I> {
    fn drop(&mut self) {
        if let Some(container) = self.container.take() {
            // What cannot be removed now is left to the remover.
            let _ = self
                .engine
                .runtime
                .block_on(async { timeout(REMOVE_BOUND, container.rm()).await });
        }
    }
}

/// The shell that removes what is left when this process is gone, or when this is dropped.
struct Remover {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Remover {
    fn start(label: &str, engine_id: &str) -> Result<Self, DockerError> {
        let mut shell = Command::new("sh")
            .args(["-c", REMOVER, "testbed", label])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is for this process, whose end then is the remover's beginning.
            .process_group(0)
            .spawn()
            .map_err(|source| DockerError::Start { source })?;
        let output = shell.stdout.take();
        let remover = Self {
            pipe: shell.stdin.take(),
            shell,
        };
        let (sender, answer) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            if let Some(output) = output {
                // An unreadable line names no engine.
                let _ = BufReader::new(output).read_line(&mut line);
            }
            // Nobody waits any longer if it took too long.
            let _ = sender.send(line);
        });
        match answer.recv_timeout(COMMAND_BOUND) {
            Ok(line) if line.trim() == engine_id => Ok(remover),
            _ => Err(DockerError::Command),
        }
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            // Where that fails, it looks longer.
            let _ = pipe.write_all(b"in order\n");
        }
        let ended = poll(REMOVE_BOUND, || self.shell.try_wait());
        if !matches!(ended, Ok(Some(_))) {
            let _ = self.shell.kill();
            let _ = self.shell.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::artifacts;
    use super::*;

    fn environment<I: Image>(request: &ContainerRequest<I>) -> BTreeMap<String, String> {
        // Of a name that comes twice, the engine takes the last.
        request
            .env_vars()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .collect()
    }

    fn port_bindings<I: Image>(request: &ContainerRequest<I>) -> Vec<(String, String)> {
        let mut host = bollard::models::HostConfig {
            publish_all_ports: Some(true),
            ..Default::default()
        };
        request.host_config_modifier().expect("it sets the ports")(&mut host);
        assert_eq!(host.publish_all_ports, Some(false));
        host.port_bindings
            .into_iter()
            .flatten()
            .flat_map(|(port, bindings)| bindings.into_iter().flatten().map(move |to| (port.clone(), to)))
            .map(|(port, binding)| (port, binding.host_ip.expect("an address")))
            .collect()
    }

    #[test]
    fn images_have_the_versions_of_the_jvm_s_way() {
        let kafka = kafka_request("a");
        assert_eq!(kafka.descriptor(), "apache/kafka:4.4.0");
        assert!(artifacts::KAFKA.name.ends_with(&format!("-{KAFKA_TAG}")));
        let registry = registry_request("a");
        assert_eq!(registry.descriptor(), "quay.io/apicurio/apicurio-registry:3.0.9");
        assert!(artifacts::REGISTRY.name.ends_with(&format!("-{REGISTRY_TAG}")));
    }

    #[test]
    fn a_container_is_labelled_and_serves_on_loopback_only() {
        let (kafka, registry) = (kafka_request("a"), registry_request("a"));
        assert_eq!(kafka.labels()[LABEL], "a");
        assert_eq!(registry.labels()[LABEL], "a");
        let loopback = |port: &str| vec![(port.to_owned(), LOOPBACK.to_owned())];
        assert_eq!(port_bindings(&kafka), loopback("9092/tcp"));
        assert_eq!(port_bindings(&registry), loopback("8080/tcp"));
    }

    #[test]
    fn the_broker_in_a_container_is_told_what_the_one_on_the_jvm_is() {
        let environment = environment(&kafka_request("a"));
        for (name, value) in [
            ("KAFKA_NODE_ID", "1"),
            ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
            ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
            ("KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS", "4"),
            ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
            ("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false"),
            ("KAFKA_HEAP_OPTS", "-Xmx384m"),
        ] {
            assert_eq!(environment.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn the_registry_in_a_container_keeps_its_schemas_in_memory() {
        let environment = environment(&registry_request("a"));
        assert_eq!(environment["APICURIO_STORAGE_KIND"], "sql");
        assert_eq!(environment["APICURIO_STORAGE_SQL_KIND"], "h2");
    }
}
