//! One WebSocket connection: frames out of a small outbox, frames in, both at once.
//!
//! It must never stop reading because a write is stuck: the server may be doing the same, and then
//! neither would ever go on.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use futures::{SinkExt, StreamExt};
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error as WsError, ProtocolError};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::wire::Wire;

/// What the other side did.
#[derive(Debug)]
pub(super) enum Heard {
    Text(Utf8Bytes),
    /// Alive, nothing more.
    Sign,
    /// Nothing from the other side: the outbox was full and is empty now.
    Drained,
    /// The connection is over: with a close frame, or broken.
    End {
        close_code: Option<u16>,
        reason: String,
    },
}

/// Frames, and bytes of them, in the outbox from which on it calls itself full.
const OUTBOX_FULL: usize = 64;
const OUTBOX_BYTES_FULL: usize = 4 << 20;

pub(super) struct Link {
    socket: WebSocketStream<Wire>,
    outbox: VecDeque<Message>,
    outbox_bytes: usize,
    was_full: bool,
    /// Writing failed; what was sent before may still have an answer, so reading goes on to its end.
    write_error: Option<String>,
}

impl Link {
    pub(super) fn new(socket: WebSocketStream<Wire>) -> Self {
        Self { socket, outbox: VecDeque::new(), outbox_bytes: 0, was_full: false, write_error: None }
    }

    /// Puts a frame into the outbox; it goes out during [`Self::next`].
    pub(super) fn push(&mut self, frame: String) {
        self.outbox_bytes += frame.len();
        self.outbox.push_back(Message::text(frame));
        self.was_full |= self.is_full();
    }

    pub(super) fn push_close(&mut self) {
        let frame = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        self.outbox.push_back(Message::Close(Some(frame)));
    }

    /// The socket does not keep up; [`Heard::Drained`] tells when it has caught up.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.len() >= OUTBOX_FULL || self.outbox_bytes >= OUTBOX_BYTES_FULL
    }

    /// When anything came in last, part of a frame included.
    pub(super) fn heard_at(&self) -> Instant {
        self.socket.get_ref().heard_at()
    }

    /// Writes what can be written and returns what comes in. Nothing is lost when it is cancelled.
    pub(super) async fn next(&mut self) -> Heard {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Heard> {
        if self.write_error.is_none()
            && let Poll::Ready(Err(error)) = self.poll_write(cx)
        {
            self.outbox.clear();
            self.outbox_bytes = 0;
            self.write_error = Some(error.to_string());
        }
        if self.was_full && self.outbox.is_empty() {
            self.was_full = false;
            return Poll::Ready(Heard::Drained);
        }
        let heard = match ready!(self.socket.poll_next_unpin(cx)) {
            Some(Ok(Message::Text(text))) => Heard::Text(text),
            Some(Ok(Message::Close(frame))) => self.closed(frame, cx),
            Some(Ok(_)) => Heard::Sign,
            Some(Err(WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
                self.broken("it broke without a goodbye")
            }
            Some(Err(error)) => self.broken(&error.to_string()),
        };
        Poll::Ready(heard)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<tokio_tungstenite::tungstenite::Result<()>> {
        while !self.outbox.is_empty() {
            ready!(self.socket.poll_ready_unpin(cx))?;
            let Some(frame) = self.outbox.pop_front() else { break };
            self.outbox_bytes = self.outbox_bytes.saturating_sub(frame.len());
            self.socket.start_send_unpin(frame)?;
        }
        self.socket.poll_flush_unpin(cx)
    }

    fn closed(&mut self, frame: Option<CloseFrame>, cx: &mut Context<'_>) -> Heard {
        // Pushes out the reply that the socket has ready. The server no longer needs it, so that one
        // try is enough.
        let _polite = self.socket.poll_flush_unpin(cx).is_ready();
        match frame {
            Some(frame) => Heard::End { close_code: Some(frame.code.into()), reason: frame.reason.as_str().to_owned() },
            None => Heard::End { close_code: None, reason: "closed without a reason".into() },
        }
    }

    fn broken(&mut self, read_error: &str) -> Heard {
        let reason = self.write_error.take().unwrap_or_else(|| read_error.to_owned());
        Heard::End { close_code: None, reason }
    }
}
