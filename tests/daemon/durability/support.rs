//! What several of these tests do: registering devices, asking for answers, reading what operators see.
//! Must never hide a frame: each helper says what has to come next.

use serde_json::{Value, json};

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use crate::common::history::History;

/// Registers a device that then goes away.
pub async fn register(daemon: &Daemon, history: &History, user: &str, device: &str) {
    enter(daemon, history, user, device).await.leave().await;
}

/// A session that has its backlog, which is empty.
pub async fn enter(daemon: &Daemon, history: &History, user: &str, device: &str) -> TestClient {
    let mut client = TestClient::open(daemon, Options::of(user, device).record(history)).await;
    client.expect("caught_up").await;
    client
}

/// Sends and returns the answer, whichever it is.
pub async fn send(client: &mut TestClient, to: &str, id: &str, body: &str) -> Value {
    say(client, json!({"type": "send", "id": id, "to": to, "body": body})).await
}

/// The same again, marked as a retry.
pub async fn retry(client: &mut TestClient, to: &str, id: &str, body: &str) -> Value {
    say(client, json!({"type": "send", "id": id, "to": to, "body": body, "retry": true})).await
}

/// Says a `send` and returns its answer.
pub async fn say(client: &mut TestClient, frame: Value) -> Value {
    let id = frame["id"].clone();
    client.say(frame).await;
    let answer = client.recv().await;
    assert_eq!(answer["id"], id, "{answer}");
    answer
}

/// The place of a send that was accepted.
pub fn accepted(answer: &Value, stored: bool) -> u64 {
    assert_eq!(answer["type"], "accepted", "{answer}");
    assert_eq!(answer["stored"], stored, "{answer}");
    answer["seq"].as_u64().unwrap()
}

pub fn rejected(answer: &Value, code: &str) {
    assert_eq!(answer["type"], "rejected", "{answer}");
    assert_eq!(answer["code"], code, "{answer}");
}

/// The next frame is this message; returns its seq.
pub async fn receive(client: &mut TestClient, id: &str, redelivered: bool) -> u64 {
    let message = client.expect("message").await;
    assert_eq!(message["id"], id, "{message}");
    assert_eq!(message["redelivered"] == true, redelivered, "{message}");
    message["seq"].as_u64().unwrap()
}

/// The dead-letter list, bodies included.
pub async fn dead_letters(daemon: &Daemon) -> Vec<Value> {
    let (status, page) = daemon.admin("GET", "/v1/dead-letters?limit=1000&bodies=true").await;
    assert_eq!(status, 200, "{page}");
    page["dead_letters"].as_array().unwrap().clone()
}

/// What waits for a user; zero when nothing is known of it.
pub async fn waiting(daemon: &Daemon, user: &str) -> u64 {
    let (status, queue) = daemon.admin("GET", &format!("/v1/queues/{user}")).await;
    if status == 404 { 0 } else { queue["messages"].as_u64().unwrap() }
}

/// A counter as `/metrics` shows it.
pub async fn metric(daemon: &Daemon, name: &str) -> u64 {
    let (status, text) = daemon.admin("GET", "/metrics").await;
    assert_eq!(status, 200);
    let line = text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(&format!("{name} "))).unwrap();
    line.parse().unwrap()
}
