//! Frames of one client → commands for owners, checked. Synchronous: it never waits, and what it finds
//! wrong is answered at once, with `rejected` when it was a send and `error` when it was not.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::auth::{AuthError, Identity};
use super::connection::{Patience, Refused, attached};
use super::handshake::Greeting;
use super::outbox::Outbox;
use super::pace::{SessionRate, UserPlace};
use super::talk::{Talk, Upgraded};
use super::{Farewell, Shared, closing, frame};
use crate::clock::Now;
use crate::codes::{CloseCode, Code};
use crate::ids::{DeviceId, MessageId, Seq, UserId};
use crate::limits::{BATCH_COMMANDS_MAX, STATUS_TEXT_CHARS_MAX, WATCH_USERS_MAX};
use crate::message::Message;
use crate::presence::PresenceState;
use crate::protocol::frames::{ClientFrame, FrameError, SendFrame};
use crate::protocol::{decode, encode};
use crate::routing::command::{Command, Send};
use crate::routing::router::Batch;
use crate::routing::session_handle::{Ephemeral, SessionHandle};
use crate::shutdown::Phase;

/// When to try again after `overloaded` or `queue_full`, in milliseconds: about the time that answers take.
const RETRY_MS: u64 = 100;

/// Commands of a batch that costs one allocation.
const BATCH_COMMANDS_USUAL: usize = 15;

/// One session's ear.
pub struct Inbound {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    identity: Identity,
    device: DeviceId,
    /// The owner of the session's own user.
    home: usize,
    rate: SessionRate,
    watched: HashSet<UserId>,
    malformed: u32,
    /// The last recipient: most clients write to the same one again.
    last_to: Option<UserId>,
    /// Commands not yet sent, by shard, in order. Few shards are touched at a time.
    batches: VecDeque<(usize, Batch)>,
    /// Time and phase of this wake.
    now: Now,
    phase: Phase,
}

/// Why a send is not let through.
struct Refusal {
    code: Code,
    reason: &'static str,
    retry_after_ms: Option<u64>,
}

impl Talk for Inbound {
    type Place = UserPlace;

    async fn begin(
        shared: &Arc<Shared>,
        upgraded: &mut Upgraded,
        outbox: &Arc<Outbox>,
        patience: &mut Patience,
    ) -> Result<(Self, UserPlace), Refused> {
        let (Greeting { identity, device, .. }, place) = attached(shared, upgraded, outbox, patience).await?;
        Ok((Self::new(shared.clone(), outbox.clone(), identity, device), place))
    }

    fn goodbye(buf: &mut Vec<u8>, farewell: &Farewell) {
        let Farewell { code, reason, retry_after_ms } = farewell;
        frame::text(buf, |buf| encode::goodbye(buf, *code, reason, *retry_after_ms));
    }

    fn wake(&mut self) {
        self.now = self.shared.desk.clock.now();
        self.shared.rates.wake(self.now);
        self.phase = self.shared.shutdown.phase();
    }

    /// Takes one frame in. What it asks for waits in [`next_batch`](Self::next_batch).
    fn text(&mut self, text: &str) {
        self.shared.desk.metrics.frames_in.inc();
        match decode::client_frame(text) {
            Ok(frame) => self.obey(frame),
            Err(error) => self.unusable(&error),
        }
    }

    fn binary(&mut self, _: &[u8]) {
        self.outbox.close(closing(CloseCode::BinaryFrame, "frames are text"));
    }

    /// The session's own owner comes first, so that acks are never stuck behind sends to a busy one; between
    /// owners there is no order to keep.
    fn next_batch(&mut self) -> Option<(usize, Batch)> {
        let home = self.batches.iter().position(|(shard, _)| *shard == self.home);
        self.batches.remove(home.unwrap_or(0))
    }

    fn ends(&self) -> Option<Instant> {
        self.identity.expiry.and_then(|expiry| expiry.ends)
    }

    fn leave(&mut self, clean: bool) {
        let session = self.outbox.id();
        for user in std::mem::take(&mut self.watched) {
            self.command(self.owner(&user), Command::Unwatch { user, session });
        }
        let (user, device) = (self.identity.user.clone(), self.device.clone());
        let code = self.outbox.closed_with();
        self.command(self.home, Command::Detach { user, device, session, clean, code });
    }
}

impl Inbound {
    fn new(shared: Arc<Shared>, outbox: Arc<Outbox>, identity: Identity, device: DeviceId) -> Self {
        Self {
            home: shared.desk.router.shard_of(&identity.user),
            rate: shared.rates.session(),
            now: shared.desk.clock.now(),
            phase: shared.shutdown.phase(),
            shared,
            outbox,
            identity,
            device,
            watched: HashSet::new(),
            malformed: 0,
            last_to: None,
            batches: VecDeque::new(),
        }
    }

