//! What the tests of the core share: one owner's state, a store that the test plays, and everything that was said.
//!
//! Records are there at once. What is written and what is read waits until the test says that it is done, and the
//! time stands still until the test lets it pass.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::command::{Attach, Command, NotRequeued, Report, Requeue, Send};
use super::core::{Core, Settings};
use super::effect::{Effect, ReadPage};
use super::events::EventKind;
use super::send_key::SendKeys;
use super::session_handle::{Answer, Answers, Closing, Delivery, Ephemeral, Outcome, SessionHandle, Welcome};
use super::state::State;
use crate::clock::Now;
use crate::codes::Code;
use crate::config::Config;
use crate::ids::{DeviceId, Seq, SessionId, UserId};
use crate::message::{Message, Tally};
use crate::metrics::Metrics;
use crate::presence::{PresenceInfo, PresenceState};
use crate::store::{
    Boot, CommitReport, DeadLetter, DeadReason, FoundLetter, LoadedUser, Op, Page, StoreError, Stored, What, Write,
    Written,
};

/// What sends are known by in all tests.
pub const KEYS: SendKeys = SendKeys::new(1);

/// When every test begins: the same for both clocks.
pub const BEGINNING: Now = Now { us: 1_000_000_000_000, wall_ms: 1_000_000_000 };

/// What a message of [`Desk::send`] weighs beside its body.
pub const ENVELOPE: u64 = 64 + "m1".len() as u64 + "alice".len() as u64;

pub struct Desk {
    pub state: State,
    pub now: Now,
    /// How many messages a page of the store has at most.
    pub page_messages: usize,
    /// Handed to the store and not committed yet.
    pub writes: Vec<Write>,
    /// Asked of the store and not read yet.
    pub reads: Vec<Read>,
    pub heard: Heard,
    records: HashMap<UserId, LoadedUser>,
    disk: BTreeMap<(UserId, Seq), Stored>,
    /// The dead-letter list, by number; None cannot be read.
    pub letters: BTreeMap<u64, Option<(UserId, Arc<Message>)>>,
}

/// What owners said, in order; the number is the session's.
#[derive(Default)]
pub struct Heard {
    pub answers: Vec<(String, Outcome)>,
    pub welcomes: Vec<Welcome>,
    pub deliveries: Vec<(u128, Seq)>,
    /// Those of them that said so.
    pub redeliveries: Vec<(u128, Seq)>,
    pub drained: usize,
    pub events: Vec<EventKind>,
    pub presence: Vec<(u128, PresenceInfo)>,
    pub closings: Vec<(u128, Closing)>,
    /// The dead letters that were committed.
    pub buried: Vec<(Seq, DeadReason)>,
}

pub enum Read {
    Page(Box<ReadPage>),
    Sweep { user: UserId, job: u64, after: Seq, upto: Seq },
    Letter { user: UserId, letter: u64 },
}

/// A session or the sender of a send; what it is told is read off the effects.
pub struct Client(pub SessionId);

impl Answers for Client {
    fn answer(&self, _: Answer) {}
    fn wake(&self) {}
}

