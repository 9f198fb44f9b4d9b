//! One owner's real state in a world of models: carries its effects out, brings it reports, keeps the time.
//!
//! Everything is deterministic. What may happen is an [`Act`]; a world is where a list of them leads.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use doorstep::clock::Now;
use doorstep::ids::{Seq, SessionId};
use doorstep::message::Message;
use doorstep::presence::PresenceState;
use doorstep::routing::command::{Attach, Command, Report, Send};
use doorstep::routing::core::{Core, Settings};
use doorstep::routing::effect::Effect;
use doorstep::routing::invariants;
use doorstep::routing::send_key::SendKeys;
use doorstep::routing::session_handle::Outcome;
use doorstep::routing::state::State;
use doorstep::store::{Boot, CommitReport, DeviceRecord, StoreState, What, Written};

use super::books::{Books, Kept, Phase, Promise, Sent};
use super::cast::{Cast, DEVICES, SENDERS, letter, session_id, who};
use super::disk::Disk;
use super::mistakes::Mistake;
use super::reads::{Ask, Read};
use super::scope::Scope;
use super::sights::Sight;

/// Both clocks start here, in microseconds. The wall clock then stands still: nothing expires.
const START_US: u64 = 1_000_000_000_000;
/// Seqs begin so far ahead of the clock that the time never shows in them.
const FLOOR: u64 = 2 * START_US;
/// Nothing expires.
const FOR_EVER_MS: u64 = 1_000_000_000_000;
const KEYS: SendKeys = SendKeys::new(1);

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Act {
    /// A sender sends its next message.
    Send(u8),
    /// A sender repeats, marked, the first message that the crash left without an answer.
    Repeat(u8),
    /// A device comes with a new session.
    Hello(u8),
    /// The newest session of a device is gone.
    Drop(u8),
    /// The owner hears that the connection of a session that it has closed is gone.
    Late(u8),
    /// A device acknowledges all that it was pushed.
    Ack(u8),
    /// All that waits for the writer is synced as one batch.
    Commit,
    /// The sync fails; the batch is on disk all the same, or not.
    Fail { anyway: bool },
    /// The commit thread raises the ceiling.
    Raise,
    /// The owner hears the next thing that the commit thread has said.
    Hear,
    /// A read looks at the disk.
    Look(u8),
    /// The owner hears what a read saw.
    Answer(u8),
    /// Time passes until the next timer.
    Tick,
    /// The process is killed, and another begins. Of what waited for the writer so much got through.
    Crash { kept: u8 },
}

/// What has happened how often; the scope says how often it may.
#[derive(Default, Hash, Clone)]
struct Count {
    sends: [u8; SENDERS],
    hellos: [u8; DEVICES],
    repeats: u8,
    ticks: u8,
    fails: u8,
    raises: u8,
    crashes: u8,
}

pub struct World<'a> {
    cast: &'a Cast,
    pub scope: &'a Scope,
    mistake: Option<Mistake>,
    pub state: State,
    pub disk: Disk,
    pub books: Books,
    now: Now,
    pub reads: Vec<Read>,
    pub reports: VecDeque<Command>,
    count: Count,
    /// What was to be seen in the last act, as bits.
    pub seen: u32,
}

impl<'a> World<'a> {
    pub fn new(cast: &'a Cast, scope: &'a Scope, mistake: Option<Mistake>) -> Self {
        let now = Now { us: START_US, wall_ms: START_US / 1000 };
        let mut disk = Disk { ceiling: FLOOR + scope.ahead_us, ..Disk::default() };
        let mut books = Books::new(scope.refuses);
        for (dev, name) in cast.devices.iter().enumerate().take(scope.registered) {
            disk.devices.push((name.clone(), DeviceRecord::default()));
            books.devs[dev].start = Some(0);
        }
        let state = fresh(cast, &scope.settings, FLOOR, &disk, now);
        let (reads, reports, count) = Default::default();
        Self { cast, scope, mistake, state, disk, books, now, reads, reports, count, seen: 0 }
    }

    pub fn saw(&mut self, sight: Sight) {
        self.seen |= 1 << sight as u32;
    }

