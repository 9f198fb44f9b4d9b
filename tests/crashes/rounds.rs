//! Rounds of load that end in a crash: who does what, when the crash comes, what it met. After the last
//! one everything is drained and the history judged. Works on any router that can be crashed.
//!
//! `DOORSTEP_SEED` replays the shape of a run: who sends what to whom, the habits, the settings and the
//! order of the phases. The moments are the machine's. `DOORSTEP_ROUNDS` runs another number of rounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::board::{Board, RECENT, Sight};
use super::devices::{self, Cut, Device, Habit};
use super::senders::{self, Sender};
use crate::common::client::{Options, TestClient};
use crate::common::history::{History, Report};
use crate::common::wait;

/// Sends that a crash leaves unanswered, at least.
pub const UNANSWERED_MIN: usize = 50;
/// Waited for before a crash, so that enough are left when the answers under way have been read.
const UNANSWERED_WANTED: usize = 110;
/// Accepted sends before a phase counts as reached; a router that accepted fewer has "just started". Not a
/// matter of its age: on a slow machine all comes later.
const WARM: u64 = 150;
/// Of so many rounds, on average, one is begun by a life that ends while the router starts.
const STUMBLES: u8 = 4;

const SENDERS: usize = 5;
/// Sends that one sender keeps unanswered, at most: more than this a session does not take.
const WINDOW_MAX: usize = 240;
/// A steady sender sends one message in such a time, in milliseconds.
const PACES_MS: [u64; 3] = [1, 4, 15];
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
    /// `phase` is what it should be in the middle of; false when it ended by itself before.
    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng) -> bool;
    /// Begins to start, and crashes before it is done; false when it cannot.
    async fn stumble(&mut self, _knobs: &Knobs, _rng: &mut fastrand::Rng) -> bool {
        false
    }
    /// In the middle of what it can be crashed.
    fn phases(&self) -> &'static [Phase];
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
    /// The router was told to stop, and is about it.
    Stopping,
}

impl Phase {
    pub const ALL: [Self; 6] =
        [Self::Elided, Self::Stored, Self::Replay, Self::Takeover, Self::JustStarted, Self::Stopping];

    /// Whether what the clients see is the middle of this phase.
    fn is_reached(self, sight: &Sight, takeovers: u64) -> bool {
        let warm = sight.accepted >= WARM && sight.unanswered >= UNANSWERED_WANTED;
        match self {
            Self::Elided => warm && sight.recently_handed_over() > RECENT * 3 / 4,
            Self::Stored => warm && sight.recently_stored() > RECENT * 3 / 4,
            Self::Replay => warm && sight.replaying > 0,
            Self::Takeover => warm && sight.taking_over > 0 && sight.takeovers >= takeovers,
            Self::JustStarted => sight.unanswered >= UNANSWERED_WANTED,
            Self::Stopping => warm,
        }
    }
}

/// The whole run: rounds until every phase was met often enough, then the verdict, which must be clean.
pub async fn run(victim: &mut impl Victim, rounds: usize) -> Report {
    let report = play(victim, rounds).await;
    println!("{report}");
    assert!(report.faults.is_empty(), "the contract was broken: {report}");
    report
}

/// As [`run`], for victims that may break the contract.
pub async fn play(victim: &mut impl Victim, rounds: usize) -> Report {
    let (seed, rounds) = (number("DOORSTEP_SEED").unwrap_or_else(|| fastrand::u64(..)), rounds_or(rounds));
    println!("DOORSTEP_SEED={seed} replays the shape of this run");
    let mut stage = Stage::new(seed);
    stage.set(victim).await;
    let mut phases: Vec<_> = victim.phases().iter().copied().cycle().take(rounds).collect();
    stage.rng.shuffle(&mut phases);
    let mut met: BTreeMap<Phase, usize> = BTreeMap::new();
    let (mut repeats, repeats_max) = (0, 10 + rounds);
    for (number, phase) in phases.into_iter().enumerate() {
        loop {
            let (unanswered, ends) = stage.round(victim, phase, number).await;
            // An orderly end answers what it can, so it leaves as many as it leaves.
            let is_enough = unanswered >= UNANSWERED_MIN || phase == Phase::Stopping;
            if is_enough {
                ends.iter().for_each(|phase| *met.entry(*phase).or_default() += 1);
            }
            if is_enough && ends.contains(&phase) {
                break;
            }
            repeats += 1;
            assert!(repeats <= repeats_max, "the crashes keep coming at the wrong moment: {met:?}");
        }
    }
    println!("{rounds} rounds, {repeats} repeated, {} crashed while starting; met: {met:?}", stage.stumbles);
    stage.settle(victim).await
}

