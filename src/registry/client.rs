//! Asks the registry: one bounded request, with the credentials that the configuration names.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use reqwest::{RequestBuilder, Response, Url, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::answer::{Compatibility, CompatibilityVerdict, MAX_BODY, Registered, RegistryAnswer};
use super::error::RegistryError;
use crate::avro;
use crate::config::{self, SecretSource, SubjectStrategy};
use crate::exit::{Diagnosis, chain};
use crate::loopback::direct_to_loopback;
use crate::tls;

/// The level that every subject of d02-source's should have: each version is readable with each other one, so consumers
/// and source are upgraded in any order, and a topic that holds records of several versions is read whole.
pub(crate) const WANTED_LEVEL: &str = "FULL_TRANSITIVE";

/// Connecting takes no longer, or something is wrong.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A whole request: a registry that checks compatibility with many versions takes its time.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// The only form of a body that every registry takes.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A schema registry with Confluent's API.
#[derive(Debug)]
pub(crate) struct Registry {
    http: Mutex<reqwest::Client>,
    ca_file: Option<PathBuf>,
    url: Url,
    auto_register: bool,
    credentials: Credentials,
    /// Ids never change, so each is asked for once: by subject and schema.
    ids: Mutex<HashMap<(String, String), u32>>,
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

/// The name under which a schema is registered, as Confluent's serialisers form it.
pub(crate) fn subject(strategy: SubjectStrategy, topic: &str, record_name: &str) -> String {
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
    pub(crate) fn new(config: &config::SchemaRegistry) -> Result<Self, RegistryError> {
        let url = config
            .url
            .clone()
            .filter(|url| !url.cannot_be_a_base())
            .ok_or(RegistryError::NoUrl)?;
        let http = build(&url, config.ca_file.as_deref())?;
        let credentials = match (&config.token, &config.username) {
            (Some(token), _) => Credentials::Bearer(token.clone()),
            (None, Some(username)) => Credentials::Basic {
                username: username.clone(),
                password: config.password.clone(),
            },
            (None, None) => Credentials::None,
        };
        Ok(Self {
            http: Mutex::new(http),
            ca_file: config.ca_file.clone(),
            url,
            auto_register: config.auto_register,
            credentials,
            ids: Mutex::default(),
        })
    }

    /// The id of `schema` under `subject`: looked up, else registered if `auto_register` allows it. Asked for once.
    ///
    /// Looked up first, so that a schema which is there needs no right to register, and is not judged again.
    ///
    /// # Errors
    /// Whenever there is no id; every error may be mended while the caller waits.
    pub(crate) async fn schema_id(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let key = (subject.to_owned(), schema.to_owned());
        if let Some(id) = self.ids.lock().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return Ok(*id);
        }
        let id = match self.look_up(subject, schema).await? {
            Some(found) => found.id,
            None if self.auto_register => self.register(subject, schema).await?,
            None => {
                let subject = subject.to_owned();
                return Err(RegistryError::NotRegistered { subject });
            }
        };
        self.ids.lock().unwrap_or_else(PoisonError::into_inner).insert(key, id);
        Ok(id)
    }

    /// How `schema` stands under `subject`; `None` where it does not.
    ///
    /// # Errors
    /// When the registry does not say.
    pub(crate) async fn look_up(&self, subject: &str, schema: &str) -> Result<Option<Registered>, RegistryError> {
        let url = below(&self.url, &["subjects", subject]);
        let look_up = async |url| {
            let request = json_body(self.http().post(url), &json!({ "schema": schema }));
            self.ask(request, "looking up", of_subject(subject)).await
        };
        if let Some(found) = look_up(url.clone()).await?.found()? {
            return Ok(Some(found));
        }
        // Whoever else registered it may have laid out its text in another way: then Apicurio finds it only so.
        let mut normalized = url;
        normalized.set_query(Some("normalize=true"));
        look_up(normalized).await?.found_as(schema)
    }