    /// All that may happen now, in the same order every time.
    pub fn acts(&self) -> Vec<Act> {
        let (scope, count) = (self.scope, &self.count);
        let mut acts = Vec::new();
        // Senders with as many messages each are as good as each other: the one who begins is called the first.
        let equal = scope.sends[0] == scope.sends[1] && count.sends == [0, 0];
        for n in 0..SENDERS {
            let sends = count.sends[n] < scope.sends[n] && !(equal && n > 0);
            acts.extend(sends.then_some(Act::Send(n as u8)));
            let open = count.repeats < scope.repeats && self.books.sent[n].contains(&Sent::Unanswered);
            acts.extend(open.then_some(Act::Repeat(n as u8)));
        }
        for n in 0..DEVICES {
            let dev = &self.books.devs[n];
            let comes = count.hellos[n] < scope.hellos[n] && count.hellos.iter().sum::<u8>() < scope.hellos_together;
            acts.extend(comes.then_some(Act::Hello(n as u8)));
            acts.extend(dev.newest().filter(|_| scope.drops).map(|_| Act::Drop(n as u8)));
            acts.extend(dev.sessions.iter().any(|sess| sess.phase == Phase::Closed).then_some(Act::Late(n as u8)));
            acts.extend(dev.sessions.iter().any(|sess| sess.owes_ack()).then_some(Act::Ack(n as u8)));
        }
        if !self.disk.queue.is_empty() {
            acts.push(Act::Commit);
            if count.fails < scope.fails && !self.disk.poisoned {
                acts.extend([Act::Fail { anyway: false }, Act::Fail { anyway: true }]);
            }
        }
        acts.extend((count.raises < scope.raises && !self.disk.poisoned).then_some(Act::Raise));
        acts.extend((!self.reports.is_empty()).then_some(Act::Hear));
        let reads = self.reads.iter().enumerate();
        acts.extend(reads.map(|(n, read)| if read.looks_late() { Act::Look(n as u8) } else { Act::Answer(n as u8) }));
        acts.extend((count.ticks < scope.ticks && self.timer_is_near()).then_some(Act::Tick));
        if count.crashes < scope.crashes {
            let may_get_through = if self.disk.poisoned { 0 } else { self.disk.queue.len() };
            acts.extend((0..=may_get_through).map(|kept| Act::Crash { kept: kept as u8 }));
        }
        acts
    }

    fn timer_is_near(&self) -> bool {
        self.state.next_tick_us().is_some_and(|next_us| next_us <= self.now.us + self.scope.patience_us)
    }

    pub fn step(&mut self, act: Act) -> Kept {
        self.seen = 0;
        match act {
            Act::Send(sender) => {
                let no = self.count.sends[usize::from(sender)];
                self.count.sends[usize::from(sender)] += 1;
                self.send((sender, no), false)
            }
            Act::Repeat(sender) => {
                self.count.repeats += 1;
                let sent = &self.books.sent[usize::from(sender)];
                let no = sent.iter().position(|sent| *sent == Sent::Unanswered).unwrap_or_default();
                self.send((sender, no as u8), true)
            }
            Act::Hello(dev) => self.hello(usize::from(dev)),
            Act::Drop(dev) => self.drop_newest(usize::from(dev)),
            Act::Late(dev) => self.late(usize::from(dev)),
            Act::Ack(dev) => self.ack(usize::from(dev)),
            Act::Commit => self.commit(self.disk.queue.len(), false, false),
            Act::Fail { anyway } => {
                self.count.fails += 1;
                self.commit(self.disk.queue.len(), true, anyway)
            }
            Act::Raise => {
                self.count.raises += 1;
                self.disk.ceiling += self.scope.ahead_us;
                self.reports.push_back(Command::Ceiling(Seq(self.disk.ceiling)));
                Ok(())
            }
            Act::Hear => self.hear(),
            Act::Look(read) => {
                self.look(usize::from(read));
                Ok(())
            }
            Act::Answer(read) => self.answer(usize::from(read)),
            Act::Tick => {
                self.count.ticks += 1;
                self.tick()
            }
            Act::Crash { kept } => {
                self.count.crashes += 1;
                self.crash(usize::from(kept))
            }
        }
    }

