//! Which schema was a value written with?

use std::collections::HashMap;

use tokio::runtime::Handle;

use super::error::PrintError;
use super::line::{self, Content};
use crate::avro::{DecodeError, Decoder, Framed, unframe};
use crate::config::{Config, SchemaRegistry};
use crate::exit::{Failure, chain};
use crate::registry::{Registry, RegistryError};

/// The schemas met so far, each asked for once.
pub(super) struct Decoders {
    settings: SchemaRegistry,
    runtime: Handle,
    /// Made when the first record needs it: single objects do without one.
    registry: Option<Registry>,
    by_id: HashMap<u32, Result<Decoder, String>>,
    by_fingerprint: HashMap<[u8; 8], Result<Decoder, String>>,
}

impl Decoders {
    pub(super) fn new(config: &Config, runtime: Handle) -> Self {
        Self {
            settings: config.schema_registry.clone(),
            runtime,
            registry: None,
            by_id: HashMap::new(),
            by_fingerprint: HashMap::new(),
        }
    }

    /// # Errors
    /// When the registry gives no answer: that is not the record's fault.
    pub(super) fn avro(&mut self, value: &[u8]) -> Result<Result<Content, String>, Failure> {
        let reason = |error: DecodeError| chain(&error);
        let (decoder, schema, datum) = match unframe(value) {
            Ok(Framed::Confluent { schema_id, datum }) => {
                if !self.by_id.contains_key(&schema_id) {
                    let decoder = self.fetch(schema_id)?;
                    self.by_id.insert(schema_id, decoder);
                }
                (&self.by_id[&schema_id], line::Schema::Id(schema_id), datum)
            }
            Ok(Framed::SingleObject { fingerprint, datum }) => {
                let decoder = self.by_fingerprint.entry(fingerprint);
                let decoder = decoder.or_insert_with(|| Decoder::of_fingerprint(fingerprint).map_err(reason));
                (&*decoder, line::Schema::Fingerprint(fingerprint), datum)
            }
            Err(error) => return Ok(Err(reason(error))),
        };
        Ok(match decoder {
            Ok(decoder) => decoder
                .decode(datum)
                .map(|value| Content::Avro { schema, value })
                .map_err(reason),
            Err(reason) => Err(reason.clone()),
        })
    }

    fn fetch(&mut self, schema_id: u32) -> Result<Result<Decoder, String>, Failure> {
        let registry = match &mut self.registry {
            Some(registry) => registry,
            none => none.insert(Registry::new(&self.settings)?),
        };
        match self.runtime.block_on(registry.schema(schema_id)) {
            Ok(schema) => Ok(Decoder::new(&schema).map_err(|error| chain(&error))),
            Err(error @ (RegistryError::UnknownId { .. } | RegistryError::NotAvro { .. })) => Ok(Err(chain(&error))),
            Err(error) => Err(PrintError::Schema(error).into()),
        }
    }
}
