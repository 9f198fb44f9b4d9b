//! Goal: a device that was told `welcome` is registered, come what may: from then on messages are kept
//! for it.
//! Method: hold the commit back and see that no welcome comes; let the commit fail and see that none
//! comes; kill the router right after the welcome and see that the device is known.

use serde_json::json;

use doorstep::store::memory::MemoryEngine;

use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::until_commit_held;
use crate::delivery::exchange::{accepted, id, seq};
use crate::delivery::house::House;

const KILLS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn no_welcome_while_the_registration_is_on_its_way_to_disk() {
    let engine = MemoryEngine::new();
    let house = House::start(engine.clone(), |_| ()).await;
    let mut alice = house.open(Options::of("alice", "phone")).await;
    alice.expect("caught_up").await;
    house.open(Options::of("carol", "phone")).await.leave().await;

    let gate = engine.hold_commits();
    let mut bob = TestClient::dial(house.url(), &Options::of("bob", "phone")).await.unwrap();
    bob.say(json!({"type": "hello", "user": "bob", "device": "phone"})).await;
    until_commit_held(&engine).await;
    alice.send("bob", "meanwhile", 1).await;
    // A snapshot comes from the owner that has both, the hello and the message.
    alice.say(json!({"type": "watch", "users": ["bob"]})).await;
    alice.expect("presence").await;
    bob.expect_nothing().await;
    // Who is registered does not wait for it.
    house.open(Options::of("carol", "phone")).await.expect("caught_up").await;

    drop(gate);
    let welcome = bob.expect("welcome").await;
    assert_eq!(welcome["registered"], true);
    let message = bob.expect("message").await;
    assert_eq!(id(&message), "meanwhile", "kept from the hello on");
    bob.ack(seq(&message)).await;
    accepted(&mut alice, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_welcome_when_the_registration_cannot_be_committed() {
    let engine = MemoryEngine::new();
    let house = House::start(engine.clone(), |_| ()).await;
    engine.fail_syncs(1);
    match house.attempt(&Options::of("bob", "phone")).await {
        Err(Refused::Closed { code, .. }) => assert_eq!(code, 1011),
        Err(other) => panic!("{other:?} instead of a close with a code"),
        Ok(bob) => panic!("welcomed on a disk that has failed: {}", bob.welcome),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_right_after_the_welcome_keeps_the_device() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    for number in 0..KILLS {
        let fresh = TestClient::open(&daemon, Options::of("bob", &format!("device-{number}"))).await;
        daemon.kill9();
        assert_eq!(fresh.welcome["registered"], true);
        daemon.restart().await;
    }
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    alice.send("bob", "to-all", 1).await;
    assert_eq!(accepted(&mut alice, 1).await[0]["stored"], true);
    for number in 0..KILLS {
        let options = Options::of("bob", &format!("device-{number}")).record(&history);
        let mut known = TestClient::open(&daemon, options).await;
        assert_eq!(known.welcome["registered"], false, "{}", known.welcome);
        let message = known.expect("message").await;
        assert_eq!(id(&message), "to-all");
        known.ack(seq(&message)).await;
    }
    history.assert_clean();
}
