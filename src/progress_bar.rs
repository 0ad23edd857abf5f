//! What does a person at a terminal see while a snapshot is read? A bar a lender, with the log lines above it.

use std::fmt;
use std::io::{self, Write};
use std::sync::LazyLock;
use std::time::Duration;

use console::Term;
use indicatif::{HumanCount, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::log::StandardError;
use crate::metrics::LenderMetrics;

/// Draws on standard error, and only if that is a terminal: by way of the log, since a terminal that is held (Ctrl-S) takes
/// nothing, as a full pipe does.
static BARS: LazyLock<MultiProgress> = LazyLock::new(|| {
    let terminal = Term::read_write_pair(io::stdin(), StandardError);
    MultiProgress::with_draw_target(ProgressDrawTarget::term(terminal, DRAWN_PER_SECOND))
});

/// At most.
const DRAWN_PER_SECOND: u8 = 20;

/// As often as an eye follows.
const INTERVAL: Duration = Duration::from_millis(200);

const COUNTED: &str = "{prefix} {bar:30} {human_pos}/{human_len} rows, {percent} %, {rate} rows/s, {eta} left";
const UNCOUNTED: &str = "{prefix} {spinner} {human_pos} rows, {rate} rows/s";

/// Standard error for log lines: the bars make room for them.
#[derive(Debug, Default)]
pub struct AboveBars;

impl Write for AboveBars {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        BARS.suspend(|| StandardError.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the snapshot of one lender, if there is one, to its end.
pub(crate) async fn follow(lender: String, metrics: LenderMetrics) {
    if BARS.is_hidden() {
        return;
    }
    while metrics.ranges.get() == 0 {
        tokio::time::sleep(INTERVAL).await;
    }
    // indicatif's own rate has digits behind the point.
    let rate = |state: &ProgressState, text: &mut dyn fmt::Write| {
        write!(text, "{}", HumanCount(state.per_sec() as u64)).expect("a String takes everything");
    };
    let style = |template| {
        let style = ProgressStyle::with_template(template).expect("the templates are well-formed");
        style.with_key("rate", rate)
    };
    let bar = BARS.add(
        ProgressBar::new_spinner()
            .with_style(style(UNCOUNTED))
            .with_prefix(lender),
    );
    let cleared = Cleared(bar);
    let bar = &cleared.0;
    while metrics.ranges.get() > 0 {
        let (read, all) = (metrics.snapshot_rows_read_total.get(), metrics.snapshot_rows.get());
        if let (None, Ok(all @ 1..)) = (bar.length(), u64::try_from(all)) {
            bar.set_style(style(COUNTED));
            bar.set_length(all);
        }
        // There may be more rows by now than upstream counted.
        if bar.length().is_some_and(|all| all < read) {
            bar.set_length(read);
        }
        bar.set_position(read);
        bar.tick();
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A bar that goes when its task does, however that ends.
struct Cleared(ProgressBar);

impl Drop for Cleared {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
