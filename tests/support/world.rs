//! One test's surroundings: a simulator, topics of its own, and a configuration that names both.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use d02_source::simulator::{LenderOptions, Options, Simulator};
use rdkafka::producer::{BaseProducer, Producer};
use tempfile::TempDir;

use super::judge;
use super::kafka::{self, Follower, Record};
use super::kafka_proxy::KafkaProxy;
use super::source::Source;
use super::{PATIENCE, RUNTIME, testbed, wait_for};

pub(crate) struct World {
    pub simulator: Simulator,
    pub name: String,
    pub servers: String,
    directory: TempDir,
    follower: Mutex<Option<Follower>>,
    mode: &'static str,
    turn: Option<Turn>,
}

/// Of those worlds that are much for the shared broker, so many stand at the same time.
static FREE: (Mutex<usize>, Condvar) = (Mutex::new(2), Condvar::new());

/// Gives its place back when it is dropped.
struct Turn;

impl Drop for Turn {
    fn drop(&mut self) {
        *FREE.0.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        FREE.1.notify_one();
    }
}

/// The shared broker has no more topics than the tests that run: each costs it files, memory and time.
impl Drop for World {
    fn drop(&mut self) {
        if self.servers == testbed().bootstrap_servers() {
            kafka::delete_all(&self.servers, &format!("{}.", self.name));
        }
    }
}

impl World {
    /// Lenders with so many rows each.
    pub(crate) fn new(rows: &[u32]) -> Self {
        Self::with(options(rows))
    }

    pub(crate) fn with(options: Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let simulator = RUNTIME.block_on(Simulator::start(options)).expect("a simulator");
        let servers = testbed().bootstrap_servers();
        Self {
            simulator,
            name,
            servers,
            directory: tempfile::tempdir().expect("a directory"),
            follower: Mutex::default(),
            mode: "shared",
            turn: None,
        }
    }

    /// Waits until there is room for a large one.
    pub(crate) fn in_turn(mut self) -> Self {
        let free = FREE.0.lock().unwrap_or_else(PoisonError::into_inner);
        let free = FREE.1.wait_while(free, |free| *free == 0);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        self.turn = Some(Turn);
        self
    }

    /// As many lenders as partitions of the cursor topic, and one in each: whoever the group gives a partition to runs a lender.
    pub(crate) fn spread(mut self) -> Self {
        let count = self.simulator.handle().lender_count();
        let spread = (0..).map(|number| format!("{}-{number}", self.name)).find(|name| {
            let keys = (0..count).map(|lender| {
                let public_id = &self.lender(lender).public_id;
                format!(
                    r#"["{name}-lender-{}",{{"dataset":"D02","lender":"{public_id}"}}]"#,
                    lender + 1
                )
            });
            let partitions: BTreeSet<_> = keys.map(|key| kafka::partition_of(&key, count)).collect();
            partitions.len() == count
        });
        self.name = spread.expect("one in twenty thousand names");
        self
    }

    /// Of two processes, the later one takes over, and the first one ends.
    pub(crate) fn single(mut self) -> Self {
        self.mode = "single";
        self
    }

    /// Uses another broker than the shared one.
    pub(crate) fn on(mut self, servers: &str) -> Self {
        self.servers = servers.to_owned();
        self
    }

