//! The other end of a WebSocket, byte by byte, for what no library would send. Must never be well-behaved by itself.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::testing::soon;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;
/// The bit that says that a frame is the last of its message.
pub const FIN: u8 = 0x80;

/// What a client masks with.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

pub struct Peer {
    pub stream: TcpStream,
    ahead: Vec<u8>,
}

impl Peer {
    /// A connection after the upgrade, which is held to RFC 6455, 4.2.2.
    pub async fn connect(address: SocketAddr) -> Self {
        let mut stream = soon("a connection", TcpStream::connect(address)).await.unwrap();
        let request = "GET /v1/connect HTTP/1.1\r\nHost: echo\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        soon("room to write", stream.write_all(request.as_bytes())).await.unwrap();
        let mut response = Vec::new();
        while !response.ends_with(b"\r\n\r\n") {
            response.push(soon("the response", stream.read_u8()).await.unwrap());
        }
        let response = String::from_utf8(response).unwrap().to_lowercase();
        assert!(response.starts_with("http/1.1 101 "), "{response}");
        // The key of the RFC's own example.
        assert!(response.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n"), "{response}");
        assert!(!response.contains("sec-websocket-extensions"), "none was offered");
        Self { stream, ahead: Vec::new() }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        soon("room to write", self.stream.write_all(bytes)).await.unwrap();
    }

    /// The first byte and the payload of the next frame; none at the end of the connection.
    pub async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some((header, length)) = head(&self.ahead).filter(|(header, l)| self.ahead.len() >= header + l) {
                let whole: Vec<u8> = self.ahead.drain(..header + length).collect();
                return Some((whole[0], whole[header..].to_vec()));
            }
            let mut chunk = [0; 16 * 1024];
            match soon("something from the gateway", self.stream.read(&mut chunk)).await {
                Ok(0) | Err(_) => return None,
                Ok(read) => self.ahead.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Everything that still comes, up to the end of the connection.
    pub async fn rest(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut rest = Vec::new();
        while let Some(frame) = self.next().await {
            rest.push(frame);
        }
        rest
    }
}

/// Lengths of the header and of the payload of a frame that a server sent.
fn head(bytes: &[u8]) -> Option<(usize, usize)> {
    let short = *bytes.get(1)?;
    assert_eq!(short & 0x80, 0, "a server does not mask");
    Some(match short {
        126 => (4, u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap()).into()),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize),
        _ => (2, short.into()),
    })
}

/// A client's frame. `first` is its opcode and the bits before it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ 0..126 => bytes.push(0x80 | length as u8),
        length @ 126..65536 => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The payload of a close frame.
pub fn closing(code: u16, reason: &[u8]) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason].concat()
}
