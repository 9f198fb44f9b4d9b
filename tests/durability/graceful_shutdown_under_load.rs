//! Goal: shutdown is a form of delivery: on SIGTERM every send that was taken in is answered, every session
//! gets a goodbye that says when to come back, spread out; the end is clean (0), nothing is lost, and the
//! next life marks nothing as redelivered that was not pushed.
//! Method: senders that keep many sends unanswered until they are told of the end; recipients that are
//! there, slow, or away; SIGTERM in the middle; restart, repeat, drain, judge.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::common::client::{Heard, Options, TestClient};
use super::common::daemon::Daemon;
use super::common::history::History;
use super::common::wait;
use super::support::{enter, register};

const SENDERS: usize = 4;
const WINDOW: usize = 100;
/// Accepted sends before the signal comes.
const WARM: u64 = 400;
const SPREAD_MS: u64 = 5000;
/// Told at least to wait so long.
const COME_BACK_MS: u64 = 500;
const RECIPIENTS: [&str; 3] = ["there", "slow", "away"];

/// How a session ended: the advice of its goodbye.
struct Ended {
    retry_after_ms: u64,
    /// Sends without an answer, or turned away, in the order sent.
    open: Vec<(Value, bool)>,
    /// Seqs that were pushed to it.
    received: HashSet<u64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_everyone_is_told() {
    let history = History::new();
    let mut daemon = Daemon::start(|settings| {
        settings.set("shutdown.reconnect_spread", format!("{SPREAD_MS}ms"));
    })
    .await;
    for user in RECIPIENTS {
        register(&daemon, &history, user, "phone").await;
    }
    let accepted = Arc::new(AtomicU64::new(0));
    let mut sessions = JoinSet::new();
    for number in 0..SENDERS {
        let client = enter(&daemon, &history, &format!("sender-{number}"), "pen").await;
        sessions.spawn(send_until_told(client, number, accepted.clone()));
    }
    for (user, window) in [("there", 256), ("slow", 4)] {
        let options = Options::of(user, "phone").hello("window", window).record(&history);
        let client = TestClient::open(&daemon, options).await;
        sessions.spawn(receive_until_told(client, window));
    }
    wait::until("the load", async || (accepted.load(Ordering::Relaxed) >= WARM).then_some(())).await;
    daemon.signal(Signal::TERM);
    let status = daemon.exit().await;
    assert_eq!(status.code(), Some(0), "{status}");
    let ends: Vec<Ended> = wait::within("the end of all sessions", sessions.join_all()).await;
    advice_is_spread(&ends);
    let received: HashSet<u64> = ends.iter().flat_map(|end| end.received.iter().copied()).collect();

    daemon.restart().await;
    let mut retried = HashSet::new();
    for (number, ended) in ends.into_iter().filter(|ended| !ended.open.is_empty()).enumerate() {
        retried.extend(ended.open.iter().filter(|(_, retry)| *retry).map(|(frame, _)| frame["id"].to_string()));
        repeat(&daemon, &history, number, ended.open).await;
    }
    for user in RECIPIENTS {
        drain(&daemon, &history, user, (&received, &retried)).await;
    }
    let report = history.assert_clean();
    assert!(report.accepted_stored > 0 && report.accepted() > WARM, "{report}");
}

/// Keeps a window of sends unanswered until a goodbye comes, and reads to the end.
async fn send_until_told(client: TestClient, number: usize, accepted: Arc<AtomicU64>) -> Ended {
    let (mut speaker, mut listener) = client.into_halves();
    let (mut made, mut answered_upto, mut told, mut retry_after_ms) = (0, 0, false, None);
    let mut open: Vec<(Value, bool)> = Vec::new();
    let mut turned_away: Vec<(Value, bool)> = Vec::new();
    loop {
        while !told && open.len() < WINDOW {
            let to = RECIPIENTS[made % RECIPIENTS.len()];
            let frame = json!({"type": "send", "id": format!("{number}-{made}"), "to": to, "body": {"number": made}});
            made += 1;
            if speaker.queue(&frame).await.is_err() {
                break;
            }
            open.push((frame, true));
        }
        // A connection that is gone says so when it is read.
        let _broken = speaker.flush().await.is_err();
        let frame = match listener.next().await {
            Heard::Frame(frame) => frame,
            Heard::Closed { code, .. } => {
                assert_eq!(code, 1012);
                break;
            }
            Heard::Gone(why) => panic!("no close: {why}"),
        };
        match frame["type"].as_str().unwrap() {
            "goodbye" => {
                told = true;
                retry_after_ms = frame["retry_after_ms"].as_u64();
            }
            kind => {
                let at = open.iter().position(|(sent, _)| sent["id"] == frame["id"]).unwrap();
                let (sent, _) = open.remove(at);
                answered_upto = answered_upto.max(sent["body"]["number"].as_u64().unwrap() as usize);
                if kind == "accepted" {
                    accepted.fetch_add(1, Ordering::Relaxed);
                } else {
                    assert_eq!(frame["code"], "shutting_down", "{frame}");
                    told = true;
                    turned_away.push((sent, false));
                }
            }
        }
    }
    let retry_after_ms = retry_after_ms.expect("a goodbye came before the close");
    nothing_was_passed_over(&open, answered_upto);
    turned_away.extend(open);
    Ended { retry_after_ms, open: turned_away, received: HashSet::new() }
}

/// A send that was taken in is answered. One that crossed the goodbye on its way may be without an answer,
/// but never one that was read before another that has its own.
fn nothing_was_passed_over(open: &[(Value, bool)], answered_upto: usize) {
    let passed = open.iter().find(|(sent, _)| sent["body"]["number"].as_u64().unwrap() < answered_upto as u64);
    assert!(passed.is_none(), "never answered, though the one numbered {answered_upto} was: {passed:?}");
}

async fn receive_until_told(mut client: TestClient, window: usize) -> Ended {
    let (mut received, mut retry_after_ms) = (HashSet::new(), None);
    loop {
        match client.listener.next().await {
            Heard::Frame(frame) if frame["type"] == "message" => {
                let seq = frame["seq"].as_u64().unwrap();
                received.insert(seq);
                // The slow one acknowledges only when it must.
                if received.len() % window.min(4) == 0 {
                    let ack = json!({"type": "ack", "seq": seq});
                    let _broken = client.speaker.say(&ack).await.is_err();
                }
            }
            Heard::Frame(frame) if frame["type"] == "goodbye" => retry_after_ms = frame["retry_after_ms"].as_u64(),
            Heard::Frame(frame) => assert_eq!(frame["type"], "caught_up", "{frame}"),
            Heard::Closed { code, .. } => {
                assert_eq!(code, 1012);
                break;
            }
            Heard::Gone(why) => panic!("no close: {why}"),
        }
    }
    let retry_after_ms = retry_after_ms.expect("a goodbye came before the close");
    Ended { retry_after_ms, open: Vec::new(), received }
}

fn advice_is_spread(ends: &[Ended]) {
    let waits: HashSet<u64> = ends.iter().map(|end| end.retry_after_ms).collect();
    assert!(waits.len() > 1, "all were told to come back at the same moment: {waits:?}");
    assert!(waits.iter().all(|wait| *wait <= COME_BACK_MS + SPREAD_MS), "{waits:?}");
}

/// On the next connection: what was turned away as it was, what got no answer as a retry.
async fn repeat(daemon: &Daemon, history: &History, number: usize, open: Vec<(Value, bool)>) {
    let user = format!("sender-{}", open[0].0["id"].as_str().unwrap().split('-').next().unwrap());
    let mut client = enter(daemon, history, &user, "pen").await;
    let mut waiting: HashMap<String, usize> = HashMap::new();
    for (at, (mut frame, retry)) in open.into_iter().enumerate() {
        if retry {
            frame["retry"] = true.into();
        }
        waiting.insert(frame["id"].as_str().unwrap().to_owned(), at);
        client.say(frame).await;
    }
    while !waiting.is_empty() {
        let answer = client.expect("accepted").await;
        assert!(waiting.remove(answer["id"].as_str().unwrap()).is_some(), "{number}: {answer}");
    }
}

/// Everything arrives; what is marked was pushed before, or is a retry that nobody knew.
async fn drain(daemon: &Daemon, history: &History, user: &str, (pushed, retried): (&HashSet<u64>, &HashSet<String>)) {
    let mut client = TestClient::open(daemon, Options::of(user, "phone").record(history)).await;
    loop {
        let frame = client.recv().await;
        if frame["type"] == "caught_up" {
            break;
        }
        let seq = frame["seq"].as_u64().unwrap();
        if frame["redelivered"] == true {
            let known = pushed.contains(&seq) || retried.contains(&frame["id"].to_string());
            assert!(known, "this was pushed to nobody before: {frame}");
        }
        client.ack(seq).await;
    }
}
