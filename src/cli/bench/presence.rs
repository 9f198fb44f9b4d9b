//! `presence`: one user whom many watch changes state again and again; then many users whom some watch come online.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Notify, watch};

use super::crew::{self, Crew};
use super::door::{self, Door, Target};
use super::keeper;
use super::lane::Lane;
use super::mailbox::{leave_all, stop_now};
use super::pair::unwelcome;
use super::plan::Plan;
use super::process::Costs;
use super::report::{self, Report};
use super::said::{Said, Seen};
use super::tally::{Latency, Shared, locked};
use super::{CONNECTIONS_MAX, duration};
use crate::cli::table::count;
use crate::cli::{CliError, Global};
use crate::limits::WATCH_USERS_MAX;
use crate::presence::PresenceState;
use crate::protocol::frames::ClientFrame;

/// Longer than a run is believed to take.
const LASTING: Duration = Duration::from_secs(3600);
/// Between two changes: the router takes no more than 20 a second of one user.
const CHANGE_EVERY: Duration = Duration::from_millis(60);
/// How long to wait until everybody has been told.
const TOLD_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, clap::Args)]
pub(super) struct PresenceArgs {
    /// Users who watch
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    watchers: u32,
    /// Times that the one whom all watch changes state, 0 to 10000
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    changes: u32,
    /// Users who come online afterwards, 0 to 998: a session may watch 1000 by default
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(0..=998))]
    arrivals: u32,
    /// Watchers of each of those, up to all
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=CONNECTIONS_MAX))]
    watchers_each: u32,
    /// The time over which they come
    #[arg(long, default_value = "1s", value_parser = duration)]
    within: Duration,
    #[command(flatten)]
    target: Target,
}

/// What is to be seen, and who has seen it. The one whom all watch is number 0, the arrivals come after.
struct Board {
    expected: Option<(&'static str, Instant)>,
    came: Vec<Option<Instant>>,
    /// Of the change that is under way, or of all arrivals.
    seen: u64,
    each: Latency,
    all: Latency,
    arrivals: Latency,
    frames: u64,
}

type Boarded = Arc<(Mutex<Board>, Notify)>;

fn board(boarded: &Boarded) -> MutexGuard<'_, Board> {
    boarded.0.lock().unwrap_or_else(PoisonError::into_inner)
}

/// # Errors
/// When there is no router, or when it closes a connection.
pub(super) async fn run(global: &Global, args: PresenceArgs) -> Result<(), CliError> {
    keeper::allow_many_connections();
    let mut interrupts = door::interrupts()?;
    let door = Arc::new(Door::of(global, &args.target, LASTING).await?);
    let star = door.enter(&door.name("seen", 0)?).await?;
    let enter = async |n| door.enter(&door.name("watcher", n)?).await;
    let lanes = door::enter_all(args.watchers as usize, &mut interrupts, enter, Lane::leave).await?;
    let shared = Shared::new(Plan::starting_now(Duration::ZERO, LASTING))?;
    let boarded: Boarded = Arc::new((Mutex::new(Board::new(args.arrivals)?), Notify::new()));
    let (end, ended) = watch::channel(false);
    tokio::spawn(keeper::end_with_plan(shared.clone(), end));
    let mut crew = Crew::new();
    for (n, mut lane) in (0..).zip(lanes) {
        watch_users(&door, &mut lane, if n < args.watchers_each { args.arrivals } else { 0 })?;
        let (kept, ended, boarded) = (shared.clone(), ended.clone(), boarded.clone());
        let hear = hear(boarded);
        crew.spawn(async move { Ok((vec![keeper::keep(lane, kept, ended, hear).await?], Outcome::default())) });
    }
    crew.spawn(direct(args.clone(), door.clone(), star, shared.clone(), boarded.clone(), ended));
    let found = crew::watch(crew, &shared, &mut interrupts, crew::UNCOUNTED).await?;
    let (lanes, outcomes): (Vec<_>, Vec<_>) = found.into_iter().unzip();
    leave_all(lanes.into_iter().flatten().collect()).await;
    let outcome = outcomes.into_iter().find(|outcome| outcome.is_real).unwrap_or_default();
    report(&args, &outcome, &board(&boarded)).print(global, false)
}

