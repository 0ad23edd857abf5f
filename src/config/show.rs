//! Which value counts, and where did it come from?
//!
//! The list holds no secrets from the start: nothing that prints it can print one.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::keys::KEYS;
use super::kinds::ValueKind;
use super::layers::{GivenValue, Values};
use super::lookup::split;
use super::settings::Config;
use super::toml;
use super::values::{REDACTED, is_secret_property};

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// Every value that counts and where it came from, secrets already left out: for `config show`.
    pub(crate) effective: Vec<Effective>,
}

/// One value that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct Effective {
    /// The tables it stands in: `kafka.properties`; empty at the top.
    pub table: String,
    /// Its name in that table, which may hold dots: `security.protocol`.
    pub name: String,
    /// Text, number, boolean or list; `(redacted)` for a secret, the path for a secret in a file.
    pub value: Value,
    /// `default`, `file …`, `environment variable …`, `--set`.
    pub layer: String,
}

impl Effective {
    /// Whether a secret stood there.
    pub(crate) fn is_secret(&self) -> bool {
        self.value == REDACTED
    }
}

/// All values in the order of the table of keys.
pub(super) fn effective(config: &Config, values: &Values) -> Vec<Effective> {
    let mut list: Vec<(usize, Effective)> = Vec::new();
    for (full, entry) in &values.entries {
        let (table, name) = split(full);
        let rank = KEYS
            .iter()
            .position(|key| key.name == entry.key.name)
            .unwrap_or(KEYS.len());
        let value = value_of(full, entry);
        list.push((
            rank,
            Effective {
                table,
                name,
                value,
                layer: entry.layer.clone(),
            },
        ));
    }
    for (key, lender) in &config.lenders {
        let full = format!("lenders.{key}.subdomain");
        if values.entries.contains_key(&full) {
            continue;
        }
        let (table, name) = split(&full);
        let rank = KEYS
            .iter()
            .position(|key| key.name == "lenders.*.subdomain")
            .unwrap_or(KEYS.len());
        let (value, layer) = (json!(lender.subdomain), "default".to_owned());
        list.push((
            rank,
            Effective {
                table,
                name,
                value,
                layer,
            },
        ));
    }
    // Tables in the order in which the table of keys first names them, lenders and settings by name within it.
    let first = |table: &str| {
        let pattern = if table.starts_with("lenders.") {
            "lenders.*"
        } else {
            table
        };
        KEYS.iter()
            .position(|key| split(key.name).0 == pattern)
            .unwrap_or(KEYS.len())
    };
    list.sort_by_cached_key(|(rank, one)| (first(&one.table), one.table.clone(), *rank, one.name.clone()));
    list.into_iter().map(|(_, one)| one).collect()
}

fn value_of(full: &str, entry: &GivenValue) -> Value {
    let kind = entry.key.kind;
    let text = entry.text.as_str();
    if entry.is_file {
        return json!(text);
    }
    if entry.key.is_secret() || matches!(kind, ValueKind::Property) && is_secret_property(full) {
        return json!(REDACTED);
    }
    toml::bare(kind, text)
}

impl Loaded {
    /// TOML with the layer behind every value.
    pub(crate) fn to_toml(&self) -> String {
        let mut out = String::new();
        let mut table = "";
        for one in &self.effective {
            if one.table != table {
                table = &one.table;
                let _ = writeln!(out, "\n[{table}]");
            }
            let layer = one.layer.escape_debug();
            let _ = writeln!(out, "{} = {}  # {layer}", toml::key(&one.name), toml::value(&one.value));
        }
        out
    }

    /// `{"upstream.page_size": {"value": 1000, "from": "default"}, …}`.
    pub(crate) fn to_json(&self) -> Value {
        let list = self.effective.iter().map(|one| {
            let full = [one.table.as_str(), one.name.as_str()].join(".");
            let inner = json!({ "value": one.value, "from": one.layer });
            (full.trim_start_matches('.').to_owned(), inner)
        });
        Value::Object(list.collect::<Map<_, _>>())
    }
}
