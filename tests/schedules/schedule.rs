//! A random schedule: which of the things that may happen does happen next, and the rest at the end.

use doorstep::presence::PresenceState;
use fastrand::Rng;

use super::cast::{Cast, DEVICES, IDS, SHARDS, USERS, WATCHERS, sender_user, senders};
use super::happenings::Letter;
use super::ledger::Phase;
use super::meetings::Meetings;
use super::settings;
use super::world::World;

/// Commands of a schedule, at least, before everything is brought to rest; more follow then.
pub const COMMANDS: u64 = 100;
/// Steps in a row that may give the owner nothing to do, because there is nothing to be acknowledged, say;
/// then a message is sent.
const QUIET_STEPS: u32 = 6;
/// Jumps of the wall clock: a second more than what counts as one, up to a day.
const SHORTEST_CLOCK_STEP_MS: u64 = 61_000;
const LONGEST_CLOCK_STEP_MS: u64 = 86_400_000;
/// Devices that every user has at the start, at least.
const DEVICES_AT_FIRST: usize = 2;

#[derive(Clone, Copy)]
enum Step {
    Send,
    Retry,
    Attach,
    Detach,
    Vanish,
    Ack,
    BadAck,
    Commit,
    Hear,
    Look,
    Report,
    Time,
    Status,
    Watch,
    Ephemeral,
    Purge,
    Requeue,
    Due,
    Forget,
    Kick,
    Storage,
    Pause,
    Wall,
    Jump,
    Withhold,
    Corrupt,
    Poison,
    Crash,
    Stop,
}

/// How often each happens in a hundred or so; a schedule has its own mood on top of that.
const WEIGHTS: [(Step, u32); 29] = [
    (Step::Send, 200),
    (Step::Retry, 40),
    (Step::Attach, 90),
    (Step::Detach, 36),
    (Step::Vanish, 8),
    (Step::Ack, 160),
    (Step::BadAck, 10),
    (Step::Commit, 110),
    (Step::Hear, 110),
    (Step::Look, 50),
    (Step::Report, 110),
    (Step::Time, 90),
    (Step::Status, 10),
    (Step::Watch, 12),
    (Step::Ephemeral, 4),
    (Step::Purge, 12),
    (Step::Requeue, 30),
    (Step::Due, 14),
    (Step::Forget, 10),
    (Step::Kick, 5),
    (Step::Storage, 5),
    (Step::Pause, 4),
    (Step::Wall, 3),
    (Step::Jump, 4),
    (Step::Withhold, 3),
    (Step::Corrupt, 3),
    (Step::Poison, 6),
    (Step::Crash, 6),
    (Step::Stop, 3),
];

/// Runs the schedule of `seed`; panics when a promise is broken.
pub fn run(seed: u64, cast: &Cast, meetings: &mut Meetings, trace: bool) {
    let mut rng = Rng::with_seed(seed);
    let settings = settings::drawn(&mut rng);
    // Most often two, who have much to do with one another.
    let users = if rng.u8(..) < 192 { 2 } else { rng.u8(3..=USERS as u8) };
    let shards = if rng.bool() { 1 } else { rng.usize(2..=SHARDS) };
    if trace {
        println!("{settings:?}");
    }
    let mut world = World::new(cast, settings, seed, trace, meetings);
    world.populate(users, shards);
    let mut player = Player::new(world, rng);
    player.begin();
    let commands = player.play();
    player.rest();
    player.world.meetings.note_schedule(commands);
}

pub struct Player<'a> {
    pub world: World<'a>,
    pub rng: Rng,
    weights: [(Step, u32); WEIGHTS.len()],
    total: u32,
    next_id: usize,
}

impl<'a> Player<'a> {
    pub fn new(world: World<'a>, mut rng: Rng) -> Self {
        let weights = WEIGHTS.map(|(step, weight)| (step, weight * [0, 1, 1, 1, 2, 4][rng.usize(..6)]));
        let total = weights.iter().map(|(_, weight)| weight).sum::<u32>();
        Self { world, rng, weights, total, next_id: 0 }
    }

