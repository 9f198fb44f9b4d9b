//! What is on its way to one client: finished frames in one capped buffer.
//!
//! Owners and the session itself append here, and only the
//! session's [`Writer`](super::wire::Writer) takes out, so frames can never interleave. The lock is held for
//! as long as it takes to copy one frame, never across a write. Nothing is dropped in silence: what does not
//! fit ends the session.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use super::{Farewell, frame};
use crate::codes::{CloseCode, Code};
use crate::config::Config;
use crate::ids::{Seq, SessionId, UserId};
use crate::limits::{ENVELOPE_BYTES_MAX, WATCH_USERS_MAX};
use crate::metrics::Metrics;
use crate::presence::PresenceInfo;
use crate::protocol::server_frames::{WelcomeFrame, WelcomeLimits};
use crate::protocol::{self, encode};
use crate::routing::session_handle::{Answer, Answers, Closing, Delivery, Ephemeral, Outcome, SessionHandle, Welcome};

/// Room for what has no bound of its own: replies of the gateway, pongs, errors, the handshake.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Above this much unwritten, ephemeral deliveries are turned down.
const EPHEMERAL_BYTES_MAX: usize = 64 * 1024;
/// An empty buffer of this size is kept for what comes next, until the session is idle. A larger one would be kept from
/// others, and a smaller one is made anew in no time: who is told something once in a while keeps nothing.
pub const KEPT_BYTES: RangeInclusive<usize> = 1025..=64 * 1024;
/// What an empty buffer begins with: room for a usual frame, so that it does not grow piece by piece under it; below what
/// is kept.
const FRAME_BYTES_USUAL: usize = 512;
/// How long a client that did not read what it asked for should stay away, in milliseconds.
pub const OVERFLOW_RETRY_MS: u64 = 1000;

/// How much a session may have waiting, and what `welcome` says of it. The same for all sessions.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Unwritten bytes at most.
    bytes_max: usize,
    /// Users whose presence may wait.
    presence_max: usize,
    welcome: WelcomeLimits,
}

impl Bounds {
    /// The window, an answer for every send in flight, and room for replies. Honest traffic stays below;
    /// it is reached by a client that acks what it did not read, or asks and asks without reading.
    pub fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let frames = limits.window as usize + limits.sends_in_flight as usize;
        Self {
            bytes_max: limits.window_bytes as usize + frames * ENVELOPE_BYTES_MAX + limits.body_bytes + REPLY_BYTES_MAX,
            presence_max: config.presence.max_watched + WATCH_USERS_MAX,
            welcome: WelcomeLimits {
                frame_bytes: limits.frame_bytes as u64,
                body_bytes: limits.body_bytes as u64,
                window: limits.window,
                sends_in_flight: limits.sends_in_flight,
                heartbeat_ms: config.gateway.heartbeat.as_millis() as u64,
            },
        }
    }
}

/// Appends the frames that come before a close frame.
pub type Goodbye = fn(&mut Vec<u8>, &Farewell);

/// One session's outbox: the gateway's side of [`SessionHandle`].
pub struct Outbox {
    id: SessionId,
    bounds: Arc<Bounds>,
    metrics: Arc<Metrics>,
    /// Puts a farewell into words.
    goodbye: Goodbye,
    state: Mutex<State>,
    /// The session's task, waiting for something to write.
    writer: AtomicWaker,
    /// Mirrors `state.stage != Open`, to be looked at without the lock.
    ending: AtomicBool,
    sends_in_flight: AtomicU32,
}

struct State {
    stage: Stage,
    frames: Vec<u8>,
    /// Coalesced: the latest of each user, encoded when the writer takes it.
    presence: HashMap<UserId, PresenceInfo>,
    expires_ms: Option<u64>,
    /// The code of the server's close frame.
    closed_with: Option<CloseCode>,
}

enum Stage {
    Open,
    /// The server ends it: `goodbye` and the close frame come last.
    Ending(Farewell),
    /// The client ends it, or nothing can be said any more: only the library's reply may follow.
    Left,
    /// The last byte has been taken.
    Sealed,
}

