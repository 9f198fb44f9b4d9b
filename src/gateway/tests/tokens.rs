//! Sessions that live by a token. Method: real tokens, short-lived where the end matters.

use serde_json::json;

use crate::gateway::testing::{Client, SECRET, at_s, jwt_config, open, token};
use crate::routing::command::Command;

fn token_of(user: &str, exp_s: i64) -> String {
    token(SECRET, &json!({"sub": user, "exp": exp_s, "aud": "doorstep"}))
}

#[tokio::test]
async fn a_token_in_the_header_or_in_hello_opens_the_door() {
    let (config, _key) = jwt_config();
    let mut house = open(config);
    let exp_s = at_s(60);
    let bearer = format!("Bearer {}", token_of("alice", exp_s));
    let mut alice = Client::try_connect(house.address, "/v1/connect", &[("authorization", &bearer)]).await.unwrap();
    alice.say(r#"{"type":"hello","device":"phone"}"#).await;
    assert_eq!(house.owner.attach().await.user.as_str(), "alice");
    assert_eq!(alice.hear().await["expires_ms"], exp_s * 1000);

    let mut bob = Client::connect(house.address).await;
    bob.say(&format!(r#"{{"type":"hello","token":"{}"}}"#, token_of("bob", exp_s))).await;
    assert_eq!(house.owner.attach().await.user.as_str(), "bob");
}

#[tokio::test]
async fn without_a_good_token_there_is_no_session() {
    let (config, _key) = jwt_config();
    let mut house = open(config);
    let alice = token_of("alice", at_s(60));
    for (hello, code) in [
        (json!({"type": "hello"}), 4401),
        (json!({"type": "hello", "user": "alice"}), 4401),
        (json!({"type": "hello", "token": token_of("alice", at_s(-5))}), 4401),
        (json!({"type": "hello", "token": "forged"}), 4401),
        (json!({"type": "hello", "token": alice, "user": "bob"}), 4403),
    ] {
        let mut client = Client::connect(house.address).await;
        client.say(&hello.to_string()).await;
        let (closed, goodbye) = client.end().await;
        assert_eq!(closed, code, "{hello}");
        assert!(!goodbye.to_string().contains("forged"));
    }
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (config, _key) = jwt_config();
    let mut house = open(config);
    let mut alice = Client::connect(house.address).await;
    alice.say(&format!(r#"{{"type":"hello","token":"{}"}}"#, token_of("alice", at_s(5)))).await;
    let attach = house.owner.attach().await;
    assert_eq!(alice.end().await.0, 4401);
    assert!(!house.owner.detach(&attach.session).await);
}

#[tokio::test]
async fn a_renewed_token_prolongs_the_session_and_a_wrong_one_does_not() {
    let (config, _key) = jwt_config();
    let mut house = open(config);
    let mut alice = Client::connect(house.address).await;
    let first_exp_s = at_s(5);
    alice.say(&format!(r#"{{"type":"hello","token":"{}"}}"#, token_of("alice", first_exp_s))).await;
    let attach = house.owner.attach().await;
    assert_eq!(alice.hear().await["type"], "welcome");
    alice.say(r#"{"type":"token","token":"forged"}"#).await;
    let error = alice.hear().await;
    assert_eq!((&error["type"], &error["ref"]), (&"error".into(), &"token".into()));
    let exp_s = at_s(60);
    alice.say(&format!(r#"{{"type":"token","token":"{}"}}"#, token_of("alice", exp_s))).await;
    assert_eq!(alice.hear().await, json!({"type": "token_ok", "expires_ms": exp_s * 1000}));
    while at_s(0) <= first_exp_s {
        alice.say(r#"{"type":"ping"}"#).await;
        assert_eq!(alice.hear().await["type"], "pong");
    }
    alice.say(&format!(r#"{{"type":"token","token":"{}"}}"#, token_of("mallory", exp_s))).await;
    assert_eq!(alice.end().await.0, 4403);
    assert!(!house.owner.detach(&attach.session).await);
}

#[tokio::test]
async fn a_token_limits_whom_one_may_send_to_and_watch() {
    let (config, _key) = jwt_config();
    let mut house = open(config);
    let rights = |send: &[&str], watch: &[&str]| {
        let doorstep = json!({"send": send, "watch": watch});
        token(SECRET, &json!({"sub": "alice", "exp": at_s(60), "aud": "doorstep", "doorstep": doorstep}))
    };
    let mut alice = Client::connect(house.address).await;
    alice.say(&format!(r#"{{"type":"hello","token":"{}"}}"#, rights(&["bob"], &["bob", "team-*"]))).await;
    house.owner.attach().await;
    assert_eq!(alice.hear().await["type"], "welcome");
    alice.say(r#"{"type":"send","id":"m1","to":"carol","body":1}"#).await;
    assert_eq!(alice.hear().await["code"], "forbidden");
    alice.say(r#"{"type":"watch","users":["team-red","carol"]}"#).await;
    assert_eq!(alice.hear().await["code"], "forbidden");
    alice.say(r#"{"type":"send","id":"m2","to":"bob","body":1}"#).await;
    assert_eq!(house.owner.send().await.to.as_str(), "bob");
    alice.say(r#"{"type":"watch","users":["team-red"]}"#).await;
    assert!(matches!(house.owner.next().await, Command::Watch { .. }));

    // A new token may allow less, and that holds at once, for the last recipient as well.
    alice.say(&format!(r#"{{"type":"token","token":"{}"}}"#, rights(&[], &["bob"]))).await;
    assert_eq!(alice.hear().await["type"], "token_ok");
    let Command::Unwatch { user, .. } = house.owner.next().await else { panic!() };
    assert_eq!(user.as_str(), "team-red");
    alice.say(r#"{"type":"send","id":"m3","to":"bob","body":1}"#).await;
    assert_eq!(alice.hear().await["code"], "forbidden");
    assert!(house.owner.is_idle());
}
