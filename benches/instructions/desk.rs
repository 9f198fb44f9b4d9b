//! The core of routing, with nothing around it: what it asks of the store is granted at once.

use std::sync::Arc;

use bytes::Bytes;
use doorstep::clock::Now;
use doorstep::codes::Code;
use doorstep::ids::{DeviceId, MessageId, Seq, SessionId, UserId};
use doorstep::message::Message;
use doorstep::metrics::Metrics;
use doorstep::presence::{PresenceInfo, PresenceState};
use doorstep::routing::command::{Attach, Command, Report, Send};
use doorstep::routing::core::{Core, Settings};
use doorstep::routing::effect::Effect;
use doorstep::routing::send_key::SendKeys;
use doorstep::routing::session_handle::{Answer, Answers, Closing, Delivery, Ephemeral, SessionHandle, Welcome};
use doorstep::routing::state::State;
use doorstep::store::{Boot, CommitReport, LoadedUser, What, Written};

use super::frames::body;

const START_US: u64 = 1_795_760_000_000_000;
/// Recipients, so that no one's record is always at hand.
const USERS: u64 = 100;
/// Messages that are known to dedupe at most, small enough to be full soon: what has to go is counted as well.
const DEDUPE_MAX: usize = 1_000;
const KEYS: SendKeys = SendKeys::new(7);

/// A message to an online user, and the ack of it.
pub fn route(count: u64) {
    let mut desk = Desk::new();
    desk.attach_all();
    for n in 0..count {
        let user = desk.user(n);
        desk.send(n);
        let seq = desk.pushed;
        desk.apply(Command::Ack { user, device: device(), session: SessionId(u128::from(n % USERS)), seq });
    }
    assert_eq!((desk.delivered, desk.answered), (count, count));
}

/// A message to a user who is away: given to the store, reported as stored, accepted.
pub fn store(count: u64) {
    let mut desk = Desk::new();
    desk.attach_all();
    for n in 0..USERS {
        let user = desk.user(n);
        desk.apply(Command::Detach { user, device: device(), session: SessionId(u128::from(n)), clean: true, code: None });
    }
    for n in 0..count {
        desk.send(n);
    }
    assert_eq!((desk.delivered, desk.answered), (0, count));
}

struct Desk {
    state: State,
    now: Now,
    names: Vec<UserId>,
    session: Arc<Quiet>,
    body: String,
    effects: Vec<Effect>,
    pushed: Seq,
    delivered: u64,
    answered: u64,
}

impl Desk {
    fn new() -> Self {
        let boot = Boot {
            floor: Seq(START_US),
            ceiling: Seq::MAX,
            maybe_pushed_upto: None,
            clock_went_back: false,
            expiry_paused: false,
            records_read: 0,
        };
        let now = Now { us: START_US, wall_ms: START_US / 1000 };
        Self {
            state: State::new(Core::new(settings(), &boot, now, Metrics::new())),
            now,
            names: (0..USERS).map(|n| UserId::new(&format!("user-{n}")).unwrap()).collect(),
            session: Arc::new(Quiet(SessionId(0))),
            body: body(),
            effects: Vec::new(),
            pushed: Seq::ZERO,
            delivered: 0,
            answered: 0,
        }
    }

    fn user(&self, n: u64) -> UserId {
        self.names[(n % USERS) as usize].clone()
    }

    fn attach_all(&mut self) {
        for n in 0..USERS {
            let attach = Attach {
                user: self.user(n),
                device: device(),
                session: Arc::new(Quiet(SessionId(u128::from(n)))),
                state: PresenceState::Online,
                text: None,
                window: 256,
                window_bytes: 1 << 18,
                peer: String::new(),
            };
            self.apply(Command::Attach(Box::new(attach)));
        }
    }

    fn send(&mut self, n: u64) {
        let message = Arc::new(Message {
            seq: Seq::ZERO,
            id: MessageId::new(&format!("message-{n:016}")).unwrap(),
            from: self.user(n + 1),
            body: Bytes::copy_from_slice(self.body.as_bytes()),
            ts_ms: self.now.wall_ms,
            expires_ms: self.now.wall_ms + (1 << 32),
            retry: false,
        });
        let send = Send::new(KEYS, self.user(n), message, self.session.clone(), self.now.us);
        self.apply(Command::Send(send));
    }

    /// Ten microseconds later; whatever is asked of the store has been done before the next command.
    fn apply(&mut self, command: Command) {
        self.now.us += 10;
        self.now.wall_ms = self.now.us / 1000;
        let mut next = Some(command);
        while let Some(command) = next.take() {
            let mut effects = std::mem::take(&mut self.effects);
            self.state.apply(command, self.now, &mut effects);
            let mut written = Vec::new();
            for effect in effects.drain(..) {
                match effect {
                    Effect::Load(user) => {
                        next = Some(Report::Loaded { user, result: Ok(LoadedUser::default()) }.into());
                    }
                    Effect::Deliver(_, delivery) => {
                        self.pushed = delivery.message.seq;
                        self.delivered += 1;
                    }
                    Effect::Answer(..) => self.answered += 1,
                    Effect::LookUp(key) => next = Some(Report::Dedupe { key, result: Ok(None) }.into()),
                    Effect::Write(write) => written.push(match write.what {
                        What::Append { message, .. } | What::Requeue { message, .. } => {
                            Written::Append { user: write.user, seq: message.seq, stored: true }
                        }
                        What::Change { token, .. } => Written::Change { user: write.user, token },
                    }),
                    _ => {}
                }
            }
            self.effects = effects;
            if !written.is_empty() {
                next = Some(Report::Committed(CommitReport { written, error: None }).into());
            }
        }
    }
}

fn device() -> DeviceId {
    DeviceId::new("phone").unwrap()
}

fn settings() -> Settings {
    Settings {
        commit_delay_us: 20_000,
        commit_delay_max_us: 20_000,
        accept_timeout_us: 10_000_000,
        linger_us: 0,
        evict_after_us: 1 << 50,
        expiry_grace_us: 0,
        device_expiry_ms: 1 << 40,
        max_messages: 1 << 40,
        max_bytes: 1 << 40,
        max_total_bytes: 1 << 50,
        max_devices: 8,
        connections_per_user: 16,
        page_messages: 256,
        page_bytes: 1 << 18,
        pending_appends: 65_536,
        pending_append_bytes: 1 << 26,
        load_queue: 1024,
        users: 1_000_000,
        dedupe_window_us: 3_600_000_000,
        dedupe_max: DEDUPE_MAX,
    }
}

/// A session that says nothing to anyone.
struct Quiet(SessionId);

impl Answers for Quiet {
    fn answer(&self, _: Answer) {}
    fn wake(&self) {}
}

impl SessionHandle for Quiet {
    fn id(&self) -> SessionId {
        self.0
    }
    fn welcome(&self, _: Welcome) {}
    fn deliver(&self, _: Delivery) {}
    fn caught_up(&self, _: Seq) {}
    fn deliver_ephemeral(&self, _: &Ephemeral) -> bool {
        true
    }
    fn presence(&self, _: &[PresenceInfo]) {}
    fn error(&self, _: Code, _: &'static str, _: &'static str) {}
    fn close(&self, _: Closing) {}
}
