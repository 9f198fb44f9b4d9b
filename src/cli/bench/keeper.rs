//! Lanes that are kept open: they answer pings, hear what is said to them, and end when they are told to.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;

use super::lane::Lane;
use super::said::Said;
use super::tally::{Shared, locked};
use crate::cli::CliError;

/// How often it is looked whether the plan has come to its end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Keeps a lane until the end is told.
///
/// # Errors
/// When the connection ends before, or `hear` fails.
pub(super) async fn keep(
    mut lane: Lane,
    shared: Arc<Mutex<Shared>>,
    mut end: watch::Receiver<bool>,
    mut hear: impl FnMut(Instant, Said<'_>) -> Result<(), CliError>,
) -> Result<Lane, CliError> {
    let kept = std::future::poll_fn(|cx| -> Poll<Result<(), CliError>> {
        lane.read(cx, &mut locked(&shared).buffer, &mut hear)?;
        lane.flush(cx)?;
        Poll::Pending
    });
    tokio::select! {
        biased;
        // Whoever would tell it may also be gone.
        _ = end.wait_for(|end| *end) => {}
        kept = kept => kept?,
    }
    Ok(lane)
}

/// Tells all keepers when the plan has come to its end.
pub(super) async fn end_with_plan(shared: Arc<Mutex<Shared>>, end: watch::Sender<bool>) {
    loop {
        let left = locked(&shared).plan.stop_at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            end.send_replace(true);
            return;
        }
        tokio::time::sleep(left.min(LOOK_EVERY)).await;
    }
}

/// Each connection needs a descriptor, and more of them than a shell is given by default.
pub(super) fn allow_many_connections() {
    let limit = getrlimit(Resource::Nofile);
    // Without them the connections fail, and say why.
    let _raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }).is_ok();
}
