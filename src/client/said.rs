//! Finished frames of control calls that wait for the socket of the connection that is.
//!
//! It must never hold more than a bounded number of bytes for ephemeral messages, nor drop anything else.

use std::collections::VecDeque;

/// Ephemeral messages are dropped when so much waits already: later they would be worth nothing.
const EPHEMERAL_FRAMES_MAX: usize = 256;
const EPHEMERAL_BYTES_MAX: usize = 1 << 20;
/// The router is taken for stuck when so much waits. All that a client may watch, said at once, is far less.
const BYTES_MAX: usize = 16 << 20;
/// What a frame costs beside its text.
const FRAME_BYTES: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Said {
    frames: VecDeque<String>,
    bytes: usize,
}

impl Said {
    pub(super) fn push(&mut self, frame: String) {
        self.bytes += frame.len() + FRAME_BYTES;
        self.frames.push_back(frame);
    }

    pub(super) fn pop(&mut self) -> Option<String> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.len() + FRAME_BYTES;
        Some(frame)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn has_room_for_an_ephemeral(&self) -> bool {
        self.frames.len() < EPHEMERAL_FRAMES_MAX && self.bytes < EPHEMERAL_BYTES_MAX
    }

    /// An ephemeral message of any size that the router allows is no reason, hence `frame_bytes`.
    pub(super) fn is_too_much(&self, frame_bytes: u64) -> bool {
        self.bytes as u64 > (BYTES_MAX as u64).saturating_add(frame_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fitting::portions;
    use crate::client::watching::WATCHED_MAX;
    use crate::ids::UserId;

    #[test]
    fn a_few_large_ephemerals_leave_no_room_and_popping_makes_it() {
        let mut said = Said::default();
        for _ in 0..4 {
            assert!(said.has_room_for_an_ephemeral());
            said.push("x".repeat(EPHEMERAL_BYTES_MAX / 4));
        }
        assert!(!said.has_room_for_an_ephemeral());
        said.pop().unwrap();
        assert!(said.has_room_for_an_ephemeral());
        said.push("x".repeat(64 << 20));
        assert!(!said.is_too_much(64 << 20), "one that the router allows");
        while said.pop().is_some() {}
        assert_eq!(said.bytes, 0);
    }

    #[test]
    fn watching_as_many_as_one_may_is_no_flood_however_small_the_frames() {
        let users: Vec<UserId> = (0..WATCHED_MAX).map(|n| UserId::new(&format!("{n:\"<128}")).unwrap()).collect();
        let mut said = Said::default();
        for users in portions(&users, 1024) {
            said.push(format!("{users:?}"));
        }
        assert!(!said.is_too_much(1024));
        while !said.is_too_much(1024) {
            said.push("x".repeat(1024));
        }
    }
}
