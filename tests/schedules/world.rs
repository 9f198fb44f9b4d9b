//! Owners in a world of models: carries their effects out, brings them reports, keeps the time.
//!
//! Everything is deterministic. What may happen is a method here; when it happens is up to the schedule.

use std::collections::VecDeque;

use doorstep::clock::Now;
use doorstep::codes::CloseCode;
use doorstep::ids::Seq;
use doorstep::routing::command::Command;
use doorstep::routing::core::Settings;
use doorstep::routing::effect::Effect;
use doorstep::routing::send_key::SendKeys;
use doorstep::routing::session_handle::Outcome;
use doorstep::routing::state::State;
use doorstep::routing::{User, invariants};
use doorstep::store::{StoreState, What, Write};

use super::cast::{Cast, DEVICES, SHARDS, USERS, addressee, device_no, user_no, who};
use super::disk::Disk;
use super::ledger::{Ledger, Phase};
use super::meetings::{Event, Meetings, Needed};
use super::reports::{Ask, Read};
use super::requeueing::Asked;
use super::trace;
use super::watching::Watching;

/// Both clocks start here, in microseconds.
pub const START_US: u64 = 1_000_000_000_000_000;
/// A wall clock that moves more than this against the monotonic one has stepped.
const CLOCK_STEP_MS: u64 = 60_000;
/// A device is being registered, as a bit of what is under way.
const ENROLS: u32 = 1 << 9;
/// How far ahead the ceiling is raised.
pub const CEILING_AHEAD_US: u64 = 20_000_000;

pub struct World<'a> {
    pub cast: &'a Cast,
    pub settings: Settings,
    /// Who plays in this schedule.
    pub users: u8,
    pub states: Vec<State>,
    effects: Vec<Effect>,
    pub disk: Disk,
    pub ledger: Ledger,
    pub watching: Watching,
    pub now: Now,
    pub wall_offset_ms: i64,
    pub reads: Vec<Read>,
    /// What the commit thread has said and an owner has not heard yet, in order.
    pub reports: VecDeque<(usize, Command)>,
    pub storage: StoreState,
    pub expiry: [Expiry; SHARDS],
    pub started_us: u64,
    pub ceiling_withheld: bool,
    pub changes: [u32; USERS],
    pub appends: [u32; USERS],
    pub evicted: [bool; USERS],
    /// Whose record is in memory, and what goes on there, as bits of the table of meetings.
    pub here: [bool; USERS],
    pub going_on: [u32; USERS],
    pub drained: u32,
    /// Operators' questions: asked and answered in this run.
    pub asked: u32,
    pub replied: u32,
    pub requeues: Vec<Asked>,
    pub meetings: &'a mut Meetings,
    pub trace: bool,
    pub keys: SendKeys,
    /// The user whom the present command is about.
    about: Option<u8>,
}

/// What an owner thinks of the clock.
#[derive(Clone, Copy, Default)]
pub struct Expiry {
    pub paused: bool,
    /// By how much the wall clock is ahead when nobody has touched it.
    pub usual_lead_ms: i64,
}

impl<'a> World<'a> {
    /// A world of two users with one owner.
    pub fn new(cast: &'a Cast, settings: Settings, seed: u64, trace: bool, meetings: &'a mut Meetings) -> Self {
        let now = Now { us: START_US, wall_ms: START_US / 1000 };
        let mut disk = Disk::new(settings.dedupe_window_us);
        disk.ceiling = START_US + CEILING_AHEAD_US;
        let forgetful = settings.dedupe_max < 100;
        let ledger = Ledger::new(&settings, forgetful);
        let mut world = Self {
            users: 2,
            states: Vec::new(),
            watching: Watching::new(settings.linger_us),
            cast,
            settings,
            effects: Vec::new(),
            disk,
            ledger,
            now,
            wall_offset_ms: 0,
            reads: Vec::new(),
            reports: VecDeque::new(),
            storage: StoreState::Ok,
            expiry: Default::default(),
            started_us: START_US,
            ceiling_withheld: false,
            changes: [0; USERS],
            appends: [0; USERS],
            evicted: [false; USERS],
            here: [false; USERS],
            going_on: [0; USERS],
            drained: 0,
            asked: 0,
            replied: 0,
            requeues: Vec::new(),
            meetings,
            trace,
            keys: SendKeys::new(seed),
            about: None,
        };
        world.begin(1, START_US, false);
        world
    }

    pub fn owner(&self, user: u8) -> usize {
        usize::from(self.ledger.desks[usize::from(user)].owner)
    }