    fn obey(&mut self, frame: ClientFrame<'_>) {
        match frame {
            ClientFrame::Send(send) => self.send(&send),
            ClientFrame::Ack { seq } => self.ack(Seq(seq)),
            ClientFrame::Status { state, text } => self.status(state, text),
            ClientFrame::Watch { users } => self.watch(&users),
            ClientFrame::Unwatch { users } => self.unwatch(&users),
            ClientFrame::Token { token } => self.renew(&token),
            ClientFrame::Forget => self.forget(),
            ClientFrame::Ping { n } => self.outbox.reply(|buf| encode::pong(buf, n)),
            ClientFrame::Hello(_) => self.error(Code::BadRequest, "hello was said already", "hello"),
        }
    }

    fn ack(&mut self, seq: Seq) {
        let (user, device) = (self.identity.user.clone(), self.device.clone());
        self.command(self.home, Command::Ack { user, device, session: self.outbox.id(), seq });
    }

    fn forget(&mut self) {
        let (user, device) = (self.identity.user.clone(), self.device.clone());
        self.command(self.home, Command::Forget { user, device, session: self.outbox.id() });
    }

    fn send(&mut self, frame: &SendFrame<'_>) {
        if let Err(refusal) = self.try_send(frame) {
            self.shared.desk.metrics.rejected.inc();
            let Refusal { code, reason, retry_after_ms } = refusal;
            self.outbox.reply(|buf| {
                encode::rejected(buf, frame.id.as_deref(), Some(&frame.to), code, reason, retry_after_ms);
            });
        }
    }

    fn try_send(&mut self, frame: &SendFrame<'_>) -> Result<(), Refusal> {
        if self.phase >= Phase::Draining {
            return Err(refuse(Code::ShuttingDown, "the router is shutting down"));
        }
        self.shared.rates.check(&self.rate, &self.identity.user).map_err(|retry_after_ms| {
            self.shared.desk.metrics.rate_limited.inc();
            Refusal { code: Code::RateLimited, reason: "too many sends a second", retry_after_ms: Some(retry_after_ms) }
        })?;
        let id = frame.id.as_deref().map(MessageId::new).transpose();
        let id = id.map_err(|_| refuse(Code::BadRequest, "id must be 1 to 64 of A-Z a-z 0-9 . _ : -"))?;
        let to = self.recipient(&frame.to)?;
        let body = frame.body.as_bytes();
        if body.len() > self.shared.config.limits.body_bytes {
            return Err(refuse(Code::TooLarge, "the body is larger than body_bytes"));
        }
        match id {
            _ if frame.ephemeral => self.send_ephemeral(id, to, body),
            Some(id) => self.send_durable(id, to, body, frame)?,
            None => return Err(refuse(Code::BadRequest, "id is missing")),
        }
        Ok(())
    }

    fn recipient(&mut self, name: &str) -> Result<UserId, Refusal> {
        if let Some(last) = self.last_to.as_ref().filter(|last| last.as_str() == name) {
            return Ok(last.clone());
        }
        let to = UserId::new(name).map_err(|_| refuse(Code::BadRequest, "to is not a user name"))?;
        if !self.identity.send.allow(&to) {
            return Err(refuse(Code::Forbidden, "the token does not allow to send to this user"));
        }
        self.last_to = Some(to.clone());
        Ok(to)
    }

    fn send_durable(&mut self, id: MessageId, to: UserId, body: &[u8], frame: &SendFrame<'_>) -> Result<(), Refusal> {
        let later = |code, reason| Refusal { code, reason, retry_after_ms: Some(RETRY_MS) };
        if self.shared.desk.outstanding.is_full(&self.identity.user) {
            return Err(later(Code::QueueFull, "too many messages of this sender are waiting"));
        }
        if !self.outbox.reserve_answer(self.shared.config.limits.sends_in_flight) {
            return Err(later(Code::Overloaded, "too many sends are unanswered"));
        }
        let shard = self.owner(&to);
        let ttl_max_ms = self.shared.config.queue.ttl.as_millis() as u64;
        let ttl_ms = frame.ttl_ms.map_or(ttl_max_ms, |ttl_ms| ttl_ms.min(ttl_max_ms));
        let message = Arc::new(Message {
            seq: Seq::ZERO,
            id,
            from: self.identity.user.clone(),
            body: Bytes::copy_from_slice(body),
            ts_ms: self.now.wall_ms,
            expires_ms: self.now.wall_ms.saturating_add(ttl_ms),
            retry: frame.retry,
        });
        let keys = self.shared.desk.router.keys();
        let send = Send::new(keys, to, message, self.outbox.clone(), self.now.us);
        self.command(shard, Command::Send(send));
        Ok(())
    }

    fn send_ephemeral(&mut self, id: Option<MessageId>, to: UserId, body: &[u8]) {
        let from = self.identity.user.clone();
        let ephemeral = Ephemeral { id, from, body: Bytes::copy_from_slice(body), ts_ms: self.now.wall_ms };
        self.command(self.owner(&to), Command::SendEphemeral { to, ephemeral: Box::new(ephemeral) });
    }