impl SessionHandle for Client {
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

pub fn client(session: u128) -> Arc<Client> {
    Arc::new(Client(SessionId(session)))
}

pub fn user(name: &str) -> UserId {
    name.parse().unwrap()
}

pub fn device(name: &str) -> DeviceId {
    name.parse().unwrap()
}

/// The defaults, with an expiry that begins at once.
pub fn settings() -> Settings {
    Settings { expiry_grace_us: 0, ..Settings::new(&Config::default()) }
}

/// An owner that begins with nobody in memory.
pub fn state(settings: Settings, now: Now) -> State {
    let boot = Boot {
        floor: Seq::ZERO,
        ceiling: Seq::MAX,
        maybe_pushed_upto: None,
        clock_went_back: false,
        expiry_paused: false,
        records_read: 0,
    };
    State::new(Core::new(settings, &boot, now, Metrics::new()))
}

/// A session's wish to be let in, with a window that nothing fills.
pub fn attach(session: u128, name: &str, on: &str) -> Attach {
    Attach {
        user: user(name),
        device: device(on),
        session: client(session),
        state: PresenceState::Online,
        text: None,
        window: 100,
        window_bytes: 1_000_000,
        peer: "192.0.2.1:1".to_owned(),
    }
}

/// A message of alice's, with a body of so many bytes and an hour to live.
pub fn send(id: &str, to: &str, bytes: usize, now: Now) -> Send {
    let message = Message {
        seq: Seq::ZERO,
        id: id.parse().unwrap(),
        from: user("alice"),
        body: Bytes::from(vec![b'x'; bytes]),
        ts_ms: now.wall_ms,
        expires_ms: now.wall_ms + 3_600_000,
        retry: false,
    };
    Send::new(KEYS, user(to), Arc::new(message), client(0), now.us)
}

/// The same with something else about its message.
pub fn send_with(mut send: Send, change: impl FnOnce(&mut Message)) -> Send {
    change(Arc::make_mut(&mut send.message));
    Send::new(KEYS, send.to, send.message, send.sender, send.taken_us)
}

impl Desk {
    /// With the settings of [`settings`] but for what `change` does to them.
    pub fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = settings();
        change(&mut settings);
        Self {
            state: state(settings, BEGINNING),
            now: BEGINNING,
            page_messages: 256,
            writes: Vec::new(),
            reads: Vec::new(),
            heard: Heard::default(),
            records: HashMap::new(),
            disk: BTreeMap::new(),
            letters: BTreeMap::new(),
        }
    }

    /// Messages of a user without a device that have been on disk since before the start: their seqs, how many had
    /// passed through the inbox by then, and when they expire. Each weighs 100 bytes.
    pub fn stock(&mut self, name: &str, messages: &[(u64, u64, u64)]) {
        let name = user(name);
        for (seq, passed, expires_ms) in messages {
            let (id, from) = ("m1".parse().unwrap(), user("alice"));
            let body = Bytes::from(vec![b'x'; 100 - ENVELOPE as usize]);
            let message = Message { seq: Seq(*seq), id, from, body, ts_ms: 0, expires_ms: *expires_ms, retry: false };
            let tally = Tally { messages: *passed, bytes: 100 * passed };
            self.disk.insert((name.clone(), Seq(*seq)), Stored { message: Arc::new(message), tally });
        }
        let mut there = self.disk.range((name.clone(), Seq::ZERO)..=(name.clone(), Seq::MAX)).map(|(_, stored)| stored);
        let first = there.next().map(|first| (first.message.seq, first.tally, first.message.weight()));
        let last = there.next_back().map(|last| (last.message.seq, last.tally));
        let last = last.or(first.map(|(seq, tally, _)| (seq, tally)));
        self.records.insert(name, LoadedUser { first, last, ..LoadedUser::default() });
    }

    /// Applies a command and does what comes of it.
    pub fn apply(&mut self, command: Command) {
        let mut effects = Vec::new();
        self.state.apply(command, self.now, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(effect));
    }

