//! `client`: pairs like those of `relay`, written as an application is: through the client library, and each send
//! awaited before the next.
//!
//! It tells how much of the router's speed an application gets and what the library costs it. And unlike all other
//! scenarios it outlives the router: whoever kills it meanwhile and starts it again sees that nothing is lost.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FusedFuture, FutureExt};
use futures::stream::StreamExt;
use serde_json::json;
use serde_json::value::RawValue;

use super::crew::{self, Crew};
use super::door::{self, Door, Target};
use super::faults::Faults;
use super::ledger::Ledger;
use super::plan::Plan;
use super::process::Costs;
use super::relay::refusals;
use super::report::{self, Report};
use super::tally::{Latency, Shared, Tally, locked};
use super::{BODY_BYTES_MAX, PAIRS_MAX, duration, measured_duration, say};
use crate::cli::table::count;
use crate::cli::{CliError, Global};
use crate::client::{Accepted, Client, Closed, Event, Events, Incoming, Outgoing, SendError, SendFailure};
use crate::ids::{MessageId, UserId};

/// How often a pair looks whether the plan has come to its end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long the router may take to forget a device.
const LEAVE_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ClientArgs {
    /// Pairs of users, one who sends and one who receives
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    pairs: u32,
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
    /// Fail unless everything accepted arrived once and in order, and every send was answered
    #[arg(long)]
    verify: bool,
}

/// # Errors
/// As for `relay`, but not when the router goes away for a while.
pub(super) async fn run(global: &Global, args: ClientArgs) -> Result<(), CliError> {
    let mut interrupts = door::interrupts()?;
    let door = Door::of(global, &args.target, args.warmup + args.duration).await?;
    let body = RawValue::from_string(String::from_utf8_lossy(&say::body(args.size)).into_owned());
    let body = body.map_err(|error| CliError::new(error.to_string()))?;
    let enter = |n| Talk::enter(&door, n, body.clone());
    let talks = door::enter_all(args.pairs as usize, &mut interrupts, enter, Talk::leave).await?;
    let shared = Shared::new(Plan::starting_now(args.warmup, args.duration))?;
    let costs = tokio::spawn(crew::costs(shared.clone(), door.server.clone()));
    let mut running = Crew::new();
    for talk in talks {
        running.spawn(talk.run(shared.clone()));
    }
    let found = crew::watch(running, &shared, &mut interrupts, (|tally| tally.delivered_ever, "messages")).await?;
    let costs = costs.await.unwrap_or_default();
    let shared = locked(&shared);
    let faults = Faults::sum(found.iter().map(|(faults, _)| faults));
    let reconnects = found.iter().map(|(_, reconnects)| reconnects).sum();
    report(&args, shared.plan.measured(), &shared.tally, &costs, (faults, reconnects)).print(global, args.verify)
}

/// One who is in: what it says and what it hears.
struct User {
    client: Client,
    events: Events,
}

impl User {
    async fn enter(door: &Door, name: &UserId) -> Result<Self, CliError> {
        let (client, mut events) = Client::connect(door.options(name)?);
        // Whoever is welcome is registered, and misses nothing that is sent from then on.
        match events.next().await {
            Some(Event::Connected(_)) => Ok(Self { client, events }),
            Some(Event::Disconnected { reason, .. }) => {
                client.close().await;
                Err(CliError { message: format!("{}: {reason}", door.url), exit_code: 3 })
            }
            Some(Event::Closed(why)) => Err(CliError::new(why.to_string())),
            _ => Err(CliError::new("the client has ended")),
        }
    }

    /// Unregisters the device, so that nothing of a bench is left behind.
    async fn leave(&self) {
        if tokio::time::timeout(LEAVE_MAX, self.client.forget()).await.is_err() {
            self.client.close().await;
        }
    }
}

/// What came of a send.
type Answer = (u64, Result<Accepted, SendError>);

/// One pair at work.
struct Talk {
    from: User,
    to: User,
    to_name: UserId,
    body: Box<RawValue>,
    /// The library keeps to itself where the router has put a message, which changes when the router is killed; so a
    /// message's place is its number.
    ledger: Ledger,
    reconnects: u64,
}

impl Talk {
    /// The `n`th pair comes in.
    async fn enter(door: &Door, n: usize, body: Box<RawValue>) -> Result<Self, CliError> {
        let (from_name, to_name) = (door.name("from", n)?, door.name("to", n)?);
        let to = User::enter(door, &to_name).await?;
        match User::enter(door, &from_name).await {
            Ok(from) => Ok(Self { from, to, to_name, body, ledger: Ledger::new(None), reconnects: 0 }),
            Err(error) => {
                to.leave().await;
                Err(error)
            }
        }
    }

    /// Goes, whether it has worked or not.
    async fn leave(self) {
        tokio::join!(self.from.leave(), self.to.leave());
    }

    /// Works by the plan; returns the promises that were broken, and how often a connection was lost.
    async fn run(mut self, shared: Arc<Mutex<Shared>>) -> Result<(Faults, u64), CliError> {
        let worked = self.work(&shared).await;
        tokio::join!(self.from.leave(), self.to.leave());
        worked.map(|()| (self.ledger.close(), self.reconnects))
    }

