//! A router that does what the test says: accepts connections and exchanges frames by hand.

use std::time::Duration;

use doorstep::client::{Client, Event, Events, Options};
use doorstep::ids::{DeviceId, UserId};
use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// What anything may take before a test calls it lost.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| panic!("{what} did not happen in time"))
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub struct Server {
    listener: TcpListener,
}

impl Server {
    pub async fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    /// Options of a client that connects here and is in a hurry.
    pub fn options(&self) -> Options {
        let url = format!("ws://{}/v1/connect", self.listener.local_addr().unwrap());
        let options = Options::new(url, DeviceId::new("test").unwrap()).user(user("me"));
        Options { backoff_min: Duration::from_millis(1), backoff_max: Duration::from_millis(20), ..options }
    }

    pub fn client(&self) -> (Client, Events) {
        Client::connect(self.options())
    }

    /// The next connection, past its `hello`.
    #[allow(clippy::result_large_err, reason = "the handshake callback's signature is not ours")]
    pub async fn accept(&self) -> Peer {
        let (stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        let choose = |request: &Request, mut response: Response| {
            assert_eq!(request.uri().path(), "/v1/connect");
            assert_eq!(request.headers()["sec-websocket-protocol"], "doorstep.v1");
            response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("doorstep.v1"));
            Ok(response)
        };
        let socket = tokio_tungstenite::accept_hdr_async(stream, choose).await.unwrap();
        let mut peer = Peer { socket, hello: Value::Null };
        peer.hello = peer.hear().await;
        assert_eq!(peer.hello["type"], "hello");
        peer
    }

    /// The next connection, past its `welcome`.
    pub async fn welcome(&self) -> Peer {
        self.welcome_with(json!({})).await
    }

    /// The same with other `limits` than usual.
    pub async fn welcome_with(&self, limits: Value) -> Peer {
        let mut peer = self.accept().await;
        let mut frame = welcome();
        for (name, value) in limits.as_object().unwrap() {
            frame["limits"][name] = value.clone();
        }
        peer.say(frame).await;
        peer
    }

    /// Answers the next upgrade request with an HTTP error.
    pub async fn refuse(&self, head: &str) {
        let (mut stream, _) = within("a connection", self.listener.accept()).await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(within("the request", stream.read_u8()).await.unwrap());
        }
        let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

pub fn welcome() -> Value {
    json!({
        "type": "welcome", "user": "me", "device": "test", "session": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "protocol": 1, "server": "script/1", "registered": false, "pending": 0, "cursor": 0,
        "limits": {
            "frame_bytes": 65536, "body_bytes": 32768, "window": 64, "sends_in_flight": 16, "heartbeat_ms": 30000
        }
    })
}

pub struct Peer {
    socket: WebSocketStream<TcpStream>,
    pub hello: Value,
}

impl Peer {
    /// The client's next frame.
    pub async fn hear(&mut self) -> Value {
        loop {
            match within("a frame", self.socket.next()).await.expect("the client hung up").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(frame) => panic!("the client closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// The client's next frame, which must be of this type.
    pub async fn hear_a(&mut self, kind: &str) -> Value {
        let frame = self.hear().await;
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    /// Everything until the client closes, and its close code.
    pub async fn hear_out(&mut self) -> (Vec<Value>, u16) {
        let mut frames = Vec::new();
        loop {
            match within("the close frame", self.socket.next()).await.expect("a close frame").unwrap() {
                Message::Text(text) => frames.push(serde_json::from_str(&text).unwrap()),
                Message::Close(frame) => {
                    // Lets the reply go out, which a polite client waits for.
                    while within("the end", self.socket.next()).await.is_some() {}
                    return (frames, frame.unwrap().code.into());
                }
                _ => {}
            }
        }
    }

    pub async fn say(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }

    /// Bytes below the frames.
    pub async fn say_raw(&mut self, bytes: &[u8]) {
        self.socket.get_mut().write_all(bytes).await.unwrap();
    }

    pub async fn deliver(&mut self, seq: u64, id: &str, redelivered: bool) {
        let mut frame = json!({"type": "message", "seq": seq, "id": id, "from": "bob", "body": seq, "ts_ms": 1});
        if redelivered {
            frame["redelivered"] = json!(true);
        }
        self.say(frame).await;
    }

    pub async fn accept(&mut self, send: &Value, stored: bool) {
        self.say(json!({"type": "accepted", "id": send["id"], "to": send["to"], "seq": 7, "stored": stored})).await;
    }

    pub async fn reject(&mut self, send: &Value, code: &str, retry_after_ms: u64) {
        let (id, to) = (&send["id"], &send["to"]);
        self.say(json!({
            "type": "rejected", "id": id, "to": to, "code": code, "reason": code, "retry_after_ms": retry_after_ms
        }))
        .await;
    }

    pub async fn close(&mut self, code: u16) {
        self.socket.close(Some(CloseFrame { code: code.into(), reason: "as scripted".into() })).await.unwrap();
    }
}

/// The next event.
pub async fn next(events: &mut Events) -> Event {
    within("an event", events.next()).await.expect("the stream ended")
}

/// The next message's seq; other events are skipped, but an end is not.
pub async fn next_message(events: &mut Events) -> u64 {
    loop {
        match next(events).await {
            Event::Message(message) => return message.seq.0,
            Event::Closed(why) => panic!("closed: {why}"),
            _ => {}
        }
    }
}

pub async fn connected(events: &mut Events) {
    while !matches!(next(events).await, Event::Connected(_)) {}
}
