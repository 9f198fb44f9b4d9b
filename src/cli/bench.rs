//! `doorstep bench`: pairs of online users who exchange messages over WebSocket with a running router.
//!
//! It measures what a client sees (from a send to its delivery, from a send to its answer), and it checks
//! the promise while it measures: every figure of a run that lost or reordered something is worthless.
//! Closed loop: each sender keeps `window` sends unanswered. The load generator runs on one thread.

mod lane;
mod ledger;
mod pair;
mod report;

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::try_join_all;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::parse_duration;
use crate::ids::{DeviceId, UserId};

use super::{CliError, Global};
use lane::Lane;
use ledger::Faults;
use pair::{Pair, Plan};
use report::{Report, Tally};

/// Connections that are opened at the same time.
const CONNECTING_MAX: usize = 64;
/// How long to wait, after the end, for what is unanswered or undelivered.
const DRAIN_MAX: Duration = Duration::from_secs(15);
const PAIRS_MAX: i64 = 20_000;
/// A frame of this size fits the router's default limit.
const BODY_BYTES_MAX: i64 = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// Pairs of users, one who sends and one who receives
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,
    /// Sends that a sender keeps unanswered
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    window: u32,
    /// Bytes of a body
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=BODY_BYTES_MAX))]
    size: u32,
    /// How long to measure, as "10s" or "1m"
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// How long to run before measuring
    #[arg(long, default_value = "1s", value_parser = duration)]
    warmup: Duration,
    /// Where the router listens [default: gateway.listen of the configuration]
    #[arg(long)]
    url: Option<String>,
    /// Fail unless everything accepted arrived once and in order, and every send was answered
    #[arg(long)]
    verify: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "a time such as \"10s\" or \"1m\"".to_owned())
}

/// Runs the load, tells how it goes on stderr once a second, and prints the figures at the end.
///
/// # Errors
/// When there is no router, when it closes a connection, or, with `--verify`, when it broke its word.
pub(super) async fn run(global: &Global, args: BenchArgs) -> Result<(), CliError> {
    let url = global.url(args.url.clone())?;
    let pairs = connect_all(&args, &url).await?;
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let plan = Plan::starting_now(&args);
    let mut running = JoinSet::new();
    for pair in pairs {
        running.spawn(pair.run(plan, Arc::clone(&tally)));
    }
    let faults = watch(running, &tally, plan).await?;
    let report = Report::new(&args, &tally, faults);
    let text = if global.json { report.json() } else { report.table() };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").map_err(|error| CliError::new(format!("cannot write: {error}")))?;
    match args.verify && report.faults != Faults::default() {
        true => Err(CliError::new("the router broke its word; see the faults above")),
        false => Ok(()),
    }
}

/// Names are fresh for every run, so that nothing of an earlier one is in the way.
async fn connect_all(args: &BenchArgs, url: &str) -> Result<Vec<Pair>, CliError> {
    let run = ulid::Ulid::r#gen().to_string().to_lowercase();
    let numbers: Vec<u32> = (0..args.pairs).collect();
    let mut pairs = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(CONNECTING_MAX) {
        pairs.extend(try_join_all(some.iter().map(|n| connect_pair(args, url, &run, *n))).await?);
    }
    Ok(pairs)
}

async fn connect_pair(args: &BenchArgs, url: &str, run: &str, n: u32) -> Result<Pair, CliError> {
    let name =
        |role: &str| UserId::new(&format!("bench-{run}-{role}-{n}")).map_err(|error| CliError::new(error.to_string()));
    let device = DeviceId::new("bench").map_err(|error| CliError::new(error.to_string()))?;
    let (from, to) = (name("from")?, name("to")?);
    let receiver = Lane::connect(url, &to, &device).await?;
    let sender = Lane::connect(url, &from, &device).await?;
    Ok(Pair::new(sender, receiver, &to, args))
}

/// Tells the progress until every pair is done; the first failure ends the run.
async fn watch(
    mut running: JoinSet<Result<Faults, CliError>>,
    tally: &Mutex<Tally>,
    plan: Plan,
) -> Result<Faults, CliError> {
    let mut faults = Faults::default();
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut before = 0;
    loop {
        tokio::select! {
            done = running.join_next() => match done {
                None => return Ok(faults),
                Some(Ok(result)) => faults.add(result?),
                Some(Err(error)) => return Err(CliError::new(format!("a pair failed: {error}"))),
            },
            now = seconds.tick() => {
                let delivered = report::locked(tally).delivered_ever;
                tell(&progress(plan, now, delivered - before));
                before = delivered;
            }
        }
    }
}

fn progress(plan: Plan, now: Instant, delivered: u64) -> String {
    // What counts is when most of the second that has just ended was.
    let middle = now - Duration::from_millis(500);
    let phase = if middle < plan.count_from {
        "warming up".to_owned()
    } else if middle < plan.stop_at {
        format!("{:>8} s", (now - plan.count_from).as_secs_f64().round())
    } else {
        "finishing".to_owned()
    };
    format!("{phase:>10}  {delivered:>8} messages/s")
}

fn tell(line: &str) {
    // Without a stderr there is nobody to tell the progress to; the figures come all the same.
    let _unheard = writeln!(std::io::stderr().lock(), "{line}").is_err();
}
