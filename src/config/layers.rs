//! Where does each value come from, and which one counts?
//!
//! Built-in defaults, `--config` files in their order, the environment, `--set`: later wins, key by key. Each layer
//! becomes a flat figment provider (`"upstream.page_size" → value`); figment merges them and remembers the layer.
//!
//! Names in the environment, after `D02__` and in any case:
//!
//! ```text
//! D02__UPSTREAM__PAGE_SIZE                            upstream.page_size
//! D02__LENDERS__ACME_EU__PASSWORD_FILE                lenders.acme-eu.password_file     a single _ is a hyphen
//! D02__KAFKA__PROPERTIES__SSL_KEY_PASSWORD_FILE       ssl.key.password_file             a single _ is a dot, not in _FILE
//! D02__KAFKA__TOPIC_SETTINGS__CURSOR__SEGMENT_MS      segment.ms                        the same, not in our own keys
//! ```
//!
//! figment's own `Env` is not used: it turns `12345` into a number, so that an all-digit password fails and is printed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Num, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::error::ConfigError;
use super::key::ConfigKey;
use super::keys::KEYS;
use super::kinds::ValueKind;
use super::lookup::{is_table, locate, nearest, split};
use super::values::is_secret_property;

/// What variables of ours start with. Kubernetes' own `D02_SOURCE_…` (a service of that name) do not.
const PREFIX: &str = "D02__";

/// How figment's TOML reader hands over a bare date.
const BARE_DATE: &str = "$__toml_private_datetime";

/// The name of the layer below all others.
pub(super) const DEFAULT: &str = "default";

/// What the operator gave, in rising order of precedence.
#[derive(Default)]
pub struct Layers {
    /// `--config`, in order.
    pub files: Vec<PathBuf>,
    /// Variables; those without `D02__` are left alone. [`process_environment`] gives this process's.
    pub environment: Vec<(String, String)>,
    /// `--set`, in order, as `KEY=VALUE`.
    pub set: Vec<String>,
}

/// This process's variables that are ours. What is not UTF-8 keeps its place with a replacement character and is refused by `load`.
pub fn process_environment() -> Vec<(String, String)> {
    let text = |raw: OsString| raw.to_string_lossy().into_owned();
    let all = std::env::vars_os().map(|(name, value)| (text(name), text(value)));
    all.filter(|(name, _)| name.starts_with(PREFIX)).collect()
}

/// One value that counts, as text, with the layer it came from. No `Debug`: it may be a secret.
#[derive(Clone)]
pub(super) struct GivenValue {
    pub key: &'static ConfigKey,
    /// Whether `name` is a `KEY_file` and this text a path.
    pub is_file: bool,
    pub text: String,
    pub layer: String,
}

/// Every value that counts, each of them fit for its key.
#[derive(Default)]
pub(super) struct Values {
    pub entries: BTreeMap<String, GivenValue>,
    /// Lenders that a layer names, and the layer, also when it sets none of their keys.
    pub lenders: BTreeMap<String, String>,
    /// Keys that were given and refused; what depends on them is not judged.
    pub refused: BTreeSet<String>,
    /// Whether a layer could not be read at all: then nothing is called missing.
    pub incomplete: bool,
}

impl Values {
    /// The value of a key, read by the parser that its kind uses; `None` where there is none.
    pub(super) fn get<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.entries.get(name).and_then(|entry| parse(&entry.text))
    }

    /// The value of a key that has a default.
    pub(super) fn need<T>(&self, name: &str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.get(name, parse)
            .expect("a key with a default has a value, and every value was checked by its kind")
    }

    /// Whether somebody gave the key or its `KEY_file`, also if the value was refused.
    pub(super) fn is_given(&self, name: &str) -> bool {
        let has = |name: &str| self.entries.contains_key(name) || self.refused.contains(name);
        has(name) || has(&format!("{name}_file"))
    }

    pub(super) fn layer(&self, name: &str) -> String {
        self.entries.get(name).map_or(DEFAULT, |entry| &entry.layer).to_owned()
    }
}

