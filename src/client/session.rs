//! The task while it has a session: frames in, frames out.
//!
//! It must never take a message for delivered that it could not read, and never wait for anything but
//! in [`Task::turn`].

use std::time::Duration;

use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::time::Instant;

use crate::clock::wall_us;
use crate::ids::Seq;
use crate::protocol::client_encode::client_frame;
use crate::protocol::frames::{ClientFrame, SendFrame};
use crate::protocol::server_frames::{
    GoodbyeFrame, MessageFrame, RejectedFrame, ServerFrame, TokenOkFrame, WelcomeLimits,
};

use super::dial::{Dialled, Ended};
use super::event::{Ephemeral, Event, Incoming};
use super::fitting::{Unfit, send_text};
use super::intake::Admission;
use super::link::{Heard, Link};
use super::options::TokenProvider;
use super::outgoing::Outgoing;
use super::reconnect::{Advice, Backoff};
use super::storage::Change;
use super::task::{Task, Turn};

/// A session that lasted so long was a good one: the next back-off starts small again.
const SETTLED: Duration = Duration::from_secs(10);
/// How long a polite end may take.
const LEAVE_MAX: Duration = Duration::from_secs(2);
/// How long before its end a token is renewed, at most.
const RENEWAL_LEAD: Duration = Duration::from_secs(60);
/// Between attempts at a new token, at least.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// What attempts in vain add to the pause, at most: a provider that is down has many clients.
const RENEWAL_BACKOFF_MAX: Duration = Duration::from_secs(15);

/// What belongs to one connection and ends with it.
struct Session {
    link: Link,
    limits: WelcomeLimits,
    goodbye: Option<GoodbyeFrame>,
    renewal: Renewal,
    renewal_backoff: Backoff,
}

enum Renewal {
    None,
    At(Instant),
    Asking(BoxFuture<'static, Result<String, String>>),
    /// The router has not said yet whether this token holds.
    Shown(String),
}

enum News {
    Heard(Heard),
    RenewalDue,
    Token(Result<String, String>),
}

impl Session {
    /// Nothing is lost when it is cancelled.
    async fn next(&mut self) -> News {
        let Self { link, renewal, .. } = self;
        let renewed = async {
            match renewal {
                Renewal::None | Renewal::Shown(_) => std::future::pending().await,
                Renewal::At(at) => {
                    tokio::time::sleep_until(*at).await;
                    News::RenewalDue
                }
                Renewal::Asking(token) => News::Token(token.await),
            }
        };
        tokio::select! {
            heard = link.next() => News::Heard(heard),
            news = renewed => news,
        }
    }

    /// The server pings an idle session every heartbeat, so this much silence means that it is gone.
    fn dead_at(&self) -> Instant {
        self.link.heard_at() + Duration::from_millis(self.limits.heartbeat_ms.max(500)) * 2
    }

    fn flight_max(&self) -> usize {
        // Without the floor a router that says 0 would never hear of a message again.
        if self.link.is_full() { 0 } else { (self.limits.sends_in_flight as usize).max(1) }
    }

    /// Renews in good time before `expires_ms` (wall time).
    fn schedule_renewal(&mut self, expires_ms: Option<u64>, rng: &mut fastrand::Rng) {
        let Some(expires_ms) = expires_ms else { return };
        let left = Duration::from_millis(expires_ms.saturating_sub(wall_us() / 1000));
        if left.is_zero() {
            // The clocks differ, and every token looks like this.
            return self.renew_later(rng);
        }
        self.renewal_backoff.reset();
        let lead = RENEWAL_LEAD.min(left / 2);
        self.renewal = Renewal::At(Instant::now() + (left - lead).max(RENEWAL_PAUSE));
    }

    /// Tries again for as long as the session lasts.
    fn renew_later(&mut self, rng: &mut fastrand::Rng) {
        let pause = RENEWAL_PAUSE + self.renewal_backoff.next(None, rng);
        self.renewal = Renewal::At(Instant::now() + pause);
    }
}

impl Task {
    /// Lives through one session; `None` when the application leaves.
    pub(super) async fn session(&mut self, dialled: Dialled) -> Option<Ended> {
        let mut session = match self.begin(dialled) {
            Ok(session) => session,
            Err(ended) => return Some(ended),
        };
        let began = Instant::now();
        let ended = loop {
            let now = Instant::now();
            if now >= session.dead_at() {
                break Some(Ended::trouble("the router fell silent"));
            }
            if self.said.is_too_much(session.limits.frame_bytes) {
                break Some(Ended::trouble("the router does not read"));
            }
            let wake_at = self.fill(&mut session, now);
            match self.turn(session.next(), Some(wake_at)).await {
                Turn::Local => {}
                Turn::Leave => break None,
                Turn::Work(news) => {
                    if let Err(ended) = self.heed(&mut session, news) {
                        break Some(ended);
                    }
                }
            }
        };
        if ended.is_none() {
            self.leave(&mut session).await;
        }
        if began.elapsed() >= SETTLED {
            self.backoff.reset();
        }
        self.online = None;
        self.said.clear();
        self.pings.clear();
        self.sends.disconnected(Instant::now());
        ended
    }

