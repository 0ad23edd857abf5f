//! `config show`: what is the configuration, all layers together, and where does each value come from? `config reference`:
//! which keys are there?

use std::io::Write;

use clap::{Args, Subcommand};

use super::print;
use crate::config::{Loaded, reference};
use crate::exit::{Exit, Failure};

/// Looks at the configuration without using it.
#[derive(Debug, Args)]
pub struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Prints every value that counts and the layer it came from; secrets are left out.
    #[command(after_help = "Example:\n  d02-source --config d02-source.toml --set upstream.page_size=500 config show")]
    Show {
        /// One JSON object instead of TOML: {"KEY": {"value": …, "from": …}}.
        #[arg(long)]
        json: bool,
    },
    /// Prints config/d02-source.toml: every key, its default and the reason for it.
    #[command(hide = true)]
    Reference,
}

/// Writes the result to `out`, in `main` standard output.
///
/// # Errors
/// When nothing can be written.
pub fn execute(arguments: &Arguments, loaded: &Loaded, mut out: impl Write) -> Result<Exit, Failure> {
    print::unless_closed(match arguments.action {
        Action::Show { json: true } => writeln!(out, "{:#}", loaded.to_json()),
        Action::Show { json: false } => write!(out, "{}", loaded.to_toml()),
        Action::Reference => write!(out, "{}", reference()),
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Layers, load};

    fn shown(json: bool) -> String {
        let loaded = load(Layers::default()).unwrap_or_else(|errors| panic!("{errors}"));
        let mut out = Vec::new();
        let arguments = Arguments {
            action: Action::Show { json },
        };
        execute(&arguments, &loaded, &mut out).expect("a vector takes everything");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn config_show_prints_toml_or_one_json_object() {
        assert!(shown(false).starts_with("name = \"d02-source\"  # default\n\n[upstream]\n"));
        let json: serde_json::Value = serde_json::from_str(&shown(true)).expect("JSON");
        assert_eq!(json["upstream.page_size"]["value"], 1000);
    }
}
