//! `schema print`: the schemas as files, and their fingerprints. Needs no configuration and nobody else.

use std::io::{self, Write};

use clap::ValueEnum;

use crate::avro::{ACCOUNT_NAME, ACCOUNT_SCHEMA, canonical_form, fingerprint};

const EXAMPLES: &str = "Examples:
  d02-source schema print > account.avsc
  d02-source schema print --fingerprint";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a schema as it stands in its file, byte for byte
    #[command(after_help = EXAMPLES)]
    Print {
        /// Which schema
        #[arg(value_enum, default_value_t = Schema::Account)]
        schema: Schema,
        /// Its name and fingerprints instead: CRC-64-AVRO (Rabin), its bytes in the order in which they stand in a
        /// single object (little-endian), and SHA-256, both in hexadecimal and over the Parsing Canonical Form
        #[arg(long)]
        fingerprint: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Schema {
    /// The values of the topic `accounts`: avro/account.avsc
    Account,
}

/// Writes the result to `out`, in `main` standard output.
pub fn execute(args: &Args, mut out: impl Write) -> io::Result<()> {
    match args.command {
        Command::Print {
            schema: Schema::Account,
            fingerprint: false,
        } => out.write_all(ACCOUNT_SCHEMA.as_bytes()),
        Command::Print {
            schema: Schema::Account,
            fingerprint: true,
        } => {
            let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
            let sha_256 = openssl::sha::sha256(canonical_form().as_bytes());
            writeln!(out, "name         {ACCOUNT_NAME}")?;
            writeln!(out, "crc-64-avro  {}", digits(&fingerprint()))?;
            writeln!(out, "sha-256      {}", digits(&sha_256))
        }
    }
}
