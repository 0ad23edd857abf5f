//! Why is there no page, or no client?

use super::response::RequestId;
use crate::exit::{Diagnosis, ErrorCode};
use crate::tls::CertificateError;

/// The code of an upstream that does not answer.
pub(crate) const NO_ANSWER: ErrorCode = ErrorCode::U01;

/// The code of a status that says nothing of its own.
const OTHER_STATUS: ErrorCode = ErrorCode::U05;

/// The code of a token that is another lender's.
pub(crate) const OTHER_TOKEN: ErrorCode = ErrorCode::U10;

/// Why a request brought no page. Each text ends with upstream's request id where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
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
        /// It has the vendor's error envelope; else it may be a gateway's.
        is_upstreams: bool,
        request_id: RequestId,
    },
    #[error("{doing}: upstream answered {status}, a redirect to {target}, which is not followed{request_id}")]
    Redirect {
        doing: &'static str,
        status: u16,
        target: String,
        request_id: RequestId,
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
    #[error("{doing}: upstream answered 200 with an error in it: {message}{request_id}")]
    ErrorIn200 {
        doing: &'static str,
        /// Its `code`, where that is a status.
        status: Option<u16>,
        message: String,
        request_id: RequestId,
    },
    #[error("{doing}: the answer is no UTF-8, from byte {first} of {size} on{request_id}")]
    NotUtf8 {
        doing: &'static str,
        first: usize,
        size: usize,
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

impl UpstreamError {
    /// Whether upstream itself says that this lender may not read D02.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Forbidden { .. }
                | Self::Status {
                    status: 404,
                    is_upstreams: true,
                    ..
                }
        )
    }
}

/// Why a client could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("reading upstream.ca_file")]
    Ca(#[source] CertificateError),
    #[error("setting up HTTP")]
    Http(#[source] reqwest::Error),
}

impl Diagnosis for UpstreamError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Network { .. } => NO_ANSWER,
            Self::Status {
                status: 404,
                is_upstreams: true,
                ..
            } => ErrorCode::U02,
            Self::Status { status: 500, .. } => ErrorCode::U03,
            Self::Status { status: 504, .. } => ErrorCode::U04,
            Self::TooLarge { .. } | Self::Status { status: 413, .. } => ErrorCode::U06,
            Self::Status {
                status: 403 | 404 | 408 | 429,
                ..
            } => OTHER_STATUS,
            Self::Status { status: 400..=499, .. } => ErrorCode::U22,
            Self::Status { .. } => OTHER_STATUS,
            Self::Redirect { .. } => ErrorCode::U20,
            Self::ErrorIn200 { .. } => ErrorCode::U21,
            Self::NotUtf8 { .. } => ErrorCode::U23,
            Self::NoEnvelope { .. } => ErrorCode::U07,
            Self::Credentials { .. } => ErrorCode::U09,
            Self::Forbidden { .. } => OTHER_TOKEN,
            Self::OtherLender { .. } => ErrorCode::U11,
            Self::Secret { .. } => ErrorCode::U12,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Network { .. } => {
                "check upstream.base_url, proxy, DNS and upstream.ca_file, and whether upstream is up"
            }
            Self::NoEnvelope { .. } => {
                "something between here and upstream answers for it: check upstream.base_url and proxy"
            }
            Self::Status {
                status: 404,
                is_upstreams: true,
                ..
            } => "upstream does not serve D02 to this lender: ask the vendor",
            Self::Status {
                status: 403 | 404,
                is_upstreams: false,
                ..
            } => {
                "this is no answer of upstream's: if it lasts, see what answers for it, and check upstream.base_url and proxy"
            }
            Self::Redirect { .. } => {
                "if upstream has moved, set upstream.base_url to where it is; else see what answers for it"
            }
            Self::TooLarge { .. } | Self::Status { status: 413, .. } => {
                "a smaller upstream.page_size makes smaller answers; a single large row needs a larger upstream.max_body"
            }
            Self::Status { .. } | Self::ErrorIn200 { .. } => {
                "if it lasts, ask the vendor's support with the request id"
            }
            Self::NotUtf8 { .. } => {
                "tell the vendor's support, with the request id: an account's text is stored wrongly"
            }
            Self::Credentials { .. } => "check email and password of the lender, and with the vendor that it is active",
            Self::Secret { .. } => "mount the secret where password_file points, readable for this process",
            Self::Forbidden { .. } => "check lenders.*.subdomain and public_id: they belong to different lenders",
            Self::OtherLender { .. } => "correct lenders.*.public_id, or the subdomain whose login this is",
        }
    }
}

impl Diagnosis for ClientError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Ca(_) | Self::Http(_) => ErrorCode::U13,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Ca(_) | Self::Http(_) => "correct upstream.ca_file or upstream.proxy",
        }
    }
}
