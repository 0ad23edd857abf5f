//! Kafka Connect's REST API: the tools that people have for Connect work here, too. Each lender is a source connector with one task.
//!
//! - `route`: which request asks for what
//! - `api`: who answers it
//! - `connectors`: what each lender is and does, and what is wanted of it
//! - `reply`: what is answered, and errors in Connect's form

mod api;
mod connectors;
mod reply;
mod route;

pub(crate) use connectors::Connectors;
