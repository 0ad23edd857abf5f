//! A broker that asks who is there and knows who may do what.
//!
//! ```text
//! the tests ──▶ CLIENT, plain text, may do everything
//! a source  ──▶ SECURED, TLS and SASL        ──▶ StandardAuthorizer
//!           ──▶ MUTUAL, TLS on both sides    ──▶
//! ```

use std::sync::OnceLock;

use d02_source::simulator::{Authority, Certified};
use d02_source::testbed::{Broker, BrokerOptions};
use tempfile::TempDir;

use super::acls::{self, Operation, Resource, Right};
use super::authorization::AuthorizationServer;
use super::wait_for;
use super::world::World;

/// Users who may nothing by themselves, with their passwords.
const USERS: [(&str, &str); 10] = [
    ("main", "planted-main"),
    ("starts", "planted-starts"),
    ("runs", "planted-runs"),
    ("starts-early", "planted-starts-early"),
    ("runs-on", "planted-runs-on"),
    ("stays-away", "planted-stays-away"),
    ("rotated", "planted-rotated"),
    ("turned", "planted-turned"),
    ("stranger", "planted-stranger"),
    ("vouched", "planted-vouched"),
];

/// Of whoever shows a certificate.
pub(crate) const CERTIFIED: &str = "certified";

pub(crate) struct Secured {
    broker: Broker,
    authority: Authority,
    directory: TempDir,
}

/// One for all tests; a user and topics a test.
pub(crate) fn secured() -> &'static Secured {
    static SECURED: OnceLock<Secured> = OnceLock::new();
    SECURED.get_or_init(Secured::start)
}

