//! A client that costs little, for crowds: it reads what it must and keeps nothing. It comes back until it is let
//! in, and counts how often it tried. Must never acknowledge by itself.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, interval_at};

/// Bound of the first back-off; it doubles up to the second.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const UPGRADE: &str = "GET /v1/connect HTTP/1.1\r\nhost: doorstep\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                       sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

pub struct Light {
    stream: TcpStream,
    /// Read and not yet looked at.
    ahead: Vec<u8>,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    pub id: String,
    pub seq: u64,
    pub redelivered: bool,
}

/// What a client found when it had come back.
pub struct Return {
    pub client: Light,
    /// All that came before `caught_up`.
    pub backlog: Vec<Letter>,
    pub tries: u64,
}

impl Light {
    /// Tries until it has caught up.
    pub async fn come(port: u16, user: &str) -> Return {
        let mut backoff = BACKOFF_MIN;
        let mut tries = 0;
        loop {
            tries += 1;
            if let Ok((client, backlog)) = Self::attempt(port, user).await {
                return Return { client, backlog, tries };
            }
            wait_out(backoff.mul_f64(fastrand::f64())).await;
            backoff = (2 * backoff).min(BACKOFF_MAX);
        }
    }

    async fn attempt(port: u16, user: &str) -> io::Result<(Self, Vec<Letter>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        stream.write_all(UPGRADE.as_bytes()).await?;
        let mut client = Self { stream, ahead: Vec::new() };
        client.upgraded().await?;
        client.say(&format!(r#"{{"type":"hello","user":"{user}","device":"phone"}}"#)).await?;
        let mut backlog = Vec::new();
        loop {
            let frame = client.text().await?;
            match frame["type"].as_str() {
                Some("welcome") => {}
                Some("message") => backlog.push(letter(&frame)),
                Some("caught_up") => return Ok((client, backlog)),
                _ => return Err(io::Error::other(frame.to_string())),
            }
        }
    }

    /// The next delivery.
    pub async fn letter(&mut self) -> Letter {
        letter(&self.text().await.unwrap())
    }

    pub async fn ack(&mut self, seq: u64) {
        self.say(&format!(r#"{{"type":"ack","seq":{seq}}}"#)).await.unwrap();
    }

    /// Reads to the end; the time that the goodbye said to come back at, if there was one.
    pub async fn end(mut self) -> Option<Duration> {
        let mut retry_after = None;
        while let Ok(frame) = self.text().await {
            if frame["type"] == "goodbye" {
                retry_after = frame["retry_after_ms"].as_u64().map(Duration::from_millis);
            }
        }
        retry_after
    }

    async fn say(&mut self, text: &str) -> io::Result<()> {
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).expect("a short frame");
        let mut frame = vec![TEXT, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        self.stream.write_all(&frame).await
    }

    async fn upgraded(&mut self) -> io::Result<()> {
        loop {
            if let Some(at) = self.ahead.windows(4).position(|window| window == b"\r\n\r\n") {
                let is_let_in = self.ahead.starts_with(b"HTTP/1.1 101 ");
                self.ahead.drain(..at + 4);
                return if is_let_in { Ok(()) } else { Err(io::Error::other("not now")) };
            }
            self.read_more().await?;
        }
    }

    /// The next text frame; an error is the end.
    async fn text(&mut self) -> io::Result<serde_json::Value> {
        loop {
            if let Some((opcode, begin, end)) = frame(&self.ahead) {
                let payload: Vec<u8> = self.ahead.drain(..end).skip(begin).collect();
                match opcode {
                    TEXT => return Ok(serde_json::from_slice(&payload)?),
                    CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                    _ => continue,
                }
            }
            self.read_more().await?;
        }
    }

    async fn read_more(&mut self) -> io::Result<()> {
        // Of a crowd each should hold little while it waits.
        let mut piece = [0; 512];
        match self.stream.read(&mut piece).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.ahead.extend_from_slice(&piece[..read]);
                Ok(())
            }
        }
    }
}

/// As a client does that was told when to come back.
pub async fn wait_out(time: Duration) {
    interval_at(Instant::now() + time, BACKOFF_MAX).tick().await;
}

fn letter(frame: &serde_json::Value) -> Letter {
    assert_eq!(frame["type"], "message", "{frame}");
    Letter {
        id: frame["id"].as_str().unwrap().to_owned(),
        seq: frame["seq"].as_u64().unwrap(),
        redelivered: frame["redelivered"] == true,
    }
}

/// The first byte of the first frame, and where its payload begins and ends, when it is all there.
fn frame(bytes: &[u8]) -> Option<(u8, usize, usize)> {
    let (begin, length) = match *bytes.get(1)? {
        126 => (4, u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]).into()),
        short => (2, usize::from(short)),
    };
    (bytes.len() >= begin + length).then_some((bytes[0], begin, begin + length))
}
