//! How does an [`Account`](crate::account::Account) become bytes, and what do they say? By apache-avro's typed writer, behind
//! one of two frames; `decode` is the way back.
//!
//! ```text
//! confluent      00 │ schema id, 4 bytes big-endian          │ Avro binary
//! single-object  C3 01 │ CRC-64-AVRO, 8 bytes little-endian  │ Avro binary
//! ```
//!
//! The files under `avro/` are the one truth; tests hold the types to them.

mod change;
mod decode;
mod definition;
mod encode;
mod frame;
mod layout;

pub use change::{ChangeEncoder, ChangeHead, after};
pub use decode::{DecodeError, Decoded, Decoder, Framed, hexadecimal, unframe};
pub use definition::{ACCOUNT, CHANGE, Definition, is_laid_out_as};
pub use encode::{EncodeError, Encoder};
pub use frame::Frame;
pub use layout::Layout;
