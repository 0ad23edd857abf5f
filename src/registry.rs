//! Which id does the registry give a schema, and which schema has an id? One bounded request to Confluent's API, and its
//! answer told apart.
//!
//! ```text
//! register  POST <url>/subjects/<subject>/versions  {"schema": "…"} ─► {"id": 1}
//! look up   POST <url>/subjects/<subject>           {"schema": "…"} ─► {"id": 1, …}
//! fetch     GET  <url>/schemas/ids/<id>                             ─► {"schema": "…", …}
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, Url, header};
use secrecy::ExposeSecret;
use serde::Deserialize;

use crate::config::{self, SecretError, SecretSource, SubjectStrategy};
use crate::upstream::{ClientError, certificates};

/// Connecting takes no longer, or something is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole request: a registry that checks compatibility with many versions takes its time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// An answer holds a schema at the most.
const MAX_BODY: usize = 1 << 20;

/// Characters of a registry's message that are shown: one about compatibility can quote both schemas.
const MAX_MESSAGE: usize = 1_000;

/// A schema registry with Confluent's API.
#[derive(Debug)]
pub struct Registry {
    http: reqwest::Client,
    url: Url,
    request: Request,
    credentials: Credentials,
    /// Ids never change, so each is asked for once: by subject and schema.
    ids: Mutex<HashMap<(String, String), u32>>,
}

/// What is asked of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    Register,
    LookUp,
}

#[derive(Debug)]
enum Credentials {
    None,
    Basic {
        username: String,
        password: Option<SecretSource>,
    },
    Bearer(SecretSource),
}

/// Why there is no schema, or no id of one. No text holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema_registry.url is not set, or cannot have a path")]
    NoUrl,
    #[error("reading schema_registry.ca_file {path}")]
    ReadCa { path: String, source: std::io::Error },
    #[error("schema_registry.ca_file {path} holds no PEM certificate that can be used")]
    Ca { path: String },
    #[error("setting up HTTP for the schema registry")]
    Http(#[source] reqwest::Error),
    #[error("reading {key}")]
    Secret { key: &'static str, source: SecretError },
    #[error(
        "registering the schema of subject {subject}: it is not compatible with those registered before: {message}"
    )]
    Incompatible { subject: String, message: String },
    #[error(
        "the schema of subject {subject} is not registered: register it or set schema_registry.auto_register = true"
    )]
    NotRegistered { subject: String },
    #[error("{doing} {schema}: the schema registry refused with {status}: {message}")]
    Refused {
        doing: &'static str,
        schema: String,
        status: u16,
        message: String,
    },
    #[error("{doing} the schema of subject {subject}: the schema registry does not take the schema: {message}")]
    InvalidSchema {
        doing: &'static str,
        subject: String,
        message: String,
    },
    /// The network, a server's fault, anything that may pass.
    #[error("{doing} {schema}: the schema registry {what}")]
    Unavailable {
        doing: &'static str,
        schema: String,
        what: String,
        source: Option<reqwest::Error>,
    },
    #[error("{doing} {schema}: the answer is no schema registry's: {what}")]
    NoAnswerForm {
        doing: &'static str,
        schema: String,
        what: String,
    },
    #[error("the schema registry has no schema {id}")]
    UnknownId { id: u32 },
    #[error("schema {id} of the schema registry is not Avro but {kind}")]
    NotAvro { id: u32, kind: String },
}

impl RegistryError {
    /// What a person should do about it; the request is repeated meanwhile.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoUrl => "set schema_registry.url",
            Self::ReadCa { .. } | Self::Ca { .. } => {
                "correct schema_registry.ca_file: a PEM file with the registry's CA"
            }
            Self::Http(_) => "correct schema_registry.ca_file and the proxy variables of the environment",
            Self::Secret { .. } => "mount the secret where schema_registry.*_file points, readable for this process",
            Self::Incompatible { .. } => {
                "see whether consumers can live with the new schema; then loosen the subject's compatibility, or run the \
                 version of d02-source that registered the old one"
            }
            Self::NotRegistered { .. } => "register avro/account.avsc under the subject, or set auto_register",
            Self::Refused { .. } => {
                "check schema_registry.username, password_file and token_file, and the right to this subject: READ, with \
                 auto_register also WRITE"
            }
            Self::InvalidSchema { .. } => "see whether the registry is read-only or has rules of its own for schemas",
            Self::Unavailable { .. } => {
                "check that the registry is up, and schema_registry.url, ca_file, DNS and proxy"
            }
            Self::NoAnswerForm { .. } => {
                "correct schema_registry.url: it is the base of Confluent's API, which may need a path (Apicurio: \
                 /apis/ccompat/v7)"
            }
            Self::UnknownId { .. } => "correct schema_registry.url: the record was written with another registry's ids",
            Self::NotAvro { .. } => "nothing of d02-source's is written so: find out who wrote the record",
        }
    }
}

