//! `spill` and `replay`: senders write to users who are away, and the users come back.
//!
//! One pass over both; each scenario measures its own half, and the other is there all the same: nothing of a bench is
//! left behind, and what was accepted is known to have arrived.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::signal::unix::Signal;

use super::crew::{self, Counted, Crew};
use super::door::{self, CONNECTING_MAX, Door, Target};
use super::faults::Faults;
use super::keeper;
use super::latency::Schedule;
use super::mailbox::{self, Filled, Load};
use super::pair::{Pair, Work};
use super::plan::Plan;
use super::process::{Costs, hundredths, mib};
use super::relay::refusals;
use super::report::{self, Report};
use super::tally::{Latency, Shared, Tally, locked};
use super::{BODY_BYTES_MAX, PAIRS_MAX, say};
use crate::cli::table::count;
use crate::cli::{CliError, Global};

/// Longer than a run is believed to take.
const LASTING: Duration = Duration::from_secs(3600);
/// How long live pairs work before anybody comes back, to know how they do undisturbed.
const UNDISTURBED: Duration = Duration::from_secs(3);
const LIVE_WARMUP: Duration = Duration::from_secs(1);
const COUNTED: Counted = (|tally| tally.delivered_ever, "messages");

#[derive(Debug, Clone, clap::Args)]
pub(super) struct SpillArgs {
    /// Users who send
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    senders: u32,
    /// Users who are away, at least as many as senders
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    users: u32,
    /// Messages in all, up to 100000000
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    messages: u64,
    /// Sends that a sender keeps unanswered, 1 to 4096
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=4096))]
    window: u32,
    /// Bytes of a body, 2 to 65536
    #[arg(long, value_name = "BYTES", default_value_t = 200, value_parser = clap::value_parser!(u32).range(2..=BODY_BYTES_MAX))]
    size: u32,
    /// Of up to so many users who come back all stay, as people do; of more, each goes when it has everything
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    staying: u32,
    #[command(flatten)]
    target: Target,
    /// Fail unless everything accepted arrived once and in order, and every send was answered
    #[arg(long)]
    verify: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub(super) struct ReplayArgs {
    #[command(flatten)]
    spill: SpillArgs,
    /// Users who come back at the same time, 1 to 20000
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=PAIRS_MAX))]
    at_once: u32,
    /// Pairs of online users who exchange messages meanwhile, to see what they feel of it; 0 to 20000
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=PAIRS_MAX))]
    live_pairs: u32,
    /// Messages a second of all live pairs together, 1 to 1000000
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    live_rate: u32,
}

impl SpillArgs {
    fn load(&self) -> Load {
        Load {
            senders: self.senders as usize,
            users: self.users as usize,
            messages: self.messages,
            window: self.window as usize,
            staying_max: self.staying as usize,
            body: say::body(self.size).into(),
        }
    }

    fn json(&self) -> Value {
        json!({
            "senders": self.senders,
            "users": self.users,
            "messages": self.messages,
            "window": self.window,
            "size_bytes": self.size,
        })
    }

    fn title(&self) -> String {
        let Self { senders, users, messages, window, size, .. } = self;
        format!(
            "{} to {} who are away, {messages} messages, {} each, {size}-byte bodies",
            count(*senders, "sender"),
            count(*users, "user"),
            count(*window, "unanswered send"),
        )
    }
}

/// # Errors
/// When there is no router, when it closes a connection, or, with `--verify`, when it broke its word.
pub(super) async fn spill(global: &Global, args: SpillArgs) -> Result<(), CliError> {
    keeper::allow_many_connections();
    let mut interrupts = door::interrupts()?;
    let door = Arc::new(Door::of(global, &args.target, LASTING).await?);
    let load = args.load();
    let shared = Shared::new(Plan::starting_now(Duration::ZERO, LASTING))?;
    let filled = mailbox::fill(&door, &load, &shared, &mut interrupts).await?;
    let spilled = std::mem::replace(&mut locked(&shared).tally, Tally::new()?);
    let Filled { mailboxes, measured, costs, commits } = filled;
    let caught = mailbox::come_back(&door, &load, mailboxes, CONNECTING_MAX, &shared, &mut interrupts, COUNTED).await?;
    let faults = mailbox::judge(&door, caught).await;
    spill_report(&args, measured, &spilled, commits, &costs, faults).print(global, args.verify)
}

fn spill_report(
    args: &SpillArgs,
    measured: Duration,
    tally: &Tally,
    commits: Option<u64>,
    costs: &Costs,
    faults: Faults,
) -> Report {
    let accepted = tally.accept.count();
    let (per_second, seconds) = (report::rate(accepted, measured), report::seconds(measured));
    let each = commits.filter(|commits| *commits > 0).map(|commits| accepted as f64 / commits as f64);
    let bodies = mib((accepted * u64::from(args.size)) >> 10);
    let mut lines = vec![
        format!("{}, {seconds} s", args.title()),
        String::new(),
        format!("accepted     {per_second:>10.0} messages/s  ({accepted} in all, {bodies:.1} MiB of bodies)"),
        match commits.zip(each) {
            Some((commits, each)) => format!("commits      {commits:>10}  ({each:.1} messages each)"),
            None => "commits      unknown: --socket says where to ask".to_owned(),
        },
    ];
    lines
        .extend(costs.server.map(|server| format!("written      {:>10.1} MiB to the disk", mib(server.written >> 10))));
    lines.extend(costs.lines(accepted));
    lines.extend([String::new(), Latency::head(), tally.accept.line("to accept")]);
    lines.extend(refusals(tally));
    let figures = json!({
        "scenario": "spill",
        "duration_s": seconds,
        "accepted": accepted,
        "accepts_per_second": per_second.round(),
        "accept_us": tally.accept.json(),
        "stored_share": tally.stored_share(),
        "commits": commits,
        "messages_per_commit": each.map(hundredths),
        "rejected": tally.rejected,
    });
    Report::new(lines, [args.json(), figures, costs.json(accepted)], faults)
}

