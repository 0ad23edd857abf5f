//! `completions`: what a shell is to know of the program, so that Tab completes commands and options.

use std::io::Write;

use clap_complete::Shell;

use super::print;
use crate::exit::{Exit, Failure};

const EXAMPLES: &str = "Examples:
  d02-source completions bash > ~/.local/share/bash-completion/completions/d02-source
  d02-source completions zsh > ~/.zfunc/_d02-source      # where ~/.zfunc stands in fpath
  d02-source completions fish > ~/.config/fish/completions/d02-source.fish

A shell that is started after that completes commands, options and their values.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Whose script is printed
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the script for `program` to `out`, in `main` standard output. Needs no configuration and nobody else.
///
/// # Errors
/// When it cannot be written.
pub fn execute(args: &Args, mut program: clap::Command, out: impl Write) -> Result<Exit, Failure> {
    let name = program.get_name().to_owned();
    // For bash, clap_complete 4.6 writes a hyphen in a program's name in two ways, and nothing is completed behind a command (clap#6421).
    // So it is called without, but where bash is told whose completions these are.
    let plain = match args.shell {
        Shell::Bash => name.replace('-', ""),
        _ => name.clone(),
    };
    // clap writes to what cannot fail alone.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, &plain, &mut script);
    let script = String::from_utf8_lossy(&script).replace(&format!(" {plain}\n"), &format!(" {name}\n"));
    print::whole(out, &script)?;
    Ok(Exit::Done)
}
