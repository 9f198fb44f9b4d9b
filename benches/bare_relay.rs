//! The yardstick: a relay that knows no more of the protocol than `doorstep bench relay` needs.
//!
//! One thread, a map from user to lane, tokio-tungstenite. A `send` is answered `accepted` at once and goes to whoever
//! is there as a `message`; acks are read and ignored. Nothing is stored, checked, limited, ordered or remembered: what
//! this does a second is what this stack can do on this machine, and what a router with promises is measured against.
//! It is as fast as we could make it: the library reads, through 4 KiB; everything that waits is read before anything
//! is written; frames are built once, as bytes, in the buffer of whom they are for, which is written with one call a
//! wake and past the library.
#![allow(clippy::print_stdout, reason = "it tells where it listens")]

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures::Stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::AsyncWrite;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

/// Greater ones cost memory, smaller ones system calls.
const READ_BUFFER_BYTES: usize = 4 << 10;
/// Frames of one lane before others have their turn.
const READ_MAX: usize = 128;
const SUBPROTOCOL: &str = "doorstep.v1";

/// What is to be written to a lane, and who is to be told of it.
#[derive(Default)]
struct Outbox {
    /// Without a bound: this is no router.
    frames: Vec<u8>,
    waker: Option<Waker>,
}

impl Outbox {
    fn push(&mut self, pieces: &[&[u8]]) {
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        self.frames.push(0x81);
        match length {
            0..126 => self.frames.push(length as u8),
            126..=0xffff => {
                self.frames.push(126);
                self.frames.extend_from_slice(&(length as u16).to_be_bytes());
            }
            _ => {
                self.frames.push(127);
                self.frames.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        pieces.iter().for_each(|piece| self.frames.extend_from_slice(piece));
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

type Shared<T> = Rc<RefCell<T>>;

#[derive(Default)]
struct Relay {
    lanes: HashMap<String, Shared<Outbox>>,
    seq: u64,
}

/// The fields of the client's frames that matter here.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    id: Option<&'a str>,
    to: Option<&'a str>,
    user: Option<&'a str>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

struct Lane {
    socket: WebSocketStream<TcpStream>,
    user: String,
    outbox: Shared<Outbox>,
    relay: Shared<Relay>,
    /// The last recipient: most clients write to the same one again.
    last: Option<(String, Shared<Outbox>)>,
    /// What is being written, the first `written` bytes of it done; the other half of a swap with the outbox.
    out: Vec<u8>,
    written: usize,
    done: bool,
}

impl Future for Lane {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.work(cx) {
            Ok(false) => Poll::Pending,
            // However it ends: whoever comes next takes the name.
            Ok(true) | Err(_) => Poll::Ready(()),
        }
    }
}

impl Lane {
    /// True when it is over.
    fn work(&mut self, cx: &mut Context<'_>) -> Result<bool, Box<dyn Error>> {
        if !self.read(cx)? {
            cx.waker().wake_by_ref();
        }
        self.outbox.borrow_mut().waker = Some(cx.waker().clone());
        Ok(self.write(cx)? && self.done)
    }

    /// True when there is nothing left to be written.
    fn write(&mut self, cx: &mut Context<'_>) -> Result<bool, Box<dyn Error>> {
        loop {
            while let Some(unwritten) = self.out.get(self.written..).filter(|unwritten| !unwritten.is_empty()) {
                match Pin::new(self.socket.get_mut()).poll_write(cx, unwritten) {
                    Poll::Ready(written) => self.written += written?,
                    Poll::Pending => return Ok(false),
                }
            }
            self.out.clear();
            self.written = 0;
            std::mem::swap(&mut self.out, &mut self.outbox.borrow_mut().frames);
            if self.out.is_empty() {
                return Ok(true);
            }
        }
    }

    /// Reads what is there; false when there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Box<dyn Error>> {
        for _ in 0..READ_MAX {
            let Poll::Ready(said) = Pin::new(&mut self.socket).poll_next(cx) else { return Ok(true) };
            match said {
                Some(Ok(Message::Text(text))) => self.hear(&text)?,
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err("gone".into()),
            }
        }
        Ok(false)
    }

    fn hear(&mut self, text: &str) -> Result<(), Box<dyn Error>> {
        // Acks are half of all frames, and nobody waits for them.
        if text.starts_with("{\"type\":\"ack\"") {
            return Ok(());
        }
        // The form in which the load generator writes; everything else is left to the parser.
        if let Some((id, to, body)) = as_written(text) {
            self.relay(id, to, body);
            return Ok(());
        }
        let frame: Frame<'_> = serde_json::from_str(text)?;
        match (frame.kind, frame.user, frame.id, frame.to, frame.body) {
            ("send", _, Some(id), Some(to), Some(body)) => self.relay(id, to, body.get()),
            ("hello", Some(user), ..) => {
                user.clone_into(&mut self.user);
                self.relay.borrow_mut().lanes.insert(user.to_owned(), self.outbox.clone());
                let pieces: [&[u8]; 3] = [b"{\"type\":\"welcome\",\"user\":\"", user.as_bytes(), b"\",\"cursor\":0}"];
                self.outbox.borrow_mut().push(&pieces);
            }
            ("forget", ..) => {
                self.relay.borrow_mut().lanes.remove(&self.user);
                self.done = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn relay(&mut self, id: &str, to: &str, body: &str) {
        let mut relay = self.relay.borrow_mut();
        relay.seq += 1;
        let mut digits = [0; 20];
        let (seq, id) = (decimal(relay.seq, &mut digits), id.as_bytes());
        self.outbox.borrow_mut().push(&[
            b"{\"type\":\"accepted\",\"id\":\"",
            id,
            b"\",\"to\":\"",
            to.as_bytes(),
            b"\",\"seq\":",
            seq,
            b",\"stored\":false}",
        ]);
        if self.last.as_ref().is_none_or(|(last, _)| last != to) {
            self.last = relay.lanes.get(to).map(|outbox| (to.to_owned(), outbox.clone()));
        }
        if let Some((_, outbox)) = &self.last {
            let mut outbox = outbox.borrow_mut();
            outbox.push(&[
                b"{\"type\":\"message\",\"seq\":",
                seq,
                b",\"id\":\"",
                id,
                b"\",\"from\":\"",
                self.user.as_bytes(),
                b"\",\"ts_ms\":0,\"body\":",
                body.as_bytes(),
                b"}",
            ]);
            outbox.wake();
        }
    }
}

/// Id, recipient and body of a `send` without an escape before the body and with nothing behind it.
fn as_written(text: &str) -> Option<(&str, &str, &str)> {
    let (id, rest) = text.strip_prefix("{\"type\":\"send\",\"id\":\"")?.split_once('"')?;
    let (to, rest) = rest.strip_prefix(",\"to\":\"")?.split_once('"')?;
    let body = rest.strip_prefix(",\"body\":")?.strip_suffix('}')?;
    (!id.contains('\\') && !to.contains('\\') && body.starts_with('"') && body.ends_with('"')).then_some((id, to, body))
}

fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (number % 10) as u8;
        }
        number /= 10;
        if number == 0 || at == 0 {
            return digits.get(at..).unwrap_or_default();
        }
    }
}

#[allow(clippy::result_large_err, reason = "the library's own type")]
fn choose(_: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    response.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

async fn serve(socket: TcpStream, relay: Shared<Relay>) -> Result<(), Box<dyn Error>> {
    socket.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let socket = Box::pin(accept_hdr_async_with_config(socket, choose, Some(config))).await?;
    let (user, outbox, out) = (String::new(), Rc::default(), Vec::new());
    Lane { socket, user, outbox, relay, last: None, out, written: 0, done: false }.await;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:7500".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("bare relay: ws://{}/v1/connect", listener.local_addr()?);
    let relay = Shared::<Relay>::default();
    let local = tokio::task::LocalSet::new();
    local
        .run_until(async {
            loop {
                let (socket, _) = listener.accept().await?;
                let relay = relay.clone();
                tokio::task::spawn_local(async move {
                    let _ended = serve(socket, relay).await.is_err();
                });
            }
        })
        .await
}
