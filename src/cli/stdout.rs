//! Writes a command's answer to standard output; nothing else goes there, so that answers can be piped on.

use std::io::{self, Write};

use super::CliError;

/// A reader that has seen enough and closed the pipe is no failure.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::new(format!("cannot write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
