//! A raw WebSocket client. Every frame it reads is held against the published schema and, when asked
//! for, written into a history. Must never do anything by itself: no ack, no answer, no reconnect
//! (beyond the pongs and close echoes that WebSocket itself demands).

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async, connect_async_with_config};

use super::daemon::Daemon;
use super::history::{History, Mark, Session};
use super::{schema, wait};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Frames that a failing expectation shows.
const TRACE_FRAMES: usize = 16;
const TRACE_FRAME_CHARS: usize = 300;

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub struct Options {
    hello: Map<String, Value>,
    headers: Vec<(&'static str, String)>,
    history: Option<History>,
    narrow: bool,
}

/// Of a socket that soon makes the server notice who does not read.
const NARROW_BYTES: u32 = 4096;

impl Options {
    /// A client that names itself, as auth mode `none` wants it.
    pub fn of(user: &str, device: &str) -> Self {
        Self::blank().hello("user", user).hello("device", device)
    }

    /// A `hello` without any field.
    pub fn blank() -> Self {
        let headers = vec![("sec-websocket-protocol", "doorstep.v1".to_owned())];
        Self { hello: Map::new(), headers, history: None, narrow: false }
    }

    /// A field of `hello`: `.hello("window", 8)`, `.hello("status", "away")`, `.hello("token", token)`.
    #[must_use]
    pub fn hello(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.hello.insert(field.to_owned(), value.into());
        self
    }

    /// A header of the upgrade request: `.header("authorization", …)`, `.header("origin", …)`.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    /// With a receive buffer so small that little is on its way to a client that does not read.
    #[must_use]
    pub fn narrow(mut self) -> Self {
        self.narrow = true;
        self
    }

    /// Writes down what this client says and hears.
    #[must_use]
    pub fn record(mut self, history: &History) -> Self {
        self.history = Some(history.clone());
        self
    }
}

/// Why there is no session.
#[derive(Debug)]
pub enum Refused {
    /// The upgrade was answered with this HTTP status.
    Upgrade(u16),
    /// The connection was closed instead of welcomed.
    Closed { code: u16, reason: String },
    /// Nobody is there, or the connection broke.
    Gone(String),
}

/// The next thing that came from the server.
#[derive(Debug)]
pub enum Heard {
    Frame(Value),
    /// A close frame; 1005 when it names no code.
    Closed {
        code: u16,
        reason: String,
    },
    /// The connection ended without a close frame.
    Gone(String),
}

/// One connection; after [`TestClient::open`] one session.
#[must_use = "what is dropped is gone from the daemon only some time later: `leave` it, or `drop` it by name"]
pub struct TestClient {
    pub speaker: Speaker,
    pub listener: Listener,
    /// The `welcome` frame; `null` before it.
    pub welcome: Value,
}

impl TestClient {
    /// Connects and says hello; panics when not welcomed.
    pub async fn connect(daemon: &Daemon, user: &str, device: &str) -> Self {
        Self::open(daemon, Options::of(user, device)).await
    }

    /// As [`Self::connect`], with options.
    pub async fn open(daemon: &Daemon, options: Options) -> Self {
        match Self::attempt(&daemon.url(), &options).await {
            Ok(client) => client,
            Err(refused) => panic!("{options:?} was not welcomed: {refused:?}"),
        }
    }

    /// Connects and says hello, where that may go wrong.
    pub async fn attempt(url: &str, options: &Options) -> Result<Self, Refused> {
        let mut client = Self::dial(url, options).await?;
        let hello_at = client.greet(options).await?;
        client.welcomed(options, hello_at).await
    }

    /// Says hello and does not wait for an answer; the mark is for [`Self::welcomed`].
    pub async fn greet(&mut self, options: &Options) -> Result<Option<Mark>, Refused> {
        let hello_at = options.history.as_ref().map(History::mark);
        let mut hello = json!({"type": "hello"});
        hello.as_object_mut().unwrap().extend(options.hello.clone());
        self.speaker.say(&hello).await.map_err(|error| Refused::Gone(error.to_string()))?;
        Ok(hello_at)
    }

    /// Waits for the `welcome` that answers a hello.
    pub async fn welcomed(mut self, options: &Options, hello_at: Option<Mark>) -> Result<Self, Refused> {
        loop {
            match self.listener.next().await {
                Heard::Frame(frame) if frame["type"] == "welcome" => self.welcome = frame,
                // Said right before a close, which comes next.
                Heard::Frame(frame) if frame["type"] == "goodbye" => continue,
                Heard::Frame(frame) => panic!("{frame} instead of a welcome"),
                Heard::Closed { code, reason } => return Err(Refused::Closed { code, reason }),
                Heard::Gone(why) => return Err(Refused::Gone(why)),
            }
            break;
        }
        if let (Some(history), Some(mark)) = (&options.history, hello_at) {
            let (user, device) = (text(&self.welcome["user"]), text(&self.welcome["device"]));
            let (cursor, registered) = (number(&self.welcome["cursor"]), self.welcome["registered"] == true);
            let session = history.attached(mark, user, device, cursor, registered);
            self.speaker.record = Some(session.clone());
            self.listener.record = Some(session);
        }
        Ok(self)
    }

    /// Upgrades only: the server still waits for a `hello`.
    pub async fn dial(url: &str, options: &Options) -> Result<Self, Refused> {
        let mut request = url.into_client_request().unwrap();
        for (name, value) in &options.headers {
            request.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        let connecting = async {
            if !options.narrow {
                return connect_async_with_config(request, None, true).await;
            }
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(NARROW_BYTES)?;
            let address = request.uri().authority().unwrap().as_str().parse().unwrap();
            client_async(request, MaybeTlsStream::Plain(socket.connect(address).await?)).await
        };
        let socket = match wait::within("the upgrade", connecting).await {
            Ok((socket, _)) => socket,
            Err(Error::Http(response)) => return Err(Refused::Upgrade(response.status().as_u16())),
            Err(error) => return Err(Refused::Gone(error.to_string())),
        };
        let (sink, stream) = socket.split();
        let name = options.hello.get("user").map(|user| text(user).to_owned()).unwrap_or_default();
        let listener = Listener { stream, record: None, name, aside: VecDeque::new(), trace: VecDeque::new() };
        Ok(Self { speaker: Speaker { sink, record: None }, listener, welcome: Value::Null })
    }

    /// Two halves, for tests that speak and listen at the same time.
    pub fn into_halves(self) -> (Speaker, Listener) {
        (self.speaker, self.listener)
    }

    pub async fn send(&mut self, to: &str, id: &str, body: impl Into<Value>) {
        self.say(json!({"type": "send", "id": id, "to": to, "body": body.into()})).await;
    }

    pub async fn ack(&mut self, seq: u64) {
        self.say(json!({"type": "ack", "seq": seq})).await;
    }

    /// Any frame, usable or not.
    pub async fn say(&mut self, frame: Value) {
        self.speaker.say(&frame).await.unwrap();
    }

    /// See [`Listener::recv`].
    pub async fn recv(&mut self) -> Value {
        self.listener.recv().await
    }

    /// See [`Listener::expect`].
    pub async fn expect(&mut self, kind: &str) -> Value {
        self.listener.expect(kind).await
    }

    /// See [`Listener::pick`].
    pub async fn pick(&mut self, kind: &str) -> Value {
        self.listener.pick(kind).await
    }

    /// Nothing has been put on its way to this client: the answer to a ping of WebSocket's own, which comes
    /// after all that was, comes next. Works before `welcome` as well.
    pub async fn expect_nothing(&mut self) {
        self.speaker.ping().await.unwrap();
        self.listener.expect_pong().await;
    }

    /// See [`Listener::expect_close`].
    pub async fn expect_close(&mut self) -> (u16, String) {
        self.listener.expect_close().await
    }

    /// Closes with 1000 and waits until the server has closed as well; what was on its way is dropped.
    pub async fn leave(mut self) {
        self.speaker.close(1000).await.unwrap();
        loop {
            match self.listener.next().await {
                Heard::Frame(_) => {}
                Heard::Closed { code, reason } => return assert_eq!(code, 1000, "{reason}"),
                Heard::Gone(why) => panic!("gone without a close: {why}"),
            }
        }
    }

    /// `session` as `welcome` named it.
    pub fn session(&self) -> &str {
        text(&self.welcome["session"])
    }
}

/// The writing half. It fails rather than panics: in some tests the other side is killed.
pub struct Speaker {
    sink: SplitSink<Socket, Message>,
    record: Option<Session>,
}

impl Speaker {
    /// Any frame, usable or not; recorded when it is a durable `send` or an `ack`.
    pub async fn say(&mut self, frame: &Value) -> Result<(), Error> {
        self.queue(frame).await?;
        self.flush().await
    }

    /// As [`Self::say`], but it may stay in the buffer until [`Self::flush`].
    pub async fn queue(&mut self, frame: &Value) -> Result<(), Error> {
        if let Some(record) = &self.record {
            note_spoken(record, frame);
        }
        self.sink.feed(Message::text(frame.to_string())).await
    }

    pub async fn flush(&mut self) -> Result<(), Error> {
        self.sink.flush().await
    }

    /// A text frame as it is; not recorded.
    pub async fn say_text(&mut self, text: &str) -> Result<(), Error> {
        self.sink.send(Message::text(text)).await
    }

    /// A frame that says it is text, whatever the bytes are; not recorded.
    pub async fn say_text_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let frame = Frame::message(Bytes::copy_from_slice(bytes), OpCode::Data(Data::Text), true);
        self.sink.send(Message::Frame(frame)).await
    }

    pub async fn say_binary(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.sink.send(Message::Binary(Bytes::copy_from_slice(bytes))).await
    }

    pub async fn ping(&mut self) -> Result<(), Error> {
        self.sink.send(Message::Ping(Bytes::new())).await
    }

    pub async fn close(&mut self, code: u16) -> Result<(), Error> {
        let frame = CloseFrame { code: CloseCode::from(code), reason: "".into() };
        self.sink.send(Message::Close(Some(frame))).await
    }
}

/// The reading half. Dropping it ends the session for the history.
pub struct Listener {
    stream: SplitStream<Socket>,
    record: Option<Session>,
    name: String,
    /// What [`Self::pick`] passed over.
    aside: VecDeque<Value>,
    /// The latest frames as they came.
    trace: VecDeque<String>,
}

impl Listener {
    /// The next thing that comes, within the tests' patience.
    pub async fn next(&mut self) -> Heard {
        match self.next_within(wait::PATIENCE).await {
            Some(heard) => heard,
            None => panic!("{} waited in vain; {}", self.name, self.story()),
        }
    }

    /// The next thing that comes within `limit`, if any: for tests that nothing comes.
    pub async fn next_within(&mut self, limit: Duration) -> Option<Heard> {
        if let Some(frame) = self.aside.pop_front() {
            return Some(Heard::Frame(frame));
        }
        tokio::time::timeout(limit, self.read()).await.ok()
    }

    /// The next frame; panics when the connection ends instead.
    pub async fn recv(&mut self) -> Value {
        match self.next().await {
            Heard::Frame(frame) => frame,
            end => panic!("{} heard {end:?} instead of a frame; {}", self.name, self.story()),
        }
    }

    /// The next frame, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let frame = self.recv().await;
        assert_eq!(frame["type"], kind, "{} got {frame}; {}", self.name, self.story());
        frame
    }

    /// The next frame of this type; frames of other types are kept, in order, for later. For where the
    /// protocol leaves the order open, such as between answers and deliveries.
    pub async fn pick(&mut self, kind: &str) -> Value {
        if let Some(at) = self.aside.iter().position(|frame| frame["type"] == kind) {
            return self.aside.remove(at).unwrap();
        }
        let mut passed = std::mem::take(&mut self.aside);
        let found = loop {
            let frame = self.recv().await;
            if frame["type"] == kind {
                break frame;
            }
            passed.push_back(frame);
        };
        self.aside = passed;
        found
    }

    /// The close frame, which must come next, after a `goodbye` at most.
    pub async fn expect_close(&mut self) -> (u16, String) {
        loop {
            match self.next().await {
                Heard::Closed { code, reason } => return (code, reason),
                Heard::Frame(frame) if frame["type"] == "goodbye" => {}
                other => panic!("{} heard {other:?} instead of a close; {}", self.name, self.story()),
            }
        }
    }

    async fn expect_pong(&mut self) {
        assert!(self.aside.is_empty(), "{} was told this already: {:?}", self.name, self.aside);
        match wait::within("a pong", self.stream.next()).await {
            Some(Ok(Message::Pong(_))) => {}
            other => panic!("{} got {other:?} where nothing should come; {}", self.name, self.story()),
        }
    }

    /// The text of the latest frame, byte for byte.
    pub fn last_text(&self) -> &str {
        self.trace.back().map_or("", String::as_str)
    }

    async fn read(&mut self) -> Heard {
        let heard = loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => break Heard::Frame(self.take(&text)),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Close(Some(frame)))) => {
                    break Heard::Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                }
                Some(Ok(Message::Close(None))) => break Heard::Closed { code: 1005, reason: String::new() },
                Some(Ok(other)) => panic!("{} got a frame that is no text: {other:?}", self.name),
                Some(Err(error)) => break Heard::Gone(error.to_string()),
                None => break Heard::Gone("the stream has ended".to_owned()),
            }
        };
        if let (Heard::Closed { .. } | Heard::Gone(_), Some(record)) = (&heard, &self.record) {
            record.ended();
        }
        heard
    }

    fn take(&mut self, text: &str) -> Value {
        let frame = serde_json::from_str(text).unwrap_or_else(|error| panic!("not JSON ({error}): {text}"));
        if self.trace.len() == TRACE_FRAMES {
            self.trace.pop_front();
        }
        self.trace.push_back(text.to_owned());
        if let Err(fault) = schema::validate_server(&frame) {
            panic!("the server broke its own schema: {fault}");
        }
        if let Some(record) = &self.record {
            note_heard(record, &frame, text);
        }
        frame
    }

    fn story(&self) -> String {
        let frames = self.trace.iter().map(|text| text.chars().take(TRACE_FRAME_CHARS).collect::<String>());
        format!("it had got, of late:\n  {}", frames.collect::<Vec<_>>().join("\n  "))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(record) = &self.record {
            record.ended();
        }
    }
}

