//! Goal: what changes something reaches the right owner once, and its outcome is told truthfully, above all
//! whether a message was taken. Method: owners that answer, refuse, or fall silent.

use super::*;
use doorstep::codes::Code;
use doorstep::store::{DeadLetter, DeadReason};

const SEND: &str = r#"{"from":"alice","to":"bob","id":"m1","body":{"z": 1.00, "a":[]},"ttl_ms":5000}"#;

fn rejected(code: Code, retry_after_ms: Option<u64>) -> Option<Outcome> {
    Some(Outcome::Rejected { code, reason: "because", retry_after_ms })
}

#[tokio::test]
async fn a_send_is_answered_when_the_message_is_safe() {
    let house = House::open().await;
    house.play(|play| play.outcome = Some(Outcome::Accepted { seq: Seq(1234), stored: true }));
    let sent = house.call("POST", "/v1/messages", SEND).await.good();
    assert_eq!(sent, serde_json::json!({ "id": "m1", "to": "bob", "seq": 1234, "stored": true }));
    assert_eq!(house.heard(), ["send alice bob m1 ttl 5000 retry false"]);
    assert_eq!(house.play.lock().unwrap().bodies, [r#"{"z": 1.00, "a":[]}"#], "byte for byte");
}

#[tokio::test]
async fn without_an_id_one_is_minted_and_the_ttl_is_capped() {
    let house = House::open().await;
    house.play(|play| play.outcome = Some(Outcome::Accepted { seq: Seq(1), stored: false }));
    let body = r#"{"from":"alice","to":"bob","body":1,"ttl_ms":9007199254740991,"retry":true}"#;
    let sent = house.call("POST", "/v1/messages", body).await.good();
    let minted = sent["id"].as_str().unwrap();
    assert_eq!(minted.len(), 26);
    let ttl_ms = Config::default().queue.ttl.as_millis();
    assert_eq!(house.heard(), [format!("send alice bob {minted} ttl {ttl_ms} retry true")]);
}

#[tokio::test]
async fn a_refusal_has_its_code_and_status() {
    let house = House::open().await;
    for (code, status, word) in [
        (Code::IdReused, 409, "id_reused"),
        (Code::QueueFull, 429, "queue_full"),
        (Code::Overloaded, 503, "overloaded"),
        (Code::StorageUnavailable, 503, "storage_unavailable"),
        (Code::UnknownOutcome, 504, "unknown_outcome"),
    ] {
        house.play(|play| play.outcome = rejected(code, Some(2500)));
        let reply = house.call("POST", "/v1/messages", SEND).await;
        assert_eq!(reply.problem(status), word);
        assert_eq!((&reply.json()["detail"], &reply.json()["retry_after_ms"]), (&"because".into(), &2500.into()));
        assert!(reply.head.contains("retry-after: 3"), "{}", reply.head);
    }
}

#[tokio::test]
async fn an_owner_that_drops_or_forgets_the_send_leaves_the_outcome_unknown() {
    let house = House::open().await;
    assert_eq!(house.call("POST", "/v1/messages", SEND).await.problem(504), "unknown_outcome");
    let silent = House::open_with(|config| config.queue.accept_timeout = Duration::from_millis(50)).await;
    silent.play(|play| play.keeps_senders = true);
    assert_eq!(silent.call("POST", "/v1/messages", SEND).await.problem(504), "unknown_outcome");
}

#[tokio::test]
async fn what_never_reached_an_owner_is_certainly_not_taken() {
    let house = House::open_with(|config| config.limits.body_bytes = 64).await;
    house.play(|play| play.outcome = Some(Outcome::Accepted { seq: Seq(1), stored: true }));
    let large = |bytes: usize| format!(r#"{{"from":"a","to":"b","body":"{}"}}"#, "x".repeat(bytes));
    for bytes in [63, 100_000] {
        let reply = house.call("POST", "/v1/messages", &large(bytes)).await;
        assert_eq!(reply.problem(413), "too_large", "{bytes}");
    }
    house.call("POST", "/v1/messages", &large(62)).await.good();
    assert_eq!(house.call("POST", "/v1/messages", "{}").await.problem(400), "bad_request");
    house.announcer.announce(shutdown::Phase::Draining);
    assert_eq!(house.call("POST", "/v1/messages", SEND).await.problem(503), "shutting_down");
    assert_eq!(house.heard().len(), 1, "only the one that fits");
}

#[tokio::test]
async fn owners_that_are_gone_take_nothing() {
    let house = House::open().await;
    house.owners.iter().for_each(JoinHandle::abort);
    let mut code = house.call("POST", "/v1/messages", SEND).await;
    // The abort takes effect when the runtime gets to it.
    while code.status == 504 {
        code = house.call("POST", "/v1/messages", SEND).await;
    }
    assert_eq!(code.problem(503), "shutting_down");
}

#[tokio::test]
async fn purging_and_forgetting_are_told_to_the_owner() {
    let house = House::open().await;
    let purged = house.call("DELETE", "/v1/queues/J%C3%BCrgen", "").await.good();
    assert_eq!(purged, serde_json::json!({ "user": "Jürgen", "purged": 2 }));
    house.call("DELETE", "/v1/queues/bob/messages/1002", "").await.good();
    house.call("DELETE", "/v1/users/bob/devices/phone", "").await.good();
    assert_eq!(house.heard(), ["purge Jürgen None", "purge bob Some(Seq(1002))", "forget bob phone"]);
    for (why, status, code) in [
        (NotDone::NotFound, 404, "not_found"),
        (NotDone::Storage, 503, "storage_unavailable"),
        (NotDone::Busy, 503, "overloaded"),
    ] {
        house.play(|play| play.done = Some(why));
        assert_eq!(house.call("DELETE", "/v1/queues/bob", "").await.problem(status), code);
        assert_eq!(house.call("DELETE", "/v1/users/bob/devices/phone", "").await.problem(status), code);
    }
}

#[tokio::test]
async fn removing_a_session_finds_whose_it_is() {
    let house = House::open().await;
    let users = ["a", "b", "c", "d"];
    house.play(|play| {
        play.sessions = users.iter().zip(0..).map(|(user, number)| session(number * 10, user, "phone")).collect();
    });
    let kick = |number: u128| format!("/v1/sessions/{}", SessionId(number));
    assert_eq!(house.call("DELETE", &kick(20), "").await.good()["user"], "c");
    assert_eq!(house.call("DELETE", &kick(0), "").await.good()["user"], "a", "the lowest id there can be");
    assert_eq!(house.heard(), [format!("kick c {}", SessionId(20)), format!("kick a {}", SessionId(0))]);
    assert_eq!(house.call("DELETE", &kick(15), "").await.problem(404), "not_found");
    assert_eq!(house.call("DELETE", &kick(31), "").await.problem(404), "not_found");
    assert_eq!(house.call("DELETE", "/v1/sessions/none", "").await.problem(400), "bad_request");
}

#[tokio::test]
async fn dead_letters_are_cleared_and_counted() {
    let house = House::open().await;
    let letter = doorstep::store::DeadLetter {
        reason: doorstep::store::DeadReason::Corrupt,
        user: id("bob"),
        device: None,
        seq: Seq(1),
        message: None,
        buried_ms: clock::wall_us() / 1000,
    };
    house.change("bob", Op::Bury { letter });
    assert_eq!(house.get("/v1/dead-letters").await.good()["dead_letters"][0]["message"], Value::Null);
    assert_eq!(house.call("DELETE", "/v1/dead-letters", "").await.good()["cleared"], 1);
    assert_eq!(house.call("DELETE", "/v1/dead-letters", "").await.good()["cleared"], 0);
}

#[tokio::test]
async fn expiry_is_resumed_in_every_shard() {
    let house = House::open().await;
    house.expiry_paused.store(true, Ordering::SeqCst);
    assert_eq!(house.call("POST", "/v1/expiry/resume", "").await.good()["was_paused"], true);
    assert!(!house.expiry_paused.load(Ordering::SeqCst));
    // A question to every owner comes back only after each had its command in the mailbox.
    while house.heard().len() < SHARDS {
        house.get("/v1/stats").await.good();
    }
    let mut heard = house.heard();
    heard.sort();
    assert_eq!(heard, ["pause false 0", "pause false 1", "pause false 2"]);
}

#[tokio::test]
async fn drain_begins_the_end_and_the_door_closes_last() {
    let house = House::open().await;
    let reply = house.call("POST", "/v1/drain", "").await;
    assert_eq!((reply.status, &reply.json()["draining"]), (202, &true.into()));
    assert!(house.controls.drained.load(Ordering::SeqCst));
    house.announcer.announce(shutdown::Phase::Draining);
    house.get("/v1/stats").await.good();
    house.announcer.announce(shutdown::Phase::Closing);
    tokio::time::timeout(PATIENCE, house.served).await.expect("the door closes").unwrap();
    assert!(!house.socket.exists());
}

#[tokio::test]
async fn hostile_requests_get_an_error_and_others_are_served_meanwhile() {
    let house = House::open().await;
    let mut idle = UnixStream::connect(&house.socket).await.unwrap();
    idle.write_all(b"GET /v1/hea").await.unwrap();
    let long = "x".repeat(100_000);
    assert_eq!(house.get(&format!("/v1/users/{long}")).await.status, 431);
    let headers = format!("GET /v1/health HTTP/1.1\r\nhost: x\r\nx: {long}\r\n\r\n");
    assert_eq!(house.raw(&headers).await.status, 431);
    assert_eq!(house.raw("nonsense\r\n\r\n").await.status, 400);
    let reply = house.call("PUT", "/v1/queues/bob", "").await;
    assert_eq!(reply.problem(405), "method_not_allowed");
    assert!(reply.head.contains("allow: get, delete"), "{}", reply.head);
    assert_eq!(house.get("/v1/nowhere").await.problem(404), "not_found");
    house.get("/v1/health").await.good();
}

/// Letter 0 holds a message to bob, letter 1 cannot be read.
fn bury_two(house: &House) {
    for (seq, message) in [(1, Some(Arc::new(message(1, "1")))), (2, None)] {
        let reason = DeadReason::Purged;
        let letter = DeadLetter { reason, user: id("bob"), device: None, seq: Seq(seq), message, buried_ms: 5 };
        house.change("bob", Op::Bury { letter });
    }
}

#[tokio::test]
async fn the_owner_of_the_recipient_puts_a_letter_back() {
    let house = House::open().await;
    bury_two(&house);
    let back = house.call("POST", "/v1/dead-letters/0/requeue", "").await.good();
    assert_eq!(back, serde_json::json!({ "user": "bob", "seq": 2001 }));
    let ttl_ms = Config::default().queue.ttl.as_millis();
    assert_eq!(house.heard(), [format!("requeue bob 0 ttl {ttl_ms}")]);
}

#[tokio::test]
async fn a_letter_that_is_not_put_back_has_its_reason() {
    let house = House::open().await;
    bury_two(&house);
    assert_eq!(house.call("POST", "/v1/dead-letters/1/requeue", "").await.problem(409), "corrupt");
    assert_eq!(house.call("POST", "/v1/dead-letters/2/requeue", "").await.problem(404), "not_found");
    assert!(house.heard().is_empty(), "no owner need be asked");
    let refused = |code| NotRequeued::Refused { code, reason: "because", retry_after_ms: Some(1000) };
    for (why, status, word) in [
        (NotRequeued::NotFound, 404, "not_found"),
        (NotRequeued::Unreadable, 409, "corrupt"),
        (refused(Code::QueueFull), 429, "queue_full"),
        (refused(Code::StorageUnavailable), 503, "storage_unavailable"),
        (refused(Code::UnknownOutcome), 504, "unknown_outcome"),
    ] {
        house.play(|play| play.requeued = Some(Err(why)));
        assert_eq!(house.call("POST", "/v1/dead-letters/0/requeue", "").await.problem(status), word);
    }
    house.announcer.announce(shutdown::Phase::Draining);
    assert_eq!(house.call("POST", "/v1/dead-letters/0/requeue", "").await.problem(503), "shutting_down");
}
