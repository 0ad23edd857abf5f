//! The play, act by act, and its proof.

use std::cell::Cell;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::audience::Audience;
use super::error::{DemoError, PATIENCE};
use super::reader::{self, Isolation};
use super::stage::{LENDER_COUNT, Stage};
use super::verdict::Verdict;

use crate::exit::{Exit, Failure};
use crate::shutdown::{self, Shutdown};

/// An end in order, with everything that was started, takes no longer.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: small, and left running to play with\n\n  d02-source demo --rows 10000 --keep")]
pub struct Args {
    /// Accounts upstream, over two lenders
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=1_000_000))]
    rows: u32,
    /// Leave everything running at the end, until Ctrl-C, and say where it is
    #[arg(long)]
    keep: bool,
}

/// Runs away from the runtime's threads: a demo mostly waits for other processes.
/// `is_configured`: whether it was given a configuration, though it has one of its own.
pub async fn execute(args: Args, is_configured: bool) -> Result<Exit, Failure> {
    if is_configured {
        return Err(DemoError::Configured.into());
    }
    let (sender, shutdown) = shutdown::channel();
    shutdown::listen_for_signals(sender)?;
    let runtime = Handle::current();
    let mut asked = shutdown.clone();
    let played = tokio::task::spawn_blocking(move || play(&args, &shutdown, &runtime));
    let played = tokio::select! {
        played = played => played.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic())),
        // What is being fetched or started does not listen; it ends with this process.
        () = async { asked.requested().await; tokio::time::sleep(SHUTDOWN_LIMIT).await } => Err(DemoError::Interrupted),
    };
    match played {
        Ok(true) => Ok(Exit::Done),
        Ok(false) | Err(DemoError::Interrupted) => Ok(Exit::Failed),
        Err(error) => Err(error.into()),
    }
}

/// Whether everything held.
fn play(args: &Args, shutdown: &Shutdown, runtime: &Handle) -> Result<bool, DemoError> {
    println!(
        "1. Kafka, a schema registry, and an upstream with {} accounts of {LENDER_COUNT} lenders",
        args.rows
    );
    let begun = Instant::now();
    let mut stage = Stage::set(args.rows, shutdown.clone(), runtime)?;
    println!("   kafka {}", stage.servers());
    println!("   schema registry {}", stage.registry_url());
    println!("   upstream {}", stage.simulator.base_url());
    println!("   ready after {}", seconds(begun));

    println!("\n2. The first walk: d02-source run");
    let begun = Instant::now();
    stage.start_source()?;
    let mut audience = Audience::new(&stage, runtime)?;
    let account_count = stage.account_count();
    audience.wait_for(&mut stage, "the first walk", |audience| {
        audience.latest.len() == account_count
    })?;
    println!(
        "   {account_count} accounts are in {}, after {}",
        stage.accounts_topic(),
        seconds(begun)
    );

    // Logged in, and with the accounts read, by the time that it is needed.
    stage.start_source()?;

    println!("\n3. Accounts change upstream; as an independent read_committed consumer sees them arrive");
    // With every third change of an account its due date moves.
    for _ in 0..3 {
        audience.watch_changes(&mut stage)?;
    }

    println!(
        "\n4. A second source stands by; a fifth of all accounts changes, and SIGKILL hits the first while a transaction is open"
    );
    kill_in_a_transaction(&mut stage)?;
    let begun = Instant::now();
    // Upstream does not change any more: what was seen once is there.
    let (expected, seen) = (stage.updated_at(), Cell::new(0));
    audience.wait_for(&mut stage, "the second source went on", |audience| {
        let is_there = |(id, updated_at): &&(String, i64)| {
            let latest = audience.latest.get(id).and_then(|record| record.updated_at);
            latest == Some(*updated_at)
        };
        seen.set(seen.get() + expected[seen.get()..].iter().take_while(is_there).count());
        seen.get() == expected.len()
    })?;
    println!(
        "   the second one went on: all that changed is there after {}",
        seconds(begun)
    );
    stage.kill_source()?;
    let begun = Instant::now();
    stage.catch_up()?;
    println!(
        "   killed, and started again: run --until-caught-up ended with 0 after {}",
        seconds(begun)
    );

    println!("\n5. The proof: all records of {}, read anew", stage.accounts_topic());
    let holds = prove(&stage, &mut audience)?;
    println!(
        "\n{} in {}",
        if holds {
            "Every promise held"
        } else {
            "A PROMISE DID NOT HOLD"
        },
        seconds(stage.begun)
    );
    if args.keep {
        let ended = stage.keep();
        // An interruption is how it is meant to end.
        if !matches!(ended, DemoError::Interrupted) {
            return Err(ended);
        }
    }
    Ok(holds)
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}

