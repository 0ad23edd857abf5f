//! Which request asks for what?

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::reply::Reply;

/// What a path stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Resource {
    Root,
    Health,
    Connectors,
    Connector(String, Part),
    Plugins,
}

/// Of a connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Config,
    Status,
    Topics,
    TopicsReset,
    Tasks,
    TaskStatus(i32),
    TaskRestart(i32),
    Pause,
    Resume,
    Stop,
    Restart,
    Offsets,
}

fn nothing_there() -> Reply {
    Reply::not_found("HTTP 404 Not Found")
}

fn number(task: &str) -> Result<i32, Reply> {
    task.parse().map_err(|_| nothing_there())
}

/// Why nothing of Connect's can create, change or delete a lender.
const BY_FILE: &str =
    "lenders are configured by d02-source's own files: add, change or remove [lenders.NAME] there and restart it";

/// Why how far a lender is read is not changed here.
const BY_COMMAND: &str = "how far a lender is read is changed by `d02-source cursor set`, `import` and `reset`";

impl Resource {
    /// # Errors
    /// With what is answered to a path that stands for nothing.
    pub(super) fn of(path: &str) -> Result<Self, Reply> {
        let decoded = |segment| percent_decode_str(segment).decode_utf8_lossy();
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments: Vec<Cow<'_, str>> = path.strip_suffix('/').unwrap_or(path).split('/').map(decoded).collect();
        let segments: Vec<&str> = segments.iter().map(Cow::as_ref).collect();
        let connector = |name: &str, part| Ok(Self::Connector(name.to_owned(), part));
        match segments[..] {
            [""] => Ok(Self::Root),
            ["health"] => Ok(Self::Health),
            ["connectors"] => Ok(Self::Connectors),
            ["connectors", name] => connector(name, Part::Whole),
            ["connectors", name, "config"] => connector(name, Part::Config),
            ["connectors", name, "status"] => connector(name, Part::Status),
            ["connectors", name, "topics"] => connector(name, Part::Topics),
            ["connectors", name, "topics", "reset"] => connector(name, Part::TopicsReset),
            ["connectors", name, "tasks"] => connector(name, Part::Tasks),
            ["connectors", name, "tasks", task, "status"] => connector(name, Part::TaskStatus(number(task)?)),
            ["connectors", name, "tasks", task, "restart"] => connector(name, Part::TaskRestart(number(task)?)),
            ["connectors", name, "pause"] => connector(name, Part::Pause),
            ["connectors", name, "resume"] => connector(name, Part::Resume),
            ["connectors", name, "stop"] => connector(name, Part::Stop),
            ["connectors", name, "restart"] => connector(name, Part::Restart),
            ["connectors", name, "offsets"] => connector(name, Part::Offsets),
            ["connector-plugins"] => Ok(Self::Plugins),
            _ => Err(nothing_there()),
        }
    }

    /// What can be asked of it, and why what Connect has beside that cannot.
    fn methods(&self) -> (&'static str, Option<(&'static str, &'static str)>) {
        match self {
            Self::Root | Self::Health | Self::Plugins => ("GET", None),
            Self::Connectors => ("GET", Some(("POST", BY_FILE))),
            Self::Connector(_, part) => match part {
                Part::Whole => ("GET", Some(("DELETE", BY_FILE))),
                Part::Config => ("GET", Some(("PUT, PATCH", BY_FILE))),
                Part::Status | Part::Topics | Part::Tasks | Part::TaskStatus(_) => ("GET", None),
                Part::TopicsReset | Part::Pause | Part::Resume | Part::Stop => ("PUT", None),
                Part::Restart | Part::TaskRestart(_) => ("POST", None),
                Part::Offsets => ("GET", Some(("PATCH, DELETE", BY_COMMAND))),
            },
        }
    }

    /// # Errors
    /// With what is answered to a method that the page does not have.
    pub(super) fn check(&self, method: &Method) -> Result<(), Reply> {
        let (allowed, elsewhere) = self.methods();
        let has = |methods: &str| methods.split(", ").any(|name| name == method.as_str());
        // Whoever only wants to know the head gets that of GET.
        if has(allowed) || *method == Method::HEAD && has("GET") && allowed.starts_with("GET") {
            return Ok(());
        }
        let why = elsewhere.filter(|(methods, _)| has(methods)).map(|(_, why)| why);
        Err(Reply::not_allowed(allowed, why))
    }
}
