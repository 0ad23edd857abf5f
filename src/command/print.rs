//! What a command says on standard output. `println!` panics where nobody reads it any more.

use std::fmt;
use std::io::{self, ErrorKind, Write as _};

use crate::exit::ProcessError;

/// Whoever closed it has seen enough.
pub(super) fn unless_closed(written: io::Result<()>) -> Result<(), ProcessError> {
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(ProcessError::Output(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// All of `text`, to its last byte.
pub(super) fn whole(mut out: impl io::Write, text: &str) -> Result<(), ProcessError> {
    unless_closed(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

pub(super) fn line(text: fmt::Arguments<'_>) -> Result<(), ProcessError> {
    unless_closed(writeln!(io::stdout().lock(), "{text}"))
}

/// As `println!`, with a result.
macro_rules! print_line {
    ($($text:tt)*) => {
        $crate::command::print::line(format_args!($($text)*))
    };
}

pub(super) use print_line;
