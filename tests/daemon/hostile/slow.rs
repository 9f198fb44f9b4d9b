//! Goal: a client that does not read, does not acknowledge or does not answer costs its own time and bounded
//! memory, and nothing that was accepted for it is lost.
//! Method: clients with a narrow receive buffer that stop at some point, senders that go on; afterwards the
//! same device comes back well-behaved, and the history checker compares.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Settings;
use crate::common::history::History;
use crate::common::wait;
use crate::hostile::raw::{FIN, Got, Raw, TEXT, frame};
use crate::hostile::siege::{Siege, get, register, until_connections};

/// Body of a message that soon fills a socket.
const LARGE_BYTES: usize = 16 * 1024;
/// After a write that takes longer it is looked whether anybody is there to read; then it goes on.
const STALL: Duration = Duration::from_millis(500);

/// Short, but long enough for a busy machine not to make the pair look dead.
const HEARTBEAT: Duration = Duration::from_secs(1);

fn brisk(settings: &mut Settings) {
    settings.set("gateway.heartbeat", "1s");
}

async fn online(siege: &Siege, user: &str) -> bool {
    let sessions = get(&siege.daemon, "/v1/sessions").await;
    sessions["sessions"].as_array().unwrap().iter().any(|session| session["user"] == user)
}

async fn until_gone(siege: &Siege, user: &str) {
    wait::until(&format!("the session of {user} to end"), async || (!online(siege, user).await).then_some(())).await;
}

/// Writes whole frames, each time those that `more` returns, until the session is gone. A write that gets
/// nowhere proves nothing: the server may be busy. It is taken up where it stopped, so that the end is
/// never that of a client whose frames were cut.
async fn write_until_gone(siege: &Siege, client: &mut Raw, mut more: impl FnMut() -> Vec<u8>) {
    let (mut frames, mut at) = (more(), 0);
    wait::until("the server to end the session", async || {
        if at == frames.len() {
            (frames, at) = (more(), 0);
        }
        match tokio::time::timeout(STALL, client.stream.write(&frames[at..])).await {
            Ok(Ok(written)) => at += written,
            Ok(Err(_)) => return Some(()),
            Err(_) => {}
        }
        (!online(siege, "mallory").await).then_some(())
    })
    .await;
    until_gone(siege, "mallory").await;
}

/// `count` large messages for `to`, each answered.
async fn send_large(siege: &Siege, history: &History, from: &str, to: &str, count: usize) {
    let mut sender = TestClient::open(&siege.daemon, Options::of(from, "phone").record(history)).await;
    sender.expect("caught_up").await;
    for n in 0..count {
        sender.send(to, &format!("{from}-{n}"), format!("{n:0>LARGE_BYTES$}")).await;
        assert_eq!(sender.expect("accepted").await["stored"], true, "nobody acknowledges, so it is on disk");
    }
    sender.leave().await;
}