impl Secured {
    fn start() -> Self {
        let authority = Authority::new("tests' CA").expect("an authority");
        let directory = tempfile::tempdir().expect("a directory");
        let loopback = [127, 0, 0, 1].into();
        let server = authority.server(loopback, &[]).expect("a certificate");
        let path = |file: &str| directory.path().join(file).display().to_string();
        let chain = [server.key.as_str(), &server.certificate, authority.pem()].concat();
        std::fs::write(path("broker.pem"), chain).expect("written");
        std::fs::write(path("ca.pem"), authority.pem()).expect("written");
        let plain_users: String = USERS
            .iter()
            .map(|(user, password)| format!(" user_{user}=\"{password}\""))
            .collect();
        let security = "org.apache.kafka.common.security";
        let properties = [
            ("ssl.keystore.type", "PEM".to_owned()),
            ("ssl.keystore.location", path("broker.pem")),
            ("ssl.truststore.type", "PEM".to_owned()),
            ("ssl.truststore.location", path("ca.pem")),
            ("listener.name.mutual.ssl.client.auth", "required".to_owned()),
            ("ssl.principal.mapping.rules", "RULE:^CN=([^,]+)$/$1/".to_owned()),
            (
                "listener.name.secured.sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER".to_owned(),
            ),
            (
                "listener.name.secured.plain.sasl.jaas.config",
                format!("{security}.plain.PlainLoginModule required{plain_users};"),
            ),
            (
                "listener.name.secured.scram-sha-256.sasl.jaas.config",
                format!("{security}.scram.ScramLoginModule required;"),
            ),
            (
                "listener.name.secured.scram-sha-512.sasl.jaas.config",
                format!("{security}.scram.ScramLoginModule required;"),
            ),
            // Takes tokens that are not signed, but holds them to their times.
            (
                "listener.name.secured.oauthbearer.sasl.jaas.config",
                format!("{security}.oauthbearer.OAuthBearerLoginModule required;"),
            ),
            // Whoever is connected has to show again who it is.
            ("listener.name.secured.connections.max.reauth.ms", "6000".to_owned()),
            (
                "authorizer.class.name",
                "org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
            ),
            ("super.users", "User:ANONYMOUS".to_owned()),
        ];
        let owned = |(one, other): (&str, &str)| (one.to_owned(), other.to_owned());
        let options = BrokerOptions {
            properties: properties.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            listeners: [("SECURED", "SASL_SSL"), ("MUTUAL", "SSL")].map(owned).to_vec(),
            scram_users: USERS.map(owned).to_vec(),
            ..BrokerOptions::default()
        };
        let broker = Broker::start(options).unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error)));
        Self {
            broker,
            authority,
            directory,
        }
    }

    /// For who may do everything.
    pub(crate) fn servers(&self) -> String {
        self.broker.bootstrap_servers()
    }

    /// Where `listener` is.
    pub(crate) fn address(&self, listener: &str) -> String {
        self.broker.listener_address(listener)
    }

    /// The certificate that is to be trusted.
    pub(crate) fn ca_file(&self) -> String {
        self.directory.path().join("ca.pem").display().to_string()
    }

    /// A certificate by which a client is `user`.
    pub(crate) fn certificate(&self, user: &str) -> Certified {
        self.authority.client(user).expect("a certificate")
    }

    /// What `user` is configured with.
    pub(crate) fn sasl(&self, mechanism: &str, user: &str, password: &str) -> Vec<(&'static str, String)> {
        vec![
            ("D02__KAFKA__BOOTSTRAP_SERVERS", self.address("SECURED")),
            ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
            ("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", self.ca_file()),
            ("D02__KAFKA__PROPERTIES__SASL_MECHANISM", mechanism.to_owned()),
            ("D02__KAFKA__PROPERTIES__SASL_USERNAME", user.to_owned()),
            ("D02__KAFKA__PROPERTIES__SASL_PASSWORD", password.to_owned()),
        ]
    }

    /// What a client of the authorization server is configured with.
    pub(crate) fn vouched(&self, server: &AuthorizationServer, user: &str) -> Vec<(&'static str, String)> {
        let mut environment = server.environment(user);
        environment.extend([
            ("D02__KAFKA__BOOTSTRAP_SERVERS", self.address("SECURED")),
            ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SASL_SSL".to_owned()),
            ("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", self.ca_file()),
        ]);
        environment
    }

    /// What whoever has this certificate is configured with.
    pub(crate) fn mutual(&self, world: &World, certified: &Certified) -> Vec<(&'static str, String)> {
        let path = |file: &str, text: &str| {
            let path = world.path(file);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        vec![
            ("D02__KAFKA__BOOTSTRAP_SERVERS", self.address("MUTUAL")),
            ("D02__KAFKA__PROPERTIES__SECURITY_PROTOCOL", "SSL".to_owned()),
            ("D02__KAFKA__PROPERTIES__SSL_CA_LOCATION", self.ca_file()),
            (
                "D02__KAFKA__PROPERTIES__SSL_CERTIFICATE_LOCATION",
                path("client.pem", &certified.certificate),
            ),
            (
                "D02__KAFKA__PROPERTIES__SSL_KEY_LOCATION",
                path("client.key", &certified.key),
            ),
        ]
    }

    /// Gives `user` another SCRAM password, as its owner does.
    pub(crate) fn set_password(&self, user: &str, password: &str) {
        let servers = self.servers();
        let config = format!("SCRAM-SHA-512=[password={password}]");
        let arguments = [
            "--bootstrap-server",
            &servers,
            "--alter",
            "--entity-type",
            "users",
            "--entity-name",
            user,
            "--add-config",
            &config,
        ];
        let run = self
            .broker
            .run_tool("org.apache.kafka.tools.ConfigCommand", &arguments.map(str::to_owned));
        run.unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error)));
    }

    /// What one of [`USERS`] is configured with.
    pub(crate) fn of(&self, user: &str) -> Vec<(&'static str, String)> {
        let (user, password) = USERS.into_iter().find(|(name, _)| *name == user).expect("a user");
        self.sasl("SCRAM-SHA-512", user, password)
    }

    /// Gives `user` the rights that docs/operations/kafka.md asks for, by the very commands that stand there.
    pub(crate) fn grant_as_documented(&self, user: &str, world: &World) {
        for arguments in self.documented_for(user, world) {
            self.run_acl_command(&arguments);
        }
    }

    fn run_acl_command(&self, arguments: &[String]) {
        let run = self.broker.run_tool("org.apache.kafka.tools.AclCommand", arguments);
        run.unwrap_or_else(|error| panic!("{}", d02_source::exit::chain(&error)));
    }

    /// The same rights without the tool, a JVM a command: for tests that are about something else.
    pub(crate) fn grant(&self, user: &str, world: &World) {
        let commands = self.documented_for(user, world).into_iter();
        let rights: Vec<Right> = commands.flat_map(|arguments| rights(&arguments)).collect();
        let servers = self.servers();
        rights.iter().for_each(|right| acls::add(&servers, user, right));
        wait_for("the rights", || {
            let are_known = rights.iter().all(|right| acls::is_known(&servers, user, right));
            are_known.then_some(())
        });
    }

    /// The arguments of the documented commands, for `user` and the names of this world.
    fn documented_for(&self, user: &str, world: &World) -> Vec<Vec<String>> {
        let commands = documented_commands();
        assert_eq!(commands.len(), 5, "{commands:?}");
        let for_world = |command: Vec<String>| {
            let argument = |argument: &String| match argument.as_str() {
                "localhost:9092" => self.servers(),
                "User:d02-source" => format!("User:{user}"),
                "d02-source." => format!("{}.", world.name),
                "d02-source" => world.name.clone(),
                "cleargrid.d02.dead-letters" => world.topic("dead"),
                other => match other.strip_prefix("cleargrid.d02.") {
                    Some(kind) => world.topic(kind),
                    None => other.to_owned(),
                },
            };
            command.iter().map(argument).collect()
        };
        commands.into_iter().map(for_world).collect()
    }

    pub(crate) fn take_away(&self, user: &str, right: &Right) {
        acls::remove(&self.servers(), user, right);
    }

    pub(crate) fn give_back(&self, user: &str, right: &Right) {
        let servers = self.servers();
        acls::add(&servers, user, right);
        wait_for("the right", || acls::is_known(&servers, user, right).then_some(()));
    }
}

