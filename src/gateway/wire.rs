//! One socket, one writer.
//!
//! Whoever reads from the socket does so through [`Wire`], but what it has to say to that (the handshake's response,
//! pongs, the reply to a close) goes into the session's [`Outbox`], where it takes its place between finished
//! frames. [`Writer`] alone writes to the socket. So nothing interleaves, and a stalled write stops no read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::outbox::{KEPT_BYTES, Outbox};
use super::transport::{ReadHalf, Transport, WriteHalf};

/// From the decision to close until the socket is dropped: to write what is left and hear the peer's close.
const CLOSE_WAIT: Duration = Duration::from_secs(1);

/// The stream as its readers see it: the WebSocket library for the handshake, then the session.
pub struct Wire {
    half: ReadHalf,
    outbox: Arc<Outbox>,
    heard: bool,
    /// Looked at already and still to be read.
    ahead: Vec<u8>,
}

/// The only one who writes to the socket.
pub struct Writer {
    half: WriteHalf,
    outbox: Arc<Outbox>,
    /// Taken from the outbox; written up to `written`.
    taken: Vec<u8>,
    written: usize,
}

/// Parts a fresh connection.
pub fn part(stream: Transport, outbox: &Arc<Outbox>) -> (Wire, Writer) {
    let (read, write) = stream.split();
    let wire = Wire { half: read, outbox: outbox.clone(), heard: false, ahead: Vec::new() };
    (wire, Writer { half: write, outbox: outbox.clone(), taken: Vec::new(), written: 0 })
}

impl Wire {
    /// Whether anything was read since the last call, part of a frame included.
    pub fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Answers what was read.
    pub fn reply(&self, append: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.append_raw_with(append);
    }

    /// The client said goodbye: nothing may follow but the reply to it.
    pub fn leave(&self) {
        self.outbox.leave();
    }

    /// Looks at what comes without taking it away, until it `is_enough`, the peer ends or `bytes_max` are there.
    pub async fn look_ahead(&mut self, bytes_max: usize, is_enough: impl Fn(&[u8]) -> bool) -> &[u8] {
        while self.ahead.len() < bytes_max && !is_enough(&self.ahead) {
            let room = (bytes_max - self.ahead.len()) as u64;
            // A broken socket shows itself again to whoever reads next.
            match (&mut self.half).take(room).read_buf(&mut self.ahead).await {
                Ok(0) | Err(_) => break,
                Ok(_) => {}
            }
        }
        &self.ahead
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            let later = self.ahead.split_off(count);
            buf.put_slice(&self.ahead);
            self.ahead = later;
            self.heard = true;
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.half).poll_read(cx, buf))?;
        self.heard |= buf.filled().len() > before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        // Always whole: the library hands over whole frames, and the outbox ends the session rather than grow.
        self.outbox.append_raw(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Writer {
    /// Writes whatever comes into the outbox, until the session is to end or the socket is broken.
    /// May be dropped and called again at any time.
    pub async fn pump(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_pump(cx)).await
    }

    fn poll_pump(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Before the first look, so that nothing that comes after it is missed.
        self.outbox.call(cx);
        loop {
            if self.pending().is_empty() {
                self.recycle();
                ready!(self.outbox.poll_take(&mut self.taken));
            }
            if self.outbox.is_ending() {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_write(cx))?;
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let pending = self.taken.get(self.written..).unwrap_or_default();
        match ready!(self.half.poll_write(cx, pending))? {
            0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            written => {
                self.written += written;
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Writes what is left, within reason, and waits a moment for the peer to close as well.
    pub async fn finish(mut self) {
        let in_time = tokio::time::timeout(CLOSE_WAIT, async {
            self.flush_last().await?;
            self.half.shutdown().await?;
            self.half.until_eof().await
        });
        if let Ok(Err(error)) = in_time.await {
            tracing::trace!(%error, "connection broke while closing");
        }
    }

    /// Writes as much of what is left as the socket takes at once.
    pub fn finish_now(mut self) {
        self.outbox.take_last(&mut self.taken);
        let pending = self.taken.get(self.written..).unwrap_or_default();
        if let Err(error) = self.half.try_write(pending) {
            tracing::trace!(%error, "connection broke while closing");
        }
    }

    /// Gives the memory of an idle session back.
    pub fn trim(&mut self) {
        if self.pending().is_empty() {
            self.taken = Vec::new();
            self.written = 0;
        }
    }

    async fn flush_last(&mut self) -> io::Result<()> {
        self.outbox.take_last(&mut self.taken);
        while !self.pending().is_empty() {
            poll_fn(|cx| self.poll_write(cx)).await?;
        }
        Ok(())
    }

    fn pending(&self) -> &[u8] {
        self.taken.get(self.written..).unwrap_or_default()
    }

    fn recycle(&mut self) {
        self.written = 0;
        self.taken.clear();
        if !KEPT_BYTES.contains(&self.taken.capacity()) {
            self.taken = Vec::new();
        }
    }
}
