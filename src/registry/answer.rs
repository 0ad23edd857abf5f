//! What does an answer of the registry's mean? Pure: status and body, told apart.
//!
//! Registries differ in how they say that there is nothing: Confluent's codes 40401 (no such subject), 40402 (no such
//! version), 40403 (no such schema) and 40408 (the subject has no compatibility of its own) all come with 404.

use reqwest::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::RegistryError;
use crate::avro::is_laid_out_as;
use crate::config::hide;

/// An answer holds a schema at the most.
pub(super) const MAX_BODY: usize = 1 << 20;

/// Characters of a registry's message that are shown: one about compatibility can quote both schemas.
const MAX_MESSAGE: usize = 1_000;

/// A schema as it is registered under a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(crate) struct Registered {
    pub id: u32,
    /// Within the subject; not every registry says it.
    pub version: Option<u32>,
}

/// Whether a schema may follow those of a subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CompatibilityVerdict {
    Compatible,
    /// With the registry's reasons, if it gives any.
    Incompatible(Vec<String>),
    /// The subject holds no schema yet.
    NothingToFollow,
}

/// Which compatibility is in force for a subject, as the registry names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Compatibility {
    OfSubject(String),
    OfRegistry(String),
}

/// What came back, with what was asked: the words of its errors.
#[derive(Debug)]
pub(super) struct RegistryAnswer {
    pub doing: &'static str,
    pub target: String,
    pub status: StatusCode,
    /// `None` if it was too large.
    pub body: Option<Vec<u8>>,
    /// What the request held of secrets, which no error repeats.
    pub sent: Vec<SecretString>,
}

/// What a registry says when it does not do what it was asked for.
#[derive(Deserialize, Default)]
struct ErrorBody {
    error_code: Option<i64>,
    message: Option<String>,
}

impl ErrorBody {
    fn message(&self) -> String {
        self.message
            .as_deref()
            .map_or_else(|| "it does not say why".to_owned(), one_line)
    }
}

/// A level as `GET /config` and `GET /config/<subject>` give it.
#[derive(Deserialize)]
struct LevelBody {
    #[serde(rename = "compatibilityLevel", alias = "compatibility")]
    level: String,
}

impl RegistryAnswer {
    /// The id of a schema that was to be registered.
    pub(super) fn registered(&self, subject: &str) -> Result<u32, RegistryError> {
        self.success::<Registered>("schema id")?
            .map(|registered| registered.id)
            .map_err(|fault| match self.status.as_u16() {
                409 => RegistryError::Incompatible {
                    subject: subject.to_owned(),
                    message: fault.message(),
                },
                _ => self.failure(&fault),
            })
    }

    /// A schema that was looked up; `None`: the subject does not hold it.
    pub(super) fn found(&self) -> Result<Option<Registered>, RegistryError> {
        self.unless_absent("schema id", &[40401, 40403])
    }

    /// A schema that was looked up by what it means, not by its text; `None` also where the registry found one whose
    /// values are laid out in another way than those of `schema`.
    pub(super) fn found_as(&self, schema: &str) -> Result<Option<Registered>, RegistryError> {
        #[derive(Deserialize)]
        struct LookedUpSchema {
            schema: Option<String>,
            #[serde(flatten)]
            registered: Registered,
        }
        let found: Option<LookedUpSchema> = self.unless_absent("schema id", &[40401, 40403])?;
        let is_same = |found: &LookedUpSchema| {
            found
                .schema
                .as_deref()
                .is_some_and(|found| is_laid_out_as(found, schema))
        };
        Ok(found.filter(is_same).map(|found| found.registered))
    }

    pub(super) fn verdict(&self) -> Result<CompatibilityVerdict, RegistryError> {
        #[derive(Deserialize)]
        struct CompatibilityBody {
            is_compatible: bool,
            #[serde(default)]
            messages: Vec<String>,
        }
        Ok(match self.unless_absent("verdict", &[40401, 40402])? {
            None => CompatibilityVerdict::NothingToFollow,
            Some(CompatibilityBody {
                is_compatible: true, ..
            }) => CompatibilityVerdict::Compatible,
            Some(CompatibilityBody { messages, .. }) => {
                CompatibilityVerdict::Incompatible(messages.iter().map(|message| one_line(message)).collect())
            }
        })
    }

