//! How commands answer: as a table or as the daemon's own JSON on stdout, and with a complaint on stderr.

use std::io::{self, Write};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::http::Document;
use super::stdout::print;
use super::{CliError, Global};

/// Shows a document: as the daemon wrote it, or as `render` puts it for people.
pub(super) fn show(
    global: &Global,
    document: &Document,
    render: impl FnOnce(&Value) -> String,
) -> Result<(), CliError> {
    show_as(global, document, render)
}

/// The same where a [`Value`] will not do, because the document holds bodies.
pub(super) fn show_as<T: DeserializeOwned>(
    global: &Global,
    document: &Document,
    render: impl FnOnce(&T) -> String,
) -> Result<(), CliError> {
    if global.json { print(&format!("{}\n", document.text)) } else { print(&render(&document.parse()?)) }
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
