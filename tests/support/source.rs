//! The real binary as a child process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{PATIENCE, secrets, wait_for};

pub(crate) struct Source {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

impl Source {
    pub(crate) fn spawn(args: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_d02-source"));
        command
            .args(args)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (stderr, sink) = (child.stderr.take().expect("piped"), Arc::clone(&lines));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.lock().expect("the lines").push(line);
            }
        });
        Self { child, lines, reader }
    }

    pub(crate) fn log(&self) -> String {
        self.lines.lock().expect("the lines").join("\n")
    }

    /// Waits for a line that contains `text`.
    pub(crate) fn wait_for_line(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            let is_over = self.reader.is_finished();
            assert!(
                !is_over || self.log().contains(text),
                "ended without `{text}`:\n{}",
                self.log()
            );
            assert!(begun.elapsed() < PATIENCE, "no line with `{text}`:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    /// Waits for the end; gives the exit code.
    pub(crate) fn exit_code(&mut self) -> i32 {
        let log = Arc::clone(&self.lines);
        let status = wait_for("the process ends", || {
            let status = self.child.try_wait().expect("a child");
            if status.is_none() && log.lock().expect("the lines").len() > 5_000 {
                panic!("it logs without end");
            }
            status
        });
        wait_for("its last lines", || self.reader.is_finished().then_some(()));
        status.code().unwrap_or(-1)
    }

    /// Expects an end with `code`.
    #[track_caller]
    pub(crate) fn expect_exit(&mut self, code: i32) {
        let found = self.exit_code();
        assert_eq!(found, code, "{}", self.log());
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("reaped");
    }

    /// Waits until a signal is heard, and no longer ends it by the system's hand.
    pub(crate) fn wait_until_it_listens(&self) {
        /// SIGINT, the later of the two, and SIGTERM, as bits of the mask.
        const BOTH: u64 = 1 << (2 - 1) | 1 << (15 - 1);
        wait_for("it listens for signals", || {
            let mask = self.status_text("SigCgt:");
            let mask = u64::from_str_radix(&mask, 16).expect("a mask");
            (mask & BOTH == BOTH).then_some(())
        });
    }

    /// Memory that the process holds now.
    pub(crate) fn resident_bytes(&self) -> u64 {
        self.status("VmRSS:") * 1024
    }

    /// Threads, without those of tokio's pool, which grows as it is needed and shrinks after a while.
    pub(crate) fn thread_count(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        // One that ends meanwhile has no name any more.
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.trim() != "tokio-rt-worker").count() as u64
    }

    /// Open files and sockets.
    pub(crate) fn descriptor_count(&self) -> u64 {
        let open = std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs");
        open.count() as u64
    }

    fn status(&self, name: &str) -> u64 {
        let text = self.status_text(name);
        text.trim_end_matches(" kB").parse().expect("a number")
    }

    fn status_text(&self, name: &str) -> String {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        // There is none any more of a process that is ending.
        line.unwrap_or_else(|| panic!("{}", self.log())).trim().to_owned()
    }

    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status();
        assert!(status.expect("kill runs").success());
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            /// Of what it said, where a test fails.
            const LAST: usize = 200;
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let last = &lines[lines.len().saturating_sub(LAST)..];
            println!("the last that process {} said:\n{}", self.child.id(), last.join("\n"));
        } else {
            secrets::none_in(&self.log());
        }
    }
}
