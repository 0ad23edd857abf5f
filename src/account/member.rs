//! What stands in a row, before it is an account? The members of its JSON: names, and raw values.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::scan::{self, Raw};

/// What stands in a member, as far as a log may say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JsonType {
    Absent,
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

impl JsonType {
    /// The type of a row's member; of the last one, where it is there more than once.
    pub(crate) fn of(json: &RawValue, field: &str) -> Self {
        let members = Members::of(json).unwrap_or_default();
        let member = members.iter().rev().find(|(name, _)| name == field);
        match member.map(|(_, raw)| raw.json.as_bytes()[0]) {
            None => Self::Absent,
            Some(b'n') => Self::Null,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'"') => Self::String,
            Some(b'[') => Self::Array,
            Some(b'{') => Self::Object,
            Some(_) => Self::Number,
        }
    }
}

impl fmt::Display for JsonType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Boolean => "a boolean",
            Self::Number => "a number",
            Self::String => "a string",
            Self::Array => "an array",
            Self::Object => "an object",
        })
    }
}

/// A name or id of upstream's as it may stand in a line or a header: the first 200 characters of it.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    const MAX_CHARS: usize = 200;
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
        None => Cow::Borrowed(text),
    }
}

/// The decoded string of a JSON string token; borrowed where nothing is escaped.
pub(super) fn text(raw: Raw<'_>) -> Option<Cow<'_, str>> {
    if raw.is_plain {
        return raw.json.get(1..raw.json.len() - 1).map(Cow::Borrowed);
    }
    if !raw.json.starts_with('"') {
        return None;
    }
    // Half a surrogate pair is no text.
    serde_json::from_str::<String>(raw.json).ok().map(Cow::Owned)
}

/// Names, and values as they stand in the JSON.
pub(super) type MemberList<'a> = Vec<(Cow<'a, str>, Raw<'a>)>;

/// D02 has 26 fields; a few more cost no second allocation.
const USUAL_MEMBER_COUNT: usize = 32;

/// Reads an object's members one by one, doubles included, names borrowed where nothing is escaped.
pub(super) struct Members;

impl Members {
    pub(super) fn of(json: &RawValue) -> Option<MemberList<'_>> {
        Self::parse(json.get())
    }

    /// `json`: well-formed.
    pub(super) fn parse(json: &str) -> Option<MemberList<'_>> {
        let mut members = Vec::with_capacity(USUAL_MEMBER_COUNT);
        if scan::members(json, |name, value| members.push((Cow::Borrowed(name), value))) {
            return Some(members);
        }
        Self::by_serde(serde_json::Deserializer::from_str(json))
    }

    pub(super) fn by_serde(mut json: serde_json::Deserializer<serde_json::de::StrRead<'_>>) -> Option<MemberList<'_>> {
        json.deserialize_map(Self).ok()
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = MemberList<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::with_capacity(USUAL_MEMBER_COUNT);
        while let Some(name) = map.next_key_seed(Name)? {
            members.push((name, Raw::new(map.next_value::<&'de RawValue>()?.get())));
        }
        Ok(members)
    }
}

/// A member's name; `Cow`'s own `Deserialize` always allocates.
pub(super) struct Name;

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Cow<'de, str>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(name))
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(name.to_owned()))
    }
}