/// Kills the source with a transaction open, which is looked at after its death.
fn kill_in_a_transaction(stage: &mut Stage) -> Result<(), DemoError> {
    const TRIES: u32 = 10;
    const CHANGE: Duration = Duration::from_secs(2);
    const LOOK: Duration = Duration::from_millis(5);
    const SETTLING: Duration = Duration::from_millis(500);
    let topic = stage.accounts_topic();
    let watch = reader::Watch::new(&stage.servers(), &topic)?;
    let mut seeds = 0..;
    for _ in 0..TRIES {
        let begun = Instant::now();
        let mut changed_at = None;
        while watch.open_count()? == 0 && begun.elapsed() < PATIENCE {
            stage.check("a transaction was awaited")?;
            // Few rows may be committed before anybody looks: then they change again.
            if changed_at.is_none_or(|at: Instant| at.elapsed() > CHANGE) {
                stage.change_many(seeds.next().expect("a range without an end"));
                changed_at = Some(Instant::now());
            }
            std::thread::sleep(LOOK);
        }
        stage.kill_source()?;
        // What was being committed when it died is settled by then.
        std::thread::sleep(SETTLING);
        let open_count = watch.open_count()?;
        if open_count > 0 {
            println!("   killed; its transaction is still open on {open_count} of the partitions of {topic}");
            return Ok(());
        }
        // Between two transactions: nothing to see. Once more.
        stage.start_source()?;
    }
    Err(DemoError::NeverOpen { tries: TRIES })
}

/// Holds what a consumer sees against what upstream shows, and says so.
fn prove(stage: &Stage, audience: &mut Audience) -> Result<bool, DemoError> {
    let (servers, topic) = (stage.servers(), stage.accounts_topic());
    let records = reader::all(&servers, &topic, Isolation::ReadCommitted)?;
    let with_aborted = reader::count(&servers, &topic, Isolation::ReadUncommitted)?;
    let letters = reader::all(&servers, &stage.dead_letters_topic(), Isolation::ReadCommitted)?;
    let verdict = Verdict::of(&records, &letters, &stage.rows(), |record| audience.account(record))?;
    let mut holds = true;
    let mut say = |is_so: bool, text: String| {
        holds &= is_so;
        println!("   {} {text}", if is_so { '✓' } else { '✗' });
    };
    say(
        verdict.missing + verdict.stale + verdict.different + verdict.surplus == 0,
        format!(
            "nothing lost: {} accounts, each as upstream shows it ({} missing, {} stale, {} different, {} surplus)",
            verdict.account_count, verdict.missing, verdict.stale, verdict.different, verdict.surplus
        ),
    );
    say(
        verdict.buried == verdict.unusable,
        format!(
            "nothing vanished: {} of {} rows that cannot be accounts stand in {}, with the reason",
            verdict.buried,
            verdict.unusable,
            stage.dead_letters_topic()
        ),
    );
    say(
        verdict.doubled == 0,
        format!(
            "nothing doubled: {} records, {} of them twice the same version",
            records.len(),
            verdict.doubled
        ),
    );
    say(
        verdict.out_of_order == 0,
        format!(
            "in order: updated_at goes back {} times within a key",
            verdict.out_of_order
        ),
    );
    let aborted = with_aborted.saturating_sub(records.len());
    println!("   {aborted} records of killed transactions are in the topic too; no read_committed consumer sees them");
    Ok(holds)
}
