//! Timers of one shard: a line for each kind, all waits of a kind equally long, so a line is in time
//! order by itself. A user stands in a line at most once; who keeps a place says so in its own flags.

use std::collections::VecDeque;

use super::core::Settings;
use crate::ids::UserId;

/// What may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A held append has to go to disk.
    Hold,
    /// A send has to be answered.
    Accept,
    /// The same, looked at again soon.
    AcceptAgain,
    /// A user that lost its last session becomes offline for watchers.
    Linger,
    /// A user is looked at: evicted when idle, last seen refreshed when not.
    Look,
}

const KINDS: [Kind; 5] = [Kind::Hold, Kind::Accept, Kind::AcceptAgain, Kind::Linger, Kind::Look];

/// How many times within the time that a send may take it is looked at again, once it came near its end.
const ACCEPT_LOOKS: u64 = 16;

#[derive(Debug)]
struct Line {
    wait_us: u64,
    users: VecDeque<(u64, UserId)>,
}

#[derive(Debug)]
pub struct Timers {
    hold: Line,
    accept: Line,
    accept_again: Line,
    linger: Line,
    look: Line,
}

impl Timers {
    pub fn new(settings: &Settings) -> Self {
        let line = |wait_us| Line { wait_us, users: VecDeque::new() };
        Self {
            hold: line(settings.commit_delay_us),
            accept: line(settings.accept_timeout_us),
            accept_again: line((settings.accept_timeout_us / ACCEPT_LOOKS).max(1)),
            linger: line(settings.linger_us),
            look: line(settings.evict_after_us),
        }
    }

    fn line(&mut self, kind: Kind) -> &mut Line {
        match kind {
            Kind::Hold => &mut self.hold,
            Kind::Accept => &mut self.accept,
            Kind::AcceptAgain => &mut self.accept_again,
            Kind::Linger => &mut self.linger,
            Kind::Look => &mut self.look,
        }
    }

    /// Puts `user` at the end of the line.
    pub fn wait(&mut self, kind: Kind, user: &UserId, now_us: u64) {
        let line = self.line(kind);
        let due = now_us + line.wait_us;
        line.users.push_back((due, user.clone()));
    }

    /// Takes the next user whose time has come out of its line.
    pub fn pop(&mut self, now_us: u64) -> Option<(Kind, UserId)> {
        KINDS.into_iter().find_map(|kind| {
            let line = self.line(kind);
            if line.users.front()?.0 > now_us {
                return None;
            }
            line.users.pop_front().map(|(_, user)| (kind, user))
        })
    }

    /// When the next one is due, hybrid microseconds.
    pub fn next_us(&self) -> Option<u64> {
        let lines = [&self.hold, &self.accept, &self.accept_again, &self.linger, &self.look];
        lines.into_iter().filter_map(|line| line.users.front().map(|(due, _)| *due)).min()
    }
}
