//! How is a real Kafka broker, or a cluster of three, started, lost and brought back on this machine?
//!
//! KRaft in combined mode: every node is broker and controller. Each has three listeners on loopback ports that it keeps when it is restarted, and
//! those that were asked for beside: `CLIENT`, `CONTROLLER`, and `PROXIED`, which tells its clients to connect to the port of a proxy in front of it:
//!
//! ```text
//! client ──▶ proxied_port (the proxy) ──▶ proxied_listener_address() (PROXIED) ── broker ── CLIENT ◀── bootstrap_servers()
//! ```

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::artifacts::{self, Installed, Jvm};
use super::directory::RunDirectory;
use super::error::TestbedError;
use super::ports;
use super::process::{Output, Process};

/// A start takes 1–2 s on two idle cores, three nodes several times that.
const START_BOUND: Duration = Duration::from_secs(90);

/// Any will do (16 bytes in base64url); all nodes need the same.
const CLUSTER_ID: &str = "testbed-of-d02-sourceA";

/// What kind of cluster to start.
pub struct BrokerOptions {
    /// 1, or 3 for a cluster that survives the loss of a node: replication factor 3, `min.insync.replicas` 2.
    pub nodes: usize,
    /// Broker properties that are added to ours, or replace them.
    pub properties: Vec<(String, String)>,
    /// The JVM's greatest heap for each node, as in `-Xmx`.
    pub heap: String,
    /// The loopback port to which the listener `PROXIED` sends its clients; for one node only.
    pub proxied_port: Option<u16>,
    /// Further listeners: a name, and its security protocol in Kafka's words. What else one needs stands in `properties`.
    pub listeners: Vec<(String, String)>,
    /// Names and passwords that every SCRAM mechanism takes from the first start on.
    pub scram_users: Vec<(String, String)>,
    /// Where the jars are kept between runs, and the data during one.
    pub cache: PathBuf,
}

impl Default for BrokerOptions {
    fn default() -> Self {
        Self {
            nodes: 1,
            properties: Vec::new(),
            // Half of this is used after a few hundred thousand records; the rest is for larger fetches.
            heap: "384m".to_owned(),
            proxied_port: None,
            listeners: Vec::new(),
            scram_users: Vec::new(),
            cache: artifacts::default_cache(),
        }
    }
}

/// A running cluster. Dropped, or with this process, it ends and its data goes.
pub struct Broker {
    // Before the directory, which must not go while they run.
    nodes: Vec<Node>,
    directory: RunDirectory,
    kafka: Installed,
    heap: String,
}

struct Node {
    id: usize,
    client_port: u16,
    proxied_port: u16,
    controller_port: u16,
    /// Of the further listeners, by name.
    ports: Vec<(String, u16)>,
    process: Option<Process>,
}

impl Broker {
    /// Starts the cluster and waits until it serves. The first call in a cache directory fetches Kafka (43 MB) from Maven Central.
    pub fn start(options: BrokerOptions) -> Result<Self, TestbedError> {
        let kafka = artifacts::install(&options.cache, &artifacts::KAFKA, |kafka| {
            let only_started = BrokerOptions {
                cache: options.cache.clone(),
                ..BrokerOptions::default()
            };
            Self::start_installed(kafka.clone(), only_started, Jvm::Archiving)?.stop(1)
        })?;
        Self::start_installed(kafka, options, Jvm::Sharing)
    }

    fn start_installed(kafka: Installed, options: BrokerOptions, jvm: Jvm) -> Result<Self, TestbedError> {
        assert!(
            options.nodes == 1 || options.nodes == 3 && options.proxied_port.is_none(),
            "a broker has 1 node, or 3 and no proxy"
        );
        let directory = RunDirectory::create(&options.cache)?;
        let port_count = 3 + options.listeners.len();
        let ports = ports::free(port_count * options.nodes)?;
        let names = || options.listeners.iter().map(|(name, _)| name.clone());
        let nodes = ports
            .chunks_exact(port_count)
            .zip(1..)
            .map(|(ports, id)| Node {
                id,
                client_port: ports[0],
                proxied_port: ports[1],
                controller_port: ports[2],
                ports: names().zip(ports[3..].iter().copied()).collect(),
                process: None,
            })
            .collect();
        let mut broker = Self {
            nodes,
            directory,
            kafka,
            heap: options.heap.clone(),
        };
        broker.format(&options)?;
        for index in 0..broker.nodes.len() {
            let process = broker.start_process(&broker.nodes[index], jvm)?;
            broker.nodes[index].process = Some(process);
        }
        for node in &mut broker.nodes {
            node.wait_until_ready()?;
        }
        Ok(broker)
    }