impl Outbox {
    pub fn new(id: SessionId, bounds: Arc<Bounds>, metrics: Arc<Metrics>, goodbye: Goodbye) -> Self {
        let state = State {
            stage: Stage::Open,
            frames: Vec::new(),
            presence: HashMap::new(),
            expires_ms: None,
            closed_with: None,
        };
        Self {
            id,
            bounds,
            metrics,
            goodbye,
            state: Mutex::new(state),
            writer: AtomicWaker::new(),
            ending: AtomicBool::new(false),
            sends_in_flight: AtomicU32::new(0),
        }
    }

    /// What `welcome` will say of the token's end, milliseconds since the Unix epoch.
    pub fn set_expires_ms(&self, expires_ms: Option<u64>) {
        self.lock().expires_ms = expires_ms;
    }

    /// Room for one more answer; false when `max` sends are unanswered.
    pub fn reserve_answer(&self, max: u32) -> bool {
        // Only the session's own task adds, so nothing can slip in between the two.
        let free = self.sends_in_flight.load(Ordering::Relaxed) < max;
        if free {
            self.sends_in_flight.fetch_add(1, Ordering::Relaxed);
        }
        free
    }

    /// A frame of the gateway's own. The writer sees it when the session's task is polled next.
    pub fn reply(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        self.push(encode);
    }

    pub fn ping(&self) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open) {
            state.frames.extend_from_slice(&frame::PING);
        }
    }

    /// Bytes that are not for the outbox to understand: the handshake's response, pongs, the echo of a close.
    pub fn append_raw(&self, bytes: &[u8]) {
        self.append_raw_with(|buf| buf.extend_from_slice(bytes));
    }

    /// Like [`append_raw`](Self::append_raw), written in its place.
    pub fn append_raw_with(&self, append: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open | Stage::Left) {
            append(&mut state.frames);
            self.check_room(&mut state);
        }
        drop(state);
        self.writer.wake();
    }

    /// The client said goodbye: nothing may follow but the reply to it.
    pub fn leave(&self) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open) {
            state.presence.clear();
            self.end(&mut state, Stage::Left);
        }
    }

    /// `goodbye` and close, after everything said before.
    pub fn bid(&self, farewell: Farewell) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open) {
            self.end(&mut state, Stage::Ending(farewell));
        }
        drop(state);
        // Whoever closes may not be in a batch, so this does not rely on a later `wake`.
        self.writer.wake();
    }

    /// The code with which the server ends it, if it does.
    pub fn closed_with(&self) -> Option<CloseCode> {
        self.lock().closed_with
    }

    /// True once the session is to end.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Calls the task when something is to be written, or the session to end.
    pub fn call(&self, cx: &Context<'_>) {
        self.writer.register(cx.waker());
    }

    /// Swaps what waits for `empty`. Ready when there was something, or when the session is to end (then
    /// nothing was taken). Whoever waits has asked to be [called](Self::call) before.
    pub fn poll_take(&self, empty: &mut Vec<u8>) -> Poll<()> {
        let mut state = self.lock();
        if self.is_ending() {
            return Poll::Ready(());
        }
        state.encode_presence();
        if state.frames.is_empty() {
            return Poll::Pending;
        }
        std::mem::swap(&mut state.frames, empty);
        Poll::Ready(())
    }

    /// Appends all that is left, `goodbye` and the close frame included, to `buf`. Nothing comes after it.
    pub fn take_last(&self, buf: &mut Vec<u8>) {
        let mut state = self.lock();
        state.encode_presence();
        if let Stage::Ending(farewell) = &state.stage {
            let farewell = farewell.clone();
            (self.goodbye)(&mut state.frames, &farewell);
            frame::close(&mut state.frames, farewell.code.number(), &farewell.reason);
        }
        buf.append(&mut state.frames);
        state.frames = Vec::new();
        self.end(&mut state, Stage::Sealed);
    }

    /// Gives the memory of an idle session back.
    pub fn trim(&self) {
        let mut state = self.lock();
        state.frames.shrink_to_fit();
        state.presence.shrink_to_fit();
    }

    fn push(&self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open) {
            if state.frames.capacity() == 0 {
                state.frames.reserve_exact(FRAME_BYTES_USUAL);
            }
            frame::text(&mut state.frames, encode);
            self.check_room(&mut state);
        }
    }

    fn check_room(&self, state: &mut State) {
        if state.frames.len() > self.bounds.bytes_max || state.presence.len() > self.bounds.presence_max {
            self.overflow(state);
        }
    }

    /// What has been collected is given up with the session: it is unacknowledged and will come again.
    fn overflow(&self, state: &mut State) {
        self.metrics.sessions_overflowed.inc();
        tracing::warn!(session = %self.id, bytes = state.frames.len(), "session does not read what it asks for");
        state.frames = Vec::new();
        state.presence = HashMap::new();
        let reason = "what was asked for is not being read".into();
        let farewell = Farewell { code: CloseCode::TooMany, reason, retry_after_ms: Some(OVERFLOW_RETRY_MS) };
        self.end(state, Stage::Ending(farewell));
        self.writer.wake();
    }

    fn end(&self, state: &mut State, stage: Stage) {
        if let Stage::Ending(farewell) = &stage {
            state.closed_with = Some(farewell.code);
        }
        state.stage = stage;
        self.ending.store(true, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that runs under the lock leaves half a frame behind if it panics but an encoder, and the
        // owner that panicked with it takes the daemon down.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn encode_presence(&mut self) {
        if self.presence.is_empty() {
            return;
        }
        let users: Vec<PresenceInfo> = self.presence.drain().map(|(_, info)| info).collect();
        for users in users.chunks(WATCH_USERS_MAX) {
            frame::text(&mut self.frames, |buf| encode::presence(buf, users));
        }
    }
}