/// The name under which a schema is registered, as Confluent's serialisers form it.
pub fn subject(strategy: SubjectStrategy, topic: &str, record_name: &str) -> String {
    match strategy {
        SubjectStrategy::TopicName => format!("{topic}-value"),
        SubjectStrategy::RecordName => record_name.to_owned(),
        SubjectStrategy::TopicRecordName => format!("{topic}-{record_name}"),
    }
}

impl Registry {
    /// Asks nothing yet, and reads no secret.
    ///
    /// # Errors
    /// When there is no URL, or the CA file cannot be used.
    pub fn new(config: &config::SchemaRegistry) -> Result<Self, RegistryError> {
        let url = config
            .url
            .clone()
            .filter(|url| !url.cannot_be_a_base())
            .ok_or(RegistryError::NoUrl)?;
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("d02-source/", env!("CARGO_PKG_VERSION")))
            // A redirect could carry the credentials to another host, or off TLS.
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .gzip(true);
        if let Some(path) = &config.ca_file {
            let certificates = certificates(path).map_err(|error| match error {
                ClientError::ReadCa { path, source } => RegistryError::ReadCa { path, source },
                ClientError::Ca { path } => RegistryError::Ca { path },
                ClientError::Http(source) => RegistryError::Http(source),
            })?;
            for certificate in certificates {
                builder = builder.add_root_certificate(certificate);
            }
        }
        let http = builder.build().map_err(RegistryError::Http)?;
        let credentials = match (&config.token, &config.username) {
            (Some(token), _) => Credentials::Bearer(token.clone()),
            (None, Some(username)) => Credentials::Basic {
                username: username.clone(),
                password: config.password.clone(),
            },
            (None, None) => Credentials::None,
        };
        let request = if config.auto_register {
            Request::Register
        } else {
            Request::LookUp
        };
        Ok(Self {
            http,
            url,
            request,
            credentials,
            ids: Mutex::default(),
        })
    }

    /// The id of `schema` under `subject`: registered if it may be, else looked up. Asked for once.
    ///
    /// # Errors
    /// Whenever there is no id; every error may be mended while the caller waits.
    pub async fn schema_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let key = (subject.to_owned(), schema.to_owned());
        if let Some(id) = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*id);
        }
        let id = self.ask_for_id(subject, schema).await?;
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id);
        Ok(id)
    }

    async fn ask_for_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let request = self
            .http
            .post(self.request.url(&self.url, subject))
            .header(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")
            .body(body);
        let (status, body) = self.ask(request, self.request.doing(), &of_subject(subject)).await?;
        self.request.id(subject, status, body.as_deref())
    }

    /// The text of the Avro schema with this id, whatever its subject. The caller keeps it: an id never changes its schema.
    ///
    /// # Errors
    /// Whenever there is no such text.
    pub async fn schema(&self, id: u32) -> Result<String, RegistryError> {
        let url = below(&self.url, &["schemas", "ids", &id.to_string()]);
        let (status, body) = self.ask(self.http.get(url), FETCHING, &of_id(id)).await?;
        schema_in(id, status, body.as_deref())
    }

    /// Status and body of the answer; `None` for a body that is too large.
    async fn ask(
        &self,
        request: RequestBuilder,
        doing: &'static str,
        schema: &str,
    ) -> Result<(StatusCode, Option<Vec<u8>>), RegistryError> {
        let network = |source: reqwest::Error| RegistryError::Unavailable {
            doing,
            schema: schema.to_owned(),
            what: "gave no answer".to_owned(),
            source: Some(source.without_url()),
        };
        let request = request.header(
            header::ACCEPT,
            "application/vnd.schemaregistry.v1+json, application/json",
        );
        let response = self.credentials.authorize(request)?.send().await.map_err(network)?;
        let status = response.status();
        let body = bounded_body(response).await.map_err(network)?;
        Ok((status, body))
    }
}

