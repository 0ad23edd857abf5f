//! What is answered? JSON, and errors in Connect's form: `{"error_code":…,"message":…}`.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, HeaderValue};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::http::as_json;

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reply {
    pub status: StatusCode,
    /// `None`: nothing beside the status.
    pub body: Option<Value>,
    /// Of 405, what can be asked for instead.
    pub allowed: Option<&'static str>,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: Some(body),
            allowed: None,
        }
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            body: None,
            allowed: None,
        }
    }

    pub(super) fn error(status: StatusCode, message: impl Into<String>) -> Self {
        let message: String = message.into();
        Self {
            status,
            body: Some(json!({ "error_code": status.as_u16(), "message": message })),
            allowed: None,
        }
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::error(StatusCode::NOT_FOUND, message)
    }

    /// `why` where Connect has it and this program does not.
    pub(super) fn not_allowed(allowed: &'static str, why: Option<&str>) -> Self {
        let message = why.unwrap_or("HTTP 405 Method Not Allowed");
        Self {
            allowed: Some(allowed),
            ..Self::error(StatusCode::METHOD_NOT_ALLOWED, message)
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = match &self.body {
            Some(body) => as_json(self.status, body),
            None => {
                let mut response = Response::new(Full::default());
                *response.status_mut() = self.status;
                response
            }
        };
        if let Some(allowed) = self.allowed {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}
