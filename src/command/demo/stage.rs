//! What stands on the stage: the testbed, the upstream, and the source as a process of its own.

use std::collections::VecDeque;
use std::fs;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::error::{DemoError, PATIENCE};
use crate::config::SchemaRegistry;
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::simulator::{LenderOptions, Options, RowKind, Simulator, StoredRow};
use crate::testbed::{Output, Process, RunDirectory, Testbed, default_cache};

pub(super) const LENDER_COUNT: u32 = 2;

/// Small transactions, so that there is a good chance to meet one that is open; short pauses, so that a person sees changes
/// arrive. One partition of the cursor topic: one source runs all lenders, and another stands by.
const SETTINGS: &str = "poll_interval = \"250ms\"\n\n[transaction]\nmax_rows = 2000\n\n[kafka.topic_settings.cursor]\npartitions = 1\n\n\
                        [group]\nmode = \"shared\"\nsession_timeout = \"6s\"\n";

/// This run's own: a broker that the environment names may hold the topics of other runs.
fn name() -> String {
    format!("demo-{}", std::process::id())
}

pub(super) struct Stage {
    // In the order in which they have to go.
    /// The one that was started first runs the lenders.
    sources: VecDeque<Process>,
    pub simulator: Simulator,
    testbed: Testbed,
    directory: RunDirectory,
    shutdown: Shutdown,
    pub begun: Instant,
}

impl Stage {
    pub(super) fn set(rows: u32, shutdown: Shutdown, runtime: &Handle) -> Result<Self, DemoError> {
        let begun = Instant::now();
        let lender = |number| LenderOptions {
            rows: rows / LENDER_COUNT,
            tie_groups: vec![1, 1, 3, 40, 1500],
            odd_rate: 0.01,
            bad_rate: 0.001,
            ..LenderOptions::numbered(number)
        };
        let options = Options {
            lenders: (1..=LENDER_COUNT).map(lender).collect(),
            ..Options::default()
        };
        let simulator = runtime.block_on(Simulator::start(options))?;
        let stage = Self {
            sources: VecDeque::new(),
            simulator,
            testbed: Testbed::start()?,
            directory: RunDirectory::create(&default_cache())?,
            shutdown,
            begun,
        };
        let path = stage.config_path();
        fs::write(&path, stage.config()).map_err(|source| DemoError::Io {
            doing: "writing",
            what: path,
            source,
        })?;
        stage.check_shutdown()?;
        Ok(stage)
    }

    fn config(&self) -> String {
        let name = name();
        let mut toml = format!(
            "name = \"{name}\"\n\n[kafka]\nbootstrap_servers = \"{}\"\n\n[kafka.topics]\naccounts = \"{}\"\ncursor = \
             \"{name}.cursor\"\nchanges = \"{name}.changes\"\ndead_letters = \"{}\"\n\n[schema_registry]\nurl = \"{}\"\n\n[upstream]\nbase_url = \
             \"{}\"\n{SETTINGS}",
            self.servers(),
            self.accounts_topic(),
            self.dead_letters_topic(),
            self.registry_url(),
            self.simulator.base_url(),
        );
        for number in 0..self.simulator.lender_count() {
            let lender = self.simulator.lender(number);
            toml += &format!(
                "\n[lenders.{}]\nemail = \"{}\"\npassword = \"{}\"\n",
                lender.subdomain, lender.email, lender.password
            );
        }
        toml
    }

    fn config_path(&self) -> String {
        self.directory.path().join("demo.toml").display().to_string()
    }

    pub(super) fn servers(&self) -> String {
        self.testbed.bootstrap_servers()
    }

    pub(super) fn registry_url(&self) -> String {
        self.testbed.schema_registry_url()
    }

    pub(super) fn registry(&self) -> Result<Registry, DemoError> {
        let settings = SchemaRegistry {
            url: self.registry_url().parse().ok(),
            auto_register: false,
            username: None,
            password: None,
            token: None,
            ca_file: None,
        };
        Ok(Registry::new(&settings)?)
    }

    pub(super) fn accounts_topic(&self) -> String {
        format!("{}.accounts", name())
    }

    pub(super) fn dead_letters_topic(&self) -> String {
        format!("{}.dead-letters", name())
    }

    /// What upstream shows, of all lenders.
    pub(super) fn rows(&self) -> Vec<StoredRow> {
        (0..self.simulator.lender_count())
            .flat_map(|lender| self.simulator.rows(lender))
            .collect()
    }

