//! The end that every world must be able to come to: the disk heals, everybody comes back, and nothing is left.

use super::books::{Dev, Kept, Phase, Promise};
use super::cast::DEVICES;
use super::world::World;

impl World<'_> {
    /// The disk heals, every device comes, and is honest: then everything must come to its end.
    pub fn rest(mut self) -> Kept {
        for _ in 0..12 {
            self.settle()?;
            if self.is_at_rest() {
                break;
            }
            if self.disk.poisoned {
                self.restart()?;
            }
            for dev in 0..DEVICES {
                let known = self.books.devs[dev].start.is_some() || (dev == 0 && self.disk.devices.is_empty());
                if known && self.books.devs[dev].newest().is_none() {
                    self.hello(dev)?;
                }
                self.ack(dev)?;
            }
            self.pass(self.scope.settings.commit_delay_us)?;
        }
        self.settle()?;
        self.check()?;
        self.books.check_rest(&self.disk)
    }

    /// Everybody is there, has everything, and has said so.
    fn is_at_rest(&self) -> bool {
        let there = |dev: &Dev| {
            let live = dev.sessions.iter().find(|sess| sess.phase == Phase::Live);
            dev.start.is_none() || live.is_some_and(|sess| sess.caught_up && !sess.owes_ack())
        };
        let asked = self.books.devs.iter().flat_map(|dev| &dev.sessions).any(|sess| sess.phase == Phase::Asked);
        let done = self.disk.inbox.is_empty() && !self.disk.poisoned && !self.disk.devices.is_empty() && !asked;
        done && self.books.devs.iter().all(there) && self.state.core().unsettled.appends == 0
    }

    /// All that is under way with the store comes to its end.
    fn settle(&mut self) -> Kept {
        for _ in 0..100 {
            if !self.disk.queue.is_empty() {
                self.commit(self.disk.queue.len(), false, false)?;
            } else if !self.reports.is_empty() {
                self.hear()?;
            } else if !self.reads.is_empty() {
                self.answer(0)?;
            } else {
                return Ok(());
            }
        }
        Err((Promise::ComesToRest, "the store is asked for ever".into()))
    }
}
