//! How sessions end, and that owners hear of it exactly once. Method: real sockets and short heartbeats; the
//! test waits for what must come and then looks that nothing else did.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode as WireCode;
use tokio_tungstenite::tungstenite::{Bytes, Message};

use crate::codes::CloseCode;
use crate::gateway::testing::{Client, House, config, open, soon};
use crate::limits::BATCH_COMMANDS_MAX;
use crate::routing::command::Command;
use crate::routing::session_handle::Closing;
use crate::shutdown::Phase;

/// Ends the house: nothing can be said after this.
async fn closed(house: &mut House) {
    house.announcer.announce(Phase::Closing);
    soon("the gateway to end", &mut house.running).await.unwrap();
}

#[tokio::test]
async fn a_client_that_closes_with_1000_left_cleanly_and_gets_its_close_back() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    let frame = CloseFrame { code: WireCode::Normal, reason: "bye".into() };
    soon("room to write", bob.socket.close(Some(frame))).await.unwrap();
    assert_eq!(bob.end().await.0, 1000);
    assert!(house.owner.detach(&session).await);
    assert!(soon("the end", bob.socket.next()).await.is_none());
    closed(&mut house).await;
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn every_other_end_is_one_unclean_detach() {
    let mut house = open(config());
    let (away, session) = house.enter("away").await;
    drop(away);
    assert!(!house.owner.detach(&session).await);

    let (mut going, session) = house.enter("going").await;
    let frame = CloseFrame { code: WireCode::Away, reason: "".into() };
    soon("room to write", going.socket.close(Some(frame))).await.unwrap();
    assert_eq!(going.end().await.0, 1001);
    assert!(!house.owner.detach(&session).await);

    let (mut half, session) = house.enter("half").await;
    soon("room to write", half.socket.get_mut().write_all(&[0x81, 0xfe, 0x01])).await.unwrap();
    soon("the shutdown", half.socket.get_mut().shutdown()).await.unwrap();
    assert!(!house.owner.detach(&session).await);
    closed(&mut house).await;
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn a_session_that_watched_is_unwatched_at_its_end() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    bob.say(r#"{"type":"watch","users":["a","b","c"]}"#).await;
    bob.say(r#"{"type":"unwatch","users":["b"]}"#).await;
    for _ in 0..4 {
        house.owner.next().await;
    }
    drop(bob);
    let mut unwatched = Vec::new();
    loop {
        match house.owner.next().await {
            Command::Unwatch { user, .. } => unwatched.push(user.to_string()),
            Command::Detach { .. } => break,
            _ => panic!("what is this"),
        }
    }
    unwatched.sort();
    assert_eq!(unwatched, ["a", "c"]);
    assert!(!session.id().to_string().is_empty());
}

#[tokio::test]
async fn an_owner_ends_a_session_with_goodbye_after_all_that_came_before() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    session.caught_up(crate::ids::Seq(3));
    session.close(Closing { code: CloseCode::Replaced, reason: "replaced", retry_after_ms: Some(5) });
    session.caught_up(crate::ids::Seq(4));
    session.wake();
    assert_eq!(bob.hear().await["seq"], 3);
    let (code, goodbye) = bob.end().await;
    assert_eq!(code, 4409);
    assert_eq!(goodbye["retry_after_ms"], 5);
    assert!(!house.owner.detach(&session).await);
    closed(&mut house).await;
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn a_refused_attach_is_detached_all_the_same() {
    let mut house = open(config());
    let mut bob = Client::connect(house.address).await;
    bob.say(r#"{"type":"hello","user":"bob"}"#).await;
    let Command::Attach(attach) = house.owner.next().await else { panic!() };
    attach.session.close(Closing { code: CloseCode::NotAllowed, reason: "no", retry_after_ms: None });
    assert_eq!(bob.end().await.0, 4403);
    house.owner.detach(&attach.session).await;
    closed(&mut house).await;
    assert!(house.owner.is_idle());
}

#[tokio::test]
async fn an_idle_client_is_pinged_and_its_pong_keeps_it() {
    let mut config = config();
    config.gateway.heartbeat = Duration::from_millis(50);
    let mut house = open(config);
    let (mut bob, session) = house.enter("bob").await;
    let mut pings = 0;
    while pings < 6 {
        // The library answers pings while it reads.
        match bob.message().await {
            Some(Message::Ping(_)) => pings += 1,
            other => panic!("{other:?}"),
        }
    }
    bob.say(r#"{"type":"ping"}"#).await;
    assert_eq!(bob.hear().await["type"], "pong", "three times two heartbeats later it is still there");
    drop(bob);
    house.owner.detach(&session).await;
}

#[tokio::test]
async fn a_dead_peer_is_given_up_after_two_heartbeats() {
    let mut config = config();
    config.gateway.heartbeat = Duration::from_millis(50);
    let mut house = open(config);
    let (mut dead, session) = house.enter("dead").await;
    let start = std::time::Instant::now();
    // Not reading, it answers no ping.
    assert!(!house.owner.detach(&session).await);
    assert!(start.elapsed() >= Duration::from_millis(95), "{:?}", start.elapsed());
    assert_eq!(dead.end().await.0, 4408);
}

#[tokio::test]
async fn sessions_that_no_owner_says_goodbye_to_are_closed_at_the_end_all_the_same() {
    let mut house = open(config());
    let (mut bob, session) = house.enter("bob").await;
    house.announcer.announce(Phase::Closing);
    let (code, goodbye) = bob.end().await;
    assert_eq!(code, 1012);
    assert!(goodbye["retry_after_ms"].as_u64().unwrap() <= 1000);
    house.owner.detach(&session).await;
    soon("the gateway to end", house.running).await.unwrap();
}

#[tokio::test]
async fn the_daemon_may_end_before_the_gateway() {
    let mut house = open(config());
    let (mut bob, _session) = house.enter("bob").await;
    house.owner.mailbox.close();
    bob.say(r#"{"type":"ack","seq":1}"#).await;
    assert_eq!(bob.end().await.0, 1012);
}

/// Pongs (written while reading) and deliveries (written by an owner) share one stream. Every frame must come out
/// whole, and none may be missing.
#[tokio::test]
async fn pongs_among_deliveries_leave_every_frame_whole() {
    const ROUNDS: u64 = 2000;
    let mut house = open(config());
    let (bob, session) = house.enter("bob").await;
    let (mut sink, mut stream) = bob.socket.split();
    let pushing = tokio::spawn(async move {
        for seq in 1..=ROUNDS {
            session.caught_up(crate::ids::Seq(seq));
            session.wake();
            if seq % 16 == 0 {
                tokio::task::yield_now().await;
            }
        }
    });
    let pinging = tokio::spawn(async move {
        for n in 0..ROUNDS {
            let payload = Bytes::copy_from_slice(&n.to_be_bytes());
            sink.send(Message::Ping(payload)).await.unwrap();
        }
        sink
    });
    let (mut seen, mut last_pong) = (0, None);
    while seen < ROUNDS || last_pong != Some(ROUNDS - 1) {
        match soon("a frame", stream.next()).await.unwrap().unwrap() {
            Message::Text(text) => {
                seen += 1;
                assert_eq!(text.as_str(), format!(r#"{{"type":"caught_up","seq":{seen}}}"#));
            }
            Message::Pong(payload) => {
                let n = u64::from_be_bytes(payload[..].try_into().unwrap());
                assert_eq!(last_pong.map_or(0, |last| last + 1), n, "every ping has its pong, in order");
                last_pong = Some(n);
            }
            other => panic!("{other:?}"),
        }
    }
    pushing.await.unwrap();
    drop(pinging.await.unwrap());
}

/// A pong is written while reading. When nothing else comes of that, it must still leave.
#[tokio::test]
async fn the_last_pong_of_a_full_batch_is_not_left_behind() {
    let mut house = open(config());
    let (mut bob, _session) = house.enter("bob").await;
    for n in 0..BATCH_COMMANDS_MAX as u64 {
        let ping = Message::Ping(Bytes::copy_from_slice(&n.to_be_bytes()[6..]));
        soon("room to write", bob.socket.feed(ping)).await.unwrap();
    }
    soon("room to write", bob.socket.flush()).await.unwrap();
    for n in 0..BATCH_COMMANDS_MAX as u64 {
        let Some(Message::Pong(payload)) = bob.message().await else { panic!("no pong") };
        assert_eq!(payload[..], n.to_be_bytes()[6..]);
    }
}

/// A frame that takes longer than two heartbeats to send is life all the same; the pong has to queue behind it.
#[tokio::test]
async fn a_part_of_a_frame_after_the_ping_is_a_sign_of_life() {
    let mut config = config();
    config.gateway.heartbeat = Duration::from_millis(100);
    let mut house = open(config);
    let (mut slow, _session) = house.enter("slow").await;
    for _ in 0..3 {
        let mut header = [0; 2];
        soon("a ping", slow.socket.get_mut().read_exact(&mut header)).await.unwrap();
        assert_eq!(header, [0x89, 0], "a ping without payload, and no close");
        // The first byte of a frame, and then, one by one, of its masked body.
        let byte = if header[1] == 0 { 0x81 } else { 0 };
        soon("room to write", slow.socket.get_mut().write_all(&[byte])).await.unwrap();
    }
}
