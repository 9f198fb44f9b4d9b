//! Goal: a device that is left lying around does not block its user: past the quota it lapses. What it
//! missed is in the dead letters, and it is told of the gap.
//! Method: two devices, one that keeps up and one that is away, and more than the quota holds, be it in
//! messages or in bytes. For the device that comes at the wrong moment the disk is held in the middle of the
//! lapse.

use super::support::{accepted, dead_letters, enter, receive, register, send, waiting};
use crate::common::client::{Options, Refused, TestClient};
use crate::common::daemon::{Daemon, Settings};
use crate::common::history::History;
use crate::common::inside::Inside;
use crate::common::wait;

/// Messages at most that one device may be behind.
const QUOTA: u64 = 10;
const MESSAGES: u64 = 3 * QUOTA;

#[tokio::test]
async fn a_device_that_is_far_behind_in_messages_lapses_and_blocks_nobody() {
    lapses("x", |settings| {
        settings.set("queue.max_messages", QUOTA as i64);
    })
    .await;
}

#[tokio::test]
async fn a_device_that_is_far_behind_in_bytes_lapses_and_blocks_nobody() {
    // With its names each message counts for more than a tenth of the quota.
    let body = "x".repeat(400);
    lapses(&body, |settings| {
        settings.set("limits.body_bytes", "512B").set("limits.frame_bytes", "4KiB").set("queue.max_bytes", "4KiB");
    })
    .await;
}

async fn lapses(body: &str, quota: impl FnOnce(&mut Settings)) {
    let history = History::new();
    let daemon = Daemon::start(quota).await;
    register(&daemon, &history, "bob", "laptop").await;
    let mut phone = enter(&daemon, &history, "bob", "phone").await;
    let mut alice = enter(&daemon, &history, "alice", "chat").await;
    let mut last = 0;
    for number in 0..MESSAGES {
        alice.send("bob", &format!("m{number}"), body).await;
        last = receive(&mut phone, &format!("m{number}"), false).await;
        phone.ack(last).await;
        accepted(&alice.recv().await, true);
    }
    // The device lacks at most the quota when all is settled.
    wait::until("the laptop to have lapsed", async || {
        let kept = waiting(&daemon, "bob").await;
        (kept <= QUOTA && dead_letters(&daemon).await.len() as u64 == MESSAGES - kept).then_some(())
    })
    .await;
    for letter in dead_letters(&daemon).await {
        assert_eq!((&letter["reason"], &letter["device"]), (&"lapsed".into(), &"laptop".into()), "{letter}");
    }
    daemon.record_dead_letters(&history).await;

    let mut laptop = TestClient::open(&daemon, Options::of("bob", "laptop").record(&history)).await;
    assert_eq!(laptop.welcome["gap"], true, "{}", laptop.welcome);
    let mut received = 0;
    loop {
        let frame = laptop.recv().await;
        if frame["type"] == "caught_up" {
            break;
        }
        received += 1;
        laptop.ack(frame["seq"].as_u64().unwrap()).await;
    }
    assert_eq!(received + dead_letters(&daemon).await.len() as u64, MESSAGES, "nothing vanished in silence");
    laptop.leave().await;
    let mut laptop = enter(&daemon, &history, "bob", "laptop").await;
    assert!(laptop.welcome["gap"].is_null(), "it was told once: {}", laptop.welcome);
    let next = accepted_after(&mut alice, &mut phone, &mut laptop).await;
    assert!(next > last);
    history.assert_clean();
}

/// It must neither miss what lapses unannounced, nor get what is buried.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_comes_while_it_lapses_is_asked_to_come_again_and_then_told_of_the_gap() {
    let inside = Inside::start(|config| config.queue.max_messages = QUOTA).await;
    let mut laptop = inside.connect(&Options::of("bob", "laptop")).await;
    laptop.expect("caught_up").await;
    laptop.leave().await;
    let mut phone = inside.connect(&Options::of("bob", "phone")).await;
    phone.expect("caught_up").await;
    let mut alice = inside.connect(&Options::of("alice", "chat")).await;
    alice.expect("caught_up").await;
    for number in 0..QUOTA {
        alice.send("bob", &format!("m{number}"), "x").await;
        let last = receive(&mut phone, &format!("m{number}"), false).await;
        phone.ack(last).await;
        accepted(&alice.recv().await, true);
    }
    // One more than the quota: the laptop begins to lapse, and the disk does not say so yet.
    let gate = inside.engine.hold_commits();
    alice.send("bob", "last", "x").await;
    receive(&mut phone, "last", false).await;
    wait::until("a commit that waits", async || inside.engine.holds_a_commit().then_some(())).await;
    let comes = Options::of("bob", "laptop");
    match TestClient::attempt(&inside.url(), &comes).await {
        Err(Refused::Closed { code, reason }) => assert_eq!(code, 4429, "{reason}"),
        other => panic!("let in: {:?}", other.map(|client| client.welcome)),
    }
    drop(gate);
    let mut laptop =
        wait::until("the laptop to be let in", async || TestClient::attempt(&inside.url(), &comes).await.ok()).await;
    assert_eq!(laptop.welcome["gap"], true, "{}", laptop.welcome);
    let mut seqs = Vec::new();
    loop {
        let frame = laptop.recv().await;
        if frame["type"] == "caught_up" {
            break;
        }
        seqs.push(frame["seq"].as_u64().unwrap());
    }
    let (_, page) = inside.admin("GET", "/v1/dead-letters?limit=1000").await;
    let lapsed: Vec<_> = page["dead_letters"].as_array().unwrap().iter().map(|l| l["seq"].as_u64().unwrap()).collect();
    assert!(!lapsed.is_empty() && lapsed.iter().all(|seq| !seqs.contains(seq)), "{lapsed:?} and {seqs:?}");
    assert_eq!(lapsed.len() + seqs.len(), QUOTA as usize + 1, "each is either delivered or buried");
}

/// One more message reaches both.
async fn accepted_after(alice: &mut TestClient, phone: &mut TestClient, laptop: &mut TestClient) -> u64 {
    let answer = send(alice, "bob", "after", "x");
    let (answer, on_phone, on_laptop) =
        tokio::join!(answer, receive(phone, "after", false), receive(laptop, "after", false));
    assert_eq!(answer["type"], "accepted", "{answer}");
    assert_eq!(on_phone, on_laptop);
    on_phone
}
