//! The router that a scenario plays: a port of its own on loopback, and one connection after another.
//!
//! Connections are taken from the system as soon as they come, so that the time at which they came can be told.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};

use super::driver::PATIENCE;
use super::peer::Peer;

const PATH: &str = "/v1/connect";
const SUBPROTOCOL: &str = "doorstep.v1";
/// Connections that no step has asked for.
const ARRIVALS_MAX: usize = 64;
/// What a request to upgrade may be long.
const HEAD_BYTES_MAX: usize = 16 << 10;

struct Arrival {
    stream: TcpStream,
    at: Instant,
}

pub struct Stage {
    address: SocketAddr,
    arrivals: mpsc::Receiver<Arrival>,
    /// Came while something else was waited for.
    early: Option<Arrival>,
    listening: JoinHandle<()>,
    peer: Option<Peer>,
    /// The client has closed it; the closing handshake goes on.
    parting: Option<Peer>,
    /// When this side ended the last connection, if it did.
    ended_at: Option<Instant>,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Stage {
    pub async fn open() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (bell, arrivals) = mpsc::channel(ARRIVALS_MAX);
        let listening = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if bell.send(Arrival { stream, at: Instant::now() }).await.is_err() {
                    return;
                }
            }
        });
        Ok(Self { address, arrivals, early: None, listening, peer: None, parting: None, ended_at: None })
    }

    pub fn url(&self) -> String {
        format!("ws://{}{PATH}", self.address)
    }

    /// # Errors
    /// When there is no connection.
    pub fn peer(&mut self) -> Result<&mut Peer, String> {
        self.peer.as_mut().ok_or_else(|| "there is no connection".to_owned())
    }

    /// Waits for a connection and makes a WebSocket of it.
    ///
    /// # Errors
    /// When none comes in time, or sooner than `after_ms` after this side ended the last one, or it is not what the protocol
    /// says.
    pub async fn accept(&mut self, after_ms: u64) -> Result<(), String> {
        let Arrival { stream, at } = self.arrival().await?;
        let waited = self.ended_at.map(|ended_at| at.saturating_duration_since(ended_at));
        if let Some(waited) = waited.filter(|waited| waited.as_millis() < u128::from(after_ms)) {
            return Err(format!("a connection {} ms after the last one ended", waited.as_millis()));
        }
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let socket = tokio::time::timeout(PATIENCE, accept_hdr_async(stream, judge)).await;
        let socket = socket.map_err(|_| "no request to upgrade".to_owned())?;
        self.peer = Some(Peer::new(socket.map_err(|error| format!("no upgrade: {error}"))?));
        self.ended_at = None;
        Ok(())
    }

    /// Waits for a connection and answers its request with `status`.
    ///
    /// # Errors
    /// When none comes in time.
    pub async fn refuse(&mut self, status: u16) -> Result<(), String> {
        let Arrival { mut stream, .. } = self.arrival().await?;
        let answer = async {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
                head.push(stream.read_u8().await?);
            }
            let answer = format!("HTTP/1.1 {status} Refused\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await?;
            stream.shutdown().await
        };
        let answered = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| "no request".to_owned())?;
        answered.map_err(|error| format!("no request that could be answered: {error}"))?;
        self.peer = None;
        self.ended_at = Some(Instant::now());
        Ok(())
    }

    /// # Errors
    /// When the connection is over already.
    pub fn close(&mut self, code: u16) -> Result<(), String> {
        self.peer()?.close(code)?;
        self.ended_at = Some(Instant::now());
        Ok(())
    }

    /// # Errors
    /// When the connection is over already.
    pub fn reset(&mut self) -> Result<(), String> {
        self.peer()?.reset()?;
        self.ended_at = Some(Instant::now());
        Ok(())
    }

    /// The client ended the connection.
    pub fn left(&mut self) {
        self.parting = self.peer.take();
    }

    /// Waits for anything that comes from the client. Nothing is lost when it is cancelled, but what comes is lost.
    pub async fn stirred(&mut self) -> String {
        // What comes of a connection that this side ended says nothing of the client.
        let talking = self.ended_at.is_none();
        let peer = async {
            match self.peer.as_mut().filter(|_| talking) {
                Some(peer) => peer.next().await.to_string(),
                None => std::future::pending().await,
            }
        };
        let early = &mut self.early;
        tokio::select! {
            heard = peer => heard,
            Some(arrival) = self.arrivals.recv() => {
                *early = Some(arrival);
                "a connection".to_owned()
            }
        }
    }

    async fn arrival(&mut self) -> Result<Arrival, String> {
        if let Some(arrival) = self.early.take() {
            return Ok(arrival);
        }
        let arrival = tokio::time::timeout(PATIENCE, self.arrivals.recv()).await;
        arrival.map_err(|_| "no connection".to_owned())?.ok_or_else(|| "no connection".to_owned())
    }
}

#[allow(clippy::result_large_err, reason = "the handshake callback's signature is not ours")]
fn judge(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).and_then(|value| value.to_str().ok());
    let fits = offered.is_none_or(|offered| offered.split(',').any(|name| name.trim() == SUBPROTOCOL));
    if request.uri().path() != PATH || !fits {
        let mut refusal = ErrorResponse::new(Some(format!("{} with {offered:?}", request.uri())));
        *refusal.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::BAD_REQUEST;
        return Err(refusal);
    }
    if offered.is_some() {
        response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    }
    Ok(response)
}
