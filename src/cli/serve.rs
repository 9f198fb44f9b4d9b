//! `doorstep serve`: reads the configuration, begins to log and hands over to the daemon. The one place
//! where a command calls the daemon instead of talking to its sockets.

use std::path::Path;
use std::time::Duration;

use super::{CliError, config as configured};
use crate::daemon;
use crate::telemetry;

/// Threads for work that blocks: reads of the store, mostly.
const BLOCKING_THREADS_MAX: usize = 16;
/// How long such work may go on when the daemon has ended.
const LAST_READS_WAIT: Duration = Duration::from_secs(1);

/// Runs the daemon until it ends.
pub(super) fn run(config: Option<&Path>) -> Result<(), CliError> {
    let config = configured::load(config)?;
    let _log = telemetry::init(&config.log).map_err(|error| CliError::with_code(2, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no async runtime: {error}")))?;
    let served = runtime.block_on(daemon::serve(config));
    // A read that hangs on a dead disk must not keep the process.
    runtime.shutdown_timeout(LAST_READS_WAIT);
    served.map_err(|error| CliError::with_code(error.exit_code(), error.to_string()))
}
