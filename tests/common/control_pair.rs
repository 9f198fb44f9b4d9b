//! Two users who mind their own business while something hostile happens to the same daemon. None of
//! their messages may be lost, reordered, repeated or held up. Must never share a user with the test.
//!
//! The pair runs as a task: tests that use it want `#[tokio::test(flavor = "multi_thread")]`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::client::{Options, TestClient};
use super::daemon::Daemon;
use super::history::{History, Report};

/// Messages in each direction per round.
const BURST: u64 = 3;
/// From one round to the next: steady, and light enough to leave the machine to the test.
const PACE: Duration = Duration::from_millis(10);
/// A round that takes longer was held up. Far above what an honest router needs on a busy machine,
/// far below any of its timeouts.
pub const HELD_UP: Duration = Duration::from_secs(5);

/// What the pair saw.
#[derive(Debug, Clone)]
pub struct Witness {
    /// Messages delivered and acknowledged, both directions together.
    pub messages: u64,
    pub slowest_round: Duration,
    pub report: Report,
}

pub struct ControlPair {
    enough: watch::Sender<bool>,
    rounds: watch::Receiver<u64>,
    task: JoinHandle<Witness>,
}

impl ControlPair {
    /// Connects `NAME-left` and `NAME-right` and sets them talking; returns after their first round.
    pub async fn start(daemon: &Daemon, name: &str) -> Self {
        Self::start_as(daemon, name, |_, options| options).await
    }

    /// As [`Self::start`], where a client needs more than its name: `dress(user, options)` adds it.
    pub async fn start_as(daemon: &Daemon, name: &str, dress: impl Fn(&str, Options) -> Options) -> Self {
        let history = History::new();
        let users = [format!("{name}-left"), format!("{name}-right")];
        let mut pair = Vec::new();
        for user in &users {
            let options = dress(user, Options::of(user, "control").record(&history));
            let mut client = TestClient::open(daemon, options).await;
            client.expect("caught_up").await;
            pair.push(client);
        }
        let (right, left) = (pair.pop().unwrap(), pair.pop().unwrap());
        let (enough, stop) = watch::channel(false);
        let (progress, rounds) = watch::channel(0);
        let task = tokio::spawn(talk(users, left, right, history, stop, progress));
        let mut pair = Self { enough, rounds, task };
        pair.rounds_more(1).await;
        pair
    }

    /// Returns after `count` further rounds, so that a test can be sure that they happened meanwhile.
    pub async fn rounds_more(&mut self, count: u64) {
        let target = *self.rounds.borrow() + count;
        // An error means that the task has ended early; `finish` tells why.
        let _ended = self.rounds.wait_for(|done| *done >= target).await.is_err();
    }

    /// Ends the conversation after a last round; panics with the reason when anything was not as promised.
    pub async fn finish(mut self) -> Witness {
        self.rounds_more(1).await;
        self.enough.send_replace(true);
        match self.task.await {
            Ok(witness) => witness,
            Err(failure) => std::panic::resume_unwind(failure.into_panic()),
        }
    }
}

async fn talk(
    users: [String; 2],
    mut left: TestClient,
    mut right: TestClient,
    history: History,
    stop: watch::Receiver<bool>,
    progress: watch::Sender<u64>,
) -> Witness {
    let [left_name, right_name] = &users;
    let (mut round, mut slowest_round) = (0, Duration::ZERO);
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !*stop.borrow() {
        pace.tick().await;
        let began = Instant::now();
        let both = async {
            tokio::join!(
                half_round(&mut left, left_name, right_name, round),
                half_round(&mut right, right_name, left_name, round),
            )
        };
        let done = timeout(HELD_UP, both).await;
        assert!(done.is_ok(), "round {round} of the control pair was held up for more than {HELD_UP:?}");
        slowest_round = slowest_round.max(began.elapsed());
        round += 1;
        progress.send_replace(round);
    }
    let report = history.assert_clean();
    assert_eq!(report.redeliveries, 0, "the control pair never reconnects, so nothing can come twice");
    Witness { messages: 2 * BURST * round, slowest_round, report }
}

/// Sends a burst, receives the other side's, acknowledges it, and sees its own answered.
async fn half_round(client: &mut TestClient, own: &str, other: &str, round: u64) {
    for number in burst(round) {
        client.send(other, &format!("{own}:{number}"), json!({"number": number})).await;
    }
    for number in burst(round) {
        let message = client.pick("message").await;
        assert_eq!(message["from"], other, "{message}");
        assert_eq!(message["body"], json!({"number": number}), "out of its turn: {message}");
        client.ack(message["seq"].as_u64().unwrap()).await;
    }
    for _ in burst(round) {
        let answer: Value = client.pick("accepted").await;
        assert_eq!(answer["to"], other, "{answer}");
    }
}

fn burst(round: u64) -> std::ops::Range<u64> {
    round * BURST..(round + 1) * BURST
}
