//! What stands before the Avro binary of a value?

use super::definition::Definition;

/// What stands before the Avro binary of every value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Confluent wire format with the id that the registry gave.
    Confluent { schema_id: u32 },
    /// Avro single-object encoding; needs no registry.
    SingleObject,
}

impl Frame {
    /// Its bytes before a value of `schema`.
    pub(super) fn bytes(self, schema: &Definition) -> Vec<u8> {
        match self {
            Self::Confluent { schema_id } => [&[0][..], &schema_id.to_be_bytes()].concat(),
            Self::SingleObject => [&[0xC3, 0x01][..], &schema.fingerprint()].concat(),
        }
    }
}