/// One layer: its name and flat values.
struct Layer {
    name: String,
    /// The variable, if it is one.
    variable: Option<String>,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

/// Merges all layers and checks each value that counts by itself.
pub(super) fn merge(layers: Layers, errors: &mut Vec<ConfigError>) -> Values {
    let mut values = Values::default();
    let mut all = vec![defaults()];
    for path in &layers.files {
        match read_file(path) {
            Ok(tree) => all.push(layer_of_tree(path, tree, errors)),
            Err(error) => {
                values.incomplete = true;
                errors.push(error);
            }
        }
    }
    all.extend(layers_of_environment(layers.environment, errors));
    all.extend(layers_of_set(&layers.set, errors));

    let figment = all.into_iter().fold(Figment::new(), Figment::merge);
    let merged = figment
        .data()
        .map(|mut profiles| profiles.remove(&Profile::Default).unwrap_or_default());
    // A layer of ours cannot fail to hand over its values.
    for (name, value) in merged.unwrap_or_default() {
        let layer = figment
            .get_metadata(value.tag())
            .map_or(DEFAULT, |m| &m.name)
            .to_owned();
        values.take(&name, &value, layer, errors);
    }
    values
}

fn defaults() -> Layer {
    let given = KEYS
        .iter()
        .filter_map(|key| Some((key.name.to_owned(), Value::from(key.default?))));
    Layer {
        name: DEFAULT.to_owned(),
        variable: None,
        values: given.collect(),
    }
}

fn read_file(path: &Path) -> Result<Dict, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| ConfigError::UnreadableFile {
        path: path.to_owned(),
        reason: error.to_string(),
    })?;
    <Toml as Format>::from_str(&text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
        // Its `Display` would quote the line, and the line may hold a password.
        let reason = error.message().lines().collect::<Vec<_>>().join(", ");
        ConfigError::NotToml {
            path: path.to_owned(),
            line,
            reason,
        }
    })
}

fn layer_of_tree(path: &Path, tree: Dict, errors: &mut Vec<ConfigError>) -> Layer {
    let mut layer = Layer {
        name: format!("file {}", path.display()),
        variable: None,
        values: Dict::new(),
    };
    flatten(&mut Vec::new(), Value::from(tree), &mut layer, errors);
    layer
}

fn flatten(parts: &mut Vec<String>, value: Value, layer: &mut Layer, errors: &mut Vec<ConfigError>) {
    match value {
        Value::Dict(_, table) if table.len() == 1 && table.contains_key(BARE_DATE) => {
            let text = table
                .into_values()
                .next()
                .and_then(Value::into_string)
                .unwrap_or_default();
            layer.put(parts, Value::from(text), errors);
        }
        Value::Dict(_, table) => {
            if let [lenders, lender] = parts.as_slice()
                && lenders == "lenders"
            {
                layer.name_lender(lender, errors);
            }
            if table.is_empty() && !parts.is_empty() && !is_table(parts) {
                layer.put(parts, Value::from(Dict::new()), errors);
            }
            for (name, inner) in table {
                parts.push(name);
                flatten(parts, inner, layer, errors);
                parts.pop();
            }
        }
        other => layer.put(parts, other, errors),
    }
}

fn layers_of_environment(mut variables: Vec<(String, String)>, errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    variables.sort();
    let mut layers = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let mut layer = Layer {
            name: format!("environment variable {variable}"),
            values: Dict::new(),
            variable: Some(variable.clone()),
        };
        if text.contains(char::REPLACEMENT_CHARACTER) {
            errors.push(ConfigError::NotText { layer: layer.name });
            continue;
        }
        let parts: Vec<String> = rest.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        layer.put(&parts_of_variable(parts), Value::from(text), errors);
        layers.push(layer);
    }
    layers
}