/// How errors of [`Registry::schema`] begin.
const FETCHING: &str = "fetching";

fn of_subject(subject: &str) -> String {
    format!("the schema of subject {subject}")
}

fn of_id(id: u32) -> String {
    format!("schema {id}")
}

/// Below the registry's URL, whatever path that has; each segment is percent-encoded.
fn below(registry: &Url, path: &[&str]) -> Url {
    let mut url = registry.clone();
    url.path_segments_mut()
        .expect("such a URL is refused when the registry is set up")
        .pop_if_empty()
        .extend(path);
    url
}

/// What a registry says when it does not do what it was asked for.
#[derive(Deserialize, Default)]
struct Fault {
    error_code: Option<i64>,
    message: Option<String>,
}

impl Fault {
    fn of(body: &[u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    fn message(&self) -> String {
        self.message
            .as_deref()
            .map_or_else(|| "it does not say why".to_owned(), one_line)
    }
}

/// What a status means that has no meaning of its own for the request.
fn fault(doing: &'static str, schema: String, status: StatusCode, message: String) -> RegistryError {
    match status.as_u16() {
        status @ (401 | 403) => RegistryError::Refused {
            doing,
            schema,
            status,
            message,
        },
        status @ (408 | 425 | 429 | 500..=599) => RegistryError::Unavailable {
            doing,
            schema,
            what: format!("answered {status}: {message}"),
            source: None,
        },
        status => RegistryError::NoAnswerForm {
            doing,
            schema,
            what: format!("{status}: {message}"),
        },
    }
}

fn too_large(doing: &'static str, schema: String, status: StatusCode) -> RegistryError {
    let what = format!("{status} with more than {MAX_BODY} bytes");
    RegistryError::NoAnswerForm { doing, schema, what }
}

/// The schema in an answer. `body` is `None` if it was too large.
fn schema_in(id: u32, status: StatusCode, body: Option<&[u8]>) -> Result<String, RegistryError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Found {
        schema: String,
        /// Absent for Avro.
        schema_type: Option<String>,
    }
    let Some(body) = body else {
        return Err(too_large(FETCHING, of_id(id), status));
    };
    if !status.is_success() {
        let found = Fault::of(body);
        return Err(match (status.as_u16(), found.error_code) {
            (404, Some(40403)) => RegistryError::UnknownId { id },
            _ => fault(FETCHING, of_id(id), status, found.message()),
        });
    }
    let found: Found = serde_json::from_slice(body).map_err(|_| RegistryError::NoAnswerForm {
        doing: FETCHING,
        schema: of_id(id),
        what: format!("{status} with {} bytes that hold no schema", body.len()),
    })?;
    match found.schema_type.filter(|kind| kind != "AVRO") {
        Some(kind) => Err(RegistryError::NotAvro {
            id,
            kind: one_line(&kind),
        }),
        None => Ok(found.schema),
    }
}

impl Credentials {
    /// Secrets are read at every request: a rotated one is a new file.
    fn authorize(&self, request: RequestBuilder) -> Result<RequestBuilder, RegistryError> {
        let read = |key, secret: &SecretSource| secret.read().map_err(|source| RegistryError::Secret { key, source });
        Ok(match self {
            Self::None => request,
            Self::Basic { username, password } => {
                let password = password
                    .as_ref()
                    .map(|secret| read("schema_registry.password", secret))
                    .transpose()?;
                request.basic_auth(username, password.as_ref().map(ExposeSecret::expose_secret))
            }
            Self::Bearer(token) => request.bearer_auth(read("schema_registry.token", token)?.expose_secret()),
        })
    }
}

impl Request {
    fn doing(self) -> &'static str {
        match self {
            Self::Register => "registering",
            Self::LookUp => "looking up",
        }
    }

