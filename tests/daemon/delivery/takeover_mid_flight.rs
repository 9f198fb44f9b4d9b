//! Goal: a second session of a device replaces the first, which is told so with 4409, and what was in
//! flight to the first goes to the second, marked.
//! Method: take over a session that has received everything and acknowledged a part; then a chain of
//! takeovers under constant traffic, every session leaving something unacknowledged behind.

use crate::common::client::{Heard, Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::delivery::exchange::{accepted, fence, id, numbered, pour, seq, take_until, until_empty};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_in_flight_to_the_first_session_goes_to_the_second() {
    let history = History::new();
    // So that what is accepted before the takeover is accepted for its ack alone.
    let daemon = Inside::start_patient(|_| ()).await;
    let bob = Options::of("bob", "phone").record(&history);
    let mut alice = daemon.connect(&Options::of("alice", "phone").record(&history)).await;
    let mut first = daemon.connect(&bob).await;
    first.expect("caught_up").await;
    for name in numbered("m", 20) {
        alice.send("bob", &name, name.clone()).await;
    }
    let mut seqs = Vec::new();
    for _ in 0..20 {
        seqs.push(seq(&first.expect("message").await));
    }
    first.ack(seqs[4]).await;
    let answers = accepted(&mut alice, 5).await;
    assert!(answers.iter().all(|answer| answer["stored"] == false), "{answers:?}");

    let mut second = daemon.connect(&bob).await;
    assert_ne!(first.session(), second.session());
    assert_eq!((&second.welcome["cursor"], &second.welcome["pending"]), (&seqs[4].into(), &15.into()));
    let goodbye = first.expect("goodbye").await;
    assert_eq!(goodbye["code"], 4409);
    assert_eq!(first.expect_close().await.0, 4409);
    for (number, expected) in seqs.iter().enumerate().skip(5) {
        let message = second.expect("message").await;
        assert_eq!((seq(&message), id(&message)), (*expected, &*format!("m-{number}")));
        assert_eq!(message["redelivered"], true, "the first session had it: {message}");
    }
    second.expect("caught_up").await;
    second.ack(seqs[19]).await;
    accepted(&mut alice, 15).await;
    fence(&mut second, "all acknowledged").await;

    let mut third = daemon.connect(&bob).await;
    assert_eq!(third.welcome["pending"], 0);
    third.expect("caught_up").await;
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_of_takeovers_under_traffic_loses_and_repeats_nothing_unmarked() {
    const SENT: usize = 600;
    let history = History::new();
    let daemon = Daemon::start(|settings| {
        settings.set("store.page_messages", 4);
    })
    .await;
    let bob = Options::of("bob", "phone").hello("window", 16).record(&history);
    let mut session = TestClient::open(&daemon, bob.clone()).await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    let writer = tokio::spawn(async move {
        pour(&mut alice, &["bob"], "m", SENT).await;
        alice
    });
    for round in 0..25 {
        // Some sessions are replaced before they read anything, some with a part acknowledged.
        for _ in 0..round % 7 {
            let message = session.pick("message").await;
            if !seq(&message).is_multiple_of(3) {
                session.ack(seq(&message)).await;
            }
        }
        let newer = TestClient::open(&daemon, bob.clone()).await;
        let mut older = std::mem::replace(&mut session, newer);
        while let Heard::Frame(_) = older.listener.next().await {}
    }
    let mut alice = writer.await.unwrap();
    alice.send("bob", "last", 1).await;
    take_until(&mut session, "last").await;
    until_empty(&daemon, "bob").await;
    accepted(&mut alice, 1).await;
    let report = history.assert_clean();
    assert_eq!(report.accepted() as usize, SENT + 1);
    assert!(report.redeliveries > 0, "nothing was in flight at any takeover: {report}");
}
