//! Goal: a power cut, which takes everything the disk had not synced, loses no accepted message either.
//! A kill -9 cannot show that: the page cache survives it.
//! Method: the same load and the same judge as for SIGKILL, over the engine in memory, which forgets at a
//! crash whatever was committed and not synced (or, by chance, keeps it). Before many of the cuts the
//! disk is held, so that a commit is under way when the power goes.

use std::time::Duration;

use doorstep::store::memory::Unsynced;

use super::common::inside::Inside;
use super::common::wait;
use super::rounds::{self, Knobs, Phase, Victim};

/// How long a cut waits for a commit to be under way; there may be nothing to commit.
const COMMIT_WAIT: Duration = Duration::from_millis(200);
/// Cuts with a commit under way over a run, at least.
const CUT_COMMITS_MIN: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_under_load_loses_nothing() {
    let mut machine = Machine { inside: None, cut_commits: 0 };
    let report = rounds::run(&mut machine).await;
    assert!(report.accepted_stored > 500 && report.accepted_handed_over > 200, "too little happened: {report}");
    println!("cut with a commit under way: {}", machine.cut_commits);
    assert!(machine.cut_commits >= CUT_COMMITS_MIN, "only {} cuts met a commit", machine.cut_commits);
}

struct Machine {
    inside: Option<Inside>,
    cut_commits: usize,
}

impl Victim for Machine {
    async fn start(&mut self, knobs: &Knobs) {
        let knobs = *knobs;
        let configure = |config: &mut doorstep::config::Config| {
            config.routing.shards = knobs.shards;
            config.store.commit_delay = Duration::from_millis(knobs.commit_delay_ms);
            config.store.page_messages = knobs.page_messages;
            config.routing.evict_after = Duration::from_millis(20);
        };
        match &mut self.inside {
            Some(inside) => {
                configure(&mut inside.config);
                inside.begin().await;
            }
            None => self.inside = Some(Inside::start(configure).await),
        }
    }

    fn url(&self) -> String {
        self.inside.as_ref().expect("it was started").url()
    }

    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng) {
        let inside = self.inside.as_mut().expect("it was started");
        let engine = inside.engine.clone();
        // A takeover or a start would be over by the time that a commit is under way.
        let may_wait = !matches!(phase, Phase::Takeover | Phase::JustStarted);
        let held = (may_wait && rng.bool()).then(|| (engine.commits(), engine.hold_commits()));
        if let Some((before, _gate)) = &held {
            let under_way = wait::until_within(COMMIT_WAIT, async || (engine.commits() > *before).then_some(())).await;
            self.cut_commits += usize::from(under_way.is_some());
        }
        inside.crash(if rng.bool() { Unsynced::Lost } else { Unsynced::Kept }).await;
    }
}
