//! The task that owns a client's connection and everything it remembers.
//!
//! The application talks to it through [`super::Client`] and hears from it through [`super::Events`];
//! nobody else touches its state, so there is nothing to lock. Whatever it waits for (a socket, a
//! token, a back-off), it goes on answering the application: all waiting is done in [`Task::turn`].

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures::FutureExt;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::ids::{Seq, UserId};
use crate::presence::PresenceState;
use crate::protocol::frames::{ClientFrame, SendFrame};
use crate::protocol::server_frames::WelcomeLimits;

use super::buffer::EventBuffer;
use super::dial::{DialOutcome, Ended, dial};
use super::event::{Closed, Event};
use super::fitting::{Unfit, kind, portions, send_text, text};
use super::handle::TIMEOUT_MAX;
use super::intake::Intake;
use super::keeper::{Keeper, Safe};
use super::options::Options;
use super::outgoing::Outgoing;
use super::reconnect::{Advice, Backoff};
use super::said::Said;
use super::sends::{SendRequest, Sends, Settled, cost};
use super::storage::{Change, KeptSend};
use super::watching::Watching;

/// Pings without an answer; further ones fail.
const PINGS_MAX: usize = 16;
/// How long the storage may take for its last batch.
const STORE_MAX: Duration = Duration::from_secs(10);

/// What the application asks for, beside durable sends.
#[derive(Debug)]
pub(super) enum Control {
    /// Answers whether there was room for all of them.
    Watch(Vec<UserId>, oneshot::Sender<bool>),
    Unwatch(Vec<UserId>),
    Status(PresenceState, Option<String>),
    Ephemeral(UserId, Box<RawValue>),
    /// Answers when the `pong` came; drops the channel when there is no session.
    Ping(oneshot::Sender<()>),
    Forget,
    Close,
}

/// What [`Task::turn`] came back for.
pub(super) enum Turn<T> {
    /// The work that was waited for is done.
    Work(T),
    /// Something on this side happened, and was dealt with; look again at what is to be done.
    Local,
    /// The application wants to leave.
    Leave,
}

/// What happened on this side.
enum Stirred {
    /// None when the last handle is gone.
    Control(Option<Control>),
    Request(SendRequest),
    Done(Seq),
    Written(Result<Safe, String>),
}

/// The far ends of the application's channels.
pub(super) struct Channels {
    pub(super) control: mpsc::Receiver<Control>,
    pub(super) requests: mpsc::Receiver<SendRequest>,
    /// Up to where the application is done.
    pub(super) done: watch::Receiver<Seq>,
    pub(super) events: mpsc::Sender<Event>,
}

pub(super) struct Task {
    pub(super) options: Options,
    channels: Channels,
    /// Some [`super::Client`] still exists.
    has_handles: bool,
    pub(super) buffer: EventBuffer,
    pub(super) intake: Intake,
    pub(super) sends: Sends,
    pub(super) keeper: Keeper,
    /// Answers that are being written; at most as many as there are places.
    untold: VecDeque<Settled>,
    /// How many answers were told after they were written.
    told: u64,
    pub(super) watching: Watching,
    pub(super) backoff: Backoff,
    pub(super) rng: fastrand::Rng,
    pub(super) status: (PresenceState, Option<String>),
    pub(super) user: Option<UserId>,
    /// The token that holds for the connection that is, or the one shown last for one.
    pub(super) token: Option<String>,
    /// With it the last connection was refused, and none was welcomed since.
    pub(super) refused_token: Option<String>,
    pub(super) forgetting: bool,
    /// The router said that it did.
    forgotten: bool,
    /// What the connection that is allows.
    pub(super) online: Option<WelcomeLimits>,
    /// Dropped with the connection that is.
    pub(super) said: Said,
    pub(super) pings: HashMap<u64, oneshot::Sender<()>>,
    next_ping: u64,
}

