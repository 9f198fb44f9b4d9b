//! Those who do the work of a run, and the one who watches them: tells the progress, stops all when one fails, and looks
//! at what the router uses meanwhile.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::signal::unix::Signal;
use tokio::task::JoinSet;

use super::process::{Costs, Looks, Process};
use super::tally::{Shared, Tally, locked};
use crate::cli::CliError;

/// How often it is looked whether the time that counts was cut short.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Tasks, each of which ends with what it saw.
pub(super) type Crew<T> = JoinSet<Result<T, CliError>>;

/// What a progress line counts, and what it is called.
pub(super) type Counted = (fn(&Tally) -> u64, &'static str);

/// For those whose progress is nothing to be counted.
pub(super) const UNCOUNTED: Counted = (|_| 0, "");

/// Tells the progress until everybody is done. The first failure stops all others, and so does an interrupt: they
/// still leave in order. A second interrupt waits for nobody.
pub(super) async fn watch<T: 'static>(
    mut crew: Crew<T>,
    shared: &Mutex<Shared>,
    interrupts: &mut Signal,
    (count, what): Counted,
) -> Result<Vec<T>, CliError> {
    let mut seen = Vec::with_capacity(crew.len());
    let (mut failure, mut interrupted) = (None, false);
    let stop = || {
        let plan = &mut locked(shared).plan;
        *plan = plan.stopped_at(Instant::now());
    };
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut before = 0;
    loop {
        let failed = tokio::select! {
            done = crew.join_next() => match done {
                None => return failure.map_or(Ok(seen), Err),
                Some(Ok(Ok(saw))) => { seen.push(saw); continue }
                Some(Ok(Err(error))) => error,
                Some(Err(error)) => CliError::new(format!("a task failed: {error}")),
            },
            now = seconds.tick() => {
                let (counted, plan) = { let shared = locked(shared); (count(&shared.tally), shared.plan) };
                let line = if what.is_empty() { String::new() } else { format!("{:>8} {what}/s", counted - before) };
                tell(plan.progress(now.into_std(), &line).trim_end());
                before = counted;
                continue
            }
            _ = interrupts.recv() => {
                if std::mem::replace(&mut interrupted, true) {
                    return Err(CliError::new("interrupted twice; users of the bench may be left behind"));
                }
                tell("interrupted: finishing (once more to end at once)");
                stop();
                continue
            }
        };
        if failure.is_none() {
            failure = Some(failed);
            stop();
        }
    }
}

/// What the router and the load generator use in the time that counts.
pub(super) async fn costs(shared: Arc<Mutex<Shared>>, server: Option<Process>) -> Costs {
    let count_from = locked(&shared).plan.count_from;
    tokio::time::sleep_until(count_from.into()).await;
    let before = Looks::at(server.as_ref());
    loop {
        let left = locked(&shared).plan.stop_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return before.until(&Looks::at(server.as_ref()));
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

pub(super) fn tell(line: &str) {
    // Without a stderr there is nobody to tell the progress to; the figures come all the same.
    let _unheard = writeln!(std::io::stderr().lock(), "{line}").is_err();
}
