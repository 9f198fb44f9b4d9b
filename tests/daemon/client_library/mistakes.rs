//! What an application gets wrong is told to it, and never leaves: the router would end the session over
//! it, and every later one.

use std::collections::HashSet;
use std::time::Duration;

use doorstep::client::{CallError, Client, Event, Events, Outgoing, SendFailure};
use doorstep::codes::Code;
use doorstep::presence::PresenceState;
use serde_json::json;
use serde_json::value::RawValue;

use crate::client_library::script::{Peer, Server, connected, next, user, within};

async fn refused(events: &mut Events) -> (Code, String) {
    match next(events).await {
        Event::Refused { code, about: Some(about), .. } => (code, about),
        other => panic!("{other:?}"),
    }
}

/// The next frame is this one, so that nothing else went out before it.
async fn nothing_else_left(client: &Client, peer: &mut Peer) {
    client.send_ephemeral(&user("bob"), "harmless").await.unwrap();
    let frame = peer.hear_a("send").await;
    assert_eq!(frame["body"], "harmless");
}

fn nested(levels: usize) -> Box<RawValue> {
    RawValue::from_string(format!("{}{}", "[".repeat(levels), "]".repeat(levels))).unwrap()
}

#[tokio::test]
async fn an_ephemeral_that_the_router_cannot_take_stays_here() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome_with(json!({"body_bytes": 65500})).await;
    connected(&mut events).await;
    // Each for another reason: the body, the whole frame, the nesting.
    let mistakes = [(json!("x".repeat(70_000)), Code::TooLarge), (json!("x".repeat(65_400)), Code::TooLarge)];
    for (body, code) in mistakes {
        client.send_ephemeral(&user(&"\"".repeat(128)), &body).await.unwrap();
        assert_eq!(refused(&mut events).await, (code, "\"".repeat(128)));
    }
    client.send_ephemeral(&user("bob"), &nested(127)).await.unwrap();
    assert_eq!(refused(&mut events).await, (Code::BadRequest, "bob".into()));
    nothing_else_left(&client, &mut peer).await;
}

#[tokio::test]
async fn a_status_that_cannot_be_is_an_error_and_is_not_kept() {
    let server = Server::start().await;
    let (client, mut events) = server.client();
    let mut peer = server.welcome().await;
    connected(&mut events).await;
    let (longest, longer) = ("ä".repeat(140), "ä".repeat(141));
    let call = client.set_status(PresenceState::Busy, Some(&longer));
    assert_eq!(within("the answer", call).await, Err(CallError::TextTooLong));
    let call = client.set_status(PresenceState::Offline, None);
    assert_eq!(within("the answer", call).await, Err(CallError::Offline));
    client.set_status(PresenceState::Away, Some(&longest)).await.unwrap();
    assert_eq!(peer.hear_a("status").await["text"], longest);
    drop(peer);
    assert_eq!(server.welcome().await.hello["status"], "away");
}

#[tokio::test]
async fn long_names_are_watched_in_frames_that_the_router_takes() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let limits = json!({"frame_bytes": 2000});
    let mut peer = server.welcome_with(limits.clone()).await;
    let names: HashSet<String> = (0..100).map(|n| format!("{n:ä<63}")).collect();
    let users: Vec<_> = names.iter().map(|name| user(name)).collect();
    within("the watch", client.watch(users.clone())).await.unwrap();
    heard_in_fitting_frames(&mut peer, "watch", &names).await;
    within("the unwatch", client.unwatch(users.clone())).await.unwrap();
    heard_in_fitting_frames(&mut peer, "unwatch", &names).await;
    within("the watch", client.watch(users)).await.unwrap();
    drop(peer);
    heard_in_fitting_frames(&mut server.welcome_with(limits).await, "watch", &names).await;
}

async fn heard_in_fitting_frames(peer: &mut Peer, kind: &str, names: &HashSet<String>) {
    let mut heard = HashSet::new();
    while heard.len() < names.len() {
        let frame = peer.hear_a(kind).await;
        assert!(frame.to_string().len() <= 2000);
        heard.extend(frame["users"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()));
    }
    assert_eq!(&heard, names);
}

#[tokio::test]
async fn a_send_that_the_protocol_cannot_say_is_answered_here_or_said_as_near_as_it_can_be() {
    let server = Server::start().await;
    let (client, _events) = server.client();
    let mut peer = server.welcome().await;
    let deep = within("the answer", client.send(&user("bob"), &nested(127))).await.unwrap_err();
    assert!(matches!(deep.cause, SendFailure::Rejected { code: Code::BadRequest, .. }), "{deep}");
    assert!(!deep.maybe_taken);
    for (ttl, ttl_ms) in [(Duration::ZERO, 1), (Duration::from_micros(9), 1), (Duration::MAX, (1_u64 << 53) - 1)] {
        let client = client.clone();
        // A time to go on trying that no clock can hold is for ever.
        let message = Outgoing::new(&user("bob"), "hi").unwrap().ttl(ttl).timeout(Duration::MAX);
        let sent = tokio::spawn(async move { client.send_message(message).await });
        let frame = peer.hear_a("send").await;
        assert_eq!(frame["ttl_ms"], ttl_ms);
        peer.accept(&frame, true).await;
        within("the answer", sent).await.unwrap().unwrap();
    }
}
