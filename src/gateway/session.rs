//! One task a connection: what the socket says goes to owners, what owners say goes to the socket.
//!
//! The task never stops writing: not while it waits for room in an owner's mailbox, not while it reads. It
//! never stops reading because the client does not: what the client may have waiting is bounded elsewhere.

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use futures::FutureExt;
use tokio::task::unconstrained;

use super::handshake::read_error;
use super::outbox::Outbox;
use super::socket::{Lost, Said, Socket};
use super::talk::Talk;
use super::vitals::{Sign, Vitals};
use super::wire::Writer;
use super::{Shared, closing};
use crate::codes::CloseCode;
use crate::routing::router::{Batch, Gone};
use crate::routing::session_handle::SessionHandle;
use crate::shutdown::Phase;

/// How long a session waits for its owner's goodbye once the daemon closes.
const GOODBYE_WAIT: Duration = Duration::from_secs(2);

/// An attached session.
pub struct Session<T> {
    pub shared: Arc<Shared>,
    pub socket: Socket,
    pub writer: Writer,
    pub outbox: Arc<Outbox>,
    pub talk: T,
}

/// What became of the client's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    Here,
    /// It closed; with 1000 if `clean`.
    Left {
        clean: bool,
    },
}

enum Event {
    /// The session is to end, or the socket is broken.
    Over,
    Read(Client),
    Timer,
    DaemonCloses,
}

impl<T: Talk> Session<T> {
    /// Serves the client until either side ends it. Owners are told of the end exactly once, whatever
    /// happened, and before the socket's last second.
    pub async fn run(mut self: Box<Self>) {
        let served = AssertUnwindSafe(self.serve()).catch_unwind().await;
        let clean = served.unwrap_or_else(|_| {
            tracing::error!(session = %self.outbox.id(), "session task panicked");
            self.outbox.close(closing(CloseCode::Internal, "internal error"));
            false
        });
        self.talk.leave(clean);
        while self.dispatch().await.is_err() {
            // An owner is gone, and with it everything that it could have been told. The others are told.
            tracing::debug!(session = %self.outbox.id(), "no owner left to tell of the detach");
        }
        let Self { socket, writer, .. } = *self;
        drop(socket);
        // Boxed as whatever is rare here: a future is as large as its largest moment for all its life.
        Box::pin(writer.finish()).await;
    }

    /// Returns whether the client closed with 1000.
    async fn serve(&mut self) -> bool {
        let heartbeat = self.shared.config.gateway.heartbeat;
        let mut vitals = Vitals::new(heartbeat, self.talk.ends(), Instant::now());
        let mut timer = pin!(tokio::time::sleep_until(vitals.due().into()));
        let mut daemon = self.shared.shutdown.clone();
        let mut daemon_closes = pin!(daemon.reached(Phase::Closing).fuse());
        loop {
            // In this order: what can be written leaves first, and what was heard counts before the timer. A
            // client that sends faster than it is read may use up all that the task may do in one go, so
            // what comes after reading is not bound by that.
            let event = tokio::select! {
                biased;
                _ended = self.writer.pump() => Event::Over,
                client = poll_fn(|cx| poll_read(&mut self.socket, &mut self.talk, &self.outbox, cx)) => Event::Read(client),
                () = unconstrained(&mut daemon_closes) => Event::DaemonCloses,
                () = unconstrained(&mut timer) => Event::Timer,
            };
            let now = Instant::now();
            if self.socket.take_heard() {
                vitals.heard(now);
            }
            match event {
                Event::Over => return false,
                Event::Read(client) => {
                    vitals.set_token_ends(self.talk.ends());
                    if self.dispatch().await.is_err() {
                        self.outbox.close(self.shared.restarting());
                    }
                    if let Client::Left { clean } = client {
                        return clean;
                    }
                    // With more to read every time the timer would never have its turn.
                    if vitals.due() <= now {
                        self.examine(&mut vitals);
                    }
                }
                Event::DaemonCloses => vitals.leave_by(now + GOODBYE_WAIT),
                Event::Timer => self.examine(&mut vitals),
            }
            let due = vitals.due().into();
            // Hearing something moves the time on, and is no reason to touch the timer: it will look again.
            if timer.is_elapsed() || due < timer.deadline() {
                timer.as_mut().reset(due);
            }
        }
    }

    fn examine(&mut self, vitals: &mut Vitals) {
        match vitals.look(Instant::now()) {
            Sign::Well => {}
            Sign::Idle => {
                self.outbox.ping();
                self.outbox.trim();
                self.writer.trim();
            }
            Sign::Silent => self.outbox.close(closing(CloseCode::Silent, "no sign of life")),
            Sign::TokenEnded => self.outbox.close(closing(CloseCode::NotAuthenticated, "the token has expired")),
            Sign::LeftBehind => self.outbox.close(self.shared.restarting()),
        }
    }

    /// Sends what the client asked for to the owners, one batch each.
    async fn dispatch(&mut self) -> Result<(), Gone> {
        while let Some((shard, batch)) = self.talk.next_batch() {
            if let Some(batch) = self.shared.desk.router.try_send(shard, batch)? {
                Box::pin(self.send(shard, batch)).await?;
            }
        }
        Ok(())
    }

    /// Waits for room in the mailbox, and writes meanwhile: that an owner is busy is no reason for the client
    /// to get nothing.
    async fn send(&mut self, shard: usize, batch: Batch) -> Result<(), Gone> {
        let mut sent = pin!(self.shared.desk.router.send(shard, batch));
        tokio::select! {
            biased;
            sent = &mut sent => return sent,
            _ended = self.writer.pump() => {}
        }
        // The session is about to end, which is no reason to lose the acks among the commands.
        sent.await
    }
}

/// Takes in what has arrived. Ready when there was a frame or the client is gone.
fn poll_read<T: Talk>(socket: &mut Socket, talk: &mut T, outbox: &Outbox, cx: &mut Context<'_>) -> Poll<Client> {
    let (mut client, mut awake) = (Client::Here, false);
    let heard = socket.poll_hear(cx, |said| {
        if !awake {
            talk.wake();
            awake = true;
        }
        match said {
            Said::Text(text) => talk.text(&text),
            Said::Binary(bytes) => talk.binary(&bytes),
            Said::Goodbye { clean } => client = Client::Left { clean },
        }
        if outbox.is_ending() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match ready!(heard) {
        Ok(()) => Poll::Ready(client),
        Err(lost) => Poll::Ready(failed(outbox, lost)),
    }
}

fn failed(outbox: &Outbox, lost: Lost) -> Client {
    match read_error(lost) {
        Some(closing) => outbox.close(closing),
        None => outbox.leave(),
    }
    Client::Left { clean: false }
}
