//! The outbox by itself: what it holds, what it merges, what it refuses.

use std::io::Cursor;

use bytes::Bytes;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::{Message as WireMessage, WebSocket};

use super::*;
use crate::gateway::inbound::Inbound;
use crate::gateway::talk::Talk;
use crate::gateway::testing::config;
use crate::message::Message;
use crate::presence::PresenceState;

fn outbox(config: &Config) -> Outbox {
    Outbox::new(SessionId(1), Arc::new(Bounds::new(config)), Metrics::new(), Inbound::goodbye)
}

/// Everything that can be taken now.
fn take(outbox: &Outbox) -> Vec<u8> {
    let mut taken = Vec::new();
    let _ready = outbox.poll_take(&mut taken).is_ready();
    taken
}

fn texts(wire: Vec<u8>) -> Vec<serde_json::Value> {
    let mut client = WebSocket::from_raw_socket(Cursor::new(wire), Role::Client, None);
    std::iter::from_fn(|| client.read().ok())
        .filter_map(|message| match message {
            WireMessage::Text(text) => Some(serde_json::from_str(&text).unwrap()),
            _ => None,
        })
        .collect()
}

fn message(id: &str, body_bytes: usize) -> Arc<Message> {
    let body = Bytes::from(format!("\"{}\"", "x".repeat(body_bytes - 2)));
    let (id, from) = (id.parse().unwrap(), "alice".parse().unwrap());
    Arc::new(Message { seq: Seq(1), id, from, body, ts_ms: 1, expires_ms: 2, retry: false })
}

fn delivery(body_bytes: usize) -> Delivery {
    Delivery { message: message("m1", body_bytes), redelivered: false }
}

fn presence(user: &str, version: u64) -> PresenceInfo {
    PresenceInfo { user: user.parse().unwrap(), state: PresenceState::Online, text: None, last_seen_ms: None, version }
}

/// Regression: seven allocations for each frame of a client that has one at a time, a fifth of all that its message cost.
#[test]
fn a_frame_alone_lies_in_a_buffer_of_its_usual_size_that_is_not_kept() {
    let outbox = outbox(&config());
    for _ in 0..2 {
        outbox.deliver(delivery(200));
        let taken = take(&outbox);
        assert_eq!(taken.capacity(), FRAME_BYTES_USUAL);
        assert!(!KEPT_BYTES.contains(&taken.capacity()));
    }
}

#[test]
fn a_whole_window_of_the_largest_messages_fits_with_all_its_answers() {
    let config = config();
    let outbox = outbox(&config);
    let mut weight = 0;
    while weight < config.limits.window_bytes {
        let delivery = delivery(config.limits.body_bytes);
        weight += delivery.message.weight();
        outbox.deliver(delivery);
    }
    for _ in 0..config.limits.sends_in_flight {
        assert!(outbox.reserve_answer(config.limits.sends_in_flight));
        let outcome = Outcome::Accepted { seq: Seq(1), stored: true };
        let (message, to) = (message(&"x".repeat(64), 2), "\"".repeat(128).parse().unwrap());
        outbox.answer(Answer { message, to, outcome });
    }
    assert!(!outbox.is_ending());
    let frames = texts(take(&outbox));
    assert_eq!(frames.len(), 6 + config.limits.sends_in_flight as usize);
}

#[test]
fn what_is_acked_but_never_read_ends_the_session_at_the_cap() {
    let config = config();
    let outbox = outbox(&config);
    let mut pushed = 0;
    while !outbox.is_ending() {
        outbox.deliver(delivery(10_000));
        pushed += 10_000;
        assert!(pushed < 2_000_000, "no cap");
    }
    let mut last = Vec::new();
    outbox.take_last(&mut last);
    assert!(last.len() < 1000, "what had been collected is given up");
    let frames = texts(last);
    assert_eq!(frames[0]["code"], 4429);
    assert_eq!(outbox.metrics.sessions_overflowed.get(), 1);
    outbox.deliver(delivery(100));
    assert!(outbox.lock().frames.is_empty());
}

#[test]
fn the_latest_presence_of_a_user_replaces_what_was_not_yet_sent() {
    let outbox = outbox(&config());
    outbox.presence(&[presence("alice", 1), presence("bob", 2)]);
    outbox.presence(&[presence("alice", 3)]);
    let frames = texts(take(&outbox));
    assert_eq!(frames.len(), 1);
    let mut users: Vec<_> = frames[0]["users"].as_array().unwrap().clone();
    users.sort_by_key(|user| user["version"].as_u64());
    assert_eq!((users.len(), &users[0]["user"], &users[1]["version"]), (2, &"bob".into(), &3.into()));
    assert!(take(&outbox).is_empty());
}

#[test]
fn a_large_snapshot_goes_out_in_frames_of_a_bearable_size() {
    let mut config = config();
    config.presence.max_watched = 1000;
    let outbox = outbox(&config);
    outbox.presence(&(0..600).map(|n| presence(&format!("user {n}"), n)).collect::<Vec<_>>());
    let sizes: Vec<_> = texts(take(&outbox)).iter().map(|frame| frame["users"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [256, 256, 88]);
}

#[test]
fn ephemeral_deliveries_give_way() {
    let outbox = outbox(&config());
    let ephemeral =
        Ephemeral { id: None, from: "alice".parse().unwrap(), body: Bytes::from(vec![b'1'; 10_000]), ts_ms: 1 };
    let taken = (0..100).filter(|_| outbox.deliver_ephemeral(&ephemeral)).count();
    assert_eq!(taken, 7);
    outbox.deliver(delivery(10_000));
    assert!(!outbox.is_ending(), "durable ones still have their room");
    take(&outbox);
    assert!(outbox.deliver_ephemeral(&ephemeral));
}

#[test]
fn answers_give_their_room_back_even_when_nobody_listens_any_more() {
    let outbox = outbox(&config());
    assert!(outbox.reserve_answer(1));
    assert!(!outbox.reserve_answer(1));
    outbox.leave();
    let outcome = Outcome::Accepted { seq: Seq(1), stored: false };
    outbox.answer(Answer { message: message("m", 2), to: "bob".parse().unwrap(), outcome });
    assert!(outbox.reserve_answer(1));
    let mut last = Vec::new();
    outbox.take_last(&mut last);
    assert!(last.is_empty(), "nothing follows a client's close");
}

#[test]
fn nothing_comes_after_the_close_frame() {
    let outbox = outbox(&config());
    outbox.presence(&[presence("alice", 1)]);
    outbox.close(Closing { code: CloseCode::Replaced, reason: "first", retry_after_ms: None });
    outbox.close(Closing { code: CloseCode::Removed, reason: "second", retry_after_ms: None });
    outbox.append_raw(b"a pong");
    outbox.caught_up(Seq(1));
    let mut last = Vec::new();
    outbox.take_last(&mut last);
    outbox.caught_up(Seq(2));
    outbox.take_last(&mut last);
    let mut client = WebSocket::from_raw_socket(Cursor::new(last.clone()), Role::Client, None);
    let kinds: Vec<_> = std::iter::from_fn(|| client.read().ok()).collect();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
    assert_eq!(texts(last)[1]["reason"], "first");
    assert!(matches!(&kinds[2], WireMessage::Close(Some(frame)) if u16::from(frame.code) == 4409));
}
