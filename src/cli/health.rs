//! `doorstep health`: is the daemon live, ready, able to store? The exit code says it to scripts.

use hyper::{Method, StatusCode};
use serde_json::Value;

use super::http::target;
use super::table::{self, cell, number};
use super::{CliError, Global, output};

pub(super) async fn run(global: &Global) -> Result<(), CliError> {
    let reply = global.admin()?.call(Method::GET, &target(&["health"], &[]), None).await?;
    // A daemon that is not ready answers 503 with the same document.
    if reply.document.parse::<Value>()?.get("ready").is_none() {
        return reply.good().map(drop);
    }
    output::show(global, &reply.document, render)?;
    match reply.status {
        StatusCode::OK => Ok(()),
        _ => Err(CliError::new("the daemon is not ready")),
    }
}

/// A commit that takes longer is worth a word, in milliseconds.
const LONG_COMMIT_MS: u64 = 5000;

fn render(health: &Value) -> String {
    let store = match number(health, "commit_running_ms") {
        ms if ms >= LONG_COMMIT_MS => {
            format!("{}, but a commit has been under way for {}", cell(health.get("store")), table::span(ms))
        }
        _ => cell(health.get("store")),
    };
    let expiry = match health.get("expiry_paused").and_then(Value::as_bool) {
        Some(true) => "paused: the clock stepped; once it is right, doorstep resume-expiry",
        _ => "running",
    };
    table::facts(&[
        ("live", cell(health.get("live"))),
        ("ready", cell(health.get("ready"))),
        ("draining", cell(health.get("draining"))),
        ("store", store),
        ("disk free", table::size(number(health, "disk_free_bytes"))),
        ("ceiling left", table::span(number(health, "ceiling_left_ms"))),
        ("expiry", expiry.to_owned()),
    ])
}
