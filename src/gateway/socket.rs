//! What one client says, read as it comes.
//!
//! All sessions of a thread read through one buffer, one after the other: what has come to one of them is dealt with
//! before the next one reads. So the buffer can be large, stays in the caches, and costs an idle session nothing.
//! Only the beginning of a frame whose end has not come is kept with the session.

use std::borrow::Cow;
use std::cell::RefCell;
use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

use super::assembler::{Assembler, Heard, Next, Violation};
use super::frame;
use super::wire::Wire;

/// Read in one go: some fifty messages of a few hundred bytes. It also bounds how many commands come of one go.
const BUFFER_BYTES: usize = 16 * 1024;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER_BYTES].into_boxed_slice());
}

/// What is said by a client to whoever is behind the WebSocket. Pings are answered here.
#[derive(Debug)]
pub enum Said<'a> {
    Text(Cow<'a, str>),
    Binary(Cow<'a, [u8]>),
    /// It leaves; with 1000 if `clean`. The reply to it is on its way.
    Goodbye {
        clean: bool,
    },
}

/// Why no more can be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The peer has gone without a word.
    Gone,
    Violated(Violation),
}

/// The reading side of a WebSocket, after its upgrade.
pub struct Socket {
    wire: Wire,
    assembler: Assembler,
    /// What has been read and not been heard.
    rest: Vec<u8>,
}

/// How far a look into what was read has come.
struct Progress {
    /// Bytes that were dealt with.
    done: usize,
    /// How many bytes the next frame is short of, at least; none when the listener had enough before the end.
    short: Option<usize>,
    /// There was a frame, if only to say that the client is there.
    any: bool,
}

impl Progress {
    const NONE: Self = Self { done: 0, short: None, any: false };
}

impl Socket {
    /// A frame, and a message, has `bytes_max` at most.
    pub fn new(wire: Wire, bytes_max: usize) -> Self {
        Self { wire, assembler: Assembler::new(bytes_max), rest: Vec::new() }
    }

    /// Whether anything was read since the last call, part of a frame included.
    pub fn take_heard(&mut self) -> bool {
        self.wire.take_heard()
    }

