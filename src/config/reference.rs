//! The reference file: every key, its default and the reason for it, as a person reads them.

use std::fmt::Write;

use super::key::ConfigKey;
use super::keys::{KEYS, TABLES};
use super::lookup::split;
use super::toml;

/// How to read it.
const HEADER: &str = "\
# The configuration of d02-source: every key, its default and the reason for it.
#
# A line that starts with \"#\" and no space is a setting without a default, or an example: take the \"#\" away to use it.
# Layers, later wins: built-in defaults, --config files in their order, the environment, --set KEY=VALUE.
# In the environment: D02__ and two underscores between levels, D02__UPSTREAM__PAGE_SIZE=500. In the name of a lender a
# single underscore is a hyphen, in a Kafka property or topic setting it is a dot.
# Durations \"500ms\", \"5s\", \"2m\", \"1h\", \"30d\"; sizes \"64MiB\". Any secret KEY can be given as KEY_file, a path, which is
# read again when the secret was refused. `d02-source config show` prints what holds and where it came from.
";

/// A comment ends before this column.
const WIDTH: usize = 120;

/// The text of `config/d02-source.toml`.
pub fn reference() -> String {
    let mut out = String::from(HEADER);
    let mut table = String::new();
    for key in KEYS {
        if key.default.is_none() && key.example.is_none() {
            continue;
        }
        let (key_table, name) = split(key.name);
        out.push_str(if key_table == table { "" } else { "\n" });
        if key_table != table {
            begin(&key_table, &mut out);
            table = key_table;
        } else if table.is_empty() {
            out.push('\n');
        }
        comment(key.reason, &mut out);
        setting(key, &name, &mut out);
    }
    out
}

fn begin(table: &str, out: &mut String) {
    if let Some((_, about)) = TABLES.iter().find(|(name, _)| *name == table) {
        comment(about, out);
    }
    let _ = match table.strip_suffix(".*") {
        Some(parent) => writeln!(out, "#[{parent}.acme]"),
        None => writeln!(out, "[{table}]"),
    };
}

/// The line that sets the key: as it holds, or commented out.
fn setting(key: &ConfigKey, name: &str, out: &mut String) {
    let name = if key.is_secret() {
        format!("{name}_file")
    } else {
        name.to_owned()
    };
    let line = |text| format!("{} = {}", toml::key(&name), toml::value(&toml::bare(key.kind, text)));
    if let Some(default) = key.default {
        let _ = writeln!(out, "{}", line(default));
    }
    for example in key.example.iter().flat_map(|example| example.lines()) {
        let _ = match (name.as_str(), example.strip_prefix("# ")) {
            ("*", Some(_)) => writeln!(out, "{example}"),
            ("*", None) => writeln!(out, "#{example}"),
            _ => writeln!(out, "#{}", line(example)),
        };
    }
}

fn comment(text: &str, out: &mut String) {
    let mut column = 0;
    for word in text.split_whitespace() {
        let width = word.chars().count() + 1;
        if column == 0 || column + width > WIDTH {
            out.push_str(if column == 0 { "#" } else { "\n#" });
            column = 1;
        }
        let _ = write!(out, " {word}");
        column += width;
    }
    out.push_str(if column == 0 { "" } else { "\n" });
}