    pub(super) fn account_count(&self) -> usize {
        let is_account = |row: &&StoredRow| !matches!(row.kind, RowKind::Bad(_));
        self.rows().iter().filter(is_account).count()
    }

    /// `updated_at` of each account, in milliseconds since the epoch, as upstream shows it.
    pub(super) fn updated_at(&self) -> Vec<(String, i64)> {
        let accounts = self
            .rows()
            .into_iter()
            .filter(|row| !matches!(row.kind, RowKind::Bad(_)));
        accounts.map(|row| (row.id, row.updated_at_ms)).collect()
    }

    /// Changes `count` accounts, over the lenders; gives their ids.
    pub(super) fn change_few(&self, count: usize) -> Vec<String> {
        let lenders = self.simulator.lender_count();
        (0..lenders)
            .flat_map(|lender| self.simulator.touch(lender, count / lenders, 7))
            .collect()
    }

    /// Changes a fifth of all accounts.
    pub(super) fn change_many(&self, seed: u32) {
        for lender in 0..self.simulator.lender_count() {
            let count = self.simulator.row_count(lender) / 5;
            self.simulator.touch(lender, count, u64::from(seed) + 100);
        }
    }

    fn run(&self, arguments: &[&str]) -> Result<Process, DemoError> {
        // Its progress bar is worth a look, its log is not; a person who wants it sets the variable.
        let level = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned());
        let program = std::env::current_exe().map_err(|source| DemoError::Io {
            doing: "finding",
            what: "this program".to_owned(),
            source,
        })?;
        let (level, program, config) = (
            format!("RUST_LOG={level}"),
            program.display().to_string(),
            self.config_path(),
        );
        // Nothing that configures the user's own source may reach this one.
        let foreign = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
        let foreign = foreign.filter(|name| name.starts_with("D02__"));
        let mut command: Vec<String> = foreign.map(|name| format!("--unset={name}")).collect();
        command.extend([level, program, "--config".to_owned(), config, "run".to_owned()]);
        command.extend(arguments.iter().map(ToString::to_string));
        let directory = self.directory.path();
        Ok(Process::start("source", "env", &command, directory, Output::Terminal)?)
    }

    pub(super) fn start_source(&mut self) -> Result<(), DemoError> {
        self.sources.push_back(self.run(&[])?);
        Ok(())
    }

    /// SIGKILL for the one that runs the lenders; nothing of it is left when this returns.
    pub(super) fn kill_source(&mut self) -> Result<(), DemoError> {
        match self.sources.pop_front() {
            Some(source) => Ok(source.kill()?),
            None => Ok(()),
        }
    }

    pub(super) fn catch_up(&self) -> Result<(), DemoError> {
        Ok(self.run(&["--until-caught-up"])?.wait_for_success(PATIENCE)?)
    }

    /// # Errors
    /// When the source has ended, or the demo is to.
    pub(super) fn check(&mut self, doing: &'static str) -> Result<(), DemoError> {
        self.check_shutdown()?;
        for source in &mut self.sources {
            if source.has_ended()? {
                return Err(DemoError::SourceEnded { doing });
            }
        }
        Ok(())
    }

    pub(super) fn check_shutdown(&self) -> Result<(), DemoError> {
        if self.shutdown.is_requested() {
            return Err(DemoError::Interrupted);
        }
        Ok(())
    }

    /// Runs on, with a few changes a second, until it is interrupted or something ends by itself: which of them.
    pub(super) fn keep(&mut self) -> DemoError {
        const PAUSE: Duration = Duration::from_millis(500);
        if let Err(error) = self.start_source() {
            return error;
        }
        let config = self.config_path();
        println!("\nThe source runs on, and two accounts change every second. Until Ctrl-C you can try:\n");
        for command in [
            "tail --follow --format table",
            "tail --topic changes --changed due_date --follow --format table",
            "tail --topic cursor",
            "tail --topic dead-letters",
            "cursor show",
        ] {
            println!("  d02-source --config {config} {command}");
        }
        loop {
            std::thread::sleep(PAUSE);
            if let Err(error) = self.check("it was kept") {
                return error;
            }
            let lender = fastrand::usize(..self.simulator.lender_count());
            self.simulator.touch(lender, 1, fastrand::u64(..));
        }
    }
}
