//! What is each lender as a connector, what does it do, and what is wanted of it?

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Map, Value, json};

use super::reply::Reply;
use super::route::Part;
use crate::config::{Config, Effective};
use crate::exit::{Diagnosis, Exit, chain};
use crate::http::{Health, Standing};
use crate::kafka::{Cluster, blocking, uninterrupted};
use crate::progress::TargetState;
use crate::sink::{CursorRecords, SinkError};
use crate::targets::Targets;

/// The class that tools are told.
pub(super) const CLASS: &str = "cleargrid.d02.AccountSource";

pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The one task of a connector.
const TASK: i32 = 0;

type Query = BTreeMap<String, Vec<String>>;

/// The lenders of this process, as connectors.
pub(crate) struct Connectors {
    config: Config,
    /// Every setting as text, without secrets.
    shown: BTreeMap<String, String>,
    health: Arc<Health>,
    targets: Arc<Targets>,
    cluster: Cluster,
    /// Host and port of this process, as Connect names a worker.
    worker: String,
}

impl Connectors {
    pub(crate) fn new(
        config: &Config,
        effective: &[Effective],
        cluster: Cluster,
        health: Arc<Health>,
        targets: Arc<Targets>,
        worker: String,
    ) -> Self {
        let shown = effective.iter().map(|one| {
            let key = match one.table.is_empty() {
                true => one.name.clone(),
                false => format!("{}.{}", one.table, one.name),
            };
            let value = match &one.value {
                Value::String(text) if one.is_secret() => "[hidden]".to_owned(),
                Value::String(text) => text.clone(),
                value => value.to_string(),
            };
            (key, value)
        });
        Self {
            config: config.clone(),
            shown: shown.collect(),
            health,
            targets,
            cluster,
            worker,
        }
    }
}

impl Connectors {
    /// `None`: the brokers do not say so in time.
    pub(super) async fn cluster_id(&self) -> Option<String> {
        let cluster = self.cluster.clone();
        blocking(move || cluster.id()).await
    }

    /// All by name, or each with what `expand` asks for.
    pub(super) fn list(&self, query: &Query) -> Reply {
        let names = self.config.lenders.keys();
        let names = names.map(|lender| (self.connector(lender), lender));
        let Some(asked) = query.get("expand") else {
            return Reply::ok(names.map(|(connector, _)| connector).collect());
        };
        let asked = |what: &str| asked.iter().any(|asked| asked == what);
        let expanded = |(connector, lender): (String, &String)| {
            let mut shown = Map::new();
            if asked("status") {
                shown.insert("status".to_owned(), self.status(&connector, lender));
            }
            if asked("info") {
                shown.insert("info".to_owned(), self.info(&connector, lender));
            }
            (connector, Value::Object(shown))
        };
        Reply::ok(Value::Object(names.map(expanded).collect()))
    }

    pub(super) async fn part(&self, connector: &str, part: Part, query: &Query) -> Reply {
        let Some(lender) = self.lender(connector) else {
            return unknown(connector, &part);
        };
        match part {
            Part::Whole => Reply::ok(self.info(connector, lender)),
            Part::Config => Reply::ok(self.shown_config(connector, lender)),
            Part::Status => Reply::ok(self.status(connector, lender)),
            Part::Topics => Reply::ok(self.topics(connector, lender)),
            // What is written to follows from the configuration, and not from what was seen.
            Part::TopicsReset => Reply::empty(StatusCode::ACCEPTED),
            Part::Tasks => Reply::ok(self.tasks(connector, lender)),
            Part::TaskStatus(task) => match self.task_status(lender).filter(|_| task == TASK) {
                Some(status) => Reply::ok(status),
                None => Reply::not_found(format!("No status found for task {connector}-{task}")),
            },
            Part::TaskRestart(task) if task != TASK => Reply::not_found(format!("Unknown task: {connector}-{task}")),
            Part::TaskRestart(_) => {
                self.targets.restart(lender);
                Reply::empty(StatusCode::NO_CONTENT)
            }
            Part::Pause => self.want(lender, TargetState::Paused).await,
            Part::Resume => self.want(lender, TargetState::Started).await,
            Part::Stop => self.want(lender, TargetState::Stopped).await,
            Part::Restart => self.restart(connector, lender, query),
            Part::Offsets => self.offsets(connector, lender).await,
        }
    }

    fn connector(&self, lender: &str) -> String {
        format!("{}-{lender}", self.config.name)
    }

