//! How is one page of D02 fetched? One request and its answer (docs/upstream-api.md); nothing here retries.
//!
//! - `request`: which page (pure)
//! - `response`: what an answer says (pure)
//! - `auth`: which token goes with a request, and what replaces it
//! - `token`: how long one is good (pure)
//! - `client`: a logged-in lender's way to upstream
//! - `connection`: one bounded answer a request
//! - `transport`: what carries a request
//! - `error`: why there is none (pure)
//! - `route`: what outlasts a login: holds, silence, the clocks at both ends
//! - `rate`: when the next request may go out

mod auth;
mod client;
mod connection;
mod error;
mod rate;
mod request;
mod response;
mod route;
#[cfg(test)]
mod tests;
mod token;
mod transport;

pub(crate) use auth::Login;
pub(crate) use client::Client;
pub(crate) use connection::{Answer, DAMAGE};
pub(crate) use error::{ClientError, NO_ANSWER, OTHER_TOKEN, UpstreamError};
pub(crate) use request::PageRequest;
pub(crate) use response::{PageBody, RequestId};
pub(crate) use route::{Route, TOO_FAR_APART};
#[cfg(test)]
pub(crate) use transport::Execution;
pub(crate) use transport::{HttpClient, Transport};
