//! What can a person or a process outside ask for while it runs?
//!
//! Everything is under `/simulator`, where the vendor has nothing. It needs no token and meets no fault or latency, and it is neither counted nor logged:
//! whoever steers and checks a run does not disturb it. Answers are JSON; an error has one member, `error`.

use std::error::Error;
use std::num::NonZeroUsize;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use http_body_util::{BodyExt, Limited};
use hyper::body::Body;
use hyper::{Method, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::answer::Answer;
use super::clock::{iso, millis};
use super::fault::{Script, ScriptError, parse_script};
use super::options::{DEFAULT_BY, MAX_SHIFT, Total, UnknownTotal, is_member};
use super::query::percent_decode;
use super::rows::RowKind;
use super::shared::{MAX_REQUEST_BODY, Shared};

/// Rows that one request adds: seconds of work.
const MAX_INSERT: usize = 100_000;

/// Members that every row can be given.
const MAX_VOLATILE: usize = 20;

#[derive(Debug, thiserror::Error)]
enum ControlError {
    #[error(
        "cannot {method} this; there are GET /simulator/counts, GET /simulator/lenders/{{subdomain}}/rows, POST \
         /simulator/lenders/{{subdomain}}/touch, …/insert, …/delete, …/late, …/ahead and …/copy, POST and DELETE \
         /simulator/faults, /simulator/page-limit and /simulator/volatile, POST /simulator/latency, /simulator/total, \
         /simulator/clock and /simulator/date"
    )]
    Path { method: Method },
    #[error("there is no lender {subdomain:?}, only {known}")]
    Lender { subdomain: String, known: String },
    #[error("there is no row {id:?}")]
    Row { id: String },
    #[error("{name}={value:?} cannot be read")]
    Value { name: &'static str, value: String },
    #[error("there is no parameter {name:?} here")]
    Parameter { name: String },
    #[error("{name} is missing")]
    Missing { name: &'static str },
    #[error("no more than {MAX_INSERT} rows can be added at once")]
    TooMany,
    #[error("no more than {MAX_VOLATILE} members can be volatile")]
    TooManyMembers,
    #[error("{name} is at most a hundred years, {} milliseconds", MAX_SHIFT.as_millis())]
    TooFar { name: &'static str },
    #[error("there is no total {text:?}; {error}")]
    Total { text: String, error: UnknownTotal },
    #[error("either id, or count and seed")]
    IdOrCount,
    #[error("the body cannot be read: it may have {MAX_REQUEST_BODY} bytes of UTF-8")]
    Body,
    #[error("{error}: {}", error.source)]
    Script { error: ScriptError },
}

impl ControlError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Path { .. } | Self::Lender { .. } | Self::Row { .. } => StatusCode::NOT_FOUND,
            Self::Value { .. }
            | Self::Parameter { .. }
            | Self::Missing { .. }
            | Self::TooMany
            | Self::TooManyMembers
            | Self::TooFar { .. }
            | Self::Total { .. }
            | Self::IdOrCount
            | Self::Body
            | Self::Script { .. } => StatusCode::BAD_REQUEST,
        }
    }
}

/// Answers a request; `path` is what follows `/simulator`.
pub(super) async fn answer<B>(shared: &Arc<Shared>, method: &Method, path: &[&str], query: &str, body: B) -> Answer
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    match control(shared, method, path, query, body).await {
        Ok(answer) => Answer::json(StatusCode::OK, answer),
        Err(error) => Answer::json(error.status(), json!({"error": error.to_string()}).to_string()),
    }
}

