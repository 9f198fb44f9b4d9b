//! `relay`: pairs of online users, one who sends and one who receives, as fast as the window allows.

use std::time::Duration;

use serde_json::json;

use super::crew::{self, Crew};
use super::door::{self, Door, Target};
use super::faults::Faults;
use super::pair::{Pace, Pair, Work};
use super::plan::Plan;
use super::process::Costs;
use super::report::{self, Report};
use super::tally::{Latency, Shared, Tally, locked};
use super::{BODY_BYTES_MAX, PAIRS_MAX, duration, measured_duration, say};
use crate::cli::table::count;
use crate::cli::{CliError, Global};

/// Said when the figure is not what the router can do, but what it was told to allow.
pub(super) const RATE_LIMITED: &str = "the figure is bounded by limits.sends_per_second_per_session (or _per_user): \
    more pairs, or higher limits, get more out of the router";

#[derive(Debug, Clone, clap::Args)]
pub(super) struct RelayArgs {
    /// Pairs of users, one who sends and one who receives
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,
    /// Sends that a sender keeps unanswered, 1 to 4096
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    window: u32,
    /// Bytes of a body, 2 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=BODY_BYTES_MAX))]
    size: u32,
    /// How long to measure, as "10s" or "1m"; at least a second
    #[arg(long, default_value = "10s", value_parser = measured_duration)]
    duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    #[command(flatten)]
    target: Target,
    /// Judge by all of the contract, which takes more time than the rest of the load generator, and fail unless
    /// everything accepted arrived once and in order, and every send was answered
    #[arg(long)]
    verify: bool,
}

/// Runs the load, tells how it goes on stderr once a second, and prints the figures at the end. An interrupt is an
/// early end: the users go and the figures come all the same.
///
/// # Errors
/// When there is no router, when it closes a connection, or, with `--verify`, when it broke its word.
pub(super) async fn run(global: &Global, args: RelayArgs) -> Result<(), CliError> {
    let mut interrupts = door::interrupts()?;
    let door = Door::of(global, &args.target, args.warmup + args.duration).await?;
    let work = Work { body: say::body(args.size).into(), verify: args.verify };
    let enter = |n| Pair::enter(&door, "pair", n, work.clone());
    let pairs = door::enter_all(args.pairs as usize, &mut interrupts, enter, Pair::leave).await?;
    let shared = Shared::new(Plan::starting_now(args.warmup, args.duration))?;
    let costs = tokio::spawn(crew::costs(shared.clone(), door.server.clone()));
    let mut running = Crew::new();
    for pair in pairs {
        running.spawn(pair.run(Pace::Window(args.window as usize), shared.clone()));
    }
    let found = crew::watch(running, &shared, &mut interrupts, (|tally| tally.delivered_ever, "messages")).await?;
    let costs = costs.await.unwrap_or_default();
    let shared = locked(&shared);
    report(&args, shared.plan.measured(), &shared.tally, &costs, Faults::sum(&found)).print(global, args.verify)
}

/// `measured` is shorter than asked for when the run was interrupted.
fn report(args: &RelayArgs, measured: Duration, tally: &Tally, costs: &Costs, faults: Faults) -> Report {
    let (delivered, accepted) = (tally.delivery.count(), tally.accept.count());
    let (per_second, seconds) = (report::rate(delivered, measured), report::seconds(measured));
    let stored = tally.stored_share() * 100.0;
    let (pairs, window) = (count(args.pairs, "pair"), count(args.window, "unanswered send"));
    let mut lines = vec![
        format!("{pairs}, {window} each, {}-byte bodies, {seconds} s", args.size),
        String::new(),
        format!("delivered    {per_second:>10.0} messages/s  ({delivered} in all)"),
        format!("accepted     {accepted:>10}  ({:.1} % handed over, {stored:.1} % stored)", 100.0 - stored),
    ];
    lines.extend(costs.lines(delivered));
    lines.extend([String::new(), Latency::head(), tally.delivery.line("to arrive"), tally.accept.line("to accept")]);
    lines.extend(refusals(tally));
    let figures = json!({
        "scenario": "relay",
        "pairs": args.pairs,
        "window": args.window,
        "size_bytes": args.size,
        "duration_s": seconds,
        "delivered": delivered,
        "accepted": accepted,
        "messages_per_second": per_second.round(),
        "delivery_us": tally.delivery.json(),
        "accept_us": tally.accept.json(),
        "stored_share": tally.stored_share(),
        "rejected": tally.rejected,
    });
    Report::new(lines, [figures, costs.json(delivered)], faults)
}

/// What was refused, and whether that bounds the figure.
pub(super) fn refusals(tally: &Tally) -> Vec<String> {
    let counts = tally.rejected.iter().map(|(code, n)| format!("rejected as {code}: {n}"));
    let hint = tally.rejected.contains_key("rate_limited").then(|| RATE_LIMITED.to_owned());
    counts.chain(hint).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RelayArgs,
    }

    fn args(line: &str) -> RelayArgs {
        Line::try_parse_from(std::iter::once("bench").chain(line.split_whitespace())).unwrap().args
    }

    fn figures(line: &str, measured_ms: u64, tally: &Tally) -> Report {
        report(&args(line), Duration::from_millis(measured_ms), tally, &Costs::default(), Faults::default())
    }

    #[test]
    fn an_interrupted_run_is_judged_by_what_was_measured() {
        let mut tally = Tally::new().unwrap();
        let now = Instant::now();
        (0..2).for_each(|_| tally.delivered(now, now + Duration::from_millis(1), true));
        let half = figures("--pairs 1 --window 1", 500, &tally);
        assert_eq!(half.json()["messages_per_second"], 4.0);
        let table = half.table();
        assert!(table.starts_with("1 pair, 1 unanswered send each, 200-byte bodies, 0.5 s\n"), "{table}");
        let nothing = figures("", 0, &Tally::new().unwrap());
        assert_eq!(nothing.json()["messages_per_second"], 0.0, "interrupted while warming up");
    }

    #[test]
    fn a_figure_that_limits_hold_down_says_so() {
        let table = |code: &str| {
            let mut tally = Tally::new().unwrap();
            tally.rejected(code.to_owned());
            figures("", 1000, &tally).table()
        };
        assert!(table("rate_limited").contains("bounded by limits.sends_per_second_per_session"));
        assert!(!table("overloaded").contains("bounded by"));
    }

    #[test]
    fn less_than_a_second_is_no_measurement() {
        let parsed = |duration| Line::try_parse_from(["bench", "--duration", duration, "--warmup", "0s"]);
        assert!(parsed("0s").is_err() && parsed("999ms").is_err());
        assert_eq!(parsed("1s").unwrap().args.duration, Duration::from_secs(1));
    }
}
