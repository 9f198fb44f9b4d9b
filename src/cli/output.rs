//! Where commands write: answers to stdout, complaints to stderr, and no complaint about a closed pipe.

use std::io::{self, ErrorKind, Write};

use serde_json::Value;

use super::http::Document;
use super::{CliError, Global};

/// Writes an answer. A reader that has seen enough (`doorstep users | head`) is no error.
fn answer(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(CliError::new(format!("cannot write: {error}"))),
        _ => Ok(()),
    }
}

/// Shows a document: as the daemon wrote it, or as `render` puts it for people.
pub(super) fn show(
    global: &Global,
    document: &Document,
    render: impl FnOnce(&Value) -> String,
) -> Result<(), CliError> {
    if global.json { answer(&format!("{}\n", document.text)) } else { answer(&render(&document.value)) }
}

/// Tells on stderr why a command ended.
pub(super) fn complain(error: &CliError) {
    // When even stderr is gone there is nobody left to tell; the exit code still says it.
    let _unheard = writeln!(io::stderr().lock(), "doorstep: {error}").is_err();
}

/// Shows help or a wrong command line in clap's own words; returns the exit code.
pub(super) fn usage(error: &clap::Error) -> u8 {
    let _unheard = error.print().is_err();
    u8::try_from(error.exit_code()).unwrap_or(2)
}
