//! Who vouches for this client at the brokers, where they ask for a bearer token? librdkafka's own names; its build here has no
//! HTTP client, so they are not for librdkafka but for `kafka::oauth`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::ExposeSecret;

use super::error::ConfigError;
use super::layers::Values;
use super::values::Property;
use crate::loopback::is_loopback;

/// Client credentials (RFC 6749, section 4.4) for SASL OAUTHBEARER.
#[derive(Debug, Clone)]
pub struct OAuth {
    /// Where tokens are asked for: `https`, or `http` to this machine only.
    pub token_endpoint: Property,
    pub client_id: Property,
    pub client_secret: Property,
    pub scope: Option<Property>,
    /// Certificates (PEM) to trust beside the system's.
    pub ca_file: Option<PathBuf>,
}

impl OAuth {
    /// All that were taken from those for librdkafka.
    pub fn properties(&self) -> impl Iterator<Item = &Property> {
        [&self.token_endpoint, &self.client_id, &self.client_secret]
            .into_iter()
            .chain(&self.scope)
    }
}

/// librdkafka's two names of it.
const MECHANISM: [&str; 2] = ["sasl.mechanism", "sasl.mechanisms"];
const PREFIX: &str = "sasl.oauthbearer.";
const METHOD: &str = "sasl.oauthbearer.method";
const GRANT_TYPE: &str = "sasl.oauthbearer.grant.type";
const ENDPOINT: &str = "sasl.oauthbearer.token.endpoint.url";
const SCOPE: &str = "sasl.oauthbearer.scope";
const CA_FILE: &str = "https.ca.location";
/// Each with librdkafka's second name.
const CLIENT_ID: [&str; 2] = [
    "sasl.oauthbearer.client.id",
    "sasl.oauthbearer.client.credentials.client.id",
];
const CLIENT_SECRET: [&str; 2] = [
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.client.credentials.client.secret",
];

/// Takes out of the properties for librdkafka what is not for it.
pub(super) fn take(
    properties: &mut BTreeMap<String, Property>,
    values: &Values,
    errors: &mut Vec<ConfigError>,
) -> Option<OAuth> {
    let mut given = Given {
        properties: BTreeMap::new(),
        values,
        errors,
    };
    let ours = |name: &String| name.starts_with(PREFIX) || name.starts_with("https.ca.");
    let names: Vec<String> = properties.keys().filter(|name| ours(name)).cloned().collect();
    for name in names {
        if let Some(property) = properties.remove(&name) {
            given.properties.insert(name, property);
        }
    }
    for name in MECHANISM {
        if properties.get(name).is_some_and(Property::is_file) {
            given.error(name, "it is no secret, and has to stand here");
        }
    }
    let is_bearer = |name: &&str| properties.get(*name).and_then(Property::plain) == Some("OAUTHBEARER");
    match MECHANISM.into_iter().find(is_bearer) {
        Some(mechanism) => given.oauth(mechanism),
        None => {
            given.refuse_the_rest("it is for sasl.mechanism = \"OAUTHBEARER\" alone");
            None
        }
    }
}

/// What was given for OAUTHBEARER, and is not understood yet.
struct Given<'a> {
    properties: BTreeMap<String, Property>,
    values: &'a Values,
    errors: &'a mut Vec<ConfigError>,
}

impl Given<'_> {
    fn error(&mut self, property: &str, problem: &str) {
        let inline = format!("kafka.properties.{property}");
        let file = format!("{inline}_file");
        let is_file = self.values.entries.contains_key(&file);
        let key = if is_file { file } else { inline };
        self.errors.push(ConfigError::Conflict {
            layer: self.values.layer(&key),
            key,
            problem: problem.to_owned(),
        });
    }

    fn refuse_the_rest(&mut self, problem: &str) {
        for name in std::mem::take(&mut self.properties).into_keys() {
            self.error(&name, problem);
        }
    }

    /// The one that was given of a property's two names.
    fn one_of(&mut self, names: [&str; 2]) -> Option<Property> {
        let [first, second] = names.map(|name| self.properties.remove(name));
        if first.is_some() && second.is_some() {
            self.error(
                names[1],
                &format!("{} is given as well: they are two names of one thing", names[0]),
            );
        }
        first.or(second)
    }

    fn oauth(&mut self, mechanism: &str) -> Option<OAuth> {
        let method = self.properties.remove(METHOD);
        if method.as_ref().and_then(Property::plain) != Some("oidc") {
            let at = if method.is_some() { METHOD } else { mechanism };
            self.error(at, "tokens come by sasl.oauthbearer.method = \"oidc\" alone");
        }
        let grant = self.properties.remove(GRANT_TYPE);
        if grant.is_some_and(|grant| grant.plain() != Some("client_credentials")) {
            self.error(GRANT_TYPE, "the one grant that is asked for is \"client_credentials\"");
        }
        let (client_id, client_secret) = (self.one_of(CLIENT_ID), self.one_of(CLIENT_SECRET));
        let [token_endpoint, scope, ca_file] = [ENDPOINT, SCOPE, CA_FILE].map(|name| self.properties.remove(name));
        if ca_file.as_ref().is_some_and(Property::is_file) {
            self.error(CA_FILE, "it is a path, and has to stand here");
        }
        if token_endpoint.as_ref().is_some_and(|endpoint| !is_safe(endpoint)) {
            let problem =
                "allowed is an https:// address; the client's secret goes there, so http:// only to this machine";
            self.error(ENDPOINT, problem);
        }
        self.refuse_the_rest(
            "it is not supported; method, grant.type, token.endpoint.url, client.id, client.secret and scope are",
        );
        let (Some(token_endpoint), Some(client_id), Some(client_secret)) = (token_endpoint, client_id, client_secret)
        else {
            let problem = "OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url, client.id and client.secret_file";
            self.error(mechanism, problem);
            return None;
        };
        Some(OAuth {
            token_endpoint,
            client_id,
            client_secret,
            scope,
            ca_file: ca_file.and_then(|path| path.plain().map(PathBuf::from)),
        })
    }
}

/// One in a file is judged when it is read.
fn is_safe(endpoint: &Property) -> bool {
    endpoint.is_file()
        || endpoint
            .read()
            .is_ok_and(|text| token_endpoint(text.expose_secret()).is_some())
}

/// The address, if a secret may be sent there.
pub fn token_endpoint(text: &str) -> Option<Url> {
    let url = Url::parse(text.trim()).ok()?;
    let is_plain = url.has_host() && url.username().is_empty() && url.password().is_none();
    (is_plain && (url.scheme() == "https" || url.scheme() == "http" && is_loopback(&url))).then_some(url)
}