    /// Says again what has to hold on every connection.
    fn begin(&mut self, dialled: Dialled) -> Result<Session, Ended> {
        let Dialled { link, welcome, status } = dialled;
        match &self.user {
            Some(before) if *before != welcome.user => {
                let reason = format!("the router says that this is {}, it was {before}", welcome.user);
                return Err(Ended { advice: Advice::Stop, close_code: None, reason, retry_after: None });
            }
            Some(_) => {}
            None => {
                self.user = Some(welcome.user.clone());
                self.keeper.note(Change::User(welcome.user.clone()));
            }
        }
        // What it was refused for has passed: the next refusal is the first of another kind.
        self.refused_token = None;
        let limits = welcome.limits;
        let (renewal, renewal_backoff) = (Renewal::None, Backoff::new(RENEWAL_PAUSE, RENEWAL_BACKOFF_MAX));
        let mut session = Session { link, limits, goodbye: None, renewal, renewal_backoff };
        session.schedule_renewal(welcome.expires_ms, &mut self.rng);
        self.online = Some(limits);
        self.intake.connected(limits.window as usize);
        self.watching.i_am(&welcome.user);
        let watched = self.watching.users();
        self.say_watch(&watched);
        let (state, text) = self.status.clone();
        if text.is_some() || state != status {
            self.say(&ClientFrame::Status { state, text });
        }
        if self.forgetting {
            self.say(&ClientFrame::Forget);
        }
        self.buffer.push(Event::Connected(welcome));
        Ok(session)
    }

    /// Puts everything that is due into the outbox; returns when to look again.
    fn fill(&mut self, session: &mut Session, now: Instant) -> Instant {
        self.sends.expire(now);
        if let Some(seq) = self.intake.take_ack(now) {
            session.link.push(client_frame(&ClientFrame::Ack { seq: seq.0 }));
        }
        while !session.link.is_full()
            && let Some(frame) = self.said.pop()
        {
            session.link.push(frame);
        }
        let flight_max = session.flight_max();
        let Session { link, limits, .. } = session;
        self.sends.write_due(now, flight_max, |message| write_send(link, *limits, message));
        let due = [self.intake.ack_at(now), self.sends.wake_at(true, flight_max)];
        due.into_iter().flatten().chain([session.dead_at()]).min().unwrap_or(now)
    }

    fn heed(&mut self, session: &mut Session, news: News) -> Result<(), Ended> {
        match news {
            News::RenewalDue => {
                let ask = self.options.token.as_ref().map(TokenProvider::provide);
                session.renewal = ask.map_or(Renewal::None, Renewal::Asking);
            }
            News::Token(token) => self.renew(session, token),
            News::Heard(Heard::End { close_code, reason }) => {
                return Err(Ended::closed(close_code, reason, session.goodbye.take()));
            }
            News::Heard(Heard::Drained | Heard::Sign) => {}
            News::Heard(Heard::Text(text)) => match ServerFrame::from_text(&text) {
                Ok(frame) => return self.hear(session, frame),
                Err(error) if may_be_a_message(&text) => {
                    return Err(Ended::trouble(format!("unreadable message: {error}")));
                }
                Err(error) => tracing::warn!(%error, "unreadable frame ignored"),
            },
        }
        Ok(())
    }

    fn renew(&mut self, session: &mut Session, token: Result<String, String>) {
        let shown = match token {
            Ok(token) if self.token.as_ref() != Some(&token) => {
                self.say(&ClientFrame::Token { token: token.clone() }).then_some(token)
            }
            // The provider has no newer one yet.
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(%error, "no token to renew the session with");
                None
            }
        };
        match shown {
            Some(token) => session.renewal = Renewal::Shown(token),
            None => session.renew_later(&mut self.rng),
        }
    }

    fn renewed(&mut self, session: &mut Session, frame: &TokenOkFrame) {
        if let Renewal::Shown(token) = std::mem::replace(&mut session.renewal, Renewal::None) {
            self.token = Some(token);
        }
        session.schedule_renewal(Some(frame.expires_ms), &mut self.rng);
    }