/// Shells allow letters, digits and underscores: hyphens and dots of names that are not ours come back here.
fn parts_of_variable(mut parts: Vec<String>) -> Vec<String> {
    let dotted = |name: &str| match name.strip_suffix("_file") {
        Some(name) => format!("{}_file", name.replace('_', ".")),
        None => name.replace('_', "."),
    };
    match parts.as_mut_slice() {
        [lenders, lender, ..] if lenders == "lenders" => *lender = lender.replace('_', "-"),
        [kafka, properties, names @ ..] if kafka == "kafka" && properties == "properties" => {
            names.iter_mut().for_each(|name| *name = dotted(name));
        }
        [kafka, settings, _, names @ ..] if kafka == "kafka" && settings == "topic_settings" => {
            let ours = |name: &str| matches!(name, "partitions" | "replication_factor");
            names
                .iter_mut()
                .filter(|name| !ours(name))
                .for_each(|name| *name = name.replace('_', "."));
        }
        _ => {}
    }
    parts
}

/// The variable that sets a key.
fn variable_of(key: &str) -> String {
    let (table, name) = split(key);
    let levels: Vec<&str> = table
        .split('.')
        .filter(|level| !level.is_empty())
        .chain([name.as_str()])
        .collect();
    format!(
        "{PREFIX}{}",
        levels.join("__").replace(['.', '-'], "_").to_ascii_uppercase()
    )
}

fn layers_of_set(assignments: &[String], errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    let mut layers = Vec::new();
    for (index, assignment) in assignments.iter().enumerate() {
        let Some((name, text)) = assignment.split_once('=').filter(|(name, _)| !name.trim().is_empty()) else {
            errors.push(ConfigError::NotAnAssignment { position: index + 1 });
            continue;
        };
        let mut layer = Layer {
            name: "--set".to_owned(),
            variable: None,
            values: Dict::new(),
        };
        let parts: Vec<String> = name.trim().replace('"', "").split('.').map(str::to_owned).collect();
        layer.put(&parts, Value::from(text), errors);
        layers.push(layer);
    }
    layers
}

impl Layer {
    fn put(&mut self, parts: &[String], value: Value, errors: &mut Vec<ConfigError>) {
        match locate(parts) {
            Some((name, _)) => {
                if let [lenders, lender, _] = parts
                    && lenders == "lenders"
                {
                    self.name_lender(lender, errors);
                }
                self.values.insert(name, value);
            }
            None if is_table(parts) => {
                errors.push(ConfigError::NotAValue {
                    key: parts.join("."),
                    layer: self.name.clone(),
                });
            }
            None => {
                let near = nearest(parts);
                let (key, layer, nearest) = match &self.variable {
                    Some(variable) => (variable.clone(), "environment".to_owned(), variable_of(&near)),
                    None => (parts.join("."), self.name.clone(), near),
                };
                errors.push(ConfigError::UnknownKey { key, layer, nearest });
            }
        }
    }

    /// Notes a lender, which is one also while all its keys are missing.
    fn name_lender(&mut self, lender: &str, errors: &mut Vec<ConfigError>) {
        let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let marker = format!("{LENDER}{lender}");
        if !lender.is_empty() && lender.chars().all(fine) {
            self.values.insert(marker, Value::from(""));
            return;
        }
        let error = ConfigError::LenderName {
            lender: lender.to_owned(),
            layer: self.name.clone(),
        };
        if !errors.contains(&error) {
            errors.push(error);
        }
    }
}

/// Stands before the name of a lender in a layer; no key has a space in it.
const LENDER: &str = "lender ";

