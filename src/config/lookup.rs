//! Which key does a name mean?

use super::key::ConfigKey;
use super::keys::KEYS;
use super::kinds::ValueKind;

/// Finds a key by its parts; `None` when there is no such key. Answers its full dotted name too.
pub(super) fn locate(parts: &[String]) -> Option<(String, &'static ConfigKey)> {
    let full = parts.join(".");
    if let Some(found) = KEYS.iter().find(|k| k.name == full) {
        return Some((full, found));
    }
    let found = KEYS.iter().find(|k| matches(k, parts, &full))?;
    Some((full, found))
}

fn matches(key: &ConfigKey, parts: &[String], full: &str) -> bool {
    if let Some(field) = key.name.strip_prefix("lenders.*.") {
        let [lenders, _, given] = parts else {
            return false;
        };
        return lenders == "lenders" && (given == field || key.has_file() && is_file_of(given, field));
    }
    if let Some(prefix) = key.name.strip_suffix('*') {
        let Some(rest) = full.strip_prefix(prefix).filter(|rest| !rest.is_empty()) else {
            return false;
        };
        // Kafka's topic settings have a dot, all but one: a name without is a mistyped key of ours.
        return matches!(key.kind, ValueKind::Property) || rest.contains('.') || rest == "preallocate";
    }
    key.has_file() && is_file_of(full, key.name)
}

fn is_file_of(given: &str, secret: &str) -> bool {
    given.strip_suffix("_file") == Some(secret)
}

/// Whether this is the name of a table, which may be empty.
pub(super) fn is_table(parts: &[String]) -> bool {
    if let [lenders, _] = parts
        && lenders == "lenders"
    {
        return true;
    }
    let start = format!("{}.", parts.join("."));
    KEYS.iter().any(|key| key.name.starts_with(&start))
}

/// The known key that looks most like this one.
pub(super) fn nearest(parts: &[String]) -> String {
    let given = parts.join(".");
    let last = parts.last().map(String::as_str).unwrap_or_default();
    // What the operator chose freely is taken as it is, where the table around it is near enough.
    let free = |at: usize| {
        parts
            .get(at..)
            .filter(|rest| !rest.is_empty())
            .map_or("NAME".to_owned(), |r| r.join("."))
    };
    let lenders = parts.len() > 2 && strsim::osa_distance(&parts[0], "lenders") < 4;
    let lender = if lenders { parts[1].as_str() } else { "NAME" };
    let mut names = Vec::new();
    for key in KEYS {
        let name = match key.name.strip_suffix(".*") {
            Some(table) => format!("{table}.{}", free(table.matches('.').count() + 1)),
            None => key.name.replace('*', lender),
        };
        if name == given {
            continue;
        }
        if key.is_secret() {
            names.push(format!("{name}_file"));
        }
        // Whole tables too: a mistyped one may be empty.
        names.extend(name.match_indices('.').map(|(at, _)| name[..at].to_owned()));
        names.push(name);
    }
    // The right name in the wrong table counts as one slip.
    let distance = |name: &String| {
        let own = name.rsplit('.').next().unwrap_or_default();
        strsim::osa_distance(name, &given).min(strsim::osa_distance(own, last) + 2)
    };
    names.into_iter().min_by_key(distance).unwrap_or_default()
}

/// The table and the name in it. Names that are not ours (Kafka's) keep their dots.
pub(super) fn split(full: &str) -> (String, String) {
    let levels = match full.split('.').collect::<Vec<_>>().as_slice() {
        ["kafka", "properties", ..] => 2,
        ["kafka", "topic_settings", ..] => 3,
        parts => parts.len() - 1,
    };
    let parts: Vec<&str> = full.splitn(levels + 1, '.').collect();
    let (name, table) = parts
        .split_last()
        .map_or(("", [].as_slice()), |(name, table)| (*name, table));
    (table.join("."), name.to_owned())
}