    fn carry_out(&mut self, effect: Effect) {
        let heard = &mut self.heard;
        match effect {
            Effect::Welcome(_, welcome) => heard.welcomes.push(*welcome),
            Effect::Deliver(session, delivery) => {
                let delivered = (session.id().0, delivery.message.seq);
                heard.deliveries.push(delivered);
                heard.redeliveries.extend(delivery.redelivered.then_some(delivered));
            }
            Effect::Presence(session, info) => heard.presence.push((session.id().0, info)),
            Effect::Close(session, closing) => heard.closings.push((session.id().0, closing)),
            Effect::Answer(_, answer) => heard.answers.push((answer.message.id.to_string(), answer.outcome)),
            Effect::Load(user) => {
                let result = Ok(self.records.get(&user).cloned().unwrap_or_default());
                self.apply(Report::Loaded { user, result }.into());
            }
            Effect::ReadPage(page) => self.reads.push(Read::Page(page)),
            Effect::ReadSweep { user, job, after, upto } => self.reads.push(Read::Sweep { user, job, after, upto }),
            Effect::ReadLetter { user, letter } => self.reads.push(Read::Letter { user, letter }),
            Effect::Write(write) => self.writes.push(write),
            Effect::Cancel(ticket) => ticket.cancel(),
            Effect::ReplyDone(reply, outcome) => drop(reply.send(outcome)),
            Effect::ReplyCount(reply, outcome) => drop(reply.send(outcome)),
            Effect::ReplyRequeued(reply, outcome) => drop(reply.send(outcome)),
            Effect::Drained(_) => heard.drained += 1,
            Effect::Tell(event) => heard.events.push(event.kind.clone()),
            Effect::LookUp(_)
            | Effect::DeliverEphemeral(..)
            | Effect::CaughtUp(..)
            | Effect::Error(..)
            | Effect::Paint { .. }
            | Effect::Outstanding { .. } => {}
        }
    }

    /// Lets the time pass, on both clocks, and sees to whatever is due by then.
    pub fn later(&mut self, us: u64) {
        self.now.us += us;
        self.now.wall_ms = self.now.us / 1000;
        self.apply(Command::Tick);
    }

    /// The store has done all that it was given so far.
    pub fn commit(&mut self) {
        let writes = std::mem::take(&mut self.writes);
        let written = writes.into_iter().map(|write| self.write(write)).collect();
        self.apply(Report::Committed(CommitReport { written, error: None }).into());
    }

    /// The disk has failed under all that the store was given so far.
    pub fn fail_commit(&mut self) {
        let written = self.writes.drain(..).map(|Write { user, what }| match what {
            What::Append { message, .. } | What::Requeue { message, .. } => {
                Written::Append { user, seq: message.seq, stored: true }
            }
            What::Change { token, .. } => Written::Change { user, token },
        });
        let error = Some(StoreError::Write("broken".to_owned()));
        let report = CommitReport { written: written.collect(), error };
        self.apply(Report::Committed(report).into());
    }

    fn write(&mut self, Write { user, what }: Write) -> Written {
        match what {
            What::Append { message, tally, ticket, .. } => {
                let (seq, stored) = (message.seq, !ticket.is_cancelled());
                if stored {
                    self.disk.insert((user.clone(), seq), Stored { message, tally });
                }
                Written::Append { user, seq, stored }
            }
            What::Requeue { message, tally, letter, .. } => {
                let seq = message.seq;
                assert!(self.letters.remove(&letter).is_some(), "letter {letter} goes back twice");
                self.disk.insert((user.clone(), seq), Stored { message, tally });
                Written::Append { user, seq, stored: true }
            }
            What::Change { token, ops } => {
                for op in ops {
                    match op {
                        Op::Remove { seq, .. } => drop(self.disk.remove(&(user.clone(), seq))),
                        Op::Bury { letter } => self.bury(letter),
                        _ => {}
                    }
                }
                Written::Change { user, token }
            }
        }
    }

    fn bury(&mut self, letter: DeadLetter) {
        let number = self.heard.buried.len() as u64;
        self.heard.buried.push((letter.seq, letter.reason));
        self.letters.insert(number, letter.message.map(|message| (letter.user, message)));
    }

    /// The store has read all that it was asked for so far.
    pub fn read(&mut self) {
        for read in std::mem::take(&mut self.reads) {
            let report = match read {
                Read::Page(ask) => Report::Page {
                    result: Ok(self.page(&ask.user, ask.after, ask.upto, ask.max_messages)),
                    user: ask.user,
                    device: ask.device,
                    session: ask.session,
                },
                Read::Sweep { user, job, after, upto } => {
                    Report::Sweep { result: Ok(self.page(&user, after, upto, self.page_messages)), user, job }
                }
                Read::Letter { user, letter } => Report::Letter { result: Ok(self.letter(letter)), user, letter },
            };
            self.apply(report.into());
        }
    }

