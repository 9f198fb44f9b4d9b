//! Clients that send faster than they are read. Method: a thread of its own writes without ever waiting for an
//! answer, so there is always something to read; what is to happen at its time must happen all the same.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, WebSocket, connect};

use crate::gateway::testing::{House, config, open, soon};
use crate::routing::command::Command;
use crate::shutdown::Phase;

/// Frames written at once.
const PIECE_FRAMES: usize = 4096;

fn dial(address: SocketAddr) -> WebSocket<MaybeTlsStream<TcpStream>> {
    connect(format!("ws://{address}/v1/connect")).unwrap().0
}

/// Writes `frame` again and again until the connection ends.
fn flood(mut socket: WebSocket<MaybeTlsStream<TcpStream>>, frame: &[u8]) {
    let piece = frame.repeat(PIECE_FRAMES);
    let MaybeTlsStream::Plain(stream) = socket.get_mut() else { panic!("plain TCP") };
    while stream.write_all(&piece).is_ok() {}
}

/// A masked frame; a key of zeros leaves the payload as it is.
fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
    [&[0x80 | opcode, 0x80 | payload.len() as u8, 0, 0, 0, 0], payload].concat()
}

async fn ends(flooding: JoinHandle<()>) {
    soon("the end of the flood", tokio::task::spawn_blocking(|| flooding.join())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flood_instead_of_hello_ends_when_hello_is_due() {
    let mut config = config();
    config.gateway.hello_timeout = Duration::from_millis(300);
    let house = open(config);
    let address = house.address;
    let flooding = std::thread::spawn(move || flood(dial(address), &masked(0xa, b"")));
    ends(flooding).await;
    assert_eq!(house.metrics.hellos_refused.get(), 1);
}

#[tokio::test]
async fn a_flood_instead_of_hello_does_not_hold_up_a_drain() {
    let house = open(config());
    let address = house.address;
    let (upgraded, is_upgraded) = tokio::sync::oneshot::channel();
    let flooding = std::thread::spawn(move || {
        let socket = dial(address);
        upgraded.send(()).unwrap();
        flood(socket, &masked(0xa, b""));
    });
    soon("the upgrade", is_upgraded).await.unwrap();
    house.announcer.announce(Phase::Draining);
    house.announcer.announce(Phase::Closing);
    ends(flooding).await;
    soon("the gateway to end", house.running).await.unwrap();
}

#[tokio::test]
async fn a_flood_of_acks_does_not_keep_a_session_past_its_end() {
    let House { address, mut owner, announcer, running, .. } = open(config());
    let flooding = std::thread::spawn(move || {
        let mut socket = dial(address);
        socket.send(Message::text(r#"{"type":"hello","user":"mallory"}"#)).unwrap();
        flood(socket, &masked(1, br#"{"type":"ack","seq":0}"#));
    });
    owner.attach().await;
    announcer.announce(Phase::Closing);
    // Acks without end, and then the detach: the session's own clock has ended it.
    while !matches!(owner.next().await, Command::Detach { .. }) {}
    ends(flooding).await;
    drop(owner);
    soon("the gateway to end", running).await.unwrap();
}