    pub fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            println!("{:>10} {}", self.now.us - START_US, what());
        }
    }

    pub fn advance(&mut self, us: u64) {
        self.now.us += us;
        self.now.wall_ms = (self.now.us / 1000).saturating_add_signed(self.wall_offset_ms);
    }

    pub fn step_wall(&mut self, ms: i64) {
        self.wall_offset_ms += ms;
        self.advance(0);
    }

    /// One command about a user, for the owner.
    pub fn apply(&mut self, event: Event, user: u8, command: Command) {
        self.apply_to(self.owner(user), event, Some(user), command);
    }

    /// Applies one command, carries out what comes of it, and checks everything there is to check.
    pub fn apply_to(&mut self, shard: usize, event: Event, user: Option<u8>, command: Command) {
        let under_way = match user {
            Some(user) => self.under_way(user),
            None => self.under_way_anywhere(),
        };
        self.meetings.note(event, under_way);
        self.meetings.commands += 1;
        self.take_time(shard);
        self.ledger.quota_is_known =
            event != Event::Loaded && user.is_some_and(|user| under_way & ENROLS == 0 && self.is_here(user));
        if let (Event::Due | Event::Loaded, Some(user), true) = (event, user, self.expiry_runs(shard)) {
            let devices = self.devices_in_order(user);
            self.ledger.may_forget(user, &devices, self.now.wall_ms);
        }
        self.decide(shard, user, command);
        // The others' timers are due as well.
        for other in 0..self.states.len() {
            if other != shard && self.states[other].next_tick_us().is_some_and(|due_us| due_us <= self.now.us) {
                self.take_time(other);
                self.decide(other, None, Command::Tick);
            }
        }
        for user in 0..self.users {
            self.look_at(user);
        }
        self.raise_ceiling();
        self.check_bounds();
        self.ledger.check_answers(self.now.us);
        self.check_requeues();
    }

    /// What an owner sees of the time and of the disk before it decides anything.
    fn take_time(&mut self, shard: usize) {
        self.states[shard].observe_total_bytes(self.disk.total_bytes);
        self.note_clock_step(shard);
        let (paused, runs, wall_ms) = (self.expiry[shard].paused, self.expiry_runs(shard), self.now.wall_ms);
        for desk in self.ledger.owned(shard) {
            desk.expiry_paused = paused;
            desk.expired_upto_ms = if runs { desk.expired_upto_ms.max(wall_ms) } else { desk.expired_upto_ms };
        }
    }

    fn decide(&mut self, shard: usize, about: Option<u8>, command: Command) {
        self.about = about;
        let mut effects = std::mem::take(&mut self.effects);
        self.states[shard].apply(command, self.now, &mut effects);
        for effect in effects.drain(..) {
            self.carry_out(effect);
        }
        self.effects = effects;
    }

    fn check_bounds(&self) {
        for state in &self.states {
            let (waits, settings) = (state.core().unsettled, &self.settings);
            let within = waits.appends <= settings.pending_appends && waits.bytes <= settings.pending_append_bytes;
            assert!(within, "more is on its way to disk than may be: {waits:?}");
            if let Err(broken) = invariants::check(state) {
                panic!("{broken}");
            }
        }
    }

    /// When the first of the owners wants to be called.
    pub fn next_tick_us(&self) -> Option<u64> {
        self.states.iter().filter_map(State::next_tick_us).min()
    }

    /// In the order in which the owner goes through them.
    fn devices_in_order(&self, user: u8) -> Vec<u8> {
        match self.states[self.owner(user)].user(&self.cast.users[usize::from(user)]) {
            Some(here) => here.inbox.devices.iter().map(|device| device_no(&device.name)).collect(),
            None => (0..DEVICES as u8).collect(),
        }
    }

    pub fn is_here(&self, user: u8) -> bool {
        self.here[usize::from(user)]
    }

    /// What the last command has made of a user.
    fn look_at(&mut self, user: u8) {
        let at = usize::from(user);
        let was_here = std::mem::take(&mut self.here[at]);
        self.going_on[at] = 0;
        // Not by name: hashing it for every command would be a tenth of the time.
        let Some(here) = self.states[self.owner(user)].users().find(|here| user_no(&here.name) == user) else {
            if was_here {
                self.evicted[at] = true;
                self.meetings.note(Event::Evict, self.under_way(user));
            }
            return;
        };
        self.here[at] = true;
        // A purge that waited for the record took everything that was there by then.
        let tail = self.ledger.tail(user);
        self.ledger.desks[at].purged_upto = self.ledger.desks[at].purged_upto.min(tail);
        self.going_on[at] = going_on(here);
        let unseen = note_devices(&mut self.ledger, user, here, self.disk.poisoned);
        (0..unseen).for_each(|_| self.meetings.need(Needed::DeviceUnseen));
        self.ledger.check_not_held_for_long(user, here, self.now.us.saturating_sub(self.settings.commit_delay_max_us));
        let info = here.presence.info(&self.cast.users[at]);
        self.end_detached(user);
        self.watching.check(user, &info, &self.ledger, self.now);
    }

    pub fn expiry_runs(&self, shard: usize) -> bool {
        !self.expiry[shard].paused && self.now.us >= self.started_us + self.settings.expiry_grace_us
    }

    /// A wall clock that has jumped is not believed until an operator says that it is right.
    fn note_clock_step(&mut self, shard: usize) {
        if self.wall_offset_ms.abs_diff(self.expiry[shard].usual_lead_ms) > CLOCK_STEP_MS {
            self.pause(shard, true);
        }
    }

    pub fn pause(&mut self, shard: usize, paused: bool) {
        self.expiry[shard] = Expiry { paused, usual_lead_ms: self.wall_offset_ms };
    }

    /// Connections that were gone before their session was let in.
    fn end_detached(&mut self, user: u8) {
        let gone = |ledger: &Ledger, dev| ledger.live(user, dev).filter(|s| ledger.sessions[*s as usize].detached);
        // Of several it is not known which was the last.
        let mut sessions = (0..DEVICES as u8).filter_map(|dev| gone(&self.ledger, dev));
        let at_once = sessions.all(|session| self.ledger.sessions[session as usize].clean);
        for dev in 0..DEVICES as u8 {
            if let Some(session) = gone(&self.ledger, dev) {
                self.end_session(session, at_once);
            }
        }
    }

    pub fn end_session(&mut self, session: u32, at_once: bool) {
        let user = self.ledger.session(session).user;
        let was_live = self.ledger.session(session).phase == Phase::Live;
        self.ledger.end(session, self.now.wall_ms);
        let devices = &self.ledger.desks[usize::from(user)].devices;
        if was_live && devices.iter().all(|dev| dev.session.is_none()) {
            self.watching.left(user, self.now.us, at_once);
        }
    }

    /// The commit thread raises the ceiling when half of it is used.
    fn raise_ceiling(&mut self) {
        let half_used = self.disk.ceiling < self.now.us + CEILING_AHEAD_US / 2;
        if half_used && !self.ceiling_withheld && !self.disk.poisoned {
            self.disk.ceiling = self.now.us + CEILING_AHEAD_US;
            let ceiling = Seq(self.disk.ceiling);
            self.report_to_all(|| Command::Ceiling(ceiling));
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        if self.trace {
            self.say(|| format!("    -> {}", trace::describe(&effect)));
        }
        match effect {
            Effect::Welcome(session, welcome) => {
                let session = who(&session).unwrap_err();
                self.ledger.welcome(session, &welcome, &self.disk, self.now.wall_ms);
                let there = self.ledger.there(user_no(&welcome.user));
                assert!(there <= self.settings.connections_per_user, "session {session} is one too many");
            }
            Effect::Deliver(session, delivery) => {
                let session = who(&session).unwrap_err();
                let user = self.ledger.session(session).user;
                self.ledger.meet(user, &delivery.message, self.now.us, &self.disk);
                self.ledger.deliver(session, &delivery, &self.disk);
            }
            Effect::CaughtUp(session, seq) => {
                self.ledger.caught_up(who(&session).unwrap_err(), seq.0, &self.disk);
            }
            Effect::Presence(session, info) => {
                if let Ok(watcher) = who(&session) {
                    self.watching.tell(Some(watcher), &info, self.ledger.run);
                }
            }
            Effect::Paint { info, online } => {
                assert_eq!(online, info.state != doorstep::presence::PresenceState::Offline);
                self.watching.tell(None, &info, self.ledger.run);
            }
            Effect::Close(session, closing) => {
                let session = match who(&session) {
                    Err(session) => session,
                    // A watch that was turned away.
                    Ok(watcher) => {
                        return self.about.into_iter().for_each(|u| self.watching.subscribe(watcher, u, false));
                    }
                };
                let lapsed = closing.code == CloseCode::Internal && closing.reason.starts_with("too far behind");
                self.end_session(session, !lapsed);
            }
            Effect::Answer(sender, answer) => {
                let no = addressee(&sender, &answer);
                if let Outcome::Rejected { code, .. } = answer.outcome
                    && let Some(refusal) = Needed::refusal(code)
                {
                    self.meetings.need(refusal);
                }
                self.ledger.answer(no, &answer, &self.disk);
            }
            Effect::Load(user) => self.load(user_no(&user)),
            Effect::ReadPage(ask) => self.reads.push(Read { ask: Ask::Page(ask), seen: None }),
            Effect::ReadSweep { user, job, after, upto } => {
                let user = user_no(&user);
                self.reads.push(Read { ask: Ask::Sweep { user, job, after, upto }, seen: None });
            }
            Effect::ReadLetter { user, letter } => {
                self.reads.push(Read { ask: Ask::Letter { user: user_no(&user), letter }, seen: None });
            }
            Effect::LookUp(key) => self.reads.push(Read { ask: Ask::LookUp(key), seen: None }),
            Effect::Write(write) => self.write(write),
            Effect::Cancel(ticket) => ticket.cancel(),
            Effect::Outstanding { from, waits } => {
                self.ledger.outstanding[usize::from(user_no(&from))] += if waits { 1 } else { -1 };
            }
            Effect::ReplyDone(..) | Effect::ReplyCount(..) => self.replied += 1,
            Effect::ReplyRequeued(reply, outcome) => self.answer_requeue(reply, outcome),
            Effect::Tell(_) => panic!("something is told, and nobody listens"),
            Effect::Drained(_) => self.drained += 1,
            Effect::Error(..) | Effect::DeliverEphemeral(..) => {}
        }
    }

    pub fn under_way_anywhere(&self) -> u32 {
        (0..self.users).fold(0, |bits, user| bits | self.under_way(user))
    }

    /// What is going on for a user, in the order of the table of meetings.
    pub fn under_way(&self, user: u8) -> u32 {
        let mut bits = [false; super::meetings::UNDER_WAY.len()];
        for read in self.reads.iter().filter(|read| read.ask.user() == user) {
            match &read.ask {
                Ask::Load(_) => bits[0] = true,
                Ask::Page(_) => bits[1] = true,
                Ask::Sweep { .. } => bits[2] = true,
                Ask::LookUp(_) => bits[3] = true,
                Ask::Letter { .. } => bits[13] = true,
            }
        }
        bits[5] = self.appends[usize::from(user)] > 0;
        bits[6] = self.changes[usize::from(user)] > 0;
        for session in self.ledger.desks[usize::from(user)].devices.iter().filter_map(|dev| dev.session) {
            for (seq, _) in &self.ledger.sessions[session as usize].in_flight {
                bits[7] = true;
                bits[8] |= self.ledger.find(user, *seq).is_some_and(|msg| msg.expires_ms <= self.now.wall_ms);
            }
        }
        bits[12] = self.disk.poisoned;
        bits[13] |= self.disk.queue.iter().any(|write| user_no(&write.user) == user && is_requeue(write));
        let bits = bits.into_iter().rev().fold(0, |sum, bit| sum << 1 | u32::from(bit));
        bits | self.going_on[usize::from(user)]
    }
}

