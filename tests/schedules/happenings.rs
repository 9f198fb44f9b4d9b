//! What may happen, one method each: the commands of clients, operators, clocks and disks.

use std::sync::Arc;

use doorstep::codes::CloseCode;
use doorstep::ids::{Seq, SessionId};
use doorstep::message::Message;
use doorstep::presence::PresenceState;
use doorstep::routing::command::{Attach, Command, Send};
use doorstep::routing::session_handle::{Closing, Ephemeral};
use doorstep::store::{StoreState, What};
use tokio::sync::oneshot;

use super::cast::{asker, client, sender_user, watcher};
use super::ledger::{Phase, Sent, Sess};
use super::meetings::{Event, Needed};
use super::reports::Ask;
use super::world::World;

/// One send as a client writes it.
#[derive(Debug, Clone, Copy)]
pub struct Letter {
    /// The sender session.
    pub session: u8,
    pub to: u8,
    pub id: u8,
    /// Which of two bodies.
    pub body: u8,
    pub retry: bool,
    pub ttl_ms: u64,
    /// How long ago the gateway took it.
    pub age_us: u64,
}

impl World<'_> {
    pub fn send(&mut self, letter: Letter) -> u32 {
        let Letter { session, to, id, body, retry, ttl_ms, age_us } = letter;
        let from = sender_user(session);
        let taken_us = self.now.us - age_us;
        if self.disk.poisoned && !self.ledger.desks[usize::from(to)].refuses {
            self.meetings.need(Needed::OwnerUnaware);
        }
        let again = self.ledger.sent.iter().any(|sent| (sent.from, sent.to, sent.id) == (from, to, id));
        let no = self.ledger.send(Sent::new(session, (from, to), (id, body), retry, taken_us));
        self.say(|| format!("send {no}: {letter:?}"));
        let message = Arc::new(Message {
            seq: Seq::ZERO,
            id: self.cast.ids[usize::from(id)].clone(),
            from: self.cast.users[usize::from(from)].clone(),
            body: self.cast.body(id, body),
            ts_ms: self.now.wall_ms,
            expires_ms: self.now.wall_ms.saturating_add(ttl_ms),
            retry,
        });
        let to_user = self.cast.users[usize::from(to)].clone();
        let send = Send::new(self.keys, to_user, message, asker(no), taken_us);
        self.apply(if again { Event::Retry } else { Event::Send }, to, Command::Send(send));
        no
    }

    pub fn attach(&mut self, user: u8, dev: u8, window: u32, window_bytes: u64, state: PresenceState) -> u32 {
        let older = self.ledger.live(user, dev);
        let session = self.ledger.attach(Sess::new(user, dev, window, window_bytes, state));
        self.ledger.note_first_hello(user, dev, session);
        self.say(|| format!("attach {session} as u{user}/d{dev}, window {window}/{window_bytes}, {state:?}"));
        let reading = |older: u32| {
            let id = SessionId(u128::from(older));
            self.reads.iter().any(|read| matches!(&read.ask, Ask::Page(ask) if ask.session == id))
        };
        let event = match older {
            Some(older) if reading(older) => {
                self.meetings.need(Needed::TakeoverWithPage);
                Event::Takeover
            }
            Some(_) => Event::Takeover,
            None if self.ledger.desks[usize::from(user)].devices[usize::from(dev)].registered => Event::Attach,
            None => Event::Register,
        };
        let attach = Attach {
            user: self.cast.users[usize::from(user)].clone(),
            device: self.cast.devices[usize::from(dev)].clone(),
            session: client(session),
            state,
            text: session.is_multiple_of(3).then(|| format!("text {session}")),
            window,
            window_bytes,
            peer: String::new(),
        };
        self.apply(event, user, attach.into());
        session
    }

    pub fn detach(&mut self, session: u32, clean: bool) {
        self.say(|| format!("detach {session}, clean {clean}"));
        let sess = self.ledger.session(session);
        // What is said after the first time is said of nobody.
        (sess.detached, sess.clean) = (true, if sess.detached { sess.clean } else { clean });
        let (user, dev) = (sess.user, sess.dev);
        let command = Command::Detach {
            user: self.cast.users[usize::from(user)].clone(),
            device: self.cast.devices[usize::from(dev)].clone(),
            session: SessionId(u128::from(session)),
            clean,
            code: None,
        };
        self.apply(Event::Detach, user, command);
    }

    pub fn ack(&mut self, session: u32, seq: u64) {
        let counts = self.ledger.ack(session, seq);
        self.say(|| format!("ack {seq} by {session}, counts {counts}"));
        let sess = self.ledger.session(session);
        let (user, dev) = (sess.user, sess.dev);
        let command = Command::Ack {
            user: self.cast.users[usize::from(user)].clone(),
            device: self.cast.devices[usize::from(dev)].clone(),
            session: SessionId(u128::from(session)),
            seq: Seq(seq),
        };
        self.apply(if counts { Event::Ack } else { Event::BadAck }, user, command);
    }

    /// A connection breaks in the middle of what its client had written: some of it came through, the rest never
    /// happened. What was in flight to it is on its way again with the next session.
    pub fn vanish(&mut self, session: u32, came_through: usize, letter: Letter) {
        let in_flight: Vec<u64> = self.ledger.session(session).in_flight.iter().map(|(seq, _)| *seq).collect();
        self.say(|| format!("{session} vanishes, {came_through} of its last frames came through"));
        let written: [&dyn Fn(&mut Self); 4] = [
            &|world| in_flight.first().into_iter().for_each(|seq| world.ack(session, *seq)),
            &|world| world.status(session, PresenceState::Away, None),
            &|world| {
                world.send(letter);
            },
            &|world| in_flight.last().into_iter().for_each(|seq| world.ack(session, *seq)),
        ];
        written.into_iter().take(came_through).for_each(|frame| frame(self));
        if !self.ledger.session(session).in_flight.is_empty() {
            self.meetings.need(Needed::Vanished);
        }
        self.detach(session, false);
    }

    pub fn status(&mut self, session: u32, state: PresenceState, text: Option<String>) {
        let sess = self.ledger.session(session);
        if sess.phase == Phase::Live {
            sess.state = state;
        }
        let user = sess.user;
        self.say(|| format!("status of {session}: {state:?} {text:?}"));
        let name = self.cast.users[usize::from(user)].clone();
        let command = Command::Status { user: name, session: SessionId(u128::from(session)), state, text };
        self.apply(Event::Status, user, command);
    }

    pub fn ephemeral(&mut self, to: u8) {
        let from = self.cast.users[0].clone();
        let ephemeral = Ephemeral { id: None, from, body: self.cast.body(0, 0), ts_ms: self.now.wall_ms };
        let to_user = self.cast.users[usize::from(to)].clone();
        let command = Command::SendEphemeral { to: to_user, ephemeral: Box::new(ephemeral) };
        self.apply(Event::Ephemeral, to, command);
    }

    pub fn watch(&mut self, by: usize, user: u8) {
        self.say(|| format!("watcher {by} watches u{user}"));
        self.watching.subscribe(by, user, true);
        let command = Command::Watch { user: self.cast.users[usize::from(user)].clone(), session: watcher(by) };
        self.apply(Event::Watch, user, command);
    }

    pub fn unwatch(&mut self, by: usize, user: u8) {
        self.say(|| format!("watcher {by} watches u{user} no more"));
        self.watching.subscribe(by, user, false);
        let command = Command::Unwatch { user: self.cast.users[usize::from(user)].clone(), session: watcher(by).id() };
        self.apply(Event::Watch, user, command);
    }

    /// The session says goodbye for good.
    pub fn forget_own(&mut self, session: u32) {
        let sess = self.ledger.session(session);
        let (user, dev, live) = (sess.user, sess.dev, sess.phase == Phase::Live);
        self.say(|| format!("forget u{user}/d{dev} by itself, session {session}"));
        if live {
            self.ledger.forgets(user, dev);
            self.end_session(session, true);
        }
        let command = Command::Forget {
            user: self.cast.users[usize::from(user)].clone(),
            device: self.cast.devices[usize::from(dev)].clone(),
            session: SessionId(u128::from(session)),
        };
        self.apply(Event::Forget, user, command);
    }

    pub fn forget_device(&mut self, user: u8, dev: u8) {
        self.say(|| format!("forget u{user}/d{dev}"));
        self.asked += 1;
        let name = self.cast.devices[usize::from(dev)].clone();
        let owner = self.owner(user);
        let device = &mut self.ledger.desks[usize::from(user)].devices[usize::from(dev)];
        match self.states[owner].user(&self.cast.users[usize::from(user)]) {
            // Whether it is done is seen when the record is there.
            None => device.forgetting = device.registered,
            Some(here) => {
                let mut devices = here.inbox.devices.iter();
                if devices.any(|device| device.name == name && !device.registering) {
                    self.ledger.forgets(user, dev);
                }
            }
        }
        let command = Command::ForgetDevice {
            user: self.cast.users[usize::from(user)].clone(),
            device: name,
            reply: oneshot::channel().0,
        };
        self.apply(Event::Forget, user, command);
    }

    pub fn kick(&mut self, session: u32) {
        self.say(|| format!("kick {session}"));
        self.asked += 1;
        let user = self.ledger.session(session).user;
        let command = Command::Kick {
            user: self.cast.users[usize::from(user)].clone(),
            session: SessionId(u128::from(session)),
            reply: oneshot::channel().0,
        };
        self.apply(Event::Kick, user, command);
    }

    pub fn purge(&mut self, user: u8, only: Option<u64>) {
        self.say(|| format!("purge u{user} {only:?}"));
        self.asked += 1;
        let (tail, here) = (self.ledger.tail(user), self.is_here(user));
        let desk = &mut self.ledger.desks[usize::from(user)];
        match only {
            Some(seq) => desk.purged_one.push(seq),
            // Sends that wait for the record as well come first.
            None => desk.purged_upto = if here { tail } else { u64::MAX },
        }
        let name = self.cast.users[usize::from(user)].clone();
        let command = Command::Purge { user: name, only: only.map(Seq), reply: oneshot::channel().0 };
        self.apply(Event::Purge, user, command);
    }

    pub fn due(&mut self, user: u8) {
        self.say(|| format!("due u{user}"));
        let command = Command::Due { user: self.cast.users[usize::from(user)].clone(), at_ms: self.now.wall_ms };
        self.apply(Event::Due, user, command);
    }

    /// The disk fills up or empties; the commit thread will say so.
    pub fn fill_disk(&mut self, low: bool) {
        if !self.disk.poisoned {
            self.storage = if low { StoreState::Low } else { StoreState::Ok };
            let state = self.storage;
            self.report_to_all(|| Command::Storage(state));
        }
    }

    pub fn pause_expiry(&mut self, paused: bool) {
        self.say(|| format!("expiry paused: {paused}"));
        for shard in 0..self.states.len() {
            self.pause(shard, paused);
            self.apply_to(shard, Event::Pause, None, Command::PauseExpiry(paused));
        }
    }

    /// Nobody is told; the next command shows it.
    pub fn clock_step(&mut self, ms: i64) {
        self.say(|| format!("the wall clock jumps by {ms} ms"));
        self.meetings.note(Event::ClockStep, self.under_way_anywhere());
        self.step_wall(ms);
    }

    pub fn tick(&mut self) {
        self.say(|| "tick".into());
        (0..self.states.len()).for_each(|shard| self.apply_to(shard, Event::Tick, None, Command::Tick));
    }

    /// Power is cut. Of what waited, the writer may have got some to disk without a word.
    pub fn crash(&mut self, unreported: usize) {
        self.say(|| format!("crash, {unreported} of {} writes got through", self.disk.queue.len()));
        if (1..self.disk.queue.len()).contains(&unreported) && !self.disk.poisoned {
            self.meetings.need(Needed::TornTail);
        }
        let mut done = Default::default();
        if !self.disk.poisoned {
            self.disk.commit(unreported, false, false, self.now.us, &mut done);
        }
        self.ledger.committed(&done, &self.disk);
        let letters_on_their_way = self.disk.queue.iter().filter(|write| matches!(write.what, What::Requeue { .. }));
        letters_on_their_way.for_each(|_| self.meetings.need(Needed::CrashBeforeRequeued));
        self.meetings.note(Event::Crash, self.under_way_anywhere());
        self.restart(false);
    }

    /// SIGTERM: everything is answered and written, then the process ends with its clean mark.
    pub fn stop(&mut self) {
        self.say(|| "stop".into());
        self.drain();
        let closing = Closing { code: CloseCode::Restarting, reason: "the router is restarting", retry_after_ms: None };
        for shard in 0..self.states.len() {
            let closing = closing.clone();
            self.apply_to(shard, Event::Drain, None, Command::CloseAll { closing, spread_ms: 10 });
        }
        let left = self.ledger.sessions.iter().position(|sess| sess.phase == Phase::Live);
        assert!(left.is_none(), "session {left:?} hears no goodbye");
        self.drain();
        assert!(self.ledger.open.is_empty(), "every send is answered before the end: {:?}", self.ledger.open);
        assert!(self.requeues.is_empty(), "whoever puts a letter back is answered before the end");
        self.restart(true);
    }

    fn drain(&mut self) {
        let all = self.drained + self.states.len() as u32;
        for shard in 0..self.states.len() {
            self.apply_to(shard, Event::Drain, None, Command::Drain { reply: oneshot::channel().0 });
        }
        for _ in 0..200 {
            if self.drained == all && self.disk.queue.is_empty() {
                return;
            }
            self.deliver_all();
            self.advance(6_000);
            self.tick();
        }
        panic!("the drain never ends");
    }

    /// Everything that is under way comes to its end.
    pub fn deliver_all(&mut self) {
        for _ in 0..1_000 {
            if !self.disk.queue.is_empty() {
                self.commit(self.disk.queue.len(), false, false);
            } else if !self.reports.is_empty() {
                self.hear();
            } else if !self.reads.is_empty() {
                self.report(0, false);
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }
}