    pub(crate) fn topic(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Writes the configuration; gives its path.
    pub(crate) fn config(&self) -> String {
        self.config_of(self.simulator.handle().lender_count(), "d02-source.toml")
    }

    /// The configuration with the first so many lenders alone, in this file.
    pub(crate) fn config_of(&self, lender_count: usize, file: &str) -> String {
        let handle = self.simulator.handle();
        let mut toml = format!(
            "name = \"{name}\"\n[upstream]\nbase_url = \"{url}\"\npoll_interval = \"100ms\"\nsnapshot_parallelism = 1\n{ca}\
             [kafka]\nbootstrap_servers = \"{servers}\"\n\
             [kafka.topics]\naccounts = \"{name}.accounts\"\ncursor = \"{name}.cursor\"\nchanges = \"{name}.changes\"\n\
             dead_letters = \"{name}.dead\"\n\
             # The cleaner would remove the very duplicates that a test looks for.\n\
             [kafka.topic_settings.accounts]\n\"min.compaction.lag.ms\" = \"604800000\"\n\
             # Not the default: hundreds of worlds share one small broker.\n\
             [kafka.topic_settings.cursor]\npartitions = 2\n\
             [transaction]\nmax_rows = 3000\n[group]\nmode = \"{mode}\"\n\
             [schema_registry]\nurl = \"{registry}\"\n",
            name = self.name,
            url = handle.base_url(),
            ca = handle
                .ca_file()
                .map(|path| format!("ca_file = \"{}\"\n", path.display()))
                .unwrap_or_default(),
            servers = self.servers,
            mode = self.mode,
            registry = testbed().schema_registry_url(),
        );
        for number in 0..lender_count {
            let lender = handle.lender(number);
            toml.push_str(&format!(
                "[lenders.{}]\nemail = \"{}\"\npassword = \"{}\"\n",
                lender.subdomain, lender.email, lender.password
            ));
        }
        let path = self.path(file);
        std::fs::write(&path, toml).expect("written");
        path.display().to_string()
    }

    pub(crate) fn command(&self, args: &[&str], environment: &[(&str, &str)]) -> Source {
        let config = self.config();
        let args: Vec<&str> = ["--config", &config].into_iter().chain(args.iter().copied()).collect();
        Source::spawn(&args, environment)
    }

    /// A command that reaches the broker through the proxy only; the judge goes around it.
    pub(crate) fn through(&self, proxy: &KafkaProxy, args: &[&str], environment: &[(&str, &str)]) -> Source {
        let servers = proxy.bootstrap_servers();
        let through = ("D02__KAFKA__BOOTSTRAP_SERVERS", servers.as_str());
        let environment: Vec<_> = environment.iter().copied().chain([through]).collect();
        self.command(args, &environment)
    }

    /// The topics in which a transaction is open, or its marker still on its way.
    pub(crate) fn open_topics(&self) -> Vec<String> {
        self.open_topics_by(&kafka::Ends::new(&self.servers))
    }

    fn open_topics_by(&self, ends: &kafka::Ends) -> Vec<String> {
        let topics = ["accounts", "changes", "cursor", "dead"].map(|kind| self.topic(kind));
        topics
            .into_iter()
            .filter(|topic| !ends.hidden(topic).is_empty())
            .collect()
    }

    /// Stops a process where none of its transactions is open: SIGCONT lets it go on. A broker that is alone, killed between
    /// deciding on a commit and telling the partitions, never tells them.
    pub(crate) fn stop_between_transactions(&self, source: &Source) {
        let ends = kafka::Ends::new(&self.servers);
        wait_for("it stands between two transactions", || {
            source.signal("STOP");
            std::thread::sleep(Duration::from_millis(100));
            let stands = self.open_topics_by(&ends).is_empty();
            if !stands {
                source.signal("CONT");
            }
            stands.then_some(())
        });
    }

    /// Takes the first lender's transactional id, as the next start does: what a killed process left open is ended by it.
    pub(crate) fn fence(&self) -> BaseProducer {
        let id = format!("{}.{}", self.name, self.lender(0).public_id);
        let producer = kafka::producer(&self.servers, &[("transactional.id", &id)]);
        producer.init_transactions(PATIENCE).expect("fenced");
        producer
    }

    /// A command with these settings.
    pub(crate) fn command_with(&self, set: &[&str], args: &[&str]) -> Source {
        let set = set.iter().flat_map(|assignment| ["--set", assignment]);
        let all: Vec<&str> = set.chain(args.iter().copied()).collect();
        self.command(&all, &[])
    }

    /// `run`.
    pub(crate) fn run(&self) -> Source {
        self.command(&["run"], &[])
    }

    /// `run --until-caught-up` with more arguments, to its good end; gives its log.
    #[track_caller]
    pub(crate) fn catch_up(&self) -> String {
        let mut source = self.command(&["run", "--until-caught-up"], &[]);
        source.expect_exit(0);
        source.log()
    }

    pub(crate) fn accounts(&self) -> Vec<Record> {
        kafka::committed(&self.servers, &self.topic("accounts"))
    }

    /// How many account records there are; 0 while the topic is not there yet.
    pub(crate) fn accounts_so_far(&self) -> usize {
        if self.simulator.counts().row_count == 0 {
            0
        } else {
            self.follow_accounts(<[Record]>::len)
        }
    }

    /// As `accounts`, for a test that looks again and again.
    pub(crate) fn follow_accounts<T>(&self, look: impl FnOnce(&[Record]) -> T) -> T {
        let mut follower = self.follower.lock().expect("no test goes on after a panic");
        let follower = follower.get_or_insert_with(|| Follower::new(&self.servers, &self.topic("accounts")));
        look(follower.committed())
    }

    pub(crate) fn changes(&self) -> Vec<Record> {
        kafka::committed(&self.servers, &self.topic("changes"))
    }

    /// The records of `accounts`, once `changes` has been judged by them.
    #[track_caller]
    pub(crate) fn judged_accounts(&self) -> Vec<Record> {
        let accounts = self.accounts();
        judge::trail(&self.changes(), &accounts);
        accounts
    }

    pub(crate) fn cursors(&self) -> Vec<Record> {
        kafka::committed(&self.servers, &self.topic("cursor"))
    }

    pub(crate) fn dead_letters(&self) -> Vec<Record> {
        kafka::committed(&self.servers, &self.topic("dead"))
    }

    pub(crate) fn lender(&self, number: usize) -> d02_source::simulator::LenderInfo {
        self.simulator.handle().lender(number)
    }
}

/// Lenders with so many rows each, some of them in groups of equal time that are larger than a page.
pub(crate) fn options(rows: &[u32]) -> Options {
    let lender = |(number, rows): (usize, &u32)| LenderOptions {
        rows: *rows,
        tie_groups: vec![1, 1, 3, 40, 1500],
        ..LenderOptions::numbered(u32::try_from(number).expect("few lenders") + 1)
    };
    Options {
        lenders: rows.iter().enumerate().map(lender).collect(),
        ..Options::default()
    }
}
