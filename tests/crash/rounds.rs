//! Rounds of load that end in a crash: who does what, when the crash comes, what it met. After the last
//! one everything is drained and the history judged. Works on any router that can be crashed.
//!
//! `DOORSTEP_SEED` replays the shape of a run: who sends what to whom, the habits, the settings and the
//! order of the phases. The moments are the machine's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use tokio::task::JoinSet;

use super::board::{Board, RECENT, Sight};
use super::common::client::{Options, TestClient};
use super::common::history::{History, Report};
use super::common::wait;
use super::devices::{self, Cut, Device, Habit};
use super::senders::{self, Sender};

pub const ROUNDS: usize = 20;
/// Sends that a crash leaves unanswered, at least.
pub const UNANSWERED_MIN: usize = 50;
/// Waited for before a crash, so that enough are left when the answers under way have been read.
const UNANSWERED_WANTED: usize = 110;
/// Accepted sends before a phase counts as reached; a router that accepted fewer has "just started". Not a
/// matter of its age: on a slow machine all comes later.
const WARM: u64 = 150;
/// Times each phase is met over a run, at least.
const MET_MIN: usize = 3;
/// How often a round may be tried again because its crash came at the wrong moment.
const REPEATS_MAX: usize = 30;

const SENDERS: usize = 5;
/// Recipients with their devices.
const CAST: [(&str, &[&str]); 6] = [
    ("ann", &["phone"]),
    ("bea", &["phone", "laptop"]),
    ("cid", &["phone"]),
    ("dot", &["phone", "laptop"]),
    ("eve", &["phone", "laptop", "tablet"]),
    ("fay", &["phone"]),
];

/// A router that can be started and crashed.
pub trait Victim {
    async fn start(&mut self, knobs: &Knobs);
    fn url(&self) -> String;
    /// `phase` is what it should be in the middle of.
    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng);
}

/// What differs in the configuration from life to life.
#[derive(Debug, Clone, Copy)]
pub struct Knobs {
    pub shards: usize,
    pub commit_delay_ms: u64,
    pub page_messages: usize,
}

/// In the middle of what the crash comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Messages are handed over without touching the disk.
    Elided,
    /// Messages are stored.
    Stored,
    /// A device is being sent its backlog.
    Replay,
    /// A session is replacing another of its device.
    Takeover,
    /// The router has only just begun to listen.
    JustStarted,
}

impl Phase {
    const ALL: [Self; 5] = [Self::Elided, Self::Stored, Self::Replay, Self::Takeover, Self::JustStarted];

    /// Whether what the clients see is the middle of this phase.
    fn is_reached(self, sight: &Sight, takeovers: u64) -> bool {
        let warm = sight.accepted >= WARM && sight.unanswered >= UNANSWERED_WANTED;
        match self {
            Self::Elided => warm && sight.recently_handed_over() > RECENT * 3 / 4,
            Self::Stored => warm && sight.recently_stored() > RECENT * 3 / 4,
            Self::Replay => warm && sight.replaying > 0,
            Self::Takeover => warm && sight.taking_over > 0 && sight.takeovers >= takeovers,
            Self::JustStarted => sight.unanswered >= UNANSWERED_WANTED,
        }
    }
}

/// The whole run: rounds until every phase was met often enough, then the verdict.
pub async fn run(victim: &mut impl Victim) -> Report {
    let seed = seed();
    println!("DOORSTEP_SEED={seed} replays the shape of this run");
    let mut stage = Stage::new(seed);
    stage.set(victim).await;
    let mut phases = Phase::ALL.repeat(ROUNDS / Phase::ALL.len());
    stage.rng.shuffle(&mut phases);
    let mut met: BTreeMap<Phase, usize> = BTreeMap::new();
    let mut repeats = 0;
    for (number, phase) in phases.into_iter().enumerate() {
        loop {
            let (unanswered, ends) = stage.round(victim, phase, number).await;
            if unanswered >= UNANSWERED_MIN {
                ends.iter().for_each(|phase| *met.entry(*phase).or_default() += 1);
            }
            if unanswered >= UNANSWERED_MIN && ends.contains(&phase) {
                break;
            }
            repeats += 1;
            assert!(repeats <= REPEATS_MAX, "the crashes keep coming at the wrong moment: {met:?}");
        }
    }
    println!("crashes with at least {UNANSWERED_MIN} sends unanswered, by what they met: {met:?}; repeated: {repeats}");
    for phase in Phase::ALL {
        assert!(met.get(&phase).is_some_and(|times| *times >= MET_MIN), "{phase:?} was met too rarely: {met:?}");
    }
    let report = stage.settle(victim).await;
    println!("{report}");
    report
}

