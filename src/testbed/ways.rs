//! How may services be started: by Docker, on the JVM, or as it comes?

use std::env::VarError;
use std::sync::Arc;

use super::docker::Engine;
use super::error::{CHOICE_VARIABLE, DockerError, TestbedError};
use crate::exit::chain;

/// How services may be started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ways {
    DockerOrJvm,
    Docker,
    Jvm,
}

impl Ways {
    pub(super) fn from_environment() -> Result<Self, TestbedError> {
        match std::env::var(CHOICE_VARIABLE).as_deref() {
            Err(VarError::NotPresent) | Ok("") => Ok(Self::DockerOrJvm),
            Ok("docker") => Ok(Self::Docker),
            Ok("jvm") => Ok(Self::Jvm),
            Ok(other) => Err(TestbedError::Choice {
                value: other.to_owned(),
            }),
            Err(VarError::NotUnicode(other)) => Err(TestbedError::Choice {
                value: other.to_string_lossy().into_owned(),
            }),
        }
    }

    /// The engine for containers, unless they are to be had from the JVM.
    pub(super) fn engine(self) -> Result<Option<Arc<Engine>>, TestbedError> {
        if self == Self::Jvm {
            return Ok(None);
        }
        match Engine::find() {
            Ok(engine) => Ok(Some(engine)),
            Err(error) if self == Self::DockerOrJvm && error.is_absence() => Ok(None),
            Err(error) => self.without(error).map(|()| None),
        }
    }

    /// Goes on without Docker, if that may be.
    pub(super) fn without(self, source: DockerError) -> Result<(), TestbedError> {
        if self == Self::Docker {
            return Err(TestbedError::Docker { source });
        }
        let why = chain(&source).replace('\n', " ");
        eprintln!("testbed: on the JVM and not in Docker, because {why}");
        Ok(())
    }
}