    /// Every user has devices when it begins; most often some of them are there and at ease. Sometimes
    /// messages have come before the first of them.
    fn begin(&mut self) {
        if self.rng.u8(..) < 60 {
            (0..self.rng.usize(1..6)).for_each(|_| self.send());
            // The line for a record that is being loaded may be full of them; devices are not to be turned away.
            self.world.deliver_all();
        }
        for user in 0..self.world.users {
            let first = self.rng.u8(..DEVICES as u8);
            let devices = (0..DEVICES_AT_FIRST as u8).map(|n| (first + n) % DEVICES as u8);
            devices.for_each(|dev| self.enrol(user, dev));
            let known = self.world.ledger.counting(user).count();
            assert!(known >= DEVICES_AT_FIRST, "u{user} begins with {known} devices");
        }
        for session in self.live() {
            if self.rng.u8(..) < 100 {
                let clean = self.rng.bool();
                self.world.detach(session, clean);
            }
        }
        for user in 0..self.world.users {
            if self.rng.u8(..) < 60 {
                let dev = self.rng.u8(..DEVICES as u8);
                self.attach_as(user, dev);
            }
        }
        if self.rng.u8(..) < 200 {
            self.world.deliver_all();
        }
    }

    /// Registers a device. Where not all may be there at once, the one before leaves.
    fn enrol(&mut self, user: u8, dev: u8) {
        let there = self.world.ledger.desks[usize::from(user)].devices.iter().filter_map(|dev| dev.session);
        let there: Vec<u32> = there.collect();
        if there.len() >= self.world.settings.connections_per_user {
            there.into_iter().for_each(|session| self.world.detach(session, true));
        }
        self.attach_as(user, dev);
        self.world.deliver_all();
    }

    /// Random steps until the owner had enough to do. Returns how many commands that were.
    fn play(&mut self) -> u64 {
        let from = self.world.meetings.commands;
        let (mut done, mut quiet) = (0, 0);
        while done < COMMANDS {
            if quiet < QUIET_STEPS {
                self.step()
            } else {
                self.send()
            }
            let before = std::mem::replace(&mut done, self.world.meetings.commands - from);
            quiet = if done > before { 0 } else { quiet + 1 };
        }
        done
    }

    fn step(&mut self) {
        self.world.advance(self.rng.u64(0..60));
        let mut at = self.rng.u32(..self.total.max(1));
        let chosen = self.weights.iter().find(|(_, weight)| {
            let found = at < *weight;
            at = at.wrapping_sub(*weight);
            found
        });
        match chosen.map_or(Step::Send, |(step, _)| *step) {
            Step::Send => self.send(),
            Step::Retry => self.retry(),
            Step::Attach => self.attach(),
            Step::Detach => self.with_session(|player, session| {
                let clean = player.rng.bool();
                player.world.detach(session, clean);
            }),
            Step::Vanish => self.vanish(),
            Step::Ack => self.ack(),
            Step::BadAck => self.bad_ack(),
            Step::Commit => self.commit(),
            Step::Hear => self.world.hear(),
            Step::Look => self.with_read(|world, at, fails| world.look(at, fails)),
            Step::Report => self.with_read(World::report),
            Step::Time => self.time(),
            Step::Status => self.status(),
            Step::Watch => self.watch(),
            Step::Ephemeral => {
                let to = self.user();
                self.world.ephemeral(to);
            }
            Step::Purge => self.purge(),
            Step::Requeue => self.requeue(),
            Step::Due => {
                let user = self.user();
                self.world.due(user);
            }
            Step::Forget => self.forget(),
            Step::Kick => self.with_session(|player, session| player.world.kick(session)),
            Step::Storage => {
                let low = self.rng.bool();
                self.world.fill_disk(low);
            }
            Step::Pause => {
                let paused = self.rng.bool();
                self.world.pause_expiry(paused);
            }
            Step::Wall => {
                let ms = self.rng.i64(-100..100);
                self.world.step_wall(ms);
            }
            Step::Jump => self.clock_step(),
            Step::Withhold => self.withhold(),
            Step::Corrupt => self.corrupt(),
            Step::Poison => {
                let (count, anyway) = (self.rng.usize(0..6), self.rng.bool());
                if count > 0 && !self.world.disk.queue.is_empty() && !self.world.disk.poisoned {
                    self.world.commit(count, true, anyway);
                }
            }
            Step::Crash => {
                let through = self.rng.usize(0..=self.world.disk.queue.len());
                self.world.crash(through);
            }
            Step::Stop if self.world.disk.poisoned => self.world.crash(0),
            Step::Stop => self.world.stop(),
        }
    }

