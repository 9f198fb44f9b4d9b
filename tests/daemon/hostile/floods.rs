//! Goal: who asks for more than its share is told so, with the time to wait, and nobody else waits for it.
//! Method: floods of every kind of frame, written without pause; every send must have exactly one answer, and
//! what was accepted must arrive.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::common::client::{Heard, Listener, Options, Refused, Speaker, TestClient};
use crate::common::history::History;
use crate::common::wait;
use crate::hostile::siege::{Siege, get, is_well};

/// Writes all frames without waiting for anything.
fn pour<F>(mut speaker: Speaker, frames: F) -> tokio::task::JoinHandle<Speaker>
where
    F: IntoIterator<Item = Value, IntoIter: Send> + Send + 'static,
{
    let frames = frames.into_iter();
    tokio::spawn(async move {
        for frame in frames {
            speaker.queue(&frame).await.unwrap();
        }
        speaker.flush().await.unwrap();
        speaker
    })
}

/// Reads `count` answers to sends; how many there were by code, `accepted` among them.
async fn answers(listener: &mut Listener, count: usize) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for _ in 0..count {
        let answer = listener.recv().await;
        let code = match answer["type"].as_str().unwrap() {
            "accepted" => "accepted",
            "rejected" => answer["code"].as_str().unwrap(),
            other => panic!("{other} among the answers: {answer}"),
        };
        if ["rate_limited", "overloaded", "queue_full"].contains(&code) {
            assert!(answer["retry_after_ms"].as_u64().is_some_and(|wait| wait <= 10_000), "{answer}");
        }
        *found.entry(code.to_owned()).or_default() += 1;
    }
    found
}

fn sends(count: usize, to: impl Fn(usize) -> String) -> Vec<Value> {
    (0..count).map(|n| json!({"type": "send", "id": format!("m{n}"), "to": to(n), "body": n})).collect()
}

