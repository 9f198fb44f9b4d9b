//! Goal: a power cut, which takes everything the disk had not synced, loses no accepted message either.
//! A kill -9 cannot show that: the page cache survives it. Power cuts of the real binary are in `tests/crashes/power`;
//! here a cut can be put into the middle of a commit.
//! Method: the same load and the same judge as for SIGKILL, over the engine in memory, which forgets at a
//! crash whatever was committed and not synced (or keeps it, in turn). Every cut that is to meet storing
//! holds the disk first and waits for a commit, so that one is under way when the power goes; many cuts in
//! the middle of a replay do so too.

use std::time::Duration;

use doorstep::store::engine::Keyspace;
use doorstep::store::memory::Unsynced;

use super::rounds::{self, Knobs, Phase, Victim};
use crate::common::inside::Inside;
use crate::common::wait;

const ROUNDS: usize = 20;
/// An engine in memory takes no time to open, and its end is a matter of other tests.
const PHASES: [Phase; 5] = [Phase::Elided, Phase::Stored, Phase::Replay, Phase::Takeover, Phase::JustStarted];
/// How long a cut that need not meet a commit waits for one; there may be nothing to commit.
const COMMIT_WAIT: Duration = Duration::from_millis(200);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_under_load_loses_nothing() {
    let mut machine = Machine { inside: None, commits_lost: 0, commits_kept: 0 };
    let report = rounds::run(&mut machine, ROUNDS).await;
    assert!(report.accepted_stored > 500 && report.accepted_handed_over > 200, "too little happened: {report}");
    let Machine { commits_lost, commits_kept, .. } = machine;
    println!("cut with a commit under way: {commits_lost} that lost it, {commits_kept} that kept it");
    assert!(commits_lost >= 2 && commits_kept >= 1, "storing is cut in the middle of a commit, both ways");
}

struct Machine {
    inside: Option<Inside>,
    /// Cuts with a commit under way, by what became of it.
    commits_lost: usize,
    commits_kept: usize,
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

    fn phases(&self) -> &'static [Phase] {
        &PHASES
    }

    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng) -> bool {
        let inside = self.inside.as_mut().expect("it was started");
        let engine = inside.engine.clone();
        let waits_at_most = match phase {
            // Sends are unanswered, and their recipients cannot take them: messages must come to be stored.
            Phase::Stored => wait::PATIENCE,
            Phase::Replay => COMMIT_WAIT,
            Phase::Elided if rng.bool() => COMMIT_WAIT,
            // A takeover or a start would be over by the time that a commit is under way.
            _ => Duration::ZERO,
        };
        let mut gate = Some(engine.hold_commits());
        let held = wait::until_within(waits_at_most, async || {
            if engine.holds_commit_of(Keyspace::Inbox) {
                return Some(());
            }
            if engine.holds_a_commit() {
                // Cursors and the like: they may go on, and messages come with a later one.
                gate = None;
            } else {
                gate.get_or_insert_with(|| engine.hold_commits());
            }
            None
        });
        let held = held.await.is_some();
        assert!(phase != Phase::Stored || held, "no message is being stored");
        let unsynced = if self.commits_lost > self.commits_kept { Unsynced::Kept } else { Unsynced::Lost };
        if held {
            match unsynced {
                Unsynced::Lost => self.commits_lost += 1,
                Unsynced::Kept => self.commits_kept += 1,
            }
        }
        inside.crash(unsynced).await;
        true
    }
}
