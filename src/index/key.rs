//! Which account is it?

use std::fmt;

/// The exact key of an account; the 24 hex digits of a Mongo id take no memory of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    ObjectId([u8; 12]),
    Other(Box<str>),
}

impl Key {
    pub(crate) fn new(public_id: &str) -> Self {
        object_id(public_id).map_or_else(|| Self::Other(public_id.into()), Self::ObjectId)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::ObjectId(id) => id,
            Self::Other(text) => text.as_bytes(),
        }
    }
}

/// A key with the hash that one index has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HashedKey {
    pub key: Key,
    pub hash: u64,
}

/// The `public_id` that it was made of.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObjectId(bytes) => bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
            Self::Other(text) => f.write_str(text),
        }
    }
}

/// The bytes of 24 lower-case hex digits. Upper case is another key: keys compare exactly.
fn object_id(text: &str) -> Option<[u8; 12]> {
    let digits: &[u8; 24] = text.as_bytes().try_into().ok()?;
    let nibble = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 12];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}