/// What the director saw.
#[derive(Default)]
struct Outcome {
    is_real: bool,
    /// Changes, and arrivals, that not everybody was told of in time.
    untold: u64,
    arrived_in: Duration,
    costs: Costs,
}

fn watch_users(door: &Door, lane: &mut Lane, arrivals: u32) -> Result<(), CliError> {
    let names = (0..=arrivals as usize).map(|n| Ok(door.name("seen", n)?.to_string()));
    let names: Vec<String> = names.collect::<Result<_, CliError>>()?;
    names.chunks(WATCH_USERS_MAX).for_each(|some| lane.say(&ClientFrame::Watch { users: some.to_vec() }));
    Ok(())
}

/// The ear of one watcher. An entry that is not newer than the one before says that versions went back.
fn hear(boarded: Boarded) -> impl FnMut(Instant, Said<'_>) -> Result<(), CliError> {
    let mut versions: HashMap<u32, u64> = HashMap::new();
    move |now, said| match said {
        Said::Presence { users } => {
            let mut board = board(&boarded);
            board.frames += 1;
            for entry in &users {
                let Some(number) = entry.user.rsplit('-').next().and_then(|n| n.parse().ok()) else { continue };
                let before = versions.insert(number, entry.version);
                if before.is_some_and(|before| before >= entry.version) {
                    return Err(CliError::new(format!("a version of {} went back", entry.user)));
                }
                if board.note(number, entry, now) {
                    boarded.1.notify_one();
                }
            }
            Ok(())
        }
        other => unwelcome(&other),
    }
}

impl Board {
    fn new(arrivals: u32) -> Result<Self, CliError> {
        Ok(Self {
            expected: Some(("online", Instant::now())),
            came: vec![None; arrivals as usize],
            seen: 0,
            each: Latency::new()?,
            all: Latency::new()?,
            arrivals: Latency::new()?,
            frames: 0,
        })
    }

    /// From here on it is changes that are measured.
    fn forget_answers(&mut self) -> Result<(), CliError> {
        (self.each, self.frames) = (Latency::new()?, 0);
        Ok(())
    }

    /// True when it was something to be seen.
    fn note(&mut self, number: u32, entry: &Seen<'_>, now: Instant) -> bool {
        let since = match number.checked_sub(1) {
            None => self.expected.filter(|(state, _)| *state == entry.state).map(|(_, at)| at),
            Some(n) => self.came.get(n as usize).copied().flatten().filter(|_| entry.state == "online"),
        };
        let Some(since) = since else { return false };
        self.seen += 1;
        let latency = if number == 0 { &mut self.each } else { &mut self.arrivals };
        latency.record(now.saturating_duration_since(since));
        true
    }
}

