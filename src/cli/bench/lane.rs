//! One bench connection: as lean as a client can be, so that the router is measured and not the client.
//!
//! The upgrade is left to the library; from then on bytes go straight to and from the socket. What many lanes share,
//! the buffer that is read into, comes from outside: a lane that has nothing to say or to hear holds next to no memory.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_tungstenite::MaybeTlsStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::said::Said;
use super::wire::{self, FRAME_BYTES_MAX, Incoming};
use crate::cli::CliError;
use crate::codes::CloseCode;
use crate::protocol::SUBPROTOCOL;
use crate::protocol::client_encode::client_frame;
use crate::protocol::frames::{ClientFrame, Hello};

const CONNECT_MAX: Duration = Duration::from_secs(10);
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// Of the library, for the upgrade alone.
const UPGRADE_BUFFER_BYTES: usize = 1 << 10;
/// For a lane that is not at work: a `welcome` fits.
const SMALL_BUFFER_BYTES: usize = 2 << 10;
/// What a lane at work reads into; holds a whole frame and more.
const BUFFER_BYTES: usize = FRAME_BYTES_MAX + (64 << 10);
/// Reads from one lane before others have their turn.
const READS_MAX: usize = 4;
/// Unwritten bytes past which nothing more is said.
const OUT_BYTES_MAX: usize = 256 << 10;

/// A buffer to read into, for all lanes of a thread.
pub(super) fn buffer() -> Vec<u8> {
    vec![0; BUFFER_BYTES]
}

pub(super) struct Lane {
    socket: TcpStream,
    /// Bytes that came and were not told yet: a frame that is not whole, or what came behind a `welcome`.
    rest: Vec<u8>,
    /// Frames to be written, the first `written` bytes of them done.
    pub(super) out: Vec<u8>,
    written: usize,
    /// As its welcome said.
    pub(super) cursor: u64,
}

impl Lane {
    /// Connects and waits for `welcome`.
    pub(super) async fn connect(url: &str, hello: Hello) -> Result<Self, CliError> {
        let connected = tokio::time::timeout(CONNECT_MAX, Self::connect_slowly(url, hello)).await;
        connected.map_err(|_| CliError { message: format!("{url} does not answer"), exit_code: 3 })?
    }

    async fn connect_slowly(url: &str, hello: Hello) -> Result<Self, CliError> {
        let mut lane = Self::new(Box::pin(upgrade(url)).await?);
        lane.say(&ClientFrame::Hello(hello));
        match std::future::poll_fn(|cx| lane.poll_welcome(cx)).await? {
            Ok(cursor) => {
                lane.slim_down();
                Ok(Self { cursor, ..lane })
            }
            Err(turned_away) => Err(turned_away),
        }
    }

    fn new(socket: TcpStream) -> Self {
        Self { socket, rest: Vec::new(), out: Vec::new(), written: 0, cursor: 0 }
    }

    /// Writes a frame that is said too seldom to have been made ready.
    pub(super) fn say(&mut self, frame: &ClientFrame<'_>) {
        wire::text(&mut self.out, &[client_frame(frame).as_bytes()]);
    }

    fn poll_welcome(&mut self, cx: &mut Context<'_>) -> Poll<Result<Result<u64, CliError>, CliError>> {
        self.flush(cx)?;
        loop {
            if let Some((Incoming::Text(text), after)) = wire::first(&self.rest)? {
                let welcome = match Said::read(text)? {
                    Said::Welcome { cursor } => Ok(cursor),
                    other => Err(turned_away(&other)),
                };
                self.rest = after.to_vec();
                return Poll::Ready(Ok(welcome));
            }
            let mut small = [0; SMALL_BUFFER_BYTES];
            let read = ready!(self.poll_read(cx, &mut small))?;
            self.rest.extend_from_slice(small.get(..read).unwrap_or_default());
        }
    }

