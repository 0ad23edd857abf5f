//! What is known of one key of the configuration?

use super::kinds::ValueKind;

/// One key of the configuration.
#[derive(Debug)]
pub(super) struct ConfigKey {
    /// The dotted name, `*` for a part that the operator chooses.
    pub name: &'static str,
    /// What may stand in it.
    pub kind: ValueKind,
    /// The value when nobody sets it, as it would be written on the command line; `None` where there is none.
    pub default: Option<&'static str>,
    /// What it is for, and why its default is what it is or what holds without it. Nobody else says it.
    pub reason: &'static str,
    /// For one without a default: a value, written like that; whole lines of TOML where the name ends with a `*`.
    pub example: Option<&'static str>,
}

impl ConfigKey {
    pub(super) const fn defaults_to(self, default: &'static str) -> Self {
        Self {
            default: Some(default),
            ..self
        }
    }

    pub(super) const fn reason(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    pub(super) const fn example(self, example: &'static str) -> Self {
        Self {
            example: Some(example),
            ..self
        }
    }

    /// Whether its values stay out of every message and dump.
    pub(super) fn is_secret(&self) -> bool {
        matches!(self.kind, ValueKind::Secret)
    }

    /// Whether `KEY_file` exists beside it.
    pub(super) fn has_file(&self) -> bool {
        matches!(self.kind, ValueKind::Secret | ValueKind::Property)
    }
}

pub(super) const fn key(name: &'static str, kind: ValueKind) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default: None,
        reason: "",
        example: None,
    }
}

pub(super) const fn duration(min: &'static str, max: &'static str, why: &'static str) -> ValueKind {
    ValueKind::Duration { min, max, why }
}

pub(super) const fn size(min: &'static str, max: &'static str, why: &'static str) -> ValueKind {
    ValueKind::Size { min, max, why }
}

pub(super) const fn whole(min: i64, max: i64, why: &'static str) -> ValueKind {
    ValueKind::Whole { min, max, why }
}

pub(super) const fn number(min: f64, below: f64, why: &'static str) -> ValueKind {
    ValueKind::Number { min, below, why }
}
