//! Goal: SIGKILL at any instant loses no accepted message, keeps every order, and lets nothing come twice
//! without saying so.
//! Method: twenty lives of the real binary under random load, each ended by SIGKILL with at least fifty
//! sends unanswered, placed into the middle of elision, storing, replay, takeover and start. Clients
//! repeat what was not answered; at the end all is drained and the history checker judges the whole.

use super::common::daemon::Daemon;
use super::rounds::{self, Knobs, Phase, Victim};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_9_under_load_loses_nothing() {
    let report = rounds::run(&mut Binary(None)).await;
    assert!(report.accepted_stored > 500 && report.accepted_handed_over > 200, "too little happened: {report}");
    assert!(report.redeliveries > 0, "with crashes like these something must come twice: {report}");
}

struct Binary(Option<Daemon>);

impl Victim for Binary {
    async fn start(&mut self, knobs: &Knobs) {
        let &Knobs { shards, commit_delay_ms, page_messages } = knobs;
        match &mut self.0 {
            Some(daemon) => {
                configure(daemon.settings(), shards, commit_delay_ms, page_messages);
                daemon.restart_anywhere().await;
            }
            None => {
                let start = Daemon::start(|settings| configure(settings, shards, commit_delay_ms, page_messages));
                self.0 = Some(start.await);
            }
        }
    }

    fn url(&self) -> String {
        self.0.as_ref().expect("it was started").url()
    }

    async fn crash(&mut self, _phase: Phase, _rng: &mut fastrand::Rng) {
        self.0.as_mut().expect("it was started").kill9();
    }
}

fn configure(settings: &mut super::common::daemon::Settings, shards: usize, delay_ms: u64, page_messages: usize) {
    settings
        .set("routing.shards", shards as i64)
        .set("store.commit_delay", format!("{delay_ms}ms"))
        .set("store.page_messages", page_messages as i64)
        .set("routing.evict_after", "20ms");
}