/// Reads and acknowledges `count` messages, in order.
async fn catch_up(siege: &Siege, history: &History, user: &str, device: &str, count: usize) {
    let mut client = TestClient::open(&siege.daemon, Options::of(user, device).record(history)).await;
    for _ in 0..count {
        let message = client.pick("message").await;
        client.ack(message["seq"].as_u64().unwrap()).await;
    }
    client.pick("caught_up").await;
    wait::until("an empty queue", async || {
        let queue = get(&siege.daemon, &format!("/v1/queues/{user}")).await;
        (queue["messages"] == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_reads_is_left_after_two_heartbeats_and_loses_nothing() {
    let siege = Siege::begin(brisk).await;
    let history = History::new();
    // It is there for the history as well, so that what it is owed is known.
    register(&siege, Options::of("mallory", "raw").record(&history)).await;
    let deaf = Raw::connect_narrow(&siege.daemon).await.enter("mallory").await;
    send_large(&siege, &history, "alice", "mallory", 100).await;
    until_gone(&siege, "mallory").await;
    drop(deaf);
    catch_up(&siege, &history, "mallory", "raw", 100).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_closed_with_4408() {
    let siege = Siege::begin(brisk).await;
    let mut mute = Raw::connect(&siege.daemon).await.enter("mallory").await;
    assert_eq!(mute.close_code().await, Some(4408));
    until_gone(&siege, "mallory").await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_and_never_reads_is_ended() {
    let siege = Siege::begin(|settings| {
        settings.set("limits.malformed_frames", 1_000_000);
    })
    .await;
    let (long, name) = ("i".repeat(64), "n".repeat(128));
    let asks = [
        json!({"type": "a type that there has never been"}),
        json!({"type": "ack", "seq": 9_007_199_254_740_991_u64}),
        json!({"type": "send", "id": long, "to": name, "body": 0, "receipt": true}),
    ];
    for ask in asks {
        let mut deaf = Raw::connect_narrow(&siege.daemon).await.enter("mallory").await;
        let many = frame(FIN | TEXT, ask.to_string().as_bytes()).repeat(500);
        write_until_gone(&siege, &mut deaf, || many.clone()).await;
    }
    let overflowed = get(&siege.daemon, "/v1/stats").await["counters"]["sessions_overflowed"].clone();
    assert_eq!(overflowed, 3);
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_floods_pings_of_websocket_and_never_reads_is_ended_too() {
    let siege = Siege::begin(|_| ()).await;
    let mut deaf = Raw::connect_narrow(&siege.daemon).await.enter("mallory").await;
    let many = frame(FIN | crate::hostile::raw::PING, &[b'p'; 125]).repeat(500);
    write_until_gone(&siege, &mut deaf, || many.clone()).await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_acks_gets_a_window_and_no_more_and_its_queue_has_an_end() {
    const QUEUE: usize = 100;
    const WINDOW: usize = 8;
    let siege = Siege::begin(|settings| {
        brisk(settings);
        settings.set("limits.window", WINDOW as i64).set("queue.max_messages", QUEUE as i64);
    })
    .await;
    let history = History::new();
    let mut idle = TestClient::open(&siege.daemon, Options::of("mallory", "phone").record(&history)).await;
    idle.expect("caught_up").await;
    let mut alice = TestClient::open(&siege.daemon, Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    let mut filling = tokio::spawn(fill(alice, QUEUE));
    let mut last = 0;
    for _ in 0..WINDOW {
        last = idle.expect("message").await["seq"].as_u64().unwrap();
    }
    // It answers pings, so it stays; but it gets nothing more, however full its queue.
    tokio::select! {
        filled = &mut filling => filled.unwrap(),
        heard = idle.listener.next() => panic!("{heard:?} beyond the window"),
    }
    let heard = idle.listener.next_within(3 * HEARTBEAT).await;
    assert!(heard.is_none(), "{heard:?} beyond the window");
    // As soon as it acknowledges everything flows.
    idle.ack(last).await;
    for _ in WINDOW..QUEUE {
        let message = idle.expect("message").await;
        idle.ack(message["seq"].as_u64().unwrap()).await;
    }
    wait::until("an empty queue", async || {
        (get(&siege.daemon, "/v1/queues/mallory").await["messages"] == 0).then_some(())
    })
    .await;
    history.assert_clean();
    // There is room again.
    let again = json!({"from": "alice", "to": "mallory", "id": "again", "body": "room"});
    let (sent, _) = tokio::join!(siege.daemon.admin_with("POST", "/v1/messages", &again), async {
        let message = idle.expect("message").await;
        idle.say(json!({"type": "ack", "seq": message["seq"]})).await;
    });
    assert_eq!(sent.0, 200, "{}", sent.1);
    siege.end().await;
}

/// Sends `mallory` as many messages as her queue takes, and then some.
async fn fill(mut alice: TestClient, count: usize) {
    for n in 0..count {
        alice.send("mallory", &format!("m{n}"), n).await;
    }
    for _ in 0..count {
        assert_eq!(alice.recv().await["type"], "accepted");
    }
    for n in 0..20 {
        alice.send("mallory", &format!("over{n}"), n).await;
        let refused = alice.expect("rejected").await;
        assert_eq!(refused["code"], "queue_full", "{refused}");
        assert!(refused["retry_after_ms"].is_u64(), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_never_reads_holds_up_nobody_and_costs_a_window_each() {
    const CROWD: usize = 40;
    const ROUNDS: usize = 20;
    const WINDOW: u64 = 4;
    let siege = Siege::begin(|settings| {
        // What the store keeps in its cache is none of the crowd's memory.
        settings.set("limits.window", WINDOW as i64).set("store.cache_bytes", "1MiB");
    })
    .await;
    let history = History::new();
    let mut crowd = Vec::new();
    for n in 0..CROWD {
        crowd.push(Raw::connect_narrow(&siege.daemon).await.enter(&format!("deaf-{n}")).await);
    }
    let mut alice = TestClient::open(&siege.daemon, Options::of("alice", "phone").record(&history)).await;
    alice.expect("caught_up").await;
    for round in 0..ROUNDS {
        for n in 0..CROWD {
            let (to, id) = (format!("deaf-{n}"), format!("m{round}-{n}"));
            alice.send(&to, &id, format!("{round:0>LARGE_BYTES$}")).await;
        }
        for _ in 0..CROWD {
            alice.expect("accepted").await;
        }
    }
    alice.leave().await;
    // All of them are still there, and none has more than a window on its way, however much waits.
    let page = get(&siege.daemon, "/v1/sessions").await;
    let sessions = page["sessions"].as_array().unwrap().iter();
    let deaf: Vec<_> = sessions.filter(|session| session["user"].as_str().unwrap().starts_with("deaf-")).collect();
    assert_eq!(deaf.len(), CROWD, "{page}");
    let excess = deaf.iter().find(|session| session["in_flight"] != WINDOW);
    assert!(excess.is_none(), "more or less than a window: {excess:?}");
    drop(crowd);
    until_connections(&siege.daemon, 2).await;
    let catching_up = (0..CROWD).map(async |n| catch_up(&siege, &history, &format!("deaf-{n}"), "raw", ROUNDS).await);
    futures::future::join_all(catching_up).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_never_reads_its_answers_loses_the_session_and_nothing_else() {
    let siege = Siege::begin(brisk).await;
    let mut deaf = Raw::connect_narrow(&siege.daemon).await.enter("mallory").await;
    // Long names make long answers.
    let bob = "b".repeat(128);
    let mut numbers = 0..;
    write_until_gone(&siege, &mut deaf, || {
        let send = |n: u64| json!({"type": "send", "id": format!("{n:0>64}"), "to": bob, "body": n}).to_string();
        numbers.by_ref().take(200).flat_map(|n| frame(FIN | TEXT, send(n).as_bytes())).collect()
    })
    .await;
    // What was taken is in order and complete up to where it ends, though its sender never read a word.
    let waiting = get(&siege.daemon, &format!("/v1/queues/{bob}")).await["messages"].as_u64().unwrap();
    let mut bob = TestClient::connect(&siege.daemon, &bob, "phone").await;
    let mut before = None;
    for _ in 0..waiting {
        let message = bob.expect("message").await;
        let number = message["body"].as_u64().unwrap();
        assert!(before.is_none_or(|before| before < number), "{before:?} then {message}");
        before = Some(number);
        bob.ack(message["seq"].as_u64().unwrap()).await;
    }
    bob.expect("caught_up").await;
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_trickle_in_are_signs_of_life_and_cost_one_frame() {
    let siege = Siege::begin(brisk).await;
    let mut slow = Raw::connect(&siege.daemon).await.enter("mallory").await;
    let bytes = frame(FIN | TEXT, br#"{"type":"ping","n":3}"#);
    let mut pace = tokio::time::interval(std::time::Duration::from_millis(100));
    for byte in &bytes {
        pace.tick().await;
        slow.write(&[*byte]).await.unwrap();
    }
    loop {
        match slow.next().await {
            Got::Frame(frame) if frame["type"] == "pong" => break,
            Got::Frame(frame) if frame["type"] == "caught_up" => {}
            other => panic!("{other:?}"),
        }
    }
    siege.end().await;
}
