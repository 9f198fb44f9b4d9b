//! Goal: every device of a user gets everything once, at its own pace; a message is kept for as long as
//! one of them lacks it, and no longer.
//! Method: a phone that takes everything, a laptop that is away at times, a tablet that comes late; a
//! restart in between, after which each goes on where it stood.

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;
use crate::delivery::exchange::{
    accepted, device, expect_silence, id, ids, numbered, pour, seq, take, until_empty, waiting,
};

#[tokio::test(flavor = "multi_thread")]
async fn each_device_goes_on_where_it_stood() {
    let history = History::new();
    let mut daemon = Daemon::start(|_| ()).await;
    let named = |device: &str| Options::of("bob", device).record(&history);
    let mut phone = TestClient::open(&daemon, named("phone")).await;
    let mut laptop = TestClient::open(&daemon, named("laptop")).await;
    phone.expect("caught_up").await;
    laptop.expect("caught_up").await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;

    let (on_phone, on_laptop, _) =
        tokio::join!(take(&mut phone, 10), take(&mut laptop, 10), pour(&mut alice, &["bob"], "both", 10));
    assert_eq!(seqs(&on_phone), seqs(&on_laptop));
    laptop.leave().await;
    until_empty(&daemon, "bob").await;

    let (on_phone, answers) = tokio::join!(take(&mut phone, 30), pour(&mut alice, &["bob"], "one", 30));
    assert!(answers.iter().all(|answer| answer["stored"] == true), "the laptop lacks them");
    wait_for_backlog(&daemon, "phone", 0).await;
    assert_eq!(device(&daemon, "bob", "laptop").await["backlog_messages"], 30);
    assert_eq!(waiting(&daemon, "bob").await, 30, "kept for the one that lacks them");

    let mut tablet = TestClient::open(&daemon, named("tablet")).await;
    assert_eq!((&tablet.welcome["registered"], &tablet.welcome["pending"]), (&true.into(), &0.into()));
    tablet.expect("caught_up").await;
    expect_silence(&mut tablet).await;
    tablet.leave().await;
    phone.leave().await;
    alice.leave().await;

    assert!(daemon.terminate().await.success());
    daemon.restart().await;
    let mut laptop = TestClient::open(&daemon, named("laptop")).await;
    assert_eq!((&laptop.welcome["registered"], &laptop.welcome["pending"]), (&false.into(), &30.into()));
    let later = take(&mut laptop, 30).await;
    assert_eq!(seqs(&later), seqs(&on_phone), "one inbox, one order");
    assert!(later.iter().all(|message| message["redelivered"] != true), "it never had them");
    laptop.expect("caught_up").await;
    for name in ["phone", "tablet"] {
        let mut other = TestClient::open(&daemon, named(name)).await;
        assert_eq!(other.welcome["pending"], 0, "{name}");
        other.expect("caught_up").await;
        expect_silence(&mut other).await;
    }
    until_empty(&daemon, "bob").await;
    history.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_device_gets_what_waited_for_the_user() {
    let history = History::new();
    let daemon = Daemon::start(|_| ()).await;
    let mut alice = TestClient::open(&daemon, Options::of("alice", "phone").record(&history)).await;
    pour(&mut alice, &["bob"], "early", 5).await;
    let mut phone = TestClient::open(&daemon, Options::of("bob", "phone").record(&history)).await;
    assert_eq!(phone.welcome["registered"], true);
    // The second one registers while the first has taken none of it.
    let mut laptop = TestClient::open(&daemon, Options::of("bob", "laptop").record(&history)).await;
    laptop.expect("caught_up").await;
    let early = take(&mut phone, 5).await;
    assert_eq!(ids(&early), numbered("early", 5));
    alice.send("bob", "next", "for both").await;
    assert_eq!(id(&laptop.expect("message").await), "next", "what came before it was not its own");
    phone.expect("caught_up").await;
    assert_eq!(id(&phone.expect("message").await), "next");
    accepted(&mut alice, 1).await;
    history.assert_clean();
}

async fn wait_for_backlog(daemon: &Daemon, name: &str, count: u64) {
    let what = format!("{name} to lack {count}");
    crate::common::wait::until(&what, async || {
        (device(daemon, "bob", name).await["backlog_messages"] == count).then_some(())
    })
    .await;
}

fn seqs(messages: &[serde_json::Value]) -> Vec<u64> {
    messages.iter().map(seq).collect()
}
