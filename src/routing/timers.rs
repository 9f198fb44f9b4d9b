//! Timers of one shard: who is to be looked at when. A user stands in a line as often as somebody put it
//! there; who wants to stand there once says so in its own flags.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::ids::UserId;

/// What may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A held append has to go to disk.
    Hold,
    /// A send has to be answered.
    Accept,
    /// A user that lost its last session becomes offline for watchers.
    Linger,
    /// A user is looked at: evicted when idle, last seen refreshed when not.
    Look,
}

const KINDS: [Kind; 4] = [Kind::Hold, Kind::Accept, Kind::Linger, Kind::Look];

/// Earliest first; who waits for the same instant comes in the order of names.
type Line = BinaryHeap<Reverse<(u64, UserId)>>;

#[derive(Debug, Default)]
pub struct Timers {
    pub(super) hold: Line,
    pub(super) accept: Line,
    pub(super) linger: Line,
    pub(super) look: Line,
}

impl Timers {
    fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Hold => &mut self.hold,
            Kind::Accept => &mut self.accept,
            Kind::Linger => &mut self.linger,
            Kind::Look => &mut self.look,
        }
    }

    /// Calls for `user` at `due_us`.
    pub fn wait(&mut self, kind: Kind, user: &UserId, due_us: u64) {
        self.line(kind).push(Reverse((due_us, user.clone())));
    }

    /// Takes the next user whose time has come out of its line.
    pub fn pop(&mut self, now_us: u64) -> Option<(Kind, UserId)> {
        KINDS.into_iter().find_map(|kind| {
            let line = self.line(kind);
            let Reverse((due_us, _)) = line.peek()?;
            if *due_us > now_us {
                return None;
            }
            line.pop().map(|Reverse((_, user))| (kind, user))
        })
    }

    /// When the next one is due, hybrid microseconds.
    pub fn next_us(&self) -> Option<u64> {
        let lines = [&self.hold, &self.accept, &self.linger, &self.look];
        lines.into_iter().filter_map(|line| line.peek().map(|Reverse((due_us, _))| *due_us)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_call_is_the_earliest_of_any_kind_and_comes_at_its_time_and_not_before() {
        let (mut timers, bob) = (Timers::default(), "bob".parse().unwrap());
        assert_eq!(timers.next_us(), None);
        let latest_first = KINDS.into_iter().zip([40, 30, 20, 10]);
        for (kind, due_us) in latest_first.clone() {
            timers.wait(kind, &bob, due_us);
            assert_eq!(timers.next_us(), Some(due_us));
        }
        for (kind, due_us) in latest_first.rev() {
            assert_eq!(timers.next_us(), Some(due_us));
            assert_eq!(timers.pop(due_us - 1), None);
            assert_eq!(timers.pop(due_us), Some((kind, bob.clone())));
        }
        assert_eq!(timers.next_us(), None);
    }
}
