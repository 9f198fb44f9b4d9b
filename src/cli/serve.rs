//! `doorstep serve`: reads the configuration, begins to log and hands over to the daemon. The one place
//! where a command calls the daemon instead of talking to its sockets.

use std::path::Path;

use super::{CliError, config as configured};
use crate::daemon;
use crate::telemetry;

/// Threads for work that blocks: reads of the store, mostly.
const BLOCKING_THREADS_MAX: usize = 16;

/// Runs the daemon until it ends.
pub(super) fn run(config: Option<&Path>) -> Result<(), CliError> {
    let config = configured::load(config)?;
    let _log = telemetry::init(&config.log).map_err(|error| CliError::with_code(2, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no async runtime: {error}")))?;
    let ended = runtime.block_on(daemon::serve(config));
    // What still runs now is a read that nobody waits for. The log is written out when `_log` is dropped.
    runtime.shutdown_background();
    ended.map_err(|error| CliError::with_code(error.exit_code(), error.to_string()))
}