impl Task {
    pub(super) fn new(options: Options, channels: Channels) -> Self {
        let mut rng = fastrand::Rng::new();
        Self {
            has_handles: true,
            buffer: EventBuffer::default(),
            intake: Intake::new(),
            sends: Sends::new(options.storage.is_some(), rng.fork()),
            keeper: Keeper::new(options.storage.clone()),
            untold: VecDeque::new(),
            told: 0,
            watching: Watching::default(),
            backoff: Backoff::new(options.backoff_min, options.backoff_max),
            rng,
            status: (options.status, None),
            user: None,
            token: None,
            refused_token: None,
            forgetting: false,
            forgotten: false,
            online: None,
            said: Said::default(),
            pings: HashMap::new(),
            next_ping: 0,
            options,
            channels,
        }
    }

    /// Lives until the application leaves or the router says to stay away.
    pub(super) async fn run(mut self, places: Option<OwnedSemaphorePermit>) {
        let closed = match self.restore(places).await {
            Ok(()) => self.live().await,
            Err(reason) => Closed::Storage { reason },
        };
        tracing::debug!(reason = %closed, "client closed");
        self.finish(closed).await;
    }

    /// Takes up what an earlier process left. `places` are all that there are.
    async fn restore(&mut self, mut places: Option<OwnedSemaphorePermit>) -> Result<(), String> {
        let kept = self.keeper.load().await?;
        self.user = kept.user;
        self.intake.restore(kept.done, &kept.names);
        let now = Instant::now();
        for KeptSend { id, to, body, ttl } in kept.sends {
            let message = Outgoing { id, to, body, ttl, timeout: None, retry: true };
            let place = places.as_mut().and_then(|places| places.split(cost(&message) as usize));
            let deadline = now + self.options.send_timeout.min(TIMEOUT_MAX);
            if let Some(number) = self.sends.submit(SendRequest { message, deadline, reply: None, _place: place }, now)
            {
                self.sends.safe_below(number + 1);
            }
        }
        Ok(())
    }

    async fn live(&mut self) -> Closed {
        loop {
            let Some(ended) = self.connection().await else { return self.left() };
            if let Some(closed) = self.verdict(&ended) {
                self.forgotten = self.forgetting && closed == Closed::Done;
                return closed;
            }
            let retry_in = self.backoff.next(ended.retry_after, &mut self.rng);
            tracing::debug!(close_code = ended.close_code, reason = %ended.reason, ?retry_in, "disconnected");
            let Ended { close_code, reason, .. } = ended;
            self.buffer.push(Event::Disconnected { close_code, reason, retry_in });
            if self.attend(tokio::time::sleep(retry_in)).await.is_none() {
                return self.left();
            }
        }
    }

    /// Why the client leaves by itself.
    fn left(&self) -> Closed {
        self.keeper.failure().map_or(Closed::Done, |reason| Closed::Storage { reason })
    }

    /// One attempt to connect and the session it leads to; `None` when the application leaves.
    async fn connection(&mut self) -> Option<Ended> {
        let dialling = dial(self.options.clone(), self.status.0, self.refused_token.clone()).boxed();
        let DialOutcome { token, result } = self.attend(dialling).await?;
        self.token = token;
        match result {
            Ok(dialled) => self.session(dialled).await,
            Err(ended) => Some(ended),
        }
    }

    /// Waits for `work` outside a session; `None` when the application leaves.
    async fn attend<F: Future>(&mut self, work: F) -> Option<F::Output> {
        let mut work = std::pin::pin!(work);
        loop {
            self.sends.expire(Instant::now());
            let wake_at = self.sends.wake_at(false, 0);
            match self.turn(&mut work, wake_at).await {
                Turn::Work(output) => return Some(output),
                Turn::Local => {}
                Turn::Leave => return None,
            }
        }
    }

