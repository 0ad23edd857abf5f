//! How does one lender run, again and again? Until it ends for good, or the process does.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::shared::Supervisor;
use crate::assignment::PastLease;
use crate::backoff::Backoff;
use crate::exit::Exit;
use crate::http::Standing;
use crate::phase::Phase;
use crate::pipeline::on_thread;
use crate::progress::TargetState;
use crate::reader::Until;
use crate::targets::Target;
use crate::upstream::Route;

/// The first wait before a lender is tried again that upstream refuses, and the longest.
const FAILED_WAIT: Duration = Duration::from_secs(60);
const MAX_FAILED_WAIT: Duration = Duration::from_secs(900);

/// Runs one lender, again and again while upstream refuses it.
pub(super) async fn supervise(supervisor: Arc<Supervisor>, lender: String, phase: Phase) -> Exit {
    let route = Arc::new(Route::new(&lender, &supervisor.config.upstream, phase));
    let mut is_first = true;
    let mut wait = FAILED_WAIT;
    // Of the group: under which another process took it, and the next try's wait.
    let (mut fenced_under, mut backoff) = (PastLease::default(), Backoff::default());
    // What it held when this process released it.
    let mut left = None;
    let mut target = supervisor.target(&lender);
    loop {
        if !supervisor.wanted(&lender, &mut target, &mut is_first).await {
            return Exit::Done;
        }
        let (began, began_under) = (Instant::now(), *target.borrow());
        supervisor.health.set(&lender, Standing::Starting);
        let password = &supervisor.config.lenders[&lender].password;
        // Before it is read: what replaces it from now on is another one.
        let modified = password.modified();
        let (ending, shutdown) = supervisor.shutdown.child();
        // Before its ids are asked for: what is lost from now on is lost of them.
        let mut schemas_lost = supervisor.schemas_lost.subscribe();
        let started = {
            let starting = supervisor.start(&lender, &route, (&ending, shutdown), &fenced_under, left.take());
            let mut starting = pin!(starting);
            tokio::select! {
                started = &mut starting => started,
                () = over(&target, began_under) => {
                    ending.request();
                    starting.await
                }
            }
        };
        let (stop, ran_under) = match started {
            Ok(ready) => {
                supervisor.any_ran.send_replace(true);
                supervisor.health.set(&lender, Standing::Running);
                supervisor.decided(&mut is_first);
                let mut running = pin!(on_thread(&lender, ready.pipeline.run(ready.incoming)));
                let (stop, held) = tokio::select! {
                    ended = &mut running => ended,
                    Ok(()) = schemas_lost.changed() => {
                        ending.request();
                        supervisor.metrics.lender(&lender).schemas_lost_total.inc();
                        let (stop, held) = running.await;
                        // Also where it cannot know now what is committed: the next start asks.
                        if stop.exit() == Exit::Done && !supervisor.shutdown.is_requested() {
                            // It waits for the registry, as at every start, and goes on under the new id.
                            ready.reading.abort();
                            left = held;
                            continue;
                        }
                        (stop, held)
                    }
                    () = ready.lease.revoked() => {
                        ending.request();
                        running.await
                    }
                    () = over(&target, began_under) => {
                        ending.request();
                        running.await
                    }
                };
                ready.reading.abort();
                left = held;
                (stop, Some(ready.lease.past()))
            }
            Err(stop) => (stop, None),
        };
        let exit = stop.exit();
        // It was released because it is to be stopped, or to begin anew.
        if exit == Exit::Done && began_under.is_over(*target.borrow()) && !supervisor.shutdown.is_requested() {
            continue;
        }
        if supervisor.assignment.is_shared() && !supervisor.shutdown.is_requested() {
            let waits = match exit {
                // Given up as the group said; it may come again.
                Exit::Done => continue,
                Exit::TakenOver => Some(Standing::Standby),
                // The process lives on for the others, and nobody starts it again.
                Exit::Failed if !stop.is_failed && !stop.is_defect() => Some(Standing::Ended(exit)),
                Exit::Usage | Exit::Failed | Exit::Refused => None,
            };
            if let Some(standing) = waits {
                if standing == Standing::Standby {
                    fenced_under = ran_under.unwrap_or(fenced_under);
                }
                if began.elapsed() > FAILED_WAIT {
                    backoff = Backoff::default();
                }
                let wait = backoff.next(None);
                match &stop.failure {
                    Some(failure) if standing != Standing::Standby => {
                        let code = failure.code();
                        tracing::error!(lender, %code, ?wait, "stopped, and is tried again: {}", failure.line());
                        supervisor.health.note_failure(&lender, failure.line());
                    }
                    _ => tracing::warn!(lender, ?wait, "another process runs it now; this one stands by"),
                }
                supervisor.health.set(&lender, standing);
                let mut shutdown = supervisor.shutdown.clone();
                tokio::select! {
                    () = shutdown.sleep(wait) => {}
                    () = over(&target, began_under) => {}
                }
                continue;
            }
        }
        if let Some(failure) = &stop.failure {
            let (exit, code) = (exit.code(), failure.code());
            tracing::error!(lender, exit, %code, "stopped: {}", failure.line());
            supervisor.health.note_failure(&lender, failure.line());
        }
        supervisor.decided(&mut is_first);
        let standing = if stop.is_failed {
            Standing::Failed
        } else {
            Standing::Ended(exit)
        };
        supervisor.health.set(&lender, standing);
        if !stop.is_failed || supervisor.until != Until::Asked || supervisor.shutdown.is_requested() {
            return exit;
        }
        if ran_under.is_some() && began.elapsed() > Duration::from_secs(3600) {
            wait = FAILED_WAIT;
        }
        tracing::warn!(
            lender,
            ?wait,
            "failed; it is tried again then, or when its secret file changes"
        );
        tokio::select! {
            // Where no lender ever ran, there is nothing to wait for.
            biased;
            () = supervisor.no_lender_ran() => return exit,
            () = over(&target, began_under) => {}
            is_ending = supervisor.wait_for_mended_credentials(password, modified, wait) => {
                if is_ending {
                    return Exit::Done;
                }
                // It may yet be the one that runs.
                supervisor.undecided.send_modify(|count| *count += 1);
                is_first = true;
            }
        }
        wait = (wait * 2).min(MAX_FAILED_WAIT);
    }
}

