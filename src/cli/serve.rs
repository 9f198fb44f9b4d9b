//! `doorstep serve`: reads the configuration and hands over to the daemon.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::config::{self, Config};
use crate::daemon;
use crate::telemetry;

/// Threads for work that blocks: reads of the store, mostly.
const BLOCKING_THREADS_MAX: usize = 16;

/// Where the daemon's admin socket is, as configured.
pub(super) fn admin_socket(path: Option<&Path>) -> Result<PathBuf, CliError> {
    Ok(load(path)?.admin.socket)
}

/// Runs the daemon until it ends.
pub(super) fn run(path: Option<&Path>) -> Result<(), CliError> {
    let config = load(path)?;
    let _log = telemetry::init(&config.log).map_err(|error| CliError::with_code(2, error.to_string()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .enable_all()
        .build()
        .map_err(|error| CliError::new(format!("no async runtime: {error}")))?;
    runtime.block_on(daemon::serve(config)).map_err(|error| CliError::with_code(error.exit_code(), error.to_string()))
}

fn load(path: Option<&Path>) -> Result<Config, CliError> {
    config::load(path, std::env::vars_os()).map_err(|errors| CliError::with_code(2, errors.to_string()))
}
