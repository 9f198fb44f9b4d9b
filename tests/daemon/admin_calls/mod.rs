//! Every call of the admin socket and every operator's command against a real daemon: each tells the truth,
//! looking changes nothing, and what changes something does it once. (That the door itself keeps its bounds is
//! tested beside the hostile clients.)

mod commands;
mod daemon;
mod dead_letters;
mod documented;
mod events;
mod messages;
mod queues;
mod sessions;
mod users;

use crate::common::client::{Options, TestClient};
use crate::common::daemon::Daemon;
use serde_json::{Value, json};

/// A `GET`, `POST` or `DELETE` that must succeed.
async fn call(daemon: &Daemon, method: &str, path: &str) -> Value {
    let (status, body) = daemon.admin(method, path).await;
    assert_eq!(status, 200, "{method} {path}: {body}");
    body
}

async fn get(daemon: &Daemon, path: &str) -> Value {
    call(daemon, "GET", path).await
}

/// A call that must be refused with this status and code.
async fn refused(daemon: &Daemon, method: &str, path: &str, status: u16, code: &str) {
    let (found, body) = daemon.admin(method, path).await;
    assert_eq!(
        (found, &body["status"], &body["code"]),
        (status, &status.into(), &code.into()),
        "{method} {path}: {body}"
    );
    assert_eq!(body["type"], "about:blank", "{body}");
}

/// A session that has caught up.
async fn enter(daemon: &Daemon, user: &str, device: &str) -> TestClient {
    let mut client = TestClient::open(daemon, Options::of(user, device)).await;
    client.pick("caught_up").await;
    client
}

/// Comes and goes: from now on everything is kept for this device.
async fn register(daemon: &Daemon, user: &str, device: &str) {
    enter(daemon, user, device).await.leave().await;
}

/// Sends as an application server; the seq it got.
async fn send(daemon: &Daemon, from: &str, to: &str, id: &str, body: Value) -> u64 {
    let request = json!({"from": from, "to": to, "id": id, "body": body});
    let (status, sent) = daemon.admin_with("POST", "/v1/messages", &request).await;
    assert_eq!(status, 200, "{sent}");
    assert_eq!((&sent["id"], &sent["to"]), (&id.into(), &to.into()), "{sent}");
    sent["seq"].as_u64().unwrap()
}

/// The field of every entry of a list.
fn column<'a>(list: &'a Value, field: &str) -> Vec<&'a Value> {
    list.as_array().unwrap_or_else(|| panic!("{list} is no list")).iter().map(|entry| &entry[field]).collect()
}

/// Walks a list page by page; what each page held, in `field` of its entries.
async fn walk(daemon: &Daemon, path: &str, list: &str, field: &str, limit: usize) -> Vec<Value> {
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let joint = if path.contains('?') { '&' } else { '?' };
        let page = get(daemon, &format!("{path}{joint}limit={limit}{after}")).await;
        let entries = column(&page[list], field);
        assert!(entries.len() <= limit, "{page}");
        found.extend(entries.into_iter().cloned());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", percent_encoded(next)),
            None => return found,
        }
        assert!(found.len() < 10_000, "{path} never ends");
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { (byte as char).to_string() } else { format!("%{byte:02X}") })
        .collect()
}