    /// Tells `hear` what has come, and when it was here. If there may be more, the task is woken again.
    ///
    /// # Errors
    /// When the connection has ended, or `hear` fails.
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
        mut hear: impl FnMut(Instant, Said<'_>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        if !self.rest.is_empty() && wire::first(&self.rest)?.is_some() {
            let rest = std::mem::take(&mut self.rest);
            self.tell(&rest, &mut hear)?;
        }
        for _ in 0..READS_MAX {
            let kept = self.rest.len();
            let Some((front, free)) = buffer.split_at_mut_checked(kept) else {
                return Err(CliError::new("a frame is too long"));
            };
            front.copy_from_slice(&self.rest);
            let Poll::Ready(read) = self.poll_read(cx, free) else { return Ok(()) };
            let filled = kept + read?;
            self.rest.clear();
            self.tell(buffer.get(..filled).unwrap_or_default(), &mut hear)?;
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn tell(
        &mut self,
        mut bytes: &[u8],
        hear: &mut impl FnMut(Instant, Said<'_>) -> Result<(), CliError>,
    ) -> Result<(), CliError> {
        let now = Instant::now();
        while let Some((incoming, after)) = wire::first(bytes)? {
            match incoming {
                Incoming::Text(text) => hear(now, Said::read(text)?)?,
                Incoming::Ping(payload) => wire::pong(&mut self.out, payload),
                Incoming::Pong => {}
                Incoming::Close(close) => {
                    return Err(CliError::new(format!("the router closed a connection: {}", wire::reason(close))));
                }
            }
            bytes = after;
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// How many bytes were read; there is at least one.
    fn poll_read(&mut self, cx: &mut Context<'_>, free: &mut [u8]) -> Poll<Result<usize, CliError>> {
        let mut space = ReadBuf::new(free);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut space)).map_err(|error| broke(&error))?;
        Poll::Ready(match space.filled().len() {
            0 => Err(CliError::new("a connection was lost")),
            read => Ok(read),
        })
    }

    /// Whether more may be said; if not, [`Self::flush`] has the task woken when something has gone out.
    pub(super) fn has_room(&self) -> bool {
        self.out.len() < OUT_BYTES_MAX
    }

    /// Sends as much as the socket takes; if that is not all, the task is woken when it takes more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), CliError> {
        while let Some(unwritten) = self.out.get(self.written..).filter(|unwritten| !unwritten.is_empty()) {
            let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, unwritten) else { return Ok(()) };
            self.written += written.map_err(|error| broke(&error))?;
        }
        self.out.clear();
        self.written = 0;
        Ok(())
    }

    /// Gives back memory: most lanes of some scenarios have nothing to do.
    fn slim_down(&mut self) {
        self.rest.shrink_to_fit();
        if self.out.is_empty() {
            self.out = Vec::new();
        }
    }

    /// Unregisters the device, so that nothing of a bench is left behind, and waits for the close.
    pub(super) async fn leave(mut self) {
        self.say(&ClientFrame::Forget);
        self.end().await;
    }

    /// Closes, and waits until the router has done the same; the device stays registered.
    pub(super) async fn close(mut self) {
        wire::close(&mut self.out);
        self.end().await;
    }

    async fn end(&mut self) {
        let gone = std::future::poll_fn(|cx| self.poll_gone(cx));
        if tokio::time::timeout(LEAVE_MAX, gone).await.is_err() {
            tracing::debug!("a bench connection did not end politely");
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut buffer = [0; SMALL_BUFFER_BYTES];
        if self.flush(cx).is_err() {
            return Poll::Ready(());
        }
        while ready!(self.poll_read(cx, &mut buffer)).is_ok() {}
        Poll::Ready(())
    }
}

/// Everything up to the point where the protocol begins. The server says nothing before it has heard a `hello`, so
/// that nothing is lost in the library's own buffer.
async fn upgrade(url: &str) -> Result<TcpStream, CliError> {
    let unreachable = |error: tokio_tungstenite::tungstenite::Error| CliError {
        message: format!("cannot connect to {url}: {error}; `doorstep serve` starts a router"),
        exit_code: 3,
    };
    let mut request = url.into_client_request().map_err(unreachable)?;
    request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    let config = WebSocketConfig::default().read_buffer_size(UPGRADE_BUFFER_BYTES);
    let connected = tokio_tungstenite::connect_async_with_config(request, Some(config), true).await;
    match connected.map_err(unreachable)?.0.into_inner() {
        MaybeTlsStream::Plain(socket) => Ok(socket),
        _ => Err(CliError::new("a bench speaks ws:// only")),
    }
}

fn turned_away(said: &Said<'_>) -> CliError {
    match said {
        Said::Goodbye { code, reason } if *code == u64::from(CloseCode::NotAuthenticated.number()) => {
            CliError::new(format!(
                "the router wants tokens ({reason}); with --config FILE the bench signs them with that router's HS256 secret"
            ))
        }
        Said::Goodbye { reason, .. } | Said::Error { reason } => CliError::new(reason),
        _ => CliError::new("the router sent no welcome"),
    }
}

fn broke(error: &std::io::Error) -> CliError {
    CliError::new(format!("a connection broke: {error}"))
}
