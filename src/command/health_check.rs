//! `run --health-check`: is the `run` beside it alive? For containers, which have nothing else to ask with.

use std::net::SocketAddr;
use std::time::Duration;

use crate::exit::Failure;
use crate::exit::{Exit, chain};
use crate::http::reachable;

/// The answer of a process that is well comes at once.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks `/livez` at `listen`, the `http.listen` that the source has. Readiness is not asked for: who is told that a container is
/// unhealthy often ends it, and a broker or an upstream that is away is no reason for that.
pub async fn execute(listen: Option<SocketAddr>) -> Result<Exit, Failure> {
    let Some(listen) = listen else {
        println!("http.listen is not set here, so there is nobody to ask");
        return Ok(Exit::Done);
    };
    let url = format!("http://{}/livez", reachable(listen));
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        let advice = "see its log; it is asked where http.listen is in the environment of the container";
        Failure::new(
            Exit::Failed,
            format!("no answer from {url}: {}\n  → {advice}", chain(&error)),
        )
    };
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let answer = client.map_err(failed)?.get(&url).send().await.map_err(failed)?;
    let (status, body) = (answer.status(), answer.text().await.map_err(failed)?);
    if status.is_success() {
        println!("{}", body.trim_end());
        return Ok(Exit::Done);
    }
    let advice = "the process ends by itself if it goes on like this; see its log";
    Err(Failure::new(
        Exit::Failed,
        format!("{url} answered {status}: {}\n  → {advice}", body.trim_end()),
    ))
}