fn seed() -> u64 {
    let given = std::env::var("DOORSTEP_SEED").ok();
    given.map_or_else(|| fastrand::u64(..), |text| text.parse().expect("DOORSTEP_SEED is a number"))
}

struct Stage {
    history: History,
    rng: fastrand::Rng,
    senders: Vec<Sender>,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let history = History::new();
        let senders = (0..SENDERS).map(|n| Sender::new(&format!("sender-{n}"), &history, rng.fork())).collect();
        Self { history, rng, senders }
    }

    /// Registers every device, so that everything from now on is owed to all of them.
    async fn set(&mut self, victim: &mut impl Victim) {
        let knobs = self.knobs(Phase::Stored);
        victim.start(&knobs).await;
        for (user, device) in everyone() {
            let mut client = self.enter(&victim.url(), user, device).await;
            client.expect("caught_up").await;
            client.leave().await;
        }
        victim.crash(Phase::JustStarted, &mut self.rng).await;
    }

    /// One life of the router; returns the sends that its end left unanswered, and what it met.
    async fn round(&mut self, victim: &mut impl Victim, phase: Phase, number: usize) -> (usize, Vec<Phase>) {
        let knobs = self.knobs(phase);
        let board = Arc::new(Board::default());
        victim.start(&knobs).await;
        let (url, began) = (victim.url(), Instant::now());
        let mut devices = JoinSet::new();
        for (user, name) in everyone() {
            let device = Device::new(user, name, &self.history, self.rng.fork(), board.clone());
            let plan = devices::Plan { habit: self.habit(phase), comes_at: self.comes_at(phase) };
            devices.spawn(device.work(url.clone(), plan));
        }
        let plan = self.plan(phase);
        let senders: JoinSet<Sender> =
            self.senders.drain(..).map(|sender| sender.work(url.clone(), plan.clone(), board.clone())).collect();
        let takeovers = self.rng.u64(..8);
        let sight = board.over_when(|sight| phase.is_reached(sight, takeovers)).await;
        let age = began.elapsed();
        victim.crash(phase, &mut self.rng).await;
        self.senders = join(senders).await;
        let cuts = join(devices).await;
        let unanswered = self.senders.iter().map(Sender::unanswered).sum();
        let ends = ends(&sight, &cuts);
        println!("round {number}, {phase:?}: crashed at {age:.1?} with {unanswered} sends unanswered, in {ends:?}");
        (unanswered, ends)
    }

    /// Everything is answered, delivered and acknowledged; then the history is judged.
    async fn settle(mut self, victim: &mut impl Victim) -> Report {
        let knobs = self.knobs(Phase::Stored);
        victim.start(&knobs).await;
        let url = victim.url();
        let plan = senders::Plan { produces: false, ..self.plan(Phase::Stored) };
        let board = Arc::new(Board::default());
        let senders: JoinSet<Sender> =
            self.senders.drain(..).map(|sender| sender.work(url.clone(), plan.clone(), board.clone())).collect();
        join(senders).await;
        for (user, device) in everyone() {
            let mut client = self.enter(&url, user, device).await;
            loop {
                let frame = client.recv().await;
                let seq = frame["seq"].as_u64().unwrap();
                if frame["type"] == "caught_up" {
                    break;
                }
                client.ack(seq).await;
            }
            client.leave().await;
            let mut client = self.enter(&url, user, device).await;
            assert_eq!(client.welcome["pending"], 0, "{user}/{device} has acknowledged everything");
            client.expect("caught_up").await;
        }
        self.history.assert_clean()
    }

    async fn enter(&self, url: &str, user: &str, device: &str) -> TestClient {
        let options = Options::of(user, device).record(&self.history);
        match TestClient::attempt(url, &options).await {
            Ok(client) => client,
            Err(refused) => panic!("{user}/{device} was not welcomed: {refused:?}"),
        }
    }

    fn knobs(&mut self, phase: Phase) -> Knobs {
        let delays: &[u64] = if phase == Phase::Elided { &[500] } else { &[0, 2, 20, 100] };
        Knobs {
            shards: self.rng.usize(1..4),
            commit_delay_ms: delays[self.rng.usize(..delays.len())],
            page_messages: [1, 7, 64, 256][self.rng.usize(..4)],
        }
    }

    fn plan(&mut self, phase: Phase) -> senders::Plan {
        let mut targets: Vec<String> = CAST.iter().map(|(user, _)| (*user).to_owned()).collect();
        self.rng.shuffle(&mut targets);
        targets.truncate(self.rng.usize(2..=CAST.len()));
        // Whoever falls behind is served from disk, and with senders like these for good. So where nothing
        // shall be stored, all devices are there first and everything fits their windows.
        let elides = phase == Phase::Elided;
        senders::Plan {
            window: if elides { self.rng.usize(36..50) } else { self.rng.usize(48..128) },
            waits_for: if elides { everyone().count() } else { 0 },
            targets,
            body_bytes_max: [16, 256, 2048][self.rng.usize(..3)],
            produces: true,
        }
    }

    fn habit(&mut self, phase: Phase) -> Habit {
        let slow = Habit::Slow { window: self.rng.u32(1..12) };
        let choices: &[Habit] = match phase {
            Phase::Elided => &[Habit::Prompt],
            Phase::Stored => &[Habit::Absent, Habit::Absent, slow, Habit::Flaky],
            Phase::Replay => &[slow, slow, Habit::Flaky],
            Phase::Takeover => &[Habit::TakingOver, Habit::TakingOver, Habit::Prompt, slow],
            Phase::JustStarted => &[Habit::Prompt, Habit::Flaky, Habit::TakingOver, slow, Habit::Absent],
        };
        choices[self.rng.usize(..choices.len())]
    }

    /// For a replay there must be something that waits.
    fn comes_at(&mut self, phase: Phase) -> u64 {
        match phase {
            Phase::Elided => 0,
            Phase::Replay => self.rng.u64(300..800),
            _ => self.rng.u64(..3) * 20,
        }
    }
}

/// What the crash met, as its victims tell.
fn ends(sight: &Sight, cuts: &[Cut]) -> Vec<Phase> {
    let mostly_one_way = sight.accepted >= WARM;
    let met = |phase: &Phase| match phase {
        Phase::Elided => mostly_one_way && sight.recently_handed_over() > RECENT / 2,
        Phase::Stored => mostly_one_way && sight.recently_stored() > RECENT / 2,
        Phase::Replay => cuts.iter().any(|cut| cut.replay),
        Phase::Takeover => cuts.iter().any(|cut| cut.takeover),
        Phase::JustStarted => sight.accepted < WARM,
    };
    Phase::ALL.into_iter().filter(met).collect()
}

fn everyone() -> impl Iterator<Item = (&'static str, &'static str)> {
    CAST.into_iter().flat_map(|(user, devices)| devices.iter().map(move |device| (user, *device)))
}

async fn join<T: 'static>(mut tasks: JoinSet<T>) -> Vec<T> {
    let mut done = Vec::new();
    while let Some(ended) = wait::within("the end of an actor", tasks.join_next()).await {
        match ended {
            Ok(outcome) => done.push(outcome),
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
    done
}