/// # Errors
/// As for [`spill`].
pub(super) async fn replay(global: &Global, args: ReplayArgs) -> Result<(), CliError> {
    keeper::allow_many_connections();
    let mut interrupts = door::interrupts()?;
    let door = Arc::new(Door::of(global, &args.spill.target, LASTING).await?);
    let load = args.spill.load();
    let shared = Shared::new(Plan::starting_now(Duration::ZERO, LASTING))?;
    let mailboxes = mailbox::fill(&door, &load, &shared, &mut interrupts).await?.mailboxes;
    let live = Live::start(&door, &args, &load, &mut interrupts).await?;
    locked(&shared).tally = Tally::new()?;
    let (before, began) = (door.look(), Instant::now());
    let caught =
        mailbox::come_back(&door, &load, mailboxes, args.at_once as usize, &shared, &mut interrupts, COUNTED).await?;
    let costs = before.until(&door.look());
    let ended = caught.iter().map(|caught| caught.caught_up_at).max().unwrap_or(began);
    let live = live.end(&mut interrupts).await?;
    let delivered = locked(&shared).tally.delivered_ever;
    let mut faults = mailbox::judge(&door, caught).await;
    live.iter().for_each(|live| faults.add(&live.faults));
    replay_report(&args, ended - began, delivered, live.as_ref(), &costs, faults).print(global, args.spill.verify)
}

fn replay_report(
    args: &ReplayArgs,
    measured: Duration,
    delivered: u64,
    live: Option<&LiveFigures>,
    costs: &Costs,
    faults: Faults,
) -> Report {
    let (per_second, seconds) = (report::rate(delivered, measured), report::seconds(measured));
    let mut lines = vec![
        format!("{}; back {} at a time, {seconds} s", args.spill.title(), args.at_once),
        String::new(),
        format!("replayed     {per_second:>10.0} messages/s  ({delivered} in all)"),
    ];
    lines.extend(costs.lines(delivered));
    if let Some(live) = live {
        lines.extend([
            String::new(),
            format!("{} meanwhile, {} messages/s due", count(args.live_pairs, "live pair"), args.live_rate),
            Latency::head(),
            live.before.delivery.line("before"),
            live.during.delivery.line("during"),
            live.during.late.line("sent late"),
        ]);
    }
    let live = live.map(|live| {
        json!({
            "before_us": live.before.delivery.json(),
            "during_us": live.during.delivery.json(),
            "sent_late_us": live.during.late.json(),
        })
    });
    let figures = json!({
        "scenario": "replay",
        "at_once": args.at_once,
        "live_pairs": args.live_pairs,
        "live_rate": args.live_rate,
        "duration_s": seconds,
        "delivered": delivered,
        "messages_per_second": per_second.round(),
        "live_delivery": live,
    });
    Report::new(lines, [args.spill.json(), figures, costs.json(delivered)], faults)
}

/// Pairs that go on meanwhile.
struct Live {
    shared: Arc<Mutex<Shared>>,
    before: Tally,
    crew: Crew<Faults>,
}

struct LiveFigures {
    before: Tally,
    during: Tally,
    faults: Faults,
}

impl Live {
    /// They come in and work undisturbed for a while.
    async fn start(
        door: &Arc<Door>,
        args: &ReplayArgs,
        load: &Load,
        interrupts: &mut Signal,
    ) -> Result<Self, CliError> {
        let work = Work { body: load.body.clone(), verify: false };
        let enter = |n| Pair::enter(door, "live", n, work.clone());
        let pairs = door::enter_all(args.live_pairs as usize, interrupts, enter, Pair::leave).await?;
        let shared = Shared::new(Plan::starting_now(LIVE_WARMUP, LASTING))?;
        let mut crew = Crew::new();
        if !pairs.is_empty() {
            let schedule = Schedule::new(Instant::now(), args.live_pairs, args.live_rate);
            for (pair, pace) in pairs.into_iter().zip(schedule.paces()) {
                crew.spawn(pair.run(pace, shared.clone()));
            }
            crew.spawn(schedule.keep(shared.clone()));
            tokio::time::sleep(LIVE_WARMUP + UNDISTURBED).await;
        }
        let before = std::mem::replace(&mut locked(&shared).tally, Tally::new()?);
        Ok(Self { shared, before, crew })
    }

    /// None when there were none.
    async fn end(self, interrupts: &mut Signal) -> Result<Option<LiveFigures>, CliError> {
        let Self { shared, before, crew } = self;
        if crew.is_empty() {
            return Ok(None);
        }
        mailbox::stop_now(&shared);
        let found = crew::watch(crew, &shared, interrupts, COUNTED).await?;
        let during = std::mem::replace(&mut locked(&shared).tally, Tally::new()?);
        Ok(Some(LiveFigures { before, during, faults: Faults::sum(&found) }))
    }
}
