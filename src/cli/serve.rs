//! `doorstep serve`: reads the configuration and hands over to the daemon.

use std::path::{Path, PathBuf};

use super::CliError;

/// Where the daemon's admin socket is, as configured.
pub(super) fn admin_socket(_config: Option<&Path>) -> Result<PathBuf, CliError> {
    let set = std::env::var_os("DOORSTEP__ADMIN__SOCKET").map(PathBuf::from);
    Ok(set.unwrap_or_else(|| PathBuf::from("run/doorstep.sock")))
}

/// Runs the daemon until it ends.
pub(super) fn run(_config: Option<&Path>) -> Result<(), CliError> {
    Err(CliError::new("this build has no daemon"))
}