async fn control<B>(
    shared: &Arc<Shared>,
    method: &Method,
    path: &[&str],
    query: &str,
    body: B,
) -> Result<String, ControlError>
where
    B: Body<Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let mut parameters = Parameters::parse(query);
    match (method, path) {
        (&Method::GET, ["counts"]) => {
            parameters.end()?;
            Ok(counts(shared).to_string())
        }
        (&Method::GET, ["lenders", subdomain, "rows"]) => {
            let lender = find(shared, subdomain)?;
            let offset = parameters.take("offset")?.unwrap_or(0);
            let limit = parameters.take("limit")?.unwrap_or(usize::MAX);
            parameters.end()?;
            Ok(in_background(shared, move |shared| rows(shared, lender, offset, limit)).await)
        }
        (&Method::POST, ["lenders", subdomain, "touch"]) => {
            let lender = find(shared, subdomain)?;
            let (count, mut rng) = (parameters.take("count")?.unwrap_or(1), parameters.rng()?);
            parameters.end()?;
            let ids = in_background(shared, move |shared| shared.touch(lender, count, &mut rng)).await;
            Ok(json!({ "ids": ids }).to_string())
        }
        (&Method::POST, ["lenders", subdomain, "insert"]) => {
            let lender = find(shared, subdomain)?;
            let count = parameters.take("count")?.unwrap_or(1);
            parameters.end()?;
            if count > MAX_INSERT {
                return Err(ControlError::TooMany);
            }
            let ids = in_background(shared, move |shared| shared.insert(lender, count)).await;
            Ok(json!({ "ids": ids }).to_string())
        }
        (&Method::POST, ["lenders", subdomain, "delete"]) => {
            let lender = find(shared, subdomain)?;
            if let Some(id) = parameters.take::<String>("id")? {
                parameters.end().map_err(|_| ControlError::IdOrCount)?;
                if !shared.remove(lender, &id) {
                    return Err(ControlError::Row { id });
                }
                return Ok(json!({ "ids": [id] }).to_string());
            }
            let (count, mut rng) = (parameters.take("count")?.unwrap_or(1), parameters.rng()?);
            parameters.end()?;
            let ids = in_background(shared, move |shared| shared.delete(lender, count, &mut rng)).await;
            Ok(json!({ "ids": ids }).to_string())
        }
        (&Method::POST, ["lenders", subdomain, when @ ("late" | "ahead")]) => {
            let lender = find(shared, subdomain)?;
            let (count, by, mut rng) = (
                parameters.take("count")?.unwrap_or(1),
                parameters.by()?,
                parameters.rng()?,
            );
            parameters.end()?;
            let is_late = *when == "late";
            let ids = in_background(shared, move |shared| {
                if is_late {
                    shared.change_late(lender, count, by, &mut rng)
                } else {
                    shared.change_ahead(lender, count, by, &mut rng)
                }
            })
            .await;
            Ok(json!({ "ids": ids }).to_string())
        }
        (&Method::POST, ["lenders", subdomain, "copy"]) => {
            let lender = find(shared, subdomain)?;
            parameters.end()?;
            let keep = move |shared: &Shared| shared.lenders[lender].write().keep_copy();
            let row_count = in_background(shared, keep).await;
            Ok(json!({ "row_count": row_count }).to_string())
        }
        (&Method::POST, ["faults"]) => {
            parameters.end()?;
            let script = Limited::new(body, MAX_REQUEST_BODY).collect().await;
            let script = script.map_err(|_| ControlError::Body)?.to_bytes();
            let script = std::str::from_utf8(&script).map_err(|_| ControlError::Body)?;
            let faults = parse_script(script).map_err(|error| ControlError::Script { error })?;
            let mut control = shared.control();
            for fault in faults {
                control.script.push(fault);
            }
            Ok(fault_counts(&control.script).to_string())
        }
        (&Method::DELETE, ["faults"]) => {
            parameters.end()?;
            let mut control = shared.control();
            control.script.clear();
            Ok(fault_counts(&control.script).to_string())
        }
        (&Method::POST, ["latency"]) => {
            let latency_ms = parameters.needed("ms")?;
            parameters.end()?;
            shared.control().latency = Duration::from_millis(latency_ms);
            Ok(json!({ "latency_ms": latency_ms }).to_string())
        }
        (&Method::POST, ["page-limit"]) => {
            let most: NonZeroUsize = parameters.needed("most")?;
            parameters.end()?;
            shared.control().page_limit = Some(most.get());
            Ok(json!({ "page_limit": most }).to_string())
        }
        (&Method::DELETE, ["page-limit"]) => {
            parameters.end()?;
            shared.control().page_limit = None;
            Ok(json!({ "page_limit": null }).to_string())
        }
        (&Method::POST, ["volatile"]) => {
            let name: String = parameters.needed("member")?;
            parameters.end()?;
            if !is_member(&name) {
                return Err(ControlError::Value {
                    name: "member",
                    value: name,
                });
            }
            let members = &mut shared.control().volatile_members;
            if !members.contains(&name) {
                if members.len() == MAX_VOLATILE {
                    return Err(ControlError::TooManyMembers);
                }
                members.push(name);
            }
            Ok(json!({ "volatile_members": *members }).to_string())
        }
        (&Method::DELETE, ["volatile"]) => {
            parameters.end()?;
            shared.control().volatile_members.clear();
            Ok(json!({ "volatile_members": [] }).to_string())
        }
        (&Method::POST, ["total"]) => {
            let text: String = parameters.needed("as")?;
            parameters.end()?;
            let total: Total = text.parse().map_err(|error| ControlError::Total { text, error })?;
            shared.control().total = total;
            Ok(json!({ "total": total.to_string() }).to_string())
        }
        (&Method::POST, ["clock"]) => {
            let skew_ms = parameters.skew_ms()?;
            shared.clock.set_skew_ms(skew_ms);
            Ok(json!({ "skew_ms": skew_ms }).to_string())
        }
        (&Method::POST, ["date"]) => {
            let skew_ms = parameters.skew_ms()?;
            shared.clock.set_date_skew_ms(skew_ms);
            Ok(json!({ "skew_ms": skew_ms }).to_string())
        }
        _ => Err(ControlError::Path { method: method.clone() }),
    }
}

