//! `latency`: pairs of online users who send at given times, far below what the router can carry.
//!
//! Open loop, and timed from when a message was due: what a slow router holds up counts as slow. To be in time the load
//! generator never sleeps; it takes a whole core.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::task::AtomicWaker;
use serde_json::json;

use super::crew::{self, Crew};
use super::door::{self, Door, Target};
use super::faults::Faults;
use super::pair::{Pace, Pair, Work};
use super::plan::Plan;
use super::process::Costs;
use super::relay::refusals;
use super::report::{self, Report};
use super::tally::{Latency, Shared, Tally, locked};
use super::{BODY_BYTES_MAX, PAIRS_MAX, duration, measured_duration, say};
use crate::cli::table::count;
use crate::cli::{CliError, Global};

#[derive(Debug, Clone, clap::Args)]
pub(super) struct LatencyArgs {
    /// Pairs of users, one who sends and one who receives
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,
    /// Messages a second, of all pairs together, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
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
    /// Judge by all of the contract, and fail unless it was kept
    #[arg(long)]
    verify: bool,
}

/// The times of a run, which its pairs take in turn.
pub(super) struct Schedule {
    from: Instant,
    gap: Duration,
    turns: Vec<Arc<AtomicWaker>>,
}

impl Schedule {
    pub(super) fn new(from: Instant, pairs: u32, rate: u32) -> Self {
        let gap = Duration::from_secs(1) / rate;
        Self { from, gap, turns: (0..pairs).map(|_| Arc::default()).collect() }
    }

    /// Of each pair.
    pub(super) fn paces(&self) -> Vec<Pace> {
        let step = self.gap * self.turns.len() as u32;
        let pace = |(n, turn): (u32, &Arc<AtomicWaker>)| Pace::Times {
            next: self.from + self.gap * n,
            step,
            turn: turn.clone(),
        };
        (0..).zip(&self.turns).map(pace).collect()
    }

    /// Wakes each pair when it is due, until the plan ends. Looks at the clock all the time instead of sleeping: a timer
    /// of the runtime is late by up to a millisecond, which is many times what is to be measured.
    pub(super) async fn keep(self, shared: Arc<Mutex<Shared>>) -> Result<Faults, CliError> {
        let mut due = self.from;
        let mut turns = self.turns.iter().cycle();
        loop {
            let now = Instant::now();
            while due <= now {
                if let Some(turn) = turns.next() {
                    turn.wake();
                }
                due += self.gap;
            }
            if now >= locked(&shared).plan.stop_at {
                return Ok(Faults::default());
            }
            tokio::task::yield_now().await;
        }
    }
}

/// # Errors
/// As for `relay`.
pub(super) async fn run(global: &Global, args: LatencyArgs) -> Result<(), CliError> {
    let mut interrupts = door::interrupts()?;
    let door = Door::of(global, &args.target, args.warmup + args.duration).await?;
    let work = Work { body: say::body(args.size).into(), verify: args.verify };
    let enter = |n| Pair::enter(&door, "pair", n, work.clone());
    let pairs = door::enter_all(args.pairs as usize, &mut interrupts, enter, Pair::leave).await?;
    let shared = Shared::new(Plan::starting_now(args.warmup, args.duration))?;
    let costs = tokio::spawn(crew::costs(shared.clone(), door.server.clone()));
    let schedule = Schedule::new(Instant::now(), args.pairs, args.rate);
    let mut running = Crew::new();
    for (pair, pace) in pairs.into_iter().zip(schedule.paces()) {
        running.spawn(pair.run(pace, shared.clone()));
    }
    running.spawn(schedule.keep(shared.clone()));
    let found = crew::watch(running, &shared, &mut interrupts, (|tally| tally.delivered_ever, "messages")).await?;
    let costs = costs.await.unwrap_or_default();
    let shared = locked(&shared);
    report(&args, shared.plan.measured(), &shared.tally, &costs, Faults::sum(&found)).print(global, args.verify)
}

fn report(args: &LatencyArgs, measured: Duration, tally: &Tally, costs: &Costs, faults: Faults) -> Report {
    let (delivered, seconds) = (tally.delivery.count(), report::seconds(measured));
    let per_second = report::rate(delivered, measured);
    let stored = tally.stored_share() * 100.0;
    let mut lines = vec![
        format!("{}, {} messages/s due, {}-byte bodies, {seconds} s", count(args.pairs, "pair"), args.rate, args.size),
        String::new(),
        format!("delivered    {per_second:>10.0} messages/s  ({delivered} in all)"),
        format!(
            "accepted     {:>10}  ({:.1} % handed over, {stored:.1} % stored)",
            tally.accept.count(),
            100.0 - stored
        ),
    ];
    lines.extend(costs.lines(delivered));
    lines.extend([
        String::new(),
        Latency::head(),
        tally.delivery.line("to arrive"),
        tally.accept.line("to accept"),
        tally.late.line("sent late"),
    ]);
    lines.extend(refusals(tally));
    let figures = json!({
        "scenario": "latency",
        "pairs": args.pairs,
        "rate": args.rate,
        "size_bytes": args.size,
        "duration_s": seconds,
        "delivered": delivered,
        "accepted": tally.accept.count(),
        "messages_per_second": per_second.round(),
        "delivery_us": tally.delivery.json(),
        "accept_us": tally.accept.json(),
        "sent_late_us": tally.late.json(),
        "stored_share": tally.stored_share(),
        "rejected": tally.rejected,
    });
    Report::new(lines, [figures, costs.json(delivered)], faults)
}