/// Returns once what began under `began_under` is to end.
async fn over(target: &watch::Receiver<Target>, began_under: Target) {
    let mut target = target.clone();
    if target.wait_for(|target| began_under.is_over(*target)).await.is_err() {
        // Nobody can want it any more.
        std::future::pending().await
    }
}

impl Supervisor {
    /// Waits while the lender is stopped; gives whether it is to run. A batch does not wait.
    async fn wanted(&self, lender: &str, target: &mut watch::Receiver<Target>, is_first: &mut bool) -> bool {
        /// The start itself says what is wrong with Kafka.
        const KNOWN_WITHIN: Duration = Duration::from_secs(5);
        let is_batch = self.until == Until::CaughtUp;
        if let (true, Some(targets)) = (is_batch, &self.targets) {
            // Else it would be claimed before that.
            let mut shutdown = self.shutdown.clone();
            tokio::select! {
                () = targets.known() => {}
                () = shutdown.sleep(KNOWN_WITHIN) => {}
            }
        }
        if target.borrow_and_update().state != TargetState::Stopped {
            return true;
        }
        self.any_ran.send_replace(true);
        self.decided(is_first);
        if is_batch {
            tracing::warn!(lender, "left alone: somebody has paused or stopped it");
            self.health.set(lender, Standing::Ended(Exit::Done));
            return false;
        }
        self.health.set(lender, Standing::Stopped);
        let mut shutdown = self.shutdown.clone();
        let resumed = target.wait_for(|target| target.state != TargetState::Stopped);
        tokio::select! {
            // An end is more urgent.
            biased;
            () = shutdown.requested() => false,
            resumed = resumed => resumed.is_ok(),
        }
    }
}
