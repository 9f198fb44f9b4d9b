//! Goal: `doorstep drain` is an orderly stop like SIGTERM: what is undecided is decided and answered
//! before the goodbye, nobody new is let in, the exit code is 0 and the place is left tidy.
//! Method: a send whose answer is still open because its recipient was pushed to and says nothing, a
//! client that is half inside, and the command.

use serde_json::json;

use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::traffic::collect;

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_settles_what_is_open_and_ends_the_router() {
    let history = History::new();
    // As long as may be, so that the drain and not the delay sends the message to the disk.
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
async fn a_send_that_comes_while_it_drains_is_refused_and_may_be_repeated_later() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let mut traffic = crate::traffic::Traffic::start(&daemon, &history, &["alice", "carol"], &["bob", "dave"]).await;
    let bob = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    traffic.receive(bob, true);
    traffic.in_full_swing(300, 30).await;
    assert_eq!(daemon.admin("POST", "/v1/drain").await.0, 202);
    assert!(daemon.exit().await.success());
    let (sent, received) = traffic.ended().await;
    sent.iter().for_each(crate::traffic::Sent::assert_no_answer_is_missing);
    sent.iter().map(|seen| &seen.end).chain(received.iter().map(|seen| &seen.end)).for_each(|end| {
        end.retry_after_ms();
    });

    daemon.restart().await;
    let refused: Vec<_> = sent.iter().flat_map(|seen| seen.ids.iter().filter_map(|id| seen.answers.get(id))).collect();
    for answer in refused.into_iter().filter(|answer| answer["type"] == "rejected").take(20) {
        assert_eq!(answer["code"], "shutting_down", "{answer}");
        let (id, to) = (answer["id"].as_str().unwrap(), answer["to"].as_str().unwrap());
        let from = id.split_once(':').unwrap().0;
        let mut sender = TestClient::open(&daemon, Options::of(from, "sender").record(&history)).await;
        sender.expect("caught_up").await;
        let number: u64 = id.split_once(':').unwrap().1.parse().unwrap();
        sender.say(json!({"type": "send", "id": id, "to": to, "body": {"n": number}, "retry": true})).await;
        sender.expect("accepted").await;
        sender.leave().await;
    }
    for user in ["bob", "dave"] {
        collect(&daemon, user, "phone", &history).await;
    }
    history.assert_clean();
}
