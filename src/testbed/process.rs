//! How does a process that was started here end together with this process, even when this one is killed with SIGKILL?
//!
//! ```text
//! this process ──pipe──▶ watcher (sh) ──kill──▶ java
//!       └──────────────▶ supervisor (sh), waits for java and ends with its status
//! ```
//!
//! Only this process holds the pipe's writing end, so the operating system closes it whenever this process ends, and at the end of its input the
//! watcher kills java. Nothing depends on the thread that called (a parent-death signal would: it comes when the *thread* ends).
//! Signals go through the same pipe, by name, one a line. Should the supervisor be killed, the watcher still does its work.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::error::TestbedError;

const SUPERVISOR: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- & child=$!
exec 2>/dev/null
(
    while read -r signal <&3; do kill -"$signal" "$child"; done
    kill -KILL "$child"
) 2>/dev/null & watcher=$!
exec 3<&-
wait "$child"; status=$?
kill -KILL "$watcher"
exit "$status"
"#;

const POLL_INTERVAL: Duration = Duration::from_millis(25);
const KILL_BOUND: Duration = Duration::from_secs(10);
/// A broker that hands its partitions over on a loaded machine.
const STOP_BOUND: Duration = Duration::from_secs(60);
const LOG_TAIL_LINES: usize = 15;

/// Asks until there is an answer or the time is up.
pub(super) fn poll<T, E>(bound: Duration, mut check: impl FnMut() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(answer) = check()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

/// Where a program's output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Into `<name>.log` in its directory.
    Log,
    /// To this process's own standard output and error.
    Terminal,
}

/// A running program; killed when this is dropped or when this process ends.
pub struct Process {
    name: String,
    supervisor: Child,
    signals: Option<ChildStdin>,
    log: PathBuf,
}

impl Process {
    /// Runs `program` in `directory`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        name: &str,
        program: &str,
        arguments: &[String],
        directory: &Path,
        output: Output,
    ) -> Result<Self, TestbedError> {
        let log = directory.join(format!("{name}.log"));
        let (output, errors) = match output {
            Output::Log => {
                let output = File::create(&log).map_err(TestbedError::io("create the log", &log))?;
                let errors = output.try_clone().map_err(TestbedError::io("share the log", &log))?;
                (Stdio::from(output), Stdio::from(errors))
            }
            Output::Terminal => (Stdio::inherit(), Stdio::inherit()),
        };
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, "testbed", program])
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in a terminal is for this process, whose end then ends the other in order.
            .process_group(0)
            .spawn()
            .map_err(TestbedError::io("start a shell in", directory))?;
        Ok(Self {
            name: name.to_owned(),
            signals: supervisor.stdin.take(),
            supervisor,
            log,
        })
    }

    /// Waits until `ready`, which is given the log so far; an early end is noticed at once.
    pub(super) fn wait_until_ready(
        &mut self,
        bound: Duration,
        ready: impl Fn(&str) -> bool,
    ) -> Result<(), TestbedError> {
        let is_ready = poll(bound, || {
            if let Some(status) = self.ended()? {
                return Err(TestbedError::Ended {
                    name: self.name.clone(),
                    status: status.to_string(),
                    log_tail: self.log_tail(),
                });
            }
            Ok(ready(&self.log_so_far()).then_some(()))
        })?;
        is_ready.ok_or_else(|| self.not_ready(bound))
    }

    /// Waits for a program that ends by itself, and for its success.
    ///
    /// # Errors
    /// When it takes longer than `bound`, or fails.
    pub fn wait_for_success(mut self, bound: Duration) -> Result<(), TestbedError> {
        let status = poll(bound, || self.ended())?.ok_or_else(|| self.not_ready(bound))?;
        if status.success() {
            return Ok(());
        }
        Err(TestbedError::Ended {
            name: self.name.clone(),
            status: status.to_string(),
            log_tail: self.log_tail(),
        })
    }

    /// SIGKILL: no last words.
    ///
    /// # Errors
    /// When it is still there after a while.
    pub fn kill(self) -> Result<(), TestbedError> {
        self.end("KILL", KILL_BOUND)
    }

    /// SIGTERM: an orderly end.
    pub(super) fn stop(self) -> Result<(), TestbedError> {
        self.end("TERM", STOP_BOUND)
    }

    fn end(mut self, signal: &str, bound: Duration) -> Result<(), TestbedError> {
        if let Some(signals) = &mut self.signals {
            // A closed pipe means that the program has ended, which the wait sees.
            let _ = writeln!(signals, "{signal}");
        }
        match poll(bound, || self.ended())? {
            Some(_) => Ok(()),
            None => Err(TestbedError::StillRunning {
                name: self.name.clone(),
                bound,
            }),
        }
    }

    /// # Errors
    /// When the system does not say.
    pub fn has_ended(&mut self) -> Result<bool, TestbedError> {
        Ok(self.ended()?.is_some())
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>, TestbedError> {
        self.supervisor
            .try_wait()
            .map_err(TestbedError::io("wait for the process that writes", &self.log))
    }

    fn not_ready(&self, bound: Duration) -> TestbedError {
        TestbedError::NotReady {
            name: self.name.clone(),
            bound,
            log_tail: self.log_tail(),
        }
    }

    fn log_so_far(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_tail(&self) -> String {
        let log = self.log_so_far();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watcher kills at the end of its input. Waited for, so that the data can be removed afterwards and no zombie stays.
        self.signals = None;
        let _ = poll(KILL_BOUND, || self.ended());
    }
}