    fn status(&mut self, state: PresenceState, text: Option<String>) {
        if text.as_deref().is_some_and(|text| text.chars().count() > STATUS_TEXT_CHARS_MAX) {
            return self.error(Code::BadRequest, "text has more than 140 characters", "status");
        }
        if !self.shared.rates.may_change_status(&self.identity.user) {
            self.shared.desk.metrics.rate_limited.inc();
            return self.error(Code::RateLimited, "too many changes of status a second", "status");
        }
        let (user, session) = (self.identity.user.clone(), self.outbox.id());
        self.command(self.home, Command::Status { user, session, state, text });
    }

    /// All of it or nothing: a snapshot with holes would be taken for the whole.
    fn watch(&mut self, names: &[String]) {
        let Some(users) = self.users(names, "watch") else { return };
        if !self.shared.rates.may_watch(&self.identity.user, users.len()) {
            return self.error(Code::RateLimited, "too many users a second", "watch");
        }
        if !users.iter().all(|user| self.identity.watch.allow(user)) {
            return self.error(Code::Forbidden, "the token does not allow to watch all of these users", "watch");
        }
        let new = users.iter().filter(|user| !self.watched.contains(*user)).count();
        if self.watched.len() + new > self.shared.config.presence.max_watched {
            return self.error(Code::BadRequest, "more users than a session may watch", "watch");
        }
        for user in users {
            self.watched.insert(user.clone());
            self.command(self.owner(&user), Command::Watch { user, session: self.outbox.clone() });
        }
    }

    fn unwatch(&mut self, names: &[String]) {
        let session = self.outbox.id();
        for user in self.users(names, "unwatch").unwrap_or_default() {
            if self.watched.remove(&user) {
                self.command(self.owner(&user), Command::Unwatch { user, session });
            }
        }
    }

    fn users(&mut self, names: &[String], frame: &'static str) -> Option<HashSet<UserId>> {
        if names.len() > WATCH_USERS_MAX {
            self.error(Code::BadRequest, "more than 256 users in one frame", frame);
            return None;
        }
        let users = names.iter().map(|name| UserId::new(name)).collect::<Result<_, _>>();
        if users.is_err() {
            self.error(Code::BadRequest, "users holds something that is not a user name", frame);
        }
        users.ok()
    }

    fn renew(&mut self, token: &str) {
        if !self.rate.may_renew() {
            return self.error(Code::RateLimited, "too many tokens a second", "token");
        }
        match self.shared.auth.renew(&self.identity.user, token) {
            Ok(identity) => {
                self.identity = identity;
                self.last_to = None;
                self.unwatch_forbidden();
                let expires_ms = self.identity.expiry.map_or(0, |expiry| expiry.at_ms);
                self.outbox.reply(|buf| encode::token_ok(buf, expires_ms));
            }
            Err(error @ AuthError::NotAllowed(_)) => self.outbox.close(closing(error.code(), error.reason())),
            Err(error @ AuthError::Malformed(_)) => self.error(Code::BadRequest, error.reason(), "token"),
            Err(error @ AuthError::NotAuthenticated(_)) => self.error(Code::Forbidden, error.reason(), "token"),
        }
    }

    /// A new token may allow less than the old one.
    fn unwatch_forbidden(&mut self) {
        let session = self.outbox.id();
        let forbidden: Vec<_> = self.watched.iter().filter(|user| !self.identity.watch.allow(user)).cloned().collect();
        for user in forbidden {
            self.watched.remove(&user);
            self.command(self.owner(&user), Command::Unwatch { user, session });
        }
    }

    fn unusable(&mut self, error: &FrameError) {
        self.shared.desk.metrics.frames_malformed.inc();
        if let Some((Some(id), to)) = &error.send {
            self.shared.desk.metrics.rejected.inc();
            self.outbox.reply(|buf| encode::rejected(buf, Some(id), to.as_deref(), error.code, &error.reason, None));
        } else {
            let reference = error.reference.as_deref();
            self.outbox.reply(|buf| encode::error(buf, error.code, &error.reason, reference));
        }
        // A type that only a later version knows is no reason to part.
        if error.code != Code::UnknownType {
            self.malformed += 1;
            if self.malformed > self.shared.config.limits.malformed_frames {
                self.outbox.close(closing(CloseCode::Malformed, "too many malformed frames"));
            }
        }
    }

    fn error(&self, code: Code, reason: &str, reference: &str) {
        self.outbox.reply(|buf| encode::error(buf, code, reason, Some(reference)));
    }

    fn owner(&self, user: &UserId) -> usize {
        self.shared.desk.router.shard_of(user)
    }

    /// Puts a command behind those for the same owner: into a batch that has room, or a new one.
    fn command(&mut self, shard: usize, command: Command) {
        let batch = self.batches.iter_mut().find(|(of, batch)| *of == shard && batch.len() < BATCH_COMMANDS_MAX);
        match batch {
            Some((_, batch)) => {
                // A client with more than one thing to say mostly has several.
                if batch.len() == 1 {
                    batch.reserve(BATCH_COMMANDS_USUAL);
                }
                batch.push(command);
            }
            None => self.batches.push_back((shard, smallvec::smallvec![command])),
        }
    }
}

fn refuse(code: Code, reason: &'static str) -> Refusal {
    Refusal { code, reason, retry_after_ms: None }
}