    /// Whether an end is final.
    fn verdict(&mut self, ended: &Ended) -> Option<Closed> {
        let reason = ended.reason.clone();
        match (ended.advice, ended.close_code) {
            (Advice::Done, _) => Some(Closed::Done),
            (Advice::Stop, Some(close_code)) => Some(Closed::Refused { close_code, reason }),
            (Advice::Stop, None) => Some(Closed::Impossible { reason }),
            (Advice::Retry, _) => None,
            (Advice::NewToken, _) => {
                // The same token twice: the provider has no better one.
                let hopeless = self.token.is_none() || self.token == self.refused_token;
                self.refused_token.clone_from(&self.token);
                hopeless.then_some(Closed::NotAuthenticated { reason })
            }
        }
    }

    /// Waits for `work`, for one thing that the application does, or until `wake_at`.
    pub(super) async fn turn<T>(&mut self, work: impl Future<Output = T>, wake_at: Option<Instant>) -> Turn<T> {
        self.settle();
        self.keeper.begin();
        let wake_at = wake_at.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        let Self { channels, keeper, buffer, has_handles, .. } = self;
        let stirred = tokio::select! {
            output = work => return Turn::Work(output),
            control = channels.control.recv(), if *has_handles => Stirred::Control(control),
            Some(request) = channels.requests.recv() => Stirred::Request(request),
            Ok(()) = channels.done.changed() => Stirred::Done(*channels.done.borrow_and_update()),
            written = keeper.written() => Stirred::Written(written),
            Ok(permit) = channels.events.reserve(), if !buffer.is_empty() => {
                if let Some(event) = buffer.pop() {
                    permit.send(event);
                }
                return Turn::Local;
            }
            () = channels.events.closed(), if !*has_handles => return Turn::Leave,
            () = tokio::time::sleep_until(wake_at) => return Turn::Local,
        };
        match stirred {
            Stirred::Control(Some(Control::Close)) | Stirred::Written(Err(_)) => return Turn::Leave,
            Stirred::Control(Some(control)) => self.obey(control),
            Stirred::Control(None) => self.has_handles = false,
            Stirred::Request(request) => self.submit(request),
            Stirred::Done(seq) => self.done(seq),
            Stirred::Written(Ok(safe)) => self.safe(safe),
        }
        Turn::Local
    }

    fn submit(&mut self, request: SendRequest) {
        let Outgoing { id, to, body, ttl, .. } = &request.message;
        let kept = KeptSend { id: id.clone(), to: to.clone(), body: body.clone(), ttl: *ttl };
        if let Some(number) = self.sends.submit(request, Instant::now()) {
            self.keeper.note(Change::Send(kept));
            self.keeper.safe_below(number + 1);
        }
    }

    /// The application is done with everything up to `seq`.
    pub(super) fn done(&mut self, seq: Seq) {
        for (seq, name) in self.intake.done(seq) {
            self.keeper.note(Change::Done { seq, name });
        }
        self.keeper.safe_done(seq);
        if !self.keeper.keeps() {
            self.intake.safe(seq);
        }
    }

    pub(super) fn safe(&mut self, safe: Safe) {
        self.sends.safe_below(safe.sends_below);
        self.intake.safe(safe.done);
        while self.told < safe.settled
            && let Some(settled) = self.untold.pop_front()
        {
            self.told += 1;
            self.tell(settled);
        }
    }

    /// Has it written which sends have their answers. They are told afterwards: what the application was told to have
    /// failed must not be sent by a later process.
    fn settle(&mut self) {
        for mut settled in self.sends.take_settled() {
            if self.keeper.keeps() {
                self.keeper.note(Change::Settled { id: settled.id.clone(), to: settled.to.clone() });
                self.keeper.safe_settled();
                settled.tell_in_time();
                self.untold.push_back(settled);
            } else {
                self.tell(settled);
            }
        }
    }

    fn tell(&mut self, settled: Settled) {
        if let Some(event) = settled.tell() {
            self.buffer.push(event);
        }
    }

