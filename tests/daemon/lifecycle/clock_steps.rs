//! Goal: a wall clock that was set back costs nothing: what waits does not expire before an operator has
//! said that the clock is right, and seqs go on above every one that was ever given out.
//! Method: the store's own stamps are moved into the future while the router is stopped, which is what a
//! store looks like whose clock has been set back by a day.

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::traffic::collect;
use crate::common::wait;
use crate::lifecycle::place;

const DAY_MS: u64 = 86_400_000;
const TTL_MS: u64 = 2500;

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_set_back_pauses_expiry_and_never_brings_a_seq_back() {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("queue.expiry_grace", "0s");
    })
    .await;
    let before = send_short_lived(&daemon, &history, &["bob", "carol"]).await;
    daemon.kill9();
    let ceiling = place::inside(&daemon.data_dir(), |engine| {
        let [ceiling, alive_ms] = place::numbers(engine, "ceiling")[..] else { panic!("two numbers") };
        let ceiling = ceiling + DAY_MS * 1000;
        place::put_numbers(engine, "ceiling", &[ceiling, alive_ms + DAY_MS]);
        ceiling
    });
    daemon.restart().await;
    assert!(paused(&daemon).await);
    wait::until("the messages to be past their time", async || {
        (doorstep::clock::wall_us() / 1000 > before.expires_ms).then_some(())
    })
    .await;

    // The time of both is over by this clock, which nobody trusts.
    let bobs = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(bobs.iter().map(|message| &message["id"]).collect::<Vec<_>>(), ["to-bob"]);
    let after = send_one(&daemon, "dave", "new", &history).await;
    assert!(after > ceiling && after > before.highest, "{after} is not above {ceiling}");

    let resumed = daemon.command(&["resume-expiry"], "").await;
    assert!(resumed.status.success(), "{resumed:?}");
    assert!(!paused(&daemon).await);
    assert_eq!(daemon.admin("POST", "/v1/expiry/resume").await.1["was_paused"], false);
    assert_eq!(collect(&daemon, "carol", "phone", &history).await, Vec::<Value>::new());
    let letters = wait::until("carol's message among the dead letters", async || {
        let (_, letters) = daemon.admin("GET", "/v1/dead-letters").await;
        (letters["dead_letters"] != json!([])).then_some(letters)
    })
    .await;
    let letter = &letters["dead_letters"][0];
    assert_eq!((&letter["reason"], &letter["message"]["id"]), (&json!("expired"), &json!("to-carol")), "{letters}");
    assert_eq!(letters["dead_letters"].as_array().unwrap().len(), 1, "bob got his: {letters}");
    daemon.record_dead_letters(&history).await;

    assert_goes_on_above(&mut daemon, after, &history).await;
    collect(&daemon, "dave", "phone", &history).await;
    history.assert_clean();
}

/// Over orderly stops and crashes, with the wall clock behind all the time.
async fn assert_goes_on_above(daemon: &mut Daemon, mut last: u64, history: &History) {
    for (round, orderly) in [true, false, true].into_iter().enumerate() {
        if orderly {
            assert!(daemon.terminate().await.success());
        }
        daemon.restart().await;
        let seq = send_one(daemon, "dave", &format!("round-{round}"), history).await;
        assert!(seq > last, "{seq} after {last}");
        last = seq;
    }
    // The clock is a day behind the seqs, but not behind the last start: an operator has been asked once.
    assert!(!paused(daemon).await);
}

struct Before {
    highest: u64,
    expires_ms: u64,
}

/// A message for each of these, none of whom is there.
async fn send_short_lived(daemon: &Daemon, history: &History, to: &[&str]) -> Before {
    let mut alice = TestClient::open(daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    let mut before = Before { highest: 0, expires_ms: 0 };
    for user in to {
        let id = format!("to-{user}");
        alice.say(json!({"type": "send", "id": id, "to": user, "body": "soon", "ttl_ms": TTL_MS})).await;
        let accepted = alice.expect("accepted").await;
        before.highest = before.highest.max(accepted["seq"].as_u64().unwrap());
        let (_, page) = daemon.admin("GET", &format!("/v1/queues/{user}/messages")).await;
        before.expires_ms = before.expires_ms.max(page["messages"][0]["expires_ms"].as_u64().unwrap());
    }
    before
}

/// Sends to someone who is away; returns the seq.
async fn send_one(daemon: &Daemon, to: &str, id: &str, history: &History) -> u64 {
    let mut alice = TestClient::open(daemon, Options::of("alice", "phone").record(history)).await;
    alice.expect("caught_up").await;
    alice.send(to, id, "hello").await;
    let seq = alice.expect("accepted").await["seq"].as_u64().unwrap();
    alice.leave().await;
    seq
}

async fn paused(daemon: &Daemon) -> bool {
    let (_, health) = daemon.admin("GET", "/v1/health").await;
    health["expiry_paused"].as_bool().unwrap()
}
