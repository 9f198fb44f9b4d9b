//! Processes begin and end: who owns whom, what the next one knows of the one before.

use doorstep::ids::Seq;
use doorstep::routing::command::Command;
use doorstep::routing::core::Core;
use doorstep::routing::state::State;
use doorstep::store::{Boot, StoreState};

use super::cast::SHARDS;
use super::disk::Disk;
use super::meetings::Needed;
use super::world::{CEILING_AHEAD_US, Expiry, START_US, World};

impl World<'_> {
    /// A world of so many users and owners.
    pub fn populate(&mut self, users: u8, shards: usize) {
        self.users = users;
        self.begin(shards, START_US, false);
        self.ledger.owned_by(self.cast.owners(shards));
        let owners = self.cast.owners(shards);
        if (0..usize::from(users)).any(|user| owners[user] != owners[0]) {
            self.meetings.need(Needed::SeveralOwners);
        }
    }

    /// A process begins, with so many owners.
    pub fn begin(&mut self, shards: usize, floor: u64, expiry_paused: bool) {
        let boot = boot(floor, &self.disk, expiry_paused);
        let core = || Core::new(self.settings.clone(), &boot, self.now, self.cast.metrics.clone());
        self.states = (0..shards).map(|_| State::new(core())).collect();
    }

    /// A new process opens what is on disk.
    pub fn restart(&mut self, clean: bool) {
        self.disk.check_no_orphans();
        let wall_us = self.now.wall_ms * 1000;
        let Seq(floor) = Boot::floor_of(clean.then_some(Seq(self.now.us + 1)), Seq(self.disk.ceiling));
        if !clean {
            self.disk.crash();
        }
        self.now.us = wall_us.max(floor);
        self.wall_offset_ms = self.now.wall_ms as i64 - (self.now.us / 1000) as i64;
        let shards = self.shards_of_the_next();
        self.ledger.crash(self.cast.owners(shards), &self.disk);
        self.watching.restart();
        // A pause is on disk by the time the process ends in order; a crash may come before.
        let paused = clean && self.expiry.iter().take(self.states.len()).any(|expiry| expiry.paused);
        self.expiry = [Expiry { paused, usual_lead_ms: self.wall_offset_ms }; SHARDS];
        self.begin(shards, floor, paused);
        self.disk.ceiling = self.disk.ceiling.max(self.now.us + CEILING_AHEAD_US);
        self.reads.clear();
        self.reports.clear();
        let ceiling = Seq(self.disk.ceiling);
        self.report_to_all(|| Command::Ceiling(ceiling));
        (self.changes, self.appends, self.evicted) = Default::default();
        (self.here, self.going_on) = Default::default();
        (self.drained, self.asked, self.replied) = (0, 0, 0);
        self.requeues.clear();
        (self.storage, self.started_us) = (StoreState::Ok, self.now.us);
    }

    /// With more than one owner, another process may be told to have another number of them.
    fn shards_of_the_next(&mut self) -> usize {
        let now = self.states.len();
        let next = if now > 1 { 2 + (now - 1) % (SHARDS - 1) } else { now };
        let (before, after) = (self.cast.owners(now), self.cast.owners(next));
        if (0..usize::from(self.users)).any(|user| before[user] != after[user]) {
            self.meetings.need(Needed::OtherOwners);
        }
        next
    }
}

fn boot(floor: u64, disk: &Disk, expiry_paused: bool) -> Boot {
    Boot {
        floor: Seq(floor),
        ceiling: Seq(disk.ceiling),
        maybe_pushed_upto: (disk.unclean_upto > 0).then_some(Seq(disk.unclean_upto)),
        clock_went_back: false,
        expiry_paused,
        records_read: 0,
    }
}
