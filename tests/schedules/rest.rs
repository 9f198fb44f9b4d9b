//! The end of every schedule: the disk heals, everybody comes back and is honest, and then everything must
//! come to its end. What does not is stuck, or lost.

use doorstep::presence::PresenceState;
use doorstep::routing::state::State;

use super::cast::{DEVICES, WATCHERS};
use super::ledger::Phase;
use super::schedule::Player;

/// Rounds in which everything has to come to rest, beside those for what waits: a device with a window of one message
/// takes one a round, and it may be that only one device can be there at a time.
const ROUNDS: usize = 60;

impl Player<'_> {
    /// The disk heals, everybody comes back and is honest: then everything must come to its end.
    pub fn rest(&mut self) {
        self.world.say(|| "REST".into());
        if self.world.disk.poisoned {
            self.world.crash(0);
        }
        self.world.fill_disk(false);
        self.world.ceiling_withheld = false;
        self.world.pause_expiry(false);
        for round in 0..ROUNDS + self.world.disk.messages() * DEVICES {
            self.world.deliver_all();
            if round >= 6 && self.is_at_rest() {
                break;
            }
            self.everyone_attaches();
            self.everyone_acks();
            self.world.advance(self.world.settings.accept_timeout_us / 4);
            self.world.tick();
        }
        self.world.ledger.check_end(&self.world.disk);
        self.check_sessions();
        self.everyone_leaves();
    }

    fn is_at_rest(&self) -> bool {
        let world = &self.world;
        let idle = world.reads.is_empty() && world.reports.is_empty() && world.disk.queue.is_empty();
        let sessions = self.live();
        let done = sessions.iter().all(|session| {
            let sess = &world.ledger.sessions[*session as usize];
            sess.in_flight.is_empty() && sess.caught_up
        });
        idle && done && world.disk.messages() == 0 && world.ledger.open.is_empty()
    }

    /// Every device that the disk knows, and one for a user who has none.
    fn everyone_attaches(&mut self) {
        for user in 0..self.world.users {
            for dev in 0..DEVICES as u8 {
                let name = &self.world.cast.devices[usize::from(dev)];
                let known = self.world.disk.device(user, name).is_some();
                let none = self.world.disk.rooms[usize::from(user)].devices.is_empty();
                let device = &self.world.ledger.desks[usize::from(user)].devices[usize::from(dev)];
                if device.session.is_none() && (known || (none && dev == 0)) && !self.is_asking(user, dev) {
                    self.make_room(user);
                    self.world.attach(user, dev, 8, 100_000, PresenceState::Online);
                }
            }
        }
    }

    /// Where not all devices may be there at once, one that has everything leaves for another.
    fn make_room(&mut self, user: u8) {
        let devices = &self.world.ledger.desks[usize::from(user)].devices;
        let sessions: Vec<u32> = devices.iter().filter_map(|dev| dev.session).collect();
        let has_all = |session: &&u32| {
            let sess = &self.world.ledger.sessions[**session as usize];
            sess.caught_up && sess.in_flight.is_empty()
        };
        if let Some(session) = sessions.iter().find(has_all)
            && sessions.len() >= self.world.settings.connections_per_user
        {
            self.world.detach(*session, true);
        }
    }

    fn is_asking(&self, user: u8, dev: u8) -> bool {
        let mut sessions = self.world.ledger.sessions.iter();
        sessions.any(|sess| (sess.user, sess.dev, sess.phase) == (user, dev, Phase::Asked) && !sess.detached)
    }

    fn everyone_acks(&mut self) {
        for _ in 0..200 {
            let open = self.live().into_iter().find_map(|session| {
                let last = self.world.ledger.sessions[session as usize].in_flight.back()?;
                Some((session, last.0))
            });
            let Some((session, seq)) = open else { return };
            self.world.ack(session, seq);
        }
        panic!("there is always something more to acknowledge");
    }

    fn check_sessions(&self) {
        for (no, sess) in self.world.ledger.sessions.iter().enumerate() {
            assert!(sess.phase != Phase::Asked || sess.detached, "session {no} is never answered");
            assert!(sess.phase != Phase::Live || sess.caught_up, "session {no} never caught up");
        }
        let (asked, replied) = (self.world.asked, self.world.replied);
        assert_eq!(asked, replied, "operators asked {asked} times and were answered {replied} times");
        let pending: usize = self.world.states.iter().map(|state| state.core().unsettled.appends).sum();
        assert_eq!(pending, 0, "nothing is pending at the end");
    }

    /// Nobody is there and nothing is going on: every record leaves memory.
    fn everyone_leaves(&mut self) {
        for session in self.live() {
            self.world.detach(session, true);
        }
        let users = self.world.users;
        for (by, user) in (0..WATCHERS as u8 * users).map(|n| (usize::from(n / users), n % users)) {
            self.world.unwatch(by, user);
        }
        for _ in 0..4 {
            self.world.advance(self.world.settings.dedupe_window_us / 2 + 20_000);
            self.world.tick();
            self.world.deliver_all();
        }
        let loaded: usize = self.world.states.iter().map(State::users_loaded).sum();
        assert_eq!(loaded, 0, "nobody stays in memory for nothing");
    }
}
