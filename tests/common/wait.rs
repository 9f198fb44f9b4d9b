//! Waiting for a condition with a deadline. The only place in the tests that sleeps, and it never
//! sleeps a guess: it looks again until the condition holds, or fails naming what did not come.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Generous: a slow machine must not fail a test,
/// and a test that passes does not wait it out.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition.
const INTERVAL: Duration = Duration::from_millis(5);

/// Asks `probe` until it answers, at most [`PATIENCE`]; panics naming `what` when it never does.
pub async fn until<T>(what: &str, probe: impl AsyncFnMut() -> Option<T>) -> T {
    match until_within(PATIENCE, probe).await {
        Some(found) => found,
        None => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

/// Asks `probe` until it answers; none when `limit` has passed.
pub async fn until_within<T>(limit: Duration, mut probe: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = probe().await {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The output of `future`, which must come within [`PATIENCE`]; panics naming `what` when it does not.
pub async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}
