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

use futures::future::join_all;
use futures::{FutureExt, StreamExt, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch as channel;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::config::parse_duration;
use crate::ids::{DeviceId, UserId};

use super::stdout::print;
use super::token::Signer;
use super::{CliError, Global, config as configured};
use lane::Lane;
use ledger::Faults;
use pair::{Pair, Plan};
use report::{Report, Tally};

/// Connections that are opened at the same time.
const CONNECTING_MAX: usize = 64;
/// How long to wait, after the end, for what is unanswered or undelivered.
const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How much longer than planned a token holds.
const TOKEN_SPARE: Duration = Duration::from_secs(600);
/// What every user of a bench has.
const DEVICE: &str = "bench";
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
    /// How long to measure, as "10s" or "1m"; at least a second
    #[arg(long, default_value = "10s", value_parser = measured_duration)]
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

fn measured_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < Duration::from_secs(1) => Err("at least 1s".to_owned()),
        long => Ok(long),
    }
}

/// Runs the load, tells how it goes on stderr once a second, and prints the figures at the end. An interrupt is an
/// early end: the users go and the figures come all the same.
///
/// # Errors
/// When there is no router, when it closes a connection, or, with `--verify`, when it broke its word.
pub(super) async fn run(global: &Global, args: BenchArgs) -> Result<(), CliError> {
    let mut interrupts = signal(SignalKind::interrupt())
        .map_err(|error| CliError::new(format!("cannot catch an interrupt: {error}")))?;
    let pairs = connect_all(&args, &Door::of(global, &args)?, &mut interrupts).await?;
    let tally = Arc::new(Mutex::new(Tally::new()?));
    let (plan, plans) = channel::channel(Plan::starting_now(&args));
    let mut running = JoinSet::new();
    for pair in pairs {
        running.spawn(pair.run(plans.clone(), Arc::clone(&tally)));
    }
    let faults = watch(running, &tally, &plan, &mut interrupts).await?;
    let report = Report::new(&args, plan.borrow().measured(), &tally, faults);
    print(&format!("{}\n", if global.json { report.json() } else { report.table() }))?;
    match args.verify && report.faults != Faults::default() {
        true => Err(CliError::new("the router broke its word; see the faults above")),
        false => Ok(()),
    }
}

/// Where to knock, and how to prove who one is.
struct Door {
    url: String,
    signer: Option<Signer>,
    token_ttl: Duration,
}

impl Door {
    fn of(global: &Global, args: &BenchArgs) -> Result<Self, CliError> {
        let config = configured::load(global.config.as_deref())?;
        let url = args.url.clone().unwrap_or_else(|| configured::url(config.gateway.listen));
        Ok(Self { url, signer: Signer::of(&config.auth)?, token_ttl: args.warmup + args.duration + TOKEN_SPARE })
    }

    async fn enter(&self, user: &UserId, device: &DeviceId) -> Result<Lane, CliError> {
        let token = self.signer.as_ref().map(|signer| signer.sign(user, self.token_ttl)).transpose()?;
        Lane::connect(&self.url, user, device, token).await
    }
}

/// Names are fresh for every run, so that nothing of an earlier one is in the way. Who is in when this fails, or is
/// interrupted, leaves again.
async fn connect_all(args: &BenchArgs, door: &Door, interrupts: &mut Signal) -> Result<Vec<Pair>, CliError> {
    let run = ulid::Ulid::r#gen().to_string().to_lowercase();
    let numbers: Vec<u32> = (0..args.pairs).collect();
    let mut pairs = Vec::with_capacity(numbers.len());
    for some in numbers.chunks(CONNECTING_MAX) {
        let mut failure = None;
        for pair in join_all(some.iter().map(|n| connect_pair(args, door, &run, *n))).await {
            match pair {
                Ok(pair) => pairs.push(pair),
                Err(error) => failure = Some(error),
            }
        }
        if failure.is_none() && interrupts.recv().now_or_never().is_some() {
            failure = Some(CliError::new("interrupted before anything was measured"));
        }
        if let Some(failure) = failure {
            stream::iter(pairs).for_each_concurrent(CONNECTING_MAX, Pair::leave).await;
            return Err(failure);
        }
    }
    Ok(pairs)
}

async fn connect_pair(args: &BenchArgs, door: &Door, run: &str, n: u32) -> Result<Pair, CliError> {
    let name =
        |role: &str| UserId::new(&format!("bench-{run}-{role}-{n}")).map_err(|error| CliError::new(error.to_string()));
    let device = DeviceId::new(DEVICE).map_err(|error| CliError::new(error.to_string()))?;
    let (from, to) = (name("from")?, name("to")?);
    let receiver = door.enter(&to, &device).await?;
    match door.enter(&from, &device).await {
        Ok(sender) => Ok(Pair::new(sender, receiver, (&from, &to), args)),
        Err(error) => {
            receiver.leave().await;
            Err(error)
        }
    }
}

/// Tells the progress until every pair is done. The first failure stops all others, and so does an interrupt: they
/// still leave in order. A second interrupt waits for nobody.
async fn watch(
    mut running: JoinSet<Result<Faults, CliError>>,
    tally: &Mutex<Tally>,
    plan: &channel::Sender<Plan>,
    interrupts: &mut Signal,
) -> Result<Faults, CliError> {
    let mut faults = Faults::default();
    let (mut failure, mut interrupted) = (None, false);
    let stop = || plan.send_modify(|plan| *plan = plan.stopped_at(Instant::now()));
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.tick().await;
    let mut before = 0;
    loop {
        let failed = tokio::select! {
            done = running.join_next() => match done {
                None => return failure.map_or(Ok(faults), Err),
                Some(Ok(Ok(found))) => { faults.add(&found); continue }
                Some(Ok(Err(error))) => error,
                Some(Err(error)) => CliError::new(format!("a pair failed: {error}")),
            },
            now = seconds.tick() => {
                let delivered = report::locked(tally).delivered_ever;
                tell(&progress(*plan.borrow(), now, delivered - before));
                before = delivered;
                continue
            }
            _ = interrupts.recv() => {
                if std::mem::replace(&mut interrupted, true) {
                    return Err(CliError::new("interrupted twice; users of the bench may be left behind"));
                }
                tell("interrupted: finishing (once more to end at once)");
                stop();
                continue
            }
        };
        if failure.is_none() {
            failure = Some(failed);
            stop();
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
