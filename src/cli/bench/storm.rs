//! `storm`: everybody comes back at the same time, as after a restart, and something waits for each.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use super::crew::Counted;
use super::door::{self, Door, Target};
use super::faults::Faults;
use super::mailbox::{self, Caught, Load};
use super::plan::Plan;
use super::process::Costs;
use super::report::{self, Report};
use super::tally::{Latency, Shared, Tally, locked};
use super::{BODY_BYTES_MAX, CONNECTIONS_MAX, keeper, say};
use crate::cli::table::count;
use crate::cli::{CliError, Global};

/// Longer than a run is believed to take.
const LASTING: Duration = Duration::from_secs(3600);
/// Who fill the mailboxes, at most, and how fast.
const SENDERS_MAX: u32 = 100;
const WINDOW: usize = 64;
const COUNTED: Counted = (|tally| tally.delivered_ever, "messages");

#[derive(Debug, Clone, clap::Args)]
pub(super) struct StormArgs {
    /// Users who come back; the router's limits.max_connections bounds it
    #[arg(long, value_name = "N", default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    connections: u32,
    /// Messages that wait for each, 0 to 100000
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    backlog: u32,
    /// Who are let knock at the same time, up to all; more than limits.max_handshakes are turned away at first
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    at_once: Option<u32>,
    /// Bytes of a body, 2 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=BODY_BYTES_MAX))]
    size: u32,
    #[command(flatten)]
    target: Target,
    /// Fail unless everything that waited arrived once and in order
    #[arg(long)]
    verify: bool,
}

/// # Errors
/// When there is no router, when somebody is not let in for a minute, or, with `--verify`, when it broke its word.
pub(super) async fn run(global: &Global, args: StormArgs) -> Result<(), CliError> {
    keeper::allow_many_connections();
    let mut interrupts = door::interrupts()?;
    let door = Arc::new(Door::of(global, &args.target, LASTING).await?);
    let load = Load {
        senders: args.connections.min(SENDERS_MAX) as usize,
        users: args.connections as usize,
        messages: u64::from(args.connections) * u64::from(args.backlog),
        window: WINDOW,
        staying_max: args.connections as usize,
        body: say::body(args.size).into(),
    };
    let shared = Shared::new(Plan::starting_now(Duration::ZERO, LASTING))?;
    let mailboxes = mailbox::fill(&door, &load, &shared, &mut interrupts).await?.mailboxes;
    locked(&shared).tally = Tally::new()?;
    let (before, began) = (door.look(), Instant::now());
    let at_once = args.at_once.unwrap_or(args.connections) as usize;
    let caught = mailbox::come_back(&door, &load, mailboxes, at_once, &shared, &mut interrupts, COUNTED).await?;
    let costs = before.until(&door.look());
    let times = Times::of(&caught, began)?;
    let faults = mailbox::judge(&door, caught).await;
    report(&args, &times, &locked(&shared).tally, &costs, faults).print(global, args.verify)
}

/// Since the storm began.
struct Times {
    welcome: Latency,
    caught_up: Latency,
    last_welcome: Duration,
    last_caught_up: Duration,
}

impl Times {
    fn of(caught: &[Caught], began: Instant) -> Result<Self, CliError> {
        let (mut welcome, mut caught_up) = (Latency::new()?, Latency::new()?);
        for one in caught {
            welcome.record(one.welcome_at - began);
            caught_up.record(one.caught_up_at - began);
        }
        let last = |at: fn(&Caught) -> Instant| caught.iter().map(at).max().map_or(Duration::ZERO, |last| last - began);
        let (last_welcome, last_caught_up) = (last(|one| one.welcome_at), last(|one| one.caught_up_at));
        Ok(Self { welcome, caught_up, last_welcome, last_caught_up })
    }
}

fn report(args: &StormArgs, times: &Times, tally: &Tally, costs: &Costs, faults: Faults) -> Report {
    let connects = report::rate(u64::from(args.connections), times.last_welcome);
    let (in_s, caught_s) = (report::seconds(times.last_welcome), report::seconds(times.last_caught_up));
    let turned_away: u64 = tally.turned_away.values().sum();
    let mut lines = vec![
        format!("{} come back, {} wait for each", count(args.connections, "user"), count(args.backlog, "message")),
        String::new(),
        format!("let in       {connects:>10.0} a second  (the last after {in_s} s; {turned_away} times turned away)"),
        format!("caught up    {caught_s:>10.3} s until all had what waited  ({} messages)", tally.delivered_ever),
    ];
    lines.extend(costs.lines(u64::from(args.connections)).iter().map(|line| line.replace("a message", "a user")));
    lines.extend([String::new(), Latency::head(), times.welcome.line("let in"), times.caught_up.line("caught up")]);
    lines.extend(tally.turned_away.iter().map(|(why, times)| format!("turned away {times} times: {why}")));
    let figures = json!({
        "scenario": "storm",
        "connections": args.connections,
        "backlog": args.backlog,
        "at_once": args.at_once.unwrap_or(args.connections),
        "size_bytes": args.size,
        "connects_per_second": connects.round(),
        "all_let_in_s": in_s,
        "all_caught_up_s": caught_s,
        "delivered": tally.delivered_ever,
        "let_in_us": times.welcome.json(),
        "caught_up_us": times.caught_up.json(),
        "turned_away": tally.turned_away,
    });
    Report::new(lines, [figures, costs.json(tally.delivered_ever)], faults)
}