fn rounds_or(rounds: usize) -> usize {
    number("DOORSTEP_ROUNDS").map_or(rounds, |given| given as usize)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

struct Stage {
    history: History,
    rng: fastrand::Rng,
    senders: Vec<Sender>,
    /// Lives that ended while they began.
    stumbles: usize,
}

impl Stage {
    fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let history = History::new();
        let senders = (0..SENDERS).map(|n| Sender::new(&format!("sender-{n}"), &history, rng.fork())).collect();
        Self { history, rng, senders, stumbles: 0 }
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
        if self.rng.u8(..STUMBLES) == 0 && victim.stumble(&knobs, &mut self.rng).await {
            self.stumbles += 1;
        }
        victim.start(&knobs).await;
        let (url, began) = (victim.url(), Instant::now());
        let mut devices = JoinSet::new();
        for (user, name) in everyone() {
            let device = Device::new(user, name, &self.history, self.rng.fork(), board.clone());
            let plan = devices::Plan { habit: self.habit(phase), comes_at: self.comes_at(phase) };
            devices.spawn(device.work(url.clone(), plan));
        }
        let plans = self.plans(phase);
        let senders = self.senders.drain(..).zip(plans);
        let senders: JoinSet<Sender> =
            senders.map(|(sender, plan)| sender.work(url.clone(), plan, board.clone())).collect();
        let takeovers = self.rng.u64(..8);
        let sight = board.over_when(|sight| phase.is_reached(sight, takeovers)).await;
        let age = began.elapsed();
        let in_time = victim.crash(phase, &mut self.rng).await;
        self.senders = join(senders).await;
        let cuts = join(devices).await;
        let unanswered = self.senders.iter().map(Sender::unanswered).sum();
        let mut ends = ends(&sight, &cuts);
        if phase == Phase::Stopping && in_time {
            ends.push(phase);
        }
        println!("round {number}, {phase:?}: crashed at {age:.1?} with {unanswered} sends unanswered, in {ends:?}");
        (unanswered, ends)
    }

    /// Everything is answered, delivered and acknowledged, and the history is judged.
    async fn settle(mut self, victim: &mut impl Victim) -> Report {
        let knobs = self.knobs(Phase::Stored);
        victim.start(&knobs).await;
        let url = victim.url();
        let plan = senders::Plan { produces: false, pace: None, ..self.plan(Phase::Stored) };
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
        self.history.check()
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

    /// Some of the senders keep many sends unanswered, some send steadily, some only repeat what they must.
    fn plans(&mut self, phase: Phase) -> Vec<senders::Plan> {
        let plan = self.plan(phase);
        let bursts = self.rng.usize(1..=SENDERS);
        let window = (plan.window / bursts).min(WINDOW_MAX);
        let mut plans = vec![senders::Plan { window, ..plan.clone() }; bursts];
        while plans.len() < SENDERS {
            let pace = self.rng.bool().then(|| Duration::from_millis(PACES_MS[self.rng.usize(..PACES_MS.len())]));
            plans.push(senders::Plan { window: 8, pace, produces: pace.is_some(), ..plan.clone() });
        }
        self.rng.shuffle(&mut plans);
        plans
    }

    /// What they all share; the window is that of all together.
    fn plan(&mut self, phase: Phase) -> senders::Plan {
        // Whoever falls behind is served from disk, and with senders like these for good. So where nothing
        // shall be stored, all devices are there first and everything fits their windows.
        let elides = phase == Phase::Elided;
        let mut targets: Vec<String> = CAST.iter().map(|(user, _)| (*user).to_owned()).collect();
        self.rng.shuffle(&mut targets);
        targets.truncate(self.rng.usize(if elides { 2 } else { 1 }..=CAST.len()));
        senders::Plan {
            window: if elides { self.rng.usize(180..220) } else { self.rng.usize(240..640) },
            waits_for: if elides { everyone().count() } else { 0 },
            targets,
            // The largest ones fill tables and turn journals over.
            body_bytes_max: [16, 256, 2048, 32 << 10][self.rng.usize(..if elides { 3 } else { 4 })],
            produces: true,
            pace: None,
        }
    }

    fn habit(&mut self, phase: Phase) -> Habit {
        let slow = Habit::Slow { window: self.rng.u32(1..12) };
        let choices: &[Habit] = match phase {
            Phase::Elided => &[Habit::Prompt],
            Phase::Stored => &[Habit::Absent, Habit::Absent, slow, Habit::Flaky],
            Phase::Replay => &[slow, slow, Habit::Flaky],
            Phase::Takeover => &[Habit::TakingOver, Habit::TakingOver, Habit::Prompt, slow],
            Phase::JustStarted | Phase::Stopping => {
                &[Habit::Prompt, Habit::Flaky, Habit::TakingOver, slow, Habit::Absent]
            }
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
        // Only who crashed it can tell.
        Phase::Stopping => false,
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