    fn user(&mut self) -> u8 {
        // One user has most of the company.
        if self.rng.u8(..4) == 0 { self.rng.u8(1..self.world.users) } else { 0 }
    }

    fn send(&mut self) {
        let id = self.next_id();
        let letter = self.letter(id);
        self.world.send(letter);
    }

    fn next_id(&mut self) -> u8 {
        assert!(self.next_id < IDS, "there are ids enough for every command to be a send");
        self.next_id += 1;
        self.next_id as u8 - 1
    }

    fn letter(&mut self, id: u8) -> Letter {
        Letter {
            session: self.rng.u8(..senders(self.world.users)),
            to: self.user(),
            id,
            body: 0,
            retry: self.rng.u8(..) < 8,
            ttl_ms: self.ttl_ms(),
            age_us: if self.rng.u8(..) < 4 { 70_000 } else { self.rng.u64(..200) },
        }
    }

    /// Some do not live long, and some would not live through a step of the wall clock.
    fn ttl_ms(&mut self) -> u64 {
        match self.rng.u8(..) {
            0..60 => self.rng.u64(0..30),
            60..100 => self.rng.u64(0..LONGEST_CLOCK_STEP_MS),
            _ => 1_000_000_000,
        }
    }

    fn retry(&mut self) {
        let sent = self.world.ledger.sent.len();
        if sent == 0 {
            return self.send();
        }
        let recent = sent - 1 - self.rng.usize(..sent.min(6));
        let sent = &self.world.ledger.sent[recent];
        let (session, to, id, body) = (sent.session, sent.to, sent.id, sent.body);
        // From either session of the same user.
        let session = (sender_user(session) * 2 + self.rng.u8(..2)).min(senders(self.world.users) - 1);
        let body = if self.rng.u8(..) < 25 { 1 - body } else { body };
        let retry = self.rng.u8(..) < 200;
        self.world.send(Letter { session, to, id, body, retry, ttl_ms: 1_000_000_000, age_us: self.rng.u64(..200) });
    }

    fn attach(&mut self) {
        let (user, dev) = (self.user(), self.rng.u8(..DEVICES as u8));
        self.attach_as(user, dev);
    }

    fn attach_as(&mut self, user: u8, dev: u8) {
        let (window, window_bytes) = self.window();
        let state = self.presence();
        self.world.attach(user, dev, window, window_bytes, state);
    }

    fn window(&mut self) -> (u32, u64) {
        ([1, 2, 4, 16][self.rng.usize(..4)], [300, 1_000, 100_000][self.rng.usize(..3)])
    }

    fn presence(&mut self) -> PresenceState {
        use PresenceState::{Away, Busy, Invisible, Online};
        [Online, Online, Away, Busy, Invisible][self.rng.usize(..5)]
    }

    /// Some session, most often a live one.
    fn with_session(&mut self, act: impl FnOnce(&mut Self, u32)) {
        let live: Vec<u32> = self.live();
        let count = self.world.ledger.sessions.len() as u32;
        if !live.is_empty() && self.rng.u8(..) < 200 {
            let session = live[self.rng.usize(..live.len())];
            act(self, session);
        } else if count > 0 {
            let session = self.rng.u32(..count);
            act(self, session);
        }
    }

    pub fn live(&self) -> Vec<u32> {
        let devices = self.world.ledger.desks.iter().flat_map(|desk| &desk.devices);
        devices.filter_map(|dev| dev.session).collect()
    }

    fn ack(&mut self) {
        self.with_session(|player, session| {
            let sess = &player.world.ledger.sessions[session as usize];
            if sess.in_flight.is_empty() {
                return;
            }
            let upto =
                if player.rng.bool() { sess.in_flight.len() } else { player.rng.usize(1..=sess.in_flight.len()) };
            let seq = sess.in_flight[upto - 1].0;
            player.world.ack(session, seq);
        });
    }

    /// The connection of a session breaks.
    fn vanish(&mut self) {
        self.with_session(|player, session| {
            if player.world.ledger.sessions[session as usize].phase == Phase::Live {
                let id = player.next_id();
                let (came_through, letter) = (player.rng.usize(..5), player.letter(id));
                player.world.vanish(session, came_through, letter);
            }
        });
    }

