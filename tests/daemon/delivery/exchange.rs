//! Small talk of the delivery tests: send a lot, take a lot, ask the side door how things stand.
//! Must never hide a frame: whatever is not asked for stays with the client for later.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::common::client::TestClient;
use crate::common::daemon::{Daemon, Desk};
use crate::common::wait;

/// Sends that a pouring client leaves unanswered at a time.
const UNANSWERED_MAX: usize = 64;

pub fn seq(frame: &Value) -> u64 {
    frame["seq"].as_u64().unwrap_or_else(|| panic!("no seq in {frame}"))
}

pub fn id(frame: &Value) -> &str {
    frame["id"].as_str().unwrap_or_else(|| panic!("no id in {frame}"))
}

/// Sends `PREFIX-0`, `PREFIX-1`, … to each of `to` in turn, many unanswered at a time, and sees each
/// accepted. Returns the answers.
pub async fn pour(client: &mut TestClient, to: &[&str], prefix: &str, count: usize) -> Vec<Value> {
    let sends: Vec<_> = (0..count).flat_map(|number| to.iter().map(move |to| (*to, number))).collect();
    let mut answers = Vec::new();
    for some in sends.chunks(UNANSWERED_MAX) {
        for (to, number) in some {
            let id = format!("{prefix}-{number}");
            let send = json!({"type": "send", "id": id, "to": to, "body": {"number": number}});
            client.speaker.queue(&send).await.unwrap();
        }
        client.speaker.flush().await.unwrap();
        answers.extend(accepted(client, some.len()).await);
    }
    answers
}

/// The next `count` answers, all of which must be `accepted`.
pub async fn accepted(client: &mut TestClient, count: usize) -> Vec<Value> {
    let mut answers = Vec::new();
    while answers.len() < count {
        answers.push(client.pick("accepted").await);
    }
    answers
}

/// Takes and acknowledges messages one by one until `count` different ones were had, in the order of
/// their first coming.
pub async fn take(client: &mut TestClient, count: usize) -> Vec<Value> {
    let mut known = HashSet::new();
    let mut messages = Vec::new();
    while messages.len() < count {
        let message = client.pick("message").await;
        client.ack(seq(&message)).await;
        if known.insert((message["from"].to_string(), message["id"].to_string())) {
            messages.push(message);
        }
    }
    messages
}

/// Takes and acknowledges messages until the one with this id has come. Returns them all.
pub async fn take_until(client: &mut TestClient, last: &str) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let message = client.pick("message").await;
        client.ack(seq(&message)).await;
        let found = id(&message) == last;
        messages.push(message);
        if found {
            return messages;
        }
    }
}

pub fn ids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| id(message).to_owned()).collect()
}

/// `PREFIX-0` up to `PREFIX-(count-1)`, as [`pour`] names them.
pub fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// Nothing is on its way to this client: the owner of its own user has dealt with all that came before,
/// and what it says next is the answer to a status.
pub async fn expect_silence(client: &mut TestClient) {
    expect_silence_at(&mut [client]).await;
}

/// As [`expect_silence`], for several sessions of one user, which all hear the answer.
pub async fn expect_silence_at(clients: &mut [&mut TestClient]) {
    clients[0].say(json!({"type": "status", "state": "online"})).await;
    for client in clients {
        let frame = client.recv().await;
        let is_answer = frame["type"] == "presence" && frame["users"][0]["user"] == client.welcome["user"];
        assert!(is_answer, "there should be silence, not {frame}");
    }
}

/// Returns when the owner of the client's own user has dealt with everything this client said before.
/// Works by a status that only it answers; changes the user's visible presence.
pub async fn fence(client: &mut TestClient, mark: &str) {
    client.say(json!({"type": "status", "state": "online", "text": mark})).await;
    loop {
        let frame = client.pick("presence").await;
        if frame["users"].as_array().unwrap().iter().any(|user| user["text"] == mark) {
            return;
        }
    }
}

/// What some device of this user still lacks, as the side door tells; 0 when nothing is known of it.
pub async fn waiting(daemon: &impl Desk, user: &str) -> u64 {
    match daemon.ask("GET", &format!("/v1/queues/{user}")).await {
        (200, queue) => queue["messages"].as_u64().unwrap(),
        (404, _) => 0,
        (status, problem) => panic!("{status} {problem}"),
    }
}

/// Waits until nothing is left in this user's queue, for no device of it.
pub async fn until_empty(daemon: &impl Desk, user: &str) {
    let what = format!("the queue of {user} to be empty");
    wait::until(&what, async || (waiting(daemon, user).await == 0).then_some(())).await;
}

/// One of the daemon's counters.
pub async fn counter(daemon: &impl Desk, name: &str) -> i64 {
    let (status, stats) = daemon.ask("GET", "/v1/stats").await;
    assert_eq!(status, 200, "{stats}");
    stats["counters"][name].as_i64().unwrap_or_else(|| panic!("no counter {name} in {stats}"))
}

/// The line of one device on the user's page.
pub async fn device(daemon: &Daemon, user: &str, device: &str) -> Value {
    let (status, page) = daemon.admin("GET", &format!("/v1/users/{user}")).await;
    assert_eq!(status, 200, "{page}");
    let lines = page["devices"].as_array().unwrap();
    lines.iter().find(|line| line["device"] == device).cloned().unwrap_or_else(|| panic!("no {device} in {page}"))
}

/// Waits until this device has been pushed everything there is for it.
pub async fn until_live(daemon: &Daemon, user: &str, name: &str) {
    let what = format!("{user}'s {name} to be live");
    wait::until(&what, async || (device(daemon, user, name).await["live"] == true).then_some(())).await;
}
