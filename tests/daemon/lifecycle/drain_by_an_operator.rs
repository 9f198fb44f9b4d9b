//! Goal: `doorstep drain` is an orderly stop like SIGTERM: what is undecided is decided and answered
//! before the goodbye, nobody new is let in, the exit code is 0 and the place is left tidy; past the grace
//! it ends all the same, with 1.
//! Method: a send whose answer is still open because its recipient was pushed to and says nothing, a
//! client that is half inside, and the command. Then, in the test's own process, a delay without end and
//! a disk that is held, so that each answer can have one reason only.

use std::time::Duration;

use doorstep::daemon::DaemonError;
use doorstep::store::memory::Unsynced;
use serde_json::json;

use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::traffic::collect;
use crate::common::wait;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_settles_what_is_open_and_ends_the_router() {
    let history = History::new();
    // As long as may be here, so that the answer is still open when the command comes.
    let mut daemon = Daemon::start(|settings| {
        settings.set("store.commit_delay", "1s");
    })
    .await;
    let mut bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    bob.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    let mut half_inside = TestClient::dial(&daemon.url(), &Options::blank()).await.unwrap();

    alice.send("bob", "m1", "undecided").await;
    let pushed = bob.expect("message").await;
    let drained = daemon.command(&["drain"], "").await;
    assert!(drained.status.success(), "{drained:?}");

    let answer = alice.expect("accepted").await;
    assert_eq!((&answer["id"], &answer["stored"]), (&json!("m1"), &json!(true)), "{answer}");
    for client in [&mut alice, &mut bob] {
        let goodbye = client.expect("goodbye").await;
        assert!(goodbye["code"] == 1012 && goodbye["retry_after_ms"].is_u64(), "{goodbye}");
        assert_eq!(client.expect_close().await.0, 1012);
    }
    assert_eq!(half_inside.expect_close().await.0, 1012, "who has not said hello is seen off as well");
    assert!(daemon.exit().await.success());

    let refused = TestClient::attempt(&daemon.url(), &Options::of("carol", "phone")).await.err();
    assert!(matches!(refused, Some(Refused::Gone(_))), "nobody listens any more: {refused:?}");
    assert!(!daemon.socket().exists(), "the admin socket is gone with it");

    daemon.restart().await;
    let again = collect(&daemon, "bob", "phone", &history).await;
    assert_eq!(again.len(), 1);
    assert_eq!((&again[0]["seq"], &again[0]["redelivered"]), (&pushed["seq"], &json!(true)), "{}", again[0]);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_back_is_stored_by_the_drain_and_not_by_the_delay() {
    let history = History::new();
    let mut inside = Inside::start_patient(|_| ()).await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    bob.expect("caught_up").await;
    let mut alice = inside.connect(&Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    alice.send("bob", "m1", "undecided").await;
    let pushed = bob.expect("message").await;
    assert_eq!(inside.admin("POST", "/v1/drain").await.0, 202);
    let answer = alice.expect("accepted").await;
    assert_eq!((&answer["seq"], &answer["stored"]), (&pushed["seq"], &json!(true)), "{answer}");
    assert_eq!(alice.expect("goodbye").await["code"], 1012);
    inside.exit().await.unwrap();
    drop((alice, bob));
    inside.begin().await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    assert_eq!(bob.expect("message").await["seq"], pushed["seq"]);
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_that_comes_while_it_drains_is_refused_and_may_be_repeated_later() {
    let history = History::new();
    let mut inside = Inside::start(|_| ()).await;
    let mut alice = inside.connect(&Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    // The drain is not over before this one is answered, and it is not answered before the gate opens.
    let gate = inside.engine.hold_commits();
    alice.send("bob", "before", 1).await;
    inside.until_commit_held().await;
    assert_eq!(inside.admin("POST", "/v1/drain").await.0, 202);
    wait::until("the drain to have begun", async || {
        (inside.admin("GET", "/v1/health").await.1["draining"] == true).then_some(())
    })
    .await;
    for id in ["during", "as well"] {
        alice.send("bob", id, 2).await;
        let refused = alice.expect("rejected").await;
        assert_eq!((&refused["id"], &refused["code"]), (&json!(id), &json!("shutting_down")), "{refused}");
    }
    drop(gate);
    assert_eq!(alice.expect("accepted").await["id"], "before");
    assert_eq!(alice.expect("goodbye").await["code"], 1012);
    inside.exit().await.unwrap();
    drop(alice);

    inside.begin().await;
    let mut alice = inside.connect(&Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    alice.say(json!({"type": "send", "id": "during", "to": "bob", "body": 2, "retry": true})).await;
    alice.expect("accepted").await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    for id in ["before", "during"] {
        assert_eq!(bob.expect("message").await["id"], id);
    }
    bob.expect("caught_up").await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_the_disk_holds_up_past_the_grace_ends_with_1_and_loses_nothing() {
    let history = History::new();
    let mut inside = Inside::start(|config| config.shutdown.grace = Duration::from_millis(300)).await;
    let mut alice = inside.connect(&Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    alice.send("bob", "safe", 1).await;
    assert_eq!(alice.expect("accepted").await["stored"], true);
    let _gate = inside.engine.hold_commits();
    alice.send("bob", "stuck", 2).await;
    inside.until_commit_held().await;
    assert_eq!(inside.admin("POST", "/v1/drain").await.0, 202);
    let ended = inside.exit().await.unwrap_err();
    assert!(matches!(ended, DaemonError::GraceOver), "{ended}");
    assert_eq!(ended.exit_code(), 1);
    drop(alice);

    inside.crash(Unsynced::Lost).await;
    inside.begin().await;
    let mut alice = inside.connect(&Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    alice.say(json!({"type": "send", "id": "stuck", "to": "bob", "body": 2, "retry": true})).await;
    alice.expect("accepted").await;
    let mut bob = inside.connect(&Options::of("bob", "phone").record(&history)).await;
    for id in ["safe", "stuck"] {
        assert_eq!(bob.expect("message").await["id"], id);
    }
    bob.expect("caught_up").await;
    history.assert_clean();
}
