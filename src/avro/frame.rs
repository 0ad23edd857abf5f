//! What stands before the Avro binary of a value?

use std::fmt;

use super::decode::{Framed, hexadecimal, unframe};
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

/// Which schema a value was written with, as its frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(crate) enum WriterSchema {
    /// No frame, or one of too many schemas to tell them apart.
    #[default]
    Unknown,
    /// Of the registry.
    Id(u32),
    Fingerprint([u8; 8]),
}

impl WriterSchema {
    pub(crate) fn of_value(value: &[u8]) -> Self {
        match unframe(value) {
            Ok(Framed::Confluent { schema_id, .. }) => Self::Id(schema_id),
            Ok(Framed::SingleObject { fingerprint, .. }) => Self::Fingerprint(fingerprint),
            Err(_) => Self::Unknown,
        }
    }

    /// Of what is written with `schema` behind `frame`.
    pub(crate) fn of(frame: Frame, schema: &Definition) -> Self {
        match frame {
            Frame::Confluent { schema_id } => Self::Id(schema_id),
            Frame::SingleObject => Self::Fingerprint(schema.fingerprint()),
        }
    }
}

impl fmt::Display for WriterSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("unknown"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Fingerprint(fingerprint) => f.write_str(&hexadecimal(fingerprint)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::definition::ACCOUNT;
    use super::*;

    #[test]
    fn a_value_says_the_schema_that_its_frame_was_made_for() {
        for frame in [Frame::Confluent { schema_id: 70_000 }, Frame::SingleObject] {
            let value = [frame.bytes(&ACCOUNT), vec![1, 2, 3]].concat();
            assert_eq!(WriterSchema::of_value(&value), WriterSchema::of(frame, &ACCOUNT));
        }
        assert_eq!(
            WriterSchema::of_value(b"rubbish that is long enough"),
            WriterSchema::Unknown
        );
        assert_eq!(WriterSchema::of_value(b""), WriterSchema::Unknown);
        assert_eq!(WriterSchema::Id(7).to_string(), "7");
    }
}
