//! `completions`: what a shell is to know of the program, so that Tab completes commands and options; and its manual.

use std::io::{self, Write};

use clap::builder::PossibleValue;
use clap_complete::Shell;
use clap_mangen::Man;

use super::print;
use crate::exit::{Exit, Failure, ProcessError};

const EXAMPLES: &str = "Examples:
  d02-source completions bash > ~/.local/share/bash-completion/completions/d02-source
  d02-source completions zsh > ~/.zfunc/_d02-source      # where ~/.zfunc stands in fpath
  d02-source completions fish > ~/.config/fish/completions/d02-source.fish
  d02-source completions man | man -l -

A shell that is started after that completes commands, options and their values.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Whose script is printed; `man`: the manual, a page for the program and one for each command
    #[arg(value_enum, value_name = "SHELL")]
    reader: Reader,
}

/// Who reads what is printed.
#[derive(Debug, Clone, Copy)]
enum Reader {
    Shell(Shell),
    Man,
}

impl clap::ValueEnum for Reader {
    fn value_variants<'a>() -> &'a [Self] {
        const ALL: [Reader; 6] = [
            Reader::Shell(Shell::Bash),
            Reader::Shell(Shell::Elvish),
            Reader::Shell(Shell::Fish),
            Reader::Shell(Shell::PowerShell),
            Reader::Shell(Shell::Zsh),
            Reader::Man,
        ];
        &ALL
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Shell(shell) => shell.to_possible_value(),
            Self::Man => Some(PossibleValue::new("man")),
        }
    }
}

/// Writes what `program` is to its reader to `out`, in `main` standard output. Needs no configuration and nobody else.
///
/// # Errors
/// When it cannot be written.
pub fn execute(args: &Args, program: clap::Command, out: impl Write) -> Result<Exit, Failure> {
    let text = match args.reader {
        Reader::Shell(shell) => script(shell, program),
        Reader::Man => manual(program).map_err(ProcessError::Output)?,
    };
    print::whole(out, &text)?;
    Ok(Exit::Done)
}

fn script(shell: Shell, mut program: clap::Command) -> String {
    let name = program.get_name().to_owned();
    // For bash, clap_complete 4.6 writes a hyphen in a program's name in two ways, and nothing is completed behind a command (clap#6421).
    // So it is called without, but where bash is told whose completions these are.
    let plain = match shell {
        Shell::Bash => name.replace('-', ""),
        _ => name.clone(),
    };
    // clap writes to what cannot fail alone.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, &plain, &mut script);
    String::from_utf8_lossy(&script).replace(&format!(" {plain}\n"), &format!(" {name}\n"))
}

/// The pages one behind the other, each from its `.TH`.
fn manual(mut program: clap::Command) -> io::Result<String> {
    fn page(program: &clap::Command, pages: &mut Vec<u8>) -> io::Result<()> {
        Man::new(program.clone()).render(pages)?;
        for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
            page(command, pages)?;
        }
        Ok(())
    }
    // With what is global, and each command's whole name.
    program.build();
    let mut pages = Vec::new();
    page(&program, &mut pages)?;
    Ok(String::from_utf8_lossy(&pages).into_owned())
}