    /// The value for `bootstrap.servers`: all nodes, whether they run or not.
    pub fn bootstrap_servers(&self) -> String {
        let addresses: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.client_port))
            .collect();
        addresses.join(",")
    }

    /// Where a proxy that listens on [`BrokerOptions::proxied_port`] connects to.
    pub fn proxied_listener_address(&self) -> String {
        format!("127.0.0.1:{}", self.nodes[0].proxied_port)
    }

    /// Where one of [`BrokerOptions::listeners`] is, on the first node.
    pub fn listener_address(&self, name: &str) -> String {
        let port = self.nodes[0].ports.iter().find(|(listener, _)| listener == name);
        let (_, port) = port.expect("a listener that was asked for");
        format!("127.0.0.1:{port}")
    }

    /// Runs a tool of Kafka's for operators by the name of its class, to its good end.
    pub fn run_tool(&self, class: &str, arguments: &[String]) -> Result<(), TestbedError> {
        // Several may run at a time, each with a log of its own.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("kafka-tool-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let directory = self.directory.path();
        let mut command = Jvm::Sharing.options(&self.kafka, &self.heap, directory);
        command.extend(["-cp".to_owned(), self.class_path(), class.to_owned()]);
        command.extend_from_slice(arguments);
        Process::start(&name, "java", &command, directory, Output::Log)?.wait_for_success(START_BOUND)
    }

    fn class_path(&self) -> String {
        self.kafka.directory.join("*").display().to_string()
    }

    /// Where the nodes keep their data, properties and logs.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Ends a node with SIGKILL and waits until it is gone. Nodes count from 1. A node that does not run is left as it is.
    pub fn kill(&mut self, node: usize) -> Result<(), TestbedError> {
        self.node(node).process.take().map_or(Ok(()), Process::kill)
    }

    /// Ends a node in order, with SIGTERM, and waits until it is gone.
    pub fn stop(&mut self, node: usize) -> Result<(), TestbedError> {
        self.node(node).process.take().map_or(Ok(()), Process::stop)
    }

    /// Starts a node again, on its data and its ports, and waits until it serves; kills it first if it runs.
    pub fn restart(&mut self, node: usize) -> Result<(), TestbedError> {
        self.kill(node)?;
        let process = self.start_process(&self.nodes[node - 1], Jvm::Sharing)?;
        let node = self.node(node);
        node.process = Some(process);
        node.wait_until_ready()
    }

    fn node(&mut self, id: usize) -> &mut Node {
        &mut self.nodes[id - 1]
    }

    /// Writes the properties and the empty storage of all nodes, side by side.
    fn format(&self, options: &BrokerOptions) -> Result<(), TestbedError> {
        let mut formatting = Vec::new();
        for node in &self.nodes {
            let path = self.properties_path(node);
            fs::write(&path, self.properties(node, options)).map_err(TestbedError::io("write", &path))?;
            let mut arguments = ["format", "-t", CLUSTER_ID].map(str::to_owned).to_vec();
            for (user, password) in &options.scram_users {
                for mechanism in ["SCRAM-SHA-256", "SCRAM-SHA-512"] {
                    let user = format!("{mechanism}=[name={user},password={password}]");
                    arguments.extend(["--add-scram".to_owned(), user]);
                }
            }
            arguments.push("-c".to_owned());
            formatting.push(self.run(node, "format", Jvm::Sharing, "kafka.tools.StorageTool", &arguments)?);
        }
        formatting
            .into_iter()
            .try_for_each(|process| process.wait_for_success(START_BOUND))
    }

    fn start_process(&self, node: &Node, jvm: Jvm) -> Result<Process, TestbedError> {
        self.run(node, "node", jvm, "kafka.Kafka", &[])
    }

    /// Runs a class of Kafka's; the node's properties are its last argument.
    fn run(
        &self,
        node: &Node,
        what: &str,
        jvm: Jvm,
        class: &str,
        arguments: &[String],
    ) -> Result<Process, TestbedError> {
        let directory = self.directory.path();
        let mut command = jvm.options(&self.kafka, &self.heap, directory);
        command.extend(["-cp".to_owned(), self.class_path(), class.to_owned()]);
        command.extend_from_slice(arguments);
        command.push(self.properties_path(node).display().to_string());
        Process::start(
            &format!("kafka-{what}-{}", node.id),
            "java",
            &command,
            directory,
            Output::Log,
        )
    }

    fn properties_path(&self, node: &Node) -> PathBuf {
        self.directory.path().join(format!("node-{}.properties", node.id))
    }

    fn properties(&self, node: &Node, options: &BrokerOptions) -> String {
        let Node {
            id,
            client_port,
            proxied_port,
            controller_port,
            ports,
            ..
        } = node;
        let data = self.directory.path().join(format!("node-{id}"));
        let data = data.display();
        let advertised_port = options.proxied_port.unwrap_or(*proxied_port);
        let voters: Vec<String> = self
            .nodes
            .iter()
            .map(|node| format!("{}@127.0.0.1:{}", node.id, node.controller_port))
            .collect();
        let voters = voters.join(",");
        let further: String = ports
            .iter()
            .map(|(name, port)| format!(",{name}://127.0.0.1:{port}"))
            .collect();
        let protocols: String = options
            .listeners
            .iter()
            .map(|(name, protocol)| format!(",{name}:{protocol}"))
            .collect();
        let mut properties = format!(
            "\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
controller.listener.names=CONTROLLER
inter.broker.listener.name=CLIENT
listeners=CLIENT://127.0.0.1:{client_port},PROXIED://127.0.0.1:{proxied_port},CONTROLLER://127.0.0.1:{controller_port}{further}
advertised.listeners=CLIENT://127.0.0.1:{client_port},PROXIED://127.0.0.1:{advertised_port}{further}
listener.security.protocol.map=CLIENT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}
log.dirs={data}
"
        );
        for (name, value) in common_properties(options.nodes) {
            properties.push_str(&format!("{name}={value}\n"));
        }
        for (name, value) in &options.properties {
            properties.push_str(&format!("{name}={value}\n"));
        }
        properties
    }
}

/// What every broker of the testbed is told, on the JVM or in a container.
pub(super) fn common_properties(nodes: usize) -> Vec<(&'static str, String)> {
    let in_sync = if nodes == 3 { 2 } else { 1 };
    let mut properties = Vec::new();
    for name in [
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    ] {
        properties.push((name, nodes.to_string()));
    }
    for name in [
        "min.insync.replicas",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.min.isr",
    ] {
        properties.push((name, in_sync.to_string()));
    }
    // A partition costs files and time, and tests need few.
    for name in [
        "offsets.topic.num.partitions",
        "transaction.state.log.num.partitions",
        "share.coordinator.state.topic.num.partitions",
    ] {
        properties.push((name, "4".to_owned()));
    }
    // A consumer group that waits for more members makes every test wait.
    properties.push(("group.initial.rebalance.delay.ms", "0".to_owned()));
    // A misspelt topic is an error and not a new topic.
    properties.push(("auto.create.topics.enable", "false".to_owned()));
    properties
}

impl Node {
    fn wait_until_ready(&mut self) -> Result<(), TestbedError> {
        self.process
            .as_mut()
            .expect("a node that is waited for was started")
            .wait_until_ready(START_BOUND, |log| log.contains("Kafka Server started"))
    }
}