    /// What must hold in every state, as the core itself names it.
    pub fn check(&self) -> Kept {
        invariants::check(&self.state).map_err(|found| (Promise::Invariants, found))?;
        self.disk.misused.clone().map_or(Ok(()), |found| Err((Promise::Store, found)))
    }

    /// Pours all that decides the future of this world.
    pub fn pour(&self, h: &mut impl Hasher) {
        let left = u64::from(self.scope.ticks - self.count.ticks);
        self.state.pour(self.now.us + left * self.scope.patience_us + 1, h).unwrap();
        self.disk.pour(&self.state, h);
        self.books.hash(h);
        (&self.count, self.reads.len(), self.reports.len()).hash(h);
        self.reads.iter().for_each(|read| read.pour(h));
        self.reports.iter().for_each(|report| self.pour_report(report, h));
    }

    fn pour_report(&self, report: &Command, h: &mut impl Hasher) {
        std::mem::discriminant(report).hash(h);
        if let Command::Ceiling(ceiling) = report {
            ceiling.hash(h);
        }
        // The only storage state that is ever told is that it is poisoned.
        let Some(CommitReport { written, error }) = committed(report) else { return };
        (error.is_some(), written.len()).hash(h);
        for written in written {
            match written {
                Written::Append { user: _, seq, stored } => (seq, stored).hash(h),
                Written::Change { user: _, token } => self.state.token_age(*token).hash(h),
            }
        }
    }

    /// Applies one command and carries out what comes of it.
    fn apply(&mut self, command: Command) -> Kept {
        let mut effects = Vec::new();
        self.state.apply(command, self.now, &mut effects);
        effects.into_iter().try_for_each(|effect| self.carry_out(effect))?;
        self.reads.sort_by_key(Read::key);
        self.books.check_safe(&self.disk)
    }

    fn carry_out(&mut self, effect: Effect) -> Kept {
        match effect {
            Effect::Welcome(session, _) => {
                let (dev, no) = who(session.id());
                self.books.welcome(dev, no, &self.disk)
            }
            Effect::Deliver(session, delivery) => {
                let (dev, no) = who(session.id());
                self.books.meet(&delivery.message)?;
                if delivery.redelivered {
                    self.saw(Sight::Redelivered);
                }
                self.books.deliver(dev, no, delivery.message.seq.0, delivery.redelivered)
            }
            Effect::CaughtUp(session, seq) => {
                let (dev, no) = who(session.id());
                self.books.caught_up(dev, no, seq.0)
            }
            Effect::Close(session, _) => {
                let (dev, no) = who(session.id());
                let early = self.books.devs[dev].sessions[no].phase == Phase::LeftEarly;
                self.books.end(dev, no, if early { Phase::Over } else { Phase::Closed });
                Ok(())
            }
            Effect::Answer(_, answer) => {
                self.note_answer(&answer.outcome);
                self.books.answer(letter(&answer.message.id), &answer.outcome, &self.disk)
            }
            Effect::Load(_) => self.ask(Ask::Load),
            Effect::ReadPage(ask) => self.ask(Ask::Page(ask)),
            Effect::LookUp(key) => self.ask(Ask::LookUp(key)),
            Effect::Write(write) => {
                if let What::Append { message, .. } = &write.what {
                    self.books.meet(message)?;
                }
                self.disk.queue.push_back(write);
                Ok(())
            }
            Effect::Cancel(ticket) => {
                ticket.cancel();
                self.saw(Sight::CalledBack);
                Ok(())
            }
            Effect::Error(..) => Err((Promise::Answered, "a session is told of a mistake it did not make".into())),
            _ => Ok(()),
        }
    }

