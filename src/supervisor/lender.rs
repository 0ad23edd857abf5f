//! How does one lender run, again and again? Until it ends for good, or the process does.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::shared::Supervisor;
use crate::assignment::PastLease;
use crate::backoff::Backoff;
use crate::exit::Exit;
use crate::http::Standing;
use crate::phase::Phase;
use crate::pipeline::on_thread;
use crate::reader::Until;
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
    loop {
        let began = Instant::now();
        supervisor.health.set(&lender, Standing::Starting);
        let password = &supervisor.config.lenders[&lender].password;
        // Before it is read: what replaces it from now on is another one.
        let modified = password.modified();
        let (ending, shutdown) = supervisor.shutdown.child();
        // Before its ids are asked for: what is lost from now on is lost of them.
        let mut schemas_lost = supervisor.schemas_lost.subscribe();
        let (stop, ran_under) = match supervisor
            .start(&lender, &route, (&ending, shutdown), &fenced_under, left.take())
            .await
        {
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
                };
                ready.reading.abort();
                left = held;
                (stop, Some(ready.lease.past()))
            }
            Err(stop) => (stop, None),
        };
        let exit = stop.exit();
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
                    }
                    _ => tracing::warn!(lender, ?wait, "another process runs it now; this one stands by"),
                }
                supervisor.health.set(&lender, standing);
                let mut shutdown = supervisor.shutdown.clone();
                shutdown.sleep(wait).await;
                continue;
            }
        }
        if let Some(failure) = &stop.failure {
            let (exit, code) = (exit.code(), failure.code());
            tracing::error!(lender, exit, %code, "stopped: {}", failure.line());
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