    /// Registers `schema` under `subject`, whatever `auto_register` says. Gives the id, also where it was there before.
    ///
    /// # Errors
    /// When the registry does not take it, or gives no answer.
    pub(crate) async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let url = below(&self.url, &["subjects", subject, "versions"]);
        let request = json_body(self.http().post(url), &json!({ "schema": schema }));
        let answer = self.ask(request, "registering", of_subject(subject)).await?;
        answer.registered(subject)
    }

    /// Whether `schema` could be registered as the next of `subject`, by the compatibility that is in force. Writes nothing.
    ///
    /// # Errors
    /// When the registry does not say.
    pub(crate) async fn compare(&self, subject: &str, schema: &str) -> Result<CompatibilityVerdict, RegistryError> {
        let compare = async |path: &[&str]| {
            let mut url = below(&self.url, path);
            url.set_query(Some("verbose=true"));
            let request = json_body(self.http().post(url), &json!({ "schema": schema }));
            self.ask(request, "checking the compatibility of", of_subject(subject))
                .await
        };
        let all = ["compatibility", "subjects", subject, "versions"];
        // With all versions where the level says so. A registry from before that question knows the latest only.
        let mut answer = compare(&all).await?;
        if answer.is_unknown_path() {
            answer = compare(&[&all[..], &["latest"]].concat()).await?;
        }
        answer.verdict()
    }

    /// The compatibility in force for `subject`, and whose it is.
    ///
    /// # Errors
    /// When the registry does not say.
    pub(crate) async fn compatibility(&self, subject: &str) -> Result<Compatibility, RegistryError> {
        let of = self.http().get(below(&self.url, &["config", subject]));
        let answer = self.ask(of, READING_LEVEL, format!("subject {subject}")).await?;
        if let Some(level) = answer.subject_level()? {
            return Ok(Compatibility::OfSubject(level));
        }
        let of = self.http().get(below(&self.url, &["config"]));
        let answer = self.ask(of, READING_LEVEL, "the whole registry".to_owned()).await?;
        answer.level().map(Compatibility::OfRegistry)
    }

    /// Gives `subject` the compatibility [`WANTED_LEVEL`].
    ///
    /// # Errors
    /// When the registry refuses, or does not have a compatibility for each subject.
    pub(crate) async fn set_wanted_level(&self, subject: &str) -> Result<(), RegistryError> {
        let url = below(&self.url, &["config", subject]);
        let request = json_body(self.http().put(url), &json!({ "compatibility": WANTED_LEVEL }));
        let answer = self.ask(request, "setting the compatibility of", format!("subject {subject}"));
        answer.await?.done()
    }

    /// The text of the Avro schema with this id, whatever its subject. The caller keeps it: an id never changes its schema.
    ///
    /// # Errors
    /// Whenever there is no such text.
    pub(crate) async fn schema(&self, id: u32) -> Result<String, RegistryError> {
        let url = below(&self.url, &["schemas", "ids", &id.to_string()]);
        let answer = self
            .ask(self.http().get(url), "fetching", format!("schema {id}"))
            .await?;
        answer.schema(id)
    }

    /// As [`Registry::schema`], if it is that of a record of this name.
    ///
    /// # Errors
    /// As there, and when it is another one's: a registry that lost its schemas gives their ids out anew.
    pub(crate) async fn schema_of(&self, id: u32, wanted: &'static str) -> Result<String, RegistryError> {
        let schema = self.schema(id).await?;
        match avro::record_name(&schema) {
            Some(found) if found == wanted => Ok(schema),
            found => Err(RegistryError::Foreign {
                id,
                found: found.unwrap_or_else(|| "no record".to_owned()),
                wanted,
            }),
        }
    }

    /// Whether each id that it gave is still that of its schema; those that are not are forgotten, so that they are asked for
    /// anew, and given with the reason.
    ///
    /// # Errors
    /// When it does not say.
    pub(crate) async fn lost_ids(&self) -> Result<Vec<(String, RegistryError)>, RegistryError> {
        let ids: Vec<((String, String), u32)> = {
            let ids = self.ids.lock().unwrap_or_else(PoisonError::into_inner);
            ids.iter().map(|(key, id)| (key.clone(), *id)).collect()
        };
        let mut lost = Vec::new();
        for (key, id) in ids {
            let (subject, schema) = &key;
            let why = match self.schema(id).await {
                Ok(found) if avro::is_laid_out_as(&found, schema) => continue,
                Ok(_) => RegistryError::Changed { id },
                Err(error) if error.is_lost_id() => error,
                // What was found so far counts; the others are asked for again.
                Err(_) if !lost.is_empty() => break,
                Err(error) => return Err(error),
            };
            lost.push((subject.clone(), why));
            self.ids.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        }
        Ok(lost)
    }

    fn http(&self) -> reqwest::Client {
        self.http.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where there is no connection, a handshake may have failed because `schema_registry.ca_file` was replaced: the next request
    /// goes by the file as it is now.
    fn trust_anew(&self, error: &reqwest::Error) {
        if self.ca_file.is_none() || !error.is_connect() {
            return;
        }
        match build(&self.url, self.ca_file.as_deref()) {
            Ok(http) => *self.http.lock().unwrap_or_else(PoisonError::into_inner) = http,
            // One that is being replaced may be gone for a moment.
            Err(error) => {
                let (code, advice) = (error.code(), error.advice());
                tracing::warn!(%code, advice, "the registry is asked by the certificates that were read before: {}", chain(&error));
            }
        }
    }

    async fn ask(
        &self,
        request: RequestBuilder,
        doing: &'static str,
        target: String,
    ) -> Result<RegistryAnswer, RegistryError> {
        let network = |source: reqwest::Error| RegistryError::Unavailable {
            doing,
            target: target.clone(),
            what: "gave no answer".to_owned(),
            source: Some(source.without_url()),
        };
        let request = request.header(
            header::ACCEPT,
            "application/vnd.schemaregistry.v1+json, application/json",
        );
        let (request, sent) = self.credentials.authorize(request)?;
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => {
                self.trust_anew(&error);
                return Err(network(error));
            }
        };
        let status = response.status();
        let body = bounded_body(response).await.map_err(network)?;
        Ok(RegistryAnswer {
            doing,
            target,
            status,
            body,
            sent,
        })
    }
}

