//! `doorstep bench`: loads a running router over WebSocket, and measures what its clients see.
//!
//! Each scenario checks the promise while it measures: every figure of a run that lost or reordered something is
//! worthless. The load generator runs on one thread and is made to need less of it than the router needs of its own;
//! every report says how much, so that one can tell whose limit was measured.

mod alarm;
mod crew;
mod door;
mod faults;
mod lane;
mod ledger;
mod pair;
mod plan;
mod process;
mod relay;
mod report;
mod said;
mod say;
mod tally;
mod wire;
mod witness;

use std::time::Duration;

use super::{CliError, Global};
use crate::config::parse_duration;
use relay::RelayArgs;

const PAIRS_MAX: i64 = 20_000;
/// A frame of this size fits the router's default limit.
const BODY_BYTES_MAX: i64 = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    scenario: Option<Scenario>,
    #[command(flatten)]
    relay: RelayArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Scenario {
    /// Pairs of online users exchange messages as fast as the window allows (without a scenario: this one)
    Relay(RelayArgs),
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time such as \"10s\" or \"1m\"".to_owned())
}

fn measured_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(1) => Err("at least 1s".to_owned()),
        long => Ok(long),
    }
}

/// Runs a scenario and prints its figures.
///
/// # Errors
/// As the scenario has them.
pub(super) async fn run(global: &Global, args: BenchArgs) -> Result<(), CliError> {
    match args.scenario.unwrap_or(Scenario::Relay(args.relay)) {
        Scenario::Relay(args) => relay::run(global, args).await,
    }
}