/// The arguments of each `kafka-acls.sh` in the document.
fn documented_commands() -> Vec<Vec<String>> {
    let document = std::fs::read_to_string("docs/operations/kafka.md").expect("the document");
    let section = document.split_once("## ACLs").expect("the section").1;
    let joined = section.replace("\\\n", " ");
    joined
        .lines()
        .filter_map(|line| line.strip_prefix("$ kafka-acls.sh "))
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// What a command gives: each operation on each resource.
fn rights(arguments: &[String]) -> Vec<Right> {
    let (mut operations, mut resources) = (Vec::new(), Vec::new());
    let mut arguments = arguments.iter().map(String::as_str);
    assert!(arguments.by_ref().any(|argument| argument == "--add"));
    while let Some(name) = arguments.next() {
        let value = arguments.next().expect("a value");
        match name {
            "--allow-principal" => {}
            "--operation" => operations.push(match value {
                "Read" => Operation::Read,
                "Write" => Operation::Write,
                "Create" => Operation::Create,
                "DescribeConfigs" => Operation::DescribeConfigs,
                other => panic!("no operation that a test knows: {other}"),
            }),
            "--topic" => resources.push(Resource::Topic(value.to_owned())),
            "--transactional-id" => resources.push(Resource::TransactionalIds(value.to_owned())),
            "--group" => resources.push(Resource::Group(value.to_owned())),
            "--resource-pattern-type" => assert_eq!(value, "prefixed", "of transactional ids"),
            other => panic!("no option that a test knows: {other}"),
        }
    }
    let of = |resource: Resource| {
        let right = move |operation: &Operation| Right {
            operation: *operation,
            resource: resource.clone(),
        };
        operations.iter().map(right).collect::<Vec<_>>()
    };
    resources.into_iter().flat_map(of).collect()
}

/// As a command takes them.
pub(crate) fn borrowed<'a>(environment: &'a [(&str, String)]) -> Vec<(&'a str, &'a str)> {
    environment
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect()
}