fn build(url: &Url, ca_file: Option<&Path>) -> Result<reqwest::Client, RegistryError> {
    let builder = reqwest::Client::builder()
        .user_agent(concat!("d02-source/", env!("CARGO_PKG_VERSION")))
        // A redirect could carry the credentials to another host, or off TLS.
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(REQUEST_TIMEOUT)
        .gzip(true);
    let builder = tls::trusting(builder, ca_file).map_err(RegistryError::Ca)?;
    direct_to_loopback(builder, url).build().map_err(RegistryError::Http)
}

/// How errors of [`Registry::compatibility`] begin.
const READING_LEVEL: &str = "asking for the compatibility of";

fn of_subject(subject: &str) -> String {
    format!("the schema of subject {subject}")
}

fn json_body(request: RequestBuilder, body: &serde_json::Value) -> RequestBuilder {
    request
        .header(header::CONTENT_TYPE, CONTENT_TYPE)
        .body(body.to_string())
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

impl Credentials {
    /// Secrets are read at every request: a rotated one is a new file. Gives what the request now holds of them.
    fn authorize(&self, request: RequestBuilder) -> Result<(RequestBuilder, Vec<SecretString>), RegistryError> {
        let read = |key, secret: &SecretSource| secret.read().map_err(|source| RegistryError::Secret { key, source });
        Ok(match self {
            Self::None => (request, Vec::new()),
            Self::Basic { username, password } => {
                let password = password
                    .as_ref()
                    .map(|secret| read("schema_registry.password", secret))
                    .transpose()?;
                let exposed = password.as_ref().map(ExposeSecret::expose_secret);
                let encoded = BASE64_STANDARD.encode(format!("{username}:{}", exposed.unwrap_or_default()));
                let request = request.basic_auth(username, exposed);
                (request, password.into_iter().chain([encoded.into()]).collect())
            }
            Self::Bearer(token) => {
                let token = read("schema_registry.token", token)?;
                (request.bearer_auth(token.expose_secret()), vec![token])
            }
        })
    }
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
        let url = |base: &str| below(&Url::parse(base).expect("a URL"), &["subjects", "a/b?-value"]).to_string();
        assert_eq!(url("http://r:8081"), "http://r:8081/subjects/a%2Fb%3F-value");
        for base in ["http://r/apis/ccompat/v7", "http://r/apis/ccompat/v7/"] {
            assert_eq!(url(base), "http://r/apis/ccompat/v7/subjects/a%2Fb%3F-value");
        }
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
            "looking up the schema of subject t-value: the schema registry gave no answer"
        );
        assert!(!format!("{registry:?} {error:?}").contains("hunter2"));
    }
}