    fn url(self, registry: &Url, subject: &str) -> Url {
        match self {
            Self::Register => below(registry, &["subjects", subject, "versions"]),
            Self::LookUp => below(registry, &["subjects", subject]),
        }
    }

    /// The id in an answer. `body` is `None` if it was too large.
    fn id(self, subject: &str, status: StatusCode, body: Option<&[u8]>) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Registered {
            id: u32,
        }
        let (doing, schema) = (self.doing(), of_subject(subject));
        let Some(body) = body else {
            return Err(too_large(doing, schema, status));
        };
        if status.is_success() {
            return serde_json::from_slice(body)
                .map(|Registered { id }| id)
                .map_err(|_| RegistryError::NoAnswerForm {
                    doing,
                    schema,
                    what: format!("{status} with {} bytes that hold no schema id", body.len()),
                });
        }
        let found = Fault::of(body);
        let (subject, message) = (subject.to_owned(), found.message());
        Err(match (status.as_u16(), found.error_code) {
            (404, Some(40401 | 40403)) if self == Self::LookUp => RegistryError::NotRegistered { subject },
            (409, _) if self == Self::Register => RegistryError::Incompatible { subject, message },
            (422, _) => RegistryError::InvalidSchema {
                doing,
                subject,
                message,
            },
            _ => fault(doing, schema, status, message),
        })
    }
}

/// Text from elsewhere as a part of one line, shortened.
fn one_line(text: &str) -> String {
    let visible = text
        .trim()
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    let mut line: String = visible.take(MAX_MESSAGE).collect();
    if text.trim().chars().nth(MAX_MESSAGE).is_some() {
        line.push('…');
    }
    line
}

