//! A command that prints and ends.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::secrets;
use super::world::World;

/// A command that has ended.
pub(crate) struct Shown {
    pub code: Option<i32>,
    pub out: String,
    pub log: String,
}

impl Shown {
    #[track_caller]
    pub(crate) fn of(output: Output) -> Self {
        let shown = Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).expect("text"),
            log: String::from_utf8(output.stderr).expect("text"),
        };
        secrets::none_in(&shown.out);
        secrets::none_in(&shown.log);
        shown
    }

    /// Its lines of JSON.
    pub(crate) fn lines(&self) -> Vec<Value> {
        let line = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.out.lines().map(line).collect()
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.log, self.out);
        self
    }
}

pub(crate) fn command(args: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_d02-source"));
    command
        .args(args)
        .envs(environment.iter().copied())
        .stdin(Stdio::null());
    command
}

/// Without any configuration.
pub(crate) fn bare(args: &[&str]) -> Shown {
    Shown::of(command(args, &[]).output().expect("it runs"))
}

/// With the configuration of `world`.
pub(crate) fn shown(world: &World, args: &[&str], environment: &[(&str, &str)]) -> Shown {
    let config = world.config();
    let args: Vec<&str> = ["--config", &config].into_iter().chain(args.iter().copied()).collect();
    Shown::of(command(&args, environment).output().expect("it runs"))
}
