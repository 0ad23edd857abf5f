//! `lender`: pauses, resumes, stops and restarts one, by asking the `run` that listens at http.listen.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;

use crate::command::print::print_line;
use crate::config::{Config, SecretError};
use crate::exit::{Diagnosis, ErrorCode, Exit, Failure};
use crate::http::reachable;
use crate::selection::require_lender;

/// Longer than a process takes to answer, whatever Kafka does.
const TIMEOUT: Duration = Duration::from_secs(12);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Read nothing of it any more; its claim stays, over restarts too
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml lender pause acme")]
    Pause(Lender),
    /// Go on with one that is paused or stopped
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml lender resume acme")]
    Resume(Lender),
    /// Release it, and have no process run it until it is resumed
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml lender stop acme")]
    Stop(Lender),
    /// Release it and begin anew, where the process that is asked runs it
    #[command(after_help = "Example:\n  d02-source --config config/d02-source.toml lender restart acme")]
    Restart(Lender),
}

#[derive(Debug, clap::Args)]
struct Lender {
    /// The lender's key in the configuration
    lender: String,
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
enum LenderError {
    #[error("http.listen is not set, so there is no source to ask")]
    NobodyToAsk,
    #[error("reading the secret of http.token")]
    Token(#[source] SecretError),
    #[error("no answer from {url}")]
    NoAnswer { url: String, source: reqwest::Error },
    #[error("{url} answered {status}: {body}")]
    Refused {
        url: String,
        status: StatusCode,
        body: String,
    },
}

impl Diagnosis for LenderError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NobodyToAsk => ErrorCode::P11,
            Self::Token(_) | Self::NoAnswer { .. } | Self::Refused { .. } => ErrorCode::P12,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::NobodyToAsk => "set http.listen, for the source and for this command, and start the source anew",
            Self::Token(_) => "correct http.token_file, or its permissions",
            Self::NoAnswer { .. } => "start the source, or ask where it runs: http.listen has to be the same there",
            Self::Refused { .. } => "see what it answered; nothing was changed, unless it says that it timed out",
        }
    }
}

pub async fn execute(args: Args, config: Config) -> Result<Exit, Failure> {
    let (method, path, Lender { lender }, done) = match args.command {
        Command::Pause(lender) => (Method::PUT, "pause", lender, "paused"),
        Command::Resume(lender) => (Method::PUT, "resume", lender, "resumed"),
        Command::Stop(lender) => (Method::PUT, "stop", lender, "stopped"),
        Command::Restart(lender) => (Method::POST, "restart", lender, "begins anew"),
    };
    require_lender(&config, &lender)?;
    let listen = config.http.listen.ok_or(LenderError::NobodyToAsk)?;
    let url = format!(
        "http://{}/connectors/{}-{lender}/{path}",
        reachable(listen),
        config.name
    );
    let no_answer = |error: reqwest::Error| LenderError::NoAnswer {
        url: url.clone(),
        source: error.without_url(),
    };
    let client = reqwest::Client::builder().no_proxy().timeout(TIMEOUT).build();
    let mut request = client.map_err(no_answer)?.request(method, &url);
    if let Some(token) = &config.http.token {
        request = request.bearer_auth(token.read().map_err(LenderError::Token)?.expose_secret());
    }
    let answer = request.send().await.map_err(no_answer)?;
    let (status, body) = (answer.status(), answer.text().await.map_err(no_answer)?);
    if !status.is_success() {
        let body = body.trim_end().to_owned();
        return Err(LenderError::Refused { url, status, body }.into());
    }
    print_line!("{lender}: {done}")?;
    Ok(Exit::Done)
}
