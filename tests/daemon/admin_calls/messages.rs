//! Goal: `POST /v1/messages` is a send like any other: answered when it is safe, known again when repeated,
//! refused with the code for it.
//! Method: sends to someone who is there and someone who is not; quotas that are full.

use serde_json::{Value, json};

use super::{enter, get, register, send};
use crate::common::client::Options;
use crate::common::daemon::Daemon;
use crate::common::inside::Inside;

async fn post(daemon: &Daemon, request: &Value) -> (u16, Value) {
    daemon.admin_with("POST", "/v1/messages", request).await
}

async fn is_refused(daemon: &Daemon, request: &Value, status: u16, code: &str) {
    let (found, problem) = post(daemon, request).await;
    assert_eq!((found, &problem["code"]), (status, &code.into()), "{request}: {problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_is_answered_when_it_is_safe_either_way() {
    // Handing over is the only way but the disk's, and that takes longer than the test where it is not needed.
    let inside = Inside::start_patient(|_| ()).await;
    let request = json!({"from": "billing", "to": "bob", "id": "invoice-17", "body": {"text": "your invoice"}});
    let (status, stored) = inside.admin_with("POST", "/v1/messages", &request).await;
    assert_eq!((status, &stored["stored"], &stored["id"]), (200, &true.into(), &"invoice-17".into()), "{stored}");
    let mut bob = inside.connect(&Options::of("bob", "phone")).await;
    let message = bob.expect("message").await;
    assert_eq!(
        (&message["from"], &message["body"], &message["seq"]),
        (&"billing".into(), &request["body"], &stored["seq"])
    );
    bob.ack(message["seq"].as_u64().unwrap()).await;
    bob.expect("caught_up").await;
    let live = json!({"from": "billing", "to": "bob", "body": 1});
    let (sent, message) = tokio::join!(inside.admin_with("POST", "/v1/messages", &live), async {
        let message = bob.expect("message").await;
        bob.ack(message["seq"].as_u64().unwrap()).await;
        message
    });
    assert_eq!((sent.0, &sent.1["stored"], &sent.1["seq"]), (200, &false.into(), &message["seq"]), "{}", sent.1);
    assert_eq!(sent.1["id"], message["id"], "an id was made for it");
    assert_eq!(message["id"].as_str().unwrap().len(), 26, "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_is_known_again_also_after_a_restart_and_another_body_is_not() {
    let mut daemon = Daemon::start(|_| ()).await;
    register(&daemon, "bob", "phone").await;
    let request = json!({"from": "billing", "to": "bob", "id": "m1", "body": 1});
    let first = post(&daemon, &request).await;
    let mut again = request.clone();
    again["retry"] = true.into();
    assert_eq!(post(&daemon, &again).await, first);
    is_refused(&daemon, &json!({"from": "billing", "to": "bob", "id": "m1", "body": 2}), 409, "id_reused").await;
    daemon.kill9();
    daemon.restart().await;
    assert_eq!(post(&daemon, &again).await, first);
    is_refused(&daemon, &json!({"from": "billing", "to": "bob", "id": "m1", "body": 2}), 409, "id_reused").await;
    assert_eq!(get(&daemon, "/v1/queues/bob").await["messages"], 1);
    // The same id of another sender is another message.
    send(&daemon, "support", "bob", "m1", json!(3)).await;
    assert_eq!(get(&daemon, "/v1/queues/bob").await["messages"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn full_quotas_are_429_with_a_time_to_wait() {
    let daemon = Daemon::start(|settings| {
        settings.set("queue.max_messages", 2).set("queue.max_outstanding_per_sender", 4);
    })
    .await;
    for n in 0..2 {
        send(&daemon, "billing", "bob", &format!("m{n}"), json!(n)).await;
        send(&daemon, "billing", "carol", &format!("m{n}"), json!(n)).await;
    }
    let (status, problem) = post(&daemon, &json!({"from": "support", "to": "bob", "body": 1})).await;
    assert_eq!((status, &problem["code"]), (429, &"queue_full".into()), "{problem}");
    assert!(problem["retry_after_ms"].is_u64(), "{problem}");
    is_refused(&daemon, &json!({"from": "billing", "to": "dora", "body": 1}), 429, "queue_full").await;
    send(&daemon, "support", "dora", "m", json!("others may")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_arrive_byte_for_byte() {
    let daemon = Daemon::start(|_| ()).await;
    let mut bob = enter(&daemon, "bob", "phone").await;
    let text = r#"{"from":"billing","to":"bob","body": {"z": 1.00,  "a":[ ],"z":2} ,"id":"m1"}"#;
    let mut stream = tokio::net::UnixStream::connect(daemon.socket()).await.unwrap();
    let request = format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{text}", text.len());
    tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.unwrap();
    bob.expect("message").await;
    assert!(
        bob.listener.last_text().ends_with(r#""body":{"z": 1.00,  "a":[ ],"z":2}}"#),
        "{}",
        bob.listener.last_text()
    );
    let page = get(&daemon, "/v1/queues/bob/messages?bodies=true").await;
    assert!(page["messages"].as_array().unwrap().len() <= 1, "{page}");
}
