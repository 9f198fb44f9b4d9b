//! Counting what an inbox really holds. The difference of two tallies still has in it what expired or was
//! purged from between them. Before a send is refused or a device lapses for it, somebody counts. Pure.

use super::core::Core;
use super::device::Device;
use super::sweep::Work;
use super::user::User;
use crate::ids::DeviceId;
use crate::message::Tally;
use crate::store::Stored;

/// What was counted so far, up to a place in the inbox.
#[derive(Debug, Default)]
pub struct Count {
    /// The inbox's tally at that place.
    upto: Tally,
    there: Tally,
    behind: Vec<(DeviceId, Tally)>,
}

impl Count {
    pub fn begin(&mut self, upto: Tally, devices: &[Device]) {
        self.upto = upto;
        self.behind = devices.iter().map(|device| (device.name.clone(), Tally::default())).collect();
    }

    pub fn page(&mut self, page: &[Stored], devices: &[Device]) {
        for Stored { message, .. } in page {
            let lacks = |name: &DeviceId| devices.iter().any(|d| d.name == *name && d.cursor < message.seq);
            for (_, behind) in self.behind.iter_mut().filter(|(name, _)| lacks(name)) {
                *behind = behind.plus(message.weight());
            }
            self.there = self.there.plus(message.weight());
        }
    }
}

impl User {
    /// Backlogs become exact soon; nothing waits for it.
    pub fn count_if_inexact(&mut self, core: &mut Core) {
        if !self.inbox.counted && self.sweep.is_none() && self.sweeps.is_empty() {
            self.enqueue(Work::Count(Count::default()), core);
        }
    }

    /// What was acknowledged meanwhile makes a count too high, never too low.
    pub fn counted(&mut self, count: &Count) {
        self.raise_base(count.upto.since(count.there));
        for device in &mut self.inbox.devices {
            let behind = count.behind.iter().find(|(name, _)| *name == device.name);
            if let Some((_, behind)) = behind {
                device.done = device.done.max(count.upto.since(*behind));
            }
        }
        self.inbox.counted = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Seq;
    use crate::routing::testing::{BEGINNING, device, send, send_with};

    #[test]
    fn behind_a_device_is_what_lies_above_its_own_cursor() {
        let known = |name, cursor| Device::new(device(name), Seq(cursor), Tally::default(), 0);
        let devices = [known("phone", 10), known("laptop", 20)];
        let page = [10, 20, 30].map(|seq| {
            let message = send_with(send("m1", "bob", 1, BEGINNING), |message| message.seq = Seq(seq)).message;
            Stored { message, tally: Tally::default() }
        });
        let mut count = Count::default();
        count.begin(Tally::default(), &devices);
        count.page(&page, &devices);
        let behind: Vec<_> = count.behind.iter().map(|(_, behind)| behind.messages).collect();
        assert_eq!((count.there.messages, behind), (3, vec![2, 1]));
    }
}