    fn hear(&mut self, session: &mut Session, frame: ServerFrame) -> Result<(), Ended> {
        match frame {
            ServerFrame::Message(message) => return self.receive(message),
            ServerFrame::Accepted(accepted) => self.sends.accepted(accepted),
            ServerFrame::Rejected(rejected) => self.refuse(rejected),
            ServerFrame::CaughtUp(frame) => self.buffer.push(Event::CaughtUp { seq: frame.seq }),
            ServerFrame::Presence(frame) => {
                let newer = self.watching.newer(frame.users);
                self.buffer.push(Event::Presence(newer));
            }
            ServerFrame::TokenOk(frame) => self.renewed(session, &frame),
            ServerFrame::Pong(frame) => {
                if let Some(reply) = frame.n.and_then(|n| self.pings.remove(&n)) {
                    // A caller that stopped listening does not miss the answer.
                    let _told = reply.send(());
                }
            }
            ServerFrame::Error(frame) => {
                let (code, reason, about) = (frame.code, frame.reason, frame.reference);
                // What is wrong with a token may pass, as when it is not valid yet or came too soon.
                if about.as_deref() == Some("token") && matches!(session.renewal, Renewal::Shown(_)) {
                    session.renew_later(&mut self.rng);
                }
                self.buffer.push(Event::Refused { code, reason, about });
            }
            ServerFrame::Goodbye(frame) => session.goodbye = Some(frame),
            ServerFrame::Welcome(_) | ServerFrame::Unknown { .. } => {}
        }
        Ok(())
    }

    /// A rejection that belongs to no durable send belongs to an ephemeral one.
    fn refuse(&mut self, frame: RejectedFrame) {
        let put_off = self.sends.puts_off(&frame);
        let known = self.sends.rejected(&frame, Instant::now());
        if let Some((id, to)) = put_off {
            self.buffer.push(Event::PutOff { id, to, code: frame.code, reason: frame.reason });
        } else if !known && frame.id.is_none() {
            self.buffer.push(Event::Refused { code: frame.code, reason: frame.reason, about: frame.to });
        }
    }

    fn receive(&mut self, frame: MessageFrame) -> Result<(), Ended> {
        let MessageFrame { seq, id, from, body, ts_ms, redelivered, .. } = frame;
        let (seq, id): (Seq, _) = match (seq, id) {
            (Some(seq), Some(id)) => (seq, id),
            (Some(_), None) => return Err(Ended::trouble("a message without an id")),
            (None, _) => {
                self.buffer.push(Event::Ephemeral(Ephemeral { from, body, ts_ms }));
                return Ok(());
            }
        };
        match self.intake.admit(seq, &from, &id, redelivered) {
            Admission::Known => {}
            Admission::BeyondWindow => return Err(Ended::trouble("more messages than the window allows")),
            Admission::Fresh => {
                self.buffer.push(Event::Message(Incoming { seq, id, from, body, ts_ms, redelivered }));
            }
        }
        Ok(())
    }

    /// The last ack and the close frame, and the answers that are still under way.
    async fn leave(&mut self, session: &mut Session) {
        let done = self.done_upto();
        self.done(done);
        // What cannot be made safe in time is not acked, and comes again.
        if let Ok(Ok(Some(safe))) = tokio::time::timeout(LEAVE_MAX, self.keeper.flush()).await {
            self.safe(safe);
        }
        if let Some(seq) = self.intake.take_ack_now(Instant::now()) {
            session.link.push(client_frame(&ClientFrame::Ack { seq: seq.0 }));
        }
        while let Some(frame) = self.said.pop() {
            session.link.push(frame);
        }
        session.link.push_close();
        let answers = async {
            loop {
                match session.link.next().await {
                    Heard::End { .. } => return,
                    Heard::Sign | Heard::Drained => {}
                    Heard::Text(text) => {
                        if let Ok(ServerFrame::Accepted(accepted)) = ServerFrame::from_text(&text) {
                            self.sends.accepted(accepted);
                        }
                    }
                }
            }
        };
        if tokio::time::timeout(LEAVE_MAX, answers).await.is_err() {
            tracing::debug!("the router did not answer the close frame");
        }
    }
}

fn write_send(link: &mut Link, limits: WelcomeLimits, message: &Outgoing) -> Result<(), Unfit> {
    let frame = SendFrame {
        id: Some(message.id.as_str().into()),
        to: message.to.as_str().into(),
        body: message.body.get(),
        ttl_ms: message.ttl.map(ttl_ms),
        retry: message.retry,
        ephemeral: false,
    };
    link.push(send_text(frame, limits)?);
    Ok(())
}

/// A time that the protocol cannot say becomes the nearest one that it can: the router would count
/// anything else as malformed.
fn ttl_ms(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).clamp(1, Seq::MAX.0)
}

/// Whether skipping this frame could skip a message, which a later ack would then cover.
fn may_be_a_message(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(rename = "type", borrow)]
        kind: std::borrow::Cow<'a, str>,
    }
    serde_json::from_str::<Head<'_>>(text).map_or(true, |head| head.kind == "message")
}