    /// The next thing that is said, and what there may be behind it left for later.
    ///
    /// # Errors
    /// See [`Lost`].
    pub async fn next<T>(&mut self, mut take: impl FnMut(Said<'_>) -> T) -> Result<T, Lost> {
        poll_fn(|cx| {
            loop {
                let mut taken = None;
                ready!(self.poll_hear(cx, |said| {
                    taken = Some(take(said));
                    ControlFlow::Break(())
                }))?;
                if let Some(taken) = taken {
                    return Poll::Ready(Ok(taken));
                }
            }
        })
        .await
    }

    /// Hands what has come to `listener`, as long as it wants more. Ready after every read that brought a whole frame,
    /// which may be one that says nothing (a pong is a sign of life all the same, and what answers a ping has to be
    /// written), and when there will be no more.
    pub fn poll_hear(
        &mut self,
        cx: &mut Context<'_>,
        mut listener: impl FnMut(Said<'_>) -> ControlFlow<()>,
    ) -> Poll<Result<(), Lost>> {
        // Only what somebody did not want to hear at once; the beginning of a frame says nothing yet.
        let mut progress = self.hear_rest(&mut listener)?;
        while !progress.any {
            progress = match progress.short {
                Some(short) if !self.rest.is_empty() => {
                    ready!(self.poll_read_on(short, cx))?;
                    self.hear_rest(&mut listener)?
                }
                _ => ready!(self.poll_fresh(cx, &mut listener))?,
            };
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what has come into the buffer of the thread and looks through it there.
    fn poll_fresh(
        &mut self,
        cx: &mut Context<'_>,
        listener: &mut impl FnMut(Said<'_>) -> ControlFlow<()>,
    ) -> Poll<Result<Progress, Lost>> {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.wire).poll_read(cx, &mut read)).map_err(|_| Lost::Gone)?;
            let bytes = read.filled_mut();
            if bytes.is_empty() {
                return Poll::Ready(Err(Lost::Gone));
            }
            let progress = self.hear(bytes, listener)?;
            self.rest.extend_from_slice(bytes.get(progress.done..).unwrap_or_default());
            Poll::Ready(Ok(progress))
        })
    }

    /// Reads more of a frame that has begun. What it says of its length is believed a buffer at a time.
    fn poll_read_on(&mut self, short: usize, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        let part_bytes = short.min(BUFFER_BYTES);
        self.rest.reserve(part_bytes);
        // No further than that, or what follows would not go through the buffer, which bounds how much is heard at once.
        let mut part = (&mut self.wire).take(part_bytes as u64);
        match ready!(pin!(part.read_buf(&mut self.rest)).poll(cx)) {
            Ok(0) | Err(_) => Poll::Ready(Err(Lost::Gone)),
            Ok(_) => Poll::Ready(Ok(())),
        }
    }

    /// Looks through what was left of earlier.
    fn hear_rest(&mut self, listener: &mut impl FnMut(Said<'_>) -> ControlFlow<()>) -> Result<Progress, Lost> {
        if self.rest.is_empty() {
            return Ok(Progress::NONE);
        }
        let mut rest = std::mem::take(&mut self.rest);
        let progress = self.hear(&mut rest, listener)?;
        if progress.done < rest.len() {
            rest.drain(..progress.done);
            self.rest = rest;
        }
        Ok(progress)
    }

    fn hear(
        &mut self,
        bytes: &mut [u8],
        listener: &mut impl FnMut(Said<'_>) -> ControlFlow<()>,
    ) -> Result<Progress, Lost> {
        let mut progress = Progress::NONE;
        while let Some(ahead) = bytes.get_mut(progress.done..).filter(|ahead| !ahead.is_empty()) {
            let heard = match self.assembler.next(ahead).map_err(Lost::Violated)? {
                Next::Frame(length, heard) => {
                    progress.done += length;
                    progress.any = true;
                    heard
                }
                Next::Short(short) => {
                    progress.short = Some(short);
                    break;
                }
            };
            let said = match heard {
                Some(Heard::Text(text)) => Said::Text(text),
                Some(Heard::Binary(bytes)) => Said::Binary(bytes),
                Some(Heard::Close(close)) => self.goodbye(close),
                Some(Heard::Ping(payload)) => {
                    self.wire.reply(|buf| frame::pong(buf, payload));
                    continue;
                }
                Some(Heard::Pong) | None => continue,
            };
            if listener(said).is_break() {
                break;
            }
        }
        Ok(progress)
    }

    /// A close is answered with its own code, and one that no endpoint may send with 1002 (RFC 6455, 7.4).
    fn goodbye(&mut self, close: Option<(u16, &str)>) -> Said<'static> {
        self.wire.leave();
        self.wire.reply(|buf| match close {
            None => frame::bare_close(buf),
            Some((code, reason)) if frame::may_close_with(code) => frame::close(buf, code, reason),
            Some(_) => frame::close(buf, frame::PROTOCOL_ERROR, "no endpoint may close with this code"),
        });
        Said::Goodbye { clean: close.is_some_and(|(code, _)| code == frame::NORMAL) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;
    use crate::gateway::inbound::Inbound;
    use crate::gateway::outbox::{Bounds, Outbox};
    use crate::gateway::talk::Talk;
    use crate::gateway::testing::{config, soon};
    use crate::gateway::transport::Transport;
    use crate::gateway::wire;
    use crate::ids::SessionId;
    use crate::metrics::Metrics;

    const BYTES_MAX: usize = 100_000;

    /// A socket, what it answers, and the client's end of it.
    fn open() -> (Socket, Arc<Outbox>, DuplexStream) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let bounds = Arc::new(Bounds::new(&config()));
        let outbox = Arc::new(Outbox::new(SessionId(1), bounds, Metrics::new(), Inbound::goodbye));
        let (wire, _writer) = wire::part(Transport::Memory(near), &outbox);
        (Socket::new(wire, BYTES_MAX), outbox, far)
    }

    /// A masked frame; a key of zeros leaves the payload as it is.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let head = match payload.len() {
            short @ 0..126 => vec![first, 0x80 | short as u8],
            medium @ 126..=0xffff => [&[first, 0x80 | 126], &(medium as u16).to_be_bytes()[..]].concat(),
            long => [&[first, 0x80 | 127], &(long as u64).to_be_bytes()[..]].concat(),
        };
        [&head[..], &[0; 4], payload].concat()
    }

    fn text(payload: &str) -> Vec<u8> {
        frame(0x81, payload.as_bytes())
    }

    fn owned(said: Said<'_>) -> String {
        match said {
            Said::Text(text) => text.into_owned(),
            other => panic!("{other:?}"),
        }
    }

    /// Everything that is heard in one go.
    async fn go(socket: &mut Socket) -> Result<Vec<String>, Lost> {
        let heard = poll_fn(|cx| {
            let mut heard = Vec::new();
            ready!(socket.poll_hear(cx, |said| {
                heard.push(owned(said));
                ControlFlow::Continue(())
            }))?;
            Poll::Ready(Ok(heard))
        });
        soon("something to hear", heard).await
    }

    /// In pieces that end anywhere, in frames that are longer than the buffer, and in between them such as are shorter.
    #[tokio::test]
    async fn everything_is_heard_once_and_in_order_however_it_comes() {
        let long = ["x", "yy"].map(|unit| unit.repeat(BUFFER_BYTES * 2 + 5));
        let short = (0..200).map(|n| format!("{n}").repeat(1 + n % 90)).collect::<Vec<_>>();
        for piece_bytes in [1, 2, 3, 7, 100, 1000, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 1 << 20] {
            let mut expected = short.clone();
            if piece_bytes > 3 {
                expected.splice(60..60, long.clone());
            }
            let bytes = expected.iter().flat_map(|said| text(said)).collect::<Vec<_>>();
            let (mut socket, _, mut far) = open();
            let client = tokio::spawn(async move {
                for piece in bytes.chunks(piece_bytes) {
                    far.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            });
            let mut heard = Vec::new();
            while heard.len() < expected.len() {
                // Both ways of hearing take their turns.
                heard.extend(go(&mut socket).await.unwrap());
                if heard.len() < expected.len() {
                    heard.push(soon("the next", socket.next(owned)).await.unwrap());
                }
            }
            assert_eq!(heard, expected, "in pieces of {piece_bytes}");
            client.await.unwrap();
            assert_eq!(go(&mut socket).await, Err(Lost::Gone));
            assert_eq!(socket.rest.capacity(), 0, "an idle session keeps nothing");
        }
    }

    #[tokio::test]
    async fn what_was_not_wanted_yet_is_heard_later_without_reading() {
        let (mut socket, _, mut far) = open();
        far.write_all(&["hello", "one", "two"].map(text).concat()).await.unwrap();
        drop(far);
        assert_eq!(socket.next(owned).await.unwrap(), "hello");
        assert_eq!(go(&mut socket).await.unwrap(), ["one", "two"]);
        assert_eq!(go(&mut socket).await, Err(Lost::Gone));
    }

    #[tokio::test]
    async fn pings_are_answered_in_order_and_disturb_nothing() {
        let (mut socket, outbox, mut far) = open();
        let frames =
            [frame(0x89, b"a"), frame(0x01, b"half "), frame(0x89, b"b"), frame(0x80, b"whole"), frame(0x89, b"")];
        far.write_all(&frames.concat()).await.unwrap();
        assert_eq!(go(&mut socket).await.unwrap(), ["half whole"]);
        let mut answered = Vec::new();
        assert!(outbox.poll_take(&mut answered).is_ready());
        assert_eq!(answered, b"\x8a\x01a\x8a\x01b\x8a\x00");
    }

    /// Regression: a pong was only noticed at the next timer, so that an idle client was pinged half as often as it is
    /// told, and one that had died was kept for longer.
    #[tokio::test]
    async fn a_frame_that_says_nothing_is_noticed_when_it_comes() {
        for quiet in [frame(0x8a, b""), frame(0x89, b""), frame(0x01, b"half")] {
            let (mut socket, _, mut far) = open();
            far.write_all(&quiet).await.unwrap();
            assert_eq!(go(&mut socket).await, Ok(Vec::new()));
            assert!(socket.take_heard());
            far.write_all(&frame(0x80 | u8::from(quiet[0] != 0x01), b"text")).await.unwrap();
            assert!(soon("text", socket.next(owned)).await.unwrap().ends_with("text"));
        }
    }

    #[tokio::test]
    async fn a_goodbye_is_answered_as_the_protocol_has_it() {
        let code = |code: u16, reason: &str| [&code.to_be_bytes()[..], reason.as_bytes()].concat();
        for (payload, clean, reply) in [
            (vec![], false, b"\x88\x00".to_vec()),
            (code(1000, "bye"), true, b"\x88\x05\x03\xe8bye".to_vec()),
            (code(4999, ""), false, b"\x88\x02\x13\x87".to_vec()),
        ] {
            let (mut socket, outbox, mut far) = open();
            far.write_all(&[frame(0x88, &payload), text("more")].concat()).await.unwrap();
            let said = socket.next(|said| matches!(said, Said::Goodbye { clean: true })).await.unwrap();
            let mut answered = Vec::new();
            outbox.take_last(&mut answered);
            assert_eq!((said, answered), (clean, reply), "{payload:x?}");
        }
        for forbidden in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
            let (mut socket, outbox, mut far) = open();
            far.write_all(&frame(0x88, &code(forbidden, ""))).await.unwrap();
            assert!(!socket.next(|said| matches!(said, Said::Goodbye { clean: true })).await.unwrap());
            let mut answered = Vec::new();
            outbox.take_last(&mut answered);
            assert_eq!(answered[2..4], 1002_u16.to_be_bytes(), "{forbidden}");
        }
    }

    #[tokio::test]
    async fn what_came_before_a_violation_is_heard_and_what_is_declared_is_not_believed() {
        let (mut socket, _, mut far) = open();
        far.write_all(&[text("fine"), frame(0xff, b"")].concat()).await.unwrap();
        let mut heard = Vec::new();
        let lost = poll_fn(|cx| {
            socket.poll_hear(cx, |said| {
                heard.push(owned(said));
                ControlFlow::Continue(())
            })
        });
        assert_eq!(lost.await, Err(Lost::Violated(Violation::Protocol)));
        assert_eq!(heard, ["fine"]);

        let (mut socket, _, mut far) = open();
        let whole = text(&"x".repeat(BYTES_MAX));
        far.write_all(&whole[..20]).await.unwrap();
        assert!(futures::FutureExt::now_or_never(go(&mut socket)).is_none());
        assert!(socket.rest.capacity() <= 2 * BUFFER_BYTES, "{}", socket.rest.capacity());
    }
}
