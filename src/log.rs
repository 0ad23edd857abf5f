//! How does a line reach standard error, whoever reads there? Through a buffer and a thread of its own: who logs never waits.
//!
//! A pipe that nobody reads fills, and a write to it does not return; one whose reader has gone fails. Lines that find no room
//! meanwhile, or cannot be written, are dropped and counted.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;

use crate::exit::ProcessError;

/// What may wait to be written: some thousand lines.
const CAPACITY: usize = 1024 * 1024;

/// The longest that the end of the process waits for its last lines.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Between two lines that say how many were dropped.
const NOTICE_INTERVAL: Duration = Duration::from_secs(1);

static OUTPUT: LazyLock<Output> = LazyLock::new(Output::default);

#[derive(Default)]
struct Output {
    buffer: Mutex<Buffer>,
    changed: Condvar,
    /// Lines.
    dropped: Counter,
}

#[derive(Default)]
struct Buffer {
    waiting: Vec<u8>,
    /// What was taken out is not out yet.
    is_writing: bool,
}

/// Standard error that takes everything at once.
#[derive(Debug, Default)]
pub(crate) struct StandardError;

impl Write for StandardError {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        OUTPUT.take(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for StandardError {
    fn as_raw_fd(&self) -> RawFd {
        io::stderr().as_raw_fd()
    }
}

/// Writes from now on.
///
/// # Errors
/// When the thread cannot be started.
pub fn start() -> Result<(), ProcessError> {
    let failed = |source| ProcessError::System {
        doing: "starting the log",
        source,
    };
    // A descriptor of its own: `io::stderr()` is locked while a write does not return.
    let file = File::from(io::stderr().as_fd().try_clone_to_owned().map_err(failed)?);
    let write = || OUTPUT.write_to(file);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(write)
        .map_err(failed)?;
    Ok(())
}

/// Waits until everything is written, but not for long: nobody may be reading.
pub fn flush() {
    OUTPUT.flush(FLUSH_LIMIT);
}

/// The lines that were dropped so far.
pub(crate) fn dropped() -> Counter {
    OUTPUT.dropped.clone()
}

impl Output {
    fn take(&self, bytes: &[u8]) {
        let mut buffer = self.buffer();
        if buffer.waiting.len() + bytes.len() > CAPACITY {
            self.dropped.inc_by(line_count(bytes));
        } else {
            buffer.waiting.extend_from_slice(bytes);
            self.changed.notify_all();
        }
    }

    fn write_to(&self, mut file: impl Write) {
        let mut noticed = (0, None::<Instant>);
        loop {
            let bytes = self.next();
            let lost = write_all(&mut file, &bytes);
            self.dropped.inc_by(lost);
            let (dropped, is_due) = (
                self.dropped.get(),
                noticed.1.is_none_or(|at| at.elapsed() >= NOTICE_INTERVAL),
            );
            if lost == 0 && dropped > noticed.0 && is_due {
                noticed = (dropped, Some(Instant::now()));
                tracing::warn!(
                    dropped,
                    "lines of this log were dropped, so many since the start: standard error did not take them"
                );
            }
        }
    }

    /// Waits for something to write.
    fn next(&self) -> Vec<u8> {
        let mut buffer = self.buffer();
        buffer.is_writing = false;
        self.changed.notify_all();
        let is_empty = |buffer: &mut Buffer| buffer.waiting.is_empty();
        buffer = self
            .changed
            .wait_while(buffer, is_empty)
            .unwrap_or_else(PoisonError::into_inner);
        buffer.is_writing = true;
        std::mem::take(&mut buffer.waiting)
    }

    /// Whether everything was written within `limit`.
    fn flush(&self, limit: Duration) -> bool {
        let is_left = |buffer: &mut Buffer| buffer.is_writing || !buffer.waiting.is_empty();
        let waited = self.changed.wait_timeout_while(self.buffer(), limit, is_left);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// A panic elsewhere leaves bytes, which are whole lines at any moment.
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives how many lines could not be written.
fn write_all(file: &mut impl Write, mut bytes: &[u8]) -> u64 {
    /// Whoever shares the pipe or the terminal may have made it one that does not block.
    const FULL_PAUSE: Duration = Duration::from_millis(20);
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(written @ 1..) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::sleep(FULL_PAUSE),
            Ok(_) | Err(_) => return line_count(bytes),
        }
    }
    0
}

fn line_count(bytes: &[u8]) -> u64 {
    bytes.iter().filter(|byte| **byte == b'\n').count() as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Takes a write when it is read, as a pipe that is full.
    struct Pipe(SyncSender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let sent = self.0.send(bytes.to_vec());
            sent.map_err(|_| ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output() -> (Arc<Output>, Receiver<Vec<u8>>) {
        let (sender, reader) = sync_channel(0);
        let output = Arc::<Output>::default();
        let writing = Arc::clone(&output);
        std::thread::spawn(move || writing.write_to(Pipe(sender)));
        (output, reader)
    }

    #[test]
    fn what_finds_no_room_is_dropped_line_by_line_and_what_waits_goes_out_in_order() {
        let (output, reader) = output();
        let line = [&[b'x'; 1023][..], b"\n"].concat();
        output.take(b"first\n");
        // Taken out, and held by a pipe that nobody reads.
        while !output.buffer().is_writing {
            std::thread::yield_now();
        }
        for _ in 0..CAPACITY / line.len() {
            output.take(&line);
        }
        assert_eq!(output.dropped.get(), 0);
        output.take(b"one\ntwo\n");
        output.take(b"three\n");
        assert_eq!(output.dropped.get(), 3);
        assert!(!output.flush(Duration::from_millis(10)));
        assert_eq!(reader.recv().expect("it writes"), b"first\n");
        assert_eq!(reader.recv().expect("it writes").len(), CAPACITY);
        assert!(output.flush(FLUSH_LIMIT));
        output.take(b"last\n");
        assert_eq!(reader.recv().expect("it writes"), b"last\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted_and_hold_nobody_up() {
        let (output, reader) = output();
        drop(reader);
        output.take(b"one\ntwo\n");
        assert!(output.flush(FLUSH_LIMIT));
        assert_eq!(output.dropped.get(), 2);
    }

    #[test]
    fn a_write_is_tried_until_all_of_it_is_out() {
        /// Interrupted, full, a byte at a time.
        struct Reluctant(Vec<u8>, usize);
        impl Write for Reluctant {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 += 1;
                match self.1 % 4 {
                    1 => Err(ErrorKind::Interrupted.into()),
                    2 => Err(ErrorKind::WouldBlock.into()),
                    _ => self.0.write(&bytes[..1]),
                }
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut file = Reluctant(Vec::new(), 0);
        assert_eq!(write_all(&mut file, b"a line\n"), 0);
        assert_eq!(file.0, b"a line\n");
    }
}