    /// Carries out a call. What has to hold on later connections too is remembered.
    fn obey(&mut self, control: Control) {
        match control {
            Control::Watch(users, reply) => {
                let room = self.watching.add(&users);
                if room {
                    self.say_watch(&users);
                }
                // A caller that stopped listening does not miss the answer.
                let _told = reply.send(room);
            }
            Control::Unwatch(users) => {
                let users = self.watching.remove(&users);
                let Self { buffer, watching, .. } = self;
                buffer.forget_presence(|user| !watching.minds(user));
                for users in self.portions(&users) {
                    self.say(&ClientFrame::Unwatch { users });
                }
            }
            Control::Status(state, text) => {
                self.status = (state, text.clone());
                self.say(&ClientFrame::Status { state, text });
            }
            Control::Ephemeral(to, body) => self.say_ephemeral(&to, &body),
            Control::Ping(reply) => self.ping(reply),
            Control::Forget => {
                self.forgetting = true;
                self.say(&ClientFrame::Forget);
            }
            Control::Close => {}
        }
    }

    pub(super) fn say_watch(&mut self, users: &[UserId]) {
        for users in self.portions(users) {
            self.say(&ClientFrame::Watch { users });
        }
    }

    /// Without a connection there is nobody to say them to.
    fn portions(&self, users: &[UserId]) -> Vec<Vec<String>> {
        self.online.map_or_else(Vec::new, |limits| portions(users, limits.frame_bytes))
    }

    fn say_ephemeral(&mut self, to: &UserId, body: &RawValue) {
        let Some(limits) = self.online.filter(|_| self.said.has_room_for_an_ephemeral()) else { return };
        let name = to.as_str();
        let frame =
            SendFrame { id: None, to: name.into(), body: body.get(), ttl_ms: None, retry: false, ephemeral: true };
        match send_text(frame, limits) {
            Ok(text) => self.said.push(text),
            Err(unfit) => self.stays_here(unfit, name),
        }
    }

    fn ping(&mut self, reply: oneshot::Sender<()>) {
        if self.online.is_some() && self.pings.len() < PINGS_MAX {
            self.next_ping += 1;
            self.pings.insert(self.next_ping, reply);
            self.say(&ClientFrame::Ping { n: Some(self.next_ping) });
        }
    }

    /// Says it on the connection that is. Without one there is nothing to do: what matters is said
    /// again at the start of the next. False when it is nothing that can be said to this router.
    pub(super) fn say(&mut self, frame: &ClientFrame<'_>) -> bool {
        let Some(limits) = self.online else { return true };
        match text(frame, limits) {
            Ok(text) => self.said.push(text),
            Err(unfit) => {
                self.stays_here(unfit, kind(frame));
                return false;
            }
        }
        true
    }

    fn stays_here(&mut self, Unfit { code, reason }: Unfit, about: &str) {
        self.buffer.push(Event::Refused { code, reason: reason.to_owned(), about: Some(about.to_owned()) });
    }

    /// Up to where the application is done, changes not yet noticed included.
    pub(super) fn done_upto(&mut self) -> Seq {
        *self.channels.done.borrow_and_update()
    }

    /// Every call gets its answer, then the application its last event.
    async fn finish(mut self, closed: Closed) {
        if self.put_away().await {
            self.sends.keep();
        } else {
            self.sends.close();
        }
        let untold = std::mem::take(&mut self.untold).into_iter().chain(self.sends.take_settled());
        untold.for_each(|settled| self.tell(settled));
        let Channels { control, requests, done: _, events } = self.channels;
        drop((control, requests));
        self.buffer.close(closed);
        while let Some(event) = self.buffer.pop() {
            if events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// Writes what is still to be written; says whether pending sends outlive the client.
    async fn put_away(&mut self) -> bool {
        self.settle();
        if self.forgotten {
            self.keeper.note(Change::Forgotten);
        }
        match tokio::time::timeout(STORE_MAX, self.keeper.flush()).await {
            Ok(Ok(_)) => self.keeper.keeps() && !self.forgotten,
            Ok(Err(error)) => {
                tracing::warn!(%error, "the client ends with a storage that may lack its last changes");
                false
            }
            Err(_) => {
                tracing::warn!("the client ends with a storage that is stuck");
                false
            }
        }
    }
}
