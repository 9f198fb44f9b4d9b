//! What a hostile or unlucky client costs, and that it costs nobody else. Method: a client that never reads or an
//! owner that never listens, and beside it a pair that must notice nothing.

use std::sync::Arc;

use bytes::Bytes;
use futures::{FutureExt, SinkExt};
use tokio_tungstenite::tungstenite::Message as WireMessage;

use crate::gateway::testing::{Client, House, config, open, open_with_room, soon};
use crate::ids::Seq;
use crate::message::Message;
use crate::routing::command::Command;
use crate::routing::session_handle::{Delivery, Session};

fn delivery(seq: u64, body_bytes: usize) -> Delivery {
    let body = Bytes::from(format!("\"{}\"", "x".repeat(body_bytes)));
    let (id, from) = (format!("m{seq}").parse().unwrap(), "alice".parse().unwrap());
    let message = Message { seq: Seq(seq), id, from, body, ts_ms: 1, expires_ms: 2, retry: false };
    Delivery { message: Arc::new(message), redelivered: false }
}

/// A pair exchanges a few messages; the test is their owner.
async fn exchange(house: &mut House, alice: &mut Client, bob: &mut Client, bobs: &Session) {
    for seq in 1..=20 {
        alice.say(&format!(r#"{{"type":"send","id":"m{seq}","to":"bob","body":{seq},"ephemeral":true}}"#)).await;
        let Command::SendEphemeral { .. } = house.owner.next().await else { panic!() };
        bobs.deliver(delivery(seq, 10));
        bobs.wake();
        assert_eq!(bob.hear().await["seq"], seq);
    }
}

#[tokio::test]
async fn a_client_that_never_reads_is_ended_at_its_cap_and_others_notice_nothing() {
    let mut house = open(config());
    let (_stalled, stalled) = house.enter("stalled").await;
    let (mut alice, _) = house.enter("alice").await;
    let (mut bob, bobs) = house.enter("bob").await;
    for seq in 1..=12 {
        stalled.deliver(delivery(seq, 16 * 1024));
    }
    stalled.wake();
    exchange(&mut house, &mut alice, &mut bob, &bobs).await;
    // Now far more than a window, as if it acked what it never read. The socket takes some of it first.
    let mut pushed = 0_u64;
    while house.metrics.sessions_overflowed.get() == 0 {
        for _ in 0..16 {
            stalled.deliver(delivery(1, 16 * 1024));
        }
        stalled.wake();
        pushed += 16;
        tokio::task::yield_now().await;
        assert!(pushed < 1_000_000, "nothing ends it");
    }
    assert!(!house.owner.detach(&stalled).await);
    exchange(&mut house, &mut alice, &mut bob, &bobs).await;
}

#[tokio::test]
async fn a_client_that_asks_and_asks_without_reading_is_ended_too() {
    let mut house = open(config());
    let (mut rude, session) = house.enter("rude").await;
    let ping = WireMessage::text(r#"{"type":"ping","n":9007199254740991}"#);
    while house.metrics.sessions_overflowed.get() == 0 {
        // It may be closed while we write, which is the point.
        if soon("room to write", rude.socket.send(ping.clone())).await.is_err() {
            break;
        }
    }
    assert!(!house.owner.detach(&session).await);
    assert_eq!(house.metrics.sessions_overflowed.get(), 1);
}

#[tokio::test]
async fn an_owner_that_does_not_listen_holds_a_sender_up_but_not_what_it_is_told() {
    let mut house = open_with_room(config(), 1);
    let (mut bob, session) = house.enter("bob").await;
    // More than the mailbox takes, each in its own batch for all we know: the session waits for room.
    for n in 0..600 {
        bob.say(&format!(r#"{{"type":"send","to":"bob","body":{n},"ephemeral":true}}"#)).await;
    }
    while house.owner.mailbox.is_empty() {
        tokio::task::yield_now().await;
    }
    for seq in 1..=50 {
        session.deliver(delivery(seq, 1000));
        session.wake();
        assert_eq!(bob.hear().await["seq"], seq, "it is written to all the while");
    }
    for n in 0..600 {
        let Command::SendEphemeral { ephemeral, .. } = house.owner.next().await else { panic!() };
        assert_eq!(ephemeral.body, n.to_string(), "nothing was lost or turned round while it waited");
    }
    drop(bob);
    house.owner.detach(&session).await;
    assert!(house.owner.mailbox.recv().now_or_never().is_none());
}