/// Has the one change and the others come, and waits each time until all have been told.
async fn direct(
    args: PresenceArgs,
    door: Arc<Door>,
    mut star: Lane,
    shared: Arc<Mutex<Shared>>,
    boarded: Boarded,
    ended: watch::Receiver<bool>,
) -> Result<(Vec<Lane>, Outcome), CliError> {
    let mut untold = 0;
    // Every watch is answered with a frame. Until all have theirs, that is what a change would wait for.
    attend(&mut star, &shared, all_told(&boarded, u64::from(args.watchers), &mut untold)).await?;
    board(&boarded).forget_answers()?;
    let before = door.look();
    for n in 0..args.changes {
        if *ended.borrow() {
            break;
        }
        let began = Instant::now();
        let state = if n % 2 == 0 { PresenceState::Away } else { PresenceState::Online };
        let word = if n % 2 == 0 { "away" } else { "online" };
        {
            let mut board = board(&boarded);
            (board.expected, board.seen) = (Some((word, began)), 0);
        }
        star.say(&ClientFrame::Status { state, text: None });
        let untold_before = untold;
        attend(&mut star, &shared, all_told(&boarded, u64::from(args.watchers), &mut untold)).await?;
        if untold == untold_before {
            board(&boarded).all.record(began.elapsed());
        }
        attend(&mut star, &shared, tokio::time::sleep_until((began + CHANGE_EVERY).into())).await?;
    }
    {
        let mut board = board(&boarded);
        (board.expected, board.seen) = (None, 0);
    }
    let began = Instant::now();
    let mut lanes = vec![star];
    let mut entering = futures::stream::FuturesUnordered::new();
    for n in 0..args.arrivals {
        let (door, boarded) = (&door, &boarded);
        entering.push(async move {
            tokio::time::sleep_until((began + args.within * n / args.arrivals.max(1)).into()).await;
            let user = door.name("seen", n as usize + 1)?;
            if let Some(came) = board(boarded).came.get_mut(n as usize) {
                *came = Some(Instant::now());
            }
            door.enter(&user).await
        });
    }
    while let Some(entered) = futures::StreamExt::next(&mut entering).await {
        lanes.push(entered?);
    }
    drop(entering);
    let expected = u64::from(args.arrivals) * u64::from(args.watchers_each.min(args.watchers));
    all_told(&boarded, expected, &mut untold).await;
    let outcome = Outcome { is_real: true, untold, arrived_in: began.elapsed(), costs: before.until(&door.look()) };
    stop_now(&shared);
    Ok((lanes, outcome))
}

/// Keeps the lane alive while something else is waited for.
async fn attend(lane: &mut Lane, shared: &Mutex<Shared>, until: impl Future<Output = ()>) -> Result<(), CliError> {
    let attended = std::future::poll_fn(|cx| -> Poll<Result<(), CliError>> {
        lane.read(cx, &mut locked(shared).buffer, |_, said| unwelcome(&said))?;
        lane.flush(cx)?;
        Poll::Pending
    });
    tokio::select! {
        attended = attended => attended,
        () = until => Ok(()),
    }
}

/// Waits until so many have seen it, and no longer than that is worth.
async fn all_told(boarded: &Boarded, expected: u64, untold: &mut u64) {
    let told = async {
        while board(boarded).seen < expected {
            boarded.1.notified().await;
        }
    };
    if tokio::time::timeout(TOLD_MAX, told).await.is_err() {
        *untold += expected - board(boarded).seen.min(expected);
    }
}

fn report(args: &PresenceArgs, outcome: &Outcome, board: &Board) -> Report {
    let entries = board.each.count() + board.arrivals.count();
    let mut lines = vec![
        format!(
            "{} of one user with {}, then {} with {} each",
            count(args.changes, "change"),
            count(args.watchers, "watcher"),
            count(args.arrivals, "arrival"),
            args.watchers_each.min(args.watchers),
        ),
        String::new(),
        format!("told         {entries:>10} entries in {} frames", board.frames),
        format!("arrivals     {:>10.3} s from the first until everybody knew of all", outcome.arrived_in.as_secs_f64()),
    ];
    lines.extend(outcome.costs.lines(entries).iter().map(|line| line.replace("a message", "an entry")));
    lines.extend([
        String::new(),
        Latency::head(),
        board.each.line("a change"),
        board.all.line("to all"),
        board.arrivals.line("an arrival"),
    ]);
    if outcome.untold > 0 {
        lines.push(format!("NOT TOLD: {} entries did not come within {} s", outcome.untold, TOLD_MAX.as_secs()));
    }
    let figures = json!({
        "scenario": "presence",
        "watchers": args.watchers,
        "changes": args.changes,
        "arrivals": args.arrivals,
        "watchers_each": args.watchers_each.min(args.watchers),
        "within_s": report::seconds(args.within),
        "entries": entries,
        "frames": board.frames,
        "change_us": board.each.json(),
        "to_all_us": board.all.json(),
        "arrival_us": board.arrivals.json(),
        "arrived_in_s": report::seconds(outcome.arrived_in),
        "untold": outcome.untold,
    });
    Report::without_messages(lines, [figures, outcome.costs.json(entries)])
}
