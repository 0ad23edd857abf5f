//! Who vouches for this client at the brokers, where they ask for a bearer token? librdkafka's own names; its build here has no
//! HTTP client, so they are not for librdkafka but for `sink::oauth`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::Url;
use secrecy::ExposeSecret;

use super::error::ConfigError;
use super::layers::Values;
use super::values::Property;

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
    let mut error = |property: &str, problem: &str| {
        let inline = format!("kafka.properties.{property}");
        let file = format!("{inline}_file");
        let key = if values.entries.contains_key(&file) {
            file
        } else {
            inline
        };
        errors.push(ConfigError::Conflict {
            layer: values.layer(&key),
            key,
            problem: problem.to_owned(),
        });
    };
    let ours = |name: &String| name.starts_with(PREFIX) || name.starts_with("https.ca.");
    let names: Vec<String> = properties.keys().filter(|name| ours(name)).cloned().collect();
    let mut given: BTreeMap<String, Property> = BTreeMap::new();
    for name in names {
        if let Some(property) = properties.remove(&name) {
            given.insert(name, property);
        }
    }
    let mechanism = ["sasl.mechanism", "sasl.mechanisms"]
        .into_iter()
        .find(|name| properties.get(*name).and_then(Property::plain) == Some("OAUTHBEARER"));
    let Some(mechanism) = mechanism else {
        for name in given.keys() {
            error(name, "it is for sasl.mechanism = \"OAUTHBEARER\" alone");
        }
        return None;
    };
    let method = given.remove(METHOD);
    if method.as_ref().and_then(Property::plain) != Some("oidc") {
        let at = if method.is_some() { METHOD } else { mechanism };
        error(at, "tokens come by sasl.oauthbearer.method = \"oidc\" alone");
    }
    if let Some(grant) = given.remove(GRANT_TYPE)
        && grant.plain() != Some("client_credentials")
    {
        error(GRANT_TYPE, "the one grant that is asked for is \"client_credentials\"");
    }
    let mut one_of = |names: [&str; 2]| {
        let found = names.map(|name| given.remove(name));
        found.into_iter().flatten().next()
    };
    let (client_id, client_secret) = (one_of(CLIENT_ID), one_of(CLIENT_SECRET));
    let (token_endpoint, scope, ca_file) = (given.remove(ENDPOINT), given.remove(SCOPE), given.remove(CA_FILE));
    for name in given.keys() {
        error(
            name,
            "it is not supported; method, grant.type, token.endpoint.url, client.id, client.secret and scope are",
        );
    }
    if token_endpoint.as_ref().is_some_and(|endpoint| !is_safe(endpoint)) {
        let problem = "allowed is an https:// address; the client's secret goes there, so http:// only to this machine";
        error(ENDPOINT, problem);
    }
    let (Some(token_endpoint), Some(client_id), Some(client_secret)) = (token_endpoint, client_id, client_secret)
    else {
        let problem = "OAUTHBEARER needs sasl.oauthbearer.token.endpoint.url, client.id and client.secret_file";
        error(mechanism, problem);
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
    let host = url.host_str()?;
    let is_here = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: IpAddr| ip.is_loopback());
    let is_plain = url.username().is_empty() && url.password().is_none();
    (is_plain && (url.scheme() == "https" || url.scheme() == "http" && is_here)).then_some(url)
}
