//! Arguments → configuration → telemetry → command → exit code.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand, ValueEnum};
use d02_source::command;
use d02_source::config::{self, Layers};
use d02_source::exit::{DEFECT, Exit, Failure, ProcessError};
use d02_source::log;
use d02_source::progress_bar::AboveBars;
use tracing_subscriber::EnvFilter;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's settings, which it looks for under this name: a pointer to text that ends with a zero byte, as a reference to its first
/// byte is one. Two arenas: one for each thread would each keep what it has freed. They keep it for a second and not for ten: a
/// restore frees as much as it leaves; and a thread of jemalloc's own gives it back, whether the process is at rest or not.
#[allow(unsafe_code)]
#[unsafe(export_name = "malloc_conf")]
static ALLOCATOR_SETTINGS: &u8 = &b"narenas:2,background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0"[0];

/// Streams ClearGrid D02 borrower accounts into a compacted Kafka topic, exactly once
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
struct Arguments {
    /// A TOML file; several are layered in order, then the environment (D02__…), then --set
    #[arg(long, global = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One value, over all files and the environment
    #[arg(long, global = true, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// How log lines look, on standard error
    #[arg(long, global = true, value_enum, default_value_t = LogForm::Text)]
    log: LogForm,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogForm {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the source: read every lender's accounts into Kafka, and go on live
    Run(command::run::Args),
    /// See what can be known before anything is written: configuration, upstream, Kafka, registry
    Check(command::check::Args),
    /// Create the topics, register the schema and set its compatibility; safe to repeat
    Setup(command::setup::Args),
    /// Show how far each lender is read, or change it: rewind, export, import, reset
    Cursor(command::cursor::Args),
    /// Pause, resume, stop or restart a lender of the source that runs
    Lender(command::lender::Args),
    /// Print the records of a topic, decoded: a line of JSON each, or a table
    Tail(command::tail::Args),
    /// Compare all of upstream with all of `accounts`: what is missing, stale, different or surplus
    Verify(command::verify::Args),
    /// Read everything once more and put `accounts` right, deletions included
    Reconcile(command::reconcile::Args),
    /// Try the dead letters again with this version, and write what it can read
    Replay(command::replay::Args),
    /// Write accounts once more under today's schema, where the registry lost the one they stand under
    Republish(command::republish::Args),
    /// Print the schemas, check them against the registry, or register them
    Schema(command::schema::Args),
    /// Show the effective configuration and where each value comes from
    Config(command::config::Arguments),
    /// Say what an error with a code means, and what to do; without a code, list them all
    Explain(command::explain::Args),
    /// Print the script by which a shell completes commands and options
    Completions(command::completions::Args),
    /// Show that the promise holds: every part on this machine, a kill, and the proof
    #[cfg(feature = "demo")]
    Demo(command::demo::Args),
    /// Serve an Exports API on a local port: seeded rows, live changes, faults
    Simulate(Box<command::simulate::Args>),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Err(error) = log::start() {
        let failure = Failure::of(&error);
        // There is nobody else to tell.
        let _ = writeln!(std::io::stderr(), "error: {failure}");
        return ExitCode::from(failure.exit().code());
    }
    telemetry(arguments.log);
    let exit = execute(arguments).unwrap_or_else(|failure| {
        // It takes everything.
        let _ = writeln!(AboveBars, "error: {failure}");
        failure.exit()
    });
    log::flush();
    ExitCode::from(exit.code())
}

/// `RUST_LOG` chooses what is logged; by default everything of ours and librdkafka's warnings.
fn telemetry(form: LogForm) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(AboveBars::default)
        .with_target(false);
    match form {
        LogForm::Text => builder
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init(),
        LogForm::Json => builder.json().flatten_event(true).init(),
    }
    // The usual one writes to standard error itself, and waits where nobody reads.
    std::panic::set_hook(Box::new(|panic| {
        let trace = Backtrace::capture();
        let trace = Some(trace).filter(|trace| trace.status() == BacktraceStatus::Captured);
        let trace = trace.map_or_else(String::new, |trace| format!("\n{trace}"));
        let thread = std::thread::current();
        let name = thread.name().unwrap_or("without a name");
        tracing::error!(code = %DEFECT, "thread {name} {panic}{trace}");
        log::flush();
    }));
}

fn execute(arguments: Arguments) -> Result<Exit, Failure> {
    let layers = Layers {
        files: arguments.config,
        environment: config::process_environment(),
        set: arguments.set,
    };
    let needs_lenders = |layers| {
        let loaded = config::load(layers)?;
        loaded.config.require_lenders()?;
        Ok::<_, Failure>(loaded.config)
    };
    match arguments.command {
        Command::Run(args) if args.health_check => {
            on_runtime(command::health_check::execute(config::http_listen(layers)))
        }
        Command::Run(args) => {
            let loaded = config::load(layers)?;
            on_runtime(command::run::execute(args, loaded))
        }
        // Whatever is wrong with the configuration is a finding.
        Command::Check(args) => on_runtime(command::check::execute(args, config::load(layers))),
        Command::Setup(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::setup::execute(args, config))
        }
        Command::Cursor(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::cursor::execute(args, config))
        }
        Command::Lender(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::lender::execute(args, config))
        }
        Command::Tail(args) => {
            let config = config::load(layers)?.config;
            on_runtime(command::tail::execute(args, config))
        }
        Command::Verify(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::verify::execute(args, config))
        }
        Command::Reconcile(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::reconcile::execute(args, config))
        }
        Command::Replay(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::replay::execute(args, config))
        }
        Command::Republish(args) => {
            let config = needs_lenders(layers)?;
            on_runtime(command::republish::execute(args, config))
        }
        Command::Schema(args) => on_runtime(command::schema::execute(args, layers)),
        Command::Config(args) => command::config::execute(&args, &config::load(layers)?, std::io::stdout().lock()),
        Command::Explain(args) => command::explain::execute(&args, std::io::stdout().lock()),
        Command::Completions(args) => {
            command::completions::execute(&args, Arguments::command(), std::io::stdout().lock())
        }
        #[cfg(feature = "demo")]
        Command::Demo(args) => {
            let is_configured = !layers.files.is_empty() || !layers.set.is_empty();
            on_runtime(command::demo::execute(args, is_configured))
        }
        Command::Simulate(args) => on_runtime(async {
            command::simulate::execute(*args).await?;
            Ok(Exit::Done)
        }),
    }
}

/// What is still under way when a command has ended is left behind: it has had its time.
fn on_runtime(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| ProcessError::System {
            doing: "starting the runtime",
            source,
        })?;
    let result = runtime.block_on(command);
    runtime.shutdown_background();
    result
}
