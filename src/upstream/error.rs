//! Why is there no page, or no client?

use std::time::Duration;

use super::response::RequestId;
use crate::tls::CertificateError;

/// Why a request brought no page. Each text ends with upstream's request id where there is one.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("{doing}: no answer")]
    Network {
        doing: &'static str,
        source: reqwest::Error,
    },
    #[error("{doing}: upstream answered {status}: {message}{request_id}")]
    Status {
        doing: &'static str,
        status: u16,
        message: String,
        request_id: RequestId,
        retry_after: Option<Duration>,
    },
    #[error("{doing}: the answer is larger than upstream.max_body ({max_body} bytes){request_id}")]
    TooLarge {
        doing: &'static str,
        max_body: u64,
        request_id: RequestId,
    },
    #[error("{doing}: upstream answered 200 with something that is no D02 answer ({what}){request_id}")]
    NoEnvelope {
        doing: &'static str,
        what: String,
        request_id: RequestId,
    },
    #[error("{doing}: upstream refused the credentials of {email}: {status}: {message}{request_id}")]
    Credentials {
        doing: &'static str,
        email: String,
        status: u16,
        message: String,
        request_id: RequestId,
    },
    #[error(
        "reading D02 of lender {public_id}: upstream answered 403: {message}{request_id}; the token is for lender \
         {token_lender}"
    )]
    Forbidden {
        public_id: String,
        token_lender: String,
        message: String,
        request_id: RequestId,
    },
    #[error("the login answered lender {found}, but lenders.{lender}.public_id is {wanted}")]
    OtherLender {
        lender: String,
        wanted: String,
        found: String,
    },
    #[error("reading the password of lender {lender}")]
    Secret {
        lender: String,
        source: crate::config::SecretError,
    },
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("reading upstream.ca_file")]
    Ca(#[source] CertificateError),
    #[error("setting up HTTP")]
    Http(#[source] reqwest::Error),
}
