//! `schema print / check / register`: the schemas as files, against the registry, and into it. Without Kafka, and without
//! lenders where none stands in the name of a topic.

use std::io::{self, Write};

use clap::ValueEnum;
use serde_json::Value;

use crate::avro::{ACCOUNT, CHANGE, Definition};
use crate::command::print::{self, print_line};
use crate::config::{self, Config, Encoding, Layers};
use crate::exit::{Exit, Failure};
use crate::registry::Registry;
use crate::subjects::{NO_REGISTRY, SubjectFinding, place, registered, subjects};

const PRINT_EXAMPLES: &str = "Examples:
  d02-source schema print > account.avsc
  d02-source schema print account-change --fingerprint";

const CHECK_HELP: &str = "Examples:
  d02-source --config config/d02-source.toml schema check
  d02-source --set schema_registry.url=http://localhost:8081 schema check --json

Writes nothing and needs no Kafka. For each subject two lines, the schema and the compatibility:
  ✓  it is registered, or compatible and `run` registers it
  !  a warning
  ✗  `run` would wait
The exit code is 0 without a ✗, 1 if the registry gives no answer, else 2.";

const REGISTER_EXAMPLE: &str = "Example:
  d02-source --config config/d02-source.toml schema register

Safe to repeat. Needs no Kafka, and leaves the compatibility as it is: `setup` sets that.";

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print a schema as it stands in its file, byte for byte
    #[command(after_help = PRINT_EXAMPLES)]
    Print(PrintArgs),
    /// See whether the registry has the schemas, or would take them
    #[command(after_help = CHECK_HELP)]
    Check {
        #[command(flatten)]
        whose: Whose,
        /// One JSON array instead of lines
        #[arg(long)]
        json: bool,
    },
    /// Register the schemas
    #[command(after_help = REGISTER_EXAMPLE)]
    Register {
        #[command(flatten)]
        whose: Whose,
    },
}

#[derive(Debug, clap::Args)]
struct PrintArgs {
    /// Which schema
    #[arg(value_enum, default_value_t = Schema::Account)]
    schema: Schema,
    /// Its name and fingerprints instead: CRC-64-AVRO (Rabin), its bytes in the order in which they stand in a
    /// single object (little-endian), and SHA-256, both in hexadecimal and over the Parsing Canonical Form
    #[arg(long)]
    fingerprint: bool,
}

#[derive(Debug, clap::Args)]
struct Whose {
    /// For whose topic, where {lender} stands in its name; all lenders of the configuration by default
    #[arg(long, value_name = "NAME")]
    lender: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Schema {
    /// The values of the topic `accounts`: avro/account.avsc
    Account,
    /// The values of the topic `changes`: avro/account_change.avsc
    AccountChange,
}

impl Schema {
    fn definition(self) -> &'static Definition {
        match self {
            Self::Account => &ACCOUNT,
            Self::AccountChange => &CHANGE,
        }
    }
}

/// `layers`: of the configuration, which not every subcommand needs.
pub async fn execute(args: Args, layers: Layers) -> Result<Exit, Failure> {
    match args.command {
        Command::Print(args) => print(&args, io::stdout().lock()),
        Command::Check { whose, json } => check(&whose, json, &config::load(layers)?.config).await,
        Command::Register { whose } => register(&whose, &config::load(layers)?.config).await,
    }
}

/// `schema print`: writes to `out`. Needs no configuration and nobody else.
///
/// # Errors
/// When nothing can be written.
fn print(args: &PrintArgs, out: impl Write) -> Result<Exit, Failure> {
    print::unless_closed(write(args, out))?;
    Ok(Exit::Done)
}

fn write(args: &PrintArgs, mut out: impl Write) -> io::Result<()> {
    let schema = args.schema.definition();
    if !args.fingerprint {
        return out.write_all(schema.text.as_bytes());
    }
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let sha_256 = openssl::sha::sha256(schema.canonical_form().as_bytes());
    writeln!(out, "name         {}", schema.name)?;
    writeln!(out, "crc-64-avro  {}", digits(&schema.fingerprint()))?;
    writeln!(out, "sha-256      {}", digits(&sha_256))
}

/// `schema check`.
async fn check(whose: &Whose, as_json: bool, config: &Config) -> Result<Exit, Failure> {
    let mut findings = Vec::new();
    if config.avro.encoding == Encoding::Confluent {
        let subjects = subjects(config, whose.lender.as_deref())?;
        let registry = Registry::new(&config.schema_registry)?;
        for subject in subjects {
            let finding = SubjectFinding::of(&registry, subject, config.schema_registry.auto_register).await;
            let is_away = finding.exit == Exit::Failed;
            findings.push(finding);
            if is_away {
                // It would not answer for the others either.
                break;
            }
        }
    }
    if as_json {
        let findings: Vec<Value> = findings.iter().map(SubjectFinding::json).collect();
        print_line!(
            "{}",
            serde_json::to_string_pretty(&findings).expect("findings are always JSON")
        )?;
    } else if findings.is_empty() {
        print_line!("{NO_REGISTRY}")?;
    } else {
        for finding in &findings {
            print_line!("{}", finding.text())?;
        }
    }
    let exits: Vec<Exit> = findings.iter().map(|finding| finding.exit).collect();
    Ok(Exit::of_all(&exits))
}

/// `schema register`.
async fn register(whose: &Whose, config: &Config) -> Result<Exit, Failure> {
    if config.avro.encoding == Encoding::SingleObject {
        print_line!("{NO_REGISTRY}")?;
        return Ok(Exit::Done);
    }
    let subjects = subjects(config, whose.lender.as_deref())?;
    let registry = Registry::new(&config.schema_registry)?;
    for subject in subjects {
        let (registered, state) = registered(&registry, &subject).await?;
        print_line!("{}: {state}, {}", subject.name, place(&registered))?;
    }
    Ok(Exit::Done)
}