    fn note_answer(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Accepted { seq, stored } => {
                let written = self.books.msgs.iter().any(|msg| msg.seq == seq.0 && msg.stored);
                self.saw(match (stored, written) {
                    (true, _) => Sight::Stored,
                    (false, false) => Sight::HandedOver,
                    (false, true) => Sight::HandedOverAndWritten,
                });
            }
            Outcome::Rejected { .. } => self.saw(Sight::Refused),
        }
    }

    fn ask(&mut self, ask: Ask) -> Kept {
        self.reads.push(Read { ask, seen: None });
        Ok(())
    }

    fn send(&mut self, from: (u8, u8), retry: bool) -> Kept {
        let (sender, no) = (usize::from(from.0), usize::from(from.1));
        self.books.sent[sender][no] = Sent::Open;
        let message = Arc::new(Message {
            seq: Seq::ZERO,
            id: self.cast.ids[sender][no].clone(),
            from: self.cast.senders[sender].clone(),
            body: self.cast.body.clone(),
            ts_ms: self.now.wall_ms,
            expires_ms: self.now.wall_ms.saturating_add(FOR_EVER_MS),
            retry,
        });
        let (to, asker) = (self.cast.user.clone(), self.cast.asker.clone());
        self.apply(Command::Send(Send::new(KEYS, to, message, asker, self.now.us)))
    }

    pub fn hello(&mut self, dev: usize) -> Kept {
        self.count.hellos[dev] += 1;
        if self.books.devs[dev].newest().is_some() {
            let reading =
                self.reads.iter().any(|read| matches!(&read.ask, Ask::Page(page) if who(page.session).0 == dev));
            self.saw(if reading { Sight::TakeoverWithPage } else { Sight::Takeover });
        }
        let no = self.books.hello(dev);
        let attach = Attach {
            user: self.cast.user.clone(),
            device: self.cast.devices[dev].clone(),
            session: self.cast.sessions[dev][no].clone(),
            state: PresenceState::Invisible,
            text: None,
            window: self.scope.windows[dev],
            window_bytes: 1_000_000,
            peer: String::new(),
        };
        self.apply(attach.into())
    }

    fn drop_newest(&mut self, dev: usize) -> Kept {
        let Some(no) = self.books.devs[dev].newest() else { return Ok(()) };
        let early = self.books.devs[dev].sessions[no].phase == Phase::Asked;
        self.books.end(dev, no, if early { Phase::LeftEarly } else { Phase::Over });
        self.detach(dev, session_id(dev, no))
    }

    fn late(&mut self, dev: usize) -> Kept {
        let closed = self.books.devs[dev].sessions.iter().position(|sess| sess.phase == Phase::Closed);
        let Some(no) = closed else { return Ok(()) };
        self.books.end(dev, no, Phase::Over);
        let newest = self.books.devs[dev].newest().filter(|_| self.mistake == Some(Mistake::LateEndOfTheNewSession));
        self.detach(dev, session_id(dev, newest.unwrap_or(no)))
    }

    fn detach(&mut self, dev: usize, session: SessionId) -> Kept {
        let (user, device) = (self.cast.user.clone(), self.cast.devices[dev].clone());
        self.apply(Command::Detach { user, device, session, clean: true, code: None })
    }

    pub fn ack(&mut self, dev: usize) -> Kept {
        let owing = self.books.devs[dev].sessions.iter().position(|sess| sess.owes_ack());
        let Some(no) = owing else { return Ok(()) };
        let seq = Seq(self.books.ack(dev, no));
        let (user, device, session) = (self.cast.user.clone(), self.cast.devices[dev].clone(), session_id(dev, no));
        self.apply(Command::Ack { user, device, session, seq })
    }

    pub fn commit(&mut self, count: usize, fail: bool, anyway: bool) -> Kept {
        let report = self.disk.commit(count, fail, anyway, self.mistake);
        self.books.trouble |= fail;
        self.books.committed(&self.disk);
        if std::mem::take(&mut self.disk.passed_over) {
            self.saw(Sight::PassedOver);
        }
        self.reports.push_back(Report::Committed(report).into());
        if fail {
            self.reports.push_back(Command::Storage(StoreState::Poisoned));
        }
        self.books.check_safe(&self.disk)
    }

    pub fn hear(&mut self) -> Kept {
        self.reports.pop_front().map_or(Ok(()), |report| self.apply(report))
    }

    fn look(&mut self, read: usize) {
        let seen = match &self.reads[read].ask {
            Ask::Load => Report::Loaded { user: self.cast.user.clone(), result: Ok(self.disk.load()) },
            Ask::Page(ask) => Report::Page {
                user: ask.user.clone(),
                device: ask.device.clone(),
                session: ask.session,
                result: Ok(self.disk.page((ask.after, ask.upto), ask.max_messages, self.mistake)),
            },
            Ask::LookUp(key) => Report::Dedupe { key: key.clone(), result: Ok(self.disk.look_up(key)) },
        };
        self.reads[read].seen = Some(seen);
    }

    pub fn answer(&mut self, read: usize) -> Kept {
        if self.reads[read].seen.is_none() {
            self.look(read);
        }
        let Some(mut report) = self.reads.remove(read).seen else { return Ok(()) };
        if let Report::Page { session, .. } = &mut report {
            let (dev, no) = who(*session);
            if self.books.devs[dev].sessions[no].phase != Phase::Live {
                self.saw(Sight::StalePage);
                let newest = self.books.devs[dev].newest();
                if let (Some(newest), Some(Mistake::StalePageForTheNewSession)) = (newest, self.mistake) {
                    *session = session_id(dev, newest);
                }
            }
        }
        self.apply(report.into())
    }

    fn tick(&mut self) -> Kept {
        let Some(next_us) = self.state.next_tick_us() else { return Ok(()) };
        self.pass(next_us.saturating_sub(self.now.us))
    }

    pub fn pass(&mut self, us: u64) -> Kept {
        self.now.us += us;
        let (held, there) = (self.held(), self.state.users_loaded());
        self.apply(Command::Tick)?;
        if self.held() < held {
            self.saw(Sight::Spilled);
        }
        if self.state.users_loaded() < there {
            self.saw(Sight::Evicted);
        }
        Ok(())
    }

    fn held(&self) -> usize {
        let pending = self.state.users().flat_map(|user| &user.inbox.pending);
        pending.filter(|entry| entry.submitted.is_none() && !entry.done).count()
    }

    fn crash(&mut self, kept: usize) -> Kept {
        if self.reports.iter().any(|report| committed(report).is_some()) {
            self.saw(Sight::CrashBeforeReport);
        }
        if kept > 0 {
            self.disk.commit(kept, false, false, None);
            self.saw(Sight::CrashHalfWritten);
        }
        self.restart()
    }

    /// A new process opens what is on disk, and raises the ceiling before it lets anybody in.
    pub fn restart(&mut self) -> Kept {
        self.disk.crash();
        self.books.crash(&self.disk)?;
        let below = self.mistake == Some(Mistake::StartBelowTheCeiling);
        let floor = if below { FLOOR } else { Boot::floor_of(None, Seq(self.disk.ceiling)).0 };
        // The hybrid clock starts anew at the wall clock, which stands still.
        self.now.us = START_US;
        self.books.trouble = self.scope.refuses;
        if self.mistake == Some(Mistake::NothingMayHaveBeenPushed) {
            self.disk.unclean_upto = None;
        }
        self.disk.ceiling += self.scope.ahead_us;
        self.state = fresh(self.cast, &self.scope.settings, floor, &self.disk, self.now);
        self.reads.clear();
        self.reports.clear();
        Ok(())
    }
}

fn fresh(cast: &Cast, settings: &Settings, floor: u64, disk: &Disk, now: Now) -> State {
    let boot = Boot {
        floor: Seq(floor),
        ceiling: Seq(disk.ceiling),
        maybe_pushed_upto: disk.unclean_upto.map(Seq),
        clock_went_back: false,
        expiry_paused: false,
        records_read: 0,
    };
    State::new(Core::new(settings.clone(), &boot, now, cast.metrics.clone()))
}

fn committed(command: &Command) -> Option<&CommitReport> {
    let Command::Report(report) = command else { return None };
    if let Report::Committed(report) = &**report { Some(report) } else { None }
}
