//! What do a supervisor, Prometheus and people's tools see of this process, over HTTP/1?
//!
//! | Path | Answer |
//! |---|---|
//! | `/livez` | whether the loops of the process turn |
//! | `/readyz` | whether every lender makes progress |
//! | `/metrics` | what is counted |
//! | all others | Kafka Connect's REST API, by whoever is the [`Api`]; on anything but loopback for who has the token |
//!
//! A connection carries one request with a bounded body, and ends within seconds.

mod api;
mod health;
mod server;
mod site;

pub(crate) use api::{Api, ApiRequest};
pub(crate) use health::{Health, Standing};
pub(crate) use server::{Server, reachable};
pub(crate) use site::{Site, as_json};
