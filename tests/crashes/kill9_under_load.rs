//! Goal: SIGKILL at any instant loses no accepted message, keeps every order, and lets nothing come twice
//! without saying so.
//! Method: twenty-four lives of the real binary under random load, each ended by SIGKILL with at least fifty
//! sends unanswered, placed into the middle of elision, storing, replay, takeover, just after the start, or
//! into an orderly end. Some lives end before they listen. Clients repeat what was not answered; at the end
//! all is drained and the history checker judges the whole.

use std::time::{Duration, Instant};

use super::rounds::{self, Knobs, Phase, Victim};
use crate::common::daemon::{Daemon, Settings};

const ROUNDS: usize = 24;
/// An orderly end under load may take so long before it is cut short, in milliseconds.
const STOP_MS_MAX: u64 = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing() {
    let mut binary = Binary { daemon: None, start: Duration::ZERO };
    let report = rounds::run(&mut binary, ROUNDS).await;
    assert!(report.accepted_stored > 500 && report.accepted_handed_over > 200, "too little happened: {report}");
    assert!(report.redeliveries > 0, "with crashes like these something must come twice: {report}");
}

struct Binary {
    daemon: Option<Daemon>,
    /// How long the latest start took.
    start: Duration,
}

impl Binary {
    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it was started")
    }
}

impl Victim for Binary {
    async fn start(&mut self, knobs: &Knobs) {
        let began = Instant::now();
        match &mut self.daemon {
            Some(daemon) => {
                configure(daemon.settings(), knobs);
                daemon.restart_anywhere().await;
            }
            None => self.daemon = Some(Daemon::start(|settings| configure(settings, knobs)).await),
        }
        self.start = began.elapsed();
    }

    fn url(&self) -> String {
        self.daemon.as_ref().expect("it was started").url()
    }

    async fn crash(&mut self, phase: Phase, rng: &mut fastrand::Rng) -> bool {
        let daemon = self.daemon();
        let mut in_time = true;
        if phase == Phase::Stopping {
            in_time = !daemon.ends_within(Duration::from_millis(rng.u64(..STOP_MS_MAX))).await;
        }
        daemon.kill9();
        in_time
    }

    async fn stumble(&mut self, knobs: &Knobs, rng: &mut fastrand::Rng) -> bool {
        let limit = self.start.mul_f64(rng.f64());
        let daemon = self.daemon();
        configure(daemon.settings(), knobs);
        let listens = daemon.begin_restart(limit).await;
        daemon.kill9();
        !listens
    }

    fn phases(&self) -> &'static [Phase] {
        &Phase::ALL
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
