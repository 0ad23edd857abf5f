//! How does an [`Account`](crate::account::Account) become bytes, and what do they say? Behind one of two frames; `decode` is the
//! way back.
//!
//! ```text
//! confluent      00 │ schema id, 4 bytes big-endian          │ Avro binary
//! single-object  C3 01 │ CRC-64-AVRO, 8 bytes little-endian  │ Avro binary
//! ```
//!
//! The files under `avro/` are the one truth; tests hold the types to them, and the bytes to apache-avro's typed writer.

mod binary;
mod change;
mod decode;
mod definition;
mod encode;
mod frame;
mod layout;

pub(crate) use change::after;
pub(crate) use change::{ChangeEncoder, ChangeHead};
pub(crate) use decode::Decoder;
pub(crate) use decode::{DecodeError, Decoded, Framed, hexadecimal, unframe};
pub(crate) use definition::ACCOUNT;
pub(crate) use definition::{CHANGE, Definition, is_laid_out_as, record_name};
pub(crate) use encode::Encoder;
pub(crate) use frame::{Frame, WriterSchema};
pub(crate) use layout::Layout;
