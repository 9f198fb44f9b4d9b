//! One WebSocket connection of the client, from the router's side.
//!
//! A task of its own reads all the time, so that pings and closes of the client are answered while a scenario waits
//! for something else.

use std::fmt;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

/// Frames in either direction that nobody has looked at yet.
const FRAMES_MAX: usize = 4096;
/// How long a client may take to answer a close frame.
const CLOSE_MAX: Duration = Duration::from_secs(2);

/// What the client did.
pub enum Heard {
    Frame(Value),
    /// It closed with this code, if with any.
    Closed(Option<u16>),
    /// The connection broke.
    Broken(String),
    /// Something that no client may say.
    Unusable(String),
}

impl fmt::Display for Heard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frame(frame) => write!(f, "the frame {frame}"),
            Self::Closed(Some(code)) => write!(f, "the client closed with {code}"),
            Self::Closed(None) => f.write_str("the client closed without a code"),
            Self::Broken(why) => write!(f, "the connection broke: {why}"),
            Self::Unusable(what) => f.write_str(what),
        }
    }
}

enum Order {
    Say(String),
    Close(u16),
    Reset,
}

pub struct Peer {
    orders: mpsc::Sender<Order>,
    heard: mpsc::Receiver<Heard>,
    task: JoinHandle<()>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Peer {
    pub fn new(socket: WebSocketStream<TcpStream>) -> Self {
        let (orders, to_do) = mpsc::channel(FRAMES_MAX);
        let (ear, heard) = mpsc::channel(FRAMES_MAX);
        let task = tokio::spawn(serve(socket, to_do, ear));
        Self { orders, heard, task }
    }

    /// Sends a frame as it is written.
    ///
    /// # Errors
    /// When the connection is over.
    pub fn say(&self, text: String) -> Result<(), String> {
        self.order(Order::Say(text))
    }

    /// # Errors
    /// When the connection is over.
    pub fn close(&self, code: u16) -> Result<(), String> {
        self.order(Order::Close(code))
    }

    /// # Errors
    /// When the connection is over.
    pub fn reset(&self) -> Result<(), String> {
        self.order(Order::Reset)
    }

    fn order(&self, order: Order) -> Result<(), String> {
        self.orders.try_send(order).map_err(|_| "the connection is over, or the client does not read".to_owned())
    }

    /// What the client does next, except its pings, which no rule minds. Nothing is lost when it is cancelled.
    pub async fn next(&mut self) -> Heard {
        loop {
            match self.heard.recv().await {
                Some(Heard::Frame(frame)) if frame["type"] == "ping" => {}
                Some(heard) => return heard,
                None => return Heard::Broken("the connection is over".to_owned()),
            }
        }
    }
}

async fn serve(mut socket: WebSocketStream<TcpStream>, mut orders: mpsc::Receiver<Order>, ear: mpsc::Sender<Heard>) {
    loop {
        let (heard, last) = tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Say(text)) => match socket.send(Message::text(text)).await {
                    Ok(()) => continue,
                    Err(error) => (Heard::Broken(error.to_string()), true),
                },
                None => return,
                Some(Order::Close(code)) => return close(socket, code).await,
                Some(Order::Reset) => {
                    // Where that cannot be asked for, the end of the connection has to do.
                    let _asked = socket.get_ref().set_zero_linger();
                    return;
                }
            },
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => (frame(&text), false),
                Some(Ok(Message::Binary(_))) => (Heard::Unusable("a binary message".to_owned()), false),
                Some(Ok(Message::Close(close))) => (Heard::Closed(close.map(|close| close.code.into())), true),
                Some(Ok(_)) => continue,
                Some(Err(error)) => (Heard::Broken(error.to_string()), true),
                None => (Heard::Broken("the end of the connection".to_owned()), true),
            },
        };
        if ear.send(heard).await.is_err() {
            return;
        }
        if last {
            return drain(&mut socket).await;
        }
    }
}

fn frame(text: &str) -> Heard {
    match serde_json::from_str(text) {
        Ok(frame) => Heard::Frame(frame),
        Err(error) => Heard::Unusable(format!("{error} in the frame {text}")),
    }
}

async fn close(mut socket: WebSocketStream<TcpStream>, code: u16) {
    let frame = CloseFrame { code: code.into(), reason: "as the scenario says".into() };
    if socket.close(Some(frame)).await.is_ok() {
        drain(&mut socket).await;
    }
}

/// Lets the closing handshake come to its end.
async fn drain(socket: &mut WebSocketStream<TcpStream>) {
    let end = async { while let Some(Ok(_)) = socket.next().await {} };
    // A client that does not answer has lost its right to be waited for.
    let _in_time = tokio::time::timeout(CLOSE_MAX, end).await;
}
