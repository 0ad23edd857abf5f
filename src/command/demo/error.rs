//! Why does a demo end early?

use std::io;
use std::time::Duration;

use rdkafka::error::KafkaError;
use thiserror::Error;

use crate::exit::{Diagnosis, ErrorCode, INTERRUPTED};
use crate::registry::RegistryError;
use crate::simulator::StartError;
use crate::testbed::TestbedError;

/// Nothing takes longer that works.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Why the demo ends early.
#[derive(Debug, Error)]
pub(crate) enum DemoError {
    #[error("starting the testbed")]
    Testbed(#[from] TestbedError),
    #[error("starting the simulator")]
    Simulator(#[from] StartError),
    #[error("{doing} {what}")]
    Io {
        doing: &'static str,
        what: String,
        source: io::Error,
    },
    #[error("{doing}")]
    Kafka { doing: &'static str, source: KafkaError },
    #[error("reading a schema")]
    Registry(#[from] RegistryError),
    #[error("decoding a record")]
    Decode(#[from] crate::avro::DecodeError),
    #[error("waited {} in vain: {what}", humantime::format_duration(PATIENCE))]
    TookTooLong { what: &'static str },
    #[error("the source ended by itself while {doing}")]
    SourceEnded { doing: &'static str },
    #[error("the source was killed {tries} times and never in the middle of a transaction")]
    NeverOpen { tries: u32 },
    #[error("interrupted")]
    Interrupted,
    #[error("demo has a configuration of its own")]
    Configured,
}

impl Diagnosis for DemoError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Testbed(_)
            | Self::Simulator(_)
            | Self::Io { .. }
            | Self::Kafka { .. }
            | Self::Registry(_)
            | Self::Decode(_)
            | Self::TookTooLong { .. }
            | Self::SourceEnded { .. }
            | Self::NeverOpen { .. } => ErrorCode::B03,
            Self::Interrupted => INTERRUPTED,
            Self::Configured => ErrorCode::C19,
        }
    }

    fn advice(&self) -> &str {
        match self {
            Self::Testbed(_) | Self::Io { .. } => {
                "see the message; the first start also fetches Kafka and a registry by Maven"
            }
            Self::Simulator(_) => "free a port on 127.0.0.1",
            Self::Kafka { .. } | Self::Registry(_) | Self::TookTooLong { .. } | Self::NeverOpen { .. } => {
                "try again on a quieter machine; if it stays so, report it"
            }
            Self::SourceEnded { .. } => "its last lines, above, say why",
            Self::Decode(_) => "this is a defect: report it",
            Self::Interrupted => "nothing",
            Self::Configured => "leave out --config and --set",
        }
    }
}