impl Answers for Outbox {
    fn answer(&self, answer: Answer) {
        // An answer too many must not turn into four thousand million sends in flight.
        let answered = self.sends_in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        debug_assert!(answered.is_ok(), "an answer without a send: {}", answer.message.id);
        let Answer { message, to, outcome } = answer;
        let id = &message.id;
        self.push(|buf| match outcome {
            Outcome::Accepted { seq, stored } => encode::accepted(buf, id, &to, seq, stored),
            Outcome::Rejected { code, reason, retry_after_ms } => {
                encode::rejected(buf, Some(id.as_str()), Some(to.as_str()), code, reason, retry_after_ms);
            }
        });
    }

    fn wake(&self) {
        self.writer.wake();
    }
}

impl SessionHandle for Outbox {
    fn id(&self) -> SessionId {
        self.id
    }

    fn welcome(&self, welcome: Welcome) {
        let expires_ms = self.lock().expires_ms;
        let frame = WelcomeFrame {
            user: welcome.user,
            device: welcome.device,
            session: welcome.session,
            protocol: protocol::VERSION,
            server: concat!("doorstep/", env!("CARGO_PKG_VERSION")).into(),
            registered: welcome.registered,
            gap: welcome.gap,
            pending: welcome.pending,
            cursor: welcome.cursor,
            expires_ms,
            limits: WelcomeLimits { window: welcome.window, ..self.bounds.welcome },
        };
        self.push(|buf| encode::welcome(buf, &frame));
    }

    fn deliver(&self, delivery: Delivery) {
        self.push(|buf| encode::message(buf, &delivery.message, delivery.redelivered));
    }

    fn caught_up(&self, seq: Seq) {
        self.push(|buf| encode::caught_up(buf, seq));
    }

    fn deliver_ephemeral(&self, ephemeral: &Ephemeral) -> bool {
        let Ephemeral { id, from, body, ts_ms } = ephemeral;
        let mut state = self.lock();
        let room = matches!(state.stage, Stage::Open) && state.frames.len() <= EPHEMERAL_BYTES_MAX;
        if room {
            frame::text(&mut state.frames, |buf| encode::ephemeral(buf, id.as_ref(), from, body, *ts_ms));
        }
        room
    }

    fn presence(&self, users: &[PresenceInfo]) {
        let mut state = self.lock();
        if matches!(state.stage, Stage::Open) {
            state.presence.extend(users.iter().map(|info| (info.user.clone(), info.clone())));
            self.check_room(&mut state);
        }
    }

    fn error(&self, code: Code, reason: &'static str, about: &'static str) {
        self.push(|buf| encode::error(buf, code, reason, Some(about)));
    }

    fn close(&self, closing: Closing) {
        self.bid(closing.into());
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
