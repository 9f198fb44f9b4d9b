//! `doorstep bench`: loads a running router over WebSocket, and measures what its clients see.
//!
//! Each scenario checks the promise while it measures: every figure of a run that lost or reordered something is
//! worthless. The load generator runs on one thread and is made to need less of it than the router needs of its own;
//! every report says how much, so that one can tell whose limit was measured.

mod alarm;
mod client;
mod crew;
mod door;
mod faults;
mod idle;
mod keeper;
mod lane;
mod latency;
mod ledger;
mod mailbox;
mod pair;
mod plan;
mod presence;
mod process;
mod relay;
mod replay;
mod report;
mod said;
mod say;
mod storm;
mod tally;
mod wire;
mod witness;

use std::time::Duration;

use super::{CliError, Global};
use crate::config::parse_duration;
use client::ClientArgs;
use idle::IdleArgs;
use latency::LatencyArgs;
use presence::PresenceArgs;
use relay::RelayArgs;
use replay::{ReplayArgs, SpillArgs};
use storm::StormArgs;

const PAIRS_MAX: i64 = 20_000;
const CONNECTIONS_MAX: i64 = 100_000;
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
    /// Pairs again, through the client library: what an application gets, also while the router is killed and restarted
    Client(ClientArgs),
    /// `relay` at a given rate: how long a message takes when there is no rush
    Latency(LatencyArgs),
    /// Senders write to users who are away: how many messages a second are safe on disk, and how soon
    Spill(SpillArgs),
    /// Those users come back: how fast they get what waited, and what live users feel of it
    Replay(ReplayArgs),
    /// Users are online and say nothing: what a connection costs in memory and processor time
    Idle(IdleArgs),
    /// Everybody comes back at the same time, with something waiting for each
    Storm(StormArgs),
    /// One user whom many watch changes state, then many come online: how soon their watchers know
    Presence(PresenceArgs),
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
        Scenario::Client(args) => client::run(global, args).await,
        Scenario::Latency(args) => latency::run(global, args).await,
        Scenario::Spill(args) => replay::spill(global, args).await,
        Scenario::Replay(args) => replay::replay(global, args).await,
        Scenario::Idle(args) => idle::run(global, args).await,
        Scenario::Storm(args) => storm::run(global, args).await,
        Scenario::Presence(args) => presence::run(global, args).await,
    }
}
