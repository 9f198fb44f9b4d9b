//! Bytes on a socket, for what no WebSocket library would send. Must never be well-behaved by itself: no
//! pong, no close echo, no reading unless asked.

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::common::daemon::Daemon;
use crate::common::{schema, wait};

pub const TEXT: u8 = 0x1;
pub const CONTINUATION: u8 = 0x0;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
/// The bit that says that a frame is the last of its message.
pub const FIN: u8 = 0x80;

/// One connection.
pub struct Raw {
    pub stream: TcpStream,
    /// Read and not yet looked at.
    ahead: Vec<u8>,
}

/// A frame of the server, or the end.
#[derive(Debug, PartialEq)]
pub enum Got {
    Frame(Value),
    Closed(u16),
    /// The connection ended without a close frame.
    End,
}

impl Raw {
    pub async fn connect(daemon: &Daemon) -> Self {
        Self::attempt(daemon).await.unwrap()
    }

    pub async fn attempt(daemon: &Daemon) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", daemon.port())).await?;
        Ok(Self { stream, ahead: Vec::new() })
    }

    /// With a receive buffer so small that the server soon notices who does not read.
    pub async fn connect_narrow(daemon: &Daemon) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let stream = socket.connect(([127, 0, 0, 1], daemon.port()).into()).await.unwrap();
        Self { stream, ahead: Vec::new() }
    }

    /// Upgrades and says hello as `user`; returns after the welcome.
    pub async fn enter(mut self, user: &str) -> Self {
        self.upgrade().await;
        self.enter_upgraded(user).await
    }

    /// As [`Self::enter`] after [`Self::upgrade`].
    pub async fn enter_upgraded(mut self, user: &str) -> Self {
        let hello = serde_json::json!({"type": "hello", "user": user, "device": "raw"});
        self.say(&hello.to_string()).await.unwrap();
        match self.next().await {
            Got::Frame(frame) if frame["type"] == "welcome" => self,
            other => panic!("{other:?} instead of a welcome"),
        }
    }

    /// Upgrades; returns after the server's response.
    pub async fn upgrade(&mut self) {
        self.write(upgrade_request("").as_bytes()).await.unwrap();
        let end = b"\r\n\r\n";
        loop {
            if let Some(at) = self.ahead.windows(end.len()).position(|window| window == end) {
                assert!(self.ahead.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&self.ahead));
                self.ahead.drain(..at + end.len());
                return;
            }
            assert!(self.read_more().await, "the connection ended instead of an upgrade");
        }
    }

    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        wait::within("room to write", self.stream.write_all(bytes)).await
    }

    /// A text frame.
    pub async fn say(&mut self, text: &str) -> io::Result<()> {
        self.write(&frame(FIN | TEXT, text.as_bytes())).await
    }

    /// The next frame that is no ping or pong.
    pub async fn next(&mut self) -> Got {
        loop {
            let Some((opcode, payload)) = self.next_frame().await else { return Got::End };
            match opcode {
                TEXT => {
                    let frame = serde_json::from_slice(&payload).unwrap();
                    schema::validate_server(&frame).unwrap();
                    return Got::Frame(frame);
                }
                CLOSE => return Got::Closed(u16::from_be_bytes([payload[0], payload[1]])),
                0x9 | 0xA => {}
                other => panic!("the server sent opcode {other}"),
            }
        }
    }

    /// The text of the next frame, which must be one, as it came: not everything that may be relayed can be
    /// read by a common library.
    pub async fn next_text(&mut self) -> Option<String> {
        let (opcode, payload) = self.next_frame().await?;
        assert_eq!(opcode, TEXT);
        Some(String::from_utf8(payload).unwrap())
    }

    /// Reads until the close frame, or the end, whatever comes before.
    pub async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next().await {
                Got::Frame(_) => {}
                Got::Closed(code) => return Some(code),
                Got::End => return None,
            }
        }
    }

    /// Reads one frame, whatever it is; false at the end.
    pub async fn next_any(&mut self) -> bool {
        self.next_frame().await.is_some()
    }

    /// The status of the HTTP response, and the response; the connection must end after it.
    pub async fn response(&mut self) -> (u16, String) {
        while self.read_more().await {}
        let text = String::from_utf8_lossy(&self.ahead).into_owned();
        let status = text.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
        (status.unwrap_or_else(|| panic!("not a response: {text:?}")), text)
    }

    async fn next_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((opcode, header, length)) = head(&self.ahead)
                && self.ahead.len() >= header + length
            {
                let payload = self.ahead[header..header + length].to_vec();
                self.ahead.drain(..header + length);
                return Some((opcode, payload));
            }
            if !self.read_more().await {
                return None;
            }
        }
    }

    /// False at the end, be it orderly or not.
    async fn read_more(&mut self) -> bool {
        let mut chunk = [0; 16 * 1024];
        match wait::within("something from the server", self.stream.read(&mut chunk)).await {
            Ok(0) | Err(_) => false,
            Ok(read) => {
                self.ahead.extend_from_slice(&chunk[..read]);
                true
            }
        }
    }
}

/// Opcode, length of the header, length of the payload of a server's frame.
fn head(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & !0x0F, FIN, "the server neither fragments nor extends");
    assert_eq!(second & 0x80, 0, "a server does not mask");
    let (header, length) = match second {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into()),
        127 => (10, usize::try_from(u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap())).unwrap()),
        short => (2, short.into()),
    };
    Some((first & 0x0F, header, length))
}

/// A client's frame, masked with zeros. `first` is its opcode and the bits before it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = frame_head(first, payload.len() as u64);
    bytes.extend_from_slice(payload);
    bytes
}

/// Everything before a client's payload of `length` bytes.
pub fn frame_head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&length.to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// A good upgrade request with `more` header lines.
pub fn upgrade_request(more: &str) -> String {
    format!(
        "GET /v1/connect HTTP/1.1\r\nhost: doorstep\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}
