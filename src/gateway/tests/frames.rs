//! What a session may say and what it is answered. Method: the test is client and owner at once, and looks at
//! the commands that arrive as well as at the frames that come back.

use futures::SinkExt;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::codes::Code;
use crate::gateway::testing::{config, open, soon};
use crate::ids::Seq;
use crate::presence::PresenceState;
use crate::routing::command::{Command, Send};
use crate::routing::session_handle::{Answer, Ephemeral, Outcome};
use crate::shutdown::Phase;

fn ttl_ms(send: &Send) -> u64 {
    send.message.expires_ms - send.message.ts_ms
}

#[tokio::test]
async fn a_send_reaches_the_owner_byte_for_byte_and_its_answer_comes_back() {
    let mut house = open(config());
    let (mut alice, _) = house.enter("alice").await;
    let body = r#"{ "n" : 1.0e0, "é":"\u00e9 😀" }"#;
    alice.say(&format!(r#"{{"type":"send","id":"m1","to":"bob","body":{body},"ttl_ms":5000,"retry":true}}"#)).await;
    let send = house.owner.send().await;
    assert_eq!((send.message.from.as_str(), send.to.as_str(), send.message.id.as_str()), ("alice", "bob", "m1"));
    assert_eq!((&send.message.body[..], ttl_ms(&send), send.message.retry), (body.as_bytes(), 5000, true));
    assert!(send.message.ts_ms > 1_700_000_000_000 && send.taken_us >= send.message.ts_ms * 1000 - 1_000_000);
    send.sender.answer(Answer {
        message: send.message.clone(),
        to: send.to.clone(),
        outcome: Outcome::Accepted { seq: Seq(7), stored: true },
    });
    send.sender.wake();
    let accepted = alice.hear().await;
    assert_eq!(accepted, serde_json::json!({"type":"accepted","id":"m1","to":"bob","seq":7,"stored":true}));
}

#[tokio::test]
async fn a_ttl_is_capped_by_the_configured_one() {
    let mut house = open(config());
    let (mut alice, _) = house.enter("alice").await;
    alice.say(r#"{"type":"send","id":"m1","to":"bob","body":1}"#).await;
    alice.say(r#"{"type":"send","id":"m2","to":"bob","body":1,"ttl_ms":99999999999}"#).await;
    let longest_ms = config().queue.ttl.as_millis() as u64;
    assert_eq!(ttl_ms(&house.owner.send().await), longest_ms);
    assert_eq!(ttl_ms(&house.owner.send().await), longest_ms);
}

#[tokio::test]
async fn every_other_frame_becomes_its_command() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    let id = session.id();
    bob.say(r#"{"type":"ack","seq":9}"#).await;
    let Command::Ack { user, device, session, seq } = house.owner.next().await else { panic!() };
    assert_eq!((user.as_str(), device.as_str(), session, seq), ("bob", "default", id, Seq(9)));
    bob.say(r#"{"type":"status","state":"busy","text":"lunch"}"#).await;
    let Command::Status { state, text, .. } = house.owner.next().await else { panic!() };
    assert_eq!((state, text.as_deref()), (PresenceState::Busy, Some("lunch")));
    bob.say(r#"{"type":"watch","users":["alice"]}"#).await;
    let Command::Watch { user, session } = house.owner.next().await else { panic!() };
    assert_eq!((user.as_str(), session.id()), ("alice", id));
    bob.say(r#"{"type":"unwatch","users":["alice","never watched"]}"#).await;
    let Command::Unwatch { user, session } = house.owner.next().await else { panic!() };
    assert_eq!((user.as_str(), session), ("alice", id));
    bob.say(r#"{"type":"send","to":"bob","body":null,"ephemeral":true}"#).await;
    let Command::SendEphemeral { to, ephemeral } = house.owner.next().await else { panic!() };
    assert_eq!((to.as_str(), &ephemeral.body[..], ephemeral.id), ("bob", &b"null"[..], None));
    bob.say(r#"{"type":"forget"}"#).await;
    assert!(matches!(house.owner.next().await, Command::Forget { session, .. } if session == id));
    bob.say(r#"{"type":"ping","n":3}"#).await;
    assert_eq!(bob.hear().await, serde_json::json!({"type":"pong","n":3}));
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn commands_that_fill_more_than_one_batch_keep_their_order() {
    let mut config = config();
    config.presence.max_watched = 1000;
    let mut house = open(config);
    let (mut bob, _) = house.enter("bob").await;
    let users: Vec<_> = (0..256).map(|n| format!("user {n}")).collect();
    let watch = serde_json::json!({"type":"watch","users":users}).to_string();
    let send = r#"{"type":"send","to":"bob","body":null,"ephemeral":true}"#;
    for frame in [send, &watch, send] {
        soon("room to write", bob.socket.feed(Message::text(frame))).await.unwrap();
    }
    soon("room to write", bob.socket.flush()).await.unwrap();
    assert!(matches!(house.owner.next().await, Command::SendEphemeral { .. }));
    for _ in 0..256 {
        assert!(matches!(house.owner.next().await, Command::Watch { .. }));
    }
    assert!(matches!(house.owner.next().await, Command::SendEphemeral { .. }));
}

#[tokio::test]
async fn a_send_that_cannot_be_taken_is_rejected_with_its_id() {
    let mut config = config();
    config.limits.malformed_frames = 100;
    let mut house = open(config);
    let (mut alice, _) = house.enter("alice").await;
    let large = format!(r#"{{"type":"send","id":"m","to":"bob","body":"{}"}}"#, "x".repeat(48 * 1024));
    for (frame, code) in [
        (r#"{"type":"send","id":"no spaces","to":"bob","body":1}"#, "bad_request"),
        (r#"{"type":"send","id":"m","to":"a/b","body":1}"#, "bad_request"),
        (r#"{"type":"send","id":"m","to":"bob"}"#, "bad_request"),
        (r#"{"type":"send","id":"m","to":"bob","body":1,"receipt":true}"#, "bad_request"),
        (&large, "too_large"),
    ] {
        alice.say(frame).await;
        let answer = alice.hear().await;
        assert_eq!((&answer["type"], &answer["code"]), (&"rejected".into(), &code.into()), "{frame:.80}");
        assert!(answer["id"].is_string(), "{answer}");
    }
    alice.say(r#"{"type":"send","to":"bob","body":1}"#).await;
    assert_eq!(alice.hear().await["type"], "error", "without an id there is nothing to reject");
    assert!(house.owner.is_idle());
    assert_eq!(house.metrics.rejected.get(), 5);
}

#[tokio::test]
async fn what_is_wrong_but_no_send_is_an_error_and_the_session_goes_on() {
    let mut house = open(config());
    let (mut bob, _) = house.enter("bob").await;
    let many = serde_json::json!({"type":"watch","users": (0..257).map(|n| n.to_string()).collect::<Vec<_>>()});
    let wordy = serde_json::json!({"type":"status","state":"away","text":"é".repeat(141)});
    for (frame, code) in [
        (r#"{"type":"hello","user":"bob"}"#, "bad_request"),
        (r#"{"type":"sing"}"#, "unknown_type"),
        (r#"{"type":"watch","users":["a","b","c","d","e"]}"#, "bad_request"),
        (r#"{"type":"watch","users":["a/b"]}"#, "bad_request"),
        (r#"{"type":"token","token":"x"}"#, "bad_request"),
        (&many.to_string(), "bad_request"),
        (&wordy.to_string(), "bad_request"),
    ] {
        bob.say(frame).await;
        let answer = bob.hear().await;
        assert_eq!((&answer["type"], &answer["code"]), (&"error".into(), &code.into()), "{frame:.80}");
    }
    assert!(house.owner.is_idle(), "a frame is obeyed as a whole or not at all");
}

#[tokio::test]
async fn too_many_malformed_frames_end_the_session_but_unknown_ones_do_not() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    for _ in 0..50 {
        bob.say(r#"{"type":"from the future"}"#).await;
        assert_eq!(bob.hear().await["code"], "unknown_type");
    }
    for _ in 0..config().limits.malformed_frames {
        bob.say("{").await;
        assert_eq!(bob.hear().await["code"], "bad_request");
    }
    bob.say("{").await;
    assert_eq!(bob.end().await.0, 4400);
    assert!(!house.owner.detach(&session).await);
}

#[tokio::test]
async fn frames_that_are_no_text_end_the_session_with_their_code() {
    let mut house = open(config());
    let not_utf8 = Frame::message(vec![0xff, 0xfe], OpCode::Data(Data::Text), true);
    let unfinished = Frame::message("{", OpCode::Data(Data::Continue), true);
    for (message, code) in [
        (Message::binary(b"{}".to_vec()), 1003),
        (Message::Frame(not_utf8), 1007),
        (Message::text("x".repeat(64 * 1024 + 1)), 1009),
        (Message::Frame(unfinished), 1002),
    ] {
        let (mut bob, session) = house.enter("bob").await;
        soon("room to write", bob.socket.send(message)).await.unwrap();
        let (closed, goodbye) = bob.end().await;
        assert_eq!((closed, goodbye["code"].as_u64()), (code, Some(code.into())));
        assert!(!house.owner.detach(&session).await);
    }
}

#[tokio::test]
async fn a_session_that_sends_too_fast_is_told_when_to_try_again() {
    let mut config = config();
    config.limits.sends_per_second_per_session = 2;
    let mut house = open(config);
    let (mut alice, _) = house.enter("alice").await;
    for n in 0..3 {
        alice.say(&format!(r#"{{"type":"send","id":"m{n}","to":"bob","body":1}}"#)).await;
    }
    let answer = alice.hear().await;
    assert_eq!((&answer["id"], &answer["code"]), (&"m2".into(), &"rate_limited".into()));
    assert!((1..=501).contains(&answer["retry_after_ms"].as_u64().unwrap()));
    assert_eq!(house.metrics.rate_limited.get(), 1);
    house.owner.send().await;
    house.owner.send().await;
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn sends_beyond_those_in_flight_are_overloaded_and_acks_still_get_through() {
    let mut house = open(config());
    let (mut alice, _) = house.enter("alice").await;
    let most = config().limits.sends_in_flight;
    for n in 0..=most {
        alice.say(&format!(r#"{{"type":"send","id":"m{n}","to":"bob","body":1}}"#)).await;
    }
    alice.say(r#"{"type":"ack","seq":1}"#).await;
    assert_eq!(alice.hear().await["code"], "overloaded");
    let first = house.owner.send().await;
    for _ in 1..most {
        house.owner.send().await;
    }
    assert!(matches!(house.owner.next().await, Command::Ack { .. }));
    // An answer makes room for one more.
    let outcome = Outcome::Rejected { code: Code::UnknownOutcome, reason: "who knows", retry_after_ms: None };
    first.sender.answer(Answer { message: first.message, to: first.to, outcome });
    first.sender.wake();
    assert_eq!(alice.hear().await["code"], "unknown_outcome");
    alice.say(r#"{"type":"send","id":"again","to":"bob","body":1}"#).await;
    assert_eq!(house.owner.send().await.message.id.as_str(), "again");
    alice.say(r#"{"type":"send","to":"bob","body":1,"ephemeral":true}"#).await;
    assert!(matches!(house.owner.next().await, Command::SendEphemeral { .. }), "these need no answer");
}

#[tokio::test]
async fn a_draining_house_takes_acks_but_no_sends() {
    let mut house = open(config());
    let (mut alice, _) = house.enter("alice").await;
    house.announcer.announce(Phase::Draining);
    alice.say(r#"{"type":"send","id":"m1","to":"bob","body":1}"#).await;
    alice.say(r#"{"type":"ack","seq":1}"#).await;
    assert_eq!(alice.hear().await["code"], "shutting_down");
    assert!(matches!(house.owner.next().await, Command::Ack { .. }));
}

#[tokio::test]
async fn ephemeral_deliveries_carry_no_seq() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    let ephemeral =
        Ephemeral { id: None, from: "alice".parse().unwrap(), body: bytes::Bytes::from_static(b"[1]"), ts_ms: 5 };
    assert!(session.deliver_ephemeral(&ephemeral));
    session.wake();
    let message = bob.hear().await;
    assert_eq!(message, serde_json::json!({"type":"message","from":"alice","ts_ms":5,"ephemeral":true,"body":[1]}));
}
