//! Goal: a power cut at any instant of the real daemon loses no accepted message, whatever its disk had kept
//! of what was not synced; and a daemon that does not sync is found out by the very same test.
//! Method: lives of the real binary under random load on a disk of the tests' own. In the middle of elision,
//! storing, replay, takeover, a start or an orderly end the disk stops to answer and forgets what was not
//! synced, or keeps a part that is drawn; the process is killed, the disk mounted again, the router started.
//! Clients repeat what was not answered; at the end all is drained and the history checker judges the whole.

use std::time::{Duration, Instant};

use doorstep::planted::Bug;

use crate::common::daemon::{Daemon, Settings};
use crate::common::history::Fault;
use crate::rounds::{self, Knobs, Phase, Victim};
use crate::shim::Disk;
use crate::shim::cut::{Cut, Unsynced};

const ROUNDS: usize = 12;
/// Rounds in which a daemon that does not sync must have lost something.
const PLANTED_ROUNDS: usize = 3;
/// An orderly end under load may take so long before it is cut short, in milliseconds.
const STOP_MS_MAX: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_of_the_real_daemon_loses_nothing() {
    let Some(mut machine) = Machine::new() else { return };
    let report = rounds::run(&mut machine, ROUNDS).await;
    let Machine { cuts, disk, .. } = &machine;
    println!("what the cuts did to files and folders that were not synced: {cuts:?}; {} syncs since", disk.syncs());
    assert!(report.accepted_stored > 300 && report.accepted_handed_over > 100, "too little happened: {report}");
    assert!(report.redeliveries > 0, "with cuts like these something must come twice: {report}");
    assert!(cuts.lost > 0 && cuts.unsynced > 10, "the cuts met nothing: {cuts:?}");
}

/// The proof that the disk forgets, and that the judge sees it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_does_not_sync_is_found_out() {
    let Some(mut machine) = Machine::new() else { return };
    (machine.plants, machine.phases) = (Some(Bug::NoSync), &[Phase::Stored]);
    // A disk that kept some of it may leave holes, and with those the daemon would not even start.
    machine.forgets_all = true;
    let report = rounds::play(&mut machine, PLANTED_ROUNDS).await;
    println!("{report}");
    let lost = report.faults.iter().filter(|fault| matches!(fault, Fault::Lost { .. })).count();
    assert!(lost > 0, "it does not sync, and nothing was lost: {report}");
}

struct Machine {
    // First, so that it is gone when the disk is unmounted.
    daemon: Option<Daemon>,
    disk: Disk,
    phases: &'static [Phase],
    /// A mistake of all lives but the first, in which everybody registers.
    plants: Option<Bug>,
    /// Nothing is kept of what was not synced.
    forgets_all: bool,
    cuts: Cut,
    /// How long the latest start took.
    start: Duration,
}

impl Machine {
    fn new() -> Option<Self> {
        let disk = Disk::mount()?;
        let (cuts, start) = (Cut::default(), Duration::ZERO);
        Some(Self { daemon: None, disk, phases: &Phase::ALL, plants: None, forgets_all: false, cuts, start })
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it was started")
    }

    fn cut(&mut self, rng: &mut fastrand::Rng) {
        self.disk.cut();
        self.daemon().kill9();
        let unsynced = if self.forgets_all || rng.u8(..3) == 0 { Unsynced::Lost } else { Unsynced::Drawn(rng.fork()) };
        self.cuts += self.disk.power_up(unsynced);
    }
}

impl Victim for Machine {
    async fn start(&mut self, knobs: &Knobs) {
        let began = Instant::now();
        let path = self.disk.store();
        match &mut self.daemon {
            Some(daemon) => {
                configure(daemon.settings(), knobs);
                if let Some(bug) = self.plants {
                    daemon.settings().plant(bug);
                }
                daemon.restart_anywhere().await;
            }
            None => {
                let start = Daemon::start(|settings| {
                    settings.set("store.path", path.to_str().expect("a temporary path in UTF-8"));
                    configure(settings, knobs);
                });
                self.daemon = Some(start.await);
            }
        }
        self.start = began.elapsed();
    }

    fn url(&self) -> String {
        self.daemon.as_ref().expect("it was started").url()
    }

    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng) -> bool {
        let mut in_time = true;
        if phase == Phase::Stopping {
            in_time = !self.daemon().ends_within(Duration::from_millis(rng.u64(..STOP_MS_MAX))).await;
        }
        self.cut(rng);
        in_time
    }

    async fn stumble(&mut self, knobs: &Knobs, rng: &mut fastrand::Rng) -> bool {
        let limit = self.start.mul_f64(rng.f64());
        configure(self.daemon().settings(), knobs);
        let listens = self.daemon().begin_restart(limit).await;
        self.cut(rng);
        !listens
    }

    fn phases(&self) -> &'static [Phase] {
        self.phases
    }
}

fn configure(settings: &mut Settings, knobs: &Knobs) {
    settings
        .set("gateway.listen", "127.0.0.1:0")
        .set("routing.shards", knobs.shards as i64)
        .set("store.commit_delay", format!("{}ms", knobs.commit_delay_ms))
        .set("store.page_messages", knobs.page_messages as i64)
        .set("routing.evict_after", "20ms");
}