async fn mallory(siege: &Siege, history: &History) -> TestClient {
    let mut client = TestClient::open(&siege.daemon, Options::of("mallory", "phone").record(history)).await;
    client.expect("caught_up").await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_sends_to_users_that_do_not_exist_wait_for_them_within_the_senders_share() {
    const SENDS: usize = 6_000;
    const SHARE: usize = 4_000;
    /// One of so many turns up in the end.
    const STEP: usize = 23;
    let siege = Siege::begin(|settings| {
        settings.set("queue.max_outstanding_per_sender", SHARE as i64).set("routing.evict_after", "1s");
    })
    .await;
    let history = History::new();
    let (speaker, mut listener) = mallory(&siege, &history).await.into_halves();
    // No faster than they are answered, so that the share is what refuses.
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut speaker = speaker;
    for chunk in sends(SENDS, |n| format!("nobody-{n}")).chunks(200) {
        for frame in chunk {
            speaker.queue(frame).await.unwrap();
        }
        speaker.flush().await.unwrap();
        for (code, count) in answers(&mut listener, chunk.len()).await {
            *found.entry(code).or_default() += count;
        }
    }
    eprintln!("{found:?}");
    assert_eq!(found.keys().collect::<Vec<_>>(), ["accepted", "queue_full"]);
    // The gateway asks before it lets a send through, so those on their way at that moment pass.
    assert!((SHARE..SHARE + 256).contains(&found["accepted"]), "{found:?}");
    let stats = get(&siege.daemon, "/v1/stats").await;
    assert_eq!(stats["queues"]["messages"].as_u64().unwrap(), found["accepted"] as u64, "{stats}");
    wait::until("the records of those who do not exist to leave memory", async || {
        let loaded = get(&siege.daemon, "/v1/stats").await["users_loaded"].as_u64().unwrap();
        (loaded < 100).then_some(())
    })
    .await;
    // Some of them turn up after all: those who have a message and those whose was refused.
    for some in (0..SENDS).step_by(STEP).collect::<Vec<_>>().chunks(16) {
        futures::future::join_all(some.iter().map(|n| fetch(&siege, &history, format!("nobody-{n}")))).await;
    }
    let report = history.assert_clean();
    assert!(report.deliveries as usize >= SHARE / STEP, "{report}");
    siege.end().await;
}

/// Comes for the first time, takes what waits, and leaves.
async fn fetch(siege: &Siege, history: &History, user: String) {
    let mut client = TestClient::open(&siege.daemon, Options::of(&user, "phone").record(history)).await;
    loop {
        let frame = client.recv().await;
        if frame["type"] == "caught_up" {
            break;
        }
        client.ack(frame["seq"].as_u64().unwrap()).await;
    }
    client.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_beyond_the_rate_of_a_session_are_rate_limited_and_acks_are_not() {
    const BURST: usize = 2_000;
    let siege = Siege::begin(|settings| {
        // The pair needs some 300 a second and session at most.
        settings.set("limits.sends_per_second_per_session", 1_000).set("limits.sends_in_flight", 4_000);
    })
    .await;
    let history = History::new();
    let mut bob = TestClient::open(&siege.daemon, Options::of("bob", "phone").record(&history)).await;
    bob.expect("caught_up").await;
    let (mut speaker, mut listener) = mallory(&siege, &history).await.into_halves();
    // A machine that is slower than the rate at first need not be so for ever.
    let mut found = BTreeMap::new();
    while !found.contains_key("rate_limited") {
        let sent: usize = found.values().sum();
        assert!(sent < 50 * BURST, "no send was too fast: {found:?}");
        let frames =
            (sent..sent + BURST).map(|n| json!({"type": "send", "id": format!("m{n}"), "to": "bob", "body": n}));
        let pouring = pour(speaker, frames.collect::<Vec<_>>());
        for (code, count) in answers_while(&mut listener, BURST, &mut bob).await {
            *found.entry(code).or_default() += count;
        }
        speaker = pouring.await.unwrap();
    }
    eprintln!("{found:?}");
    assert!(found["accepted"] >= 1_000, "a second's worth may come at once: {found:?}");
    // The time named is enough, give or take what others of the same rate took meanwhile.
    for attempt in 0.. {
        assert!(attempt < 10, "the time named is never enough");
        let again = json!({"type": "send", "id": format!("again-{attempt}"), "to": "bob", "body": "later"});
        speaker.say(&again).await.unwrap();
        let answer = loop {
            if let Some(answer) = answer_or_delivery(&mut listener, &mut bob).await {
                break answer;
            }
        };
        if answer["type"] == "accepted" {
            break;
        }
        assert_eq!(answer["code"], "rate_limited", "{answer}");
        let due = Instant::now() + Duration::from_millis(answer["retry_after_ms"].as_u64().unwrap());
        wait::until("the time named", async || (Instant::now() >= due).then_some(())).await;
    }
    drain(&siege, &mut bob).await;
    history.assert_clean();
    siege.end().await;
}

/// Reads answers while bob reads and acknowledges what comes, as many as were accepted.
async fn answers_while(listener: &mut Listener, count: usize, bob: &mut TestClient) -> BTreeMap<String, usize> {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    let mut left = count;
    while left > 0 {
        if let Some(answer) = answer_or_delivery(listener, bob).await {
            let code = if answer["type"] == "accepted" {
                "accepted".into()
            } else {
                answer["code"].as_str().unwrap().to_owned()
            };
            *found.entry(code).or_default() += 1;
            left -= 1;
        }
    }
    found
}

/// Reads and acknowledges until nothing waits for bob any more.
async fn drain(siege: &Siege, bob: &mut TestClient) {
    wait::until("an empty queue", async || {
        while let Some(Heard::Frame(message)) = bob.listener.next_within(Duration::from_millis(20)).await {
            bob.ack(message["seq"].as_u64().unwrap()).await;
        }
        (get(&siege.daemon, "/v1/queues/bob").await["messages"] == 0).then_some(())
    })
    .await;
}

/// The next answer; none when bob got something first, which is acknowledged then.
async fn answer_or_delivery(listener: &mut Listener, bob: &mut TestClient) -> Option<Value> {
    tokio::select! {
        answer = listener.recv() => Some(answer),
        message = bob.listener.recv() => {
            let seq = message["seq"].as_u64().unwrap();
            bob.speaker.say(&json!({"type": "ack", "seq": seq})).await.unwrap();
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sessions_of_a_user_share_its_rate() {
    const EACH: usize = 1_500;
    let siege = Siege::begin(|settings| {
        settings.set("limits.sends_per_second_per_user", 1_000).set("limits.sends_in_flight", 4_000);
    })
    .await;
    let mut all: BTreeMap<String, usize> = BTreeMap::new();
    let mut sessions = Vec::new();
    for device in ["phone", "laptop"] {
        let mut client = TestClient::connect(&siege.daemon, "mallory", device).await;
        client.expect("caught_up").await;
        sessions.push((device, client.into_halves()));
    }
    // Before the first of them is written: what passes from now on counts.
    let began = Instant::now();
    let mut sessions: Vec<_> = sessions
        .into_iter()
        .map(|(device, (speaker, listener))| {
            let send = |n| json!({"type": "send", "id": format!("{device}-{n}"), "to": "bob", "body": n});
            (pour(speaker, (0..EACH).map(send).collect::<Vec<_>>()), listener)
        })
        .collect();
    for (pouring, listener) in &mut sessions {
        for (code, count) in answers(listener, EACH).await {
            *all.entry(code).or_default() += count;
        }
        let _speaker = pouring.await.unwrap();
    }
    let seconds = began.elapsed().as_secs_f64();
    let passed = 2 * EACH - all.get("rate_limited").copied().unwrap_or_default();
    eprintln!("{all:?} in {seconds:.2} s");
    // A second's worth at once, and then a thousand a second, over both.
    assert!(passed as f64 <= 1_000.0 * (1.0 + seconds) + 1.0, "{passed} passed in {seconds} s");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_unanswered_sends_than_allowed_are_overloaded_each_answered_once() {
    const SENDS: usize = 3_000;
    let siege = Siege::begin(|settings| {
        settings.set("limits.sends_in_flight", 16);
    })
    .await;
    let history = History::new();
    let (speaker, mut listener) = mallory(&siege, &history).await.into_halves();
    let pouring = pour(speaker, sends(SENDS, |_| "bob".to_owned()));
    let found = answers(&mut listener, SENDS).await;
    eprintln!("{found:?}");
    assert!(found["overloaded"] > 0 && found["accepted"] >= 16, "{found:?}");
    let _speaker = pouring.await.unwrap();
    let mut bob = TestClient::open(&siege.daemon, Options::of("bob", "phone").record(&history)).await;
    for _ in 0..found["accepted"] {
        let message = bob.pick("message").await;
        bob.ack(message["seq"].as_u64().unwrap()).await;
    }
    bob.pick("caught_up").await;
    let report = history.assert_clean();
    assert_eq!(report.deliveries, found["accepted"] as u64, "what was rejected did not arrive");
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_presence_and_watches_are_coalesced() {
    const FLOOD: usize = 5_000;
    let siege = Siege::begin(|_| ()).await;
    let mut watcher = TestClient::connect(&siege.daemon, "watcher", "phone").await;
    watcher.expect("caught_up").await;
    watcher.say(json!({"type": "watch", "users": ["mallory"]})).await;
    watcher.expect("presence").await;
    let mut client = TestClient::connect(&siege.daemon, "mallory", "phone").await;
    client.expect("caught_up").await;
    let (speaker, mut listener) = client.into_halves();
    let users: Vec<_> = (0..200).map(|n| format!("ghost-{n}")).collect();
    let mut frames = Vec::new();
    for n in 0..FLOOD {
        frames
            .push(json!({"type": "status", "state": if n % 2 == 0 { "away" } else { "busy" }, "text": format!("{n}")}));
        if n % 50 == 0 {
            frames.push(json!({"type": "watch", "users": users}));
            frames.push(json!({"type": "unwatch", "users": users}));
        }
    }
    frames.push(json!({"type": "ping", "n": 1}));
    let pouring = pour(speaker, frames);
    let mut refused = 0;
    loop {
        let frame = listener.recv().await;
        match frame["type"].as_str().unwrap() {
            "pong" => break,
            "error" => {
                assert_eq!(frame["code"], "rate_limited", "{frame}");
                refused += 1;
            }
            _ => {}
        }
    }
    assert!(refused > 0, "each change may have to be told to thousands, so there is a rate");
    // Said again once there is room for it, the last word is taken.
    let mut speaker = pouring.await.unwrap();
    wait::until("the last word to be taken", async || {
        speaker.say(&json!({"type": "status", "state": "busy", "text": "last"})).await.unwrap();
        let frame = listener.recv().await;
        (frame["type"] == "presence" && frame["users"][0]["text"] == "last").then_some(())
    })
    .await;
    // The watcher ends up with it.
    let mut version = 0;
    loop {
        let presence = watcher.expect("presence").await;
        let entry = &presence["users"][0];
        let newer = entry["version"].as_u64().unwrap();
        assert!(newer > version, "{presence}");
        version = newer;
        if entry["text"] == "last" {
            break;
        }
    }
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ephemeral_sends_in_thousands_are_dropped_where_there_is_no_room_and_nobody_waits() {
    // Of 8 KiB each: more than the daemon's memory may grow by, so that whoever keeps them is found out.
    const FLOOD: usize = 12_000;
    let siege = Siege::begin(|_| ()).await;
    let history = History::new();
    // One that reads nothing at all, and is owed something durable.
    let mut deaf = TestClient::open(&siege.daemon, Options::of("deaf", "phone").record(&history)).await;
    deaf.expect("caught_up").await;
    let (speaker, mut listener) = mallory(&siege, &history).await.into_halves();
    let typing = json!({"type": "send", "to": "deaf", "body": "e".repeat(8 * 1024), "ephemeral": true});
    let durable = json!({"type": "send", "id": "durable", "to": "deaf", "body": "still here"});
    let pouring = pour(speaker, std::iter::repeat_n(typing, FLOOD).chain([durable]));
    assert_eq!(listener.expect("accepted").await["id"], "durable");
    let _speaker = pouring.await.unwrap();
    // Now it reads: some of the ephemeral ones, and the durable one for certain.
    loop {
        let message = deaf.expect("message").await;
        if message["ephemeral"] != true {
            assert_eq!(message["id"], "durable");
            deaf.ack(message["seq"].as_u64().unwrap()).await;
            break;
        }
    }
    is_well(&mut deaf).await;
    history.assert_clean();
    siege.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_come_and_go_in_a_storm_leave_nothing_behind() {
    const STORM: usize = 300;
    let siege = Siege::begin(|settings| {
        settings.set("presence.linger", "0s");
    })
    .await;
    let storm = (0..4).map(|_| async {
        for _ in 0..STORM / 4 {
            // All of them fight over one device.
            let options = Options::of("mallory", "phone");
            match TestClient::attempt(&siege.daemon.url(), &options).await {
                Ok(mut client) => {
                    let again = json!({"type": "send", "id": "same", "to": "mallory", "body": 0, "retry": true});
                    // Another may have taken over already.
                    let _gone = client.speaker.say(&again).await.is_err();
                }
                Err(Refused::Closed { code, .. }) => assert_eq!(code, 4409),
                Err(other) => panic!("{other:?}"),
            }
        }
    });
    futures::future::join_all(storm).await;
    crate::hostile::siege::until_connections(&siege.daemon, 2).await;
    let mallory = get(&siege.daemon, "/v1/users/mallory").await;
    assert_eq!(mallory["sessions"], json!([]), "{mallory}");
    assert_eq!(mallory["devices"].as_array().unwrap().len(), 1, "{mallory}");
    assert_eq!(get(&siege.daemon, "/v1/stats").await["sessions"], 2);
    siege.end().await;
}
