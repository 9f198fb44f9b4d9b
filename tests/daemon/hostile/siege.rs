//! A daemon of the test's own with a control pair inside: what happens to it meanwhile may disturb neither
//! the pair nor the daemon's memory. Must never share a daemon between tests, or nobody could say whose
//! memory it is.

use crate::common::client::{Options, TestClient};
use crate::common::control_pair::ControlPair;
use crate::common::daemon::{Daemon, Settings};
use crate::common::wait;

/// By how much the daemon's memory may grow, whatever is done to it.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Rounds of the pair before memory is measured, so that what any daemon allocates once is not counted.
const WARM_UP_ROUNDS: u64 = 30;
/// Rounds of the pair after the last hostile act: it must be well then, too.
const LAST_ROUNDS: u64 = 5;

pub struct Siege {
    pub daemon: Daemon,
    pair: ControlPair,
    rss_before: u64,
}

impl Siege {
    pub async fn begin(configure: impl FnOnce(&mut Settings)) -> Self {
        Self::begin_as(configure, |_, options| options).await
    }

    /// As [`Self::begin`], where the pair needs more than its names to be let in.
    pub async fn begin_as(configure: impl FnOnce(&mut Settings), dress: impl Fn(&str, Options) -> Options) -> Self {
        let daemon = Daemon::start(configure).await;
        let mut pair = ControlPair::start_as(&daemon, "control", dress).await;
        pair.rounds_more(WARM_UP_ROUNDS).await;
        let rss_before = daemon.rss_bytes();
        Self { daemon, pair, rss_before }
    }

    /// The pair has talked this much more.
    pub async fn rounds_more(&mut self, rounds: u64) {
        self.pair.rounds_more(rounds).await;
    }

    /// The hostile phase is over: panics if the pair was disturbed, or the daemon ever took more memory
    /// than it may.
    pub async fn end(mut self) -> Daemon {
        self.pair.rounds_more(LAST_ROUNDS).await;
        let witness = self.pair.finish().await;
        assert_eq!(witness.report.deliveries, witness.messages, "the control pair lost something");
        // The peak, not the level at the end: what was taken and given back was taken all the same.
        let grown = self.daemon.peak_rss_bytes().saturating_sub(self.rss_before);
        eprintln!(
            "control pair: {} messages, slowest round {:?}; memory grew by {} KiB at most",
            witness.messages,
            witness.slowest_round,
            grown >> 10
        );
        assert!(grown <= GROWTH_BYTES_MAX, "the daemon's memory grew by {grown} bytes");
        self.daemon
    }
}

/// `GET path`, which must succeed.
pub async fn get(daemon: &Daemon, path: &str) -> serde_json::Value {
    let (status, body) = daemon.admin("GET", path).await;
    assert_eq!(status, 200, "{path}: {body}");
    body
}

/// Waits until only so many connections are open, handshakes included.
pub async fn until_connections(daemon: &Daemon, expected: i64) {
    wait::until(&format!("{expected} connections"), async || {
        let found = get(daemon, "/v1/stats").await["connections"].as_i64().unwrap();
        (found == expected).then_some(())
    })
    .await;
}

/// The session goes on: a ping is answered, and with nothing but the pong.
pub async fn is_well(client: &mut TestClient) {
    client.say(serde_json::json!({"type": "ping", "n": 7})).await;
    assert_eq!(client.expect("pong").await["n"], 7);
}

/// Comes and goes, so that from now on everything is kept for this device.
pub async fn register(siege: &Siege, options: Options) {
    let mut client = TestClient::open(&siege.daemon, options).await;
    client.expect("caught_up").await;
    client.leave().await;
}