    fn letter(&self, number: u64) -> FoundLetter {
        match self.letters.get(&number) {
            None => FoundLetter::Absent,
            Some(None) => FoundLetter::Unreadable,
            Some(Some((user, message))) => {
                FoundLetter::Whole { user: user.clone(), message: message.clone(), bytes: 100 }
            }
        }
    }

    fn page(&self, user: &UserId, after: Seq, upto: Seq, max: usize) -> Page {
        let range = self.disk.range((user.clone(), Seq(after.0 + 1))..=(user.clone(), upto));
        let there = range.clone().count();
        let messages: Vec<_> = range.take(max.min(self.page_messages)).map(|(_, stored)| stored.clone()).collect();
        Page { end: messages.len() == there, messages, corrupt: Vec::new() }
    }

    /// Lets the store go on until it has nothing more to do.
    pub fn settle(&mut self) {
        while !self.writes.is_empty() || !self.reads.is_empty() {
            self.commit();
            self.read();
        }
    }

    /// A session is let in, and the store has taken its device down.
    pub fn enter(&mut self, attach: Attach) {
        self.apply(attach.into());
        self.settle();
    }

    pub fn send(&mut self, id: &str, to: &str, bytes: usize) {
        self.apply(Command::Send(send(id, to, bytes, self.now)));
    }

    /// The session acknowledges all that it was sent.
    pub fn ack(&mut self, session: u128, name: &str, on: &str) {
        let sent = self.heard.deliveries.iter().rev().find(|(to, _)| *to == session);
        let (seq, session) = (sent.expect("something was sent to it").1, SessionId(session));
        self.apply(Command::Ack { user: user(name), device: device(on), session, seq });
    }

    /// The connection of a session is gone.
    pub fn leave(&mut self, session: u128, name: &str, on: &str, clean: bool) {
        let session = SessionId(session);
        self.apply(Command::Detach { user: user(name), device: device(on), session, clean, code: None });
    }

    pub fn purge(&mut self, name: &str, only: Option<Seq>) -> oneshot::Receiver<Result<u64, super::command::NotDone>> {
        let (reply, answer) = oneshot::channel();
        self.apply(Command::Purge { user: user(name), only, reply });
        answer
    }

    pub fn requeue(&mut self, name: &str, letter: u64) -> oneshot::Receiver<Result<Seq, NotRequeued>> {
        let (reply, answer) = oneshot::channel();
        let (taken_us, ttl_ms) = (self.now.us, 3_600_000);
        self.apply(Command::Requeue(Requeue { user: user(name), letter, ttl_ms, taken_us, reply }));
        answer
    }

    /// What is on disk for a user.
    pub fn stored(&self, name: &str) -> Vec<Arc<Message>> {
        let range = (user(name), Seq::ZERO)..=(user(name), Seq::MAX);
        self.disk.range(range).map(|(_, stored)| stored.message.clone()).collect()
    }

    /// What was answered to this id so far.
    pub fn answers(&self, id: &str) -> Vec<&Outcome> {
        self.heard.answers.iter().filter(|answer| answer.0 == id).map(|answer| &answer.1).collect()
    }

    /// The code with which this id was refused; none when that was not the last word on it.
    pub fn refusal(&self, id: &str) -> Option<Code> {
        match self.answers(id).last()? {
            Outcome::Rejected { code, .. } => Some(*code),
            Outcome::Accepted { .. } => None,
        }
    }

    /// What the user's least-behind device lacks, as operators see it.
    pub fn backlog(&self, name: &str) -> u64 {
        self.state.user_view(&user(name)).expect("the user is in memory").backlog_messages
    }
}