impl Values {
    /// Takes over one value if it fits its key; else says so and goes on with the default, so that all errors show.
    fn take(&mut self, name: &str, value: &Value, layer: String, errors: &mut Vec<ConfigError>) {
        if let Some(lender) = name.strip_prefix(LENDER) {
            self.lenders.insert(lender.to_owned(), layer);
            return;
        }
        let parts: Vec<String> = name.split('.').map(str::to_owned).collect();
        let Some((_, key)) = locate(&parts) else {
            return;
        };
        let is_file = key.has_file() && name.ends_with("_file");
        let kind = if is_file { ValueKind::Path } else { key.kind };
        let hidden = !is_file && (key.is_secret() || matches!(kind, ValueKind::Property) && is_secret_property(name));

        let text = text_of(&kind, value);
        // Nothing between the quotes takes an optional key back. Never a secret: a lost variable must not open a door.
        let optional = key.default.is_none() || matches!(kind, ValueKind::Url(_));
        let blank =
            text.as_deref() == Some("") && !matches!(kind, ValueKind::Setting | ValueKind::Property | ValueKind::Topic);
        if blank && optional && !key.has_file() && !name.ends_with(".email") && name != "upstream.base_url" {
            self.entries.remove(name);
            return;
        }
        match text {
            Some(text) if kind.accepts(&text) && !(hidden && text.is_empty()) => {
                self.entries.insert(
                    name.to_owned(),
                    GivenValue {
                        key,
                        is_file,
                        text,
                        layer,
                    },
                );
            }
            text => {
                let shown = match value {
                    Value::Array(..) => Some("[…]".to_owned()),
                    Value::Dict(..) => Some("{…}".to_owned()),
                    _ => text.or_else(|| scalar_text(value)).map(|text| kind.shown(&text)),
                };
                let bare = !matches!(value, Value::String(..) | Value::Dict(..) | Value::Array(..));
                let quotes = if bare && !kind.takes_bare_scalars() && !hidden {
                    ", in quotes"
                } else {
                    ""
                };
                let allowed = format!("{kind}{quotes}");
                errors.push(match shown {
                    Some(shown) if !hidden => {
                        let value = match value {
                            Value::String(..) => format!("{shown:?}"),
                            _ => shown,
                        };
                        ConfigError::Invalid {
                            key: name.to_owned(),
                            value,
                            layer,
                            allowed,
                        }
                    }
                    _ => ConfigError::InvalidHidden {
                        key: name.to_owned(),
                        layer,
                        allowed,
                    },
                });
                self.refused.insert(name.to_owned());
                if let Some(default) = key.default {
                    let entry = GivenValue {
                        key,
                        is_file,
                        text: default.to_owned(),
                        layer: DEFAULT.to_owned(),
                    };
                    self.entries.insert(name.to_owned(), entry);
                }
            }
        }
    }
}

/// The text of a value, where the kind takes it in this form.
fn text_of(kind: &ValueKind, value: &Value) -> Option<String> {
    match (kind, value) {
        (_, Value::String(_, text)) => Some(text.clone()),
        (ValueKind::Extra, Value::Array(_, names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            // An empty list lets nothing pass; a name with a comma in it would come back as two.
            names
                .filter(|names| !names.iter().any(|name| name.contains(',')))
                .map(|names| match names.as_slice() {
                    [] => "none".to_owned(),
                    names => names.join(","),
                })
        }
        (ValueKind::Ignored, Value::Array(_, names)) => {
            let names: Option<Vec<&str>> = names.iter().map(Value::as_str).collect();
            // An empty name would be lost where it is the only one.
            names
                .filter(|names| !names.iter().any(|name| name.contains(',') || name.trim().is_empty()))
                .map(|names| names.join(","))
        }
        _ if kind.takes_bare_scalars() => scalar_text(value),
        _ => None,
    }
}

fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(_, text) => Some(text.clone()),
        Value::Bool(_, flag) => Some(flag.to_string()),
        Value::Num(_, Num::F32(number)) => Some(number.to_string()),
        Value::Num(_, Num::F64(number)) => Some(number.to_string()),
        Value::Num(_, number) => number
            .to_i128()
            .map(|n| n.to_string())
            .or_else(|| number.to_u128().map(|n| n.to_string())),
        Value::Char(..) | Value::Dict(..) | Value::Array(..) | Value::Empty(..) => None,
    }
}