fn note_spoken(record: &Session, frame: &Value) {
    if frame["type"] == "ack" {
        record.acked(number(&frame["seq"]));
    } else if frame["type"] == "send" && frame["ephemeral"] != true {
        record.sent(text(&frame["id"]), text(&frame["to"]), &frame["body"].to_string());
    }
}

fn note_heard(record: &Session, frame: &Value, raw: &str) {
    let seq = || number(&frame["seq"]);
    match text(&frame["type"]) {
        "accepted" => record.accepted(text(&frame["id"]), text(&frame["to"]), seq(), frame["stored"] == true),
        // Without both names it answers something that was not recorded as a send.
        "rejected" if frame["id"].is_string() && frame["to"].is_string() => {
            record.rejected(text(&frame["id"]), text(&frame["to"]), text(&frame["code"]));
        }
        "message" if frame["ephemeral"] != true => {
            let redelivered = frame["redelivered"] == true;
            record.delivered(seq(), text(&frame["id"]), text(&frame["from"]), &raw_body(raw), redelivered);
        }
        "caught_up" => record.caught_up(),
        "presence" => {
            for user in frame["users"].as_array().into_iter().flatten() {
                record.presence(text(&user["user"]), number(&user["version"]), text(&user["state"]));
            }
        }
        _ => {}
    }
}

/// The body as the bytes that came: a body is relayed byte for byte.
fn raw_body(frame: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        body: &'a RawValue,
    }
    serde_json::from_str::<Body<'_>>(frame).unwrap().body.get().to_owned()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
