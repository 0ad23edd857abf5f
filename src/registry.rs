//! Under which id does the schema registry know a schema? Registered or looked up once, by Confluent's API.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode, Url};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::config::{self, SecretError, SubjectStrategy};
use crate::upstream::{ClientError, certificates};

/// A registry answers in milliseconds, or not at all.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An answer here is an id or a message.
const MAX_BODY: usize = 1 << 20;

/// The longest part of a foreign message that is repeated.
const MAX_MESSAGE: usize = 500;

/// A Confluent-compatible schema registry.
pub struct Registry {
    http: reqwest::Client,
    url: Url,
    config: config::SchemaRegistry,
}

#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema_registry.url is missing")]
    NoUrl,
    #[error("setting up the connection to the schema registry")]
    Client(#[source] ClientError),
    #[error("reading a secret of schema_registry")]
    Secret(#[source] SecretError),
    #[error("the schema registry at {url} does not answer")]
    Network { url: String, source: reqwest::Error },
    #[error("the schema registry refuses the schema as incompatible with what {subject} has: {message}")]
    Incompatible { subject: String, message: String },
    #[error("{subject} does not have this schema, and schema_registry.auto_register is off: {message}")]
    NotRegistered { subject: String, message: String },
    #[error("the schema registry refuses access to {subject}: {status}: {message}")]
    Refused {
        subject: String,
        status: u16,
        message: String,
    },
    #[error("the schema registry calls the schema of {subject} invalid: {message}")]
    Invalid { subject: String, message: String },
    #[error("the schema registry answered {status} for {subject}: {message}")]
    Unavailable {
        subject: String,
        status: u16,
        message: String,
    },
}

impl RegistryError {
    /// What a person should do; the source waits meanwhile, and tries again.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoUrl => "set schema_registry.url, or avro.encoding = \"single-object\"",
            Self::Client(_) => "correct schema_registry.ca_file",
            Self::Secret(_) => "mount the secret where the _file key points, readable for this process",
            Self::Network { .. } => "check schema_registry.url and that the registry is up",
            Self::Incompatible { .. } => {
                "somebody registered another schema there: write to another topic or subject_strategy, or remove that \
                 schema; nothing is written meanwhile"
            }
            Self::NotRegistered { .. } => {
                "register avro/account.avsc there, or set schema_registry.auto_register = true"
            }
            Self::Refused { .. } => "check schema_registry.username and password_file, or token_file, and their rights",
            Self::Invalid { .. } => "this is a registry that cannot take the schema: tell us which one it is",
            Self::Unavailable { .. } => "check schema_registry.url, path included, and the registry's own log",
        }
    }
}

#[derive(Serialize)]
struct Schema<'a> {
    schema: &'a str,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    message: String,
}

impl Registry {
    /// # Errors
    /// When the URL is missing or the CA file cannot be used.
    pub fn new(config: &config::SchemaRegistry) -> Result<Self, RegistryError> {
        let url = config.url.clone().ok_or(RegistryError::NoUrl)?;
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(TIMEOUT)
            .gzip(true);
        if let Some(path) = &config.ca_file {
            for certificate in certificates(path).map_err(RegistryError::Client)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder
            .build()
            .map_err(|error| RegistryError::Client(ClientError::Http(error)))?;
        Ok(Self {
            http,
            url,
            config: config.clone(),
        })
    }

    /// Registers `schema` under `subject`, or looks it up where registering is off; gives its id.
    ///
    /// # Errors
    /// Each of them may be mended while the caller waits.
    pub async fn schema_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let mut url = self.url.clone();
        let path = ["subjects", subject, "versions"];
        let path = if self.config.auto_register {
            &path[..]
        } else {
            &path[..2]
        };
        url.path_segments_mut()
            .expect("the configuration takes http and https only")
            .pop_if_empty()
            .extend(path);
        let request = self.http.post(url).json(&Schema { schema });
        let request = request.header("content-type", "application/vnd.schemaregistry.v1+json");
        let (status, body) = self.send(request).await?;
        let subject = subject.to_owned();
        if status.is_success() {
            return match serde_json::from_slice(&body) {
                Ok(Id { id }) => Ok(id),
                Err(_) => {
                    let message = format!("{} bytes without an id", body.len());
                    Err(RegistryError::Unavailable {
                        subject,
                        status: status.as_u16(),
                        message,
                    })
                }
            };
        }
        let problem: Problem = serde_json::from_slice(&body).unwrap_or_default();
        let message: String = problem
            .message
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_MESSAGE)
            .collect();
        let status = status.as_u16();
        Err(match status {
            409 => RegistryError::Incompatible { subject, message },
            404 if !self.config.auto_register => RegistryError::NotRegistered { subject, message },
            401 | 403 => RegistryError::Refused {
                subject,
                status,
                message,
            },
            422 => RegistryError::Invalid { subject, message },
            _ => RegistryError::Unavailable {
                subject,
                status,
                message,
            },
        })
    }

    async fn send(&self, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), RegistryError> {
        let network = |source: reqwest::Error| RegistryError::Network {
            url: self.shown_url(),
            source: source.without_url(),
        };
        let mut response = self.authorized(request)?.send().await.map_err(network)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(network)? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                break;
            }
        }
        Ok((response.status(), body))
    }

    /// Secrets are read for every request: a mounted one may have been replaced.
    fn authorized(&self, request: RequestBuilder) -> Result<RequestBuilder, RegistryError> {
        if let Some(token) = &self.config.token {
            let token = token.read().map_err(RegistryError::Secret)?;
            return Ok(request.bearer_auth(token.expose_secret()));
        }
        let Some(username) = &self.config.username else {
            return Ok(request);
        };
        let password = self
            .config
            .password
            .as_ref()
            .map(config::SecretSource::read)
            .transpose();
        let password = password.map_err(RegistryError::Secret)?;
        Ok(request.basic_auth(username, password.as_ref().map(ExposeSecret::expose_secret)))
    }

    /// The URL without user and password.
    fn shown_url(&self) -> String {
        let mut url = self.url.clone();
        // Neither fails for http and https.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.to_string()
    }
}

/// The subject of a topic's values under a strategy, as Confluent's serializers name it.
pub fn subject(strategy: SubjectStrategy, topic: &str, record_name: &str) -> String {
    match strategy {
        SubjectStrategy::TopicName => format!("{topic}-value"),
        SubjectStrategy::RecordName => record_name.to_owned(),
        SubjectStrategy::TopicRecordName => format!("{topic}-{record_name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_confluents_serializers_do() {
        let subject = |strategy| subject(strategy, "t", "cleargrid.d02.Account");
        assert_eq!(subject(SubjectStrategy::TopicName), "t-value");
        assert_eq!(subject(SubjectStrategy::RecordName), "cleargrid.d02.Account");
        assert_eq!(subject(SubjectStrategy::TopicRecordName), "t-cleargrid.d02.Account");
    }
}
