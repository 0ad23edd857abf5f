//! How is a name or a value written in TOML?

use serde_json::{Value, json};

use super::kinds::ValueKind;
use super::values::parse_ignored;

/// Number or boolean without quotes, but only where nothing is lost: "+5" and "007" stay text. What is always a list is one.
pub(super) fn bare(kind: ValueKind, text: &str) -> Value {
    if let (ValueKind::Ignored, Some(names)) = (kind, parse_ignored(text)) {
        return json!(names);
    }
    let bare = serde_json::from_str(text).ok().filter(|bare: &Value| {
        kind.takes_bare_scalars()
            && (bare.is_number() || bare.is_boolean())
            && serde_json::to_string(bare).is_ok_and(|shown| shown == text)
    });
    bare.unwrap_or_else(|| json!(kind.shown(text)))
}

pub(super) fn key(name: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if !name.is_empty() && name.chars().all(bare) {
        name.to_owned()
    } else {
        value(&json!(name))
    }
}

/// JSON's escapes are TOML's too; only DEL must be escaped in TOML and is not in JSON.
pub(super) fn value(value: &Value) -> String {
    value.to_string().replace('\u{7f}', "\\u007F")
}
