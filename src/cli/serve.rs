//! `doorstep serve`: reads the configuration and hands over to the daemon. Nothing else may happen here.

use std::path::Path;

use super::{CliError, config as configured};
use crate::config::Config;

/// Runs the daemon until it ends.
pub(super) fn run(config: Option<&Path>) -> Result<(), CliError> {
    let config = configured::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| CliError::new(format!("cannot start: {error}")))?.block_on(enter_daemon(config))
}

/// The one place where a command calls the daemon instead of talking to its sockets.
async fn enter_daemon(_config: Config) -> Result<(), CliError> {
    Err(CliError::new("this build has no daemon"))
}
