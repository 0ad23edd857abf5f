//! Which id does the registry give a schema, which schema has an id, and what may follow it? One bounded request to
//! Confluent's API, and its answer told apart.
//!
//! ```text
//! look up     POST <url>/subjects/<subject>                         {"schema": "…"} ─► {"id": 1, "version": 1, …}
//! register    POST <url>/subjects/<subject>/versions                {"schema": "…"} ─► {"id": 1}
//! compare     POST <url>/compatibility/subjects/<subject>/versions  {"schema": "…"} ─► {"is_compatible": true, …}
//! read level  GET  <url>/config[/<subject>]                                         ─► {"compatibilityLevel": "…"}
//! set level   PUT  <url>/config/<subject>                           {"compatibility": "…"}
//! fetch       GET  <url>/schemas/ids/<id>                                           ─► {"schema": "…", …}
//! ```

mod answer;
mod client;
mod error;
mod watch;

pub(crate) use answer::{Compatibility, CompatibilityVerdict, Registered};
pub(crate) use client::{Registry, WANTED_LEVEL, subject};
pub(crate) use error::RegistryError;
pub(crate) use watch::watch_ids;
