//! `run --health-check`: is the `run` beside it alive? For containers, which have nothing else to ask with.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::StatusCode;

use crate::command::print::print_line;
use crate::config::ConfigErrors;
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure};
use crate::http::reachable;

/// The answer of a process that is well comes at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why it is not known to be alive.
#[derive(Debug, thiserror::Error)]
enum NotAlive {
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    #[error("no answer from {url}")]
    NoAnswer { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {body}")]
    Unwell {
        url: String,
        status: StatusCode,
        body: String,
    },
}

impl Diagnosis for NotAlive {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Config(errors) => errors.code(),
            Self::NoAnswer { .. } => ErrorCode::P05,
            Self::Unwell { .. } => ErrorCode::P06,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Config(errors) => errors.advice(),
            Self::NoAnswer { .. } => {
                "see its log; it is asked where http.listen is in the environment of the container"
            }
            Self::Unwell { .. } => "the process ends by itself if it goes on like this; see its log",
        }
    }

    /// Docker knows 0 and 1.
    fn exit(&self) -> Exit {
        Exit::Failed
    }
}

/// Asks `/livez` at `listen`, the `http.listen` that the source has. Readiness is not asked for: who is told that a container is
/// unhealthy often ends it, and a broker or an upstream that is away is no reason for that.
pub async fn execute(listen: Result<Option<SocketAddr>, ConfigErrors>) -> Result<Exit, Failure> {
    let Some(listen) = listen.map_err(NotAlive::from)? else {
        print_line!("http.listen is not set here, so there is nobody to ask")?;
        return Ok(Exit::Done);
    };
    let url = format!("http://{}/livez", reachable(listen));
    let no_answer = |error: reqwest::Error| NotAlive::NoAnswer {
        url: url.clone(),
        source: error.without_url(),
    };
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let answer = client.map_err(no_answer)?.get(&url).send().await.map_err(no_answer)?;
    let (status, body) = (answer.status(), answer.text().await.map_err(no_answer)?);
    let body = body.trim_end().to_owned();
    if status.is_success() {
        print_line!("{body}")?;
        return Ok(Exit::Done);
    }
    Err(NotAlive::Unwell { url, status, body }.into())
}