    /// Whether the path itself is unknown: an older registry without this question.
    pub(super) fn is_unknown_path(&self) -> bool {
        let fault = self.fault();
        match self.status.as_u16() {
            405 => true,
            404 => fault.error_code.is_none_or(|code| code == 404),
            _ => false,
        }
    }

    /// The subject's own level; `None`: it has none.
    pub(super) fn subject_level(&self) -> Result<Option<String>, RegistryError> {
        let level = self.unless_absent("compatibility level", &[40401, 40408])?;
        Ok(level.map(|LevelBody { level }| one_line(&level)))
    }

    pub(super) fn level(&self) -> Result<String, RegistryError> {
        self.success("compatibility level")?
            .map(|LevelBody { level }| one_line(&level))
            .map_err(|fault| self.failure(&fault))
    }

    /// Whether what was to be set is set.
    pub(super) fn done(&self) -> Result<(), RegistryError> {
        if self.status.is_success() {
            return Ok(());
        }
        Err(self.failure(&self.fault()))
    }

    /// The schema with this id.
    pub(super) fn schema(&self, id: u32) -> Result<String, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct SchemaBody {
            schema: String,
            /// Absent for Avro.
            schema_type: Option<String>,
        }
        let found: Option<SchemaBody> = self.unless_absent("schema", &[40403])?;
        let found = found.ok_or(RegistryError::UnknownId { id })?;
        match found.schema_type.filter(|kind| kind != "AVRO") {
            Some(kind) => Err(RegistryError::NotAvro {
                id,
                kind: one_line(&kind),
            }),
            None => Ok(found.schema),
        }
    }

    /// `None` where the answer is a 404 with one of these codes.
    fn unless_absent<T: DeserializeOwned>(
        &self,
        what: &'static str,
        absent: &[i64],
    ) -> Result<Option<T>, RegistryError> {
        match self.success(what)? {
            Ok(value) => Ok(Some(value)),
            Err(fault)
                if self.status == StatusCode::NOT_FOUND
                    && fault.error_code.is_some_and(|code| absent.contains(&code)) =>
            {
                Ok(None)
            }
            Err(fault) => Err(self.failure(&fault)),
        }
    }

    /// `what` the body of a success holds, or the fault that the registry names.
    fn success<T: DeserializeOwned>(&self, what: &'static str) -> Result<Result<T, ErrorBody>, RegistryError> {
        let Some(body) = &self.body else {
            return Err(self.no_answer_form(format!("{} with more than {MAX_BODY} bytes", self.status)));
        };
        if !self.status.is_success() {
            return Ok(Err(self.fault()));
        }
        serde_json::from_slice(body)
            .map(Ok)
            .map_err(|_| self.no_answer_form(format!("{} with {} bytes that hold no {what}", self.status, body.len())))
    }

    fn fault(&self) -> ErrorBody {
        let body = self.body.as_deref().unwrap_or_default();
        let mut fault: ErrorBody = serde_json::from_slice(body).unwrap_or_default();
        if let Some(message) = &mut fault.message {
            for secret in &self.sent {
                hide(message, secret.expose_secret());
            }
        }
        fault
    }

    /// What a status means that has no meaning of its own for the question.
    fn failure(&self, fault: &ErrorBody) -> RegistryError {
        let (doing, target, message) = (self.doing, self.target.clone(), fault.message());
        match self.status.as_u16() {
            status @ (401 | 403) => RegistryError::Refused {
                doing,
                target,
                status,
                message,
            },
            422 => RegistryError::Invalid { doing, target, message },
            status @ (408 | 425 | 429 | 500..=599) => RegistryError::Unavailable {
                doing,
                target,
                what: format!("answered {status}: {message}"),
                source: None,
            },
            status => self.no_answer_form(format!("{status}: {message}")),
        }
    }

    fn no_answer_form(&self, what: String) -> RegistryError {
        RegistryError::NoAnswerForm {
            doing: self.doing,
            target: self.target.clone(),
            what,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Diagnosis;

    fn answer(doing: &'static str, status: u16, body: &str) -> RegistryAnswer {
        RegistryAnswer {
            doing,
            target: "the schema of subject t-value".to_owned(),
            status: StatusCode::from_u16(status).expect("a status"),
            body: Some(body.as_bytes().to_vec()),
            sent: Vec::new(),
        }
    }

    fn register(status: u16, body: &str) -> Result<u32, RegistryError> {
        answer("registering", status, body).registered("t-value")
    }

    fn look_up(status: u16, body: &str) -> Result<Option<Registered>, RegistryError> {
        answer("looking up", status, body).found()
    }

    fn fault(code: u32, message: &str) -> String {
        format!(r#"{{"error_code":{code},"message":"{message}"}}"#)
    }

    #[track_caller]
    fn refusal<T: std::fmt::Debug>(answered: Result<T, RegistryError>) -> String {
        let error = answered.expect_err("refused");
        assert!(!error.advice().is_empty());
        error.to_string()
    }

    #[test]
    fn an_id_is_read_from_both_answers() {
        assert_eq!(register(200, r#"{"id":7}"#).expect("an id"), 7);
        let found = r#"{"subject":"t-value","id":4294967295,"version":1,"schema":"{}"}"#;
        let registered = |id, version| Some(Registered { id, version });
        assert_eq!(look_up(200, found).expect("found"), registered(u32::MAX, Some(1)));
        assert_eq!(look_up(200, r#"{"id":7}"#).expect("found"), registered(7, None));
    }

    #[test]
    fn a_schema_found_by_its_meaning_counts_only_if_its_values_are_laid_out_alike() {
        let [ours, reordered] = [["a", "b"], ["b", "a"]].map(|names| {
            let fields = names.map(|name| serde_json::json!({"name": name, "type": "int"}));
            serde_json::json!({"type": "record", "name": "R", "fields": fields}).to_string()
        });
        let found = |schema: Option<&str>| {
            let body = serde_json::json!({"id": 7, "version": 2, "schema": schema}).to_string();
            answer("looking up", 200, &body).found_as(&ours).expect("an answer")
        };
        let spaced = ours.replace(',', " ,\n");
        let version = Some(2);
        assert_eq!(found(Some(&spaced)), Some(Registered { id: 7, version }));
        for other in [Some(&*reordered), Some("rubbish"), None] {
            assert_eq!(found(other), None, "{other:?}");
        }
    }

    #[test]
    fn refusals_are_told_apart() {
        assert_eq!(
            refusal(register(409, &fault(409, "type\\nchanged"))),
            "registering the schema of subject t-value: it is not compatible with those registered before: type changed"
        );
        for code in [40401, 40403] {
            assert_eq!(look_up(404, &fault(code, "no")).expect("an answer"), None);
        }
        assert_eq!(
            refusal(look_up(403, "<html>")),
            "looking up the schema of subject t-value: the schema registry refused with 403: it does not say why"
        );
        assert_eq!(
            refusal(register(422, &fault(42201, "bad"))),
            "registering the schema of subject t-value: the schema registry does not take it: bad"
        );
        assert_eq!(
            refusal(register(503, "")),
            "registering the schema of subject t-value: the schema registry answered 503: it does not say why"
        );
        let mut no_registrys = vec![
            look_up(404, "Not Found").map(|_| 0),
            register(404, ""),
            register(302, ""),
        ];
        no_registrys.extend([r#"{"id":-1}"#, "{}", "<html>"].map(|body| register(200, body)));
        let too_large = RegistryAnswer {
            body: None,
            sent: Vec::new(),
            ..answer("registering", 200, "")
        };
        no_registrys.push(too_large.registered("t-value"));
        for answered in no_registrys {
            let refusal = refusal(answered);
            assert!(refusal.contains("the answer is no schema registry's"), "{refusal}");
        }
    }

    #[test]
    fn only_what_cannot_pass_by_itself_is_a_wrong_state() {
        use crate::exit::Exit;
        let exit = |status, body: &str| register(status, body).expect_err("refused").exit();
        for status in [408, 429, 500, 503] {
            assert_eq!(exit(status, ""), Exit::Failed, "{status}");
        }
        for status in [401, 403, 404, 409, 422] {
            assert_eq!(exit(status, ""), Exit::Usage, "{status}");
        }
    }

    #[test]
    fn a_verdict_is_read_with_its_reasons_if_there_are_any() {
        let verdict = |status, body: &str| answer("checking", status, body).verdict();
        let incompatible =
            |messages: &[&str]| CompatibilityVerdict::Incompatible(messages.iter().map(|&m| m.to_owned()).collect());
        for (status, body, expected) in [
            (200, r#"{"is_compatible":true}"#, CompatibilityVerdict::Compatible),
            (200, r#"{"is_compatible":false}"#, incompatible(&[])),
            (
                200,
                r#"{"is_compatible":false,"messages":["a\nb","c"]}"#,
                incompatible(&["a b", "c"]),
            ),
            (404, &fault(40401, "no subject"), CompatibilityVerdict::NothingToFollow),
            (404, &fault(40402, "no version"), CompatibilityVerdict::NothingToFollow),
        ] {
            assert_eq!(verdict(status, body).expect("a verdict"), expected, "{body}");
        }
        for (status, body) in [(404, "Not Found"), (200, "{}"), (403, "")] {
            assert!(verdict(status, body).is_err(), "{status} {body}");
        }
    }

    #[test]
    fn a_path_that_is_unknown_is_not_taken_for_a_subject_that_is() {
        let is_unknown = |status, body: &str| answer("checking", status, body).is_unknown_path();
        assert!(is_unknown(404, "<html>") && is_unknown(404, &fault(404, "no")) && is_unknown(405, ""));
        assert!(!is_unknown(404, &fault(40401, "no")) && !is_unknown(200, "") && !is_unknown(403, ""));
    }

    #[test]
    fn a_level_of_the_subjects_own_is_told_from_none() {
        let level = |status, body: &str| answer("asking", status, body).subject_level();
        let full = r#"{"compatibilityLevel":"FULL"}"#;
        assert_eq!(level(200, full).expect("a level").as_deref(), Some("FULL"));
        for code in [40401, 40408] {
            assert_eq!(level(404, &fault(code, "none")).expect("an answer"), None);
        }
        assert!(level(404, "<html>").is_err() && level(200, "{}").is_err() && level(403, "").is_err());
        let done = |status| answer("setting", status, "").done();
        assert!(done(200).is_ok() && done(204).is_ok());
        assert!(done(405).is_err() && done(403).is_err());
    }

    #[test]
    fn a_schema_is_read_by_its_id_and_refusals_are_told_apart() {
        let fetched = |status, body: &str| {
            let answer = RegistryAnswer {
                target: "schema 7".to_owned(),
                ..answer("fetching", status, body)
            };
            answer.schema(7)
        };
        assert_eq!(fetched(200, r#"{"schema":"\"int\""}"#).expect("a schema"), "\"int\"");
        assert_eq!(
            fetched(200, r#"{"schemaType":"AVRO","schema":"{}"}"#).expect("a schema"),
            "{}"
        );
        assert_eq!(
            refusal(fetched(200, r#"{"schemaType":"PROTOBUF","schema":""}"#)),
            "schema 7 of the schema registry is not Avro but PROTOBUF"
        );
        assert_eq!(
            refusal(fetched(404, r#"{"error_code":40403,"message":"no"}"#)),
            "the schema registry has no schema 7"
        );
        assert_eq!(
            refusal(fetched(401, "")),
            "fetching schema 7: the schema registry refused with 401: it does not say why"
        );
        assert_eq!(
            refusal(fetched(503, r#"{"message":"a\nb"}"#)),
            "fetching schema 7: the schema registry answered 503: a b"
        );
        for (status, body) in [(404, "Not Found"), (302, ""), (200, "{}"), (200, "<html>")] {
            let refusal = refusal(fetched(status, body));
            assert!(refusal.contains("the answer is no schema registry's"), "{refusal}");
        }
    }

    #[test]
    fn a_long_message_is_cut() {
        let shown = one_line(&"é".repeat(MAX_MESSAGE + 1));
        assert_eq!(shown.chars().count(), MAX_MESSAGE + 1);
        assert!(shown.ends_with('…'));
    }
}