    /// Stale acks, acks from the future, acks of sessions that are over, acks between two messages.
    fn bad_ack(&mut self) {
        self.with_session(|player, session| {
            let sess = &player.world.ledger.sessions[session as usize];
            if sess.phase == Phase::Asked {
                return;
            }
            let tail = player.world.ledger.tail(sess.user);
            let seq = match player.rng.u8(..4) {
                0 => sess.last.saturating_sub(1),
                1 => sess.last + 1 + player.rng.u64(..1000),
                2 => player.rng.u64(..=tail + 10),
                _ => sess.in_flight.front().map_or(0, |(seq, _)| *seq - 1),
            };
            player.world.ack(session, seq);
        });
    }

    fn commit(&mut self) {
        let waiting = self.world.disk.queue.len();
        if waiting > 0 {
            let count = if self.rng.bool() { waiting } else { self.rng.usize(1..=waiting) };
            self.world.say(|| format!("commit of {count}"));
            self.world.commit(count, false, false);
        }
    }

    fn with_read(&mut self, act: impl FnOnce(&mut World<'a>, usize, bool)) {
        let reads = self.world.reads.len();
        if reads > 0 {
            let at = self.rng.usize(..reads);
            let fails = self.rng.u8(..) < 6;
            act(&mut self.world, at, fails);
        }
    }

    fn time(&mut self) {
        let us = match self.rng.u8(..20) {
            0..8 => self.rng.u64(..1_500),
            8..15 => self.world.next_tick_us().unwrap_or(0).saturating_sub(self.world.now.us),
            15..18 => self.rng.u64(..30_000),
            18 => self.rng.u64(..150_000),
            _ if self.rng.u8(..) < 20 => 301_000_000,
            _ => 70_000,
        };
        self.world.advance(us);
        self.world.tick();
    }

    fn status(&mut self) {
        self.with_session(|player, session| {
            if player.world.ledger.sessions[session as usize].phase == Phase::Asked {
                return;
            }
            let state = player.presence();
            let text = player.rng.bool().then(|| "busy with a text".to_owned());
            player.world.status(session, state, text);
        });
    }

    fn watch(&mut self) {
        let (by, user) = (self.rng.usize(..WATCHERS), self.user());
        if self.world.watching.is_subscribed(by, user) {
            self.world.unwatch(by, user);
        } else {
            self.world.watch(by, user);
        }
    }

    fn purge(&mut self) {
        let user = self.user();
        let messages = &self.world.ledger.desks[usize::from(user)].messages;
        let one = self.rng.bool() && !messages.is_empty();
        let only = one.then(|| messages[messages.len() - 1 - self.rng.usize(..messages.len().min(8))].seq);
        self.world.purge(user, only);
    }

    fn forget(&mut self) {
        if self.rng.bool() {
            let (user, dev) = (self.user(), self.rng.u8(..DEVICES as u8));
            self.world.forget_device(user, dev);
        } else {
            self.with_session(|player, session| {
                if player.world.ledger.sessions[session as usize].phase != Phase::Asked {
                    player.world.forget_own(session);
                }
            });
        }
    }

    /// The wall clock jumps, by a minute or a day, forth or back.
    fn clock_step(&mut self) {
        let longest = if self.rng.bool() { LONGEST_CLOCK_STEP_MS } else { 10 * SHORTEST_CLOCK_STEP_MS };
        let ms = self.rng.u64(SHORTEST_CLOCK_STEP_MS..=longest).cast_signed();
        let ms = if self.rng.bool() { ms } else { -ms };
        self.world.clock_step(ms);
    }

    /// The disk has no time to raise the ceiling, until it has.
    fn withhold(&mut self) {
        self.world.ceiling_withheld = !self.world.ceiling_withheld;
        if self.world.ceiling_withheld {
            let left = self.world.disk.ceiling.saturating_sub(self.world.now.us);
            self.world.advance(left.saturating_sub(self.rng.u64(..3)));
            self.world.tick();
        }
    }

    fn corrupt(&mut self) {
        let user = usize::from(self.user());
        let inbox = &mut self.world.disk.rooms[user].inbox;
        if !inbox.is_empty() {
            let at = self.rng.usize(..inbox.len());
            inbox[at].corrupt = true;
            self.world.disk.damaged = true;
        }
    }
}
