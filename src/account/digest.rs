//! Is this content the same as that one? A hash over a row's members, whatever form they come in.

use std::borrow::Cow;
use std::fmt;

use serde_json::value::RawValue;
use twox_hash::XxHash3_64;

use super::by_name::ByName;
use super::member::{Members, text};
use super::number::Decimal;
use super::rules::Rules;
use super::scan::Raw;

/// XXH3-64 over a row's content; equal contents have equal digests whatever program or schema computed them.
///
/// Version 1: the members that are content, without `updated_at` and without nulls (absent and null are the same), sorted by
/// name, each as name and value; strings decoded, numbers as significant digits and power of ten, objects sorted.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Digest(pub u64);

impl Digest {
    /// Names algorithm and version in the header, so that another one can never be mistaken for it.
    const NAME: &'static str = "xxh3-1:";

    /// How many bytes its text has.
    pub(crate) const SIZE: usize = Self::NAME.len() + 16;

    /// The digest over bytes as received.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Self {
        Self(XxHash3_64::oneshot(bytes))
    }

    pub(super) fn of_content(members: &ByName<'_>, rules: &Rules, buffer: &mut Vec<u8>) -> Self {
        buffer.clear();
        members.content(rules, |name, raw| {
            if counts(name, raw) {
                put_text(name, buffer);
                put_value(raw, 0, buffer);
            }
        });
        Self(XxHash3_64::oneshot(buffer))
    }

    /// The digest over members as received, in their order.
    pub(super) fn of_dead_letter(members: &[(Cow<'_, str>, Raw<'_>)]) -> Self {
        let mut bytes = Vec::new();
        for (name, raw) in members {
            put_text(name, &mut bytes);
            put_text(raw.json, &mut bytes);
        }
        Self(XxHash3_64::oneshot(&bytes))
    }

    /// The text of a `d02.digest` header.
    pub(crate) fn text(self, buffer: &mut [u8; Self::SIZE]) -> &str {
        let (name, digits) = buffer.split_at_mut(Self::NAME.len());
        name.copy_from_slice(Self::NAME.as_bytes());
        for (place, digit) in digits.iter_mut().rev().enumerate() {
            *digit = b"0123456789abcdef"[(self.0 >> (4 * place)) as usize & 15];
        }
        std::str::from_utf8(buffer).expect("ASCII")
    }

    /// Reads the text of a `d02.digest` header; `None` for another algorithm or version.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let digits: &[u8; 16] = header.strip_prefix(Self::NAME)?.as_bytes().try_into().ok()?;
        let with = |read: u64, digit: &u8| Some(read << 4 | u64::from(char::from(*digit).to_digit(16)?));
        digits.iter().try_fold(0, with).map(Self)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text(&mut [0; Self::SIZE]))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The members of which the digest of the same content is made, each with a hash of its value.
pub(super) fn value_hashes(members: &ByName<'_>, rules: &Rules) -> Vec<(String, u64)> {
    let (mut hashes, mut buffer) = (Vec::new(), Vec::new());
    members.content(rules, |name, raw| {
        if counts(name, raw) {
            buffer.clear();
            put_value(raw, 0, &mut buffer);
            hashes.push((name.to_owned(), XxHash3_64::oneshot(&buffer)));
        }
    });
    hashes
}

fn counts(name: &str, raw: Raw<'_>) -> bool {
    !raw.is_null() && name != "updated_at"
}

/// Deeper values count as their text: nobody nests so deep, and the stack is finite.
const MAX_DEPTH: usize = 32;

fn put_text(text: &str, buffer: &mut Vec<u8>) {
    buffer.extend_from_slice(&(text.len() as u64).to_le_bytes());
    buffer.extend_from_slice(text.as_bytes());
}

/// The kind of a value, and its text.
fn put_kind(kind: u8, text: &str, buffer: &mut Vec<u8>) {
    let mut head = [kind; 9];
    head[1..].copy_from_slice(&(text.len() as u64).to_le_bytes());
    buffer.extend_from_slice(&head);
    buffer.extend_from_slice(text.as_bytes());
}

/// As it stands: for what has no other form, or is no text because of half a surrogate pair.
fn put_raw(raw: &str, buffer: &mut Vec<u8>) {
    put_kind(b'=', raw, buffer);
}

fn put_value(raw: Raw<'_>, depth: usize, buffer: &mut Vec<u8>) {
    let json = raw.json;
    match json.as_bytes()[0] {
        b'"' => match text(raw) {
            Some(text) => put_kind(b's', &text, buffer),
            None => put_raw(json, buffer),
        },
        b'-' | b'0'..=b'9' => {
            let number = Decimal::of(json);
            put_kind(if number.negative { b'-' } else { b'+' }, &number.digits, buffer);
            let exponent = if number.digits.is_empty() { 0 } else { number.exponent };
            buffer.extend_from_slice(&exponent.to_le_bytes());
        }
        b'[' if depth < MAX_DEPTH => {
            let values: Vec<&RawValue> = serde_json::from_str(json).expect("a raw value is well-formed");
            buffer.push(b'[');
            buffer.extend_from_slice(&(values.len() as u64).to_le_bytes());
            for value in values {
                put_value(Raw::new(value.get()), depth + 1, buffer);
            }
        }
        b'{' if depth < MAX_DEPTH => {
            let Some(mut members) = Members::parse(json) else {
                return put_raw(json, buffer);
            };
            members.sort_by(|a, b| a.0.cmp(&b.0));
            buffer.push(b'{');
            buffer.extend_from_slice(&(members.len() as u64).to_le_bytes());
            for (name, value) in members {
                put_text(&name, buffer);
                put_value(value, depth + 1, buffer);
            }
        }
        _ => put_raw(json, buffer),
    }
}