fn is_requeue(write: &Write) -> bool {
    matches!(write.what, What::Requeue { .. })
}

/// What can only be seen in the owner's own books: held appends, devices that come and go, linger.
fn going_on(here: &User) -> u32 {
    let held = here.inbox.pending.iter().any(|entry| entry.submitted.is_none() && !entry.done);
    let enrols = here.inbox.devices.iter().any(|device| device.registering);
    let forgets = here.inbox.devices.iter().any(|device| device.leaving);
    let lingers = here.presence.linger_until_us.is_some();
    let enrols = if enrols { ENROLS } else { 0 };
    u32::from(held) << 4 | enrols | u32::from(forgets) << 10 | u32::from(lingers) << 11
}

/// Devices that the clock forgets leave without a word; they must have been unseen for long. One that
/// an operator wanted to be forgotten stays when nobody could do it. What lapsed is seen here first: it
/// is written down with the next change.
/// Returns how many the clock forgets.
fn note_devices(ledger: &mut Ledger, user: u8, here: &User, poisoned: bool) -> usize {
    let mut unseen = 0;
    for dev in 0..DEVICES as u8 {
        let device = here.inbox.devices.iter().find(|device| device_no(&device.name) == dev);
        let known = &mut ledger.desks[usize::from(user)].devices[usize::from(dev)];
        let leaves = device.is_none_or(|device| device.leaving);
        unseen += usize::from(std::mem::take(&mut known.unseen) && leaves);
        if let Some(device) = device.filter(|device| device.gap) {
            known.gap_upto = known.gap_upto.max(device.cursor.0);
        }
        if leaves && known.registered && !known.forgetting && !(poisoned && device.is_none()) {
            ledger.check_long_unseen(user, dev);
            ledger.forgets(user, dev);
        } else if known.forgetting && device.is_some_and(|device| !device.leaving && !device.registering) {
            known.forgetting = false;
        }
    }
    unseen
}
