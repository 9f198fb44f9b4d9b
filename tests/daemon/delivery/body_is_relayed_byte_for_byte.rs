//! Goal: nobody looks into a body: it arrives with the very bytes that were sent, whichever way it went.
//! Method: JSON that every well-meaning parser would tidy up, taken live, from disk, after a kill, and by
//! an operator's peek.

use crate::common::client::TestClient;
use crate::common::daemon::Daemon;
use crate::delivery::exchange::{accepted, seq};

const BODIES: [&str; 16] = [
    "null",
    "true",
    r#""""#,
    "0",
    "-0",
    "-0.0e-0",
    "1.0",
    "1E+2",
    "123456789012345678901234567890",
    "0.1000000000000000055511151231257827021181583404541015625",
    r#""\u00e9\/\u002f é \ud83d\ude00 😀 \u0000""#,
    "{ \"b\" : 1,\t\"a\":\r\n2 , \"b\": [ ] }",
    "[ 1 ,2,   3 ]",
    r#"{"":{"":[{},[],"",null]}}"#,
    r#""type\":\"accepted\",\"seq\":1""#,
    r#"{"type":"message","seq":1,"from":"mallory","body":{"body":0}}"#,
];

#[tokio::test(flavor = "multi_thread")]
async fn the_bytes_that_were_sent_are_the_bytes_that_arrive() {
    let mut daemon = Daemon::start(|_| ()).await;
    let mut bob = TestClient::connect(&daemon, "bob", "phone").await;
    bob.expect("caught_up").await;
    TestClient::connect(&daemon, "bob", "laptop").await.leave().await;
    let mut alice = TestClient::connect(&daemon, "alice", "phone").await;
    alice.expect("caught_up").await;
    for (number, body) in BODIES.iter().enumerate() {
        let send = format!(r#"{{ "body" : {body} ,"to":"bob", "id":"m-{number}", "type":"send"}}"#);
        alice.speaker.say_text(&send).await.unwrap();
        let message = bob.expect("message").await;
        assert_has_body(bob.listener.last_text(), body);
        bob.ack(seq(&message)).await;
        accepted(&mut alice, 1).await;
        let ephemeral = format!(r#"{{"type":"send","to":"bob","ephemeral":true,"body":{body}}}"#);
        alice.speaker.say_text(&ephemeral).await.unwrap();
        bob.expect("message").await;
        assert_has_body(bob.listener.last_text(), body);
    }
    let (_, peek) = daemon.admin("GET", "/v1/queues/bob/messages?bodies=true").await;
    for (envelope, body) in peek["messages"].as_array().unwrap().iter().zip(BODIES) {
        assert_eq!(envelope["body_bytes"], body.len(), "{envelope}");
    }
    daemon.kill9();
    daemon.restart().await;
    let mut laptop = TestClient::connect(&daemon, "bob", "laptop").await;
    for body in BODIES {
        laptop.expect("message").await;
        assert_has_body(laptop.listener.last_text(), body);
    }
    laptop.expect("caught_up").await;
}

fn assert_has_body(frame: &str, body: &str) {
    let raw: Raw<'_> = serde_json::from_str(frame).unwrap();
    assert_eq!(raw.body.get(), body, "in {frame}");
}

#[derive(serde::Deserialize)]
struct Raw<'a> {
    #[serde(borrow)]
    body: &'a serde_json::value::RawValue,
}
