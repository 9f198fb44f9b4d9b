//! The commands people type; they talk to the daemon only through its sockets.

pub mod config;
mod stdout;
pub mod token;

/// Ends a command with a message for people and an exit code.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    pub message: String,
    /// 1 it did not work, 2 it was asked wrongly, 3 the daemon is not there, 75 try again later.
    pub exit_code: u8,
}

impl CliError {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), exit_code: 1 }
    }
}