    async fn work(&mut self, shared: &Mutex<Shared>) -> Result<(), CliError> {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        let mut sending = self.send().fuse();
        loop {
            tokio::select! {
                answer = &mut sending, if !sending.is_terminated() => self.answered(answer, &mut locked(shared)),
                event = self.to.events.next() => self.hear(event, &mut locked(shared))?,
                event = self.from.events.next() => self.hear(event, &mut locked(shared))?,
                _ = looks.tick() => {}
            }
            let (now, plan) = (Instant::now(), locked(shared).plan);
            if now < plan.stop_at && sending.is_terminated() {
                sending = self.send().fuse();
            } else if now >= plan.give_up_at || (now >= plan.stop_at && self.ledger.is_settled()) {
                return Ok(());
            }
        }
    }

    fn send(&mut self) -> BoxFuture<'static, Answer> {
        let number = self.ledger.sent(Instant::now());
        let (client, to, body) = (self.from.client.clone(), self.to_name.clone(), self.body.clone());
        let send = async move {
            let message = Outgoing { id: name(number), to, body, ttl: None, timeout: None, retry: false };
            (number, client.send_message(message).await)
        };
        send.boxed()
    }

    fn answered(&mut self, (number, answer): Answer, shared: &mut Shared) {
        let Shared { plan, tally, .. } = shared;
        let now = Instant::now();
        match answer {
            Ok(Accepted { stored, .. }) => {
                if let Some(sent_at) = self.ledger.accepted(number, place(number), stored) {
                    tally.accepted(sent_at, now, stored, plan.counts(now));
                }
            }
            Err(SendError { cause, maybe_taken, .. }) => {
                let code = why(&cause);
                // Without an answer it stays unanswered, which is a fault.
                if !matches!(cause, SendFailure::TimedOut { .. }) {
                    self.ledger.rejected(number, if maybe_taken { "unknown_outcome" } else { &code });
                }
                tally.rejected(code);
            }
        }
    }

    fn hear(&mut self, event: Option<Event>, shared: &mut Shared) -> Result<(), CliError> {
        match event {
            Some(Event::Message(message)) => self.delivered(&message, shared),
            Some(Event::Connected(_)) => self.reconnects += 1,
            Some(Event::Closed(why)) => return Err(ended(&why)),
            None => return Err(ended(&Closed::Done)),
            // What is put off is sent again, and a router that has gone is looked for again.
            _ => {}
        }
        Ok(())
    }

    fn delivered(&mut self, message: &Incoming, shared: &mut Shared) {
        let Shared { plan, tally, .. } = shared;
        let now = Instant::now();
        // No number of ours is as high, and it counts as invented.
        let number = message.id.as_str().parse().unwrap_or(u64::MAX - 1);
        let is_unchanged = message.body.get() == self.body.get();
        if let Some(sent_at) = self.ledger.delivered(number, place(number), is_unchanged, false) {
            tally.delivered(sent_at, now, plan.counts(now));
        }
    }
}

fn ended(why: &Closed) -> CliError {
    CliError::new(format!("a client came to its end: {why}"))
}

/// What the message with this number is called.
#[allow(clippy::unwrap_used, reason = "digits are a message id")]
fn name(number: u64) -> MessageId {
    MessageId::new(&number.to_string()).unwrap()
}

fn place(number: u64) -> u64 {
    number + 1
}

fn why(cause: &SendFailure) -> String {
    match cause {
        SendFailure::Rejected { code, .. } => code.to_string(),
        SendFailure::TimedOut { .. } => "no answer in time".to_owned(),
        other => other.to_string(),
    }
}

/// `measured` is shorter than asked for when the run was interrupted.
fn report(
    args: &ClientArgs,
    measured: Duration,
    tally: &Tally,
    costs: &Costs,
    (faults, reconnects): (Faults, u64),
) -> Report {
    let (delivered, accepted) = (tally.delivery.count(), tally.accept.count());
    let (per_second, seconds) = (report::rate(delivered, measured), report::seconds(measured));
    let pairs = count(args.pairs, "pair");
    let mut lines = vec![
        format!("{pairs}, each send awaited before the next, {}-byte bodies, {seconds} s", args.size),
        String::new(),
        format!("delivered    {per_second:>10.0} messages/s  ({delivered} in all)"),
        format!("accepted     {accepted:>10}"),
        format!("connections  {reconnects:>10} lost and made again"),
    ];
    lines.extend(costs.lines(delivered));
    let library_us = costs.load.map(|load| load.us_per(delivered));
    lines.extend(library_us.map(|us| format!("library      {us:.2} µs of CPU a message, for both of its ends")));
    lines.extend([String::new(), Latency::head(), tally.delivery.line("to arrive"), tally.accept.line("to accept")]);
    lines.extend(refusals(tally));
    let figures = json!({
        "scenario": "client",
        "pairs": args.pairs,
        "size_bytes": args.size,
        "duration_s": seconds,
        "delivered": delivered,
        "accepted": accepted,
        "reconnects": reconnects,
        "messages_per_second": per_second.round(),
        "delivery_us": tally.delivery.json(),
        "accept_us": tally.accept.json(),
        "stored_share": tally.stored_share(),
        "rejected": tally.rejected,
    });
    Report::new(lines, [figures, costs.json(delivered)], faults)
}