/// The body, or nothing where it is larger than [`MAX_BODY`], counted decompressed.
async fn bounded_body(mut response: Response) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_BODY {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::SecretString;

    fn config(url: &str) -> config::SchemaRegistry {
        config::SchemaRegistry {
            url: Some(Url::parse(url).expect("a URL")),
            auto_register: true,
            username: None,
            password: None,
            token: None,
            ca_file: None,
        }
    }

    fn answer(request: Request, status: u16, body: &str) -> Result<u32, RegistryError> {
        let status = StatusCode::from_u16(status).expect("a status");
        request.id("t-value", status, Some(body.as_bytes()))
    }

    #[track_caller]
    fn refusal(request: Request, status: u16, body: &str) -> String {
        let error = answer(request, status, body).expect_err("no id");
        assert!(!error.advice().is_empty());
        error.to_string()
    }

    #[test]
    fn subjects_are_named_as_confluents_serialisers_name_them() {
        let named = |strategy| subject(strategy, "cleargrid.d02.accounts", "cleargrid.d02.Account");
        assert_eq!(named(SubjectStrategy::TopicName), "cleargrid.d02.accounts-value");
        assert_eq!(named(SubjectStrategy::RecordName), "cleargrid.d02.Account");
        assert_eq!(
            named(SubjectStrategy::TopicRecordName),
            "cleargrid.d02.accounts-cleargrid.d02.Account"
        );
    }

    #[test]
    fn the_url_keeps_its_path_and_the_subject_is_one_segment() {
        let url =
            |base: &str, request: Request| request.url(&Url::parse(base).expect("a URL"), "a/b?-value").to_string();
        assert_eq!(
            url("http://r:8081", Request::LookUp),
            "http://r:8081/subjects/a%2Fb%3F-value"
        );
        for base in ["http://r/apis/ccompat/v7", "http://r/apis/ccompat/v7/"] {
            let registered = url(base, Request::Register);
            assert_eq!(registered, "http://r/apis/ccompat/v7/subjects/a%2Fb%3F-value/versions");
            let fetched = below(&Url::parse(base).expect("a URL"), &["schemas", "ids", "7"]);
            assert_eq!(fetched.as_str(), "http://r/apis/ccompat/v7/schemas/ids/7");
        }
    }

    #[test]
    fn an_id_is_read_from_both_answers() {
        assert_eq!(answer(Request::Register, 200, r#"{"id":7}"#).expect("an id"), 7);
        let found = r#"{"subject":"t-value","id":4294967295,"version":1,"schema":"{}"}"#;
        assert_eq!(answer(Request::LookUp, 200, found).expect("an id"), u32::MAX);
    }

    #[test]
    fn refusals_are_told_apart() {
        let (register, look_up) = (Request::Register, Request::LookUp);
        let fault = |code: u32, message: &str| format!(r#"{{"error_code":{code},"message":"{message}"}}"#);
        assert_eq!(
            refusal(register, 409, &fault(409, "type\\nchanged")),
            "registering the schema of subject t-value: it is not compatible with those registered before: type changed"
        );
        for code in [40401, 40403] {
            assert_eq!(
                refusal(look_up, 404, &fault(code, "no")),
                "the schema of subject t-value is not registered: register it or set schema_registry.auto_register = true"
            );
        }
        assert_eq!(
            refusal(look_up, 403, "<html>"),
            "looking up the schema of subject t-value: the schema registry refused with 403: it does not say why"
        );
        assert_eq!(
            refusal(register, 422, &fault(42201, "bad")),
            "registering the schema of subject t-value: the schema registry does not take the schema: bad"
        );
        assert_eq!(
            refusal(register, 503, ""),
            "registering the schema of subject t-value: the schema registry answered 503: it does not say why"
        );
        for (request, status, body) in [(look_up, 404, "Not Found"), (register, 404, ""), (register, 302, "")] {
            let error = answer(request, status, body).expect_err("no id");
            assert!(matches!(error, RegistryError::NoAnswerForm { .. }), "{error}");
        }
        for body in [r#"{"id":-1}"#, "{}", "<html>"] {
            let error = answer(register, 200, body).expect_err("no id");
            assert!(matches!(error, RegistryError::NoAnswerForm { .. }), "{error}");
        }
        let error = register.id("t-value", StatusCode::OK, None).expect_err("too large");
        assert!(matches!(error, RegistryError::NoAnswerForm { .. }), "{error}");
    }

    #[test]
    fn a_schema_is_read_by_its_id_and_refusals_are_told_apart() {
        let answer = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).expect("a status");
            schema_in(7, status, Some(body.as_bytes())).map_err(|error| {
                assert!(!error.advice().is_empty());
                error.to_string()
            })
        };
        let refusal = |status, body| answer(status, body).expect_err("no schema");
        assert_eq!(answer(200, r#"{"schema":"\"int\""}"#).as_deref(), Ok("\"int\""));
        assert_eq!(
            answer(200, r#"{"schemaType":"AVRO","schema":"{}"}"#).as_deref(),
            Ok("{}")
        );
        assert_eq!(
            refusal(200, r#"{"schemaType":"PROTOBUF","schema":""}"#),
            "schema 7 of the schema registry is not Avro but PROTOBUF"
        );
        assert_eq!(
            refusal(404, r#"{"error_code":40403,"message":"no"}"#),
            "the schema registry has no schema 7"
        );
        assert_eq!(
            refusal(401, ""),
            "fetching schema 7: the schema registry refused with 401: it does not say why"
        );
        assert_eq!(
            refusal(503, r#"{"message":"a\nb"}"#),
            "fetching schema 7: the schema registry answered 503: a b"
        );
        for (status, body) in [(404, "Not Found"), (302, ""), (200, "{}"), (200, "<html>")] {
            let refusal = refusal(status, body);
            assert!(refusal.contains("the answer is no schema registry's"), "{refusal}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let shown = one_line(&"é".repeat(MAX_MESSAGE + 1));
        assert_eq!(shown.chars().count(), MAX_MESSAGE + 1);
        assert!(shown.ends_with('…'));
    }

    #[tokio::test]
    async fn no_secret_is_in_errors_or_debug() {
        // Nothing listens on port 1.
        let mut config = config("http://127.0.0.1:1/");
        config.username = Some("svc".to_owned());
        config.password = Some(SecretSource::Inline(SecretString::from("hunter2")));
        let registry = Registry::new(&config).expect("a registry");
        let error = registry.schema_id("t-value", "{}").await.expect_err("no answer");
        assert!(matches!(error, RegistryError::Unavailable { .. }), "{error}");
        assert_eq!(
            error.to_string(),
            "registering the schema of subject t-value: the schema registry gave no answer"
        );
        assert!(!format!("{registry:?} {error:?}").contains("hunter2"));
    }
}
