//! How does the process end, and how is an error said? For every layer that knows how its errors end it.
//!
//! - `status`: the process's exit codes
//! - `code`: an error's own code, and the page that explains it
//! - `diagnosis`: what a person gets of an error
//! - `process`: what may go wrong with the process itself

mod code;
mod diagnosis;
mod process;
mod status;
#[cfg(test)]
mod tests;

pub use code::ErrorCode;
pub use diagnosis::{Diagnosis, Failure, chain};
pub use process::{DEFECT, INTERRUPTED, ProcessError};
pub use status::Exit;