/// What has happened since the start, and how things stand.
fn counts(shared: &Shared) -> Value {
    let lenders = shared.lenders.iter().map(|lender| {
        json!({
            "subdomain": lender.subdomain,
            "public_id": lender.public_id,
            "row_count": lender.read().store.len(),
        })
    });
    let lenders: Vec<_> = lenders.collect();
    let pending_late_count = shared.pending_late_count();
    let control = shared.control();
    let counts = control.counts;
    json!({
        "request_count": counts.request_count,
        "row_count": counts.row_count,
        "fault_count": counts.fault_count,
        "pending_fault_count": control.script.pending_count(),
        "standing_fault_count": control.script.standing_count(),
        "change_count": counts.change_count,
        "insert_count": counts.insert_count,
        "delete_count": counts.delete_count,
        "late_count": counts.late_count,
        "pending_late_count": pending_late_count,
        "ahead_count": counts.ahead_count,
        "lenders": lenders,
    })
}

/// What is still to be met, and what stays for ever.
fn fault_counts(script: &Script) -> Value {
    json!({
        "pending_fault_count": script.pending_count(),
        "standing_fault_count": script.standing_count(),
    })
}

/// The ground truth, in upstream's order. Without bounds it is one moment's.
fn rows(shared: &Shared, lender: usize, offset: usize, limit: usize) -> String {
    #[derive(Serialize)]
    struct Listed<'a> {
        id: &'a str,
        updated_at: String,
        kind: &'static str,
    }
    let lender = &shared.lenders[lender];
    let data = lender.read();
    let listed = data
        .store
        .iter()
        .skip(offset)
        .take(limit)
        .map(|((updated_at_ms, id), row)| Listed {
            id,
            updated_at: iso(*updated_at_ms),
            kind: match lender.kind(row) {
                RowKind::Sound => "sound",
                RowKind::Odd(_) => "odd",
                RowKind::Bad(_) => "bad",
                RowKind::Given => "given",
            },
        });
    let listed: Vec<_> = listed.collect();
    let listed = serde_json::to_string(&listed).expect("rows have only plain members");
    format!(r#"{{"row_count":{},"rows":{listed}}}"#, data.store.len())
}

fn find(shared: &Shared, subdomain: &str) -> Result<usize, ControlError> {
    let subdomain = percent_decode(subdomain);
    let place = shared.lenders.iter().position(|lender| lender.subdomain == subdomain);
    place.ok_or_else(|| {
        let known: Vec<_> = shared.lenders.iter().map(|lender| lender.subdomain.as_str()).collect();
        let known = known.join(", ");
        ControlError::Lender { subdomain, known }
    })
}

/// Off the runtime: rendering thousands of rows takes its time.
async fn in_background<T: Send + 'static>(shared: &Arc<Shared>, work: impl FnOnce(&Shared) -> T + Send + 'static) -> T {
    let shared = shared.clone();
    tokio::task::spawn_blocking(move || work(&shared))
        .await
        .expect("nothing panics over rows")
}

/// The query's, as far as they have not been taken.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: &str) -> Self {
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (percent_decode(name), percent_decode(value)))
                .collect(),
        )
    }

    fn take<T: FromStr>(&mut self, name: &'static str) -> Result<Option<T>, ControlError> {
        let Some(at) = self.0.iter().position(|(given, _)| given == name) else {
            return Ok(None);
        };
        let (_, value) = self.0.remove(at);
        match value.parse() {
            Ok(read) => Ok(Some(read)),
            Err(_) => Err(ControlError::Value { name, value }),
        }
    }

    fn needed<T: FromStr>(&mut self, name: &'static str) -> Result<T, ControlError> {
        self.take(name)?.ok_or(ControlError::Missing { name })
    }

    fn by(&mut self) -> Result<Duration, ControlError> {
        let by = self.take("by_ms")?.map_or(DEFAULT_BY, Duration::from_millis);
        if by > MAX_SHIFT {
            return Err(ControlError::TooFar { name: "by_ms" });
        }
        Ok(by)
    }

    /// The only parameter: how far a clock is skewed.
    fn skew_ms(mut self) -> Result<i64, ControlError> {
        let skew_ms: i64 = self.needed("skew_ms")?;
        self.end()?;
        if skew_ms.unsigned_abs() > millis(MAX_SHIFT).unsigned_abs() {
            return Err(ControlError::TooFar { name: "skew_ms" });
        }
        Ok(skew_ms)
    }

    /// From `seed`; without one, different each time.
    fn rng(&mut self) -> Result<Rng, ControlError> {
        Ok(self.take("seed")?.map_or_else(Rng::new, Rng::with_seed))
    }

    /// A misspelt parameter is an error, and not what it would be without.
    fn end(self) -> Result<(), ControlError> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(ControlError::Parameter { name }),
            None => Ok(()),
        }
    }
}