    fn lender<'c>(&'c self, connector: &str) -> Option<&'c String> {
        let lender = connector.strip_prefix(self.config.name.as_str())?.strip_prefix('-')?;
        self.config.lenders.get_key_value(lender).map(|(lender, _)| lender)
    }

    fn info(&self, connector: &str, lender: &str) -> Value {
        let tasks = match self.is_stopped(lender) {
            true => json!([]),
            false => json!([{ "connector": connector, "task": 0 }]),
        };
        json!({ "name": connector, "config": self.shown_config(connector, lender), "tasks": tasks, "type": "source" })
    }

    /// Its own settings and those of all, as text; none of another lender's.
    fn shown_config(&self, connector: &str, lender: &str) -> Value {
        let own = format!("lenders.{lender}.");
        let is_shown = |key: &str| !key.starts_with("lenders.") || key.starts_with(&own);
        let shown = self.shown.iter().filter(|(key, _)| is_shown(key));
        let mut config: Map<_, _> = shown.map(|(key, value)| (key.clone(), json!(value))).collect();
        for (key, value) in [("name", connector), ("connector.class", CLASS), ("tasks.max", "1")] {
            config.insert(key.to_owned(), json!(value));
        }
        Value::Object(config)
    }

    fn tasks(&self, connector: &str, lender: &str) -> Value {
        match self.is_stopped(lender) {
            true => json!([]),
            false => {
                json!([{ "id": { "connector": connector, "task": 0 }, "config": self.shown_config(connector, lender) }])
            }
        }
    }

    fn topics(&self, connector: &str, lender: &str) -> Value {
        let topics = self.config.kafka.topics.for_lender(lender);
        let mut names = vec![topics.accounts, topics.dead_letters];
        names.extend(topics.changes);
        names.sort();
        json!({ connector: { "topics": names } })
    }

    fn is_stopped(&self, lender: &str) -> bool {
        self.health.standing(lender).0 == Standing::Stopped
    }

    pub(super) fn status(&self, connector: &str, lender: &str) -> Value {
        let tasks: Vec<Value> = self.task_status(lender).into_iter().collect();
        json!({ "name": connector, "connector": self.state(lender), "tasks": tasks, "type": "source" })
    }

    fn task_status(&self, lender: &str) -> Option<Value> {
        let mut status = json!({ "id": 0 });
        let state = (!self.is_stopped(lender)).then(|| self.state(lender))?;
        status.as_object_mut()?.extend(state.as_object()?.clone());
        Some(status)
    }

    fn state(&self, lender: &str) -> Value {
        let (standing, failure) = self.health.standing(lender);
        let is_paused = self.targets.of(lender).borrow().state == TargetState::Paused;
        let state = match standing {
            Standing::Running if is_paused => "PAUSED",
            Standing::Running => "RUNNING",
            Standing::Stopped => "STOPPED",
            Standing::Failed => "FAILED",
            Standing::Ended(exit) if exit != Exit::Done => "FAILED",
            // It waits for Kafka, or for upstream; another process may run it.
            Standing::Starting | Standing::Standby | Standing::Ended(_) => "UNASSIGNED",
        };
        let mut shown = json!({ "state": state, "worker_id": self.worker, "version": VERSION });
        if let (Some(failure), "FAILED") = (failure, state) {
            shown["trace"] = json!(failure);
        }
        shown
    }

    async fn want(&self, lender: &str, state: TargetState) -> Reply {
        /// Before the connection ends.
        const LIMIT: Duration = Duration::from_secs(8);
        match tokio::time::timeout(LIMIT, self.targets.set(lender, state)).await {
            Ok(Ok(())) if state == TargetState::Stopped => Reply::empty(StatusCode::NO_CONTENT),
            Ok(Ok(())) => Reply::empty(StatusCode::ACCEPTED),
            Ok(Err(error)) => unreachable_topic(&error),
            Err(_) => Reply::error(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Request timed out: Kafka has not answered in time, and it may yet be done; ask for the status",
            ),
        }
    }

    fn restart(&self, connector: &str, lender: &str, query: &Query) -> Reply {
        let is_asked = |what: &str| {
            let asked = query.get(what).and_then(|values| values.first());
            asked.is_some_and(|value| value.eq_ignore_ascii_case("true"))
        };
        let is_failed = self.state(lender)["state"] == "FAILED";
        let is_meant = is_failed || !is_asked("onlyFailed");
        if is_meant {
            self.targets.restart(lender);
        }
        if !is_asked("includeTasks") && !is_asked("onlyFailed") {
            return Reply::empty(StatusCode::NO_CONTENT);
        }
        let mut status = self.status(connector, lender);
        if is_meant {
            status["connector"]["state"] = json!("RESTARTING");
            for task in status["tasks"].as_array_mut().into_iter().flatten() {
                task["state"] = json!("RESTARTING");
            }
        }
        Reply {
            status: StatusCode::ACCEPTED,
            ..Reply::ok(status)
        }
    }

    /// How far it is read: its records in the cursor topic, as they stand there.
    async fn offsets(&self, connector: &str, lender: &str) -> Reply {
        let (cluster, topic) = (self.cluster.clone(), self.config.kafka.topics.for_lender(lender).cursor);
        let records = uninterrupted(move |shutdown| CursorRecords::read(&cluster, &topic, &shutdown)).await;
        let records = match records.and_then(CursorRecords::whole) {
            Ok(records) => records,
            Err(error) => return unreachable_topic(&error),
        };
        let mut offsets = Vec::new();
        for key in records.keys().filter(|key| key.connector == connector) {
            match records.current(key) {
                Ok(Some((_, Some(record)))) => {
                    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
                    let (key, record) = (json(&key.to_json()), json(&record.to_json()));
                    offsets.push(json!({ "partition": key[1], "offset": record }));
                }
                Ok(_) => {}
                Err(error) => return unreachable_topic(&error),
            }
        }
        Reply::ok(json!({ "offsets": offsets }))
    }
}

/// As Connect says it, page by page.
fn unknown(connector: &str, part: &Part) -> Reply {
    match part {
        Part::Topics => Reply::ok(json!({ connector: { "topics": [] } })),
        Part::TopicsReset => Reply::empty(StatusCode::ACCEPTED),
        Part::Status => Reply::not_found(format!("No status found for connector {connector}")),
        Part::TaskStatus(task) => Reply::not_found(format!("No status found for task {connector}-{task}")),
        Part::Pause | Part::Resume | Part::Stop => Reply::not_found(format!("Unknown connector {connector}")),
        Part::Restart | Part::TaskRestart(_) => Reply::not_found(format!("Unknown connector: {connector}")),
        Part::Whole | Part::Config | Part::Tasks | Part::Offsets => {
            Reply::not_found(format!("Connector {connector} not found"))
        }
    }
}

fn unreachable_topic(error: &SinkError) -> Reply {
    let (code, advice) = (error.code(), error.advice());
    let message = format!("{} ({code}): {advice}", chain(error));
    Reply::error(StatusCode::INTERNAL_SERVER_ERROR, message)
}
