//! Reads all layers: into a configuration that can be used, or into every error at once.

use std::net::SocketAddr;

use super::build::build;
use super::error::ConfigErrors;
use super::layers::{self, Layers};
use super::show::{self, Loaded};
use super::validate;
use super::values::parse_address;

/// Reads all layers. No error, warning or effective value holds a secret.
pub fn load(layers: Layers) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let values = layers::merge(layers, &mut errors);
    let config = build(&values, &mut errors);
    validate::together(&config, &values, &mut errors);
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    Ok(Loaded {
        effective: show::effective(&config, &values),
        config,
    })
}

/// `http.listen`, of layers that lack everything else: a health check knows the environment of its container alone.
pub fn http_listen(layers: Layers) -> Result<Option<SocketAddr>, ConfigErrors> {
    let mut errors = Vec::new();
    let values = layers::merge(layers, &mut errors);
    if values.incomplete || values.refused.contains("http.listen") {
        return Err(ConfigErrors(errors));
    }
    Ok(values.get("http.listen", parse_address))
}
